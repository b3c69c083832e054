//! The numbers of the demo: what is trained for how long, and how hard it is attacked.

use equipoise::train::{Adversary, OptimizerConfig, TrainConfig};

/// The architecture of both models.
pub const ARCHITECTURE: &str = "mdeq-digits";
/// Radius of training and evaluation, L∞. Digits have 8×8 pixels of 17 grey levels, 1/16 apart.
pub const EPS: f64 = 0.15;
/// Images of the training split held out, to watch training by and to choose `early` on.
pub const DEVELOPMENT: usize = 97;
/// Behind what the models are evaluated.
pub const READOUTS: &str = "final,early";
/// The estimators beside the training gradient: two intermediate states, and the true gradient.
pub const GRADIENTS: &str = "unrolled:state=2,lead=1,steps=4,unrolled:state=4,lead=1,steps=4,through-solver";
/// Images per batch of the evaluation.
pub const BATCH: usize = 100;

/// What `--quick` changes.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Epochs of the standard model.
    pub standard_epochs: usize,
    /// Epochs of the adversarially trained model.
    pub adversarial_epochs: usize,
    /// Test images evaluated.
    pub count: usize,
    /// The attack.
    pub attack: &'static str,
}

/// The demo.
pub const FULL: Size =
    Size { standard_epochs: 8, adversarial_epochs: 12, count: 200, attack: "pgd-20,square-200" };
/// The demo in a hurry.
pub const QUICK: Size =
    Size { standard_epochs: 2, adversarial_epochs: 3, count: 40, attack: "pgd-10,square-50" };

/// Both recipes, with the names of the models.
pub fn recipes(size: Size) -> [(&'static str, TrainConfig); 2] {
    let standard = TrainConfig {
        optimizer: OptimizerConfig::Adam { learning_rate: 3e-3, weight_decay: 0.0 },
        batch_size: 64,
        development: DEVELOPMENT,
        ..TrainConfig::standard(size.standard_epochs)
    };
    let adversary = Adversary { eps: EPS, steps: 5, ..Adversary::default() };
    let adversarial =
        TrainConfig { epochs: size.adversarial_epochs, adversary: Some(adversary), ..standard.clone() };
    [("standard", standard), ("pgd-at", adversarial)]
}

/// The architecture of the demo's models.
pub fn architecture() -> Result<equipoise::architecture::Architecture, crate::error::Error> {
    crate::recipe::architecture(ARCHITECTURE)
}

/// How the demo in a hurry trains under attack, and the radius.
pub fn quick() -> (TrainConfig, f64) {
    let [_, (_, config)] = recipes(QUICK);
    (config, EPS)
}
