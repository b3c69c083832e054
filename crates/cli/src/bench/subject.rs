//! What is measured: a model of random weights that contracts, and random images, in files that both programs read.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use equipoise::architecture::{Architecture, Model};
use equipoise::checkpoint::{FORMAT_VERSION, Metadata, ModelFile};
use equipoise::model::mdeq::MdeqConfig;
use equipoise::random::ExampleRng;
use equipoise::victim::Deployment;
use equipoise_report::write_atomically;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use crate::error::{Error, input};
use crate::files::failed;

/// Feedforward networks by name.
const FEEDFORWARD: [&str; 2] = ["resnet18", "wrn-34-10"];

/// A model to be measured, and a folder for its files.
pub struct Subject {
    /// Its name.
    pub name: String,
    /// What it is.
    pub architecture: Architecture,
    model: Box<dyn Model>,
    seed: u64,
    folder: TempDir,
}

impl Subject {
    /// A model by name, its weights drawn from a seed; `resnet18-w8` is a ResNet-18 of width 8.
    pub fn new(name: &str, seed: u64, device: &Device) -> Result<Self, Error> {
        let unknown = || {
            let mdeq = MdeqConfig::NAMES.join(", ");
            let feedforward = FEEDFORWARD.join(", ");
            input(format!(
                "--model {name}: unknown here; use {mdeq}, {feedforward}, or one of the latter with a width, as \
                 {}-w8",
                FEEDFORWARD[0]
            ))
        };
        let architecture = match MdeqConfig::named(name) {
            // Dropout would be another computation in training.
            Some(config) => MdeqConfig { dropout: 0.0, ..config }.into(),
            None => {
                let (kind, width) = match name.rsplit_once("-w") {
                    Some((kind, width)) => (kind, Some(width.parse().map_err(|_| unknown())?)),
                    None => (name, None),
                };
                let usual = FEEDFORWARD.contains(&kind).then(|| Architecture::named(kind)).flatten();
                let usual = usual.ok_or_else(unknown)?;
                width.map_or(Some(usual.clone()), |width| usual.with_width(width)).ok_or_else(unknown)?
            }
        };
        Self::of(name, architecture, seed, device)
    }

    /// The same model for the smallest images that an MDEQ's branches allow, at least 8×8; for 16×16 where there are none.
    pub fn miniature(&self, device: &Device) -> Result<Self, Error> {
        let side = match self.mdeq() {
            Some(config) => (1 << (config.downsample_times + config.branches() - 1)).max(8),
            None => 16,
        };
        let [channels, ..] = self.architecture.image();
        let architecture = self.architecture.for_data([channels, side, side], self.architecture.classes());
        Self::of(&self.name, architecture, self.seed, device)
    }

    /// The sizes of an MDEQ.
    pub fn mdeq(&self) -> Option<&MdeqConfig> {
        self.architecture.config()
    }

    fn of(name: &str, architecture: Architecture, seed: u64, device: &Device) -> Result<Self, Error> {
        let model = architecture.init(seed, device).map_err(input)?;
        let model = if architecture.is_equilibrium() { contracting(&*model)? } else { model };
        let folder = tempfile::tempdir().map_err(failed(&std::env::temp_dir(), "make a folder in"))?;
        Ok(Self { name: name.to_owned(), architecture, model, seed, folder })
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The model's file, deployed like this.
    pub fn model(&self, deployment: &Deployment) -> Result<(PathBuf, ModelFile), Error> {
        let metadata = Metadata {
            format_version: FORMAT_VERSION,
            name: self.name.clone(),
            architecture: self.architecture.clone(),
            deployment: deployment.clone(),
            training: serde_json::Value::Null,
            data: String::new(),
        };
        let file = ModelFile { metadata, model: self.model.clone() };
        let path = self.path("model.safetensors");
        file.write(&path)?;
        Ok((path, file))
    }

    /// `count` images of uniform noise with random labels: `x` and `y`, as `trace` reads them.
    pub fn images(&self, count: usize) -> Result<PathBuf, Error> {
        let [channels, height, width] = self.architecture.image();
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for index in 0..count {
            let mut rng = ExampleRng::new(self.seed, "bench image", index, 0);
            pixels.extend((0..channels * height * width).map(|_| rng.unit() as f32));
            labels.push(rng.uniform(0.0, self.architecture.classes() as f64) as usize);
        }
        let path = self.path("input.safetensors");
        write_input(&path, &pixels, [count, channels, height, width], &labels)?;
        Ok(path)
    }
}

/// The same with cells that contract, as trained ones do: other cells carry rounding on from application to
/// application, and no two programs agree on what comes out.
fn contracting(model: &dyn Model) -> Result<Box<dyn Model>, Error> {
    let mut weights = model.weights();
    for (name, entry) in &mut weights {
        let factor = match name.rsplit_once(".gn") {
            Some((_, "1.weight")) => 0.3,
            Some((_, "2.weight")) => 3.0,
            _ => continue,
        };
        entry.values.iter_mut().for_each(|value| *value *= factor);
    }
    model.with_weights(weights).map_err(|error| Error::Internal(error.to_string()))
}

/// `x` and `y` as `trace` reads them.
pub fn write_input(path: &Path, pixels: &[f32], shape: [usize; 4], labels: &[usize]) -> Result<(), Error> {
    let internal = |error: safetensors::SafeTensorError| Error::Internal(error.to_string());
    let pixels: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let count = labels.len();
    let labels: Vec<u8> = labels.iter().flat_map(|&label| (label as i64).to_le_bytes()).collect();
    let x = TensorView::new(Dtype::F32, shape.to_vec(), &pixels).map_err(internal)?;
    let y = TensorView::new(Dtype::I64, vec![count], &labels).map_err(internal)?;
    let content = safetensors::serialize([("x", x), ("y", y)], None).map_err(internal)?;
    Ok(write_atomically(path, &content)?)
}
