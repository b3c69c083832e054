//! Small records: a model is a name, a count and, for each readout, a cascade of (attack, estimator,
//! ready-made, broken).

use equipoise_record::{
    Accuracy, Alignment, Answers, AttackResult, Attacked, Cosine, Diagnosis, Evaluation, Evidence,
    ExampleResult, FORMAT_VERSION, Flag, Gallery, GalleryItem, IterateAccuracies, IterateAccuracy, Landscape,
    Line, LinePoint, ModelDiagnosis, ReadoutResult, Residual, ResidualView, Section, Share, Spectrum,
    SpectrumView, Spread, Sweep, SweepPoint, View,
};
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
        diagnoses: Vec::new(),
        figures: Vec::new(),
        command: Some("equipoise evaluate --model m.safetensors --seed 7".into()),
    }
}

/// The same as [`flattered`], with two checks.
pub fn flagged() -> Evaluation {
    let mut model = flattered();
    let evidence = |name: &str, value| vec![Evidence { name: name.into(), value }];
    model.readouts[0].flags = vec![
        Flag {
            name: "zero-gradients".into(),
            raised: false,
            statement: "No gradient is zero.".into(),
            evidence: evidence("zero gradients", Some(0.0)),
        },
        Flag {
            name: "black-box-beats-white-box".into(),
            raised: true,
            statement: "Square broke 3 images that no gradient attack broke.".into(),
            evidence: evidence("broken by square alone", Some(3.0)),
        },
    ];
    model
}

fn section<T>(result: T) -> Option<Section<T>> {
    Some(Section { seconds: 1.5, cell_evaluations: 20, vjps: 4, result: Some(result), absent: None })
}

fn absent<T>() -> Option<Section<T>> {
    Some(Section::absent("a feedforward network has no fixed-point solver"))
}

/// Ten numbers around one.
fn around(middle: f64) -> Spread {
    Spread::of([0.5 * middle, middle, 2.0 * middle])
}

/// A DEQ of two steps with every section, and a feedforward network beside it. Ten images.
pub fn diagnosis() -> Diagnosis {
    let share = |correct| Share::new(correct, 10);
    let residual = |view| ResidualView {
        view,
        by_iterate: vec![around(0.5), around(0.1)],
        reached: vec![share(0), share(3)],
        steps: around(2.0),
        never: share(7),
    };
    let cosine = |view, readout: &str, estimator: &str, t: Option<usize>, middle| Cosine {
        view,
        readout: readout.into(),
        estimator: estimator.into(),
        family: if t.is_some() { "unrolled:state=t".into() } else { estimator.into() },
        t,
        cosine: Spread::of([middle]),
        zero: 0,
    };
    let clean = View::Clean;
    let point = |distance, change| LinePoint { distance, change: Spread::of([change]), correct: share(5) };
    let line = |direction: &str, change| Line {
        direction: direction.into(),
        points: vec![point(0.0, 0.0), point(1.0, change)],
        rises: share(9),
    };
    let spectrum = |view| SpectrumView {
        view,
        radius: around(0.8),
        converged: share(9),
        below_one: Share::new(8, 9),
        complex: 2,
        unconverged_growth: Spread::of([1.1]),
        iterations: around(30.0),
        squared_norm: around(400.0),
        relative_error: around(0.05),
    };
    let at = |at, robust, transferred| SweepPoint { at, clean: share(9), robust: share(robust), transferred };
    let answers = |deployed| Answers { by_iterate: vec![Some(0), deployed], deployed };
    let deq = ModelDiagnosis {
        model: "deq".into(),
        configuration: serde_json::json!({ "model_sha256": "00" }),
        training_gradient: "exact".into(),
        solver_steps: Some(2),
        residual: section(Residual {
            tolerance: 1e-3,
            horizon: 2,
            views: vec![residual(View::Clean), residual(View::Attacked)],
        }),
        accuracy: section(IterateAccuracies {
            readout: "final".into(),
            clean: share(9),
            robust: share(4),
            by_iterate: vec![
                IterateAccuracy { t: 1, clean: share(8), robust: share(6) },
                IterateAccuracy { t: 2, clean: share(9), robust: share(4) },
            ],
        }),
        alignment: section(Alignment {
            cosines: vec![
                cosine(clean, "final", "exact", None, 0.5),
                cosine(clean, "early(1)", "exact", None, 0.25),
                cosine(clean, "early(2)", "exact", None, 0.5),
                cosine(clean, "final", "unrolled:state=1", Some(1), 0.75),
                cosine(clean, "early(1)", "unrolled:state=1", Some(1), 0.8),
                cosine(View::Attacked, "final", "exact", None, 0.1),
            ],
        }),
        landscape: section(Landscape {
            origin: around(0.1),
            lines: vec![line("gradient exact", 1.0), line("random", 0.1)],
        }),
        spectrum: section(Spectrum {
            dim: 64,
            limit: 200,
            tolerance: 1e-2,
            probes: 4,
            views: vec![spectrum(View::Clean), spectrum(View::Attacked)],
        }),
        sweep: section(Sweep {
            solver_steps: vec![at(1.0, 3, Some(share(5))), at(2.0, 4, Some(share(4)))],
            tolerance: vec![at(0.1, 4, Some(share(4)))],
            eps: vec![at(8.0 / 255.0, 4, None), at(1.0, 2, None)],
        }),
        gallery: section(Gallery {
            shape: [3, 1, 2],
            classes: vec!["dog".into(), "cat".into()],
            scale: 16.0,
            items: vec![GalleryItem {
                index: 4,
                label: 1,
                clean: vec![0, 1, 2, 3, 4, 5],
                perturbation: vec![128; 6],
                attacked: vec![9; 6],
                distance: 0.031,
                clean_answers: answers(Some(1)),
                attacked_answers: answers(None),
            }],
        }),
    };
    let resnet = ModelDiagnosis {
        model: "resnet".into(),
        configuration: serde_json::json!({}),
        training_gradient: "backpropagation".into(),
        solver_steps: None,
        residual: absent(),
        accuracy: section(IterateAccuracies {
            readout: "final".into(),
            clean: share(8),
            robust: share(1),
            by_iterate: Vec::new(),
        }),
        alignment: None,
        landscape: None,
        spectrum: None,
        sweep: None,
        gallery: None,
    };
    Diagnosis {
        version: FORMAT_VERSION,
        configuration: serde_json::json!({ "command": "equipoise diagnose --model m.safetensors" }),
        dataset: "CIFAR-10 (JPEG), test".into(),
        norm: "linf".into(),
        eps: 8.0 / 255.0,
        seed: 7,
        count: 10,
        attacked: Attacked::ReadyMade,
        diagnosed: vec![deq, resnet],
    }
}
