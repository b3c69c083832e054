//! The grid of adaptive attacks on one model: for each readout a cascade of attacks × gradient estimators.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;

use equipoise::attack::{self, Beat, WhiteBox};
use equipoise::batch::{from_vec, to_vec};
use equipoise::battery::{Battery, Subject};
use equipoise::checkpoint::ModelFile;
use equipoise::defense::{DefenseError, EarlyChoice, choose_early};
use equipoise::evaluate::{
    self, Cascade, Entry, Journal, Observer, Outcome, Points, Settings, TimeLimit, save_adversarial,
};
use equipoise::gradient::Estimator;
use equipoise::probe::{self, ProbeError};
use equipoise::readout::Readout;
use equipoise_dataset::{Dataset, NpyArray, write_npz};
use equipoise_record::{Flag, NotTried, ReadoutResult};

use crate::args::Attacks;
use crate::error::{Error, input};
use crate::interrupt;
use crate::progress::Progress;
use crate::setup::Setup;

/// What is evaluated, by what, and how.
pub struct Grid<'a> {
    /// The model.
    pub model: &'a ModelFile,
    /// What tells its file from others.
    pub hash: &'a str,
    /// Attacks by name, and whether the white-box battery is among them.
    pub attacks: &'a Attacks,
    /// Estimators beside the training gradient, for the attacks that were named.
    pub gradients: &'a [Estimator],
    /// Estimators that were asked for: the battery takes them too.
    pub asked: &'a [Estimator],
    /// Seconds for the attacks on each readout.
    pub time_limit: Option<f64>,
    /// Points to be examined for signs of obfuscation; `None` for no flags at all.
    pub flags: Option<usize>,
    /// Budget, seed and batch size.
    pub settings: Settings,
    /// Where results go; the journal is `journal/READOUT` below it.
    pub folder: &'a Path,
    /// Whether to save the adversarial images.
    pub save: bool,
}

/// The points of a data set in place.
pub fn points(data: &Dataset, first: usize, setup: &Setup) -> Result<Points, Error> {
    let rows: Vec<usize> = (0..data.len()).collect();
    let [channels, height, width] = data.shape;
    let images = from_vec(data.images(&rows), [data.len(), channels, height, width], &setup.device);
    let indices = rows.iter().map(|row| row + first).collect();
    Ok(Points::new(indices, images, data.labels.clone())?)
}

