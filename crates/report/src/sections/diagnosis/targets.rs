//! Targets: which classes images can be turned into.

use super::spreads::{Sheet, fields, share, table};
use super::{Clause, Measurement, result, results, setting};
use crate::numbers;
use crate::table::{Cell, Table, columns};
use equipoise_record::{Diagnosis, ModelDiagnosis, Section, Targeted};

pub(super) struct ClassToClass;

/// A matrix of more classes is in the CSV file alone.
const SHOWN: usize = 20;

impl Measurement for ClassToClass {
    fn name(&self) -> &'static str {
        "targets"
    }

    fn title(&self) -> &'static str {
        "Class to class"
    }

    fn about(&self) -> &'static str {
        "Which classes images can be turned into within ε: a targeted attack through the true gradient for every other class, on every \
         image that is correct when clean."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.targets.as_ref().map(Section::outline)
    }

    fn tables(&self, diagnosis: &Diagnosis) -> Vec<Table> {
        let found = results(diagnosis, |m| m.targets.as_ref());
        let summary = found.iter().map(|(model, targeted)| {
            vec![model.model.clone().into(), targeted.attack.clone().into(), share(&targeted.reached)]
        });
        let caption = format!(
            "{}. Pairs of an image and another class that were reached, in %, with the 95% Wilson interval over pairs, which are \
             not independent: an image has one for each class.",
            setting(diagnosis)
        );
        let mut tables = table(caption, columns(&["Model", "Attack"], &["Reached"]), summary.collect());
        for (model, targeted) in found.into_iter().filter(|(_, targeted)| targeted.rows.len() <= SHOWN) {
            tables.push(matrix(model, targeted, diagnosis));
        }
        tables
    }

    fn clause(&self, _: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let reached = result(&model.targets)?.reached;
        let says = format!(
            "images can be turned into {} of the other classes",
            numbers::percent(reached.accuracy.value)
        );
        Some(Clause { place: 9, says })
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let mut sheet =
            Sheet::new(&[&["model", "attack", "gradient", "class", "target", "images", "reached"]]);
        for (model, targeted) in results(diagnosis, |m| m.targets.as_ref()) {
            for (class, row) in targeted.rows.iter().enumerate() {
                for (target, reached) in row.reached.iter().enumerate().filter(|(target, _)| *target != class)
                {
                    let (from, to) = (name(targeted, class), name(targeted, target));
                    sheet.row(&[fields(&[
                        &model.model,
                        &targeted.attack,
                        &targeted.gradient,
                        &from,
                        &to,
                        &row.images,
                        reached,
                    ])]);
                }
            }
        }
        sheet
    }
}

/// Images of each class that were turned into each other one.
fn matrix(model: &ModelDiagnosis, targeted: &Targeted, diagnosis: &Diagnosis) -> Table {
    let names: Vec<String> = (0..targeted.rows.len()).map(|class| name(targeted, class)).collect();
    let rows =
        targeted.rows.iter().enumerate().map(|(class, row)| {
            let mut cells: Vec<Cell> = vec![names[class].clone().into(), row.images.to_string().into()];
            cells.extend(row.reached.iter().enumerate().map(|(target, reached)| {
                if target == class { "–".into() } else { reached.to_string().into() }
            }));
            cells
        });
    let numeric: Vec<&str> = std::iter::once("Images").chain(names.iter().map(String::as_str)).collect();
    Table {
        caption: format!(
            "{}: {}, {} through {}. Rows are true classes with their images that are correct when clean, columns the classes that these \
             were turned into.",
            model.model,
            setting(diagnosis),
            targeted.attack,
            targeted.gradient
        ),
        columns: columns(&["Class"], &numeric),
        rows: rows.collect(),
    }
}

fn name(targeted: &Targeted, class: usize) -> String {
    targeted.classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}
