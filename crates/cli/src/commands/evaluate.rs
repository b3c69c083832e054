//! `evaluate`: a model file and a data set to robust accuracies.

use std::path::{Path, PathBuf};

use equipoise::assess::{self, Assessment, Attacks, Description, Randomness, ReadoutChoice};
use equipoise::attack::{Budget, Norm};
use equipoise::checkpoint::ModelFile;
use equipoise::gradient::Estimator;
use equipoise::plan::Transfer;
use equipoise::readout::{self, Readout};
use equipoise_dataset::Split;
use equipoise_record::Evaluation;
use equipoise_record::names::{Facts, distinct};
use equipoise_verdict::conclude;
use serde_json::json;

use super::{print, write};
use crate::args::{self, Images, Selected};
use crate::configuration::{self, interrupted};
use crate::error::{Error, input};
use crate::flags::Evaluate;
use crate::machine::Machine;
use crate::progress::{Whole, words};
use crate::setup::Setup;
use crate::shards::{Shard, Shards, State};
use crate::watch::Watch;
use crate::{arguments, files, interrupt, normalised};

/// Flags, checked.
struct Checked {
    entrants: Vec<Entrant>,
    selected: Selected,
    split: Split,
    /// The last images of the training split, where `early` is to be chosen.
    training: Option<Selected>,
    attacks: Attacks,
    time_limit: Option<f64>,
    control: bool,
    margin: f64,
    budgets: Vec<Budget>,
    randomness: Randomness,
    batch_size: usize,
}

/// One of the models, and what is tried on it.
struct Entrant {
    model: ModelFile,
    /// The name that its row has.
    name: String,
    file: PathBuf,
    hash: String,
    gradients: Vec<Estimator>,
    /// Those of the gradients that were asked for.
    asked: Vec<Estimator>,
    readouts: Vec<ReadoutChoice>,
    /// Images from elsewhere.
    transfers: Vec<Transfer>,
    /// Whether it is a network without states beside DEQs.
    plain: bool,
    /// Where its journal and its images go.
    folder: PathBuf,
}

/// Runs the command.
pub fn run(flags: &Evaluate, setup: &Setup) -> Result<(), Error> {
    if let Some(text) = &flags.shard {
        return part(Shard::parse(text, &|name| std::env::var(name).ok())?, flags, setup);
    }
    let shards = flags.merged.then(|| Shards::complete(&flags.out)).transpose()?;
    // Shards are merged again as if that were resumed.
    let flags = &Evaluate { resume: flags.resume || flags.merged, ..flags.clone() };
    let checked = check(flags, None, setup)?;
    let assessments: Vec<Assessment<'_>> = checked
        .entrants
        .iter()
        .map(|entrant| {
            let images = checked.selected.rows.len();
            // Where its journal is in the folder of all, it is in that of each shard.
            let own = entrant.folder.strip_prefix(&flags.out).unwrap_or(Path::new(""));
            let parts = shards.iter().flat_map(|shards| shards.parts(images));
            parts.fold(assessment(&checked, entrant, flags, setup), |assessment, (folder, rows)| {
                assessment.shard(folder.join(own), rows)
            })
        })
        .collect();
    if flags.plan {
        let mut text = String::new();
        for (entrant, assessment) in checked.entrants.iter().zip(&assessments) {
            for description in assessment.describe()? {
                text += &plan(&entrant.name, &description, &checked);
            }
        }
        return print(&text);
    }
    let _lock = files::claim(&flags.out, flags.resume)?;
    let before = arguments::Before::of(&flags.out);
    arguments::keep(&flags.out)?;
    interrupt::listen();
    for Entrant { name, .. } in checked.entrants.iter().filter(|entrant| entrant.plain) {
        tracing::info!("{name}: a feedforward network, attacked behind final through its one gradient");
    }
    let whole = whole(&assessments, setup)?;
    warn(&checked, setup)?;
    let watch = Watch::of_whole(&whole, setup);
    let mut models = Vec::new();
    for (entrant, assessment) in checked.entrants.iter().zip(&assessments) {
        let assessed = assessment.run(&watch).map_err(Error::from).inspect_err(|error| {
            if error.exit_code() == 2 {
                before.put_back();
            }
        });
        let evaluation = assessed?.ok_or_else(interrupted)?;
        let details = json!({
            "model_file": entrant.file.display().to_string(),
            "data": flags.images.data,
            "preparation": flags.images.preparation.details(),
            "offset": flags.images.offset,
            "indices": flags.images.indices.as_ref().map(|path| path.display().to_string()),
        });
        let configuration = configuration::completed(evaluation.configuration, setup, details);
        models.push(Evaluation { configuration, ..evaluation });
    }
    // Corrected over all that stands in the record.
    conclude(&mut models);
    let summary = write::summary(&models);
    write::results(&flags.out, write::title(&models), models)?;
    if let Some(shards) = shards {
        keep(&shards, watch.disputed(), flags)?;
    }
    tracing::info!("{} written", flags.out.join("report.html").display());
    print(&summary)
}

