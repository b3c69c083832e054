//! What W of a convolutional cell may be made of: the same claims as of fully connected ones, W being the matrix of a convolution.

use crate::common::{Nudge, entries, normal, uniform};
use crate::parametrisations::{
    Shake, Sum, a_fixed_box_holds_its_fixed_points, gradients_are_those_of_a_long_unrolling, scale,
};
use crate::splitting;
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use equipoise::checkpoint::{Configuration, ImportOptions, export_safetensors, import};
use equipoise::loss::CrossEntropy;
use equipoise::model::cell::{Cell, FixedPointMap};
use equipoise::model::monotone::{
    MonotoneConv, MonotoneConvCell, MonotoneConvConfig, Parametrisation, Splitting,
};
use equipoise::model::normalisation::Normalisation;
use equipoise::solve::{SolverConfig, StateChoice, solve};
use equipoise::victim::Deployment;

const KINDS: [Parametrisation; 2] = [Parametrisation::Nemon, Parametrisation::IntervalBounded];
/// 3 channels of 4×3 units.
const STATE: [usize; 3] = [3, 4, 3];
const SIDE: usize = 36;

fn config(parametrisation: Parametrisation, step: f64) -> MonotoneConvConfig {
    let monotonicity = if parametrisation == Parametrisation::IntervalBounded { 0.4 } else { 1.0 };
    MonotoneConvConfig {
        channels: 3,
        parametrisation,
        monotonicity,
        step,
        image: [2, 7, 6],
        classes: 4,
        normalisation: Some(Normalisation { mean: vec![0.3, 0.5], std: vec![0.4, 0.2] }),
        ..MonotoneConvConfig::digits()
    }
}

fn model(parametrisation: Parametrisation, step: f64) -> MonotoneConv {
    config(parametrisation, step).init(5, &Device::default()).unwrap().map(&mut Shake(1.0, 40))
}

fn inputs(side: usize) -> splitting::Inputs {
    (normal([3, side], 5).into(), normal([3, side], 6), normal([3, side], 7).into())
}

fn images() -> Tensor<4> {
    uniform([3, 2, 7, 6], 4)
}

/// Each kernel and d.
fn parameters(cell: &MonotoneConvCell) -> (Vec<f64>, Vec<f64>) {
    match cell {
        MonotoneConvCell::Nemon(w) => (entries(&w.t.val()), entries(&w.d.val())),
        MonotoneConvCell::IntervalBounded(w) => (entries(&w.m.val()), entries(&w.d.val())),
        MonotoneConvCell::WinstonKolter(_) => unreachable!("another kind"),
    }
}

/// W as `[D, D]` in float64, from the cell at states so large that no ReLU is at work.
fn matrix(cell: &MonotoneConvCell) -> Vec<f64> {
    let exact = cell.clone().map(&mut Nudge { id: None, step: 0.0 });
    let rows = Tensor::<2>::eye(SIDE, &Device::default()).cast(DType::F64);
    let large = (rows.zeros_like() + 1.0) * 1e6;
    let (step, value) = (cell.step(), |state: Tensor<2>| exact.apply(state, large.clone()));
    let columns = entries(&(value(rows.clone()) - value(rows.zeros_like())));
    let w = |i: usize, j: usize| {
        let own = if i == j { 1.0 - step } else { 0.0 };
        (columns[j * SIDE + i] - own) / step
    };
    (0..SIDE * SIDE).map(|at| w(at / SIDE, at % SIDE)).collect()
}

/// The matrix of a 3×3 convolution with zeros around the state.
fn convolution(kernel: &[f64]) -> Vec<f64> {
    let [c, h, w] = STATE;
    let mut matrix = vec![0.0; SIDE * SIDE];
    for (to, from) in (0..SIDE).flat_map(|to| (0..SIDE).map(move |from| (to, from))) {
        let place = |unit: usize| (unit / (h * w), (unit / w % h) as isize, (unit % w) as isize);
        let ((o, y, x), (i, row, column)) = (place(to), place(from));
        let (dy, dx) = (row - y + 1, column - x + 1);
        if (0..3).contains(&dy) && (0..3).contains(&dx) {
            matrix[to * SIDE + from] = kernel[((o * c + i) * 3 + dy as usize) * 3 + dx as usize];
        }
    }
    matrix
}

/// It is that of the equations for the matrix of the convolution, with parameters as at the start and a hundred times as large.
#[test]
fn w_is_that_of_the_matrix_of_the_convolution() {
    for (parametrisation, factor) in KINDS.into_iter().flat_map(|kind| [(kind, 1.0), (kind, 100.0)]) {
        let model = config(parametrisation, 0.1).init(8, &Device::default()).unwrap();
        let cell = model.map(&mut Shake(factor, 60)).cell;
        let (kernel, d) = parameters(&cell);
        let (t, m) = (convolution(&kernel), cell.monotonicity());
        let scale: Vec<f64> = scale(&d).into_iter().flat_map(|s| [s; 12]).collect();
        let row = |i: usize| (0..SIDE).map(|j| t[i * SIDE + j].abs()).sum::<f64>();
        let column = |j: usize| (0..SIDE).map(|i| t[i * SIDE + j].abs()).sum::<f64>();
        let found = matrix(&cell);
        let largest = found.iter().fold(1.0, |most: f64, w| most.max(w.abs()));
        for (i, j) in (0..SIDE).flat_map(|i| (0..SIDE).map(move |j| (i, j))) {
            let own = if i == j { 1.0 } else { 0.0 };
            let between = t[i * SIDE + j] * scale[j] / scale[i];
            let expected = match parametrisation {
                Parametrisation::Nemon => own * (1.0 - m - row(i)) + between,
                _ => between * (1.0 - m) / ((row(i) + column(i)) * (row(j) + column(j)) / 4.0).sqrt(),
            };
            // Sums of numbers up to 10⁶, to whose last places differences are found.
            assert!((found[i * SIDE + j] - expected).abs() < 1e-7 * largest, "{parametrisation:?} {i} {j}");
        }
    }
}

