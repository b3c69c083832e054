//! Models from PyTorch and back, and traces of what they compute.

use std::fs;
use std::path::Path;

use equipoise_dataset::{NpyArray, write_npz};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::support::{folder, refuse, succeed};

/// Copies the library's two-branch fixture: a PyTorch file, its configuration, images with labels and what a
/// plain PyTorch implementation computes on them.
fn fixture(into: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../equipoise/tests/fixtures");
    for (name, file) in [
        ("two-branch", "checkpoint.pth.tar"),
        ("two-branch", "config.json"),
        ("two-branch", "io.safetensors"),
    ] {
        fs::copy(from.join(name).join(file), into.join(file)).unwrap();
    }
    fs::copy(from.join("three-branch/config.json"), into.join("three.json")).unwrap();
}

const IMPORT: &str =
    "import --from checkpoint.pth.tar --arch mdeq --config config.json --name m --out m.safetensors";

fn floats(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (view.shape().to_vec(), values.collect())
}

#[test]
fn a_checkpoint_goes_in_and_comes_out_the_same() {
    let folder = folder();
    let at = folder.path();
    fixture(at);
    succeed(at, IMPORT);
    for ending in ["pth", "safetensors"] {
        let again = format!("again-{ending}.safetensors");
        succeed(at, &format!("export --model m.safetensors --out weights.{ending}"));
        succeed(
            at,
            &format!(
                "import --from weights.{ending} --arch mdeq --config config.json --name m --out {again}"
            ),
        );
        assert_eq!(fs::read(at.join("m.safetensors")).unwrap(), fs::read(at.join(again)).unwrap());
    }
    refuse(at, "export --model m.safetensors --out weights.txt", 2, &["weights.txt", ".pth"]);
    // What `info` says is configuration enough.
    fs::write(at.join("info.json"), succeed(at, "info --model m.safetensors --json")).unwrap();
    succeed(at, "import --from weights.pth --arch mdeq --config info.json --name m --out told.safetensors");
    assert_eq!(fs::read(at.join("m.safetensors")).unwrap(), fs::read(at.join("told.safetensors")).unwrap());
}

#[test]
fn a_trace_holds_what_the_contract_says() {
    let folder = folder();
    let at = folder.path();
    fixture(at);
    succeed(at, IMPORT);
    let spec = "unrolled:state=3,lead=1,steps=2,damping=1";
    succeed(
        at,
        &format!(
            "trace --model m.safetensors --input io.safetensors --output t.safetensors --gradient exact --gradient {spec}"
        ),
    );
    let (n, steps) = (floats(&at.join("io.safetensors"), "x").0[0], 8);
    let output = at.join("t.safetensors");
    let dim = 8 * 4 * 4 + 8 * 2 * 2; // two branches of 8 channels at 4×4 and 2×2
    for (name, shape) in [
        ("states", vec![n, steps, dim]),
        ("residual.relative", vec![n, steps]),
        ("residual.absolute", vec![n, steps]),
        ("logits.state", vec![n, steps, 4]),
        ("logits.final", vec![n, 4]),
        ("gradient.exact", vec![n, 3, 8, 8]),
        ("loss.exact", vec![n]),
        (&format!("gradient.{spec}"), vec![n, 3, 8, 8]),
        (&format!("loss.{spec}"), vec![n]),
    ] {
        let (found, values) = floats(&output, name);
        assert_eq!(found, shape, "{name}");
        assert!(values.iter().all(|value| value.is_finite()), "{name}");
    }
    let bytes = fs::read(output).unwrap();
    let best = SafeTensors::deserialize(&bytes).unwrap();
    let best = best.tensor("best").unwrap();
    assert_eq!((best.dtype(), best.shape()), (safetensors::Dtype::I64, [n].as_slice()));
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    let folder = folder();
    let at = folder.path();
    fixture(at);
    let import = "import --from checkpoint.pth.tar --arch mdeq --out no.safetensors";
    refuse(at, &format!("{import} --config three.json"), 2, &["missing: fullstage.branches.2.", "weights"]);
    refuse(at, import, 2, &["--config"]);
    refuse(at, "import --from checkpoint.pth.tar --arch vgg --out no.safetensors", 2, &["vgg", "resnet18"]);
    assert!(!at.join("no.safetensors").exists());

    succeed(at, IMPORT);
    let trace = "trace --model m.safetensors --input io.safetensors --output no.safetensors";
    refuse(at, &format!("{trace} --gradient exakt"), 2, &["exakt"]);
    refuse(at, &format!("{trace} --scope all"), 2, &["--scope all"]);
    refuse(
        at,
        "trace --model m.safetensors --input m.safetensors --output no.safetensors",
        2,
        &["m.safetensors", "x", "missing"],
    );
    // Files of another kind are called by their name.
    refuse(at, "info --model checkpoint.pth.tar", 2, &["a PyTorch file", "equipoise import"]);
    write_npz(at.join("x.npz"), &[("x", NpyArray::F32 { shape: vec![1], values: &[0.0] })]).unwrap();
    refuse(
        at,
        "trace --model m.safetensors --input x.npz --output no.safetensors",
        2,
        &["x.npz", "a NumPy archive", "save_file"],
    );
    assert!(!at.join("no.safetensors").exists());
}

