//! Diagnostics on a linear DEQ, where every answer is known, and on a small MDEQ: numbers, work, batches.

use std::cell::Cell;
use std::ops::ControlFlow;

use crate::common::{entries, uniform};
use equipoise::architecture::Architecture;
use equipoise::attack::{Attack, Budget, Classifier, Examples, Norm, Pgd, PgdConfig, Step};
use equipoise::batch::{predictions, to_vec};
use equipoise::diagnose::{self, Case, DiagnoseError, Measured, Settings, SpectrumConfig};
use equipoise::evaluate::{Observer, Points, Quiet};
use equipoise::gradient::Estimator;
use equipoise::model::deq::Deq;
use equipoise::model::init::Init;
use equipoise::model::linear::{FlattenStem, LinearHead};
use equipoise::model::mdeq::{Mdeq, MdeqConfig};
use equipoise::problems::{LinearCell, linear_deq};
use equipoise::readout::{Readout, Tail};
use equipoise::solve::SolverConfig;
use equipoise::victim::{Deployment, Victim};
use equipoise_record::{Share, View};

const DIM: usize = 16;
const COUNT: usize = 7;

type Linear = Deq<FlattenStem, LinearCell, LinearHead>;

fn device() -> burn::tensor::Device {
    burn::tensor::Device::default()
}

fn linear(contraction: f64) -> Linear {
    linear_deq(DIM, 4, contraction, &mut Init::new(11, &device()))
}

fn deployed(solver: SolverConfig) -> Deployment {
    Deployment { solver, ..Deployment::exact() }
}

/// Images of DIM pixels, labelled as the model answers but for every third.
fn points(victim: &dyn Classifier, shape: [usize; 3], count: usize) -> Points {
    let images = uniform([count, shape[0], shape[1], shape[2]], 3);
    let answers = predictions(&victim.logits(&images)).into_iter().enumerate();
    let labels = answers.map(|(k, answer)| if k % 3 == 2 { 0 } else { answer.unwrap() }).collect();
    Points::new((10..10 + count).collect(), images, labels).unwrap()
}

fn settings(eps: f64, batch_size: usize) -> Settings {
    Settings { budget: Budget::new(Norm::Linf, eps).unwrap(), seed: 5, batch_size }
}

