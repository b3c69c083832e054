//! From text to checked values: what several commands read alike.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use burn::tensor::Device;
use equipoise::assess::{Attacks, ReadoutChoice};
use equipoise::attack::{self, Attack, Budget, Norm};
use equipoise::checkpoint::ModelFile;
use equipoise::evaluate::{Stored, read_adversarial};
use equipoise::gradient::Estimator;
use equipoise::plan::{self, Transfer};
use equipoise::readout::{Readout, names};
use equipoise_dataset::{Dataset, DatasetError, Reading, Source, Split};
use serde_json::Value;

use crate::error::{Error, input};
use crate::flags;

/// Which images, checked but not yet read.
#[derive(Debug)]
pub struct Images {
    /// Where from.
    pub source: Source,
    /// Resized, cropped and laid out like this.
    pub reading: Reading,
    /// Which split.
    pub split: Split,
    /// Which of these.
    rows: Rows,
    /// So many at once.
    pub batch_size: usize,
}

impl flags::Images {
    /// Checks the flags. Nothing is read.
    pub fn check(&self) -> Result<Images, Error> {
        let (split, source) = (self.split.parse()?, self.data.parse()?);
        let reading = self.preparation.check()?;
        if self.batch_size == 0 {
            return Err(input("--batch-size 0: use at least 1"));
        }
        if self.count == Some(0) {
            return Err(input("--count 0: give at least 1, or leave it out for all images"));
        }
        let rows = match &self.indices {
            Some(path) => Rows::Listed { rows: listed(path)?, path: path.clone() },
            None => Rows::Range { first: self.offset.unwrap_or(0), count: self.count },
        };
        Ok(Images { source, reading, split, rows, batch_size: self.batch_size })
    }
}

impl flags::Preparation {
    /// Checks the flags.
    pub fn check(&self) -> Result<Reading, Error> {
        fn parsed<T: FromStr<Err = DatasetError>>(
            flag: &str,
            text: Option<&String>,
        ) -> Result<Option<T>, Error> {
            text.map(|text| text.parse().map_err(|error| input(format!("{flag}: {error}")))).transpose()
        }
        Ok(Reading {
            resize: parsed("--resize", self.resize.as_ref())?,
            crop: parsed("--crop", self.crop.as_ref())?,
            layout: parsed("--layout", self.layout.as_ref())?,
            limit: parsed("--max-input", self.max_input.as_ref())?.unwrap_or_default(),
        })
    }

    /// As the record has it: the flags that were given, or null.
    pub fn details(&self) -> Value {
        let given = [("resize", &self.resize), ("crop", &self.crop), ("layout", &self.layout)];
        let given: serde_json::Map<String, Value> = given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())))
            .collect();
        if given.is_empty() { Value::Null } else { given.into() }
    }
}

impl Images {
    /// These rows of a split, in ascending order, which stand in the file at `path`.
    pub fn listed(
        source: Source,
        reading: Reading,
        split: Split,
        rows: Vec<usize>,
        path: &Path,
        batch_size: usize,
    ) -> Self {
        Self { source, reading, split, rows: Rows::Listed { rows, path: path.to_owned() }, batch_size }
    }

    /// Reads them for these models, which must all take them.
    pub fn load<'a>(&self, models: impl IntoIterator<Item = &'a ModelFile>) -> Result<Selected, Error> {
        let mut total = 0;
        let (mut data, rows) = self.source.load_rows(self.split, &self.reading, |count| {
            total = count;
            self.rows.among(count, &self.source, self.split)
        })?;
        for model in models {
            data = fitted(data, &self.source, model)?;
        }
        // Not before it is known that they are used: an error stands alone.
        if let Rows::Range { count: Some(count), .. } = self.rows
            && count > rows.len()
        {
            let (name, split, used) = (&data.name, self.split, rows.len());
            tracing::warn!("{name} has {total} images in its {split} split: {used} are used");
        }
        say_notes(&data);
        Ok(Selected { data, rows })
    }

    /// Another split, all of it.
    pub fn load_whole(&self, split: Split, model: &ModelFile) -> Result<Dataset, Error> {
        let data = dataset(&self.source, split, &self.reading, None)?;
        let data = fitted(data, &self.source, model)?;
        say_notes(&data);
        Ok(data)
    }
}

