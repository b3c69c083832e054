//! The convolutional monotone DEQ: the authors' torus as the reference, its products, its one fixed point, and its import.

use std::fs;

use crate::common::{entries, normal, uniform};
use crate::splitting;
use burn::tensor::{Device, Tensor};
use equipoise::architecture::Architecture;
use equipoise::batch::select;
use equipoise::checkpoint::{Configuration, Entry, ImportOptions, StateDict, import};
use equipoise::model::cell::Cell;
use equipoise::model::deq::{Head, Stem};
use equipoise::model::layers::Phase;
use equipoise::model::monotone::{
    LinearStem, MonotoneConv, MonotoneConvCell, MonotoneConvConfig, WinstonKolterConv,
};
use equipoise::model::normalisation::Normalisation;
use equipoise::model::state_dict::state_dict;
use equipoise::state::State;

pub fn config() -> MonotoneConvConfig {
    MonotoneConvConfig {
        channels: 3,
        image: [2, 7, 6],
        classes: 4,
        normalisation: Some(Normalisation { mean: vec![0.3, 0.5], std: vec![0.4, 0.2] }),
        ..MonotoneConvConfig::digits()
    }
}

/// With another g and h than 1.
pub fn model_of(config: &MonotoneConvConfig) -> MonotoneConv {
    let mut model = config.init(5, &Device::default()).unwrap();
    let weight = usual(&mut model);
    weight.g = weight.g.clone().map(|g| g * 1.7);
    weight.h = weight.h.clone().map(|h| h * 0.6);
    model
}

fn usual(model: &mut MonotoneConv) -> &mut WinstonKolterConv {
    match &mut model.cell {
        MonotoneConvCell::WinstonKolter(weight) => weight,
        _ => panic!("the usual kind"),
    }
}

fn model() -> MonotoneConv {
    model_of(&config())
}

/// 4×3 units of 3 channels.
fn inputs() -> (State, Tensor<2>, State) {
    (normal([3, 36], 5).into(), normal([3, 36], 6), normal([3, 36], 7).into())
}

/// An image of channels on a torus, in float64.
#[derive(Clone)]
struct Torus {
    side: [usize; 2],
    maps: Vec<Vec<f64>>,
}

impl Torus {
    fn zeros(channels: usize, side: [usize; 2]) -> Self {
        Self { side, maps: vec![vec![0.0; side[0] * side[1]]; channels] }
    }

    fn place(&self, y: isize, x: isize) -> usize {
        let [h, w] = self.side;
        y.rem_euclid(h as isize) as usize * w + x.rem_euclid(w as isize) as usize
    }

    /// Calls with each pair of places that a kernel's tap connects: reader and read.
    fn taps(&self, k: usize, shift: isize, mut each: impl FnMut(usize, usize, usize)) {
        let [h, w] = self.side.map(|side| side as isize);
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            for tap in 0..k * k {
                let (dy, dx) = ((tap / k) as isize - shift, (tap % k) as isize - shift);
                each(tap, self.place(y, x), self.place(y + dy, x + dx));
            }
        }
    }

    /// By a 3×3 kernel, or by its adjoint.
    fn convolved(&self, kernel: &[f64], adjoint: bool) -> Self {
        let channels = self.maps.len();
        let mut result = Self::zeros(channels, self.side);
        for (o, i) in (0..channels).flat_map(|o| (0..channels).map(move |i| (o, i))) {
            let weights = &kernel[(o * channels + i) * 9..][..9];
            self.taps(3, 1, |tap, reader, read| match adjoint {
                false => result.maps[o][reader] += weights[tap] * self.maps[i][read],
                true => result.maps[i][read] += weights[tap] * self.maps[o][reader],
            });
        }
        result
    }

    /// A state with a border of zeros, and back.
    fn around(state: &[f64], [channels, h, w]: [usize; 3]) -> Self {
        let mut torus = Self::zeros(channels, [h + 2, w + 2]);
        for (at, value) in state.iter().enumerate() {
            let (c, y, x) = (at / (h * w), at / w % h, at % w);
            torus.maps[c][(y + 1) * (w + 2) + x + 1] = *value;
        }
        torus
    }

    fn inside(&self) -> Vec<f64> {
        let [h, w] = self.side;
        let inner = |map: &Vec<f64>| -> Vec<f64> {
            (1..h - 1).flat_map(|y| map[y * w + 1..(y + 1) * w - 1].to_vec()).collect()
        };
        self.maps.iter().flat_map(inner).collect()
    }
}

