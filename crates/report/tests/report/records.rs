//! Small records: evaluations with each finding, and a diagnosis.

use crate::arms::{self, Runs, model};
use equipoise_record::{
    Accuracy, Alignment, Answers, AttackDistances, Attacked, Certificate, CertifiedExample, CertifiedNetwork,
    CertifiedRadius, Confidence, Cosine, Diagnosis, DistancePoint, Distances, Evaluation, Evidence,
    FORMAT_VERSION, Flag, Gallery, GalleryItem, IterateAccuracies, IterateAccuracy, Landscape, Line,
    LinePoint, ModelDiagnosis, Paired, RadiusResult, Residual, ResidualView, Section, Share, Spectrum,
    SpectrumView, Spread, Starts, StartsView, Sweep, SweepPoint, Targeted, TargetedRow, View, Workload,
    WorkloadSide, YardstickRow, Yardsticks,
};
use equipoise_report::Report;

/// Gradient obfuscation: 500 images, 367 correct, 206 after the opening.
pub fn obfuscated() -> Evaluation {
    model("pgd-at", 500, vec![arms::obfuscated().record()])
}

/// No gradient obfuscation.
pub fn healthy() -> Evaluation {
    model("trades", 500, vec![arms::healthy().record()])
}

/// No ready-made attack, two readouts, one of them never attacked.
pub fn without_ready_made() -> Evaluation {
    let attacked = Runs {
        readout: "early(3)",
        count: 20,
        clean: 15,
        opening: &[],
        free: &[("square", 5)],
        ..Runs::default()
    };
    let untouched = Runs { readout: "final", clean: 14, free: &[], ..attacked.clone() };
    model("other", 20, vec![attacked.record(), untouched.record()])
}

/// No example at all.
pub fn empty() -> Evaluation {
    let runs = Runs { count: 0, clean: 0, opening: &[("pgd-10", 0)], free: &[], ..Runs::default() };
    model("empty", 0, vec![runs.record()])
}

/// Two radii, the larger one that of [`obfuscated`].
pub fn two_radii() -> Evaluation {
    let mut model = obfuscated();
    // The same images, of which fewer fall.
    let smaller = Runs { clean: 367, opening: &[("pgd-10", 90), ("apgd-ce", 4)], ..arms::healthy() }.record();
    let clean_accuracy = model.readouts[0].clean_accuracy;
    let radius = |eps, readout| RadiusResult { clean_accuracy, ..RadiusResult::of(eps, readout) };
    let radii = vec![radius(4.0 / 255.0, &smaller), radius(8.0 / 255.0, &model.readouts[0])];
    model.readouts[0].radii = radii;
    equipoise_verdict::conclude(std::slice::from_mut(&mut model));
    model
}

/// Of what the network answers: this many have their class certified at these radii, of those that withstand the attacks.
fn certificate(method: &str, network: CertifiedNetwork, at: &[(f64, usize)], images: usize) -> Certificate {
    let answers = healthy().readouts[0].examples.clone();
    let example = |index: usize| {
        let before = answers[..index].iter().filter(|example| example.robust).count();
        let radius = at.iter().rev().find(|(_, count)| answers[index].robust && before < *count);
        CertifiedExample {
            index,
            class: answers[index].clean_prediction,
            radius: radius.map(|(eps, _)| *eps),
            abstained: false,
        }
    };
    let radius = |&(eps, count): &(f64, usize)| CertifiedRadius {
        eps,
        certified_accuracy: Accuracy::new(count, images),
    };
    Certificate {
        method: method.into(),
        settings: serde_json::json!({}),
        network,
        norm: "linf".into(),
        confidence: None,
        abstained: 0,
        radii: at.iter().map(radius).collect(),
        examples: (0..images).map(example).collect(),
        seconds: 1.0,
        cell_evaluations: 1000,
    }
}

/// A proof at two radii, of which the attacks know the larger; a sample on some images in another norm.
pub fn certified() -> Evaluation {
    let mut model = healthy();
    let radii = [(2.0 / 255.0, 150), (8.0 / 255.0, 90)];
    let mut smoothing = certificate("smoothing", CertifiedNetwork::Ideal, &[(0.25, 20)], 50);
    smoothing.norm = "l2".into();
    smoothing.confidence =
        Some(Confidence { level: 0.999, selection: 100, estimation: 10_000, serialized: None });
    smoothing.examples[49].abstained = true;
    smoothing.examples[49].class = None;
    smoothing.abstained = 1;
    model.readouts[0].certificates =
        vec![certificate("lipschitz", CertifiedNetwork::Deployed, &radii, 500), smoothing];
    model
}

