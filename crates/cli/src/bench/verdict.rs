//! A whole evaluation: the cascade against the same attacks one after another on all images.
//!
//! The cascade lets a point go once it is broken, and gets all gradients of an ensemble from one trajectory. One after
//! another, every attack takes all its steps on all points, as a script around a textbook PGD does. For PyTorch the
//! seconds are computed: those of one step, measured with each gradient, times the steps.

use std::path::PathBuf;
use std::time::Instant;

use equipoise::assess::{self, ReadoutChoice};
use equipoise::attack::{Attack, Budget, Pgd, PgdConfig, WhiteBox};
use equipoise::batch::{predictions, select};
use equipoise::checkpoint::ModelFile;
use equipoise::evaluate::{self, Cascade, Pair, Points, Quiet, Run, Settings};
use equipoise::readout::Readout;
use equipoise::train::Alone;
use equipoise::victim::Deployment;
use equipoise_dataset::{Dataset, Reading, Source, Split};
use serde::Serialize;
use tempfile::TempDir;

use super::process::{Process, Program};
use super::record::Spread;
use super::subject::write_input;
use crate::demo_recipes;
use crate::error::Error;
use crate::recipe::{Data, Recipe};
use crate::setup::Setup;
use crate::{args, training};

/// Steps of the attack.
const STEPS: usize = 10;
/// Beside the training gradient.
const GRADIENTS: &str = "exact,unrolled:state=2,lead=1,steps=4,unrolled:state=4,lead=1,steps=4,\
                         unrolled:state=8,lead=1,steps=4,ensemble(unrolled:state=1..8,lead=1,steps=0)";

/// What is attacked.
pub struct Target {
    /// The model.
    pub model: ModelFile,
    /// Test images.
    pub data: Dataset,
    /// The budget.
    pub budget: Budget,
}

/// One evaluation.
#[derive(Debug, Serialize)]
pub struct VerdictResult {
    /// The model and its data.
    pub model: String,
    /// Images.
    pub count: usize,
    /// The attack.
    pub attack: String,
    /// Seconds of the cascade.
    pub cascade_seconds: f64,
    /// Seconds of all attacks on all points.
    pub alone_seconds: f64,
    /// The same in PyTorch: seconds of a step times steps; absent without PyTorch.
    pub pytorch_seconds: Option<f64>,
    /// What withstood the cascade.
    pub white_box_accuracy: f64,
    /// What withstood all attacks, each judged at its last iterate. The cascade keeps the first that succeeds, so it
    /// may break more.
    pub alone_accuracy: f64,
    /// Each attack alone.
    pub attacks: Vec<AttackTime>,
}

/// One attack on all points.
#[derive(Debug, Serialize)]
pub struct AttackTime {
    /// Its gradient estimator.
    pub estimator: String,
    /// Seconds.
    pub alone_seconds: f64,
    /// In PyTorch, computed.
    pub pytorch_seconds: Option<f64>,
}

/// A model given by its file, with its data.
pub fn given(
    model: ModelFile,
    source: &Source,
    reading: &Reading,
    count: usize,
    eps: Option<&str>,
) -> Result<Target, Error> {
    let data = args::dataset(source, Split::Test, reading, Some(count))?;
    let data = args::fitted(data, source, &model)?;
    args::say_notes(&data);
    Ok(Target { model, data, budget: args::budget(eps, "linf")? })
}

/// The demo's adversarially trained classifier of digits, trained now.
pub fn trained(count: usize, setup: &Setup) -> Result<Target, Error> {
    let folder =
        tempfile::tempdir().map_err(crate::files::failed(&std::env::temp_dir(), "make a folder in"))?;
    let data = Source::Digits.load(Split::Train)?;
    let (config, eps) = demo_recipes::quick();
    let recipe = Recipe {
        name: "mdeq-digits, trained on digits under attack".into(),
        seed: setup.seed(),
        model: demo_recipes::architecture()?.for_data(data.shape, data.classes),
        init: None,
        deployment: Deployment::exact(),
        data: Data::all("digits"),
        train: config,
    };
    let outcome = training::run(&recipe, &data, None, (&folder.path().join("model"), false), &Alone, setup)?;
    if !outcome.complete {
        return Err(Error::Interrupted("a benchmark cannot be resumed; run it again".into()));
    }
    given(outcome.model, &Source::Digits, &Reading::default(), count, Some(&eps.to_string()))
}

