//! Model files, checkpoints of PyTorch, configurations, and images for a trace.

use std::fs;
use std::path::Path;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;
use burn::tensor::Device;
use equipoise::architecture::{Architecture, Model};
use equipoise::checkpoint::{
    Configuration, FORMAT_VERSION, ImportOptions, Metadata, ModelFile, export_pytorch, export_safetensors,
    import, read_checkpoint,
};
use equipoise::model::mdeq::MdeqConfig;
use equipoise::model::resnet::ResNet18Config;
use equipoise::solve::SolverConfig;
use equipoise::trace::read_input;
use equipoise::victim::Deployment;
use equipoise_fuzz::mutate::{bytes, json, safetensors, tar, tarred, text, zip};
use equipoise_fuzz::{Sample, Target, fuzz};

use crate::fixture;

/// An MDEQ for digits, as small as it gets.
pub fn tiny() -> Architecture {
    Architecture::from(MdeqConfig {
        channels: vec![4, 4],
        head_channels: vec![2, 2],
        final_channels: 8,
        groups: 2,
        expansion: 1,
        ..MdeqConfig::digits()
    })
}

/// Its metadata.
pub fn metadata(architecture: Architecture) -> Metadata {
    Metadata {
        format_version: FORMAT_VERSION,
        name: "tiny".into(),
        architecture,
        deployment: Deployment { solver: SolverConfig::broyden(4), ..Deployment::exact() },
        training: serde_json::json!({ "epochs": 1, "adversary": { "eps": 0.1 } }),
        data: "digits, train".into(),
    }
}

fn network(architecture: &Architecture) -> Box<dyn Model> {
    architecture.init(1, &Device::default()).unwrap()
}