/// relu((1−α) z + α (W z + x)) inside of the border, as the authors' code has it.
fn reference_cell(model: &MonotoneConv, state: &[f64], injection: &[f64]) -> Vec<f64> {
    let cell = &model.cell;
    let unit = |weight: Vec<f64>| {
        let length = weight.iter().map(|w| w * w).sum::<f64>().sqrt();
        weight.into_iter().map(|w| w / length).collect::<Vec<_>>()
    };
    let MonotoneConvCell::WinstonKolter(weight) = cell else { panic!("the usual kind") };
    let (a, b) = (unit(entries(&weight.a.val())), unit(entries(&weight.b.val())));
    let (g, h) = (entries(&weight.g.val())[0], entries(&weight.h.val())[0]);
    let z = Torus::around(state, cell.state());
    let symmetric = z.convolved(&a, false).convolved(&a, true).inside();
    let (forth, back) = (z.convolved(&b, false).inside(), z.convolved(&b, true).inside());
    let (m, alpha) = (cell.monotonicity(), cell.step());
    (0..state.len())
        .map(|i| {
            let w = (1.0 - m) * state[i] - g * symmetric[i] + h * (forth[i] - back[i]);
            ((1.0 - alpha) * state[i] + alpha * (w + injection[i])).max(0.0)
        })
        .collect()
}

/// U x + b inside of the border: zeros around the image first, then one pixel of the other side of the torus.
fn reference_stem(model: &MonotoneConv, image: &[f64], [c, h, w]: [usize; 3], zeros: usize) -> Vec<f64> {
    let u = &model.stem.injection;
    let [channels, _, k, _] = u.weight.dims();
    let (weight, bias) = (entries(&u.weight.val()), entries(&u.bias.as_ref().unwrap().val()));
    let normalisation = model.stem.normalisation().unwrap();
    let (height, width, stride) = (h + 2 * zeros, w + 2 * zeros, u.stride());
    let pixel = |channel: usize, y: usize, x: usize| {
        // On the torus of the padded image, one pixel before it.
        let (y, x) = ((y + height - 1) % height, (x + width - 1) % width);
        if y < zeros || x < zeros || y >= zeros + h || x >= zeros + w {
            return 0.0;
        }
        let value = image[(channel * h + y - zeros) * w + x - zeros];
        (value - f64::from(normalisation.mean[channel])) / f64::from(normalisation.std[channel])
    };
    let units = |side: usize| (side + 2 - k) / stride + 1;
    let mut result = Vec::new();
    for o in 0..channels {
        for (y, x) in (1..units(height) - 1).flat_map(|y| (1..units(width) - 1).map(move |x| (y, x))) {
            let taps = (0..c * k * k).map(|tap| {
                let (i, dy, dx) = (tap / (k * k), tap / k % k, tap % k);
                weight[o * c * k * k + tap] * pixel(i, y * stride + dy, x * stride + dx)
            });
            result.push(bias[o] + taps.sum::<f64>());
        }
    }
    result
}

/// The classifier of means over windows that begin at the border.
fn reference_head(model: &MonotoneConv, state: &[f64]) -> Vec<f64> {
    let (torus, pool) = (Torus::around(state, model.head.state()), model.head.pool());
    let [h, w] = torus.side;
    let mut means = Vec::new();
    for map in &torus.maps {
        for (row, column) in (0..h / pool).flat_map(|r| (0..w / pool).map(move |c| (r, c))) {
            let window =
                (0..pool * pool).map(|k| map[(row * pool + k / pool) * w + column * pool + k % pool]);
            means.push(window.sum::<f64>() / (pool * pool) as f64);
        }
    }
    let (weight, bias) =
        (entries(&model.head.classifier.weight.val()), entries(&model.head.classifier.bias.val()));
    let rows = weight.chunks(means.len()).zip(bias);
    rows.map(|(row, bias)| bias + row.iter().zip(&means).map(|(w, mean)| w * mean).sum::<f64>()).collect()
}

