//! The Lipschitz-bounded equilibrium network (Revay, Wang and Manchester 2020, arXiv 2010.01732): ‖y(x) − y(x′)‖ ≤ γ ‖x − x′‖ for
//! logits y and normalised images x, whatever is trained.
//!
//! Two fixed points differ by Δz with ⟨(I − W) Δz, Δz⟩ ≤ ⟨UΔx, Δz⟩, a ReLU's values and what they are the projections of being
//! monotone (without Λ, as in [`weight`](super::weight)). The left side is at least (‖GΔz‖² + ‖UᵀΔz‖²)/2γ, the right one at most
//! (γ‖Δx‖² + ‖UᵀΔz‖²/γ)/2. So the bound is one of the whole network, and W is made of the injection's and the head's
//! matrices too.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::config::{classes, dynamics};
use super::weight::{LbenCell, LbenWeight, Settings};
use super::{Monotone, MonotoneCell, MonotoneHead, MonotoneStem, Splitting};
use crate::model::ConfigError;
use crate::model::cell::{BoundCell, Cell};
use crate::model::deq::{Deq, Head, Stem};
use crate::model::equilibrium::{Equilibrium, ToImages, ToState};
use crate::model::init::{Init, Law};
use crate::model::layers::Dense;
use crate::model::limits::{MAX_CHANNELS, at_most, images_within, parameters_within};
use crate::model::normalisation::Normalisation;
use crate::state::{Injection, State};
use equipoise_attack::batch::{Images, Logits};

/// Sizes of a Lipschitz-bounded equilibrium network, and its bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LbenConfig {
    /// Length D of the state.
    pub hidden: usize,
    /// γ > 0: logits move by at most γ times as much as the normalised image, in L2.
    pub lipschitz: f64,
    /// m > 0: the symmetric part of I − ΛWΛ⁻¹ is at least m I, beside what the bound takes.
    pub monotonicity: f64,
    /// α in (0, 1\], the cell's step, as that of [`MonotoneConfig`](super::MonotoneConfig).
    pub step: f64,
    /// Which map has the fixed point.
    #[serde(default, skip_serializing_if = "Splitting::is_usual")]
    pub splitting: Splitting,
    /// C, H, W of the images.
    pub image: [usize; 3],
    /// Number of classes K.
    #[serde(default = "classes")]
    pub classes: usize,
    /// What the images are normalised by before anything else; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
}

impl LbenConfig {
    /// 40 units for 8×8 digits.
    pub fn digits() -> Self {
        Self {
            hidden: 40,
            lipschitz: 10.0,
            monotonicity: 1.0,
            step: 0.2,
            splitting: Splitting::ForwardBackward,
            image: [1, 8, 8],
            classes: classes(),
            normalisation: None,
        }
    }

    /// Whether the sizes fit together and are within the [limits](crate::model::limits).
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit, and what it must satisfy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, problem: String| Err(ConfigError { field, problem });
        if self.hidden == 0 {
            return wrong("hidden", "0 units; at least 1 is needed".into());
        }
        if !(self.lipschitz >= 1e-6 && self.lipschitz <= 1e6) {
            return wrong("lipschitz", format!("{} is not in [0.000001, 1000000]", self.lipschitz));
        }
        at_most("hidden", self.hidden, MAX_CHANNELS)?;
        images_within(self.image, self.classes)?;
        dynamics(self.monotonicity, self.step, self.classes, self.image)?;
        self.normalisation.iter().try_for_each(|normalisation| normalisation.validate(self.image[0]))?;
        parameters_within(&self.build(&mut Init::shapes(&Device::flex())))
    }

    /// A model with random weights.
    ///
    /// # Errors
    ///
    /// If the configuration contradicts itself; see [`LbenConfig::validate`].
    pub fn init(&self, seed: u64, device: &Device) -> Result<Lben, ConfigError> {
        self.validate()?;
        Ok(self.build(&mut Init::new(seed, device)))
    }

    /// A model of sizes that fit together.
    pub(crate) fn build(&self, init: &mut Init) -> Lben {
        let (side, pixels) = (self.hidden, self.image.iter().product());
        let stem = MonotoneStem {
            injection: Dense::new(pixels, side, init),
            normalisation: self.normalisation.clone(),
        };
        let cell = LbenWeight {
            v: init.parameter([side, side], Law::FanIn),
            s: init.parameter([side, side], Law::FanIn),
            d: init.filled([side], 0.0),
            settings: Settings::new(self.monotonicity, self.step, self.splitting),
            lipschitz: self.lipschitz,
        };
        let classifier = Dense::new(side, self.classes, init);
        Lben { stem, cell, head: MonotoneHead { classifier, splitting: self.splitting } }
    }
}

/// A Lipschitz-bounded equilibrium network: its parameters, each once.
#[derive(Module, Debug)]
pub struct Lben {
    /// U x + b.
    pub stem: MonotoneStem,
    /// V, S and Λ.
    pub cell: LbenWeight,
    /// G z + c.
    pub head: MonotoneHead,
}

impl Lben {
    /// γ.
    pub fn lipschitz(&self) -> f64 {
        self.cell.lipschitz
    }

    /// The network as a monotone DEQ, whose cell shares U with the stem and G with the head.
    pub fn network(&self) -> Monotone {
        let Self { stem, cell, head } = self.clone();
        let (u, g) = (stem.injection.weight.clone(), head.classifier.weight.clone());
        Deq { stem, cell: MonotoneCell::Lben(LbenCell { own: cell, u, g }), head }
    }
}

impl Equilibrium for Lben {
    fn classes(&self) -> usize {
        self.head.classes()
    }

    fn state_dim(&self) -> usize {
        self.cell.v.lazy_shape()[0]
    }

    fn injection(&self, images: &Images) -> Injection {
        self.network().injection(images)
    }

    fn linearize_stem(&self, images: &Images) -> (Injection, ToImages<'_>) {
        let (injection, to_images) = self.stem.linearize(images);
        (injection.into(), Box::new(|cotangent| to_images(cotangent.into_tensor())))
    }

    fn bind(&self, injection: &Injection) -> Box<dyn BoundCell> {
        self.network().cell.bind(injection.tensor())
    }

    fn logits(&self, state: &State) -> Logits {
        self.network().logits(state)
    }

    fn linearize_head(&self, state: &State) -> (Logits, ToState<'_>) {
        let (logits, to_state) = self.head.linearize(state.tensor());
        (logits, Box::new(|cotangent| to_state(cotangent).into()))
    }
}
