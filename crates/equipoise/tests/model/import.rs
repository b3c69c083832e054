//! Checkpoints and configurations that fit, and messages about those that do not.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use equipoise::architecture::Architecture;
use equipoise::batch::to_vec;
use equipoise::checkpoint::{
    Configuration, Entry, ImportError, ImportOptions, Imported, ModelFile, Normalise, StateDict, import,
    read_checkpoint,
};
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::mdeq::MdeqConfig;
use equipoise::model::normalisation::Normalisation;
use equipoise::solve::{Anderson, Method, SolverConfig};
use equipoise::victim::Deployment;

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
    assert_eq!(architecture, Architecture::from(MdeqConfig::large()));
    assert_eq!(deployment.solver, SolverConfig::broyden(18));
    assert!(deployment.backward.method == Method::from(Anderson::default()));
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
    assert_eq!(architecture, Architecture::from(MdeqConfig::small()));
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
    let config = architecture.config::<MdeqConfig>().unwrap().clone();
    let architecture = Architecture::from(MdeqConfig {
        final_channels: 24,
        post_affine: false,
        downsample_times: 0,
        ..config
    });
    let configuration = Configuration { architecture, deployment };
    let checkpoint = folder.join("checkpoint.pth.tar");
    let Err(ImportError::Weights { source, .. }) =
        import(&checkpoint, configuration, "", &ImportOptions::default(), &Device::default())
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
    // The message itself is short.
    let error = ImportError::Weights { path: checkpoint, diagnosis: "d".into(), source };
    assert!(
        error.lines().iter().any(|line| line.starts_with("unexpected: ") && line.matches(", ").count() > 2)
    );
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
    let options = ImportOptions::default();
    let Imported { model: file, notes } =
        import(&path, configuration, "wide", &options, &Device::default()).unwrap();
    assert!(notes[0].starts_with("not used by the model: sub_block1.layer.0."), "{notes:?}");
    assert_eq!(file.model.weights(), network.weights());
    // And the model file keeps all of it.
    let path = folder.path().join("model.safetensors");
    file.write(&path).unwrap();
    let again = ModelFile::read(&path, &Device::default()).unwrap();
    assert_eq!((again.metadata, again.model.weights()), (file.metadata, network.weights()));
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
    let tensors = read_checkpoint(&Path::new(FIXTURES).join("types.pth")).unwrap();
    let tensors: StateDict =
        tensors.iter().filter_map(|(name, tensor)| Some((name.clone(), tensor.to_f32().ok()?))).collect();
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
    let message = read_checkpoint(&path).unwrap_err().to_string();
    assert!(message.contains("evil.pth: no readable checkpoint"), "{message}");
    assert!(!victim.exists());
    fs::write(&path, b"nothing of the kind").unwrap();
    assert!(read_checkpoint(&path).is_err());
    assert!(read_checkpoint(Path::new("nowhere.pth")).unwrap_err().to_string().starts_with("nowhere.pth: "));
}

/// A narrow ResNet-18 and its weights.
fn resnet() -> (Configuration, StateDict) {
    let architecture =
        Architecture::named("resnet18").unwrap().with_width(2).unwrap().for_data([3, 8, 8], 10);
    let weights = architecture.init(3, &Device::default()).unwrap().weights();
    (Configuration { architecture, deployment: Deployment::exact() }, weights)
}

/// Tensors of some type, as they lie in a file.
type Stored = Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)>;

fn stored(prefix: &str, weights: &StateDict) -> Stored {
    let entry = |(name, entry): (&String, &Entry)| {
        (format!("{prefix}{name}"), safetensors::Dtype::F32, entry.shape.clone(), entry.to_le_bytes())
    };
    weights.iter().map(entry).collect()
}

fn counter(name: &str) -> (String, safetensors::Dtype, Vec<usize>, Vec<u8>) {
    (name.into(), safetensors::Dtype::I64, vec![], 5_i64.to_le_bytes().to_vec())
}

fn floats(name: &str, values: &[f32]) -> (String, safetensors::Dtype, Vec<usize>, Vec<u8>) {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    (name.into(), safetensors::Dtype::F32, vec![1, values.len(), 1, 1], bytes)
}

fn import_stored(tensors: &Stored, options: &ImportOptions) -> Result<Imported, ImportError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    import(&path, resnet().0, "m", options, &Device::default())
}

