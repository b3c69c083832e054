//! Builds the record of one readout from what its runs broke, image by image, so that all of its counts agree.

use equipoise_record::{
    Accuracy, Aim, Arm, ArmRun, Arms, AttackResult, BrokenBy, BrokenIn, Evaluation, ExampleResult,
    FORMAT_VERSION, ReadoutResult, Verdict, Yardstick,
};
use equipoise_verdict::{conclude, exact_test, paired};

/// A run through another gradient and what it, its twin and its aimed twin break.
#[derive(Clone, Copy)]
pub struct Pair {
    pub attack: &'static str,
    pub gradient: &'static str,
    pub white_box: usize,
    pub twin: usize,
    pub aimed: usize,
}

/// What was run, and what fell.
#[derive(Clone)]
pub struct Runs {
    pub readout: &'static str,
    pub count: usize,
    pub clean: usize,
    /// Ready-made attacks and what they break.
    pub opening: &'static [(&'static str, usize)],
    pub pairs: Vec<Pair>,
    /// Whether there are twins.
    pub control: bool,
    /// Whether there is an aimed arm.
    pub aimed: bool,
    /// Images that fall in both arms.
    pub common: usize,
    /// Gradient-free attacks and what they break beyond everything else.
    pub free: &'static [(&'static str, usize)],
    /// What one other gradient breaks that the training gradient does not, and the other way round.
    pub yardstick: Option<(usize, usize)>,
    /// Whether the cell's work is counted.
    pub feedforward: bool,
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            readout: "final",
            count: 500,
            clean: 400,
            opening: &[("pgd-10", 180)],
            pairs: Vec::new(),
            control: true,
            aimed: false,
            common: 0,
            free: &[("square", 0)],
            yardstick: None,
            feedforward: false,
        }
    }
}

impl Runs {
    /// The readout's record; its finding is still to be concluded.
    pub fn record(&self) -> ReadoutResult {
        let mut builder = Builder::new(self);
        builder.opening();
        builder.arms();
        builder.gradient_free();
        builder.yardstick();
        builder.finish()
    }
}

struct Builder<'a> {
    runs: &'a Runs,
    examples: Vec<ExampleResult>,
    attacks: Vec<AttackResult>,
    arms: Arms,
    /// Points that stand after the opening.
    begin: usize,
    /// Images that stand after everything, so far.
    left: usize,
}

impl<'a> Builder<'a> {
    fn new(runs: &'a Runs) -> Self {
        let example = |index| ExampleResult {
            index,
            label: index % 10,
            clean_correct: index < runs.clean,
            robust: index < runs.clean,
            broken_in: BrokenIn::default(),
            broken_by: None,
            clean_prediction: Some(if index < runs.clean { index % 10 } else { (index + 3) % 10 }),
            adversarial_prediction: None,
            non_finite: false,
        };
        Self {
            runs,
            examples: (0..runs.count).map(example).collect(),
            attacks: Vec::new(),
            arms: Arms::default(),
            begin: runs.clean,
            left: runs.clean,
        }
    }

    /// One run: the points that it breaks are given by their places.
    fn run(
        &mut self,
        arm: Arm,
        (attack, gradient): (&str, &str),
        start: usize,
        attempted: usize,
        broken: &[usize],
    ) {
        let run = self.attacks.iter().filter(|a| a.arm == arm).count();
        for &at in broken {
            *self.examples[at].broken_in.get_mut(arm) = Some(run);
            self.examples[at].robust = false;
        }
        let standing = self.examples.iter().filter(|e| e.robust).count();
        self.left = standing;
        let work = |each: u64| if self.runs.feedforward { 0 } else { each * attempted as u64 };
        let through_other = !matches!(arm, Arm::Opening | Arm::ReadyMade | Arm::YardstickTraining);
        self.attacks.push(AttackResult {
            name: attack.into(),
            estimator: gradient.into(),
            arm,
            run,
            start,
            ready_made: matches!(arm, Arm::Opening | Arm::ReadyMade),
            accuracy: Accuracy::new(standing, self.runs.count),
            attempted,
            broken: broken.len(),
            carried: 0,
            unconfirmed: 0,
            seconds: 12.5,
            cell_evaluations: work(if through_other { 240 } else { 180 }),
            vjps: if gradient == "none" { 0 } else { work(80) },
        });
    }

