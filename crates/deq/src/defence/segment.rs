//! One segment of the solve: a few steps of Broyden's method at one input, and what the next segment inherits of them.
//!
//! Per example, with g(z) = f(z; x_s) − z and B = −I + Σ u_k v_kᵀ: z ← z − B g, and after each step but the last
//!
//! ```text
//! v = Bᵀ Δz,   u = (Δz − B Δg) / (vᵀ Δg),   its entries that are not finite 0.
//! ```
//!
//! The pair of the last step is made when the next segment has evaluated g at its own input: Δg = g(z; x_{s+1}) − g(z_{n−1}; x_s)
//! is the secant across two inputs. The published form uses all pairs that it inherits for the first step of a segment, and
//! none of them after it.

use super::tape::{Tape, Var};
use crate::readout::{EntropyReduction, Variant};
use crate::state::State;

/// A segment ends at a relative residual below this, as published.
const TOLERANCE: f64 = 1e-3;
/// A residual that is not below this is no state to go on from, as published.
const LIMIT: f64 = 1e8;

/// What a segment inherits.
#[derive(Clone)]
pub(super) struct Carried<T> {
    /// The state that it begins at.
    pub(super) state: T,
    /// The pairs (u, v) of B, but for the last one.
    pub(super) pairs: Vec<(T, T)>,
    /// Δz of the last step, and g before it; none before there was a step.
    pub(super) last: Option<(T, T)>,
}

impl<T> Carried<T> {
    /// From a state, without any pairs.
    pub(super) fn begin(state: T) -> Self {
        Self { state, pairs: Vec::new(), last: None }
    }

    /// The same with each value made into something else, in a fixed order.
    pub(super) fn map<U>(&self, mut of: impl FnMut(&T) -> U) -> Carried<U> {
        Carried {
            state: of(&self.state),
            pairs: self.pairs.iter().map(|(u, v)| (of(u), of(v))).collect(),
            last: self.last.as_ref().map(|(step, residual)| (of(step), of(residual))),
        }
    }
}

/// What a segment came to.
pub(super) struct Ended {
    /// What the next one inherits, the state to go on from among it.
    pub(super) carried: Carried<Var>,
    /// z_1..z_K; an example that stopped stays where it is.
    pub(super) states: Vec<Var>,
    /// f(z_K), at this segment's input.
    pub(super) value: Var,
    /// f at the state to go on from.
    pub(super) best_value: Var,
}

impl Ended {
    /// z_K.
    pub(super) fn last(&self) -> Var {
        self.states[self.states.len() - 1]
    }
}

/// A state that a step led to.
struct Point {
    state: Var,
    value: Var,
    /// Δz.
    step: Var,
    /// g before the step.
    before: Var,
}

/// Takes the steps of a segment.
pub(super) fn run(tape: &mut Tape<'_>, begin: &Carried<Var>, settings: &EntropyReduction) -> Ended {
    let mut pairs = begin.pairs.clone();
    let mut state = begin.state;
    let mut value = tape.application(state);
    let (start, start_value) = (state, value);
    let mut residual = tape.difference(value, state);
    if let Some((step, before)) = begin.last {
        let change = tape.difference(residual, before);
        pairs.push(secant(tape, &pairs, step, change));
    }
    let mut direction = tape.product(&pairs, residual);
    if settings.variant == Variant::Published {
        pairs.clear();
    }
    let inherited = pairs.len();
    let mut progress = Progress::new(tape.value(state).dims()[0]);
    let mut points: Vec<Point> = Vec::with_capacity(settings.steps);
    for k in 0..settings.steps {
        // Nobody moves who has stopped.
        let step = tape.combination(&[(-1.0, direction)]);
        let step = masked(tape, step, |row| progress.going[row]);
        let before = residual;
        state = tape.combination(&[(1.0, state), (1.0, step)]);
        value = tape.application(state);
        residual = tape.difference(value, state);
        points.push(Point { state, value, step, before });
        progress.note(k, tape.value(residual), tape.value(value));
        if k + 1 < settings.steps {
            let change = tape.difference(residual, before);
            let (u, v) = secant(tape, &pairs, step, change);
            let going = |row: usize| progress.going[row];
            pairs.push((masked(tape, u, going), masked(tape, v, going)));
            direction = tape.product(&pairs, residual);
        }
    }
    let Progress { taken, best, .. } = progress;
    let best_of = |of: fn(&Point) -> Var, otherwise: Var| {
        best.iter().map(|best| best.map_or(otherwise, |k| of(&points[k]))).collect::<Vec<_>>()
    };
    let chosen = tape.rows(best_of(|point| point.state, start));
    let best_value = tape.rows(best_of(|point| point.value, start_value));
    // The step that the last pair is about.
    let about: Vec<usize> = match settings.variant {
        Variant::Published => taken,
        Variant::Corrected => best.iter().zip(&taken).map(|(best, &taken)| best.unwrap_or(taken)).collect(),
    };
    let about_of = |of: fn(&Point) -> Var| about.iter().map(|&k| of(&points[k])).collect::<Vec<_>>();
    let last = (tape.rows(about_of(|point| point.step)), tape.rows(about_of(|point| point.before)));
    // Pairs of that step and of later ones are not inherited; of the last step taken there is none.
    if settings.variant == Variant::Corrected {
        for (k, (u, v)) in pairs[inherited..].iter_mut().enumerate() {
            let earlier = |row: usize| k < about[row];
            (*u, *v) = (masked(tape, *u, earlier), masked(tape, *v, earlier));
        }
    }
    Ended {
        carried: Carried { state: chosen, pairs, last: Some(last) },
        states: points.iter().map(|point| point.state).collect(),
        value,
        best_value,
    }
}

/// The correction of B after a step Δz over which g changed by Δg.
fn secant(tape: &mut Tape<'_>, pairs: &[(Var, Var)], step: Var, change: Var) -> (Var, Var) {
    let v = tape.transposed_product(pairs, step);
    let image = tape.product(pairs, change);
    let numerator = tape.difference(step, image);
    let denominator = tape.dot(v, change);
    (tape.ratio(numerator, denominator), v)
}

/// 0 in the rows that do not fulfil a condition.
fn masked(tape: &mut Tape<'_>, x: Var, condition: impl Fn(usize) -> bool) -> Var {
    let rows = tape.value(x).dims()[0];
    if (0..rows).all(&condition) {
        return x;
    }
    let column = (0..rows).map(|row| f64::from(u8::from(condition(row)))).collect();
    let column = tape.value(x).like(column, 1);
    tape.scaled(x, column)
}

/// How far each example is.
struct Progress {
    going: Vec<bool>,
    /// The last step taken, from 0.
    taken: Vec<usize>,
    /// The step of the lowest relative residual, the first of equals.
    best: Vec<Option<usize>>,
    lowest: Vec<f64>,
}

impl Progress {
    fn new(rows: usize) -> Self {
        Self {
            going: vec![true; rows],
            taken: vec![0; rows],
            best: vec![None; rows],
            lowest: vec![LIMIT; rows],
        }
    }

    fn note(&mut self, k: usize, residual: &State, value: &State) {
        let norms = residual.norms().into_iter().zip(value.norms());
        for (row, (residual, value)) in
            norms.enumerate().filter(|(row, _)| self.going[*row]).collect::<Vec<_>>()
        {
            let relative = residual / (value + 1e-9);
            self.taken[row] = k;
            if relative < self.lowest[row] {
                (self.lowest[row], self.best[row]) = (relative, Some(k));
            }
            self.going[row] = relative >= TOLERANCE || relative.is_nan();
        }
    }
}
