//! Architectures: what kind of model, its sizes, and the model that is built from them.
//!
//! An [`Architecture`] is what a model file or a recipe says, a [`Model`] what it becomes: everything else asks for these
//! two and knows no kind by name. One more kind is one more file beside this one, with a configuration that implements
//! [`ArchitectureConfig`], and a line in [`Architecture::presets`] if commands shall know it by name. Kinds of other crates
//! are read from model files like built-in ones.

mod lben;
mod mdeq;
mod model;
mod monotone;
mod monotone_conv;
mod monotone_multi;
mod resnet18;
mod sll;
mod wide_resnet;

pub use model::{Model, Parameters};

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use burn::tensor::Device;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::ConfigError;
use crate::model::init::Init;
use crate::model::monotone::{MonotoneConfig, MonotoneConvConfig, MonotoneMultiConfig};
use crate::model::normalisation::Normalisation;
use crate::model::resnet::ResNet18Config;
use crate::model::state_dict::Entry;
use crate::model::wide_resnet::WideResNetConfig;

/// The sizes of a model of one kind, as files and recipes say them.
///
/// `#[typetag::serde(name = "KIND")]` on the implementation makes it readable wherever an architecture is read, under that
/// kind; the crate of the implementation needs `typetag` among its dependencies. What images and classes a model is for
/// is a part of its sizes.
#[typetag::serde(tag = "kind")]
pub trait ArchitectureConfig: Any + fmt::Debug + Send + Sync {
    /// C, H, W of the images that the model takes.
    fn image(&self) -> [usize; 3];

    /// Number of classes K.
    fn classes(&self) -> usize;

    /// The same for other images and classes.
    fn for_data(&self, image: [usize; 3], classes: usize) -> Architecture;

    /// Whether the sizes fit together and are within the [limits](crate::model::limits).
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Whether models of this kind have an equilibrium.
    fn is_equilibrium(&self) -> bool;

    /// A model of sizes that are valid.
    fn build(&self, init: &mut Init) -> Box<dyn Model>;

    /// In a few words, such as "ResNet-18 of width 64".
    fn describe(&self) -> String;

    /// What images are normalised by, inside of the model.
    fn normalisation(&self) -> Option<&Normalisation> {
        None
    }

    /// The same for images that are normalised first. `None` for a kind that does not normalise.
    fn with_normalisation(&self, normalisation: Option<Normalisation>) -> Option<Architecture> {
        let _ = normalisation;
        None
    }

    /// The same with another width: channels of a ResNet-18's first stage, or a wide network's widening factor.
    /// `None` for a kind that is not described by one number.
    fn with_width(&self, width: usize) -> Option<Architecture> {
        let _ = width;
        None
    }

    /// Rate of variational dropout in the cell.
    fn dropout(&self) -> f64 {
        0.0
    }

    /// The same with another rate of variational dropout. `None` for a kind that has none.
    fn with_dropout(&self, dropout: f64) -> Option<Architecture> {
        let _ = dropout;
        None
    }

    /// The name here of a tensor that the usual code of this kind saves under another one; `None` for all others.
    fn own_name(&self, tensor: &str) -> Option<String> {
        let _ = tensor;
        None
    }

    /// A tensor that the usual code of this kind saves, by its name here, as it is here: one of another shape with the same
    /// meaning is brought to the shape that it has here.
    fn own_entry(&self, tensor: &str, entry: Entry) -> Entry {
        let _ = tensor;
        entry
    }

    /// Why the usual code of this kind means something by the numbers of a tensor, by its name here, that a model here cannot
    /// be; `None` for all others.
    fn misread(&self, tensor: &str, values: &[f32]) -> Option<String> {
        let _ = (tensor, values);
        None
    }

    /// Whether a tensor that the usual code of this kind saves is never used by its forward pass.
    fn is_unused(&self, tensor: &str) -> bool {
        let _ = tensor;
        false
    }
}

/// What kind of model, and its sizes.
#[derive(Clone)]
pub struct Architecture(Arc<dyn ArchitectureConfig>);

impl Architecture {
    /// Built-in architectures by the names that commands use.
    pub fn presets() -> Vec<(&'static str, Self)> {
        let mut presets = mdeq::presets();
        presets.push(("monotone-digits", MonotoneConfig::digits().into()));
        presets.push(("monotone-conv-digits", MonotoneConvConfig::digits().into()));
        presets.push(("monotone-multi-digits", MonotoneMultiConfig::digits().into()));
        presets.push(("resnet18", ResNet18Config::new(64).into()));
        presets.push(("wrn-34-10", WideResNetConfig::new(10).into()));
        presets
    }

    /// A built-in architecture by the name that commands use.
    pub fn named(name: &str) -> Option<Self> {
        Self::presets().into_iter().find(|(known, _)| *known == name).map(|(_, architecture)| architecture)
    }