/// Whatever stands before a model's names, in a dictionary or of a wrapper, is found and said.
#[test]
fn weights_are_found_behind_any_prefix() {
    let (_, weights) = resnet();
    for prefix in [
        "",
        "module.",
        "state_dict.",
        "model.",
        "net.module.",
        "_orig_mod.",
        "module._orig_mod.",
        "state_dict.model.",
        "anything.at.all.",
        "0.",
        "ema_state_dict.module.",
        "état.",
    ] {
        let mut tensors = stored(prefix, &weights);
        // What else people's files hold.
        tensors.push(counter(&format!("{prefix}bn1.num_batches_tracked")));
        tensors.push(counter("n_averaged"));
        let Imported { model, notes } = import_stored(&tensors, &ImportOptions::default()).unwrap();
        assert_eq!(model.model.weights(), weights, "{prefix}");
        if !prefix.is_empty() {
            assert_eq!(notes[0], format!("weights taken from under `{prefix}`"));
            assert_eq!(notes[1], "left aside, unexpected: n_averaged");
        }
    }
    // An optimiser's state and part of another model stand beside the weights.
    let mut tensors = stored("model.", &weights);
    tensors.extend([
        counter("optimizer.state.0.step"),
        counter("optimizer.state.1.step"),
        counter("teacher.conv1.weight"),
    ]);
    let Imported { notes, .. } = import_stored(&tensors, &ImportOptions::default()).unwrap();
    assert_eq!(notes[1], "left aside, unexpected: optimizer (2 tensors), teacher.conv1.weight");
}

#[test]
fn weights_and_their_average_are_told_apart_by_a_key() {
    let (_, weights) = resnet();
    let mut average = weights.clone();
    average.get_mut("linear.bias").unwrap().values[0] = 7.0;
    let tensors: Stored =
        [stored("state_dict.", &weights), stored("callbacks.ema.module.", &average)].concat();
    let with = |key: Option<&str>| {
        import_stored(&tensors, &ImportOptions { key: key.map(String::from), ..ImportOptions::default() })
    };
    let message = with(None).unwrap_err().to_string();
    assert!(message.contains("`callbacks.ema.module`, `state_dict`; choose one by its key"), "{message}");
    assert_eq!(with(Some("state_dict")).unwrap().model.model.weights(), weights);
    for key in ["ema", "callbacks.ema", "callbacks.ema.module"] {
        assert_eq!(with(Some(key)).unwrap().model.model.weights(), average, "{key}");
    }
    let message = with(Some("em")).unwrap_err().to_string();
    assert!(message.contains("`em`") && message.contains("`state_dict`"), "{message}");
    let bare: Stored = [stored("", &weights), stored("ema.", &average)].concat();
    let top = ImportOptions { key: Some(".".into()), ..ImportOptions::default() };
    assert_eq!(import_stored(&bare, &top).unwrap().model.model.weights(), weights);
}

#[test]
fn every_type_of_number_is_taken_alike() {
    use safetensors::Dtype::{BF16, BOOL, F16, F64, I32};
    let (_, weights) = resnet();
    let stored_as = |dtype: safetensors::Dtype| -> Stored {
        let bytes = |value: f32| match dtype {
            F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
            BF16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
            F64 => f64::from(value).to_le_bytes().to_vec(),
            _ => (value as i32).to_le_bytes().to_vec(),
        };
        let entry = |(name, entry): (&String, &Entry)| {
            let bytes = entry.values.iter().flat_map(|&value| bytes(value)).collect();
            (name.clone(), dtype, entry.shape.clone(), bytes)
        };
        weights.iter().map(entry).collect()
    };
    let imported = |dtype| import_stored(&stored_as(dtype), &ImportOptions::default());
    assert_eq!(imported(F64).unwrap().model.model.weights(), weights);
    for (dtype, precision) in [(F16, 1e-3), (BF16, 1e-2)] {
        let found = imported(dtype).unwrap().model.model.weights();
        for (name, entry) in &weights {
            for (a, b) in entry.values.iter().zip(&found[name].values) {
                assert!((a - b).abs() <= precision * a.abs().max(1e-3), "{name}: {a} {b}");
            }
        }
    }
    let message = imported(I32).unwrap_err().to_string();
    assert!(message.contains("is I32, not of floating point"), "{message}");

    // A mask between the weights is unexpected by its name, whatever its type, until it is left out knowingly.
    let mut masked = stored("", &weights);
    masked.push(("mask".into(), BOOL, vec![3], vec![1, 0, 1]));
    let message = import_stored(&masked, &ImportOptions::default()).unwrap_err().to_string();
    assert!(message.contains("unexpected: mask"), "{message}");
    let options = ImportOptions { ignore: vec!["mask".into()], ..ImportOptions::default() };
    assert_eq!(import_stored(&masked, &options).unwrap().notes, ["not used by the model: mask"]);
}

#[test]
fn what_does_not_fit_is_diagnosed_in_a_sentence() {
    let (_, weights) = resnet();
    let renamed: Stored =
        stored("net.", &weights).into_iter().map(|(name, a, b, c)| (name + "_", a, b, c)).collect();
    let error = import_stored(&renamed, &ImportOptions::default()).unwrap_err();
    let message = error.to_string();
    let total = weights.len();
    assert!(message.contains(&format!("all {total} names in it begin with `net.`")), "{message}");
    assert!(
        message.contains("first difference: the file has `net.bn1.bias_`, the model `bn1.bias`"),
        "{message}"
    );
    assert!(error.lines()[0].contains("net.linear.weight_"));

    let mut short = stored("net.", &weights);
    short.retain(|(name, ..)| !name.contains("layer4"));
    short.push(counter("net.scale"));
    let message = import_stored(&short, &ImportOptions::default()).unwrap_err().to_string();
    let missing = weights.keys().filter(|name| name.starts_with("layer4")).count();
    let stand = format!("{} of the model's {total} names stand under `net.`", total - missing);
    assert!(message.contains(&stand), "{message}");
    assert!(
        message.contains("missing: layer4.0.") && message.contains(&format!("and {} more", missing - 1)),
        "{message}"
    );
    assert!(message.contains("unexpected: net.scale") || message.contains("unexpected: scale"), "{message}");
    assert!(message.len() < 500, "{message}");
}

