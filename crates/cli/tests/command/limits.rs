//! What files claim is bounded, refused with the name of the file or flag, and never reaches the terminal as control
//! characters.

use std::fs;

use burn::tensor::Device;
use equipoise::architecture::Architecture;
use equipoise::checkpoint::ModelFile;
use equipoise::model::mdeq::MdeqConfig;
use equipoise_dataset::{NpyArray, write_npz};

use crate::support::{RECIPE, folder, refuse, run, succeed, train_tiny};

#[test]
fn sizes_in_recipes_and_models_are_bounded() {
    let folder = folder();
    let at = folder.path();
    for (from, to, part) in [
        ("channels = [4]", "channels = [40000]", "parameters"),
        ("channels = [4]", "channels = [4611686018427387904]", "channels"),
        ("final_channels = 8", "final_channels = 4611686018427387904", "final_channels"),
        ("expansion = 1", "expansion = 2305843009213693952", "expansion"),
        ("steps = 4", "steps = 1152921504606846976", "deployment.solver"),
        ("steps = 4", "steps = 4, tolerance = nan", "tolerance NaN"),
        ("[deployment]", "[deployment]\nreadout = \"early(99)\"", "early(99)"),
        ("[deployment]", "[deployment]\ntraining_gradient = \"unrolled:state=99\"", "1..=4"),
        ("[deployment]", "[deployment]\ntail = { lead = 1, steps = 1, damping = 5.0 }", "damping=5"),
        ("epochs = 2", "epochs = 9223372036854775807", "epochs"),
        (
            "epochs = 2",
            "epochs = 2\noptimizer = { kind = \"adam\", learning_rate = nan }",
            "learning_rate NaN",
        ),
        ("epochs = 2", "epochs = 2\nadversary = { eps = -1.0 }", "adversary.eps"),
        ("epochs = 2", "epochs = 2\nadversary = { eps = 8 }", "adversary.eps 8"),
        ("count = 48", "count = 48\nresize = \"0\"", "--resize"),
        ("development = 0", "development = 9223372036854775807", "fewer than a development split"),
    ] {
        let text = RECIPE.replacen(from, to, 1);
        assert_ne!(text, RECIPE);
        fs::write(at.join("recipe.toml"), text).unwrap();
        refuse(at, "train --config recipe.toml --out out", 2, &["recipe.toml", part]);
    }
    fs::write(at.join("recipe.toml"), RECIPE.to_owned() + &" ".repeat(1 << 20)).unwrap();
    refuse(at, "train --config recipe.toml --out out", 2, &["recipe.toml", "longer than 1048576 bytes"]);
    fs::write(at.join("recipe.toml"), "a = ".to_owned() + &"[".repeat(100_000)).unwrap();
    refuse(at, "train --config recipe.toml --out out", 2, &["recipe.toml"]);
    assert!(!at.join("out").exists());

    train_tiny(at);
    let mut model = ModelFile::read(&at.join("model/model.safetensors"), &Device::default()).unwrap();
    let config = model.metadata.architecture.config::<MdeqConfig>().unwrap().clone();
    let larger = MdeqConfig { final_channels: 60_000, classes: 10_000, ..config };
    model.metadata.architecture = Architecture::from(larger);
    model.write(&at.join("larger.safetensors")).unwrap();
    refuse(
        at,
        "info --model larger.safetensors",
        2,
        &["larger.safetensors", "classifier.weight", "[10000, 60000]"],
    );
}

#[test]
fn a_flag_is_named_where_it_is_to_blame() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("recipe.toml"), RECIPE).unwrap();
    for (flags, parts) in [
        ("--lr 0", &["--lr", "learning_rate 0"][..]),
        ("--lr=nan", &["--lr", "learning_rate NaN"]),
        ("--epochs 0", &["--epochs", "at least 1"]),
        ("--clip-norm 0", &["--clip-norm"]),
        ("--adversary pgd --eps -1", &["--eps"]),
        ("--adversary pgd --pgd-steps 0", &["--pgd-steps", "adversary.steps"]),
        ("--dropout 2", &["--dropout", "dropout"]),
        ("--model resnet18 --width 1099511627776", &["--model resnet18", "width"]),
        ("--gradient unrolled:state=best,steps=5000", &["--gradient", "at most 1000"]),
        ("--max-input 1EiB", &["--max-input", "1EiB", "32GiB"]),
        ("--max-input 100", &["digits", "--max-input"]),
    ] {
        refuse(at, &format!("train --config recipe.toml --out out {flags}"), 2, parts);
    }
    assert!(!at.join("out").exists());
    train_tiny(at);
    let model = "--model model/model.safetensors";
    for (command, parts) in [
        (
            format!("diagnose {model} --data digits --count 4 --out out --horizon 1000000"),
            &["--horizon", "1000"][..],
        ),
        (format!("trace {model} --input x --output y --gradient unrolled:state=9"), &["--gradient", "1..=4"]),
        (format!("trace {model} --input x --output y --gradient exakt"), &["--gradient", "exakt"]),
        (
            format!("evaluate {model} --data digits --count 4 --out out --eps 0.1 --max-input 100"),
            &["--max-input"],
        ),
        (
            format!(
                "evaluate {model} --data digits --count 4 --out out --eps 0.1 --gradients unrolled:state=1..99999999999"
            ),
            &["--gradients", "1000"],
        ),
        ("import --from x.pth --arch resnet18 --image 99999999999 --out y".into(), &["--image"]),
        ("import --from x.pth --arch resnet18 --width 99999999999 --out y".into(), &["--width"]),
        (
            "import --from x.pth --arch resnet18 --mean 1,2,nan --std 1,1,1 --out y".into(),
            &["--mean and --std"],
        ),
    ] {
        refuse(at, &command, 2, parts);
    }
}

