//! From a model and a data set to a record, in one call: attacks behind each readout at each radius, with their control,
//! checks and pictures.
//!
//! The crate's first page has an example.

mod describe;
mod randomness;
mod readout;

pub use describe::Description;
pub use randomness::{Protocol, Randomised, Randomness};

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use burn::tensor::Device;
use equipoise_dataset::{Dataset, DatasetError};
use equipoise_record::{Evaluation, FORMAT_VERSION, ReadoutResult, Verdict};
use equipoise_verdict::conclude;
use serde_json::{Value, json};

use crate::attack::{self, Attack, AttackNameError, Budget, Norm, Step};
use crate::batch::from_vec;
use crate::checkpoint::ModelFile;
use crate::checks::CheckError;
use crate::early_exit::{Choosing, ChosenUnder, EarlyChoice, EarlyExitError, choose_early};
use crate::evaluate::{
    self, EvaluateError, Forecast, JournalError, Observer, Outcome, Points, PointsError, SaveError,
};
use crate::gradient::Estimator;
use crate::network::Network;
use crate::plan::{Plan, Subject, Transfer, Tries};
use crate::readout::Readout;
use crate::victim::Deployment;

/// Points that checks examine, unless it is said otherwise.
const CHECKED: usize = 64;

/// Images at once, unless it is said otherwise.
const BATCH: usize = 64;

/// Which attacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attacks {
    /// Attacks, each once, to be crossed with the gradients.
    pub listed: Vec<Arc<dyn Attack>>,
    /// Whether the white-box plan is tried too, which brings its own gradients ([`crate::plan`]).
    pub white_box: bool,
}

impl Attacks {
    /// The white-box plan alone.
    pub fn white_box() -> Self {
        Self { listed: Vec::new(), white_box: true }
    }

    /// These attacks alone.
    pub fn of(attacks: impl IntoIterator<Item = Arc<dyn Attack>>) -> Self {
        let mut all = Self::default();
        attacks.into_iter().for_each(|attack| all.add(attack));
        all
    }

    fn add(&mut self, attack: Arc<dyn Attack>) {
        if !self.listed.contains(&attack) {
            self.listed.push(attack);
        }
    }

    /// Names of the attacks that are crossed with the gradients.
    pub fn names(&self) -> Vec<String> {
        self.listed.iter().map(|attack| attack.name()).collect()
    }
}

/// Reads names and sets that [`attack::set`] knows, those of registered attacks among them, and `whitebox`, the white-box
/// plan, separated by commas.
impl FromStr for Attacks {
    type Err = AttackNameError;

    fn from_str(list: &str) -> Result<Self, AttackNameError> {
        let mut attacks = Self::default();
        for name in list.split(',') {
            if name.trim() == "whitebox" {
                attacks.white_box = true;
                continue;
            }
            let set = attack::set(name).map_err(|error| error.or(", whitebox"))?;
            set.into_iter().for_each(|attack| attacks.add(attack.into()));
        }
        Ok(attacks)
    }
}

/// A readout, or the wish to have one chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadoutChoice {
    /// This one.
    Fixed(Readout),
    /// `early(t)` with t chosen on held-out training images ([`Assessment::development`]), under this attack.
    Early(ChosenUnder),
}

impl ReadoutChoice {
    /// The readout, or one of the kind that is to be chosen.
    pub fn example(&self) -> Readout {
        match self {
            Self::Fixed(readout) => readout.clone(),
            Self::Early(_) => Readout::early(1),
        }
    }
}

/// A readout's name; or `early` to have t chosen under a ready-made attack, `early:whitebox` under the true gradients too.
impl FromStr for ReadoutChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "early" => Ok(Self::Early(ChosenUnder::ReadyMade)),
            "early:whitebox" => Ok(Self::Early(ChosenUnder::WhiteBox)),
            name => name
                .parse()
                .map(Self::Fixed)
                .map_err(|error: String| format!("{error}; or early or early:whitebox, to have t chosen")),
        }
    }
}

