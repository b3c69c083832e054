//! `evaluate`: a model file and a data set to robust accuracies.

use equipoise::attack::{Budget, Norm};
use equipoise::checkpoint::ModelFile;
use equipoise::evaluate::Points;
use equipoise::gradient::Estimator;
use equipoise::readout::Readout;
use equipoise_dataset::{Dataset, Split};
use equipoise_record::{Evaluation, FORMAT_VERSION};
use equipoise_verdict::conclude;
use serde_json::json;

use super::{print, write};
use crate::args::{self, Attacks, Images, ReadoutChoice};
use crate::configuration::{self, interrupted};
use crate::error::{Error, input};
use crate::evaluation::{self, Grid};
use crate::flags::Evaluate;
use crate::setup::Setup;
use crate::{files, interrupt};

/// Flags, checked.
struct Checked {
    model: ModelFile,
    hash: String,
    data: Dataset,
    split: Split,
    /// The training split, where `early` is to be chosen.
    training: Option<Dataset>,
    attacks: Attacks,
    gradients: Vec<Estimator>,
    /// Those of the gradients that were asked for.
    asked: Vec<Estimator>,
    time_limit: Option<f64>,
    readouts: Vec<ReadoutChoice>,
    control: bool,
    margin: f64,
    budgets: Vec<Budget>,
    batch_size: usize,
}

/// Runs the command.
pub fn run(flags: &Evaluate, setup: &Setup) -> Result<(), Error> {
    let checked = check(flags, setup)?;
    let Checked { model, hash, data, split, training, attacks, gradients, asked, readouts, budgets, .. } =
        &checked;
    let grid = Grid {
        model,
        hash,
        attacks,
        gradients,
        asked,
        time_limit: checked.time_limit,
        control: checked.control,
        margin: checked.margin,
        flags: (!flags.no_flags).then_some(flags.flag_count),
        budgets,
        seed: setup.seed(),
        batch_size: checked.batch_size,
        folder: &flags.out,
        save: flags.save_adversarial,
    };
    let points = evaluation::points(data, 0, setup)?;
    if flags.plan {
        return describe(&grid, readouts, &points, data);
    }
    files::make_folder(&flags.out)?;
    interrupt::listen();
    let mut chosen = None;
    let mut results: Vec<equipoise_record::ReadoutResult> = Vec::new();
    for choice in readouts {
        let readout = match (choice, training) {
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
            continue;
        }
        let result = evaluation::run(&grid, readout, &points, data, setup)?;
        results.push(result.ok_or_else(interrupted)?);
    }
    let Some(first) = results.first() else { return Err(input("--readouts: give at least one")) };
    let details = json!({
        "data": flags.images.data,
        "preparation": flags.images.preparation.details(),
        "split": split.name(),
        "attacks": attacks.names,
        "whitebox": attacks.white_box,
        "time_limit": checked.time_limit,
        "flag_count": (!flags.no_flags).then_some(flags.flag_count),
        "gradients": gradients.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "readouts": results.iter().map(|result| &result.name).collect::<Vec<_>>(),
        "control": if checked.control { "twins" } else { "none" },
        "margin": checked.margin,
        "eps": budgets.iter().map(|budget| budget.eps()).collect::<Vec<_>>(),
        "early": configuration::early(chosen.as_ref()),
        "batch_size": checked.batch_size,
    });
    let evaluation = Evaluation {
        version: FORMAT_VERSION,
        model: model.metadata.name.clone(),
        configuration: configuration::record(setup, &model.metadata, hash, details),
        dataset: format!("{}, {split}", data.name),
        classes: data.class_names.clone(),
        norm: grid.largest().norm().to_string(),
        eps: grid.largest().eps(),
        seed: grid.seed,
        count: data.len(),
        clean_accuracy: first.clean_accuracy,
        readouts: results,
    };
    let mut models = vec![evaluation];
    conclude(&mut models);
    let summary = write::summary(&models);
    write::results(&flags.out, write::title(&models), models)?;
    tracing::info!("{} written", flags.out.join("report.html").display());
    print(&summary)
}

/// `--plan`: what would be run, behind every readout. Nothing is written.
fn describe(
    grid: &Grid<'_>,
    readouts: &[ReadoutChoice],
    points: &Points,
    data: &Dataset,
) -> Result<(), Error> {
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
    print(&text)
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
    let (model, hash) = args::model(&flags.model, &setup.device)?;
    let time_limit = flags.time_limit.as_deref().map(args::time_limit).transpose()?;
    args::check_attacks(&attacks.names, model.metadata.architecture.classes(), norm)?;
    let gradients = args::gradients(flags.gradients.as_deref(), &model)?;
    let asked = if flags.gradients.is_some() { gradients.clone() } else { Vec::new() };
    let readouts = args::readouts(&flags.readouts, &model)?;
    if readouts.contains(&ReadoutChoice::Early) && norm == Norm::L1 {
        return Err(input(
            "--readouts early: T is chosen under PGD-10, which does not search in l1 balls; give it, as in early(3)",
        ));
    }
    if !flags.resume && !flags.plan && files::has_content(&flags.out.join("journal"))? {
        return Err(input(format!(
            "{}: the folder holds the journal of an evaluation; add --resume to go on with it, or give another --out",
            flags.out.display()
        )));
    }
    let data = images.load([&model])?;
    let training = if readouts.contains(&ReadoutChoice::Early) {
        Some(development(flags, &images, &data, &model)?)
    } else {
        None
    };
    Ok(Checked {
        model,
        hash,
        data,
        split: images.split,
        training,
        attacks,
        gradients,
        asked,
        time_limit,
        readouts,
        control,
        margin,
        budgets,
        batch_size: images.batch_size,
    })
}

/// The training split, whose last images must not be among those evaluated.
fn development(
    flags: &Evaluate,
    images: &Images,
    data: &Dataset,
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
    if *split == Split::Train && data.len() + flags.development > training.len() {
        return Err(input(format!(
            "--readouts early: its {} development images would be among the {} evaluated; evaluate the test split, \
             lower --count, or {instead}",
            flags.development,
            data.len()
        )));
    }
    Ok(training)
}
