//! What W may be made of: products, one fixed point, and what holds of it whatever its parameters are.

use crate::common::{Nudge, compare_gradients, double, entries, normal, relative_error, uniform};
use crate::splitting;
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use equipoise::architecture::{Architecture, Model};
use equipoise::checkpoint::{
    Configuration, FORMAT_VERSION, ImportOptions, Metadata, ModelFile, export_pytorch, export_safetensors,
    import,
};
use equipoise::gradient::Estimator;
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::cell::{Cell, FixedPointMap};
use equipoise::model::deq::{Deq, Head, Stem};
use equipoise::model::layers::{BatchMoments, Phase};
use equipoise::model::monotone::{
    Contracting, Lben, LbenConfig, LinearHead, LinearStem, Monotone, MonotoneCell, MonotoneConfig,
    Parametrisation, Splitting,
};
use equipoise::model::normalisation::Normalisation;
use equipoise::model::parameters::accumulate_module;
use equipoise::readout::Readout;
use equipoise::solve::{SolverConfig, StateChoice, solve};
use equipoise::state::State;
use equipoise::training_pass::{StepOptions, gradients};
use equipoise::victim::{Deployment, Victim};
use equipoise::work::WorkCounter;

const SIDE: usize = 12;

fn config(parametrisation: Parametrisation) -> MonotoneConfig {
    let monotonicity = if parametrisation == Parametrisation::IntervalBounded { 0.4 } else { 1.0 };
    MonotoneConfig {
        hidden: SIDE,
        parametrisation,
        monotonicity,
        image: [1, 5, 5],
        classes: 4,
        normalisation: Some(Normalisation { mean: vec![0.3], std: vec![0.4] }),
        ..MonotoneConfig::digits()
    }
}

fn bounded() -> LbenConfig {
    LbenConfig {
        hidden: SIDE,
        lipschitz: 2.0,
        image: [1, 5, 5],
        classes: 4,
        normalisation: Some(Normalisation { mean: vec![0.3], std: vec![0.4] }),
        ..LbenConfig::digits()
    }
}

/// Parameters times a factor, and vectors moved away from 0: Λ is not I.
pub struct Shake(pub f64, pub u64);

impl ModuleMapper for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.1 += 1;
        let noise = if D == 1 { normal(param.dims(), self.1) * 0.8 } else { normal(param.dims(), 1) * 0.0 };
        param.map(|value| value * self.0 + noise)
    }
}

fn model(parametrisation: Parametrisation, splitting: Splitting, step: f64) -> Monotone {
    let config = MonotoneConfig { splitting, step, ..config(parametrisation) };
    config.init(5, &Device::default()).unwrap().map(&mut Shake(1.0, 40))
}

fn lben(splitting: Splitting, step: f64) -> Lben {
    let config = LbenConfig { splitting, step, ..bounded() };
    config.init(5, &Device::default()).unwrap().map(&mut Shake(1.0, 40))
}

