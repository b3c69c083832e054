//! A DEQ of your own is trained, saved, attacked by the whole white-box plan and diagnosed like a built-in one.
//!
//! A cell needs only `apply`, in Burn operations: here f(z; x) = tanh(W z + x), on flat images, with a linear head. Its
//! sizes, as an [`ArchitectureConfig`], make it a kind of model that files can hold.
//!
//! `cargo run --release -p equipoise --example own_deq`

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use equipoise::assess;
use equipoise::checkpoint::{FORMAT_VERSION, Metadata};
use equipoise::diagnose::{Examination, Settings};
use equipoise::model::ConfigError;
use equipoise::model::cell::Cell;
use equipoise::model::deq::Deq;
use equipoise::model::init::{Init, Law};
use equipoise::model::layers::Dense;
use equipoise::model::linear::{FlattenStem, LinearHead};
use equipoise::prelude::*;
use equipoise::train::Silent;
use serde::{Deserialize, Serialize};

/// f(z; x) = tanh(W z + x).
#[derive(Module, Debug)]
struct TanhCell {
    /// W, `[D, D]`.
    weight: Param<Tensor<2>>,
}

impl Cell for TanhCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        let product = state.unsqueeze_dim::<3>(1) * self.weight.val().unsqueeze_dim(0);
        (product.sum_dim(2).squeeze_dim(2) + injection).tanh()
    }

    fn state_dim(&self) -> usize {
        self.weight.dims()[0]
    }
}

/// The sizes, as a model file says them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TanhDeq {
    /// C, H, W; the state has as many numbers.
    pub image: [usize; 3],
    /// Number of classes.
    pub classes: usize,
}

#[typetag::serde(name = "tanh-deq")]
impl ArchitectureConfig for TanhDeq {
    fn image(&self) -> [usize; 3] {
        self.image
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn for_data(&self, image: [usize; 3], classes: usize) -> Architecture {
        Self { image, classes }.into()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        match self.image.iter().product::<usize>() {
            1..=4096 => Ok(()),
            pixels => Err(ConfigError {
                field: "image",
                problem: format!("{pixels} numbers; 1 to 4096 are possible"),
            }),
        }
    }

    fn is_equilibrium(&self) -> bool {
        true
    }

    fn build(&self, init: &mut Init) -> Box<dyn Model> {
        let pixels = self.image.iter().product();
        Box::new(Deq {
            stem: FlattenStem {},
            cell: TanhCell { weight: init.parameter([pixels, pixels], Law::Normal(0.05)) },
            head: LinearHead { classifier: Dense::new(pixels, self.classes, init) },
        })
    }

    fn describe(&self) -> String {
        format!("DEQ of one tanh layer with {} units", self.image.iter().product::<usize>())
    }
}

/// From training to a diagnosis.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default();
    let data = Source::Digits.load(Split::Train)?;
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: "tanh".into(),
        architecture: TanhDeq { image: [1, 8, 8], classes: 10 }.into(),
        deployment: Deployment::exact(),
        training: serde_json::Value::Null,
        data: String::new(),
    };
    let folder = tempfile::tempdir()?;
    let config = TrainConfig { development: 97, ..TrainConfig::standard(5) };
    let (seed, path) = (0, folder.path().to_owned());
    train(
        &Plan { metadata, config, data: &data, init: None, seed, folder: path, resume: false },
        &device,
        &Silent,
    )?;

    let file = ModelFile::read(&folder.path().join("model.safetensors"), &device)?;
    let architecture = &file.metadata.architecture;
    println!("{}, {} parameters", architecture.describe(), file.model.parameter_count());
    let test = Source::Digits.load(Split::Test)?.take(100);
    let budget = Budget::new(Norm::Linf, 0.1)?;
    let assessment = Assessment::new(&file, &test)
        .budget(budget)
        .attacks("pgd-10".parse()?)
        .gradients(vec![Estimator::through_solver(), "adjoint:state=4".parse()?], Vec::new())
        .readouts(["final".parse()?, "early(2)".parse()?]);
    for readout in assessment.run(&Quiet)?.ok_or("nobody stops it")?.readouts {
        let (clean, robust) = (readout.clean_accuracy.value, readout.white_box_accuracy.value);
        println!("{}: clean {clean:.2}, robust {robust:.2}, {:?}", readout.name, readout.verdict.finding);
    }

    let points = assess::points(&test, (0..test.len()).collect(), &device)?;
    let settings = Settings { budget, seed: 0, batch_size: 64 };
    let diagnosis =
        Examination::new(&file, &points, settings).sections(&["residual", "spectrum"])?.run(&Quiet)?;
    let spectrum = diagnosis.spectrum.and_then(|section| section.result).ok_or("it was asked for")?;
    println!("spectral radius: {:?}", spectrum.views[0].radius);
    Ok(())
}
