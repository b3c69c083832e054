//! The leaderboard: the pointwise worst of several records, its page, and RobustBench's entries.

use std::fs;

use equipoise_record::{Accuracy, Evaluation};
use equipoise_report::board::{About, Evidence, Standing, Trust, entry, page, standings, table};
use serde_json::json;

use crate::arms::{Runs, model};
use crate::browser::{chromium, dom};
use crate::records::{certified, flagged, healthy, obfuscated};

/// The record, with the hashes of what it speaks of.
fn hashed(mut record: Evaluation, weights: &str) -> Evaluation {
    record.configuration = json!({
        "model_sha256": weights,
        "images_sha256": "images",
        "adversarial_sha256": {},
        "model": { "architecture": { "kind": "mdeq", "channels": [8, 16] } },
    });
    record
}

fn evidence<'a>(record: &'a Evaluation, link: &str) -> Evidence<'a> {
    Evidence { record, link: link.into(), about: About::default(), verified: None }
}

/// The points that a record leaves robust.
fn robust(record: &Evaluation) -> Vec<bool> {
    record.readouts[0].examples.iter().map(|example| example.robust).collect()
}

/// 20 images, 18 correct, of which those in `broken` fall.
fn small(broken: &[usize]) -> Evaluation {
    let runs = Runs { count: 20, clean: 18, opening: &[("pgd-10", 0)], free: &[], ..Runs::default() };
    let mut record = hashed(model("small", 20, vec![runs.record()]), "small");
    for &row in broken {
        record.readouts[0].examples[row].robust = false;
    }
    let left = record.readouts[0].examples.iter().filter(|example| example.robust).count();
    record.readouts[0].white_box_accuracy = Accuracy::new(left, 20);
    record
}

fn rows(records: &[&Evaluation]) -> Vec<Standing> {
    let evidence: Vec<Evidence> = records
        .iter()
        .enumerate()
        .map(|(k, record)| evidence(record, &format!("{k}/results.json")))
        .collect();
    standings(&evidence).unwrap()
}

#[test]
fn a_later_record_can_only_lower_a_row() {
    let correct: Vec<usize> = (0..20).filter(|&row| robust(&small(&[]))[row]).collect();
    let (first, second) = (small(&correct[..4]), small(&correct[2..9]));
    let [row] = &rows(&[&first, &second])[..] else { panic!("one row") };
    // 4 and 7 fell, 2 of them in both.
    assert_eq!((row.robust.correct(), row.robust.count()), (18 - 9, 20));
    assert_eq!(row.lowest_alone.correct(), 18 - 7);
    assert_eq!(row.clean.correct(), 18);
    assert_eq!(row.links, ["0/results.json", "1/results.json"]);
    assert_eq!(row.architecture, "mdeq, 8/16 channels");
    // In the other order the same is left, and a third record that broke nothing gives nothing back.
    assert_eq!(rows(&[&second, &first, &small(&[])])[0].robust, row.robust);
}

#[test]
fn records_of_other_weights_or_without_hashes_stand_apart() {
    let mut other = small(&[]);
    other.configuration["model_sha256"] = "other".into();
    assert_eq!(rows(&[&small(&[]), &other]).len(), 2);
    let mut nameless = small(&[]);
    nameless.configuration = json!({});
    assert_eq!(rows(&[&nameless, &nameless]).len(), 2);
    let mut wider = small(&[]);
    wider.eps *= 2.0;
    assert_eq!(rows(&[&small(&[]), &wider]).len(), 2);
    let mut shorter = small(&[]);
    shorter.configuration["model"]["deployment"] = json!({ "solver": { "steps": 3 } });
    assert_eq!(rows(&[&small(&[]), &shorter]).len(), 2);
}

#[test]
fn records_that_contradict_each_other_are_named() {
    let mut changed = small(&[]);
    changed.readouts[0].examples[7].label += 1;
    let (one, two) = (small(&[]), changed);
    let error = standings(&[evidence(&one, "a"), evidence(&two, "b")]).unwrap_err().to_string();
    assert!(error.starts_with("a and b: image 7 ") && error.contains("equipoise verify"), "{error}");
    let mut cut = small(&[]);
    cut.readouts[0].examples.pop();
    let error = standings(&[evidence(&one, "a"), evidence(&cut, "b")]).unwrap_err().to_string();
    assert!(error.contains("20 images and 19"), "{error}");
}

#[test]
fn a_row_rests_on_the_least_of_its_evidence() {
    let trust = |stored: bool, verified| {
        let mut record = small(&[]);
        if stored {
            record.configuration["adversarial_sha256"] = json!({ "final": "hash" });
        }
        let all = [Evidence { verified, ..evidence(&record, "a") }];
        standings(&all).unwrap()[0].trust
    };
    assert_eq!(trust(false, None), Trust::Claimed);
    assert_eq!(trust(false, Some(true)), Trust::Claimed, "without images there was nothing to verify");
    assert_eq!(trust(true, None), Trust::Stored);
    assert_eq!(trust(true, Some(true)), Trust::Verified);
    assert_eq!(trust(true, Some(false)), Trust::Refuted);
    // One refuted record refutes the row, whatever was not stored elsewhere.
    let (claimed, mut stored) = (small(&[]), small(&[]));
    stored.configuration["adversarial_sha256"] = json!({ "final": "hash" });
    let both = [evidence(&claimed, "a"), Evidence { verified: Some(false), ..evidence(&stored, "b") }];
    assert_eq!(standings(&both).unwrap()[0].trust, Trust::Refuted);
}

