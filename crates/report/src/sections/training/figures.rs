//! The curves of training: one figure for each quantity, one curve in it for each run.

use super::{development, setting};
use crate::figure::{Figure, Mark, Scale, Series};
use equipoise_record::{Accuracy, EpochReport, StepReport, Training};

/// Points of a curve; of more steps than these several are put together.
const POINTS: usize = 240;

/// What the horizontal axis counts.
#[derive(Clone, Copy, PartialEq)]
enum Along {
    Steps,
    Epochs,
}

/// Something that is logged for each step and for each epoch.
struct Quantity {
    title: &'static str,
    label: &'static str,
    /// Makes it a fraction's percentage.
    factor: f64,
    of_step: fn(&StepReport) -> Option<f64>,
    of_epoch: fn(&EpochReport) -> Option<f64>,
    scale: fn(&[Series]) -> Scale,
    from_zero: bool,
}

const QUANTITIES: [Quantity; 6] = [
    Quantity {
        title: "Training loss",
        label: "loss, mean over the batch",
        factor: 1.0,
        of_step: |s| Some(s.loss),
        of_epoch: |e| Some(e.loss),
        scale: by_range,
        from_zero: false,
    },
    Quantity {
        title: "Learning rate",
        label: "learning rate",
        factor: 1.0,
        of_step: |s| Some(s.learning_rate),
        of_epoch: |e| Some(e.learning_rate),
        scale: |_| Scale::Linear,
        from_zero: true,
    },
    Quantity {
        title: "Residual in training",
        label: "best relative residual, mean over the batch",
        factor: 1.0,
        of_step: |s| s.residual,
        of_epoch: |e| e.residual,
        scale: |_| Scale::Log,
        from_zero: false,
    },
    Quantity {
        title: "Gradient norm in training",
        label: "norm of all gradients, before clipping",
        factor: 1.0,
        of_step: |s| Some(s.gradient_norm),
        of_epoch: |e| Some(e.gradient_norm),
        scale: |_| Scale::Log,
        from_zero: false,
    },
    Quantity {
        title: "Jacobian in training",
        label: "estimate of ‖J‖_F² / D in regularised steps",
        factor: 1.0,
        of_step: |s| s.jacobian,
        of_epoch: |e| e.jacobian,
        scale: by_range,
        from_zero: false,
    },
    Quantity {
        title: "Accuracy in training",
        label: "correct in the batch, in %",
        factor: 100.0,
        of_step: |s| Some(s.accuracy),
        of_epoch: |e| Some(e.accuracy),
        scale: |_| Scale::Linear,
        from_zero: true,
    },
];

/// Logarithmic where the largest is many times the smallest, as when a loss explodes or nearly vanishes.
fn by_range(series: &[Series]) -> Scale {
    let values = series.iter().flat_map(|s| &s.points).map(|point| point.1).filter(|y| y.is_finite());
    let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high), y| (y.min(low), y.max(high)));
    if low > 0.0 && high > 30.0 * low { Scale::Log } else { Scale::Linear }
}

/// Loss, learning rate, residual, gradient norm and accuracies of some runs. Nothing that no run has logged.
pub(super) fn figures(trainings: &[Training]) -> Vec<Figure> {
    // By steps if every run can be placed on them.
    let counted = |t: &Training| !t.steps.is_empty() || t.epochs.iter().all(|epoch| epoch.step.is_some());
    let along = if trainings.iter().all(counted) { Along::Steps } else { Along::Epochs };
    let mut figures: Vec<Figure> =
        QUANTITIES.iter().filter_map(|quantity| figure(trainings, quantity, along)).collect();
    // After the loss, as it is what training is for.
    figures.splice(figures.len().min(1)..figures.len().min(1), accuracy(trainings));
    figures
}

