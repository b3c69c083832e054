//! Nulls: nothing is obfuscated, so that every finding of obfuscation is an error.
//!
//! (a) Both arms go through the training gradient, from starts of their own. (b) The solve has converged as far as
//! float32 goes, so that all estimators are the true gradient. (c) Every gradient is the true one turned by the same
//! angle, in directions that belong to the image and the gradient: equal quality, other directions. (d) Models that draw random
//! numbers, with the arms of (a) or (c) through the gradient of the mean, under each protocol.

use equipoise::assess::Protocol;
use equipoise::attack::{Budget, Classifier, Norm, WhiteBox};
use equipoise::batch::to_vec;
use equipoise::evaluate::{Cascade, Duel, Pair, Points, Settings};
use equipoise::gradient::{Estimator, parse_list};
use equipoise::loss::CrossEntropy;
use equipoise::victim::{Deployment, Victim};
use equipoise_record::Verdict;

use super::drawn::{Asked, Drawn};
use super::effort::Effort;
use super::model::Model;
use super::planted::{Origins, Turned};
use super::record::Row;
use super::trial::{Trial, gradient_free_run_of, run_of};
use super::victims::{Kind, Victims, readout};
use crate::error::{Error, input};

/// Starts of twins that are no twins: far from those of the runs.
const ELSEWHERE: usize = 1000;
/// The yardstick, as in the product.
const YARDSTICK: &str = "pgd-10x4";
/// Queries of the gradient-free run: enough to see masking, few enough to be made thousands of times.
const SQUARE: &str = "square-30";
/// Images in a batch: speed, not results.
const BATCH: usize = 512;

/// A null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Null {
    /// (a)
    SameGradient,
    /// (b)
    Converged,
    /// (c)
    EqualQuality {
        /// Between each gradient and the true one.
        cosine: f64,
        /// Gradients beside the training gradient.
        others: usize,
    },
    /// (d)
    Drawn {
        /// What is drawn.
        drawn: Drawn,
        /// What a verdict is.
        protocol: Protocol,
        /// Between each gradient and the true one; both arms go through the true one if there is none.
        cosine: Option<f64>,
    },
}

/// All of them.
pub const NULLS: [Null; 12] = [
    Null::SameGradient,
    Null::Converged,
    Null::EqualQuality { cosine: 0.8, others: 4 },
    Null::EqualQuality { cosine: 0.8, others: 20 },
    Null::EqualQuality { cosine: 0.95, others: 4 },
    Null::EqualQuality { cosine: 0.95, others: 20 },
    Null::Drawn { drawn: Drawn::States, protocol: Protocol::OneShot, cosine: None },
    Null::Drawn { drawn: Drawn::States, protocol: Protocol::AnyOf(10), cosine: None },
    Null::Drawn { drawn: Drawn::States, protocol: Protocol::OneShot, cosine: Some(0.8) },
    Null::Drawn { drawn: Drawn::Noise(0.2), protocol: Protocol::OneShot, cosine: None },
    Null::Drawn { drawn: Drawn::Noise(0.2), protocol: Protocol::AnyOf(10), cosine: None },
    Null::Drawn { drawn: Drawn::Noise(0.2), protocol: Protocol::OneShot, cosine: Some(0.8) },
];

/// The opening of all, and both arms of (a) and (b): so weak that starts differ in many points.
const WEAK: &str = "pgd-3";
/// Both arms of (c): so strong that directions differ, and starts next to nothing.
const STRONG: &str = "pgd-10";
/// Gradients beside the training gradient, of (d).
const DRAWN_OTHERS: usize = 4;
/// Pairs of (a).
const PAIRS: usize = 3;
/// Radius of the nulls.
const EPS: f64 = 0.2;

