//! Lower bounds in every format: certified ≤ white-box ≤ clean, and nothing where nothing was certified.

use crate::records::{certified, healthy, report};
use equipoise_record::{Accuracy, Collection, RadiusResult};
use equipoise_report::{Format, ModelCard, csv_files, model_card, render, svg_files};

#[test]
fn the_record_of_these_tests_is_sound() {
    let collection =
        Collection { version: 2, models: vec![certified()], diagnoses: Vec::new(), trainings: Vec::new() };
    equipoise_verdict::check(&collection).unwrap();
}

#[test]
fn every_format_shows_lower_bounds_beside_upper_ones() {
    let report = report(vec![certified()]);
    for format in [Format::Html, Format::Markdown, Format::Latex] {
        let text = render(format, &report).unwrap().replace("<wbr>", "").replace("\\%", "%");
        for expected in
            ["A certificate is a lower bound", "90/500", "178/500", "20/50", "99.9%", "deployed", "ideal"]
        {
            assert!(text.contains(expected), "{format}: {expected}");
        }
    }
    let page = render(Format::Html, &report).unwrap();
    assert!(page.contains("href=\"#certified\"") && page.contains("id=\"certified\""));
    let at = |id: &str| page.find(&format!("id=\"{id}\"")).unwrap();
    assert!(at("accuracy") < at("certified") && at("certified") < at("classes"));
    assert!(render(Format::Latex, &report).unwrap().contains("\\label{tab:certified}"));
    assert!(render(Format::Json, &report).unwrap().contains("\"certificates\""));
}

#[test]
fn certified_is_at_most_white_box_and_that_at_most_clean() {
    let files = csv_files(&report(vec![certified()])).unwrap();
    let (_, text) = files.iter().find(|(name, _)| name == "certified.csv").unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    let of = |row: &csv::StringRecord, name: &str| {
        row[head.iter().position(|found| found == name).unwrap()].to_owned()
    };
    let number = |row: &csv::StringRecord, name: &str| of(row, name).parse::<f64>().unwrap();
    assert_eq!(rows.len(), 3);
    // The attacks know the largest radius only, and no other norm.
    let known: Vec<bool> = rows.iter().map(|row| !of(row, "white_box_accuracy").is_empty()).collect();
    assert_eq!(known, [false, true, false]);
    let [certified, white_box, clean] =
        ["certified_accuracy", "white_box_accuracy", "clean_accuracy"].map(|name| number(&rows[1], name));
    assert_eq!([certified, white_box, clean], [0.18, 0.356, 0.704]);
    // Of the fifty images of the sample all are correct when clean.
    assert_eq!((number(&rows[2], "count"), number(&rows[2], "clean_accuracy")), (50.0, 1.0));
    assert_eq!([of(&rows[2], "abstained"), of(&rows[2], "confidence")], ["1", "0.999"]);
}

#[test]
fn several_radii_are_a_curve_and_smaller_radii_of_the_attacks_stand_beside_it() {
    let files = svg_files(&report(vec![certified()]));
    let curve = files.iter().find(|file| file.name.contains("certified-accuracy-against")).unwrap();
    for expected in ["certified, lipschitz (deployed)", "white-box, all images", "from 70.4 at 0 to 35.6"] {
        assert!(curve.contents.contains(expected), "{expected}: {}", curve.contents);
    }
    let mut model = certified();
    let readout = &mut model.readouts[0];
    let smaller = RadiusResult {
        white_box_accuracy: Accuracy::new(300, 500),
        ..RadiusResult::of(2.0 / 255.0, readout)
    };
    readout.radii = vec![smaller, RadiusResult::of(8.0 / 255.0, readout)];
    assert!(
        render(Format::Markdown, &report(vec![model]))
            .unwrap()
            .contains("| L∞ 2/255 | 30.0% [26.1, 34.2] 150/500 | 60.0% ")
    );
}

#[test]
fn cards_say_what_is_certified_and_where_nothing_is() {
    let card = |models| model_card(&ModelCard { name: "m".into(), models, ..ModelCard::default() }).unwrap();
    assert!(card(vec![healthy()]).contains("Nothing here is certified."));
    let text = card(vec![certified()]);
    assert!(!text.contains("Nothing here is certified.") && text.contains("lipschitz"), "{text}");
    for format in [Format::Html, Format::Markdown, Format::Latex, Format::Json] {
        assert!(!render(format, &report(vec![healthy()])).unwrap().contains("ertifi"), "{format}");
    }
    assert!(csv_files(&report(vec![healthy()])).unwrap().iter().all(|(name, _)| name != "certified.csv"));
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let mut model = certified();
    model.readouts[0].certificates[0].examples[0].radius = Some(f64::INFINITY);
    let error = render(Format::Json, &report(vec![model])).unwrap_err().to_string();
    assert!(error.contains("readouts.final.certificates.lipschitz.radius"), "{error}");
}
