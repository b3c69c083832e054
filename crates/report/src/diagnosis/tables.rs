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

/// A difference in points, with its interval and p-value.
fn paired(paired: &Paired) -> Cell {
    let notes = vec![words::points_interval(paired.difference_interval), words::p_value(paired.p_value)];
    Cell::noted(words::points(paired.difference), notes)
}

pub(super) fn yardstick(diagnosis: &Diagnosis) -> Vec<Table> {
    let (mut rows, mut attacks) = (Vec::new(), Vec::new());
    for (model, yardstick) in results(diagnosis, |m| m.yardstick.as_ref()) {
        attacks.extend((!attacks.contains(&yardstick.attack)).then(|| yardstick.attack.clone()));
        for row in &yardstick.rows {
            let broken =
                |count: usize, gradient: &str| Cell::noted(count.to_string(), vec![gradient.to_owned()]);
            let aimed = row.aimed.as_ref().zip(row.aimed_broken);
            rows.push(vec![
                model.model.clone().into(),
                row.readout.clone().into(),
                row.correct.to_string().into(),
                broken(row.training_broken, &row.training),
                aimed.map_or("–".into(), |(gradient, count)| broken(count, gradient)),
                broken(row.other_broken, &row.other),
                paired(&row.total),
                row.aim.as_ref().map_or("–".into(), paired),
                paired(&row.gradient),
            ]);
        }
    }
    let numeric = [
        "Correct when clean",
        "Broken, training gradient",
        "Broken, training aimed",
        "Broken, true gradient",
        "Difference",
        "Of which aim",
        "Of which gradient",
    ];
    let caption = format!(
        "{}, {} through each gradient on all images that are correct when clean, from the same starts. Aimed: the \
         training method pointed at the readout; a dash where it reads that already. Difference: what the true gradient \
         broke more than the training gradient, in points of all images, with its 95% interval and an exact one-sided \
         p, which is not corrected.",
        setting(diagnosis),
        words::list(&attacks)
    );
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
