//! Honest records, built from what became of each point. The figures are counted here in ways of their own, so that
//! they can disagree with the check.

#![allow(dead_code)] // Each test file uses a part.

use equipoise_record::{
    Accuracy, Aim, Answers, Arm, ArmRun, Arms, AttackResult, BrokenBy, BrokenIn, Certificate,
    CertifiedExample, CertifiedNetwork, CertifiedRadius, Collection, Confidence, Evaluation, Evidence,
    ExampleResult, FORMAT_VERSION, Finding, Flag, Gallery, GalleryItem, NotTried, Paired, Plan, RadiusResult,
    ReadoutResult, Try, Verdict, Yardstick,
};
use serde_json::json;

/// Some points with the same fate: how many, and the run of each arm that broke them.
pub type Group<'a> = (usize, &'a [(Arm, usize)]);

/// A run: its arm, its attack, its estimator, and how many of the points that it broke are carried over.
pub type Run = (Arm, &'static str, &'static str, usize);

pub const SOLVER: &str = "through-solver";
pub const UNROLLED: &str = "unrolled:state=5,lead=1,steps=4,damping=0.5";

/// Four twins of PGD and APGD after an opening, two gradient-free runs, and a yardstick.
pub const RUNS: [Run; 14] = [
    (Arm::Opening, "pgd-10", "exact", 0),
    (Arm::Opening, "apgd-ce", "exact", 0),
    (Arm::WhiteBox, "pgd-10", SOLVER, 0),
    (Arm::ReadyMade, "pgd-10", "exact", 0),
    (Arm::WhiteBox, "apgd-ce", SOLVER, 0),
    (Arm::ReadyMade, "apgd-ce", "exact", 0),
    (Arm::WhiteBox, "pgd-10", UNROLLED, 0),
    (Arm::ReadyMade, "pgd-10", "exact", 0),
    (Arm::WhiteBox, "apgd-ce", UNROLLED, 0),
    (Arm::ReadyMade, "apgd-ce", "exact", 0),
    (Arm::YardstickOther, "pgd-10x4", SOLVER, 0),
    (Arm::YardstickTraining, "pgd-10x4", "exact", 0),
    (Arm::GradientFree, "square", "none", 0),
    (Arm::GradientFree, "noise", "none", 0),
];

/// Points that the opening broke, and the yardstick too.
const OPENING: [(Arm, usize); 3] = [(Arm::Opening, 0), (Arm::YardstickOther, 0), (Arm::YardstickTraining, 0)];

/// 200 points, 150 of them correct when clean, 100 after the opening; b, c = 2, 1.
pub fn healthy() -> ReadoutResult {
    let groups: [Group; 8] = [
        (48, &OPENING),
        (2, &[(Arm::Opening, 1), (Arm::YardstickOther, 0)]),
        (
            3,
            &[(Arm::WhiteBox, 0), (Arm::ReadyMade, 1), (Arm::YardstickOther, 0), (Arm::YardstickTraining, 0)],
        ),
        (1, &[(Arm::WhiteBox, 3)]),
        (1, &[(Arm::WhiteBox, 2)]),
        (1, &[(Arm::ReadyMade, 0), (Arm::YardstickTraining, 0)]),
        (1, &[(Arm::GradientFree, 1)]),
        (93, &[]),
    ];
    readout("final", 50, &groups, &RUNS)
}

/// 200 points behind a readout that the training gradient does not read, at two radii. At the larger b, c = 22, 1.
pub fn obfuscated() -> ReadoutResult {
    let mut runs: Vec<Run> = RUNS.to_vec();
    for run in &mut runs {
        run.3 = match run {
            (Arm::Opening, "pgd-10", ..) => 20,
            (Arm::WhiteBox, "pgd-10", SOLVER, _) => 4,
            _ => 0,
        };
    }
    for (_, attack, ..) in RUNS.iter().filter(|run| run.0 == Arm::WhiteBox) {
        runs.push((Arm::Aimed, attack, "exact", 0));
    }
    let other = |rest: &[(Arm, usize)]| [&[(Arm::YardstickOther, 0)], rest].concat();
    let groups: [(usize, Vec<(Arm, usize)>); 7] = [
        (40, OPENING.to_vec()),
        (5, vec![(Arm::WhiteBox, 1), (Arm::ReadyMade, 2), (Arm::Aimed, 0)]),
        (10, other(&[(Arm::WhiteBox, 0)])),
        (12, other(&[(Arm::WhiteBox, 2), (Arm::Aimed, 3)])),
        (1, vec![(Arm::ReadyMade, 3), (Arm::YardstickTraining, 0)]),
        (2, vec![(Arm::GradientFree, 0)]),
        (70, Vec::new()),
    ];
    let groups: Vec<Group> = groups.iter().map(|(count, broken)| (*count, broken.as_slice())).collect();
    let mut outer = readout("early(3)", 60, &groups, &runs);
    outer.radii = vec![smaller_radius(&outer)];
    let largest = RadiusResult::of(EPS, &outer);
    outer.radii.push(largest);
    outer
}

