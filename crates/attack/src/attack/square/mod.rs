//! Square Attack: random search without gradients (Andriushchenko et al. 2020, arXiv 1912.00049).
//!
//! A query changes a square of the best image so far and keeps the change if the margin gains by it. As the
//! attack asks for logits only, masked gradients do not touch it: where it beats a white-box attack, that
//! attack's gradients are at fault. Unlike in the reference implementation every example draws its own squares,
//! so that its batch does not matter, and their places reach the last row and column, as in the paper.

mod l2;
mod linf;
mod schedule;

use std::fmt;
use std::ops::ControlFlow;

use thiserror::Error;

pub use schedule::square_share;

use super::driver::{Region, Schedule, Search, each_example};
use super::names::{AttackFamily, Counts, boxed};
use super::{Attack, Norm, Queries};
use crate::loss::Margin;
use crate::random::ExampleRng;

/// How Square searches.
#[derive(Debug, Clone, PartialEq)]
pub struct SquareConfig {
    /// Queries of each restart after the one about its start, at least 1.
    pub queries: usize,
    /// Independent tries, at least 1. Each meets only the examples that withstood those before it.
    pub restarts: usize,
    /// The share p of the pixels in the first squares; see [`square_share`].
    pub share: f64,
}

impl Default for SquareConfig {
    /// Square of the standard version: 5,000 queries, one restart, p = 0.8.
    fn default() -> Self {
        Self { queries: 5000, restarts: 1, share: 0.8 }
    }
}

/// Why a Square configuration was refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SquareError {
    /// No queries, or no tries.
    #[error(
        "Square needs at least one query and one restart, and has {queries} and {restarts}: ask for square, say"
    )]
    Nothing {
        /// Queries asked for.
        queries: usize,
        /// Restarts asked for.
        restarts: usize,
    },
    /// A share that is none.
    #[error(
        "the first squares cover a share of the image between 0 and 1, and not {0}: the usual one is 0.8"
    )]
    Share(f64),
}

/// The attack. Deterministic given the run's seed and the example's index.
#[derive(Debug, Clone, PartialEq)]
pub struct Square {
    config: SquareConfig,
}

/// What the proposals for one example depend on.
struct Scene<'a> {
    clean: &'a [f32],
    shape: [usize; 3],
    eps: f64,
}

impl Scene<'_> {
    /// Index of a pixel.
    fn at(&self, channel: usize, row: usize, column: usize) -> usize {
        let [_, height, width] = self.shape;
        (channel * height + row) * width + column
    }

    /// Row and column of the pixel with this index.
    fn row_and_column(&self, index: usize) -> (usize, usize) {
        let [_, height, width] = self.shape;
        (index / width % height, index % width)
    }

    /// Top and left of a square of this side.
    fn place(&self, side: usize, rng: &mut ExampleRng) -> (usize, usize) {
        let [_, height, width] = self.shape;
        (rng.below(height + 1 - side), rng.below(width + 1 - side))
    }

    /// The clean image with this change, scaled to the length ε.
    fn with_length_eps(&self, change: Vec<f64>) -> Vec<f32> {
        let length = change.iter().map(|d| d * d).sum::<f64>().sqrt();
        let scale = if length > 0.0 { self.eps / length } else { 0.0 };
        self.clean.iter().zip(change).map(|(&x, d)| (f64::from(x) + scale * d) as f32).collect()
    }
}

/// One example under attack.
struct State {
    row: usize,
    rng: ExampleRng,
    best: Vec<f32>,
    /// Margin at the best image.
    margin: f32,
}

