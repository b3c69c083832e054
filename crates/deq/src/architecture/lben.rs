//! The Lipschitz-bounded equilibrium network as an architecture.

use super::{Architecture, ArchitectureConfig, Model};
use crate::gradient::Estimator;
use crate::model::ConfigError;
use crate::model::deq::Head;
use crate::model::equilibrium::Equilibrium;
use crate::model::init::Init;
use crate::model::monotone::{Lben, LbenConfig};
use crate::model::normalisation::Normalisation;
use crate::network::Network;
use crate::readout::Readout;
use crate::training_pass::{StepGradients, StepOptions, UnsupportedCell, gradients};
use crate::victim::{Deployment, Victim};
use equipoise_attack::attack::WhiteBox;
use equipoise_attack::batch::Images;
use equipoise_attack::loss::Objective;
use equipoise_attack::work::WorkCounter;

#[typetag::serde(name = "lben")]
impl ArchitectureConfig for LbenConfig {
    fn image(&self) -> [usize; 3] {
        self.image
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn for_data(&self, image: [usize; 3], classes: usize) -> Architecture {
        Self { image, classes, ..self.clone() }.into()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }

    fn is_equilibrium(&self) -> bool {
        true
    }

    fn build(&self, init: &mut Init) -> Box<dyn Model> {
        Box::new(self.build(init))
    }

    fn describe(&self) -> String {
        format!("Lipschitz-bounded equilibrium network with {} units, gamma {}", self.hidden, self.lipschitz)
    }

    fn normalisation(&self) -> Option<&Normalisation> {
        self.normalisation.as_ref()
    }

    fn with_normalisation(&self, normalisation: Option<Normalisation>) -> Option<Architecture> {
        Some(Self { normalisation, ..self.clone() }.into())
    }

    fn with_width(&self, width: usize) -> Option<Architecture> {
        Some(Self { hidden: width, ..self.clone() }.into())
    }

    fn own_name(&self, tensor: &str) -> Option<String> {
        super::monotone::own_name(tensor)
    }
}

impl Network for Lben {
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

/// The gradients with respect to U and G through W and through stem and head come together: they are of the same parameters.
impl Model for Lben {
    fn training_pass(
        &self,
        deployment: &Deployment,
        options: &StepOptions,
        images: &Images,
        objective: &dyn Objective,
        counter: &WorkCounter,
    ) -> Result<StepGradients, UnsupportedCell> {
        gradients(&self.network(), deployment, options, images, objective, counter)
    }
}