#[test]
fn products_match_differences_and_autodiff() {
    for parametrisation in KINDS {
        let model = model(parametrisation, 0.1);
        let name = parametrisation.name();
        splitting::products_match(&model.cell, &inputs(SIDE), name, 1e-4, 2);
        splitting::rows_are_independent(&model.cell, &inputs(SIDE));
        let boxed = model.boxes(0.07).unwrap();
        splitting::products_match(&boxed.cell, &inputs(2 * SIDE), name, 1e-4, 2);
        splitting::rows_are_independent(&boxed.cell, &inputs(2 * SIDE));
    }
}

#[test]
fn there_is_one_fixed_point_for_every_step() {
    for parametrisation in KINDS {
        splitting::there_is_one_fixed_point(|step| model(parametrisation, step).cell, &inputs(SIDE));
    }
}

#[test]
fn gradients_meet_each_other_and_differences() {
    for parametrisation in KINDS {
        let model = model(parametrisation, 0.1);
        splitting::gradients_meet_each_other(&model, &images(), 1e-3);
        splitting::a_training_pass_reaches(&model, &images(), 6);
        // In float64 there is no normalisation.
        let plain = MonotoneConvConfig { normalisation: None, ..config(parametrisation, 0.1) };
        let plain = plain.init(5, &Device::default()).unwrap().map(&mut Shake(1.0, 40));
        let objective = CrossEntropy { labels: vec![0, 1, 3] };
        gradients_are_those_of_a_long_unrolling(&plain, MonotoneConv::clone, images(), &objective, 6);
        let boxes = |model: &MonotoneConv| model.boxes(0.07).unwrap();
        gradients_are_those_of_a_long_unrolling(&plain, boxes, images(), &Sum, 6);
    }
}

/// With windows that are averaged and without, and pixels that are cut off.
#[test]
fn a_fixed_box_holds_the_fixed_points_of_its_images() {
    for parametrisation in KINDS {
        let image = uniform([1, 2, 7, 6], 3);
        a_fixed_box_holds_its_fixed_points(&model(parametrisation, 0.1), &image);
        let cut = MonotoneConvConfig { padding: -1, kernel: 2, pool: 1, ..config(parametrisation, 0.1) };
        let cut = cut.init(5, &Device::default()).unwrap().map(&mut Shake(1.0, 40));
        a_fixed_box_holds_its_fixed_points(&cut, &image);
    }
    assert!(
        config(Parametrisation::WinstonKolter, 0.1).init(5, &Device::default()).unwrap().boxes(0.1).is_none()
    );
}

/// With the largest step for which that is known, however large the parameters are, from 0 and from elsewhere.
#[test]
fn plain_iteration_converges_with_the_largest_valid_step() {
    let (start, x, _) = inputs(SIDE);
    for (parametrisation, factor) in KINDS.into_iter().flat_map(|kind| [(kind, 1.0), (kind, 20.0)]) {
        let cell = |step: f64| {
            config(parametrisation, step)
                .init(5, &Device::default())
                .unwrap()
                .map(&mut Shake(factor, 40))
                .cell
        };
        let w = matrix(&cell(0.1));
        let lowest = (0..SIDE).map(|i| w[i * SIDE + i]).fold(0.0, f64::min);
        let cell = cell(if parametrisation == Parametrisation::Nemon { 1.0 / (1.0 - lowest) } else { 1.0 });
        let bound = cell.bind(&x);
        let map: &dyn FixedPointMap = &*bound;
        let solver = SolverConfig::picard(5000, 1.0).with_tolerance(1e-6);
        let found = [start.zeros_like(), start.clone() * 10.0]
            .map(|start| solve(map, start, &solver).choose(StateChoice::Best));
        let [here, there] = found.map(|state| entries(state.tensor()));
        let length = here.iter().map(|z| z * z).sum::<f64>().sqrt();
        let apart = here.iter().zip(&there).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        assert!(length > 0.1 && apart < 1e-3 * length, "{parametrisation:?} {factor}: {apart} of {length}");
    }
}

#[test]
fn files_come_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for parametrisation in KINDS {
        let config = config(parametrisation, 0.1);
        let model = model(parametrisation, 0.1);
        let path = folder.path().join("bare.safetensors");
        export_safetensors(&model, &path).unwrap();
        let configuration =
            Configuration { architecture: config.clone().into(), deployment: Deployment::default() };
        let options = ImportOptions::default();
        let imported = import(&path, configuration, "m", &options, &Device::default()).unwrap();
        assert_eq!(
            imported.model.model.weights(),
            equipoise::architecture::Parameters::weights(&model),
            "{parametrisation:?}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let splitting = Splitting::PeacemanRachford;
    for (config, field) in [
        (MonotoneConvConfig { splitting, ..config(Parametrisation::Nemon, 0.1) }, "splitting"),
        (MonotoneConvConfig { splitting, ..config(Parametrisation::IntervalBounded, 0.1) }, "splitting"),
        (
            MonotoneConvConfig { monotonicity: 1.0, ..config(Parametrisation::IntervalBounded, 0.1) },
            "monotonicity",
        ),
    ] {
        assert_eq!(config.validate().unwrap_err().field, field);
    }
    // Files of before do not say it.
    let written = serde_json::to_value(config(Parametrisation::WinstonKolter, 0.1)).unwrap();
    assert!(written.get("parametrisation").is_none());
}