    fn opening(&mut self) {
        for &(attack, broken) in self.runs.opening {
            let points: Vec<usize> = (self.begin - broken..self.begin).collect();
            self.run(Arm::Opening, (attack, TRAINING), 0, self.begin, &points);
            self.begin -= broken;
        }
    }

    /// The arms: `common` points fall in both, then each takes its own; the aimed arm takes those of the white-box arm.
    fn arms(&mut self) {
        let Runs { pairs, common, .. } = self.runs.clone();
        let total = |of: fn(&Pair) -> usize| pairs.iter().map(of).sum::<usize>();
        let b = total(|p| p.white_box) - common.min(total(|p| p.white_box));
        let own: Vec<usize> = (0..self.begin).collect();
        let twins: Vec<usize> = own[..common].iter().chain(&own[common + b..]).copied().collect();
        let (mut white, mut twin, mut aimed) = (0, 0, 0);
        for (j, pair) in pairs.iter().enumerate() {
            let start = j + 1;
            let part = own[white..white + pair.white_box].to_vec();
            self.run(Arm::WhiteBox, (pair.attack, pair.gradient), start, self.begin - white, &part);
            white += pair.white_box;
            let run = self.arm_run(start, self.begin - white);
            self.arms.white_box.push(run);
            if self.runs.control {
                let part = twins[twin..twin + pair.twin].to_vec();
                self.run(Arm::ReadyMade, (pair.attack, TRAINING), start, self.begin - twin, &part);
                twin += pair.twin;
                let run = self.arm_run(start, self.begin - twin);
                self.arms.ready_made.push(run);
            }
            if self.runs.aimed {
                let part = own[aimed..aimed + pair.aimed].to_vec();
                self.run(Arm::Aimed, (pair.attack, AIMED), start, self.begin - aimed, &part);
                aimed += pair.aimed;
                let run = self.arm_run(start, self.begin - aimed);
                self.arms.aimed.push(run);
            }
        }
    }

    /// The last run as its arm lists it.
    fn arm_run(&self, start: usize, standing: usize) -> ArmRun {
        let last = self.attacks.last().unwrap();
        ArmRun {
            attack: last.name.clone(),
            estimator: last.estimator.clone(),
            start,
            attempted: last.attempted,
            broken: last.broken,
            carried: 0,
            standing,
            cell_evaluations: last.cell_evaluations,
            vjps: last.vjps,
        }
    }

    fn gradient_free(&mut self) {
        for &(attack, broken) in self.runs.free {
            let standing: Vec<usize> = (0..self.runs.clean).filter(|&at| self.examples[at].robust).collect();
            let points = standing[standing.len() - broken..].to_vec();
            self.run(Arm::GradientFree, (attack, "none"), 0, standing.len(), &points);
        }
    }

    /// One against one: both sides break what the opening broke, and a few points of their own that have fallen already.
    fn yardstick(&mut self) {
        let Some((b, c)) = self.runs.yardstick else { return };
        let fallen = self.begin..self.runs.clean;
        let only = |count: usize, from: usize| (from..from + count).collect::<Vec<_>>();
        for (arm, gradient, own) in [
            (Arm::YardstickOther, "through-solver", only(b, self.begin)),
            (Arm::YardstickTraining, if self.runs.aimed { AIMED } else { TRAINING }, only(c, self.begin + b)),
        ] {
            let points: Vec<usize> = fallen.clone().skip(b + c).chain(own).collect();
            self.run(arm, ("pgd-10x4", gradient), 0, self.runs.clean, &points);
        }
    }

