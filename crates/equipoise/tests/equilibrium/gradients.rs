//! Gradient estimators against finite differences and known answers, and their independence of batch and
//! threads.

use crate::common::{double, entries, inner, normal, relative_error, uniform, worst_cosine};
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise::attack::{Classifier, WhiteBox};
use equipoise::batch::{Images, select, to_vec};
use equipoise::gradient::Estimator;
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::cell::{BoundCell, Cell, Counted, FixedPointMap, Linearization};
use equipoise::model::deq::{Head, Stem};
use equipoise::model::init::Init;
use equipoise::model::layers::Phase;
use equipoise::model::mdeq::{Mdeq, MdeqConfig};
use equipoise::problems::linear_deq;
use equipoise::readout::{Readout, Tail};
use equipoise::solve::{Keep, Method, SolverConfig, StateChoice, solve, solve_keeping};
use equipoise::state::{Injection, State};
use equipoise::victim::{Deployment, Victim};
use equipoise::work::WorkCounter;

fn tiny() -> (Mdeq, Deployment) {
    let config = MdeqConfig {
        channels: vec![8, 8],
        head_channels: vec![2, 4],
        final_channels: 12,
        image: [1, 8, 8],
        ..MdeqConfig::digits()
    };
    (config.init(5, &Device::default()).unwrap(), Deployment::exact())
}

fn labels(count: usize) -> Vec<usize> {
    (0..count).map(|i| (3 * i + 1) % 10).collect()
}

/// On a linear contraction z* = (I − A)⁻¹ x, so the loss is a function that can be differenced in float64.
#[test]
fn the_exact_gradient_is_exact_on_a_contraction() {
    let model = linear_deq(9, 4, 0.8, &mut Init::new(2, &Device::default()));
    let solver = SolverConfig::broyden(80).with_tolerance(1e-6);
    let deployment = Deployment { solver: solver.clone(), backward: solver, ..Deployment::exact() };
    let images = uniform([3, 1, 3, 3], 1);
    let objective = CrossEntropy { labels: vec![0, 1, 2] };
    let victim = Victim::ready_made(&model, &deployment);
    let gradient = victim.value_and_gradient(&images, &objective).gradient;

    let loss = |images: &Images| -> f64 {
        // Far more iterations than float64 needs at contraction 0.8.
        let injection = double(images.clone()).flatten::<2>(1, 3);
        let cell = equipoise::problems::LinearCell { matrix: model.cell.matrix.clone().map(double) };
        let mut z = injection.zeros_like();
        for _ in 0..200 {
            z = cell.apply(z, injection.clone());
        }
        let head = equipoise::model::linear::LinearHead {
            classifier: equipoise::model::layers::Dense {
                weight: model.head.classifier.weight.clone().map(double),
                bias: model.head.classifier.bias.clone().map(double),
            },
        };
        entries(&objective.values(head.forward(z, &Phase::Evaluate))).iter().sum()
    };
    let direction = normal([3, 1, 3, 3], 2);
    let step = 1e-5;
    let moved = |step: f64| double(images.clone()) + double(direction.clone()) * step;
    let measured = (loss(&moved(step)) - loss(&moved(-step))) / (2.0 * step);
    let predicted = inner(&gradient, &direction);
    assert!((measured - predicted).abs() < 1e-3 * measured.abs(), "{measured} {predicted}");
}

/// Unrolling from a detached state is an ordinary function of the image: autodiff through it is the answer.
#[test]
fn the_unrolled_gradient_is_that_of_its_own_applications() {
    let (model, deployment) = tiny();
    let images = uniform([4, 1, 8, 8], 3);
    let objective = CrossEntropy { labels: labels(4) };
    for (state, lead, steps, damping) in [("3", 1, 2, 0.5), ("best", 1, 3, 1.0), ("1", 2, 0, 0.5)] {
        let spec = format!("unrolled:state={state},lead={lead},steps={steps},damping={damping}");
        let estimator: Estimator = spec.parse().unwrap();
        let victim = Victim::new(&model, &deployment, Readout::final_state(), estimator);
        let (reading, gradient, forward) = victim.gradient(&images, &objective);

        let tracked = images.clone().autodiff().require_grad();
        let injection = model.stem.forward(tracked.clone(), &Phase::Evaluate);
        let mut a = forward.trajectory.choose(state.parse().unwrap()).into_tensor();
        for damping in (Tail { lead, steps, damping }).dampings() {
            a = a.clone() * (1.0 - damping) + model.cell.apply(a, injection.clone()) * damping;
        }
        let logits = model.head.forward(a, &Phase::Evaluate);
        assert!(relative_error(&reading.logits, &logits.clone().inner()) < 1e-5);
        let gradients = objective.values(logits).sum().backward();
        let expected = tracked.grad(&gradients).unwrap();
        assert!(relative_error(&gradient, &expected) < 1e-4, "{spec}");
    }
}

