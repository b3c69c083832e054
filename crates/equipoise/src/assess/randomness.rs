//! Models that draw random numbers: what a verdict on one means, how it is attacked, and what one draw is worth.
//!
//! A verdict is of draws that no attack has seen, keyed by the example: of one (`one-shot`), or of n of which none may be wrong
//! (`any-of-n`), since whoever may submit an image again waits for the draw that he needs. `fixed-seed` holds attack and
//! verdict to the same draw: what is left if the randomness is known, which is the figure of a defence that does not rest on it.
//! Attacks go through the exact mean over all outcomes where one solve holds them, and elsewhere through the mean of several
//! draws (expectation over transformation, Athalye et al. 2018).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use equipoise_record::{RandomnessResult, Rate};

use super::{AssessError, Assessment, Labelled};
use crate::attack::{
    Attack, Budget, Classifier, Expectation, Noisy, Pgd, PgdConfig, Pinned, Question, WhiteBox,
};
use crate::batch::{Images, predictions};
use crate::evaluate::{Observer, Points, Stopping};
use crate::gradient::Estimator;
use crate::model::equilibrium::Equilibrium;
use crate::network::Network;
use crate::plan::Subject;
use crate::random::Key;
use crate::readout::Readout;
use crate::victim::{Deployment, Victim};

/// What a verdict on a model that draws random numbers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// One draw, which no attack has seen.
    #[default]
    OneShot,
    /// So many draws, which no attack has seen: the image is broken if one of them is wrong.
    AnyOf(usize),
    /// One draw, which every attack knows.
    FixedSeed,
}

/// The most draws of a verdict.
const MOST: usize = 10_000;

impl Protocol {
    /// How often a verdict asks.
    pub fn draws(self) -> usize {
        match self {
            Self::OneShot | Self::FixedSeed => 1,
            Self::AnyOf(draws) => draws,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneShot => f.write_str("one-shot"),
            Self::AnyOf(draws) => write!(f, "any-of-{draws}"),
            Self::FixedSeed => f.write_str("fixed-seed"),
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "protocol `{text}`: use one-shot, any-of-N with N from 2 to {MOST}, as in any-of-10, or fixed-seed"
            )
        };
        match text {
            "one-shot" => Ok(Self::OneShot),
            "fixed-seed" => Ok(Self::FixedSeed),
            text => match text.strip_prefix("any-of-").map(str::parse) {
                Some(Ok(draws)) if (2..=MOST).contains(&draws) => Ok(Self::AnyOf(draws)),
                _ => Err(wrong()),
            },
        }
    }
}

/// What is random about a deployed model beside its readout, and how that is met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Randomness {
    /// Deviation of normal noise that is added to every image, in units of pixel intensity.
    pub noise: Option<f64>,
    /// What a verdict is.
    pub protocol: Protocol,
    /// Draws whose mean an attack follows, where the mean over all outcomes cannot be had: 20 in the reference
    /// implementation of AutoAttack.
    pub draws: usize,
}

impl Default for Randomness {
    fn default() -> Self {
        Self { noise: None, protocol: Protocol::OneShot, draws: 20 }
    }
}

impl Randomness {
    /// # Errors
    ///
    /// A deviation that is not above 0, and numbers of draws out of range.
    pub fn check(&self) -> Result<(), String> {
        match self.noise {
            Some(sigma) if !(sigma > 0.0 && sigma.is_finite()) => Err(format!(
                "noise {sigma}: give a deviation above 0, in units of pixel intensity, such as 0.1"
            )),
            _ if !(1..=MOST).contains(&self.draws) => {
                Err(format!("mean of {} draws: give 1 to {MOST}", self.draws))
            }
            _ => Ok(()),
        }
    }

    /// Whether a model behind this readout draws anything.
    pub fn concerns(&self, readout: &Readout) -> bool {
        self.noise.is_some() || readout.draws()
    }

    /// Whether something is drawn behind this readout of which the outcomes cannot be listed, so that attacks follow the mean of
    /// several draws.
    pub fn samples(&self, readout: &Readout) -> bool {
        self.noise.is_some() || readout.starts().is_some()
    }

