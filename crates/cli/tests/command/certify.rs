//! `certify` as a user meets it: a record of its own, beside attacks, resumed, refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{folder, refuse, run, succeed, train_tiny};

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The one certificate of a record.
fn certificate(path: &Path) -> Value {
    let record = json(path);
    let certificates = record["models"][0]["readouts"][0]["certificates"].as_array().unwrap().clone();
    let [certificate] = certificates.as_slice() else { panic!("{record}") };
    certificate.clone()
}

const CERTIFY: &str = "certify --model model/model.safetensors --data digits --count 6 --sigma 0.1 --selection 20 --samples 200 --seed 4";

#[test]
fn certificates_stand_by_themselves_and_beside_attacks_and_go_on_from_their_images() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let stdout = succeed(at, &format!("{CERTIFY} --out whole"));
    assert!(
        stdout.contains("| l2 radius | certified | images |") && stdout.contains("confidence 0.999"),
        "{stdout}"
    );
    let whole = certificate(&at.join("whole/results.json"));
    assert_eq!((whole["method"].as_str(), whole["network"].as_str()), (Some("smoothing"), Some("ideal")));
    assert_eq!(whole["confidence"]["estimation"], 200);
    let examples = whole["examples"].as_array().unwrap();
    assert_eq!(examples.len(), 6);
    // Draws, each a forward pass of at most 4 steps and f at the start, and the tail.
    let evaluations = whole["cell_evaluations"].as_u64().unwrap();
    assert!(evaluations > 6 * 220 && evaluations <= 6 * 220 * 6, "{evaluations}");
    let page = fs::read_to_string(at.join("whole/report.html")).unwrap();
    assert!(
        page.contains("Certified accuracy") && !page.contains("obfuscated behind"),
        "a page of certificates alone"
    );

    // Whoever verifies draws other noise, by which an honest radius stands and a longer one does not.
    let said = succeed(at, "verify whole --every 1");
    assert!(said.contains("6 of 6 not refuted by votes under other noise"), "{said}");
    let honest = fs::read(at.join("whole/results.json")).unwrap();
    let mut edited: Value = serde_json::from_slice(&honest).unwrap();
    // Another wrong class for an image that is given one, so that no figure of the record changes with it.
    let readout = &mut edited["models"][0]["readouts"][0];
    let label = |k: usize| readout["examples"][k]["label"].as_u64().unwrap();
    let class = |k: usize| examples[k]["class"].as_u64();
    let wrong =
        (0..6).find(|&k| class(k).is_some_and(|class| class != label(k))).expect("it is hardly trained");
    let another = (0..10).find(|&other| other != label(wrong) && Some(other) != class(wrong));
    readout["certificates"][0]["examples"][wrong]["class"] = another.unwrap().into();
    fs::write(at.join("whole/results.json"), edited.to_string()).unwrap();
    let output = run(at, "verify whole --every 1");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("5 of 6 not refuted") && said.contains("draws of other noise give it: too few"),
        "{said}"
    );
    fs::write(at.join("whole/results.json"), &honest).unwrap();

    // An interrupted run has some of the images: here one is removed, another is asked for in other batches.
    fs::remove_file(at.join("whole/sections/image-3.json")).unwrap();
    succeed(at, "certify --resume --out whole --batch-size 7");
    let again = certificate(&at.join("whole/results.json"));
    assert_eq!((&again["examples"], &again["radii"]), (&whole["examples"], &whole["radii"]));

    // The same images in L∞, each second one: the radius over the root of 64 pixels.
    succeed(at, &format!("{CERTIFY} --norm linf --every 2 --out half"));
    let half = certificate(&at.join("half/results.json"));
    for (half, whole) in half["examples"].as_array().unwrap().iter().zip(examples.iter().step_by(2)) {
        assert_eq!((&half["index"], &half["class"]), (&whole["index"], &whole["class"]));
        if let (Some(linf), Some(l2)) = (half["radius"].as_f64(), whole["radius"].as_f64()) {
            assert!((linf * 8.0 - l2).abs() < 1e-9 && linf * 8.0 <= l2);
        }
    }

    let evaluate = "evaluate --model model/model.safetensors --data digits --count 8 --norm l2 --eps 0.3 --attacks pgd-3 --gradients \
                    through-solver --no-flags --out attacked";
    succeed(at, evaluate);
    succeed(at, &format!("{CERTIFY} --record attacked/results.json --eps 0.05,0.1 --out both"));
    let both = json(&at.join("both/results.json"));
    let readout = &both["models"][0]["readouts"][0];
    assert!(!readout["attacks"].as_array().unwrap().is_empty());
    assert_eq!(readout["certificates"][0]["examples"], whole["examples"]);
    let radii: Vec<f64> = readout["certificates"][0]["radii"]
        .as_array()
        .unwrap()
        .iter()
        .map(|radius| radius["eps"].as_f64().unwrap())
        .collect();
    assert_eq!(radii, [0.05, 0.1]);
    succeed(at, "report both/results.json --out page --format csv,html");
    assert!(fs::read_to_string(at.join("page/certified.csv")).unwrap().contains("smoothing"));

    refuse(at, &format!("{CERTIFY} --out whole"), 2, &["--resume", "another --out"]);
    let other = CERTIFY.replace("--sigma 0.1", "--sigma 0.2");
    refuse(at, &format!("{other} --out whole --resume"), 2, &["sigma", "another --out"]);
    let votes = at.join("whole/sections/image-0.json");
    let damaged = fs::read_to_string(&votes).unwrap().replace("\"count\":", "\"count\":9");
    fs::write(&votes, damaged).unwrap();
    refuse(at, "certify --resume --out whole", 2, &["image-0.json", "remove this file"]);
    let early = CERTIFY.replace("--sigma", "--readout early(2) --sigma");
    refuse(
        at,
        &format!("{early} --record attacked/results.json --out c"),
        2,
        &["not evaluated behind early(2)"],
    );
    let more = CERTIFY.replace("--count 6", "--count 9");
    refuse(at, &format!("{more} --record attacked/results.json --out c"), 2, &["image 8 was not evaluated"]);
}

