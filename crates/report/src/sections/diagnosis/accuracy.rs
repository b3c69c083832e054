//! Accuracy of every iterate: what the head would answer if it read an earlier state.

use super::spreads::{INTERVALS, SHARE, Sheet, fields, share, share_fields, shares, table};
use super::{Clause, Measurement, result, results, setting};
use crate::figure::Figure;
use crate::numbers;
use crate::table::{Table, columns};
use equipoise_record::{Diagnosis, ModelDiagnosis, Section, Share};

pub(super) struct IterateAccuracy;

impl Measurement for IterateAccuracy {
    fn name(&self) -> &'static str {
        "accuracy"
    }

    fn title(&self) -> &'static str {
        "Accuracy of every iterate"
    }

    fn about(&self) -> &'static str {
        "What the classifying head would answer if it read an earlier state, on the same clean and attacked images. A \
         state that is more robust than the last is a defence, or a sign that the attack follows a gradient that \
         misleads it."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.accuracy.as_ref().map(Section::outline)
    }

    fn figures(&self, diagnosis: &Diagnosis) -> Vec<Figure> {
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
                numbers::attack(diagnosis.attacked)
            ),
            x_label: "iterate t that the head reads".into(),
            y_label: "accuracy in %".into(),
            series,
            ..Figure::default()
        }]
    }

    fn tables(&self, diagnosis: &Diagnosis) -> Vec<Table> {
        let rows = results(diagnosis, |m| m.accuracy.as_ref()).into_iter().map(|(model, accuracy)| {
            // Of equal ones the latest.
            let best = accuracy.by_iterate.iter().max_by_key(|a| (a.robust.correct, a.t));
            vec![
                model.model.clone().into(),
                accuracy.readout.clone().into(),
                share(&accuracy.clean),
                share(&accuracy.robust),
                best.map_or("–".into(), |best| format!("z_{}", best.t).into()),
                best.map_or("–".into(), |best| share(&best.robust)),
            ]
        });
        let caption = format!(
            "{}. Robust: correct both when clean and after {}. The most robust iterate was picked by \
             looking at these very images, so it looks better than on others.",
            setting(diagnosis),
            numbers::attack(diagnosis.attacked)
        );
        let numeric = ["Clean", "Robust", "Most robust iterate", "Robust there"];
        table(caption, columns(&["Model", "Readout"], &numeric), rows.collect())
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let mut sheet = Sheet::new(&[&["model", "readout", "t", "measure"], &SHARE]);
        for (model, accuracy) in results(diagnosis, |m| m.accuracy.as_ref()) {
            let mut rows = |readout: &str, t: &str, clean: &Share, robust: &Share| {
                sheet.row(&[fields(&[&model.model, &readout, &t, &"clean"]), share_fields(clean)]);
                sheet.row(&[fields(&[&model.model, &readout, &t, &"robust"]), share_fields(robust)]);
            };
            rows(&accuracy.readout, "", &accuracy.clean, &accuracy.robust);
            for a in &accuracy.by_iterate {
                rows(&format!("early({})", a.t), &a.t.to_string(), &a.clean, &a.robust);
            }
        }
        sheet
    }

    fn clause(&self, diagnosis: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let accuracy = result(&model.accuracy)?;
        let best = accuracy.by_iterate.iter().max_by_key(|a| (a.robust.correct, a.t));
        let best = best.filter(|best| best.robust.correct > accuracy.robust.correct).map(|best| {
            format!(", {} if z_{} is read", numbers::percent(best.robust.accuracy.value), best.t)
        });
        let says = format!(
            "{} correct when clean and {} after {}{}",
            numbers::percent(accuracy.clean.accuracy.value),
            numbers::accuracy(accuracy.robust.accuracy),
            numbers::attack(diagnosis.attacked),
            best.unwrap_or_default()
        );
        Some(Clause { place: 1, says })
    }
}
