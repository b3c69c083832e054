//! Checks that need the model: small experiments on it whose outcome is known where gradients
//! can be trusted.
//!
//! | flag | what is done, on the first so many points classified correctly | raised when |
//! |---|---|---|
//! | `zero-or-non-finite-gradients` | ready-made gradient of the cross-entropy at the unperturbed image | all entries are 0, or one is not finite, for more than 5% of the points |
//! | `loss-not-monotone-in-eps` | mean cross-entropy after ready-made PGD-10 at ε/2, ε, 2ε and 4ε (L∞: at most 1) | it falls by more than 5% from one to the next |
//! | `survives-unbounded-budget` | ready-made PGD-50 within a ball that holds all images: ε = 1 for L∞, √(CHW) for L2 | a point survives |
//! | `residual-inflated-by-attack` | median of the best relative residual on unperturbed and on attacked images | the second is more than twice the first |
//!
//! The attacked images are those that the evaluation found, or its last try. The last needs a solver. Points come in the
//! order of the data set, random numbers are keyed, so that neither batch size nor threads matter. How often each is
//! raised for healthy models and for its own planted fault stands in `docs/calibration.md`; what a change of the solver's
//! steps does is no check but a figure of the diagnosis, since images made for T steps need not transfer to others.

use equipoise_record::{Evidence, Flag};

use crate::attack::{
    Apgd, ApgdConfig, ApgdError, Attack, Budget, BudgetError, Norm, Pgd, PgdConfig, PgdError, Question,
    WhiteBox,
};
use crate::batch::{Images, select, to_vec};
use crate::evaluate::{Observer, Outcome, Points, Settings, Stopping};
use crate::loss::{CrossEntropy, Objective};
use crate::plan::Subject;
use crate::random::Key;
use crate::solve::StopReason;
use crate::victim::Victim;

