//! `verify`: a record against the model, the data and the stored images that it speaks of.

use std::fs;
use std::path::{Path, PathBuf};

use equipoise::assess;
use equipoise::assess::Randomness;
use equipoise::attack::{Budget, Norm};
use equipoise::batch::to_vec;
use equipoise::certify::{Method, MonotoneCertifier, Proof, Smoothing};
use equipoise::checkpoint::ModelFile;
use equipoise::evaluate::{Observer, Points, SavedAdversarial, read_adversarial};
use equipoise::network::Network;
use equipoise::readout::Readout;
use equipoise::verify::{self, Tally, Verification, verify_certificates, verify_readout};
use equipoise_record::{Certificate, CertifiedNetwork, Evaluation};
use rayon::prelude::*;
use serde::Serialize;

use super::print;
use crate::args::{self, Images, Selected};
use crate::configuration::interrupted;
use crate::error::{Error, input};
use crate::files;
use crate::flags::{Preparation, Verify};
use crate::interrupt;
use crate::records;
use crate::setup::Setup;
use crate::watch::Watch;

/// What was found of a record.
#[derive(Serialize)]
struct Findings {
    /// Whether nothing differs.
    verified: bool,
    /// Of the record's file.
    record_sha256: String,
    models: Vec<ModelFindings>,
}

/// Of one model.
#[derive(Default, Serialize)]
struct ModelFindings {
    model: String,
    weights: Hash,
    images: Hash,
    readouts: Vec<ReadoutFindings>,
    certificates: Vec<CertificateFindings>,
}

/// Whether a hash is that of the record; null where the record has none.
#[derive(Default, Serialize)]
struct Hash {
    sha256: String,
    as_recorded: Option<bool>,
}

#[derive(Serialize)]
struct ReadoutFindings {
    readout: String,
    clean: Count,
    /// Null where no images are stored: what was broken is claimed.
    broken: Option<Count>,
    claimed: usize,
    /// Of the file of stored images.
    stored: Option<Hash>,
}

#[derive(Serialize)]
struct CertificateFindings {
    readout: String,
    method: String,
    network: String,
    /// Null where it cannot be proved again.
    proved: Option<Count>,
}

#[derive(Serialize)]
struct Count {
    checked: usize,
    verified: usize,
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    index: usize,
    problem: String,
}

impl From<Tally> for Count {
    fn from(tally: Tally) -> Self {
        let verified = tally.verified();
        let differences = tally.differences.into_iter();
        let differences =
            differences.map(|difference| Difference { index: difference.index, problem: difference.problem });
        Self { checked: tally.checked, verified, differences: differences.collect() }
    }
}

impl Hash {
    fn new(sha256: String, recorded: Option<&str>) -> Self {
        let as_recorded = recorded.filter(|recorded| !recorded.is_empty()).map(|recorded| recorded == sha256);
        Self { sha256, as_recorded }
    }

    fn differs(&self) -> bool {
        self.as_recorded == Some(false)
    }

    fn says(&self) -> String {
        let short = self.sha256.get(..12).unwrap_or_default();
        match self.as_recorded {
            Some(true) => format!("as recorded (sha256 {short}..)"),
            Some(false) => format!("ANOTHER than recorded (sha256 {short}..)"),
            None => format!("no hash in the record (sha256 {short}..)"),
        }
    }
}

/// Runs the command.
pub fn run(flags: &Verify, setup: &Setup) -> Result<(), Error> {
    if flags.batch_size == 0 {
        return Err(input("--batch-size 0: use at least 1"));
    }
    let (path, folder) = match flags.record.is_dir() {
        true => (flags.record.join("results.json"), flags.record.clone()),
        false => {
            let above = flags.record.parent().filter(|above| !above.as_os_str().is_empty());
            (flags.record.clone(), above.unwrap_or(Path::new(".")).to_owned())
        }
    };
    // Reading counts every figure again.
    let record = records::read(&path)?;
    if record.models.is_empty() {
        return Err(input(format!(
            "{}: there is no evaluation in it; give what evaluate or certify wrote",
            path.display()
        )));
    }
    interrupt::listen();
    let stored = stored(&folder)?;
    let mut models = Vec::new();
    for evaluation in &record.models {
        models.push(model(evaluation, &record.models, &stored, flags, setup)?);
    }
    let differences: usize = models.iter().map(ModelFindings::differences).sum();
    let findings = Findings { verified: differences == 0, record_sha256: files::sha256(&path)?, models };
    if flags.json {
        let text =
            serde_json::to_string_pretty(&findings).map_err(|error| Error::Internal(error.to_string()))?;
        print(&(text + "\n"))?;
    } else {
        print(&findings.models.iter().map(ModelFindings::text).collect::<String>())?;
    }
    match differences {
        0 => Ok(()),
        1 => Err(Error::Differs("the record is not verified: one thing differs".to_owned())),
        n => Err(Error::Differs(format!("the record is not verified: {n} things differ"))),
    }
}

