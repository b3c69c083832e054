//! A model behind one readout, at every radius from the smallest up.

use std::path::{Path, PathBuf};

use equipoise_dataset::{NpyArray, write_npz};
use equipoise_record::{Flag, RadiusResult, ReadoutResult, Verdict};

use super::{AssessError, Assessment, Labelled, Randomness};
use crate::attack::Budget;
use crate::batch::to_vec;
use crate::checks::{self, CheckError};
use crate::evaluate::{
    self, Conditions, Journal, Observer, Outcome, Part, Points, Settings, Shard, TimeLimit, gallery,
    save_adversarial,
};
use crate::network::Network;
use crate::plan::Subject;
use crate::readout::Readout;

/// Images in the gallery of an evaluation.
const GALLERY: usize = 12;

impl Assessment<'_> {
    /// Evaluates the model behind one readout, at every radius; the outcome is that at the largest. `None` if the observer cancelled: the journal waits to be
    /// resumed. The verdicts hold counts; findings are made of them once the record is complete.
    pub(super) fn readout(
        &self,
        readout: &Readout,
        points: &Points,
        observer: &dyn Observer,
    ) -> Result<Option<(ReadoutResult, Outcome)>, AssessError> {
        let (attacked, deployed) =
            (self.randomness.attacked(self.network), self.randomness.deployed(self.network));
        let subject = self.subject(readout.clone(), &attacked);
        let plan = self.plan(&subject);
        let label = format!("{}, {readout}", self.name);
        if self.attacks.white_box {
            self.announce(&label, &plan);
        }
        let deployment = self.deployment;
        let judge = deployed.victim(deployment, readout.clone(), deployment.training_gradient.clone());
        let victims = plan.victims(&subject);
        let mut cascade = plan.cascade(&subject, judge.as_ref(), &victims);
        cascade.draws = self.randomness.protocol.draws();
        cascade.each_run(|run| run.attack = self.randomness.attack(&run.attack, &subject.readout));
        let radii = self.budgets.len();
        let limit = self.time_limit.map(|seconds| TimeLimit { seconds: seconds / radii as f64 });
        let mut smaller: Option<Outcome> = None;
        let mut results = Vec::new();
        for &budget in &self.budgets {
            let label = if radii > 1 { format!("{label}, eps {}", budget.eps()) } else { label.clone() };
            let observer = Labelled { observer, label };
            observer.part(Part::Begins);
            let mut journal = match &self.folder {
                Some(folder) => {
                    Some(Journal::open(self.journal(folder, readout, budget), self.journalled(readout))?)
                }
                None => None,
            };
            let shard = |part: &super::Part| {
                let folder = self.journal(&part.folder, readout, budget);
                Shard {
                    rows: part.rows.clone(),
                    journal: Journal::existing(folder, self.journalled(readout)),
                }
            };
            let shards: Vec<Shard> = self.shards.iter().map(shard).collect();
            let conditions =
                Conditions { limit, smaller: smaller.as_ref(), journal: journal.as_mut(), shards: &shards };
            let settings = Settings { budget, seed: self.seed, batch_size: self.batch_size };
            let mut outcome = evaluate::run_with(&cascade, points, &settings, &observer, conditions)?;
            if !outcome.complete {
                return Ok(None);
            }
            let verdict = &mut outcome.result.verdict;
            verdict.margin = self.margin;
            verdict.looks = match &journal {
                Some(journal) => journal.look(points.len())?,
                None => vec![points.len()],
            };
            verdict.level = level(verdict.looks.len());
            if budget == self.largest() {
                if let Some(record) = &mut outcome.result.plan {
                    record.not_tried.extend(plan.left_out.iter().cloned());
                }
                if let Some(count) = self.checks {
                    let examined = (points, &outcome, &settings);
                    let Some(flags) = flags(&subject, examined, (journal.as_ref(), count), &observer)? else {
                        return Ok(None);
                    };
                    outcome.result.flags = flags;
                }
                if self.randomness.concerns(readout) {
                    let drawn = self.draws(&subject, judge.as_ref(), points, budget, &observer)?;
                    let Some(drawn) = drawn else { return Ok(None) };
                    outcome.result.randomness = Some(drawn);
                }
                if let Some(folder) = self.folder.as_ref().filter(|_| self.save) {
                    let stem = folder.join(format!("adversarial-{}", file_name(&readout.to_string())));
                    self.save_images(&stem, points, budget, &outcome)?;
                    let pictures = gallery(points, &outcome, budget.norm(), &self.data.class_names, GALLERY);
                    outcome.result.gallery = Some(pictures);
                }
            }
            results.push((budget, outcome.result.clone()));
            smaller = Some(outcome);
            observer.part(Part::Ends);
        }
        Ok(combined(results).zip(smaller))
    }

    /// What a journal is of: the model's file, with what is random about it.
    fn journalled(&self, readout: &Readout) -> String {
        let Randomness { noise, protocol, draws } = self.randomness;
        if !self.randomness.concerns(readout) {
            return self.hash.clone();
        }
        let noise = noise.map_or(String::new(), |sigma| format!(", noise {sigma}"));
        let mean =
            if self.randomness.samples(readout) { format!(", mean of {draws}") } else { String::new() };
        format!("{}{noise}, {protocol}{mean}", self.hash)
    }

    /// `FOLDER/journal/READOUT`, with a folder for each radius below it if there are several.
    fn journal(&self, folder: &Path, readout: &Readout, budget: Budget) -> PathBuf {
        let folder = folder.join("journal").join(file_name(&readout.to_string()));
        if self.budgets.len() > 1 { folder.join(format!("eps-{}", budget.eps())) } else { folder }
    }

    /// The file of adversarial images of a readout, if they are saved.
    pub(super) fn stored(&self, readout: &str) -> Option<PathBuf> {
        let folder = self.folder.as_ref().filter(|_| self.save)?;
        Some(folder.join(format!("adversarial-{}.safetensors", file_name(readout))))
    }

    /// `STEM.safetensors` and `STEM.npz`.
    fn save_images(
        &self,
        stem: &Path,
        points: &Points,
        budget: Budget,
        outcome: &Outcome,
    ) -> Result<(), AssessError> {
        save_adversarial(stem, points, &budget, &self.hash, outcome)?;
        let shape = outcome.adversarial.dims();
        let integers = |values: &[usize]| values.iter().map(|&value| value as i64).collect::<Vec<_>>();
        let (x, y, index) =
            (to_vec(outcome.adversarial.clone()), integers(points.labels()), integers(points.indices()));
        let vector = |values| NpyArray::I64 { shape: vec![points.len()], values };
        let classes = [self.data.classes as i64];
        let arrays = [
            ("x", NpyArray::F32 { shape: shape.to_vec(), values: &x }),
            ("y", vector(&y)),
            ("index", vector(&index)),
            ("classes", NpyArray::I64 { shape: vec![], values: &classes }),
        ];
        let mut path = stem.as_os_str().to_owned();
        path.push(".npz");
        Ok(write_npz(path, &arrays)?)
    }
}

