//! Planted faults of known size, and healthy models: how often the verdict says so.

use equipoise::assess::Protocol;
use equipoise::attack::{Budget, Classifier, Norm, WhiteBox};
use equipoise::evaluate::{Cascade, Duel, Pair, Points, Settings};
use equipoise::gradient::Estimator;
use equipoise::readout::{Readout, Tail};
use equipoise::solve::{SolverConfig, StateChoice};
use equipoise::victim::Deployment;

use super::drawn::{Asked, Drawn};
use super::planted::{Origins, Rounded, Turned};
use super::record::Row;
use super::trial::{Trial, gradient_free_run_of, run_of};
use super::victims::{Kind, Victims};
use crate::error::{Error, input};

/// What is wrong, if anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nothing.
    Healthy,
    /// The answer is read early on a model whose residual is large; the training gradient is that of the end.
    Early(usize),
    /// The backward equation is solved with one step.
    OneStep,
    /// The training gradient is turned to this cosine.
    Turned(f64),
    /// Inputs are rounded to this many steps on the way in.
    Rounded(usize),
    /// The training gradient of a model that draws random numbers is turned to this cosine.
    Drawn(Drawn, f64),
}

/// All planted faults, each with the radii at which it is evaluated.
pub const FAULTS: [(Fault, &[f64]); 14] = [
    (Fault::Early(1), &[0.06, 0.1]),
    (Fault::Early(2), &[0.06, 0.1]),
    (Fault::Early(3), &[0.06, 0.1]),
    (Fault::OneStep, &[0.06, 0.1]),
    (Fault::Turned(0.95), &[0.15]),
    (Fault::Turned(0.9), &[0.1, 0.15]),
    (Fault::Turned(0.8), &[0.06, 0.1, 0.15]),
    (Fault::Turned(0.7), &[0.06, 0.1]),
    (Fault::Turned(0.6), &[0.06, 0.1]),
    (Fault::Turned(0.4), &[0.06]),
    (Fault::Rounded(8), &[0.06, 0.1]),
    (Fault::Rounded(16), &[0.06]),
    (Fault::Drawn(Drawn::States, 0.6), &[0.06, 0.1]),
    (Fault::Drawn(Drawn::Noise(0.2), 0.6), &[0.06, 0.1]),
];

impl Fault {
    /// Its name in the record.
    pub fn name(&self) -> String {
        match self {
            Self::Healthy => "healthy".into(),
            Self::Early(t) => format!("early({t}), large residual"),
            Self::OneStep => "backward solver of one step".into(),
            Self::Turned(cosine) => format!("training gradient at cosine {cosine}"),
            Self::Rounded(steps) => format!("inputs rounded to {steps} steps"),
            Self::Drawn(drawn, cosine) => format!("{drawn}, training gradient at cosine {cosine}"),
        }
    }

    /// The model that has it.
    fn kind(&self) -> Kind {
        match self {
            Self::Early(_) | Self::OneStep => Kind::Loose,
            _ => Kind::Contractive,
        }
    }

    /// How the model answers and is attacked.
    fn asked(&self) -> Asked {
        match self {
            Self::Early(t) => Asked::plain(Readout::early(*t)),
            Self::Drawn(drawn, _) => Asked::drawn(*drawn, Protocol::OneShot),
            _ => Asked::plain(Readout::final_state()),
        }
    }

    /// The gradient that was trained with: behind a drawn state, that of the mean, before it is turned.
    fn training(&self) -> Estimator {
        if let Self::Drawn(..) = self { Estimator::through_solver() } else { Estimator::exact() }
    }

