//! The journal: what an evaluation has done so far, in a folder, so that it can be resumed.
//!
//! `journal.json` says which run the folder belongs to. Each event adds one file. A batch is `batch-000000.safetensors`
//! and so on: the rows, the judge's classes on the stored images, the attack's claims, the images, and in the
//! metadata the number of the run and its cost. `turn-000000.json` says that a stage begins, or that time cut it short; both
//! kinds are numbered together. Every file carries a checksum. A run that is resumed verifies that
//! the images are within the budget, and that those it goes on to report fool the judge. `looks.json` holds the numbers of
//! images at which a finding was shown. Files are written atomically. Batches may be of any size: a run may be
//! resumed with another batch size, and, without a time limit, with more images after those that it had.
//!
//! A run on all points can take over what runs on parts of them have found, from their journals.
//!
//! Two runs must not use one folder at the same time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use equipoise_files::{seal, sha256, unseal, write_atomically};
use equipoise_record::Flag;
use serde::{Deserialize, Serialize};

use super::cascade::{Cascade, Settings};
use super::error::{CARRIED, EPS, EXAMPLES, JournalError, MODEL};
use super::fields::{Field, Fields, classes_to_i64, file};
use super::ledger::{Cost, Event, Findings, Ledger, Turn};
use super::order::TimeLimit;
use super::points::Points;
use crate::attack::Budget;
use crate::work::Work;

/// Version of the folder's layout.
const VERSION: u32 = 6;
/// The version before, which kept the order of a run under a time limit in a file of its own, and no other's.
const UNORDERED: u32 = 5;
const ORDER: &str = "order.json";

/// A folder that holds what is done.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    model: String,
    events: usize,
}

/// What a run's result depends on, part by part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    version: u32,
    /// Number of images.
    count: usize,
    parts: BTreeMap<String, String>,
    /// Hashes of the images, the labels and the indices, example by example, all in one: those of the first
    /// examples are part of it, so that more may come after them.
    #[serde(skip)]
    examples: Vec<String>,
}

impl Fingerprint {
    /// Of everything but the model, which the journal's owner names. `smaller`: for each point the runs that broke it at a
    /// smaller radius.
    pub fn new(
        cascade: &Cascade<'_>,
        points: &Points,
        settings: &Settings,
        limit: Option<TimeLimit>,
        smaller: Option<&[Vec<usize>]>,
    ) -> Self {
        let [count, channels, height, width] = points.images().dims();
        let mut parts = BTreeMap::from([
            ("readout".to_owned(), cascade.readout.clone()),
            ("norm".to_owned(), settings.budget.norm().to_string()),
            (EPS.to_owned(), settings.budget.eps().to_string()),
            ("seed".to_owned(), settings.seed.to_string()),
            ("number of classes".to_owned(), cascade.judge.classes().to_string()),
            ("number of runs".to_owned(), cascade.runs().len().to_string()),
            ("shape of the images".to_owned(), format!("{:?}", [channels, height, width])),
        ]);
        if cascade.draws > 1 {
            parts.insert("draws of a verdict".to_owned(), cascade.draws.to_string());
        }
        if let Some(limit) = limit {
            parts.insert("time limit".to_owned(), format!("{} s", limit.seconds));
            // The order of a limited run follows from what all of its points did.
            parts.insert("number of images under a time limit".to_owned(), count.to_string());
        }
        if let Some(smaller) = smaller {
            let fallen = smaller.iter().map(|breaks| format!("{breaks:?}")).collect::<String>();
            parts.insert(CARRIED.to_owned(), sha256(fallen.as_bytes()));
            parts.insert("number of images after a smaller radius".to_owned(), count.to_string());
        }
        for (k, (arm, run)) in cascade.runs().into_iter().enumerate() {
            let value = format!("{} ({}), start {}", run.label(), arm.name(), run.start);
            parts.insert(format!("run {}", k + 1), value);
            parts.insert(format!("settings of run {}", k + 1), run.attack.settings());
        }
        Self { version: VERSION, count, parts, examples: points.hashes() }
    }

