//! Renders a sample report in every format. **Its numbers are made up**: nothing was trained or attacked.
//!
//! `cargo run -p equipoise-report --example sample -- OUTPUT_FOLDER`

use equipoise_record::{Accuracy, AttackResult, Evaluation, ExampleResult, FORMAT_VERSION, ReadoutResult};
use equipoise_report::{
    Figure, Format, Report, Scale, Series, pdf_files, render, svg_files, write_atomically,
};
use std::path::PathBuf;

const COUNT: usize = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("name a folder to write into")?.into();
    let report = Report {
        title: "Sample report (synthetic numbers)".into(),
        models: vec![flattered(), honest(), undefended()],
        diagnoses: Vec::new(),
        figures: vec![residuals(), cosines()],
        command: Some(
            "equipoise evaluate --model pgd-at.safetensors --data cifar10:data/cifar10-jpeg --split test \\\n  \
             --count 500 --attacks pgd-10,apgd-ce,square --eps 8/255 --norm linf --seed 0 --out results"
                .into(),
        ),
    };
    for format in Format::ALL {
        let path = folder.join(format!("report.{}", format.extension()));
        write_atomically(path, render(format, &report)?)?;
    }
    for file in svg_files(&report) {
        write_atomically(folder.join(file.name), file.contents)?;
    }
    for file in pdf_files(&report)? {
        write_atomically(folder.join(file.name), file.contents)?;
    }
    Ok(())
}

const STATE_5: &str = "unrolled:state=5,lead=1,steps=9,damping=0.5";

fn flattered() -> Evaluation {
    let last = [
        ("pgd-10", "exact", true, 149),
        ("apgd-ce", "exact", true, 12),
        ("pgd-10", STATE_5, false, 24),
        ("pgd-10", "adjoint:state=8,beta=0.5", false, 9),
        ("apgd-ce", "ensemble(unrolled:state=3,lead=1,steps=9,damping=0.5+exact)", false, 5),
        ("square", "none", false, 3),
    ];
    let ensemble = [
        ("pgd-10", "exact", true, 128),
        ("apgd-ce", "exact", true, 9),
        ("pgd-10", STATE_5, false, 31),
        ("square", "none", false, 1),
    ];
    let readouts = vec![readout("final", 367, &last), readout("ensemble-states", 371, &ensemble)];
    model("pgd-at", readouts)
}

fn honest() -> Evaluation {
    let attacks = [
        ("pgd-10", "exact", true, 161),
        ("apgd-ce", "exact", true, 8),
        ("pgd-10", STATE_5, false, 2),
        ("square", "none", false, 0),
    ];
    model("trades", vec![readout("final", 352, &attacks)])
}

fn undefended() -> Evaluation {
    let attacks = [("pgd-10", "exact", true, 458), ("pgd-10", STATE_5, false, 0)];
    model("standard", vec![readout("final", 458, &attacks)])
}

fn model(name: &str, readouts: Vec<ReadoutResult>) -> Evaluation {
    Evaluation {
        version: FORMAT_VERSION,
        model: name.into(),
        configuration: serde_json::json!({
            "note": "synthetic numbers, made up for this sample",
            "solver": { "name": "broyden", "steps": 8, "tolerance": 1e-3 },
            "versions": { "equipoise": env!("CARGO_PKG_VERSION") },
        }),
        dataset: "CIFAR-10 (JPEG), test".into(),
        norm: "linf".into(),
        eps: 8.0 / 255.0,
        seed: 0,
        count: COUNT,
        clean_accuracy: readouts[0].clean_accuracy,
        readouts,
    }
}

fn readout(name: &str, clean: usize, attacks: &[(&str, &str, bool, usize)]) -> ReadoutResult {
    let mut left = clean;
    let mut ready_made = clean;
    let mut examples: Vec<ExampleResult> = (0..COUNT)
        .map(|index| ExampleResult {
            index,
            label: index % 10,
            clean_correct: index < clean,
            robust: index < clean,
            broken_by: None,
            non_finite: false,
        })
        .collect();
    let attacks = attacks
        .iter()
        .map(|&(name, estimator, is_ready_made, broken)| {
            for example in &mut examples[left - broken..left] {
                example.robust = false;
                example.broken_by = Some(format!("{name}/{estimator}"));
            }
            let attempted = left;
            left -= broken;
            if is_ready_made {
                ready_made = left;
            }
            AttackResult {
                name: name.into(),
                estimator: estimator.into(),
                ready_made: is_ready_made,
                accuracy: Accuracy::new(left, COUNT),
                attempted,
                broken,
                unconfirmed: usize::from(broken == 9),
                seconds: attempted as f64 * 0.61,
                cell_evaluations: attempted as u64 * 180,
                vjps: if estimator == "none" { 0 } else { attempted as u64 * 80 },
            }
        })
        .collect();
    ReadoutResult {
        name: name.into(),
        clean_accuracy: Accuracy::new(clean, COUNT),
        ready_made_accuracy: Some(Accuracy::new(ready_made, COUNT)),
        white_box_accuracy: Accuracy::new(left, COUNT),
        attacks,
        examples,
        flags: Vec::new(),
        plan: None,
    }
}

fn residuals() -> Figure {
    let curve = |name: &str, start: f64, rate: f64| {
        let points: Vec<(f64, f64)> = (1..=8).map(|t| (f64::from(t), start * rate.powi(t))).collect();
        let band = points.iter().map(|(_, y)| (y * 0.5, y * 2.1)).collect();
        Series { name: name.into(), points, band: Some(band) }
    };
    Figure {
        title: "Relative residual by iterate".into(),
        caption: "CIFAR-10 (JPEG), test, 500 images, solver broyden. Median; bands hold the 10th to 90th percentile. Synthetic numbers.".into(),
        x_label: "iterate t".into(),
        y_label: "relative residual ‖f(z) − z‖ / ‖f(z)‖".into(),
        y_scale: Scale::Log,
        series: vec![
            curve("standard, clean", 1.2, 0.62),
            curve("standard, attacked", 1.3, 0.78),
            curve("pgd-at, clean", 0.9, 0.42),
            curve("pgd-at, attacked", 0.95, 0.47),
        ],
        ..Figure::default()
    }
}

fn cosines() -> Figure {
    let curve = |name: &str, top: f64, speed: f64| Series {
        name: name.into(),
        points: (1..=8).map(|t| (f64::from(t), top * (1.0 - (-speed * f64::from(t)).exp()))).collect(),
        band: None,
    };
    Figure {
        title: "Cosine between each estimator and through-solver, by iterate".into(),
        caption: "pgd-at, CIFAR-10 (JPEG), test, 500 images, readout final. Synthetic numbers.".into(),
        x_label: "iterate t".into(),
        y_label: "mean cosine".into(),
        series: vec![
            curve("unrolled (lead 1, steps 9, damping 0.5)", 0.97, 0.55),
            curve("adjoint (β = 0.5)", 0.93, 0.4),
            curve("exact", 0.88, 2.5),
        ],
        ..Figure::default()
    }
}
