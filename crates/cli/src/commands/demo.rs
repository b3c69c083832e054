//! `demo`: the paper's question on embedded digits, in two minutes.

use std::fs;
use std::path::Path;

use equipoise::assess::Assessment;
use equipoise::attack::{Budget, Norm};
use equipoise::checkpoint::ModelFile;
use equipoise::train::Alone;
use equipoise::victim::Deployment;
use equipoise_dataset::{Dataset, Source, Split};
use equipoise_files::Lock;
use equipoise_record::Evaluation;
use equipoise_report::Format;
use equipoise_verdict::conclude;
use serde_json::json;

use super::{print, write};
use crate::args;
use crate::configuration::{self, command_line, interrupted};
use crate::demo_recipes::{
    ARCHITECTURE, BATCH, DEVELOPMENT, EPS, FULL, GRADIENTS, QUICK, READOUTS, Size, recipes,
};
use crate::error::{Error, input};
use crate::flags::Demo;
use crate::recipe::{Data, Recipe, architecture};
use crate::setup::Setup;
use crate::watch::Watch;
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
        let outcome = training::run(&recipe, &training, None, (&folder, true), &Alone, setup)?;
        if !outcome.complete {
            return Err(interrupted());
        }
        let hash = files::sha256(&folder.join("model.safetensors"))?;
        models.push(evaluate(&outcome.model, &hash, &folder, (&training, &test), size, setup)?);
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
    (training, test): (&Dataset, &Dataset),
    size: Size,
    setup: &Setup,
) -> Result<Evaluation, Error> {
    let readouts = args::readouts(READOUTS, model)?;
    let gradients = args::gradients(Some(GRADIENTS), model, &readouts)?;
    let first = training.len().saturating_sub(DEVELOPMENT);
    let held_out: Vec<usize> = (first..training.len()).collect();
    let development = training.select(&held_out);
    let assessment = Assessment::new(model, test)
        .of_file(hash)
        .rows(Split::Test.name(), (0..test.len()).collect())
        .development(&development, held_out)
        .budget(Budget::new(Norm::Linf, EPS).map_err(input)?)
        .attacks(args::attacks(size.attack)?)
        .gradients(gradients.clone(), gradients)
        .readouts(readouts)
        .checks(Some(FLAG_COUNT))
        .seed(setup.seed())
        .batch_size(BATCH)
        .folder(folder, false)
        .device(setup.device.clone());
    let evaluation = assessment.run(&Watch::new("", setup))?.ok_or_else(interrupted)?;
    let details = json!({ "data": "digits" });
    let configuration = configuration::completed(evaluation.configuration, setup, details);
    let evaluation = Evaluation { configuration, ..evaluation };
    let alone = vec![evaluation.clone()];
    write::results(folder, write::title(&alone), alone)?;
    Ok(evaluation)
}
