//! One evaluation, from which the verdicts on many subsets of its images are taken.
//!
//! The arms run once on all images. The yardstick is measured where a verdict asks for it, since which gradient it is
//! made with may depend on the subset: the candidate that broke most there, as in the product.

use std::cell::RefCell;
use std::collections::HashMap;

use equipoise::attack::{Attack, WhiteBox};
use equipoise::batch::select;
use equipoise::evaluate::{self, Cascade, Duel, Outcome, Points, Quiet, Run, Settings};
use equipoise_record::{Arm, ExampleResult, Verdict, Yardstick};

use super::subset::{concluded, recount};
use crate::error::Error;

/// What is tried: arms in a cascade, and candidates for the yardstick.
pub struct Trial<'a> {
    /// Opening, pairs and gradient-free runs.
    pub arms: Cascade<'a>,
    /// One gradient against one.
    pub duels: Vec<Duel<'a>>,
    /// Radius, seed, batch size.
    pub settings: Settings,
}

/// An evaluation whose arms are done.
pub struct Done<'t, 'a> {
    trial: &'t Trial<'a>,
    points: &'t Points,
    /// As the driver left it.
    pub outcome: Outcome,
    /// By duel and row: whether the other gradient and whether the training gradient broke the point.
    marks: RefCell<HashMap<(usize, usize), (bool, bool)>>,
}

impl<'a> Trial<'a> {
    /// Runs the arms.
    ///
    /// # Errors
    ///
    /// As [`evaluate::run`].
    pub fn run<'t>(&'t self, points: &'t Points) -> Result<Done<'t, 'a>, Error> {
        let outcome = evaluate::run(&self.arms, points, &self.settings, &Quiet, None)?;
        Ok(Done { trial: self, points, outcome, marks: RefCell::default() })
    }
}

impl Done<'_, '_> {
    /// The verdict on some rows, with the yardstick chosen among these duels as the driver chooses it.
    ///
    /// # Errors
    ///
    /// As [`evaluate::run`].
    pub fn verdict(&self, rows: &[usize], among: &[usize]) -> Result<Verdict, Error> {
        let mut examples: Vec<ExampleResult> =
            rows.iter().map(|&row| self.outcome.result.examples[row].clone()).collect();
        let arms = &self.outcome.result.verdict.arms.white_box;
        let broken = |duel: &usize| {
            let gradient = self.trial.duels[*duel].other.estimator_name();
            let through = |run: usize| arms[run].estimator == gradient;
            examples.iter().filter(|example| example.broken_in.white_box.is_some_and(through)).count()
        };
        // The first of equal ones.
        let chosen = among.iter().copied().map(|duel| (broken(&duel), duel));
        let chosen = chosen.reduce(|best, next| if next.0 > best.0 { next } else { best });
        let mut yardstick = None;
        if let Some((_, duel)) = chosen {
            self.measure(duel, rows)?;
            let marks = self.marks.borrow();
            for (example, &row) in examples.iter_mut().zip(rows) {
                let (other, training) = marks.get(&(duel, row)).copied().unwrap_or_default();
                example.broken_in.yardstick_other = other.then_some(0);
                example.broken_in.yardstick_training = training.then_some(0);
            }
            let Duel { other, training } = &self.trial.duels[duel];
            yardstick = Some(Yardstick {
                attack: other.attack.name(),
                gradient: other.estimator_name().to_owned(),
                training: training.estimator_name().to_owned(),
                b: 0,
                c: 0,
                p_value: 1.0,
                chosen_from: among.len(),
            });
        }
        Ok(concluded(recount(&self.outcome.result, examples, yardstick.as_ref())))
    }

    /// Runs a duel on those of the rows that it has not met yet.
    fn measure(&self, duel: usize, rows: &[usize]) -> Result<(), Error> {
        let known = |row: &usize| self.marks.borrow().contains_key(&(duel, *row));
        let rows: Vec<usize> = rows.iter().copied().filter(|row| !known(row)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let Duel { other, training } = &self.trial.duels[duel];
        let mut alone = Cascade::new(self.trial.arms.readout.clone(), self.trial.arms.judge);
        alone.yardsticks.push(Duel { other: other.clone(), training: training.clone() });
        let of = |all: &[usize]| rows.iter().map(|&row| all[row]).collect::<Vec<_>>();
        let points = Points::new(
            of(self.points.indices()),
            select(self.points.images(), &rows),
            of(self.points.labels()),
        )?;
        let outcome = evaluate::run(&alone, &points, &self.trial.settings, &Quiet, None)?;
        let mut marks = self.marks.borrow_mut();
        for (&row, example) in rows.iter().zip(&outcome.result.examples) {
            let by = |arm: Arm| example.broken_in.get(arm).is_some();
            marks.insert((duel, row), (by(Arm::YardstickOther), by(Arm::YardstickTraining)));
        }
        Ok(())
    }
}

/// A run of an attack named as on the command line.
///
/// # Errors
///
/// If there is no such attack.
pub fn run_of<'a>(
    attack: &str,
    estimator: impl Into<String>,
    victim: &'a dyn WhiteBox,
) -> Result<Run<'a>, Error> {
    Ok(Run::new(attack_named(attack)?, estimator, victim))
}