impl Null {
    /// Its letter.
    pub fn letter(&self) -> &'static str {
        match self {
            Self::SameGradient => "a",
            Self::Converged => "b",
            Self::EqualQuality { .. } => "c",
            Self::Drawn { .. } => "d",
        }
    }

    /// Its name in the record.
    pub fn name(&self) -> String {
        match self {
            Self::SameGradient => "(a) the training gradient from other starts".into(),
            Self::Converged => "(b) converged, other estimators".into(),
            Self::EqualQuality { cosine, others } => {
                format!("(c) equal quality, cosine {cosine}, {others} others")
            }
            Self::Drawn { drawn, protocol, cosine: None } => format!("(d) {drawn}, {protocol}, other starts"),
            Self::Drawn { drawn, protocol, cosine: Some(cosine) } => {
                format!("(d) {drawn}, {protocol}, equal quality, cosine {cosine}, {DRAWN_OTHERS} others")
            }
        }
    }

    /// Whether its verdicts must have discordant points, or it could not fail.
    pub fn must_differ(&self) -> bool {
        *self != Self::Converged
    }

    /// Subsets of 50 images of each evaluation.
    fn small(&self) -> usize {
        if *self == Self::Converged { 10 } else { 6 }
    }

    /// Evaluation seeds of each model.
    pub fn seeds(&self, effort: &Effort) -> u64 {
        match self {
            Self::Converged => effort.seeds_converged,
            _ => effort.seeds,
        }
    }

    /// All verdicts of one model and one evaluation seed.
    ///
    /// # Errors
    ///
    /// As of an evaluation.
    pub fn verdicts(
        &self,
        victims: &Victims,
        points: &Points,
        model: u64,
        seed: u64,
    ) -> Result<Vec<Row>, Error> {
        let settings =
            Settings { budget: Budget::new(Norm::Linf, EPS).map_err(input)?, seed, batch_size: BATCH };
        let (kind, small) =
            (if *self == Self::Converged { Kind::Tight } else { Kind::Contractive }, self.small());
        let (net, deployment) = (victims.model(kind, model)?, Victims::deployment(kind));
        // Verdicts on subsets with the yardstick fixed.
        let fixed = |trial: Trial<'_>| -> Result<Vec<(&'static str, Verdict)>, Error> {
            let done = trial.run(points)?;
            let subsets = subsets(points.len(), seed, small).into_iter();
            subsets.map(|subset| Ok(("fixed", done.verdict(&subset, &[0])?))).collect()
        };
        let found = match *self {
            Self::SameGradient => {
                let training = Victim::ready_made(&*net, &deployment);
                fixed(same_gradient(&training, &training, settings, 0)?)?
            }
            Self::Converged => {
                let training = Victim::ready_made(&*net, &deployment);
                let others: Vec<(String, Victim<'_>)> = parse_list(CONVERGED)
                    .map_err(input)?
                    .into_iter()
                    .map(|e| (e.to_string(), Victim::new(&*net, &deployment, readout(), e)))
                    .collect();
                let named =
                    others.iter().map(|(name, victim)| (name.clone(), victim as &dyn WhiteBox)).collect();
                fixed(against(
                    (&training, "exact"),
                    &training,
                    named,
                    settings,
                    (WEAK, &[Estimator::through_solver().to_string()]),
                )?)?
            }
            Self::EqualQuality { cosine, others } => {
                let (truth, asked) = (Estimator::exact(), Asked::plain(readout()));
                let truth = asked.victim(&net, &deployment, truth);
                equal_quality(&asked, (&*truth, &*truth), points, settings, (cosine, others))?
            }
            Self::Drawn { drawn, protocol, cosine } => {
                let asked = Asked::drawn(drawn, protocol);
                let truth = asked.victim(&net, &deployment, Estimator::truth(asked.readout()));
                let judge = asked.judge(&net, &deployment);
                match cosine {
                    None => fixed(asked.trial(same_gradient(&*truth, &*judge, settings, 0)?))?,
                    Some(cosine) => {
                        let arms = (&*truth, &*judge as &dyn Classifier);
                        equal_quality(&asked, arms, points, settings, (cosine, DRAWN_OTHERS))?
                    }
                }
            }
        };
        let row = |(yardstick, verdict)| Row::new(self.name(), yardstick, (model, seed, EPS), verdict);
        Ok(found.into_iter().map(row).collect())
    }
}