#[test]
fn normalisation_comes_from_the_file_or_from_whoever_knows_it() {
    let (configuration, weights) = resnet();
    let (mean, std) = ([0.5, 0.25, 0.125], [0.25, 0.5, 1.0]);
    let expected = Normalisation { mean: mean.to_vec(), std: std.to_vec() };
    for (prefix, [a, b]) in [
        ("", ["mu", "sigma"]),
        ("", ["normalize.mean", "normalize.std"]),
        ("model.", ["model.normalize.mean", "model.normalize.std"]),
        ("1.", ["0.mean", "0.std"]),
    ] {
        let mut tensors = stored(prefix, &weights);
        tensors.extend([floats(a, &mean), floats(b, &std)]);
        let Imported { model, notes } = import_stored(&tensors, &ImportOptions::default()).unwrap();
        assert_eq!(model.metadata.architecture.normalisation(), Some(&expected), "{a}");
        assert!(notes.iter().any(|note| note.contains(a)), "{notes:?}");
        let none = ImportOptions { normalise: Normalise::No, ..ImportOptions::default() };
        let plain = import_stored(&tensors, &none).unwrap().model;
        assert_eq!(plain.metadata.architecture, configuration.architecture);
    }
    let refused = |normalisation: Normalisation| {
        let normalise = Normalise::By(normalisation);
        let options = ImportOptions { normalise, ..ImportOptions::default() };
        import_stored(&stored("", &weights), &options).unwrap_err().to_string()
    };
    assert!(refused(Normalisation { std: vec![1.0, 0.0, 1.0], ..expected.clone() }).contains("channel 1"));
    assert!(refused(Normalisation { mean: vec![0.5], ..expected }).contains("1 means"));
    let mut bytes = stored("", &weights);
    bytes.extend([floats("mu", &[125.0, 123.0, 114.0]), floats("sigma", &[63.0, 62.0, 67.0])]);
    let message = import_stored(&bytes, &ImportOptions::default()).unwrap_err().to_string();
    assert!(message.contains("mu") && message.contains("125"), "{message}");
}

/// A model that normalises computes what the plain one computes on normalised images, and its gradient is that gradient
/// over the deviation: for a feedforward network and for an MDEQ, by the kernels and by autodiff.
#[test]
fn normalisation_is_part_of_the_model_and_of_its_gradient() {
    let device = Device::default();
    let normalisation = Normalisation { mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.25, 0.5] };
    let mdeq = Architecture::from(crate::common::small_mdeq());
    let deployment = Deployment { solver: SolverConfig::broyden(5), ..Deployment::exact() };
    for architecture in [resnet().0.architecture, mdeq] {
        let [c, h, w] = architecture.image();
        let normalisation = Normalisation {
            mean: normalisation.mean.iter().copied().cycle().take(c).collect(),
            std: normalisation.std.iter().copied().cycle().take(c).collect(),
        };
        let classes = architecture.classes();
        let plain = architecture.clone().init(3, &device).unwrap();
        let inside = architecture.with_normalisation(Some(normalisation.clone())).unwrap();
        let inside = inside.init(3, &device).unwrap().with_weights(plain.weights()).unwrap();
        let images = crate::common::uniform::<4>([5, c, h, w], 9);
        let normalised = normalisation.apply(images.clone());
        let objective = CrossEntropy { labels: (0..5).map(|n| n % classes).collect() };
        for estimator in ["through-solver", "exact", "unrolled"] {
            let victim = |network: &dyn equipoise::architecture::Model, images: &equipoise::batch::Images| {
                let estimator: Estimator = estimator.parse().unwrap();
                let victim =
                    network.victim(&deployment, equipoise::readout::Readout::final_state(), estimator);
                let found = victim.value_and_gradient(images, &objective);
                (to_vec(victim.logits(images)), to_vec(found.logits), found.gradient)
            };
            let (logits, with_gradient, gradient) = victim(&*inside, &images);
            let (expected, _, raw) = victim(&*plain, &normalised);
            assert_eq!(logits, expected, "{estimator}");
            let scaled = to_vec(normalisation.pull_back(raw));
            let largest = scaled.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            for (a, b) in to_vec(gradient).iter().zip(&scaled) {
                assert!((a - b).abs() <= 1e-5 * largest, "{estimator}: {a} instead of {b}");
            }
            assert_eq!(with_gradient.len(), expected.len());
        }
    }
}
