//! `train`: recipe and flags to a model file.

use std::path::Path;

use equipoise::architecture::Architecture;
use equipoise::gradient::Estimator;
use equipoise::readout::Tail;
use equipoise::train::{
    Adversary, AdversaryKind, EarlyStopping, OptimizerConfig, Ranks, Schedule, TrainConfig, TrainError,
};
use equipoise::victim::Deployment;
use equipoise_dataset::{Dataset, Reading, Source, Split};

use super::print;
use crate::args;
use crate::error::{Error, input};
use crate::flags::Train;
use crate::recipe::{Data, Draft, Init, Recipe, adapted, architecture};
use crate::setup::Setup;
use crate::{arguments, files, interrupt, ranks, training};

/// Epochs when nobody says.
const EPOCHS: usize = 10;

/// Runs the command.
pub fn run(flags: &Train, setup: &Setup) -> Result<(), Error> {
    let ranks = ranks::open(flags.ranks.as_deref())?;
    let outcome = together(flags, setup, &*ranks);
    if outcome.is_err() {
        // A process that ends without a farewell ends the others, which may wait for it.
        std::mem::forget(ranks);
    }
    outcome
}

fn together(flags: &Train, setup: &Setup, ranks: &dyn Ranks) -> Result<(), Error> {
    let draft = draft(flags)?;
    let first = ranks.rank() == 0;
    if first && !flags.resume && files::has_content(&flags.out)? {
        return Err(input(format!(
            "{}: the folder is not empty; add --resume to go on with its run, or give another --out",
            flags.out.display()
        )));
    }
    let file = draft.file.clone();
    let Resolved { recipe, data, init } = resolve(flags, draft, setup)?;
    interrupt::listen();
    let outcome = training::run(&recipe, &data, init, (&flags.out, flags.resume), ranks, setup);
    // The recipe says how many images of the data are needed.
    let outcome = outcome.map_err(|error| match (error, file) {
        (Error::Train(error @ TrainError::Data { .. }), Some(path)) => {
            input(format!("{}: {error}", path.display()))
        }
        (error, _) => error,
    })?;
    if !outcome.complete {
        return Err(Error::Interrupted(format!(
            "a checkpoint is kept; go on with `equipoise train --resume --out {}`",
            flags.out.display()
        )));
    }
    if !first {
        return Ok(());
    }
    let model = flags.out.join("model.safetensors");
    tracing::info!("{} written", model.display());
    if outcome.history.len() < recipe.train.epochs {
        tracing::info!(
            "stopped early, after epoch {} of {}: no better one for {} epochs",
            outcome.history.len(),
            recipe.train.epochs,
            recipe.train.early_stopping.map_or(0, |rule| rule.patience)
        );
    }
    if let Some(best) = outcome.best {
        let (path, epochs) = (flags.out.join("best.safetensors"), outcome.history.len());
        tracing::info!("best held-out accuracy after epoch {} of {epochs}: {}", best.epoch, path.display());
    }
    print(&format!("{}\n", model.display()))
}

/// The recipe file: the one given, or that of the run which is resumed.
fn draft(flags: &Train) -> Result<Draft, Error> {
    let own = flags.out.join("recipe.toml");
    match &flags.config {
        Some(path) => Draft::read(path),
        None if flags.resume && flags.model.is_none() && flags.init.is_none() && own.exists() => {
            Draft::read(&own)
        }
        None => Ok(Draft::default()),
    }
}

/// A recipe with what it refers to.
struct Resolved {
    recipe: Recipe,
    data: Dataset,
    init: Option<training::Start>,
}

