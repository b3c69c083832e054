//! `evaluate`: a model file and a data set to robust accuracies.

use std::path::{Path, PathBuf};

use equipoise::attack::{Budget, Norm};
use equipoise::checkpoint::{Metadata, ModelFile};
use equipoise::evaluate::Points;
use equipoise::gradient::Estimator;
use equipoise::readout::Readout;
use equipoise_dataset::{Dataset, Split};
use equipoise_record::names::{Facts, distinct};
use equipoise_record::{Evaluation, FORMAT_VERSION};
use equipoise_verdict::conclude;
use serde_json::json;

use super::{print, write};
use crate::args::{self, Attacks, Images, ReadoutChoice, Selected};
use crate::configuration::{self, interrupted};
use crate::error::{Error, input};
use crate::evaluation::{self, Grid};
use crate::flags::Evaluate;
use crate::progress::{Whole, words};
use crate::setup::Setup;
use crate::{arguments, files, interrupt, normalised};

/// Flags, checked.
struct Checked {
    entrants: Vec<Entrant>,
    selected: Selected,
    split: Split,
    /// The training split, where `early` is to be chosen.
    training: Option<Dataset>,
    attacks: Attacks,
    time_limit: Option<f64>,
    control: bool,
    margin: f64,
    budgets: Vec<Budget>,
    batch_size: usize,
}

/// One of the models, and what is tried on it.
struct Entrant {
    /// Under the name that its row has.
    model: ModelFile,
    /// As its file says it.
    metadata: Metadata,
    file: PathBuf,
    hash: String,
    gradients: Vec<Estimator>,
    /// Those of the gradients that were asked for.
    asked: Vec<Estimator>,
    readouts: Vec<ReadoutChoice>,
    /// Whether it is a network without states beside DEQs.
    plain: bool,
    /// Where its journal and its images go.
    folder: PathBuf,
}

/// Runs the command.
pub fn run(flags: &Evaluate, setup: &Setup) -> Result<(), Error> {
    let checked = check(flags, setup)?;
    let Selected { data, rows } = &checked.selected;
    let points = evaluation::points(data, rows.clone(), setup)?;
    if flags.plan {
        let whole = Whole::none();
        let plans = checked.entrants.iter().map(|entrant| {
            let grid = grid(&checked, entrant, &whole, flags, setup);
            describe(&grid, &entrant.readouts, &points, data)
        });
        return print(&plans.collect::<Result<String, Error>>()?);
    }
    let _lock = files::claim(&flags.out, flags.resume)?;
    arguments::keep(&flags.out)?;
    interrupt::listen();
    for Entrant { model, .. } in checked.entrants.iter().filter(|entrant| entrant.plain) {
        tracing::info!(
            "{}: a feedforward network, attacked behind final through its one gradient",
            model.metadata.name
        );
    }
    let whole = whole(&checked, &points, flags, setup)?;
    warn(&checked, &points, setup)?;
    let evaluate = |entrant: &Entrant| one(&checked, entrant, &points, &whole, flags, setup);
    let mut models = checked.entrants.iter().map(evaluate).collect::<Result<Vec<_>, Error>>()?;
    // Corrected over all that stands in the record.
    conclude(&mut models);
    let summary = write::summary(&models);
    write::results(&flags.out, write::title(&models), models)?;
    tracing::info!("{} written", flags.out.join("report.html").display());
    print(&summary)
}

