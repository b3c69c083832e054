//! The readout that draws the number of solver steps: what it answers, and the exact gradient of its mixture.

use crate::common::{double, entries, inner, normal, relative_error, uniform};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, activation};
use equipoise::attack::{Classifier, Expectation, Question, WhiteBox};
use equipoise::batch::{Logits, select, to_vec};
use equipoise::gradient::Estimator;
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::mdeq::{Mdeq, MdeqConfig};
use equipoise::random::Key;
use equipoise::readout::{Readout, Tail};
use equipoise::solve::SolverConfig;
use equipoise::victim::{Deployment, Victim};

const COUNT: usize = 4;

pub(crate) fn tiny() -> Mdeq {
    let config = MdeqConfig {
        channels: vec![8, 8],
        head_channels: vec![2, 4],
        final_channels: 12,
        image: [1, 8, 8],
        ..MdeqConfig::digits()
    };
    config.init(5, &Device::default()).unwrap()
}

pub(crate) struct Double;

impl ModuleMapper for Double {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(double)
    }
}

fn deployments() -> Vec<Deployment> {
    let exact = Deployment { solver: SolverConfig::broyden(5).with_tolerance(0.0), ..Deployment::exact() };
    let tail = Tail { lead: 1, steps: 2, damping: 0.5 };
    // Where some examples stop early, their last outcomes are the same.
    let loose = Deployment { solver: SolverConfig::broyden(8).with_tolerance(0.05), ..exact.clone() };
    vec![Deployment { tail, ..exact.clone() }, exact, loose]
}

fn truth<'a>(model: &'a Mdeq, deployment: &'a Deployment, readout: Readout) -> Victim<'a> {
    Victim::new(model, deployment, readout, Estimator::through_solver())
}

fn objective() -> CrossEntropy {
    CrossEntropy { labels: (0..COUNT).map(|i| (3 * i + 1) % 10).collect() }
}

fn keys(draw: usize) -> Vec<Key> {
    Key::first(3, "test", &[5, 0, 9, 2]).into_iter().map(|key| Key { draw, ..key }).collect()
}

#[test]
fn outcomes_are_the_answers_of_shorter_solves() {
    let model = tiny();
    let images = uniform([COUNT, 1, 8, 8], 3);
    for deployment in deployments() {
        for least in [1, 3] {
            let drawing = truth(&model, &deployment, Readout::random_states(least));
            let fixed = truth(&model, &deployment, Readout::final_state());
            let outcomes = drawing.outcomes(&images);
            assert_eq!(outcomes.len(), deployment.solver.steps - least + 1);
            for (place, logits) in outcomes.iter().enumerate() {
                let shorter = fixed.logits_within(&images, &[least + place; COUNT]);
                assert!(relative_error(logits, &shorter) < 1e-5, "{place}");
            }
            // Each answer is one of them, and all of them are given.
            let mut seen = vec![0; outcomes.len()];
            for draw in 0..40 {
                let answer = drawing.answer(&Question { images: &images, keys: &keys(draw) });
                for row in 0..COUNT {
                    let own = to_vec(select(&answer, &[row]));
                    let near = |logits: &Logits| {
                        let other = to_vec(select(logits, &[row]));
                        own.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5)
                    };
                    let place = outcomes.iter().position(near).expect("one of the outcomes");
                    seen[place] += 1;
                }
            }
            assert!(seen[0] > 5, "{seen:?}");
        }
    }
}

/// Of the mean of the outcomes' losses, in float64.
#[test]
fn the_mixture_has_the_gradient_of_the_mean_loss() {
    let model = tiny().map(&mut Double);
    let images = double(uniform([COUNT, 1, 8, 8], 8));
    let objective = objective();
    for deployment in deployments() {
        for least in [1, 4] {
            let victim = truth(&model, &deployment, Readout::random_states(least));
            let answer = victim.value_and_gradient(&images, &objective);
            let mean = |images: &Tensor<4>| -> f64 {
                let outcomes = victim.outcomes(images);
                let values =
                    |logits: &Logits| -> f64 { entries(&objective.values(logits.clone())).iter().sum() };
                outcomes.iter().map(values).sum::<f64>() / outcomes.len() as f64
            };
            let total: f64 = entries(&answer.values).iter().sum();
            assert!((total - mean(&images)).abs() < 1e-9 * total.abs());
            let chances = victim.outcomes(&images).into_iter().map(|logits| activation::softmax(logits, 1));
            let count = victim.outcomes(&images).len() as f64;
            let chances = chances.reduce(|a, b| a + b).unwrap() / count;
            assert!(relative_error(&answer.logits.clone().exp(), &chances) < 1e-9);
            let direction = double(normal([COUNT, 1, 8, 8], 9));
            let step = 1e-8;
            let moved = |step: f64| images.clone() + direction.clone() * step;
            let measured = (mean(&moved(step)) - mean(&moved(-step))) / (2.0 * step);
            let predicted = inner(&answer.gradient, &direction);
            assert!((measured - predicted).abs() < 1e-5 * measured.abs(), "{measured} {predicted}");
        }
    }
}

/// Drawn for gradients as well, it is the outcome that the same key gives, and the mean of many draws is the mixture.
#[test]
fn sampled_gradients_are_those_of_the_outcomes_and_average_to_the_mixture() {
    let model = tiny();
    let images = uniform([COUNT, 1, 8, 8], 4);
    let objective = objective();
    for deployment in deployments() {
        let drawing = Readout::random_states(2);
        let mixture = truth(&model, &deployment, drawing.clone());
        let sampled = truth(&model, &deployment, drawing.sampled().unwrap());
        let exact = mixture.value_and_gradient(&images, &objective);
        let question = Question { images: &images, keys: &keys(7) };
        for estimator in ["through-solver", "aimed(exact)", "exact", "unrolled:state=best,lead=1,steps=1"] {
            let victim = |readout| Victim::new(&model, &deployment, readout, estimator.parse().unwrap());
            let one = victim(drawing.sampled().unwrap()).differentiate(&question, &objective);
            assert!(relative_error(&one.logits, &mixture.answer(&question)) < 1e-5, "{estimator}");
            let all = victim(drawing.clone()).differentiate(&question, &objective);
            assert!(relative_error(&all.logits, &exact.logits) < 1e-5, "{estimator}");
        }
        let error = |draws: usize| {
            let mean = Expectation::new(&sampled, draws).differentiate(&question, &objective);
            relative_error(&mean.gradient, &exact.gradient)
        };
        let (few, many) = (error(4), error(600));
        assert!(many < 0.1 && many < 0.5 * few, "{few} {many}");
    }
}

#[test]
fn readouts_that_the_solver_does_not_have_are_refused() {
    assert!(Readout::random_states(5).check(5).is_ok());
    let problem = Readout::random_states(6).check(5).unwrap_err();
    assert!(problem.contains("choose LEAST in 1..=5"), "{problem}");
    assert_eq!(Readout::early(2).sampled(), None);
}
