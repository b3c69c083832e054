//! A damped Newton-Krylov solver without Jacobians, as a crate of a user's own would hold it.

use equipoise::model::cell::FixedPointMap;
use equipoise::solve::{Evaluated, Memory, Solver};
use equipoise::state::State;
use serde::{Deserialize, Serialize};

/// z ← z + τ d, where d solves (I − J) d = g(z) in a Krylov space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewtonKrylov {
    /// τ in (0, 1].
    pub damping: f64,
    /// Directions of the Krylov space at most, each for one evaluation of f.
    pub inner: usize,
    /// The equation is solved once its residual is below this share of ‖g‖.
    pub forcing: f64,
}

#[typetag::serde(name = "newton-krylov")]
impl Solver for NewtonKrylov {
    fn validate(&self) -> Result<(), String> {
        let Self { damping, inner, forcing } = self;
        if !(*damping > 0.0 && *damping <= 1.0) {
            return Err(format!("newton-krylov damping {damping} must be in (0, 1]"));
        }
        if !(1..=100).contains(inner) {
            return Err(format!("newton-krylov inner {inner} must be in 1..=100"));
        }
        if !(*forcing > 0.0 && *forcing < 1.0) {
            return Err(format!("newton-krylov forcing {forcing} must be in (0, 1)"));
        }
        Ok(())
    }

    fn start(&self) -> Box<dyn Memory> {
        Box::new(Newton(self.clone()))
    }

    fn evaluations_per_step(&self) -> usize {
        self.inner + 1
    }
}

/// A step needs nothing of the steps before it.
struct Newton(NewtonKrylov);

impl Memory for Newton {
    fn next(&mut self, current: &Evaluated, map: &dyn FixedPointMap) -> State {
        let goals: Vec<f64> = current.residual_norms().map(|norm| norm * self.0.forcing).collect();
        let mut rows: Vec<usize> = (0..goals.len()).collect();
        let mut krylov = Krylov::new(current.clone());
        let mut step = krylov.step.clone();
        let mut selected: Option<Box<dyn FixedPointMap + '_>> = None;
        for _ in 0..self.0.inner {
            krylov.extend(selected.as_deref().unwrap_or(map));
            step = step.put(&rows, &krylov.step);
            // An example whose equation is solved leaves the batch, and costs nothing more.
            let left = krylov.residual.norms();
            let staying: Vec<usize> = (0..rows.len()).filter(|&k| left[k] > goals[rows[k]]).collect();
            if staying.is_empty() {
                break;
            }
            if staying.len() < rows.len() {
                krylov = krylov.select(&staying);
                rows = staying.into_iter().map(|k| rows[k]).collect();
                selected = Some(map.select(&rows));
            }
        }
        current.state.clone() + step * self.0.damping
    }

    fn select(&mut self, _rows: &[usize]) {}
}

/// Generalised conjugate residuals for (I − J) d = g: the residual is the shortest in the space, as in GMRES.
struct Krylov {
    at: Evaluated,
    /// d, and g − (I − J) d.
    step: State,
    residual: State,
    /// Directions p with (I − J) p, which are orthonormal.
    directions: Vec<(State, State)>,
}

impl Krylov {
    fn new(at: Evaluated) -> Self {
        let (step, residual) = (at.state.zeros_like(), at.residual.clone());
        Self { at, step, residual, directions: Vec::new() }
    }

    /// One more direction, from the residual.
    fn extend(&mut self, map: &dyn FixedPointMap) {
        let mut p = self.residual.clone().over(&floored(&self.residual));
        let mut image = p.clone() - self.jacobian_product(map, &p);
        for (other, its_image) in &self.directions {
            let along = image.dot(its_image);
            image = image - its_image.clone().times(&along);
            p = p - other.clone().times(&along);
        }
        let length = floored(&image);
        let (p, image) = (p.over(&length), image.over(&length));
        let along = self.residual.dot(&image);
        self.step = self.step.clone() + p.clone().times(&along);
        self.residual = self.residual.clone() - image.clone().times(&along);
        self.directions.push((p, image));
    }

    /// J v for v of length 1, from a difference of f over a short way.
    fn jacobian_product(&self, map: &dyn FixedPointMap, v: &State) -> State {
        let sizes = self.at.state.norms().into_iter();
        let ways = v.like(sizes.map(|size| 1e-3 * (1.0 + size)).collect(), 1);
        let value = map.apply(&(self.at.state.clone() + v.clone().times(&ways)));
        (value - self.at.value.clone()).over(&ways)
    }

    fn select(&self, rows: &[usize]) -> Self {
        let pairs = self.directions.iter();
        Self {
            at: self.at.select(rows),
            step: self.step.select(rows),
            residual: self.residual.select(rows),
            directions: pairs.map(|(p, image)| (p.select(rows), image.select(rows))).collect(),
        }
    }
}

/// ‖x‖ of each example as a column, away from 0: a zero vector stays one when it is divided by it.
fn floored(x: &State) -> State {
    x.like(x.norms().into_iter().map(|norm| norm.max(1e-30)).collect(), 1)
}
