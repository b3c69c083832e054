//! An evaluation in parts, on as many machines, comes to the record of one run.

#![cfg(unix)]

use std::fs;

use serde_json::Value;

use crate::resume::{record, wait_for};
use crate::support::{command, folder, refuse, run, succeed, train_longer, train_tiny};

const EVALUATE: &str = "evaluate --model model.safetensors --data digits --count 22 --batch-size 5 --eps 0.1,0.2 --readouts \
                        final,early --development 8 --attacks pgd-10,square-50 --gradients through-solver \
                        --save-adversarial --out out";

#[test]
fn shards_make_the_record_of_one_run() {
    let folder = folder();
    let whole = folder.path();
    train_longer(whole);
    fs::rename(whole.join("model/model.safetensors"), whole.join("model.safetensors")).unwrap();
    succeed(whole, EVALUATE);
    let expected = record(&whole.join("out/results.json"));
    let readout = &expected["models"][0]["readouts"][0];
    let broken = |example: &&Value| !example["broken_by"].is_null();
    assert!(readout["examples"].as_array().unwrap().iter().filter(broken).count() > 3, "{readout}");
    let images = fs::read(whole.join("out/adversarial-final.npz")).unwrap();
    for of in [1, 2, 3, 7] {
        let parts = self::folder();
        let at = parts.path();
        fs::copy(whole.join("model.safetensors"), at.join("model.safetensors")).unwrap();
        let shard = |number: usize| format!("{EVALUATE} --shard {number}/{of}");
        for number in 1..=of {
            if number == 2 {
                // One is killed on the way, and goes on with the same command.
                let mut child = command(at, &shard(number)).spawn().unwrap();
                let journal = at.join(format!("out/shard-2-of-{of}/journal/final/eps-0.1"));
                wait_for(&mut child, &journal, "turn-");
                child.kill().unwrap();
                child.wait().unwrap();
                let missing =
                    ["2/", "not done", "equipoise evaluate --model model.safetensors", "--shard 2/"];
                refuse(at, "merge out", 2, &missing);
            }
            succeed(at, &shard(number));
        }
        assert!(!at.join("out/results.json").exists());
        let said = run(at, "merge out");
        assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
        assert_eq!(record(&at.join("out/results.json")), expected, "{of} shards");
        assert_eq!(fs::read(at.join("out/adversarial-final.npz")).unwrap(), images);
        let kept: Value =
            serde_json::from_str(&fs::read_to_string(at.join("out/shards.json")).unwrap()).unwrap();
        assert_eq!(kept["shards"].as_array().unwrap().len(), of);
        assert_eq!((&kept["kinds"], &kept["disputed"]), (&Value::from(1), &Value::Array(Vec::new())));
        let machine = &kept["shards"][0]["machine"];
        assert!(machine["binary"].as_str().is_some_and(|hash| hash.len() == 64), "{machine}");
        // Once more, and with other images at once.
        succeed(at, "merge out --batch-size 3");
        let again = record(&at.join("out/results.json"));
        assert_eq!(again["models"][0]["readouts"], expected["models"][0]["readouts"]);
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let evaluate = "evaluate --model model/model.safetensors --data digits --count 6 --eps 0.1 --attacks pgd-2 --gradients none";
    let shard = |rest: &str| format!("{evaluate} {rest}");
    refuse(at, &shard("--shard 0/3 --out e"), 2, &["--shard 0/3", "k/n"]);
    refuse(
        at,
        &shard("--shard auto --out e"),
        2,
        &["--shard auto", "SLURM_ARRAY_TASK_ID", "give --shard k/n"],
    );
    refuse(at, &shard("--shard 7/7 --out e"), 2, &["there are 6 images"]);
    refuse(at, &shard("--shard 1/3 --time-limit 10s --out e"), 2, &["--time-limit", "--shard"]);
    refuse(at, "merge e", 2, &["cannot read"]);
    fs::create_dir(at.join("e")).unwrap();
    refuse(at, "merge e", 2, &["there are no shards", "--shard k/n"]);

    succeed(at, &shard("--shard 1/5 --out e"));
    let said = ["4 of 5 shards", "2/5 is missing", "--shard 4/5 --out e`", "likewise 5/5"];
    refuse(at, "merge e", 2, &said);
    succeed(at, &shard("--shard 1/2 --out e"));
    refuse(at, "merge e", 2, &["divisions into 2 and 5 parts"]);
    fs::remove_dir_all(at.join("e/shard-1-of-5")).unwrap();
    // Another seed is another evaluation.
    succeed(at, &shard("--shard 2/2 --seed 1 --out e"));
    refuse(at, "merge e", 2, &["shard 2/2 was made with", "--seed 1"]);
    // The same flags, but other images behind them.
    fs::remove_dir_all(at.join("e/shard-2-of-2")).unwrap();
    succeed(at, &shard("--shard 2/2 --out e"));
    refuse(at, "merge e --count 5", 2, &["number of images"]);
    // A launcher says which it is.
    let mut launched = command(at, &shard("--shard auto --out auto"));
    launched.env("OMPI_COMM_WORLD_RANK", "1").env("OMPI_COMM_WORLD_SIZE", "2");
    assert!(launched.status().unwrap().success());
    assert!(at.join("auto/shard-2-of-2/shard.json").exists());
    // With the model elsewhere.
    fs::rename(at.join("model"), at.join("moved")).unwrap();
    refuse(at, "merge e", 2, &["model/model.safetensors"]);
    succeed(at, "merge e --model moved/model.safetensors");
    assert!(at.join("e/results.json").exists());
    assert!(succeed(at, "merge --help").contains("Unite the shards"));
}
