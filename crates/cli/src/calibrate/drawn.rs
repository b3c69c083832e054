//! Victims that draw random numbers, as verdicts ask them and as attacks see them.

use std::fmt;

use equipoise::assess::{Protocol, Randomness};
use equipoise::attack::{Classifier, WhiteBox};
use equipoise::evaluate::Run;
use equipoise::gradient::Estimator;
use equipoise::readout::Readout;
use equipoise::victim::Deployment;

use super::model::Model;
use super::trial::Trial;
use super::victims::readout;

/// What is drawn for every image and question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drawn {
    /// The number of solver steps.
    States,
    /// Normal noise of this deviation on the image.
    Noise(f64),
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::States => f.write_str("random states"),
            Self::Noise(sigma) => write!(f, "noise {sigma}"),
        }
    }
}

/// Draws whose mean attacks follow: fewer than the product's, since neither error rate nor power rests on it.
const MEAN_OF: usize = 5;

/// How a victim answers and is attacked: without anything drawn, as any model.
#[derive(Debug, Clone)]
pub struct Asked {
    readout: Readout,
    randomness: Randomness,
}

impl Asked {
    /// Nothing is drawn.
    pub fn plain(readout: Readout) -> Self {
        Self { readout, randomness: Randomness::default() }
    }

    /// Something is, and a verdict is of so many draws.
    pub fn drawn(drawn: Drawn, protocol: Protocol) -> Self {
        let (readout, noise) = match drawn {
            Drawn::States => (Readout::random_states(1), None),
            Drawn::Noise(sigma) => (readout(), Some(sigma)),
        };
        Self { readout, randomness: Randomness { noise, protocol, draws: MEAN_OF } }
    }

    /// The readout.
    pub fn readout(&self) -> &Readout {
        &self.readout
    }

    /// The model as a verdict asks it.
    pub fn judge<'a>(&self, model: &'a Model, deployment: &'a Deployment) -> Box<dyn Classifier + 'a> {
        let truth = Estimator::truth(&self.readout);
        self.randomness.deployed(model).behind(deployment, self.readout.clone(), truth)
    }

    /// The model as attacks see it through an estimator.
    pub fn victim<'a>(
        &self,
        model: &'a Model,
        deployment: &'a Deployment,
        estimator: Estimator,
    ) -> Box<dyn WhiteBox + 'a> {
        self.randomness.attacked(model).behind(deployment, self.readout.clone(), estimator)
    }

    /// A trial of such a model: verdicts are of as many draws as the protocol has, and attacks take all their steps where the
    /// draw is not known, as in the product.
    pub fn trial<'a>(&self, mut trial: Trial<'a>) -> Trial<'a> {
        let end = |run: &mut Run<'_>| run.attack = self.randomness.attack(&run.attack, &self.readout);
        trial.arms.draws = self.randomness.protocol.draws();
        trial.arms.each_run(end);
        for duel in &mut trial.duels {
            [&mut duel.other, &mut duel.training].into_iter().for_each(end);
        }
        trial
    }
}
