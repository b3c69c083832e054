//! What the commands leave behind, and what they say.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{RECIPE, folder, refuse, run, succeed, train_tiny};

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "no {field} in {value}");
    }
}

/// A record that the schema admits and that does not contradict itself.
fn valid(record: &Value) {
    let schema: Value = serde_json::from_str(equipoise_record::SCHEMA).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        schema.iter_errors(record).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let collection = equipoise_record::read(&record.to_string()).unwrap();
    equipoise_verdict::check(&collection).unwrap();
}

fn fraction(value: &Value, field: &str) {
    let inside = |value: &Value| (0.0..=1.0).contains(&value.as_f64().unwrap());
    assert!(inside(&value[field]), "{field}");
    let interval = value[format!("{field}_interval")].as_array().unwrap();
    assert!(interval.len() == 2 && interval.iter().all(inside), "{field}");
}

#[test]
fn every_command_has_help_with_an_example() {
    let folder = folder();
    for command in
        ["demo", "train", "evaluate", "certify", "diagnose", "trace", "import", "export", "info", "report"]
    {
        let help = succeed(folder.path(), &format!("{command} --help"));
        assert!(help.contains("Example") && help.contains(&format!("equipoise {command} ")), "{help}");
        for option in ["--device", "--seed", "--threads"] {
            assert!(help.contains(option), "{command}: {option}");
        }
    }
    assert!(succeed(folder.path(), "--help").contains("Example"));
    assert!(succeed(folder.path(), "--version").starts_with("equipoise "));
}