#[test]
fn what_is_certified_of_the_deployed_network_in_this_norm_stands_below() {
    let record = hashed(certified(), "certified");
    let [row] = &rows(&[&record])[..] else { panic!("one row") };
    let (accuracy, method) = row.certified.clone().unwrap();
    assert_eq!((accuracy.correct(), accuracy.count(), method.as_str()), (90, 500, "lipschitz"));
    assert!(accuracy.value <= row.robust.value);
    let mut ideal = record.clone();
    for certificate in &mut ideal.readouts[0].certificates {
        certificate.network = equipoise_record::CertifiedNetwork::Ideal;
    }
    assert_eq!(rows(&[&ideal])[0].certified, None);
}

#[test]
fn robustbench_gets_its_own_keys() {
    let flagged = hashed(flagged(), "flagged");
    let found = entry(&rows(&[&flagged])[0]);
    let text = |key: &str| found[key].as_str().unwrap_or_else(|| panic!("{key}: {found}")).to_owned();
    let robust = flagged.readouts[0].white_box_accuracy;
    assert_eq!(text("clean_acc"), format!("{:.2}", 100.0 * 367.0 / 500.0));
    assert_eq!(text("external"), format!("{:.2}", 100.0 * robust.value));
    assert_eq!(text("eps"), "8/255");
    assert_eq!(found["unreliable"], true);
    assert!(text("footnote").contains(&format!("{} of 500", robust.correct())), "{found}");
    // Through other gradients too: what AutoAttack alone leaves is not known.
    assert!(found.get("autoattack_acc").is_none(), "{found}");

    let standard = Runs {
        count: 20,
        clean: 18,
        opening: &[("apgd-ce", 3), ("apgd-t", 1), ("fab-t", 0)],
        free: &[("square", 0)],
        ..Runs::default()
    };
    let mut standard = hashed(model("standard", 20, vec![standard.record()]), "standard");
    standard.readouts[0].flags.clear();
    let about = About { name: "Somebody2026Something".into(), additional_data: true, ..About::default() };
    let found = entry(&standings(&[Evidence { about, ..evidence(&standard, "a") }]).unwrap()[0]);
    assert_eq!(found["autoattack_acc"], "70.00");
    assert_eq!(found["name"], "Somebody2026Something");
    assert_eq!((&found["additional_data"], &found["unreliable"]), (&json!(true), &json!(false)));
    // What RobustBench's page reads of every file, by type.
    for key in ["link", "name", "authors", "venue", "architecture", "eps", "clean_acc", "reported"] {
        assert!(found[key].is_string(), "{key}: {found}");
    }
    assert!(found["number_forward_passes"].is_u64());
}

#[test]
fn the_page_shows_every_row_and_escapes_what_it_shows() {
    let mut named = small(&[]);
    named.model = "<script>alert(1)</script>".into();
    let shown = page("A & B", &rows(&[&named, &hashed(obfuscated(), "obfuscated")])).unwrap();
    assert!(shown.contains("&lt;script&gt;alert(1)") && !shown.contains("<script>alert"), "{shown}");
    assert!(shown.contains("<title>A &amp; B</title>"));
    assert!(shown.contains("90.0%") && shown.contains("pgd-at") && shown.contains("Gradient obfuscation"));
    assert!(!shown.contains("http"), "nothing is fetched");
    let mut broken = rows(&[&named]);
    broken[0].eps = f64::NAN;
    assert!(page("", &broken).is_err());
}

#[test]
fn the_table_has_a_line_for_each_row() {
    let text = table(&rows(&[&small(&[]), &hashed(healthy(), "healthy")])).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let lines: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(lines.len(), 2);
    let column = |name: &str| head.iter().position(|column| column == name).unwrap();
    let of_small = lines.iter().find(|line| &line[column("model")] == "small").unwrap();
    assert_eq!((&of_small[column("robust")], &of_small[column("images")]), ("0.9", "20"));
}

/// The models in the order of the rows as a browser shows them.
fn order(browser: &str, folder: &std::path::Path, column: &str) -> Vec<String> {
    let dom = dom(browser, &folder.join("board.html"), &format!("#{column}"));
    let body = dom.split("<tbody>").nth(1).unwrap_or_else(|| panic!("no table: {dom}"));
    body.split("<tr>")
        .skip(1)
        .map(|row| row.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_browser_sorts_it() {
    let Some(browser) = chromium() else {
        eprintln!("skipped: no chromium, chromium-browser or google-chrome on the path");
        return;
    };
    let (mut low, mut high) = (small(&[]), small(&[]));
    for (record, name, broken) in [(&mut low, "low", 12), (&mut high, "middle", 4)] {
        let standing: Vec<usize> = (0..20).filter(|&row| record.readouts[0].examples[row].robust).collect();
        for &row in &standing[..broken] {
            record.readouts[0].examples[row].robust = false;
        }
        record.model = name.into();
        record.configuration["model_sha256"] = name.into();
    }
    let best = small(&[]);
    let folder = tempfile::tempdir().unwrap();
    let shown = page("board", &rows(&[&low, &best, &high])).unwrap();
    // A second column by a click, as a reader would.
    let clicked =
        shown.replace("</body>", "<script>board.tHead.rows[0].cells[5].firstChild.click()</script></body>");
    fs::write(folder.path().join("board.html"), &shown).unwrap();
    assert_eq!(order(browser, folder.path(), "robust"), ["small", "middle", "low"]);
    assert_eq!(order(browser, folder.path(), "model"), ["low", "middle", "small"]);
    fs::write(folder.path().join("board.html"), clicked).unwrap();
    assert_eq!(
        order(browser, folder.path(), "robust"),
        ["low", "middle", "small"],
        "a second time turns it round"
    );
}
