//! Checkpoints and configurations that fit, and messages about those that do not.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use equipoise::checkpoint::{Configuration, Entry, ImportError, ModelFile, StateDict, import, read_pytorch};
use equipoise::deployed::Deployment;
use equipoise::model::mdeq::MdeqConfig;
use equipoise::network::Architecture;
use equipoise::solve::{Method, SolverConfig};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

const RELEASE: &str = "
MODEL:
  NAME: mdeq
  NUM_LAYERS: 8
  NUM_CLASSES: 10
  NUM_GROUPS: 8
  DROPOUT: 0.22
  WNORM: true
  DOWNSAMPLE_TIMES: 0
  EXPANSION_FACTOR: 5
  POST_GN_AFFINE: false
  IMAGE_SIZE: [32, 32]
  EXTRA:
    FULL_STAGE:
      NUM_MODULES: 1
      NUM_BRANCHES: 4
      BLOCK: BASIC
      BIG_KERNELS: [0, 0, 0, 0]
      HEAD_CHANNELS: [14, 28, 56, 112]
      FINAL_CHANSIZE: 1680
      NUM_BLOCKS: [1, 1, 1, 1]
      NUM_CHANNELS: [32, 64, 128, 256]
      FUSE_METHOD: SUM
DEQ:
  F_SOLVER: 'broyden'
  B_SOLVER: 'anderson'
  STOP_MODE: rel
  F_THRES: 18
  B_THRES: 20
TRAIN:
  LR: 0.001
  RESUME: false
LOSS:
  JAC_LOSS_FREQ: 0.05
";

/// Reads a configuration from text, as a file with the given ending.
fn read(text: &str, ending: &str) -> Result<Configuration, ImportError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("model.{ending}"));
    fs::write(&path, text).unwrap();
    Configuration::read(&path)
}

#[test]
fn the_releases_keys_are_understood() {
    let Configuration { architecture, deployment } = read(RELEASE, "yaml").unwrap();
    assert_eq!(architecture, Architecture::Mdeq(MdeqConfig::large()));
    assert_eq!(deployment.solver, SolverConfig::broyden(18));
    assert!(matches!(deployment.backward.method, Method::Anderson { .. }));
    assert_eq!(deployment.backward.steps, 20);
}

