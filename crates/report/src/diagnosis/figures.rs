//! The figures of each section.

use super::{results, setting};
use crate::figure::{Figure, Mark, Scale, Series};
use crate::words;
use equipoise_record::{Cosine, Diagnosis, ModelDiagnosis, Share, Spread, SweepPoint, View};

/// A median that is absent is not drawn.
fn curve<'a>(name: String, points: impl Iterator<Item = (f64, &'a Spread)>) -> Series {
    let or_nan = |number: Option<f64>| number.unwrap_or(f64::NAN);
    let (points, band) =
        points.map(|(x, s)| ((x, or_nan(s.median)), (or_nan(s.low), or_nan(s.high)))).unzip();
    Series { name, points, band: Some(band) }
}

/// In percent, with Wilson intervals.
fn shares<'a>(name: String, points: impl Iterator<Item = (f64, &'a Share)>) -> Series {
    let percent = |x: f64| 100.0 * x;
    let (points, band) = points
        .map(|(x, share)| {
            let [low, high] = share.accuracy.interval;
            ((x, percent(share.accuracy.value)), (percent(low), percent(high)))
        })
        .unzip();
    Series { name, points, band: Some(band) }
}

/// The deployed setting of each model, a mark for each value; models are named where they differ in it.
fn deployed<'a>(settings: impl Iterator<Item = (&'a ModelDiagnosis, f64)>, says: &str) -> Vec<Mark> {
    let mut values: Vec<(f64, Vec<String>)> = Vec::new();
    for (model, value) in settings {
        match values.iter_mut().find(|(known, _)| *known == value) {
            Some((_, models)) => models.push(model.model.clone()),
            None => values.push((value, vec![model.model.clone()])),
        }
    }
    let alone = values.len() == 1;
    let mark = |(at, models): (f64, Vec<String>)| {
        let whose = if alone { String::new() } else { format!(", {}", words::list(&models)) };
        Mark { at, says: format!("{says} = {}{whose}", words::number(at)) }
    };
    values.into_iter().map(mark).collect()
}

/// Steps of the deployed solvers.
fn deployed_steps<T>(found: &[(&ModelDiagnosis, &T)]) -> Vec<Mark> {
    let steps = found.iter().filter_map(|(model, _)| Some((*model, model.solver_steps? as f64)));
    deployed(steps, "deployed T")
}

const BANDS: &str = "Lines are medians over images, bands the 10th to 90th percentile.";
const INTERVALS: &str = "Bands are 95% Wilson intervals.";

pub(super) fn residual(diagnosis: &Diagnosis) -> Vec<Figure> {
    let found = results(diagnosis, |m| m.residual.as_ref());
    let Some((_, first)) = found.first() else { return Vec::new() };
    let horizon = first.horizon;
    let mut curves = Vec::new();
    let mut reached = Vec::new();
    for (model, residual) in &found {
        for view in &residual.views {
            let name = format!("{}, {}", model.model, view.view.name());
            let at = |k: usize| (k + 1) as f64;
            curves.push(curve(name.clone(), view.by_iterate.iter().enumerate().map(|(k, s)| (at(k), s))));
            reached.push(shares(name, view.reached.iter().enumerate().map(|(k, s)| (at(k), s))));
        }
    }
    let deployed: Vec<String> = found
        .iter()
        .filter_map(|(model, _)| Some(format!("{} steps in {}", model.solver_steps?, model.model)))
        .collect();
    let deployed = format!("Deployed: {}; here {horizon}.", deployed.join(", "));
    vec![
        Figure {
            title: "Relative residual by iterate".into(),
            caption: format!("{}. {BANDS} {deployed}", setting(diagnosis)),
            x_label: "iterate t".into(),
            y_label: "relative residual ‖f(z) − z‖ / ‖f(z)‖".into(),
            y_scale: Scale::Log,
            series: curves,
            marks: deployed_steps(&found),
            ..Figure::default()
        },
        Figure {
            title: "Images that have reached the tolerance".into(),
            caption: format!(
                "{}. Share whose relative residual has been below {} by iterate t. {INTERVALS}",
                setting(diagnosis),
                first.tolerance
            ),
            x_label: "iterate t".into(),
            y_label: "images in %".into(),
            series: reached,
            marks: deployed_steps(&found),
            ..Figure::default()
        },
    ]
}

pub(super) fn accuracy(diagnosis: &Diagnosis) -> Vec<Figure> {
    let found = results(diagnosis, |m| m.accuracy.as_ref());
    let mut series = Vec::new();
    for (model, accuracy) in found.iter().filter(|(_, accuracy)| !accuracy.by_iterate.is_empty()) {
        let at = |t: usize| t as f64;
        let by = accuracy.by_iterate.iter();
        series.push(shares(format!("{}, clean", model.model), by.clone().map(|a| (at(a.t), &a.clean))));
        series.push(shares(format!("{}, robust", model.model), by.map(|a| (at(a.t), &a.robust))));
    }
    if series.is_empty() {
        return Vec::new();
    }
    vec![Figure {
        title: "Accuracy of every iterate".into(),
        caption: format!(
            "{}. Robust: classified correctly both when clean and after {}, the same images at every iterate. \
             {INTERVALS}",
            setting(diagnosis),
            words::attack(diagnosis.attacked)
        ),
        x_label: "iterate t that the head reads".into(),
        y_label: "accuracy in %".into(),
        series,
        ..Figure::default()
    }]
}