#[test]
fn fast_votes_are_checked_and_go_on_from_their_images() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    let fast = format!("{CERTIFY} --serialized 1 --chains 30 --checks 120");
    let stdout = succeed(at, &format!("{fast} --out fast"));
    assert!(stdout.contains("fast votes that were checked"), "{stdout}");
    let found = certificate(&at.join("fast/results.json"));
    assert_eq!(
        (found["method"].as_str(), found["network"].as_str()),
        (Some("serialized-smoothing"), Some("ideal"))
    );
    let votes = &found["confidence"]["serialized"];
    let number = |name: &str| votes[name].as_u64().unwrap();
    assert_eq!((number("steps"), number("chains"), number("checks")), (1, 30, 120));
    assert!(number("confirmed") <= number("checked") && number("checked") <= 6 * 120, "{votes}");
    // Of 200 draws two evaluations each; of the checks and 20 draws for the class at most six, and once more one image.
    let evaluations = found["cell_evaluations"].as_u64().unwrap();
    assert!(evaluations <= 6 * (400 + 6) + 6 * (number("checked") + 6 * 20), "{evaluations}");
    let record = json(&at.join("fast/results.json"));
    let schema: Value = serde_json::from_str(equipoise_record::SCHEMA).unwrap();
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&record));
    let page = fs::read_to_string(at.join("fast/results.md")).unwrap();
    assert!(page.contains("picked to be checked") && page.contains("confirmed"), "{page}");
    let said = succeed(at, "verify fast --every 1");
    assert!(said.contains("6 of 6 not refuted by votes under other noise"), "{said}");

    fs::remove_file(at.join("fast/sections/image-3.json")).unwrap();
    succeed(at, "certify --resume --out fast --batch-size 7");
    let again = certificate(&at.join("fast/results.json"));
    assert_eq!((&again["examples"], &again["confidence"]), (&found["examples"], &found["confidence"]));
    let other = fast.replace("--chains 30", "--chains 40");
    refuse(at, &format!("{other} --out fast --resume"), 2, &["serialized", "another --out"]);
    for (change, parts) in [
        ("--chains 30", ["--chains", "--serialized 1"]),
        ("--checks 100", ["--checks", "--serialized 1"]),
        ("--serialized 4 --checks 100", ["--serialized", "are not fast"]),
        ("--serialized 0 --checks 100", ["--serialized", "1 is usual"]),
        ("--serialized 1", ["--checks", "400 of 200 draws"]),
        ("--serialized 1 --checks 201", ["--checks", "of 200 draws"]),
        ("--serialized 1 --checks 7", ["--checks", "use more"]),
        ("--serialized 1 --checks 100 --readout early(2)", ["--serialized", "`final`"]),
    ] {
        refuse(at, &format!("{CERTIFY} {change} --out c"), 2, &parts);
        assert!(!at.join("c").exists(), "{change}");
    }
    let proof = CERTIFY.replace("--sigma 0.1", "--serialized 1");
    refuse(at, &format!("{proof} --out c"), 2, &["--serialized", "give --sigma"]);
}

