//! The multi-tier convolutional monotone DEQ: the authors' tori as the reference, its monotonicity, products and import.

use crate::common::{entries, normal, relative_error, uniform};
use crate::monotone_conv::write;
use crate::splitting;
use burn::tensor::{Device, Tensor};
use equipoise::architecture::Architecture;
use equipoise::attack::Classifier;
use equipoise::checkpoint::{Configuration, Entry, ImportOptions, StateDict, import};
use equipoise::model::cell::Cell;
use equipoise::model::deq::{Head, Stem};
use equipoise::model::layers::Phase;
use equipoise::model::monotone::{MonotoneMulti, MonotoneMultiCell, MonotoneMultiConfig, Splitting};
use equipoise::model::normalisation::Normalisation;
use equipoise::model::state_dict::state_dict;
use equipoise::state::State;
use equipoise::victim::Victim;

/// Tiers of 8×4, 4×2 and 2×1 units.
fn config() -> MonotoneMultiConfig {
    MonotoneMultiConfig {
        channels: vec![3, 2, 4],
        image: [2, 8, 4],
        classes: 4,
        normalisation: Some(Normalisation { mean: vec![0.3, 0.5], std: vec![0.4, 0.2] }),
        ..MonotoneMultiConfig::digits()
    }
}

const UNITS: usize = 3 * 32 + 2 * 8 + 4 * 2;

/// With scales of all kinds.
fn model_of(config: &MonotoneMultiConfig, seed: u64) -> MonotoneMulti {
    let mut model = config.init(seed, &Device::default()).unwrap();
    for (at, tier) in model.cell.tiers.iter_mut().enumerate() {
        let by = at as f64;
        tier.g = tier.g.clone().map(|g| g * (1.7 - by));
        tier.h = tier.h.clone().map(|h| h * (0.6 + 0.5 * by));
    }
    for (at, down) in model.cell.downs.iter_mut().enumerate() {
        down.gamma = down.gamma.clone().map(|gamma| gamma * (1.4 - 2.0 * at as f64));
    }
    model
}

fn model() -> MonotoneMulti {
    model_of(&config(), 5)
}

fn inputs() -> (State, Tensor<2>, State) {
    (normal([3, UNITS], 5).into(), normal([3, 96], 6), normal([3, UNITS], 7).into())
}

/// Maps of some channels on a torus of H×W places, in float64.
struct Torus {
    side: [usize; 2],
    maps: Vec<f64>,
}

/// A 3×3 kernel `[to, from]` of some stride on tori.
struct Kernel {
    weights: Vec<f64>,
    channels: [usize; 2],
    stride: usize,
}

impl Kernel {
    /// Over its length, times the root of a scale's size.
    fn scaled(weights: Vec<f64>, channels: [usize; 2], stride: usize, by: f64) -> Self {
        let length = weights.iter().map(|w| w * w).sum::<f64>().sqrt();
        Self { weights: weights.into_iter().map(|w| w * by / length).collect(), channels, stride }
    }

    /// Calls with each pair of places of an output on `to` and an input on `from`, and their weight. With a stride the last row
    /// and column of the outputs are left out.
    fn taps(&self, to: [usize; 2], from: [usize; 2], mut each: impl FnMut(usize, usize, f64)) {
        let [outputs, inputs] = self.channels;
        let cut = self.stride - 1;
        for (o, i) in (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))) {
            for (y, x) in (0..to[0] - cut).flat_map(|y| (0..to[1] - cut).map(move |x| (y, x))) {
                for tap in 0..9 {
                    let row = (y * self.stride + tap / 3 + from[0] - 1) % from[0];
                    let column = (x * self.stride + tap % 3 + from[1] - 1) % from[1];
                    let weight = self.weights[(o * inputs + i) * 9 + tap];
                    each((o * to[0] + y) * to[1] + x, (i * from[0] + row) * from[1] + column, weight);
                }
            }
        }
    }

    fn apply(&self, x: &Torus, to: [usize; 2]) -> Torus {
        let mut maps = vec![0.0; self.channels[0] * to[0] * to[1]];
        self.taps(to, x.side, |o, i, weight| maps[o] += weight * x.maps[i]);
        Torus { side: to, maps }
    }

    fn adjoint(&self, u: &Torus, from: [usize; 2]) -> Torus {
        let mut maps = vec![0.0; self.channels[1] * from[0] * from[1]];
        self.taps(u.side, from, |o, i, weight| maps[i] += weight * u.maps[o]);
        Torus { side: from, maps }
    }
}

