//! The convolutional monotone DEQ as an architecture.

use super::{Architecture, ArchitectureConfig, Model};
use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::monotone::{MonotoneConvConfig, Parametrisation};
use crate::model::normalisation::Normalisation;

#[typetag::serde(name = "monotone-conv")]
impl ArchitectureConfig for MonotoneConvConfig {
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
        let [channels, h, w] = self.state();
        let kind = match self.parametrisation {
            Parametrisation::WinstonKolter => "convolutional monotone DEQ".to_owned(),
            other => format!("convolutional monotone DEQ ({})", other.name()),
        };
        format!("{kind} with {channels} channels of {h}×{w} units")
    }

    fn normalisation(&self) -> Option<&Normalisation> {
        self.normalisation.as_ref()
    }

    fn with_normalisation(&self, normalisation: Option<Normalisation>) -> Option<Architecture> {
        Some(Self { normalisation, ..self.clone() }.into())
    }

    fn with_width(&self, width: usize) -> Option<Architecture> {
        Some(Self { channels: width, ..self.clone() }.into())
    }

    fn own_name(&self, tensor: &str) -> Option<String> {
        super::monotone::own_name(tensor)
    }

    fn is_unused(&self, tensor: &str) -> bool {
        super::monotone::is_double(tensor)
    }

    fn misread(&self, tensor: &str, values: &[f32]) -> Option<String> {
        let negative = tensor == "fullstage.g" && values.iter().any(|g| *g < 0.0);
        negative.then(|| {
            format!(
                "is {}: below 0 nothing makes W monotone; here the size of g counts, which would be another network",
                values[0]
            )
        })
    }
}