#[test]
fn an_evaluation_leaves_what_the_contract_says() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    for file in ["model.safetensors", "log.jsonl", "steps.jsonl", "recipe.toml"] {
        assert!(at.join("model").join(file).exists(), "{file}");
    }
    let steps = fs::read_to_string(at.join("model/steps.jsonl")).unwrap();
    assert_eq!(steps.lines().count(), 6);
    has(&serde_json::from_str(steps.lines().last().unwrap()).unwrap(), &["step", "loss", "gradient_norm"]);
    let evaluate = "evaluate --model model/model.safetensors --data digits --split test --count 12 --attacks \
                    pgd-3,pgd-2-margin --gradients unrolled:state=2,lead=1,steps=1,exact --readouts \
                    final,early(2),ensemble-states,ensemble-logits --eps 8/255 --norm linf --out out \
                    --save-adversarial --seed 3";
    let stdout = succeed(at, evaluate);
    assert!(stdout.contains("| tiny") && stdout.contains("| ensemble-logits"), "{stdout}");
    assert!(stdout.contains("readout final: "), "{stdout}");

    let record = json(&at.join("out/results.json"));
    valid(&record);
    let record = &record["models"][0];
    has(record, &["version", "configuration", "seed", "count", "readouts", "model", "dataset"]);
    fraction(record, "clean_accuracy");
    assert_eq!((record["seed"].as_u64(), record["count"].as_u64()), (Some(3), Some(12)));
    assert_eq!(record["dataset"], "Digits, test");
    let configuration = &record["configuration"];
    has(
        configuration,
        &["command", "equipoise", "model", "attacks", "gradients", "readouts", "threads", "device"],
    );
    assert!(configuration["command"].as_str().unwrap().starts_with("equipoise evaluate --model "));
    let readouts = record["readouts"].as_array().unwrap();
    let names: Vec<&str> = readouts.iter().map(|readout| readout["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["final", "early(2)", "ensemble-states", "ensemble-logits"]);
    for readout in readouts {
        for field in ["clean_accuracy", "ready_made_accuracy", "white_box_accuracy"] {
            fraction(readout, field);
        }
        let attacks = readout["attacks"].as_array().unwrap();
        // The training gradient is exact: it is not tried twice.
        let tried: Vec<(&str, &str, bool)> = attacks
            .iter()
            .map(|attack| {
                has(attack, &["accuracy", "accuracy_interval", "seconds", "cell_evaluations", "vjps"]);
                let text = |field: &str| attack[field].as_str().unwrap();
                (text("name"), text("estimator"), attack["ready_made"].as_bool().unwrap())
            })
            .collect();
        let unrolled = "unrolled:state=2,lead=1,steps=1,damping=0.5";
        let aimed = readout["name"] != "final";
        let mut expected = vec![("pgd-3", "exact", true), ("pgd-2-margin", "exact", true)];
        for attack in ["pgd-3", "pgd-2-margin"] {
            expected.extend([(attack, unrolled, false), (attack, "exact", true)]);
            // Behind another readout than its own the training gradient is aimed at it too.
            expected.extend(aimed.then_some((attack, "aimed(exact)", false)));
        }
        expected.push(("pgd-10x4", "through-solver", false));
        expected.push(("pgd-10x4", if aimed { "aimed(exact)" } else { "exact" }, false));
        assert_eq!(tried, expected);
        let verdict = &readout["verdict"];
        assert_eq!((verdict["n"].as_u64(), &verdict["looks"]), (Some(12), &serde_json::json!([12])));
        assert_eq!(verdict["aim"].is_null(), !aimed);
        assert_eq!(verdict["yardstick"]["gradient"], "through-solver");
        let examples = readout["examples"].as_array().unwrap();
        assert_eq!(examples.len(), 12);
        has(&examples[0], &["index", "label", "clean_correct", "robust", "broken_by"]);
    }
    for file in ["results.md", "report.html", "adversarial-early-2.safetensors", "adversarial-final.npz"] {
        assert!(at.join("out").join(file).exists(), "{file}");
    }

    // The images saved are those that were judged: as data, they give the white-box accuracy of the record.
    let again = "evaluate --model model/model.safetensors --data npz:out/adversarial-final.npz --eps 0 --attacks pgd-1 \
                 --gradients none --out again";
    succeed(at, again);
    let saved = json(&at.join("again/results.json"));
    assert_eq!(saved["models"][0]["clean_accuracy"], record["readouts"][0]["white_box_accuracy"]);

    // A report of both, as files and as a single file.
    let reports =
        "report --results out/results.json again/results.json --out both --format html,csv,latex,json";
    let written = succeed(at, reports);
    // Classes and the comparisons of one model's readouts are tables of their own.
    for name in
        ["report.html", "results.csv", "classes.csv", "comparisons.csv", "results.tex", "results.json"]
    {
        assert!(written.lines().any(|line| line.ends_with(&format!("/{name}"))), "{name}: {written}");
    }
    assert!(at.join("both/comparisons.csv").exists());
    assert_eq!(json(&at.join("both/results.json"))["models"].as_array().unwrap().len(), 2);
    let both = json(&at.join("both/results.json"));
    valid(&both);
    // A headline that was edited by hand is refused, and so is a finding.
    for (edited, field) in [("white_box_accuracy", "white_box_accuracy"), ("finding", "finding")] {
        let mut forged = both.clone();
        let readout = &mut forged["models"][0]["readouts"][0];
        match edited {
            "finding" => readout["verdict"]["finding"] = "not-obfuscated".into(),
            _ => readout[edited] = 0.99.into(),
        }
        fs::write(at.join("forged.json"), forged.to_string()).unwrap();
        refuse(at, "report --results forged.json --out forged", 2, &["forged.json", field]);
    }
    succeed(at, "report --results both/results.json --out table.tex --format latex");
    assert!(fs::read_to_string(at.join("table.tex")).unwrap().contains("tabular"));
}

#[test]
fn radii_make_one_curve_and_one_record() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let sweep = "evaluate --model model/model.safetensors --data digits --count 30 --attacks pgd-3,square-20 --gradients \
                 unrolled:state=2,lead=1,steps=1 --eps 0.3,0,0.05,0.1 --readouts early(2) --no-flags";
    succeed(at, &format!("{sweep} --out out"));
    let record = json(&at.join("out/results.json"));
    valid(&record);
    let model = &record["models"][0];
    assert_eq!(model["eps"], 0.3);
    let readout = &model["readouts"][0];
    let radii = readout["radii"].as_array().unwrap();
    let eps: Vec<f64> = radii.iter().map(|radius| radius["eps"].as_f64().unwrap()).collect();
    assert_eq!(eps, [0.0, 0.05, 0.1, 0.3]);
    for field in ["ready_made_accuracy", "white_box_accuracy"] {
        let along: Vec<f64> = radii.iter().map(|radius| radius[field].as_f64().unwrap()).collect();
        assert!(along.is_sorted_by(|a, b| a >= b), "{field}: {along:?}");
        assert_eq!(readout[field], radii[3][field]);
    }
    assert_eq!(radii[0]["white_box_accuracy"], readout["clean_accuracy"]);
    assert_eq!(radii[3]["verdict"], readout["verdict"]);
    // Interrupted or not, it is the same; and what is done is not done again.
    succeed(at, &format!("{sweep} --out out --resume"));
    assert_eq!(json(&at.join("out/results.json")), record);
}

