//! A record checked against itself and the rules: p-values, intervals and findings must follow from its counts.

use equipoise_record::{Collection, Contradiction, Evaluation, Interval, Verdict};

use crate::conclude::conclude;
use crate::statistics::{difference_interval, exact_test};

/// Checks a record: first its counts against its examples ([`equipoise_record::check`]), then every p-value and
/// interval against these counts, then every finding against the rules ([`conclude`]).
///
/// p-values are corrected over the models of one record. Models of several records, put into one, must be concluded
/// anew or be checked each in its own.
///
/// # Errors
///
/// The first [`Contradiction`] that is met.
pub fn check(collection: &Collection) -> Result<(), Contradiction> {
    equipoise_record::check(collection)?;
    let models = &collection.models;
    for found in verdicts(models) {
        found.statistics()?;
    }
    let mut again = models.clone();
    conclude(&mut again);
    verdicts(models).iter().zip(verdicts(&again)).try_for_each(|(found, again)| found.finding(again.verdict))
}

/// A verdict of a record, where it stands, and the counts around it.
struct Found<'a> {
    model: &'a str,
    readout: &'a str,
    at: String,
    verdict: &'a Verdict,
    /// Points that stand after opening and twins.
    ready_made: usize,
}

fn verdicts(models: &[Evaluation]) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    for model in models {
        for readout in &model.readouts {
            let radii = readout.radii.iter().enumerate();
            let radii = radii.map(|(at, radius)| {
                (format!("radii[{at}].verdict"), &radius.verdict, radius.ready_made_accuracy)
            });
            let own = ("verdict".to_owned(), &readout.verdict, readout.ready_made_accuracy);
            for (at, verdict, accuracy) in std::iter::once(own).chain(radii) {
                found.push(Found {
                    model: &model.model,
                    readout: &readout.name,
                    at,
                    verdict,
                    ready_made: accuracy.map_or(0, |accuracy| accuracy.correct()),
                });
            }
        }
    }
    found
}

impl Found<'_> {
    fn refuse(&self, field: &str, stands: String, follows: String) -> Result<(), Contradiction> {
        Err(Contradiction {
            model: self.model.to_owned(),
            readout: Some(self.readout.to_owned()),
            field: format!("{}.{field}", self.at),
            stands,
            follows,
        })
    }

    /// p-values and intervals.
    fn statistics(&self) -> Result<(), Contradiction> {
        let verdict = self.verdict;
        if let (Some(b), Some(c), Some(p_value), Some(interval)) =
            (verdict.b, verdict.c, verdict.p_value, verdict.difference_interval)
        {
            self.p_value("p_value", p_value, b, c, 1)?;
            self.interval("difference_interval", interval, b, c, self.ready_made.saturating_sub(b))?;
        }
        if let Some(aim) = verdict.aim {
            let left = aim.remainder;
            self.p_value("aim.remainder.p_value", left.p_value, left.b, left.c, 1)?;
            // As many stand in the aimed arm as aimed and ready-made arm together say; in both, b fewer.
            let aimed = (self.ready_made + aim.c).saturating_sub(aim.b);
            let standing = aimed.saturating_sub(left.b);
            let field = "aim.remainder.difference_interval";
            self.interval(field, left.difference_interval, left.b, left.c, standing)?;
        }
        if let Some(yardstick) = &verdict.yardstick {
            let (b, c) = (yardstick.b, yardstick.c);
            self.p_value("yardstick.p_value", yardstick.p_value, b, c, yardstick.chosen_from)?;
        }
        Ok(())
    }

    fn p_value(
        &self,
        field: &str,
        stands: f64,
        b: usize,
        c: usize,
        times: usize,
    ) -> Result<(), Contradiction> {
        let expected = (times as f64 * exact_test(b, c)).min(1.0);
        if near(stands, expected) {
            return Ok(());
        }
        let factor = if times == 1 { String::new() } else { format!(" times {times}") };
        let follows = format!("the exact test of {b} against {c}{factor} gives {expected}");
        self.refuse(field, stands.to_string(), follows)
    }

    fn interval(
        &self,
        field: &str,
        stands: Interval,
        b: usize,
        c: usize,
        standing: usize,
    ) -> Result<(), Contradiction> {
        let n = self.verdict.n;
        let expected = difference_interval(n.saturating_sub(standing + b + c), b, c, standing);
        if stands.iter().zip(expected).all(|(stands, expected)| (stands - expected).abs() <= 1e-9) {
            return Ok(());
        }
        let [low, high] = expected;
        let follows =
            format!("b, c and the {standing} of {n} points that stand in both give [{low}, {high}]");
        self.refuse(field, format!("[{}, {}]", stands[0], stands[1]), follows)
    }

    /// What the rules write: corrected p-value, finding, evidence, and the images that would decide it.
    fn finding(&self, again: &Verdict) -> Result<(), Contradiction> {
        let verdict = self.verdict;
        let same = match (verdict.p_value_corrected, again.p_value_corrected) {
            (Some(stands), Some(expected)) => near(stands, expected),
            (stands, expected) => stands == expected,
        };
        if !same {
            let follows = "Holm's correction over the record gives ";
            return self.differs(
                "p_value_corrected",
                &verdict.p_value_corrected,
                &again.p_value_corrected,
                follows,
            );
        }
        if verdict.finding != again.finding {
            return self.differs("finding", &verdict.finding, &again.finding, "by the rules it is ");
        }
        if verdict.evidence != again.evidence {
            return self.differs("evidence", &verdict.evidence, &again.evidence, "by the rules it is ");
        }
        if verdict.would_decide_at != again.would_decide_at {
            let follows = "by the rules it is ";
            return self.differs(
                "would_decide_at",
                &verdict.would_decide_at,
                &again.would_decide_at,
                follows,
            );
        }
        Ok(())
    }

    fn differs<T: serde::Serialize>(
        &self,
        field: &str,
        stands: &T,
        expected: &T,
        words: &str,
    ) -> Result<(), Contradiction> {
        // As the record has it, without the quotes of a name.
        let shown = |value: &T| {
            serde_json::to_string(value).map(|text| text.trim_matches('"').to_owned()).unwrap_or_default()
        };
        self.refuse(field, shown(stands), format!("{words}{}", shown(expected)))
    }
}

/// Whether two probabilities are the same but for rounding, also where both are tiny.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}
