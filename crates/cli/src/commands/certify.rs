//! `certify`: proofs or votes under noise, image by image, to certificates in a record.

mod proofs;

use std::path::Path;
use std::time::Instant;

use equipoise::assess;
use equipoise::attack::{Budget, Classifier, Norm};
use equipoise::certify::{Checks, Serialized, Smoothing, SmoothingError, Votes};
use equipoise::checkpoint::ModelFile;
use equipoise::evaluate::{Cascade, Conditions, Observer, Points, Settings, run_with};
use equipoise::readout::Readout;
use equipoise_record::{Certificate, Collection, Confidence, Evaluation, FORMAT_VERSION, SerializedVotes};
use equipoise_verdict::conclude;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{print, write};
use crate::args::{self, Selected};
use crate::arguments;
use crate::configuration::{self, interrupted};
use crate::error::{Error, input};
use crate::files;
use crate::flags::Certify;
use crate::interrupt;
use crate::records;
use crate::sections::Sections;
use crate::setup::Setup;
use crate::watch::Watch;
use proofs::Proofs;

/// Checked flags.
struct Checked {
    file: ModelFile,
    hash: String,
    readout: Readout,
    data: equipoise_dataset::Dataset,
    points: Points,
    split: String,
    way: Way,
    norm: Norm,
    /// `--eps`, the smallest first; empty where it is not given.
    eps: Vec<f64>,
    /// What the certificate is put into.
    record: Option<Vec<Evaluation>>,
}

/// How it is certified.
enum Way {
    Smoothing(Smoothing),
    Proofs(Box<Proofs>),
}

/// Runs the command.
pub fn run(flags: &Certify, setup: &Setup) -> Result<(), Error> {
    let checked = check(flags, setup)?;
    let _lock = files::claim(&flags.out, flags.resume)?;
    interrupt::listen();
    let done = Sections::open(&flags.out, flags.resume, &key(&checked, setup))?;
    // Not before it is known that they fit: those of a run that is refused are not kept.
    arguments::keep(&flags.out)?;
    let certificates = match &checked.way {
        Way::Smoothing(smoothing) => vec![smoothed(&checked, smoothing, &done, flags, setup)?],
        Way::Proofs(proofs) => proofs.certificates(&checked, &done, setup)?,
    };
    let summary: Vec<String> = certificates.iter().map(summary).collect();
    let summary = summary.join("\n");
    let models = match checked.record.clone() {
        Some(models) => joined(models, &checked, certificates)?,
        None => vec![alone(&checked, certificates, flags, setup)?],
    };
    consistent(&models)?;
    write::results(&flags.out, write::title(&models), models)?;
    tracing::info!("{} written", flags.out.join("report.html").display());
    print(&summary)
}

/// Everything that can be wrong is found here, before anything is written.
fn check(flags: &Certify, setup: &Setup) -> Result<Checked, Error> {
    let norm: Norm = flags.norm.parse().map_err(|error| input(format!("--norm: {error}")))?;
    if norm == Norm::L1 {
        return Err(input("--norm l1: what is certified in l2 holds in l1 too; use l2"));
    }
    if flags.every == 0 {
        return Err(input("--every 0: use at least 1"));
    }
    if !flags.resume && (Sections::begun(&flags.out)? || flags.out.join("results.json").exists()) {
        return Err(input(format!(
            "{}: the folder holds a certification, or a part of one; add --resume to go on with it, or give another --out",
            flags.out.display()
        )));
    }
    let images = flags.images.check()?;
    let (file, hash) = args::model(&flags.model, &setup.device)?;
    let deployment = &file.metadata.deployment;
    let readout = match &flags.readout {
        None => deployment.readout.clone(),
        Some(name) => name.parse().map_err(|error: String| input(format!("--readout: {error}")))?,
    };
    if args::is_equilibrium(&file) {
        readout.check(deployment.solver.steps).map_err(|problem| input(format!("--readout: {problem}")))?;
    } else if readout != Readout::final_state() {
        return Err(input(format!(
            "--readout {readout}: the model is a feedforward network and has one readout only; use final"
        )));
    }
    let way = way(flags, &file, &readout, norm)?;
    let Selected { data, rows } = images.load([&file])?;
    let every: Vec<usize> = (0..data.len()).step_by(flags.every).collect();
    let rows = every.iter().map(|&at| rows[at]).collect();
    let data = data.select(&every);
    let points = assess::points(&data, rows, &setup.device)?;
    let pixels: usize = data.shape.iter().product();
    let eps = radii(&flags.eps, norm)?;
    if let (Way::Smoothing(smoothing), Some(smallest)) = (&way, eps.first()) {
        within_reach(*smallest, smoothing, norm, pixels)?;
    }
    let split = images.split.name().to_owned();
    let record = flags.record.as_deref().map(|path| attacked(path, &hash, &readout, &points)).transpose()?;
    Ok(Checked { file, hash, readout, data, points, split, way, norm, eps, record })
}

