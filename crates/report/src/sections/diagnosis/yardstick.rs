//! One gradient against one: what of a gap is aim, and what is gradient.

use super::spreads::{Sheet, fields, table};
use super::{Clause, Measurement, result, results, setting};
use crate::numbers;
use crate::table::{Cell, Table, columns};
use equipoise_record::{Diagnosis, ModelDiagnosis, Paired, Section, YardstickRow};

pub(super) struct OneAgainstOne;

impl Measurement for OneAgainstOne {
    fn name(&self) -> &'static str {
        "yardstick"
    }

    fn title(&self) -> &'static str {
        "One gradient against one"
    }

    fn about(&self) -> &'static str {
        "What the true gradient of the deployed function breaks that the training gradient, from as many starts, does \
         not. Part of it is aim: the training gradient was made for another readout, and pointed at this one it breaks \
         those images too. What is left is gradient: only the true one finds them."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.yardstick.as_ref().map(Section::outline)
    }

    fn tables(&self, diagnosis: &Diagnosis) -> Vec<Table> {
        let (mut rows, mut attacks) = (Vec::new(), Vec::new());
        for (model, yardstick) in results(diagnosis, |m| m.yardstick.as_ref()) {
            attacks.extend((!attacks.contains(&yardstick.attack)).then(|| yardstick.attack.clone()));
            for row in &yardstick.rows {
                let broken =
                    |count: usize, gradient: &str| Cell::noted(count.to_string(), vec![gradient.to_owned()]);
                let aimed = row.aimed.as_ref().zip(row.aimed_broken);
                rows.push(vec![
                    model.model.clone().into(),
                    row.readout.clone().into(),
                    row.correct.to_string().into(),
                    broken(row.training_broken, &row.training),
                    aimed.map_or("–".into(), |(gradient, count)| broken(count, gradient)),
                    broken(row.other_broken, &row.other),
                    paired(&row.total),
                    row.aim.as_ref().map_or("–".into(), paired),
                    paired(&row.gradient),
                ]);
            }
        }
        let numeric = [
            "Correct when clean",
            "Broken, training gradient",
            "Broken, training aimed",
            "Broken, true gradient",
            "Difference",
            "Of which aim",
            "Of which gradient",
        ];
        let caption = format!(
            "{}, {} through each gradient on all images that are correct when clean, from the same starts. Aimed: the \
             training method pointed at the readout; a dash where it reads that already. Difference: what the true \
             gradient broke more than the training gradient, in points of all images, with its 95% interval and an \
             exact one-sided p, which is not corrected.",
            setting(diagnosis),
            numbers::list(&attacks)
        );
        table(caption, columns(&["Model", "Readout"], &numeric), rows)
    }

    /// A row for each comparison: all of the difference, what of it is aim, what is gradient.
    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let head = ["model", "readout", "attack", "count", "correct", "measure"];
        let sides = ["first", "first_broken", "second", "second_broken"];
        let paired =
            ["first_only", "second_only", "difference", "difference_low", "difference_high", "p_value"];
        let mut sheet = Sheet::new(&[&head, &sides, &paired]);
        for (model, yardstick) in results(diagnosis, |m| m.yardstick.as_ref()) {
            for row in &yardstick.rows {
                let training = (&row.training, row.training_broken);
                let other = (&row.other, row.other_broken);
                let aimed = row.aimed.as_ref().zip(row.aimed_broken);
                let mut compare =
                    |measure: &str, first: (&String, usize), second: (&String, usize), p: &Paired| {
                        let [low, high] = p.difference_interval;
                        sheet.row(&[
                            fields(&[
                                &model.model,
                                &row.readout,
                                &yardstick.attack,
                                &diagnosis.count,
                                &row.correct,
                                &measure,
                            ]),
                            fields(&[&first.0, &first.1, &second.0, &second.1]),
                            fields(&[&p.b, &p.c, &p.difference, &low, &high, &numbers::p_exact(p.p_value)]),
                        ]);
                    };
                compare("total", other, training, &row.total);
                if let (Some(aimed), Some(aim)) = (aimed, &row.aim) {
                    compare("aim", aimed, training, aim);
                }
                compare("gradient", other, aimed.unwrap_or(training), &row.gradient);
            }
        }
        sheet
    }

    /// The readout with the largest difference; of equal ones the first, which is the deployed one.
    fn clause(&self, _: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let by_difference =
            |a: &&YardstickRow, b: &&YardstickRow| a.total.difference.total_cmp(&b.total.difference);
        let row = result(&model.yardstick)?.rows.iter().rev().max_by(by_difference)?;
        let split = row.aim.as_ref().map_or(String::new(), |aim| {
            format!(
                ", of which {} are aim and {} gradient",
                numbers::points(aim.difference),
                numbers::points(row.gradient.difference)
            )
        });
        let says = format!(
            "one gradient against one, the difference is largest behind {}: {} alone broke {} that {} from as many \
             starts did not, and {} the other way round ({} points {}, {}{split})",
            row.readout,
            row.other,
            numbers::images(row.total.b),
            row.training,
            row.total.c,
            numbers::points(row.total.difference),
            numbers::points_interval(row.total.difference_interval),
            numbers::p_value(row.total.p_value)
        );
        Some(Clause { place: 6, says })
    }
}

/// A difference in points, with its interval and p-value.
fn paired(paired: &Paired) -> Cell {
    let notes = vec![numbers::points_interval(paired.difference_interval), numbers::p_value(paired.p_value)];
    Cell::noted(numbers::points(paired.difference), notes)
}
