//! Anderson acceleration (Walker and Ni 2011), with a small regularised system per example.
//!
//! Over the last m points, weights α with Σα = 1 minimise ‖Σ α_i g_i‖² + λ‖α‖²; the next iterate is
//! β Σ α_i f(z_i) + (1−β) Σ α_i z_i. With the Gram matrix G of the residuals and M = G + λI the weights are
//! α = y / 1ᵀy, M y = 1, solved on the host in float64; where M is singular, that example takes a Picard step.

use serde::{Deserialize, Serialize};

use super::{Bars, Evaluated, InverseJacobian, MAX_STEPS, Memory, Reverse, Solver, Trajectory, small};
use crate::model::cell::FixedPointMap;
use crate::state::State;

/// Anderson acceleration, type II, regularised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Anderson {
    /// Number m of points mixed.
    pub memory: usize,
    /// λ, added to the diagonal of the Gram matrix.
    pub regularisation: f64,
    /// β: 1 takes the mix of the f(z), 0 that of the z.
    pub mixing: f64,
}

impl Default for Anderson {
    fn default() -> Self {
        Self { memory: 6, regularisation: 1e-4, mixing: 1.0 }
    }
}

#[typetag::serde(name = "anderson")]
impl Solver for Anderson {
    fn validate(&self) -> Result<(), String> {
        let Self { memory, regularisation, mixing } = *self;
        if memory == 0 {
            return Err("anderson memory must be at least 1".into());
        }
        if memory > MAX_STEPS {
            return Err(format!("anderson memory {memory} must be at most {MAX_STEPS}"));
        }
        if !(0.0..f64::INFINITY).contains(&regularisation) {
            return Err(format!("anderson regularisation {regularisation} must be finite and not negative"));
        }
        if !(mixing > 0.0 && mixing <= 1.0) {
            return Err(format!("anderson mixing {mixing} must be in (0, 1]"));
        }
        Ok(())
    }

    fn start(&self) -> Box<dyn Memory> {
        Box::new(History::new(*self))
    }

    fn backwards(&self) -> Option<Box<dyn Reverse>> {
        Some(Box::new(Backwards { settings: *self, steps: Vec::new() }))
    }

    fn inverse_jacobian(&self) -> Option<Box<dyn InverseJacobian>> {
        Some(Box::new(Differences(History::new(*self))))
    }
}

/// The last points.
#[derive(Clone)]
struct History {
    settings: Anderson,
    /// Newest last.
    points: Vec<Evaluated>,
    /// For each example, the Gram matrix of the history's residuals, row by row.
    gram: Vec<Gram>,
}

impl History {
    fn new(settings: Anderson) -> Self {
        Self { settings, points: Vec::new(), gram: Vec::new() }
    }

    /// Takes a point into the history, dropping the oldest if it is full.
    fn remember(&mut self, point: Evaluated) {
        if self.points.len() == self.settings.memory {
            self.points.remove(0);
            for gram in &mut self.gram {
                gram.remove(0);
                gram.iter_mut().for_each(|row| _ = row.remove(0));
            }
        }
        self.points.push(point);
        let newest = &self.points[self.points.len() - 1].residual;
        self.gram.resize(newest.dims()[0], Vec::new());
        let products: Vec<Vec<f64>> =
            self.points.iter().map(|point| point.residual.dot(newest).numbers()).collect();
        for (example, gram) in self.gram.iter_mut().enumerate() {
            let row: Vec<f64> = products.iter().map(|product| product[example]).collect();
            gram.iter_mut().zip(&row).for_each(|(older, &product)| older.push(product));
            gram.push(row);
        }
    }

    /// α of each example; the newest point alone where the system is singular.
    fn weights(&self) -> Vec<Vec<f64>> {
        let newest = || {
            let mut newest = vec![0.0; self.points.len()];
            newest[self.points.len() - 1] = 1.0;
            newest
        };
        let weights = |gram: &Gram| mixing_weights(gram, self.settings.regularisation).unwrap_or_else(newest);
        self.gram.iter().map(weights).collect()
    }

    /// β f(z) + (1−β) z = z + β g.
    fn mixed(&self, point: &Evaluated) -> State {
        point.state.clone() + point.residual.clone() * self.settings.mixing
    }
}

