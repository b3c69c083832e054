//! Training runs in every format: whole, under way, broken off, many steps, no steps.

use crate::records::{diagnosis, obfuscated, report};
use equipoise_record::{Collection, EpochReport, StepReport, Training, read};
use equipoise_report::{Format, Report, SvgFile, pdf_files, render, svg_files, training_csv};
use roxmltree::Document;
use serde_json::json;

fn step(step: usize) -> StepReport {
    StepReport {
        step,
        epoch: 1 + (step - 1) / 10,
        loss: 2.3 / step as f64,
        accuracy: 0.25,
        learning_rate: 1e-3,
        gradient_norm: 4.0,
        jacobian: None,
        jacobian_norm: None,
        solver_steps: Some(8),
        residual: Some(1e-3 * step as f64),
    }
}

/// An epoch of ten steps.
fn epoch(epoch: usize) -> EpochReport {
    EpochReport {
        epoch,
        step: Some(10 * epoch),
        loss: 2.0 / epoch as f64,
        accuracy: 0.3,
        learning_rate: 1e-3,
        gradient_norm: 3.0,
        jacobian: None,
        residual: Some(2e-3),
        development_accuracy: Some(0.5 + 0.01 * epoch as f64),
        development_robust_accuracy: Some(0.25),
        best_epoch: Some(2.min(epoch)),
        seconds: 12.0,
    }
}

/// Three epochs of ten steps, of three.
pub fn whole() -> Training {
    Training {
        model: "deq".into(),
        recipe: json!({
            "data": { "spec": "digits", "count": 640 },
            "train": {
                "epochs": 3, "development": 100, "adversary": { "norm": "linf", "eps": 8.0 / 255.0, "steps": 7 },
            },
        }),
        finished: true,
        epochs: (1..=3).map(epoch).collect(),
        steps: (1..=30).map(step).collect(),
    }
}

/// Into its second epoch of three, where the loss has exploded and the gradient is not finite any more.
pub fn diverged() -> Training {
    let mut run = Training { model: "broken".into(), finished: false, ..whole() };
    run.epochs.truncate(1);
    run.steps.truncate(15);
    for (k, step) in run.steps[10..].iter_mut().enumerate() {
        step.loss = 1e4 * (k + 1) as f64;
    }
    run.steps[14].gradient_norm = f64::NAN;
    run.steps[14].residual = None;
    run
}

/// Begun, and nothing logged yet.
fn begun() -> Training {
    Training { model: "begun".into(), finished: false, epochs: vec![], steps: vec![], ..whole() }
}

fn of(trainings: Vec<Training>) -> Report {
    Report { title: "Training".into(), trainings, ..Report::default() }
}

fn file<'a>(files: &'a [SvgFile], part: &str) -> &'a SvgFile {
    let found = files.iter().find(|file| file.name.contains(part));
    found.unwrap_or_else(|| panic!("{part}: {:?}", files.iter().map(|f| &f.name).collect::<Vec<_>>()))
}

fn description(file: &SvgFile) -> String {
    let document = Document::parse(&file.contents).unwrap();
    let found = document.descendants().find(|n| n.has_tag_name("desc")).unwrap();
    found.text().unwrap().to_owned()
}

#[test]
fn what_was_logged_is_drawn() {
    let files = svg_files(&of(vec![whole()]));
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let expected = [
        "01-training-loss.svg",
        "02-accuracy-on-the-development-split.svg",
        "03-learning-rate.svg",
        "04-residual-in-training.svg",
        "05-gradient-norm-in-training.svg",
        "06-accuracy-in-training.svg",
    ];
    assert_eq!(names, expected);
    let says = description(&files[0]);
    assert!(says.contains("against step") && says.contains("deq: from 2.3 at 1 to 0.07667 at 30"), "{says}");
    let says = description(&files[1]);
    for part in
        ["deq, clean: from 51 at 1 to 53 at 3", "deq, robust: from 25 at 1", "Marked at 2: best epoch: 2"]
    {
        assert!(says.contains(part), "{part}: {says}");
    }
    // A residual has a logarithmic axis.
    assert!(files[3].contents.contains("10⁻³"));
    assert_eq!(pdf_files(&of(vec![whole()])).unwrap().len(), 6);
}