/// Layers with a Lipschitz bound, trained, as the equilibrium network that computes the same: by `import` as it is, and by `train --init` to
/// go on from.
#[test]
fn lipschitz_layers_become_an_equilibrium_network() {
    let folder = folder();
    let at = folder.path();
    let train = "[train]\nepochs = 1\nbatch_size = 16\ndevelopment = 0\n[train.optimizer]\nkind = \"adam\"\nlearning_rate = 1e-2\n";
    let data = "[data]\nspec = \"digits\"\ncount = 160\n";
    let layers =
        "[model]\nkind = \"sll\"\nwidth = 12\nunits = 8\nlayers = 2\nlipschitz = 5.0\nimage = [1, 8, 8]\n";
    fs::write(at.join("layers.toml"), format!("name = \"layers\"\n{data}{layers}{train}")).unwrap();
    succeed(at, "train --config layers.toml --out layers");
    let sizes = |monotonicity: f64| {
        format!(
            "kind = \"lben\"\nhidden = 28\nlipschitz = 5.0\nmonotonicity = {monotonicity}\nstep = 0.5\nsplitting = \"peaceman-rachford\"\n\
             image = [1, 8, 8]\n"
        )
    };
    let picard = "[deployment]\nsolver = { method = { picard = { damping = 1.0 } }, steps = 100, tolerance = 1e-6 }\n\
                  backward = { method = { picard = { damping = 1.0 } }, steps = 60, tolerance = 1e-4 }\n";
    let configuration = |file: &str, monotonicity: f64| {
        fs::write(at.join(file), format!("[architecture]\n{}{picard}", sizes(monotonicity))).unwrap();
    };
    configuration("lben.toml", 0.02);
    configuration("steep.toml", 3.0);
    succeed(
        at,
        "import --from layers/model.safetensors --config lben.toml --name same --out same.safetensors",
    );
    let found = |model: &str, out: &str| -> Value {
        let attack = "--norm linf --eps 0.05 --attacks pgd-3";
        succeed(at, &format!("evaluate --model {model} --data digits --count 60 {attack} --out {out}"));
        let text = fs::read_to_string(at.join(out).join("results.json")).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap();
        record["models"][0]["readouts"][0]["examples"].clone()
    };
    let clean = |examples: &Value| -> Vec<Value> {
        examples.as_array().unwrap().iter().map(|example| example["clean_prediction"].clone()).collect()
    };
    let (before, after) =
        (found("layers/model.safetensors", "e-layers"), found("same.safetensors", "e-same"));
    assert_eq!(clean(&before), clean(&after));
    assert!(clean(&before).iter().any(|class| !class.is_null()));
    succeed(at, "certify --model same.safetensors --data digits --count 4 --norm l2 --out proved");

    let steep = "import --from layers/model.safetensors --config steep.toml --out no.safetensors";
    refuse(at, steep, 2, &["layers/model.safetensors", "--config", "monotonicity: 3;", "less than 0."]);
    refuse(at, "import --from layers/model.safetensors --arch sll --out no.safetensors", 2, &["--config"]);
    let plain = "import --from layers/model.safetensors --config lben.toml --out no.safetensors";
    refuse(at, &format!("{plain} --normalise half"), 2, &["--normalise", "layers/model.safetensors"]);
    assert!(!at.join("no.safetensors").exists());
    let certify =
        "certify --model layers/model.safetensors --data digits --count 2 --norm l2 --method affine --out no";
    refuse(at, certify, 2, &["lben", "import"]);

    let recipe =
        |monotonicity: f64| format!("name = \"on\"\n{data}[model]\n{}{picard}{train}", sizes(monotonicity));
    fs::write(at.join("on.toml"), recipe(0.02)).unwrap();
    fs::write(at.join("steep-on.toml"), recipe(3.0)).unwrap();
    let init = "--init layers/model.safetensors";
    succeed(at, &format!("train --config on.toml {init} --schedule constant --out on"));
    let info: Value = serde_json::from_str(&succeed(at, "info --json --model on/model.safetensors")).unwrap();
    assert_eq!(
        (&info["architecture"]["kind"], &info["training"]["init"]["name"]),
        (&json!("lben"), &json!("layers"))
    );
    succeed(at, "train --resume --out on --epochs 2");
    refuse(at, &format!("train --config steep-on.toml {init} --out no"), 2, &["[model]", "monotonicity: 3;"]);
    refuse(at, "train --config layers.toml --init on/model.safetensors --out no", 2, &["[model]"]);
}