/// `--method`, with the flags of each.
fn way(flags: &Certify, file: &ModelFile, readout: &Readout, norm: Norm) -> Result<Way, Error> {
    let smoothing = flags.method.iter().any(|method| method == "smoothing");
    if smoothing && flags.method.len() > 1 {
        return Err(input("--method: smoothing stands alone; run proofs apart and join both with --record"));
    }
    if !smoothing && (!flags.method.is_empty() || flags.sigma.is_none()) {
        if flags.sigma.is_some() {
            return Err(input("--sigma belongs to --method smoothing; leave one of them out"));
        }
        if flags.serialized.is_some() {
            return Err(input("--serialized belongs to smoothing: give --sigma, or leave it out"));
        }
        return Ok(Way::Proofs(Box::new(Proofs::check(flags, file, readout, norm)?)));
    }
    if flags.at_eps {
        return Err(input("--at-eps: smoothing finds its radius at once; leave it out"));
    }
    let Some(sigma) = flags.sigma else {
        return Err(input("--method smoothing needs --sigma, the deviation of its noise; 0.25 is usual"));
    };
    let (selection, estimation, alpha) = (flags.selection, flags.samples, flags.alpha);
    let smoothing = Smoothing { sigma, selection, estimation, alpha, serialized: serialized(flags)? };
    let of_flag = |SmoothingError { field, problem }| {
        let flag = if field == "estimation" { "samples" } else { field };
        input(format!("--{flag}: {problem}"))
    };
    smoothing.check().map_err(of_flag)?;
    let deployment = &file.metadata.deployment;
    let victim = file.model.victim(deployment, readout.clone(), deployment.training_gradient.clone());
    smoothing.check_classifier(&*victim).map_err(of_flag)?;
    if let Some(serialized) = smoothing.serialized {
        serialized.check_solver(&deployment.solver).map_err(of_flag)?;
    }
    if args::is_equilibrium(file) {
        Smoothing::check_solver(&file.metadata.deployment.solver).map_err(
            |SmoothingError { problem, .. }| input(format!("{}: {problem}", flags.model.display())),
        )?;
    }
    Ok(Way::Smoothing(smoothing))
}

/// `--serialized`, with the flags that belong to it.
fn serialized(flags: &Certify) -> Result<Option<Serialized>, Error> {
    let Some(steps) = flags.serialized else {
        return match (flags.chains, flags.checks) {
            (None, None) => Ok(None),
            (chains, _) => {
                let flag = if chains.is_some() { "chains" } else { "checks" };
                Err(input(format!(
                    "--{flag} is of fast votes: give --serialized, such as --serialized 1, or leave it out"
                )))
            }
        };
    };
    let usual = Serialized::new(steps);
    let (chains, checks) = (flags.chains.unwrap_or(usual.chains), flags.checks.unwrap_or(usual.checks));
    Ok(Some(Serialized { steps, chains, checks }))
}

/// `--eps`, the smallest first, each once.
fn radii(given: &[String], norm: Norm) -> Result<Vec<f64>, Error> {
    let parsed = given.iter().map(|text| {
        Budget::parse_eps(text).map_err(|error| input(format!("--eps {text}: {error}"))).and_then(|eps| {
            Budget::new(norm, eps)
                .map_err(|error| input(format!("--eps: {error}")))
                .map(|budget| budget.eps())
        })
    });
    let mut eps = parsed.collect::<Result<Vec<f64>, _>>()?;
    eps.sort_by(f64::total_cmp);
    eps.dedup();
    Ok(eps)
}

