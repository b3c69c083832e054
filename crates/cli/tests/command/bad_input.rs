//! Whatever a user gets wrong: one line that names it, exit code 2, and nothing half-written.

use std::fs;
use std::path::Path;

use equipoise_dataset::{NpyArray, write_npz};

use crate::support::{RECIPE, folder, refuse, train_tiny};

const EVALUATE: &str = "evaluate --model model/model.safetensors --out out --count 2 --eps 0.1";

fn nothing_written(folder: &Path) {
    assert!(!folder.join("out").exists(), "something was written");
}

fn npz(folder: &Path, shape: [usize; 4], labels: &[i64]) {
    let x = vec![0.5; shape.iter().product()];
    let arrays = [
        ("x", NpyArray::F32 { shape: shape.to_vec(), values: &x }),
        ("y", NpyArray::I64 { shape: vec![labels.len()], values: labels }),
    ];
    write_npz(folder.join("x.npz"), &arrays).unwrap();
}

#[test]
fn broken_data() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);

    fs::create_dir(at.join("bin")).unwrap();
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    {
        fs::write(at.join("bin").join(format!("{name}.bin")), vec![0; 3073 + 100]).unwrap();
    }
    refuse(at, &format!("{EVALUATE} --data cifar10:bin"), 2, &["test_batch.bin", "3173"]);
    refuse(at, "train --data cifar10:bin --model mdeq-small --out out", 2, &["data_batch_1.bin"]);

    fs::create_dir(at.join("parquet")).unwrap();
    for name in ["train", "test"] {
        fs::write(at.join(format!("parquet/{name}.parquet")), b"PAR1 and then nothing").unwrap();
    }
    refuse(at, &format!("{EVALUATE} --data cifar10:parquet"), 2, &["test.parquet"]);

    npz(at, [2, 1, 8, 8], &[3, 12]);
    refuse(at, &format!("{EVALUATE} --data npz:x.npz"), 2, &["npz:x.npz", "image 1", "label 12", "0..=9"]);
    npz(at, [2, 1, 8, 8], &[3, -1]);
    refuse(at, &format!("{EVALUATE} --data npz:x.npz"), 2, &["x.npz", "image 1", "label -1"]);
    npz(at, [2, 1, 9, 9], &[0, 1]);
    refuse(at, &format!("{EVALUATE} --data npz:x.npz"), 2, &["[1, 9, 9]", "[1, 8, 8]"]);
    refuse(at, "train --data npz:x.npz --model mdeq-digits --out out", 2, &["9×9", "multiples of 2"]);

    refuse(at, &format!("{EVALUATE} --data cifar10:nowhere"), 2, &["nowhere", "not found"]);
    refuse(at, &format!("{EVALUATE} --data mnist"), 2, &["\"mnist\"", "digits"]);
    npz(at, [2, 1, 8, 8], &[0, 1]);
    let early = format!("{EVALUATE} --data npz:x.npz --readouts early");
    refuse(at, &early, 2, &["without a training split", "early(T)"]);
    nothing_written(at);
}

#[test]
fn broken_models() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let model = at.join("model/model.safetensors");

    let missing = EVALUATE.replace("model/model", "model/other");
    refuse(at, &format!("{missing} --data digits"), 2, &["model/other.safetensors", "read"]);

    let whole = fs::read(&model).unwrap();
    let mut bytes = whole.clone();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&model, &bytes).unwrap();
    refuse(at, &format!("{EVALUATE} --data digits"), 2, &["model.safetensors", "NaN"]);
    refuse(at, "info --model model/model.safetensors", 2, &["model.safetensors", "NaN"]);

    fs::write(&model, &whole[..whole.len() / 2]).unwrap();
    refuse(at, &format!("{EVALUATE} --data digits"), 2, &["model.safetensors", "complete"]);
    nothing_written(at);
}

