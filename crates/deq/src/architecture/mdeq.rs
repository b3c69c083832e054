//! The multiscale DEQ as an architecture; with one branch it is the single-scale DEQ.

use super::{Architecture, ArchitectureConfig, Model};
use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::mdeq::MdeqConfig;
use crate::model::normalisation::Normalisation;

/// Those of [`MdeqConfig::named`].
pub(super) fn presets() -> Vec<(&'static str, Architecture)> {
    let named = |name| Some((name, MdeqConfig::named(name)?.into()));
    MdeqConfig::NAMES.into_iter().filter_map(named).collect()
}

#[typetag::serde(name = "mdeq")]
impl ArchitectureConfig for MdeqConfig {
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
        let channels: Vec<String> = self.channels.iter().map(ToString::to_string).collect();
        match channels.len() {
            1 => format!("single-scale DEQ with {} channels", channels.join("")),
            n => format!("MDEQ of {n} branches with {} channels", channels.join(", ")),
        }
    }

    fn normalisation(&self) -> Option<&Normalisation> {
        self.normalisation.as_ref()
    }

    fn with_normalisation(&self, normalisation: Option<Normalisation>) -> Option<Architecture> {
        Some(Self { normalisation, ..self.clone() }.into())
    }

    fn dropout(&self) -> f64 {
        self.dropout
    }

    fn with_dropout(&self, dropout: f64) -> Option<Architecture> {
        Some(Self { dropout, ..self.clone() }.into())
    }
}