/// Why checks were not finished.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The observer asked to stop.
    #[error("stopped before the checks for obfuscation were done")]
    Cancelled,
    /// The attack was refused.
    #[error(transparent)]
    Attack(#[from] PgdError),
    /// The attack was refused.
    #[error(transparent)]
    Apgd(#[from] ApgdError),
    /// The budget was refused.
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

/// Largest share of points with unusable gradients.
const UNUSABLE: f64 = 0.05;
/// Largest relative fall of the mean loss from one ε to the next.
const FALL: f64 = 0.05;
/// Largest ratio of residuals.
const INFLATION: f64 = 2.0;

/// The attack of so many steps that the experiments are made with: PGD, or APGD-CE in L1 balls, where PGD does not search.
fn searching(norm: Norm, steps: usize, keep_first: bool) -> Result<Box<dyn Attack>, CheckError> {
    Ok(match norm {
        Norm::Linf | Norm::L2 => Box::new(Pgd::new(PgdConfig { steps, keep_first, ..PgdConfig::default() })?),
        Norm::L1 => {
            Box::new(Apgd::new(ApgdConfig { iterations: steps, keep_first, ..ApgdConfig::default() })?)
        }
    })
}

/// Makes all experiments that the model admits, on the first `count` points that it classifies correctly. Without such
/// points there are none.
///
/// # Errors
///
/// [`CheckError::Cancelled`] if the observer asks to stop.
pub fn of_model(
    subject: &Subject<'_>,
    points: &Points,
    outcome: &Outcome,
    settings: &Settings,
    count: usize,
    observer: &dyn Observer,
) -> Result<Vec<Flag>, CheckError> {
    let Subject { model, deployment, ref readout, .. } = *subject;
    let training = || deployment.training_gradient.clone();
    let victim = model.victim(deployment, readout.clone(), training());
    let Some(model) = model.equilibrium() else {
        return of_victim(&*victim, None, points, outcome, settings, count, observer);
    };
    let solved = Victim::new(model, deployment, readout.clone(), training());
    let residuals = |images: &Images| {
        let trajectory = solved.forward(images, deployment.solver.steps).trajectory;
        let best = trajectory.best().iter().zip(trajectory.relative_residuals());
        let residuals: Vec<f64> = best.map(|(&best, series)| series[best - 1]).collect();
        let converged = trajectory.stop_reasons().iter().map(|&stop| stop == StopReason::Converged);
        residuals.into_iter().zip(converged).collect()
    };
    of_victim(&*victim, Some(&residuals), points, outcome, settings, count, observer)
}

/// For each image its best relative residual, and whether its solve converged.
pub type Residuals<'a> = dyn Fn(&Images) -> Vec<(f64, bool)> + 'a;

/// The same for any white box, which is taken for the ready-made one; with `residuals` where it has a solver.
///
/// # Errors
///
/// As for [`of_model`].
pub fn of_victim(
    victim: &dyn WhiteBox,
    residuals: Option<&Residuals<'_>>,
    points: &Points,
    outcome: &Outcome,
    settings: &Settings,
    count: usize,
    observer: &dyn Observer,
) -> Result<Vec<Flag>, CheckError> {
    let correct = outcome.result.examples.iter().enumerate().filter(|(_, example)| example.clean_correct);
    let rows: Vec<usize> = correct.map(|(row, _)| row).take(count).collect();
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let adversarial = &outcome.adversarial;
    let bench = Bench { points, adversarial, settings, rows: &rows, observer, victim };
    observer.stage("checks", (3 + usize::from(residuals.is_some())) * rows.len());
    let mut flags = vec![bench.gradients()?, bench.loss_by_eps()?, bench.unbounded()?];
    if let Some(measure) = residuals {
        flags.push(bench.residuals(measure)?);
    }
    Ok(flags)
}

/// The points under examination.
struct Bench<'a> {
    points: &'a Points,
    adversarial: &'a Images,
    settings: &'a Settings,
    rows: &'a [usize],
    observer: &'a dyn Observer,
    victim: &'a dyn WhiteBox,
}

impl Bench<'_> {
    /// Something of each point, batch by batch.
    fn each<T>(&self, of: impl Fn(&[usize]) -> Result<Vec<T>, CheckError>) -> Result<Vec<T>, CheckError> {
        let mut all = Vec::with_capacity(self.rows.len());
        for rows in self.rows.chunks(self.settings.batch_size) {
            if self.observer.cancelled() {
                return Err(CheckError::Cancelled);
            }
            all.extend(of(rows)?);
            self.observer.advance(rows.len(), "");
        }
        Ok(all)
    }

    /// What an attack through the training gradient makes of some points.
    fn attacked(&self, attack: &dyn Attack, budget: &Budget, batch: &Points) -> Result<Images, CheckError> {
        let examples = batch.examples(self.settings.seed, 0);
        let progress = Stopping::new(self.observer);
        let attempt = attack.run_with(self.victim, &examples, budget, &progress);
        if progress.stopped() { Err(CheckError::Cancelled) } else { Ok(attempt.images) }
    }

    fn keys(&self, batch: &Points) -> Vec<Key> {
        batch.keys(self.settings.seed, "checks")
    }

    fn gradients(&self) -> Result<Flag, CheckError> {
        let name = "zero-or-non-finite-gradients";
        let found = self.each(|rows| {
            let batch = self.points.select(rows);
            let size = batch.images().dims()[1..].iter().product::<usize>().max(1);
            let objective = CrossEntropy { labels: batch.labels().to_vec() };
            let question = Question { images: batch.images(), keys: &self.keys(&batch) };
            let gradient = to_vec(self.victim.differentiate(&question, &objective).gradient);
            let kinds = gradient.chunks(size).map(|entries| {
                let finite = entries.iter().all(|entry| entry.is_finite());
                (finite && entries.iter().all(|&entry| entry == 0.0), !finite)
            });
            Ok(kinds.collect())
        })?;
        let n = found.len();
        let zero = found.iter().filter(|(zero, _)| *zero).count();
        let wild = found.iter().filter(|(_, wild)| *wild).count();
        Ok(Flag {
            name: name.to_owned(),
            raised: (zero + wild) as f64 > UNUSABLE * n as f64,
            statement: format!(
                "the ready-made gradient at the unperturbed image is zero for {zero} of {n} points and not finite for \
                 {wild}"
            ),
            evidence: vec![
                evidence("points examined", n as f64),
                evidence("points with a gradient of zero", zero as f64),
                evidence("points with a gradient that is not finite", wild as f64),
            ],
        })
    }

    fn loss_by_eps(&self) -> Result<Flag, CheckError> {
        let name = "loss-not-monotone-in-eps";
        let given = self.settings.budget;
        let attack = searching(given.norm(), 10, false)?;
        let most = if given.norm() == Norm::Linf { 1.0 } else { f64::INFINITY };
        let mut radii: Vec<f64> =
            [0.5, 1.0, 2.0, 4.0].iter().map(|times| (times * given.eps()).min(most)).collect();
        radii.dedup();
        let budgets: Vec<Budget> =
            radii.iter().map(|&eps| Budget::new(given.norm(), eps)).collect::<Result<_, _>>()?;
        let losses = self.each(|rows| {
            let batch = self.points.select(rows);
            let objective = CrossEntropy { labels: batch.labels().to_vec() };
            let mut by_point = vec![Vec::with_capacity(radii.len()); rows.len()];
            for budget in &budgets {
                let attacked = self.attacked(attack.as_ref(), budget, &batch)?;
                let question = Question { images: &attacked, keys: &self.keys(&batch) };
                let losses = to_vec(objective.values(self.victim.answer(&question)));
                by_point.iter_mut().zip(losses).for_each(|(row, loss)| row.push(f64::from(loss)));
            }
            Ok(by_point)
        })?;
        let mean = |k: usize| losses.iter().map(|row| row[k]).sum::<f64>() / losses.len() as f64;
        let means: Vec<f64> = (0..radii.len()).map(mean).collect();
        let falls = means.windows(2).filter(|pair| pair[1] < (1.0 - FALL) * pair[0]).count();
        let said: Vec<String> =
            radii.iter().zip(&means).map(|(eps, mean)| format!("{mean:.3} at {eps:.4}")).collect();
        Ok(Flag {
            name: name.to_owned(),
            raised: falls > 0,
            statement: format!(
                "the mean cross-entropy of {} points after ready-made {} is {} (eps)",
                losses.len(),
                attack.name().to_uppercase(),
                said.join(", ")
            ),
            evidence: radii
                .iter()
                .zip(&means)
                .map(|(eps, &mean)| evidence(&format!("mean cross-entropy at eps = {eps:.4}"), mean))
                .collect(),
        })
    }

    fn unbounded(&self) -> Result<Flag, CheckError> {
        let name = "survives-unbounded-budget";
        let pixels: usize = self.points.images().dims()[1..].iter().product();
        let norm = self.settings.budget.norm();
        let attack = searching(norm, 50, true)?;
        let budget = Budget::new(norm, norm.farthest(pixels))?;
        let survives = self.each(|rows| {
            let batch = self.points.select(rows);
            let attacked = self.attacked(attack.as_ref(), &budget, &batch)?;
            Ok(batch.correct(&self.victim.logits(&attacked)))
        })?;
        let (n, survivors) = (survives.len(), survives.iter().filter(|&&survives| survives).count());
        Ok(Flag {
            name: name.to_owned(),
            raised: survivors > 0,
            statement: format!(
                "{survivors} of {n} points survive ready-made {} within {budget}, which holds all images",
                attack.name().to_uppercase()
            ),
            evidence: vec![
                evidence("points attacked", n as f64),
                evidence("points that survive", survivors as f64),
            ],
        })
    }

    /// `measure` gives each image's best relative residual, and whether its solve converged.
    fn residuals(&self, measure: &Residuals<'_>) -> Result<Flag, CheckError> {
        let name = "residual-inflated-by-attack";
        let found = self.each(|rows| {
            let [clean, attacked] =
                [self.points.images(), self.adversarial].map(|images| measure(&select(images, rows)));
            Ok(clean.into_iter().zip(attacked).collect())
        })?;
        let (clean, attacked): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let converged = |of: &[(f64, bool)]| {
            of.iter().filter(|(_, converged)| *converged).count() as f64 / of.len() as f64
        };
        let (before, after) = (median(&clean), median(&attacked));
        let (settled, unsettled) = (converged(&clean), converged(&attacked));
        Ok(Flag {
            name: name.to_owned(),
            raised: after > INFLATION * before || (before.is_finite() && !after.is_finite()),
            statement: format!(
                "the median relative residual of {} points is {before:.2e} on unperturbed and {after:.2e} on attacked \
                 images; {:.1}% and {:.1}% of their solves converge",
                clean.len(),
                100.0 * settled,
                100.0 * unsettled
            ),
            evidence: vec![
                evidence("median relative residual on unperturbed images", before),
                evidence("median relative residual on attacked images", after),
                evidence("share of solves that converge on unperturbed images", settled),
                evidence("share of solves that converge on attacked images", unsettled),
            ],
        })
    }
}