    /// An attack on a model behind this readout. One that ends at the first success would end where half of the draws are
    /// wrong, so that it takes all its steps where the verdict's draw is not known.
    pub fn attack(&self, attack: &Arc<dyn Attack>, readout: &Readout) -> Arc<dyn Attack> {
        let unknown = self.concerns(readout) && self.protocol != Protocol::FixedSeed;
        attack.to_the_end().filter(|_| unknown).unwrap_or_else(|| attack.clone())
    }

    /// The model as a verdict asks it.
    pub fn deployed<'a>(&self, network: &'a dyn Network) -> Randomised<'a> {
        Randomised { network, randomness: *self, seen: Seen::Once }
    }

    /// The model as attacks see it.
    pub fn attacked<'a>(&self, network: &'a dyn Network) -> Randomised<'a> {
        let seen = if self.protocol == Protocol::FixedSeed { Seen::Pinned } else { Seen::Mean(self.draws) };
        Randomised { network, randomness: *self, seen }
    }
}

/// A network with what is random about its deployment, from one side. Without anything random it is the network itself.
#[derive(Debug)]
pub struct Randomised<'a> {
    network: &'a dyn Network,
    randomness: Randomness,
    seen: Seen,
}

/// How often it answers a question.
#[derive(Debug, Clone, Copy)]
enum Seen {
    /// By one draw.
    Once,
    /// By the mean of so many, unless the readout's own mean is exact.
    Mean(usize),
    /// By the draw of the verdict.
    Pinned,
}

impl<'a> Randomised<'a> {
    /// It behind a readout, attacked through an estimator: [`Network::victim`] for as long as the network is there.
    pub fn behind(
        &self,
        deployment: &'a Deployment,
        readout: Readout,
        estimator: Estimator,
    ) -> Box<dyn WhiteBox + 'a> {
        let pinned = matches!(self.seen, Seen::Pinned);
        let random = self.randomness.concerns(&readout);
        let sampled = self.randomness.samples(&readout);
        let readout = if pinned { readout.sampled().unwrap_or(readout) } else { readout };
        let model = self.network.victim(deployment, readout, estimator);
        let model: Box<dyn WhiteBox + 'a> = match self.randomness.noise {
            None => model,
            Some(sigma) => Box::new(Noisy::new(model, sigma)),
        };
        match self.seen {
            Seen::Pinned if random => Box::new(Pinned(model)),
            Seen::Mean(draws) if sampled => Box::new(Expectation::new(model, draws)),
            _ => model,
        }
    }
}

impl Network for Randomised<'_> {
    fn classes(&self) -> usize {
        self.network.classes()
    }

    fn equilibrium(&self) -> Option<&dyn Equilibrium> {
        self.network.equilibrium()
    }

    fn victim<'a>(
        &'a self,
        deployment: &'a Deployment,
        readout: Readout,
        estimator: Estimator,
    ) -> Box<dyn WhiteBox + 'a> {
        self.behind(deployment, readout, estimator)
    }

    fn draws(&self, readout: &Readout) -> usize {
        match self.seen {
            Seen::Mean(draws) if self.randomness.samples(readout) => draws,
            _ => 1,
        }
    }
}

/// Steps of the attack on which draws are scored.
const STEPS: usize = 20;

/// Fresh draws of an image where the outcomes cannot be listed.
const SCORED: usize = 100;