    fn finish(mut self) -> ReadoutResult {
        for example in &mut self.examples {
            let Some((arm, run)) = example.broken_in.first() else { continue };
            let attack = self.attacks.iter().find(|a| a.arm == arm && a.run == run).unwrap();
            example.broken_by = Some(BrokenBy {
                arm,
                attack: attack.name.clone(),
                estimator: attack.estimator.clone(),
                start: attack.start,
            });
            example.adversarial_prediction = Some((example.label + 1 + example.index % 2) % 10);
        }
        let n = self.runs.count;
        let share = |keep: &dyn Fn(&ExampleResult) -> bool| {
            Accuracy::new(self.examples.iter().filter(|e| e.clean_correct && keep(e)).count(), n)
        };
        let opening = (!self.runs.opening.is_empty()).then(|| share(&|e| e.broken_in.opening.is_none()));
        let ready_made =
            opening.map(|_| share(&|e| e.broken_in.opening.is_none() && e.broken_in.ready_made.is_none()));
        ReadoutResult {
            name: self.runs.readout.into(),
            clean_accuracy: share(&|_| true),
            ready_made_accuracy: ready_made,
            ready_made_opening_accuracy: opening,
            white_box_accuracy: share(&|e| e.robust),
            verdict: self.verdict(),
            radii: Vec::new(),
            attacks: self.attacks,
            examples: self.examples,
            flags: Vec::new(),
            plan: None,
            gallery: None,
            randomness: None,
            certificates: Vec::new(),
        }
    }

    /// The counts of the verdict, recounted from the examples.
    fn verdict(&self) -> Verdict {
        let n = self.runs.count;
        let begun = |e: &&ExampleResult| e.clean_correct && e.broken_in.opening.is_none();
        let count = |arm: Arm, not: Arm| {
            let only = |e: &&ExampleResult| e.broken_in.get(arm).is_some() && e.broken_in.get(not).is_none();
            self.examples.iter().filter(begun).filter(only).count()
        };
        let standing = |arms: [Arm; 2]| {
            let stands = |e: &&ExampleResult| arms.iter().all(|arm| e.broken_in.get(*arm).is_none());
            self.examples.iter().filter(begun).filter(stands).count()
        };
        let compare =
            |first, second| paired(n, standing([first, second]), count(first, second), count(second, first));
        let only_free = |e: &&ExampleResult| {
            e.broken_by.as_ref().is_some_and(|b| b.arm == Arm::GradientFree) && e.clean_correct
        };
        let mut verdict = Verdict {
            gradient_free_only: self.examples.iter().filter(only_free).count(),
            gradient_free_runs: self.runs.free.len(),
            looks: vec![n],
            arms: self.arms.clone(),
            ..Verdict::no_control(n)
        };
        if self.arms.ready_made.is_empty() || self.runs.opening.is_empty() {
            return verdict;
        }
        let found = compare(Arm::WhiteBox, Arm::ReadyMade);
        verdict.b = Some(found.b);
        verdict.c = Some(found.c);
        verdict.p_value = Some(found.p_value);
        verdict.difference = Some(found.difference);
        verdict.difference_interval = Some(found.difference_interval);
        let k = self.arms.ready_made.len();
        let last: usize = self.arms.ready_made.iter().rev().take(k.div_ceil(4)).map(|run| run.broken).sum();
        verdict.flattened = (k >= 4).then_some(last <= 1.max(n / 200));
        if self.runs.aimed {
            let aim = compare(Arm::Aimed, Arm::ReadyMade);
            let remainder = compare(Arm::WhiteBox, Arm::Aimed);
            verdict.aim = Some(Aim { b: aim.b, c: aim.c, difference: aim.difference, remainder });
        }
        verdict.yardstick = self.runs.yardstick.map(|(b, c)| Yardstick {
            attack: "pgd-10x4".into(),
            gradient: "through-solver".into(),
            training: if self.runs.aimed { AIMED } else { TRAINING }.into(),
            b,
            c,
            p_value: exact_test(b, c),
            chosen_from: 1,
        });
        verdict
    }
}