/// A file that something writes.
fn written(name: &str, write: impl FnOnce(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write(&path);
    fs::read(path).unwrap()
}

fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fuzz!(model_files, 1500, {
    let narrow = Architecture::from(ResNet18Config::new(1)).for_data([1, 8, 8], 10);
    let samples = [tiny(), narrow].map(|architecture| {
        let content = written("m.safetensors", |path| {
            let model = network(&architecture);
            ModelFile { metadata: metadata(architecture), model }.write(path).unwrap();
        });
        Sample::of("model.safetensors", content, safetensors)
    });
    Target::new(samples.to_vec(), |folder| {
        let model =
            ModelFile::read(&folder.join("model.safetensors"), &Device::default()).map_err(text_of)?;
        // What is read can be written, and is the same when it is read again.
        let path = folder.join("again.safetensors");
        model.write(&path).map_err(text_of)?;
        let again = ModelFile::read(&path, &Device::default()).map_err(text_of)?;
        assert_eq!((&model.metadata, model.model.weights()), (&again.metadata, again.model.weights()));
        Ok(())
    })
});

/// Bytes of a pickle of protocol 2.
fn pickle(of: &[&[u8]]) -> Vec<u8> {
    [&b"\x80\x02"[..], &of.concat(), b"."].concat()
}

/// What PyTorch wrote before its version 0.1.10: one tensor of six numbers.
fn old_tar() -> Vec<u8> {
    let kind: &[u8] = b"ctorch\nFloatStorage\n";
    let numbers: Vec<u8> = (0..6).flat_map(|number| (number as f32).to_le_bytes()).collect();
    let words = |words: &[i64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let storage = pickle(&[b"K\x01X\x03\0\0\0cpu", kind, b"\x87"]);
    let storages = [pickle(&[b"K\x01"]), storage, words(&[6]), numbers, pickle(&[b"]"])].concat();
    // Number, storage, class; rank and padding; shape, strides, offset.
    let tensor = pickle(&[b"K\x07K\x01", kind, b"\x87"]);
    let tensors =
        [pickle(&[b"K\x01"]), tensor, vec![2, 0, 0, 0, 0, 0, 0, 0], words(&[2, 3, 3, 1, 0])].concat();
    let root = pickle(&[b"}X\x01\0\0\0wX\x01\0\0\x007Qs"]);
    tarred(&[("storages".into(), storages), ("tensors".into(), tensors), ("pickle".into(), root)])
}

/// Every tensor of a checkpoint, converted.
fn tensors(path: &Path) -> Result<(), String> {
    let tensors = read_checkpoint(path).map_err(text_of)?;
    for tensor in tensors.values() {
        // The caller adds the names of tensor and file.
        if let Ok(entry) = tensor.to_f32() {
            assert_eq!(entry.shape.iter().product::<usize>(), entry.values.len());
        }
    }
    Ok(())
}

fuzz!(checkpoints_zip, 2000, {
    let exported = written("m.pth", |path| export_pytorch(&*network(&tiny()), path).unwrap());
    let types = fs::read(fixture("equipoise/tests/fixtures/types.pth")).unwrap();
    let samples = [exported, types].map(|content| Sample::of("model.pth", content, zip));
    Target::new(samples.to_vec(), |folder| tensors(&folder.join("model.pth")))
});

fuzz!(checkpoints_legacy, 2000, {
    let content = fs::read(fixture("equipoise/tests/fixtures/three-branch/checkpoint.pth.tar")).unwrap();
    let sample = Sample::of("model.pth", content, bytes);
    Target::new(vec![sample], |folder| tensors(&folder.join("model.pth")))
});

fuzz!(checkpoints_tar, 2000, {
    let sample = Sample::of("model.pth.tar", old_tar(), tar);
    Target::new(vec![sample], |folder| tensors(&folder.join("model.pth.tar")))
});

fuzz!(checkpoints_safetensors, 1000, {
    let content = written("m.safetensors", |path| export_safetensors(&*network(&tiny()), path).unwrap());
    let sample = Sample::of("model.safetensors", content, safetensors);
    Target::new(vec![sample], |folder| tensors(&folder.join("model.safetensors")))
});

/// As the authors' release writes them.
const RELEASE: &str = "MODEL:
  NUM_LAYERS: 8
  NUM_CLASSES: 10
  NUM_GROUPS: 2
  DROPOUT: 0.0
  WNORM: true
  DOWNSAMPLE_TIMES: 1
  EXPANSION_FACTOR: 1
  POST_GN_AFFINE: false
  IMAGE_SIZE: [32, 32]
  EXTRA:
    FULL_STAGE:
      NUM_MODULES: 1
      NUM_BRANCHES: 2
      BLOCK: BASIC
      BIG_KERNELS: [0, 0]
      HEAD_CHANNELS: [1, 1]
      FINAL_CHANSIZE: 4
      NUM_BLOCKS: [1, 1]
      NUM_CHANNELS: [4, 4]
      FUSE_METHOD: SUM
DEQ:
  F_SOLVER: broyden
  B_SOLVER: broyden
  STOP_MODE: rel
  F_THRES: 4
  B_THRES: 3
";

const TOML: &str = r#"[architecture]
kind = "mdeq"
channels = [4, 4]
head_channels = [2, 2]
final_channels = 8
groups = 2
expansion = 1
image = [1, 8, 8]
classes = 10

[deployment]
training_gradient = "exact"
tail = { lead = 1, steps = 0, damping = 0.5 }
readout = "final"
solver = { method = "broyden", steps = 4, tolerance = 1e-3, scope = "example" }
backward = { method = "broyden", steps = 3, tolerance = 1e-3, scope = "example" }
"#;

// A configuration is read, checked, and a network of its sizes is made of it, as `import` does.
fuzz!(configurations, 1500, {
    let checkpoint = written("m.pth", |path| export_pytorch(&*network(&tiny()), path).unwrap());
    let tree = serde_json::json!({ "architecture": tiny(), "deployment": Deployment::exact() });
    let samples = [
        Sample::of("model.yaml", RELEASE, text),
        Sample::of("model.toml", TOML, text),
        Sample::of("model.json", tree.to_string(), json),
    ];
    let samples = samples.map(|sample| sample.and("model.pth", checkpoint.clone(), None));
    Target::new(samples.to_vec(), |folder| {
        let names = ["model.yaml", "model.toml", "model.json"];
        let path = names.map(|name| folder.join(name)).into_iter().find(|path| path.exists()).unwrap();
        let configuration = Configuration::read(&path).map_err(text_of)?;
        let checkpoint = folder.join("model.pth");
        let found = import(&checkpoint, configuration, "m", &ImportOptions::default(), &Device::default());
        // The weights of the sample fit two of its configurations; the third is read all the same.
        found.map(drop).or_else(|error| match path.extension().is_some_and(|ending| ending == "yaml") {
            true => Ok(()),
            false => Err(format!("{}: {error}", path.display())),
        })
    })
});

fuzz!(trace_inputs, 1500, {
    let pixels: Vec<u8> = (0..2 * 64).flat_map(|at| (at as f32 / 128.0).to_le_bytes()).collect();
    let labels: Vec<u8> = [3_i64, 9].iter().flat_map(|label| label.to_le_bytes()).collect();
    let x = TensorView::new(Dtype::F32, vec![2, 1, 8, 8], &pixels).unwrap();
    let y = TensorView::new(Dtype::I64, vec![2], &labels).unwrap();
    let content = ::safetensors::serialize([("x", x), ("y", y)], None).unwrap();
    Target::new(vec![Sample::of("input.safetensors", content, safetensors)], |folder| {
        let found = read_input(&folder.join("input.safetensors"), &tiny(), &Device::default());
        found.map(drop).map_err(text_of)
    })
});