#[test]
fn configurations_name_themselves() {
    let folder = folder();
    let at = folder.path();
    let from =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../equipoise/tests/fixtures/two-branch");
    fs::copy(from.join("checkpoint.pth.tar"), at.join("checkpoint.pth.tar")).unwrap();
    let config = fs::read_to_string(from.join("config.json")).unwrap();
    let import = "import --from checkpoint.pth.tar --arch mdeq --out m.safetensors --config";
    let mut tree: serde_json::Value = serde_json::from_str(&config).unwrap();
    let mut refused = |field: &str, value: serde_json::Value, parts: &[&str]| {
        let before = std::mem::replace(&mut tree["architecture"][field], value);
        fs::write(at.join("c.json"), tree.to_string()).unwrap();
        refuse(at, &format!("{import} c.json"), 2, parts);
        tree["architecture"][field] = before;
    };
    refused("classes", 0.into(), &["c.json", "architecture.classes"]);
    refused("final_channels", (1_u64 << 62).into(), &["c.json", "architecture.final_channels"]);
    // Sound, and not what the weights are: both files are named.
    refused("final_channels", 7.into(), &["checkpoint.pth.tar", "c.json", "wrong shape"]);
    for (name, bomb) in [
        ("aliases.yaml", "a: &a [x,x,x,x,x,x,x,x]\n".to_owned() + &(b'b'..b'k').map(|letter| {
            let (name, before) = (letter as char, (letter - 1) as char);
            format!("{name}: &{name} [*{before},*{before},*{before},*{before},*{before},*{before},*{before}]\n")
        }).collect::<String>()),
        ("deep.yaml", "- ".repeat(20_000) + "x"),
        ("deep.json", "[".repeat(100_000)),
        ("deep.toml", "a = ".to_owned() + &"[".repeat(100_000)),
    ] {
        fs::write(at.join(name), bomb).unwrap();
        refuse(at, &format!("{import} {name}"), 2, &[name]);
    }
    assert!(!at.join("m.safetensors").exists());
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let name = "x\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}";
    let mut model = ModelFile::read(&at.join("model/model.safetensors"), &Device::default()).unwrap();
    model.metadata.name = name.into();
    model.metadata.data = format!("digits {name}");
    model.write(&at.join("named.safetensors")).unwrap();
    // A class and a file of such names too.
    let images = at.join("images/test").join(format!("c{name}"));
    fs::create_dir_all(&images).unwrap();
    fs::write(images.join(format!("{name}.png")), b"no image").unwrap();
    fs::create_dir_all(at.join("images/train")).unwrap();
    write_npz(at.join("x.npz"), &[(name, NpyArray::I64 { shape: vec![1], values: &[0] })]).unwrap();
    let evaluate = "evaluate --attacks pgd-1 --eps 0.1 --count 2 --readouts final --gradients none";
    for (arguments, code) in [
        ("info --model named.safetensors".to_owned(), 0),
        ("info --model named.safetensors --json".to_owned(), 0),
        (format!("{evaluate} --model named.safetensors --data digits --out out"), 0),
        (format!("{evaluate} --model named.safetensors --data digits --out more -v"), 0),
        (format!("{evaluate} --model named.safetensors --data folder:images --out none"), 2),
        (format!("{evaluate} --model named.safetensors --data npz:x.npz --out none"), 2),
        (format!("{evaluate} --model {name}.safetensors --data digits --out none"), 2),
        (format!("{evaluate} --model named.safetensors --data digits --out {name}"), 0),
        (format!("{name} --data digits"), 2),
        ("report out/results.json --out page".to_owned(), 0),
    ] {
        let output = run(at, &arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8(text).unwrap();
            let control =
                text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t') || *c == '\u{202e}');
            assert_eq!(control, None, "{arguments}: {text}");
        }
    }
    let said = succeed(at, "info --model named.safetensors");
    assert!(said.contains("x\\u001b]0;owned\\u0007\\u009b31m\\u202e"), "{said}");
    // JSON is still the same text.
    let facts: serde_json::Value =
        serde_json::from_str(&succeed(at, "info --model named.safetensors --json")).unwrap();
    assert_eq!(facts["name"], name);
}