/// The smaller radius of [`obfuscated`]: 20 points fall in the opening, and 4 to the first run of the white-box arm.
fn smaller_radius(outer: &ReadoutResult) -> RadiusResult {
    let shape = |runs: &[ArmRun], broken: &[usize]| {
        let mut standing = 120;
        let run = |(run, &broken): (&ArmRun, &usize)| {
            let attempted = standing;
            standing -= broken;
            ArmRun { attempted, broken, carried: 0, standing, ..run.clone() }
        };
        runs.iter().zip(broken).map(run).collect()
    };
    let arms = &outer.verdict.arms;
    let verdict = Verdict {
        b: Some(4),
        c: Some(0),
        p_value: Some(binomial(4, 0)),
        difference: Some(0.02),
        difference_interval: Some([0.0, 0.05]),
        flattened: Some(true),
        gradient_free_only: 0,
        aim: Some(Aim { b: 1, c: 0, difference: 0.005, remainder: paired(3, 0, 200) }),
        yardstick: Some(yardstick(3, 0)),
        arms: Arms {
            ready_made: shape(&arms.ready_made, &[0, 0, 0, 0]),
            white_box: shape(&arms.white_box, &[4, 0, 0, 0]),
            aimed: shape(&arms.aimed, &[0, 1, 0, 0]),
        },
        ..outer.verdict.clone()
    };
    RadiusResult {
        eps: EPS / 2.0,
        clean_accuracy: Accuracy::new(140, 200),
        ready_made_accuracy: Some(Accuracy::new(120, 200)),
        ready_made_opening_accuracy: Some(Accuracy::new(120, 200)),
        white_box_accuracy: Accuracy::new(116, 200),
        verdict,
    }
}

/// A readout that nothing was tried on.
pub fn untried() -> ReadoutResult {
    readout("ensemble-states", 80, &[(120, &[])], &[])
}

/// A network with one gradient: an opening, and Square.
pub fn feedforward() -> ReadoutResult {
    let runs = [(Arm::Opening, "pgd-10", "exact", 0), (Arm::GradientFree, "square", "none", 0)];
    let groups: [Group; 3] = [(10, &[(Arm::Opening, 0)]), (2, &[(Arm::GradientFree, 0)]), (20, &[])];
    readout("final", 8, &groups, &runs)
}

/// The radius of every record here.
pub const EPS: f64 = 8.0 / 255.0;

/// A record of two models with every optional part present.
pub fn full() -> Collection {
    let mut first = healthy();
    first.plan = Some(Plan {
        tries: vec![Try {
            attack: "pgd-10".into(),
            estimator: "exact".into(),
            ready_made: true,
            seconds_per_broken: Some(0.5),
            work_per_broken: Some(180.0),
        }],
        not_tried: vec![NotTried {
            attack: "fab".into(),
            estimator: "exact".into(),
            reason: "time limit".into(),
        }],
        time_limit: Some(60.0),
    });
    first.flags = vec![Flag {
        name: "zero-gradients".into(),
        raised: false,
        statement: "No gradient is zero.".into(),
        evidence: vec![Evidence { name: "zero gradients".into(), value: Some(0.0) }],
    }];
    let answers = Answers { by_iterate: vec![Some(1), None], deployed: Some(1) };
    first.gallery = Some(Gallery {
        shape: [1, 1, 2],
        classes: vec!["a".into(), "b".into()],
        scale: 4.0,
        items: vec![GalleryItem {
            index: 100,
            label: 0,
            clean: vec![0, 255],
            perturbation: vec![128, 127],
            attacked: vec![1, 254],
            distance: 0.03,
            clean_answers: answers.clone(),
            attacked_answers: answers,
        }],
    });
    let models =
        vec![model("deep", vec![first, obfuscated(), untried()]), model("plain", vec![feedforward()])];
    Collection { version: FORMAT_VERSION, models, diagnoses: Vec::new(), trainings: Vec::new() }
}