    /// One hash of the first `count` examples; of all if there are fewer.
    fn hash_of_first(&self, count: usize) -> String {
        sha256(self.examples[..count.min(self.examples.len())].concat().as_bytes())
    }

    /// With the hash of the first `count` examples among its parts.
    fn of_first(&self, count: usize) -> Self {
        let mut here = self.clone();
        here.parts.insert(EXAMPLES.to_owned(), self.hash_of_first(count));
        here.count = count;
        here
    }

    /// The first part that differs: its name, and its value in both.
    fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let value = |of: &Self, part: &String| of.parts.get(part).cloned().unwrap_or("absent".to_owned());
        self.parts
            .keys()
            .chain(other.parts.keys())
            .find(|&part| self.parts.get(part) != other.parts.get(part))
            .map(|part| (part.clone(), value(self, part), value(other, part)))
    }
}

impl Journal {
    /// The journal in `folder`, which is made if it is not there. `model` says what is evaluated, for example
    /// as a hash of the model's file: a journal is resumed only for the model that it was begun with.
    ///
    /// Each cascade (each readout) needs a folder of its own.
    ///
    /// # Errors
    ///
    /// [`JournalError::File`] if the folder cannot be made.
    pub fn open(folder: impl Into<PathBuf>, model: impl Into<String>) -> Result<Self, JournalError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        Ok(Self::existing(folder, model))
    }

    /// The journal of another run, to be read.
    pub fn existing(folder: impl Into<PathBuf>, model: impl Into<String>) -> Self {
        Self { folder: folder.into(), model: model.into(), events: 0 }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Binds the journal to a run, and enters what it holds: findings whose images are within the budget.
    pub(super) fn replay(
        &mut self,
        fingerprint: &Fingerprint,
        budget: &Budget,
        ledger: &mut Ledger<'_>,
    ) -> Result<(), JournalError> {
        let here = self.own(fingerprint);
        self.events = 0;
        match self.bound(&here)? {
            None => return self.bind(&here),
            Some(journal) if (journal.version, journal.count) != (here.version, here.count) => {
                self.bind(&here)?
            }
            Some(_) => {}
        }
        while let Some((path, event)) = self.event(self.events)? {
            ledger.check(&event, budget).map_err(|problem| corrupt(&path, problem))?;
            ledger.enter(&event);
            self.events += 1;
        }
        Ok(())
    }

    /// The batches of a run on a part of the points, which this journal is of.
    pub(super) fn findings(
        &self,
        fingerprint: &Fingerprint,
    ) -> Result<Vec<(PathBuf, Findings)>, JournalError> {
        let here = self.own(fingerprint);
        let path = self.folder.join("journal.json");
        let Some(journal) = self.bound(&here)? else { return Err(corrupt(&path, "it is missing")) };
        if journal.count != here.count {
            return Err(self.of_another((
                "number of images".to_owned(),
                journal.count.to_string(),
                here.count.to_string(),
            )));
        }
        let mut found = Vec::new();
        for number in 0.. {
            match self.event(number)? {
                None => break,
                Some((path, Event::Found(findings))) => found.push((path, findings)),
                Some((_, Event::Turn(_))) => {}
            }
        }
        Ok(found)
    }

    fn own(&self, fingerprint: &Fingerprint) -> Fingerprint {
        let mut here = fingerprint.clone();
        here.parts.insert(MODEL.to_owned(), self.model.clone());
        here
    }

    fn of_another(&self, (part, journal, here): (String, String, String)) -> JournalError {
        JournalError::OtherRun { folder: self.folder.clone(), part, journal, here }
    }

    /// Whose the folder is: this run's, perhaps of its first images only. `None` if it is nobody's yet.
    fn bound(&self, here: &Fingerprint) -> Result<Option<Fingerprint>, JournalError> {
        let path = self.folder.join("journal.json");
        let Some(bytes) = read(&path)? else {
            // Events without the file that says whose they are cannot be trusted.
            if self.event(0)?.is_some() {
                return Err(corrupt(&path, "it is missing"));
            }
            return Ok(None);
        };
        let format = |version: u32| {
            self.of_another(("format version".to_owned(), version.to_string(), VERSION.to_string()))
        };
        let journal: Fingerprint = match unseal(&bytes) {
            Ok(journal) => journal,
            // Earlier versions wrote no checksum.
            Err(problem) => {
                return Err(match serde_json::from_slice::<Fingerprint>(&bytes) {
                    Ok(old) if old.version < VERSION => format(old.version),
                    _ => corrupt(&path, problem),
                });
            }
        };
        let ordered = self.folder.join(ORDER).try_exists().map_err(at(&path))?;
        let known = journal.version == VERSION || (journal.version == UNORDERED && !ordered);
        if !known {
            return Err(format(journal.version));
        }
        // More images may have come after those that it had.
        let fewer = (here.count < journal.count)
            .then(|| ("number of images".to_owned(), journal.count.to_string(), here.count.to_string()));
        match fewer.or_else(|| journal.difference(&here.of_first(journal.count))) {
            Some(difference) => Err(self.of_another(difference)),
            None => Ok(Some(journal)),
        }
    }

    /// One of the events, and the file that it is in; `None` after the last.
    fn event(&self, number: usize) -> Result<Option<(PathBuf, Event)>, JournalError> {
        let [batch, turn] = [self.batch(number), self.turn(number)];
        if let Some(bytes) = read(&batch)? {
            let findings = decode(&bytes).map_err(|problem| corrupt(&batch, problem))?;
            return Ok(Some((batch, Event::Found(findings))));
        }
        let Some(bytes) = read(&turn)? else { return Ok(None) };
        let event: Turn = unseal(&bytes).map_err(|problem| corrupt(&turn, problem))?;
        Ok(Some((turn, Event::Turn(event))))
    }

    /// That the journal holds an adversarial image that the judge is not fooled by.
    pub(super) fn unfooled(&self, index: usize) -> JournalError {
        let problem = format!(
            "its adversarial image of image {index} does not fool the model: it was changed, or computed by another \
             processor or version"
        );
        JournalError::Corrupt { path: self.folder.join("journal.json"), problem }
    }

    /// Says whose the folder is.
    fn bind(&self, here: &Fingerprint) -> Result<(), JournalError> {
        let path = self.folder.join("journal.json");
        write(&path, &here.of_first(here.count))
    }

    /// The numbers of images at which a finding was shown, with `count` as the last of them: it is noted if it is new.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if the file cannot be read or written.
    pub fn look(&self, count: usize) -> Result<Vec<usize>, JournalError> {
        let path = self.folder.join("looks.json");
        let mut looks: Vec<usize> = match read(&path)? {
            Some(bytes) => unseal(&bytes).map_err(|problem| corrupt(&path, problem))?,
            None => Vec::new(),
        };
        if looks.last() != Some(&count) {
            looks.push(count);
            write(&path, &looks)?;
        }
        Ok(looks)
    }

    /// Keeps one more event, in an evaluation of images `[_, C, H, W]`.
    pub(super) fn append(&mut self, event: &Event, shape: [usize; 4]) -> Result<(), JournalError> {
        match event {
            Event::Turn(event) => write(&self.turn(self.events), event)?,
            Event::Found(findings) => {
                let path = self.batch(self.events);
                let bytes = encode(findings, shape).map_err(|problem| corrupt(&path, problem))?;
                write_atomically(&path, &bytes).map_err(at(&path))?;
            }
        }
        self.events += 1;
        Ok(())
    }

    /// The checks that were kept for so many images, of which `count` are examined.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if the file cannot be read.
    pub fn flags(&self, images: usize, count: usize) -> Result<Option<Vec<Flag>>, JournalError> {
        let path = self.folder.join("flags.json");
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let kept: Flags = unseal(&bytes).map_err(|problem| corrupt(&path, problem))?;
        Ok(((kept.images, kept.count) == (images, count)).then_some(kept.flags))
    }

    /// Keeps checks, which follow from a complete run: resuming it does not examine the model again.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if the file cannot be written.
    pub fn keep_flags(&self, images: usize, count: usize, flags: &[Flag]) -> Result<(), JournalError> {
        let path = self.folder.join("flags.json");
        write(&path, &Flags { images, count, flags: flags.to_vec() })
    }

    fn batch(&self, number: usize) -> PathBuf {
        self.folder.join(format!("batch-{number:06}.safetensors"))
    }

    fn turn(&self, number: usize) -> PathBuf {
        self.folder.join(format!("turn-{number:06}.json"))
    }
}