/// W z of the authors' equations, each tier with its border of zeros on its torus; what comes out on the border is dropped.
fn reference(cell: &MonotoneMultiCell, state: &[f64]) -> Vec<f64> {
    let side = |[_, h, w]: [usize; 3]| [h + 2, w + 2];
    let mut start = 0;
    let tori = cell.states().iter().map(|&[c, h, w]| {
        let mut maps = vec![0.0; c * (h + 2) * (w + 2)];
        for at in 0..c * h * w {
            maps[(at / (h * w) * (h + 2) + at / w % h + 1) * (w + 2) + at % w + 1] = state[start + at];
        }
        start += c * h * w;
        Torus { side: [h + 2, w + 2], maps }
    });
    let tori: Vec<Torus> = tori.collect();
    let value = |param: &Tensor<1>| entries(param)[0];
    let root = |param: &Tensor<1>| value(param).abs().sqrt();
    let mut result = Vec::new();
    for (i, tier) in cell.tiers.iter().enumerate() {
        let [c, h, w] = cell.states()[i];
        let (torus, own) = (&tori[i], side([c, h, w]));
        let a = Kernel::scaled(entries(&tier.a.val()), [c, c], 1, root(&tier.g.val()));
        let b = Kernel::scaled(entries(&tier.b.val()), [c, c], 1, value(&tier.h.val()));
        let down = |at: usize| {
            let ([from, ..], [to, ..]) = (cell.states()[at], cell.states()[at + 1]);
            let down = &cell.downs[at];
            Kernel::scaled(entries(&down.n.val()), [to, from], 2, root(&down.gamma.val()))
        };
        let mut parts = vec![
            (-1.0, a.adjoint(&a.apply(torus, own), own)),
            (1.0, b.apply(torus, own)),
            (-1.0, b.adjoint(torus, own)),
        ];
        if i + 1 < cell.tiers.len() {
            let n = down(i);
            parts.push((-1.0, n.adjoint(&n.apply(torus, side(cell.states()[i + 1])), own)));
        }
        if i > 0 {
            parts.push((-2.0, a.adjoint(&down(i - 1).apply(&tori[i - 1], own), own)));
        }
        for at in 0..c * h * w {
            let place = (at / (h * w) * (h + 2) + at / w % h + 1) * (w + 2) + at % w + 1;
            let sum: f64 = parts.iter().map(|(sign, part)| sign * part.maps[place]).sum();
            result.push((1.0 - cell.monotonicity()) * torus.maps[place] + sum);
        }
    }
    result
}

#[test]
fn it_is_the_authors_function_without_its_border() {
    let model = model();
    let images = uniform([2, 2, 8, 4], 3);
    let injection = model.stem.forward(images, &Phase::Evaluate);
    let state = normal([2, UNITS], 4).abs();
    let value = model.cell.apply(state.clone(), injection.clone());
    let (z, x, alpha) = (entries(&state), entries(&injection), model.cell.step());
    let expected = z.chunks(UNITS).zip(x.chunks(96)).flat_map(|(z, x)| {
        let w = reference(&model.cell, z);
        let x = x.iter().copied().chain(std::iter::repeat(0.0));
        let each = z.iter().zip(w).zip(x).map(|((z, w), x)| ((1.0 - alpha) * z + alpha * (w + x)).max(0.0));
        each.collect::<Vec<_>>()
    });
    let off = entries(&value).iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-5, "{off}");
    // The head sees the last tier alone.
    let mut moved = z.clone();
    moved.chunks_mut(UNITS).for_each(|z| z[..112].iter_mut().for_each(|z| *z += 1.0));
    let moved: Vec<f32> = moved.into_iter().map(|z| z as f32).collect();
    let moved = equipoise::batch::from_vec(moved, [2, UNITS], &Device::default());
    let logits = |state: Tensor<2>| entries(&model.head.forward(state, &Phase::Evaluate));
    assert_eq!(logits(moved), logits(state));
}