/// Every radius behind every readout of every model, with the most that each may take.
fn whole(checked: &Checked, points: &Points, flags: &Evaluate, setup: &Setup) -> Result<Whole, Error> {
    let none = Whole::none();
    let mut parts = Vec::new();
    for entrant in &checked.entrants {
        let grid = grid(checked, entrant, &none, flags, setup);
        for choice in &entrant.readouts {
            let readout = match choice {
                ReadoutChoice::Fixed(readout) => *readout,
                ReadoutChoice::Early => {
                    Readout::Early(grid.model.metadata.deployment.solver.steps.div_ceil(2))
                }
            };
            let most = evaluation::most_seconds(&grid, readout, points, checked.selected.data.classes)?;
            parts.extend(checked.budgets.iter().map(|_| most));
        }
    }
    let most: f64 = parts.iter().sum();
    if most > 60.0 {
        tracing::info!(
            "{} if every image withstood everything; what it will take is told once the first are attacked",
            words(most.round() as u64)
        );
    }
    Ok(Whole::new(parts, setup.quiet))
}

/// Says where a model looks as if it were not used as it was trained.
fn warn(checked: &Checked, points: &Points, setup: &Setup) -> Result<(), Error> {
    for entrant in &checked.entrants {
        if let Some(warning) = normalised::warning(&entrant.model, points, &setup.device)? {
            tracing::warn!("{warning}");
        }
    }
    Ok(())
}

fn grid<'a>(
    checked: &'a Checked,
    entrant: &'a Entrant,
    whole: &'a Whole,
    flags: &Evaluate,
    setup: &Setup,
) -> Grid<'a> {
    Grid {
        model: &entrant.model,
        hash: &entrant.hash,
        attacks: &checked.attacks,
        gradients: &entrant.gradients,
        asked: &entrant.asked,
        time_limit: checked.time_limit,
        control: checked.control,
        margin: checked.margin,
        flags: (!flags.no_flags).then_some(flags.flag_count),
        budgets: &checked.budgets,
        seed: setup.seed(),
        batch_size: checked.batch_size,
        folder: &entrant.folder,
        save: flags.save_adversarial,
        whole,
    }
}

/// One model behind all readouts.
fn one(
    checked: &Checked,
    entrant: &Entrant,
    points: &Points,
    whole: &Whole,
    flags: &Evaluate,
    setup: &Setup,
) -> Result<Evaluation, Error> {
    let grid = grid(checked, entrant, whole, flags, setup);
    let data = &checked.selected.data;
    let mut chosen = None;
    let mut results: Vec<equipoise_record::ReadoutResult> = Vec::new();
    for choice in &entrant.readouts {
        let readout = match (choice, &checked.training) {
            (ReadoutChoice::Fixed(readout), _) => *readout,
            (ReadoutChoice::Early, None) => return Err(Error::Internal("no training split".into())),
            (ReadoutChoice::Early, Some(training)) => {
                let choice = evaluation::choose(&grid, training, flags.development, setup)?;
                let choice = choice.ok_or_else(interrupted)?;
                let readout = Readout::Early(choice.t);
                chosen = Some((choice, flags.development.min(training.len())));
                readout
            }
        };
        if results.iter().any(|result| result.name == readout.to_string()) {
            checked.budgets.iter().for_each(|_| whole.skip());
            continue;
        }
        let result = evaluation::run(&grid, readout, points, data, setup)?;
        results.push(result.ok_or_else(interrupted)?);
    }
    let Some(first) = results.first() else { return Err(input("--readouts: give at least one")) };
    let details = json!({
        "model_file": entrant.file.display().to_string(),
        "data": flags.images.data,
        "preparation": flags.images.preparation.details(),
        "split": checked.split.name(),
        "offset": flags.images.offset,
        "indices": flags.images.indices.as_ref().map(|path| path.display().to_string()),
        "attacks": checked.attacks.names,
        "whitebox": checked.attacks.white_box,
        "time_limit": checked.time_limit,
        "flag_count": (!flags.no_flags).then_some(flags.flag_count),
        "gradients": entrant.gradients.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "readouts": results.iter().map(|result| &result.name).collect::<Vec<_>>(),
        "control": if checked.control { "twins" } else { "none" },
        "margin": checked.margin,
        "eps": checked.budgets.iter().map(|budget| budget.eps()).collect::<Vec<_>>(),
        "early": configuration::early(chosen.as_ref()),
        "batch_size": checked.batch_size,
    });
    Ok(Evaluation {
        version: FORMAT_VERSION,
        model: entrant.model.metadata.name.clone(),
        configuration: configuration::record(setup, &entrant.metadata, &entrant.hash, details),
        dataset: format!("{}, {}", data.name, checked.split),
        classes: data.class_names.clone(),
        norm: grid.largest().norm().to_string(),
        eps: grid.largest().eps(),
        seed: grid.seed,
        count: data.len(),
        clean_accuracy: first.clean_accuracy,
        readouts: results,
    })
}