#[test]
fn what_certifies_nothing_is_refused() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    for (change, parts) in [
        ("--sigma 0", ["--sigma", "above 0"]),
        ("--sigma 0.1 --samples 5", ["--samples", "certify nothing"]),
        ("--sigma 0.1 --alpha 0.7", ["--alpha", "below 0.5"]),
        ("--sigma 0.1 --norm l1", ["--norm l1", "use l2"]),
        ("--sigma 0.1 --every 0", ["--every 0", "at least 1"]),
        ("--sigma 0.1 --eps 3", ["--eps 3", "beyond"]),
        ("--sigma 0.1 --readout early(9)", ["--readout", "early(9)"]),
        ("--sigma 0.1 --record nothing.json", ["nothing.json", "file"]),
    ] {
        let line =
            format!("certify --model model/model.safetensors --data digits --count 2 {change} --out c");
        refuse(at, &line, 2, &parts);
        assert!(!at.join("c").exists(), "{change}");
    }
}

/// A monotone DEQ that is weakly coupled, for a moment of training.
const MONOTONE: &str = r#"
name = "monotone"

[model]
kind = "monotone"
hidden = 24
monotonicity = 8.0
step = 0.08
image = [1, 8, 8]

[deployment]
solver = { method = { picard = { damping = 1.0 } }, steps = 30, tolerance = 1e-5 }
backward = { method = { picard = { damping = 1.0 } }, steps = 30, tolerance = 1e-4 }

[train]
epochs = 4
batch_size = 64
development = 0
optimizer = { kind = "adam", learning_rate = 1e-2 }

[data]
spec = "digits"
"#;

