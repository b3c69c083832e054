//! The size of J = ∂f/∂z at the best iterate z*: its spectral radius, and its Frobenius norm.
//!
//! The radius comes from power iteration on Jᵀ, which has J's eigenvalues: u ← Jᵀu / ‖Jᵀu‖. Its check of
//! convergence is a fit. If u has become an eigenvector, Jᵀu = λu. The dominant eigenvalues of a real matrix may
//! also be a complex pair (or ±λ), and then u turns for ever in a plane, where Jᵀ²u = a Jᵀu + b u: with the roots
//! of λ² = aλ + b as eigenvalues. An example has converged when one of the two fits leaves a relative error below
//! the tolerance; one that has not says so, and its mean growth per iteration is reported apart.
//!
//! The norm is Hutchinson's estimate ‖J‖_F² = E ‖Jᵀε‖² over normal probes ε, the quantity that Jacobian
//! regularisation holds down (Bai, Koltun and Kolter 2021).

use equipoise_record::{Share, Spectrum, SpectrumView, Spread, View};

use super::examination::{Question, answer};
use super::{Case, DiagnoseError, Measured, VIEWS};
use crate::attack::{Classifier, Step};
use crate::model::cell::Linearization;
use crate::model::equilibrium::Equilibrium;
use crate::random::ExampleRng;
use crate::solve::StateChoice;
use crate::victim::{Deployment, Victim};

pub(super) const QUESTION: Question = Question {
    name: "spectrum",
    equilibrium: |asked, model, case| answer(spectrum(model, asked.deployment(), case, &asked.spectrum)),
    feedforward: Err("cell, and so no J"),
};

/// How long and how exactly to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpectrumConfig {
    /// Power iterations at most.
    pub limit: usize,
    /// The relative error of the fit below which an example has converged.
    pub tolerance: f64,
    /// Probes of the norm, at least 2 for an error estimate.
    pub probes: usize,
}

impl Default for SpectrumConfig {
    fn default() -> Self {
        Self { limit: 200, tolerance: 1e-2, probes: 4 }
    }
}

/// Looks at J at the best iterate of every image, clean and attacked. Costs one solve and one linearisation for
/// each, one product per power iteration taken and one per probe.
///
/// # Errors
///
/// If the observer cancels.
pub fn spectrum(
    model: &dyn Equilibrium,
    deployment: &Deployment,
    case: &Case<'_>,
    config: &SpectrumConfig,
) -> Result<Measured<Spectrum>, DiagnoseError> {
    let victim = Victim::ready_made(model, deployment);
    let mut views = Vec::new();
    for view in VIEWS {
        let (mut powers, mut norms) = (Vec::new(), Vec::new());
        case.each(&format!("spectrum, {}", view.name()), view, |_, batch| {
            let forward = victim.forward(batch.images(), deployment.solver.steps);
            let linearization = forward.trajectory.linearize(&forward.cell, StateChoice::Best);
            let seed = case.settings.seed;
            let (examples, total) = (batch.len(), config.probes + config.limit);
            let step = |done, standing| case.step(Step { done, total, examples, standing });
            norms.extend(hutchinson(&*linearization, batch.indices(), seed, config.probes, |probe| {
                step(probe, examples)
            })?);
            powers.extend(power_iteration(
                &*linearization,
                batch.indices(),
                seed,
                config,
                |done, standing| step(config.probes + done, standing),
            )?);
            Ok(())
        })?;
        views.push(summarise(view, &powers, &norms));
    }
    let SpectrumConfig { limit, tolerance, probes } = *config;
    let dim = model.state_dim();
    Ok(Measured { result: Spectrum { dim, limit, tolerance, probes, views }, work: victim.work() })
}

/// How one example's power iteration ended.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Power {
    /// |λ|, and whether λ is one of a complex pair; absent if the iteration did not converge.
    dominant: Option<(f64, bool)>,
    /// Geometric mean of ‖Jᵀu‖ / ‖u‖ over the second half of the iterations.
    growth: f64,
    iterations: usize,
}

/// Where an example stands.
struct Walk {
    row: usize,
    /// u before the last product and after it, divided by the same number. Empty at first.
    before: Vec<f64>,
    current: Vec<f64>,
    /// ln ‖Jᵀu‖ / ‖u‖ of each iteration.
    growths: Vec<f64>,
}