/// The same with certificates: of the first readout a proof on all images and a sample on some, of the second a method that
/// says yes or no.
pub fn certified() -> Collection {
    let mut record = full();
    let readouts = &mut record.models[0].readouts;
    // Up to 60 nothing, up to 140 half the radius, then all of it: images from 107 on withstand the attacks.
    let proof = |at: usize| match at {
        0..60 => None,
        60..140 => Some(EPS / 2.0),
        _ => Some(EPS),
    };
    let sampled = |at: usize| (!at.is_multiple_of(20)).then_some(0.1 + at as f64 / 400.0);
    let yes = |at: usize| match at {
        0..100 => None,
        100..150 => Some(EPS / 2.0),
        _ => Some(EPS),
    };
    let sure = Confidence { level: 0.999, selection: 100, estimation: 10_000, serialized: None };
    let all: Vec<usize> = (0..200).collect();
    let some: Vec<usize> = (0..200).step_by(10).collect();
    let (deployed, ideal) = (CertifiedNetwork::Deployed, CertifiedNetwork::Ideal);
    let halves = [EPS / 2.0, EPS];
    let first = [
        certificate(&readouts[0], ("lipschitz", deployed, "linf"), &all, &halves, &proof),
        Certificate {
            confidence: Some(sure),
            abstained: 10,
            ..certificate(&readouts[0], ("smoothing", ideal, "l2"), &some, &[0.25, 0.5], &sampled)
        },
    ];
    let second = [certificate(&readouts[1], ("ibp", deployed, "linf"), &all, &halves, &yes)];
    readouts[0].certificates = first.to_vec();
    readouts[1].certificates = second.to_vec();
    record
}

/// A certificate of what the network answers on these examples, by their place; one of smoothing abstains where it has no
/// radius. Its accuracies are counted here by place.
fn certificate(
    readout: &ReadoutResult,
    (method, network, norm): (&str, CertifiedNetwork, &str),
    places: &[usize],
    radii: &[f64],
    radius: &dyn Fn(usize) -> Option<f64>,
) -> Certificate {
    let example = |&at: &usize| {
        let abstained = method == "smoothing" && radius(at).is_none();
        CertifiedExample {
            index: 100 + at,
            class: readout.examples[at].clean_prediction.filter(|_| !abstained),
            radius: radius(at),
            abstained,
        }
    };
    let share = |eps: f64| {
        let holds =
            |at: &&usize| readout.examples[**at].clean_correct && radius(**at).is_some_and(|r| r >= eps);
        Accuracy::new(places.iter().filter(holds).count(), places.len())
    };
    Certificate {
        method: method.into(),
        settings: json!({ "bound": 3.8 }),
        network,
        norm: norm.into(),
        confidence: None,
        abstained: 0,
        radii: radii.iter().map(|&eps| CertifiedRadius { eps, certified_accuracy: share(eps) }).collect(),
        examples: places.iter().map(example).collect(),
        seconds: 2.5,
        cell_evaluations: 9000,
    }
}

/// A record in which everything is absent that may be.
pub fn bare() -> Collection {
    let mut model = model("bare", vec![untried()]);
    model.classes.clear();
    Collection { version: FORMAT_VERSION, models: vec![model], diagnoses: Vec::new(), trainings: Vec::new() }
}

pub fn model(name: &str, readouts: Vec<ReadoutResult>) -> Evaluation {
    Evaluation {
        version: FORMAT_VERSION,
        model: name.into(),
        configuration: json!({ "solver": { "name": "broyden", "steps": 8 }, "eps": [EPS / 2.0, EPS] }),
        dataset: "digits, test".into(),
        classes: (0..10).map(|class| class.to_string()).collect(),
        norm: "linf".into(),
        eps: EPS,
        seed: 7,
        count: readouts[0].examples.len(),
        clean_accuracy: readouts[0].clean_accuracy,
        readouts,
    }
}