/// Draws of a gradient of this cosine with the true one: verdicts on subsets with the yardstick chosen, and fixed to one that is in
/// no arm.
fn equal_quality(
    asked: &Asked,
    (truth, judge): (&dyn WhiteBox, &dyn Classifier),
    points: &Points,
    settings: Settings,
    (cosine, others): (f64, usize),
) -> Result<Vec<(&'static str, Verdict)>, Error> {
    let (eps, seed) = (settings.budget.eps(), settings.seed);
    let origins = Origins::new(points, eps);
    // Draw 0 is the training gradient; the last belongs to no arm.
    let draws: Vec<Turned<'_>> =
        (0..others + 2).map(|draw| Turned::new(truth, &origins, points, cosine, (seed, draw))).collect();
    let named: Vec<(String, &dyn WhiteBox)> =
        (1..others + 2).map(|draw| (format!("draw {draw}"), &draws[draw] as &dyn WhiteBox)).collect();
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    let (in_arms, fixed) = named.split_at(others);
    let training = (&draws[0] as &dyn WhiteBox, "draw 0");
    let mut trial = against(training, judge, in_arms.to_vec(), settings, (STRONG, &names[..others]))?;
    let other = run_of(YARDSTICK, fixed[0].0.clone(), fixed[0].1)?.starting(ELSEWHERE);
    trial.duels.push(Duel { training: other.through("draw 0", &draws[0]), other });
    let trial = asked.trial(trial);
    let done = trial.run(points)?;
    let among: Vec<usize> = (0..others).collect();
    let small = Null::EqualQuality { cosine, others }.small();
    let mut verdicts = Vec::new();
    for subset in subsets(points.len(), seed, small) {
        verdicts.push(("chosen", done.verdict(&subset, &among)?));
        verdicts.push(("fixed", done.verdict(&subset, &[others])?));
    }
    Ok(verdicts)
}

/// Other estimators of a model whose solve has converged.
const CONVERGED: &str = "through-solver,unrolled:state=best,lead=1,steps=24,damping=1,adjoint:state=14";

/// The smallest cosine, over images and the estimators of (b), with the gradient through the solver.
///
/// # Errors
///
/// Never: the estimators are fixed.
pub fn least_cosine(model: &Model, deployment: &Deployment, points: &Points) -> Result<f64, Error> {
    let objective = CrossEntropy { labels: points.labels().to_vec() };
    let size: usize = points.images().dims()[1..].iter().product();
    let gradient = |estimator: Estimator| {
        let victim = Victim::new(model, deployment, readout(), estimator);
        to_vec(victim.value_and_gradient(points.images(), &objective).gradient)
    };
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let truth = gradient(Estimator::through_solver());
    let mut least = 1.0_f64;
    for estimator in parse_list(CONVERGED).map_err(input)?.into_iter().chain([Estimator::exact()]) {
        let found = gradient(estimator);
        for (a, b) in truth.chunks_exact(size).zip(found.chunks_exact(size)) {
            let lengths = (dot(a, a) * dot(b, b)).sqrt();
            if lengths > 0.0 {
                least = least.min(dot(a, b) / lengths);
            }
        }
    }
    Ok(least)
}

/// Both arms through one gradient. With `exchanged` 1 they exchange their starts.
fn same_gradient<'a>(
    training: &'a dyn WhiteBox,
    judge: &'a dyn Classifier,
    settings: Settings,
    exchanged: usize,
) -> Result<Trial<'a>, Error> {
    let mut trial = Trial { arms: Cascade::new("final", judge), duels: Vec::new(), settings };
    trial.arms.opening.push(run_of(WEAK, "training", training)?);
    for j in 1..=PAIRS + 1 {
        let starts = [j, ELSEWHERE + j];
        let (first, second) = (starts[exchanged], starts[1 - exchanged]);
        if j > PAIRS {
            let other = run_of(YARDSTICK, "training again", training)?;
            let (other, training) = (other.clone().starting(first), other.through("training", training));
            trial.duels.push(Duel { other, training: training.starting(second) });
            continue;
        }
        let white_box = run_of(WEAK, "training again", training)?.starting(first);
        let twin = Some(white_box.through("training", training).starting(second));
        trial.arms.pairs.push(Pair { white_box, twin, aimed: None });
    }
    trial.arms.gradient_free.push(gradient_free_run_of(SQUARE, training)?);
    Ok(trial)
}

