//! Monotone DEQs of each kind as matrices in float64, which every certificate works on.

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::matrix::Matrix;
use super::method::Unbounded;
use super::monotone::{
    Applied, Bounded, Coupling, Large, Network, Parameters, Reflected, Sparse, Tier, Tiers,
};
use crate::batch::to_f64;
use crate::model::cell::{Cell, FixedPointMap};
use crate::model::monotone::{
    LbenCell, LinearStem, Monotone, MonotoneCell, MonotoneConv, MonotoneConvCell, MonotoneConvHead,
    MonotoneConvStem, MonotoneMulti, MonotoneMultiCell, WinstonKolterConv,
};
use crate::model::normalisation::Normalisation;
use crate::solve::{SolverConfig, StateChoice, solve};

/// The most units of a convolutional network that becomes matrices: these have as many rows and columns.
pub(super) const MOST_UNITS: usize = 4096;
/// The most units and pixels of one that is certified by norms alone: UᵀU is a matrix with as many rows as pixels.
const MOST_APPLIED: usize = 1 << 20;
const MOST_PIXELS: usize = 4096;
/// The most numbers of its injection as a matrix.
const MOST_NUMBERS: usize = 1 << 26;

/// Steps in float32 towards the fixed point of one that is certified by norms.
const NEAR_STEPS: usize = 200;

/// Mean and deviation of each of so many pixels.
fn normalised(normalisation: Option<&Normalisation>, pixels: usize) -> (Vec<f64>, Vec<f64>) {
    let Some(Normalisation { mean, std }) = normalisation else {
        return (vec![0.0; pixels], vec![1.0; pixels]);
    };
    let each = |values: &[f32]| -> Vec<f64> {
        let repeated =
            values.iter().flat_map(|&value| std::iter::repeat_n(f64::from(value), pixels / values.len()));
        repeated.collect()
    };
    (each(mean), each(std))
}

/// Of a fully connected one.
pub(super) fn full(model: &Monotone) -> Network {
    let Monotone { stem, cell, head } = model;
    let (hidden, classes) = (cell.state_dim(), head.classifier.bias.dims()[0]);
    let [_, pixels] = stem.injection.weight.dims();
    let matrix = |parameter: &Param<Tensor<2>>| {
        let [rows, columns] = parameter.dims();
        Matrix::of(rows, columns, to_f64(parameter.val()))
    };
    let logarithms = |d: &Param<Tensor<1>>| to_f64(d.val());
    let (mean, deviation) = normalised(stem.normalisation(), pixels);
    let m = cell.monotonicity();
    let coupling = match cell {
        MonotoneCell::WinstonKolter(w) => Coupling::full(&matrix(&w.a), &matrix(&w.b), m),
        MonotoneCell::Nemon(w) => Coupling::nemon(&matrix(&w.t), &logarithms(&w.d), m),
        MonotoneCell::IntervalBounded(w) => Coupling::interval_bounded(&matrix(&w.m), &logarithms(&w.d), m),
        MonotoneCell::Lben(LbenCell { own, u, g }) => {
            let (v, s, d) = (matrix(&own.v), matrix(&own.s), logarithms(&own.d));
            let parts = Bounded { v, s, d, u: matrix(u), g: matrix(g), lipschitz: own.lipschitz() };
            Coupling::lben(&parts, m)
        }
    };
    let bound = match cell {
        MonotoneCell::Lben(cell) => Some(cell.own.lipschitz()),
        _ => None,
    };
    let parameters = Parameters {
        monotonicity: cell.monotonicity(),
        step: cell.step(),
        offset: to_f64(stem.injection.bias.val()),
        mean,
        deviation,
        head: Matrix::of(classes, hidden, to_f64(head.classifier.weight.val())),
        bias: to_f64(head.classifier.bias.val()),
        bound,
        scale: 1.0,
        reading: hidden + 4,
    };
    let injection = Matrix::of(hidden, pixels, to_f64(stem.injection.weight.val()));
    let network = Network::new(coupling, injection, parameters);
    match cell.resolvent() {
        None => network.with_matrix(&Matrix::of(hidden, hidden, to_f64(cell.matrix()))),
        Some(resolvent) => network.with_inverse(&Matrix::of(hidden, hidden, to_f64(resolvent))),
    }
}

