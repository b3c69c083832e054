//! The multi-tier convolutional monotone DEQ as an architecture.

use super::{Architecture, ArchitectureConfig, Model};
use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::monotone::MonotoneMultiConfig;
use crate::model::normalisation::Normalisation;
use crate::model::state_dict::Entry;

#[typetag::serde(name = "monotone-multi")]
impl ArchitectureConfig for MonotoneMultiConfig {
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
        let tiers: Vec<_> = self.tiers().iter().map(|[c, h, w]| format!("{c} of {h}×{w}")).collect();
        format!("monotone DEQ with {} tiers, channels {} units", tiers.len(), tiers.join(", "))
    }

    fn normalisation(&self) -> Option<&Normalisation> {
        self.normalisation.as_ref()
    }

    fn with_normalisation(&self, normalisation: Option<Normalisation>) -> Option<Architecture> {
        Some(Self { normalisation, ..self.clone() }.into())
    }

    /// The authors' lists of modules and of scalars: `A0.1.weight` is A of the second tier, `A_n0.1.weight` N from it on.
    fn own_name(&self, tensor: &str) -> Option<String> {
        let listed = || {
            let (before, theirs) = tensor.split_at(tensor.find("mon.linear_module.")?);
            let theirs: Vec<&str> = theirs.split('.').skip(2).collect();
            let own = match theirs[..] {
                ["A0", tier, "weight"] => format!("tiers.{tier}.a"),
                ["B0", tier, "weight"] => format!("tiers.{tier}.b"),
                ["A_n0", tier, "weight"] => format!("downs.{tier}.n"),
                ["g", tier] => format!("tiers.{tier}.g"),
                ["h", tier] => format!("tiers.{tier}.h"),
                ["gn", tier] => format!("downs.{tier}.gamma"),
                _ => return None,
            };
            (before.is_empty() || before.ends_with('.')).then(|| format!("{before}fullstage.{own}"))
        };
        listed().or_else(|| super::monotone::own_name(tensor))
    }

    fn is_unused(&self, tensor: &str) -> bool {
        super::monotone::is_double(tensor)
    }

    /// The authors' classifier reads the border of the last tier too, where it is 0.
    fn own_entry(&self, tensor: &str, entry: Entry) -> Entry {
        let Some([c, h, w]) = self.tiers().pop().filter(|_| tensor == "classifier.weight" && self.pool == 1)
        else {
            return entry;
        };
        if entry.shape != [self.classes, c * (h + 2) * (w + 2)] {
            return entry;
        }
        let inside = |at: usize| {
            let (y, x) = (at / (w + 2) % (h + 2), at % (w + 2));
            (1..=h).contains(&y) && (1..=w).contains(&x)
        };
        let values = entry.values.into_iter().enumerate().filter(|(at, _)| inside(*at));
        Entry { shape: vec![self.classes, c * h * w], values: values.map(|(_, value)| value).collect() }
    }

    fn misread(&self, tensor: &str, values: &[f32]) -> Option<String> {
        let root =
            tensor.ends_with(".gamma") || (tensor.starts_with("fullstage.tiers.") && tensor.ends_with(".g"));
        let negative = root && values.iter().any(|scale| *scale < 0.0);
        negative.then(|| {
            format!(
                "is {}, of which the authors' code takes the root: below 0 that is no number; here its size counts, which would be \
                 another network",
                values[0]
            )
        })
    }
}
