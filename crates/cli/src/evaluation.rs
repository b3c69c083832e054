//! One model behind one readout: the white-box plan at every radius, checks, pictures.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use equipoise::attack::{Beat, Budget};
use equipoise::batch::{from_vec, select, to_vec};
use equipoise::checkpoint::ModelFile;
use equipoise::defense::{DefenseError, EarlyChoice, choose_early};
use equipoise::evaluate::{
    self, Conditions, Forecast, Journal, Observer, Outcome, Points, Settings, TimeLimit, gallery,
    save_adversarial,
};
use equipoise::gradient::Estimator;
use equipoise::plan::{Plan, Subject, Tries};
use equipoise::probe::{self, ProbeError};
use equipoise::readout::Readout;
use equipoise_dataset::{Dataset, NpyArray, write_npz};
use equipoise_record::{Flag, NotTried, RadiusResult, ReadoutResult, Verdict};
use equipoise_verdict::power;

use crate::args::Attacks;
use crate::error::{Error, input};
use crate::interrupt;
use crate::progress::{Progress, Whole, words};
use crate::setup::Setup;

/// Images in the gallery of an evaluation.
const GALLERY: usize = 12;

/// What is evaluated, by what, and how.
pub struct Grid<'a> {
    /// The model.
    pub model: &'a ModelFile,
    /// What tells its file from others.
    pub hash: &'a str,
    /// Attacks by name, and whether the white-box plan is among them.
    pub attacks: &'a Attacks,
    /// Estimators beside the training gradient, for the attacks that were named.
    pub gradients: &'a [Estimator],
    /// Estimators that were asked for: the white-box plan takes them too.
    pub asked: &'a [Estimator],
    /// Whether runs through other gradients have twins.
    pub control: bool,
    /// The margin of `not-obfuscated`, as a fraction.
    pub margin: f64,
    /// Seconds for the attacks on each readout.
    pub time_limit: Option<f64>,
    /// Points to be examined by checks; `None` for no checks at all.
    pub flags: Option<usize>,
    /// The radii, the smallest first.
    pub budgets: &'a [Budget],
    /// Seed of all random numbers.
    pub seed: u64,
    /// Images at once.
    pub batch_size: usize,
    /// Where results go; the journal is `journal/READOUT` below it, with a folder for each radius if there are several.
    pub folder: &'a Path,
    /// Whether to save the adversarial images.
    pub save: bool,
    /// The whole that this is part of: every radius of every readout is one of its parts.
    pub whole: &'a Whole,
}

impl Grid<'_> {
    /// The largest radius: its results are the readout's own.
    pub fn largest(&self) -> Budget {
        self.budgets[self.budgets.len() - 1]
    }

    fn settings(&self, budget: Budget) -> Settings {
        Settings { budget, seed: self.seed, batch_size: self.batch_size }
    }

    fn subject(&self, readout: Readout, classes: usize) -> Subject<'_> {
        let ModelFile { metadata, network } = self.model;
        let norm = self.largest().norm();
        Subject { network, deployment: &metadata.deployment, readout, classes, norm }
    }

    fn plan(&self, subject: &Subject<'_>) -> Plan {
        let named = Tries::product(subject, &self.attacks.names, self.gradients);
        let tries =
            if self.attacks.white_box { Tries::white_box(subject, self.asked).with(named) } else { named };
        Plan::new(subject, tries, self.control)
    }

    fn journal(&self, readout: Readout, budget: Budget) -> PathBuf {
        let folder = self.folder.join("journal").join(file_name(readout));
        if self.budgets.len() > 1 { folder.join(format!("eps-{}", budget.eps())) } else { folder }
    }
}