/// Of a convolutional one, as matrices up to so many units.
pub(super) fn convolutional(model: &MonotoneConv, most: usize) -> Result<Network, Unbounded> {
    let MonotoneConv { stem, cell, head } = model;
    let (state @ [_, h, w], m) = (cell.state(), cell.monotonicity());
    // That of each channel's units.
    let logarithms = |d: &Param<Tensor<1>>| -> Vec<f64> {
        to_f64(d.val()).into_iter().flat_map(|d| std::iter::repeat_n(d, h * w)).collect()
    };
    let tier = |weight: &WinstonKolterConv| Tier {
        a: to_f64(weight.a.val()),
        b: to_f64(weight.b.val()),
        g: to_f64(weight.g.val())[0].abs(),
        h: to_f64(weight.h.val())[0],
        from: None,
        state,
    };
    let coupling = || match cell {
        MonotoneConvCell::WinstonKolter(weight) => Coupling::convolution(&[tier(weight)], m),
        MonotoneConvCell::Nemon(weight) => {
            Coupling::nemon(&dense(&to_f64(weight.t.val()), state), &logarithms(&weight.d), m)
        }
        MonotoneConvCell::IntervalBounded(weight) => {
            Coupling::interval_bounded(&dense(&to_f64(weight.m.val()), state), &logarithms(&weight.d), m)
        }
    };
    // Its kernels alone make W.
    let own = match cell {
        MonotoneConvCell::WinstonKolter(weight) => Some(weight),
        _ => None,
    };
    let large = own.map(|weight| {
        move || {
            let [single, double] = [DType::F32, DType::F64].map(|dtype| cell.forward_backward_in(dtype));
            (vec![tier(weight)], applied(single, double))
        }
    });
    let network = around(stem, head, &[state], [m, cell.step()], coupling, large, most)?;
    let reflected = own
        .zip(cell.resolvent())
        .and_then(|(weight, found)| Reflected::convolution(&tier(weight), &found, m, cell.step()));
    Ok(network.with(reflected))
}

/// A cell as it is applied, from itself in float32 and in float64.
fn applied<C: Cell>(single: C, double: C) -> Applied {
    fn row(numbers: &[f64], dtype: DType) -> Tensor<2> {
        let data = TensorData::new(numbers.to_vec(), [1, numbers.len()]);
        Tensor::from_data(data, (&Device::default(), dtype))
    }
    let near = move |injection: &[f64]| {
        let bound = single.bind(&row(injection, DType::F32));
        let solver = SolverConfig::picard(NEAR_STEPS, 1.0).with_tolerance(1e-5);
        let start = row(&vec![0.0; single.state_dim()], DType::F32).into();
        let map: &dyn FixedPointMap = &*bound;
        to_f64(solve(map, start, &solver).choose(StateChoice::Best).tensor().clone())
    };
    let step = move |state: &[f64], injection: &[f64]| {
        let bound = double.bind(&row(injection, DType::F64));
        to_f64(bound.apply(&row(state, DType::F64).into()).tensor().clone())
    };
    Applied { near: Box::new(near), step: Box::new(step) }
}

/// A 3×3 convolution with zeros around the state as a matrix.
fn dense(kernel: &[f64], [c, h, w]: [usize; 3]) -> Matrix {
    let place = |unit: usize| (unit / (h * w), unit / w % h, unit % w);
    let tap = |to: usize, from: usize| (from + 1).checked_sub(to).filter(|tap| *tap < 3);
    Matrix::new(c * h * w, c * h * w, |to, from| {
        let ((o, y, x), (i, row, column)) = (place(to), place(from));
        match (tap(y, row), tap(x, column)) {
            (Some(dy), Some(dx)) => kernel[((o * c + i) * 3 + dy) * 3 + dx],
            _ => 0.0,
        }
    })
}