/// Whether anything can be certified at the smallest radius.
fn within_reach(smallest: f64, smoothing: &Smoothing, norm: Norm, pixels: usize) -> Result<(), Error> {
    let largest = smoothing.largest_radius_in(norm, pixels).expect("L1 is refused");
    if smallest > largest {
        return Err(input(format!(
            "--eps {smallest}: with --sigma {} and --samples {} nothing can be certified beyond {largest:.3}; give smaller radii, \
             more samples or a larger sigma",
            smoothing.sigma, smoothing.estimation
        )));
    }
    Ok(())
}

/// `--record`: evaluations, one of which is of this model, behind this readout, on these images.
fn attacked(path: &Path, hash: &str, readout: &Readout, points: &Points) -> Result<Vec<Evaluation>, Error> {
    let wrong = |problem: &str| input(format!("--record {}: {problem}", path.display()));
    let models: Vec<Evaluation> =
        records::find(path)?.into_iter().flat_map(|found| found.collection.models).collect();
    let of_model = models.iter().filter(|model| model.configuration["model_sha256"] == *hash);
    let mut of_model = of_model.peekable();
    if of_model.peek().is_none() {
        return Err(wrong("no evaluation of this model file; give the record of one, or leave this out"));
    }
    let found = of_model.flat_map(|model| &model.readouts).find(|found| found.name == readout.to_string());
    let found = found
        .ok_or_else(|| wrong(&format!("the model was not evaluated behind {readout}; give --readout")))?;
    for (&index, &label) in points.indices().iter().zip(points.labels()) {
        if !found.examples.iter().any(|example| example.index == index && example.label == label) {
            return Err(wrong(&format!(
                "image {index} was not evaluated, or as another class; certify a part of what was evaluated"
            )));
        }
    }
    Ok(models)
}

/// What finished images must have in common with this run to be used by it.
fn key(checked: &Checked, setup: &Setup) -> Value {
    let rows: Vec<usize> = (0..checked.data.len()).collect();
    let pixels: Vec<u8> = checked.data.images(&rows).iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let mut key = json!({
        "equipoise": env!("CARGO_PKG_VERSION"),
        "model": checked.hash,
        "readout": checked.readout.to_string(),
        "images": files::digest(&pixels),
        "indices": checked.points.indices(),
        "seed": setup.seed(),
    });
    let way = match &checked.way {
        Way::Smoothing(smoothing) => {
            let mut way = json!({
                "sigma": smoothing.sigma,
                "selection": smoothing.selection,
                "samples": smoothing.estimation,
            });
            if let Some(Serialized { steps, chains, checks }) = smoothing.serialized {
                let chains = chains.min(smoothing.estimation);
                way["serialized"] = json!({ "steps": steps, "chains": chains, "checks": checks });
            }
            way
        }
        Way::Proofs(proofs) => {
            let radii = proofs.at_eps().then_some(&checked.eps);
            json!({ "proofs": proofs.names(), "norm": checked.norm.to_string(), "radii": radii })
        }
    };
    if let (Value::Object(key), Value::Object(way)) = (&mut key, way) {
        key.extend(way);
    }
    key
}

/// What is kept of an image.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    votes: Votes,
    seconds: f64,
    cell_evaluations: u64,
}