/// What was random about the deployed model, if anything was.
fn randomness(evaluation: &Evaluation) -> Result<Randomness, Error> {
    let said = &evaluation.configuration["randomness"];
    let usual = Randomness::default();
    let read = || {
        let protocol = said["protocol"].as_str().map_or(Ok(usual.protocol), str::parse)?;
        let randomness = Randomness { noise: said["noise"].as_f64(), protocol, ..usual };
        randomness.check().map(|()| randomness)
    };
    read().map_err(|problem: String| input(format!("randomness of the record: {problem}")))
}

/// One model of the record.
fn model(
    evaluation: &Evaluation,
    all: &[Evaluation],
    stored: &[(PathBuf, SavedAdversarial)],
    flags: &Verify,
    setup: &Setup,
) -> Result<ModelFindings, Error> {
    let said = |key: &str| evaluation.configuration.get(key).and_then(|value| value.as_str());
    let (file, hash) = file(evaluation, all, flags, setup)?;
    let mut found = ModelFindings {
        model: evaluation.model.clone(),
        weights: Hash::new(hash.clone(), said("model_sha256")),
        ..ModelFindings::default()
    };
    if found.weights.differs() {
        return Ok(found);
    }
    let points = points(evaluation, &file, flags, setup)?;
    found.images = Hash::new(points.sha256(), said("images_sha256"));
    let norm: Norm =
        evaluation.norm.parse().map_err(|error| input(format!("norm of the record: {error}")))?;
    let budget =
        Budget::new(norm, evaluation.eps).map_err(|error| input(format!("eps of the record: {error}")))?;
    let watch = Watch::new(&evaluation.model, setup);
    for recorded in &evaluation.readouts {
        let readout: Readout = recorded
            .name
            .parse()
            .map_err(|error: String| input(format!("readout of the record: {error}")))?;
        let deployment = &file.metadata.deployment;
        let randomness = randomness(evaluation)?;
        let deployed = randomness.deployed(&*file.model);
        let judge = deployed.victim(deployment, readout.clone(), deployment.training_gradient.clone());
        let own = stored.iter().find(|(_, images)| images.is_of(&hash, &recorded.name, &budget));
        let settings = (evaluation.seed, randomness.protocol.draws(), flags.batch_size);
        let images = own.map(|(_, images)| images);
        let verified = verify_readout(&*judge, recorded, &points, &budget, images, settings, &watch);
        let Verification { clean, broken, claimed } = verified.ok_or_else(interrupted)?;
        let file_hash = |(path, _): &(PathBuf, SavedAdversarial)| -> Result<Hash, Error> {
            let recorded = &evaluation.configuration["adversarial_sha256"][&recorded.name];
            Ok(Hash::new(files::sha256(path)?, recorded.as_str()))
        };
        found.readouts.push(ReadoutFindings {
            readout: recorded.name.clone(),
            clean: clean.into(),
            broken: own.map(|_| broken.into()),
            claimed,
            stored: own.map(file_hash).transpose()?,
        });
        for certificate in &recorded.certificates {
            let proved = proved(certificate, &file, &readout, &points, norm, flags, setup)?;
            found.certificates.push(CertificateFindings {
                readout: recorded.name.clone(),
                method: certificate.method.clone(),
                network: certificate.network.name().to_owned(),
                proved: proved.map(Count::from),
            });
        }
    }
    Ok(found)
}

/// The model file: that of `--model` with the record's hash, or the one that stands in its place; else where it was.
fn file(
    evaluation: &Evaluation,
    all: &[Evaluation],
    flags: &Verify,
    setup: &Setup,
) -> Result<(ModelFile, String), Error> {
    let recorded = evaluation.configuration.get("model_sha256").and_then(|hash| hash.as_str());
    if flags.model.is_empty() {
        let was = evaluation.configuration.get("model_file").and_then(|path| path.as_str());
        let Some(was) = was else {
            return Err(input(format!(
                "{}: the record does not say where the model was; give --model",
                evaluation.model
            )));
        };
        return args::model(Path::new(was), &setup.device);
    }
    let files = flags.model.iter().map(|path| args::model(path, &setup.device));
    let mut files = files.collect::<Result<Vec<_>, Error>>()?;
    if let Some(at) = files.iter().position(|(_, hash)| Some(hash.as_str()) == recorded) {
        return Ok(files.swap_remove(at));
    }
    // One file for one model: that it is another one is what is to be found.
    match (files.pop(), files.is_empty(), all.len()) {
        (Some(only), true, 1) => Ok(only),
        _ => Err(input(format!(
            "--model: none of these files is {} of the record (sha256 {}); give it",
            evaluation.model,
            recorded.unwrap_or("unknown")
        ))),
    }
}