/// Of one of several tiers, in the same way.
pub(super) fn multi(model: &MonotoneMulti, most: usize) -> Result<Network, Unbounded> {
    let MonotoneMulti { stem, cell, head } = model;
    let size = |scale: Tensor<1>| to_f64(scale)[0].abs().max(f64::from(MonotoneMultiCell::LEAST));
    let tier = |at: usize| {
        let (own, before) = (&cell.tiers[at], at.checked_sub(1).map(|before| &cell.downs[before]));
        Tier {
            a: to_f64(own.a.val()),
            b: to_f64(own.b.val()),
            g: size(own.g.val()),
            h: to_f64(own.h.val())[0],
            from: before.map(|down| (to_f64(down.n.val()), size(down.gamma.val()))),
            state: cell.states()[at],
        }
    };
    let (m, tiers) = (cell.monotonicity(), 0..cell.tiers.len());
    let coupling = || Coupling::convolution(&tiers.map(tier).collect::<Vec<_>>(), m);
    let large = || {
        let [single, double] = [DType::F32, DType::F64].map(|dtype| cell.forward_backward_in(dtype));
        ((0..cell.tiers.len()).map(tier).collect(), applied(single, double))
    };
    around(stem, head, cell.states(), [m, cell.step()], coupling, Some(large), most)
}

