//! Any model that the commands know, behind one type.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::attack::WhiteBox;
use crate::deployed::{Deployment, Victim};
use crate::gradient::Estimator;
use crate::model::mdeq::{ConfigError, Mdeq, MdeqConfig};
use crate::readout::Readout;

/// What kind of model, and its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Architecture {
    /// A multiscale DEQ, single-scale with one branch.
    Mdeq(MdeqConfig),
}

impl Architecture {
    /// An architecture by the name that commands use.
    pub fn named(name: &str) -> Option<Self> {
        MdeqConfig::named(name).map(Self::Mdeq)
    }

    /// The names that [`Self::named`] knows.
    pub fn names() -> Vec<&'static str> {
        MdeqConfig::NAMES.to_vec()
    }

    /// The same for other images and classes.
    pub fn for_data(self, image: [usize; 3], classes: usize) -> Self {
        match self {
            Self::Mdeq(config) => Self::Mdeq(MdeqConfig { image, classes, ..config }),
        }
    }

    /// C, H, W of the images that the model takes.
    pub fn image(&self) -> [usize; 3] {
        match self {
            Self::Mdeq(config) => config.image,
        }
    }

    /// Number of classes K.
    pub fn classes(&self) -> usize {
        match self {
            Self::Mdeq(config) => config.classes,
        }
    }

    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the sizes contradict each other.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Network, ConfigError> {
        match self {
            Self::Mdeq(config) => config.init(seed, device).map(Network::Mdeq),
        }
    }
}

/// A model of any architecture.
#[derive(Module, Debug)]
pub enum Network {
    /// A multiscale DEQ.
    Mdeq(Mdeq),
}

impl Network {
    /// The model behind a readout, attacked through an estimator.
    pub fn victim<'a>(
        &'a self,
        deployment: &'a Deployment,
        readout: Readout,
        estimator: Estimator,
    ) -> Box<dyn WhiteBox + 'a> {
        match self {
            Self::Mdeq(model) => Box::new(Victim::new(model, deployment, readout, estimator)),
        }
    }
}