impl Memory for History {
    fn next(&mut self, current: &Evaluated, _map: &dyn FixedPointMap) -> State {
        self.remember(current.clone());
        let weights = self.weights();
        let terms = self.points.iter().map(|point| self.mixed(point));
        combined(&weights, terms).expect("the history holds the current point")
    }

    fn select(&mut self, rows: &[usize]) {
        for point in &mut self.points {
            *point = point.select(rows);
        }
        self.gram = rows.iter().map(|&row| self.gram[row].clone()).collect();
    }
}

/// Σ_k c_k x_k with coefficients of each example, which stand in `coefficients` by example.
fn combined(coefficients: &[Vec<f64>], terms: impl Iterator<Item = State>) -> Option<State> {
    let weighted = terms.enumerate().map(|(k, term)| {
        let column = term.like(coefficients.iter().map(|of| of[k]).collect(), 1);
        term.times(&column)
    });
    weighted.reduce(|sum, term| sum + term)
}

/// The Gram matrix of some residuals of one example.
type Gram = Vec<Vec<f64>>;

/// M = G + λI.
fn regularised(gram: &[Vec<f64>], regularisation: f64) -> Gram {
    let mut matrix = gram.to_vec();
    matrix.iter_mut().enumerate().for_each(|(i, row)| row[i] += regularisation);
    matrix
}

/// α minimising αᵀ(G + λI)α subject to Σα = 1; `None` if the system is singular.
fn mixing_weights(gram: &[Vec<f64>], regularisation: f64) -> Option<Vec<f64>> {
    // With the multiplier eliminated: α ∝ (G + λI)⁻¹ 1.
    let mut alpha = small::solve(regularised(gram, regularisation), vec![1.0; gram.len()])?;
    let total: f64 = alpha.iter().sum();
    if !total.is_finite() || total.abs() < f64::MIN_POSITIVE {
        return None;
    }
    alpha.iter_mut().for_each(|weight| *weight /= total);
    alpha.iter().all(|weight| weight.is_finite()).then_some(alpha)
}

/// The iteration run backwards. A step is z_{t+1} = Σ_k α_k (z_k + β g_k), whose weights depend on the residuals through
/// their Gram matrix: with ᾱ_k = z̄_{t+1}·(z_k + β g_k) and M w = ᾱ − (ᾱ·α) 1,
///
/// ```text
/// z̄_k += α_k z̄_{t+1},   ḡ_k += β α_k z̄_{t+1} − w_k Σ_l α_l g_l − α_k Σ_l w_l g_l.
/// ```
struct Backwards {
    settings: Anderson,
    /// The history as it was when step t was taken, for every t.
    steps: Vec<History>,
}

impl Reverse for Backwards {
    fn follow(&mut self, trajectory: &Trajectory) {
        let mut history = History::new(self.settings);
        let steps = (0..trajectory.len()).map(|t| {
            history.remember(trajectory.evaluation(t).into());
            history.clone()
        });
        self.steps = steps.collect();
    }

    fn step(&mut self, t: usize, next: &State, bars: &mut Bars) {
        let step = &self.steps[t];
        let (points, settings) = (&step.points, &self.settings);
        let first = t + 1 - points.len();
        let weights = step.weights();
        let by_point: Vec<Vec<f64>> =
            points.iter().map(|point| next.dot(&step.mixed(point)).numbers()).collect();
        let solved: Vec<Vec<f64>> = (0..weights.len())
            .map(|example| {
                let (gram, alpha) = (&step.gram[example], &weights[example]);
                let none = || vec![0.0; alpha.len()];
                if mixing_weights(gram, settings.regularisation).is_none() {
                    return none(); // a Picard step: the weights are constant
                }
                let bar: Vec<f64> = by_point.iter().map(|point| point[example]).collect();
                let mean: f64 = bar.iter().zip(alpha).map(|(bar, alpha)| bar * alpha).sum();
                let right = bar.iter().map(|bar| bar - mean).collect();
                small::solve(regularised(gram, settings.regularisation), right).unwrap_or_else(none)
            })
            .collect();
        let residuals = || points.iter().map(|point| point.residual.clone());
        let combinations = combined(&weights, residuals()).zip(combined(&solved, residuals()));
        let (by_weights, by_solved) = combinations.expect("the history holds the point of step t");
        for k in 0..points.len() {
            let of = |coefficients: &[Vec<f64>]| next.like(coefficients.iter().map(|of| of[k]).collect(), 1);
            let (alpha, w) = (of(&weights), of(&solved));
            let share = next.clone().times(&alpha);
            let through_weights = by_weights.clone().times(&w) + by_solved.clone().times(&alpha);
            bars.add_residual(first + k, share.clone() * settings.mixing - through_weights);
            bars.add_state(first + k, share);
        }
    }
}