/// The images of the record's examples, in their order in the split.
fn points(evaluation: &Evaluation, file: &ModelFile, flags: &Verify, setup: &Setup) -> Result<Points, Error> {
    let said = |key: &str| evaluation.configuration.get(key).and_then(|value| value.as_str());
    let Some(source) = flags.data.as_deref().or(said("data")) else {
        return Err(input(format!(
            "{}: the record does not say where the data was; give --data",
            evaluation.model
        )));
    };
    let prepared = |key: &str| {
        let value = evaluation.configuration.get("preparation").and_then(|preparation| preparation.get(key));
        value.and_then(|value| value.as_str()).map(str::to_owned)
    };
    let preparation = Preparation {
        resize: prepared("resize"),
        crop: prepared("crop"),
        layout: prepared("layout"),
        max_input: None,
    };
    let split = said("split").filter(|split| !split.is_empty()).unwrap_or("test");
    let mut rows: Vec<usize> = evaluation
        .readouts
        .iter()
        .flat_map(|readout| &readout.examples)
        .map(|example| example.index)
        .collect();
    rows.sort_unstable();
    rows.dedup();
    let images = Images::listed(
        source.parse()?,
        preparation.check()?,
        split.parse()?,
        rows,
        &flags.record,
        flags.batch_size,
    );
    let Selected { data, rows } = images.load([file])?;
    Ok(assess::points(&data, rows, &setup.device)?)
}

/// All files of stored images in a folder, and in those directly below it.
fn stored(folder: &Path) -> Result<Vec<(PathBuf, SavedAdversarial)>, Error> {
    let mut found = Vec::new();
    let entries = |folder: &Path| -> Result<Vec<PathBuf>, Error> {
        let entries = fs::read_dir(folder).map_err(files::failed(folder, "read"))?;
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(files::failed(folder, "read"))?.path());
        }
        paths.sort();
        Ok(paths)
    };
    for path in entries(folder)? {
        let below = if path.is_dir() { entries(&path)? } else { vec![path] };
        for path in below {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("adversarial-") && name.ends_with(".safetensors") {
                let images = read_adversarial(&path)?;
                found.push((path, images));
            }
        }
    }
    Ok(found)
}

/// Some of a certificate's images, proved again, or voted on; `None` for a method that is not known here.
fn proved(
    certificate: &Certificate,
    file: &ModelFile,
    readout: &Readout,
    points: &Points,
    norm: Norm,
    flags: &Verify,
    setup: &Setup,
) -> Result<Option<Tally>, Error> {
    let own: Norm = certificate.norm.parse().unwrap_or(norm);
    let numbers = to_vec(points.images().clone());
    let pixels = numbers.len() / points.len().max(1);
    // Nobody who writes a record knows the seed that it will be verified with.
    let chosen = |index: usize| {
        let drawn = files::digest(format!("{} {index}", setup.seed()).as_bytes());
        let drawn = u64::from_str_radix(&drawn[..15], 16).unwrap_or(0);
        flags.every > 0 && drawn.is_multiple_of(flags.every as u64)
    };
    let certified = |index: usize| certificate.examples.iter().any(|example| example.index == index);
    let rows: Vec<usize> = (0..points.len())
        .filter(|&row| certified(points.indices()[row]) && chosen(points.indices()[row]))
        .collect();
    let Ok(method) = certificate.method.parse::<Method>() else {
        let Some(smoothing) = Smoothing::of(certificate) else { return Ok(None) };
        return voted(&smoothing, certificate, file, readout, points, (&rows, own, pixels), flags, setup)
            .map(Some);
    };
    let refused = |error: equipoise::certify::Unbounded| {
        input(format!(
            "{}: the record has a certificate by {method}, and there is none: {error}",
            file.metadata.name
        ))
    };
    let certifier = MonotoneCertifier::new(&*file.model).map_err(refused)?;
    let proof: Proof<'_> = match certificate.network {
        CertifiedNetwork::Ideal => certifier.ideal(method).map_err(refused)?,
        CertifiedNetwork::Deployed => {
            certifier.deployed(method, &file.metadata.deployment, readout).map_err(refused)?
        }
    };
    // What the record claims, and not what would be found by looking for the largest radius again: on another machine its last digits differ.
    let shown = |&row: &usize| {
        let image = &numbers[row * pixels..][..pixels];
        let example = certificate.examples.iter().find(|example| example.index == points.indices()[row])?;
        let claim = example.class.zip(example.radius);
        Some((example, claim.is_none_or(|(class, radius)| proof.confirms(image, own, class, radius))))
    };
    let shown: Vec<_> = rows.par_iter().filter_map(shown).collect();
    Ok(Some(verify_certificates(&shown)))
}