#[test]
fn an_ensemble_is_the_mean_of_its_members() {
    let (model, deployment) = tiny();
    let images = uniform([3, 1, 8, 8], 4);
    let objective = CrossEntropy { labels: labels(3) };
    let gradient = |spec: &str| {
        let victim = Victim::new(&model, &deployment, Readout::final_state(), spec.parse().unwrap());
        (victim.gradient(&images, &objective).1, victim.work())
    };
    let members = ["exact", "unrolled:state=2,lead=1,steps=1", "unrolled:state=5,lead=1,steps=0"];
    let (together, work) = gradient(&format!("ensemble({})", members.join(",")));
    let alone: Vec<_> = members.iter().map(|member| gradient(member)).collect();
    let mean = alone.iter().map(|(gradient, _)| gradient.clone()).reduce(|a, b| a + b).unwrap() / 3.0;
    assert!(relative_error(&together, &mean) < 1e-5);
    // One trajectory serves all: two forward solves are saved.
    let solve = 3 * (deployment.solver.steps as u64 + 1);
    let sum: u64 = alone.iter().map(|(_, work)| work.cell_evaluations).sum();
    assert_eq!(work.cell_evaluations, sum - 2 * solve);
}

#[test]
fn work_is_what_the_algorithms_say() {
    let (model, mut deployment) = tiny();
    deployment.solver.tolerance = 0.0;
    deployment.backward.tolerance = 0.0;
    let images = uniform([2, 1, 8, 8], 5);
    let objective = CrossEntropy { labels: labels(2) };
    let work = |spec: &str| {
        let victim = Victim::new(&model, &deployment, Readout::final_state(), spec.parse().unwrap());
        victim.gradient(&images, &objective);
        let work = victim.work();
        (work.cell_evaluations / 2, work.vjps / 2)
    };
    // Forward: z_0 and 8 steps, of which the last one, here the best, is linearised on its way. Exact: 7 backward steps.
    assert_eq!(work("exact"), (9, 7));
    assert_eq!(work("unrolled:state=best,lead=1,steps=9"), (9 + 9, 10));
    // Every member's linearisation is that of the evaluation on the solver's way.
    assert_eq!(work("ensemble(unrolled:state=1..8,lead=1,steps=0)"), (9, 8));
    assert_eq!(work("unrolled:state=3,lead=1,steps=4"), (9 + 4, 5));
    assert_eq!(work("ensemble(adjoint:state=1..8)"), (9, 7 + 8));
    assert_eq!(work("through-solver"), (9, 8 + 1));
    // An early readout needs only the steps up to its state.
    let victim = Victim::new(&model, &deployment, Readout::early(3), Estimator::exact());
    victim.logits(&images);
    assert_eq!(victim.work().cell_evaluations / 2, 4);
}

/// The model and everything it computes in float64.
fn in_float64(model: &Mdeq) -> Mdeq {
    struct Double;
    impl ModuleMapper for Double {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(double)
        }
    }
    model.clone().map(&mut Double)
}

