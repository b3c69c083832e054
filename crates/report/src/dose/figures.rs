//! The gap against each measure: all models in one picture for each rung, with the fitted trend.

use super::{Dose, Group};
use crate::figure::{Figure, Kind, Mark, Scale, Series};
use crate::words;
use equipoise_verdict::{Fitted, LEAST_DIFFERENCE};

/// A figure for each measure; none with fewer than two points in it.
pub(crate) fn figures(group: &Group) -> Vec<Figure> {
    Dose::ALL.iter().filter_map(|dose| figure(group, *dose)).collect()
}

fn percent(fraction: f64) -> f64 {
    100.0 * fraction
}

fn figure(group: &Group, dose: Dose) -> Option<Figure> {
    let mut series: Vec<Series> = Vec::new();
    let drawn = group.points.iter().filter(|point| point.shown());
    let mut drawn: Vec<_> = drawn.filter_map(|point| Some((dose.of(point)?, point))).collect();
    if drawn.len() < 2 {
        return None;
    }
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
    let curve = |name: &str, fits: &[Fitted]| {
        let at = |fitted: &Fitted| (dose.unscaled(fitted.x), percent(fitted.y.value));
        let band = |fitted: &Fitted| {
            let [low, high] = fitted.y.interval;
            (percent(low), percent(high))
        };
        Series {
            name: name.to_owned(),
            points: fits.iter().map(at).collect(),
            band: Some(fits.iter().map(band).collect()),
        }
    };
    let trends = trend.map(|trend| vec![curve("fitted line, 95% band", &trend.line)]);
    let onset = trend.and_then(|trend| trend.exceeds(LEAST_DIFFERENCE)).map(|x| dose.unscaled(x));
    let marks = onset.map(|at| Mark {
        at,
        says: format!(
            "above {} point {} {}",
            words::number(percent(LEAST_DIFFERENCE)),
            if dose == Dose::Residual { "from" } else { "up to" },
            words::number(at)
        ),
    });
    Some(Figure {
        title: format!("Gap against {}, {}", dose.name(), group.rung.name()),
        caption: format!(
            "{} Bars are the 95% intervals of the gaps (Newcombe, method 10). {}",
            group.provenance(&drawn.iter().map(|(_, point)| *point).collect::<Vec<_>>()),
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
        trends: trends.unwrap_or_default(),
        marks: marks.into_iter().collect(),
        ..Figure::default()
    })
}
