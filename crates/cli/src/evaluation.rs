//! The grid of adaptive attacks on one model: for each readout a cascade of attacks × gradient estimators.

use std::cell::RefCell;
use std::path::Path;

use equipoise::attack::{self, Budget, WhiteBox};
use equipoise::batch::{from_vec, to_vec};
use equipoise::checkpoint::ModelFile;
use equipoise::defense::{DefenseError, EarlyChoice, choose_early};
use equipoise::evaluate::{
    self, Cascade, Entry, Journal, Observer, Outcome, Points, Settings, save_adversarial,
};
use equipoise::gradient::Estimator;
use equipoise::readout::Readout;
use equipoise::solve::StateChoice;
use equipoise_dataset::{Dataset, NpyArray, write_npz};
use equipoise_record::ReadoutResult;

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
    /// The attacks' names.
    pub attacks: &'a [String],
    /// Estimators beside the training gradient.
    pub gradients: &'a [Estimator],
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
    let training = deployment.training_gradient.clone();
    let victims: Vec<(bool, String, Box<dyn WhiteBox>)> = [(true, training.clone())]
        .into_iter()
        .chain(grid.gradients.iter().map(|estimator| (false, estimator.clone())))
        .map(|(ready_made, estimator)| {
            let victim = network.victim(deployment, readout, estimator.clone());
            (ready_made, estimator_name(&estimator), victim)
        })
        .collect();
    let judge = network.victim(deployment, readout, training);
    // Black-box attacks come last: their queries are many, and what they find beyond all gradients says most.
    let mut entries = Vec::new();
    let mut black_box = Vec::new();
    for (ready_made, estimator, victim) in &victims {
        for name in grid.attacks {
            let attack = attack::parse(name).map_err(input)?;
            let (estimator, victim) = (estimator.clone(), victim.as_ref());
            if attack.needs_gradients() {
                entries.push(Entry { attack, estimator, ready_made: *ready_made, victim });
            } else if *ready_made {
                black_box.push(Entry { attack, estimator: "none".into(), ready_made: false, victim });
            }
        }
    }
    entries.append(&mut black_box);
    let cascade = Cascade { readout: readout.to_string(), judge: &*judge, entries };
    let name = file_name(readout);
    let mut journal = Journal::open(grid.folder.join("journal").join(&name), grid.hash)
        .map_err(evaluate::EvaluateError::from)?;
    let label = format!("{}, {readout}", metadata.name);
    let watch = Watch::new(&label, setup);
    let outcome = evaluate::run(&cascade, points, &grid.settings, &watch, Some(&mut journal))?;
    drop(watch);
    if !outcome.complete {
        return Ok(None);
    }
    if grid.save {
        save(
            &grid.folder.join(format!("adversarial-{name}")),
            points,
            &grid.settings.budget,
            &outcome,
            classes,
        )?;
    }
    Ok(Some(outcome.result))
}

/// The estimator as a string that reads back as the same; members that differ by consecutive states alone are
/// written as one range.
pub fn estimator_name(estimator: &Estimator) -> String {
    let (kind, members) = match estimator {
        Estimator::Ensemble(members) => ("ensemble", members),
        Estimator::Joint(members) => ("joint", members),
        _ => return estimator.to_string(),
    };
    let mut names = Vec::new();
    let mut rest = members.as_slice();
    while let [first, others @ ..] = rest {
        let Estimator::Unrolled { state: StateChoice::At(from), tail } = first else {
            names.push(estimator_name(first));
            rest = others;
            continue;
        };
        let follows = |(k, member): (usize, &Estimator)| {
            *member == Estimator::Unrolled { state: StateChoice::At(from + k), tail: *tail }
        };
        let length = rest.iter().enumerate().take_while(|&(k, member)| follows((k, member))).count();
        let name = first.to_string();
        names.push(match length {
            1 => name,
            _ => {
                let range = format!("state={from}..{}", from + length - 1);
                name.replacen(&format!("state={from}"), &range, 1)
            }
        });
        rest = &rest[length..];
    }
    format!("{kind}({})", names.join(","))
}

/// `early(5)` as `early-5`: parentheses are trouble in a shell.
fn file_name(readout: Readout) -> String {
    readout.to_string().replace('(', "-").replace(')', "")
}

/// `STEM.safetensors` and `STEM.npz`.
fn save(
    stem: &Path,
    points: &Points,
    budget: &Budget,
    outcome: &Outcome,
    classes: usize,
) -> Result<(), Error> {
    save_adversarial(stem, points, budget, outcome)?;
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

    fn cancelled(&self) -> bool {
        interrupt::asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ensembles_are_short_and_read_back() {
        for (given, name) in [
            ("exact", "exact"),
            (
                "ensemble(unrolled:state=1..8,lead=1,steps=0)",
                "ensemble(unrolled:state=1..8,lead=1,steps=0,damping=0.5)",
            ),
            (
                "ensemble(exact,unrolled:state=3,unrolled:state=5..6,unrolled:state=best)",
                "ensemble(exact,unrolled:state=3,lead=1,steps=9,damping=0.5,\
                 unrolled:state=5..6,lead=1,steps=9,damping=0.5,\
                 unrolled:state=best,lead=1,steps=9,damping=0.5)",
            ),
        ] {
            let estimator: Estimator = given.parse().unwrap();
            assert_eq!(estimator_name(&estimator), name);
            assert_eq!(name.parse::<Estimator>().unwrap(), estimator);
        }
    }

    #[test]
    fn folders_of_readouts_have_no_parentheses() {
        assert_eq!(file_name(Readout::Early(5)), "early-5");
        assert_eq!(file_name(Readout::EnsembleStates), "ensemble-states");
    }
}