/// The one estimator that is the gradient of what is deployed, whatever the solver and whatever it did: after three steps or
/// eight, converged or not, behind every readout, with the tail or without.
#[test]
fn through_solver_is_the_gradient_of_the_deployed_function() {
    let (model, exact) = tiny();
    let model = in_float64(&model);
    let images = double(uniform([4, 1, 8, 8], 8));
    let objective = CrossEntropy { labels: labels(4) };
    // A tolerance between the examples' residuals after five steps: some of them stop early.
    let victim = Victim::ready_made(&model, &exact);
    let forward = victim.forward(&images, 8);
    let mut residuals: Vec<f64> = forward.trajectory.relative_residuals().iter().map(|r| r[4]).collect();
    residuals.sort_by(f64::total_cmp);
    let tolerance = (residuals[1] + residuals[2]) / 2.0;
    let with = |solver: SolverConfig| Deployment { solver, ..exact.clone() };
    let loose = with(SolverConfig::broyden(8).with_tolerance(tolerance));
    let unrolled = Deployment { tail: Tail { lead: 1, steps: 2, damping: 0.5 }, ..exact.clone() };
    let short = with(SolverConfig::broyden(3));
    // Memories shorter and longer than the solve, with the regularisation of files and without any, as it is and damped.
    let anderson = |memory, regularisation, mixing, steps| SolverConfig {
        method: Method::anderson(memory, regularisation, mixing),
        ..SolverConfig::anderson(steps).with_tolerance(0.0)
    };
    let cases = [
        ("exact", exact.clone()),
        ("loose", loose),
        ("unrolled", unrolled),
        ("short", short),
        ("anderson", with(SolverConfig::anderson(8).with_tolerance(0.0))),
        ("anderson, few points", with(anderson(2, 1e-4, 0.7, 6))),
        ("anderson, exact weights", with(anderson(4, 0.0, 1.0, 5))),
        ("anderson, one point", with(anderson(1, 1e-4, 0.5, 4))),
        ("picard", with(SolverConfig::picard(5, 1.0).with_tolerance(0.0))),
        ("reversible", with(SolverConfig::reversible(8, 0.8).with_tolerance(0.0))),
        ("reversible, loose", with(SolverConfig::reversible(12, 0.6).with_tolerance(0.1))),
        ("picard, damped", with(SolverConfig::picard(6, 0.4).with_tolerance(0.0))),
    ];
    for (name, deployment) in cases {
        for readout in readouts() {
            let victim = Victim::new(&model, &deployment, readout.clone(), Estimator::through_solver());
            let (reading, gradient, forward) = victim.gradient(&images, &objective);
            if name == "loose" {
                let steps = forward.trajectory.steps();
                assert!(steps.iter().any(|&steps| steps < 8), "{steps:?}: nobody stopped early");
            }
            assert!(relative_error(&reading.logits, &victim.logits(&images)) < 1e-12);
            let direction = double(normal([4, 1, 8, 8], 9));
            // So short that hardly any rectifier has its kink in between.
            let step = 1e-8;
            let loss = |step: f64| {
                let moved = images.clone() + direction.clone() * step;
                let logits = victim.logits(&moved);
                entries(&objective.values(logits)).iter().sum::<f64>()
            };
            let measured = (loss(step) - loss(-step)) / (2.0 * step);
            let predicted = inner(&gradient, &direction);
            let scale = inner(&gradient, &gradient).sqrt();
            let error = (measured - predicted).abs() / scale;
            assert!(error < 1e-3, "{name} {readout}: measured {measured}, predicted {predicted}, {error}");
        }
    }
}

/// Where everything has converged, all estimators mean the same.
#[test]
fn all_estimators_agree_on_a_contraction() {
    let model = linear_deq(9, 4, 0.6, &mut Init::new(2, &Device::default()));
    let solver = SolverConfig::broyden(30).with_tolerance(1e-5);
    let deployment = Deployment { solver: solver.clone(), backward: solver, ..Deployment::exact() };
    let images = uniform([3, 1, 3, 3], 1);
    let objective = CrossEntropy { labels: vec![0, 1, 2] };
    let gradient = |spec: &str| {
        let victim = Victim::new(&model, &deployment, Readout::final_state(), spec.parse().unwrap());
        victim.gradient(&images, &objective).1
    };
    let truth = gradient("through-solver");
    for spec in [
        "exact",
        "unrolled:state=best,lead=30,steps=0",
        "adjoint:state=last",
        "adjoint:state=best",
        "ensemble(exact,adjoint:state=last,unrolled:state=best,lead=30,steps=0)",
        "joint(exact,exact)",
    ] {
        let cosine = worst_cosine(&gradient(spec), &truth);
        assert!(cosine > 0.99, "{spec}: {cosine}");
    }
}