/// The upper median of the residuals; one that is not a number is the largest.
fn median(of: &[(f64, bool)]) -> f64 {
    let mut residuals: Vec<f64> =
        of.iter().map(|&(residual, _)| if residual.is_nan() { f64::INFINITY } else { residual }).collect();
    residuals.sort_by(f64::total_cmp);
    residuals[residuals.len() / 2]
}

fn evidence(name: &str, value: f64) -> Evidence {
    Evidence { name: name.to_owned(), value: value.is_finite().then_some(value) }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::architecture::Architecture;
    use crate::architecture::Model;
    use crate::batch::{from_vec, predictions};
    use crate::evaluate::{Cascade, Quiet, Run, run};
    use crate::readout::Readout;
    use crate::victim::Deployment;

    /// An untrained model, and points labelled as it sees them.
    fn setting() -> (Box<dyn Model>, Points) {
        let network = Architecture::named("mdeq-digits").unwrap().init(3, &Device::default()).unwrap();
        let pixels = (0..12 * 64).map(|k| ((k * 37 + k / 64 * 11) % 97) as f32 / 96.0).collect();
        let images = from_vec(pixels, [12, 1, 8, 8], &Device::default());
        let deployment = Deployment::exact();
        let victim =
            network.victim(&deployment, Readout::final_state(), deployment.training_gradient.clone());
        let labels =
            predictions(&victim.logits(&images)).into_iter().map(|class| class.unwrap_or(0)).collect();
        drop(victim);
        (network, Points::new((0..12).collect(), images, labels).unwrap())
    }

    fn found(readout: Readout, eps: f64, batch_size: usize, count: usize) -> Vec<Flag> {
        let (network, points) = setting();
        let deployment = Deployment::exact();
        let victim = network.victim(&deployment, readout.clone(), deployment.training_gradient.clone());
        let settings = Settings { budget: Budget::new(Norm::Linf, eps).unwrap(), seed: 1, batch_size };
        let attack = crate::attack::parse("pgd-2").unwrap();
        let opening = vec![Run::new(attack, "exact", &*victim)];
        let cascade = Cascade::ready_made(readout.to_string(), &*victim, opening);
        let outcome = run(&cascade, &points, &settings, &Quiet, None).unwrap();
        let subject =
            Subject { model: &*network, deployment: &deployment, readout, classes: 10, norm: Norm::Linf };
        of_model(&subject, &points, &outcome, &settings, count, &Quiet).unwrap()
    }

    fn value(flag: &Flag, name: &str) -> f64 {
        let found = flag.evidence.iter().find(|evidence| evidence.name == name);
        found.and_then(|evidence| evidence.value).unwrap_or_else(|| panic!("no {name} in {flag:?}"))
    }

    #[test]
    fn neither_batches_nor_names_change() {
        let flags = found(Readout::final_state(), 0.05, 12, 8);
        assert_eq!(flags, found(Readout::final_state(), 0.05, 3, 8));
        let names: Vec<&str> = flags.iter().map(|flag| flag.name.as_str()).collect();
        let expected = [
            "zero-or-non-finite-gradients",
            "loss-not-monotone-in-eps",
            "survives-unbounded-budget",
            "residual-inflated-by-attack",
        ];
        assert_eq!(names, expected);
        assert_eq!(value(&flags[0], "points examined"), 8.0);
        assert!(value(&flags[3], "median relative residual on unperturbed images") > 0.0);
    }

    #[test]
    fn without_a_perturbation_nothing_moves() {
        let flags = found(Readout::final_state(), 0.0, 12, 12);
        let losses: Vec<f64> = flags[1].evidence.iter().filter_map(|evidence| evidence.value).collect();
        // All budgets are one.
        assert_eq!((losses.len(), flags[1].raised), (1, false));
        let [clean, attacked] = ["unperturbed", "attacked"]
            .map(|kind| value(&flags[3], &format!("median relative residual on {kind} images")));
        assert_eq!((clean, flags[3].raised), (attacked, false));
    }

    #[test]
    fn without_correct_points_there_are_no_checks() {
        assert_eq!(found(Readout::early(3), 0.05, 12, 4).len(), 4);
        assert!(found(Readout::final_state(), 0.05, 12, 0).is_empty());
    }

    #[test]
    fn gradients_that_vanish_are_seen() {
        // A classifier so loud that its softmax is 1 to the last bit has no cross-entropy gradient.
        let (network, points) = setting();
        struct Loud<'a>(&'a dyn WhiteBox);
        impl crate::attack::Classifier for Loud<'_> {
            fn classes(&self) -> usize {
                self.0.classes()
            }
            fn answer(&self, question: &Question<'_>) -> crate::batch::Logits {
                self.0.answer(question) * 1e9
            }
        }
        impl WhiteBox for Loud<'_> {
            fn differentiate(
                &self,
                question: &Question<'_>,
                _: &dyn Objective,
            ) -> crate::attack::ValueAndGradient {
                let logits = crate::attack::Classifier::answer(self, question);
                let values = logits.clone().sum_dim(1).flatten(0, 1) * 0.0;
                crate::attack::ValueAndGradient { logits, values, gradient: question.images.zeros_like() }
            }
        }
        let deployment = Deployment::exact();
        let victim =
            network.victim(&deployment, Readout::final_state(), deployment.training_gradient.clone());
        let settings = Settings { budget: Budget::new(Norm::Linf, 1e-9).unwrap(), seed: 1, batch_size: 5 };
        let rows: Vec<usize> = (0..12).collect();
        let bench = Bench {
            points: &points,
            adversarial: points.images(),
            settings: &settings,
            rows: &rows,
            observer: &Quiet,
            victim: &Loud(&*victim),
        };
        let flag = bench.gradients().unwrap();
        assert!(flag.raised, "{flag:?}");
        assert_eq!(value(&flag, "points with a gradient of zero"), 12.0);
        let unbounded = bench.unbounded().unwrap();
        assert_eq!(unbounded.raised, value(&unbounded, "points that survive") > 0.0);
    }
}
