//! The readout whose solve begins at random states: what it answers, and its gradient.

use crate::common::{double, entries, inner, normal, relative_error, uniform};
use crate::random_states::{Double, tiny};
use burn::module::Module;
use burn::tensor::Tensor;
use equipoise::attack::{Classifier, Question, WhiteBox};
use equipoise::batch::{Logits, select};
use equipoise::gradient::Estimator;
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::equilibrium::Equilibrium;
use equipoise::random::Key;
use equipoise::readout::{Readout, Starts, Tail};
use equipoise::solve::{SolverConfig, StateChoice, solve};
use equipoise::victim::{Deployment, Victim};

const COUNT: usize = 4;

fn deployment() -> Deployment {
    let tail = Tail { lead: 1, steps: 2, damping: 0.5 };
    Deployment { solver: SolverConfig::broyden(5).with_tolerance(0.0), tail, ..Deployment::exact() }
}

fn keys(draw: usize) -> Vec<Key> {
    Key::first(3, "test", &[5, 0, 9, 2]).into_iter().map(|key| Key { draw, ..key }).collect()
}

/// One image at a time: of all solves the one that ends at the lowest residual, by hand.
#[test]
fn the_solve_of_the_lowest_residual_answers() {
    let (model, deployment) = (tiny(), deployment());
    let images = uniform([COUNT, 1, 8, 8], 3);
    let mut others = 0;
    for starts in [Starts { count: 1, scale: 1.0 }, Starts { count: 4, scale: 0.5 }] {
        let readout = Readout::random_starts(starts);
        let victim = Victim::new(&model, &deployment, readout, Estimator::through_solver());
        for draw in 0..3 {
            let keys = keys(draw);
            let answer = victim.answer(&Question { images: &images, keys: &keys });
            for (row, key) in keys.iter().enumerate() {
                let injection = model.injection(&select(&images, &[row]));
                let zero = injection.zeros([1, model.state_dim()]);
                let mut rng = key.rng();
                let ends: Vec<(f64, Logits)> = (0..starts.count)
                    .map(|_| {
                        let entries = (0..model.state_dim()).map(|_| starts.scale * rng.normal());
                        let start = zero.like(entries.collect(), model.state_dim());
                        let cell = model.bind(&injection);
                        let trajectory = solve(&*cell, start, &deployment.solver);
                        let end = deployment.tail.apply(&*cell, trajectory.evaluated(StateChoice::Best));
                        (trajectory.best_residuals()[0], model.logits(&end))
                    })
                    .collect();
                let best = ends.iter().enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0)).unwrap().0;
                others += usize::from(best > 0);
                assert!(relative_error(&select(&answer, &[row]), &ends[best].1) < 1e-5, "{draw} {row}");
            }
        }
    }
    assert!(others > 2, "the first start is not always the best: {others}");
}

/// With the draws held, in float64, and with the answer that the same key gives.
#[test]
fn the_gradient_is_that_of_the_drawn_solve() {
    let model = tiny().map(&mut Double);
    let deployment = deployment();
    let images = double(uniform([COUNT, 1, 8, 8], 8));
    let objective = CrossEntropy { labels: (0..COUNT).map(|i| (3 * i + 1) % 10).collect() };
    for count in [1, 3] {
        let readout = Readout::random_starts(Starts { count, scale: 1.0 });
        let victim = Victim::new(&model, &deployment, readout, Estimator::through_solver());
        let keys = keys(count);
        let loss = |images: &Tensor<4>| -> f64 {
            let logits = victim.answer(&Question { images, keys: &keys });
            entries(&objective.values(logits)).iter().sum()
        };
        let found = victim.differentiate(&Question { images: &images, keys: &keys }, &objective);
        let total: f64 = entries(&found.values).iter().sum();
        assert!((total - loss(&images)).abs() < 1e-9 * total.abs());
        let direction = double(normal([COUNT, 1, 8, 8], 9));
        let step = 1e-7;
        let moved = |step: f64| images.clone() + direction.clone() * step;
        let measured = (loss(&moved(step)) - loss(&moved(-step))) / (2.0 * step);
        let predicted = inner(&found.gradient, &direction);
        assert!((measured - predicted).abs() < 1e-5 * measured.abs(), "{measured} {predicted}");
        // Other draws, another gradient.
        let again = self::keys(count + 1);
        let other = victim.differentiate(&Question { images: &images, keys: &again }, &objective);
        assert!(relative_error(&other.gradient, &found.gradient) > 1e-3);
    }
}