impl Square {
    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`SquareError`] if there is nothing to do, or if the share is not between 0 and 1.
    pub fn new(config: SquareConfig) -> Result<Self, SquareError> {
        let SquareConfig { queries, restarts, share } = config;
        if queries == 0 || restarts == 0 {
            return Err(SquareError::Nothing { queries, restarts });
        }
        if !(share > 0.0 && share <= 1.0) {
            return Err(SquareError::Share(share));
        }
        Ok(Self { config })
    }

    /// The configuration.
    pub fn config(&self) -> &SquareConfig {
        &self.config
    }

    /// The next image to ask about: the start, and then the best image with a square changed.
    fn propose(&self, region: Region<'_>, question: usize, state: &mut State) -> Vec<f32> {
        let budget = region.budget();
        let scene = Scene { clean: region.clean(state.row), shape: region.image_shape(), eps: budget.eps() };
        let rng = &mut state.rng;
        let [_, height, width] = scene.shape;
        let side = |least| {
            let share = square_share(self.config.share, question.saturating_sub(1));
            schedule::side(share, [height, width], least)
        };
        let mut image = match (budget.norm(), question) {
            (Norm::Linf, 0) => linf::stripes(&scene, rng),
            (Norm::Linf, _) => linf::push(&scene, &state.best, side(1), rng),
            (Norm::L1, _) => unreachable!("Square refuses L1"),
            (Norm::L2, 0) => l2::tiles(&scene, rng),
            // A bump needs a middle: sides are odd, and at least three.
            (Norm::L2, _) => {
                let odd = (side(3) / 2 * 2 + 1).min(height).min(width);
                l2::shift(&scene, &state.best, odd, rng)
            }
        };
        region.project(state.row, &mut image);
        image
    }
}

impl Attack for Square {
    fn name(&self) -> String {
        self.to_string()
    }

    fn settings(&self) -> String {
        let SquareConfig { queries, restarts, share } = self.config;
        format!("queries {queries}, restarts {restarts}, p {share}")
    }

    fn needs_gradients(&self) -> bool {
        false
    }

    fn norms(&self) -> &'static [Norm] {
        &[Norm::Linf, Norm::L2]
    }

    fn schedule(&self, _classes: usize, _norm: Norm) -> Schedule {
        // The first question is about the start.
        let questions = self.config.queries + 1;
        Schedule::new(questions, self.config.restarts, Queries { gradients: 0, logits: questions })
    }

    fn search(&self, search: &mut Search<'_>) -> ControlFlow<()> {
        let fresh = |row| {
            let rng = search.rng("square", row);
            State { row, rng, best: Vec::new(), margin: f32::NEG_INFINITY }
        };
        let mut states: Vec<State> = search.rows().into_iter().map(fresh).collect();
        for question in 0..=self.config.queries {
            if states.is_empty() {
                break;
            }
            search.step(states.len())?;
            let (region, nothing) = (search.region(), vec![(); states.len()]);
            let proposals =
                each_example(&mut states, nothing, |state, ()| self.propose(region, question, state));
            let points: Vec<(usize, &[f32])> =
                states.iter().zip(&proposals).map(|(state, image)| (state.row, image.as_slice())).collect();
            let labels = states.iter().map(|state| search.label(state.row)).collect();
            let answers = search.values(&points, &Margin { labels });
            for ((state, proposal), answer) in states.iter_mut().zip(proposals).zip(answers) {
                if answer.fooled {
                    search.keep(state.row, &proposal, true);
                } else if answer.value > state.margin {
                    (state.best, state.margin) = (proposal, answer.value);
                }
            }
            states.retain(|state| search.stands(state.row));
        }
        for state in states {
            search.keep(state.row, &state.best, false);
        }
        ControlFlow::Continue(())
    }
}

/// Names of Square.
pub(super) const FAMILY: AttackFamily = AttackFamily {
    names: &["square"],
    usage: "square[-QUERIES[xRESTARTS]] such as square, square-1000",
    parse: |name| {
        let usual = SquareConfig::default();
        Ok(Counts::read(name, "square", Some(usual.queries))?.and_then(|counts| {
            let Counts { steps: queries, restarts } = counts;
            boxed(Square::new(SquareConfig { queries, restarts, ..usual }))
        }))
    },
};

impl fmt::Display for Square {
    /// `square`; with another number of queries `square-1000`, with restarts `square-5000x2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SquareConfig { queries: steps, restarts, .. } = self.config;
        f.write_str(&Counts { steps, restarts }.name("square", Some(SquareConfig::default().queries)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_that_lead_nowhere_are_refused() {
        let ok = SquareConfig::default();
        assert!(Square::new(SquareConfig { queries: 0, ..ok.clone() }).is_err());
        assert!(Square::new(SquareConfig { restarts: 0, ..ok.clone() }).is_err());
        for share in [0.0, -0.5, 1.5, f64::NAN] {
            assert!(Square::new(SquareConfig { share, ..ok.clone() }).is_err());
        }
        assert!(Square::new(ok).is_ok());
    }
}
