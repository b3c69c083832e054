//! Records and logs, and the reports that are made of them.

use equipoise_fuzz::mutate::{json, json_lines};
use equipoise_fuzz::{Sample, Target, fuzz};
use equipoise_record::{
    Collection, EpochReport, FORMAT_VERSION, StepReport, Training, read, read_epochs, read_steps,
};
use equipoise_report::{
    Format, Report, csv_files, distinguish, distinguish_trainings, pdf_files, render, svg_files,
};

use crate::records;

/// Every format of a report. An error says which number it cannot say.
fn report(collection: Collection) -> Result<(), String> {
    let Collection { models, diagnoses, trainings, .. } = collection;
    let mut report = Report { models, diagnoses, trainings, records: 1, ..Report::default() };
    let sources = |count: usize| vec!["source".to_owned(); count];
    let (models, trainings) = (sources(report.models.len()), sources(report.trainings.len()));
    distinguish(&mut report.models, &models);
    distinguish_trainings(&mut report.trainings, &trainings);
    let text = |error: equipoise_report::ReportError| error.to_string();
    for format in Format::ALL {
        render(format, &report).map_err(text)?;
    }
    csv_files(&report).map_err(text)?;
    svg_files(&report);
    pdf_files(&report).map(drop).map_err(text)
}

/// As `report` reads a file.
fn reads(samples: Vec<Sample>) -> Target {
    Target::text(samples, |text| {
        let found = read(text).map_err(|error| error.to_string())?;
        equipoise_verdict::check(&found).map_err(|error| error.to_string())?;
        report(found)
    })
}

fn collection(models: Vec<equipoise_record::Evaluation>) -> String {
    let empty = Collection { version: FORMAT_VERSION, models, diagnoses: Vec::new(), trainings: Vec::new() };
    serde_json::to_string(&empty).unwrap()
}

fuzz!(results, 400, {
    let models = [records::without_ready_made(), records::flagged(), records::certified(), records::empty()]
        .map(|one| vec![one]);
    reads(models.map(|models| Sample::of("results.json", collection(models), json)).to_vec())
});

fuzz!(diagnoses, 400, {
    let content = serde_json::to_string(&records::diagnosis()).unwrap();
    reads(vec![Sample::of("diagnosis.json", content, json)])
});

/// Lines of JSON.
fn lines<T: serde::Serialize>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| serde_json::to_string(&value).unwrap() + "\n").collect()
}

fn training(epochs: Vec<EpochReport>, steps: Vec<StepReport>) -> Result<(), String> {
    let trainings =
        vec![Training { model: "m".into(), recipe: serde_json::Value::Null, finished: false, epochs, steps }];
    report(Collection { version: FORMAT_VERSION, models: Vec::new(), diagnoses: Vec::new(), trainings })
}

fuzz!(steps_of_a_training, 1000, {
    let step = |step: usize| StepReport {
        step,
        epoch: 1 + step / 4,
        loss: 2.3,
        accuracy: 0.25,
        learning_rate: 1e-3,
        gradient_norm: 4.0,
        jacobian: None,
        jacobian_norm: None,
        solver_steps: Some(8),
        residual: Some(1e-3),
    };
    let samples = vec![Sample::of("steps.jsonl", lines((1..9).map(step)), json_lines)];
    Target::text(samples, |text| training(Vec::new(), read_steps(text).map_err(|error| error.to_string())?))
});

fuzz!(epochs_of_a_training, 1000, {
    let epoch = |epoch: usize| EpochReport {
        epoch,
        step: Some(10 * epoch),
        loss: 2.0,
        accuracy: 0.3,
        learning_rate: 1e-3,
        gradient_norm: 3.0,
        jacobian: None,
        residual: Some(2e-3),
        development_accuracy: Some(0.5),
        development_robust_accuracy: Some(0.25),
        best_epoch: Some(1),
        seconds: 12.0,
    };
    let samples = vec![Sample::of("log.jsonl", lines((1..5).map(epoch)), json_lines)];
    Target::text(samples, |text| training(read_epochs(text).map_err(|error| error.to_string())?, Vec::new()))
});
