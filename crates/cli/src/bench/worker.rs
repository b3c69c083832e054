//! A process that does one piece of work as often as it is asked to.
//!
//! It says `{"ready":true}` once everything is prepared. A line `run N` on its standard input then means N timed
//! repetitions, and is answered by one line of JSON, a [`Reply`]. It ends with its input. The PyTorch program
//! (`benchmarks/pytorch/mdeq.py worker`) speaks the same way.

use std::io::{self, BufRead};
use std::time::Instant;

use burn::optim::AdamConfig;
use equipoise::attack::{Attack, Budget, Examples, Norm, Pgd, PgdConfig};
use equipoise::batch::{Images, select};
use equipoise::certify::{Serialized, Smoothing};
use equipoise::checkpoint::ModelFile;
use equipoise::evaluate::{Points, Quiet};
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::cell::{Counted, FixedPointMap};
use equipoise::model::equilibrium::Equilibrium;
use equipoise::readout::Readout;
use equipoise::solve::{BroydenMemory, solve};
use equipoise::state::State;
use equipoise::train;
use equipoise::work::{Work, WorkCounter};
use serde::{Deserialize, Serialize};

use crate::args;
use crate::error::{Error, input};
use crate::files;
use crate::flags::BenchWorker;
use crate::setup::Setup;

/// What the answer to `run N` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// Of each repetition.
    pub seconds: Vec<f64>,
    /// Cell evaluations of one repetition, per example; 0 if the program does not count them.
    #[serde(default)]
    pub cell_evaluations: f64,
    /// Vector-Jacobian products of one repetition, per example.
    #[serde(default)]
    pub vjps: f64,
    /// Peak of the process's resident memory so far, in KiB; absent where the system does not tell.
    pub peak_kib: Option<u64>,
}

/// What is repeated.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// f(z; x).
    CellForward,
    /// One vector-Jacobian product at a linearisation that is kept.
    CellVjp,
    /// The low-rank products of a solve, at its own states.
    LowRank,
    /// A forward solve, given the injection.
    Solve,
    /// From images to logits.
    Logits,
    /// Votes of smoothing on [`BATCHES`] batches of draws of the first image; fast ones by serialized smoothing.
    Vote { fast: bool },
    /// One step of PGD, stem and head included.
    Pgd(Estimator),
    /// One step of PGD and one of Adam.
    TrainStep,
}

impl Task {
    /// Reads a task as it stands in [`super::case::Case::ours`].
    fn parse(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "cell-forward" => Self::CellForward,
            "cell-vjp" => Self::CellVjp,
            "low-rank" => Self::LowRank,
            "solve" => Self::Solve,
            "logits" => Self::Logits,
            "vote" => Self::Vote { fast: false },
            "vote-fast" => Self::Vote { fast: true },
            "train-step" => Self::TrainStep,
            _ => match text.strip_prefix("pgd:") {
                Some(spec) => {
                    Self::Pgd(spec.parse().map_err(|error| input(format!("--task {text}: {error}")))?)
                }
                None => return Err(input(format!("--task {text}: unknown"))),
            },
        })
    }
}

/// Runs the command.
pub fn run(flags: &BenchWorker, setup: &Setup) -> Result<(), Error> {
    let task = Task::parse(&flags.task)?;
    let (model, _) = args::model(&flags.model, &setup.device)?;
    let (images, labels) =
        equipoise::trace::read_input(&flags.input, &model.metadata.architecture, &setup.device)?;
    let counter = WorkCounter::default();
    let mut repeat = prepare(&task, &model, images, labels.clone(), &counter)?;
    files::print("{\"ready\":true}\n")?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| input(format!("standard input: {error}")))?;
        let count = line.strip_prefix("run ").and_then(|count| count.parse::<usize>().ok());
        let count = count.filter(|&count| count > 0);
        let count = count.ok_or_else(|| input(format!("standard input: `{line}` is not `run N`")))?;
        let before = counter.total();
        let mut spent = Work::default();
        let mut seconds = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            spent = spent + repeat()?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        let spent = spent + (counter.total() - before);
        let each = |work: u64| work as f64 / (count * labels.len()) as f64;
        let reply = Reply {
            seconds,
            cell_evaluations: each(spent.cell_evaluations),
            vjps: each(spent.vjps),
            peak_kib: peak_kib(),
        };
        let text = serde_json::to_string(&reply).map_err(|error| Error::Internal(error.to_string()))?;
        files::print(&format!("{text}\n"))?;
    }
    Ok(())
}

/// The peak of this process's resident memory, where Linux tells.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// What one repetition does; it returns the work that `counter` did not see.
type Repeat<'a> = Box<dyn FnMut() -> Result<Work, Error> + 'a>;

fn prepare<'a>(
    task: &Task,
    file: &'a ModelFile,
    images: Images,
    labels: Vec<usize>,
    counter: &WorkCounter,
) -> Result<Repeat<'a>, Error> {
    Ok(match task {
        Task::CellForward | Task::CellVjp | Task::LowRank | Task::Solve => {
            let Some(model) = file.model.equilibrium() else {
                return Err(input("a DEQ is needed: the model is a feedforward network"));
            };
            cell(task, file, model, &images, counter)
        }
        Task::Logits => {
            let victim =
                file.model.victim(&file.metadata.deployment, Readout::final_state(), Estimator::exact());
            Box::new(move || {
                drop(victim.logits(&images));
                Ok(Work::default())
            })
        }
        Task::Vote { fast } => votes(*fast, file, &images, &labels)?,
        Task::Pgd(estimator) => {
            let victim =
                file.model.victim(&file.metadata.deployment, Readout::final_state(), estimator.clone());
            let attack = one_step()?;
            let budget = budget()?;
            Box::new(move || {
                let before = victim.work();
                let indices: Vec<usize> = (0..labels.len()).collect();
                let examples =
                    Examples { images: &images, labels: &labels, indices: &indices, seed: 0, start: 0 };
                attack.run(&*victim, &examples, &budget);
                Ok(victim.work() - before)
            })
        }
        Task::TrainStep => train_step(file, images, labels, counter.clone())?,
    })
}

