//! Model cards: their front matter is YAML that says what the record says, and the rest is for readers.

use crate::records::{healthy, obfuscated, two_radii, without_ready_made};
use equipoise_record::Evaluation;
use equipoise_report::{ModelCard, ReportError, model_card};
use yaml_rust2::{Yaml, YamlLoader};

fn card(models: Vec<Evaluation>) -> ModelCard {
    ModelCard {
        name: "small".into(),
        equilibrium: true,
        license: None,
        data: "CIFAR-10 (JPEG), train".into(),
        facts: vec![("Architecture".into(), "two branches | 16 and 32 channels".into())],
        models,
    }
}

/// Front matter and body.
fn parts(card: &ModelCard) -> (Yaml, String) {
    let text = model_card(card).unwrap();
    let rest = text.strip_prefix("---\n").unwrap();
    let (matter, body) = rest.split_once("\n---\n").unwrap();
    let mut documents = YamlLoader::load_from_str(matter).unwrap_or_else(|error| panic!("{error}: {matter}"));
    assert_eq!(documents.len(), 1);
    (documents.remove(0), body.to_owned())
}

fn texts(list: &Yaml) -> Vec<&str> {
    list.as_vec().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

/// Whole numbers have no point.
fn number(yaml: &Yaml) -> f64 {
    yaml.as_f64().or_else(|| yaml.as_i64().map(|n| n as f64)).unwrap_or_else(|| panic!("{yaml:?}"))
}

#[test]
fn the_index_holds_every_accuracy_with_its_setting() {
    let model = two_radii();
    let (matter, _) = parts(&card(vec![model.clone()]));
    assert_eq!(matter["library_name"].as_str(), Some("equipoise"));
    assert_eq!(matter["pipeline_tag"].as_str(), Some("image-classification"));
    assert_eq!(texts(&matter["tags"]), ["deep-equilibrium-model", "adversarial-robustness"]);
    assert_eq!(texts(&matter["datasets"]), ["cifar10"]);
    assert_eq!(texts(&matter["metrics"]), ["accuracy", "robust-accuracy"]);
    assert!(matter["license"].is_badvalue(), "nobody decided");
    let index = &matter["model-index"][0];
    assert_eq!((index["name"].as_str(), index["results"].as_vec().unwrap().len()), (Some("small"), 1));
    let result = &index["results"][0];
    assert_eq!(result["task"]["type"].as_str(), Some("image-classification"));
    let set = ["type", "name", "split"].map(|key| result["dataset"][key].as_str().unwrap());
    assert_eq!(set, ["cifar10", "CIFAR-10 (JPEG), test", "test"]);
    // Clean once, then ready-made and white-box at each radius.
    let metrics = result["metrics"].as_vec().unwrap();
    let kinds: Vec<&str> = metrics.iter().map(|metric| metric["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[0], "accuracy");
    assert_eq!(kinds[1..], ["robust-accuracy"; 4]);
    let readout = &model.readouts[0];
    let expected = [
        (readout.clean_accuracy, None),
        (readout.radii[0].ready_made_accuracy.unwrap(), Some(readout.radii[0].eps)),
        (readout.radii[0].white_box_accuracy, Some(readout.radii[0].eps)),
        (readout.radii[1].ready_made_accuracy.unwrap(), Some(readout.radii[1].eps)),
        (readout.radii[1].white_box_accuracy, Some(readout.radii[1].eps)),
    ];
    for (metric, (accuracy, eps)) in metrics.iter().zip(expected) {
        assert_eq!(number(&metric["value"]), accuracy.value);
        let args = &metric["args"];
        let interval = [0, 1].map(|end| number(&args["interval_95"][end]));
        assert_eq!(interval, accuracy.interval);
        assert_eq!((number(&args["count"]), args["readout"].as_str()), (500.0, Some("final")));
        assert_eq!(args["eps"].is_badvalue().then_some(()).xor(eps.map(|_| ())), Some(()));
        assert_eq!(eps, (!args["eps"].is_badvalue()).then(|| number(&args["eps"])));
        assert_eq!(args["norm"].as_str(), eps.map(|_| "linf"));
    }
    let findings: Vec<Option<&str>> =
        metrics.iter().map(|metric| metric["args"]["finding"].as_str()).collect();
    assert_eq!(findings, [None, None, Some("not-obfuscated"), None, Some("obfuscated")]);
    // Ready-made attacks go through the training gradient alone; white-box accuracy is under all.
    let ready_made = texts(&metrics[3]["args"]["attacks"]);
    assert!(ready_made.iter().all(|says| says.ends_with(" through exact")), "{ready_made:?}");
    let all = texts(&metrics[4]["args"]["attacks"]);
    assert!(all.len() > ready_made.len() && all.contains(&"square without gradients"), "{all:?}");
    let name = metrics[4]["name"].as_str().unwrap();
    assert_eq!(name, "Robust accuracy, white-box, L∞ ε = 8/255, readout final");
}

#[test]
fn what_was_not_measured_is_not_stated() {
    let (matter, _) = parts(&card(vec![without_ready_made()]));
    let metrics = matter["model-index"][0]["results"][0]["metrics"].as_vec().unwrap();
    let stated: Vec<(&str, &str)> = metrics
        .iter()
        .map(|m| (m["type"].as_str().unwrap(), m["args"]["readout"].as_str().unwrap()))
        .collect();
    let expected = [("accuracy", "early(3)"), ("robust-accuracy", "early(3)"), ("accuracy", "final")];
    assert_eq!(stated, expected);
    let (matter, body) = parts(&card(Vec::new()));
    assert!(matter["model-index"].is_badvalue() && matter["metrics"].is_badvalue());
    assert!(body.contains("no evaluation was given"));
    let baseline = ModelCard { equilibrium: false, data: String::new(), ..card(vec![healthy()]) };
    let (matter, body) = parts(&baseline);
    assert_eq!(texts(&matter["tags"]), ["adversarial-robustness"]);
    assert!(matter["datasets"].is_badvalue() && !body.contains("Multiscale"));
}

#[test]
fn records_of_one_data_set_stand_together() {
    let mut other = healthy();
    other.dataset = "Digits, test".into();
    let (matter, _) = parts(&card(vec![obfuscated(), healthy(), other]));
    let results = matter["model-index"][0]["results"].as_vec().unwrap();
    let sets: Vec<&str> = results.iter().map(|result| result["dataset"]["type"].as_str().unwrap()).collect();
    assert_eq!(sets, ["cifar10", "digits-test"]);
    assert_eq!(
        results[0]["metrics"].as_vec().unwrap().len(),
        2 * results[1]["metrics"].as_vec().unwrap().len()
    );
}

#[test]
fn a_reader_finds_the_finding_the_licence_and_the_paper() {
    let model = obfuscated();
    let (matter, body) = parts(&ModelCard { license: Some("mit".into()), ..card(vec![model]) });
    assert_eq!(matter["license"].as_str(), Some("mit"));
    for part in [
        "# small",
        "A deep equilibrium model for images, trained on CIFAR-10 (JPEG), train.",
        "| Architecture | two branches \\| 16 and 32 channels |",
        "| Licence | mit |",
        "**Gradient obfuscation.** pgd-at on CIFAR-10 (JPEG), test, L∞ ε = 8/255, 500 images, readout final",
        "31.6%",
        "upper bound",
        "@inproceedings{yang2022closer",
        "@inproceedings{bai2020multiscale",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert!(parts(&card(Vec::new())).1.contains("| Licence | not stated |"));
}

#[test]
fn hostile_names_stay_text() {
    let attack = "---\n<script>\"a\": [b] | # 1e3 \u{85}\\ {c}";
    let mut model = obfuscated();
    model.dataset = attack.into();
    model.readouts[0].name = attack.into();
    let hostile = ModelCard { name: attack.into(), license: Some(attack.into()), ..card(vec![model]) };
    let (matter, body) = parts(&hostile);
    assert_eq!(matter["license"].as_str(), Some(attack));
    let index = &matter["model-index"][0];
    assert_eq!(index["name"].as_str(), Some(attack));
    assert_eq!(index["results"][0]["dataset"]["name"].as_str(), Some(attack));
    assert_eq!(index["results"][0]["metrics"][0]["args"]["readout"].as_str(), Some(attack));
    assert!(!body.contains("<script"));
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let mut model = obfuscated();
    model.readouts[0].white_box_accuracy.value = f64::NAN;
    assert!(matches!(model_card(&card(vec![model])), Err(ReportError::NotFinite { .. })));
}