/// A readout: so many points misclassified, and groups of points that are correct when clean.
pub fn readout(name: &str, misclassified: usize, groups: &[Group], runs: &[Run]) -> ReadoutResult {
    let mut fates: Vec<Option<BrokenIn>> = vec![None; misclassified];
    for (count, broken) in groups {
        let mut broken_in = BrokenIn::default();
        for &(arm, run) in *broken {
            *broken_in.get_mut(arm) = Some(run);
        }
        fates.extend(vec![Some(broken_in); *count]);
    }
    let n = fates.len();
    let fates = fates.as_slice();
    let left = |gone: &dyn Fn(&BrokenIn) -> bool| fates.iter().flatten().filter(|fate| !gone(fate)).count();
    let share = |standing: usize| Accuracy::new(standing, n);
    let has = |arm: Arm| runs.iter().any(|run| run.0 == arm);

    let mut attacks: Vec<AttackResult> = Vec::new();
    for &(arm, name, estimator, carried) in runs {
        let run = attacks.iter().filter(|attack| attack.arm == arm).count();
        let broken = fates.iter().flatten().filter(|fate| fate.get(arm) == Some(run)).count() - carried;
        let arms = matches!(arm, Arm::WhiteBox | Arm::ReadyMade | Arm::Aimed);
        let attempted = left(&|fate| {
            let before = |arm| fate.get(arm).is_some();
            let fallen_in_arm = fate.get(arm).is_some_and(|breaker| breaker < run);
            fallen_in_arm
                || (arms && before(Arm::Opening))
                || (arm == Arm::GradientFree
                    && Arm::ALL.into_iter().any(|other| other != arm && before(other)))
        }) - carried;
        attacks.push(AttackResult {
            name: name.into(),
            estimator: estimator.into(),
            arm,
            run,
            start: run,
            ready_made: !matches!(arm, Arm::WhiteBox | Arm::GradientFree | Arm::YardstickOther),
            accuracy: share(0),
            attempted,
            broken,
            carried,
            unconfirmed: 0,
            seconds: 1.5,
            cell_evaluations: 180 * attempted as u64,
            vjps: if estimator == "none" { 0 } else { 80 * attempted as u64 },
        });
    }
    for at in 0..attacks.len() {
        let done: Vec<(Arm, usize)> = attacks[..=at].iter().map(|attack| (attack.arm, attack.run)).collect();
        attacks[at].accuracy = share(left(&|fate| done.iter().any(|&(arm, run)| fate.get(arm) == Some(run))));
    }
    let examples = fates
        .iter()
        .enumerate()
        .map(|(at, fate)| {
            let broken_in = fate.unwrap_or_default();
            let breaker = broken_in
                .first()
                .and_then(|(arm, run)| attacks.iter().find(|attack| attack.arm == arm && attack.run == run));
            ExampleResult {
                index: 100 + at,
                label: at % 10,
                clean_correct: fate.is_some(),
                robust: fate.is_some() && breaker.is_none(),
                broken_in,
                broken_by: breaker.map(|run| BrokenBy {
                    arm: run.arm,
                    attack: run.name.clone(),
                    estimator: run.estimator.clone(),
                    start: run.start,
                }),
                clean_prediction: Some(if fate.is_some() { at % 10 } else { (at + 1) % 10 }),
                adversarial_prediction: breaker.map(|_| (at + 3) % 10),
                non_finite: false,
            }
        })
        .collect();
    ReadoutResult {
        name: name.into(),
        clean_accuracy: share(left(&|_| false)),
        ready_made_accuracy: has(Arm::Opening)
            .then(|| share(left(&|fate| fate.opening.is_some() || fate.ready_made.is_some()))),
        ready_made_opening_accuracy: has(Arm::Opening).then(|| share(left(&|fate| fate.opening.is_some()))),
        white_box_accuracy: share(left(&|fate| fate.first().is_some())),
        verdict: verdict(fates, &attacks),
        radii: Vec::new(),
        attacks,
        examples,
        flags: Vec::new(),
        plan: None,
        gallery: None,
        randomness: None,
        certificates: Vec::new(),
    }
}