/// The same for an attack that asks for logits alone.
///
/// # Errors
///
/// If there is no such attack.
pub fn gradient_free_run_of<'a>(attack: &str, victim: &'a dyn WhiteBox) -> Result<Run<'a>, Error> {
    Ok(Run::gradient_free(attack_named(attack)?, victim))
}

fn attack_named(name: &str) -> Result<Box<dyn Attack>, Error> {
    equipoise::attack::parse(name).map_err(|error| Error::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use equipoise::attack::{Budget, Norm};
    use equipoise::evaluate::Pair;
    use equipoise::victim::Victim;
    use equipoise_record::Verdict;

    use super::super::planted::{Origins, Turned};
    use super::super::victims::{Kind, Victims};
    use super::*;

    /// Work is not recounted.
    fn workless(mut verdict: Verdict) -> Verdict {
        let arms = &mut verdict.arms;
        for run in arms.ready_made.iter_mut().chain(&mut arms.white_box).chain(&mut arms.aimed) {
            (run.cell_evaluations, run.vjps) = (0, 0);
        }
        verdict
    }

    fn part(points: &Points, rows: &[usize]) -> Points {
        let of = |all: &[usize]| rows.iter().map(|&row| all[row]).collect::<Vec<_>>();
        Points::new(of(points.indices()), select(points.images(), rows), of(points.labels())).unwrap()
    }

    #[test]
    fn a_subset_has_the_verdict_of_a_run_of_its_own() {
        let victims = Victims::new(40, &Device::default()).unwrap();
        let points = victims.first(120).unwrap();
        let model = victims.model(Kind::Contractive, 0).unwrap();
        let deployment = Victims::deployment(Kind::Contractive);
        let truth = Victim::ready_made(&*model, &deployment);
        let origins = Origins::new(&points, 0.1);
        let turned = |draw| Turned::new(&truth, &origins, &points, 0.5, (1, draw));
        let (training, others) = (turned(0), [turned(1), turned(2), turned(3)]);
        let settings = Settings { budget: Budget::new(Norm::Linf, 0.1).unwrap(), seed: 5, batch_size: 64 };
        for candidates in [1, 3] {
            let trial = || {
                let run = |attack: &str, name: &str, victim| run_of(attack, name, victim).unwrap();
                let training: &dyn WhiteBox = &training;
                let mut trial = Trial { arms: Cascade::new("final", &truth), duels: Vec::new(), settings };
                trial.arms.opening.push(run("pgd-1", "training", training));
                for (j, other) in others.iter().enumerate() {
                    let white_box = run("pgd-2", &format!("draw {j}"), other).starting(j + 1);
                    let twin = Some(white_box.through("training", training));
                    let aimed = Some(white_box.through("aimed", &truth));
                    trial.arms.pairs.push(Pair { white_box, twin, aimed });
                }
                for (j, other) in others.iter().enumerate().take(candidates) {
                    let other = run("pgd-2x2", &format!("draw {j}"), other).starting(9);
                    let training = other.through("training", training);
                    trial.duels.push(Duel { other, training });
                }
                trial.arms.gradient_free.push(gradient_free_run_of("square-20", training).unwrap());
                trial
            };
            let trial_of_all = trial();
            let done = trial_of_all.run(&points).unwrap();
            let among: Vec<usize> = (0..candidates).collect();
            let mut broken = 0;
            for rows in [(0..120).collect(), (3..43).collect(), (50..120).step_by(3).collect::<Vec<usize>>()]
            {
                let found = workless(done.verdict(&rows, &among).unwrap());
                // The driver with everything in one cascade.
                let Trial { mut arms, duels, .. } = trial();
                arms.yardsticks = duels;
                let own = evaluate::run(&arms, &part(&points, &rows), &settings, &Quiet, None).unwrap();
                let mut own = workless(concluded(own.result));
                own.looks.clear();
                assert_eq!(found, own, "{candidates} candidates, {} rows", rows.len());
                broken += found.b.unwrap() + found.gradient_free_only + found.yardstick.unwrap().b;
            }
            assert!(broken > 0, "something is counted");
        }
    }
}
