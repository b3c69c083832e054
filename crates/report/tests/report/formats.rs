//! JSON, CSV, Markdown and LaTeX.
//!
//! Run with `UPDATE_GOLDEN=1` to rewrite the files in `golden/`, then read the difference.

use crate::arms;
use crate::records::{empty, healthy, obfuscated, report, two_radii, without_ready_made};
use equipoise_record::{Collection, NotTried, Plan};
use equipoise_report::{Format, Report, ReportError, classes_csv, render};
use std::path::Path;

#[test]
fn json_is_always_a_collection() {
    for models in [vec![], vec![two_radii()], vec![obfuscated(), healthy(), without_ready_made()]] {
        let text = render(Format::Json, &report(models.clone())).unwrap();
        assert_eq!(serde_json::from_str::<Collection>(&text).unwrap().models, models);
        assert_eq!(equipoise_record::read(&text).unwrap().models, models);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["version"], 2);
        assert!(value.get("readouts").is_none());
    }
}

#[test]
fn csv_has_the_verdict_and_every_radius() {
    let text = render(Format::Csv, &report(vec![two_radii()])).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    let get = |row: &csv::StringRecord, name: &str| {
        row[head.iter().position(|found| found == name).unwrap()].to_owned()
    };
    let of = |measure: &str| {
        let rows = rows.iter().filter(|row| get(row, "measure") == measure);
        rows.cloned().collect::<Vec<csv::StringRecord>>()
    };
    for measure in ["clean", "ready-made-opening", "ready-made", "white-box", "verdict"] {
        assert_eq!(of(measure).len(), 2, "{measure}");
    }
    let verdicts = of("verdict");
    let fields = |row| ["finding", "evidence", "b", "c"].map(|name| get(row, name));
    assert_eq!(fields(&verdicts[0]), ["not-obfuscated", "", "1", "1"]);
    assert_eq!(fields(&verdicts[1]), ["obfuscated", "gradient", "38", "2"]);
    assert_eq!(get(&verdicts[1], "difference"), "0.072");
    assert_eq!(get(&verdicts[0], "eps"), (4.0 / 255.0).to_string());
    let runs = of("attack");
    let twin = runs.iter().find(|row| get(row, "arm") == "ready-made").unwrap();
    assert_eq!(
        ["run", "start", "carried", "ready_made"].map(|name| get(twin, name)),
        ["0", "1", "0", "true"]
    );
}

#[test]
fn classes_and_confusions_are_in_csv_and_latex() {
    let model = obfuscated();
    let sheets = classes_csv(std::slice::from_ref(&model)).unwrap();
    let rows = |name: &str| {
        let (_, text) = sheets.iter().find(|(found, _)| found == name).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head = reader.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
        let at = move |row: &csv::StringRecord, name: &str| {
            row[head.iter().position(|found| found == name).unwrap()].to_owned()
        };
        (rows, at)
    };
    let (classes, at) = rows("classes.csv");
    assert_eq!(classes.len(), 10);
    let sum = |name: &str| classes.iter().map(|row| at(row, name).parse::<usize>().unwrap()).sum::<usize>();
    assert_eq!([sum("count"), sum("clean_correct"), sum("robust")], [500, 367, 158]);
    let first = ["class", "class_name", "clean_accuracy"].map(|name| at(&classes[0], name));
    assert_eq!(first, ["0", "airplane", "0.74"]);
    let (pairs, at) = rows("confusion.csv");
    let count: usize = pairs.iter().map(|row| at(row, "count").parse::<usize>().unwrap()).sum();
    assert_eq!(count, 367 - 158);
    assert!(pairs.iter().all(|row| at(row, "class") != at(row, "given")));
    assert_eq!(["class_name", "given_name"].map(|name| at(&pairs[0], name)), ["airplane", "automobile"]);

    let latex = render(Format::Latex, &report(vec![model, healthy()])).unwrap();
    for label in ["classes-pgd-at-final", "confusion-pgd-at-final", "classes-trades-final"] {
        assert!(latex.contains(&format!("\\label{{tab:{label}}}")), "{label}");
    }
    // Nothing was attacked: no model, no classes.
    assert!(classes_csv(&[arms::model("none", 10, vec![])]).unwrap().is_empty());
}

#[test]
fn golden_files() {
    let report = report(vec![two_radii(), without_ready_made()]);
    for format in [Format::Markdown, Format::Csv, Format::Latex] {
        let text = render(format, &report).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/report/golden")
            .join(format!("two-models.{}", format.extension()));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert!(text == golden, "{format} differs from its golden file; it now reads:\n{text}");
    }
}

#[test]
fn every_format_takes_every_report() {
    let untouched = arms::model("none", 10, vec![]);
    for models in
        [vec![], vec![empty()], vec![untouched], vec![healthy()], vec![obfuscated(), healthy(), empty()]]
    {
        for format in Format::ALL {
            render(format, &report(models.clone())).unwrap();
            render(format, &Report { models: models.clone(), ..Report::default() }).unwrap();
        }
    }
}

#[test]
fn what_was_not_tried_is_said() {
    let mut model = obfuscated();
    let missing = NotTried {
        attack: "apgd-t".into(),
        estimator: "through-solver".into(),
        reason: "time limit: it met 3 of 9 points".into(),
    };
    model.readouts[0].plan =
        Some(Plan { tries: Vec::new(), not_tried: vec![missing], time_limit: Some(90.0) });
    for format in [Format::Markdown, Format::Html] {
        let text = render(format, &report(vec![model.clone()])).unwrap();
        for part in ["it met 3 of 9 points", "through-solver", "The attacks were given"] {
            assert!(text.contains(part), "{format}: no `{part}`");
        }
        assert!(!render(format, &report(vec![obfuscated()])).unwrap().contains("not tried, or not on all"));
    }
}

#[test]
fn hostile_names_stay_text() {
    let mut model = obfuscated();
    model.model = "a|b*c* `d` <script>alert(1)</script> \\input{x} 50%\n\"q\",z".into();
    let report = report(vec![model.clone()]);

    let markdown = render(Format::Markdown, &report).unwrap();
    assert!(!markdown.contains("<script"));
    let row = markdown.lines().find(|l| l.starts_with("| a")).unwrap();
    assert_eq!(row.replace("\\|", "").matches('|').count(), 8, "{row}");

    let latex = render(Format::Latex, &report).unwrap();
    assert!(!latex.contains("\\input") && latex.contains("\\textbackslash{}input\\{x\\} 50\\%"));

    let csv = render(Format::Csv, &report).unwrap();
    assert!(csv.contains("50%\n\"\"q\"\",z\",\"CIFAR-10 (JPEG), test\",linf"));
}

#[test]
fn a_fence_cannot_be_broken_out_of() {
    let mut report = report(vec![obfuscated()]);
    report.command = Some("a\n```\n<b>".into());
    assert!(render(Format::Markdown, &report).unwrap().contains("````sh\na\n```\n<b>\n````"));
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let mut model = obfuscated();
    model.readouts[0].attacks[0].seconds = f64::NAN;
    for format in Format::ALL {
        let error = render(format, &report(vec![model.clone()])).unwrap_err();
        assert!(matches!(error, ReportError::NotFinite { .. }));
        assert!(error.to_string().contains("readouts.final.attacks.pgd-10/exact"), "{error}");
    }
}

#[test]
fn formats_have_names() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        assert_eq!(format.extension().to_uppercase().parse::<Format>().unwrap(), format);
    }
    let error = "docx".parse::<Format>().unwrap_err().to_string();
    assert!(error.contains("docx") && error.contains("markdown"), "{error}");
}