#[test]
fn an_evaluation_is_extended_and_says_how_often_it_was_looked_at() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let evaluate = "evaluate --model model/model.safetensors --data digits --attacks pgd-2,square-5 --gradients \
                    unrolled:state=2,lead=1,steps=1 --eps 0.2 --flag-count 4";
    succeed(at, &format!("{evaluate} --count 10 --out out"));
    succeed(at, &format!("{evaluate} --count 25 --out out --resume"));
    succeed(at, &format!("{evaluate} --count 25 --out whole"));
    let (extended, whole) = (json(&at.join("out/results.json")), json(&at.join("whole/results.json")));
    valid(&extended);
    let readout = |record: &Value| record["models"][0]["readouts"][0].clone();
    assert_eq!(readout(&extended)["examples"], readout(&whole)["examples"]);
    assert_eq!(readout(&extended)["flags"], readout(&whole)["flags"]);
    let verdict = &readout(&extended)["verdict"];
    assert_eq!((&verdict["looks"], &verdict["level"]), (&serde_json::json!([10, 25]), &0.0125.into()));
    assert_eq!(readout(&whole)["verdict"]["level"], 0.05);
}

#[test]
fn a_plan_says_what_it_costs_and_what_it_can_show() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let evaluate = "evaluate --model model/model.safetensors --data digits --count 200 --eps 0.1";
    let plan = succeed(at, &format!("{evaluate} --attacks whitebox --readouts final,early --plan --out out"));
    for part in
        ["opening, through the training gradient", "yardstick: pgd-10x4", "square", "time: ", "at 8 points"]
    {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    assert!(!at.join("out").exists(), "a plan writes nothing");
    let open = succeed(at, &format!("{evaluate} --control none --plan --out out"));
    assert!(open.contains("there is no control"), "{open}");
    // Without a control the others are run all the same, and no finding is made.
    let few = evaluate.replace("--count 200", "--count 20");
    succeed(
        at,
        &format!("{few} --attacks pgd-2 --gradients through-solver --control none --no-flags --out none"),
    );
    let record = json(&at.join("none/results.json"));
    valid(&record);
    let verdict = &record["models"][0]["readouts"][0]["verdict"];
    assert_eq!((&verdict["finding"], &verdict["b"]), (&"no-control".into(), &Value::Null));
    assert_eq!(verdict["arms"]["white_box"].as_array().unwrap().len(), 1);
}

#[test]
fn a_model_says_what_it_is() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let plain = succeed(at, "info --model model/model.safetensors");
    assert!(plain.contains("parameters: ") && plain.contains("channels: [4]"), "{plain}");
    let facts: Value =
        serde_json::from_str(&succeed(at, "info --json --model model/model.safetensors")).unwrap();
    assert_eq!(facts["name"], "tiny");
    assert_eq!(facts["architecture"]["image"], serde_json::json!([1, 8, 8]));
    assert_eq!(facts["training"]["recipe"]["epochs"], 2);
    assert!(facts["parameters"].as_u64().unwrap() > 100);
}

/// What the repository ships can be used at once: a card of its own says what a model is, or the recipe of its name and the
/// folder's page.
#[test]
fn shipped_models_are_small_and_have_cards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shipped = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "safetensors")).collect()
    };
    let [alone, family] = ["models", "models/dose"].map(shipped);
    assert!(!alone.is_empty() && family.len() >= 20, "{} and {}", alone.len(), family.len());
    for path in &alone {
        assert!(path.with_extension("md").exists(), "{} has no card", path.display());
    }
    for path in &family {
        let recipe = path.file_stem().unwrap().to_str().unwrap();
        let recipes = [format!("dose/{recipe}.toml"), format!("small/cifar10-{recipe}.toml")];
        let known = recipes.iter().any(|recipe| root.join("recipes").join(recipe).exists());
        assert!(known, "{} has no recipe", path.display());
    }
    for path in alone.iter().chain(&family) {
        assert!(fs::metadata(path).unwrap().len() < 5 << 19, "{}", path.display());
        let facts = succeed(&root, &format!("info --json --model {}", path.display()));
        let facts: Value = serde_json::from_str(&facts).unwrap();
        assert!(facts["training"]["recipe"]["epochs"].as_u64() >= Some(6), "{}", path.display());
    }
}

/// The counts are those of the authors' release (MDEQ) and of the TRADES code (baselines).
#[test]
fn architectures_have_the_sizes_of_the_paper() {
    let folder = folder();
    let at = folder.path();
    let listed: Value = serde_json::from_str(&succeed(at, "info --json")).unwrap();
    let size = |name: &str| {
        let found = listed.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
        found["parameters"].as_u64().unwrap()
    };
    assert_eq!((size("mdeq-large"), size("mdeq-xl")), (11_097_438, 48_792_098));
    assert_eq!((size("resnet18"), size("wrn-34-10")), (11_173_962, 46_160_474));
    let plain = succeed(at, "info --model mdeq-large");
    assert!(plain.contains("resnet18: 0.99×") && plain.contains("final_channels: 1680"), "{plain}");
    assert!(succeed(at, "info").contains("mdeq-xl"));
}

