//! `diagnose`: model files and a data set to residuals, gradient alignment, loss, spectrum and sweeps.

use std::path::{Path, PathBuf};

use equipoise::assess;
use equipoise::attack::Norm;
use equipoise::checkpoint::ModelFile;
use equipoise::diagnose::{DiagnoseError, Examination, Question, Settings, SpectrumConfig};
use equipoise::evaluate::{Points, Verified, read_adversarial};
use equipoise::solve::MAX_STEPS;
use equipoise_dataset::{Dataset, Split};
use equipoise_record::names::{Facts, distinct};
use equipoise_record::{Attacked, Diagnosis, FORMAT_VERSION, ModelDiagnosis};
use serde_json::{Value, json};

use super::{print, write};
use crate::args::{self, Selected};
use crate::configuration::{self, command_line, interrupted};
use crate::error::{Error, input};
use crate::flags::Diagnose;
use crate::interrupt;
use crate::sections::Sections;
use crate::setup::Setup;
use crate::watch::Watch;
use crate::{arguments, files};

/// A model to diagnose.
struct Patient {
    name: String,
    file: ModelFile,
    hash: String,
    adversarial: Option<Adversarial>,
}

/// Images that fool a model already.
struct Adversarial {
    images: Verified,
    path: PathBuf,
    hash: String,
}

/// Flags, checked.
struct Checked {
    patients: Vec<Patient>,
    data: Dataset,
    points: Points,
    split: Split,
    questions: Vec<Question>,
    settings: Settings,
    horizon: usize,
    spectrum: SpectrumConfig,
    gallery: usize,
}

/// Runs the command.
pub fn run(flags: &Diagnose, setup: &Setup) -> Result<(), Error> {
    let checked = check(flags, setup)?;
    let _lock = files::claim(&flags.out, flags.resume)?;
    interrupt::listen();
    let done = Sections::open(&flags.out, flags.resume, &key(&checked, flags))?;
    // Not before it is known that they fit: those of a run that is refused are not kept.
    arguments::keep(&flags.out)?;
    let mut diagnosed = Vec::new();
    for (number, patient) in checked.patients.iter().enumerate() {
        let part = format!("{}-{}", number + 1, patient.hash.get(..12).unwrap_or(&patient.hash));
        diagnosed.push(diagnose(&checked, patient, &done, &part, setup)?);
    }
    let attacked = if flags.adversarial.is_empty() { Attacked::ReadyMade } else { Attacked::Saved };
    let configuration = json!({
        "equipoise": env!("CARGO_PKG_VERSION"),
        "command": command_line(),
        "device": setup.device_name,
        "threads": setup.threads,
        "data": flags.images.data,
        "preparation": flags.images.preparation.details(),
        "split": checked.split.name(),
        "sections": checked.questions.iter().map(|question| question.name).collect::<Vec<_>>(),
        "attack": match attacked {
            Attacked::ReadyMade => "pgd-10 through the training gradient",
            Attacked::Saved => "images saved by evaluate",
        },
        "batch_size": checked.settings.batch_size,
    });
    let diagnosis = Diagnosis {
        version: FORMAT_VERSION,
        configuration,
        dataset: format!("{}, {}", checked.data.name, checked.split),
        norm: checked.settings.budget.norm().to_string(),
        eps: checked.settings.budget.eps(),
        seed: checked.settings.seed,
        count: checked.data.len(),
        attacked,
        diagnosed,
    };
    let summary = equipoise_report::diagnosis_summary(&diagnosis).join("\n");
    write::diagnosis(&flags.out, diagnosis)?;
    tracing::info!("{} written", flags.out.join("report.html").display());
    print(&format!("{summary}\n"))
}

/// The most power iterations, and the most probes of an image.
const MAX_REPETITIONS: usize = 100_000;

