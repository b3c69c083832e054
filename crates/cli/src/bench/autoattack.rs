//! AutoAttack as a whole, beside the reference implementation where PyTorch's side can import it.

use std::time::Instant;

use equipoise::assess;
use equipoise::attack;
use equipoise::evaluate::{self, Cascade, Quiet, Run, Settings};
use equipoise::readout::Readout;
use serde::{Deserialize, Serialize};

use super::check::answer;
use super::process::Program;
use super::verdict::{Target, handed_over};
use crate::error::{Error, input};
use crate::setup::Setup;

/// The standard version, on one model.
#[derive(Debug, Serialize)]
pub struct AutoAttackResult {
    /// The model and its data.
    pub model: String,
    /// Images.
    pub count: usize,
    /// Radius, L∞.
    pub eps: f64,
    /// Ours.
    pub ours: Side,
    /// The reference implementation's on the same network in PyTorch; absent where it could not be imported, or without
    /// PyTorch.
    pub reference: Option<Side>,
}

/// What one program found, and how long it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Side {
    /// Seconds.
    pub seconds: f64,
    /// Images that are classified rightly.
    pub clean: usize,
    /// Those that withstand all attacks.
    pub robust: usize,
}

/// What the PyTorch program answers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    Found(Side),
    Missing { missing: String },
}

/// Runs both, one after the other, each on all threads.
///
/// The two draw other random numbers and may differ in an image or two; more is an error, for then they do not do the same.
pub fn measure(
    target: &Target,
    theirs: Option<&Program>,
    batch: usize,
    setup: &Setup,
) -> Result<AutoAttackResult, Error> {
    let Target { model, data, budget } = target;
    if model.metadata.architecture.is_equilibrium() {
        return Err(input(
            "autoattack: its PyTorch side has feedforward networks alone; give another --weights",
        ));
    }
    let points = assess::points(data, (0..data.len()).collect(), &setup.device)?;
    let deployment = &model.metadata.deployment;
    let gradient = deployment.training_gradient.clone();
    let victim = model.model.victim(deployment, Readout::final_state(), gradient.clone());
    let mut cascade = Cascade::new(Readout::final_state().to_string(), &*victim);
    for attack in attack::set("autoattack").map_err(input)? {
        if attack.needs_gradients() {
            cascade.opening.push(Run::new(attack, gradient.to_string(), &*victim));
        } else {
            cascade.gradient_free.push(Run::gradient_free(attack, &*victim));
        }
    }
    let settings = Settings { budget: *budget, seed: setup.seed(), batch_size: batch };
    let started = Instant::now();
    let outcome = evaluate::run(&cascade, &points, &settings, &Quiet, None)?;
    let seconds = started.elapsed().as_secs_f64();
    let found = &outcome.result;
    let ours =
        Side { seconds, clean: found.clean_accuracy.correct(), robust: found.white_box_accuracy.correct() };
    let reference = theirs.map(|program| reference(program, target, batch, setup)).transpose()?.flatten();
    if let Some(reference) = &reference {
        let (count, apart) = (data.len(), ours.robust.abs_diff(reference.robust));
        if ours.clean != reference.clean || apart > (count / 20).max(2) {
            return Err(input(format!(
                "autoattack: the two do not find the same: of {count} images {} here and {} in PyTorch are classified \
                 rightly, {} and {} withstand",
                ours.clean, reference.clean, ours.robust, reference.robust
            )));
        }
    }
    let name = format!("{}, {}", model.metadata.name, data.name);
    Ok(AutoAttackResult { model: name, count: data.len(), eps: budget.eps(), ours, reference })
}

/// The reference implementation; `None` where PyTorch's side cannot import it.
fn reference(program: &Program, target: &Target, batch: usize, setup: &Setup) -> Result<Option<Side>, Error> {
    let Target { model, data, budget } = target;
    let (_folder, file, images) = handed_over(model, data, data.len())?;
    let mut command = program.command("autoattack", setup.threads)?;
    command.arg("--model").arg(&file).arg("--input").arg(&images);
    command.args(["--eps", &budget.eps().to_string(), "--batch", &batch.to_string()]);
    let text = answer(&mut command)?;
    match serde_json::from_str(&text) {
        Ok(Answer::Found(side)) => Ok(Some(side)),
        Ok(Answer::Missing { missing }) => {
            tracing::warn!("the reference implementation of AutoAttack is left out: {missing}");
            Ok(None)
        }
        Err(error) => Err(input(format!("--pytorch: answered `{text}`: {error}"))),
    }
}