#[test]
fn a_recipe_left_behind_trains_the_same_model() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    succeed(at, "train --config model/recipe.toml --out again");
    let read = |name: &str| fs::read(at.join(name)).unwrap();
    assert!(read("model/model.safetensors") == read("again/model.safetensors"));
    assert!(read("model/recipe.toml") == read("again/recipe.toml"));
}

#[test]
fn flags_stand_above_the_recipe() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    succeed(
        at,
        "train --config recipe.toml --out out --epochs 1 --batch-size 24 --lr 0.01 --adversary pgd --eps 0.1 --norm l2 \
         --pgd-steps 2 --gradient unrolled:steps=3 --count 24 --development 0 --name other --seed 9",
    );
    let facts: Value =
        serde_json::from_str(&succeed(at, "info --json --model out/model.safetensors")).unwrap();
    let recipe = &facts["training"]["recipe"];
    assert_eq!((&facts["name"], facts["training"]["seed"].as_u64()), (&Value::from("other"), Some(9)));
    assert_eq!((recipe["epochs"].as_u64(), recipe["batch_size"].as_u64()), (Some(1), Some(24)));
    assert_eq!(recipe["optimizer"]["learning_rate"], 0.01);
    assert_eq!((&recipe["adversary"]["eps"], &recipe["adversary"]["norm"]), (&0.1.into(), &"l2".into()));
    assert_eq!(recipe["adversary"]["steps"], 2);
    let unrolled = "unrolled:state=best,lead=1,steps=3,damping=0.5";
    assert_eq!(facts["deployment"]["training_gradient"], unrolled);
    assert_eq!(facts["deployment"]["tail"]["steps"], 3);
    // What a model was trained with is what its ready-made attacks use.
    succeed(at, "evaluate --model out/model.safetensors --data digits --count 4 --attacks pgd-1 --out e");
    let attacks = &json(&at.join("e/results.json"))["models"][0]["readouts"][0]["attacks"];
    assert_eq!((&attacks[0]["estimator"], &attacks[0]["ready_made"]), (&unrolled.into(), &true.into()));
    assert_eq!(attacks[1]["estimator"], "exact");
}

#[test]
fn attacks_without_gradients_come_once_and_last() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    succeed(
        at,
        "evaluate --model model/model.safetensors --data digits --count 4 --attacks square-5,apgd-ce-2,fab-t-2 \
         --gradients adjoint,through-solver --out out",
    );
    let record = json(&at.join("out/results.json"));
    valid(&record);
    let tried: Vec<String> = record["models"][0]["readouts"][0]["attacks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attack| {
            format!("{}/{}", attack["name"].as_str().unwrap(), attack["estimator"].as_str().unwrap())
        })
        .collect();
    let expected = [
        "apgd-ce-2/exact",
        "fab-t-2/exact",
        "apgd-ce-2/adjoint:state=last,beta=1",
        "apgd-ce-2/exact",
        "fab-t-2/adjoint:state=last,beta=1",
        "fab-t-2/exact",
        "apgd-ce-2/through-solver",
        "apgd-ce-2/exact",
        "fab-t-2/through-solver",
        "fab-t-2/exact",
        "pgd-10x4/through-solver",
        "pgd-10x4/exact",
        "square-5/none",
    ];
    assert_eq!(tried, expected);
}