/// What `aimed(exact)` means: the state moves as a fixed point would, by (I − A)⁻¹ times the image's movement, and the
/// loss is read where the readout reads it. On a linear cell that is a function to be differenced in float64.
#[test]
fn the_aimed_gradient_is_implicit_at_the_states_that_are_read() {
    let model = linear_deq(9, 4, 0.8, &mut Init::new(2, &Device::default()));
    let backward = SolverConfig::broyden(80).with_tolerance(1e-6);
    let deployment = Deployment { backward, solver: SolverConfig::broyden(5), ..Deployment::exact() };
    let images = uniform([3, 1, 3, 3], 1);
    let objective = CrossEntropy { labels: vec![0, 1, 2] };
    let cell = equipoise::problems::LinearCell { matrix: model.cell.matrix.clone().map(double) };
    let head = equipoise::model::linear::LinearHead {
        classifier: equipoise::model::layers::Dense {
            weight: model.head.classifier.weight.clone().map(double),
            bias: model.head.classifier.bias.clone().map(double),
        },
    };
    let direction = normal([3, 1, 3, 3], 2);
    let injected = double(direction.clone()).flatten::<2>(1, 3);
    let movement = (0..200).fold(injected.zeros_like(), |w, _| cell.apply(w, injected.clone()));
    for readout in [Readout::early(2), Readout::ensemble_states(), Readout::ensemble_logits()] {
        let victim = Victim::new(&model, &deployment, readout.clone(), "aimed(exact)".parse().unwrap());
        let (reading, gradient, forward) = victim.gradient(&images, &objective);
        assert!(
            relative_error(&reading.logits, &victim.logits(&images)) < 1e-5,
            "it reads what {readout} reads"
        );
        let moved = |step: f64| {
            let states = forward.trajectory.states().iter().map(|state| double(state.tensor().clone()));
            let last = cell.apply(
                double(forward.trajectory.choose(StateChoice::Best).into_tensor()),
                double(images.clone()).flatten(1, 3),
            );
            let all: Vec<_> = states.chain([last]).map(|z| z + movement.clone() * step).collect();
            let count = all.len() as f64;
            let logits = match readout.to_string().as_str() {
                "early(2)" => head.forward(all[1].clone(), &Phase::Evaluate),
                "ensemble-states" => {
                    head.forward(all.into_iter().reduce(|a, b| a + b).unwrap() / count, &Phase::Evaluate)
                }
                _ => {
                    let logits = all.into_iter().map(|z| head.forward(z, &Phase::Evaluate));
                    logits.reduce(|a, b| a + b).unwrap() / count
                }
            };
            entries(&objective.values(logits)).iter().sum::<f64>()
        };
        let step = 1e-5;
        let measured = (moved(step) - moved(-step)) / (2.0 * step);
        let predicted = inner(&gradient, &direction);
        assert!((measured - predicted).abs() < 1e-3 * measured.abs(), "{readout}: {measured} {predicted}");
    }
    // Behind `final` it is the method itself, and `unrolled` starts where the readout reads.
    let gradient = |readout, spec: &str| {
        to_vec(
            Victim::new(&model, &deployment, readout, spec.parse().unwrap()).gradient(&images, &objective).1,
        )
    };
    assert_eq!(gradient(Readout::final_state(), "aimed(exact)"), gradient(Readout::final_state(), "exact"));
    assert_eq!(
        gradient(Readout::early(3), "aimed(unrolled:state=best,lead=1,steps=2)"),
        gradient(Readout::early(3), "unrolled:state=3,lead=1,steps=2")
    );
}

#[test]
fn a_plan_knows_what_a_question_costs() {
    let architecture = equipoise::architecture::Architecture::named("mdeq-digits").unwrap();
    let network = architecture.init(3, &Device::default()).unwrap();
    let images = uniform([2, 1, 8, 8], 5);
    let objective = CrossEntropy { labels: labels(2) };
    for mut deployment in [Deployment::exact(), Deployment::unrolled()] {
        deployment.solver.tolerance = 0.0;
        deployment.backward.tolerance = 0.0;
        for readout in readouts() {
            let norm = equipoise::attack::Norm::Linf;
            let subject = equipoise::plan::Subject {
                model: &*network,
                deployment: &deployment,
                readout: readout.clone(),
                classes: 10,
                norm,
            };
            let counted = |work: equipoise::work::Work| (work.cell_evaluations + work.vjps) as f64 / 2.0;
            let victim = network.victim(&deployment, readout.clone(), Estimator::exact());
            victim.logits(&images);
            assert_eq!(counted(victim.work()), subject.work(None), "{readout}");
            for spec in ESTIMATORS {
                let estimator: Estimator = spec.parse().unwrap();
                let victim = network.victim(&deployment, readout.clone(), estimator.clone());
                victim.value_and_gradient(&images, &objective);
                let (found, planned) = (counted(victim.work()), subject.work(Some(&estimator)));
                assert!(
                    (found - planned).abs() <= 1.0,
                    "{spec} behind {readout}: {found}, planned {planned}"
                );
            }
        }
    }
}