#[test]
fn bad_flags() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    for (flags, parts) in [
        ("--eps -0.1", &["--eps", "-0.1", "negative"][..]),
        ("--eps -8/255", &["--eps", "negative"]),
        ("--eps nan", &["--eps"]),
        ("--eps 8/0", &["--eps"]),
        ("--eps some", &["--eps", "`some`"]),
        ("--norm l7", &["--norm", "`l7`", "linf"]),
        ("--norm l1 --attacks autoattack", &["--attacks", "fab-t", "l1", "apgd-ce,apgd-t"]),
        ("--norm l1", &["pgd-10", "l1", "apgd-ce"]),
        ("--eps 8", &["--eps 8", "did you mean 8/255"]),
        ("--eps 0.1,8", &["--eps 8", "did you mean 8/255"]),
        ("--control some", &["--control", "twins"]),
        ("--margin 0", &["--margin", "points"]),
        ("--norm l1 --attacks apgd-ce --readouts early", &["--readouts early", "early(3)"]),
        ("--attacks pgd-10,fgsm-3", &["--attacks", "`fgsm-3`", "pgd-STEPS"]),
        ("--gradients exakt", &["--gradients", "`exakt`", "unrolled"]),
        ("--gradients adjoint:state=9", &["--gradients", "state=9", "1..=4"]),
        ("--gradients unrolled:state=9", &["--gradients", "state=9", "1..=4"]),
        ("--readouts last", &["--readouts", "`last`", "ensemble-states"]),
        ("--readouts early(9)", &["--readouts", "early(9)", "1..=4"]),
        ("--split dev", &["\"dev\"", "test"]),
        ("--count 0", &["--count 0"]),
        ("--batch-size 0", &["--batch-size 0"]),
        ("--development 0 --readouts early", &["--development 0"]),
        ("--device tpu", &["--device tpu", "cpu", "--features cuda"]),
        ("--device cuda:0", &["--device cuda:0", "--features cuda"]),
        ("--device cpu:1", &["cpu:1", "--threads"]),
        ("--seed x", &["--seed"]),
        ("--frobnicate", &["--frobnicate", "evaluate --help"]),
    ] {
        let arguments = match flags {
            flags if flags.starts_with("--eps") || flags.starts_with("--count") => {
                format!("evaluate --model model/model.safetensors --out out --data digits {flags}")
            }
            flags => format!("{EVALUATE} --data digits {flags}"),
        };
        refuse(at, &arguments, 2, parts);
    }
    let train = "train --out out --data digits --model mdeq-digits";
    for (flags, parts) in [
        ("--adversary fgsm", &["--adversary fgsm", "pgd, trades, boxes or none"][..]),
        ("--adversary pgd --eps -1", &["--eps", "negative"]),
        ("--eps 0.1", &["--adversary pgd"]),
        ("--beta 6", &["--beta", "--adversary"]),
        ("--adversary pgd --beta 6", &["--beta", "trades"]),
        ("--adversary trades --beta 0", &["beta 0", "positive"]),
        ("--width 7", &["--width", "resnet18"]),
        ("--dropout 1.5", &["dropout", "1.5"]),
        ("--clip-norm 0", &["clip_norm 0"]),
        ("--adversary pgd --norm l1", &["--norm l1", "--eps"]),
        ("--adversary pgd --norm l1 --eps 1", &["adversary.norm l1", "linf or l2"]),
        ("--patience 0", &["patience", "at least 1"]),
        ("--patience 2 --development 0", &["early_stopping", "development"]),
        ("--gradient unrolled:state=2", &["--gradient", "best"]),
        ("--epochs 0", &["epochs"]),
        ("--lr 0", &["learning_rate"]),
        ("--count 10", &["10 examples", "batch of 64"]),
    ] {
        refuse(at, &format!("{train} {flags}"), 2, parts);
    }
    let baseline = "train --out out --data digits --model resnet18";
    refuse(at, &format!("{baseline} --dropout 0.1"), 2, &["--dropout", "DEQs"]);
    refuse(at, "train --out out --data digits --model mdeq-huge", 2, &["`mdeq-huge`", "mdeq-small"]);
    refuse(at, "train --out out --data digits", 2, &["no model", "--model"]);
    refuse(at, "train --resume --out out", 2, &["no model", "recipe.toml"]);
    refuse(at, "train --out model --data digits --model mdeq-digits", 2, &["model", "not empty", "--resume"]);
    refuse(at, "trian", 2, &["trian", "train"]);
    refuse(at, "report --results recipe.toml --out out", 2, &["recipe.toml", "results.json"]);
    refuse(at, "report --results nothing.json --out out", 2, &["nothing.json"]);
    refuse(
        at,
        "report --results recipe.toml --out out --format docx",
        2,
        &["--format", "`docx`", "html", "svg", "pdf"],
    );
    refuse(at, "info --model mdeq-huge", 2, &["mdeq-huge", "no such file", "mdeq-large"]);
    refuse(at, "info --model recipe.toml", 2, &["recipe.toml", "safetensors"]);
    nothing_written(at);
}