fn verdict(fates: &[Option<BrokenIn>], attacks: &[AttackResult]) -> Verdict {
    let n = fates.len();
    let begin: Vec<&BrokenIn> = fates.iter().flatten().filter(|fate| fate.opening.is_none()).collect();
    let only = |arm: Arm, other: Arm| {
        begin.iter().filter(|fate| fate.get(arm).is_some() && fate.get(other).is_none()).count()
    };
    let runs_of = |arm: Arm| -> Vec<ArmRun> {
        let mut standing = begin.len();
        let runs = attacks.iter().filter(|attack| attack.arm == arm);
        let run = |run: &AttackResult| {
            standing -= run.broken + run.carried;
            ArmRun {
                attack: run.name.clone(),
                estimator: run.estimator.clone(),
                start: run.start,
                attempted: run.attempted,
                broken: run.broken,
                carried: run.carried,
                standing,
                cell_evaluations: run.cell_evaluations,
                vjps: run.vjps,
            }
        };
        runs.map(run).collect()
    };
    let mut verdict = Verdict::no_control(n);
    verdict.gradient_free_runs = attacks.iter().filter(|attack| attack.arm == Arm::GradientFree).count();
    verdict.gradient_free_only = fates
        .iter()
        .flatten()
        .filter(|fate| **fate == BrokenIn { gradient_free: fate.gradient_free, ..BrokenIn::default() })
        .filter(|fate| fate.gradient_free.is_some())
        .count();
    verdict.arms = Arms {
        ready_made: runs_of(Arm::ReadyMade),
        white_box: runs_of(Arm::WhiteBox),
        aimed: runs_of(Arm::Aimed),
    };
    if verdict.arms.ready_made.is_empty() {
        return verdict;
    }
    let (b, c) = (only(Arm::WhiteBox, Arm::ReadyMade), only(Arm::ReadyMade, Arm::WhiteBox));
    let Paired { difference, difference_interval, p_value, .. } = paired(b, c, n);
    let last = verdict.arms.ready_made.last().map_or(0, |run| run.broken);
    let clean: Vec<&BrokenIn> = fates.iter().flatten().collect();
    let alone = |arm: Arm, other: Arm| {
        clean.iter().filter(|fate| fate.get(arm).is_some() && fate.get(other).is_none()).count()
    };
    Verdict {
        finding: Finding::Undecided,
        b: Some(b),
        c: Some(c),
        p_value: Some(p_value),
        difference: Some(difference),
        difference_interval: Some(difference_interval),
        flattened: Some(last <= 1),
        aim: (!verdict.arms.aimed.is_empty()).then(|| {
            let (b, c) = (only(Arm::Aimed, Arm::ReadyMade), only(Arm::ReadyMade, Arm::Aimed));
            let (left_b, left_c) = (only(Arm::WhiteBox, Arm::Aimed), only(Arm::Aimed, Arm::WhiteBox));
            let difference = (b as f64 - c as f64) / n as f64;
            Aim { b, c, difference, remainder: paired(left_b, left_c, n) }
        }),
        yardstick: Some(yardstick(
            alone(Arm::YardstickOther, Arm::YardstickTraining),
            alone(Arm::YardstickTraining, Arm::YardstickOther),
        )),
        looks: vec![n],
        ..verdict
    }
}

fn yardstick(b: usize, c: usize) -> Yardstick {
    Yardstick {
        attack: "pgd-10x4".into(),
        gradient: SOLVER.into(),
        training: "exact".into(),
        b,
        c,
        p_value: binomial(b, c),
        chosen_from: 1,
    }
}

/// Without the interval, which takes more than b, c and n: here it is as wide as it can be.
fn paired(b: usize, c: usize, n: usize) -> Paired {
    let difference = (b as f64 - c as f64) / n as f64;
    Paired { b, c, difference, difference_interval: [-1.0, 1.0], p_value: binomial(b, c) }
}

/// The chance of b or more heads in b + c tosses, summed term by term.
fn binomial(b: usize, c: usize) -> f64 {
    let m = b + c;
    let choose = |k: usize| (0..k).fold(1.0, |product, i| product * (m - i) as f64 / (i + 1) as f64);
    (b..=m).map(choose).sum::<f64>() / 2.0_f64.powi(m as i32)
}
