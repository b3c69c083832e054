//! Verdicts: b, c and what follows from them, counted from the examples where there are any.

use super::arms;
use super::recount::{Discordant, Recount};
use super::{Contradiction, Place, same};
use crate::{Arm, Finding, Interval, ReadoutResult, Verdict};

/// The verdict at the largest radius.
pub(super) fn check(
    place: &Place<'_>,
    readout: &ReadoutResult,
    recount: &Recount,
) -> Result<(), Contradiction> {
    let verdict = &readout.verdict;
    let scene = Scene {
        place,
        at: "verdict".to_owned(),
        n: recount.n,
        begin: recount.opening,
        ready_made: recount.ready_made,
        robust: recount.robust,
    };
    scene.n(verdict)?;
    recounted(&scene, readout, recount)?;
    scene.check(verdict, readout.ready_made_accuracy.is_some())
}

/// What the examples say of the verdict's counts, and the runs of its arms.
fn recounted(scene: &Scene<'_>, readout: &ReadoutResult, recount: &Recount) -> Result<(), Contradiction> {
    let verdict = &readout.verdict;
    let white_box = ("white-box arm", "ready-made arm");
    let found = verdict.b.zip(verdict.c);
    scene.discordant("", found, recount.arms, white_box)?;
    if let Some(aim) = verdict.aim {
        let left = aim.remainder;
        scene.discordant("aim.", Some((aim.b, aim.c)), recount.aim, ("aimed arm", "ready-made arm"))?;
        let arms = ("white-box arm", "aimed arm");
        scene.discordant("aim.remainder.", Some((left.b, left.c)), recount.remainder, arms)?;
    }
    let tried = readout.attacks.iter().any(|a| matches!(a.arm, Arm::YardstickOther | Arm::YardstickTraining));
    if let Some(yardstick) = verdict.yardstick.as_ref().filter(|_| tried) {
        let arms = ("yardstick's other gradient", "yardstick's training gradient");
        scene.discordant("yardstick.", Some((yardstick.b, yardstick.c)), recount.yardstick, arms)?;
    }
    if verdict.gradient_free_only != recount.gradient_free_only {
        let follows = format!("{} examples fell to gradient-free runs alone", recount.gradient_free_only);
        return Err(scene.refuse("gradient_free_only", verdict.gradient_free_only, follows));
    }
    let runs = readout.attacks.iter().filter(|run| run.arm == Arm::GradientFree).count();
    if verdict.gradient_free_runs != runs {
        let follows = format!("attacks has {runs} of them");
        return Err(scene.refuse("gradient_free_runs", verdict.gradient_free_runs, follows));
    }
    arms::same_as_runs(scene, readout)
}

/// One verdict and the counts around it.
pub(super) struct Scene<'a> {
    pub place: &'a Place<'a>,
    /// The verdict's field.
    pub at: String,
    /// All examples.
    pub n: usize,
    /// Points standing after the opening: where both arms begin.
    pub begin: usize,
    /// Points standing after opening and twins.
    pub ready_made: usize,
    /// Points standing after everything.
    pub robust: usize,
}