pub(super) fn alignment(diagnosis: &Diagnosis) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (model, alignment) in results(diagnosis, |m| m.alignment.as_ref()) {
        let steps = model.solver_steps.unwrap_or(1);
        let clean: Vec<&Cosine> = alignment.cosines.iter().filter(|c| c.view == View::Clean).collect();
        let mut families: Vec<&str> = Vec::new();
        for cosine in &clean {
            if !families.contains(&cosine.family.as_str()) {
                families.push(&cosine.family);
            }
        }
        let at = |readout: &str, family: &str, t: usize| {
            let matches = |c: &&&Cosine| {
                c.readout == readout && c.family == family && c.t.is_none_or(|state| state == t)
            };
            clean.iter().find(matches).map(|c| (t as f64, &c.cosine))
        };
        let figure = |readout: &dyn Fn(usize) -> String, title: String, x_label: &str, note: &str| Figure {
            title,
            caption: format!(
                "{}, clean images, gradients of the cross-entropy. {BANDS} {note}",
                setting(diagnosis)
            ),
            x_label: x_label.into(),
            y_label: "cosine to through-solver".into(),
            series: families
                .iter()
                .map(|family| {
                    let points = (1..=steps).filter_map(|t| at(&readout(t), family, t));
                    curve((*family).to_owned(), points)
                })
                .collect(),
            ..Figure::default()
        };
        figures.push(figure(
            &|_| "final".into(),
            format!("{}: gradients for the readout final", model.model),
            "state t that an estimator starts from",
            "Estimators without a state of their own are level lines.",
        ));
        figures.push(figure(
            &|t| format!("early({t})"),
            format!("{}: gradients for the readout early(t)", model.model),
            "state t that is read",
            "Each estimator starts from the state that is read, where it can.",
        ));
    }
    figures
}

pub(super) fn landscape(diagnosis: &Diagnosis) -> Vec<Figure> {
    let figure = |(model, landscape): &(&equipoise_record::ModelDiagnosis, &equipoise_record::Landscape)| {
        let line = |line: &equipoise_record::Line| {
            curve(line.direction.clone(), line.points.iter().map(|p| (p.distance, &p.change)))
        };
        Figure {
            title: format!("{}: loss along lines through the images", model.model),
            caption: format!(
                "{}, clean images. Each direction is a step of steepest ascent of length ε. {BANDS}",
                setting(diagnosis)
            ),
            x_label: "distance from the image, in ε".into(),
            y_label: "cross-entropy less that at the image".into(),
            series: landscape.lines.iter().map(line).collect(),
            ..Figure::default()
        }
    };
    results(diagnosis, |m| m.landscape.as_ref()).iter().map(figure).collect()
}

pub(super) fn sweep(diagnosis: &Diagnosis) -> Vec<Figure> {
    type Points<'a> = &'a dyn Fn(&equipoise_record::Sweep) -> &[SweepPoint];
    let found = results(diagnosis, |m| m.sweep.as_ref());
    let figure =
        |title: &str, x_label: &str, x_scale: Scale, note: &str, marks: Vec<Mark>, points: Points<'_>| {
            let mut series = Vec::new();
            for (model, sweep) in &found {
                let points = points(sweep);
                if points.is_empty() {
                    continue;
                }
                let name = |what: &str| format!("{}, {what}", model.model);
                series.push(shares(name("clean"), points.iter().map(|p| (p.at, &p.clean))));
                series.push(shares(name("robust"), points.iter().map(|p| (p.at, &p.robust))));
                let transferred = points.iter().filter_map(|p| Some((p.at, p.transferred.as_ref()?)));
                if transferred.clone().next().is_some() {
                    series.push(shares(name("transferred"), transferred));
                }
            }
            (!series.is_empty()).then(|| Figure {
                title: title.into(),
                caption: format!("{}. {note} {INTERVALS}", setting(diagnosis)),
                x_label: x_label.into(),
                y_label: "accuracy in %".into(),
                x_scale,
                series,
                marks,
                ..Figure::default()
            })
        };
    let transferred = format!(
        "Robust: under the ready-made PGD-10, run anew with this solver. Transferred: on the images that were found \
         with the deployed solver by {}.",
        words::attack(diagnosis.attacked)
    );
    let eps = vec![Mark { at: diagnosis.eps, says: format!("ε = {}", words::eps(diagnosis.eps)) }];
    let tolerances = results(diagnosis, |m| m.residual.as_ref());
    let tolerances = tolerances.iter().map(|(model, residual)| (*model, residual.tolerance));
    let tolerances = deployed(tolerances, "deployed");
    [
        figure(
            "Accuracy by ε",
            "ε",
            Scale::Log,
            "Ready-made PGD-10 with steps of ε/4, run anew at every ε.",
            eps,
            &|sweep| &sweep.eps,
        ),
        figure(
            "Accuracy by solver steps",
            "solver steps T",
            Scale::Linear,
            &transferred,
            deployed_steps(&found),
            &|sweep| &sweep.solver_steps,
        ),
        figure("Accuracy by solver tolerance", "tolerance", Scale::Log, &transferred, tolerances, &|sweep| {
            &sweep.tolerance
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}
