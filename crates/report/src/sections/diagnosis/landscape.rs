//! Loss landscape: the loss along straight lines through the images.

use super::spreads::{
    BANDS, SHARE, SPREAD, Sheet, curve, fields, share, share_fields, spread, spread_fields, table,
};
use super::{Clause, Measurement, result, results, setting};
use crate::figure::Figure;
use crate::numbers;
use crate::table::{Table, columns};
use equipoise_record::{Diagnosis, Line, ModelDiagnosis, Section};

pub(super) struct LossLandscape;

impl Measurement for LossLandscape {
    fn name(&self) -> &'static str {
        "landscape"
    }

    fn title(&self) -> &'static str {
        "Loss landscape"
    }

    fn about(&self) -> &'static str {
        "Cross-entropy along straight lines through the images, less that at the image. A loss that does not rise along \
         a gradient shows that the gradient is of no use to an attack."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.landscape.as_ref().map(Section::outline)
    }

    fn figures(&self, diagnosis: &Diagnosis) -> Vec<Figure> {
        let line =
            |line: &Line| curve(line.direction.clone(), line.points.iter().map(|p| (p.distance, &p.change)));
        let found = results(diagnosis, |m| m.landscape.as_ref());
        let figures = found.iter().map(|(model, landscape)| Figure {
            title: format!("{}: loss along lines through the images", model.model),
            caption: format!(
                "{}, clean images. Each direction is a step of steepest ascent of length ε. {BANDS}",
                setting(diagnosis)
            ),
            x_label: "distance from the image, in ε".into(),
            y_label: "cross-entropy less that at the image".into(),
            series: landscape.lines.iter().map(line).collect(),
            ..Figure::default()
        });
        figures.collect()
    }

    fn tables(&self, diagnosis: &Diagnosis) -> Vec<Table> {
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

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let mut sheet = Sheet::new(&[&["model", "direction", "distance_in_eps"], &SPREAD, &SHARE]);
        for (model, landscape) in results(diagnosis, |m| m.landscape.as_ref()) {
            for line in &landscape.lines {
                for p in &line.points {
                    let what = fields(&[&model.model, &line.direction, &p.distance]);
                    sheet.row(&[what, spread_fields(&p.change), share_fields(&p.correct)]);
                }
            }
        }
        sheet
    }

    /// Of the training gradient, which the clause before it speaks of.
    fn clause(&self, _: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let line = result(&model.landscape)?.lines.first()?;
        let rises = numbers::percent(line.rises.accuracy.value);
        Some(Clause { place: 5, says: format!("a step of ε along it raises the loss of {rises}") })
    }
}
