//! The defence against a dense computation of its pseudo-code, and gradients through it against differences and autodiff.

mod autodiff;
mod reference;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use equipoise::attack::{Classifier, WhiteBox};
use equipoise::batch::{Images, select, to_f64};
use equipoise::defence::{Defended, WayBack};
use equipoise::gradient::{BehindDefence, Estimator};
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::cell::Cell;
use equipoise::model::deq::Deq;
use equipoise::model::init::Init;
use equipoise::model::layers::Dense;
use equipoise::model::linear::{FlattenStem, LinearHead};
use equipoise::problems::LinearCell;
use equipoise::readout::{EntropyReduction, Readout, Tail, Variant};
use equipoise::solve::SolverConfig;
use equipoise::victim::{Deployment, Victim};
use equipoise::work::{Work, WorkCounter};

use crate::common::{Nudge, double, entries, inner, normal, relative_error, uniform};
use reference::{Model, Run, Sign, cross_entropy};

const DIM: usize = 12;
const LABELS: [usize; 4] = [1, 0, 3, 2];

/// f(z; x) = tanh(A z + x).
#[derive(Module, Debug)]
struct TanhCell {
    linear: LinearCell,
}

impl Cell for TanhCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        self.linear.apply(state, injection).tanh()
    }

    fn state_dim(&self) -> usize {
        DIM
    }
}

type Tanh = Deq<FlattenStem, TanhCell, LinearHead>;

/// A is so large that no row's absolute sum exceeds `size`; the head is sure of itself.
fn model(size: f64) -> Tanh {
    let mut init = Init::new(7, &Device::default());
    let linear = LinearCell::new(DIM, size, &mut init);
    let classifier = Dense::new(DIM, 5, &mut init);
    let weight = classifier.weight.map(|weight| weight * 4.0);
    Deq {
        stem: FlattenStem {},
        cell: TanhCell { linear },
        head: LinearHead { classifier: Dense { weight, ..classifier } },
    }
}

fn in_float64(model: &Tanh) -> Tanh {
    model.clone().map(&mut Nudge { id: None, step: 0.0 })
}

fn plain(model: &Tanh) -> Model {
    let rows = |matrix: &Param<Tensor<2>>| {
        let width = matrix.dims()[1];
        entries(&matrix.val()).chunks(width).map(<[f64]>::to_vec).collect()
    };
    let Dense { weight, bias } = &model.head.classifier;
    Model { a: rows(&model.cell.linear.matrix), w: rows(weight), b: entries(&bias.val()) }
}

fn images() -> Images {
    uniform([4, 1, 3, 4], 3)
}

/// Every variant, with sizes of A that converge at once, slowly, and not at all.
fn cases() -> Vec<(EntropyReduction, f64)> {
    let sizes = [0.004, 0.9, 6.0];
    let variants = [EntropyReduction::PUBLISHED, EntropyReduction::CORRECTED, shorter()];
    variants.into_iter().flat_map(|defence| sizes.map(|size| (defence.clone(), size))).collect()
}

/// Of steps so short that no input comes to a face of the ball. Ten published ones go four times as far as the ball
/// reaches, and where it binds the sign's slope is lost.
fn shorter() -> EntropyReduction {
    EntropyReduction { beta: 0.2 / 255.0, ..EntropyReduction::PUBLISHED }
}

const TAIL: Tail = Tail { lead: 1, steps: 2, damping: 0.5 };

fn deployment() -> Deployment {
    Deployment { tail: TAIL, ..Deployment::exact() }
}

fn defended<'a>(model: &'a Tanh, defence: &'a EntropyReduction) -> Defended<'a> {
    Defended { model, tail: TAIL, defence, counter: WorkCounter::default() }
}

fn reference(model: &Model, defence: &EntropyReduction, image: &[f64], sign: Sign<'_>) -> Run {
    let corrected = defence.variant == Variant::Corrected;
    model.run(image, (corrected, defence.beta), (TAIL.lead, TAIL.steps, TAIL.damping), sign)
}

fn rows(numbers: &[f64]) -> Vec<Vec<f64>> {
    numbers.chunks(DIM).map(<[f64]>::to_vec).collect()
}

