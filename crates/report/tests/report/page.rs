//! The HTML page: self-contained, escaped, consistent with the record.

use crate::records::{flagged, gallery, healthy, obfuscated, report, two_radii, without_ready_made};
use equipoise_record::Training;
use equipoise_report::{Figure, Format, Series, render};
use std::collections::HashSet;

fn page() -> String {
    let mut report = report(vec![two_radii(), healthy(), without_ready_made()]);
    report.figures.push(Figure {
        title: "Residual".into(),
        series: vec![Series { name: "clean".into(), points: vec![(1.0, 0.5), (2.0, 0.25)], band: None }],
        ..Figure::default()
    });
    render(Format::Html, &report).unwrap()
}

#[test]
fn stands_alone() {
    let page = page();
    for forbidden in ["<script", "<link", "<img", "src=", "@import", "url(", "https://"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    // The name space of SVG is an identifier, not an address that is fetched.
    assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http://"));
}

#[test]
fn ids_are_unique_and_every_reference_has_its_id() {
    let page = page();
    let values = |attribute: &str| -> Vec<String> {
        let start = format!(" {attribute}=\"");
        page.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let ids = values("id");
    let unique: HashSet<&String> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len());
    let labels = values("aria-labelledby");
    assert!(!labels.is_empty());
    for id in labels.iter().flat_map(|l| l.split(' ')) {
        assert!(unique.contains(&id.to_owned()), "{id}");
    }
    for link in values("href") {
        assert!(unique.contains(&link.trim_start_matches('#').to_owned()), "{link}");
    }
}

#[test]
fn every_string_is_escaped() {
    let attack = "<script>alert(1)</script>\"'&";
    let mut model = obfuscated();
    model.model = attack.into();
    model.dataset = attack.into();
    model.norm = attack.into();
    model.configuration = serde_json::json!({ attack: attack });
    model.readouts[0].name = attack.into();
    model.readouts[0].attacks[1].name = attack.into();
    model.readouts[0].attacks[1].estimator = attack.into();
    let mut report = report(vec![model]);
    report.title = attack.into();
    report.trainings.push(Training {
        model: attack.into(),
        recipe: serde_json::json!({ "data": { "spec": attack }, "train": { "adversary": { "kind": attack } } }),
        finished: false,
        epochs: Vec::new(),
        steps: Vec::new(),
    });
    report.command = Some(attack.into());
    report.figures.push(Figure {
        title: attack.into(),
        caption: attack.into(),
        x_label: attack.into(),
        y_label: attack.into(),
        series: vec![Series { name: attack.into(), points: vec![(1.0, 1.0)], band: None }],
        ..Figure::default()
    });
    let page = render(Format::Html, &report).unwrap();
    assert!(!page.contains("<script") && !page.contains("\"'&"));
    for file in equipoise_report::svg_files(&report) {
        roxmltree::Document::parse(&file.contents).unwrap();
    }
}

#[test]
fn verdict_then_effort_then_the_three_accuracies() {
    let page = render(Format::Html, &report(vec![flagged()])).unwrap();
    let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("no {part}"));
    let order = [
        "id=\"verdict\"",
        "gradient obfuscation: ",
        "id=\"effort\"",
        "accuracy against effort",
        "id=\"accuracy\"",
        "Clean, ready-made and white-box accuracy",
        "id=\"checks\"",
    ];
    let places: Vec<usize> = order.iter().map(|part| at(part)).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(at("id=\"verdict\"") < at("<table"));
    // The card's large figures: clean, ready-made, white-box.
    let card = &page[at("class=\"three\"")..at("class=\"sentence\"")];
    let figures: Vec<&str> =
        card.split("class=\"figure\">").skip(1).map(|rest| rest.split('<').next().unwrap()).collect();
    assert_eq!(figures, ["73.4%", "39.6%", "31.6%"]);
}

#[test]
fn clear_checks_are_one_line() {
    let mut model = flagged();
    model.readouts[0].flags[1].raised = false;
    let page = render(Format::Html, &report(vec![model])).unwrap().replace("<wbr>", "");
    assert!(page.contains("2 checks, none raised: zero-gradients"), "one line for all");
    assert!(!page.contains("▲ raised"));
    let page = render(Format::Html, &report(vec![flagged()])).unwrap().replace("<wbr>", "");
    assert!(page.contains("2 checks, 1 raised; clear: zero-gradients"));
    assert!(page.contains("▲ raised") && page.contains("broken by square alone"));
}

#[test]
fn classes_have_their_names_and_their_confusions() {
    let page = render(Format::Markdown, &report(vec![obfuscated()])).unwrap();
    let row = page.lines().find(|line| line.starts_with("| airplane | 50 |")).unwrap();
    // 367 correct images in turn through ten classes; 158 stand.
    assert!(row.contains("37/50"), "{row}");
    // Each broken image of class k is given k + 1 or k + 2.
    let row = page.lines().filter(|line| line.starts_with("| cat |")).nth(1).unwrap();
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    assert_eq!(cells.iter().filter(|cell| cell.parse::<usize>().is_ok()).count(), 1, "{row}");
}

#[test]
fn the_gallery_shows_what_was_correct_when_clean() {
    let mut model = obfuscated();
    model.readouts[0].gallery = Some(gallery());
    let page = render(Format::Html, &report(vec![model])).unwrap();
    assert_eq!(page.matches("<img").count(), 3);
    assert!(page.contains("alt=\"pgd-at, readout final, image 4, clean; true class cat\""));
    assert!(!page.contains("Image 5"));
}

#[test]
fn several_records_are_said_to_be_corrected_alone() {
    let mut report = report(vec![obfuscated(), healthy()]);
    for format in [Format::Html, Format::Markdown] {
        assert!(!render(format, &report).unwrap().contains("corrected alone"));
    }
    report.records = 2;
    for format in [Format::Html, Format::Markdown] {
        assert!(render(format, &report).unwrap().contains("2 records; each was corrected alone"), "{format}");
    }
}