#[test]
fn runs_share_a_figure_and_a_loss_that_explodes_gets_a_logarithmic_axis() {
    let files = svg_files(&of(vec![whole(), diverged(), begun()]));
    assert_eq!(files.len(), 6);
    let loss = file(&files, "training-loss");
    let says = description(loss);
    assert!(says.contains("broken: from 2.3 at 1 to 50000 at 15"), "{says}");
    assert!(says.contains("begun: no points."), "a run keeps its colour: {says}");
    assert!(loss.contents.contains("10⁴"));
    // With several runs it would not be clear whose epoch is marked.
    assert!(!file(&files, "development").contents.contains("best epoch"));
    assert!(!file(&files, "gradient-norm").contents.contains("NaN"));
}

#[test]
fn many_steps_make_one_point_with_their_range() {
    let mut long = whole();
    long.steps = (1..=2400).map(step).collect();
    let mut short = whole();
    short.model = "short".into();
    let files = svg_files(&of(vec![long, short]));
    let says = description(&files[0]);
    // Ten steps each, of both runs; the first point is the mean of steps 1 to 10.
    let mean = (1..=10).map(|k| 2.3 / f64::from(k)).sum::<f64>() / 10.0;
    let expected = format!("deq: from {mean:.4} at 5.5 to");
    assert!(says.contains(&expected) && says.contains("240 points"), "{expected}: {says}");
    assert!(says.contains("short: from") && says.contains("3 points"), "{says}");
    let page = render(Format::Html, &of(vec![whole()])).unwrap();
    assert!(page.contains("Each point is a step"));
}

#[test]
fn without_steps_everything_is_drawn_by_epochs() {
    let epochs =
        include_str!("../../../../docs/reproduction/mdeq-small-pgd-at-exact-14-epochs-training.jsonl");
    let old = Training {
        model: "old".into(),
        recipe: serde_json::Value::Null,
        finished: true,
        epochs: equipoise_record::read_epochs(epochs).unwrap(),
        steps: Vec::new(),
    };
    let files = svg_files(&of(vec![whole(), old.clone()]));
    let says = description(file(&files, "training-loss"));
    assert!(says.contains("against epoch") && says.contains("deq: from 2 at 1 to 0.6667 at 3"), "{says}");
    assert!(says.contains("14 points"), "{says}");
    // A log that counts steps can be placed beside those of single steps.
    let counted = Training { steps: Vec::new(), ..whole() };
    let says = description(&svg_files(&of(vec![whole(), counted]))[0]);
    assert!(says.contains("against step") && says.contains("deq: from 2 at 10 to 0.6667 at 30"), "{says}");
    // What is unknown is not made up.
    let markdown = render(Format::Markdown, &of(vec![old])).unwrap();
    assert!(markdown.contains("| old | – | 14 finished | – |"), "{markdown}");
}

#[test]
fn every_format_says_where_each_run_stands() {
    let report = of(vec![whole(), diverged(), begun()]);
    let markdown = render(Format::Markdown, &report).unwrap();
    let row = |model: &str| {
        let start = format!("| {model} | PGD-AT, L∞ ε = 8/255, 7 steps | ");
        markdown.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{start}"))
    };
    assert!(row("deq").starts_with("3 of 3 finished | 30 | 0.6667 | 0.002 | 53.0% ["), "{}", row("deq"));
    assert!(row("deq").ends_with("53/100 | 25.0% [17.5, 34.3] 25/100 | 2 | 36.0 s |"), "{}", row("deq"));
    assert!(row("broken").starts_with("1 of 3 not finished | 15 | 2 |"), "{}", row("broken"));
    assert!(row("begun").starts_with("0 of 3 not finished | – | – | – | – | – | – |"), "{}", row("begun"));
    assert!(
        markdown.contains("Not finished: broken and begun. There is no model.safetensors in their folders")
    );
    let mut early = whole();
    early.recipe["train"]["epochs"] = json!(9);
    assert!(render(Format::Markdown, &of(vec![early])).unwrap().contains("| 3 of 9 stopped early |"));

    let page = render(Format::Html, &report).unwrap();
    for part in
        ["id=\"training\"", "href=\"#training\"", "deq: every epoch", "Training loss", "&quot;spec&quot;"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("begun: every epoch"));
    assert_eq!(page.matches("<svg").count(), page.matches("<desc").count());
    let latex = render(Format::Latex, &report).unwrap();
    for part in ["\\label{tab:training}", "\\label{tab:training-deq}", "not finished", "PGD-AT, $L_\\infty$"]
    {
        assert!(latex.contains(part), "{part}: {latex}");
    }
    for format in Format::ALL {
        render(format, &of(vec![begun()])).unwrap();
        render(format, &Report { trainings: vec![whole()], diagnoses: vec![diagnosis()], ..report.clone() })
            .unwrap();
    }
}