/// A cell of tiers of these C, H, W, with what leads into the first and reads the last.
fn around(
    stem: &MonotoneConvStem,
    head: &MonotoneConvHead,
    states: &[[usize; 3]],
    [monotonicity, step]: [f64; 2],
    coupling: impl FnOnce() -> Coupling,
    large: Option<impl FnOnce() -> (Vec<Tier>, Applied)>,
    most: usize,
) -> Result<Network, Unbounded> {
    let image = stem.image();
    let sizes: Vec<usize> = states.iter().map(|state| state.iter().product()).collect();
    let (units, pixels) = (sizes.iter().sum::<usize>(), image.iter().product::<usize>());
    let small = units <= most && units * pixels <= MOST_NUMBERS;
    let large = large.filter(|_| units <= MOST_APPLIED && pixels <= MOST_PIXELS);
    if !small && large.is_none() {
        return Err(Unbounded::new(format!(
            "its state has {units} units and its images {pixels} pixels; convolutional networks are certified as matrices of up \
             to {most} units and {MOST_NUMBERS} numbers, those of `winston-kolter` and of tiers by `lipschitz` up to \
             {MOST_APPLIED} units and {MOST_PIXELS} pixels: use fewer channels or a larger stride, or smoothing"
        )));
    }
    // The first tier's units come first, the last one's last.
    let (entered, unread) = (sizes[0], units - sizes[sizes.len() - 1]);
    let [channels, rows, columns] = states[0];
    let place = |unit: usize| (unit / (rows * columns), unit / columns % rows, unit % columns);

    let [inputs, height, width] = image;
    let [_, _, k, _] = stem.injection.weight.dims();
    let (u, stride, padding) = (to_f64(stem.injection.weight.val()), stem.injection.stride(), stem.padding());
    // The pixel's row that a tap of a unit's row meets, or the same of columns.
    let meets = |unit: usize, tap: usize, side: usize| {
        let pixel = (unit * stride + tap).checked_add_signed(-padding)?;
        (pixel < side).then_some(pixel)
    };
    let row = |unit: usize| -> Vec<(usize, f64)> {
        let (o, y, x) = place(unit);
        let pixel = |tap: usize| {
            let (i, dy, dx) = (tap / (k * k), tap / k % k, tap % k);
            let (row, column) = (meets(y, dy, height)?, meets(x, dx, width)?);
            Some(((i * height + row) * width + column, u[o * inputs * k * k + tap]))
        };
        (0..inputs * k * k).filter_map(pixel).collect()
    };
    let injection = Sparse { columns: pixels, rows: (0..entered).map(row).collect() };
    let bias = stem.injection.bias.as_ref().map(|bias| to_f64(bias.val()));
    let bias = bias.unwrap_or_else(|| vec![0.0; channels]);

    // Logits times the number of units in a window.
    let (classes, pool) = (head.classifier.bias.dims()[0], head.pool());
    let (weight, features) = (to_f64(head.classifier.weight.val()), head.classifier.weight.dims()[1]);
    let [down, across] = head.windows();
    let scale = (pool * pool) as f64;
    let [_, rows, columns] = head.state();
    let feature = |unit: usize| {
        let unit = unit.checked_sub(unread)?;
        let (channel, y, x) = (unit / (rows * columns), unit / columns % rows, unit % columns);
        let (row, column) = if pool == 1 { (y, x) } else { ((y + 1) / pool, (x + 1) / pool) };
        (row < down && column < across).then_some((channel * down + row) * across + column)
    };
    let (mean, deviation) = normalised(stem.normalisation(), pixels);
    let parameters = Parameters {
        monotonicity,
        step,
        offset: (0..units).map(|unit| if unit < entered { bias[place(unit).0] } else { 0.0 }).collect(),
        mean,
        deviation,
        head: Matrix::new(classes, units, |class, unit| {
            feature(unit).map_or(0.0, |feature| weight[class * features + feature])
        }),
        bias: to_f64(head.classifier.bias.val()).into_iter().map(|bias| bias * scale).collect(),
        bound: None,
        scale,
        reading: features + pool * pool + 6,
    };
    match large.filter(|_| !small) {
        Some(large) => {
            let (tiers, applied) = large();
            let large = Large { applied, injection, units, tiers: Tiers::new(&tiers) };
            Ok(Network::applied(large, parameters))
        }
        None => {
            let mut matrix = Matrix::new(units, pixels, |_, _| 0.0);
            for (unit, row) in injection.rows.iter().enumerate() {
                row.iter().for_each(|(pixel, weight)| matrix.values[unit * pixels + pixel] = *weight);
            }
            Ok(Network::new(coupling(), matrix, parameters))
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::batch::from_vec;
    use crate::certify::monotone::{Ball, Deployed};
    use crate::certify::upper::{SINGLE, dot};
    use crate::model::equilibrium::Equilibrium;
    use crate::model::monotone::{
        IntervalBoundedConv, MonotoneConvConfig, MonotoneMultiConfig, NemonConv, Parametrisation,
    };
    use crate::random::ExampleRng;
    use crate::readout::Readout;
    use crate::solve::SolverConfig;
    use crate::victim::{Deployment, Victim};

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let mut rng = ExampleRng::new(seed, "lowered", 0, 0);
        (0..count).map(|_| rng.unit() as f32).collect()
    }

    fn agree(network: &Network, model: &dyn Equilibrium, image: [usize; 3], pool: usize) {
        let pixels = numbers(1, image.iter().product());
        let images: Tensor<4> =
            from_vec(pixels.clone(), [1, image[0], image[1], image[2]], &Device::default());
        let solver = SolverConfig::picard(500, 1.0).with_tolerance(0.0);
        let deployment = Deployment { solver, ..Deployment::exact() };
        let victim =
            Victim::new(model, &deployment, Readout::final_state(), crate::gradient::Estimator::exact());
        let found = to_f64(crate::attack::Classifier::logits(&victim, &images));
        let wide: Vec<f64> = pixels.iter().map(|&pixel| f64::from(pixel)).collect();
        let centre = network.centre(&wide);
        let near = if network.matrices().is_some() { 1e-9 } else { 1e-6 };
        assert!(centre.distance.value() < near, "{}", centre.distance.value());
        assert_eq!(centre.state.len(), model.state_dim());
        for (class, found) in found.iter().enumerate() {
            let (head, bias) = network.head();
            let logit = dot(head.row(class), &centre.state) + bias[class];
            let expected = logit / (pool * pool) as f64;
            assert!((found - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{found} {expected}");
        }
    }

    /// As it is applied, every bound of a network is one of its matrices' too, and that of images to states nearly the same.
    fn bounds_are_no_less(applied: &Network, matrices: &Network, image: [usize; 3]) {
        let below = |tight: f64, loose: f64, most: f64| {
            assert!(loose >= tight * (1.0 - 1e-3) && loose <= most * tight, "{tight} {loose}");
        };
        below(matrices.lipschitz().value(), applied.lipschitz().value(), 1.001);
        // By single taps, of which a few channels mix as much as all.
        below(matrices.contraction().value(), applied.contraction().value(), 20.0);
        let pixels: Vec<f64> = numbers(3, image.iter().product()).into_iter().map(f64::from).collect();
        let [tight, loose] = [matrices, applied].map(|network| network.centre(&pixels));
        assert_eq!(tight.class, loose.class);
        // The cell is applied in float64 indeed.
        let steps = matrices.stepped(&loose).into_iter().zip(applied.stepped(&loose));
        assert!(steps.into_iter().all(|(a, b)| (a - b).abs() < 1e-13 * (1.0 + a.abs())));
        for (tight, loose) in tight.margins.iter().zip(&loose.margins) {
            assert!((tight - loose).abs() < 1e-5 * (1.0 + tight.abs()), "{tight} {loose}");
        }
        let deployed = Deployed {
            steps: 40,
            tolerance: 1e-5,
            damping: 1.0,
            lead: 0,
            tail: 1,
            tail_damping: 1.0,
            unit: SINGLE,
        };
        let error = |network: &Network, centre| {
            deployed.error(network, centre, &network.spread(&Ball::Distance(0.01)), None)
        };
        if let (Some(tight), Some(loose)) = (error(matrices, &tight), error(applied, &loose)) {
            assert!(loose.state.value() >= 0.999 * tight.state.value());
        }
    }

    /// The matrices' fixed point and logits are those of the network, with pixels cut off and zeros around them, windows that
    /// are averaged by thirds, and none.
    #[test]
    fn the_matrices_are_the_network() {
        let normalisation = Some(Normalisation { mean: vec![0.3, 0.6], std: vec![0.2, 0.3] });
        let config = MonotoneConvConfig {
            channels: 3,
            image: [2, 9, 12],
            classes: 4,
            normalisation,
            ..MonotoneConvConfig::digits()
        };
        for config in [
            MonotoneConvConfig { kernel: 4, stride: 2, padding: -1, pool: 2, ..config.clone() },
            MonotoneConvConfig { kernel: 3, stride: 3, padding: 1, pool: 3, ..config.clone() },
            MonotoneConvConfig { kernel: 5, stride: 2, padding: 2, pool: 1, ..config.clone() },
            MonotoneConvConfig { parametrisation: Parametrisation::Nemon, step: 0.1, ..config.clone() },
            MonotoneConvConfig {
                parametrisation: Parametrisation::IntervalBounded,
                monotonicity: 0.4,
                step: 1.0,
                ..config
            },
        ] {
            let mut model = config.init(2, &Device::default()).unwrap();
            match &mut model.cell {
                MonotoneConvCell::WinstonKolter(weight) => {
                    weight.g = weight.g.clone().map(|g| g * -1.3);
                    weight.h = weight.h.clone().map(|h| h * 0.8);
                }
                MonotoneConvCell::Nemon(NemonConv { d, .. })
                | MonotoneConvCell::IntervalBounded(IntervalBoundedConv { d, .. }) => {
                    *d = d.clone().map(|d| d + Tensor::from_data([-1.0, 0.3, 1.4], &Device::default()));
                }
            }
            let network = convolutional(&model, MOST_UNITS).unwrap();
            agree(&network, &model, config.image, config.pool);
            if let Ok(applied) = convolutional(&model, 0) {
                agree(&applied, &model, config.image, config.pool);
                bounds_are_no_less(&applied, &network, config.image);
            }
        }
    }

    /// So they are with tiers, of which the last is averaged or not, and signs that do not count.
    #[test]
    fn the_matrices_are_those_of_tiers() {
        let config = MonotoneMultiConfig {
            channels: vec![2, 3, 2],
            image: [2, 8, 12],
            classes: 4,
            ..MonotoneMultiConfig::digits()
        };
        for config in [
            MonotoneMultiConfig { padding: 0, kernel: 5, ..config.clone() },
            MonotoneMultiConfig { pool: 2, ..config },
        ] {
            let mut model = config.init(2, &Device::default()).unwrap();
            for tier in &mut model.cell.tiers {
                tier.g = tier.g.clone().map(|g| g * -1.3);
                tier.h = tier.h.clone().map(|h| h * 0.8);
            }
            for down in &mut model.cell.downs {
                down.gamma = down.gamma.clone().map(|gamma| gamma * 2.1);
            }
            let [network, applied] = [MOST_UNITS, 0].map(|most| multi(&model, most).unwrap());
            agree(&network, &model, config.image, config.pool);
            agree(&applied, &model, config.image, config.pool);
            bounds_are_no_less(&applied, &network, config.image);
        }
    }
}