/// Chooses t of `early(t)` on the last `count` images of the training split.
pub fn choose(
    grid: &Grid<'_>,
    training: &Dataset,
    count: usize,
    setup: &Setup,
) -> Result<Option<EarlyChoice>, Error> {
    let first = training.len().saturating_sub(count);
    let rows: Vec<usize> = (first..training.len()).collect();
    if rows.is_empty() {
        return Err(input("--development 0: give at least 1, or choose t yourself: early(T)"));
    }
    let held_out = points(&training.select(&rows), first, setup)?;
    let watch = Watch::new(&grid.model.metadata.name, setup);
    let Settings { budget, seed, batch_size } = grid.settings;
    let ModelFile { metadata, network } = grid.model;
    let choice = choose_early(network, &metadata.deployment, &held_out, &budget, seed, batch_size, &watch);
    match choice {
        Ok(choice) => {
            let best = choice.robust_accuracy[choice.t - 1].value;
            tracing::info!(
                "{}: early({}) chosen on {} held-out training images ({:.1}% robust)",
                metadata.name,
                choice.t,
                held_out.len(),
                100.0 * best
            );
            Ok(Some(choice))
        }
        Err(DefenseError::Cancelled) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Evaluates a model behind one readout. `None` if somebody asked to stop: the journal waits to be resumed.
pub fn run(
    grid: &Grid<'_>,
    readout: Readout,
    points: &Points,
    classes: usize,
    setup: &Setup,
) -> Result<Option<ReadoutResult>, Error> {
    let ModelFile { metadata, network } = grid.model;
    let deployment = &metadata.deployment;
    let norm = grid.settings.budget.norm();
    let subject = Subject { network, deployment, readout, classes, norm };
    let battery = plan(grid, &subject);
    let label = format!("{}, {readout}", metadata.name);
    if grid.attacks.white_box {
        announce(&label, &battery, grid.time_limit);
    }
    let training = deployment.training_gradient.clone();
    let victims: Vec<Box<dyn WhiteBox>> = battery
        .tries
        .iter()
        .map(|planned| planned.estimator.clone().unwrap_or(training.clone()))
        .map(|estimator| network.victim(deployment, readout, estimator))
        .collect();
    let judge = network.victim(deployment, readout, training.clone());
    let entries = battery.tries.iter().zip(&victims).map(|(planned, victim)| {
        let attack = attack::parse(&planned.attack).map_err(input)?;
        let estimator = planned.estimator.as_ref().map_or("none".to_owned(), ToString::to_string);
        Ok(Entry { attack, estimator, ready_made: planned.ready_made, victim: victim.as_ref() })
    });
    let cascade = Cascade {
        readout: readout.to_string(),
        judge: &*judge,
        entries: entries.collect::<Result<_, Error>>()?,
    };
    let name = file_name(readout);
    let mut journal = Journal::open(grid.folder.join("journal").join(&name), grid.hash)
        .map_err(evaluate::EvaluateError::from)?;
    let watch = Watch::new(&label, setup);
    let work = battery.tries.iter().map(|planned| planned.work).collect();
    let limit = grid.time_limit.map(|seconds| TimeLimit { seconds, work });
    let mut outcome =
        evaluate::run_within(&cascade, points, &grid.settings, limit.as_ref(), &watch, Some(&mut journal))?;
    if !outcome.complete {
        return Ok(None);
    }
    if let Some(plan) = &mut outcome.result.plan {
        plan.not_tried.extend(battery.left_out);
    }
    if let Some(count) = grid.flags {
        let Some(flags) = flags(grid, &subject, points, &outcome, (&journal, count), &watch)? else {
            return Ok(None);
        };
        outcome.result.flags = flags;
    }
    drop(watch);
    if grid.save {
        save(&grid.folder.join(format!("adversarial-{name}")), points, grid, &outcome, classes)?;
    }
    Ok(Some(outcome.result))
}

/// The battery if it was asked for, and the attacks that were named.
fn plan(grid: &Grid<'_>, subject: &Subject<'_>) -> Battery {
    let named = Battery::product(subject, &grid.attacks.names, grid.gradients);
    if grid.attacks.white_box { Battery::white_box(subject, grid.asked).with(named) } else { named }
}

/// Says what is going to be tried: a line for each attack, with its gradients.
fn announce(label: &str, battery: &Battery, time_limit: Option<f64>) {
    let count = battery.tries.len();
    match time_limit {
        None => tracing::info!("{label}: {count} attacks in this order"),
        Some(seconds) => tracing::info!(
            "{label}: {count} attacks, by expected gain per second, for at most {seconds:.0} seconds"
        ),
    }
    for group in battery.tries.chunk_by(|a, b| (&a.attack, a.ready_made) == (&b.attack, b.ready_made)) {
        let through: Vec<String> =
            group.iter().filter_map(|planned| planned.estimator.as_ref()).map(ToString::to_string).collect();
        let kind = if group[0].ready_made { " (ready-made)" } else { "" };
        match through.as_slice() {
            [] => tracing::info!("{label}: {}", group[0].attack),
            through => tracing::info!("{label}: {} through {}{kind}", group[0].attack, through.join("; ")),
        }
    }
    for left_out in &battery.left_out {
        let NotTried { attack, estimator, reason } = left_out;
        tracing::info!("{label}: not {attack} through {estimator}: {reason}");
    }
}

/// Signs of obfuscation, from the cascade and from the model. `None` if somebody asked to stop.
fn flags(
    grid: &Grid<'_>,
    subject: &Subject<'_>,
    points: &Points,
    outcome: &Outcome,
    (journal, count): (&Journal, usize),
    watch: &Watch<'_>,
) -> Result<Option<Vec<Flag>>, Error> {
    let kept = journal.flags(count).map_err(evaluate::EvaluateError::from)?;
    let probed = match kept {
        Some(flags) => flags,
        None => match probe::flags(subject, points, outcome, &grid.settings, count, watch) {
            Ok(flags) => {
                journal.keep_flags(count, &flags).map_err(evaluate::EvaluateError::from)?;
                flags
            }
            Err(ProbeError::Cancelled) => return Ok(None),
            Err(error) => return Err(Error::Internal(error.to_string())),
        },
    };
    let mut flags = evaluate::flags(&outcome.result);
    flags.extend(probed);
    for flag in flags.iter().filter(|flag| flag.raised) {
        tracing::warn!("{}: {}: {}", watch.label, flag.name, flag.statement);
    }
    Ok(Some(flags))
}

/// `early(5)` as `early-5`: parentheses are trouble in a shell.
fn file_name(readout: Readout) -> String {
    readout.to_string().replace('(', "-").replace(')', "")
}

/// `STEM.safetensors` and `STEM.npz`.
fn save(
    stem: &Path,
    points: &Points,
    grid: &Grid<'_>,
    outcome: &Outcome,
    classes: usize,
) -> Result<(), Error> {
    save_adversarial(stem, points, &grid.settings.budget, grid.hash, outcome)?;
    let shape = outcome.adversarial.dims();
    let integers = |values: &[usize]| values.iter().map(|&value| value as i64).collect::<Vec<_>>();
    let (x, y, index) =
        (to_vec(outcome.adversarial.clone()), integers(points.labels()), integers(points.indices()));
    let vector = |values| NpyArray::I64 { shape: vec![points.len()], values };
    let classes = [classes as i64];
    let arrays = [
        ("x", NpyArray::F32 { shape: shape.to_vec(), values: &x }),
        ("y", vector(&y)),
        ("index", vector(&index)),
        ("classes", NpyArray::I64 { shape: vec![], values: &classes }),
    ];
    let mut path = stem.as_os_str().to_owned();
    path.push(".npz");
    Ok(write_npz(path, &arrays)?)
}

/// A bar per stage, and a line when it is done.
pub struct Watch<'a> {
    label: &'a str,
    quiet: bool,
    stage: RefCell<Option<Stage>>,
}

struct Stage {
    label: String,
    done: usize,
    total: usize,
    progress: Progress,
}

impl<'a> Watch<'a> {
    /// Watches work on something that is called `label`.
    pub fn new(label: &'a str, setup: &Setup) -> Self {
        Self { label, quiet: setup.quiet, stage: RefCell::new(None) }
    }
}

impl Observer for Watch<'_> {
    fn stage(&self, label: &str, total: usize) {
        let label = format!("{}: {label}", self.label);
        let progress = Progress::new(&label, total, self.quiet);
        *self.stage.borrow_mut() = Some(Stage { label, done: 0, total, progress });
    }

    fn advance(&self, examples: usize, note: &str) {
        if let Some(stage) = &mut *self.stage.borrow_mut() {
            stage.done += examples;
            stage.progress.set(stage.done, note);
            if stage.done >= stage.total && !note.is_empty() {
                tracing::info!("{}: {note}", stage.label);
            }
        }
    }

    fn beat(&self, beat: Beat) -> ControlFlow<()> {
        if let Some(stage) = &*self.stage.borrow() {
            let Beat { done, total, examples, standing } = beat;
            let mut note = format!("step {done} of {total}");
            if standing < examples {
                note.push_str(&format!(" with {standing} of {examples} standing"));
            }
            // Points that fall early make a batch faster than this: the time left is at most so long.
            stage.progress.within(stage.done, examples * done / total.max(1), &note);
        }
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn cancelled(&self) -> bool {
        interrupt::asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_readouts_have_no_parentheses() {
        assert_eq!(file_name(Readout::Early(5)), "early-5");
        assert_eq!(file_name(Readout::EnsembleStates), "ensemble-states");
    }
}
