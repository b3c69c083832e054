//! What an evaluation tries: an opening, pairs of runs that differ in their gradient alone, a yardstick, and
//! gradient-free runs.

use std::sync::Arc;

use equipoise_record::{Arm, NO_GRADIENT};

use super::error::EvaluateError;
use super::points::Points;
use crate::attack::{Attack, Budget, Classifier, WhiteBox};

/// One attack from one start through one gradient estimator.
#[derive(Clone)]
pub struct Run<'a> {
    /// The attack.
    pub attack: Arc<dyn Attack>,
    /// Which of the attack's starts; 0 is the first.
    pub start: usize,
    /// The gradient estimator behind `victim`, as it should stand in the record; `None` for a gradient-free attack.
    pub estimator: Option<String>,
    /// What the attack sees: the deployed readout's logits with the estimator's gradients.
    pub victim: &'a dyn WhiteBox,
    /// Work for a point that withstands it, in any unit that all runs share. Only a time limit asks for it.
    pub work: f64,
}

impl<'a> Run<'a> {
    /// The first start of an attack.
    pub fn new(
        attack: impl Into<Arc<dyn Attack>>,
        estimator: impl Into<String>,
        victim: &'a dyn WhiteBox,
    ) -> Self {
        Self { attack: attack.into(), start: 0, estimator: Some(estimator.into()), victim, work: 1.0 }
    }

    /// The first start of an attack that asks for logits alone.
    pub fn gradient_free(attack: impl Into<Arc<dyn Attack>>, victim: &'a dyn WhiteBox) -> Self {
        Self { attack: attack.into(), start: 0, estimator: None, victim, work: 1.0 }
    }

    /// Another start.
    pub fn starting(self, start: usize) -> Self {
        Self { start, ..self }
    }

    /// This run with another gradient: the same attack from the same start.
    pub fn through(&self, estimator: impl Into<String>, victim: &'a dyn WhiteBox) -> Self {
        Self { estimator: Some(estimator.into()), victim, ..self.clone() }
    }

    /// This run with the work that it takes for a point that withstands it.
    pub fn costing(self, work: f64) -> Self {
        Self { work, ..self }
    }

    /// `attack/estimator`.
    pub(super) fn label(&self) -> String {
        format!("{}/{}", self.attack.name(), self.estimator_name())
    }

    /// The name of the estimator as it stands in the record; [`NO_GRADIENT`] for a gradient-free attack.
    pub fn estimator_name(&self) -> &str {
        self.estimator.as_deref().unwrap_or(NO_GRADIENT)
    }
}

/// A run through another gradient, and what it is compared with.
pub struct Pair<'a> {
    /// The run through another gradient than the training gradient.
    pub white_box: Run<'a>,
    /// The twin: the same attack from the same start through the training gradient. Without it there is no control.
    pub twin: Option<Run<'a>>,
    /// The aimed run: the same attack from the same start through the training method pointed at the readout, where the
    /// training gradient is not.
    pub aimed: Option<Run<'a>>,
}

/// One gradient against one, with the same starts, on all points that are correct when clean.
pub struct Duel<'a> {
    /// Through another gradient.
    pub other: Run<'a>,
    /// Through the training gradient, pointed at the readout.
    pub training: Run<'a>,
}

/// Attacks on one readout.
pub struct Cascade<'a> {
    /// The readout's name in the record.
    pub readout: String,
    /// The deployed model: its forward pass decides what is broken.
    pub judge: &'a dyn Classifier,
    /// How often the judge is asked about an image, of which it must answer every time with the true class: 1, unless it
    /// draws random numbers and an attacker may try an image again.
    pub draws: usize,
    /// The ready-made attacks, through the training gradient, once each.
    pub opening: Vec<Run<'a>>,
    /// The arms, run by run.
    pub pairs: Vec<Pair<'a>>,
    /// The yardstick. Of several, the one whose gradient broke most in the white-box arm is measured, and its p-value is
    /// multiplied by their number.
    pub yardsticks: Vec<Duel<'a>>,
    /// Attacks without gradients, on what withstands everything else.
    pub gradient_free: Vec<Run<'a>>,
    /// Images that are not made against the judge, on what withstands even that: attacks on other victims, and images that were
    /// stored. What only they break is counted apart.
    pub transferred: Vec<Run<'a>>,
}