#[test]
fn adjoints_of_one_ensemble_share_their_pass() {
    let (model, mut deployment) = tiny();
    deployment.solver.tolerance = 0.0;
    let images = uniform([2, 1, 8, 8], 5);
    let objective = CrossEntropy { labels: labels(2) };
    let run = |spec: &str| {
        let victim = Victim::new(&model, &deployment, Readout::final_state(), spec.parse().unwrap());
        let gradient = victim.gradient(&images, &objective).1;
        (gradient, victim.work().cell_evaluations / 2, victim.work().vjps / 2)
    };
    // Forward 9, each linearised on the way; then products along it and one at each state read.
    let (together, evaluations, vjps) = run("ensemble(adjoint:state=1..8)");
    assert_eq!((evaluations, vjps), (9, 7 - 1 + 1 + 8));
    let alone = (1..=8).map(|t| run(&format!("adjoint:state={t}")).0).reduce(|a, b| a + b).unwrap() / 8.0;
    assert!(relative_error(&together, &alone) < 1e-5);
    let (_, evaluations, vjps) = run("through-solver");
    // z_0..z_7, and the last state, where the tail is applied.
    assert_eq!((evaluations, vjps), (9, 1 + 8));
}

/// Examples that stop early under Anderson's and Picard's methods: the others must not move them, nor they the others.
#[test]
fn through_solver_is_exact_for_examples_that_stop_early_under_every_solver() {
    let (model, exact) = tiny();
    let model = in_float64(&model);
    let images = double(uniform([4, 1, 8, 8], 8));
    let objective = CrossEntropy { labels: labels(4) };
    for solver in [SolverConfig::anderson(9), SolverConfig::picard(9, 0.8)] {
        let to_the_end = Deployment { solver: solver.clone().with_tolerance(0.0), ..exact.clone() };
        let forward = Victim::ready_made(&model, &to_the_end).forward(&images, 9);
        let mut residuals: Vec<f64> = forward.trajectory.relative_residuals().iter().map(|r| r[5]).collect();
        residuals.sort_by(f64::total_cmp);
        let tolerance = (residuals[1] + residuals[2]) / 2.0;
        let deployment = Deployment { solver: solver.with_tolerance(tolerance), ..exact.clone() };
        for readout in readouts() {
            let victim = Victim::new(&model, &deployment, readout.clone(), Estimator::through_solver());
            let (_, gradient, forward) = victim.gradient(&images, &objective);
            let steps = forward.trajectory.steps();
            assert!(steps.iter().any(|&steps| steps < 9) && steps.contains(&9), "{steps:?}");
            let direction = double(normal([4, 1, 8, 8], 9));
            let loss = |step: f64| {
                let logits = victim.logits(&(images.clone() + direction.clone() * step));
                entries(&objective.values(logits)).iter().sum::<f64>()
            };
            let step = 1e-8;
            let measured = (loss(step) - loss(-step)) / (2.0 * step);
            let error = (measured - inner(&gradient, &direction)).abs() / inner(&gradient, &gradient).sqrt();
            assert!(error < 1e-3, "{readout}: {error}");
        }
    }
}

/// Where everything has converged the adjoint is the true gradient, along whatever iteration it goes.
#[test]
fn the_adjoint_converges_along_every_solver() {
    let model = linear_deq(9, 4, 0.6, &mut Init::new(2, &Device::default()));
    let images = uniform([3, 1, 3, 3], 1);
    let objective = CrossEntropy { labels: vec![0, 1, 2] };
    for solver in [SolverConfig::broyden(30), SolverConfig::anderson(30), SolverConfig::picard(60, 0.9)] {
        let solver = solver.with_tolerance(0.0);
        let deployment = Deployment { solver, ..Deployment::exact() };
        let gradient = |spec: &str| {
            Victim::new(&model, &deployment, Readout::final_state(), spec.parse().unwrap())
                .gradient(&images, &objective)
                .1
        };
        let cosine = worst_cosine(&gradient("adjoint:state=last"), &gradient("through-solver"));
        assert!(cosine > 0.999, "{:?}: {cosine}", deployment.solver.method);
    }
}

/// The built-in readouts, and one of another crate.
fn readouts() -> [Readout; 5] {
    [
        Readout::final_state(),
        Readout::early(3),
        Readout::ensemble_states(),
        Readout::ensemble_logits(),
        crate::last_two::LastTwo.into(),
    ]
}

