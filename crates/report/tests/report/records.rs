//! Small records: a model is a name, a count and, for each readout, a cascade of (attack, estimator,
//! ready-made, broken).

use equipoise_record::{Accuracy, AttackResult, Evaluation, ExampleResult, FORMAT_VERSION, ReadoutResult};
use equipoise_report::Report;

pub type Attack = (&'static str, &'static str, bool, usize);

pub const UNROLLED: &str = "unrolled:state=5,lead=1,steps=9,damping=0.5";

/// 500 images, 367 correct, 206 left by ready-made attacks, 165 in the end: 8.2 points of obfuscation.
pub fn flattered() -> Evaluation {
    let attacks =
        [("pgd-10", "exact", true, 161), ("pgd-10", UNROLLED, false, 38), ("square", "none", false, 3)];
    model("pgd-at", 500, vec![readout("final", 500, 367, &attacks)])
}

/// 500 images, 2 of them apart.
pub fn honest() -> Evaluation {
    let attacks = [("pgd-10", "exact", true, 169), ("pgd-10", UNROLLED, false, 2)];
    model("trades", 500, vec![readout("final", 500, 352, &attacks)])
}

/// No ready-made attack, two readouts, one of them never attacked.
pub fn without_ready_made() -> Evaluation {
    let readouts =
        vec![readout("early(3)", 20, 15, &[("square", "none", false, 5)]), readout("final", 20, 14, &[])];
    model("other", 20, readouts)
}

/// No example at all.
pub fn empty() -> Evaluation {
    model("empty", 0, vec![readout("final", 0, 0, &[("pgd-10", "exact", true, 0)])])
}

pub fn model(name: &str, count: usize, readouts: Vec<ReadoutResult>) -> Evaluation {
    Evaluation {
        version: FORMAT_VERSION,
        model: name.into(),
        configuration: serde_json::json!({ "solver": "broyden", "versions": { "equipoise": "0.1.0" } }),
        dataset: "CIFAR-10 (JPEG), test".into(),
        norm: "linf".into(),
        eps: 8.0 / 255.0,
        seed: 7,
        count,
        clean_accuracy: readouts.first().map_or(Accuracy::new(0, count), |r| r.clean_accuracy),
        readouts,
    }
}

pub fn readout(name: &str, count: usize, clean: usize, attacks: &[Attack]) -> ReadoutResult {
    let mut left = clean;
    let mut ready_made = None;
    let attacks: Vec<AttackResult> = attacks
        .iter()
        .map(|&(name, estimator, is_ready_made, broken)| {
            let attempted = left;
            left -= broken;
            if is_ready_made {
                ready_made = Some(left);
            }
            AttackResult {
                name: name.into(),
                estimator: estimator.into(),
                ready_made: is_ready_made,
                accuracy: Accuracy::new(left, count),
                attempted,
                broken,
                unconfirmed: 0,
                seconds: 12.5,
                cell_evaluations: 180 * attempted as u64,
                vjps: if estimator == "none" { 0 } else { 80 * attempted as u64 },
            }
        })
        .collect();
    let example = |index| ExampleResult {
        index,
        label: index % 10,
        clean_correct: index < clean,
        robust: index < left,
        broken_by: (left..clean).contains(&index).then(|| "pgd-10/exact".to_owned()),
        non_finite: false,
    };
    ReadoutResult {
        name: name.into(),
        clean_accuracy: Accuracy::new(clean, count),
        ready_made_accuracy: ready_made.map(|n| Accuracy::new(n, count)),
        white_box_accuracy: Accuracy::new(left, count),
        attacks,
        examples: (0..count).map(example).collect(),
        flags: Vec::new(),
        plan: None,
    }
}

pub fn report(models: Vec<Evaluation>) -> Report {
    Report {
        title: "Robustness of small models".into(),
        models,
        figures: Vec::new(),
        command: Some("equipoise evaluate --model m.safetensors --seed 7".into()),
    }
}