/// What a data set says of its files.
pub fn say_notes(data: &Dataset) {
    data.notes.iter().for_each(|note| tracing::warn!("{note}"));
}

/// Images with their rows in the split that they are from, in ascending order.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The images.
    pub data: Dataset,
    /// The row of each in its split: what its random numbers are derived from.
    pub rows: Vec<usize>,
}

/// Which images of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rows {
    /// So many from some row on; all that follow when no number is given.
    Range { first: usize, count: Option<usize> },
    /// Those of a file, in ascending order.
    Listed { rows: Vec<usize>, path: PathBuf },
}

impl Rows {
    /// The rows of a split that has `n`.
    fn among(&self, n: usize, source: &Source, split: Split) -> Result<Vec<usize>, Error> {
        match self {
            Self::Range { first, .. } if *first >= n => Err(input(format!(
                "--offset {first}: the {split} split of {source} has {n} images, numbered from 0"
            ))),
            Self::Range { first, count } => {
                let end = count.map_or(n, |count| first.saturating_add(count).min(n));
                Ok((*first..end).collect())
            }
            Self::Listed { rows, path } => match rows.iter().find(|&&row| row >= n) {
                Some(row) => Err(input(format!(
                    "{}: row {row}: the {split} split of {source} has {n} images, numbered from 0",
                    path.display()
                ))),
                None => Ok(rows.clone()),
            },
        }
    }
}

/// The most bytes of a list of row numbers: several million of them.
const MAX_LIST: u64 = 64 << 20;

/// The row numbers of `--indices`, in ascending order.
fn listed(path: &Path) -> Result<Vec<usize>, Error> {
    let text = crate::files::read_text_within(path, MAX_LIST)?;
    let place = |line: usize| format!("{}, line {}", path.display(), line + 1);
    let mut rows = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let words = content.split(|c: char| c.is_whitespace() || c == ',' || c == '[' || c == ']');
        for word in words.filter(|word| !word.is_empty()) {
            let row = word.parse::<usize>().map_err(|_| {
                input(format!("{}: `{word}` is no row number; give whole numbers from 0", place(line)))
            })?;
            rows.push((row, line));
        }
    }
    rows.sort_unstable();
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(input(format!("{}: row {} stands twice; give each once", place(pair[1].1), pair[1].0)));
    }
    if rows.is_empty() {
        return Err(input(format!("{}: no row numbers; give at least one", path.display())));
    }
    Ok(rows.into_iter().map(|(row, _)| row).collect())
}

impl flags::Ball {
    /// Checks the flags: one radius.
    pub fn budget(&self) -> Result<Budget, Error> {
        budget(self.eps.as_deref(), &self.norm)
    }

    /// Checks the flags: one radius or several, the smallest first, each once.
    pub fn budgets(&self) -> Result<Vec<Budget>, Error> {
        budgets(self.eps.as_deref(), &self.norm)
    }
}

/// `--eps`, one radius, and `--norm`.
pub fn budget(eps: Option<&str>, norm: &str) -> Result<Budget, Error> {
    match budgets(eps, norm)?.as_slice() {
        [budget] => Ok(*budget),
        _ => Err(input("--eps: one radius here, such as 8/255; evaluate takes several")),
    }
}