/// One product per iteration, for the examples whose walk goes on; `step` hears of it before: how many
/// iterations are done, and how many examples go on.
fn power_iteration(
    linearization: &dyn Linearization,
    indices: &[usize],
    seed: u64,
    config: &SpectrumConfig,
    step: impl Fn(usize, usize) -> Result<(), DiagnoseError>,
) -> Result<Vec<Power>, DiagnoseError> {
    let dim = linearization.value().dims()[1];
    let mut results = vec![None; indices.len()];
    let mut walks: Vec<Walk> = indices
        .iter()
        .enumerate()
        .map(|(row, &index)| {
            let mut rng = ExampleRng::new(seed, "spectral radius", index, 0);
            let mut current: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
            let length = norm(&current);
            current.iter_mut().for_each(|entry| *entry /= length);
            Walk { row, before: Vec::new(), current, growths: Vec::new() }
        })
        .collect();
    let mut selected: Option<Box<dyn Linearization>> = None;
    for iteration in 1..=config.limit {
        if walks.is_empty() {
            break;
        }
        step(iteration - 1, walks.len())?;
        let here = selected.as_deref().unwrap_or(linearization);
        let products = products(here, &walks);
        let count = walks.len();
        walks = walks
            .into_iter()
            .zip(products)
            .filter_map(|(mut walk, product)| {
                let fit = fit(&walk.before, &walk.current, &product);
                let length = norm(&product);
                walk.growths.push((length / norm(&walk.current)).ln());
                let dominant = match fit {
                    Some((modulus, complex, error)) if error < config.tolerance => Some((modulus, complex)),
                    _ => None,
                };
                // J is nilpotent or zero as far as u can tell: its radius is 0.
                let dominant = if length == 0.0 { Some((0.0, false)) } else { dominant };
                if dominant.is_some() || iteration == config.limit || !length.is_finite() {
                    let late = &walk.growths[walk.growths.len() / 2..];
                    let growth = (late.iter().sum::<f64>() / late.len() as f64).exp();
                    results[walk.row] = Some(Power { dominant, growth, iterations: iteration });
                    return None;
                }
                let scaled = |vector: &[f64]| vector.iter().map(|entry| entry / length).collect();
                (walk.before, walk.current) = (scaled(&walk.current), scaled(&product));
                Some(walk)
            })
            .collect();
        if walks.len() < count && !walks.is_empty() {
            // Rows of the original linearisation: selections of selections would pile up.
            selected = Some(linearization.select(&walks.iter().map(|walk| walk.row).collect::<Vec<_>>()));
        }
    }
    let unstarted = Power { dominant: None, growth: f64::NAN, iterations: 0 };
    Ok(results.into_iter().map(|power| power.unwrap_or(unstarted)).collect())
}

/// Jᵀu of each walk, in the precision of the model.
fn products(linearization: &dyn Linearization, walks: &[Walk]) -> Vec<Vec<f64>> {
    let value = linearization.value();
    let dim = value.dims()[1];
    let entries = walks.iter().flat_map(|walk| walk.current.iter().copied()).collect();
    let product = linearization.vjp_state(&value.like(entries, dim)).numbers();
    product.chunks(dim).map(<[f64]>::to_vec).collect()
}

