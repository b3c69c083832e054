//! `demo`: the paper's question on embedded digits, in two minutes.

use std::fs;
use std::path::Path;

use equipoise::attack::{Budget, Norm};
use equipoise::checkpoint::ModelFile;
use equipoise::deployed::Deployment;
use equipoise::readout::Readout;
use equipoise_dataset::{Dataset, Source, Split};
use equipoise_files::Lock;
use equipoise_record::{Evaluation, FORMAT_VERSION, Verdict};
use equipoise_report::Format;
use equipoise_verdict::conclude;
use serde_json::json;

use super::demo_recipes::{
    ARCHITECTURE, BATCH, DEVELOPMENT, EPS, FULL, GRADIENTS, QUICK, READOUTS, Size, recipes,
};
use super::{print, write};
use crate::args::{self, ReadoutChoice};
use crate::configuration::{self, command_line, interrupted};
use crate::error::{Error, input};
use crate::evaluation::{self, Grid};
use crate::flags::Demo;
use crate::progress::Whole;
use crate::recipe::{Data, Recipe, architecture};
use crate::setup::Setup;
use crate::{files, interrupt, training};

/// Points examined for signs of obfuscation.
const FLAG_COUNT: usize = 32;

/// Says that a folder is the demo's own, to be replaced by the next one.
const MARK: &str = "demo.json";

/// Runs the command.
pub fn run(flags: &Demo, setup: &Setup) -> Result<(), Error> {
    let size = if flags.quick { QUICK } else { FULL };
    let _lock = prepare(&flags.out, flags.resume)?;
    interrupt::listen();
    let training = Source::Digits.load(Split::Train)?;
    let test = Source::Digits.load(Split::Test)?.take(size.count);
    let mut models = Vec::new();
    for (name, config) in recipes(size) {
        let recipe = Recipe {
            name: name.to_owned(),
            seed: setup.seed(),
            model: architecture(ARCHITECTURE)?.for_data(training.shape, training.classes),
            init: None,
            deployment: Deployment::exact(),
            data: Data::all("digits"),
            train: config,
        };
        let folder = flags.out.join(name);
        let outcome = training::run(&recipe, &training, None, &folder, true, setup)?;
        if !outcome.complete {
            return Err(interrupted());
        }
        let hash = files::sha256(&folder.join("model.safetensors"))?;
        models.push(evaluate(&outcome.model, &hash, &folder, &training, &test, size, setup)?);
    }
    // Corrected over both models: they stand in one record.
    conclude(&mut models);
    let summary = write::summary(&models);
    write::results(&flags.out, "Equipoise demo: two digit classifiers under attack".into(), models)?;
    tracing::info!("open {}", flags.out.join("report.html").display());
    print(&summary)
}

/// An empty folder that bears the mark, with no other writer. The leftovers of an earlier demo are removed, anything else is
/// not touched.
fn prepare(out: &Path, resume: bool) -> Result<Lock, Error> {
    let mark = out.join(MARK);
    if files::has_content(out)? && !mark.exists() {
        return Err(input(format!(
            "{}: the folder holds something else than a demo; give another --out",
            out.display()
        )));
    }
    let lock = files::claim(out, resume)?;
    if !resume {
        for (name, _) in recipes(QUICK) {
            let folder = out.join(name);
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(files::failed(&folder, "remove"))?;
            }
        }
        for file in
            [Format::Json, Format::Markdown, Format::Html].map(|format| out.join(write::file_name(format)))
        {
            if file.exists() {
                fs::remove_file(&file).map_err(files::failed(&file, "remove"))?;
            }
        }
    }
    let text = json!({ "equipoise": env!("CARGO_PKG_VERSION"), "command": command_line() });
    equipoise_report::write_atomically(mark, format!("{text}\n"))?;
    Ok(lock)
}

/// One model behind all readouts.
fn evaluate(
    model: &ModelFile,
    hash: &str,
    folder: &Path,
    training: &Dataset,
    test: &Dataset,
    size: Size,
    setup: &Setup,
) -> Result<Evaluation, Error> {
    let attacks = args::attacks(size.attack)?;
    let gradients = args::gradients(Some(GRADIENTS), model)?;
    let budget = Budget::new(Norm::Linf, EPS).map_err(input)?;
    let whole = Whole::none();
    let grid = Grid {
        model,
        hash,
        attacks: &attacks,
        gradients: &gradients,
        asked: &gradients,
        control: true,
        margin: Verdict::MARGIN,
        time_limit: None,
        flags: Some(FLAG_COUNT),
        budgets: &[budget],
        seed: setup.seed(),
        batch_size: BATCH,
        folder,
        save: false,
        whole: &whole,
    };
    let points = evaluation::points(test, (0..test.len()).collect(), setup)?;
    let mut chosen = None;
    let mut results = Vec::new();
    for choice in args::readouts(READOUTS, model)? {
        let readout = match choice {
            ReadoutChoice::Fixed(readout) => readout,
            ReadoutChoice::Early => {
                let choice = evaluation::choose(&grid, training, DEVELOPMENT, setup)?;
                let choice = choice.ok_or_else(interrupted)?;
                let readout = Readout::Early(choice.t);
                chosen = Some((choice, DEVELOPMENT));
                readout
            }
        };
        let result = evaluation::run(&grid, readout, &points, test, setup)?;
        results.push(result.ok_or_else(interrupted)?);
    }
    let Some(first) = results.first() else { return Err(Error::Internal("the demo has no readouts".into())) };
    let details = json!({
        "data": "digits",
        "split": Split::Test.name(),
        "attacks": attacks.names,
        "gradients": gradients.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "readouts": results.iter().map(|result| &result.name).collect::<Vec<_>>(),
        "early": configuration::early(chosen.as_ref()),
        "batch_size": BATCH,
    });
    let evaluation = Evaluation {
        version: FORMAT_VERSION,
        model: model.metadata.name.clone(),
        configuration: configuration::record(setup, &model.metadata, hash, details),
        dataset: format!("{}, {}", test.name, Split::Test),
        classes: test.class_names.clone(),
        norm: budget.norm().to_string(),
        eps: budget.eps(),
        seed: grid.seed,
        count: test.len(),
        clean_accuracy: first.clean_accuracy,
        readouts: results,
    };
    let mut alone = vec![evaluation.clone()];
    conclude(&mut alone);
    write::results(folder, write::title(&alone), alone)?;
    Ok(evaluation)
}