/// W of the authors' equations, row by row.
fn coupling(cell: &MonotoneMultiCell) -> Vec<Vec<f64>> {
    let dim = cell.state_dim();
    let unit = |j: usize| (0..dim).map(|i| f64::from(u8::from(i == j))).collect::<Vec<_>>();
    let columns: Vec<Vec<f64>> = (0..dim).map(|j| reference(cell, &unit(j))).collect();
    (0..dim).map(|i| columns.iter().map(|column| column[i]).collect()).collect()
}

/// The eigenvalues of a symmetric matrix, by Jacobi's rotations.
fn eigenvalues(mut m: Vec<Vec<f64>>) -> Vec<f64> {
    let side = m.len();
    for _ in 0..12 {
        for (p, q) in (0..side).flat_map(|p| (p + 1..side).map(move |q| (p, q))) {
            if m[p][q].abs() < 1e-14 {
                continue;
            }
            let theta = (m[q][q] - m[p][p]) / (2.0 * m[p][q]);
            let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
            let t = if theta == 0.0 { 1.0 } else { t };
            let c = 1.0 / (t * t + 1.0).sqrt();
            let s = t * c;
            for row in &mut m {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
            let (before, after) = m.split_at_mut(q);
            for (x, y) in before[p].iter_mut().zip(&mut after[0]) {
                (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
            }
        }
    }
    (0..side).map(|i| m[i][i]).collect()
}

/// The least eigenvalue of the symmetric part of I − W is m at least, whatever the parameters are; 0 stands above the diagonal
/// of tiers, and what is below it fits: three times as much would not be monotone to m.
#[test]
fn it_is_monotone_whatever_is_trained() {
    let config = MonotoneMultiConfig { channels: vec![2, 3, 4], image: [2, 4, 8], step: 0.05, ..config() };
    let mut less = 0;
    for seed in 0..4 {
        let mut model = model_of(&config, seed);
        let large = 10.0_f64.powi(seed as i32 - 1);
        for tier in &mut model.cell.tiers {
            tier.g = tier.g.clone().map(|g| g * large);
        }
        for down in &mut model.cell.downs {
            down.gamma = down.gamma.clone().map(|gamma| gamma * large);
        }
        let w = coupling(&model.cell);
        let (first, second) = (2 * 32, 2 * 32 + 3 * 8);
        for (i, row) in w.iter().enumerate() {
            let end = if i < first {
                first
            } else if i < second {
                second
            } else {
                row.len()
            };
            assert!(row[end..].iter().all(|entry| *entry == 0.0), "{i}");
        }
        let tier = |i: usize| usize::from(i >= first) + usize::from(i >= second);
        let least = |below: f64| {
            let scaled = |i: usize, j: usize| w[i][j] * if tier(i) == tier(j) { 1.0 } else { below };
            let entry =
                |i: usize, j: usize| f64::from(u8::from(i == j)) - 0.5 * (scaled(i, j) + scaled(j, i));
            let symmetric = (0..w.len()).map(|i| (0..w.len()).map(|j| entry(i, j)).collect()).collect();
            eigenvalues(symmetric).into_iter().fold(f64::INFINITY, f64::min)
        };
        let tolerance = 1e-9 * (1.0 + large);
        assert!(least(1.0) >= 1.0 - tolerance, "seed {seed}: {}", least(1.0));
        less += usize::from(least(3.0) < 1.0 - 1e-3);
    }
    assert!(less > 0);
}

/// The signs of g and γ do not count, and kernels of zeros are some.
#[test]
fn nothing_that_is_trained_takes_the_monotonicity_away() {
    let (z, x, _) = inputs();
    let mut model = model();
    let value = |model: &MonotoneMulti| entries(&model.cell.apply(z.tensor().clone(), x.clone()));
    let before = value(&model);
    for tier in &mut model.cell.tiers {
        tier.g = tier.g.clone().map(|g| g * -1.0);
    }
    for down in &mut model.cell.downs {
        down.gamma = down.gamma.clone().map(|gamma| gamma * -1.0);
    }
    assert_eq!(value(&model), before);
    for tier in &mut model.cell.tiers {
        (tier.a, tier.b) = (tier.a.clone().map(|a| a * 0.0), tier.b.clone().map(|b| b * 0.0));
    }
    for down in &mut model.cell.downs {
        down.n = down.n.clone().map(|n| n * 0.0);
    }
    let (z, x) = (entries(z.tensor()), entries(&x));
    for (row, found) in value(&model).chunks(UNITS).enumerate() {
        for (at, found) in found.iter().enumerate() {
            let x = if at < 96 { x[row * 96 + at] } else { 0.0 };
            assert!((found - (0.8 * z[row * UNITS + at] + 0.2 * x).max(0.0)).abs() < 1e-6);
        }
    }
}

#[test]
fn products_match_differences_and_autodiff() {
    splitting::products_match(&model().cell, &inputs(), "monotone-multi", 1e-4, 16);
}

#[test]
fn rows_are_independent() {
    splitting::rows_are_independent(&model().cell, &inputs());
}

/// It is z = relu(W z + x) too, whatever α and wherever the iteration starts.
#[test]
fn there_is_one_fixed_point_for_every_step() {
    let cell = |step| model_of(&MonotoneMultiConfig { step, ..config() }, 5).cell;
    splitting::there_is_one_fixed_point(cell, &inputs());
}

/// At the fixed point every estimator that is exact there agrees, and a difference of the deployed loss in float32 with it.
#[test]
fn gradients_meet_each_other_and_differences() {
    splitting::gradients_meet_each_other(&model(), &uniform([3, 2, 8, 4], 3), 1e-3);
}

/// With Jacobian regularisation, which differentiates the products once more.
#[test]
fn a_training_pass_reaches_every_parameter() {
    splitting::a_training_pass_reaches(&model(), &uniform([3, 2, 8, 4], 3), 20);
}

fn reflected(step: f64) -> MonotoneMulti {
    model_of(&MonotoneMultiConfig { splitting: Splitting::PeacemanRachford, step, ..config() }, 5)
}

/// u has a border around each tier.
fn reflected_inputs() -> (State, Tensor<2>, State) {
    let units = 3 * 60 + 2 * 24 + 4 * 12;
    (normal([3, units], 5).into(), normal([3, 96], 6), normal([3, units], 7).into())
}

#[test]
fn products_of_peaceman_rachford_match_differences_and_autodiff() {
    splitting::products_match(&reflected(0.3).cell, &reflected_inputs(), "peaceman-rachford", 1e-4, 16);
}

#[test]
fn rows_of_peaceman_rachford_are_independent() {
    splitting::rows_are_independent(&reflected(0.3).cell, &reflected_inputs());
}

/// The head reads the last tier's z of either, whatever α.
#[test]
fn both_splittings_answer_alike() {
    let images = uniform([3, 2, 8, 4], 3);
    let deployment = splitting::converged();
    let answers = |model: &MonotoneMulti| Victim::ready_made(model, &deployment).logits(&images);
    let expected = answers(&model());
    for step in [0.1, 0.4, 1.0] {
        assert!(relative_error(&answers(&reflected(step)), &expected) < 1e-4, "{step}");
    }
}

#[test]
fn gradients_of_peaceman_rachford_meet_each_other_and_differences() {
    splitting::gradients_meet_each_other(&reflected(0.3), &uniform([3, 2, 8, 4], 3), 1e-3);
}

#[test]
fn a_training_pass_through_peaceman_rachford_reaches_every_parameter() {
    splitting::a_training_pass_reaches(&reflected(0.3), &uniform([3, 2, 8, 4], 3), 20);
}

/// The authors' names, twice over as their code saves them, and a classifier that reads the border too.
#[test]
fn the_authors_files_are_read_and_a_negative_scale_is_refused() {
    let mut model = model();
    for tier in &mut model.cell.tiers {
        tier.g = tier.g.clone().map(|g| g.abs());
    }
    for down in &mut model.cell.downs {
        down.gamma = down.gamma.clone().map(|gamma| gamma.abs());
    }
    let theirs = |own: &str| {
        let parts: Vec<&str> = own.split('.').collect();
        match parts[..] {
            ["injection", kind] => format!("linear_module.U.{kind}"),
            ["classifier", kind] => format!("Wout.{kind}"),
            ["fullstage", "tiers", tier, "a"] => format!("linear_module.A0.{tier}.weight"),
            ["fullstage", "tiers", tier, "b"] => format!("linear_module.B0.{tier}.weight"),
            ["fullstage", "tiers", tier, scale] => format!("linear_module.{scale}.{tier}"),
            ["fullstage", "downs", tier, "n"] => format!("linear_module.A_n0.{tier}.weight"),
            ["fullstage", "downs", tier, "gamma"] => format!("linear_module.gn.{tier}"),
            _ => panic!("{own}"),
        }
    };
    let mut file = StateDict::new();
    for (name, mut entry) in state_dict(&model) {
        if entry.shape == [1] {
            entry.shape = vec![];
        }
        if name == "classifier.weight" {
            // 4 channels of 2×1 units in 4×3; whatever stands at the border meets zeros.
            let mut values = vec![7.0; 4 * 48];
            for (at, value) in entry.values.iter().enumerate() {
                values[(at / 2 * 4 + at % 2 + 1) * 3 + 1] = *value;
            }
            entry = Entry { shape: vec![4, 48], values };
        }
        let name = theirs(&name);
        if name.starts_with("linear_module") {
            file.insert(format!("mon.{name}"), entry.clone());
        }
        file.insert(name, entry);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("multi.safetensors");
    let configuration =
        || Configuration { architecture: Architecture::from(config()), deployment: splitting::converged() };
    let imported = |file: &StateDict| {
        write(file, &path);
        import(&path, configuration(), "multi", &ImportOptions::default(), &Device::default())
    };
    let found = imported(&file).unwrap().model.model;
    assert_eq!(state_dict(found.downcast::<MonotoneMulti>().unwrap()), state_dict(&model));
    for (theirs, own) in [("g.1", "tiers.1.g"), ("gn.0", "downs.0.gamma")] {
        let mut file = file.clone();
        file.insert(format!("mon.linear_module.{theirs}"), Entry { shape: vec![], values: vec![-0.5] });
        let refused = imported(&file).unwrap_err().to_string();
        assert!([own, "-0.5", "root"].iter().all(|part| refused.contains(part)), "{refused}");
    }
}

#[test]
fn sizes_that_make_no_sense_are_named() {
    for (config, field) in [
        (MonotoneMultiConfig { channels: vec![], ..config() }, "channels"),
        (MonotoneMultiConfig { channels: vec![3], ..config() }, "channels"),
        (MonotoneMultiConfig { channels: vec![3, 0], ..config() }, "channels"),
        (MonotoneMultiConfig { channels: vec![3; 4], ..config() }, "channels"),
        (MonotoneMultiConfig { channels: vec![1; 100], ..config() }, "channels"),
        (MonotoneMultiConfig { kernel: 0, ..config() }, "kernel"),
        (MonotoneMultiConfig { padding: 3, ..config() }, "padding"),
        (MonotoneMultiConfig { pool: 0, ..config() }, "pool"),
        (MonotoneMultiConfig { pool: 4, ..config() }, "pool"),
        (MonotoneMultiConfig { monotonicity: 0.0, ..config() }, "monotonicity"),
        (MonotoneMultiConfig { step: 1.5, ..config() }, "step"),
        (MonotoneMultiConfig { image: [3, 8, 4], ..config() }, "normalisation"),
    ] {
        assert_eq!(config.validate().unwrap_err().field, field, "{config:?}");
    }
    let text = serde_json::to_string(&Architecture::from(config())).unwrap();
    assert_eq!(serde_json::from_str::<Architecture>(&text).unwrap(), config().into());
}