/// Everything that can be wrong is found here, before anything is written.
fn check(flags: &Diagnose, setup: &Setup) -> Result<Checked, Error> {
    let budget = flags.ball.budget()?;
    if budget.norm() == Norm::L1 {
        return Err(input(
            "--norm l1: diagnose attacks with PGD, which does not search in l1 balls; use linf or l2",
        ));
    }
    if budget.eps() == 0.0 {
        return Err(input("--eps 0: nothing can be attacked within it; give a radius such as 8/255"));
    }
    if !flags.resume && (Sections::begun(&flags.out)? || flags.out.join("diagnosis.json").exists()) {
        return Err(input(format!(
            "{}: the folder holds a diagnosis, or finished sections of one; add --resume to go on with it, or give another \
             --out",
            flags.out.display()
        )));
    }
    let names: Vec<&str> = flags.sections.split(',').map(str::trim).collect();
    let questions = Question::named(&names).map_err(|error| input(format!("--sections: {error}")))?;
    let images = flags.images.check()?;
    for (flag, value, least, most) in [
        ("--horizon", flags.horizon.unwrap_or(1), 1, MAX_STEPS),
        ("--power-iterations", flags.power_iterations, 2, MAX_REPETITIONS),
        ("--probes", flags.probes, 2, MAX_REPETITIONS),
    ] {
        if value < least {
            return Err(input(format!("{flag} {value}: use at least {least}")));
        }
        if value > most {
            return Err(input(format!("{flag} {value}: use at most {most}")));
        }
    }
    let mut patients: Vec<Patient> = Vec::new();
    for path in &flags.model {
        let (file, hash) = args::model(path, &setup.device)?;
        patients.push(Patient { name: file.metadata.name.clone(), file, hash, adversarial: None });
    }
    let facts = patients.iter().zip(&flags.model).map(|(patient, path)| {
        Facts::of_model(&patient.name, &json!(patient.file.metadata), Some(&path.display().to_string()))
    });
    let names = distinct(&facts.collect::<Vec<_>>());
    for (patient, name) in patients.iter_mut().zip(names) {
        patient.name = name;
    }
    let Selected { data, rows } = images.load(patients.iter().map(|patient| &patient.file))?;
    let points = assess::points(&data, rows, &setup.device)?;
    let settings = Settings { budget, seed: setup.seed(), batch_size: images.batch_size };
    if !flags.adversarial.is_empty() && flags.adversarial.len() != patients.len() {
        return Err(input(format!(
            "--adversarial: {} given for {} of --model; give one file for each, in the same order",
            flags.adversarial.len(),
            patients.len()
        )));
    }
    for (patient, path) in patients.iter_mut().zip(&flags.adversarial) {
        patient.adversarial = Some(adversarial(patient, path, &points, &settings, setup)?);
    }
    let steps = patients.iter().find_map(|patient| solver_steps(&patient.file));
    let horizon = flags.horizon.unwrap_or((3 * steps.unwrap_or(1)).min(MAX_STEPS));
    Ok(Checked {
        patients,
        data,
        points,
        split: images.split,
        questions,
        settings,
        horizon,
        spectrum: SpectrumConfig {
            limit: flags.power_iterations,
            probes: flags.probes,
            ..SpectrumConfig::default()
        },
        gallery: flags.gallery,
    })
}

/// One of `--adversarial`, verified for a model.
fn adversarial(
    patient: &Patient,
    path: &Path,
    points: &Points,
    settings: &Settings,
    setup: &Setup,
) -> Result<Adversarial, Error> {
    let ModelFile { metadata, model } = &patient.file;
    let deployment = &metadata.deployment;
    let readout = &deployment.readout;
    let judge = model.victim(deployment, readout.clone(), deployment.training_gradient.clone());
    let Settings { budget, batch_size, .. } = settings;
    let watch = Watch::new(&patient.name, setup);
    let saved = read_adversarial(path)?;
    let images =
        saved.verify(&*judge, (&patient.hash, &readout.to_string()), points, budget, *batch_size, &watch)?;
    Ok(Adversarial { images, path: path.to_owned(), hash: files::sha256(path)? })
}

/// T, where there is a solver.
fn solver_steps(file: &ModelFile) -> Option<usize> {
    file.model.equilibrium().map(|_| file.metadata.deployment.solver.steps)
}

/// What finished sections must have in common with this run to be used by it. The batch size is not among it, and
/// neither are the sections asked for.
fn key(checked: &Checked, flags: &Diagnose) -> Value {
    let rows: Vec<usize> = (0..checked.data.len()).collect();
    let pixels: Vec<u8> = checked.data.images(&rows).iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    json!({
        "equipoise": env!("CARGO_PKG_VERSION"),
        "models": checked.patients.iter().map(|patient| &patient.hash).collect::<Vec<_>>(),
        "images": files::digest(&pixels),
        "labels": checked.data.labels,
        "norm": checked.settings.budget.norm().to_string(),
        "eps": checked.settings.budget.eps(),
        "seed": checked.settings.seed,
        "horizon": checked.horizon,
        "power_iterations": flags.power_iterations,
        "probes": flags.probes,
        "gallery": flags.gallery,
        "adversarial": checked.patients.iter().map(|patient| patient.adversarial.as_ref().map(|a| &a.hash)).collect::<Vec<_>>(),
    })
}

/// One model, section by section: those that are done are read, the others measured and kept.
fn diagnose(
    checked: &Checked,
    patient: &Patient,
    done: &Sections,
    part: &str,
    setup: &Setup,
) -> Result<ModelDiagnosis, Error> {
    let watch = Watch::new(&patient.name, setup);
    let found = patient
        .examination(checked)
        .run_keeping(&watch, |section, measure| done.section(part, section, measure))?;
    let details = match &patient.adversarial {
        None => json!({}),
        Some(given) => json!({ "adversarial": given.path, "adversarial_sha256": given.hash }),
    };
    let configuration = configuration::record(setup, &patient.file.metadata, &patient.hash, details);
    Ok(ModelDiagnosis { model: patient.name.clone(), configuration, ..found })
}

impl Patient {
    fn examination<'a>(&'a self, checked: &'a Checked) -> Examination<'a> {
        let examination = Examination::new(&self.file, &checked.points, checked.settings);
        examination
            .questions(checked.questions.clone())
            .horizon(checked.horizon)
            .spectrum(checked.spectrum)
            .gallery(checked.gallery, &checked.data.class_names)
            .attacked(self.adversarial.as_ref().map(|given| &given.images))
    }
}

/// Somebody asked to stop: what is done waits to be resumed.
impl From<DiagnoseError> for Error {
    fn from(error: DiagnoseError) -> Self {
        match error {
            DiagnoseError::Cancelled => interrupted(),
            error => input(error),
        }
    }
}