/// Of each kind but the usual one, with what a step of training has gradients for.
fn all(splitting: Splitting, step: f64) -> [(&'static str, Monotone, usize); 3] {
    let of = |parametrisation| model(parametrisation, splitting, step);
    [
        ("nemon", of(Parametrisation::Nemon), 2),
        ("interval-bounded", of(Parametrisation::IntervalBounded), 2),
        ("lben", lben(splitting, step).network(), 5),
    ]
}

fn inputs() -> splitting::Inputs {
    (normal([3, SIDE], 5).into(), normal([3, SIDE], 6), normal([3, SIDE], 7).into())
}

#[test]
fn products_match_differences_and_autodiff() {
    for (name, model, parameters) in all(Splitting::ForwardBackward, 0.2) {
        splitting::products_match(&model.cell, &inputs(), name, 1e-4, parameters);
        splitting::rows_are_independent(&model.cell, &inputs());
    }
    for (name, model, parameters) in all(Splitting::PeacemanRachford, 0.2) {
        splitting::products_match(&model.cell, &inputs(), name, 1e-3, parameters);
    }
}

#[test]
fn there_is_one_fixed_point_for_every_step_and_splitting() {
    for kind in 0..3 {
        let cell = |step: f64| all(Splitting::ForwardBackward, step)[kind].1.cell.clone();
        splitting::there_is_one_fixed_point(cell, &inputs());
        let (start, x, _) = inputs();
        let solved = |cell: &MonotoneCell| {
            let bound = cell.bind(&x);
            let map: &dyn FixedPointMap = &*bound;
            let solver = SolverConfig::picard(2000, 1.0).with_tolerance(1e-7);
            solve(map, start.zeros_like(), &solver).choose(StateChoice::Best)
        };
        let usual = solved(&cell(0.1));
        let reflected = solved(&all(Splitting::PeacemanRachford, 0.2)[kind].1.cell);
        let z = activation::relu(reflected.tensor().clone());
        assert!(relative_error(&z, usual.tensor()) < 1e-4, "{kind}");
    }
}

#[test]
fn gradients_meet_each_other_and_differences() {
    let images = uniform([3, 1, 5, 5], 3);
    for (_, model, parameters) in all(Splitting::ForwardBackward, 0.1) {
        splitting::gradients_meet_each_other(&model, &images, 1e-2);
        // U and G of the bounded network are the stem's and the head's own.
        splitting::a_training_pass_reaches(&model, &images, parameters.min(3) + 4);
    }
}

/// In float64 there is no normalisation.
fn unnormalised(parametrisation: Parametrisation) -> Monotone {
    let config = MonotoneConfig { normalisation: None, step: 0.1, ..config(parametrisation) };
    config.init(5, &Device::default()).unwrap().map(&mut Shake(1.0, 40))
}

fn images() -> Tensor<4> {
    uniform([3, 1, 5, 5], 3)
}

/// The gradients of a training pass are those of autodiff through 400 applications of the cell, in float64. `tracked` is the
/// module's network, whose parameters may be used several times.
pub fn gradients_are_those_of_a_long_unrolling<M: Module, S: Stem, C: Cell, H: Head>(
    model: &M,
    network: impl Fn(&M) -> Deq<S, C, H>,
    images: Tensor<4>,
    objective: &dyn Objective,
    expected_count: usize,
) {
    let plain = network(model);
    let counter = WorkCounter::default();
    let found =
        gradients(&plain, &splitting::converged(), &StepOptions::default(), &images, objective, &counter);
    let found = found.unwrap();
    let tracked = model.clone().map(&mut Nudge { id: None, step: 0.0 }).train();
    let deq = network(&tracked);
    let moments = BatchMoments::default();
    let injection = deq.stem.forward(double(images), &Phase::Train(&moments));
    let mut state = double(Tensor::<2>::zeros([3, plain.cell.state_dim()], &Device::default())).autodiff();
    for _ in 0..400 {
        state = deq.cell.apply(state, injection.clone());
    }
    let values = objective.values(deq.head.forward(state, &Phase::Train(&moments)));
    assert!(relative_error(&found.values, &values.clone().inner()) < 1e-5);
    let mut expected = GradientsParams::new();
    accumulate_module(&mut expected, values.mean().backward(), &tracked);
    let compared = compare_gradients(model, &found.parameters, &expected, 1e-3, 1e-14);
    assert_eq!(compared, expected_count);
}

#[test]
fn training_gradients_are_those_of_a_long_unrolling() {
    let objective = CrossEntropy { labels: vec![0, 1, 3] };
    let same = |model: &Monotone| model.clone();
    for parametrisation in [Parametrisation::Nemon, Parametrisation::IntervalBounded] {
        gradients_are_those_of_a_long_unrolling(
            &unnormalised(parametrisation),
            same,
            images(),
            &objective,
            6,
        );
    }
    let config = LbenConfig { normalisation: None, step: 0.1, ..bounded() };
    let bounded = config.init(5, &Device::default()).unwrap().map(&mut Shake(1.0, 40));
    gradients_are_those_of_a_long_unrolling(&bounded, Lben::network, images(), &objective, 7);
}

/// Numbers as one sum.
pub struct Sum;
impl Objective for Sum {
    fn values(&self, leads: Tensor<2>) -> Tensor<1> {
        let weights = normal(leads.dims(), 77).cast(leads.dtype());
        let weights = if leads.is_autodiff() { weights.autodiff() } else { weights };
        (leads * weights).sum_dim(1).squeeze_dim::<1>(1)
    }
}

/// The least leads of a box, as one sum: the gradient of a box's fixed point is that of a long unrolling too.
#[test]
fn gradients_through_boxes_are_those_of_a_long_unrolling() {
    let boxes = |model: &Monotone| model.boxes(0.07).unwrap();
    for parametrisation in [Parametrisation::Nemon, Parametrisation::IntervalBounded] {
        let model = unnormalised(parametrisation);
        gradients_are_those_of_a_long_unrolling(&model, boxes, images(), &Sum, 6);
        let boxed = boxes(&model);
        let inputs =
            (normal([3, 2 * SIDE], 5).into(), normal([3, 2 * SIDE], 6), normal([3, 2 * SIDE], 7).into());
        splitting::products_match(&boxed.cell, &inputs, "boxes", 1e-4, 2);
        splitting::rows_are_independent(&boxed.cell, &inputs);
    }
}

/// The fixed box holds the fixed points of random images and corners, is one point for a box of one image, and its least leads are
/// none of theirs.
pub fn a_fixed_box_holds_its_fixed_points<S: LinearStem, C: Contracting, H: LinearHead>(
    model: &Deq<S, C, H>,
    image: &Tensor<4>,
) {
    let solved = |deq: &dyn equipoise::model::equilibrium::Equilibrium, images: &Tensor<4>| {
        let injection = deq.injection(images);
        let bound = deq.bind(&injection);
        let map: &dyn FixedPointMap = &*bound;
        let start = injection.zeros([images.dims()[0], deq.state_dim()]);
        let state: State =
            solve(map, start, &SolverConfig::picard(500, 1.0).with_tolerance(1e-7)).choose(StateChoice::Best);
        (entries(state.tensor()), entries(&deq.logits(&state)))
    };
    let (side, [_, c, h, w]) = (model.cell.state_dim(), image.dims());
    for eps in [0.0, 0.05] {
        let (ends, leads) = solved(&model.boxes(eps).unwrap(), image);
        let noise = uniform([2000, c, h, w], 9) * 2.0 - 1.0;
        let noise = Tensor::cat(vec![noise.clone(), noise.sign()], 0) * eps;
        let (states, logits) = solved(model, &(image.clone() + noise).clamp(0.0, 1.0));
        let (mut low, mut high) = (vec![f64::INFINITY; side], vec![0.0_f64; side]);
        for state in states.chunks(side) {
            for (i, z) in state.iter().enumerate() {
                (low[i], high[i]) = (low[i].min(*z), high[i].max(*z));
                assert!(*z >= ends[i] - 1e-5 && *z <= ends[side + i] + 1e-5);
            }
        }
        let width = |low: &[f64], high: &[f64]| low.iter().zip(high).map(|(l, h)| h - l).sum::<f64>();
        let (own, reached) = (width(&ends[..side], &ends[side..]), width(&low, &high));
        assert!(own < 4.0 * reached + 1e-4, "{own} for {reached}");
        for (y, j) in (0..4).flat_map(|y| (0..4).map(move |j| (y, j))) {
            let least = logits.chunks(4).map(|l| l[y] - l[j]).fold(f64::INFINITY, f64::min);
            assert!(leads[4 * y + j] <= least + 1e-5, "{} {least}", leads[4 * y + j]);
        }
    }
}

#[test]
fn a_fixed_box_holds_the_fixed_points_of_its_images() {
    for parametrisation in [Parametrisation::Nemon, Parametrisation::IntervalBounded] {
        let model = model(parametrisation, Splitting::ForwardBackward, 0.1);
        a_fixed_box_holds_its_fixed_points(&model, &uniform([1, 1, 5, 5], 3));
    }
    assert!(model(Parametrisation::WinstonKolter, Splitting::ForwardBackward, 0.1).boxes(0.1).is_none());
    assert!(lben(Splitting::ForwardBackward, 0.1).network().boxes(0.1).is_none());
}

/// With the largest step for which that is known, however large the parameters are, from 0 and from elsewhere.
#[test]
fn plain_iteration_converges_with_the_largest_valid_step() {
    let (start, x, _) = inputs();
    let cell = |parametrisation, factor: f64, step: f64| {
        let config = MonotoneConfig { step, ..config(parametrisation) };
        config.init(5, &Device::default()).unwrap().map(&mut Shake(factor, 40)).cell
    };
    for factor in [1.0, 20.0] {
        let w = entries(&cell(Parametrisation::Nemon, factor, 0.1).weight());
        let lowest = (0..SIDE).map(|i| w[i * SIDE + i]).fold(0.0, f64::min);
        for cell in [
            cell(Parametrisation::Nemon, factor, 1.0 / (1.0 - lowest)),
            cell(Parametrisation::IntervalBounded, factor, 1.0),
        ] {
            let bound = cell.bind(&x);
            let map: &dyn FixedPointMap = &*bound;
            let solver = SolverConfig::picard(5000, 1.0).with_tolerance(1e-6);
            let found = [start.zeros_like(), start.clone() * 10.0]
                .map(|start| solve(map, start, &solver).choose(StateChoice::Best));
            let [here, there] = &found;
            assert!(relative_error(map.apply(here).tensor(), here.tensor()) < 1e-5, "{factor}");
            assert!(relative_error(here.tensor(), there.tensor()) < 1e-3, "{factor}");
        }
    }
}

/// W in float64, with parameters a hundred times as large as at the start.
fn large(parametrisation: Parametrisation) -> (Vec<f64>, Vec<f64>) {
    let model = config(parametrisation).init(8, &Device::default()).unwrap().map(&mut Shake(100.0, 60));
    let d = match &model.cell {
        MonotoneCell::Nemon(w) => w.d.val(),
        MonotoneCell::IntervalBounded(w) => w.d.val(),
        _ => unreachable!("one with a scale"),
    };
    let exact = model.cell.clone().map(&mut Nudge { id: None, step: 0.0 });
    (entries(&exact.weight()), scale(&entries(&d)))
}

/// Λ of d.
pub fn scale(d: &[f64]) -> Vec<f64> {
    d.iter().map(|d| 1.0 / 3.0 + 2.0 / 3.0 / (1.0 + (-d).exp())).collect()
}

#[test]
fn a_nemon_contracts_in_its_norm_whatever_its_parameters_are() {
    let (w, scale) = large(Parametrisation::Nemon);
    for i in 0..SIDE {
        let others = (0..SIDE).filter(|j| *j != i);
        let sum: f64 = others.map(|j| w[i * SIDE + j].abs() * scale[i] / scale[j]).sum();
        // 1 − m is 0.
        assert!(w[i * SIDE + i] + sum <= 1e-9, "row {i}: {}", w[i * SIDE + i] + sum);
    }
    assert!(w.iter().any(|entry| *entry < -10.0));
}

#[test]
fn interval_bounded_weights_have_a_small_spectral_radius_of_their_sizes() {
    let (w, _) = large(Parametrisation::IntervalBounded);
    let mut v = [1.0; SIDE];
    let mut growth = 0.0;
    for _ in 0..2000 {
        let next: Vec<f64> =
            (0..SIDE).map(|i| (0..SIDE).map(|j| w[i * SIDE + j].abs() * v[j]).sum()).collect();
        growth = next.iter().sum::<f64>() / v.iter().sum::<f64>();
        let largest = next.iter().copied().fold(0.0, f64::max);
        v.iter_mut().zip(&next).for_each(|(v, next)| *v = next / largest);
    }
    assert!(growth <= 0.6 + 1e-9 && growth > 0.3, "{growth}");
}

/// Λ²(I − W) is what Revay et al. write, and logits of two images differ by no more than γ times the images, whatever is trained:
/// of random pairs and of those that a search along the gradient finds, which come near it.
#[test]
fn a_bounded_network_keeps_its_bound_whatever_its_parameters_are() {
    let network = lben(Splitting::ForwardBackward, 0.1).map(&mut Nudge { id: None, step: 0.0 });
    let cell = network.network().cell;
    let (v, s) = (network.cell.v.val(), network.cell.s.val());
    let (u, g) = (network.stem.injection.weight.val(), network.head.classifier.weight.val());
    let roots = scale(&entries(&network.cell.d.val()));
    let roots = Tensor::<2>::from_data(TensorData::new(roots, [SIDE, 1]), (&Device::default(), DType::F64));
    let squares = roots.clone() * roots.clone();
    let eye = double(Tensor::<2>::eye(SIDE, &Device::default()));
    let left = (eye.clone() - cell.weight()) * squares.clone();
    let both = |x: Tensor<2>| x * roots.clone() * roots.clone().transpose();
    let lu = u * squares.clone();
    let right = (g.clone().transpose().matmul(g) + lu.clone().matmul(lu.transpose())) * 0.25
        + both(v.clone().transpose().matmul(v) * 0.5 + s.clone() - s.transpose() + eye);
    assert!(relative_error(&left, &right) < 1e-12);

    let deployment = Deployment {
        solver: SolverConfig::picard(3000, 1.0).with_tolerance(1e-7),
        backward: SolverConfig::picard(3000, 1.0).with_tolerance(1e-6),
        ..Deployment::exact()
    };
    let mut largest = 0.0_f64;
    for (factor, step) in [(1.0, 0.1), (3.0, 0.01)] {
        let config = LbenConfig { step, ..bounded() };
        let model = config.init(6, &Device::default()).unwrap().map(&mut Shake(factor, 80));
        let victim = Victim::new(&model, &deployment, Readout::final_state(), Estimator::exact());
        let count = 1000;
        let images = uniform([count, 1, 5, 5], 31);
        let mut others = images.clone() + normal([count, 1, 5, 5], 32) * 0.1;
        let answers = |images: &Tensor<4>| equipoise::attack::Classifier::logits(&victim, images);
        let own = answers(&images);
        for round in 0..12 {
            let (a, b) = (entries(&answers(&others)), entries(&own));
            let (x, y) = (entries(&others), entries(&images));
            let distance =
                |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            for k in 0..count {
                let moved = distance(&a[4 * k..4 * k + 4], &b[4 * k..4 * k + 4]);
                // Of normalised images.
                let apart = distance(&x[25 * k..25 * k + 25], &y[25 * k..25 * k + 25]) / 0.4;
                assert!(moved <= 2.0 * apart + 1e-4, "{factor}, round {round}: {moved} for {apart}");
                largest = largest.max(moved / apart);
            }
            let away = Away { from: own.clone() };
            let gradient = victim.gradient(&others, &away).1;
            // Where no unit that is read is at work the gradient is 0.
            let length = (gradient.clone() * gradient.clone()).flatten::<2>(1, 3).sum_dim(1).sqrt() + 1e-12;
            others = images.clone() + gradient / length.reshape([count, 1, 1, 1]) * 0.1;
        }
    }
    assert!(largest > 0.7, "{largest} of 2 says little");

    struct Away {
        from: Tensor<2>,
    }
    impl Objective for Away {
        fn values(&self, logits: Tensor<2>) -> Tensor<1> {
            let from = if logits.is_autodiff() { self.from.clone().autodiff() } else { self.from.clone() };
            let apart = logits - from;
            (apart.clone() * apart).sum_dim(1).squeeze_dim::<1>(1)
        }
    }
}

/// As model files, as PyTorch's, as safetensors, and from arrays with letters.
#[test]
fn files_come_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::default();
    let architectures: [(Architecture, &[(&str, &str)]); 3] = [
        (config(Parametrisation::Nemon).into(), &[("T", "t"), ("d", "d")]),
        (config(Parametrisation::IntervalBounded).into(), &[("M", "m"), ("d", "d")]),
        (bounded().into(), &[("V", "v"), ("S", "s"), ("d", "d")]),
    ];
    for (architecture, letters) in architectures {
        let model: Box<dyn Model> = architecture.init(3, &device).unwrap();
        let weights = model.weights();
        let metadata = Metadata {
            format_version: FORMAT_VERSION,
            name: "m".into(),
            architecture: architecture.clone(),
            deployment: Deployment::exact(),
            training: serde_json::Value::Null,
            data: String::new(),
        };
        let [own, tensors, pth, npz] = ["own.safetensors", "bare.safetensors", "bare.pth", "bare.npz"]
            .map(|name| folder.path().join(name));
        ModelFile { metadata, model: model.clone() }.write(&own).unwrap();
        let read = ModelFile::read(&own, &device).unwrap();
        assert_eq!((read.model.weights(), &read.metadata.architecture), (weights.clone(), &architecture));
        export_safetensors(&*model, &tensors).unwrap();
        export_pytorch(&*model, &pth).unwrap();
        let usual = [
            ("U", "injection.weight".to_owned()),
            ("u", "injection.bias".to_owned()),
            ("C", "classifier.weight".to_owned()),
            ("c", "classifier.bias".to_owned()),
        ];
        let of_cell = letters.iter().map(|(letter, name)| (*letter, format!("fullstage.{name}")));
        let names: Vec<(&str, String)> = usual.into_iter().chain(of_cell).collect();
        assert_eq!(names.len(), weights.len());
        let arrays: Vec<_> = names
            .iter()
            .map(|(letter, name)| {
                let entry = &weights[name];
                (
                    *letter,
                    equipoise_dataset::NpyArray::F32 { shape: entry.shape.clone(), values: &entry.values },
                )
            })
            .collect();
        equipoise_dataset::write_npz(&npz, &arrays).unwrap();
        for path in [tensors, pth, npz] {
            let deployment = Deployment::default();
            let configuration = Configuration { architecture: architecture.clone(), deployment };
            let imported = import(&path, configuration, "m", &ImportOptions::default(), &device).unwrap();
            assert_eq!(imported.model.model.weights(), weights, "{}", path.display());
        }
    }
}

