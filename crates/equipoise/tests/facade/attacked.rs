//! Diagnoses that attack anew: distances, targets, work, and the fixed points that there are.

use crate::common::{entries, uniform};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use equipoise::attack::{Budget, Classifier, Norm, WhiteBox};
use equipoise::batch::{predictions, select};
use equipoise::diagnose::{self, Case, Settings};
use equipoise::evaluate::{Points, Quiet};
use equipoise::gradient::Estimator;
use equipoise::loss::TargetMargin;
use equipoise::model::cell::Cell;
use equipoise::model::deq::Deq;
use equipoise::model::init::Init;
use equipoise::model::layers::Dense;
use equipoise::model::linear::{FlattenStem, LinearHead};
use equipoise::problems::linear_deq;
use equipoise::readout::Readout;
use equipoise::solve::SolverConfig;
use equipoise::victim::{Deployment, Victim};
use equipoise_record::View;

const DIM: usize = 16;
const COUNT: usize = 12;
const CLASSES: usize = 4;

fn device() -> Device {
    Device::default()
}

/// Grey images, labelled as the model answers but for the third.
fn grey(victim: &dyn Classifier) -> Points {
    let images = uniform([COUNT, 1, 4, 4], 3) * 0.2 + 0.4;
    let answers = predictions(&victim.logits(&images)).into_iter().enumerate();
    let labels =
        answers.map(|(k, class)| if k == 2 { (class.unwrap() + 1) % CLASSES } else { class.unwrap() });
    Points::new((0..COUNT).collect(), images, labels.collect()).unwrap()
}

fn settings(norm: Norm, eps: f64, batch_size: usize) -> Settings {
    Settings { budget: Budget::new(norm, eps).unwrap(), seed: 5, batch_size }
}

fn deployed(solver: SolverConfig) -> Deployment {
    Deployment { solver, ..Deployment::exact() }
}

/// On a linear model a boundary is a plane, whose distance is the margin over the dual norm of its gradient.
#[test]
fn distances_are_those_of_the_planes() {
    let model = linear_deq(DIM, CLASSES, 0.5, &mut Init::new(11, &device()));
    let deployment = deployed(SolverConfig::broyden(30).with_tolerance(1e-7));
    let truth = Victim::new(&model, &deployment, Readout::final_state(), Estimator::through_solver());
    let points = grey(&truth);
    for norm in [Norm::Linf, Norm::L2] {
        let plane = |row: usize| -> f64 {
            let label = points.labels()[row];
            let image = select(points.images(), &[row]);
            if predictions(&truth.logits(&image)) != [Some(label)] {
                return 0.0;
            }
            let others = (0..CLASSES).filter(|&class| class != label);
            let distances = others.map(|target| {
                let objective = TargetMargin { labels: vec![label], targets: vec![target] };
                let answer = truth.value_and_gradient(&image, &objective);
                norm.to_zero(entries(&answer.values)[0], entries(&answer.gradient).into_iter())
            });
            distances.fold(f64::INFINITY, f64::min)
        };
        let mut expected: Vec<f64> = (0..COUNT).map(plane).collect();
        expected.sort_by(f64::total_cmp);
        // One is wrong when clean.
        let median = expected[6];
        // Four times ε reach every plane, and nowhere the box.
        let eps = expected[COUNT - 1] / 3.0;
        let mut found = Vec::new();
        for batch_size in [5, COUNT] {
            let case = Case::new(&truth, &points, settings(norm, eps, batch_size), &Quiet).unwrap();
            found.push(diagnose::distances(&truth, "through-solver", &case).unwrap());
        }
        assert_eq!(found[0], found[1]);
        let result = &found[0].result;
        let names: Vec<&str> = result.attacks.iter().map(|attack| attack.attack.as_str()).collect();
        assert_eq!(names, ["fab-t-30", "pgd-10 by bisection"]);
        for (attack, slack) in result.attacks.iter().zip([1.05, 1.6]) {
            assert_eq!(
                (attack.found.correct, attack.found.count),
                (COUNT - 1, COUNT - 1),
                "{norm} {attack:?}"
            );
            let found = attack.distance.median.unwrap();
            assert!(
                found > 0.99 * median && found < slack * median,
                "{norm} {}: {found} {median}",
                attack.attack
            );
        }
        let standing = |k: usize| result.curve[k].standing.correct;
        assert_eq!((standing(0), standing(32)), (COUNT - 1, 0), "one is wrong when clean");
        for point in &result.curve {
            let beyond = expected.iter().filter(|&&distance| distance > point.eps).count();
            assert!(point.standing.correct >= beyond, "nothing is nearer than its plane");
        }
        assert!(found[0].work.vjps > 0);
    }
}