pub fn report(models: Vec<Evaluation>) -> Report {
    Report {
        title: "Robustness of small models".into(),
        models,
        diagnoses: Vec::new(),
        trainings: Vec::new(),
        figures: Vec::new(),
        records: 1,
        command: Some("equipoise evaluate --model m.safetensors --seed 7".into()),
    }
}

/// The same as [`obfuscated`], with two checks.
pub fn flagged() -> Evaluation {
    let mut model = obfuscated();
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

/// Two images of two pixels; the second is misclassified when clean.
pub fn gallery() -> Gallery {
    let answers = |deployed| Answers { by_iterate: vec![Some(0), deployed], deployed };
    let item = |index, clean| GalleryItem {
        index,
        label: 1,
        clean: vec![0, 1, 2, 3, 4, 5],
        perturbation: vec![128; 6],
        attacked: vec![9; 6],
        distance: 0.031,
        clean_answers: answers(clean),
        attacked_answers: answers(None),
    };
    Gallery {
        shape: [3, 1, 2],
        classes: vec!["dog".into(), "cat".into()],
        scale: 16.0,
        items: vec![item(4, Some(1)), item(5, Some(0))],
    }
}

/// Behind `final`, which the training gradient reads, and behind `early(1)`, where all but one of the images is aim.
fn yardsticks() -> Yardsticks {
    let paired = |standing, b, c| equipoise_verdict::paired(10, standing, b, c);
    let row =
        |readout: &str, training_broken, other_broken, total, aimed: Option<(usize, Paired, Paired)>| {
            let (aimed_broken, aim, gradient) = match aimed {
                Some((broken, aim, gradient)) => (Some(broken), Some(aim), gradient),
                None => (None, None, total),
            };
            YardstickRow {
                readout: readout.into(),
                correct: 9,
                training: "exact".into(),
                training_broken,
                other: "through-solver".into(),
                other_broken,
                aimed: aimed_broken.map(|_| "aimed(exact)".into()),
                aimed_broken,
                total,
                aim,
                gradient,
            }
        };
    let early = Some((6, paired(3, 4, 0), paired(2, 1, 0)));
    Yardsticks {
        attack: "pgd-10x4".into(),
        rows: vec![row("final", 5, 6, paired(3, 1, 0), None), row("early(1)", 2, 7, paired(2, 5, 0), early)],
    }
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
        yardstick: section(yardsticks()),
        sweep: section(Sweep {
            solver_steps: vec![at(1.0, 3, Some(share(5))), at(2.0, 4, Some(share(4)))],
            tolerance: vec![at(0.1, 4, Some(share(4)))],
            eps: vec![at(8.0 / 255.0, 4, None), at(1.0, 2, None)],
        }),
        distance: section(Distances {
            gradient: "through-solver".into(),
            attacks: vec![AttackDistances {
                attack: "fab-t-30".into(),
                distance: around(0.02),
                found: share(7),
            }],
            least: around(0.015),
            curve: vec![
                DistancePoint { eps: 0.0, standing: share(8) },
                DistancePoint { eps: 8.0 / 255.0, standing: share(3) },
            ],
        }),
        targets: section(Targeted {
            attack: "pgd-10, targeted, all steps".into(),
            gradient: "through-solver".into(),
            classes: vec!["cat".into(), "dog".into(), "ship".into()],
            rows: vec![
                TargetedRow { images: 4, reached: vec![0, 3, 1] },
                TargetedRow { images: 3, reached: vec![2, 0, 0] },
                TargetedRow { images: 1, reached: vec![0, 1, 0] },
            ],
            reached: Share::new(7, 16),
        }),
        work: section(Workload {
            attack: "square-300 on the residual at z_T".into(),
            tolerance: 1e-3,
            horizon: 24,
            clean: WorkloadSide {
                residual: around(1e-3),
                steps: around(8.0),
                most: Some(10),
                never: share(0),
            },
            attacked: WorkloadSide {
                residual: around(1e-2),
                steps: around(12.0),
                most: Some(19),
                never: share(2),
            },
        }),
        starts: section(Starts {
            starts: 8,
            tolerance: 1e-3,
            horizon: 24,
            cluster: 1e-2,
            views: [View::Clean, View::Attacked]
                .map(|view| StartsView {
                    view,
                    converged: share(8),
                    distinct: around(1.0),
                    several: share(1),
                    disagree: share(1),
                    from_zero: share(7),
                    lowest: share(6),
                })
                .to_vec(),
        }),
        gallery: section(gallery()),
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
        yardstick: absent(),
        sweep: None,
        distance: None,
        targets: None,
        work: None,
        starts: None,
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