fn figure(trainings: &[Training], quantity: &Quantity, along: Along) -> Option<Figure> {
    // The same for all runs, so that their bands can be compared.
    let longest = trainings.iter().map(|training| training.steps.len()).max().unwrap_or(0);
    let together = longest.div_ceil(POINTS).max(1);
    let curves = trainings.iter().map(|training| curve(training, quantity, along, together));
    // One without points keeps its place: a run has the same colour in every figure.
    let series: Vec<Series> = curves.collect();
    if series.iter().all(|series| series.points.is_empty()) {
        return None;
    }
    let points = match (along, together) {
        (Along::Epochs, _) => "Each point is an epoch.".to_owned(),
        (Along::Steps, 1) => "Each point is a step, or an epoch where no steps were logged.".to_owned(),
        (Along::Steps, together) => {
            format!("Each point is the mean of up to {together} steps, the band their lowest and highest.")
        }
    };
    Some(Figure {
        title: quantity.title.into(),
        caption: format!("{}. {points}", setting(trainings)),
        x_label: if along == Along::Steps { "step" } else { "epoch" }.into(),
        y_label: quantity.label.into(),
        y_scale: (quantity.scale)(&series),
        from_zero: quantity.from_zero,
        series,
        ..Figure::default()
    })
}

/// A run's curve. So many steps make a point.
fn curve(training: &Training, quantity: &Quantity, along: Along, together: usize) -> Series {
    let name = training.model.clone();
    if along == Along::Epochs || training.steps.is_empty() {
        let point = |epoch: &EpochReport| {
            let at = match along {
                Along::Steps => epoch.step?,
                Along::Epochs => epoch.epoch,
            };
            Some((at as f64, quantity.factor * (quantity.of_epoch)(epoch)?))
        };
        return Series { name, points: training.epochs.iter().filter_map(point).collect(), band: None };
    }
    let point = |step: &StepReport| Some((step.step as f64, quantity.factor * (quantity.of_step)(step)?));
    let points: Vec<(f64, f64)> = training.steps.iter().filter_map(point).collect();
    if together == 1 {
        return Series { name, points, band: None };
    }
    let (points, band) = points.chunks(together).map(summed).unzip();
    Series { name, points, band: Some(band) }
}

/// Some steps as one point, with the lowest and the highest of them. What is not finite is left out, unless all is.
fn summed(steps: &[(f64, f64)]) -> ((f64, f64), (f64, f64)) {
    let middle = steps.iter().map(|step| step.0).sum::<f64>() / steps.len() as f64;
    let finite: Vec<f64> = steps.iter().map(|step| step.1).filter(|y| y.is_finite()).collect();
    let mean = finite.iter().sum::<f64>() / finite.len() as f64; // NaN of none
    let low = finite.iter().copied().fold(f64::NAN, f64::min);
    let high = finite.iter().copied().fold(f64::NAN, f64::max);
    ((middle, mean), (low, high))
}

/// Clean and robust accuracy on the development split after each epoch.
fn accuracy(trainings: &[Training]) -> Option<Figure> {
    let mut series = Vec::new();
    for training in trainings {
        let mut add = |what: &str, of: fn(&EpochReport) -> Option<f64>| {
            let found: Vec<(f64, f64)> =
                training.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, of(epoch)?))).collect();
            if found.is_empty() {
                return;
            }
            let interval = |count: usize| {
                let of = |share: f64| Accuracy::new((share * count as f64).round() as usize, count).interval;
                found.iter().map(|point| of(point.1)).map(|[low, high]| (100.0 * low, 100.0 * high)).collect()
            };
            let band = development(training).map(interval);
            let points = found.iter().map(|(epoch, share)| (*epoch, 100.0 * share)).collect();
            series.push(Series { name: format!("{}, {what}", training.model), points, band });
        };
        add("clean", |epoch| epoch.development_accuracy);
        add("robust", |epoch| epoch.development_robust_accuracy);
    }
    if series.is_empty() {
        return None;
    }
    // Of one run alone: with several it would not be clear whose it is.
    let best = match trainings {
        [one] => one.epochs.last().and_then(|epoch| epoch.best_epoch),
        _ => None,
    };
    let marks = best.map(|epoch| Mark { at: epoch as f64, says: format!("best epoch: {epoch}") });
    let intervals = match series.iter().any(|s| s.band.is_some()) {
        true => " Bands are 95% Wilson intervals.",
        false => "",
    };
    Some(Figure {
        title: "Accuracy on the development split".into(),
        caption: format!(
            "{}. After each epoch. Robust: under the recipe's own attack, through the training gradient.{intervals}",
            setting(trainings)
        ),
        x_label: "epoch".into(),
        y_label: "accuracy in %".into(),
        from_zero: true,
        series,
        marks: marks.into_iter().collect(),
        ..Figure::default()
    })
}
