//! Input entropy reduction (Yang, Li, Pang and Liu, ICML 2023): a deployed function that changes its input while it solves.
//!
//! The solve goes in S segments of K steps by Broyden's method, the first from z = 0 at x_0 = x. After each but the last, R
//! steps of the input lower the entropy of the answer at f(z; x_s), z the state of the lowest relative residual of the
//! segment, and the next segment goes on from z at the input that they lead to. The published answer is the head's at z_T,
//! T = S K, as it is; the corrected one ([`Variant::Corrected`]) is the deployed tail's at the last input.
//!
//! Everything is per example, stopping and the choice of z included, where the authors' release has one norm for the whole
//! batch; and every example takes all its evaluations, so that the work does not depend on the batch either.
//!
//! # Gradients
//!
//! With x_s = x + δ_s and δ_s constant, reverse mode through all segments is the derivative of the deployed function almost
//! everywhere: the sign's slope is 0, and both sides of the ball's clip have ∂x_s/∂x = 1. Backwards a segment is run once
//! more from what it inherited, so that memory is that of one segment, what each inherited, and the inputs.

mod segment;
mod tape;
mod updates;

use crate::model::cell::Counted;
use crate::model::equilibrium::Equilibrium;
use crate::readout::{EntropyReduction, Reading, Tail, Variant};
use crate::state::State;
use equipoise_attack::batch::{Images, Logits};
use equipoise_attack::loss::Objective;
use equipoise_attack::work::{Work, WorkCounter};
use segment::{Carried, Ended};
use tape::{Tape, Var};
use updates::{Bars, Update};

/// Where a loss is read of a defended model.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadAt {
    /// At the logits of the deployed answer.
    Answer,
    /// At h(f(z; x_s)) for the last state z of each segment, times these weights, one for each segment, and summed.
    Segments(Vec<f64>),
}

/// A way back through the defence.
#[derive(Debug, Clone, PartialEq)]
pub struct WayBack {
    /// Where the loss is read.
    pub read: ReadAt,
    /// c, where backwards sign q is taken for q/(|q| + τ), τ = c · median |q|; `None` for the derivative of what is
    /// deployed.
    pub smooth: Option<f64>,
}

impl WayBack {
    /// The derivative of what is deployed, almost everywhere.
    pub const SHIFT: Self = Self { read: ReadAt::Answer, smooth: None };

    /// Whether it can be gone through this defence.
    ///
    /// # Errors
    ///
    /// If its weights are not one for each segment.
    pub fn check(&self, defence: &EntropyReduction) -> Result<(), String> {
        match &self.read {
            ReadAt::Segments(weights) if weights.len() != defence.segments => Err(format!(
                "{} weights, and {defence} has {} segments; give one weight for each",
                weights.len(),
                defence.segments
            )),
            _ => Ok(()),
        }
    }

    /// What it costs beside the answer: cell evaluations and vector-Jacobian products for one example.
    pub fn work(&self, defence: &EntropyReduction, tail: &Tail) -> Work {
        let EntropyReduction { variant, segments, steps, updates, .. } = *defence;
        let last = match &self.read {
            ReadAt::Answer => segments,
            ReadAt::Segments(weights) => weights.iter().rposition(|&w| w != 0.0).map_or(0, |s| s + 1),
        };
        let read = match (&self.read, variant) {
            (ReadAt::Answer, Variant::Published) => 0,
            (ReadAt::Answer, Variant::Corrected) => tail.applications(),
            (ReadAt::Segments(weights), _) => weights.iter().filter(|&&w| w != 0.0).count(),
        };
        // Each segment is run once more, and linearised where it steps from and where the loss is read.
        let again = last * (steps + 1) + if self.read == ReadAt::Answer { read.saturating_sub(1) } else { 0 };
        let linearised = last * steps + read;
        let curved = if self.smooth.is_some() { 2 * last.saturating_sub(1) * updates } else { 0 };
        Work::new(again + linearised + curved, linearised + curved)
    }
}

/// A model behind the defence.
pub struct Defended<'a> {
    /// The model.
    pub model: &'a dyn Equilibrium,
    /// The deployed tail, which the corrected form answers through.
    pub tail: Tail,
    /// The settings.
    pub defence: &'a EntropyReduction,
    /// Where the work is counted.
    pub counter: WorkCounter,
}

/// What the defence computed on its way.
pub struct DefendedTrace {
    /// z_1..z_T, each `[N, D]`; an example that stopped within a segment stays where it is until the next.
    pub states: Vec<State>,
    /// x_0..x_{S−1}: the input of each segment, `[N, C, H, W]`.
    pub inputs: Vec<Images>,
    /// The answer, `[N, K]`.
    pub logits: Logits,
}

/// What is kept of a segment for the way back.
struct Stage {
    images: Images,
    begin: Carried<State>,
    /// The state that the updates of the input were made at.
    end: State,
    updates: Vec<Update>,
}

