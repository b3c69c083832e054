//! JSON, CSV, Markdown and LaTeX.
//!
//! Run with `UPDATE_GOLDEN=1` to rewrite the files in `golden/`, then read the difference.

use crate::records::{self, empty, flattered, honest, report, without_ready_made};
use equipoise_record::{Collection, Evaluation, NotTried, Plan};
use equipoise_report::{Format, Report, ReportError, render};
use std::path::Path;

#[test]
fn one_model_is_the_evaluation_itself() {
    let text = render(Format::Json, &report(vec![flattered()])).unwrap();
    assert_eq!(serde_json::from_str::<Evaluation>(&text).unwrap(), flattered());
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["readouts"][0]["ready_made_accuracy"], 0.412);
}

#[test]
fn several_models_are_a_collection() {
    for models in [vec![], vec![flattered(), honest(), without_ready_made()]] {
        let text = render(Format::Json, &report(models.clone())).unwrap();
        assert_eq!(serde_json::from_str::<Collection>(&text).unwrap().models, models);
    }
}

#[test]
fn golden_files() {
    let report = report(vec![flattered(), without_ready_made()]);
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
    let untouched = records::model("none", 10, vec![]);
    for models in
        [vec![], vec![empty()], vec![untouched], vec![honest()], vec![flattered(), honest(), empty()]]
    {
        for format in Format::ALL {
            render(format, &report(models.clone())).unwrap();
            render(format, &Report { models: models.clone(), ..Report::default() }).unwrap();
        }
    }
}

#[test]
fn what_was_not_tried_is_said() {
    let mut model = flattered();
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
        assert!(!render(format, &report(vec![flattered()])).unwrap().contains("not tried, or not on all"));
    }
}

#[test]
fn hostile_names_stay_text() {
    let mut model = flattered();
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
    let mut report = report(vec![flattered()]);
    report.command = Some("a\n```\n<b>".into());
    assert!(render(Format::Markdown, &report).unwrap().contains("````sh\na\n```\n<b>\n````"));
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let mut model = flattered();
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
