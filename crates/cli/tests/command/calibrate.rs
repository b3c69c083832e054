//! `calibrate` end to end on a few images: what it writes, not what it measures.

use serde_json::Value;

use crate::support::{folder, refuse, succeed};

fn json(folder: &std::path::Path, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(name)).expect("written");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn verdicts_and_checks_are_written_with_their_rates() {
    let folder = folder();
    let command = "calibrate --quick --kinds a,checks,healthy --out out --quiet";
    let tables = succeed(folder.path(), command);
    let out = folder.path().join("out");
    let record = json(&out, "calibration.json");
    let verdicts = record["verdicts"].as_array().unwrap();
    // All 100 images and two disjoint halves; healthy, as one of 100.
    let sizes: Vec<u64> = verdicts.iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [100, 50, 50, 100]);
    for row in verdicts {
        assert!(row["b"].as_u64().is_some() && row["finding"].is_string(), "{row}");
        assert!(row["yardstick"].is_array(), "{row}");
    }
    // A whole that is the sum of its halves.
    let sum = |name: &str| verdicts[1][name].as_u64().unwrap() + verdicts[2][name].as_u64().unwrap();
    assert_eq!(verdicts[0]["b"], sum("b"));
    assert_eq!(verdicts[0]["c"], sum("c"));
    let summary = json(&out, "summary.json");
    assert_eq!(summary, record["summary"]);
    assert_eq!(summary["size"][0]["obfuscated"]["of"], 3);
    // So few verdicts are no calibration, and it says so.
    assert!(summary["failures"][0].as_str().unwrap().contains("fewer than 400"), "{summary}");
    let csv = std::fs::read_to_string(out.join("verdicts.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + verdicts.len());
    assert_eq!(std::fs::read_to_string(out.join("calibration.md")).unwrap(), tables);
    for name in ["not-obfuscated.svg", "size.svg"] {
        assert!(std::fs::read_to_string(out.join(name)).unwrap().starts_with("<svg"), "{name}");
    }
    let of = |check: &str, kind: &str| {
        let rows = summary["checks"].as_array().unwrap().iter();
        let mut found = rows.filter(|row| row["check"] == check && row["kind"] == kind);
        found.next().unwrap_or_else(|| panic!("{check} on {kind}"))["raised"]["rate"].as_f64().unwrap()
    };
    assert_eq!(of("zero-or-non-finite-gradients", "healthy"), 0.0);
    assert_eq!(of("zero-or-non-finite-gradients", "inputs rounded to 8 steps"), 1.0);
    assert_eq!(of("survives-unbounded-budget", "inputs rounded to 8 steps"), 1.0);
}

#[test]
fn mistakes_are_named() {
    let folder = folder();
    refuse(folder.path(), "calibrate --out out --kinds z", 2, &["--kinds z", "healthy, faults, checks"]);
    refuse(folder.path(), "calibrate --out out --models 0", 2, &["--models 0", "at least 1"]);
    refuse(folder.path(), "calibrate", 2, &["--out"]);
    assert!(!folder.path().join("out").exists());
}