impl Scene<'_> {
    pub fn refuse(&self, field: &str, stands: impl std::fmt::Display, follows: String) -> Contradiction {
        self.place.refuse(format!("{}.{field}", self.at), stands, follows)
    }

    pub fn n(&self, verdict: &Verdict) -> Result<(), Contradiction> {
        if verdict.n == self.n {
            return Ok(());
        }
        Err(self.refuse("n", verdict.n, format!("there are {} examples", self.n)))
    }

    /// Whether b and c, where they are known, are those counted.
    fn discordant(
        &self,
        prefix: &str,
        found: Option<(usize, usize)>,
        counted: Discordant,
        (first, second): (&str, &str),
    ) -> Result<(), Contradiction> {
        let Some((b, c)) = found else { return Ok(()) };
        for (key, stands, counted, only, not) in
            [("b", b, counted.0, first, second), ("c", c, counted.1, second, first)]
        {
            if stands != counted {
                let follows = format!("{counted} examples are broken by the {only} and not by the {not}");
                return Err(self.refuse(&format!("{prefix}{key}"), stands, follows));
            }
        }
        Ok(())
    }

    /// What follows without examples.
    pub fn check(&self, verdict: &Verdict, has_ready_made: bool) -> Result<(), Contradiction> {
        self.control(verdict, has_ready_made)?;
        self.yardstick(verdict)?;
        self.settings(verdict)?;
        let (ready_made, b) = (self.ready_made, verdict.b.unwrap_or(0));
        let rest = ready_made.saturating_sub(b.saturating_add(self.robust));
        self.at_most(
            "gradient_free_only",
            verdict.gradient_free_only,
            rest,
            "withstand both arms and not all else",
        )?;
        self.at_most("transfer_only", verdict.transfer_only, ready_made, "withstand the ready-made attacks")?;
        self.arms(verdict)
    }

    /// b, c and what is made of them are there together, and only with a control.
    fn control(&self, verdict: &Verdict, has_ready_made: bool) -> Result<(), Contradiction> {
        let Some(b) = verdict.b else {
            if !verdict.arms.ready_made.is_empty() {
                let follows = format!("the ready-made arm has {} runs", verdict.arms.ready_made.len());
                return Err(self.refuse("b", "null", follows));
            }
            if verdict.finding != Finding::NoControl {
                let finding = serde_json::to_value(verdict.finding).unwrap_or_default();
                let finding = finding.as_str().unwrap_or_default();
                return Err(self.refuse("finding", finding, "there is no control".to_owned()));
            }
            for (field, absent) in [
                ("c", verdict.c.is_none()),
                ("p_value", verdict.p_value.is_none()),
                ("p_value_corrected", verdict.p_value_corrected.is_none()),
                ("difference", verdict.difference.is_none()),
                ("difference_interval", verdict.difference_interval.is_none()),
                ("aim", verdict.aim.is_none()),
            ] {
                if !absent {
                    return Err(self.refuse(field, "not null", "b is null".to_owned()));
                }
            }
            return Ok(());
        };
        if !has_ready_made && self.begin > 0 {
            return Err(self.refuse("b", b, "no ready-made attack was run".to_owned()));
        }
        let missing = |field: &str| self.refuse(field, "null", format!("b is {b}"));
        let c = verdict.c.ok_or_else(|| missing("c"))?;
        let p_value = verdict.p_value.ok_or_else(|| missing("p_value"))?;
        let difference = verdict.difference.ok_or_else(|| missing("difference"))?;
        let interval = verdict.difference_interval.ok_or_else(|| missing("difference_interval"))?;
        let twins = self.begin.saturating_sub(self.ready_made);
        let both = self.ready_made.saturating_sub(self.robust);
        self.at_most("b", b, both, "fell to other than ready-made attacks")?;
        self.at_most("c", c, twins, "fell to the twins")?;
        self.difference("", (b, c), difference, interval)?;
        self.probability("p_value", p_value)?;
        if let Some(corrected) = verdict.p_value_corrected {
            self.probability("p_value_corrected", corrected)?;
        }
        if let Some(aim) = verdict.aim {
            let (left, interval) = (aim.remainder, aim.remainder.difference_interval);
            self.at_most("aim.b", aim.b, both, "fell to other than ready-made attacks")?;
            self.at_most("aim.c", aim.c, twins, "fell to the twins")?;
            self.at_most("aim.remainder.b", left.b, self.begin, "stand after the opening")?;
            self.at_most("aim.remainder.c", left.c, self.begin, "stand after the opening")?;
            self.difference("aim.", (aim.b, aim.c), aim.difference, [aim.difference; 2])?;
            self.difference("aim.remainder.", (left.b, left.c), left.difference, interval)?;
            self.probability("aim.remainder.p_value", left.p_value)?;
        }
        Ok(())
    }

    fn yardstick(&self, verdict: &Verdict) -> Result<(), Contradiction> {
        if let Some(yardstick) = &verdict.yardstick {
            self.probability("yardstick.p_value", yardstick.p_value)?;
            self.at_most("yardstick.b", yardstick.b, self.n, "were evaluated")?;
            self.at_most("yardstick.c", yardstick.c, self.n - yardstick.b, "were not broken by the other")?;
            if yardstick.chosen_from == 0 {
                return Err(self.refuse("yardstick.chosen_from", 0, "one gradient was compared".to_owned()));
            }
        }
        Ok(())
    }

    fn at_most(&self, field: &str, count: usize, most: usize, words: &str) -> Result<(), Contradiction> {
        if count <= most {
            return Ok(());
        }
        Err(self.refuse(field, count, format!("{most} points {words}")))
    }

    fn difference(
        &self,
        prefix: &str,
        (b, c): (usize, usize),
        difference: f64,
        [low, high]: Interval,
    ) -> Result<(), Contradiction> {
        let expected = if self.n == 0 { 0.0 } else { (b as f64 - c as f64) / self.n as f64 };
        if !same(difference, expected) {
            let follows = format!("b and c are {b} and {c} of {} ({expected})", self.n);
            return Err(self.refuse(&format!("{prefix}difference"), difference, follows));
        }
        if !(-1.0 <= low && low <= difference && difference <= high && high <= 1.0) {
            let follows = format!("the difference is {difference}");
            let stands = format!("[{low}, {high}]");
            return Err(self.refuse(&format!("{prefix}difference_interval"), stands, follows));
        }
        Ok(())
    }

    fn probability(&self, field: &str, value: f64) -> Result<(), Contradiction> {
        if (0.0..=1.0).contains(&value) {
            return Ok(());
        }
        Err(self.refuse(field, value, "a probability lies between 0 and 1".to_owned()))
    }

    /// The level, which follows from the looks, the margin, and what goes with a finding.
    fn settings(&self, verdict: &Verdict) -> Result<(), Contradiction> {
        let looks = &verdict.looks;
        if looks.windows(2).any(|pair| pair[0] > pair[1]) || looks.last().is_some_and(|&last| last != self.n)
        {
            let follows = format!("looks do not shrink, and the last is at {} examples", self.n);
            return Err(self.refuse("looks", format!("{looks:?}"), follows));
        }
        // At the second look and later, unless the number of images was fixed beforehand.
        let later = Verdict::LEVEL / 2.0_f64.powi(i32::try_from(looks.len()).unwrap_or(i32::MAX));
        let first = same(verdict.level, Verdict::LEVEL);
        if !(first || (looks.len() > 1 && same(verdict.level, later))) {
            let follows = match looks.len() {
                0 | 1 => format!("at the first look it is {}", Verdict::LEVEL),
                k => format!(
                    "at look {k} it is {later}, or {} where that was fixed beforehand",
                    Verdict::LEVEL
                ),
            };
            return Err(self.refuse("level", verdict.level, follows));
        }
        if !(verdict.margin > 0.0 && verdict.margin <= 1.0) {
            return Err(self.refuse("margin", verdict.margin, "it is a share above 0".to_owned()));
        }
        if verdict.evidence.is_some() != (verdict.finding == Finding::Obfuscated) {
            let stands = if verdict.evidence.is_some() { "not null" } else { "null" };
            let follows = "it goes with the finding obfuscated, and with no other".to_owned();
            return Err(self.refuse("evidence", stands, follows));
        }
        if let Some(at) = verdict.would_decide_at
            && at <= self.n
        {
            let follows = format!("there are {} images already", self.n);
            return Err(self.refuse("would_decide_at", at, follows));
        }
        Ok(())
    }
}