impl<'a> Cascade<'a> {
    /// Changes every run: of the opening, of both arms and the aimed one, of the yardstick and those without gradients or made elsewhere.
    pub fn each_run(&mut self, mut change: impl FnMut(&mut Run<'a>)) {
        let alone = self.opening.iter_mut().chain(&mut self.gradient_free).chain(&mut self.transferred);
        alone.for_each(&mut change);
        for Pair { white_box, twin, aimed } in &mut self.pairs {
            [Some(white_box), twin.as_mut(), aimed.as_mut()].into_iter().flatten().for_each(&mut change);
        }
        for Duel { training, other } in &mut self.yardsticks {
            [training, other].into_iter().for_each(&mut change);
        }
    }

    /// A cascade without attacks.
    pub fn new(readout: impl Into<String>, judge: &'a dyn Classifier) -> Self {
        Self {
            readout: readout.into(),
            judge,
            draws: 1,
            opening: Vec::new(),
            pairs: Vec::new(),
            yardsticks: Vec::new(),
            gradient_free: Vec::new(),
            transferred: Vec::new(),
        }
    }

    /// Ready-made attacks alone, in order: what a benchmark such as AutoAttack is.
    pub fn ready_made(readout: impl Into<String>, judge: &'a dyn Classifier, opening: Vec<Run<'a>>) -> Self {
        Self { opening, ..Self::new(readout, judge) }
    }

    /// All runs with their arms, numbered: opening, pair after pair, yardsticks, gradient-free, transferred.
    pub(super) fn runs(&self) -> Vec<(Arm, &Run<'a>)> {
        let mut runs: Vec<(Arm, &Run<'a>)> = self.opening.iter().map(|run| (Arm::Opening, run)).collect();
        for Pair { white_box, twin, aimed } in &self.pairs {
            runs.push((Arm::WhiteBox, white_box));
            runs.extend(twin.iter().map(|run| (Arm::ReadyMade, run)));
            runs.extend(aimed.iter().map(|run| (Arm::Aimed, run)));
        }
        for Duel { other, training } in &self.yardsticks {
            runs.extend([(Arm::YardstickOther, other), (Arm::YardstickTraining, training)]);
        }
        runs.extend(self.gradient_free.iter().map(|run| (Arm::GradientFree, run)));
        runs.extend(self.transferred.iter().map(|run| (Arm::Transferred, run)));
        runs
    }

    /// The stages in which they are run: those of a pair, or of a duel, belong together.
    pub(super) fn stages(&self) -> Vec<Stage> {
        let mut next = 0;
        let mut stage = |phase, length: usize| {
            next += length;
            Stage { phase, runs: (next - length..next).collect() }
        };
        let mut stages: Vec<Stage> = self.opening.iter().map(|_| stage(Phase::Opening, 1)).collect();
        for Pair { twin, aimed, .. } in &self.pairs {
            stages.push(stage(Phase::Pairs, 1 + usize::from(twin.is_some()) + usize::from(aimed.is_some())));
        }
        stages.extend(self.yardsticks.iter().map(|_| stage(Phase::Yardstick, 2)));
        stages.extend(self.gradient_free.iter().map(|_| stage(Phase::GradientFree, 1)));
        stages.extend(self.transferred.iter().map(|_| stage(Phase::Transferred, 1)));
        stages
    }

    /// Work for a point that withstands everything, in the unit of [`Run::work`]. Of several yardsticks one is measured.
    pub fn work(&self) -> f64 {
        let unmeasured = self.yardsticks.iter().skip(1).map(|duel| duel.other.work + duel.training.work);
        self.runs().iter().map(|(_, run)| run.work).sum::<f64>() - unmeasured.sum::<f64>()
    }

    /// Whether every run through another gradient has a twin, and there is an opening to begin with.
    pub fn has_control(&self) -> bool {
        !self.opening.is_empty()
            && !self.pairs.is_empty()
            && self.pairs.iter().all(|pair| pair.twin.is_some())
    }
}

/// The parts of an evaluation, in the order in which they are run without a time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    Pairs,
    Yardstick,
    GradientFree,
    Transferred,
}

/// Runs that meet the same points in the same breath.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    pub phase: Phase,
    /// Numbers of the runs.
    pub runs: Vec<usize>,
}

impl Stage {
    /// What it is called while it is run.
    pub fn label(&self, cascade: &Cascade<'_>) -> String {
        let runs = cascade.runs();
        let first = runs[self.runs[0]].1.label();
        match (self.phase, self.runs.len()) {
            (Phase::Opening | Phase::GradientFree, _) | (_, 1) => first,
            (Phase::Transferred, _) => format!("{first}, transferred"),
            (Phase::Yardstick, _) => {
                format!("yardstick {first} against {}", runs[self.runs[1]].1.estimator_name())
            }
            (Phase::Pairs, 2) => format!("{first} and its twin"),
            (Phase::Pairs, _) => format!("{first}, its twin and aimed"),
        }
    }
}

/// How to evaluate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The budget of the perturbations.
    pub budget: Budget,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Most examples in a batch. Changes speed and memory, not results.
    pub batch_size: usize,
}

/// What can be known to be wrong before anything is run.
pub(super) fn check(
    cascade: &Cascade<'_>,
    points: &Points,
    settings: &Settings,
) -> Result<(), EvaluateError> {
    if settings.batch_size == 0 {
        return Err(EvaluateError::BatchSize);
    }
    let classes = cascade.judge.classes();
    if let Some(row) = points.labels().iter().position(|&label| label >= classes) {
        return Err(EvaluateError::Label {
            index: points.indices()[row],
            label: points.labels()[row],
            classes,
        });
    }
    for (_, run) in cascade.runs() {
        run.attack.check(classes)?;
        run.attack.check_norm(settings.budget.norm())?;
    }
    // A run that draws no start would repeat the opening's, and so would a run that takes the opening's start.
    let no_start = |run: &&Run<'_>| run.start == 0 || !run.attack.draws_start();
    let in_arms = cascade.pairs.iter().filter(|pair| pair.twin.is_some()).map(|pair| &pair.white_box);
    match in_arms.clone().find(no_start) {
        Some(run) => Err(EvaluateError::NoStart { attack: run.label() }),
        None => Ok(()),
    }
}