/// `--eps` and `--norm`: every radius once, the smallest first.
fn budgets(eps: Option<&str>, norm: &str) -> Result<Vec<Budget>, Error> {
    let norm: Norm = norm.parse().map_err(|error| input(format!("--norm: {error}")))?;
    let eps = match (eps, norm) {
        (Some(eps), _) => eps,
        (None, Norm::Linf) => "8/255",
        (None, Norm::L2) => {
            return Err(input(
                "--norm l2: give --eps too: the usual one is 0.5 (128/255) for CIFAR-10, and 1.5 to 3 for MNIST; 8/255 \
                 is a radius of linf",
            ));
        }
        (None, Norm::L1) => {
            return Err(input(
                "--norm l1: give --eps too: the usual one is 12 for CIFAR-10, and 10 for MNIST; 8/255 is a radius of \
                 linf",
            ));
        }
    };
    let mut budgets = Vec::new();
    for text in eps.split(',') {
        let eps = Budget::parse_eps(text).map_err(|error| input(format!("--eps {text}: {error}")))?;
        let budget = Budget::new(norm, eps).map_err(|error| input(format!("--eps: {error}")))?;
        if norm == Norm::Linf && eps > 1.0 {
            let text = text.trim();
            return Err(input(format!(
                "--eps {text}: images lie in [0, 1], so that every image is within linf 1 of any other; did you mean \
                 {text}/255?"
            )));
        }
        budgets.push(budget);
    }
    budgets.sort_by(|a, b| a.eps().total_cmp(&b.eps()));
    budgets.dedup();
    Ok(budgets)
}

/// `--control`.
pub fn control(name: &str) -> Result<bool, Error> {
    match name {
        "twins" => Ok(true),
        "none" => Ok(false),
        _ => Err(input(format!("--control {name}: use twins, or none for runs without a control"))),
    }
}

/// `--margin`, points to a fraction.
pub fn margin(points: f64) -> Result<f64, Error> {
    if points > 0.0 && points < 100.0 {
        Ok(points / 100.0)
    } else {
        Err(input(format!("--margin {points}: give points between 0 and 100, such as 3")))
    }
}

/// `--attacks`.
pub fn attacks(list: &str) -> Result<Attacks, Error> {
    list.parse().map_err(|error| input(format!("--attacks: {error}")))
}

/// `--time-limit` in seconds: a number with `s`, `m` or `h`.
pub fn time_limit(text: &str) -> Result<f64, Error> {
    let text = text.trim();
    let (number, unit) = match text.chars().last() {
        Some('s') => (&text[..text.len() - 1], 1.0),
        Some('m') => (&text[..text.len() - 1], 60.0),
        Some('h') => (&text[..text.len() - 1], 3600.0),
        _ => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number * unit),
        _ => Err(input(format!("--time-limit {text}: write a time such as 90s, 10m or 2h"))),
    }
}

/// `--warm-start`: every PGD by its warm-started form.
pub fn warm_started(attacks: &Attacks) -> Result<Attacks, Error> {
    let is_pgd = |name: &str| name.starts_with("pgd-");
    if !attacks.listed.iter().any(|attack| is_pgd(&attack.name())) {
        return Err(input(
            "--warm-start: only PGD can be warm-started, and none of --attacks is; leave it out",
        ));
    }
    let warm = |attack: &Arc<dyn Attack>| {
        let name = attack.name();
        if !is_pgd(&name) || name.ends_with("-warm") {
            return Ok(attack.clone());
        }
        attack::parse(&format!("{name}-warm")).map(Arc::from).map_err(input)
    };
    let warm = attacks.listed.iter().map(warm).collect::<Result<Vec<_>, _>>()?;
    Ok(Attacks { white_box: attacks.white_box, ..Attacks::of(warm) })
}

/// Whether a model of so many classes can be attacked by all of these within balls of this norm.
pub fn check_attacks(attacks: &Attacks, classes: usize, norm: Norm) -> Result<(), Error> {
    for attack in &attacks.listed {
        attack.check(classes).map_err(|error| input(format!("--attacks: {error}")))?;
        attack.check_norm(norm).map_err(|error| input(format!("--attacks: {error}")))?;
    }
    Ok(())
}

/// Whether the model has states to read and gradients to choose from.
pub fn is_equilibrium(model: &ModelFile) -> bool {
    model.model.equilibrium().is_some()
}