/// Every kind of estimator, and one of another crate.
const ESTIMATORS: [&str; 10] = [
    "exact",
    "unrolled:state=4,lead=1,steps=2",
    "ensemble(unrolled:state=1..8,lead=1,steps=0)",
    "adjoint:state=best",
    "ensemble(adjoint:state=7..8,beta=1,adjoint:state=8,beta=0.5)",
    "through-solver",
    "joint(exact,unrolled:state=3,lead=1,steps=0)",
    "aimed(exact)",
    "aimed(unrolled:state=best,lead=1,steps=2)",
    "neumann:terms=5",
];

/// Every kind that goes through a defence, and one that knows of none.
const BEHIND_DEFENCES: [&str; 5] =
    ["shift", "smooth(1)", "lock-in(1,0,0,1,smooth(0.1))", "off(through-solver)", "exact"];

/// Logits and gradients of every readout × estimator, as bits.
fn everything(images: &Images, labels: &[usize]) -> Vec<Vec<Vec<u32>>> {
    let (model, deployment) = tiny();
    let objective = CrossEntropy { labels: labels.to_vec() };
    let mut results = vec![Vec::new(); labels.len()];
    let defences: [Readout; 2] =
        ["entropy-reduction", "entropy-reduction-corrected"].map(|name| name.parse().unwrap());
    let plain = readouts().map(|readout| (readout, &ESTIMATORS[..]));
    let defended = defences.map(|readout| (readout, &BEHIND_DEFENCES[..]));
    for (readout, estimators) in plain.into_iter().chain(defended) {
        for estimator in estimators {
            let victim = Victim::new(&model, &deployment, readout.clone(), estimator.parse().unwrap());
            let answer = victim.value_and_gradient(images, &objective);
            for (row, result) in results.iter_mut().enumerate() {
                let logits = to_vec(select(&answer.logits, &[row]));
                let gradient = to_vec(select(&answer.gradient, &[row]));
                result.push(logits.iter().chain(&gradient).map(|x| x.to_bits()).collect());
            }
        }
    }
    results
}

#[test]
fn an_example_alone_is_the_example_in_a_batch_of_64() {
    let images = uniform([64, 1, 8, 8], 6);
    let together = everything(&images, &labels(64));
    for row in [0, 1, 31, 63] {
        let alone = everything(&select(&images, &[row]), &labels(64)[row..=row]);
        assert_eq!(alone[0], together[row], "row {row}");
    }
}

#[test]
fn threads_change_nothing() {
    let images = uniform([9, 1, 8, 8], 7);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| everything(&images, &labels(9)))
    };
    assert_eq!(with(1), with(2));
}