/// Work inside the cell and the solver.
fn cell<'a>(
    task: &Task,
    file: &'a ModelFile,
    model: &'a dyn Equilibrium,
    images: &Images,
    counter: &WorkCounter,
) -> Repeat<'a> {
    let injection = model.injection(images);
    let solver = &file.metadata.deployment.solver;
    let [n, _] = injection.dims();
    let start = injection.zeros([n, model.state_dim()]);
    let bound = model.bind(&injection);
    let map: &dyn FixedPointMap = &*bound;
    let trajectory = solve(map, start.clone(), solver);
    // A state as it occurs in a solve.
    let state = trajectory.state(2).clone();
    match task {
        Task::CellVjp => {
            let linearization = Counted::new(bound, counter.clone());
            let linearization = equipoise::model::cell::BoundCell::linearize(&linearization, &state);
            let cotangent = trajectory.state(3).clone();
            Box::new(move || {
                drop(linearization.vjp(&cotangent));
                Ok(Work::default())
            })
        }
        Task::LowRank => {
            let points: Vec<(State, State)> = (0..solver.steps)
                .map(|t| {
                    let at = trajectory.evaluation(t);
                    (at.state.clone(), at.value - at.state)
                })
                .collect();
            Box::new(move || {
                let mut memory = BroydenMemory::default();
                for (state, residual) in &points {
                    drop(memory.direction(state, residual));
                }
                Ok(Work::default())
            })
        }
        Task::Solve => {
            let counter = counter.clone();
            Box::new(move || {
                let cell = Counted::new(model.bind(&injection), counter.clone());
                drop(solve(&cell, start.clone(), solver));
                Ok(Work::default())
            })
        }
        _ => {
            let cell = Counted::new(bound, counter.clone());
            Box::new(move || {
                drop(cell.apply(&state));
                Ok(Work::default())
            })
        }
    }
}

/// Batches of draws in which votes are cast.
const BATCHES: usize = 16;

/// Votes on draws of the first image. Beside the fast ones stand one for the class, the solve without noise, and a check at most.
fn votes<'a>(
    fast: bool,
    file: &'a ModelFile,
    images: &Images,
    labels: &[usize],
) -> Result<Repeat<'a>, Error> {
    let batch = labels.len();
    let points = Points::new(vec![0], select(images, &[0]), vec![labels[0]]).map_err(input)?;
    let serialized = fast.then_some(Serialized { steps: 1, chains: batch, checks: 1 });
    let smoothing =
        Smoothing { selection: 1, estimation: BATCHES * batch, serialized, ..Smoothing::new(0.25) };
    let victim = file.model.victim(&file.metadata.deployment, Readout::final_state(), Estimator::exact());
    smoothing.check_classifier(&victim).map_err(|error| input(error.to_string()))?;
    Ok(Box::new(move || {
        let before = victim.work();
        if fast {
            smoothing.votes(&victim, &points, 0, 0, batch, &Quiet);
        } else {
            smoothing.agreeing(0, &victim, &points, 0, 0, batch, &Quiet);
        }
        Ok(victim.work() - before)
    }))
}

/// One step of the inner attack through the training gradient, then the gradients of all parameters at what it
/// found, then the optimiser's step, as in training.
fn train_step<'a>(
    file: &'a ModelFile,
    images: Images,
    labels: Vec<usize>,
    counter: WorkCounter,
) -> Result<Repeat<'a>, Error> {
    let deployment = &file.metadata.deployment;
    let (attack, budget) = (one_step()?, budget()?);
    let mut optimizer = AdamConfig::new().init();
    let mut model = file.model.clone();
    let indices: Vec<usize> = (0..labels.len()).collect();
    Ok(Box::new(move || {
        let examples = Examples { images: &images, labels: &labels, indices: &indices, seed: 0, start: 0 };
        let victim = model.victim(deployment, Readout::final_state(), deployment.training_gradient.clone());
        let perturbed = attack.run(&*victim, &examples, &budget).images;
        let spent = victim.work();
        drop(victim);
        let objective = CrossEntropy { labels: labels.clone() };
        let options = train::StepOptions::default();
        let step = model.training_pass(deployment, &options, &perturbed, &objective, &counter);
        let step = step.map_err(|error| Error::Internal(error.to_string()))?;
        // Too small a rate to lead anywhere: every repetition is the same work.
        model = model.stepped(&mut optimizer, 1e-9, step.parameters, step.moments);
        Ok(spent)
    }))
}

/// PGD that takes one step from the images themselves, and looks at nothing else.
fn one_step() -> Result<Pgd, Error> {
    let config = PgdConfig { steps: 1, random_start: false, keep_first: false, ..PgdConfig::default() };
    Pgd::new(config).map_err(|error| Error::Internal(error.to_string()))
}

fn budget() -> Result<Budget, Error> {
    Budget::new(Norm::Linf, 8.0 / 255.0).map_err(|error| Error::Internal(error.to_string()))
}