/// Evaluates a shard: its journal is all that comes of it.
fn part(shard: Shard, flags: &Evaluate, setup: &Setup) -> Result<(), Error> {
    let out = shard.folder(&flags.out);
    // The same command goes on with what it has. Checks and images are of all points, and are made when they come together.
    let flags = &Evaluate {
        out: out.clone(),
        resume: true,
        no_flags: true,
        save_adversarial: false,
        ..flags.clone()
    };
    let checked = check(flags, Some(shard), setup)?;
    let assessments: Vec<Assessment<'_>> =
        checked.entrants.iter().map(|entrant| assessment(&checked, entrant, flags, setup)).collect();
    let _lock = files::claim(&out, true)?;
    arguments::keep(&out)?;
    interrupt::listen();
    let mut state =
        State { shard, complete: false, images: checked.selected.rows.len(), machine: Machine::here()? };
    state.keep(&out)?;
    let whole = whole(&assessments, setup)?;
    let watch = Watch::of_whole(&whole, setup);
    for assessment in &assessments {
        assessment.run(&watch)?.ok_or_else(interrupted)?;
    }
    state.complete = true;
    state.keep(&out)?;
    tracing::info!("shard {shard}: {} images done; `equipoise merge` unites all shards", state.images);
    Ok(())
}

/// Says where the shards are from, and keeps it beside the record: `shards.json`.
fn keep(shards: &Shards, disputed: Vec<usize>, flags: &Evaluate) -> Result<(), Error> {
    match shards.kinds() {
        1 => tracing::info!("{} shards, from machines of one kind", shards.of),
        kinds => tracing::warn!(
            "{} shards, from machines of {kinds} kinds (processors, instruction sets or programs): the last digits of what \
             they compute may differ; {} adversarial images do not fool the model on this one",
            shards.of,
            disputed.len()
        ),
    }
    let record = json!({ "shards": shards.states, "kinds": shards.kinds(), "disputed": disputed });
    let text = serde_json::to_string_pretty(&record).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(equipoise_report::write_atomically(flags.out.join("shards.json"), text + "\n")?)
}

fn assessment<'a>(
    checked: &'a Checked,
    entrant: &'a Entrant,
    flags: &Evaluate,
    setup: &Setup,
) -> Assessment<'a> {
    let Selected { data, rows } = &checked.selected;
    let assessment = Assessment::new(&entrant.model, data)
        .named(&entrant.name)
        .of_file(&entrant.hash)
        .rows(checked.split.name(), rows.clone())
        .attacks(checked.attacks.clone())
        .gradients(entrant.gradients.clone(), entrant.asked.clone())
        .readouts(entrant.readouts.iter().cloned())
        .transfers(entrant.transfers.iter().cloned())
        .randomness(checked.randomness)
        .budgets(checked.budgets.iter().copied())
        .control(checked.control)
        .margin(checked.margin)
        .time_limit(checked.time_limit)
        .checks((!flags.no_flags).then_some(flags.flag_count))
        .seed(setup.seed())
        .batch_size(checked.batch_size)
        .folder(&entrant.folder, flags.save_adversarial)
        .device(setup.device.clone());
    match &checked.training {
        None => assessment,
        Some(Selected { data, rows }) => assessment.development(data, rows.clone()),
    }
}

