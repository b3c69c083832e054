//! Runs a training with progress, Ctrl-C and the resolved recipe beside the model.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::Path;
use std::time::Instant;

use equipoise::architecture::Architecture;
use equipoise::checkpoint::{FORMAT_VERSION, Metadata, ModelFile};
use equipoise::lipschitz_layers;
use equipoise::train::{
    EpochReport, Initial, Observer, Origin, Outcome, Plan, Ranks, StepReport, train_together,
};
use equipoise_dataset::Dataset;
use equipoise_report::write_atomically;

use crate::error::{Error, input};
use crate::progress::{Progress, words};
use crate::recipe::{Init, Recipe};
use crate::setup::Setup;
use crate::{files, interrupt};

/// The name of the copy that a run's folder keeps of the model that it started from.
const INIT: &str = "init.safetensors";

/// A model that a run starts from.
pub struct Start {
    /// As the run's recipe says it.
    pub init: Init,
    /// The model.
    pub model: ModelFile,
    /// The whole file, to be kept in the folder.
    bytes: Vec<u8>,
}

impl Start {
    /// Reads the model file, when resuming the copy in the run's folder. It must have the hash that the recipe states, if
    /// it states one.
    pub fn read(init: &Init, folder: &Path, resume: bool, setup: &Setup) -> Result<Self, Error> {
        let kept = folder.join(INIT);
        let path = if resume && kept.exists() { &kept } else { &init.file };
        let model = ModelFile::read(path, &setup.device)?;
        let bytes = std::fs::read(path).map_err(files::failed(path, "read"))?;
        let found = files::digest(&bytes);
        match &init.sha256 {
            Some(stated) if *stated != found => Err(input(format!(
                "{}: its SHA-256 is {found}, and the recipe's [init] states {stated}: this is another file; restore it, \
                 or start a new run from this one in another folder",
                path.display()
            ))),
            _ => Ok(Self { init: Init { file: init.file.clone(), sha256: Some(found) }, model, bytes }),
        }
    }

    /// What a model of this architecture, adapted to the data, goes on from: the file's own one, or the equilibrium network that
    /// computes what its Lipschitz layers do. Dropout has no weights and may differ.
    pub fn fitted(self, architecture: &Architecture, data: &Dataset, setup: &Setup) -> Result<Self, Error> {
        let own = &self.model.metadata.architecture;
        let file = self.init.file.display();
        if (data.shape, data.classes) != (own.image(), own.classes()) {
            return Err(input(format!(
                "{file}: the model takes images of {:?} (channels, height, width) and knows {} classes, and {} has {:?} \
                 and {}; give the data set that it was trained for, or one like it",
                own.image(),
                own.classes(),
                data.name,
                data.shape,
                data.classes
            )));
        }
        let without_dropout = |model: &Architecture| model.with_dropout(0.0).unwrap_or_else(|| model.clone());
        if without_dropout(architecture) == without_dropout(own) {
            return Ok(self);
        }
        if let Some(converted) = lipschitz_layers::converted(&*self.model.model, architecture, &setup.device)
        {
            let model =
                converted.map_err(|error| input(format!("[model] for the layers of {file}: {error}")))?;
            let metadata = Metadata { architecture: architecture.clone(), ..self.model.metadata };
            return Ok(Self { model: ModelFile { metadata, model }, ..self });
        }
        Err(input(format!(
            "{file}: its architecture is not that of the recipe's [model]; leave [model] out, or give the recipe that \
             it was trained by (`equipoise info --model {file}` shows its architecture)"
        )))
    }
}

/// Trains by a recipe into a folder. `Ok` may be incomplete: then somebody asked to stop and a checkpoint waits.
///
/// Nothing is written before everything is known to fit together.
pub fn run(
    recipe: &Recipe,
    data: &Dataset,
    start: Option<Start>,
    (folder, resume): (&Path, bool),
    ranks: &dyn Ranks,
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
    let (init, kept) = start.map_or((None, None), |Start { init, model, bytes }| {
        let origin = Origin { name: model.metadata.name, sha256: init.sha256.unwrap_or_default() };
        (Some(Initial { model: model.model, origin }), Some(bytes))
    });
    let plan = Plan { metadata, config, data, init, seed: recipe.seed, folder: folder.to_owned(), resume };
    let text = recipe.to_toml()?;
    let watch = Watch {
        label: format!("training {}", recipe.name),
        epochs: recipe.train.epochs,
        quiet: setup.quiet,
        warmup: recipe.train.warmup.steps,
        steps: Cell::new(0),
        pace: Cell::new(None),
        progress: RefCell::new(None),
        begin: Box::new(|| {
            // The recipe first: without it the run cannot be resumed by its folder alone.
            write_atomically(folder.join("recipe.toml"), &text)?;
            match &kept {
                Some(bytes) => Ok(write_atomically(folder.join(INIT), bytes)?),
                None => Ok(()),
            }
        }),
        failed: OnceCell::new(),
    };
    if ranks.rank() > 0 {
        return Ok(train_together(&plan, ranks, &setup.device, &Follows)?);
    }
    let outcome = train_together(&plan, ranks, &setup.device, &watch);
    match watch.failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(outcome?),
    }
}

/// A rank that neither writes nor reports.
struct Follows;

impl Observer for Follows {
    fn begin(&self, _: usize, _: usize) {}
    fn step(&self, _: &StepReport) {}
    fn epoch(&self, _: &EpochReport) {}
    fn cancelled(&self) -> bool {
        interrupt::asked()
    }
}

struct Watch<'a> {
    label: String,
    epochs: usize,
    quiet: bool,
    /// Steps of the whole run.
    steps: Cell<usize>,
    /// Steps of the warm-up, which are shorter than the others.
    warmup: usize,
    /// Since when the time of a step is measured, and after which step.
    pace: Cell<Option<(Instant, usize)>>,
    progress: RefCell<Option<Progress>>,
    /// What is to be done once the library has checked everything.
    begin: Box<dyn Fn() -> Result<(), Error> + 'a>,
    failed: OnceCell<Error>,
}

/// Steps that the whole time is estimated from.
const MEASURED: usize = 10;

impl Watch<'_> {
    /// Says how long the whole takes, once a few steps after the warm-up are done.
    fn tell(&self, report: &StepReport) {
        if report.step <= self.warmup {
            return;
        }
        let (since, from) = self.pace.get().unwrap_or((Instant::now(), report.step));
        self.pace.set(Some((since, from)));
        if report.step == from + MEASURED {
            let left =
                since.elapsed().as_secs_f64() / MEASURED as f64 * (self.steps.get() - report.step) as f64;
            if left > 60.0 {
                let left = words(left.round() as u64);
                tracing::info!(
                    "{}: about {left} left, and what the evaluation of each epoch takes",
                    self.label
                );
            }
        }
    }
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
        self.steps.set(steps);
        let progress = Progress::new(&self.label, steps, self.quiet);
        progress.skip_to(step);
        *self.progress.borrow_mut() = Some(progress);
    }

    fn step(&self, report: &StepReport) {
        self.tell(report);
        if let Some(progress) = &*self.progress.borrow() {
            if report.step == self.warmup {
                progress.skip_to(report.step);
            }
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
