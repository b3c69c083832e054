//! `bench` end to end on a model that takes no time; what it measures is not looked at.

use std::process::Command;

use serde_json::Value;

use crate::support::{folder, refuse, succeed};

const FAST: &str = "bench --model mdeq-digits --rounds 1 --batch 2 --quiet";

fn record(folder: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(folder.join("bench.json")).expect("written");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn cases_are_timed_and_counted() {
    let folder = folder();
    let table = succeed(
        folder.path(),
        &format!("{FAST} --only solve,pgd-exact,pgd-ensemble,vote,vote-fast,train-step --json bench.json"),
    );
    let record = record(folder.path());
    let cases = record["cases"].as_array().unwrap();
    let names: Vec<&str> = cases.iter().map(|case| case["case"].as_str().unwrap()).collect();
    assert_eq!(names, ["solve", "pgd-exact", "pgd-ensemble", "vote", "vote-fast", "train-step"]);
    for (case, evaluations, vjps) in [
        // z_0 and 8 steps.
        (&cases[0], 9.0..=9.0, 0.0),
        // The solve, and a linearisation where the last iterate is not the best; 7 steps backward.
        (&cases[1], 9.0..=10.0, 7.0),
        // One trajectory, linearised on its way; the readout's tail is the solver's last evaluation.
        (&cases[2], 9.0..=9.0, 8.0),
        // A solve for each of 16 batches.
        (&cases[3], 144.0..=144.0, 0.0),
        // Two for each; for a batch of 2 the vote for the class, the solve without noise, and perhaps a check.
        (&cases[4], 39.5..=46.5, 0.0),
        // Both the attack and the gradient of the parameters, which takes a product more.
        (&cases[5], 18.0..=20.0, 15.0),
    ] {
        assert!(evaluations.contains(&case["cell_evaluations"].as_f64().unwrap()), "{case}");
        assert_eq!(case["vjps"], vjps, "{case}");
        assert!(case["seconds"]["median"].as_f64().unwrap() > 0.0, "{case}");
        assert!(table.contains(case["case"].as_str().unwrap()), "{table}");
    }
    assert!(record["machine"]["peak_gflops"].as_f64().unwrap() > 0.0);
    assert!(record["pytorch"].is_null());
}

#[test]
fn feedforward_networks_have_their_cases() {
    let folder = folder();
    let flags = "bench --model resnet18-w1,wrn-34-10-w1 --rounds 1 --batch 2 --quiet";
    succeed(folder.path(), &format!("{flags} --only cell-forward,logits,pgd,train-step --json bench.json"));
    let record = record(folder.path());
    let cases = record["cases"].as_array().unwrap();
    let of = |case: &Value| [&case["model"], &case["case"]].map(|name| name.as_str().unwrap().to_owned());
    let found: Vec<[String; 2]> = cases.iter().map(of).collect();
    let expected = ["resnet18-w1", "wrn-34-10-w1"]
        .iter()
        .flat_map(|model| ["logits", "pgd", "train-step"].map(|case| [(*model).to_owned(), case.to_owned()]));
    assert_eq!(found, expected.collect::<Vec<_>>());
    assert!(cases.iter().all(|case| case["seconds"]["median"].as_f64().unwrap() > 0.0));
    assert!(cases.iter().all(|case| (case["case"] == "train-step") == case["gflops"].is_null()));
}

#[test]
#[cfg(target_os = "linux")]
fn memory_is_that_of_each_process() {
    let folder = folder();
    succeed(folder.path(), &format!("{FAST} --only memory --json bench.json"));
    let record = record(folder.path());
    let memory = record["memory"].as_array().unwrap();
    // One and two images, and four; three step budgets; states, tails and depths.
    assert_eq!(memory.len(), 3 + 3 + 4 + 4 + 4);
    assert!(memory.iter().all(|row| row["peak_mib"].as_f64().unwrap() > 1.0));
}

#[test]
fn threads_are_compared_with_one() {
    let folder = folder();
    // Not by `succeed`, which says how many there are.
    let flags = format!("{FAST} --only threads --threads 3 --json bench.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_equipoise"));
    let output = command.current_dir(folder.path()).args(flags.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = record(folder.path());
    let found = record["threads"].as_array().unwrap();
    let of = |row: &Value| (row["case"].as_str().unwrap().to_owned(), row["threads"].as_u64().unwrap());
    let expected = ["cell-forward", "pgd-exact", "train-step"].into_iter();
    let expected = expected.flat_map(|case| [1, 2, 3].map(|threads| (case.to_owned(), threads)));
    assert_eq!(found.iter().map(of).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert!(found.iter().all(|row| row["efficiency"]["median"].as_f64().unwrap() > 0.0));
    assert!(found.iter().all(|row| (row["threads"] == 1) == row["serial"].is_null()));
    assert!(found.iter().filter(|row| row["threads"] == 1).all(|row| row["efficiency"]["median"] == 1.0));
}

#[test]
fn mistakes_are_named() {
    let folder = folder();
    refuse(folder.path(), "bench --only cell", 2, &["--only cell", "cell-forward", "verdict"]);
    refuse(
        folder.path(),
        "bench --model monotone-digits",
        2,
        &["--model monotone-digits", "mdeq-small", "resnet18"],
    );
    refuse(folder.path(), "bench --model resnet18-wide", 2, &["--model resnet18-wide", "resnet18-w8"]);
    refuse(folder.path(), "bench --model resnet18-w1 --only solve", 2, &["--only", "resnet18-w1"]);
    refuse(folder.path(), "bench --rounds 0", 2, &["at least 1"]);
    refuse(folder.path(), "bench --only autoattack", 2, &["--only autoattack", "--weights", "--data"]);
    refuse(folder.path(), "bench --weights m.safetensors", 2, &["--data"]);
    refuse(
        folder.path(),
        "bench --model mdeq-digits --only solve --pytorch no-such-python --quiet",
        2,
        &["--pytorch no-such-python", "cannot start"],
    );
}

/// Needs a Python with PyTorch, named by EQUIPOISE_PYTORCH.
#[test]
fn pytorch_does_the_same_work() {
    let Some(python) = std::env::var_os("EQUIPOISE_PYTORCH") else {
        eprintln!(
            "skipped: EQUIPOISE_PYTORCH names no Python that has PyTorch (benchmarks/pytorch/setup.sh makes one)"
        );
        return;
    };
    let folder = folder();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benchmarks/pytorch/mdeq.py");
    let python = python.to_string_lossy();
    let only = "cell-forward,cell-vjp,low-rank,solve,pgd-exact,pgd-unrolled,pgd-ensemble,pgd-ensemble-shared,vote,vote-fast,train-step";
    succeed(
        folder.path(),
        &format!("{FAST} --only {only} --json bench.json --pytorch {python} --pytorch-script {script}"),
    );
    let record = record(folder.path());
    let cases = record["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    assert!(cases.iter().all(|case| case["pytorch"]["ratio"]["median"].as_f64().unwrap() > 0.0));
    // The command has refused already if the results differ; here it has to have looked.
    assert_eq!(record["agreement"]["mdeq-digits"].as_object().unwrap().len(), 5);

    let flags =
        "bench --model resnet18-w4,wrn-34-10-w1 --rounds 1 --batch 2 --quiet --only logits,pgd,train-step";
    succeed(
        folder.path(),
        &format!("{flags} --json bench.json --pytorch {python} --pytorch-script {script}"),
    );
    let record = self::record(folder.path());
    assert!(
        ["resnet18-w4", "wrn-34-10-w1"].iter().all(|model| record["agreement"][*model]
            .as_object()
            .unwrap()
            .len()
            == 3)
    );
}
