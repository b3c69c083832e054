//! Random intermediate states: a solve that ends early for each example alone, and training that reads such states.

use std::cell::Cell;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use equipoise::architecture::Architecture;
use equipoise::attack::{Classifier, WhiteBox};
use equipoise::batch::{select, to_vec};
use equipoise::checkpoint::{FORMAT_VERSION, Metadata};
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::cell::Cell as _;
use equipoise::model::deq::Stem;
use equipoise::model::layers::Phase;
use equipoise::readout::{Readout, Tail};
use equipoise::solve::{Keep, SolverConfig, Trajectory, solve_keeping};
use equipoise::train::{
    Adversary, AdversaryKind, EpochReport, Observer, Outcome, Plan, RandomStates, Silent, StepOptions,
    StepReport, TrainConfig, Warmup, gradients, train,
};
use equipoise::victim::{Deployment, Victim};
use equipoise_dataset::{Dataset, Source, Split};

use crate::common::{parameter_gradients, small_mdeq, uniform};

const STEPS: [usize; 5] = [3, 8, 1, 5, 8];

/// The published tail and training gradient.
fn deployment() -> Deployment {
    let tail = Tail { lead: 1, steps: 5, damping: 0.5 };
    let training_gradient = "unrolled:state=best,lead=1,steps=5,damping=0.5".parse().unwrap();
    Deployment { tail, training_gradient, ..Deployment::exact() }
}

/// Each example's iterates, residuals, best and way of stopping are those of a solve with its own number of steps.
#[test]
fn a_solve_that_ended_is_one_with_so_many_steps() {
    let model = small_mdeq().init(3, &Device::default()).unwrap();
    let injection = model.stem.forward(uniform([5, 1, 8, 8], 1), &Phase::Evaluate);
    let bound = model.cell.bind(&injection);
    let start = || Tensor::<2>::zeros([5, model.cell.state_dim()], &Device::default()).into();
    for config in
        [SolverConfig::broyden(8), SolverConfig::anderson(8), SolverConfig::broyden(8).with_tolerance(0.3)]
    {
        let solved = |steps: usize| -> Trajectory {
            solve_keeping(&*bound, start(), &SolverConfig { steps, ..config.clone() }, &Keep::at([steps]))
        };
        let ended = solved(8).ended_after(&STEPS);
        for (row, &steps) in STEPS.iter().enumerate() {
            let expected = solved(steps);
            for t in 1..=8 {
                let state = |of: &Trajectory| of.state(t.min(of.len())).select(&[row]).to_f32();
                assert_eq!(state(&ended), state(&expected), "example {row}, z_{t}");
                let value = |of: &Trajectory| of.evaluation(t.min(of.len())).value.select(&[row]).to_f32();
                assert_eq!(value(&ended), value(&expected), "example {row}, f(z_{t})");
            }
            assert_eq!(ended.relative_residuals()[row][..steps], expected.relative_residuals()[row]);
            assert_eq!(ended.best()[row], expected.best()[row]);
            assert_eq!(ended.steps()[row], expected.steps()[row]);
            assert_eq!(ended.stop_reasons()[row], expected.stop_reasons()[row]);
        }
    }
}

#[test]
fn answers_and_gradients_are_those_of_so_many_steps() {
    let model = small_mdeq().init(3, &Device::default()).unwrap();
    let (images, objective) = (uniform([5, 1, 8, 8], 1), CrossEntropy { labels: vec![0, 1, 2, 3, 4] });
    for estimator in ["exact", "unrolled:state=best,lead=1,steps=5", "through-solver"] {
        let (deployment, estimator): (_, Estimator) = (deployment(), estimator.parse().unwrap());
        let victim = Victim::new(&model, &deployment, Readout::final_state(), estimator.clone());
        let found = victim.differentiate_within(&images, &objective, &STEPS);
        let logits = victim.logits_within(&images, &STEPS);
        for (row, &steps) in STEPS.iter().enumerate() {
            let solver = SolverConfig { steps, ..deployment.solver.clone() };
            let shorter = Deployment { solver, ..deployment.clone() };
            let victim = Victim::new(&model, &shorter, Readout::final_state(), estimator.clone());
            let expected = victim.value_and_gradient(&images, &objective);
            let of = |gradient: &Tensor<4>| to_vec(select(gradient, &[row]));
            assert_eq!(of(&found.gradient), of(&expected.gradient), "{estimator}, {steps} steps");
            let expected = to_vec(select(&victim.logits(&images), &[row]));
            assert_eq!(to_vec(select(&found.logits, &[row])), expected);
            assert_eq!(to_vec(select(&logits, &[row])), expected);
        }
    }
}

#[test]
fn a_training_pass_reads_the_states_that_were_drawn() {
    let model = small_mdeq().init(3, &Device::default()).unwrap();
    let (images, objective) = (uniform([5, 1, 8, 8], 1), CrossEntropy { labels: vec![0, 1, 2, 3, 4] });
    let pass = |options: StepOptions| {
        let found = gradients(&model, &deployment(), &options, &images, &objective, &Default::default());
        let found = found.unwrap();
        (to_vec(found.values), parameter_gradients(&model, &found.parameters))
    };
    let drawn =
        |steps: [usize; 5]| pass(StepOptions { ended_after: Some(steps.to_vec()), ..Default::default() });
    let budget = |steps| pass(StepOptions { solver_steps: Some(steps), ..Default::default() });
    assert_eq!(drawn([3; 5]), budget(3));
    assert_eq!(drawn([8; 5]), budget(8));
    assert_ne!(drawn(STEPS), budget(8));
}

fn plan<'a>(data: &'a Dataset, folder: &Path, kind: AdversaryKind) -> Plan<'a> {
    let config = TrainConfig {
        batch_size: 16,
        development: 20,
        checkpoint_steps: 1,
        warmup: Warmup { steps: 1, layers: 2 },
        adversary: Some(Adversary { kind, eps: 0.1, steps: 2, ..Adversary::default() }),
        random_states: Some(RandomStates::default()),
        ..TrainConfig::standard(2)
    };
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: "drawn".into(),
        architecture: Architecture::from(small_mdeq()),
        deployment: deployment(),
        data: String::new(),
        training: serde_json::Value::Null,
    };
    Plan { metadata, config, data, init: None, seed: 3, folder: folder.to_owned(), resume: true }
}

/// Stops after so many steps.
struct StopAfter(Cell<usize>);

impl Observer for StopAfter {
    fn begin(&self, _: usize, _: usize) {}
    fn epoch(&self, _: &EpochReport) {}
    fn step(&self, _: &StepReport) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    fn cancelled(&self) -> bool {
        self.0.get() == 0
    }
}

#[test]
fn a_run_with_draws_is_resumed_to_the_bit() {
    let data = Source::Digits.load(Split::Train).unwrap().take(84);
    let device = Device::default();
    let weights = |outcome: Outcome| {
        assert!(outcome.complete);
        outcome.model.model.weights()
    };
    for kind in [AdversaryKind::Pgd, AdversaryKind::Trades] {
        let folder = tempfile::tempdir().unwrap();
        let whole = weights(train(&plan(&data, folder.path(), kind), &device, &Silent).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let cut = plan(&data, folder.path(), kind);
        for _ in 0..2 {
            assert!(!train(&cut, &device, &StopAfter(Cell::new(3))).unwrap().complete);
        }
        assert_eq!(weights(train(&cut, &device, &Silent).unwrap()), whole, "{kind:?}");
    }
}
