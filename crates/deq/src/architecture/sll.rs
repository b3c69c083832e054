//! A network of SDP-based Lipschitz layers as an architecture.

use super::{Architecture, ArchitectureConfig, Model};
use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::normalisation::Normalisation;
use crate::model::sll::SllConfig;

#[typetag::serde(name = "sll")]
impl ArchitectureConfig for SllConfig {
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
        false
    }

    fn build(&self, init: &mut Init) -> Box<dyn Model> {
        Box::new(self.build(init))
    }

    fn describe(&self) -> String {
        format!(
            "{} SDP-based Lipschitz layers of {} units, width {}, gamma {}",
            self.layers, self.units, self.width, self.lipschitz
        )
    }

    fn normalisation(&self) -> Option<&Normalisation> {
        self.normalisation.as_ref()
    }

    fn with_normalisation(&self, normalisation: Option<Normalisation>) -> Option<Architecture> {
        Some(Self { normalisation, ..self.clone() }.into())
    }

    fn with_width(&self, width: usize) -> Option<Architecture> {
        Some(Self { width, ..self.clone() }.into())
    }
}