/// Runs both.
pub fn measure(
    target: &Target,
    theirs: Option<&Program>,
    batch: usize,
    setup: &Setup,
) -> Result<VerdictResult, Error> {
    let Target { model, data, budget } = target;
    let deployment = &model.metadata.deployment;
    let points = assess::points(data, (0..data.len()).collect(), &setup.device)?;
    let training = deployment.training_gradient.clone();
    let final_state = [ReadoutChoice::Fixed(Readout::final_state())];
    let gradients = args::gradients(Some(GRADIENTS), model, &final_state)?;
    let estimators: Vec<_> = std::iter::once(training.clone()).chain(gradients).collect();
    let victim = |estimator: &equipoise::gradient::Estimator| {
        model.model.victim(deployment, Readout::final_state(), estimator.clone())
    };
    let victims: Vec<Box<dyn WhiteBox>> = estimators.iter().map(&victim).collect();
    let names: Vec<String> = estimators.iter().map(ToString::to_string).collect();
    let judge = victim(&training);
    let settings = Settings { budget: *budget, seed: setup.seed(), batch_size: batch };
    let pgd = |keep_first| {
        let config = PgdConfig { steps: STEPS, keep_first, ..PgdConfig::default() };
        Pgd::new(config).map_err(|error| Error::Internal(error.to_string()))
    };

    // The cascade alone, without twins: PyTorch's side has none either.
    let mut cascade = Cascade::new(Readout::final_state().to_string(), &*judge);
    for (k, (name, victim)) in names.iter().zip(&victims).enumerate() {
        let attack: Box<dyn Attack> = Box::new(pgd(true)?);
        let run = Run::new(attack, name.clone(), victim.as_ref());
        match k {
            0 => cascade.opening.push(run),
            _ => cascade.pairs.push(Pair { white_box: run, twin: None, aimed: None }),
        }
    }
    let started = Instant::now();
    let outcome = evaluate::run(&cascade, &points, &settings, &Quiet, None)?;
    let cascade_seconds = started.elapsed().as_secs_f64();

    let all: Vec<usize> = (0..points.len()).collect();
    let mut robust = vec![true; points.len()];
    let mut attacks = Vec::new();
    let textbook = pgd(false)?;
    for (name, victim) in names.iter().zip(&victims) {
        let started = Instant::now();
        for rows in all.chunks(batch) {
            let broken = attack(&textbook, victim.as_ref(), &*judge, &points, rows, &settings);
            rows.iter().zip(broken).for_each(|(&row, broken)| robust[row] &= !broken);
        }
        let alone_seconds = started.elapsed().as_secs_f64();
        attacks.push(AttackTime { estimator: name.clone(), alone_seconds, pytorch_seconds: None });
    }
    // Points misclassified when clean are not robust.
    for rows in all.chunks(batch) {
        let found = predictions(&judge.logits(&select(points.images(), rows)));
        rows.iter().zip(found).for_each(|(&row, found)| robust[row] &= found == Some(points.labels()[row]));
    }

    if let Some(program) = theirs {
        for attack in &mut attacks {
            let step = step_in_pytorch(program, &attack.estimator, model, data, batch, setup.threads)?;
            // As many batches as it takes, the last one counted by its share.
            attack.pytorch_seconds =
                Some(step * STEPS as f64 * data.len() as f64 / batch.min(data.len()) as f64);
        }
    }
    Ok(VerdictResult {
        model: format!("{}, {}", model.metadata.name, data.name),
        count: data.len(),
        attack: textbook.name(),
        cascade_seconds,
        alone_seconds: attacks.iter().map(|attack| attack.alone_seconds).sum(),
        pytorch_seconds: attacks.iter().map(|attack| attack.pytorch_seconds).sum(),
        white_box_accuracy: outcome.result.white_box_accuracy.value,
        alone_accuracy: robust.iter().filter(|&&robust| robust).count() as f64 / robust.len() as f64,
        attacks,
    })
}

/// One batch under one attack, judged at what it returns: which examples are broken.
fn attack(
    attack: &Pgd,
    victim: &dyn WhiteBox,
    judge: &dyn WhiteBox,
    points: &Points,
    rows: &[usize],
    settings: &Settings,
) -> Vec<bool> {
    let batch = points.select(rows);
    let perturbed = attack.run(victim, &batch.examples(settings.seed, 0), &settings.budget).images;
    batch.correct(&judge.logits(&perturbed)).into_iter().map(|correct| !correct).collect()
}

/// Files of a model and of its first images, up to a count, for a program that reads them while their folder is there.
pub fn handed_over(
    model: &ModelFile,
    data: &Dataset,
    count: usize,
) -> Result<(TempDir, PathBuf, PathBuf), Error> {
    let folder =
        tempfile::tempdir().map_err(crate::files::failed(&std::env::temp_dir(), "make a folder in"))?;
    let (file, images) = (folder.path().join("model.safetensors"), folder.path().join("input.safetensors"));
    model.write(&file)?;
    let rows: Vec<usize> = (0..count.min(data.len())).collect();
    let labels: Vec<usize> = rows.iter().map(|&row| data.labels[row]).collect();
    let [channels, height, width] = data.shape;
    write_input(&images, &data.images(&rows), [rows.len(), channels, height, width], &labels)?;
    Ok((folder, file, images))
}

/// Seconds of one PGD step on a batch in PyTorch: the authors' algorithm, which solves again for each state.
fn step_in_pytorch(
    program: &Program,
    estimator: &str,
    model: &ModelFile,
    data: &Dataset,
    batch: usize,
    threads: usize,
) -> Result<f64, Error> {
    let (_folder, file, images) = handed_over(model, data, batch)?;
    let task = format!("pgd:{}", estimator.replacen("ensemble(", "resolve(", 1));
    let mut process = Process::start(program, &task, &file, &images, threads)?;
    process.run(2)?;
    Ok(Spread::of(&process.run(5)?.seconds).median)
}