#[test]
fn the_white_box_plan_is_recorded_with_its_checks() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    // A budget in which next to nothing survives keeps this short.
    let evaluate = "evaluate --model model/model.safetensors --data digits --count 60 --eps 0.9 --attacks whitebox \
                    --readouts final,early(2) --flag-count 4";
    let output = run(at, &format!("{evaluate} --out out"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for line in [
        "opening, through the training gradient: pgd-10",
        "apgd-t through through-solver; ",
        "on what withstands: square",
    ] {
        assert!(stderr.contains(line), "{line}: {stderr}");
    }
    let record = json(&at.join("out/results.json"));
    valid(&record);
    assert_eq!(record["models"][0]["configuration"]["whitebox"], true);
    for readout in record["models"][0]["readouts"].as_array().unwrap() {
        assert!(readout["clean_accuracy"].as_f64().unwrap() > 0.0, "there is something to attack");
        let tries = readout["plan"]["tries"].as_array().unwrap();
        let attacks = readout["attacks"].as_array().unwrap();
        assert!(tries.len() > 20 && tries.len() == attacks.len(), "{}", tries.len());
        for (tried, attack) in tries.iter().zip(attacks) {
            assert_eq!((&tried["attack"], &tried["estimator"]), (&attack["name"], &attack["estimator"]));
            let broken = attack["broken"].as_u64().unwrap();
            assert_eq!(tried["work_per_broken"].is_f64(), broken > 0);
            assert_eq!(tried["seconds_per_broken"].is_f64(), broken > 0);
        }
        assert_eq!(readout["plan"]["not_tried"], serde_json::json!([]));
        let flags: Vec<&str> =
            readout["flags"].as_array().unwrap().iter().map(|flag| flag["name"].as_str().unwrap()).collect();
        let expected = [
            "unconfirmed-successes",
            "zero-or-non-finite-gradients",
            "loss-not-monotone-in-eps",
            "survives-unbounded-budget",
            "residual-inflated-by-attack",
        ];
        assert_eq!(flags, expected);
    }
    // Resuming what is done changes nothing and examines nothing again.
    succeed(at, &format!("{evaluate} --out out --resume"));
    assert_eq!(json(&at.join("out/results.json")), record);
    // Without flags, and with no time at all.
    let hurried = evaluate.replace("--flag-count 4", "--no-flags").replace("--eps 0.9", "--eps 0.001");
    succeed(at, &format!("{hurried} --time-limit 0.001s --out hurried"));
    let record = json(&at.join("hurried/results.json"));
    let readout = &record["models"][0]["readouts"][0];
    assert_eq!(readout["flags"], serde_json::json!([]));
    assert_eq!(readout["plan"]["time_limit"], 0.001);
    assert!(readout["plan"]["not_tried"].as_array().unwrap().len() > 20);
    refuse(at, &format!("{evaluate} --time-limit soon --out bad"), 2, &["--time-limit", "10m"]);
}

#[test]
fn quiet_means_quiet() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let output = run(at, "train --config recipe.toml --out quiet --quiet");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// Fine-tuning: another recipe from trained weights, and a run folder that holds all it needs to go on.
#[test]
fn a_model_is_trained_on_from_its_file() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let recipe = "--data digits --count 48 --development 0 --batch-size 16";
    let tune = format!(
        "train --init model/model.safetensors {recipe} --epochs 1 --schedule constant --keep-every 1"
    );
    succeed(at, &format!("{tune} --adversary pgd --eps 0.1 --pgd-steps 2 --lr 1e-4 --out tuned"));
    let facts = |path: &str| -> Value {
        serde_json::from_str(&succeed(at, &format!("info --json --model {path}"))).unwrap()
    };
    let (first, tuned) = (facts("model/model.safetensors"), facts("tuned/model.safetensors"));
    assert_eq!(tuned["name"], "tiny-pgd-at");
    assert_eq!(tuned["training"]["init"]["sha256"], first["sha256"]);
    assert_eq!(
        (&tuned["architecture"], &tuned["deployment"]),
        (&first["architecture"], &first["deployment"])
    );
    assert_eq!(facts("tuned/epoch-001.safetensors")["training"]["epoch"], 1);
    // The folder goes on without the file that it started from.
    std::fs::rename(at.join("model"), at.join("elsewhere")).unwrap();
    succeed(at, "train --resume --out tuned --epochs 2");
    assert_eq!(facts("tuned/model.safetensors")["training"]["epoch"], 2);
    refuse(at, "train --resume --out tuned --epochs 1", 2, &["epochs 1", "at least 2"]);

    let init = "train --init elsewhere/model.safetensors --out other";
    std::fs::write(at.join("wide.toml"), RECIPE.replace("channels = [4]", "channels = [8]")).unwrap();
    refuse(at, &format!("{init} --config wide.toml"), 2, &["elsewhere/model.safetensors", "[model]"]);
    refuse(at, &format!("{init} --model mdeq-small {recipe}"), 2, &["--init", "--model"]);
    refuse(at, &format!("{init} {recipe} --schedule steep"), 2, &["steep", "cosine or constant"]);
    refuse(at, &format!("{init} {recipe} --keep-every 0"), 2, &["keep_every"]);
    // What a diverged run advises is possible.
    let message = run(at, &format!("{init} {recipe} --lr 1e25 --epochs 3"));
    let message = String::from_utf8_lossy(&message.stderr).into_owned();
    assert!(message.contains("another folder") && message.contains("lower learning rate"), "{message}");
    succeed(
        at,
        &format!("train --init elsewhere/model.safetensors {recipe} --lr 1e-4 --epochs 1 --out anew"),
    );
}