/// `--gradients`.
pub fn gradients(
    list: Option<&str>,
    model: &ModelFile,
    readouts: &[ReadoutChoice],
) -> Result<Vec<Estimator>, Error> {
    if !is_equilibrium(model) {
        return match list.map(str::trim) {
            None | Some("none") => Ok(Vec::new()),
            Some(list) => Err(input(format!(
                "--gradients {list}: the model is a feedforward network and has one gradient only; leave this out"
            ))),
        };
    }
    let readouts: Vec<Readout> = readouts.iter().map(ReadoutChoice::example).collect();
    let gradients = plan::other_gradients(list, &model.metadata.deployment, &readouts);
    gradients.map_err(|error| input(format!("--gradients: {error}")))
}

/// `--transfer`: readouts of the model, `siblings` for those of `--readouts` that are known, and files of stored images.
pub fn transfers(
    list: Option<&str>,
    model: &ModelFile,
    readouts: &[ReadoutChoice],
) -> Result<Vec<Transfer>, Error> {
    let steps = model.metadata.deployment.solver.steps;
    let mut transfers = Vec::new();
    for name in list.into_iter().flat_map(names) {
        if name.ends_with(".safetensors") {
            let images = read_adversarial(name)?;
            let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            transfers.push(Transfer::Images(Arc::new(Stored::new(stem, images))));
        } else if !is_equilibrium(model) {
            // It has one readout; images that were stored may be of any model.
            continue;
        } else if name == "siblings" {
            transfers.extend(readouts.iter().filter_map(|choice| match choice {
                ReadoutChoice::Fixed(readout) => Some(Transfer::Readout(readout.clone())),
                ReadoutChoice::Early(_) => None,
            }));
        } else {
            let readout: Readout = name.parse().map_err(|error: String| {
                input(format!(
                    "--transfer: {error}; siblings, or a file of stored images that ends with .safetensors"
                ))
            })?;
            readout.check(steps).map_err(|problem| input(format!("--transfer: {problem}")))?;
            transfers.push(Transfer::Readout(readout));
        }
    }
    Ok(transfers)
}

/// `--readouts`, each once.
pub fn readouts(list: &str, model: &ModelFile) -> Result<Vec<ReadoutChoice>, Error> {
    let steps = model.metadata.deployment.solver.steps;
    let mut choices = Vec::new();
    for name in names(list) {
        let choice: ReadoutChoice = name.parse().map_err(|error| input(format!("--readouts: {error}")))?;
        if let ReadoutChoice::Fixed(readout) = &choice {
            readout.check(steps).map_err(|problem| input(format!("--readouts: {problem}")))?;
        }
        if !is_equilibrium(model) && choice != ReadoutChoice::Fixed(Readout::final_state()) {
            return Err(input(format!(
                "--readouts {name}: the model is a feedforward network and has one readout only; use final"
            )));
        }
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    Ok(choices)
}

/// One split of `--data`, its first `count` images.
pub fn dataset(
    source: &Source,
    split: Split,
    reading: &Reading,
    count: Option<usize>,
) -> Result<Dataset, Error> {
    if count == Some(0) {
        return Err(input("--count 0: give at least 1, or leave it out for all images"));
    }
    let first = |all: usize| Ok::<_, Error>((0..count.map_or(all, |count| count.min(all))).collect());
    let (data, _) = source.load_rows(split, reading, first)?;
    if let Some(count) = count
        && count > data.len()
    {
        tracing::warn!("{} has {} images in its {split} split: all are used", data.name, data.len());
    }
    Ok(data)
}

/// `--model`, and the SHA-256 of the file.
pub fn model(path: &Path, device: &Device) -> Result<(ModelFile, String), Error> {
    let path = model_path(path);
    let file = ModelFile::read(&path, device)?;
    Ok((file, crate::files::sha256(&path)?))
}

/// The file that `--model` names. A folder of `train` or of `export --hub` stands for the model in it.
pub fn model_path(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("model.safetensors") } else { path.to_owned() }
}

