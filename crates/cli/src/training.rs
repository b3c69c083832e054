//! Runs a training with progress, Ctrl-C and the resolved recipe beside the model.

use std::cell::{OnceCell, RefCell};
use std::path::Path;

use equipoise::checkpoint::{FORMAT_VERSION, Metadata};
use equipoise::train::{EpochReport, Observer, Outcome, Plan, StepReport, train};
use equipoise_dataset::Dataset;
use equipoise_report::write_atomically;

use crate::error::Error;
use crate::interrupt;
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::setup::Setup;

/// Trains by a recipe into a folder. `Ok` may be incomplete: then somebody asked to stop and a checkpoint waits.
///
/// Nothing is written before everything is known to fit together.
pub fn run(
    recipe: &Recipe,
    data: &Dataset,
    folder: &Path,
    resume: bool,
    setup: &Setup,
) -> Result<Outcome, Error> {
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: recipe.name.clone(),
        architecture: recipe.model.clone(),
        deployment: recipe.deployment.clone(),
        training: serde_json::Value::Null,
        data: String::new(),
    };
    let config = recipe.train.clone();
    let plan = Plan { metadata, config, data, seed: recipe.seed, folder: folder.to_owned(), resume };
    let text = recipe.to_toml()?;
    let watch = Watch {
        label: format!("training {}", recipe.name),
        epochs: recipe.train.epochs,
        quiet: setup.quiet,
        progress: RefCell::new(None),
        begin: Box::new(|| Ok(write_atomically(folder.join("recipe.toml"), &text)?)),
        failed: OnceCell::new(),
    };
    let outcome = train(&plan, &setup.device, &watch);
    match watch.failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(outcome?),
    }
}

struct Watch<'a> {
    label: String,
    epochs: usize,
    quiet: bool,
    progress: RefCell<Option<Progress>>,
    /// What is to be done once the library has checked everything.
    begin: Box<dyn Fn() -> Result<(), Error> + 'a>,
    failed: OnceCell<Error>,
}

impl Observer for Watch<'_> {
    fn begin(&self, step: usize, steps: usize) {
        if let Err(error) = (self.begin)() {
            let _ = self.failed.set(error);
        }
        if step > 0 {
            tracing::info!("{}: going on after step {step} of {steps}", self.label);
        } else {
            tracing::info!("{}: {} epochs, {steps} steps", self.label, self.epochs);
        }
        let progress = Progress::new(&self.label, steps, self.quiet);
        progress.skip_to(step);
        *self.progress.borrow_mut() = Some(progress);
    }

    fn step(&self, report: &StepReport) {
        if let Some(progress) = &*self.progress.borrow() {
            let note = format!("loss {:.3}, {:.0}% correct", report.loss, 100.0 * report.accuracy);
            progress.set(report.step, &note);
        }
    }

    fn epoch(&self, report: &EpochReport) {
        let share = |name: &str, value: Option<f64>| {
            value.map(|value| format!(", {name} {:.1}%", 100.0 * value)).unwrap_or_default()
        };
        tracing::info!(
            "{}: epoch {} of {}: loss {:.3}, correct {:.1}%{}{}, {:.1} s",
            self.label,
            report.epoch,
            self.epochs,
            report.loss,
            100.0 * report.accuracy,
            share("held out: clean", report.development_accuracy),
            share("attacked", report.development_robust_accuracy),
            report.seconds
        );
    }

    fn cancelled(&self) -> bool {
        interrupt::asked() || self.failed.get().is_some()
    }
}