/// Every image's votes, read or drawn.
fn smoothed(
    checked: &Checked,
    smoothing: &Smoothing,
    done: &Sections,
    flags: &Certify,
    setup: &Setup,
) -> Result<Certificate, Error> {
    let Checked { file, readout, points, norm, .. } = checked;
    let deployment = &file.metadata.deployment;
    let victim = file.model.victim(deployment, readout.clone(), deployment.training_gradient.clone());
    let classifier: &dyn Classifier = &*victim;
    let watch = Watch::new(&file.metadata.name, setup);
    let pixels: usize = checked.data.shape.iter().product();
    watch.stage(&format!("certifying {readout}"), points.len());
    let (mut all, mut seconds, mut evaluations, mut shown) = (Vec::new(), 0.0, 0, 0);
    for (row, &index) in points.indices().iter().enumerate() {
        let mut draw = || {
            let (start, before) = (Instant::now(), classifier.work().cell_evaluations);
            let votes =
                smoothing.votes(classifier, points, row, setup.seed(), flags.images.batch_size, &watch);
            let kept = Kept {
                votes: votes.ok_or_else(interrupted)?,
                seconds: start.elapsed().as_secs_f64(),
                cell_evaluations: classifier.work().cell_evaluations - before,
            };
            Ok(json!(kept))
        };
        let sound = |found: &Value| believable(found, smoothing, classifier.classes());
        let found = done.kept(&format!("image-{index}"), sound, &mut draw)?;
        let Kept { votes, seconds: spent, cell_evaluations } =
            serde_json::from_value(found).map_err(|error| Error::Internal(error.to_string()))?;
        let example = smoothing.certified(index, votes, *norm, pixels).expect("L1 is refused");
        (seconds, evaluations) = (seconds + spent, evaluations + cell_evaluations);
        shown += usize::from(example.class == Some(points.labels()[row]));
        all.push(votes);
        watch.advance(1, &format!("{shown} of {} certified at some radius", row + 1));
    }
    let usual = || smoothing.radii(*norm, pixels);
    let eps = Some(checked.eps.clone()).filter(|eps| !eps.is_empty()).unwrap_or_else(usual);
    Ok(smoothing.certificate(points, &all, *norm, &eps, (seconds, evaluations)).expect("L1 is refused"))
}

/// Whether kept votes can be those of so many draws.
fn believable(found: &Value, smoothing: &Smoothing, classes: usize) -> Result<(), String> {
    let Kept { votes: Votes { class, count, checks }, .. } =
        serde_json::from_value(found.clone()).map_err(|error| error.to_string())?;
    if class.is_some_and(|class| class >= classes) {
        return Err(format!("votes.class: the model has {classes} classes"));
    }
    if count > smoothing.estimation || class.is_none() && count > 0 {
        return Err(format!("votes.count: {count} of {} draws", smoothing.estimation));
    }
    match (smoothing.serialized, checks) {
        (Some(serialized), Some(Checks { checked, confirmed }))
            if class.is_none() || checked > serialized.checks.min(count) || confirmed > checked =>
        {
            return Err(format!("votes.checks: {confirmed} of {checked} of {count} votes"));
        }
        (Some(_), None) if class.is_some() => return Err("votes.checks: there are none".to_owned()),
        (None, Some(_)) => return Err("votes.checks: these votes were not fast".to_owned()),
        _ => {}
    }
    Ok(())
}

/// Nothing that an attack of the record broke is certified, and nothing else contradicts itself.
fn consistent(models: &[Evaluation]) -> Result<(), Error> {
    let models = models.to_vec();
    let collection =
        Collection { version: FORMAT_VERSION, models, diagnoses: Vec::new(), trainings: Vec::new() };
    equipoise_verdict::check(&collection).map_err(|error| {
        input(format!(
            "the record contradicts a certificate: {error}; was the record made with this model, on this kind of device?"
        ))
    })
}

/// The certificates beside what attacks left.
fn joined(
    mut models: Vec<Evaluation>,
    checked: &Checked,
    certificates: Vec<Certificate>,
) -> Result<Vec<Evaluation>, Error> {
    let name = checked.readout.to_string();
    let of_model = models.iter_mut().filter(|model| model.configuration["model_sha256"] == checked.hash);
    let readout = of_model.flat_map(|model| &mut model.readouts).find(|readout| readout.name == name);
    readout
        .ok_or_else(|| Error::Internal("the record was checked".into()))?
        .certificates
        .extend(certificates);
    Ok(models)
}

