//! What the examples of a readout say, counted.

use std::collections::HashMap;

use crate::{Arm, BrokenIn, ReadoutResult};

/// Points broken in one of two arms only: in the first, in the second.
pub(super) type Discordant = (usize, usize);

/// The counts.
pub(super) struct Recount {
    /// All examples.
    pub n: usize,
    /// Correct when clean.
    pub clean: usize,
    /// Standing after the opening.
    pub opening: usize,
    /// Standing after the opening and the twins.
    pub ready_made: usize,
    /// Robust, as the examples have it.
    pub robust: usize,
    /// Correct when clean, not robust, and broken by no run that the record names: fallen to transferred images of an older record.
    pub transferred: usize,
    /// White-box arm against ready-made arm, of what stands after the opening.
    pub arms: Discordant,
    /// Aimed arm against ready-made arm, of the same points.
    pub aim: Discordant,
    /// White-box arm against aimed arm, of the same points.
    pub remainder: Discordant,
    /// The yardstick's other gradient against the training gradient, of the points that are correct when clean.
    pub yardstick: Discordant,
    /// Fallen to gradient-free runs and to nothing else.
    pub gradient_free_only: usize,
    /// Examples that name a run of an arm.
    named: HashMap<(Arm, usize), usize>,
    /// Correct when clean and broken by none of the runs up to each of `attacks`, in their order.
    pub standing_after: Vec<usize>,
}

impl Recount {
    pub fn of(readout: &ReadoutResult) -> Self {
        let correct = || readout.examples.iter().filter(|example| example.clean_correct);
        let broken = || correct().map(|example| &example.broken_in);
        let after_opening = || broken().filter(|broken| broken.opening.is_none());
        let discordant = |of: &dyn Fn(&BrokenIn) -> (bool, bool)| {
            let fates: Vec<_> = after_opening().map(of).collect();
            let only = |fate| fates.iter().filter(|&&other| other == fate).count();
            (only((true, false)), only((false, true)))
        };
        let yardstick = |fate: (bool, bool)| {
            broken().filter(|b| (b.yardstick_other.is_some(), b.yardstick_training.is_some()) == fate).count()
        };
        let mut named = HashMap::new();
        for run in broken().flat_map(runs_of) {
            *named.entry(run).or_default() += 1;
        }
        let clean = correct().count();
        Self {
            n: readout.examples.len(),
            clean,
            opening: after_opening().count(),
            ready_made: after_opening().filter(|broken| broken.ready_made.is_none()).count(),
            robust: readout.examples.iter().filter(|example| example.robust).count(),
            transferred: correct().filter(|e| !e.robust && e.broken_in.first().is_none()).count(),
            arms: discordant(&|b| (b.white_box.is_some(), b.ready_made.is_some())),
            aim: discordant(&|b| (b.aimed.is_some(), b.ready_made.is_some())),
            remainder: discordant(&|b| (b.white_box.is_some(), b.aimed.is_some())),
            yardstick: (yardstick((true, false)), yardstick((false, true))),
            gradient_free_only: broken()
                .filter(|broken| runs_of(broken).all(|(arm, _)| arm == Arm::GradientFree))
                .filter(|broken| broken.gradient_free.is_some())
                .count(),
            named,
            standing_after: standing_after(readout, clean),
        }
    }

    /// How many examples name this run.
    pub fn named(&self, arm: Arm, run: usize) -> usize {
        self.named.get(&(arm, run)).copied().unwrap_or(0)
    }
}

/// The runs that broke a point, one at most of each arm.
pub(super) fn runs_of(broken: &BrokenIn) -> impl Iterator<Item = (Arm, usize)> + use<> {
    let broken = *broken;
    Arm::ALL.into_iter().filter_map(move |arm| Some((arm, broken.get(arm)?)))
}

fn standing_after(readout: &ReadoutResult, clean: usize) -> Vec<usize> {
    let places: HashMap<(Arm, usize), usize> =
        readout.attacks.iter().enumerate().map(|(place, run)| ((run.arm, run.run), place)).collect();
    let mut falls = vec![0; readout.attacks.len()];
    for example in readout.examples.iter().filter(|example| example.clean_correct) {
        let places = runs_of(&example.broken_in).filter_map(|run| places.get(&run));
        if let Some(&first) = places.min() {
            falls[first] += 1;
        }
    }
    let mut standing = clean;
    falls
        .iter()
        .map(|fallen| {
            standing -= fallen;
            standing
        })
        .collect()
}