/// Checks, the number of images of the evaluation, and the number of them that were examined.
#[derive(Debug, Serialize, Deserialize)]
struct Flags {
    images: usize,
    count: usize,
    flags: Vec<Flag>,
}

/// A file's content, `None` if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// With a checksum: a damaged number would be believed.
fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), JournalError> {
    let text = seal(value).map_err(|error| corrupt(path, error))?;
    write_atomically(path, text).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::File { path: path.to_owned(), source }
}

fn corrupt(path: &Path, problem: impl ToString) -> JournalError {
    JournalError::Corrupt { path: path.to_owned(), problem: problem.to_string() }
}

/// What stands for the number of a run in the files of the clean pass.
const CLEAN: &str = "clean";

fn encode(findings: &Findings, [_, channels, height, width]: [usize; 4]) -> Result<Vec<u8>, String> {
    let n = findings.rows.len();
    let rows: Vec<i64> = findings.rows.iter().map(|&row| row as i64).collect();
    let claimed: Vec<u8> = findings.claimed.iter().map(|&claim| u8::from(claim)).collect();
    // The clean pass stores no images.
    let images = if findings.run.is_none() { 0 } else { n };
    let fields = vec![
        ("rows", Field::i64(&rows, vec![n])),
        ("predictions", Field::i64(&classes_to_i64(&findings.predictions), vec![n])),
        ("claimed", Field::u8(claimed, vec![n])),
        ("images", Field::f32(&findings.images, vec![images, channels, height, width])),
    ];
    let metadata = [
        ("run", findings.run.map_or(CLEAN.to_owned(), |run| run.to_string())),
        ("seconds", findings.cost.seconds.to_string()),
        ("cell_evaluations", findings.cost.work.cell_evaluations.to_string()),
        ("vjps", findings.cost.work.vjps.to_string()),
    ];
    file(fields, metadata)
}