fn with_case<T>(
    model: &Linear,
    deployment: &Deployment,
    batch_size: usize,
    run: impl FnOnce(&Case<'_>) -> T,
) -> T {
    let victim = Victim::ready_made(model, deployment);
    let points = points(&victim, [1, 4, 4], COUNT);
    run(&Case::new(&victim, &points, settings(0.1, batch_size), &Quiet).unwrap())
}

/// A of the model, in float64.
fn matrix(model: &Linear) -> Vec<Vec<f64>> {
    entries(&model.cell.matrix.val()).chunks(DIM).map(<[f64]>::to_vec).collect()
}

fn times(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let entry = |i: usize, j: usize| (0..DIM).map(|k| a[i][k] * b[k][j]).sum();
    (0..DIM).map(|i| (0..DIM).map(|j| entry(i, j)).collect()).collect()
}

fn frobenius(a: &[Vec<f64>]) -> f64 {
    a.iter().flatten().map(|x| x * x).sum::<f64>().sqrt()
}

/// ρ(A) = lim ‖A^(2^m)‖^(1/2^m) (Gelfand), by repeated squaring.
fn spectral_radius(model: &Linear) -> f64 {
    let mut power = matrix(model);
    let mut log = 0.0;
    for m in 0..40 {
        let size = frobenius(&power);
        log += size.ln() / 2f64.powi(m);
        power.iter_mut().flatten().for_each(|x| *x /= size);
        power = times(&power, &power);
    }
    log.exp()
}

#[test]
fn residuals_of_a_linear_contraction_decay_as_its_powers() {
    let model = linear(0.7);
    let deployment = deployed(SolverConfig::picard(5, 1.0).with_tolerance(1e-2));
    let horizon = 9;
    let Measured { result, work } =
        with_case(&model, &deployment, 3, |case| diagnose::residual(&model, &deployment, case, horizon))
            .unwrap();
    assert_eq!((result.horizon, result.tolerance), (horizon, 1e-2));
    assert_eq!(work.cell_evaluations, (2 * COUNT * (horizon + 1)) as u64);
    assert_eq!(work.vjps, 0);

    // g(z_t) = Aᵗ b and f(z_t) = Σ_{s ≤ t} Aˢ b, from z_0 = 0.
    let a = matrix(&model);
    let apply = |x: &[f64]| a.iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect();
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut expected = vec![Vec::new(); horizon];
    let images: Vec<f64> = entries(&uniform([COUNT, 1, 4, 4], 3));
    for image in images.chunks(DIM) {
        let (mut residual, mut value) = (image.to_vec(), image.to_vec());
        for expected in &mut expected {
            residual = apply(&residual);
            value.iter_mut().zip(&residual).for_each(|(v, r)| *v += r);
            expected.push(norm(&residual) / norm(&value));
        }
    }
    let clean = &result.views[0];
    assert_eq!(clean.view, View::Clean);
    for (t, (spread, mut expected)) in clean.by_iterate.iter().zip(expected.clone()).enumerate() {
        expected.sort_by(f64::total_cmp);
        let median = spread.median.unwrap();
        // The residual is a difference of float32 numbers.
        let near = |a: f64, b: f64| (a - b).abs() < 1e-3 * b + 1e-7;
        assert!(near(median, expected[COUNT / 2]), "t {}: {median} {expected:?}", t + 1);
        // Percentiles of seven numbers stand 0.6 from the ends.
        let low = expected[0] + 0.6 * (expected[1] - expected[0]);
        let high = expected[5] + 0.4 * (expected[6] - expected[5]);
        assert!(near(spread.low.unwrap(), low) && near(spread.high.unwrap(), high), "t {}", t + 1);
    }
    let first: Vec<Option<usize>> =
        (0..COUNT).map(|k| (0..horizon).find(|&t| expected[t][k] < 1e-2).map(|t| t + 1)).collect();
    assert_eq!(clean.never, Share::of(first.iter().map(Option::is_none)));
    for (t, reached) in clean.reached.iter().enumerate() {
        assert_eq!(*reached, Share::of(first.iter().map(|f| f.is_some_and(|f| f <= t + 1))), "t {}", t + 1);
    }
    assert!(first.iter().flatten().count() > 0, "the tolerance is within reach: {expected:?}");
    assert_eq!(clean.steps.finite, first.iter().flatten().count());
}

#[test]
fn the_spectrum_of_a_linear_cell_is_that_of_its_matrix() {
    let model = linear(0.9);
    let deployment = deployed(SolverConfig::broyden(6).with_tolerance(0.0));
    let config = SpectrumConfig { limit: 300, tolerance: 1e-4, probes: 400 };
    let Measured { result, work } =
        with_case(&model, &deployment, 4, |case| diagnose::spectrum(&model, &deployment, case, &config))
            .unwrap();
    let radius = spectral_radius(&model);
    let squared = frobenius(&matrix(&model)).powi(2);
    let mut products = 0.0;
    for view in &result.views {
        assert_eq!((view.converged.correct, view.converged.count), (COUNT, COUNT));
        for found in [view.radius.low, view.radius.high] {
            assert!((found.unwrap() / radius - 1.0).abs() < 1e-2, "{found:?} {radius}");
        }
        assert_eq!(view.below_one.correct, COUNT);
        // 400 probes: four standard errors.
        let error = view.relative_error.high.unwrap();
        assert!(error > 0.0 && error < 0.1, "{error}");
        let found = view.squared_norm.median.unwrap();
        assert!((found / squared - 1.0).abs() < 4.0 * error, "{found} {squared}");
        assert!(view.iterations.high.unwrap() < 300.0);
        products += view.iterations.median.unwrap();
    }
    assert!(products > 0.0);
    // One solve of 7 evaluations and one linearisation for each image.
    assert_eq!(work.cell_evaluations, (2 * COUNT * 8) as u64);
    let probes = (2 * COUNT * config.probes) as u64;
    let least = probes + 2 * COUNT as u64 * 2;
    assert!(work.vjps > least && work.vjps < probes + (2 * COUNT * config.limit) as u64, "{}", work.vjps);
}

#[test]
fn a_power_iteration_that_is_cut_short_says_so() {
    let model = linear(0.9);
    let deployment = deployed(SolverConfig::broyden(6));
    let config = SpectrumConfig { limit: 2, tolerance: 1e-12, probes: 2 };
    let Measured { result, work } =
        with_case(&model, &deployment, 4, |case| diagnose::spectrum(&model, &deployment, case, &config))
            .unwrap();
    for view in &result.views {
        assert_eq!(view.converged.correct, 0);
        assert_eq!((view.radius.median, view.radius.finite), (None, 0));
        assert!(view.unconverged_growth.median.unwrap() > 0.0);
    }
    assert_eq!(work.vjps, (2 * COUNT * (2 + 2)) as u64);
}

#[test]
fn converged_estimators_agree_with_the_true_gradient() {
    let model = linear(0.5);
    let deployment = Deployment {
        backward: SolverConfig::broyden(18).with_tolerance(1e-7),
        ..deployed(SolverConfig::broyden(18).with_tolerance(1e-6))
    };
    let Measured { result, .. } =
        with_case(&model, &deployment, 7, |case| diagnose::alignment(&model, &deployment, case)).unwrap();
    let at = |readout: &str, estimator: &str, view: View| {
        let found = result
            .cosines
            .iter()
            .find(|c| c.readout == readout && c.estimator == estimator && c.view == view);
        found.unwrap_or_else(|| panic!("{readout} {estimator}"))
    };
    for view in [View::Clean, View::Attacked] {
        let exact = at("final", "exact", view);
        assert!(exact.cosine.low.unwrap() > 0.9999, "{exact:?}");
        assert_eq!((exact.cosine.finite, exact.zero), (COUNT, 0));
    }
    // One application from z_1 sees one power of A, the true gradient of the fixed point all of them.
    let early = at("final", "unrolled:state=1,lead=1,steps=0,damping=0.5", View::Clean);
    assert!(early.cosine.median.unwrap() < 0.9999, "{early:?}");
    // Behind early(t), only the states that are read.
    assert!(result.cosines.iter().all(|c| match c.t {
        Some(t) => c.readout == "final" || c.readout == format!("early({t})"),
        None => true,
    }));
}

#[test]
fn the_loss_rises_along_the_gradient() {
    let model = linear(0.5);
    let deployment = deployed(SolverConfig::broyden(12).with_tolerance(1e-6));
    let victim = Victim::ready_made(&model, &deployment);
    let points = points(&victim, [1, 4, 4], COUNT);
    let case = Case::new(&victim, &points, settings(0.02, 3), &Quiet).unwrap();
    let named = [("exact".to_owned(), &victim as &dyn equipoise::attack::WhiteBox)];
    let Measured { result, .. } = diagnose::landscape(&named, &case).unwrap();
    let names: Vec<&str> = result.lines.iter().map(|line| line.direction.as_str()).collect();
    assert_eq!(names, ["gradient exact", "random"]);
    let [gradient, random] = result.lines.as_slice() else { panic!() };
    assert_eq!((gradient.rises.correct, gradient.rises.count), (COUNT, COUNT));
    for line in [gradient, random] {
        let origin = &line.points[4];
        assert_eq!((origin.distance, origin.change.median), (0.0, Some(0.0)));
        let right = Share::of(
            predictions(&victim.logits(points.images()))
                .iter()
                .zip(points.labels())
                .map(|(answer, label)| *answer == Some(*label)),
        );
        assert_eq!(origin.correct, right);
    }
    let at = |line: &equipoise_record::Line, k: usize| line.points[k].change.median.unwrap();
    assert!(at(gradient, 8) > at(random, 8) && at(gradient, 12) > at(gradient, 8));
    assert!(at(gradient, 0) < 0.0);
}

#[test]
fn accuracies_and_sweeps_agree_where_they_measure_the_same() {
    let model = linear(0.8);
    let deployment = deployed(SolverConfig::broyden(4));
    with_case(&model, &deployment, 4, |case| {
        let accuracy = diagnose::accuracy(&model, &deployment, case).unwrap();
        assert_eq!(accuracy.result.by_iterate.len(), 4);
        let steps = diagnose::sweep_solver_steps(&model, &deployment, case).unwrap().result;
        assert_eq!(steps.iter().map(|point| point.at).collect::<Vec<_>>(), [1.0, 2.0, 4.0, 8.0, 16.0]);
        let tolerances = diagnose::sweep_tolerance(&model, &deployment, case).unwrap().result;
        assert_eq!(tolerances.iter().map(|point| point.at).collect::<Vec<_>>(), [1e-1, 1e-2, 1e-3, 1e-4]);
        // Both contain the deployed setting.
        for point in [&steps[2], &tolerances[2]] {
            assert_eq!(point.clean, accuracy.result.clean);
            assert_eq!(point.transferred, Some(accuracy.result.robust));
            assert!(point.robust.correct <= accuracy.result.robust.correct);
        }
        // z_t of a longer solve is z_t.
        let victim = Victim::new(&model, &deployment, Readout::early(2), Estimator::exact());
        let answers = predictions(&victim.logits(case.images(View::Clean)));
        let labels = points(&Victim::ready_made(&model, &deployment), [1, 4, 4], COUNT);
        let right = answers.iter().zip(labels.labels()).map(|(a, y)| *a == Some(*y));
        assert_eq!(accuracy.result.by_iterate[1].clean, Share::of(right));
    });
}

#[test]
fn the_curve_over_eps_ends_at_nothing_or_at_the_largest() {
    let model = linear(0.8);
    let deployment = deployed(SolverConfig::broyden(6));
    let victim = Victim::ready_made(&model, &deployment);
    let points = points(&victim, [1, 4, 4], COUNT);
    let case = Case::new(&victim, &points, settings(0.02, 4), &Quiet).unwrap();
    let curve = diagnose::sweep_eps(&victim, &case).unwrap().result;
    let last = curve.last().unwrap();
    assert_eq!(last.robust.correct, 0, "a linear model has a class for every corner: {curve:?}");
    assert!(curve[..curve.len() - 1].iter().all(|point| point.robust.correct > 0));
    for pair in curve.windows(2) {
        assert!((pair[1].at / pair[0].at - 2.0).abs() < 1e-9 || pair[1].at == 1.0);
    }
    assert_eq!(curve[0].at, 0.005);
    // The point at ε is PGD-10 as anybody would run it.
    let budget = case_budget(0.02);
    let attack = Pgd::new(PgdConfig::default()).unwrap();
    let examples = Examples {
        images: points.images(),
        labels: points.labels(),
        indices: points.indices(),
        seed: 5,
        start: 0,
    };
    let attacked = predictions(&victim.logits(&attack.run(&victim, &examples, &budget).images));
    let clean = predictions(&victim.logits(points.images()));
    let robust = attacked
        .iter()
        .zip(&clean)
        .zip(points.labels())
        .map(|((attacked, clean), label)| *clean == Some(*label) && *attacked == Some(*label));
    assert_eq!(curve[2].robust, Share::of(robust));
}

fn case_budget(eps: f64) -> Budget {
    Budget::new(Norm::Linf, eps).unwrap()
}

/// A small MDEQ with weights large enough that its states differ.
fn mdeq() -> (Mdeq, Deployment) {
    let config = MdeqConfig {
        channels: vec![4, 8],
        head_channels: vec![2, 2],
        final_channels: 8,
        groups: 2,
        expansion: 2,
        image: [1, 8, 8],
        ..MdeqConfig::small()
    };
    let model = config.init(4, &device()).unwrap();
    let tail = Tail { lead: 1, steps: 2, damping: 0.5 };
    (model, Deployment { tail, ..deployed(SolverConfig::broyden(4)) })
}

#[test]
fn nothing_depends_on_the_batch() {
    let (model, deployment) = mdeq();
    let everything = |batch_size: usize| {
        let victim = Victim::ready_made(&model, &deployment);
        let points = points(&victim, [1, 8, 8], 5);
        let case = Case::new(&victim, &points, settings(0.1, batch_size), &Quiet).unwrap();
        let attack = victim.work();
        let config = SpectrumConfig { limit: 12, ..SpectrumConfig::default() };
        let named = [("exact".to_owned(), &victim as &dyn equipoise::attack::WhiteBox)];
        let names: Vec<String> = (0..10).map(|k| k.to_string()).collect();
        (
            attack,
            to_vec(case.images(View::Attacked).clone()),
            diagnose::residual(&model, &deployment, &case, 6).unwrap(),
            diagnose::accuracy(&model, &deployment, &case).unwrap(),
            diagnose::alignment(&model, &deployment, &case).unwrap(),
            diagnose::landscape(&named, &case).unwrap(),
            diagnose::spectrum(&model, &deployment, &case, &config).unwrap(),
            (
                diagnose::sweep_eps(&victim, &case).unwrap(),
                diagnose::sweep_solver_steps(&model, &deployment, &case).unwrap(),
                diagnose::sweep_tolerance(&model, &deployment, &case).unwrap(),
            ),
            diagnose::gallery(&model, &deployment, &case, &names, 3).unwrap(),
        )
    };
    let whole = everything(5);
    for batch_size in [2, 1] {
        let parts = everything(batch_size);
        assert_eq!(parts.0, whole.0, "{batch_size}");
        assert_eq!(parts.1, whole.1, "{batch_size}");
        assert_eq!(parts.2, whole.2, "{batch_size}");
        assert_eq!(parts.3, whole.3, "{batch_size}");
        assert_eq!(parts.4, whole.4, "{batch_size}");
        assert_eq!(parts.5, whole.5, "{batch_size}");
        assert_eq!(parts.6, whole.6, "{batch_size}");
        assert_eq!(parts.7, whole.7, "{batch_size}");
        assert_eq!(parts.8, whole.8, "{batch_size}");
    }
}

#[test]
fn work_is_counted_per_example() {
    let (model, deployment) = mdeq();
    let victim = Victim::ready_made(&model, &deployment);
    let points = points(&victim, [1, 8, 8], 5);
    let case = Case::new(&victim, &points, settings(0.1, 2), &Quiet).unwrap();
    let tight = Deployment { solver: deployment.solver.clone().with_tolerance(0.0), ..deployment.clone() };
    let accuracy = diagnose::accuracy(&model, &tight, &case).unwrap();
    // Clean and attacked: 5 evaluations of the solver, and 2 of the tail's 3: the first is the solver's.
    assert_eq!((accuracy.work.cell_evaluations, accuracy.work.vjps), (2 * 5 * (5 + 2), 0));
    let gallery = diagnose::gallery(&model, &tight, &case, &[], 2).unwrap();
    assert_eq!((gallery.work.cell_evaluations, gallery.work.vjps), (2 * 2 * (5 + 2), 0));
    let alignment = diagnose::alignment(&model, &tight, &case).unwrap();
    assert!(alignment.work.vjps > 0);
    // One solve for all estimators. Beyond it: exact 2 (of the tail's 3); unrolled 10, and at each of 4 states 1 and 5; adjoint
    // to t: t; through-solver behind final the tail's 3 and as many as the example's best iterate took, behind early(t): t.
    let per_example = 5 + 2 + 10 + 4 * (1 + 5) + (1 + 2 + 3 + 4) + 3 + (1 + 2 + 3 + 4);
    let victim = Victim::ready_made(&model, &tight);
    let best = |view| victim.forward(case.images(view), 4).trajectory.best().iter().sum::<usize>() as u64;
    let best = best(View::Clean) + best(View::Attacked);
    assert!((2 * 5..=2 * 5 * 4).contains(&best));
    assert_eq!(alignment.work.cell_evaluations, 2 * 5 * per_example + best);
}

#[test]
fn galleries_show_what_was_attacked() {
    let (model, deployment) = mdeq();
    let victim = Victim::ready_made(&model, &deployment);
    let points = points(&victim, [1, 8, 8], 5);
    let case = Case::new(&victim, &points, settings(0.1, 2), &Quiet).unwrap();
    let names: Vec<String> = (0..10).map(|k| k.to_string()).collect();
    let gallery = diagnose::gallery(&model, &deployment, &case, &names, 3).unwrap().result;
    assert_eq!((gallery.shape, gallery.items.len(), gallery.scale), ([1, 8, 8], 3, 5.0));
    let clean = to_vec(case.images(View::Clean).clone());
    for (item, (pixels, index)) in gallery.items.iter().zip(clean.chunks(64).zip(points.indices())) {
        assert_eq!(item.index, *index);
        assert!(item.distance <= 0.1 + 1e-6 && item.distance > 0.0);
        for ((byte, pixel), (shift, moved)) in
            item.clean.iter().zip(pixels).zip(item.perturbation.iter().zip(&item.attacked))
        {
            assert_eq!(*byte, (255.0 * pixel).round() as u8);
            // Grey 127.5 + 5 × change, up to rounding of both.
            let change = f64::from(*moved) - f64::from(*byte);
            assert!((127.5 + 5.0 * change - f64::from(*shift)).abs() <= 6.0, "{change} {shift}");
        }
        assert_eq!(item.clean_answers.by_iterate.len(), 4);
    }
    let text = serde_json::to_string(&gallery).unwrap();
    let back: equipoise_record::Gallery = serde_json::from_str(&text).unwrap();
    for (back, item) in back.items.iter().zip(&gallery.items) {
        assert_eq!((&back.clean, &back.perturbation), (&item.clean, &item.perturbation));
        assert_eq!((&back.attacked, &back.attacked_answers), (&item.attacked, &item.attacked_answers));
    }
    assert_eq!(back.items.len(), 3);
}

#[test]
fn feedforward_networks_have_accuracies_and_images_alone() {
    let architecture = Architecture::named("resnet18").unwrap().for_data([1, 8, 8], 10);
    let network = architecture.with_width(2).unwrap().init(1, &device()).unwrap();
    let deployment = Deployment::exact();
    let victim = network.victim(&deployment, Readout::final_state(), Estimator::exact());
    let points = points(&*victim, [1, 8, 8], 4);
    let case = Case::new(&*victim, &points, settings(0.1, 3), &Quiet).unwrap();
    let accuracy = diagnose::feedforward_accuracy(&*victim, &case).unwrap();
    assert!(accuracy.result.by_iterate.is_empty());
    assert!(accuracy.result.robust.correct <= accuracy.result.clean.correct);
    assert_eq!(accuracy.result.clean.count, 4);
    let gallery = diagnose::feedforward_gallery(&*victim, &case, &[], 9).unwrap().result;
    assert_eq!(gallery.items.len(), 4);
    assert!(gallery.items.iter().all(|item| item.clean_answers.by_iterate.is_empty()));
}

/// Lets work go on for so many steps, and never answers before a batch.
struct Steps {
    left: Cell<usize>,
    taken: Cell<usize>,
}

impl Steps {
    fn new(left: usize) -> Self {
        Self { left: Cell::new(left), taken: Cell::new(0) }
    }
}

impl Observer for Steps {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: &str) {}
    fn step(&self, step: Step) -> ControlFlow<()> {
        assert!(step.done < step.total && (1..=step.examples).contains(&step.standing), "{step:?}");
        assert!(self.left.get() > 0, "a step was taken after the stop");
        self.left.set(self.left.get() - 1);
        self.taken.set(self.taken.get() + 1);
        if self.left.get() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn every_section_stops_within_a_batch() {
    let model = linear(0.8);
    let deployment = deployed(SolverConfig::broyden(4));
    let victim = Victim::ready_made(&model, &deployment);
    let points = points(&victim, [1, 4, 4], COUNT);
    fn case<'a>(
        victim: &Victim<'_>,
        points: &'a Points,
        observer: &'a Steps,
    ) -> Result<Case<'a>, DiagnoseError> {
        Case::new(victim, points, settings(0.1, COUNT), observer)
    }
    let config = SpectrumConfig { limit: 20, tolerance: 0.0, probes: 3 };
    type Section<'a> = &'a dyn Fn(&Case<'_>) -> Result<(), DiagnoseError>;
    let named = [("exact".to_owned(), &victim as &dyn equipoise::attack::WhiteBox)];
    let sections: [(&str, Section<'_>); 5] = [
        ("alignment", &|case| diagnose::alignment(&model, &deployment, case).map(drop)),
        ("landscape", &|case| diagnose::landscape(&named, case).map(drop)),
        ("spectrum", &|case| diagnose::spectrum(&model, &deployment, case, &config).map(drop)),
        ("sweep over steps", &|case| diagnose::sweep_solver_steps(&model, &deployment, case).map(drop)),
        ("sweep over eps", &|case| diagnose::sweep_eps(&victim, case).map(drop)),
    ];
    // The attack itself: ten steps on the one batch.
    let whole = Steps::new(usize::MAX);
    case(&victim, &points, &whole).unwrap();
    assert_eq!(whole.taken.get(), 10);
    for stop in [1, 10] {
        let stopped = case(&victim, &points, &Steps::new(stop)).err();
        assert!(matches!(stopped, Some(DiagnoseError::Cancelled)), "step {stop}");
    }
    for (name, section) in sections {
        let whole = Steps::new(usize::MAX);
        section(&case(&victim, &points, &whole).unwrap()).unwrap();
        let steps = whole.taken.get();
        assert!(steps > 20, "{name}: {steps}");
        for stop in [11, steps / 2 + 5, steps] {
            let observer = Steps::new(stop);
            let stopped = section(&case(&victim, &points, &observer).unwrap());
            assert!(matches!(stopped, Err(DiagnoseError::Cancelled)), "{name}, step {stop}");
            assert_eq!(observer.taken.get(), stop, "{name}");
        }
    }
}

#[test]
fn what_cannot_be_diagnosed_is_refused_and_stops_are_heard() {
    struct Impatient;
    impl Observer for Impatient {
        fn stage(&self, _: &str, _: usize) {}
        fn advance(&self, _: usize, _: &str) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let model = linear(0.5);
    let deployment = deployed(SolverConfig::broyden(3));
    let victim = Victim::ready_made(&model, &deployment);
    let good = points(&victim, [1, 4, 4], 2);
    let stopped = Case::new(&victim, &good, settings(0.1, 2), &Impatient).err();
    assert!(matches!(stopped, Some(DiagnoseError::Cancelled)));
    let zero = Case::new(&victim, &good, settings(0.1, 0), &Quiet).err();
    assert!(matches!(zero, Some(DiagnoseError::BatchSize)));
    let strange = Points::new(vec![7], uniform([1, 1, 4, 4], 1), vec![4]).unwrap();
    let refused = Case::new(&victim, &strange, settings(0.1, 2), &Quiet).err();
    assert!(matches!(refused, Some(DiagnoseError::Label { index: 7, label: 4, classes: 4 })));
}