#[test]
fn a_monotone_deq_is_certified_by_proof_beside_attacks() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("recipe.toml"), MONOTONE).unwrap();
    succeed(at, "train --config recipe.toml --out model");
    let certify = "certify --model model/model.safetensors --data digits --count 30";
    let stdout = succeed(at, &format!("{certify} --norm linf --out whole"));
    for words in ["By lipschitz, of the ideal network", "By boxes, of the deployed network"] {
        assert!(stdout.contains(words), "{stdout}");
    }
    let record = json(&at.join("whole/results.json"));
    let certificates = record["models"][0]["readouts"][0]["certificates"].as_array().unwrap().clone();
    let kinds: Vec<_> = certificates.iter().map(|c| (c["method"].clone(), c["network"].clone())).collect();
    let expected =
        ["lipschitz", "affine", "boxes"].map(|method| ["ideal", "deployed"].map(|network| (method, network)));
    let expected: Vec<(Value, Value)> =
        expected.concat().into_iter().map(|(method, network)| (method.into(), network.into())).collect();
    assert_eq!(kinds, expected);
    let radius =
        |certificate: &Value, at: usize| certificate["examples"][at]["radius"].as_f64().unwrap_or(0.0);
    for pair in certificates.chunks(2) {
        assert!(pair.iter().all(|certificate| certificate["confidence"].is_null()));
        assert!((0..30).all(|at| radius(&pair[1], at) <= radius(&pair[0], at)));
        assert!((0..30).filter(|at| radius(&pair[1], *at) > 0.01).count() > 10, "{pair:?}");
    }

    // Whoever has the model proves them again; a radius that is larger by a hundredth is found.
    let said = succeed(at, "verify whole --every 1");
    assert_eq!(said.matches("30 of 30 proved again as recorded").count(), 6, "{said}");
    let honest = fs::read(at.join("whole/results.json")).unwrap();
    let mut loosened = record.clone();
    let example = &mut loosened["models"][0]["readouts"][0]["certificates"][3]["examples"];
    let example =
        example.as_array_mut().unwrap().iter_mut().find(|example| !example["radius"].is_null()).unwrap();
    example["radius"] = (example["radius"].as_f64().unwrap() * 1.01).into();
    fs::write(at.join("whole/results.json"), loosened.to_string()).unwrap();
    let found = run(at, "verify whole --every 1");
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.status.code() == Some(1) && said.contains("and that is not proved"), "{said}");
    fs::write(at.join("whole/results.json"), honest).unwrap();

    // What follows the fixed point to first order shows more than what bounds its speed.
    let sum = |certificate: &Value| (0..30).map(|at| radius(certificate, at)).sum::<f64>();
    assert!(sum(&certificates[2]) > 1.2 * sum(&certificates[0]), "{certificates:?}");

    // Images that are missing are proved anew, by more threads some side by side; other methods are another certification.
    let of = |index: &usize| at.join(format!("whole/sections/image-{index}.json"));
    let indices: Vec<usize> =
        (0..30).map(|at| certificates[0]["examples"][at]["index"].as_u64().unwrap() as usize).collect();
    for index in [3, 16, 17, 29].map(|at| indices[at]) {
        fs::remove_file(of(&index)).unwrap();
    }
    let mut many = Command::new(env!("CARGO_BIN_EXE_equipoise"));
    many.current_dir(at).args(["certify", "--resume", "--out", "whole", "--threads", "20"]);
    assert!(many.output().unwrap().status.success());
    assert!(indices.iter().all(|index| of(index).exists()));
    let again = json(&at.join("whole/results.json"))["models"][0]["readouts"][0]["certificates"].clone();
    for (again, whole) in again.as_array().unwrap().iter().zip(&certificates) {
        assert_eq!((&again["examples"], &again["radii"]), (&whole["examples"], &whole["radii"]));
    }
    refuse(
        at,
        &format!("{certify} --norm linf --method lipschitz --out whole --resume"),
        2,
        &["proofs", "another --out"],
    );

    // What attacks broke is not certified of the deployed network.
    let evaluate = "evaluate --model model/model.safetensors --data digits --count 30 --norm l2 --eps 0.5 --attacks pgd-10 \
                    --gradients exact --no-flags --out attacked";
    succeed(at, evaluate);
    succeed(at, &format!("{certify} --record attacked/results.json --eps 0.1,0.5 --out both"));
    let both = json(&at.join("both/results.json"))["models"][0]["readouts"][0].clone();
    assert_eq!(both["certificates"].as_array().unwrap().len(), 4);
    let broken: Vec<_> = (0..30).filter(|&at| both["examples"][at]["robust"] == false).collect();
    assert!(!broken.is_empty());
    for certificate in [&both["certificates"][1], &both["certificates"][3]] {
        assert!(broken.iter().all(|&at| {
            let right = certificate["examples"][at]["class"] == both["examples"][at]["label"];
            !right || radius(certificate, at) < 0.5
        }));
    }

    for (change, parts) in [
        ("--method boxes", ["--method boxes", "use linf"]),
        ("--method sdp", ["--method", "lipschitz, affine, branching, zonotopes, boxes, smoothing"]),
        ("--method smoothing", ["--sigma", "0.25 is usual"]),
        ("--method affine --at-eps", ["--eps", "certify --help"]),
        ("--sigma 0.1 --eps 0.1 --at-eps", ["--at-eps", "leave it out"]),
        ("--method lipschitz --sigma 0.1", ["--sigma", "leave one of them out"]),
        ("--method lipschitz,smoothing", ["--method", "stands alone"]),
    ] {
        refuse(at, &format!("{certify} {change} --out c"), 2, &parts);
    }
    // At given radii alone, the largest first: as many images there as a search finds, and `verify` tries no others.
    let at_eps = "--norm linf --eps 0.005,0.01 --at-eps --out given";
    let of_all = "--method lipschitz,affine,branching,zonotopes,boxes";
    succeed(at, &format!("{certify} {of_all} {at_eps}"));
    let given = json(&at.join("given/results.json"))["models"][0]["readouts"][0]["certificates"].clone();
    let given = given.as_array().unwrap();
    assert_eq!(given.len(), 10);
    for certificate in given {
        let radii: Vec<f64> = (0..30).map(|at| radius(certificate, at)).collect();
        assert!(
            radii.iter().all(|radius| [0.0, 0.005, 0.01].contains(radius)) && radii.contains(&0.01),
            "{radii:?}"
        );
        assert_eq!(certificate["settings"]["radii"], serde_json::json!([0.01, 0.005]));
    }
    for (given, searched) in given.iter().zip(&certificates[..4]) {
        for at in 0..30 {
            // A search has a precision, and takes off what an evaluation may count as within a radius.
            let [given, searched] = [given, searched].map(|certificate| radius(certificate, at));
            assert!(searched > given * 0.998 && (given == 0.01 || searched < 0.0101), "{given} {searched}");
        }
    }
    // Certificates of branching are no fewer than those of affine.
    let count = |at: usize| (0..30).filter(|row| radius(&given[at], *row) == 0.01).count();
    assert!(count(4) >= count(2) && count(5) >= count(3));
    let said = succeed(at, "verify given --every 5");
    assert_eq!(said.matches("proved again as recorded").count(), 10, "{said}");
    // Of the deployed network nothing is known behind another readout.
    let stdout = succeed(at, &format!("{certify} --readout early(5) --out early"));
    assert!(stdout.contains("ideal network") && !stdout.contains("deployed network"), "{stdout}");
}