/// The level of the tests at the k-th look: all looks together are wrong in at most 7.5% of cases, the first in 5%.
fn level(looks: usize) -> f64 {
    if looks < 2 { Verdict::LEVEL } else { Verdict::LEVEL / 2.0_f64.powi(looks as i32) }
}

/// The largest radius with the others below it.
fn combined(results: Vec<(Budget, ReadoutResult)>) -> Option<ReadoutResult> {
    let of = |(budget, result): &(Budget, ReadoutResult)| RadiusResult::of(budget.eps(), result);
    let radii: Vec<RadiusResult> =
        if results.len() > 1 { results.iter().map(of).collect() } else { Vec::new() };
    results.into_iter().last().map(|(_, result)| ReadoutResult { radii, ..result })
}

/// The checks, of the evaluation and of the model. `None` if the observer cancelled.
fn flags(
    subject: &Subject<'_>,
    (points, outcome, settings): (&Points, &Outcome, &Settings),
    (journal, count): (Option<&Journal>, usize),
    observer: &Labelled<'_>,
) -> Result<Option<Vec<Flag>>, AssessError> {
    let kept = match journal {
        Some(journal) => journal.flags(points.len(), count)?,
        None => None,
    };
    let examined = match kept {
        Some(flags) => flags,
        None => match checks::of_model(subject, points, outcome, settings, count, observer) {
            // What a model answered that failed meanwhile is not kept.
            Ok(_) if observer.failed() => return Ok(None),
            Ok(flags) => {
                if let Some(journal) = journal {
                    journal.keep_flags(points.len(), count, &flags)?;
                }
                flags
            }
            Err(CheckError::Cancelled) => return Ok(None),
            Err(error) => return Err(error.into()),
        },
    };
    let mut flags = checks::of_runs(&outcome.result);
    flags.extend(examined);
    let raised: Vec<&Flag> = flags.iter().filter(|flag| flag.raised).collect();
    let (all, label) = (flags.len(), &observer.label);
    match raised.as_slice() {
        [] => tracing::info!("{label}: {all} checks, none raised"),
        raised => {
            let names: Vec<&str> = raised.iter().map(|flag| flag.name.as_str()).collect();
            tracing::warn!("{label}: {} of {all} checks raised: {}", raised.len(), names.join(", "));
        }
    }
    for flag in raised {
        tracing::warn!("{label}: {}: {}", flag.name, flag.statement);
    }
    Ok(Some(flags))
}

/// `early(5)` as `early-5`: parentheses are trouble in a shell, and other marks in a file system.
fn file_name(readout: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_=,".contains(c) { c } else { '-' };
    readout.replace(')', "").chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_readouts_have_no_parentheses() {
        assert_eq!(file_name("early(5)"), "early-5");
        assert_eq!(file_name("ensemble-states"), "ensemble-states");
    }
}