/// The training gradient against others, run by run from the same starts, with a duel for each of some names.
fn against<'a>(
    (training, name): (&'a dyn WhiteBox, &str),
    judge: &'a dyn Classifier,
    others: Vec<(String, &'a dyn WhiteBox)>,
    settings: Settings,
    (attack, candidates): (&str, &[String]),
) -> Result<Trial<'a>, Error> {
    let mut trial = Trial { arms: Cascade::new("final", judge), duels: Vec::new(), settings };
    trial.arms.opening.push(run_of(WEAK, name, training)?);
    for (j, (other, victim)) in (1..).zip(&others) {
        let white_box = run_of(attack, other, *victim)?.starting(j);
        let twin = Some(white_box.through(name, training));
        trial.arms.pairs.push(Pair { white_box, twin, aimed: None });
    }
    for (candidate, victim) in others.iter().filter(|(other, _)| candidates.contains(other)) {
        let other = run_of(YARDSTICK, candidate, *victim)?.starting(others.len() + 1);
        trial.duels.push(Duel { training: other.through(name, training), other });
    }
    trial.arms.gradient_free.push(gradient_free_run_of(SQUARE, training)?);
    Ok(trial)
}

/// Disjoint subsets of each size: all images, 200 twice, 50 so many times, beginning elsewhere for each seed.
fn subsets(count: usize, seed: u64, small: usize) -> Vec<Vec<usize>> {
    let of = |n: usize, most: usize| {
        let many = (count / n).min(most);
        let from = move |k: usize| (seed as usize * 50 + k * n) % count;
        (0..many).map(move |k| (0..n).map(|row| (from(k) + row) % count).collect::<Vec<_>>())
    };
    let mut all = vec![(0..count).collect()];
    for (n, most) in [(200, 2), (50, small)] {
        all.extend(of(n, most).filter(|rows| rows.len() < count));
    }
    all
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn arms_of_one_gradient_are_exchangeable() {
        let victims = Victims::new(40, &Device::default()).unwrap();
        let points = victims.first(100).unwrap();
        let net = victims.model(Kind::Contractive, 0).unwrap();
        let deployment = Victims::deployment(Kind::Contractive);
        let training = Victim::ready_made(&*net, &deployment);
        let settings = Settings { budget: Budget::new(Norm::Linf, EPS).unwrap(), seed: 3, batch_size: 64 };
        let verdict = |exchanged| {
            let trial = same_gradient(&training, &training, settings, exchanged).unwrap();
            let done = trial.run(&points).unwrap();
            done.verdict(&(0..100).collect::<Vec<_>>(), &[0]).unwrap()
        };
        // Exchanging the starts exchanges the arms, to the last point.
        let (one, other) = (verdict(0), verdict(1));
        assert_eq!((one.b, one.c), (other.c, other.b));
        assert!(one.b.unwrap() + one.c.unwrap() > 0);
        let of = |verdict: &equipoise_record::Verdict| verdict.yardstick.clone().map(|y| (y.b, y.c)).unwrap();
        assert_eq!(of(&one), (of(&other).1, of(&other).0));
    }

    #[test]
    fn subsets_of_one_size_are_disjoint() {
        let all = subsets(500, 7, 4);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [500, 200, 200, 50, 50, 50, 50]);
        for pair in [&all[1..3], &all[3..5], &all[5..7]] {
            assert!(pair[0].iter().all(|row| !pair[1].contains(row)));
        }
        assert_eq!(subsets(100, 1, 4).iter().map(Vec::len).collect::<Vec<_>>(), [100, 50, 50]);
    }
}