pub const TRAINING: &str = "exact";
pub const AIMED: &str = "exact:state=3";
pub const UNROLLED: &str = "unrolled:state=5,lead=1,steps=9,damping=0.5";
const GRADIENTS: [&str; 4] =
    [UNROLLED, "through-solver", "adjoint:state=8,beta=0.5", "unrolled:state=3,lead=1,steps=9,damping=0.5"];

/// Pairs of PGD-10 and APGD-CE through four gradients in turn, by what the run, its twin and its aimed twin break.
pub fn pairs(broken: &[(usize, usize, usize)]) -> Vec<Pair> {
    let pair = |(j, &(white_box, twin, aimed)): (usize, &(usize, usize, usize))| Pair {
        attack: if j < 4 { "pgd-10" } else { "apgd-ce" },
        gradient: GRADIENTS[j % 4],
        white_box,
        twin,
        aimed,
    };
    broken.iter().enumerate().map(pair).collect()
}

/// A model with its findings concluded.
pub fn model(name: &str, count: usize, readouts: Vec<ReadoutResult>) -> Evaluation {
    let mut models = [Evaluation {
        version: FORMAT_VERSION,
        model: name.into(),
        configuration: serde_json::json!({ "solver": "broyden", "versions": { "equipoise": "0.1.0" } }),
        dataset: "CIFAR-10 (JPEG), test".into(),
        classes: ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
            .map(str::to_owned)
            .to_vec(),
        norm: "linf".into(),
        eps: 8.0 / 255.0,
        seed: 7,
        count,
        clean_accuracy: readouts.first().map_or(Accuracy::new(0, count), |r| r.clean_accuracy),
        readouts,
    }];
    conclude(&mut models);
    let [model] = models;
    model
}

/// 14 points through other gradients beyond the twins, which one gradient against one confirms.
pub fn obfuscated() -> Runs {
    Runs {
        clean: 367,
        opening: &[("pgd-10", 149), ("apgd-ce", 12)],
        pairs: pairs(&[(24, 4, 0), (9, 2, 0), (5, 1, 0), (3, 0, 0), (2, 1, 0), (1, 0, 0)]),
        common: 6,
        free: &[("square", 2)],
        yardstick: Some((21, 2)),
        ..Runs::default()
    }
}

/// Two images between the arms.
pub fn healthy() -> Runs {
    Runs {
        clean: 352,
        opening: &[("pgd-10", 161), ("apgd-ce", 8)],
        pairs: pairs(&[(2, 3, 0), (1, 0, 0), (1, 1, 0), (0, 0, 0)]),
        common: 3,
        yardstick: Some((1, 2)),
        ..Runs::default()
    }
}

/// A gap behind a readout that closes once the ready-made attacks are aimed at it.
pub fn by_aim() -> Runs {
    Runs {
        readout: "early(3)",
        clean: 360,
        opening: &[("pgd-10", 140)],
        pairs: pairs(&[(20, 2, 20), (8, 1, 7), (3, 0, 3), (1, 3, 1)]),
        aimed: true,
        common: 4,
        yardstick: Some((2, 1)),
        ..Runs::default()
    }
}

/// Square breaks what withstands every gradient.
pub fn masked() -> Runs {
    Runs { free: &[("square", 31)], ..healthy() }
}

/// Forty images, and a gap that may be chance.
pub fn undecided() -> Runs {
    Runs {
        count: 40,
        clean: 30,
        opening: &[("pgd-10", 10)],
        pairs: pairs(&[(2, 0, 0), (1, 0, 0), (0, 0, 0), (0, 0, 0)]),
        yardstick: Some((3, 0)),
        ..Runs::default()
    }
}

/// Next to nothing stands after the opening.
pub fn nothing_left() -> Runs {
    Runs { clean: 458, opening: &[("pgd-10", 458)], pairs: pairs(&[(0, 0, 0)]), ..Runs::default() }
}

/// No twins.
pub fn control_off() -> Runs {
    Runs { control: false, yardstick: None, ..obfuscated() }
}

/// One gradient only, no cell to count; Square breaks a few more.
pub fn feedforward() -> Runs {
    Runs { free: &[("square", 4)], feedforward: true, ..Runs::default() }
}
