//! Every point as a row of `dose.csv`.

use super::Dosed;
use super::points::{Measured, Point};
use crate::sheet::sheet;
use crate::{ReportError, numbers};
use equipoise_record::{Diagnosis, Evaluation};

const HEAD: [&str; 26] = [
    "model",
    "cluster",
    "epoch",
    "readout",
    "rung",
    "residual",
    "cosine",
    "spectral_radius",
    "gap",
    "gap_low",
    "gap_high",
    "b",
    "c",
    "n",
    "ready_made_accuracy",
    "white_box_accuracy",
    "finding",
    "fitted",
    "dataset",
    "norm",
    "eps",
    "seed",
    "runs",
    "effort",
    "residual_images",
    "cosine_images",
];

/// The points of some models that were evaluated and diagnosed as CSV; `None` with fewer than two.
///
/// Gaps and accuracies are fractions; a field without a value is empty. `cluster` names the training run, `rung` is
/// `true-gradient` where the white-box arm had `through-solver`, else `other-gradients`; `fitted` says whether a trend
/// rests on the row.
///
/// # Errors
/// [`ReportError::Csv`] if the writer fails.
pub fn dose_csv(models: &[Evaluation], diagnoses: &[Diagnosis]) -> Result<Option<String>, ReportError> {
    let Some(section) = Dosed::of(models, diagnoses) else { return Ok(None) };
    let points = section.groups.iter().flat_map(|group| &group.points);
    sheet(&HEAD, points.map(row)).map(Some)
}

fn row(point: &Point) -> Vec<String> {
    fn or_empty<T: ToString>(value: Option<T>) -> String {
        value.map_or(String::new(), |value| value.to_string())
    }
    let median = |measured: Option<Measured>| or_empty(measured.map(|measured| measured.median));
    let images = |measured: Option<Measured>| or_empty(measured.map(|measured| measured.images));
    let (model, verdict) = (point.model, &point.readout.verdict);
    let [low, high] = point.interval;
    vec![
        model.model.clone(),
        point.run_name.clone(),
        or_empty(point.epoch),
        point.readout.name.clone(),
        point.rung.name().replace(' ', "-"),
        median(point.residual),
        median(point.cosine),
        median(point.radius),
        point.gap.to_string(),
        low.to_string(),
        high.to_string(),
        point.b.to_string(),
        point.c.to_string(),
        verdict.n.to_string(),
        or_empty(point.readout.ready_made_accuracy.map(|accuracy| accuracy.value)),
        point.readout.white_box_accuracy.value.to_string(),
        numbers::finding(verdict.finding).to_owned(),
        point.fitted().to_string(),
        model.dataset.clone(),
        model.norm.clone(),
        model.eps.to_string(),
        model.seed.to_string(),
        verdict.arms.white_box.len().to_string(),
        point.effort(),
        images(point.residual),
        images(point.cosine),
    ]
}