/// With the strides, paddings and windows of the published models, and those of the paper.
#[test]
fn it_is_the_authors_function_without_its_border() {
    let strided =
        MonotoneConvConfig { kernel: 6, stride: 3, padding: -2, pool: 2, image: [2, 16, 19], ..config() };
    let plain = MonotoneConvConfig { kernel: 3, stride: 1, padding: 1, pool: 4, ..config() };
    for (config, zeros) in [(strided, 0), (plain, 1)] {
        let (model, [c, h, w]) = (model_of(&config), config.image);
        let images = uniform([2, c, h, w], 3);
        let near = |found: &Tensor<2>, expected: &[f64]| {
            let found = entries(found);
            assert_eq!(found.len(), expected.len());
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-5, "{off}");
        };
        let injection = model.stem.forward(images.clone(), &Phase::Evaluate);
        let numbers = entries(&images);
        let expected: Vec<f64> = numbers
            .chunks(c * h * w)
            .flat_map(|image| reference_stem(&model, image, config.image, zeros))
            .collect();
        near(&injection, &expected);
        let dim = model.cell.state_dim();
        let state = normal([2, dim], 4).abs();
        let value = model.cell.apply(state.clone(), injection.clone());
        let (z, x) = (entries(&state), entries(&injection));
        let pairs = z.chunks(dim).zip(x.chunks(dim));
        near(&value, &pairs.flat_map(|(z, x)| reference_cell(&model, z, x)).collect::<Vec<_>>());
        let logits = model.head.forward(state, &Phase::Evaluate);
        near(&logits, &z.chunks(dim).flat_map(|z| reference_head(&model, z)).collect::<Vec<_>>());
    }
}

#[test]
fn products_match_differences_and_autodiff() {
    splitting::products_match(&model().cell, &inputs(), "monotone-conv", 1e-4, 4);
}

#[test]
fn rows_are_independent() {
    let model = model();
    splitting::rows_are_independent(&model.cell, &inputs());
    let ((z, ..), images) = (inputs(), uniform([3, 2, 7, 6], 3));
    let (injected, logits) = (
        model.stem.forward(images.clone(), &Phase::Evaluate),
        model.head.forward(z.tensor().clone(), &Phase::Evaluate),
    );
    for row in 0..3 {
        let one = model.stem.forward(select(&images, &[row]), &Phase::Evaluate);
        assert_eq!(entries(&one), entries(&select(&injected, &[row])));
        let one = model.head.forward(z.select(&[row]).into_tensor(), &Phase::Evaluate);
        assert_eq!(entries(&one), entries(&select(&logits, &[row])));
    }
}

/// It is z = relu(W z + x) too, whatever α and wherever the iteration starts.
#[test]
fn there_is_one_fixed_point_for_every_step() {
    let cell = |step| model_of(&MonotoneConvConfig { step, ..config() }).cell;
    splitting::there_is_one_fixed_point(cell, &inputs());
}

/// At the fixed point every estimator that is exact there agrees, and a difference of the deployed loss in float32 with it.
#[test]
fn gradients_meet_each_other_and_differences() {
    splitting::gradients_meet_each_other(&model(), &uniform([3, 2, 7, 6], 3), 1e-3);
}

/// With Jacobian regularisation, which differentiates the products once more.
#[test]
fn a_training_pass_reaches_every_parameter() {
    splitting::a_training_pass_reaches(&model(), &uniform([3, 2, 7, 6], 3), 8);
}