/// Votes of some of the images, taken under other noise: as many draws, which must not refute what the record has.
#[expect(clippy::too_many_arguments, reason = "called once, from where they are")]
fn voted(
    smoothing: &Smoothing,
    certificate: &Certificate,
    file: &ModelFile,
    readout: &Readout,
    points: &Points,
    (rows, norm, pixels): (&[usize], Norm, usize),
    flags: &Verify,
    setup: &Setup,
) -> Result<Tally, Error> {
    let deployment = &file.metadata.deployment;
    let victim = file.model.victim(deployment, readout.clone(), deployment.training_gradient.clone());
    let watch = Watch::new(&file.metadata.name, setup);
    watch.stage("votes under other noise", rows.len());
    let mut tally = Tally::default();
    for &row in rows {
        let index = points.indices()[row];
        let claimed = certificate.examples.iter().find(|example| example.index == index);
        let claim = claimed.and_then(|claimed| claimed.class.zip(claimed.radius));
        tally.checked += 1;
        if let Some((class, radius)) = claim {
            let agreeing =
                smoothing.agreeing(class, &*victim, points, row, setup.seed(), flags.batch_size, &watch);
            let agreeing = agreeing.ok_or_else(interrupted)?;
            if smoothing.refuted(agreeing, radius, norm, pixels) {
                let problem = format!(
                    "the record has class {class} within {radius}, and {agreeing} of {} draws of other noise give it: too few",
                    smoothing.estimation
                );
                tally.differences.push(verify::Difference { index, problem });
            }
        }
        watch.advance(1, "not refuted");
    }
    Ok(tally)
}

impl ModelFindings {
    /// Things that are not as recorded.
    fn differences(&self) -> usize {
        let hashes = [&self.weights, &self.images]
            .into_iter()
            .chain(self.readouts.iter().filter_map(|of| of.stored.as_ref()));
        let counts = self.readouts.iter().flat_map(|of| std::iter::once(&of.clean).chain(&of.broken));
        let counts = counts.chain(self.certificates.iter().filter_map(|of| of.proved.as_ref()));
        hashes.filter(|hash| hash.differs()).count()
            + counts.map(|count| count.differences.len()).sum::<usize>()
    }

    fn text(&self) -> String {
        let mut lines = vec![self.model.clone()];
        let mut line = |name: &str, says: String| lines.push(format!("  {name:<16} {says}"));
        line("record", "its figures follow from its examples".to_owned());
        line("weights", self.weights.says());
        if self.weights.differs() {
            line("", "nothing else was checked: it is of another model".to_owned());
            return lines.join("\n") + "\n";
        }
        line("images", self.images.says());
        let says = |count: &Count| format!("{} of {}", count.verified, count.checked);
        let mut differences = Vec::new();
        let mut differing = |of: &str, count: &Count| {
            let all = count.differences.iter();
            differences.extend(all.map(|one| format!("{of}, image {}: {}", one.index, one.problem)));
        };
        for of in &self.readouts {
            let broken = match &of.broken {
                Some(broken) => format!("broken {} verified", says(broken)),
                None if of.claimed == 0 => "none broken".to_owned(),
                None => format!("broken: {} claimed, no images of them are stored", of.claimed),
            };
            line(&of.readout, format!("clean {} as recorded; {broken}", says(&of.clean)));
            if let Some(stored) = &of.stored {
                line("", format!("stored images {}", stored.says()));
            }
            differing(&of.readout, &of.clean);
            of.broken.iter().for_each(|broken| differing(&of.readout, broken));
        }
        for of in &self.certificates {
            let proved = match &of.proved {
                Some(count) if of.method.ends_with("smoothing") => {
                    format!("{} not refuted by votes under other noise", says(count))
                }
                Some(count) => format!("{} proved again as recorded", says(count)),
                None => "claimed: it is not proved again".to_owned(),
            };
            let name = format!("{} {}", of.network, of.method);
            line(&name, format!("behind {}: {proved}", of.readout));
            of.proved.iter().for_each(|count| differing(&name, count));
        }
        lines.extend(differences.iter().map(|difference| format!("  differs: {difference}")));
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_as_recorded_another_or_not_recorded() {
        assert_eq!(Hash::new("ab".into(), Some("ab")).as_recorded, Some(true));
        assert!(Hash::new("ab".into(), Some("cd")).differs());
        assert!(!Hash::new("ab".into(), None).differs());
        assert_eq!(Hash::new("ab".into(), Some("")).as_recorded, None);
    }
}