/// Examples leave the batch at different times and have their best iterates at different places: what the solve kept serves
/// some of them, and the others are linearised anew.
#[test]
fn a_kept_linearisation_is_the_same_for_any_rows() {
    let (model, _) = tiny();
    let images = uniform([7, 1, 8, 8], 8);
    let injection = model.stem.forward(images, &Phase::Evaluate);
    let dim = model.cell.state_dim();
    let cell = |counter: &WorkCounter| Counted::new(model.cell.bind(&injection), counter.clone());
    let start = State::from(injection.clone()).zeros([7, dim]);
    let mut seen = Vec::new();
    let cases = [(3, 0.0), (8, 0.0), (9, 0.0), (8, 0.1), (9, 0.15)].into_iter();
    let cases = cases.flat_map(|(steps, tolerance)| {
        [vec![steps], vec![2, steps], (0..=steps).collect()].map(|keep| (steps, tolerance, keep))
    });
    for (steps, tolerance, keep) in cases {
        let config = SolverConfig::broyden(steps).with_tolerance(tolerance);
        let counter = WorkCounter::default();
        let counted = cell(&counter);
        let trajectory = solve_keeping(&counted, start.clone(), &config, &Keep::at(keep.clone()));
        let plain = solve(&cell(&WorkCounter::default()), start.clone(), &config);
        assert_eq!(trajectory.steps(), plain.steps());
        for t in 1..=steps {
            assert_eq!(trajectory.state(t).to_f32(), plain.state(t).to_f32());
        }
        let taken: u64 = trajectory.steps().iter().map(|&steps| steps as u64 + 1).sum();
        assert_eq!(counter.total().cell_evaluations, taken);
        for choice in [
            StateChoice::At(2),
            StateChoice::BestOf(steps - 1),
            StateChoice::BestOf(steps),
            StateChoice::Best,
            StateChoice::Last,
            StateChoice::Best,
        ] {
            let numbers = trajectory.numbers(choice);
            let served = |row: &usize| keep.contains(&numbers[*row].min(trajectory.steps()[*row]));
            let serving: Vec<usize> = (0..7).filter(served).collect();
            seen.push(serving.len());
            let before = counter.total();
            let found = trajectory.linearize(&counted, choice);
            assert_eq!((counter.total() - before).cell_evaluations as usize, 7 - serving.len());
            let expected = cell(&WorkCounter::default()).linearize(&plain.choose(choice));
            let u = State::from(normal([7, dim], 3));
            assert_eq!(found.value().to_f32(), expected.value().to_f32());
            assert_eq!(found.vjp_state(&u).to_f32(), expected.vjp_state(&u).to_f32());
            let ((a, b), (c, d)) = (found.vjp(&u), expected.vjp(&u));
            assert_eq!((a.to_f32(), b.to_f32()), (c.to_f32(), d.to_f32()));
            let rows = [5, 3, 0];
            let part = u.select(&rows);
            let (some, of_all) = (found.select(&rows), expected.select(&rows));
            assert_eq!(some.vjp_state(&part).to_f32(), of_all.vjp_state(&part).to_f32());
            let (mut into, mut reference) = (GradientsParams::new(), GradientsParams::new());
            found.vjp_parameters(&u, &mut into);
            expected.vjp_parameters(&u, &mut reference);
            let of = |gradients: &GradientsParams| crate::common::parameter_gradients(&model.cell, gradients);
            crate::common::compare_all(&of(&into), &of(&reference), 1e-5);
        }
    }
    // All of them, some, and none.
    assert!(seen.contains(&7) && seen.contains(&0), "{seen:?}");
    assert!(seen.iter().filter(|&&served| 0 < served && served < 7).count() > 1, "{seen:?}");
}

/// A cell whose linearisations take so much memory, as they say.
struct Heavy {
    cell: Counted,
    memory: Option<usize>,
}

struct HeavyLinearization {
    inner: Box<dyn Linearization>,
    memory: Option<usize>,
}

impl FixedPointMap for Heavy {
    fn apply(&self, state: &State) -> State {
        self.cell.apply(state)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        self.cell.select(rows)
    }
}

impl BoundCell for Heavy {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        Box::new(HeavyLinearization { inner: self.cell.linearize(state), memory: self.memory })
    }
}

impl Linearization for HeavyLinearization {
    fn value(&self) -> &State {
        self.inner.value()
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        self.inner.vjp_state(cotangent)
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        self.inner.vjp(cotangent)
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        self.inner.vjp_parameters(cotangent, into)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        Box::new(Self { inner: self.inner.select(rows), memory: self.memory })
    }

    fn memory(&self) -> Option<usize> {
        self.memory
    }
}

/// The first ones are kept as far as 24 MiB for each example reach, whatever the batch, and the last one always.
#[test]
fn linearisations_are_kept_as_far_as_memory_reaches() {
    let (model, _) = tiny();
    let injection = model.stem.forward(uniform([3, 1, 8, 8], 8), &Phase::Evaluate);
    let start = State::from(injection.clone()).zeros([3, model.cell.state_dim()]);
    let config = SolverConfig::broyden(8).with_tolerance(0.0);
    for (memory, kept) in [
        (Some(1 << 10), vec![0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (Some(8 << 20), vec![0, 1, 2, 8]),
        (Some((8 << 20) + 1), vec![0, 1, 8]),
        (Some(25 << 20), vec![8]),
        (None, vec![8]),
    ] {
        let counter = WorkCounter::default();
        let cell = Heavy { cell: Counted::new(model.cell.bind(&injection), counter.clone()), memory };
        let trajectory = solve_keeping(&cell, start.clone(), &config, &Keep::at(0..=8));
        assert_eq!(counter.total().cell_evaluations, 3 * 9);
        let free = |t: &usize| {
            let before = counter.total();
            trajectory.linearize(&cell, StateChoice::At(*t));
            counter.total() == before
        };
        let found: Vec<usize> = (1..=8).filter(free).collect();
        assert_eq!(found, kept.into_iter().filter(|&t| t > 0).collect::<Vec<_>>(), "{memory:?}");
    }
}