/// `--adversary boxes` trains for the certificates of either kind, and says which cells have them.
#[test]
fn training_for_boxes_makes_them_certify() {
    let folder = folder();
    let at = folder.path();
    let kinds = [
        (
            "full",
            "hidden = 24\nmonotonicity = 8.0\nstep = 0.08",
            "hidden = 24\nmonotonicity = 0.5\nstep = 1.0",
        ),
        (
            "convolutional",
            "kind = \"monotone\"\nhidden = 24\nmonotonicity = 8.0\nstep = 0.08",
            "kind = \"monotone-conv\"\nchannels = 3\nkernel = 3\nstride = 2\npadding = 1\npool = 2\nmonotonicity = 0.5\nstep = 1.0",
        ),
    ];
    for (name, usual, own) in kinds {
        let own = format!("{own}\nparametrisation = \"interval-bounded\"");
        fs::write(at.join("recipe.toml"), MONOTONE.replace(usual, &own)).unwrap();
        let train = format!("train --config recipe.toml --adversary boxes --eps 0.05 --out {name}");
        succeed(at, &train);
        let certify = format!(
            "certify --model {name}/model.safetensors --data digits --count 30 --norm linf --method boxes --eps 0.05 --out {name}-c"
        );
        succeed(at, &certify);
        let record = json(&at.join(format!("{name}-c/results.json")));
        for certificate in record["models"][0]["readouts"][0]["certificates"].as_array().unwrap() {
            let examples = certificate["examples"].as_array().unwrap();
            let shown = examples
                .iter()
                .filter(|example| example["radius"].as_f64().is_some_and(|radius| radius >= 0.05));
            assert!(shown.clone().count() > 8, "{name}: {} of 30 by boxes", shown.count());
        }
    }
    fs::write(at.join("recipe.toml"), MONOTONE).unwrap();
    let line = "train --config recipe.toml --adversary boxes --eps 0.05 --out usual";
    refuse(
        at,
        line,
        2,
        &["boxes of this model's states need not contract", "monotone-conv", "interval-bounded"],
    );
    assert!(!at.join("usual").exists());
}

#[test]
fn proofs_need_a_monotone_deq() {
    let folder = folder();
    let at = folder.path();
    train_tiny(at);
    refuse(
        at,
        "certify --model model/model.safetensors --data digits --count 2 --out c",
        2,
        &["only a monotone DEQ", "--sigma"],
    );
}