fn furthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn states_inputs_and_answers_are_those_of_the_pseudo_code() {
    let (mut went_back, mut ended_early) = (0, 0);
    for (defence, size) in cases() {
        let single = model(size);
        let exact = in_float64(&single);
        let dense = plain(&exact);
        // Far from a contraction the rounding of float32 grows with every step.
        let cases = [(&exact, double(images()), 1e-10), (&single, images(), 5e-4)];
        for (model, images, tolerance) in cases.into_iter().take(if size > 1.0 { 1 } else { 2 }) {
            let trace = defended(model, &defence).trace(&images);
            assert_eq!((trace.states.len(), trace.inputs.len()), (8, 4));
            for (row, image) in rows(&to_f64(images.clone())).iter().enumerate() {
                let run = reference(&dense, &defence, image, Sign::Deployed);
                went_back += run.went_back;
                ended_early += run.ended_early;
                let of = |numbers: Vec<f64>| numbers[row * DIM..][..DIM].to_vec();
                for (t, state) in trace.states.iter().enumerate() {
                    let error = furthest(&of(state.numbers()), &run.states[t]);
                    assert!(error < tolerance, "{defence}, {size}, z_{}, image {row}: {error}", t + 1);
                }
                for (s, input) in trace.inputs.iter().enumerate() {
                    let error = furthest(&of(to_f64(input.clone())), &run.inputs[s]);
                    assert!(error < tolerance, "{defence}, {size}, x_{s}, image {row}: {error}");
                }
                let logits = to_f64(select(&trace.logits, &[row]));
                let error = furthest(&logits, &run.logits);
                assert!(error < 4.0 * tolerance, "{defence}, {size}, logits of image {row}: {error}");
            }
        }
    }
    assert!(went_back > 3 && ended_early > 10, "{went_back} went back, {ended_early} ended early");
}

#[test]
fn a_defence_answers_in_the_place_of_a_readout() {
    let (model, deployment) = (model(0.9), deployment());
    let readout: Readout = EntropyReduction::PUBLISHED.into();
    let victim = Victim::new(&model, &deployment, readout, Estimator::shift());
    let objective = CrossEntropy { labels: LABELS.to_vec() };
    let expected = defended(&model, &EntropyReduction::PUBLISHED).logits(&images());
    let answer = victim.value_and_gradient(&images(), &objective);
    for logits in [victim.logits(&images()), answer.logits] {
        assert_eq!(entries(&logits), entries(&expected));
    }
    assert_eq!(entries(&answer.values), entries(&objective.values(expected.clone())));
    let undefended = Victim::new(&model, &deployment, Readout::final_state(), Estimator::shift());
    assert!(relative_error(&undefended.logits(&images()), &expected) > 1e-3);
}

/// With the defence off, logits and values are the defended ones, and the gradient is the undefended model's.
#[test]
fn off_is_the_gradient_of_the_undefended_model() {
    let (model, deployment) = (model(0.9), deployment());
    let objective = CrossEntropy { labels: LABELS.to_vec() };
    let behind = |readout: Readout, estimator: &str| {
        Victim::new(&model, &deployment, readout, estimator.parse().unwrap())
            .value_and_gradient(&images(), &objective)
    };
    let defence = || Readout::from(EntropyReduction::CORRECTED);
    for method in ["exact", "through-solver", "unrolled:state=3,lead=1,steps=2"] {
        let expected = behind(Readout::final_state(), method);
        for estimator in [format!("off({method})"), method.to_owned()] {
            let found = behind(defence(), &estimator);
            assert_eq!(entries(&found.gradient), entries(&expected.gradient), "{estimator}");
            assert_eq!(entries(&found.logits), entries(&behind(defence(), "shift").logits));
        }
    }
}

/// The loss that an estimator differentiates, of one image.
fn loss(run: &Run, weights: Option<&[f64]>, label: usize) -> f64 {
    match weights {
        None => cross_entropy(&run.logits, label),
        Some(weights) => {
            let losses = run.at_segments.iter().map(|logits| cross_entropy(logits, label));
            losses.zip(weights).map(|(loss, weight)| weight * loss).sum()
        }
    }
}