/// Every radius behind every readout of every model, with the most that each may take.
fn whole(assessments: &[Assessment<'_>], setup: &Setup) -> Result<Whole, Error> {
    let mut parts = Vec::new();
    for assessment in assessments {
        parts.extend(assessment.most_seconds()?);
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
fn warn(checked: &Checked, setup: &Setup) -> Result<(), Error> {
    let Selected { data, rows } = &checked.selected;
    let points = assess::points(data, rows.clone(), &setup.device)?;
    for entrant in &checked.entrants {
        if let Some(warning) = normalised::warning(&entrant.model, &entrant.name, &points, &setup.device)? {
            tracing::warn!("{warning}");
        }
    }
    Ok(())
}

/// `--plan`: what would be run behind one readout, the time it takes at most, and what so many images can show.
fn plan(name: &str, description: &Description, checked: &Checked) -> String {
    let Description { readout, chosen_later, lines, most_seconds, power } = description;
    let n = checked.selected.data.len();
    let mut text = String::new();
    if let Some(t) = chosen_later {
        text += &format!("early, with T still to be chosen; as for {t}:\n");
    }
    text += &format!("{name}, readout {readout}, {n} images\n");
    for line in lines {
        text += &format!("  {line}\n");
    }
    let radii = match checked.budgets.len() {
        1 => String::new(),
        radii => format!(", over {radii} radii"),
    };
    let most = words(most_seconds.round() as u64);
    text += &format!("  time: {most} if every image withstood everything{radii}; ");
    text += "images that fall early cost a small part of that\n";
    if power.is_empty() {
        return text + "  power: none, there is no control\n";
    }
    let chances: Vec<String> = power
        .iter()
        .map(|(gap, chance)| format!("{:.0}% at {:.0} points", 100.0 * chance, 100.0 * gap))
        .collect();
    text + &format!("  chance that the arms' test sees a gap, for one readout: {}\n", chances.join(", "))
}

/// Everything that can be wrong is found here, before anything is written.
fn check(flags: &Evaluate, shard: Option<Shard>, setup: &Setup) -> Result<Checked, Error> {
    let budgets = flags.ball.budgets()?;
    let norm = budgets[0].norm();
    if budgets[0].eps() == 0.0 {
        tracing::warn!("--eps 0: nothing can be perturbed within it; robust accuracy is clean accuracy");
    }
    let (control, margin) = (args::control(&flags.control)?, args::margin(flags.margin)?);
    let mut attacks = args::attacks(&flags.attacks)?;
    if flags.warm_start {
        attacks = args::warm_started(&attacks)?;
    }
    let images = flags.images.check()?;
    let time_limit = flags.time_limit.as_deref().map(args::time_limit).transpose()?;
    let entrants = entrants(flags, setup)?;
    for Entrant { model, .. } in &entrants {
        args::check_attacks(&attacks, model.metadata.architecture.classes(), norm)?;
    }
    let early = |choice: &ReadoutChoice| matches!(choice, ReadoutChoice::Early(_));
    let chooses = entrants.iter().any(|entrant| entrant.readouts.iter().any(early));
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
    let selected = match shard {
        None => selected,
        Some(shard) => of_shard(shard, &selected)?,
    };
    Ok(Checked {
        randomness: randomness(flags, &entrants)?,
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

/// `--noise`, `--protocol` and `--mean-of`.
fn randomness(flags: &Evaluate, entrants: &[Entrant]) -> Result<Randomness, Error> {
    let usual = Randomness::default();
    let protocol = match &flags.protocol {
        None => usual.protocol,
        Some(name) => name.parse().map_err(|problem: String| input(format!("--protocol: {problem}")))?,
    };
    let draws = flags.mean_of.unwrap_or(usual.draws);
    let randomness = Randomness { noise: flags.noise, protocol, draws };
    randomness
        .check()
        .map_err(|problem| input(format!("--{}", problem.replacen("mean of", "mean-of", 1))))?;
    let readouts = || entrants.iter().flat_map(|entrant| &entrant.readouts).map(|choice| choice.example());
    if flags.mean_of.is_some() && !readouts().any(|readout| randomness.samples(&readout)) {
        return Err(input(
            "--mean-of: no mean of draws is taken; add --noise SIGMA or the readout random-starts, or leave it out",
        ));
    }
    if flags.protocol.is_some() && !readouts().any(|readout| randomness.concerns(&readout)) {
        return Err(input(
            "--protocol: nothing is drawn; add --noise SIGMA or the readout random-states or random-starts, or leave it out",
        ));
    }
    Ok(randomness)
}

/// The images of a shard.
fn of_shard(shard: Shard, selected: &Selected) -> Result<Selected, Error> {
    let places = shard.places(selected.rows.len());
    if places.is_empty() {
        return Err(input(format!(
            "--shard {shard}: there are {} images, fewer than parts; divide them into at most so many",
            selected.rows.len()
        )));
    }
    let rows = places.iter().map(|&place| selected.rows[place]).collect();
    Ok(Selected { data: selected.data.select(&places), rows })
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
    for ((model, hash, file), name) in files.into_iter().zip(names) {
        // Beside DEQs, a network without states joins with what it has.
        let plain = several && any_deq && !args::is_equilibrium(&model);
        let (gradients, readouts) = if plain {
            if !readout::names(&flags.readouts).any(|readout| readout == "final") {
                return Err(input(format!(
                    "{}: a feedforward network has one readout only; add final to --readouts, or leave this model out",
                    file.display()
                )));
            }
            (Vec::new(), vec![ReadoutChoice::Fixed(Readout::final_state())])
        } else {
            let readouts = args::readouts(&flags.readouts, &model)?;
            (args::gradients(flags.gradients.as_deref(), &model, &readouts)?, readouts)
        };
        let transfers = args::transfers(flags.transfer.as_deref(), &model, &readouts)?;
        let asked = if flags.gradients.is_some() { gradients.clone() } else { Vec::new() };
        let folder = match several {
            false => flags.out.clone(),
            // What a file holds tells it from others; its name in the table depends on those.
            true => flags.out.join(format!("{}-{}", slug(&model.metadata.name), &hash[..8])),
        };
        entrants.push(Entrant {
            model,
            name,
            file: file.clone(),
            hash,
            gradients,
            asked,
            readouts,
            transfers,
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
) -> Result<Selected, Error> {
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
    let first = training.len().saturating_sub(flags.development);
    let rows: Vec<usize> = (first..training.len()).collect();
    Ok(Selected { data: training.select(&rows), rows })
}