/// Training leaves each of a bounded network's parameters where stem, cell and head read it.
#[test]
fn a_step_of_training_keeps_a_bounded_network_of_one_piece() {
    let bounded = lben(Splitting::ForwardBackward, 0.1);
    let (images, objective) = (uniform([3, 1, 5, 5], 3), CrossEntropy { labels: vec![0, 1, 3] });
    let counter = WorkCounter::default();
    let pass = |model: &dyn Model| {
        model
            .training_pass(&splitting::converged(), &StepOptions::default(), &images, &objective, &counter)
            .unwrap()
    };
    let mut optimizer = burn::optim::AdamConfig::new().init();
    let step = pass(&bounded);
    assert_eq!(step.parameters.len(), 7);
    let before = entries(&step.values).iter().sum::<f64>();
    let stepped = equipoise::architecture::Parameters::stepped(
        &bounded,
        &mut optimizer,
        1e-2,
        step.parameters,
        step.moments,
    );
    let stepped: &Lben = stepped.downcast().unwrap();
    assert!(entries(&pass(stepped).values).iter().sum::<f64>() < before);
    let MonotoneCell::Lben(cell) = stepped.network().cell else { panic!("its own kind") };
    for (own, other) in
        [(&cell.u, &stepped.stem.injection.weight), (&cell.g, &stepped.head.classifier.weight)]
    {
        assert_eq!((own.id, entries(&own.val())), (other.id, entries(&other.val())));
    }
    assert!(relative_error(&cell.u.val(), &bounded.stem.injection.weight.val()) > 1e-3);
}

#[test]
fn sizes_that_make_no_sense_are_named() {
    let bad = MonotoneConfig { monotonicity: 1.0, ..config(Parametrisation::IntervalBounded) };
    assert_eq!(bad.validate().unwrap_err().field, "monotonicity");
    for (config, field) in [
        (LbenConfig { hidden: 0, ..bounded() }, "hidden"),
        (LbenConfig { lipschitz: 0.0, ..bounded() }, "lipschitz"),
        (LbenConfig { lipschitz: f64::NAN, ..bounded() }, "lipschitz"),
        (LbenConfig { monotonicity: -1.0, ..bounded() }, "monotonicity"),
        (LbenConfig { image: [3, 5, 5], ..bounded() }, "normalisation"),
    ] {
        assert_eq!(config.validate().unwrap_err().field, field);
    }
    // Files of before do not say it.
    let written = serde_json::to_value(config(Parametrisation::WinstonKolter)).unwrap();
    assert!(written.get("parametrisation").is_none());
    let written = serde_json::to_value(config(Parametrisation::IntervalBounded)).unwrap();
    assert_eq!(written["parametrisation"], "interval-bounded");
}