/// Each estimator against central differences of the function that it is the derivative of: `shift` and `lock-in` of the
/// deployed one with its signs where they are, `smooth` of the one with the slope in their place.
#[test]
fn gradients_through_the_defence_meet_central_differences() {
    // A specification, weights of the segments, and c.
    type Way = (&'static str, Option<[f64; 4]>, Option<f64>);
    let ways: [Way; 7] = [
        ("shift", None, None),
        ("smooth(0.1)", None, Some(0.1)),
        ("smooth(1)", None, Some(1.0)),
        ("smooth(10)", None, Some(10.0)),
        ("lock-in(1,0,0,0)", Some([1.0, 0.0, 0.0, 0.0]), None),
        ("lock-in(0.25,0.25,0.25,0.25)", Some([0.25; 4]), None),
        ("lock-in(0.5,0,2,0,smooth(1))", Some([0.5, 0.0, 2.0, 0.0]), Some(1.0)),
    ];
    let images = double(images());
    let objective = CrossEntropy { labels: LABELS.to_vec() };
    for (defence, size) in cases() {
        let model = in_float64(&model(size));
        let dense = plain(&model);
        for (spec, weights, c) in &ways {
            let estimator: Estimator = spec.parse().unwrap();
            let readout = Readout::from(defence.clone());
            let deployment = deployment();
            assert!(estimator.check_behind(&readout, &deployment.solver).is_ok());
            let victim = Victim::new(&model, &deployment, readout, estimator);
            let gradient = rows(&entries(&victim.value_and_gradient(&images, &objective).gradient));
            let directions = rows(&entries(&double(normal([4, 1, 3, 4], 5))));
            for (row, image) in rows(&entries(&images)).iter().enumerate() {
                let base = reference(&dense, &defence, image, Sign::Deployed);
                let sign = match c {
                    None => Sign::Held(&base.slopes),
                    Some(c) => Sign::Smooth(&base.slopes, *c),
                };
                let moved = |step: f64| {
                    let image: Vec<f64> =
                        image.iter().zip(&directions[row]).map(|(x, d)| x + step * d).collect();
                    let run = reference(&dense, &defence, &image, sign);
                    loss(&run, weights.as_ref().map(|weights| &weights[..]), LABELS[row])
                };
                let step = 1e-6;
                let measured = (moved(step) - moved(-step)) / (2.0 * step);
                let predicted: f64 = gradient[row].iter().zip(&directions[row]).map(|(g, d)| g * d).sum();
                let scale = gradient[row].iter().map(|g| g * g).sum::<f64>().sqrt();
                let error = (measured - predicted).abs() / scale;
                assert!(error < 1e-4, "{defence} {spec} {size}, image {row}: {measured} {predicted} {scale}");
            }
        }
    }
}

/// The slope of the smoothed sign is felt where no clip binds.
#[test]
fn smooth_is_not_shift() {
    let (model, deployment) = (in_float64(&model(0.9)), deployment());
    let objective = CrossEntropy { labels: LABELS.to_vec() };
    let gradient = |spec: &str| {
        let victim = Victim::new(&model, &deployment, shorter().into(), spec.parse().unwrap());
        victim.value_and_gradient(&double(images()), &objective).gradient
    };
    assert!(relative_error(&gradient("smooth(1)"), &gradient("shift")) > 1e-4);
    assert!(relative_error(&gradient("smooth(1000000)"), &gradient("shift")) < 1e-4);
}

/// Where no sign flips, `shift` is the slope of what is deployed, signs and all.
#[test]
fn shift_is_the_slope_of_the_deployed_function() {
    let images = double(images());
    let objective = CrossEntropy { labels: LABELS.to_vec() };
    for (defence, size) in cases() {
        let model = in_float64(&model(size));
        let deployment = deployment();
        let victim = Victim::new(&model, &deployment, defence.clone().into(), Estimator::shift());
        let gradient = victim.value_and_gradient(&images, &objective).gradient;
        let direction = double(normal([4, 1, 3, 4], 6));
        let step = 1e-8;
        let moved = |step: f64| images.clone() + direction.clone() * step;
        let values = |step: f64| entries(&objective.values(victim.logits(&moved(step)))).iter().sum::<f64>();
        let inputs = |step: f64| defended(&model, &defence).trace(&moved(step)).inputs;
        for (plus, minus) in inputs(step).iter().zip(inputs(-step)) {
            let apart = furthest(&entries(plus), &entries(&minus));
            assert!(apart < 1e-6, "{defence}, {size}: a sign flipped, {apart}");
        }
        let measured = (values(step) - values(-step)) / (2.0 * step);
        let (predicted, scale) = (inner(&gradient, &direction), inner(&gradient, &gradient).sqrt());
        let error = (measured - predicted).abs() / scale;
        assert!(error < 1e-4, "{defence}, {size}: {measured} {predicted}");
    }
}

/// Autodiff through every operation of the published defence, the sign's slope being 0, is `shift`.
#[test]
fn autodiff_through_the_defence_is_shift() {
    // Beyond that the cell saturates, and autodiff divides the 0 of a secant by 0.
    for size in [0.004, 0.9, 3.0] {
        autodiff_is_shift(&in_float64(&model(size)));
    }
}

fn autodiff_is_shift(model: &Tanh) {
    let objective = CrossEntropy { labels: LABELS.to_vec() };
    let deployment = deployment();
    let readout = Readout::from(EntropyReduction::PUBLISHED);
    let victim = Victim::new(model, &deployment, readout, Estimator::shift());
    let found = victim.value_and_gradient(&double(images()), &objective).gradient;
    for (row, &label) in LABELS.iter().enumerate() {
        let image = double(select(&images(), &[row]));
        let tracked = image.clone().autodiff().require_grad();
        let logits = autodiff::logits(model, tracked.clone());
        let objective = CrossEntropy { labels: vec![label] };
        let gradients = objective.values(logits).sum().backward();
        let expected = tracked.grad(&gradients).unwrap();
        let error = relative_error(&select(&found, &[row]), &expected);
        assert!(error < 1e-9, "image {row}: {error}");
    }
}

#[test]
fn work_is_what_is_told() {
    let model = model(0.9);
    let deployment = deployment();
    let objective = CrossEntropy { labels: LABELS.to_vec() };
    let each = |work: Work| (work.cell_evaluations / 4, work.vjps / 4);
    for defence in [EntropyReduction::CORRECTED, shorter()] {
        let answer = defence.work(TAIL.applications());
        for spec in ["shift", "smooth(1)", "lock-in(1,0,0,0)", "lock-in(1,1,1,1,smooth(1))"] {
            let estimator: Estimator = spec.parse().unwrap();
            let Some(BehindDefence::Through(way)) = estimator.behind_defence() else { panic!("{spec}") };
            let beyond = way.work(&defence, &TAIL);
            let victim = Victim::new(&model, &deployment, defence.clone().into(), estimator.clone());
            victim.logits(&images());
            assert_eq!(each(victim.work()), (answer.cell_evaluations, answer.vjps), "{defence}");
            let before = victim.work();
            victim.value_and_gradient(&images(), &objective);
            let (told, found) = (answer + beyond, each(victim.work() - before));
            let told = (told.cell_evaluations, told.vjps);
            // Where the best state is not the last, and where the ball binds, there is less to pull back.
            match defence.variant {
                Variant::Published => assert_eq!(found, told, "{defence} {spec}"),
                Variant::Corrected => {
                    assert!(found.0 <= told.0 && found.1 <= told.1, "{defence} {spec}: {found:?} {told:?}");
                }
            }
        }
    }
}

#[test]
fn gradients_that_do_not_belong_are_refused_in_one_line() {
    let solver = SolverConfig::default();
    let refused = |spec: &str, readout: &str| {
        let (estimator, readout): (Estimator, Readout) = (spec.parse().unwrap(), readout.parse().unwrap());
        let message = estimator.check_behind(&readout, &solver).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    for spec in ["exact", "through-solver", "ensemble(exact,through-solver)"] {
        let message = refused(spec, "entropy-reduction");
        assert!(message.contains("does not go through") && message.contains("shift"), "{message}");
        assert!(message.contains(&format!("off({spec})")), "{message}");
    }
    for spec in ["shift", "smooth(1)", "lock-in(1,0,0,0)", "off(exact)", "ensemble(shift,exact)"] {
        for readout in ["final", "early(3)"] {
            assert!(refused(spec, readout).contains("for a model behind a defence"));
        }
    }
    let message = refused("lock-in(1,0)", "entropy-reduction");
    assert!(message.contains("2 weights") && message.contains("4 segments"), "{message}");
    assert_eq!(Estimator::truth(&"entropy-reduction".parse().unwrap()), Estimator::shift());
    assert!(WayBack::SHIFT.check(&EntropyReduction::PUBLISHED).is_ok());
}
