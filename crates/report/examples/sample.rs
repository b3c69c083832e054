//! Renders a sample report with every finding in every format. **Its numbers are made up**: nothing was trained or
//! attacked.
//!
//! `cargo run -p equipoise-report --example sample -- OUTPUT_FOLDER`

#[allow(dead_code)]
#[path = "../tests/report/arms.rs"]
mod arms;

use arms::{Runs, model, pairs};
use equipoise_record::{Answers, Evaluation, Evidence, Flag, Gallery, GalleryItem, RadiusResult};
use equipoise_report::{
    Figure, Format, Report, Scale, Series, comparison_csv, pdf_files, render, svg_files, write_atomically,
};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("name a folder to write into")?.into();
    let report = Report {
        title: "Sample report (synthetic numbers)".into(),
        models: vec![obfuscated(), healthy(), open(), undefended(), baseline(), few()],
        diagnoses: Vec::new(),
        trainings: Vec::new(),
        figures: vec![residuals(), cosines()],
        records: 3,
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
    if let Some(text) = comparison_csv(&report.models)? {
        write_atomically(folder.join("comparisons.csv"), text)?;
    }
    for file in svg_files(&report) {
        write_atomically(folder.join(file.name), file.contents)?;
    }
    for file in pdf_files(&report)? {
        write_atomically(folder.join(file.name), file.contents)?;
    }
    Ok(())
}

/// Three readouts with obfuscation, one of each kind, and one without.
fn obfuscated() -> Evaluation {
    let last = Runs {
        pairs: pairs(&[
            (24, 4, 0),
            (9, 2, 0),
            (5, 1, 0),
            (3, 2, 0),
            (2, 1, 0),
            (1, 0, 0),
            (1, 0, 0),
            (0, 4, 0),
        ]),
        common: 8,
        ..arms::obfuscated()
    };
    let sound = Runs { readout: "ensemble-states", ..arms::healthy() };
    let masked = Runs { readout: "early(5)", ..arms::masked() };
    let mut readouts = vec![last.record(), arms::by_aim().record(), masked.record(), sound.record()];
    for (i, readout) in readouts.iter_mut().enumerate() {
        readout.flags = flags(i);
    }
    readouts[0].gallery = Some(gallery());
    model("pgd-at", 500, readouts)
}

/// Four radii.
fn healthy() -> Evaluation {
    let runs = |opening: &'static [(&'static str, usize)], broken: &[(usize, usize, usize)], common| Runs {
        opening,
        pairs: pairs(broken),
        common,
        ..arms::healthy()
    };
    let at = [
        (2, runs(&[("pgd-10", 31), ("apgd-ce", 2)], &[(0, 1, 0), (0, 0, 0), (1, 0, 0), (0, 0, 0)], 1)),
        (4, runs(&[("pgd-10", 88), ("apgd-ce", 4)], &[(1, 1, 0), (1, 0, 0), (0, 0, 0), (0, 1, 0)], 1)),
        (8, arms::healthy()),
        (16, runs(&[("pgd-10", 311), ("apgd-ce", 22)], &[(6, 1, 0), (3, 1, 0), (1, 0, 0), (0, 0, 0)], 2)),
    ];
    let radii = at.map(|(levels, runs)| (f64::from(levels) / 255.0, runs.record()));
    let (eps, largest) = radii.last().cloned().expect("four radii");
    let mut readout = largest;
    readout.radii = radii.into_iter().map(|(eps, readout)| RadiusResult::of(eps, &readout)).collect();
    readout.flags = flags(1);
    Evaluation { eps, ..model("trades", 500, vec![readout]) }
}

/// No control.
fn open() -> Evaluation {
    model("pgd-at without control", 500, vec![arms::control_off().record()])
}

fn undefended() -> Evaluation {
    model("standard", 500, vec![arms::nothing_left().record()])
}

/// One gradient only.
fn baseline() -> Evaluation {
    model("resnet-18", 500, vec![arms::feedforward().record()])
}

/// Forty images.
fn few() -> Evaluation {
    model("jacobian-regularised", 40, vec![arms::undecided().record()])
}

/// Seven checks, of which the third readout raises one.
fn flags(readout: usize) -> Vec<Flag> {
    let names = [
        "zero-gradients",
        "black-box-beats-white-box",
        "loss-does-not-rise",
        "residual-inflated-by-attack",
        "success-does-not-grow-with-eps",
        "one-step-beats-many",
        "unconfirmed-successes",
    ];
    let flag = |(i, name): (usize, &str)| Flag {
        name: name.into(),
        raised: i == 1 && readout == 2,
        statement: format!(
            "Synthetic: what {name} found, in a sentence with its numbers (12 of 500 images)."
        ),
        evidence: vec![Evidence { name: "images (of 500)".into(), value: Some(12.0) }],
    };
    names.into_iter().enumerate().map(flag).collect()
}

/// Shaded squares for images.
fn gallery() -> Gallery {
    let side = 32;
    let picture = |of: &dyn Fn(usize, usize, usize) -> usize| {
        let pixel = |k: usize| of(k / (side * side), k / side % side, k % side) as u8;
        (0..3 * side * side).map(pixel).collect::<Vec<u8>>()
    };
    let item = |index: usize| {
        let noise = |c: usize, y: usize, x: usize| (x * 7919 + y * 104_729 + c * 31 + index * 17) % 13 / 6;
        let clean = |c: usize, y: usize, x: usize| 60 + (c * 40 + x * 3 + y * (index + 1)) % 150;
        let label = index % 10;
        let answers = |answer: usize, last: usize| Answers {
            by_iterate: (0..5).map(|t| Some(if t < 2 { answer } else { last })).collect(),
            deployed: Some(last),
        };
        GalleryItem {
            index,
            label,
            clean: picture(&clean),
            perturbation: picture(&|c, y, x| 128 - 32 + 32 * noise(c, y, x)),
            attacked: picture(&|c, y, x| clean(c, y, x) + 8 * noise(c, y, x)),
            distance: 8.0 / 255.0,
            clean_answers: answers(label, if index == 2 { label + 1 } else { label }),
            attacked_answers: answers(label, (label + 3) % 10),
        }
    };
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    Gallery {
        shape: [3, side, side],
        classes: classes.map(str::to_owned).to_vec(),
        scale: 16.0,
        items: (0..6).map(item).collect(),
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