/// The sign of g does not count, and a kernel of zeros is one.
#[test]
fn nothing_that_is_trained_takes_the_monotonicity_away() {
    let (z, x, _) = inputs();
    let mut model = model();
    let value = |model: &MonotoneConv| entries(&model.cell.apply(z.tensor().clone(), x.clone()));
    let before = value(&model);
    usual(&mut model).g = usual(&mut model).g.clone().map(|g| g * -1.0);
    assert_eq!(value(&model), before);
    let weight = usual(&mut model);
    weight.a = weight.a.clone().map(|a| a * 0.0);
    weight.b = weight.b.clone().map(|b| b * 0.0);
    let (z, x) = (entries(z.tensor()), entries(&x));
    for ((found, z), x) in value(&model).iter().zip(z).zip(x) {
        assert!((found - (0.8 * z + 0.2 * x).max(0.0)).abs() < 1e-6);
    }
}

pub fn write(weights: &StateDict, path: &std::path::Path) {
    let views = weights.iter().map(|(name, entry)| {
        let bytes: &[u8] = Box::leak(entry.to_le_bytes().into_boxed_slice());
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, entry.shape.clone(), bytes);
        (name.clone(), view.unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The authors' names, twice over as their code saves them, with g and h as scalars.
#[test]
fn the_authors_files_are_read_and_a_negative_g_is_refused() {
    let model = model();
    let theirs = |own: &str| match own {
        "injection.weight" => "linear_module.U.weight".to_owned(),
        "injection.bias" => "linear_module.U.bias".to_owned(),
        "classifier.weight" => "Wout.weight".to_owned(),
        "classifier.bias" => "Wout.bias".to_owned(),
        "fullstage.a" => "linear_module.A.weight".to_owned(),
        "fullstage.b" => "linear_module.B.weight".to_owned(),
        own => own.replace("fullstage", "linear_module"),
    };
    let mut file = StateDict::new();
    for (name, entry) in state_dict(&model) {
        let shape = if entry.shape == [1] { vec![] } else { entry.shape };
        let entry = Entry { shape, values: entry.values };
        let name = theirs(&name);
        if name.starts_with("linear_module") {
            file.insert(format!("mon.{name}"), entry.clone());
        }
        file.insert(name, entry);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conv.safetensors");
    let configuration =
        || Configuration { architecture: Architecture::from(config()), deployment: splitting::converged() };
    let imported = |file: &StateDict| {
        write(file, &path);
        import(&path, configuration(), "conv", &ImportOptions::default(), &Device::default())
    };
    let found = imported(&file).unwrap().model.model;
    assert_eq!(state_dict(found.downcast::<MonotoneConv>().unwrap()), state_dict(&model));
    file.insert("mon.linear_module.g".into(), Entry { shape: vec![], values: vec![-0.5] });
    let refused = imported(&file).unwrap_err().to_string();
    assert!(["fullstage.g", "-0.5", "monotone"].iter().all(|part| refused.contains(part)), "{refused}");
}

#[test]
fn sizes_that_make_no_sense_are_named() {
    for (config, field) in [
        (MonotoneConvConfig { channels: 0, ..config() }, "channels"),
        (MonotoneConvConfig { kernel: 0, ..config() }, "kernel"),
        (MonotoneConvConfig { stride: 0, ..config() }, "stride"),
        (MonotoneConvConfig { pool: 0, ..config() }, "pool"),
        (MonotoneConvConfig { pool: 6, ..config() }, "pool"),
        (MonotoneConvConfig { kernel: 9, padding: 0, ..config() }, "kernel"),
        (MonotoneConvConfig { padding: 3, ..config() }, "padding"),
        (MonotoneConvConfig { padding: -3, ..config() }, "kernel"),
        (MonotoneConvConfig { padding: isize::MIN, ..config() }, "padding"),
        (MonotoneConvConfig { monotonicity: 0.0, ..config() }, "monotonicity"),
        (MonotoneConvConfig { step: 1.5, ..config() }, "step"),
        (MonotoneConvConfig { classes: 1, ..config() }, "classes"),
        (MonotoneConvConfig { image: [1, 0, 5], ..config() }, "image"),
        (MonotoneConvConfig { image: [3, 7, 6], ..config() }, "normalisation"),
    ] {
        assert_eq!(config.validate().unwrap_err().field, field, "{config:?}");
    }
    let text = serde_json::to_string(&Architecture::from(config())).unwrap();
    assert_eq!(serde_json::from_str::<Architecture>(&text).unwrap(), config().into());
}
