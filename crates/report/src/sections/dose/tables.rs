//! Every point of a group as a row.

use super::Group;
use super::points::{Measured, Point};
use crate::table::{Cell, Column, Table, columns};
use crate::{numbers, verdict};

/// What each point rests on.
pub(super) fn table(group: &Group) -> Table {
    let number = |measured: Option<Measured>| {
        measured.map_or("–".into(), |measured| Cell::from(numbers::number(measured.median)))
    };
    let row = |point: &Point| -> Vec<Cell> {
        vec![
            point.model.model.clone().into(),
            point.run_name.clone().into(),
            point.readout.name.clone().into(),
            point.epoch.map_or("–".into(), |epoch| epoch.to_string().into()),
            number(point.residual),
            number(point.cosine),
            number(point.radius),
            Cell::noted(numbers::points(point.gap), vec![numbers::points_interval(point.interval)]),
            format!("{}, {}", point.b, point.c).into(),
            point.readout.ready_made_accuracy.map_or("not run".into(), Cell::accuracy),
            Cell::accuracy(point.readout.white_box_accuracy),
            verdict::label(&point.readout.verdict).into(),
        ]
    };
    let numeric =
        ["Epoch", "Residual", "Cosine", "Spectral radius", "Gap, points", "b, c", "Ready-made", "White-box"];
    let mut columns = columns(&["Model", "Training run", "Readout"], &numeric);
    columns.push(Column { title: "Finding".to_owned(), numeric: false });
    Table {
        caption: format!(
            "Gap against residual, {}. {} Residual, cosine and spectral radius: medians over clean images. Accuracy in %, \
             with its 95% Wilson interval and count.",
            group.rung.name(),
            group.provenance(&group.points.iter().collect::<Vec<_>>())
        ),
        columns,
        rows: group.points.iter().map(row).collect(),
    }
}
