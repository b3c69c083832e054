//! Whether an imported model wants its images normalised in another way: judged by what it gets right.

use burn::tensor::Device;
use equipoise::batch::{Images, predictions, select};
use equipoise::checkpoint::ModelFile;
use equipoise::evaluate::Points;
use equipoise::model::normalisation::Normalisation;
use equipoise::readout::Readout;
use equipoise_verdict::exact_test;

use crate::error::{Error, input};

/// Images that are looked at.
const COUNT: usize = 200;
/// Fewer images cannot tell an accuracy from chance.
const FEWEST: usize = 50;
/// Images at once.
const BATCH: usize = 50;
/// Points of accuracy below which another normalisation is no better.
const POINTS: f64 = 0.05;
/// Level of the tests.
const LEVEL: f64 = 0.01;

/// A warning, if the first images are classified much better when they are normalised in another usual way, or no better
/// than by chance. `None` for a model that was trained here. `name` is what the model is called here.
pub fn warning(
    model: &ModelFile,
    name: &str,
    points: &Points,
    device: &Device,
) -> Result<Option<String>, Error> {
    if !model.metadata.training.is_null() {
        return Ok(None);
    }
    let rows: Vec<usize> = (0..points.len().min(COUNT)).collect();
    let images = select(points.images(), &rows);
    let labels = &points.labels()[..rows.len()];
    let architecture = &model.metadata.architecture;
    let own = architecture.normalisation();
    let n = rows.len() as f64;
    let as_given = correct(model, &images, labels);
    let right = |all: &[bool]| all.iter().filter(|&&correct| correct).count();

    let usual = Normalisation::usual(architecture.image()[0]);
    let others = usual.into_iter().map(|(name, normalisation)| (name, Some(normalisation)));
    let mut better: Vec<String> = Vec::new();
    let only = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|&(&a, &b)| a && !b).count();
    let share = |all: &[bool]| format!("{:.1}%", 100.0 * right(all) as f64 / n);
    for (normalised, other) in others.chain([("none", None)]).filter(|(_, other)| other.as_ref() != own) {
        let Some(other) = architecture.with_normalisation(other) else { continue };
        let other = other.init(0, device).map_err(input)?;
        let other = other.with_weights(model.model.weights()).map_err(input)?;
        let found = correct(&ModelFile { model: other, metadata: model.metadata.clone() }, &images, labels);
        let (gained, lost) = (only(&found, &as_given), only(&as_given, &found));
        if (gained as f64 - lost as f64) / n >= POINTS && exact_test(gained, lost) < LEVEL {
            better.push(format!("{} with {normalised}", share(&found)));
        }
    }
    let setting =
        format!("{name}: {} of the first {} images are classified correctly", share(&as_given), rows.len());
    if !better.is_empty() {
        return Ok(Some(format!(
            "{setting}, and {}: if it was trained on images normalised in such a way, import it with --normalise and the \
             name of the one in its training code, or what is attacked is not the model as it was trained",
            better.join(", ")
        )));
    }
    let chance = 1.0 / architecture.classes() as f64;
    if rows.len() >= FEWEST
        && right(&as_given) as f64 / n <= chance + 2.0 * (chance * (1.0 - chance) / n).sqrt()
    {
        return Ok(Some(format!(
            "{setting}, which is near chance ({:.1}%): are the classes in the order that it was trained with, and is the \
             architecture right?",
            100.0 * chance
        )));
    }
    Ok(None)
}

/// Which images are classified correctly by the deployed model.
fn correct(file: &ModelFile, images: &Images, labels: &[usize]) -> Vec<bool> {
    let ModelFile { metadata, model } = file;
    let gradient = metadata.deployment.training_gradient.clone();
    let victim = model.victim(&metadata.deployment, Readout::final_state(), gradient);
    let rows: Vec<usize> = (0..labels.len()).collect();
    let batches = rows.chunks(BATCH).flat_map(|batch| predictions(&victim.logits(&select(images, batch))));
    batches.zip(labels).map(|(found, label)| found == Some(*label)).collect()
}