/// A record of its own: the certificates beside the deployed model's answers on the unperturbed images.
fn alone(
    checked: &Checked,
    certificates: Vec<Certificate>,
    flags: &Certify,
    setup: &Setup,
) -> Result<Evaluation, Error> {
    let Checked { file, hash, readout, data, points, norm, .. } = checked;
    let deployment = &file.metadata.deployment;
    let judge = file.model.victim(deployment, readout.clone(), deployment.training_gradient.clone());
    let radii = certificates.iter().flat_map(|certificate| &certificate.radii);
    let largest = radii.map(|radius| radius.eps).fold(0.0, f64::max);
    let budget = Budget::new(*norm, largest).map_err(|error| Error::Internal(error.to_string()))?;
    let settings = Settings { budget, seed: setup.seed(), batch_size: flags.images.batch_size };
    let watch = Watch::new(&file.metadata.name, setup);
    let cascade = Cascade::new(readout.to_string(), &*judge);
    let outcome = run_with(&cascade, points, &settings, &watch, Conditions::default())?;
    if !outcome.complete {
        return Err(interrupted());
    }
    let mut result = outcome.result;
    result.certificates.extend(certificates);
    let details = json!({
        "split": checked.split,
        "images_sha256": points.sha256(),
        "data": flags.images.data,
        "preparation": flags.images.preparation.details(),
        "readouts": [readout.to_string()],
        "batch_size": flags.images.batch_size,
        "model_file": flags.model.display().to_string(),
    });
    let mut models = vec![Evaluation {
        version: FORMAT_VERSION,
        model: file.metadata.name.clone(),
        configuration: configuration::record(setup, &file.metadata, hash, details),
        dataset: format!("{}, {}", data.name, checked.split),
        classes: data.class_names.clone(),
        norm: norm.to_string(),
        eps: largest,
        seed: setup.seed(),
        count: points.len(),
        clean_accuracy: result.clean_accuracy,
        readouts: vec![result],
    }];
    conclude(&mut models);
    models.pop().ok_or_else(|| Error::Internal("one model".into()))
}

/// Certified accuracy by radius, as Markdown.
fn summary(certificate: &Certificate) -> String {
    let Certificate { method, network, norm, radii, examples, abstained, confidence, .. } = certificate;
    let mut text = format!("| {norm} radius | certified | images |\n| ---: | ---: | ---: |\n");
    for radius in radii {
        let accuracy = radius.certified_accuracy;
        text += &format!(
            "| {:.4} | {:.1}% | {} of {} |\n",
            radius.eps,
            100.0 * accuracy.value,
            accuracy.correct(),
            accuracy.count()
        );
    }
    let what = match confidence {
        Some(Confidence { level, serialized, .. }) => {
            let of_fast = |found: &SerializedVotes| {
                format!("; of {} fast votes that were checked {} stood", found.checked, found.confirmed)
            };
            let checks = serialized.as_ref().map_or(String::new(), of_fast);
            format!("The vote over all noise, with confidence {level} for each image{checks}")
        }
        None => format!("By {method}, of the {} network", network.name()),
    };
    text + &format!("\n{what}; no answer for {abstained} of {} images.\n", examples.len())
}

#[cfg(test)]
mod tests {
    use equipoise_files::seal;
    use equipoise_fuzz::{Sample, Target, mutate};

    use super::*;

    equipoise_fuzz::fuzz!(certified_images, 500, {
        read_back(Smoothing { estimation: 200, ..Smoothing::new(0.25) }, None)
    });

    equipoise_fuzz::fuzz!(certified_images_of_fast_votes, 500, {
        let serialized = Some(Serialized { checks: 50, ..Serialized::new(1) });
        let smoothing = Smoothing { estimation: 200, serialized, ..Smoothing::new(0.25) };
        read_back(smoothing, Some(Checks { checked: 46, confirmed: 45 }))
    });

    /// Reads votes that were kept, and certifies what they say.
    fn read_back(smoothing: Smoothing, checks: Option<Checks>) -> Target {
        let key = json!({ "model": "m", "sigma": 0.25 });
        let votes = Votes { class: Some(3), count: 187, checks };
        let kept = Kept { votes, seconds: 0.5, cell_evaluations: 1980 };
        let sample = Sample::of("sections/key.json", seal(&key).unwrap(), mutate::sealed);
        let sample = sample.and("sections/image-7.json", seal(&json!(kept)).unwrap(), Some(mutate::sealed));
        Target::new(vec![sample], move |folder| {
            let sections = Sections::open(folder, true, &key).map_err(|error| error.to_string())?;
            let sound = |found: &Value| believable(found, &smoothing, 10);
            let found = sections.kept("image-7", sound, &mut || panic!("the image is there"));
            let found = found.map_err(|error| error.to_string())?;
            let Kept { votes, .. } = serde_json::from_value(found).map_err(|error| error.to_string())?;
            let example = smoothing.certified(7, votes, Norm::L2, 64).ok_or("L2 is certified")?;
            assert!(example.radius.unwrap_or(0.0) <= smoothing.largest_radius());
            Ok(())
        })
    }
}