#[test]
fn keys_that_cannot_be_honoured_are_named() {
    for (from, to, key) in [
        ("BIG_KERNELS: [0, 0, 0, 0]", "BIG_KERNELS: [0, 1, 0, 0]", "MODEL.EXTRA.FULL_STAGE.BIG_KERNELS: 1"),
        ("NUM_BLOCKS: [1, 1, 1, 1]", "NUM_BLOCKS: [1, 2, 1, 1]", "MODEL.EXTRA.FULL_STAGE.NUM_BLOCKS: 2"),
        ("NUM_BRANCHES: 4", "NUM_BRANCHES: 3", "MODEL.EXTRA.FULL_STAGE.NUM_BRANCHES: 3"),
        ("NUM_MODULES: 1", "NUM_MODULES: 2", "MODEL.EXTRA.FULL_STAGE.NUM_MODULES: 2"),
        ("BLOCK: BASIC", "BLOCK: BOTTLENECK", "MODEL.EXTRA.FULL_STAGE.BLOCK: `BOTTLENECK`"),
        ("WNORM: true", "WNORM: false", "MODEL.WNORM: false"),
        ("WNORM: true", "", "MODEL.WNORM: false, or absent"),
        ("WNORM: true", "WNORM: 3", "MODEL.WNORM: 3: true or false"),
        ("F_SOLVER: 'broyden'", "F_SOLVER: 'newton'", "DEQ.F_SOLVER: `newton`"),
        ("STOP_MODE: rel", "STOP_MODE: abs", "DEQ.STOP_MODE: `abs`"),
        ("NUM_GROUPS: 8", "", "MODEL.NUM_GROUPS: is missing"),
        ("NUM_CLASSES: 10", "NUM_CLASSES: ten", "MODEL.NUM_CLASSES: \"ten\": a whole number"),
        ("IMAGE_SIZE: [32, 32]", "IMAGE_SIZE: [32]", "MODEL.IMAGE_SIZE: [32]: width and height"),
        ("MODEL:", "  MODEL: [", "configuration: "),
    ] {
        assert!(RELEASE.contains(from));
        let message = read(&RELEASE.replacen(from, to, 1), "yml").unwrap_err().to_string();
        assert!(message.contains(key) && message.contains("model.yml"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn our_own_configurations_are_understood() {
    let toml = "
        [architecture]
        channels = [16, 32]
        head_channels = [8, 16]
        final_channels = 160
        groups = 4
        expansion = 3
        downsample_times = 1

        [deployment]
        solver = { method = \"broyden\", steps = 12 }
        readout = \"early(3)\"
    ";
    let Configuration { architecture, deployment } = read(toml, "toml").unwrap();
    assert_eq!(architecture, Architecture::Mdeq(MdeqConfig::small()));
    assert_eq!(deployment.solver, SolverConfig::broyden(12));
    let json = r#"{"architecture": {"kind": "resnet18", "width": 8}}"#;
    let Configuration { architecture, deployment } = read(json, "json").unwrap();
    assert_eq!(architecture, Architecture::named("resnet18").unwrap().with_width(8).unwrap());
    assert_eq!(deployment, Deployment::exact());
}

#[test]
fn mistakes_in_our_own_configurations_are_named() {
    for (text, ending, problem) in [
        ("[architektur]", "toml", "needs an `architecture` table"),
        ("architecture = { kind = 'resnet18', depth = 3 }", "toml", "architecture: unknown field `depth`"),
        ("architecture = { kind = 'vgg' }", "toml", "architecture: unknown variant `vgg`"),
        ("training = 1\n[architecture]\nkind = 'resnet18'", "toml", "training: unknown; a configuration has"),
        ("a = ", "toml", "configuration: "),
        ("{", "json", "configuration: "),
        ("", "ini", "ending `ini`: use .toml"),
    ] {
        let message = read(text, ending).unwrap_err().to_string();
        assert!(message.contains(problem), "{message}");
    }
    let message = Configuration::read(Path::new("nowhere.toml")).unwrap_err().to_string();
    assert!(message.starts_with("nowhere.toml: cannot read"), "{message}");
}

#[test]
fn all_that_does_not_fit_is_listed() {
    let folder = PathBuf::from(FIXTURES).join("two-branch");
    let Configuration { architecture, deployment } =
        Configuration::read(&folder.join("config.json")).unwrap();
    let Architecture::Mdeq(config) = architecture else { unreachable!() };
    let architecture = Architecture::Mdeq(MdeqConfig {
        final_channels: 24,
        post_affine: false,
        downsample_times: 0,
        ..config
    });
    let configuration = Configuration { architecture, deployment };
    let checkpoint = folder.join("checkpoint.pth.tar");
    let Err(ImportError::Weights { source, .. }) = import(&checkpoint, configuration, "", &Device::default())
    else {
        panic!("it must not fit")
    };
    let post = |i, what| format!("fullstage.post_fuse_layers.{i}.gnorm.{what}");
    for name in [post(0, "weight"), post(1, "bias"), "stage0.0.weight".into()] {
        assert!(source.unexpected.contains(&name), "{name} in {:?}", source.unexpected);
    }
    let misshapen = source.misshapen.iter().find(|(name, ..)| name == "classifier.weight").unwrap();
    assert_eq!((&misshapen.1, &misshapen.2), (&vec![4, 24], &vec![4, 16]));
    assert!(source.missing.is_empty());
    assert!(source.to_string().contains("classifier.weight (expected [4, 24], found [4, 16])"));
}

#[test]
fn the_unused_stage_of_the_trades_code_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.safetensors");
    let architecture = Architecture::named("wrn-34-10").unwrap().with_width(1).unwrap();
    let network = architecture.init(3, &Device::default()).unwrap();
    let mut weights = network.weights();
    let stage: StateDict = weights
        .iter()
        .filter(|(name, _)| name.starts_with("block1."))
        .map(|(name, entry)| (format!("sub_{name}"), entry.clone()))
        .collect();
    weights.extend(stage);
    write(&weights, &path);
    let configuration = Configuration { architecture, deployment: Deployment::exact() };
    let file = import(&path, configuration, "wide", &Device::default()).unwrap();
    assert_eq!(file.network.weights(), network.weights());
    // And the model file keeps all of it.
    let path = folder.path().join("model.safetensors");
    file.write(&path).unwrap();
    let again = ModelFile::read(&path, &Device::default()).unwrap();
    assert_eq!((again.metadata, again.network.weights()), (file.metadata, network.weights()));
}

fn write(weights: &StateDict, path: &Path) {
    let bytes: Vec<_> = weights.values().map(Entry::to_le_bytes).collect();
    let views = weights.iter().zip(&bytes).map(|((name, entry), bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, entry.shape.clone(), bytes);
        (name, view.unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn every_floating_point_type_becomes_float32() {
    let tensors = read_pytorch(&Path::new(FIXTURES).join("types.pth")).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["bfloat16", "double", "half", "single"]);
    let single = &tensors["single"];
    assert_eq!(single.shape, [3, 2]);
    // A transposed view comes out row by row.
    assert_eq!(single.values, [1.0, 3.0, -2.5, 1e-3, 0.09375, 65504.0]);
    assert_eq!(tensors["double"].values, [1.0, -2.5, 0.09375, 3.0, 1e-3, 65504.0]);
    assert_eq!(tensors["half"].values[..4], [1.0, -2.5, 0.09375, 3.0]);
    assert!((tensors["half"].values[4] - 1e-3).abs() < 1e-6 && tensors["half"].values[5] == 65504.0);
    assert_eq!(tensors["bfloat16"].values[5], 65536.0);
}

/// A pickle may name any function and ask for its call. Ours must not.
#[test]
fn nothing_in_a_pickle_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let (path, victim) = (folder.path().join("evil.pth"), folder.path().join("victim"));
    fs::write(&path, format!("cos\nsystem\n(S'touch {}'\ntR.", victim.display())).unwrap();
    let message = read_pytorch(&path).unwrap_err().to_string();
    assert!(message.contains("evil.pth: no readable checkpoint"), "{message}");
    assert!(!victim.exists());
    fs::write(&path, b"nothing of the kind").unwrap();
    assert!(read_pytorch(&path).is_err());
    assert!(read_pytorch(Path::new("nowhere.pth")).unwrap_err().to_string().starts_with("nowhere.pth: "));
}
