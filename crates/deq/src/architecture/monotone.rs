//! The monotone DEQ as an architecture.

use super::{Architecture, ArchitectureConfig, Model};
use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::monotone::{MonotoneConfig, Parametrisation};
use crate::model::normalisation::Normalisation;

/// Names in the authors' code, by their end, and here.
const NAMES: [[&str; 2]; 8] = [
    ["mon.linear_module.U.weight", "injection.weight"],
    ["mon.linear_module.U.bias", "injection.bias"],
    ["mon.linear_module.A.weight", "fullstage.a"],
    ["mon.linear_module.B.weight", "fullstage.b"],
    ["mon.linear_module.g", "fullstage.g"],
    ["mon.linear_module.h", "fullstage.h"],
    ["Wout.weight", "classifier.weight"],
    ["Wout.bias", "classifier.bias"],
];

#[typetag::serde(name = "monotone")]
impl ArchitectureConfig for MonotoneConfig {
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
        match self.parametrisation {
            Parametrisation::WinstonKolter => format!("monotone DEQ with {} units", self.hidden),
            other => format!("monotone DEQ ({}) with {} units", other.name(), self.hidden),
        }
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
        own_name(tensor)
    }

    fn is_unused(&self, tensor: &str) -> bool {
        is_double(tensor)
    }
}

/// Names in equations, as people save arrays from MATLAB and NumPy, and here.
const LETTERS: [[&str; 2]; 11] = [
    ["U", "injection.weight"],
    ["u", "injection.bias"],
    ["A", "fullstage.a"],
    ["B", "fullstage.b"],
    ["T", "fullstage.t"],
    ["M", "fullstage.m"],
    ["V", "fullstage.v"],
    ["S", "fullstage.s"],
    ["d", "fullstage.d"],
    ["C", "classifier.weight"],
    ["c", "classifier.bias"],
];

/// Whether the authors' code saves a tensor for the second time: their model holds its linear part itself, and so does the
/// solver in it, from which it is read.
pub(super) fn is_double(tensor: &str) -> bool {
    tensor.starts_with("linear_module.")
}

/// The name here of a tensor of the authors' code, fully connected or convolutional, or of one that has the letter of an
/// equation.
pub(super) fn own_name(tensor: &str) -> Option<String> {
    let named = |[theirs, own]: &[&str; 2]| {
        let before = tensor.strip_suffix(theirs)?;
        (before.is_empty() || before.ends_with('.')).then(|| format!("{before}{own}"))
    };
    let letter = LETTERS.iter().find(|[letter, _]| *letter == tensor).map(|[_, own]| (*own).to_owned());
    letter.or_else(|| NAMES.iter().find_map(named))
}