#[test]
fn recipes_with_mistakes() {
    let folder = folder();
    let at = folder.path();
    let line = |needle: &str| RECIPE.lines().position(|line| line.starts_with(needle)).unwrap() + 1;
    for (from, to, parts) in [
        (
            "epochs = 2",
            "epochz = 2",
            vec!["`epochz`".to_owned(), format!("line {}, column 1", line("epochs"))],
        ),
        (
            "groups = 2",
            "gruops = 2",
            vec!["`gruops`".to_owned(), format!("line {}, column 1", line("groups"))],
        ),
        ("count = 48", "cuont = 48", vec!["`cuont`".to_owned(), format!("line {}, column 1", line("count"))]),
        ("[data]", "[date]", vec!["`date`".to_owned(), format!("line {}", line("[data]"))]),
        ("batch_size = 16", "batch_size = true", vec![format!("line {}", line("batch_size"))]),
        ("batch_size = 16", "batch_size = ", vec![format!("line {}", line("batch_size"))]),
        ("groups = 2", "groups = 3", vec!["channels".to_owned(), "divisible".to_owned()]),
        ("steps = 4", "steps = 0", vec!["solver".to_owned(), "steps".to_owned()]),
    ] {
        let text = RECIPE.replacen(from, to, 1);
        assert_ne!(text, RECIPE);
        fs::write(at.join("recipe.toml"), text).unwrap();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        refuse(at, "train --config recipe.toml --out out", 2, &parts);
    }
    refuse(at, "train --config other.toml --out out", 2, &["other.toml"]);
    nothing_written(at);
}

#[test]
fn folders_that_cannot_be() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    // Below a file: that is refused to every user, root included.
    fs::write(at.join("file"), "a file").unwrap();
    let evaluate = "evaluate --model model/model.safetensors --data digits --count 4";
    refuse(at, &format!("{evaluate} --out file/out"), 2, &["--out", "file is a file"]);
    refuse(at, "train --data digits --model mdeq-digits --out file/out", 2, &["--out", "file is a file"]);
    refuse(at, "demo --quick --out file/out", 2, &["--out", "file is a file"]);
    refuse(
        at,
        "diagnose --model model/model.safetensors --data digits --out file/out",
        2,
        &["--out", "file is a file"],
    );
    refuse(at, &format!("{evaluate} --out file"), 2, &["--out", "file is a file", "another --out"]);
    assert_eq!(fs::read_to_string(at.join("file")).unwrap(), "a file");
    let export = "export --model model/model.safetensors --out";
    refuse(
        at,
        &format!("{export} no/folder/m.pth"),
        2,
        &["no/folder/m.pth", "no such folder", "check the path"],
    );
    fs::create_dir(at.join("folder.pth")).unwrap();
    refuse(at, &format!("{export} folder.pth"), 2, &["folder.pth", "cannot write", "check the path"]);
    fs::create_dir(at.join("empty")).unwrap();
    refuse(at, "info --model empty", 2, &["empty"]);
    // A folder that is somebody else's.
    refuse(at, "demo --quick --out model", 2, &["model", "--out"]);
    assert!(at.join("model/model.safetensors").exists());
}
