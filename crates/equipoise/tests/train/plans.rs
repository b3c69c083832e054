//! What runs are made of: a small one, one with everything, and one that is stopped.

use std::cell::Cell as Flag;
use std::path::Path;

use crate::common::small_mdeq;
use equipoise::architecture::Architecture;
use equipoise::checkpoint::{FORMAT_VERSION, Metadata};
use equipoise::model::mdeq::MdeqConfig;
use equipoise::solve::SolverConfig;
use equipoise::train::{
    Adversary, AdversaryKind, Augment, EarlyStopping, EpochReport, JacobianRegularisation, Observer, Outcome,
    Plan, RandomBudget, StepReport, TrainConfig, Warmup,
};
use equipoise::victim::Deployment;
use equipoise_dataset::Dataset;

pub(crate) fn plan<'a>(data: &'a Dataset, folder: &Path) -> Plan<'a> {
    let adversary = Adversary { eps: 0.1, steps: 2, ..Adversary::default() };
    let config = TrainConfig {
        batch_size: 16,
        development: 20,
        checkpoint_steps: 2,
        adversary: Some(adversary),
        augment: Some(Augment { crop: 1, flip: false }),
        warmup: Warmup { steps: 2, layers: 2 },
        ..TrainConfig::standard(2)
    };
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: "test".into(),
        architecture: Architecture::from(small_mdeq()),
        deployment: Deployment { solver: SolverConfig::broyden(4), ..Deployment::exact() },
        training: serde_json::Value::Null,
        data: String::new(),
    };
    Plan { metadata, config, data, init: None, seed: 1, folder: folder.to_owned(), resume: true }
}

/// Stops after so many steps.
pub(crate) struct StopAfter(Flag<usize>);

impl StopAfter {
    pub(crate) fn new(steps: usize) -> Self {
        Self(Flag::new(steps))
    }
}

impl Observer for StopAfter {
    fn begin(&self, _step: usize, _steps: usize) {}
    fn step(&self, _report: &StepReport) {
        self.0.set(self.0.get().saturating_sub(1));
    }
    fn epoch(&self, _report: &EpochReport) {}
    fn cancelled(&self) -> bool {
        self.0.get() == 0
    }
}

pub(crate) fn weights(outcome: Outcome) -> equipoise::checkpoint::StateDict {
    assert!(outcome.complete);
    outcome.model.model.weights()
}

/// Everything that training can do, at once.
pub(crate) fn full_plan<'a>(data: &'a Dataset, folder: &Path) -> Plan<'a> {
    let mut plan = plan(data, folder);
    plan.metadata.architecture = Architecture::from(MdeqConfig { dropout: 0.2, ..small_mdeq() });
    let config = &mut plan.config;
    config.epochs = 3;
    config.adversary =
        Some(Adversary { kind: AdversaryKind::Trades, eps: 0.1, steps: 2, ..Adversary::default() });
    config.clip_norm = Some(0.5);
    config.jacobian =
        Some(JacobianRegularisation { weight: 0.5, frequency: 0.5, probes: 2, epochs: Some(2) });
    config.random_budget = Some(RandomBudget { steps: [2, 5], only_with_jacobian: false });
    config.early_stopping = Some(EarlyStopping { patience: 2 });
    plan
}

pub(crate) fn lines(folder: &Path, name: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