    /// All verdicts of one model, evaluation seed and radius.
    ///
    /// # Errors
    ///
    /// As of an evaluation.
    pub fn verdicts(
        &self,
        victims: &Victims,
        points: &Points,
        (model, seed, eps): (u64, u64, f64),
    ) -> Result<Vec<Row>, Error> {
        let settings =
            Settings { budget: Budget::new(Norm::Linf, eps).map_err(input)?, seed, batch_size: 512 };
        let net = victims.model(self.kind(), model)?;
        let mut deployment = Victims::deployment(self.kind());
        if *self == Self::OneStep {
            deployment.backward = SolverConfig::broyden(1);
        }
        let asked = self.asked();
        let judge = asked.judge(&net, &deployment);
        let victim = |estimator: Estimator| asked.victim(&net, &deployment, estimator);
        let (training, truth) = (victim(self.training()), victim(Estimator::through_solver()));
        let others: Vec<(String, Box<dyn WhiteBox + '_>)> =
            self.others(&deployment).into_iter().map(|e| (e.to_string(), victim(e))).collect();
        let mut others: Vec<(String, &dyn WhiteBox)> =
            others.iter().map(|(name, other)| (name.clone(), &**other)).collect();
        let aim = victim(Estimator::aimed(Estimator::exact()).expect("exact reads one state"));
        let origins = Origins::new(points, eps);
        let turned = match self {
            Self::Turned(cosine) | Self::Drawn(_, cosine) => {
                Some(Turned::new(&*truth, &origins, points, *cosine, (seed, 0)))
            }
            _ => None,
        };
        let rounded = match self {
            Self::Rounded(steps) => Some(Rounded { inner: &*truth, steps: *steps as f64 }),
            _ => None,
        };
        let mut seen: &dyn WhiteBox = &*training;
        let mut aimed: Option<&dyn WhiteBox> = matches!(self, Self::Early(_)).then_some(&*aim);
        if let Some(turned) = &turned {
            seen = turned;
        }
        if let Some(rounded) = &rounded {
            // Every estimator differentiates the rounding, whose derivative is zero.
            (seen, aimed) = (rounded, None);
            others.iter_mut().for_each(|(_, other)| *other = rounded);
        }
        // What is rounded on the way in answers by rounded inputs.
        let judge: &dyn Classifier = rounded.as_ref().map_or(&*judge, |rounded| rounded);
        let readout = asked.readout().to_string();
        let mut trial = Trial { arms: Cascade::new(readout, judge), duels: Vec::new(), settings };
        for attack in self.attacks() {
            trial.arms.opening.push(run_of(attack, "training", seen)?);
            for (name, other) in &others {
                let white_box = run_of(attack, name, *other)?.starting(trial.arms.pairs.len() + 1);
                let twin = Some(white_box.through("training", seen));
                let aimed = aimed.map(|aimed| white_box.through("aimed", aimed));
                trial.arms.pairs.push(Pair { white_box, twin, aimed });
            }
        }
        let (name, other) = &others[0];
        let other = run_of("pgd-10x4", name, *other)?.starting(trial.arms.pairs.len() + 1);
        let pointed = aimed.map_or(other.through("training", seen), |aimed| other.through("aimed", aimed));
        trial.duels.push(Duel { training: pointed, other });
        trial.arms.gradient_free.push(gradient_free_run_of(self.gradient_free(), seen)?);
        let trial = asked.trial(trial);
        let done = trial.run(points)?;
        let mut rows = Vec::new();
        let n = points.len();
        let whole = done.verdict(&(0..n).collect::<Vec<_>>(), &[0])?;
        let sizes: &[usize] =
            if *self == Self::Healthy { &[500, 200, 150, 100] } else { &[1000, 500, 200, 100] };
        for &size in sizes {
            for k in 0..n / size {
                let subset: Vec<usize> = (k * size..(k + 1) * size).collect();
                let row = Row::new(self.name(), "fixed", (model, seed, eps), done.verdict(&subset, &[0])?);
                rows.push(row.of_whole(&whole));
            }
        }
        Ok(rows)
    }

    /// The attack without gradients: with queries enough where it alone can tell.
    fn gradient_free(&self) -> &'static str {
        if matches!(self, Self::Healthy | Self::Rounded(_)) { "square-300" } else { "square-50" }
    }

    /// Attacks of the opening and of each pair.
    fn attacks(&self) -> &'static [&'static str] {
        if *self == Self::Healthy { &["pgd-10", "apgd-ce-10"] } else { &["pgd-10"] }
    }

    /// Gradients beside the training gradient, the true one first.
    fn others(&self, deployment: &Deployment) -> Vec<Estimator> {
        let steps = deployment.solver.steps;
        let at = StateChoice::At(if let Self::Early(t) = self { *t } else { steps });
        let (state, tail) = match self {
            Self::Early(_) => (at, Tail { steps: 0, ..Tail::EXACT }),
            _ => (StateChoice::Best, Tail { steps: 9, ..Tail::EXACT }),
        };
        vec![Estimator::through_solver(), Estimator::unrolled(state, tail), Estimator::adjoint(at, 1.0)]
    }
}
