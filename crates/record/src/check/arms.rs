//! The arms of a verdict: points met, broken and standing along each, and where they end.

use super::verdict::Scene;
use super::{Contradiction, shown};
use crate::{Arm, ArmRun, ReadoutResult, Verdict};

/// The lists of runs, with their arms and keys.
pub(super) fn lists(verdict: &Verdict) -> [(Arm, &'static str, &[ArmRun]); 3] {
    let arms = &verdict.arms;
    [
        (Arm::WhiteBox, "white_box", &arms.white_box),
        (Arm::ReadyMade, "ready_made", &arms.ready_made),
        (Arm::Aimed, "aimed", &arms.aimed),
    ]
}

/// Whether the runs of the arms are those in the list of all runs.
pub(super) fn same_as_runs(scene: &Scene<'_>, readout: &ReadoutResult) -> Result<(), Contradiction> {
    for (arm, name, runs) in lists(&readout.verdict) {
        for (at, run) in runs.iter().enumerate() {
            let known = readout.attacks.iter().find(|attack| attack.arm == arm && attack.run == at);
            let field = |key: &str| format!("arms.{name}[{at}].{key}");
            let Some(known) = known else {
                let follows = format!("attacks has no run {at} of arm {}", arm.name());
                return Err(scene.refuse(&format!("arms.{name}"), format!("{} runs", runs.len()), follows));
            };
            for (key, here, there) in
                [("attack", &run.attack, &known.name), ("estimator", &run.estimator, &known.estimator)]
            {
                if here != there {
                    return Err(scene.refuse(&field(key), here, format!("attacks has {there} there")));
                }
            }
            for (key, here, there) in [
                ("start", run.start as u64, known.start as u64),
                ("attempted", run.attempted as u64, known.attempted as u64),
                ("broken", run.broken as u64, known.broken as u64),
                ("carried", run.carried as u64, known.carried as u64),
                ("cell_evaluations", run.cell_evaluations, known.cell_evaluations),
                ("vjps", run.vjps, known.vjps),
            ] {
                if here != there {
                    return Err(scene.refuse(&field(key), here, format!("attacks has {there} there")));
                }
            }
        }
    }
    Ok(())
}

/// At the smallest radius nothing is carried over.
pub(super) fn nothing_carried(scene: &Scene<'_>, verdict: &Verdict) -> Result<(), Contradiction> {
    for (_, name, runs) in lists(verdict) {
        if let Some((at, run)) = runs.iter().enumerate().find(|(_, run)| run.carried > 0) {
            let field = format!("arms.{name}[{at}].carried");
            return Err(scene.refuse(&field, run.carried, "there is no smaller radius".to_owned()));
        }
    }
    Ok(())
}

impl Scene<'_> {
    /// What follows for the arms without examples.
    pub(super) fn arms(&self, verdict: &Verdict) -> Result<(), Contradiction> {
        for (_, name, runs) in lists(verdict) {
            self.arm(name, runs)?;
        }
        self.between_arms(verdict)?;
        self.flattened(verdict)
    }

    /// Points met, broken and standing along one arm.
    fn arm(&self, name: &str, runs: &[ArmRun]) -> Result<(), Contradiction> {
        let mut standing = self.begin;
        for (at, run) in runs.iter().enumerate() {
            let field = |key: &str| format!("arms.{name}[{at}].{key}");
            if run.attempted > standing {
                let follows = format!("{standing} points stand in the arm before it");
                return Err(self.refuse(&field("attempted"), run.attempted, follows));
            }
            if run.broken > run.attempted {
                let follows = format!("the run met {}", run.attempted);
                return Err(self.refuse(&field("broken"), run.broken, follows));
            }
            // What is carried over may fall here or from the start, and may not stand after the opening.
            let most = standing - run.broken;
            let carried = runs[at..].iter().fold(0_usize, |sum, run| sum.saturating_add(run.carried));
            let least = most.saturating_sub(carried);
            if run.standing < least || run.standing > most {
                let range = if least == most { most.to_string() } else { format!("{least} to {most}") };
                let follows = format!("{range} follow from the {standing} before it and those broken");
                return Err(self.refuse(&field("standing"), run.standing, follows));
            }
            standing = run.standing;
        }
        Ok(())
    }

    /// Runs of different arms belong together, and where their arms end follows from b and c.
    fn between_arms(&self, verdict: &Verdict) -> Result<(), Contradiction> {
        let white_box = &verdict.arms.white_box;
        for (_, name, runs) in &lists(verdict)[1..] {
            if runs.is_empty() {
                continue;
            }
            if runs.len() != white_box.len() {
                let follows = format!("the white-box arm has {}", white_box.len());
                return Err(self.refuse(&format!("arms.{name}"), format!("{} runs", runs.len()), follows));
            }
            for (at, (run, other)) in runs.iter().zip(white_box).enumerate() {
                let field = |key: &str| format!("arms.{name}[{at}].{key}");
                if run.attack != other.attack {
                    let follows = format!("the white-box arm has {} there", other.attack);
                    return Err(self.refuse(&field("attack"), &run.attack, follows));
                }
                if run.start != other.start {
                    let follows = format!("the white-box arm has {} there", other.start);
                    return Err(self.refuse(&field("start"), run.start, follows));
                }
            }
        }
        let Some((b, c)) = verdict.b.zip(verdict.c) else { return Ok(()) };
        // c stand in the white-box arm and not in the ready-made one, b the other way round.
        let expected = |from: usize, b: usize, c: usize| (from + c).checked_sub(b);
        let white_box = expected(self.ready_made, b, c);
        let aimed = verdict.aim.map(|aim| expected(self.ready_made, aim.b, aim.c));
        let remainder = verdict.aim.map(|aim| (aim.remainder.b, aim.remainder.c));
        if verdict.aim.is_some() == verdict.arms.aimed.is_empty() {
            let stands = if verdict.aim.is_some() { "not null" } else { "null" };
            let follows = format!("the aimed arm has {} runs", verdict.arms.aimed.len());
            return Err(self.refuse("aim", stands, follows));
        }
        let ends = [white_box, Some(self.ready_made), aimed.flatten()];
        for ((_, name, runs), end) in lists(verdict).into_iter().zip(ends) {
            if let Some(last) = runs.last()
                && Some(last.standing) != end
            {
                let follows = format!("{} follow from the ready-made accuracy, b and c", shown(end));
                let field = format!("arms.{name}[{}].standing", runs.len() - 1);
                return Err(self.refuse(&field, last.standing, follows));
            }
        }
        if let (Some((b, c)), Some(aimed)) = (remainder, aimed.flatten())
            && expected(aimed, b, c) != white_box
        {
            let follows =
                format!("{aimed} points stand in the aimed arm, {} in the white-box arm", shown(white_box));
            return Err(self.refuse("aim.remainder.b", b, follows));
        }
        Ok(())
    }

    /// Whether the last quarter of the twins broke next to nothing.
    fn flattened(&self, verdict: &Verdict) -> Result<(), Contradiction> {
        let twins = &verdict.arms.ready_made;
        let last = &twins[twins.len() - twins.len().div_ceil(4)..];
        let few = |broken: usize| broken as f64 <= (0.005 * self.n as f64).max(1.0);
        let broken: usize = last.iter().map(|run| run.broken).sum();
        let carried = last.iter().fold(0_usize, |sum, run| sum.saturating_add(run.carried));
        let expected = (twins.len() >= 4).then(|| few(broken));
        // What was carried over may be counted with them.
        let other = (twins.len() >= 4).then(|| few(broken.saturating_add(carried)));
        if verdict.flattened == expected || verdict.flattened == other {
            return Ok(());
        }
        let follows = match twins.len() {
            0..4 => format!("there are {} twins", twins.len()),
            _ => format!("the last {} twins broke {broken} of {} points", last.len(), self.n),
        };
        Err(self.refuse("flattened", shown(verdict.flattened), follows))
    }
}