/// `--plan`: what would be run, behind every readout. Nothing is written.
fn describe(
    grid: &Grid<'_>,
    readouts: &[ReadoutChoice],
    points: &Points,
    data: &Dataset,
) -> Result<String, Error> {
    let mut text = String::new();
    for choice in readouts {
        text += &match choice {
            ReadoutChoice::Fixed(readout) => evaluation::describe(grid, *readout, points, data.classes)?,
            // Which t it will be is not known yet; the middle one stands for it.
            ReadoutChoice::Early => {
                let t = grid.model.metadata.deployment.solver.steps.div_ceil(2);
                let plan = evaluation::describe(grid, Readout::Early(t), points, data.classes)?;
                format!("early, with T still to be chosen; as for {t}:\n{plan}")
            }
        };
    }
    Ok(text)
}

/// Everything that can be wrong is found here, before anything is written.
fn check(flags: &Evaluate, setup: &Setup) -> Result<Checked, Error> {
    let budgets = flags.ball.budgets()?;
    let norm = budgets[0].norm();
    if budgets[0].eps() == 0.0 {
        tracing::warn!("--eps 0: nothing can be perturbed within it; robust accuracy is clean accuracy");
    }
    let (control, margin) = (args::control(&flags.control)?, args::margin(flags.margin)?);
    let mut attacks = args::attacks(&flags.attacks)?;
    if flags.warm_start {
        attacks.names = args::warm_started(attacks.names)?;
    }
    let images = flags.images.check()?;
    let time_limit = flags.time_limit.as_deref().map(args::time_limit).transpose()?;
    let entrants = entrants(flags, setup)?;
    for Entrant { model, .. } in &entrants {
        args::check_attacks(&attacks.names, model.metadata.architecture.classes(), norm)?;
    }
    let chooses = entrants.iter().any(|entrant| entrant.readouts.contains(&ReadoutChoice::Early));
    if chooses && norm == Norm::L1 {
        return Err(input(
            "--readouts early: T is chosen under PGD-10, which does not search in l1 balls; give it, as in early(3)",
        ));
    }
    if !flags.plan {
        check_folder(flags, &entrants)?;
    }
    let selected = images.load(entrants.iter().map(|entrant| &entrant.model))?;
    let training = match (chooses, entrants.first()) {
        (true, Some(first)) => Some(development(flags, &images, &selected, &first.model)?),
        _ => None,
    };
    Ok(Checked {
        entrants,
        selected,
        split: images.split,
        training,
        attacks,
        time_limit,
        control,
        margin,
        budgets,
        batch_size: images.batch_size,
    })
}

