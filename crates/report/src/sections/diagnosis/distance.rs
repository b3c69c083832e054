//! Distances: how far the nearest adversarial images are.

use super::spreads::{
    INTERVALS, SHARE, SPREAD, Sheet, empty, fields, median, share, share_fields, shares, spread,
    spread_fields, table,
};
use super::{Clause, Measurement, result, results, setting};
use crate::figure::{Figure, Mark};
use crate::numbers;
use crate::table::{Table, columns};
use equipoise_record::{Diagnosis, ModelDiagnosis, Section};

pub(super) struct Nearest;

impl Measurement for Nearest {
    fn name(&self) -> &'static str {
        "distance"
    }

    fn title(&self) -> &'static str {
        "Distances"
    }

    fn about(&self) -> &'static str {
        "How far the nearest adversarial images are that minimum-norm attacks find through the true gradient: a median that needs no \
         ε, and at every ε the share of images that stand."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.distance.as_ref().map(Section::outline)
    }

    fn figures(&self, diagnosis: &Diagnosis) -> Vec<Figure> {
        let found = results(diagnosis, |m| m.distance.as_ref());
        let series: Vec<_> = found
            .iter()
            .map(|(model, d)| shares(model.model.clone(), d.curve.iter().map(|p| (p.eps, &p.standing))))
            .collect();
        if series.is_empty() {
            return Vec::new();
        }
        vec![Figure {
            title: "Images without an adversarial image within ε".into(),
            caption: format!(
                "{}. Share of all images that are correct when clean and stand, by the least distance that any of the attacks found. \
                 {INTERVALS}",
                setting(diagnosis)
            ),
            x_label: format!("ε, {}", numbers::norm(&diagnosis.norm)),
            y_label: "images in %".into(),
            series,
            marks: vec![Mark { at: diagnosis.eps, says: format!("ε = {}", numbers::eps(diagnosis.eps)) }],
            ..Figure::default()
        }]
    }

    fn tables(&self, diagnosis: &Diagnosis) -> Vec<Table> {
        let mut rows = Vec::new();
        for (model, distances) in results(diagnosis, |m| m.distance.as_ref()) {
            for attack in &distances.attacks {
                rows.push(vec![
                    model.model.clone().into(),
                    attack.attack.clone().into(),
                    spread(&attack.distance),
                    share(&attack.found),
                ]);
            }
            rows.push(vec![
                model.model.clone().into(),
                "least of all".into(),
                spread(&distances.least),
                "–".into(),
            ]);
        }
        let caption = format!(
            "{}. Medians with the 10th and 90th percentile, of images that are correct when clean and for which an adversarial image was \
             found.",
            setting(diagnosis)
        );
        table(caption, columns(&["Model", "Attack"], &["Distance", "Found"]), rows)
    }

    fn clause(&self, diagnosis: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let least = median(&result(&model.distance)?.least);
        let norm = numbers::norm(&diagnosis.norm);
        Some(Clause {
            place: 8,
            says: format!("the nearest adversarial image is {least} away in the median ({norm})"),
        })
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let mut sheet = Sheet::new(&[&["model", "gradient", "attack", "measure", "eps"], &SPREAD, &SHARE]);
        for (model, distances) in results(diagnosis, |m| m.distance.as_ref()) {
            let of = |attack: &str, measure: &str, eps: &str| {
                fields(&[&model.model, &distances.gradient, &attack, &measure, &eps])
            };
            for attack in &distances.attacks {
                let name = attack.attack.as_str();
                sheet.row(&[
                    of(name, "distance", ""),
                    spread_fields(&attack.distance),
                    share_fields(&attack.found),
                ]);
            }
            sheet.row(&[of("least of all", "distance", ""), spread_fields(&distances.least), empty(5)]);
            for point in &distances.curve {
                let eps = point.eps.to_string();
                sheet.row(&[of("least of all", "standing", &eps), empty(5), share_fields(&point.standing)]);
            }
        }
        sheet
    }
}
