//! The tables of each section: numbers that are read rather than seen.

use super::{results, setting};
use crate::table::{Cell, Column, Table, columns};
use crate::words;
use equipoise_record::{Diagnosis, Paired, Share, Spread};

/// Median, with the 10th and 90th percentile.
fn spread(spread: &Spread) -> Cell {
    let number = |x: Option<f64>| x.map_or("–".to_owned(), words::number);
    match spread.median {
        None => "–".into(),
        Some(median) => Cell::noted(
            words::number(median),
            vec![format!("[{}, {}]", number(spread.low), number(spread.high))],
        ),
    }
}

fn share(share: &Share) -> Cell {
    Cell::accuracy(share.accuracy, share.count)
}

fn table(caption: String, columns: Vec<Column>, rows: Vec<Vec<Cell>>) -> Vec<Table> {
    if rows.is_empty() { Vec::new() } else { vec![Table { caption, columns, rows }] }
}

pub(super) fn convergence(diagnosis: &Diagnosis) -> Vec<Table> {
    let found = results(diagnosis, |m| m.residual.as_ref());
    let mut rows = Vec::new();
    for (model, residual) in &found {
        for view in &residual.views {
            let last = model.solver_steps.and_then(|t| view.by_iterate.get(t.checked_sub(1)?));
            rows.push(vec![
                model.model.clone().into(),
                view.view.name().into(),
                last.map_or("–".into(), spread),
                words::number(residual.tolerance).into(),
                spread(&view.steps),
                share(&view.never),
            ]);
        }
    }
    let numeric = ["Residual at the deployed T", "Tolerance", "Steps to it", "Never reach it"];
    let caption = format!(
        "{}. Medians with the 10th and 90th percentile; steps are those of the images that reach the tolerance, \
         shares have 95% Wilson intervals and counts.",
        setting(diagnosis)
    );
    table(caption, columns(&["Model", "Images"], &numeric), rows)
}

pub(super) fn accuracy(diagnosis: &Diagnosis) -> Vec<Table> {
    let rows = results(diagnosis, |m| m.accuracy.as_ref()).into_iter().map(|(model, accuracy)| {
        // Of equal ones the latest.
        let best = accuracy.by_iterate.iter().max_by_key(|a| (a.robust.correct, a.t));
        vec![
            model.model.clone().into(),
            accuracy.readout.clone().into(),
            share(&accuracy.clean),
            share(&accuracy.robust),
            best.map_or("–".into(), |best| format!("z_{}", best.t).into()),
            best.map_or("–".into(), |best| share(&best.robust)),
        ]
    });
    let caption = format!(
        "{}. Robust: correct both when clean and after {}. The most robust iterate was picked by \
         looking at these very images, so it looks better than on others.",
        setting(diagnosis),
        words::attack(diagnosis.attacked)
    );
    let numeric = ["Clean", "Robust", "Most robust iterate", "Robust there"];
    table(caption, columns(&["Model", "Readout"], &numeric), rows.collect())
}

/// One gradient against one, a row for each readout.
pub(super) fn yardstick(diagnosis: &Diagnosis) -> Vec<Table> {
    let found = results(diagnosis, |m| m.yardstick.as_ref());
    let paired = |p: &Paired| {
        let notes = vec![
            words::points_interval(p.difference_interval),
            format!("{}, {}", p.b, p.c),
            words::p_value(p.p_value),
        ];
        Cell::noted(words::points(p.difference), notes)
    };
    let mut rows = Vec::new();
    for (model, yardsticks) in &found {
        for row in &yardsticks.rows {
            let broken =
                |gradient: &str, count: usize| Cell::noted(count.to_string(), vec![gradient.to_owned()]);
            rows.push(vec![
                model.model.clone().into(),
                row.readout.clone().into(),
                row.correct.to_string().into(),
                broken(&row.training, row.training_broken),
                row.aimed
                    .as_deref()
                    .zip(row.aimed_broken)
                    .map_or("–".into(), |(aimed, n)| broken(aimed, n)),
                broken(&row.other, row.other_broken),
                paired(&row.total),
                row.aim.as_ref().map_or("–".into(), paired),
                paired(&row.gradient),
            ]);
        }
    }
    let attacks: Vec<String> = found.first().map(|(_, y)| y.attack.clone()).into_iter().collect();
    let caption = format!(
        "{}, {} on all images that are correct when clean. Images that each gradient breaks; differences in points of \
         all images, with 95% interval, b and c (broken by one side only) and the exact one-sided p, not corrected.",
        setting(diagnosis),
        attacks.join("")
    );
    let numeric = [
        "Correct",
        "Training breaks",
        "Aimed breaks",
        "Other breaks",
        "Difference",
        "Of it aim",
        "Of it gradient",
    ];
    table(caption, columns(&["Model", "Readout"], &numeric), rows)
}

pub(super) fn landscape(diagnosis: &Diagnosis) -> Vec<Table> {
    let mut rows = Vec::new();
    for (model, landscape) in results(diagnosis, |m| m.landscape.as_ref()) {
        for line in &landscape.lines {
            let there = line.points.iter().find(|point| point.distance == 1.0);
            rows.push(vec![
                model.model.clone().into(),
                line.direction.clone().into(),
                spread(&landscape.origin),
                there.map_or("–".into(), |point| spread(&point.change)),
                share(&line.rises),
                there.map_or("–".into(), |point| share(&point.correct)),
            ]);
        }
    }
    let numeric = ["Loss at the image", "Change at ε", "Loss rises", "Correct at ε"];
    let caption = format!("{}. One step of length ε from the clean images.", setting(diagnosis));
    table(caption, columns(&["Model", "Direction"], &numeric), rows)
}

pub(super) fn spectrum(diagnosis: &Diagnosis) -> Vec<Table> {
    let found = results(diagnosis, |m| m.spectrum.as_ref());
    let mut rows = Vec::new();
    for (model, spectrum) in &found {
        for view in &spectrum.views {
            let norm = |x: Option<f64>| x.map(f64::sqrt);
            let squared = &view.squared_norm;
            let norms = Spread {
                low: norm(squared.low),
                median: norm(squared.median),
                high: norm(squared.high),
                ..*squared
            };
            let converged = match view.complex {
                0 => share(&view.converged),
                n => {
                    let mut cell = share(&view.converged);
                    cell.notes.push(format!("{n} complex"));
                    cell
                }
            };
            rows.push(vec![
                model.model.clone().into(),
                view.view.name().into(),
                spread(&view.radius),
                share(&view.below_one),
                converged,
                spread(&view.unconverged_growth),
                spread(&norms),
                spread(&view.relative_error),
                spectrum.dim.to_string().into(),
            ]);
        }
    }
    let limits: Vec<String> = found
        .first()
        .map(|(_, s)| {
            format!(
                "at most {} power iterations, converged at a relative error of {}; {} probes of the norm",
                s.limit, s.tolerance, s.probes
            )
        })
        .into_iter()
        .collect();
    let numeric = [
        "Spectral radius",
        "Below 1",
        "Converged",
        "Growth, not converged",
        "Norm ‖J‖_F",
        "Error of its square",
        "Dimension",
    ];
    let caption = format!(
        "{}, {}. Medians with the 10th and 90th percentile. Radii are those of the images whose power iteration \
         converged; for the others the growth per iteration is a rough guess.",
        setting(diagnosis),
        limits.join("")
    );
    table(caption, columns(&["Model", "Images"], &numeric), rows)
}
