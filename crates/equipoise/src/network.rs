//! Any model that the commands know, behind one type.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::attack::WhiteBox;
use crate::deployed::{Deployment, Victim};
use crate::feedforward::FeedforwardVictim;
use crate::gradient::Estimator;
use crate::model::init::Init;
use crate::model::mdeq::{ConfigError, Mdeq, MdeqConfig};
use crate::model::normalisation::Normalisation;
use crate::model::resnet::{ResNet18, ResNet18Config};
use crate::model::wide_resnet::{WideResNet, WideResNetConfig};
use crate::readout::Readout;

/// What kind of model, and its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Architecture {
    /// A multiscale DEQ, single-scale with one branch.
    #[serde(rename = "mdeq")]
    Mdeq(MdeqConfig),
    /// A ResNet-18 for small images.
    #[serde(rename = "resnet18")]
    ResNet18(ResNet18Config),
    /// A wide residual network; 34-10 unless it says otherwise.
    #[serde(rename = "wrn-34-10")]
    WideResNet(WideResNetConfig),
}

impl Architecture {
    /// An architecture by the name that commands use.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "resnet18" => Some(Self::ResNet18(ResNet18Config::new(64))),
            "wrn-34-10" => Some(Self::WideResNet(WideResNetConfig::new(10))),
            _ => MdeqConfig::named(name).map(Self::Mdeq),
        }
    }

    /// The names that [`Self::named`] knows.
    pub fn names() -> Vec<&'static str> {
        MdeqConfig::NAMES.into_iter().chain(["resnet18", "wrn-34-10"]).collect()
    }

    /// The same for other images and classes.
    pub fn for_data(self, image: [usize; 3], classes: usize) -> Self {
        match self {
            Self::Mdeq(config) => Self::Mdeq(MdeqConfig { image, classes, ..config }),
            Self::ResNet18(config) => Self::ResNet18(ResNet18Config { image, classes, ..config }),
            Self::WideResNet(config) => Self::WideResNet(WideResNetConfig { image, classes, ..config }),
        }
    }

    /// The same with another width: channels of a ResNet-18's first stage, or a wide network's widening factor.
    /// `None` for a DEQ, whose branches have a width each.
    pub fn with_width(self, width: usize) -> Option<Self> {
        match self {
            Self::Mdeq(_) => None,
            Self::ResNet18(config) => Some(Self::ResNet18(ResNet18Config { width, ..config })),
            Self::WideResNet(config) => Some(Self::WideResNet(WideResNetConfig { width, ..config })),
        }
    }

    /// The same with another rate of variational dropout. `None` for a feedforward network, which has none.
    pub fn with_dropout(self, dropout: f64) -> Option<Self> {
        match self {
            Self::Mdeq(config) => Some(Self::Mdeq(MdeqConfig { dropout, ..config })),
            Self::ResNet18(_) | Self::WideResNet(_) => None,
        }
    }

    /// The same for images that are normalised first, inside of the model.
    pub fn with_normalisation(self, normalisation: Option<Normalisation>) -> Self {
        match self {
            Self::Mdeq(config) => Self::Mdeq(MdeqConfig { normalisation, ..config }),
            Self::ResNet18(config) => Self::ResNet18(ResNet18Config { normalisation, ..config }),
            Self::WideResNet(config) => Self::WideResNet(WideResNetConfig { normalisation, ..config }),
        }
    }

    /// What images are normalised by.
    pub fn normalisation(&self) -> Option<&Normalisation> {
        match self {
            Self::Mdeq(config) => config.normalisation.as_ref(),
            Self::ResNet18(config) => config.normalisation.as_ref(),
            Self::WideResNet(config) => config.normalisation.as_ref(),
        }
    }

    /// C, H, W of the images that the model takes.
    pub fn image(&self) -> [usize; 3] {
        match self {
            Self::Mdeq(config) => config.image,
            Self::ResNet18(config) => config.image,
            Self::WideResNet(config) => config.image,
        }
    }

    /// Number of classes K.
    pub fn classes(&self) -> usize {
        match self {
            Self::Mdeq(config) => config.classes,
            Self::ResNet18(config) => config.classes,
            Self::WideResNet(config) => config.classes,
        }
    }

    /// Whether the sizes fit together and are within the [limits](crate::model::limits).
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Mdeq(config) => config.validate(),
            Self::ResNet18(config) => config.validate(),
            Self::WideResNet(config) => config.validate(),
        }
    }

    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the sizes contradict each other.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Network, ConfigError> {
        let mut init = Init::new(seed, device);
        match self {
            Self::Mdeq(config) => config.init(seed, device).map(Network::Mdeq),
            Self::ResNet18(config) => config.init(&mut init).map(Network::ResNet18),
            Self::WideResNet(config) => config.init(&mut init).map(Network::WideResNet),
        }
    }

    /// A model whose parameters have a shape and no memory yet: weights from a file are to replace them.
    ///
    /// # Errors
    ///
    /// If the sizes contradict each other.
    pub(crate) fn shapes_alone(&self, device: &Device) -> Result<Network, ConfigError> {
        self.validate()?;
        let mut init = Init::shapes(device);
        Ok(match self {
            Self::Mdeq(config) => Network::Mdeq(config.build(&mut init)),
            Self::ResNet18(config) => Network::ResNet18(config.build(&mut init)),
            Self::WideResNet(config) => Network::WideResNet(config.build(&mut init)),
        })
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

/// A model of any architecture.
#[derive(Module, Debug)]
pub enum Network {
    /// A multiscale DEQ.
    Mdeq(Mdeq),
    /// A ResNet-18.
    ResNet18(ResNet18),
    /// A wide residual network.
    WideResNet(WideResNet),
}

impl Network {
    /// How many numbers are trained: the running statistics of batch normalisations are not.
    pub fn parameter_count(&self) -> usize {
        let trained = |name: &str| !name.ends_with("running_mean") && !name.ends_with("running_var");
        let shapes = self.shapes();
        shapes
            .iter()
            .filter(|(name, _)| trained(name))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// The model behind a readout, attacked through an estimator. A feedforward network has one readout and one
    /// gradient, whatever is asked for.
    pub fn victim<'a>(
        &'a self,
        deployment: &'a Deployment,
        readout: Readout,
        estimator: Estimator,
    ) -> Box<dyn WhiteBox + 'a> {
        match self {
            Self::Mdeq(model) => Box::new(Victim::new(model, deployment, readout, estimator)),
            Self::ResNet18(model) => Box::new(FeedforwardVictim::new(model)),
            Self::WideResNet(model) => Box::new(FeedforwardVictim::new(model)),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::Tensor;

    use super::*;

    #[test]
    fn shapes_are_those_of_a_model_and_take_no_memory() {
        struct Untouched;
        impl ModuleVisitor for Untouched {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                assert!(!param.is_initialized());
            }
        }
        let device = Device::flex();
        for name in ["mdeq-small", "single-scale", "mdeq-digits", "resnet18"] {
            let architecture = Architecture::named(name).unwrap();
            let (shapes, model) =
                (architecture.shapes_alone(&device).unwrap(), architecture.init(0, &device).unwrap());
            assert_eq!(shapes.shapes(), model.shapes());
            let weights = model.weights();
            let found: Vec<_> =
                weights.iter().map(|(name, entry)| (name.clone(), entry.shape.clone())).collect();
            assert_eq!(shapes.shapes().into_iter().collect::<Vec<_>>(), found);
            assert_eq!(architecture.parameter_count().unwrap(), model.parameter_count());
            shapes.visit(&mut Untouched);
            // What comes from a file is what a model with random weights would become.
            assert_eq!(shapes.with_weights(weights.clone()).unwrap().weights(), weights);
        }
        let large =
            Architecture::Mdeq(MdeqConfig { final_channels: 65_536, classes: 10_000, ..MdeqConfig::small() });
        assert!(large.parameter_count().unwrap() > 600_000_000);
        let large = large.shapes_alone(&device).unwrap();
        large.visit(&mut Untouched);
        let misfit = large.with_weights(Default::default()).unwrap_err();
        assert!(misfit.missing.contains(&"classifier.weight".to_owned()));
    }
}