/// The points of a data set in place, with the row of each in the split that it is from.
pub fn points(data: &Dataset, indices: Vec<usize>, setup: &Setup) -> Result<Points, Error> {
    let all: Vec<usize> = (0..data.len()).collect();
    let [channels, height, width] = data.shape;
    let images = from_vec(data.images(&all), [data.len(), channels, height, width], &setup.device);
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
    let held_out = points(&training.select(&rows), rows, setup)?;
    let watch = Watch::new(&grid.model.metadata.name, setup);
    let ModelFile { metadata, network } = grid.model;
    let (budget, deployment) = (grid.largest(), &metadata.deployment);
    let choice = choose_early(network, deployment, &held_out, &budget, grid.seed, grid.batch_size, &watch);
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

/// Evaluates a model behind one readout, at every radius. `None` if somebody asked to stop: the journal waits to be
/// resumed. The verdicts hold counts; findings are made of them once the record is complete.
pub fn run(
    grid: &Grid<'_>,
    readout: Readout,
    points: &Points,
    data: &Dataset,
    setup: &Setup,
) -> Result<Option<ReadoutResult>, Error> {
    let ModelFile { metadata, network } = grid.model;
    let subject = grid.subject(readout, data.classes);
    let plan = grid.plan(&subject);
    let label = format!("{}, {readout}", metadata.name);
    if grid.attacks.white_box {
        announce(&label, &plan, grid);
    }
    let deployment = &metadata.deployment;
    let judge = network.victim(deployment, readout, deployment.training_gradient.clone());
    let victims = plan.victims(&subject);
    let cascade = plan.cascade(&subject, judge.as_ref(), &victims).map_err(input)?;
    let radii = grid.budgets.len();
    let limit = grid.time_limit.map(|seconds| TimeLimit { seconds: seconds / radii as f64 });
    let mut smaller: Option<Outcome> = None;
    let mut results = Vec::new();
    for &budget in grid.budgets {
        let label = if radii > 1 { format!("{label}, eps {}", budget.eps()) } else { label.clone() };
        let watch = Watch { whole: Some(grid.whole), ..Watch::new(&label, setup) };
        grid.whole.begin();
        let folder = grid.journal(readout, budget);
        let journal_error = |error| Error::from(evaluate::EvaluateError::from(error));
        let mut journal = Journal::open(&folder, grid.hash).map_err(journal_error)?;
        let conditions = Conditions { limit, smaller: smaller.as_ref(), journal: Some(&mut journal) };
        let settings = grid.settings(budget);
        let mut outcome = evaluate::run_with(&cascade, points, &settings, &watch, conditions)?;
        if !outcome.complete {
            return Ok(None);
        }
        let verdict = &mut outcome.result.verdict;
        verdict.margin = grid.margin;
        verdict.looks = journal.look(points.len()).map_err(journal_error)?;
        verdict.level = level(verdict.looks.len());
        if budget == grid.largest() {
            if let Some(record) = &mut outcome.result.plan {
                record.not_tried.extend(plan.left_out.iter().cloned());
            }
            if let Some(count) = grid.flags {
                let examined = (points, &outcome, &settings);
                let Some(flags) = flags(&subject, examined, (&journal, count), &watch)? else {
                    return Ok(None);
                };
                outcome.result.flags = flags;
            }
            if grid.save {
                let stem = grid.folder.join(format!("adversarial-{}", file_name(readout)));
                save(&stem, points, (grid, budget), &outcome, data.classes)?;
                let pictures = gallery(points, &outcome, budget.norm(), &data.class_names, GALLERY);
                outcome.result.gallery = Some(pictures);
            }
        }
        results.push((budget, outcome.result.clone()));
        smaller = Some(outcome);
        grid.whole.end();
    }
    Ok(combined(results))
}

/// The level of the tests at the k-th look: all looks together are wrong in at most 7.5% of cases, the first in 5%.
fn level(looks: usize) -> f64 {
    if looks < 2 { Verdict::LEVEL } else { Verdict::LEVEL / 2.0_f64.powi(looks as i32) }
}

/// The largest radius with the others below it.
fn combined(results: Vec<(Budget, ReadoutResult)>) -> Option<ReadoutResult> {
    let of = |(budget, result): &(Budget, ReadoutResult)| RadiusResult {
        eps: budget.eps(),
        clean_accuracy: result.clean_accuracy,
        ready_made_accuracy: result.ready_made_accuracy,
        ready_made_opening_accuracy: result.ready_made_opening_accuracy,
        white_box_accuracy: result.white_box_accuracy,
        verdict: result.verdict.clone(),
    };
    let radii: Vec<RadiusResult> =
        if results.len() > 1 { results.iter().map(of).collect() } else { Vec::new() };
    results.into_iter().last().map(|(_, result)| ReadoutResult { radii, ..result })
}

/// Says what is going to be run, and how long it takes at most.
fn announce(label: &str, plan: &Plan, grid: &Grid<'_>) {
    let pairs = plan.pairs.len();
    let twins =
        if plan.pairs.iter().all(|pair| pair.twin) { ", each with its twin" } else { ", without twins" };
    let twins = if pairs == 0 { "" } else { twins };
    let time = grid.time_limit.map_or(String::new(), |seconds| format!(", for at most {seconds:.0} seconds"));
    tracing::info!(
        "{label}: {} ready-made, {pairs} through other gradients{twins}, {} without gradients{time}",
        plan.opening.len(),
        plan.gradient_free.len()
    );
    listing(plan).iter().for_each(|line| tracing::info!("{label}: {line}"));
}

/// What is going to be run, a line for each attack with its gradients.
fn listing(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let names = |names: Vec<&str>| names.join(", ");
    if !plan.opening.is_empty() {
        let attacks = plan.opening.iter().map(|planned| planned.attack.as_str()).collect();
        lines.push(format!("opening, through the training gradient: {}", names(attacks)));
    }
    for group in plan.pairs.chunk_by(|a, b| (&a.white_box.attack, a.twin) == (&b.white_box.attack, b.twin)) {
        let through: Vec<String> = group
            .iter()
            .filter_map(|pair| pair.white_box.estimator.as_ref())
            .map(ToString::to_string)
            .collect();
        let twin = if group[0].twin { ", each with its twin through the training gradient" } else { "" };
        let aimed = group[0].aimed.as_ref().map_or(String::new(), |aimed| format!(" and through {aimed}"));
        lines.push(format!("{} through {}{twin}{aimed}", group[0].white_box.attack, through.join("; ")));
    }
    for duel in &plan.yardsticks {
        lines.push(format!("yardstick: {} through {} against {}", duel.attack, duel.other, duel.training));
    }
    if !plan.gradient_free.is_empty() {
        let attacks = plan.gradient_free.iter().map(|planned| planned.attack.as_str()).collect();
        lines.push(format!("without gradients, on what withstands: {}", names(attacks)));
    }
    for NotTried { attack, estimator, reason } in &plan.left_out {
        lines.push(format!("not {attack} through {estimator}: {reason}"));
    }
    lines
}

/// `--plan`: what would be run on one readout, the time it takes at most, and what so many images can show.
pub fn describe(grid: &Grid<'_>, readout: Readout, points: &Points, classes: usize) -> Result<String, Error> {
    let subject = grid.subject(readout, classes);
    let plan = grid.plan(&subject);
    let n = points.len();
    let mut text = format!("{}, readout {readout}, {n} images\n", grid.model.metadata.name);
    for line in listing(&plan) {
        text += &format!("  {line}\n");
    }
    let most = grid.budgets.len() as f64 * withstanding_seconds(&subject, &plan, points)?;
    let duration = |seconds: f64| words(seconds.round() as u64);
    let radii = match grid.budgets.len() {
        1 => String::new(),
        radii => format!(", over {radii} radii"),
    };
    text += &format!("  time: {} if every image withstood everything{radii}; ", duration(most));
    text += "images that fall early cost a small part of that\n";
    if plan.pairs.is_empty() || plan.opening.is_empty() || !grid.control {
        text += "  power: none, there is no control\n";
    } else {
        let chances = [0.02, 0.04, 0.08].map(|gap| {
            let chance = power(n, gap, 0.002, Verdict::LEVEL);
            format!("{:.0}% at {:.0} points", 100.0 * chance, 100.0 * gap)
        });
        text +=
            &format!("  chance that the arms' test sees a gap, for one readout: {}\n", chances.join(", "));
    }
    Ok(text)
}

/// Seconds of a unit of work for one image, measured on a few.
fn pace(subject: &Subject<'_>, points: &Points) -> f64 {
    let rows: Vec<usize> = (0..points.len().min(32)).collect();
    let images = select(points.images(), &rows);
    let training = subject.deployment.training_gradient.clone();
    let victim = subject.network.victim(subject.deployment, subject.readout, training);
    // The first call fills caches.
    victim.logits(&images);
    let started = Instant::now();
    let calls = 3;
    (0..calls).for_each(|_| drop(to_vec(victim.logits(&images))));
    started.elapsed().as_secs_f64() / (calls * rows.len().max(1)) as f64 / subject.work(None)
}

/// Seconds that a plan takes at one radius if every image withstands everything.
fn withstanding_seconds(subject: &Subject<'_>, plan: &Plan, points: &Points) -> Result<f64, Error> {
    let training = subject.deployment.training_gradient.clone();
    let judge = subject.network.victim(subject.deployment, subject.readout, training);
    let victims = plan.victims(subject);
    let work = plan.cascade(subject, judge.as_ref(), &victims).map_err(input)?.work();
    Ok(work * points.len() as f64 * pace(subject, points))
}

/// The most seconds that one radius behind a readout takes: those, or its share of the time limit.
pub fn most_seconds(
    grid: &Grid<'_>,
    readout: Readout,
    points: &Points,
    classes: usize,
) -> Result<f64, Error> {
    let subject = grid.subject(readout, classes);
    let seconds = withstanding_seconds(&subject, &grid.plan(&subject), points)?;
    Ok(grid.time_limit.map_or(seconds, |limit| seconds.min(limit / grid.budgets.len() as f64)))
}

/// The checks, of the evaluation and of the model. `None` if somebody asked to stop.
fn flags(
    subject: &Subject<'_>,
    (points, outcome, settings): (&Points, &Outcome, &Settings),
    (journal, count): (&Journal, usize),
    watch: &Watch<'_>,
) -> Result<Option<Vec<Flag>>, Error> {
    let kept = journal.flags(points.len(), count).map_err(evaluate::EvaluateError::from)?;
    let probed = match kept {
        Some(flags) => flags,
        None => match probe::flags(subject, points, outcome, settings, count, watch) {
            Ok(flags) => {
                journal.keep_flags(points.len(), count, &flags).map_err(evaluate::EvaluateError::from)?;
                flags
            }
            Err(ProbeError::Cancelled) => return Ok(None),
            Err(error) => return Err(Error::Internal(error.to_string())),
        },
    };
    let mut flags = evaluate::flags(&outcome.result);
    flags.extend(probed);
    let raised: Vec<&Flag> = flags.iter().filter(|flag| flag.raised).collect();
    let (all, label) = (flags.len(), watch.label);
    match raised.as_slice() {
        [] => tracing::info!("{label}: {all} checks, none raised"),
        raised => {
            let names: Vec<&str> = raised.iter().map(|flag| flag.name.as_str()).collect();
            tracing::warn!("{label}: {} of {all} checks raised: {}", raised.len(), names.join(", "));
        }
    }
    for flag in raised {
        tracing::warn!("{label}: {}: {}", flag.name, flag.statement);
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
    (grid, budget): (&Grid<'_>, Budget),
    outcome: &Outcome,
    classes: usize,
) -> Result<(), Error> {
    save_adversarial(stem, points, &budget, grid.hash, outcome)?;
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
    /// What is told how long it takes.
    whole: Option<&'a Whole>,
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
        Self { label, quiet: setup.quiet, stage: RefCell::new(None), whole: None }
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
            if let Some(whole) = self.whole.filter(|_| !stage.progress.has_bar()).and_then(Whole::note) {
                note.push_str(&format!(", {whole}"));
            }
            // Points that fall early make a batch faster than this: the time left is at most so long.
            stage.progress.within(stage.done, examples * done / total.max(1), &note);
        }
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn forecast(&self, Forecast { spent, left }: Forecast) {
        if let Some(whole) = self.whole {
            whole.set(spent, left);
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
    fn folders_of_readouts_have_no_parentheses() {
        assert_eq!(file_name(Readout::Early(5)), "early-5");
        assert_eq!(file_name(Readout::EnsembleStates), "ensemble-states");
    }
}