impl Assessment<'_> {
    /// What one draw is worth: a PGD that takes all its steps up the mean loss, and of the images where it ends the share of
    /// outcomes that are right. `None` if the observer cancelled.
    pub(super) fn draws(
        &self,
        subject: &Subject<'_>,
        judge: &dyn Classifier,
        points: &Points,
        budget: Budget,
        observer: &Labelled<'_>,
    ) -> Result<Option<RandomnessResult>, AssessError> {
        let readout = &subject.readout;
        let mean = Randomness { protocol: Protocol::OneShot, ..self.randomness };
        let attacked = mean.attacked(self.network);
        let truth = Estimator::truth(readout);
        let victim = attacked.victim(self.deployment, readout.clone(), truth.clone());
        let pgd = PgdConfig { steps: STEPS, keep_first: false, ..PgdConfig::default() };
        let pgd = Pgd::new(pgd).expect("steps and a restart");
        let exact = !self.randomness.samples(readout);
        let (mut clean, mut found) = (Vec::new(), Vec::new());
        observer.stage("draws", points.len());
        let all: Vec<usize> = (0..points.len()).collect();
        for rows in all.chunks(self.batch_size) {
            if observer.cancelled() {
                return Ok(None);
            }
            let batch = points.select(rows);
            let attempt =
                pgd.run_with(&*victim, &batch.examples(self.seed, 0), &budget, &Stopping::new(observer));
            if observer.cancelled() {
                return Ok(None);
            }
            let right = |images| self.right(readout, judge, &batch, images, exact);
            clean.extend(right(batch.images()));
            found.extend(right(&attempt.images));
            observer.advance(rows.len(), "");
        }
        let outcomes = if exact { readout.states(self.deployment.solver.steps).len() } else { SCORED };
        let majority = |right: &&usize| 2 * **right > outcomes;
        let every = |right: &&usize| **right == outcomes;
        let gradient = if subject.is_equilibrium() { truth.to_string() } else { "exact".to_owned() };
        Ok(Some(RandomnessResult {
            protocol: self.randomness.protocol.to_string(),
            noise: self.randomness.noise,
            mean_of: if exact { outcomes } else { self.randomness.draws },
            attack: format!("{}/{gradient}, all steps", pgd.name()),
            outcomes,
            exact,
            clean_expected: Rate::mean(clean.iter().map(|&right| right as f64 / outcomes as f64)),
            expected: Rate::mean(found.iter().map(|&right| right as f64 / outcomes as f64)),
            every: Rate::of(found.iter().filter(every).count(), found.len()),
            majority: Rate::of(found.iter().filter(majority).count(), found.len()),
        }))
    }

    /// How many outcomes are right, by example.
    fn right(
        &self,
        readout: &Readout,
        judge: &dyn Classifier,
        batch: &Points,
        images: &Images,
        exact: bool,
    ) -> Vec<usize> {
        let mut right = vec![0; batch.labels().len()];
        let mut count = |logits| {
            for ((right, class), &label) in right.iter_mut().zip(predictions(&logits)).zip(batch.labels()) {
                *right += usize::from(class == Some(label));
            }
        };
        match self.network.equilibrium() {
            Some(model) if exact => {
                let gradient = self.deployment.training_gradient.clone();
                let victim = Victim::new(model, self.deployment, readout.clone(), gradient);
                victim.outcomes(images).into_iter().for_each(&mut count);
            }
            _ => {
                let keys = batch.keys(self.seed, "score");
                for draw in 0..SCORED {
                    let keys: Vec<Key> = keys.iter().map(|key| Key { draw, ..*key }).collect();
                    count(judge.answer(&Question { images, keys: &keys }));
                }
            }
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_read_back() {
        for name in ["one-shot", "any-of-2", "any-of-100", "fixed-seed"] {
            assert_eq!(name.parse::<Protocol>().unwrap().to_string(), name);
        }
        for wrong in ["", "any-of-1", "any-of-0", "any-of-x", "any-of-10001", "two-shot"] {
            let message = wrong.parse::<Protocol>().unwrap_err();
            assert!(message.contains("one-shot, any-of-N"), "{message}");
        }
    }

    #[test]
    fn noise_and_draws_have_bounds() {
        let usual = Randomness::default();
        assert_eq!(usual.check(), Ok(()));
        for noise in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let message = Randomness { noise: Some(noise), ..usual }.check().unwrap_err();
            assert!(message.contains("above 0"), "{message}");
        }
        for draws in [0, MOST + 1] {
            let message = Randomness { draws, ..usual }.check().unwrap_err();
            assert!(message.contains("1 to 10000"), "{message}");
        }
    }
}
