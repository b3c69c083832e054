//! What runs leave behind to go on from: journals, saved adversarial images, checkpoints of trainings.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use equipoise::architecture::Model;
use equipoise::attack::{self, Budget, Classifier, Norm};
use equipoise::batch::{from_vec, predictions};
use equipoise::evaluate::{
    Cascade, Journal, Outcome, Points, Quiet, Run, Settings, read_adversarial, run, save_adversarial,
};
use equipoise::gradient::Estimator;
use equipoise::readout::Readout;
use equipoise::train::{Plan, Silent, TrainConfig, train};
use equipoise::victim::{Deployment, Victim};
use equipoise_dataset::{Dataset, Source, Split};
use equipoise_fuzz::mutate::{bytes, json_lines, safetensors, sealed};
use equipoise_fuzz::{Mutator, Sample, Target, fuzz};

use crate::models::{metadata, tiny};

/// What damages a file of a run's folder.
fn by_name(name: &str) -> Option<Mutator> {
    Some(match name.rsplit('.').next()? {
        "json" => sealed,
        "jsonl" => json_lines,
        "safetensors" => safetensors,
        _ => bytes,
    })
}

fn digits(count: usize) -> Dataset {
    Source::Digits.load(Split::Train).unwrap().take(count)
}

/// An evaluation that takes milliseconds.
struct Evaluation {
    model: Box<dyn Model>,
    deployment: Deployment,
    points: Points,
    settings: Settings,
}

impl Evaluation {
    fn new() -> Self {
        let device = Device::default();
        let model = tiny().init(1, &device).unwrap();
        let deployment = metadata(tiny()).deployment;
        let data = digits(6);
        let all: Vec<usize> = (0..data.len()).collect();
        let images = from_vec(data.images(&all), [6, 1, 8, 8], &device);
        // Labels that the model gives make every image one to attack.
        let labels = predictions(&victim(&*model, &deployment).logits(&images));
        let labels = labels.into_iter().map(|label| label.unwrap()).collect();
        let points = Points::new(all, images, labels).unwrap();
        let settings = Settings { budget: Budget::new(Norm::Linf, 0.01).unwrap(), seed: 4, batch_size: 2 };
        Self { model, deployment, points, settings }
    }

    fn run(&self, journal: &Path) -> Result<Outcome, String> {
        let victim = victim(&*self.model, &self.deployment);
        let mut cascade = Cascade::new("final", &victim);
        cascade.opening.push(Run::new(attack::parse("pgd-2").unwrap(), "exact", &victim));
        cascade.gradient_free.push(Run::gradient_free(attack::parse("square-5").unwrap(), &victim));
        let mut journal = Journal::open(journal, "model").map_err(|error| error.to_string())?;
        journal.look(6).map_err(|error| error.to_string())?;
        journal.flags(6, 6).map_err(|error| error.to_string())?;
        let outcome = run(&cascade, &self.points, &self.settings, &Quiet, Some(&mut journal));
        outcome.map_err(|error| error.to_string())
    }
}

fn victim<'a>(model: &'a dyn Model, deployment: &'a Deployment) -> Victim<'a> {
    let model = model.equilibrium().expect("an MDEQ");
    Victim::new(model, deployment, Readout::final_state(), Estimator::exact())
}

fuzz!(journals, 400, {
    let evaluation = Evaluation::new();
    let folder = tempfile::tempdir().unwrap();
    let outcome = evaluation.run(folder.path()).unwrap();
    let journal = Journal::open(folder.path(), "model").unwrap();
    journal.keep_flags(6, 6, &outcome.result.flags).unwrap();
    let whole = Sample::folder(folder.path(), by_name);
    // Half of it: the rest is done anew.
    let last = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    fs::remove_file(last).unwrap();
    let samples = vec![whole, Sample::folder(folder.path(), by_name)];
    Target::new(samples, move |folder| {
        let outcome = evaluation.run(folder)?;
        // Whatever a journal claims: what counts as broken is broken, by an image that the budget allows.
        let victim = victim(&*evaluation.model, &evaluation.deployment);
        let answers = predictions(&victim.logits(&outcome.adversarial));
        let allowed = evaluation.settings.budget.contains(evaluation.points.images(), &outcome.adversarial);
        assert!(allowed.into_iter().all(|allowed| allowed), "an image outside of the budget");
        for ((example, answer), label) in
            outcome.result.examples.iter().zip(answers).zip(evaluation.points.labels())
        {
            assert!(example.broken_by.is_none() || answer != Some(*label), "{example:?} is not broken");
        }
        Ok(())
    })
});

fuzz!(saved_adversarial_images, 1000, {
    let evaluation = Evaluation::new();
    let folder = tempfile::tempdir().unwrap();
    let outcome = evaluation.run(&folder.path().join("journal")).unwrap();
    let stem = folder.path().join("adversarial");
    let budget = evaluation.settings.budget;
    let path = save_adversarial(stem, &evaluation.points, &budget, "model", &outcome).unwrap();
    let sample = Sample::of("adversarial.safetensors", fs::read(path).unwrap(), safetensors);
    Target::new(vec![sample], move |folder| {
        let saved = read_adversarial(folder.join("adversarial.safetensors"));
        let saved = saved.map_err(|error| error.to_string())?;
        let victim = victim(&*evaluation.model, &evaluation.deployment);
        let verified = saved.verify(&victim, ("model", "final"), &evaluation.points, &budget, 4, &Quiet);
        verified.map(drop).map_err(|error| error.to_string())
    })
});

fn plan<'a>(data: &'a Dataset, folder: &Path) -> Plan<'a> {
    let config =
        TrainConfig { batch_size: 8, development: 4, checkpoint_steps: 1, ..TrainConfig::standard(2) };
    let (metadata, folder) = (metadata(tiny()), folder.to_owned());
    Plan { metadata, config, data, init: None, seed: 1, folder, resume: true }
}

fuzz!(training_checkpoints, 300, {
    let data = digits(20);
    let folder = tempfile::tempdir().unwrap();
    train(&plan(&data, folder.path()), &Device::default(), &Silent).unwrap();
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let sample = Sample::folder(folder.path(), by_name);
    Target::new(vec![sample], move |folder| {
        let outcome = train(&plan(&data, folder), &Device::default(), &Silent);
        outcome.map(drop).map_err(|error| error.to_string())
    })
});
