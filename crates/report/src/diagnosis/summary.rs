//! A diagnosis in one sentence per model, with its numbers.

use super::setting;
use crate::words;
use equipoise_record::{Attacked, Diagnosis, ModelDiagnosis, Section, Spread, View, YardstickRow};

/// What was found on one model: where, and in which clauses.
pub(crate) struct Findings {
    pub model: String,
    pub setting: String,
    pub clauses: Vec<String>,
}

/// What was found, one entry for each model.
pub(crate) fn findings(diagnosis: &Diagnosis) -> Vec<Findings> {
    let clauses = |model: &ModelDiagnosis| -> Vec<String> {
        let all = [
            accuracy(model, diagnosis.attacked),
            sweep(model),
            residual(model),
            alignment(model),
            landscape(model),
            yardstick(model),
            spectrum(model),
        ];
        let clauses: Vec<String> = all.into_iter().flatten().collect();
        if clauses.is_empty() { vec!["nothing was measured".to_owned()] } else { clauses }
    };
    let findings = |model: &ModelDiagnosis| Findings {
        model: model.model.clone(),
        setting: setting(diagnosis),
        clauses: clauses(model),
    };
    diagnosis.diagnosed.iter().map(findings).collect()
}

/// What was found, one sentence for each model; plain text.
pub fn diagnosis_summary(diagnosis: &Diagnosis) -> Vec<String> {
    let sentence = |f: Findings| format!("{} on {}: {}.", f.model, f.setting, f.clauses.join("; "));
    findings(diagnosis).into_iter().map(sentence).collect()
}

fn result<T>(section: &Option<Section<T>>) -> Option<&T> {
    section.as_ref()?.result.as_ref()
}

fn median(spread: &Spread) -> String {
    // Three digits are enough for a sentence; the tables have more.
    spread.median.map_or("unknown".to_owned(), three)
}

fn three(number: f64) -> String {
    words::number(format!("{number:.2e}").parse().unwrap_or(number))
}

fn accuracy(model: &ModelDiagnosis, attacked: Attacked) -> Option<String> {
    let accuracy = result(&model.accuracy)?;
    let best = accuracy.by_iterate.iter().max_by_key(|a| (a.robust.correct, a.t));
    let best = best
        .filter(|best| best.robust.correct > accuracy.robust.correct)
        .map(|best| format!(", {} if z_{} is read", words::percent(best.robust.accuracy.value), best.t));
    Some(format!(
        "{} correct when clean and {} after {}{}",
        words::percent(accuracy.clean.accuracy.value),
        words::accuracy(accuracy.robust.accuracy),
        words::attack(attacked),
        best.unwrap_or_default()
    ))
}

fn sweep(model: &ModelDiagnosis) -> Option<String> {
    let last = result(&model.sweep)?.eps.last()?;
    Some(match last.robust.correct {
        0 => format!("nothing survives ε = {}", words::eps(last.at)),
        _ => format!(
            "{} survive even ε = {}, where nothing should: the attack fails",
            words::percent(last.robust.accuracy.value),
            words::eps(last.at)
        ),
    })
}

fn residual(model: &ModelDiagnosis) -> Option<String> {
    let residual = result(&model.residual)?;
    let t = model.solver_steps?;
    let at = |view: View| {
        let view = residual.views.iter().find(|v| v.view == view)?;
        Some((median(view.by_iterate.get(t.checked_sub(1)?)?), words::percent(view.never.accuracy.value)))
    };
    let ((clean, never_clean), (attacked, never_attacked)) = (at(View::Clean)?, at(View::Attacked)?);
    Some(format!(
        "the relative residual at z_{t} is {clean} clean and {attacked} attacked (medians), and {never_clean} and \
         {never_attacked} never reach {} in {} steps",
        words::number(residual.tolerance),
        residual.horizon
    ))
}

fn alignment(model: &ModelDiagnosis) -> Option<String> {
    let alignment = result(&model.alignment)?;
    let trained = alignment
        .cosines
        .iter()
        .find(|c| c.view == View::Clean && c.readout == "final" && c.estimator == model.training_gradient)?;
    Some(format!("the training gradient's cosine to the true one is {} (median)", median(&trained.cosine)))
}

/// The readout with the largest difference; of equal ones the first, which is the deployed one.
fn yardstick(model: &ModelDiagnosis) -> Option<String> {
    let by_difference =
        |a: &&YardstickRow, b: &&YardstickRow| a.total.difference.total_cmp(&b.total.difference);
    let row = result(&model.yardstick)?.rows.iter().rev().max_by(by_difference)?;
    let split = row.aim.as_ref().map_or(String::new(), |aim| {
        format!(
            ", of which {} are aim and {} gradient",
            words::points(aim.difference),
            words::points(row.gradient.difference)
        )
    });
    Some(format!(
        "one gradient against one, the difference is largest behind {}: {} alone broke {} that {} from as many starts \
         did not, and {} the other way round ({} points {}, {}{split})",
        row.readout,
        row.other,
        words::images(row.total.b),
        row.training,
        row.total.c,
        words::points(row.total.difference),
        words::points_interval(row.total.difference_interval),
        words::p_value(row.total.p_value)
    ))
}

fn landscape(model: &ModelDiagnosis) -> Option<String> {
    let line = result(&model.landscape)?.lines.first()?;
    Some(format!("a step of ε along it raises the loss of {}", words::percent(line.rises.accuracy.value)))
}

fn spectrum(model: &ModelDiagnosis) -> Option<String> {
    let view = result(&model.spectrum)?.views.iter().find(|v| v.view == View::Clean)?;
    let converged = words::percent(view.converged.accuracy.value);
    Some(match view.radius.median {
        None => "the spectral radius of J is unknown: no power iteration converged".to_owned(),
        Some(radius) => format!(
            "the spectral radius of J is {} (median of the {converged} whose power iteration converged)",
            three(radius)
        ),
    })
}
