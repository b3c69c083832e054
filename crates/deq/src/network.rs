//! A network in use: what attacks, checks and diagnoses ask of it, wherever its parameters are.
//!
//! Every [`Model`](crate::architecture::Model) is one. A network of another make, which is neither trained nor kept in files
//! here, needs these three methods alone: with an [`Equilibrium`] it is examined like a built-in DEQ.

use std::fmt;

use crate::feedforward::FeedforwardVictim;
use crate::gradient::Estimator;
use crate::model::cell::Cell;
use crate::model::deq::{Deq, Head, Stem};
use crate::model::equilibrium::Equilibrium;
use crate::model::feedforward::Feedforward;
use crate::readout::Readout;
use crate::victim::{Deployment, Victim};
use equipoise_attack::attack::WhiteBox;

/// A network that is used and not trained.
pub trait Network: fmt::Debug + Sync {
    /// Number of classes K.
    fn classes(&self) -> usize;

    /// The network as solvers see it. `None` for a feedforward network.
    fn equilibrium(&self) -> Option<&dyn Equilibrium>;

    /// The network behind a readout, attacked through an estimator. A feedforward network has one readout and one
    /// gradient, whatever is asked for.
    fn victim<'a>(
        &'a self,
        deployment: &'a Deployment,
        readout: Readout,
        estimator: Estimator,
    ) -> Box<dyn WhiteBox + 'a>;

    /// How many answers of the model behind a readout one answer to an attack takes: 1, unless it is the mean of several draws.
    fn draws(&self, readout: &Readout) -> usize {
        let _ = readout;
        1
    }
}

impl<S: Stem, C: Cell, H: Head> Network for Deq<S, C, H> {
    fn classes(&self) -> usize {
        self.head.classes()
    }

    fn equilibrium(&self) -> Option<&dyn Equilibrium> {
        Some(self)
    }

    fn victim<'a>(
        &'a self,
        deployment: &'a Deployment,
        readout: Readout,
        estimator: Estimator,
    ) -> Box<dyn WhiteBox + 'a> {
        Box::new(Victim::new(self, deployment, readout, estimator))
    }
}

impl<M: Feedforward> Network for M {
    fn classes(&self) -> usize {
        Feedforward::classes(self)
    }

    fn equilibrium(&self) -> Option<&dyn Equilibrium> {
        None
    }

    fn victim<'a>(&'a self, _: &'a Deployment, _: Readout, _: Estimator) -> Box<dyn WhiteBox + 'a> {
        Box::new(FeedforwardVictim::new(self))
    }
}