/// The inverse Jacobian that a step of Anderson's method amounts to: with the differences ΔZ, ΔG of neighbouring points and
/// the differences D of neighbouring unit vectors,
///
/// ```text
/// B = −β I + (ΔZ + β ΔG) K⁻¹ ΔGᵀ,   K = ΔGᵀΔG + λ DᵀD.
/// ```
struct Differences(History);

impl InverseJacobian for Differences {
    fn observe(&mut self, point: Evaluated) {
        self.0.remember(point);
    }

    fn transposed_product(&self, x: &State) -> State {
        let History { settings: Anderson { regularisation, mixing, .. }, points, .. } = &self.0;
        let plain = x.clone() * -mixing;
        let pairs = || points.windows(2).map(|pair| (&pair[0], &pair[1]));
        let changes: Vec<State> = pairs().map(|(a, b)| b.residual.clone() - a.residual.clone()).collect();
        if changes.is_empty() {
            return plain;
        }
        // (ΔZ + β ΔG)ᵀ x, and ΔGᵀΔG.
        let right: Vec<Vec<f64>> =
            pairs().map(|(a, b)| (self.0.mixed(b) - self.0.mixed(a)).dot(x).numbers()).collect();
        let count = changes.len();
        let products: Vec<Vec<Vec<f64>>> =
            changes.iter().map(|a| changes.iter().map(|b| a.dot(b).numbers()).collect()).collect();
        let solved: Vec<Vec<f64>> = (0..x.dims()[0])
            .map(|example| {
                let second = |i: usize, j: usize| match i.abs_diff(j) {
                    0 => 2.0,
                    1 => -1.0,
                    _ => 0.0,
                };
                let entry = |i: usize, j: usize| products[i][j][example] + regularisation * second(i, j);
                let matrix = (0..count).map(|i| (0..count).map(|j| entry(i, j)).collect()).collect();
                let right = right.iter().map(|of| of[example]).collect();
                small::solve(matrix, right).unwrap_or_else(|| vec![0.0; count])
            })
            .collect();
        match combined(&solved, changes.into_iter()) {
            Some(correction) => plain + correction,
            None => plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_minimise_the_residual() {
        // Orthogonal residuals of lengths 1 and 2: weights inversely proportional to the squares.
        let weights = mixing_weights(&[vec![1.0, 0.0], vec![0.0, 4.0]], 0.0).unwrap();
        assert!((weights[0] - 0.8).abs() < 1e-12 && (weights[1] - 0.2).abs() < 1e-12);
    }

    #[test]
    fn the_inverse_jacobian_is_that_of_its_formula() {
        // One dimension, worked out by hand: ΔZ = (1, 2), ΔG = (−1/2, −1/4), K = [[3/4, −1/8], [−1/8, 9/16]],
        // B = −1/2 + (3/4, 15/8) K⁻¹ ΔGᵀ.
        let device = burn::tensor::Device::default();
        let number = |x: f32| State::from(equipoise_attack::batch::from_vec(vec![x], [1, 1], &device));
        let mut differences =
            Differences(History::new(Anderson { memory: 6, regularisation: 0.25, mixing: 0.5 }));
        for (z, g) in [(0.0, 1.0), (1.0, 0.5), (3.0, 0.25)] {
            differences.observe(Evaluated::new(number(z), number(z + g)));
        }
        let found = differences.transposed_product(&number(2.0)).to_f32()[0];
        let expected = 2.0 * (-0.5 - 0.703125 / 0.40625);
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn a_singular_system_says_so() {
        assert_eq!(mixing_weights(&[vec![1.0, 1.0], vec![1.0, 1.0]], 0.0), None);
        assert_eq!(mixing_weights(&[vec![f64::NAN]], 1e-4), None);
    }
}