/// Flags over the recipe over defaults.
fn resolve(flags: &Train, draft: Draft, setup: &Setup) -> Result<Resolved, Error> {
    let init = match &flags.init {
        Some(file) => Some(Init { file: file.clone(), sha256: None }),
        None => draft.init,
    };
    if let (Some(name), Some(Init { file, .. })) = (&flags.model, &init) {
        return Err(input(format!(
            "--model {name}: the recipe starts from {}, which says what model it is; leave --model out, or [init]",
            file.display()
        )));
    }
    let init = init.map(|init| training::Start::read(&init, &flags.out, flags.resume, setup)).transpose()?;
    let own = init.as_ref().map(|start| &start.model.metadata);
    let model = match (&flags.model, draft.model, own) {
        (Some(name), ..) => architecture(name).map_err(|error| input(format!("--model: {error}")))?,
        (None, Some(model), _) => model,
        (None, None, Some(own)) => own.architecture.clone(),
        (None, None, None) => {
            return Err(nothing("model", "--model mdeq-small, say", flags, draft.file.as_deref()));
        }
    };
    let model = adapted(model, flags.width, flags.dropout).map_err(|error| input(format!("--{error}")))?;
    let data = match (&flags.data, draft.data) {
        // Sizes belong to the recipe, wherever the images lie; their number and the layout of arrays belong to them.
        (Some(spec), Some(data)) => Data { spec: spec.clone(), count: flags.count, layout: None, ..data },
        (Some(spec), None) => Data { count: flags.count, ..Data::all(spec) },
        (None, Some(data)) => Data { count: flags.count.or(data.count), ..data },
        (None, None) => return Err(nothing("data", "--data digits, say", flags, draft.file.as_deref())),
    };
    let preparation = flags.preparation.clone();
    let data = Data {
        resize: preparation.resize.or(data.resize),
        crop: preparation.crop.or(data.crop),
        layout: preparation.layout.or(data.layout),
        ..data
    };
    if flags.gradient.is_some() && !model.is_equilibrium() {
        return Err(input("--gradient: a feedforward network has one gradient only; leave this out"));
    }
    let deployment = draft.deployment.or_else(|| own.map(|own| own.deployment.clone()));
    let deployment = deployment_for(flags.gradient.as_deref(), deployment)?;
    if let Some(spec) = &flags.gradient {
        deployment.validate().map_err(|error| input(format!("--gradient {spec}: {error}")))?;
    }
    let draft_has_train = draft.train.is_some();
    let mut config = draft.train.unwrap_or_else(|| TrainConfig::standard(EPOCHS));
    override_config(&mut config, flags)?;
    let check = |config: &TrainConfig, model: &Architecture| {
        let checked = config.validate_for(model, &deployment);
        checked.map_err(|error| input(format!("{}: {error}", origin(error.problem(), draft.file.as_deref()))))
    };
    check(&config, &model)?;
    let source: Source = data.spec.parse()?;
    let reading = Reading { limit: flags.preparation.check()?.limit, ..data.reading()? };
    let images = args::dataset(&source, Split::Train, &reading, data.count)?;
    args::say_notes(&images);
    if !draft_has_train && flags.development.is_none() {
        config.development = config.development.min(images.len() / 10);
    }
    let model = model.for_data(images.shape, images.classes);
    check(&config, &model)?;
    model.validate().map_err(|error| {
        let model = match (&flags.model, &draft.file) {
            (Some(name), _) => format!("--model {name}"),
            (None, file) => origin(error.field, file.as_deref()),
        };
        input(format!("{model}, for the images of {source}: {error}"))
    })?;
    let kind = match config.adversary.as_ref().map(|adversary| adversary.kind) {
        None => "standard",
        Some(AdversaryKind::Pgd) => "pgd-at",
        Some(AdversaryKind::Trades) => "trades",
        Some(AdversaryKind::Boxes) => "certified",
    };
    let name = flags.name.clone().or(draft.name);
    let name = name.unwrap_or_else(|| match (&flags.model, own) {
        (Some(architecture), _) => format!("{architecture}-{kind}"),
        (None, Some(own)) => format!("{}-{kind}", own.name),
        (None, None) => kind.to_owned(),
    });
    let seed = setup.seed.or(draft.seed).unwrap_or(0);
    let init = init.map(|start| start.fitted(&model, &images, setup)).transpose()?;
    let start = init.as_ref().map(|start| start.init.clone());
    let recipe = Recipe { name, seed, model, init: start, deployment, data, train: config };
    Ok(Resolved { recipe, data: images, init })
}

/// The flags that set something of a recipe, by its name there.
const SETTINGS: [(&str, &str); 14] = [
    ("micro_batch", "--micro-batch"),
    ("epochs", "--epochs"),
    ("batch_size", "--batch-size"),
    ("checkpoint_steps", "--checkpoint-steps"),
    ("keep_every", "--keep-every"),
    ("learning_rate", "--lr"),
    ("adversary.eps", "--eps"),
    ("adversary.norm", "--norm"),
    ("adversary.steps", "--pgd-steps"),
    ("adversary.beta", "--beta"),
    ("clip_norm", "--clip-norm"),
    ("early_stopping", "--patience"),
    ("dropout", "--dropout"),
    ("width", "--width"),
];

