//! One training run over its epochs: accuracies, gaps, residuals and radius in one drawing.

use super::Group;
use super::figures::percent;
use super::points::Point;
use crate::figure::{Figure, Scale, Series};
use crate::svg::{Drawing, stacked};
use equipoise_record::Accuracy;
use std::collections::BTreeSet;

/// Fewer epochs than these show no course.
const FEWEST: usize = 3;

/// A drawing for each training run of a group that was measured after enough of its epochs.
pub(super) fn drawings(group: &Group) -> Vec<Drawing> {
    let runs: BTreeSet<usize> = group.points.iter().map(|point| point.run).collect();
    runs.into_iter().filter_map(|run| drawing(group, run)).collect()
}

fn drawing(group: &Group, run: usize) -> Option<Drawing> {
    let of_run = group.points.iter().filter(|point| point.run == run);
    let mut points: Vec<(f64, &Point)> =
        of_run.filter_map(|point| Some((point.epoch? as f64, point))).collect();
    points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let epochs: BTreeSet<u64> = points.iter().filter_map(|(_, point)| point.epoch).collect();
    let (_, first) = *points.first().filter(|_| epochs.len() >= FEWEST)?;
    let figures = [accuracy(&points), gap(&points), residual(&points), radius(&points)];
    let figures: Vec<Figure> =
        figures.into_iter().filter(|figure| figure.series.iter().any(|s| !s.points.is_empty())).collect();
    let caption = format!(
        "{} Accuracies are those behind the final state, with their 95% Wilson intervals; gaps have 95% intervals (Newcombe, \
         method 10); residuals and the spectral radius are medians over clean images.",
        group.provenance(&points.iter().map(|(_, point)| *point).collect::<Vec<_>>())
    );
    Some(stacked(&format!("{} over its epochs, {}", first.run_name, group.rung.name()), &caption, &figures))
}

fn accuracy(points: &[(f64, &Point)]) -> Figure {
    let last = || points.iter().filter(|(_, point)| point.readout.name == "final");
    let series = |name: &str, of: &dyn Fn(&Point) -> Option<Accuracy>| {
        let found = last().filter_map(|(epoch, point)| Some((*epoch, of(point)?)));
        let (points, band) = found
            .map(|(epoch, a)| ((epoch, percent(a.value)), (percent(a.interval[0]), percent(a.interval[1]))))
            .unzip();
        Series { name: name.to_owned(), points, band: Some(band) }
    };
    Figure {
        y_label: "accuracy behind final, %".to_owned(),
        from_zero: true,
        series: vec![
            series("clean", &|point| Some(point.readout.clean_accuracy)),
            series("ready-made", &|point| point.readout.ready_made_accuracy),
            series("white-box", &|point| Some(point.readout.white_box_accuracy)),
        ],
        ..over_epochs()
    }
}

fn gap(points: &[(f64, &Point)]) -> Figure {
    let of = |point: &Point| Some((percent(point.gap), Some(point.interval.map(percent))));
    Figure {
        y_label: "gap, points".to_owned(),
        from_zero: true,
        series: by_readout(points, of),
        ..over_epochs()
    }
}

fn residual(points: &[(f64, &Point)]) -> Figure {
    Figure {
        y_label: "relative residual of the state that is read".to_owned(),
        y_scale: Scale::Log,
        series: by_readout(points, |point| Some((point.residual?.median, None))),
        ..over_epochs()
    }
}

/// The spectral radius is of the cell's Jacobian, whatever reads its states.
fn radius(points: &[(f64, &Point)]) -> Figure {
    let mut measured: Vec<(f64, f64)> =
        points.iter().filter_map(|(epoch, point)| Some((*epoch, point.radius?.median))).collect();
    measured.dedup_by_key(|(epoch, _)| *epoch);
    Figure {
        y_label: "spectral radius of the Jacobian".to_owned(),
        series: vec![Series { name: "spectral radius".to_owned(), points: measured, band: None }],
        ..over_epochs()
    }
}

/// A series for each readout, in the order of the record.
fn by_readout(
    points: &[(f64, &Point)],
    of: impl Fn(&Point) -> Option<(f64, Option<[f64; 2]>)>,
) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for (epoch, point) in points {
        let name = &point.readout.name;
        let at = series.iter().position(|one| one.name == *name).unwrap_or_else(|| {
            series.push(Series { name: name.clone(), ..Series::default() });
            series.len() - 1
        });
        let Some((value, interval)) = of(point) else { continue };
        series[at].points.push((*epoch, value));
        if let Some([low, high]) = interval {
            series[at].band.get_or_insert_default().push((low, high));
        }
    }
    series
}

fn over_epochs() -> Figure {
    Figure { x_label: "epochs".to_owned(), ..Figure::default() }
}