#[test]
fn recipes_are_named_by_what_they_do() {
    let says = |train: serde_json::Value| {
        let run = Training { recipe: json!({ "data": { "spec": "npz:x" }, "train": train }), ..whole() };
        render(Format::Markdown, &of(vec![run])).unwrap()
    };
    assert!(says(json!({ "epochs": 3 })).contains("| deq | standard |"));
    let trades = json!({ "adversary": { "kind": "trades", "norm": "l2", "eps": "0.5" } });
    assert!(says(trades).contains("| TRADES, L2 ε = 0.5 |"));
    // Data stand in the caption, and in the rows where runs differ in them.
    let mut other = Training { model: "other".into(), ..whole() };
    other.recipe["data"] = json!({ "spec": "npz:x" });
    let both = render(Format::Markdown, &of(vec![whole(), other])).unwrap();
    for part in ["Training on digits, first 640 images and npz:x.", "| other | npz:x | PGD-AT"] {
        assert!(both.contains(part), "{part}: {both}");
    }
}

#[test]
fn json_is_read_back_and_stands_beside_the_others() {
    let report = Report { trainings: vec![whole(), diverged()], ..report(vec![obfuscated()]) };
    let text = render(Format::Json, &report).unwrap();
    let Collection { models, trainings, .. } = read(&text).unwrap();
    assert_eq!((models.len(), trainings.len()), (1, 2));
    assert_eq!(trainings[0], whole());
    // NaN is not equal to itself: as JSON both are null.
    let json = |training: &Training| serde_json::to_value(training).unwrap();
    assert_eq!(json(&trainings[1]), json(&diverged()));
    let alone = read(&render(Format::Json, &of(vec![whole()])).unwrap()).unwrap();
    assert_eq!((alone.models.len(), alone.diagnoses.len(), alone.trainings.len()), (0, 0, 1));
}

#[test]
fn csv_has_a_row_for_each_epoch_and_step() {
    let sheets = training_csv(&[whole(), diverged()]).unwrap();
    let names: Vec<&str> = sheets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["training-epochs.csv", "training-steps.csv"]);
    let rows = |text: &str| {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head = reader.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
        (head, rows)
    };
    let (head, epochs) = rows(&sheets[0].1);
    // The columns are those of the log, after the run's name.
    let logged = serde_json::to_value(epoch(1)).unwrap();
    let mut columns: Vec<&str> = head.iter().skip(1).collect();
    columns.sort_unstable();
    assert!(columns.iter().copied().eq(logged.as_object().unwrap().keys().map(String::as_str)));
    assert_eq!(epochs.len(), 3 + 1);
    assert!(epochs[2].iter().take(4).eq(["deq", "3", "30", &(2.0 / 3.0).to_string()]));
    let (head, steps) = rows(&sheets[1].1);
    let logged = serde_json::to_value(step(1)).unwrap();
    let mut columns: Vec<&str> = head.iter().skip(1).collect();
    columns.sort_unstable();
    assert!(columns.iter().copied().eq(logged.as_object().unwrap().keys().map(String::as_str)));
    assert_eq!(steps.len(), 30 + 15);
    let last = steps.last().unwrap();
    let at = |name: &str| last[head.iter().position(|found| found == name).unwrap()].to_owned();
    assert_eq!([at("gradient_norm"), at("residual"), at("solver_steps")], ["NaN", "", "8"]);
    assert!(training_csv(&[begun()]).unwrap().is_empty());
}