/// Images as a model takes them, or what does not fit.
pub fn fitted(mut data: Dataset, source: &Source, model: &ModelFile) -> Result<Dataset, Error> {
    let architecture = &model.metadata.architecture;
    let [channels, height, width] = architecture.image();
    // torchvision reads every image of a folder as RGB.
    if matches!(source, Source::Folder(_)) && data.shape == [1, height, width] && channels == 3 {
        data.notes
            .push(format!("{source}: the images are gray, and the model sees each in three equal channels"));
        data = data.in_colour();
    }
    if data.shape != architecture.image() {
        return Err(input(format!(
            "{source}: the images are {:?} (channels, height, width), but the model takes {:?}; give the data set \
             that it was trained for, or bring images to its size with --resize and --crop",
            data.shape,
            architecture.image()
        )));
    }
    if let Some(row) = data.labels.iter().position(|&label| label >= architecture.classes()) {
        return Err(input(format!(
            "{source}, image {row}: label {} is outside 0..={}, the classes of the model; give the data set that it \
             was trained for",
            data.labels[row],
            architecture.classes() - 1
        )));
    }
    let (trained, here) = (prepared(&model.metadata.data), prepared(&data.name));
    if !model.metadata.data.is_empty() && trained != here {
        let or_not =
            |how: &str| if how.is_empty() { "not resized or cropped".to_owned() } else { how.to_owned() };
        data.notes.push(format!(
            "{}: the model was trained on images {}, and these are {}",
            model.metadata.name,
            or_not(&trained),
            or_not(&here)
        ));
    }
    Ok(data)
}

/// What the name of a data set says of resizing and cropping, without the split after it.
fn prepared(name: &str) -> String {
    let parts = name.split(", ").filter(|part| {
        ["resized to ", "shorter side resized to ", "cropped to "].iter().any(|how| part.starts_with(how))
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), (" 2h ", 7200.0)] {
            assert_eq!(time_limit(text).unwrap(), seconds, "{text}");
        }
        for bad in ["", "m", "-1s", "0", "soon", "infs", "nan"] {
            assert!(time_limit(bad).unwrap_err().to_string().contains("such as 90s"), "{bad}");
        }
    }

    #[test]
    fn radii_are_checked_by_their_norm() {
        let radii = |eps: Option<&str>, norm| {
            budgets(eps, norm).map(|all| all.iter().map(|budget| budget.eps()).collect::<Vec<_>>())
        };
        assert_eq!(radii(None, "linf").unwrap(), [8.0 / 255.0]);
        assert_eq!(radii(Some("0.2, 8/255,0.1,0.2"), "linf").unwrap(), [8.0 / 255.0, 0.1, 0.2]);
        assert_eq!(radii(Some("2"), "l2").unwrap(), [2.0]);
        let message = |eps, norm| budgets(eps, norm).unwrap_err().to_string();
        assert!(message(Some("8"), "linf").contains("did you mean 8/255"));
        assert!(message(Some("0.1,8"), "linf").contains("8/255"));
        assert!(message(None, "l2").contains("0.5"));
        assert!(message(None, "l1").contains("12"));
        assert!(budget(Some("0.1,0.2"), "linf").unwrap_err().to_string().contains("one radius"));
    }

    #[test]
    fn preparation_is_read_and_found_again_in_names() {
        let flags = |resize: &str, crop: &str| flags::Preparation {
            resize: Some(resize.into()),
            crop: Some(crop.into()),
            ..flags::Preparation::default()
        };
        let reading = flags("40", "32").check().unwrap();
        let name = format!("photos (small), of cats{reading}, train");
        assert_eq!(prepared(&name), "shorter side resized to 40, cropped to 32x32");
        assert_eq!(prepared("CIFAR-10 (JPEG), train"), "");
        let message = flags("40", "0").check().unwrap_err().to_string();
        assert!(message.contains("--crop") && message.contains("\"0\""), "{message}");
    }

    #[test]
    fn the_white_box_plan_is_no_attack_to_be_crossed() {
        let attacks = attacks("whitebox, pgd-5,pgd-5").unwrap();
        assert_eq!((attacks.names(), attacks.white_box), (vec!["pgd-5".to_owned()], true));
    }
}