/// The dominant |λ| by the better of the two fits, whether it is one of a complex pair, and the fit's relative
/// error. Nothing in the first iteration, where `before` is empty.
fn fit(before: &[f64], current: &[f64], product: &[f64]) -> Option<(f64, bool, f64)> {
    if before.is_empty() {
        return None;
    }
    let (cc, cp, pp) = (dot(current, current), dot(current, product), dot(product, product));
    if !(cc > 0.0 && pp > 0.0 && pp.is_finite()) {
        return None;
    }
    // Jᵀu = λu.
    let ratio = cp / cc;
    let single = ((pp - ratio * cp).max(0.0) / pp).sqrt();
    let one = (ratio.abs(), false, single);
    // Jᵀ²u = a Jᵀu + b u, by least squares over (current, before). `before` is first freed of its part along
    // `current`: what is left of it carries the second direction.
    let along = dot(before, current) / cc;
    let rest: Vec<f64> = before.iter().zip(current).map(|(b, c)| b - along * c).collect();
    let (rr, bb) = (dot(&rest, &rest), dot(before, before));
    // Below this, rounding in float32 is all that is left: u is an eigenvector.
    if rr < 1e-10 * bb {
        return Some(one);
    }
    let b = dot(&rest, product) / rr;
    let a = ratio - b * along;
    let left: f64 = product
        .iter()
        .zip(current)
        .zip(before)
        .map(|((p, c), before)| (p - a * c - b * before).powi(2))
        .sum();
    let pair = (left / pp).sqrt();
    let discriminant = a * a + 4.0 * b;
    let two = if discriminant < 0.0 {
        ((-b).sqrt(), true, pair)
    } else {
        let root = discriminant.sqrt();
        (((a + root) / 2.0).abs().max(((a - root) / 2.0).abs()), false, pair)
    };
    Some(if one.2 <= two.2 { one } else { two })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// ‖J‖_F² of each example and its standard error. `step` hears of every probe before.
fn hutchinson(
    linearization: &dyn Linearization,
    indices: &[usize],
    seed: u64,
    probes: usize,
    step: impl Fn(usize) -> Result<(), DiagnoseError>,
) -> Result<Vec<(f64, f64)>, DiagnoseError> {
    let value = linearization.value();
    let dim = value.dims()[1];
    let mut squares = vec![Vec::with_capacity(probes); indices.len()];
    for probe in 0..probes {
        step(probe)?;
        let entries = indices
            .iter()
            .flat_map(|&index| {
                let mut rng = ExampleRng::new(seed, "jacobian norm", index, probe);
                (0..dim).map(move |_| rng.normal())
            })
            .collect();
        let product = linearization.vjp_state(&value.like(entries, dim)).numbers();
        for (square, row) in squares.iter_mut().zip(product.chunks(dim)) {
            square.push(row.iter().map(|entry| entry.powi(2)).sum::<f64>());
        }
    }
    let estimates = squares
        .into_iter()
        .map(|squares| {
            let count = squares.len() as f64;
            let mean = squares.iter().sum::<f64>() / count;
            let variance = squares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (count - 1.0);
            (mean, (variance / count).sqrt())
        })
        .collect();
    Ok(estimates)
}

fn summarise(view: View, powers: &[Power], norms: &[(f64, f64)]) -> SpectrumView {
    let dominant = || powers.iter().filter_map(|power| power.dominant);
    let unconverged = powers.iter().filter(|power| power.dominant.is_none());
    SpectrumView {
        view,
        radius: Spread::of(dominant().map(|(modulus, _)| modulus)),
        converged: Share::of(powers.iter().map(|power| power.dominant.is_some())),
        below_one: Share::of(dominant().map(|(modulus, _)| modulus < 1.0)),
        complex: dominant().filter(|(_, complex)| *complex).count(),
        unconverged_growth: Spread::of(unconverged.map(|power| power.growth)),
        iterations: Spread::of(powers.iter().map(|power| power.iterations as f64)),
        squared_norm: Spread::of(norms.iter().map(|(mean, _)| *mean)),
        relative_error: Spread::of(norms.iter().map(|(mean, error)| error / mean)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three successive vectors of a power iteration on a diagonal of real blocks.
    fn walk(apply: impl Fn(&[f64]) -> Vec<f64>, steps: usize) -> (f64, bool, f64) {
        let mut before = vec![0.3, -0.7, 0.5, 0.2];
        let mut current = apply(&before);
        let mut product = apply(&current);
        for _ in 0..steps {
            before = current;
            current = product;
            product = apply(&current);
        }
        fit(&before, &current, &product).unwrap()
    }

    #[test]
    fn a_real_eigenvalue_is_found() {
        let (modulus, complex, error) = walk(|u| vec![0.9 * u[0], -0.5 * u[1], 0.2 * u[2], 0.1 * u[3]], 12);
        assert!((modulus - 0.9).abs() < 1e-4 && !complex && error < 1e-3, "{modulus} {complex} {error}");
    }

    #[test]
    fn a_complex_pair_is_found_where_single_vectors_never_settle() {
        // 0.8 e^{±i} and smaller ones.
        let (s, c) = 1f64.sin_cos();
        let turn = move |u: &[f64]| {
            vec![0.8 * (c * u[0] - s * u[1]), 0.8 * (s * u[0] + c * u[1]), 0.3 * u[2], -0.3 * u[3]]
        };
        let (modulus, complex, error) = walk(turn, 12);
        assert!((modulus - 0.8).abs() < 1e-4 && complex && error < 1e-3, "{modulus} {complex} {error}");
    }

    #[test]
    fn a_pair_of_opposite_signs_is_found() {
        let (modulus, complex, error) = walk(|u| vec![0.7 * u[0], -0.7 * u[1], 0.1 * u[2], 0.1 * u[3]], 8);
        assert!((modulus - 0.7).abs() < 1e-4 && !complex && error < 1e-3, "{modulus} {complex} {error}");
    }

    #[test]
    fn what_has_not_settled_is_not_called_converged() {
        // Three eigenvalues of the same size: no plane holds u.
        let (_, _, error) = walk(|u| vec![0.7 * u[0], -0.7 * u[1], 0.0, -0.7 * u[2]], 0);
        assert!(error > 1e-2, "{error}");
        let (s, c) = 0.5f64.sin_cos();
        let mixed = |u: &[f64]| vec![c * u[0] - s * u[1], s * u[0] + c * u[1], u[2], -0.99 * u[3]];
        assert!(walk(mixed, 5).2 > 1e-2);
    }
}
