//! The HTML page: self-contained, escaped, consistent with the record.

use crate::records::{flattered, honest, report, without_ready_made};
use equipoise_report::{Figure, Format, Series, render};
use std::collections::HashSet;

fn page() -> String {
    let mut report = report(vec![flattered(), honest(), without_ready_made()]);
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
    let mut model = flattered();
    model.model = attack.into();
    model.dataset = attack.into();
    model.norm = attack.into();
    model.configuration = serde_json::json!({ attack: attack });
    model.readouts[0].name = attack.into();
    model.readouts[0].attacks[1].name = attack.into();
    model.readouts[0].attacks[1].estimator = attack.into();
    let mut report = report(vec![model]);
    report.title = attack.into();
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
fn says_the_verdict_before_any_table() {
    let page = page();
    let verdict = page.find("points of the ready-made figure are gradient obfuscation").unwrap();
    assert!(verdict < page.find("<table").unwrap());
    assert!(page.contains("no comparison is possible"));
}
