//! The gap against each measure: all models in one picture for each rung, with the fitted trend.

use super::points::Point;
use super::{Dose, Group};
use crate::figure::{Figure, Kind, Mark, Scale, Series};
use crate::numbers;
use equipoise_verdict::{Fitted, LEAST_DIFFERENCE};

/// A figure for each measure; none with fewer than two points in it.
pub(super) fn figures(group: &Group) -> Vec<Figure> {
    Dose::ALL.iter().filter_map(|dose| figure(group, *dose)).collect()
}

pub(super) fn percent(fraction: f64) -> f64 {
    100.0 * fraction
}

fn figure(group: &Group, dose: Dose) -> Option<Figure> {
    let mut series: Vec<Series> = Vec::new();
    let shown = group.points.iter().filter(|point| point.shown());
    let mut drawn: Vec<(f64, &Point)> = shown.filter_map(|point| Some((dose.of(point)?, point))).collect();
    if drawn.len() < 2 {
        return None;
    }
    let provenance = group.provenance(&drawn.iter().map(|(_, point)| *point).collect::<Vec<_>>());
    drawn.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    // One without points here keeps its place: a readout has the same colour in every figure.
    for point in &group.points {
        let name = point.family().name();
        if !series.iter().any(|one| one.name == name) {
            series.push(Series { name: name.to_owned(), points: Vec::new(), band: Some(Vec::new()) });
        }
    }
    for (x, point) in &drawn {
        let of = series.iter_mut().find(|one| one.name == point.family().name())?;
        of.points.push((*x, percent(point.gap)));
        let [low, high] = point.interval;
        of.band.as_mut()?.push((percent(low), percent(high)));
    }
    let trend = group.trend(dose);
    let trends = trend.map(|trend| {
        // A step function changes at its places and nowhere between them.
        let before = trend.rising.iter().zip(trend.rising.iter().skip(1));
        let corners = before.flat_map(|(before, fitted)| [Fitted { x: fitted.x, ..*before }, *fitted]);
        let steps: Vec<Fitted> = trend.rising.first().copied().into_iter().chain(corners).collect();
        [("line", trend.line.as_slice()), ("fit that never falls", &steps)]
            .map(|(name, fits)| curve(dose, name, fits))
    });
    let onset = trend.and_then(|trend| trend.exceeds(LEAST_DIFFERENCE)).map(|x| dose.unscaled(x));
    let marks = onset.map(|at| Mark {
        at,
        says: format!(
            "above {} point {} {}",
            numbers::number(percent(LEAST_DIFFERENCE)),
            if dose == Dose::Residual { "from" } else { "up to" },
            numbers::number(at)
        ),
    });
    Some(Figure {
        title: format!("Gap against {}, {}", dose.name(), group.rung.name()),
        caption: format!(
            "{} Bars are the 95% intervals of the gaps (Newcombe, method 10), bands those of the \
             fits (bootstrap over training runs). {}",
            provenance,
            group.sentence(dose)
        ),
        x_label: match dose {
            Dose::Residual => "relative residual of the state that is read",
            Dose::Cosine => "cosine of the training gradient to the true one",
        }
        .into(),
        y_label: "gap in points".into(),
        x_scale: if dose == Dose::Residual { Scale::Log } else { Scale::Linear },
        from_zero: true,
        kind: Kind::Points,
        series,
        trends: trends.map_or_else(Vec::new, Vec::from),
        marks: marks.into_iter().collect(),
        ..Figure::default()
    })
}

fn curve(dose: Dose, name: &str, fits: &[Fitted]) -> Series {
    let (points, band) = fits
        .iter()
        .map(|Fitted { x, y }| {
            let [low, high] = y.interval;
            ((dose.unscaled(*x), percent(y.value)), (percent(low), percent(high)))
        })
        .unzip();
    Series { name: name.to_owned(), points, band: Some(band) }
}
