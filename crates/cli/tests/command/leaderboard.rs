//! Records of several evaluations on one page.

use std::fs;

use serde_json::Value;

use crate::support::{folder, refuse, succeed};
use crate::verify::evaluated;

#[test]
fn records_become_a_board() {
    let folder = folder();
    let at = folder.path();
    refuse(at, "leaderboard . --out board", 2, &["there is no results.json"]);
    evaluated(at);
    // Another attack on the same images, and the hashes make them one row for each readout.
    succeed(
        at,
        "evaluate --model model/model.safetensors --data digits --count 30 --eps 0.2 --readouts final --attacks square-50 \
         --gradients none --no-flags --out later/e",
    );
    fs::write(at.join("e/verification.json"), succeed(at, "verify e --json")).unwrap();
    fs::write(at.join("e/about.json"), r#"{ "name": "Tiny2026", "venue": "here" }"#).unwrap();
    let said = succeed(at, "leaderboard . --out board --title Tiny");
    for written in ["index.html", "leaderboard.csv", "robustbench"] {
        assert!(said.contains(written), "{said}");
    }
    let page = fs::read_to_string(at.join("board/index.html")).unwrap();
    assert!(page.contains("<title>Tiny</title>") && page.contains("../e/results.json"), "{page}");
    assert!(page.contains("../later/e/results.json") && page.contains("verified: "), "{page}");

    let robust = |path: &str| -> Vec<bool> {
        let record: Value = serde_json::from_str(&fs::read_to_string(at.join(path)).unwrap()).unwrap();
        let examples = record["models"][0]["readouts"][0]["examples"].as_array().unwrap();
        examples.iter().map(|example| example["robust"].as_bool().unwrap()).collect()
    };
    let both = robust("e/results.json")
        .into_iter()
        .zip(robust("later/e/results.json"))
        .filter(|both| both.0 && both.1);
    let expected = both.count() as f64 / 30.0;
    let csv = fs::read_to_string(at.join("board/leaderboard.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert!(
        csv.lines().any(|line| line.contains(",final,") && line.contains(&format!(",{expected},"))),
        "{expected} {csv}"
    );
    let entries: Vec<_> =
        fs::read_dir(at.join("board/robustbench")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [data] = &entries[..] else { panic!("{entries:?}") };
    let entry = fs::read_dir(data.join("Linf")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let entry: Value = serde_json::from_str(&fs::read_to_string(entry).unwrap()).unwrap();
    assert_eq!((&entry["name"], &entry["venue"]), (&"Tiny2026".into(), &"here".into()), "{entry}");

    // A verification of another record, and a file that is none.
    fs::write(at.join("later/e/verification.json"), fs::read(at.join("e/verification.json")).unwrap())
        .unwrap();
    refuse(at, "leaderboard . --out board", 2, &["speaks of another record", "equipoise verify"]);
    fs::remove_file(at.join("later/e/verification.json")).unwrap();
    fs::write(at.join("e/about.json"), r#"{ "nam": "Tiny2026" }"#).unwrap();
    refuse(at, "leaderboard e --out board", 2, &["about.json", "unknown field `nam`"]);
}
