//! Lower bounds beside upper ones: certificates are read and recounted, and those that an attack contradicts are refused.

mod support;

use equipoise_record::{CertifiedNetwork, Collection, SCHEMA, SerializedVotes, check, read};
use serde_json::{Value, json};
use support::{EPS, certified};

fn error_of(record: &Value) -> String {
    match read(&record.to_string()) {
        Ok(_) => "it was believed".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn certificates_are_read_and_are_optional() {
    let record = certified();
    check(&record).unwrap();
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(read(&text).unwrap(), record);
    let counts = |record: &Collection, readout: usize| -> Vec<usize> {
        let certificates = &record.models[0].readouts[readout].certificates;
        certificates.iter().flat_map(|c| &c.radii).map(|r| r.certified_accuracy.correct()).collect()
    };
    // Of 200: images from 60 and from 140 on. Of 20, abstained on every second: 60 < 70, 90, 110, 130, 150, 170, 190.
    assert_eq!(counts(&read(&text).unwrap(), 0), [140, 60, 7, 2]);
    assert_eq!(counts(&record, 1), [100, 50]);
    // Without any there is no key: records of earlier builds are written as they were.
    let without = serde_json::to_value(support::full()).unwrap();
    assert_eq!(without.pointer("/models/0/readouts/0/certificates"), None);
}

#[test]
fn every_edit_is_refused_by_the_field_s_name() {
    let edits: [(&str, &str, Value); 24] = [
        ("method", "0/method", json!("")),
        ("norm", "0/norm", json!("l3")),
        ("seconds", "0/seconds", json!(-1)),
        ("abstained", "0/abstained", json!(1)),
        ("abstained", "1/abstained", json!(0)),
        ("confidence.level", "1/confidence/level", json!(1.0)),
        ("confidence.level", "1/confidence/level", json!(0.0)),
        ("confidence.estimation", "1/confidence/estimation", json!(0)),
        ("radii[0].eps", "0/radii/0/eps", json!(-1)),
        ("radii[1].eps", "0/radii/1/eps", json!(EPS / 4.0)),
        ("radii[0].certified_accuracy", "0/radii/0/certified_accuracy", json!(0.9)),
        ("radii[0].certified_accuracy", "0/radii/0/certified_accuracy", json!(0.7001)),
        ("radii[1].certified_accuracy_interval", "0/radii/1/certified_accuracy_interval", json!([0.0, 1.0])),
        ("radii[0].certified_accuracy", "0/examples/150/radius", json!(0.001)),
        ("examples[3].index", "0/examples/3/index", json!(5000)),
        ("examples[4].index", "0/examples/3/index", json!(104)),
        ("examples[150].class", "0/examples/150/class", json!(10)),
        ("examples[150].radius", "0/examples/150/class", json!(null)),
        ("examples[150].class", "0/examples/150/abstained", json!(true)),
        ("examples[3].radius", "0/examples/3/radius", json!(-0.5)),
        // What the network does: example 3 is misclassified as 4, and 60 fell to the opening.
        ("examples[3].class", "0/examples/3/class", json!(3)),
        ("examples[150].class", "0/examples/150/class", json!(1)),
        ("examples[60].radius", "0/examples/60/radius", json!(EPS)),
        ("examples[60].radius", "0/examples/60/radius", json!(1.0)),
    ];
    let mut believed = Vec::new();
    for (field, place, value) in edits {
        let mut record = serde_json::to_value(certified()).unwrap();
        let pointer = format!("/models/0/readouts/0/certificates/{place}");
        *record.pointer_mut(&pointer).expect(place) = value.clone();
        let (error, number) = (error_of(&record), &place[..1]);
        if !error.contains(&format!("model deep, readout final: certificates[{number}].{field} is ")) {
            believed.push(format!("{place} = {value}: {error}"));
        }
    }
    assert!(believed.is_empty(), "{}", believed.join("\n"));
}

#[test]
fn counts_of_checked_votes_are_read_and_held_against_each_other() {
    let with = |edit: &dyn Fn(&mut SerializedVotes)| {
        let mut record = certified();
        let certificate = &mut record.models[0].readouts[0].certificates[1];
        let mut votes =
            SerializedVotes { steps: 1, chains: 256, checks: 400, checked: 8000, confirmed: 7900 };
        edit(&mut votes);
        certificate.confidence.as_mut().unwrap().serialized = Some(votes);
        record
    };
    let record = with(&|_| {});
    check(&record).unwrap();
    let value = serde_json::to_value(&record).unwrap();
    assert_eq!(read(&value.to_string()).unwrap(), record);
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    assert!(validator.is_valid(&value));
    let at = "/models/0/readouts/0/certificates/1/confidence/serialized";
    for key in ["steps", "chains", "checks", "checked", "confirmed"] {
        let mut without = value.clone();
        without.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(key);
        assert!(!validator.is_valid(&without) && read(&without.to_string()).is_err(), "{key}");
    }
    let refused = |edit: &dyn Fn(&mut SerializedVotes)| check(&with(edit)).map_err(|found| found.field);
    let field = |name: &str| Err(format!("certificates[1].confidence.serialized.{name}"));
    assert_eq!(refused(&|votes| votes.steps = 0), field("steps"));
    assert_eq!(refused(&|votes| votes.chains = 0), field("chains"));
    assert_eq!(refused(&|votes| votes.checks = 0), field("checks"));
    assert_eq!(refused(&|votes| votes.checks = 10_001), field("checks"));
    // 20 examples of 400 draws each.
    assert_eq!(refused(&|votes| votes.checked = 8001), field("checked"));
    assert_eq!(refused(&|votes| votes.confirmed = 8001), field("confirmed"));
}

#[test]
fn an_attack_contradicts_only_what_speaks_of_the_deployed_network_and_its_ball() {
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut record = serde_json::to_value(certified()).unwrap();
        let certificate = record.pointer_mut("/models/0/readouts/0/certificates/0").unwrap();
        certificate["examples"][60]["radius"] = json!(EPS);
        // 141 of 200 and 61 of 200 now.
        for (at, correct) in [(0, 140), (1, 61)] {
            let share = equipoise_record::Accuracy::new(correct, 200);
            certificate["radii"][at]["certified_accuracy"] = json!(share.value);
            certificate["radii"][at]["certified_accuracy_interval"] = json!(share.interval);
        }
        edit(certificate);
        record
    };
    let refused = error_of(&edited(&|_| {}));
    let expected =
        format!("examples[60].radius is {EPS} in linf, and pgd-10/exact broke it within linf {EPS}");
    assert!(refused.ends_with(&expected), "{refused}");
    assert_eq!(error_of(&edited(&|c| c["network"] = json!("ideal"))), "it was believed");
    // A ball in L2 does not hold that of L∞.
    assert_eq!(error_of(&edited(&|c| c["norm"] = json!("l2"))), "it was believed");
    let smaller = |record: &mut Value| record["models"][0]["norm"] = json!("l1");
    let mut inside = edited(&|c| c["norm"] = json!("l2"));
    smaller(&mut inside);
    assert!(error_of(&inside).contains("examples[60].radius is "), "{}", error_of(&inside));
}

#[test]
fn sampling_may_be_wrong_as_often_as_its_confidence_says() {
    let wrong = |count: usize| {
        let mut record = certified();
        let certificate = &mut record.models[0].readouts[0].certificates[0];
        certificate.confidence = Some(equipoise_record::Confidence {
            level: 0.999,
            selection: 100,
            estimation: 1000,
            serialized: None,
        });
        for at in 60..60 + count {
            certificate.examples[at].radius = Some(EPS);
        }
        certificate.radii[1].certified_accuracy = equipoise_record::Accuracy::new(60 + count, 200);
        check(&record).map_err(|contradiction| contradiction.field)
    };
    // 0.2 are expected of 200.
    assert_eq!(wrong(1), Ok(()));
    assert_eq!(wrong(3), Ok(()));
    assert_eq!(wrong(10), Err("certificates[0].examples[60].radius".to_owned()));
}

#[test]
fn no_more_are_certified_than_withstand_a_smaller_radius() {
    let mut record = certified();
    // 116 of 200 withstand half the radius. Points broken at the whole one may be certified at half, but not so many.
    let certificate = &mut record.models[0].readouts[1].certificates[0];
    assert_eq!(certificate.network, CertifiedNetwork::Deployed);
    for at in 80..100 {
        certificate.examples[at].radius = Some(EPS / 2.0);
    }
    certificate.radii[0].certified_accuracy = equipoise_record::Accuracy::new(120, 200);
    let contradiction = check(&record).unwrap_err();
    assert_eq!(contradiction.field, "certificates[0].examples");
    assert!(
        contradiction.to_string().contains("on 120 of them, and 116 of all withstand"),
        "{contradiction}"
    );
}

#[test]
fn every_key_is_in_the_schema_and_none_may_be_missing() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let record = serde_json::to_value(certified()).unwrap();
    let errors: Vec<String> = validator.iter_errors(&record).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    for certificate in [0, 1] {
        for part in ["", "/confidence", "/radii/0", "/examples/0"] {
            let at = format!("/models/0/readouts/0/certificates/{certificate}{part}");
            let Some(fields) = record.pointer(&at).and_then(Value::as_object) else { continue };
            for key in fields.keys() {
                let mut without = record.clone();
                let fields = without.pointer_mut(&at).unwrap().as_object_mut().unwrap();
                let value = fields.remove(key).unwrap();
                assert!(!validator.is_valid(&without), "{at} without {key}");
                let fields = without.pointer_mut(&at).unwrap().as_object_mut().unwrap();
                fields.insert(key.clone(), value);
                fields.insert(format!("{key}s_"), json!(0));
                assert!(!validator.is_valid(&without), "{at} with {key}s_");
            }
        }
    }
    for (place, value) in [
        ("network", json!("both")),
        ("norm", json!("l3")),
        ("radii/0/certified_accuracy", json!(1.5)),
        ("examples/0/radius", json!("far")),
        ("settings", json!("none")),
    ] {
        let mut edited = record.clone();
        let at = format!("/models/0/readouts/0/certificates/0/{place}");
        *edited.pointer_mut(&at).unwrap() = value;
        assert!(!validator.is_valid(&edited), "{place}");
    }
}