impl Defended<'_> {
    /// The answer, `[N, K]`, for images `[N, C, H, W]`.
    pub fn logits(&self, images: &Images) -> Logits {
        self.run(images, |_, _| {}).0
    }

    /// The answer with the states and inputs on the way.
    pub fn trace(&self, images: &Images) -> DefendedTrace {
        let mut states = Vec::new();
        let (logits, stages) = self.run(images, |tape, ended| {
            states.extend(ended.states.iter().map(|&state| tape.value(state).clone()));
        });
        DefendedTrace { states, inputs: stages.into_iter().map(|stage| stage.images).collect(), logits }
    }

    /// The objective at the deployed answer, and the gradient `[N, C, H, W]`, by a way back, of the sum of the objective
    /// where that way reads it.
    ///
    /// # Panics
    ///
    /// If the way back reads other segments than there are; [`WayBack::check`] says so before.
    pub fn gradient(&self, images: &Images, objective: &dyn Objective, way: &WayBack) -> (Reading, Images) {
        let (logits, stages) = self.run(images, |_, _| {});
        let (values, derivative) = objective.values_and_derivative(&logits);
        let (mut at_input, mut at_received) = (images.zeros_like(), images.zeros_like());
        // Of what the segment after this one inherited.
        let mut bars: Option<Carried<Option<State>>> = None;
        for (s, stage) in stages.iter().enumerate().rev() {
            if let Some(bars) = &mut bars {
                let mut through = Bars { images: at_input, received: at_received, state: bars.state.take() };
                for update in stage.updates.iter().rev() {
                    self.update_back(update, &stage.end, images, way.smooth, &mut through);
                }
                (at_input, at_received, bars.state) = (through.images, through.received, through.state);
            }
            let reads = match &way.read {
                ReadAt::Answer => s + 1 == stages.len(),
                ReadAt::Segments(weights) => weights[s] != 0.0,
            };
            if !reads && bars.is_none() {
                continue;
            }
            let (injection, to_images) = self.model.linearize_stem(&stage.images);
            let cell = Counted::new(self.model.bind(&injection), self.counter.clone());
            let mut tape = Tape::new(&cell);
            let begin = stage.begin.map(|value| tape.leaf(value.clone()));
            let ended = segment::run(&mut tape, &begin, self.defence);
            let mut seeds = bars.take().map_or(Vec::new(), |bars| inherited(&ended.carried, bars));
            match &way.read {
                ReadAt::Answer if reads => {
                    let answer = self.answer(&mut tape, &ended);
                    let (_, to_state) = self.model.linearize_head(tape.value(answer));
                    seeds.push((answer, to_state(derivative.clone())));
                }
                ReadAt::Segments(weights) if reads => {
                    let (logits, to_state) = self.model.linearize_head(tape.value(ended.value));
                    let (_, derivative) = objective.values_and_derivative(&logits);
                    seeds.push((ended.value, to_state(derivative * weights[s])));
                }
                _ => {}
            }
            let (mut leaves, at_injection) = tape.pull_back(seeds);
            bars = Some(begin.map(|&leaf| leaves.take(leaf)));
            if let Some(at_injection) = at_injection {
                at_input = at_input + to_images(at_injection);
            }
        }
        (Reading { logits, values }, at_input + at_received)
    }

    /// The pass forwards: the answer, and what is kept of each segment. `look` sees each segment's tape before it is left.
    fn run(&self, images: &Images, mut look: impl FnMut(&Tape<'_>, &Ended)) -> (Logits, Vec<Stage>) {
        let EntropyReduction { segments, updates, .. } = *self.defence;
        let mut input = images.clone();
        let mut begin: Option<Carried<State>> = None;
        let mut stages = Vec::with_capacity(segments);
        let mut logits = None;
        for s in 0..segments {
            let injection = self.model.injection(&input);
            let here = begin.take().unwrap_or_else(|| {
                Carried::begin(injection.zeros([injection.dims()[0], self.model.state_dim()]))
            });
            let cell = Counted::new(self.model.bind(&injection), self.counter.clone());
            let mut tape = Tape::new(&cell);
            let leaves = here.map(|value| tape.leaf(value.clone()));
            let ended = segment::run(&mut tape, &leaves, self.defence);
            look(&tape, &ended);
            let next = ended.carried.map(|&var| tape.value(var).clone());
            let mut stage =
                Stage { images: input.clone(), begin: here, end: next.state.clone(), updates: Vec::new() };
            if s + 1 == segments {
                let answer = self.answer(&mut tape, &ended);
                logits = Some(self.model.logits(tape.value(answer)));
            } else {
                for _ in 0..updates {
                    let (slope, _) = self.entropy_gradient(&stage.end, &input);
                    let update = Update { images: input, slope };
                    input = self.updated(&update, images);
                    stage.updates.push(update);
                }
                begin = Some(next);
            }
            stages.push(stage);
        }
        (logits.expect("there is a last segment"), stages)
    }

    /// The state that the head sees, after the last segment.
    fn answer(&self, tape: &mut Tape<'_>, ended: &Ended) -> Var {
        if self.defence.variant == Variant::Published {
            return ended.last();
        }
        let mut state = ended.carried.state;
        for (k, damping) in self.tail.dampings().enumerate() {
            let value = if k == 0 { ended.best_value } else { tape.application(state) };
            state = match damping {
                1.0 => value,
                _ => tape.combination(&[(1.0 - damping, state), (damping, value)]),
            };
        }
        state
    }
}

/// The cotangents of what the next segment inherited, each at its value on this segment's tape.
fn inherited(vars: &Carried<Var>, bars: Carried<Option<State>>) -> Vec<(Var, State)> {
    let pairs = vars.pairs.iter().zip(bars.pairs);
    let pairs = pairs.flat_map(|(&(u, v), (u_bar, v_bar))| [(u, u_bar), (v, v_bar)]);
    let last = vars.last.zip(bars.last);
    let last = last.into_iter().flat_map(|((step, residual), (step_bar, residual_bar))| {
        [(step, step_bar), (residual, residual_bar)]
    });
    let all = std::iter::once((vars.state, bars.state)).chain(pairs).chain(last);
    all.filter_map(|(var, bar)| Some((var, bar?))).collect()
}