#[test]
fn targets_are_reached_where_their_planes_are_within_reach() {
    let model = linear_deq(DIM, CLASSES, 0.5, &mut Init::new(11, &device()));
    let deployment = deployed(SolverConfig::broyden(30).with_tolerance(1e-7));
    let truth = Victim::new(&model, &deployment, Readout::final_state(), Estimator::through_solver());
    let points = grey(&truth);
    let names = ["a", "b", "c", "d"].map(str::to_owned);
    let at = |eps: f64, batch_size: usize| {
        let case = Case::new(&truth, &points, settings(Norm::Linf, eps, batch_size), &Quiet).unwrap();
        diagnose::targets(&truth, "through-solver", &case, &names).unwrap().result
    };
    let (tiny, large) = (at(1e-6, COUNT), at(0.4, COUNT));
    assert_eq!(large, at(0.4, 5));
    assert_eq!((tiny.reached.correct, tiny.reached.count), (0, 3 * (COUNT - 1)));
    assert!(large.reached.correct > COUNT, "{large:?}");
    assert_eq!(large.classes, names);
    let mut images = vec![0; CLASSES];
    let answers = predictions(&truth.logits(points.images()));
    for (answer, &label) in answers.into_iter().zip(points.labels()) {
        images[label] += usize::from(answer == Some(label));
    }
    assert_eq!(large.rows.iter().map(|row| row.images).collect::<Vec<_>>(), images);
    for (class, row) in large.rows.iter().enumerate() {
        assert_eq!(row.reached[class], 0);
        assert!(row.reached.iter().all(|&reached| reached <= row.images));
    }
}

#[test]
fn an_attack_on_the_residual_raises_it_and_sees_no_class() {
    let model = linear_deq(DIM, CLASSES, 0.9, &mut Init::new(11, &device()));
    let deployment = deployed(SolverConfig::picard(6, 1.0).with_tolerance(1e-3));
    let victim = Victim::ready_made(&model, &deployment);
    let points = grey(&victim);
    let at = |batch_size: usize, points: &Points| {
        let case = Case::new(&victim, points, settings(Norm::Linf, 0.3, batch_size), &Quiet).unwrap();
        diagnose::work(&model, &deployment, &case, 40).unwrap()
    };
    let found = at(COUNT, &points);
    assert_eq!(found, at(5, &points));
    let (clean, attacked) = (&found.result.clean, &found.result.attacked);
    let times = attacked.residual.median.unwrap() / clean.residual.median.unwrap();
    assert!(times > 1.3, "{times}");
    assert!(attacked.most >= clean.most && clean.never.correct == 0, "{found:?}");
    assert!(attacked.steps.median.unwrap() >= clean.steps.median.unwrap());
    let patient = deployed(SolverConfig::picard(6, 1.0).with_tolerance(0.0));
    let trajectory = Victim::ready_made(&model, &patient).forward(points.images(), 6).trajectory;
    let mut last: Vec<f64> = trajectory.relative_residuals().iter().map(|series| series[5]).collect();
    last.sort_by(f64::total_cmp);
    assert!((clean.residual.median.unwrap() / ((last[5] + last[6]) / 2.0) - 1.0).abs() < 1e-4);
    // Other labels change nothing.
    let shifted = points.labels().iter().map(|label| (label + 1) % CLASSES).collect();
    let relabelled = Points::new(points.indices().to_vec(), points.images().clone(), shifted).unwrap();
    assert_eq!(at(COUNT, &relabelled).result, found.result);
}

/// f(z; b) = tanh(4 z) + b/100: each entry of z has a fixed point on either side of 0.
#[derive(Module, Debug)]
struct Bistable {
    #[module(skip)]
    dim: usize,
}

impl Cell for Bistable {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        (state * 4.0).tanh() + injection * 0.01
    }

    fn state_dim(&self) -> usize {
        self.dim
    }
}

#[test]
fn fixed_points_are_counted() {
    let deployment = deployed(SolverConfig::picard(8, 1.0));
    let contraction = linear_deq(DIM, CLASSES, 0.5, &mut Init::new(11, &device()));
    let expansion = linear_deq(DIM, CLASSES, 40.0, &mut Init::new(11, &device()));
    let mut init = Init::new(11, &device());
    let bistable = Deq {
        stem: FlattenStem {},
        cell: Bistable { dim: DIM },
        head: LinearHead { classifier: Dense::new(DIM, CLASSES, &mut init) },
    };
    let of = |model: &dyn equipoise::model::equilibrium::Equilibrium, batch_size: usize| {
        let victim = Victim::ready_made(model, &deployment);
        let points = grey(&victim);
        let case = Case::new(&victim, &points, settings(Norm::Linf, 0.1, batch_size), &Quiet).unwrap();
        diagnose::starts(model, &deployment, &case, 60).unwrap().result
    };
    let one = of(&contraction, COUNT);
    for view in &one.views {
        assert_eq!((view.converged.correct, view.converged.count), (8 * COUNT, 8 * COUNT));
        assert_eq!((view.distinct.low, view.distinct.high), (Some(1.0), Some(1.0)));
        assert_eq!((view.several.correct, view.disagree.correct), (0, 0));
        assert_eq!(view.lowest, view.from_zero);
    }
    assert_eq!(one.views[0].view, View::Clean);
    assert_eq!(one.views[0].from_zero.correct, COUNT - 1);
    let many = of(&bistable, COUNT);
    assert_eq!(many, of(&bistable, 5));
    for view in &many.views {
        assert_eq!(view.converged.correct, 8 * COUNT);
        // Of 2¹⁶ fixed points, eight starts find eight.
        assert_eq!(view.distinct.median, Some(8.0));
        assert_eq!(view.several.correct, COUNT);
        assert!(view.disagree.correct > COUNT / 2);
    }
    let none = of(&expansion, COUNT);
    assert!(
        none.views.iter().all(|view| view.converged.correct == 0 && view.distinct.finite == 0),
        "{none:?}"
    );
}