fn decode(bytes: &[u8]) -> Result<Findings, String> {
    let file = Fields::read(bytes)?;
    Ok(Findings {
        run: if file.text("run")? == CLEAN { None } else { Some(file.number("run")?) },
        rows: file.indices("rows")?,
        predictions: file.classes("predictions")?,
        claimed: file.u8("claimed")?.iter().map(|&claim| claim != 0).collect(),
        images: file.f32("images")?,
        cost: Cost {
            seconds: file.number("seconds")?,
            work: Work { cell_evaluations: file.number("cell_evaluations")?, vjps: file.number("vjps")? },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_back_to_the_bit() {
        let findings = Findings {
            run: Some(2),
            rows: vec![3, 0],
            predictions: vec![None, Some(7)],
            claimed: vec![true, false],
            images: vec![0.1, 0.2, 0.3, 1.0],
            cost: Cost { seconds: 0.1 + 0.2, work: Work { cell_evaluations: 17, vjps: u64::MAX } },
        };
        assert_eq!(decode(&encode(&findings, [9, 1, 1, 2]).unwrap()), Ok(findings));
    }

    #[test]
    fn files_of_another_kind_are_refused() {
        assert!(decode(b"").is_err());
        assert!(decode(b"not a safetensors file at all").is_err());
        let fields = vec![("rows", Field::i64(&[0], vec![1]))];
        assert!(decode(&safetensors::tensor::serialize(fields, None).unwrap()).is_err());
    }
}
