//! Several models in one record, and parts of a data set.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{RECIPE, folder, refuse, run, succeed, train_tiny};

fn record(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path.join("results.json")).unwrap()).unwrap()
}

/// What became of every example, behind the first readout of a model.
fn examples(record: &Value, model: usize) -> Vec<Value> {
    record["models"][model]["readouts"][0]["examples"].as_array().unwrap().clone()
}

const ATTACKS: &str = "--attacks pgd-3,square-20 --gradients through-solver --eps 0.1 --no-flags";

#[test]
fn models_of_one_name_stand_in_one_table_and_can_be_told_apart() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    succeed(at, "train --config recipe.toml --seed 1 --epochs 1 --keep-every 1 --out other");
    let resnet = RECIPE.replace("epochs = 2", "epochs = 1").replace("name = \"tiny\"", "name = \"plain\"");
    let start = resnet.find("[model]").unwrap();
    let end = resnet.find("[train]").unwrap();
    let resnet = format!("{}[model]\nname = \"resnet18\"\nwidth = 2\n\n{}", &resnet[..start], &resnet[end..]);
    fs::write(at.join("resnet.toml"), resnet).unwrap();
    succeed(at, "train --config resnet.toml --out plain");

    let models = "--model model/model.safetensors other/model.safetensors plain/model.safetensors";
    let evaluate = format!("evaluate {models} --data digits --count 12 {ATTACKS} --readouts final,early(2)");
    let table = succeed(at, &format!("{evaluate} --out all"));
    let all = record(&at.join("all"));
    let names: Vec<&str> =
        all["models"].as_array().unwrap().iter().map(|model| model["model"].as_str().unwrap()).collect();
    assert_eq!(names, ["tiny (epoch 2)", "tiny (epoch 1)", "plain"]);
    names.iter().for_each(|name| assert!(table.contains(name), "{table}"));
    assert_eq!(all["models"][2]["readouts"].as_array().unwrap().len(), 1);
    // Each is what it is alone; only p-values are corrected over the whole record.
    succeed(
        at,
        &format!("evaluate --model other/model.safetensors --data digits --count 12 {ATTACKS} --out one"),
    );
    assert_eq!(examples(&record(&at.join("one")), 0), examples(&all, 1));

    // Extended by more images, all at once; and nothing is overwritten unasked.
    refuse(at, &format!("{evaluate} --out all"), 2, &["all", "--resume"]);
    // The folder remembers what it was made by.
    succeed(at, "evaluate --resume --out all --count 16");
    let longer = record(&at.join("all"));
    for model in 0..3 {
        assert_eq!(examples(&longer, model)[..12], examples(&all, model), "model {model}");
        assert_eq!(examples(&longer, model).len(), 16);
    }

    let two = "evaluate --model model/model.safetensors other/model.safetensors --data digits --count 4 \
               --attacks pgd-2 --gradients none --no-flags";
    succeed(at, &format!("{two} --name a b --out named"));
    assert_eq!(record(&at.join("named"))["models"][1]["model"], "b");
    refuse(at, &format!("{two} --name a --out no"), 2, &["1 for 2 models"]);
    refuse(at, &format!("{two} --name a a --out no"), 2, &["a stands twice"]);
    let twice = "evaluate --model model/model.safetensors model/best.safetensors --data digits --out no";
    refuse(at, &twice.replace("best", "model"), 2, &["same model"]);
    refuse(
        at,
        &format!("evaluate {models} --data digits --count 4 --readouts early(2) --out no"),
        2,
        &["plain/model.safetensors", "one readout only"],
    );
    assert!(!at.join("no").exists());

    // Rows of several records are told apart in the same way.
    succeed(at, "report one/results.json named/results.json all/results.json --out page --format json");
    let page = record(&at.join("page"));
    let mut names: Vec<String> =
        page["models"].as_array().unwrap().iter().map(|model| model["model"].to_string()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 6, "{names:?}");
}

/// An example's outcome is its own: the parts of a data set are what the whole is there.
#[test]
fn parts_of_a_data_set_are_what_they_are_in_the_whole() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let evaluate = format!("evaluate --model model/model.safetensors --data digits {ATTACKS}");
    succeed(at, &format!("{evaluate} --count 30 --out whole --save-adversarial"));
    succeed(at, &format!("{evaluate} --offset 10 --count 15 --out part --save-adversarial"));
    fs::write(at.join("rows.txt"), "[28, 3\n 12]\n7 20").unwrap();
    succeed(at, &format!("{evaluate} --indices rows.txt --out listed"));
    let whole = examples(&record(&at.join("whole")), 0);
    assert_eq!(examples(&record(&at.join("part")), 0), whole[10..25]);
    let listed: Vec<Value> = [3, 7, 12, 20, 28].map(|row: usize| whole[row].clone()).into();
    assert_eq!(examples(&record(&at.join("listed")), 0), listed);

    let diagnose =
        "diagnose --model model/model.safetensors --data digits --eps 0.1 --sections residual,accuracy";
    succeed(
        at,
        &format!(
            "{diagnose} --offset 10 --count 15 --adversarial part/adversarial-final.safetensors --out d"
        ),
    );
    refuse(
        at,
        &format!(
            "{diagnose} --offset 11 --count 15 --adversarial part/adversarial-final.safetensors --out e"
        ),
        2,
        &["part/adversarial-final.safetensors"],
    );

    for (text, part) in
        [("1 two", "`two` is no row number"), ("4\n5, 4", "line 2: row 4 stands twice"), (" \n", "no row")]
    {
        fs::write(at.join("bad.txt"), text).unwrap();
        refuse(at, &format!("{evaluate} --indices bad.txt --out no"), 2, &["bad.txt", part]);
    }
    fs::write(at.join("bad.txt"), "500").unwrap();
    refuse(at, &format!("{evaluate} --indices bad.txt --out no"), 2, &["row 500", "500 images"]);
    refuse(at, &format!("{evaluate} --offset 500 --out no"), 2, &["--offset 500", "500 images"]);
    refuse(at, &format!("{evaluate} --indices rows.txt --count 3 --out no"), 2, &["--indices", "--count"]);
    assert!(!at.join("no").exists());
}

/// Before a long run its whole time is told, and the lines on the way say what is left of it.
#[test]
fn the_time_of_a_whole_evaluation_is_told() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let output = run(
        at,
        "evaluate --model model/model.safetensors --data digits --count 500 --attacks whitebox --eps 0.01 --no-flags \
         --time-limit 1s --out out",
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    // Under a limit there is nothing to estimate beyond it.
    assert!(!stderr.contains("in all"), "{stderr}");
    let output = run(
        at,
        "evaluate --model model/model.safetensors --data digits --attacks autoattack --plan --out out",
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("time: "));
}