/// Where a setting that is wrong comes from: its flag if that was given, else the recipe.
fn origin(problem: &str, recipe: Option<&Path>) -> String {
    let given = |flag: &str| {
        let value = format!("{flag}=");
        arguments::all().iter().any(|argument| argument == flag || argument.starts_with(&value))
    };
    let flag = SETTINGS.iter().find(|(setting, flag)| problem.starts_with(setting) && given(flag));
    match (flag, recipe) {
        (Some((_, flag)), _) => (*flag).to_owned(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => "the command's flags".to_owned(),
    }
}

fn nothing(what: &str, example: &str, flags: &Train, recipe: Option<&Path>) -> Error {
    let place = match recipe {
        Some(path) => format!(", and {} has no table [{what}]", path.display()),
        None if flags.resume => format!(" and {} holds no recipe.toml to go on with", flags.out.display()),
        None => String::new(),
    };
    input(format!("no {what} was given{place}: add {example}, or a recipe with the table [{what}]"))
}

/// The training gradient is deployed with the tail that belongs to it.
fn deployment_for(gradient: Option<&str>, draft: Option<Deployment>) -> Result<Deployment, Error> {
    let deployment = draft.unwrap_or_default();
    let Some(spec) = gradient else { return Ok(deployment) };
    let estimator: Estimator = spec.parse().map_err(|error| input(format!("--gradient: {error}")))?;
    let tail = match estimator.one_state().filter(|_| estimator.needs_only_the_best()) {
        Some(one) => one.applications().unwrap_or(Tail::EXACT),
        None => {
            return Err(input(format!(
                "--gradient {spec}: models are trained through exact or unrolled from the best state; use one of \
                 these"
            )));
        }
    };
    Ok(Deployment { tail, training_gradient: estimator, ..deployment })
}

fn override_config(config: &mut TrainConfig, flags: &Train) -> Result<(), Error> {
    let set = |value: &mut usize, flag: Option<usize>| *value = flag.unwrap_or(*value);
    set(&mut config.epochs, flags.epochs);
    set(&mut config.batch_size, flags.batch_size);
    config.micro_batch = flags.micro_batch.or(config.micro_batch);
    set(&mut config.development, flags.development);
    set(&mut config.checkpoint_steps, flags.checkpoint_steps);
    config.keep_every = flags.keep_every.or(config.keep_every);
    match flags.schedule.as_deref() {
        None => {}
        Some("cosine") => config.schedule = Schedule::Cosine,
        Some("constant") => config.schedule = Schedule::Constant,
        Some(other) => {
            return Err(input(format!(
                "--schedule {other}: use cosine or constant; steps are for recipes ([train.schedule.steps])"
            )));
        }
    }
    if let Some(rate) = flags.lr {
        match &mut config.optimizer {
            OptimizerConfig::Adam { learning_rate, .. } | OptimizerConfig::Sgd { learning_rate, .. } => {
                *learning_rate = rate;
            }
        }
    }
    match flags.adversary.as_deref() {
        None => {}
        Some("none") => config.adversary = None,
        Some("pgd") => {
            let adversary = config.adversary.get_or_insert(Adversary { steps: 7, ..Adversary::default() });
            (adversary.kind, adversary.beta, adversary.ramp) = (AdversaryKind::Pgd, None, None);
        }
        Some("trades") => {
            let adversary = config.adversary.get_or_insert_default();
            (adversary.kind, adversary.ramp) = (AdversaryKind::Trades, None);
        }
        Some("boxes") => {
            let adversary = config.adversary.get_or_insert_default();
            (adversary.kind, adversary.beta) = (AdversaryKind::Boxes, None);
        }
        Some(other) => {
            return Err(input(format!("--adversary {other}: unknown; use pgd, trades, boxes or none")));
        }
    }
    if let Some(patience) = flags.patience {
        config.early_stopping = Some(EarlyStopping { patience });
    }
    config.clip_norm = flags.clip_norm.or(config.clip_norm);
    let given =
        flags.eps.is_some() || flags.norm.is_some() || flags.pgd_steps.is_some() || flags.beta.is_some();
    match &mut config.adversary {
        Some(adversary) => {
            if flags.norm.is_some() || flags.eps.is_some() {
                let norm = flags.norm.clone().unwrap_or_else(|| adversary.norm.to_string());
                // A radius belongs to its norm: with another norm it is asked for anew.
                let same_norm = norm.trim().eq_ignore_ascii_case(&adversary.norm.to_string());
                let eps = flags.eps.clone().or_else(|| same_norm.then(|| adversary.eps.to_string()));
                let budget = args::budget(eps.as_deref(), &norm)?;
                (adversary.eps, adversary.norm) = (budget.eps(), budget.norm());
            }
            set(&mut adversary.steps, flags.pgd_steps);
            if flags.beta.is_some() && adversary.kind != AdversaryKind::Trades {
                return Err(input("--beta belongs to TRADES: add --adversary trades"));
            }
            adversary.beta = flags.beta.or(adversary.beta);
        }
        None if given => {
            return Err(input(
                "--eps, --norm, --pgd-steps and --beta belong to an adversary: add --adversary pgd or trades",
            ));
        }
        None => {}
    }
    Ok(())
}