/// Why an assessment stopped.
#[derive(Debug, thiserror::Error)]
pub enum AssessError {
    /// No readout, or no radius.
    #[error("nothing to assess: give at least one {0}")]
    Nothing(&'static str),
    /// The readout `early` without images to choose t on.
    #[error("the readout early needs images to choose t on: give a development split, or t, as in early(3)")]
    NoDevelopment,
    /// The data set.
    #[error(transparent)]
    Points(#[from] PointsError),
    /// An evaluation.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The choice of an early readout.
    #[error(transparent)]
    EarlyExit(#[from] EarlyExitError),
    /// The checks.
    #[error(transparent)]
    Checks(#[from] CheckError),
    /// Adversarial images that could not be written.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The same, as npz.
    #[error(transparent)]
    Npz(#[from] DatasetError),
}

impl From<JournalError> for AssessError {
    fn from(error: JournalError) -> Self {
        EvaluateError::from(error).into()
    }
}

/// What is assessed, by what, and how. Set what differs from the defaults, then [`run`](Self::run) it.
#[derive(Debug, Clone)]
pub struct Assessment<'a> {
    network: &'a dyn Network,
    deployment: &'a Deployment,
    /// The name of the model in the record, and what is said of it there.
    name: String,
    described: Value,
    /// What tells the model's file from others.
    hash: String,
    data: &'a Dataset,
    /// The row of each image in the split that it is from: what its random numbers are derived from.
    rows: Vec<usize>,
    split: String,
    /// Images to choose `early` on, with their rows.
    development: Option<(&'a Dataset, Vec<usize>)>,
    attacks: Attacks,
    gradients: Vec<Estimator>,
    asked: Vec<Estimator>,
    readouts: Vec<ReadoutChoice>,
    /// The radii, the smallest first.
    budgets: Vec<Budget>,
    control: bool,
    margin: f64,
    time_limit: Option<f64>,
    checks: Option<usize>,
    seed: u64,
    batch_size: usize,
    folder: Option<PathBuf>,
    save: bool,
    shards: Vec<Part>,
    transfers: Vec<Transfer>,
    randomness: Randomness,
    device: Device,
}

/// What was assessed of some of the images, elsewhere.
#[derive(Debug, Clone)]
struct Part {
    /// The folder that it was told to write to.
    folder: PathBuf,
    /// The images, by their places among all.
    rows: Vec<usize>,
}

impl<'a> Assessment<'a> {
    /// A model on all images of a data set: the white-box plan with its control, behind the deployed readout, within 8/255
    /// in L∞. Nothing is kept or written.
    pub fn new(model: &'a ModelFile, data: &'a Dataset) -> Self {
        let ModelFile { metadata, model } = model;
        Self::of(&**model, &metadata.deployment, data).named(&metadata.name).described(json!(metadata))
    }

    /// The same for any network, deployed in some way.
    pub fn of(network: &'a dyn Network, deployment: &'a Deployment, data: &'a Dataset) -> Self {
        Self {
            network,
            deployment,
            name: "model".to_owned(),
            described: json!({ "deployment": deployment }),
            hash: String::new(),
            data,
            rows: (0..data.len()).collect(),
            split: String::new(),
            development: None,
            attacks: Attacks::white_box(),
            gradients: Vec::new(),
            asked: Vec::new(),
            readouts: vec![ReadoutChoice::Fixed(deployment.readout.clone())],
            budgets: vec![Budget::usual()],
            control: true,
            margin: Verdict::MARGIN,
            time_limit: None,
            checks: Some(CHECKED),
            seed: 0,
            batch_size: BATCH,
            folder: None,
            save: false,
            shards: Vec::new(),
            transfers: Vec::new(),
            randomness: Randomness::default(),
            device: Device::default(),
        }
    }

    /// The model's name in the record.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// What the record says of the model beside its name. A file's metadata unless given.
    pub fn described(self, described: Value) -> Self {
        Self { described, ..self }
    }

    /// What tells the model's file from others, its SHA-256: a journal is resumed for the same one only.
    pub fn of_file(self, hash: impl Into<String>) -> Self {
        Self { hash: hash.into(), ..self }
    }

    /// The split that the images are from, and the row of each in it: random numbers are derived from the row, so that a
    /// part of a split gives what the whole would.
    pub fn rows(self, split: impl Into<String>, rows: Vec<usize>) -> Self {
        Self { split: split.into(), rows, ..self }
    }

    /// Images to choose t of `early` on, and their rows: training images that the model was not trained on.
    pub fn development(self, images: &'a Dataset, rows: Vec<usize>) -> Self {
        Self { development: Some((images, rows)), ..self }
    }

    /// One radius.
    pub fn budget(self, budget: Budget) -> Self {
        self.budgets([budget])
    }

    /// Several radii of one norm: what falls at one counts at every larger one.
    pub fn budgets(self, budgets: impl IntoIterator<Item = Budget>) -> Self {
        let mut budgets: Vec<Budget> = budgets.into_iter().collect();
        budgets.sort_by(|a, b| a.eps().total_cmp(&b.eps()));
        Self { budgets, ..self }
    }

    /// The attacks.
    pub fn attacks(self, attacks: Attacks) -> Self {
        Self { attacks, ..self }
    }

    /// Gradients beside the training gradient for the attacks that were named; those of them that were `asked` for are tried
    /// by the white-box plan too.
    pub fn gradients(self, gradients: Vec<Estimator>, asked: Vec<Estimator>) -> Self {
        Self { gradients, asked, ..self }
    }

    /// The readouts, one after another.
    pub fn readouts(self, readouts: impl IntoIterator<Item = ReadoutChoice>) -> Self {
        Self { readouts: readouts.into_iter().collect(), ..self }
    }

    /// Whether runs through other gradients have twins: without, there is no finding.
    pub fn control(self, control: bool) -> Self {
        Self { control, ..self }
    }

    /// The margin of `not-obfuscated`, as a fraction.
    pub fn margin(self, margin: f64) -> Self {
        Self { margin, ..self }
    }

    /// Seconds for the attacks behind each readout.
    pub fn time_limit(self, seconds: Option<f64>) -> Self {
        Self { time_limit: seconds, ..self }
    }

    /// Points to be examined by checks; `None` for no checks.
    pub fn checks(self, points: Option<usize>) -> Self {
        Self { checks: points, ..self }
    }

    /// Seed of all random numbers.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Images at once: changes speed and memory, not results.
    pub fn batch_size(self, images: usize) -> Self {
        Self { batch_size: images, ..self }
    }

    /// A folder for the journal, from which an interrupted run is resumed, and with `save` for the adversarial images.
    /// Nobody else may write to it.
    pub fn folder(self, folder: impl Into<PathBuf>, save: bool) -> Self {
        Self { folder: Some(folder.into()), save, ..self }
    }

    /// Images from elsewhere, to be tried on what withstands everything else. What only they break is counted apart.
    pub fn transfers(self, transfers: impl IntoIterator<Item = Transfer>) -> Self {
        Self { transfers: transfers.into_iter().collect(), ..self }
    }

    /// What is random about the deployed model, and what a verdict then is.
    pub fn randomness(self, randomness: Randomness) -> Self {
        Self { randomness, ..self }
    }

    /// What the same assessment found of some of the images, the `rows`, in a `folder` of its own: it is taken over, and not done
    /// again.
    pub fn shard(mut self, folder: impl Into<PathBuf>, rows: Vec<usize>) -> Self {
        self.shards.push(Part { folder: folder.into(), rows });
        self
    }

    /// Where to compute: the model's device.
    pub fn device(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// The largest radius: its results are the readout's own.
    pub fn largest(&self) -> Budget {
        self.budgets[self.budgets.len() - 1]
    }

    /// Runs everything. `None` if the observer cancelled: with a folder, the journal waits to be resumed.
    ///
    /// # Errors
    ///
    /// [`AssessError`], with whatever was refused or failed.
    pub fn run(&self, observer: &dyn Observer) -> Result<Option<Evaluation>, AssessError> {
        Ok(self.outcomes(observer)?.map(|(evaluation, _)| evaluation))
    }

    /// The same with the images: what each readout of the record came to at the largest radius.
    ///
    /// # Errors
    ///
    /// As for [`Self::run`].
    pub fn outcomes(
        &self,
        observer: &dyn Observer,
    ) -> Result<Option<(Evaluation, Vec<Outcome>)>, AssessError> {
        if self.readouts.is_empty() {
            return Err(AssessError::Nothing("readout"));
        }
        if self.budgets.is_empty() {
            return Err(AssessError::Nothing("radius"));
        }
        let points = self.points()?;
        let mut chosen = Vec::new();
        let (mut results, mut outcomes): (Vec<ReadoutResult>, _) = (Vec::new(), Vec::new());
        for choice in &self.readouts {
            let readout = match choice {
                ReadoutChoice::Fixed(readout) => readout.clone(),
                ReadoutChoice::Early(under) => {
                    let Some(choice) = self.choose(*under, observer)? else { return Ok(None) };
                    let readout = Readout::early(choice.t);
                    chosen.push(choice);
                    readout
                }
            };
            if results.iter().any(|result| result.name == readout.to_string()) {
                self.budgets.iter().for_each(|_| observer.part(evaluate::Part::Skipped));
                continue;
            }
            let Some((result, outcome)) = self.readout(&readout, &points, observer)? else {
                return Ok(None);
            };
            results.push(result);
            outcomes.push(outcome);
        }
        let mut all = vec![self.record(results, &chosen, &points)?];
        conclude(&mut all);
        Ok(all.pop().map(|evaluation| (evaluation, outcomes)))
    }

    /// What was found, with how it came about.
    fn record(
        &self,
        readouts: Vec<ReadoutResult>,
        chosen: &[EarlyChoice],
        points: &Points,
    ) -> Result<Evaluation, AssessError> {
        let budget = self.largest();
        let split = if self.split.is_empty() { String::new() } else { format!(", {}", self.split) };
        let mut stored = serde_json::Map::new();
        for (result, path) in readouts.iter().filter_map(|result| Some((result, self.stored(&result.name)?)))
        {
            let bytes = std::fs::read(&path);
            let bytes = bytes.map_err(|source| AssessError::Save(SaveError::File { path, source }))?;
            stored.insert(result.name.clone(), equipoise_files::sha256(&bytes).into());
        }
        Ok(Evaluation {
            version: FORMAT_VERSION,
            model: self.name.clone(),
            configuration: json!({
                "equipoise": env!("CARGO_PKG_VERSION"),
                "model": self.described,
                "model_sha256": self.hash,
                "images_sha256": points.sha256(),
                "adversarial_sha256": stored,
                "split": self.split,
                "attacks": self.attacks.names(),
                "whitebox": self.attacks.white_box,
                "time_limit": self.time_limit,
                "flag_count": self.checks,
                "gradients": self.gradients.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "readouts": readouts.iter().map(|result| &result.name).collect::<Vec<_>>(),
                "transfer": self.transfers.iter().map(transfer_name).collect::<Vec<_>>(),
                "randomness": self.randomised(),
                "control": if self.control { "twins" } else { "none" },
                "margin": self.margin,
                "eps": self.budgets.iter().map(|budget| budget.eps()).collect::<Vec<_>>(),
                "early": self.early(chosen, ChosenUnder::ReadyMade),
                "early_whitebox": self.early(chosen, ChosenUnder::WhiteBox),
                "batch_size": self.batch_size,
            }),
            dataset: format!("{}{split}", self.data.name),
            classes: self.data.class_names.clone(),
            norm: budget.norm().to_string(),
            eps: budget.eps(),
            seed: self.seed,
            count: self.data.len(),
            clean_accuracy: readouts[0].clean_accuracy,
            readouts,
        })
    }

    /// How an early readout was chosen under an attack, or null.
    fn early(&self, chosen: &[EarlyChoice], under: ChosenUnder) -> Value {
        chosen.iter().find(|choice| choice.under == under).map_or(Value::Null, |choice| {
            let accuracies: Vec<f64> = choice.robust_accuracy.iter().map(|accuracy| accuracy.value).collect();
            let images = self.development.as_ref().map(|(images, _)| images.len());
            json!({ "t": choice.t, "development_images": images, "robust_accuracy_by_t": accuracies })
        })
    }

    /// Chooses t of an early readout.
    fn choose(
        &self,
        under: ChosenUnder,
        observer: &dyn Observer,
    ) -> Result<Option<EarlyChoice>, AssessError> {
        let (images, rows) = self.development.as_ref().ok_or(AssessError::NoDevelopment)?;
        let held_out = points(images, rows.clone(), &self.device)?;
        let how = Choosing { under, budget: self.largest(), seed: self.seed, batch: self.batch_size };
        let labelled = Labelled { observer, label: self.name.clone() };
        match choose_early(self.network, self.deployment, &held_out, &how, &labelled) {
            Ok(choice) => {
                let best = choice.robust_accuracy[choice.t - 1].value;
                tracing::info!(
                    "{}: early({}) chosen on {} held-out training images ({:.1}% robust)",
                    self.name,
                    choice.t,
                    held_out.len(),
                    100.0 * best
                );
                Ok(Some(choice))
            }
            Err(EarlyExitError::Cancelled) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the record says of randomness: nothing where nothing is drawn.
    fn randomised(&self) -> Value {
        let Randomness { noise, protocol, draws } = self.randomness;
        let drawn = self.foreseen().iter().any(|readout| self.randomness.concerns(readout));
        if drawn {
            json!({ "noise": noise, "protocol": protocol.to_string(), "mean_of": draws })
        } else {
            Value::Null
        }
    }

    /// The images in place.
    fn points(&self) -> Result<Points, AssessError> {
        Ok(points(self.data, self.rows.clone(), &self.device)?)
    }

    /// The model behind a readout, as attacks see it.
    fn subject<'s>(&'s self, readout: Readout, model: &'s Randomised<'_>) -> Subject<'s> {
        Subject { model, deployment: self.deployment, readout, classes: self.data.classes, norm: self.norm() }
    }

    fn norm(&self) -> Norm {
        self.largest().norm()
    }

    fn plan(&self, subject: &Subject<'_>) -> Plan {
        let listed: Vec<Arc<dyn Attack>> = self
            .attacks
            .listed
            .iter()
            .map(|attack| self.randomness.attack(attack, &subject.readout))
            .collect();
        let named = Tries::product(subject, &listed, &self.belonging(&self.gradients, subject));
        let tries = match self.attacks.white_box {
            true => Tries::white_box(subject, &self.belonging(&self.asked, subject)).with(named),
            false => named,
        };
        Plan::new(subject, tries, self.control).with_transfers(subject, &self.transfers)
    }

    /// The gradients but for those that belong to other readouts alone, as those through a defence do.
    fn belonging(&self, gradients: &[Estimator], subject: &Subject<'_>) -> Vec<Estimator> {
        let solver = &self.deployment.solver;
        let elsewhere = |estimator: &Estimator| {
            self.foreseen().iter().any(|readout| estimator.check_behind(readout, solver).is_ok())
        };
        let here = |estimator: &&Estimator| {
            estimator.check_behind(&subject.readout, solver).is_ok() || !elsewhere(estimator)
        };
        gradients.iter().filter(here).cloned().collect()
    }

    /// The readouts as far as they are known: the middle one stands for the one that is still to be chosen.
    fn foreseen(&self) -> Vec<Readout> {
        let of = |choice: &ReadoutChoice| match choice {
            ReadoutChoice::Fixed(readout) => readout.clone(),
            ReadoutChoice::Early(_) => Readout::early(self.middle()),
        };
        self.readouts.iter().map(of).collect()
    }

    /// The t of the middle state.
    fn middle(&self) -> usize {
        self.deployment.solver.steps.div_ceil(2)
    }
}

fn transfer_name(transfer: &Transfer) -> String {
    match transfer {
        Transfer::Readout(readout) => readout.to_string(),
        Transfer::Images(images) => images.name(),
    }
}

/// The images of a data set in place, with the row of each in the split that it is from.
///
/// # Errors
///
/// [`PointsError`] if they do not fit together.
pub fn points(data: &Dataset, rows: Vec<usize>, device: &Device) -> Result<Points, PointsError> {
    let all: Vec<usize> = (0..data.len()).collect();
    let [channels, height, width] = data.shape;
    let images = from_vec(data.images(&all), [data.len(), channels, height, width], device);
    Points::new(rows, images, data.labels.clone())
}

/// An observer to whom stages are told with what they are stages of.
struct Labelled<'a> {
    observer: &'a dyn Observer,
    label: String,
}

impl Observer for Labelled<'_> {
    fn stage(&self, label: &str, total: usize) {
        self.observer.stage(&format!("{}: {label}", self.label), total);
    }

    fn advance(&self, examples: usize, note: &str) {
        self.observer.advance(examples, note);
    }

    fn counts(&self, met: usize, broken: usize) {
        self.observer.counts(met, broken);
    }

    fn step(&self, step: Step) -> ControlFlow<()> {
        self.observer.step(step)
    }

    fn forecast(&self, forecast: Forecast) {
        self.observer.forecast(forecast);
    }

    fn part(&self, part: evaluate::Part) {
        self.observer.part(part);
    }

    fn disputed(&self, indices: &[usize]) {
        tracing::warn!(
            "{}: {} adversarial images of other machines do not fool the model on this one: of {}",
            self.label,
            indices.len(),
            indices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        );
        self.observer.disputed(indices);
    }

    fn cancelled(&self) -> bool {
        self.observer.cancelled()
    }

    fn failed(&self) -> bool {
        self.observer.failed()
    }
}