/// `--model` and `--name`: the models, each under a name of its own, with the gradients and readouts that it admits.
fn entrants(flags: &Evaluate, setup: &Setup) -> Result<Vec<Entrant>, Error> {
    let mut files: Vec<(ModelFile, String, &PathBuf)> = Vec::new();
    for path in &flags.model {
        let (model, hash) = args::model(path, &setup.device)?;
        if let Some((.., same)) = files.iter().find(|(_, other, _)| *other == hash) {
            return Err(input(format!("--model {}: the same model as {}", path.display(), same.display())));
        }
        files.push((model, hash, path));
    }
    let names = if flags.name.is_empty() {
        let facts = files.iter().map(|(model, _, path)| {
            let metadata = json!(model.metadata);
            Facts::of_model(&model.metadata.name, &metadata, Some(&path.display().to_string()))
        });
        distinct(&facts.collect::<Vec<_>>())
    } else {
        flags.name.clone()
    };
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    if names.len() != files.len() || twice.is_some() {
        let problem = match twice {
            Some((_, name)) => format!("{name} stands twice"),
            None => format!("{} for {} models", names.len(), files.len()),
        };
        return Err(input(format!("--name: {problem}; give one for each of --model, each another")));
    }
    let several = files.len() > 1;
    let any_deq = files.iter().any(|(model, ..)| args::is_equilibrium(model));
    let mut entrants = Vec::new();
    for ((mut model, hash, file), name) in files.into_iter().zip(names) {
        let metadata = std::mem::replace(&mut model.metadata.name, name.clone());
        let metadata = Metadata { name: metadata, ..model.metadata.clone() };
        // Beside DEQs, a network without states joins with what it has.
        let plain = several && any_deq && !args::is_equilibrium(&model);
        let (gradients, readouts) = if plain {
            if !flags.readouts.split(',').any(|readout| readout.trim() == "final") {
                return Err(input(format!(
                    "{}: a feedforward network has one readout only; add final to --readouts, or leave this model out",
                    file.display()
                )));
            }
            (Vec::new(), vec![ReadoutChoice::Fixed(Readout::Final)])
        } else {
            (args::gradients(flags.gradients.as_deref(), &model)?, args::readouts(&flags.readouts, &model)?)
        };
        let asked = if flags.gradients.is_some() { gradients.clone() } else { Vec::new() };
        let folder = match several {
            false => flags.out.clone(),
            // What a file holds tells it from others; its name in the table depends on those.
            true => flags.out.join(format!("{}-{}", slug(&metadata.name), &hash[..8])),
        };
        entrants.push(Entrant {
            model,
            metadata,
            file: file.clone(),
            hash,
            gradients,
            asked,
            readouts,
            plain,
            folder,
        });
    }
    Ok(entrants)
}

/// Letters, digits, dots and dashes.
fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// Whether `--out` can be written to without losing what is there.
fn check_folder(flags: &Evaluate, entrants: &[Entrant]) -> Result<(), Error> {
    let out = &flags.out;
    let journal = |folder: &Path| files::has_content(&folder.join("journal"));
    if entrants.len() > 1 && journal(out)? {
        return Err(input(format!(
            "{}: the folder holds the evaluation of a single model; give another --out",
            out.display()
        )));
    }
    if flags.resume {
        return Ok(());
    }
    let mut begun = out.join("results.json").exists();
    for entrant in entrants {
        begun = begun || journal(&entrant.folder)?;
    }
    if begun {
        return Err(input(format!(
            "{}: the folder holds an evaluation, its journal or its results; add --resume to go on with it, or give another --out",
            out.display()
        )));
    }
    Ok(())
}

/// The training split, whose last images must not be among those evaluated.
fn development(
    flags: &Evaluate,
    images: &Images,
    selected: &Selected,
    model: &ModelFile,
) -> Result<Dataset, Error> {
    let Images { source, split, .. } = images;
    let instead = "choose t yourself, as early(T)";
    if !source.has_training_split()? {
        return Err(input(format!(
            "--readouts early: {source} is a single file without a training split to choose t on; {instead}, or give \
             a folder with train.npz and test.npz"
        )));
    }
    let training = images.load_whole(Split::Train, model)?;
    if flags.development == 0 {
        return Err(input(format!("--development 0: give at least 1, or {instead}")));
    }
    let last = selected.rows.last().map_or(0, |row| row + 1);
    if *split == Split::Train && last + flags.development > training.len() {
        return Err(input(format!(
            "--readouts early: its {} development images would be among those evaluated, up to row {last}; evaluate the \
             test split, lower --count, or {instead}",
            flags.development
        )));
    }
    Ok(training)
}