    /// The names that [`Self::named`] knows.
    pub fn names() -> Vec<&'static str> {
        Self::presets().into_iter().map(|(name, _)| name).collect()
    }

    /// The kind under which files have it.
    pub fn kind(&self) -> &'static str {
        self.0.typetag_name()
    }

    /// The configuration, if it is of this type.
    pub fn config<C: ArchitectureConfig>(&self) -> Option<&C> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref()
    }

    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the sizes contradict each other.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Box<dyn Model>, ConfigError> {
        self.validate()?;
        Ok(self.build(&mut Init::new(seed, device)))
    }

    /// A model whose parameters have a shape and no memory yet: weights from a file are to replace them.
    ///
    /// # Errors
    ///
    /// If the sizes contradict each other.
    pub(crate) fn shapes_alone(&self, device: &Device) -> Result<Box<dyn Model>, ConfigError> {
        self.validate()?;
        Ok(self.build(&mut Init::shapes(device)))
    }

    /// How many numbers are trained. Takes no memory for them.
    ///
    /// # Errors
    ///
    /// If the sizes contradict each other.
    pub fn parameter_count(&self) -> Result<usize, ConfigError> {
        Ok(self.shapes_alone(&Device::flex())?.parameter_count())
    }
}

impl<C: ArchitectureConfig> From<C> for Architecture {
    fn from(config: C) -> Self {
        Self(Arc::new(config))
    }
}

impl Deref for Architecture {
    type Target = dyn ArchitectureConfig;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// That of the configuration itself.
impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Two architectures are the same if files say the same of them.
impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        let written = |architecture: &Self| serde_json::to_value(architecture).ok();
        written(self).is_some_and(|own| Some(own) == written(other))
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<dyn ArchitectureConfig>::deserialize(deserializer)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mdeq::MdeqConfig;

    #[test]
    fn shapes_are_those_of_a_model_and_take_no_memory() {
        let device = Device::flex();
        for name in [
            "mdeq-small",
            "single-scale",
            "mdeq-digits",
            "monotone-digits",
            "monotone-conv-digits",
            "monotone-multi-digits",
            "resnet18",
        ] {
            let architecture = Architecture::named(name).unwrap();
            let (shapes, model) =
                (architecture.shapes_alone(&device).unwrap(), architecture.init(0, &device).unwrap());
            assert_eq!(shapes.shapes(), model.shapes());
            let weights = model.weights();
            let found: Vec<_> =
                weights.iter().map(|(name, entry)| (name.clone(), entry.shape.clone())).collect();
            assert_eq!(shapes.shapes().into_iter().collect::<Vec<_>>(), found);
            assert_eq!(architecture.parameter_count().unwrap(), model.parameter_count());
            assert!(!shapes.has_memory() && model.has_memory(), "{name}");
            // What comes from a file is what a model with random weights would become.
            assert_eq!(shapes.with_weights(weights.clone()).unwrap().weights(), weights);
        }
        let large = MdeqConfig { final_channels: 65_536, classes: 10_000, ..MdeqConfig::small() };
        let large = Architecture::from(large);
        assert!(large.parameter_count().unwrap() > 600_000_000);
        let large = large.shapes_alone(&device).unwrap();
        assert!(!large.has_memory());
        let misfit = large.with_weights(Default::default()).unwrap_err();
        assert!(misfit.missing.contains(&"classifier.weight".to_owned()));
    }

    #[test]
    fn files_say_the_kind_first_and_then_the_sizes() {
        for (name, architecture) in Architecture::presets() {
            let text = serde_json::to_string(&architecture).unwrap();
            assert!(text.starts_with(&format!("{{\"kind\":\"{}\",", architecture.kind())), "{text}");
            let read: Architecture = serde_json::from_str(&text).unwrap();
            assert_eq!(read, architecture, "{name}");
            let built = read.shapes_alone(&Device::flex()).unwrap();
            assert_eq!(read.is_equilibrium(), built.equilibrium().is_some(), "{name}");
            assert_eq!(read.is_equilibrium(), !["resnet18", "wrn-34-10"].contains(&read.kind()), "{name}");
            let [c, h, w] = architecture.image();
            assert_ne!(architecture.for_data([c, h, w], 7), architecture);
        }
        let unknown =
            serde_json::from_str::<Architecture>(r#"{"kind":"transformer"}"#).unwrap_err().to_string();
        assert!(
            ["transformer", "mdeq", "monotone", "monotone-conv", "monotone-multi", "resnet18", "wrn-34-10"]
                .iter()
                .all(|name| unknown.contains(name)),
            "{unknown}"
        );
        let field = r#"{"kind":"resnet18","width":4,"depth":3}"#;
        let unknown = serde_json::from_str::<Architecture>(field).unwrap_err().to_string();
        assert!(unknown.contains("depth"), "{unknown}");
    }
}
