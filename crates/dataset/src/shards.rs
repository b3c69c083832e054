//! Which parquet files make up a split: one whole file or all of its shards, each once.
//!
//! Names that are understood, in any case: `SPLIT.parquet`; `SPLIT-00000-of-00003.parquet`, as Hugging Face writes
//! them, with or without a hash at the end; `SPLIT-0000.parquet`, or `0000.parquet` in a folder SPLIT, numbered from
//! 0. What does not add up is refused: a shard that is missing would silently be another data set, and rows that are
//! there twice would count twice.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{DatasetError, Split};

/// The files of a split.
#[derive(Debug)]
pub(crate) struct Files {
    /// In the order of their rows.
    pub paths: Vec<PathBuf>,
    /// Parquet files beside them that belong to neither split.
    pub others: Vec<String>,
}

/// The part of its split that a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Whole,
    /// The shard `at` of so many; how many is not known where shards are only numbered.
    Shard {
        at: usize,
        of: Option<usize>,
    },
    /// A name that does not say.
    Unknown,
}

/// The files of a split in `folder`, or below it at one of `below` (of which the first is the folder itself). `None`
/// when there are none at all.
pub(crate) fn find(folder: &Path, below: &[&str], split: Split) -> Result<Option<Files>, DatasetError> {
    let mut found: Vec<(PathBuf, Vec<(String, Part)>)> = Vec::new();
    let mut others = Vec::new();
    for below in below {
        let folder = if below.is_empty() { folder.to_owned() } else { folder.join(below) };
        let mut parts = Vec::new();
        for name in parquet_names(&folder)? {
            match part(&name, split) {
                Some(part) => parts.push((name, part)),
                None if Split::ALL.iter().all(|&split| part(&name, split).is_none()) => others.push(name),
                None => {}
            }
        }
        if !parts.is_empty() {
            found.push((folder.clone(), parts));
        }
        // Numbered files in a folder that is called like the split.
        let numbered = folder.join(split.name());
        let parts = parquet_names(&numbered)?.into_iter().map(|name| {
            let part = numbered_part(stem(&name)).or_else(|| part(&name, split)).unwrap_or(Part::Unknown);
            (name, part)
        });
        let parts: Vec<_> = parts.collect();
        if !parts.is_empty() {
            found.push((numbered, parts));
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [(folder, parts)] => Ok(Some(Files { paths: complete(folder, parts, split)?, others })),
        [(first, a), (second, b), ..] => Err(DatasetError::format(
            folder.display(),
            format!(
                "the {split} split is there twice, as {} and as {}",
                first.join(&a[0].0).display(),
                second.join(&b[0].0).display()
            ),
            "give the folder of one of them, or remove the other",
        )),
    }
}

/// The names of the parquet files in a folder, sorted; none where there is no such folder. Hidden files are none.
fn parquet_names(folder: &Path) -> Result<Vec<String>, DatasetError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let unreadable = |error| DatasetError::read(folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && name.to_lowercase().ends_with(ENDING) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

const ENDING: &str = ".parquet";

/// A name without its ending.
fn stem(name: &str) -> &str {
    &name[..name.len() - ENDING.len()]
}

/// The part of the split that a file of this name is; `None` where it does not begin with the name of the split.
fn part(name: &str, split: Split) -> Option<Part> {
    let lower = stem(name).to_lowercase();
    let rest = lower.strip_prefix(split.name())?;
    Some(match rest.strip_prefix(['-', '_', '.']) {
        None if rest.is_empty() => Part::Whole,
        Some(rest) => numbered_part(rest).or_else(|| shard(rest)).unwrap_or(Part::Unknown),
        None => Part::Unknown,
    })
}

/// `0000`.
fn numbered_part(text: &str) -> Option<Part> {
    Some(Part::Shard { at: digits(text)?, of: None })
}

/// `00000-of-00003`, with or without something like a hash or a codec after it.
fn shard(text: &str) -> Option<Part> {
    let mut words = text.split(['-', '_', '.']);
    let at = digits(words.next()?)?;
    let of = words.next().filter(|&word| word == "of").and(words.next())?;
    Some(Part::Shard { at, of: Some(digits(of)?) })
}

fn digits(text: &str) -> Option<usize> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The files in order, when they are one whole file or all shards once.
fn complete(folder: &Path, parts: &[(String, Part)], split: Split) -> Result<Vec<PathBuf>, DatasetError> {
    let wrong = |problem: String, advice: &str| Err(DatasetError::format(folder.display(), problem, advice));
    if let Some((name, _)) = parts.iter().find(|(_, part)| *part == Part::Unknown) {
        return wrong(
            format!("the name {name} does not say which part of the {split} split it is"),
            &format!("call it {split}.parquet or {split}-00000-of-00001.parquet, or move it elsewhere"),
        );
    }
    let twice = |first: &str, second: &str| {
        let problem = format!("{first} and {second} hold the same rows of the {split} split");
        wrong(problem, "keep one of them, or move the other elsewhere")
    };
    if let Some((whole, _)) = parts.iter().find(|(_, part)| *part == Part::Whole) {
        return match parts.iter().find(|(name, _)| name != whole) {
            Some((other, _)) => twice(whole, other),
            None => Ok(vec![folder.join(whole)]),
        };
    }
    let mut shards: Vec<(usize, &str, Option<usize>)> = Vec::new();
    for (name, part) in parts {
        if let Part::Shard { at, of } = *part {
            shards.push((at, name, of));
        }
    }
    shards.sort();
    let (_, first, of) = shards[0];
    if let Some((_, name, _)) = shards.iter().find(|shard| shard.2 != of) {
        let problem = format!(
            "{first} and {name} are not shards of one whole: their names disagree on how many there are"
        );
        return wrong(problem, "keep the shards of one of them");
    }
    if let Some(pair) = shards.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return twice(pair[0].1, pair[1].1);
    }
    let last = shards[shards.len() - 1];
    let count = of.unwrap_or(last.0 + 1);
    if last.0 >= count {
        return wrong(
            format!("{} is numbered beyond the {count} shards that its name announces", last.1),
            "shards are numbered from 0; rename or remove it",
        );
    }
    let is_there = |at: &usize| shards.binary_search_by_key(at, |shard| shard.0).is_ok();
    let missing: Vec<String> =
        (0..count).filter(|at| !is_there(at)).take(4).map(|at| renumbered(first, at)).collect();
    if !missing.is_empty() {
        let all = count - shards.len();
        let more =
            if all > missing.len() { format!(" and {} more", all - missing.len()) } else { String::new() };
        return Err(DatasetError::Missing {
            place: folder.display().to_string(),
            missing: format!("{}{more}", missing.join(", ")),
            advice: format!(
                "{} of {count} shards of the {split} split are there; get the others",
                shards.len()
            ),
        });
    }
    Ok(shards.into_iter().map(|(_, name, _)| folder.join(name)).collect())
}

/// The name of another shard, up to what follows the numbers.
fn renumbered(name: &str, at: usize) -> String {
    let start = name.find(|char: char| char.is_ascii_digit()).unwrap_or(0);
    let width = name[start..].bytes().take_while(u8::is_ascii_digit).count();
    let rest = &name[start + width..];
    let kept = if rest.to_lowercase().starts_with("-of-") {
        4 + rest[4..].bytes().take_while(u8::is_ascii_digit).count()
    } else {
        0
    };
    format!("{}{at:0width$}{}", &name[..start], &rest[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_part_a_file_is() {
        let shard = |at, of| Some(Part::Shard { at, of });
        for (name, expected) in [
            ("train.parquet", Some(Part::Whole)),
            ("Train.PARQUET", Some(Part::Whole)),
            ("train-00001-of-00003.parquet", shard(1, Some(3))),
            ("TRAIN-00001-OF-00003.Parquet", shard(1, Some(3))),
            ("train-00001-of-00003-b42cd0b5b4a9f9a5.parquet", shard(1, Some(3))),
            ("train_1_of_3.zstd.parquet", shard(1, Some(3))),
            ("train-0002.parquet", shard(2, None)),
            ("train_7.parquet", shard(7, None)),
            ("training.parquet", Some(Part::Unknown)),
            ("train (1).parquet", Some(Part::Unknown)),
            ("train-old.parquet", Some(Part::Unknown)),
            ("train-00001-of.parquet", Some(Part::Unknown)),
            ("train-1-of-x.parquet", Some(Part::Unknown)),
            ("test.parquet", None),
            ("validation.parquet", None),
        ] {
            assert_eq!(part(name, Split::Train), expected, "{name}");
        }
    }

    /// The names of the files of the test split among these, or what is wrong with them.
    fn found(names: &[&str]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let files = find(folder.path(), &["", "data"], Split::Test).map_err(|error| error.to_string())?;
        let files = files.map_or(Vec::new(), |files| files.paths);
        let below = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
        Ok(files.iter().map(below).collect())
    }

    #[test]
    fn complete_shards_are_taken_in_order() {
        assert_eq!(found(&[]).unwrap(), [""; 0]);
        assert_eq!(found(&["train.parquet", "validation.parquet"]).unwrap(), [""; 0]);
        assert_eq!(found(&["test.parquet", "train.parquet", ".test.parquet"]).unwrap(), ["test.parquet"]);
        let shards = ["test-1-of-3.parquet", "test-02-of-3-ab.parquet", "test-0-of-3.parquet"];
        assert_eq!(found(&shards).unwrap(), [shards[2], shards[0], shards[1]]);
        assert_eq!(
            found(&["data/test-00000-of-00001.parquet"]).unwrap(),
            ["data/test-00000-of-00001.parquet"]
        );
        assert_eq!(
            found(&["test/0001.parquet", "test/0000.parquet"]).unwrap(),
            ["test/0000.parquet", "test/0001.parquet"]
        );
        assert_eq!(
            found(&["test-0.parquet", "test-1.parquet"]).unwrap(),
            ["test-0.parquet", "test-1.parquet"]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (names, parts) in [
            (
                &["test-00000-of-00003.parquet", "test-00002-of-00003.parquet"][..],
                &["test-00001-of-00003 not found", "2 of 3"][..],
            ),
            (&["test-00000-of-00002.parquet"], &["test-00001-of-00002 not found", "1 of 2"]),
            (
                &["test-3-of-9.parquet"],
                &["test-0-of-9, test-1-of-9, test-2-of-9, test-4-of-9 and 4 more not found"],
            ),
            (&["test-0.parquet", "test-2.parquet"], &["test-1 not found"]),
            (&["test/0001.parquet"], &["0000 not found"]),
        ] {
            let message = found(names).unwrap_err();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn what_is_there_twice_is_named() {
        for (names, parts) in [
            (
                &["test.parquet", "test-00000-of-00001.parquet"][..],
                &["test.parquet", "test-00000-of-00001", "same rows"][..],
            ),
            (&["test.parquet", "TEST.parquet"], &["TEST.parquet and test.parquet"]),
            (&["test.parquet", "test-0.parquet"], &["same rows"]),
            (&["test-0-of-1.parquet", "test-00-of-1.parquet"], &["same rows"]),
            (&["test-0-of-1-ab.parquet", "test-0-of-1-cd.parquet"], &["same rows"]),
            (&["test-0-of-1.parquet", "test-1-of-2.parquet"], &["disagree"]),
            (&["test-0-of-1.parquet", "test-1.parquet"], &["disagree"]),
            (&["test-1-of-1.parquet"], &["beyond the 1 shards"]),
            (&["test.parquet", "data/test.parquet"], &["twice", "data"]),
            (&["data/test.parquet", "data/test/0000.parquet"], &["twice"]),
            (&["test.parquet", "test (1).parquet"], &["test (1).parquet does not say"]),
            (&["test/part-x.parquet"], &["part-x.parquet does not say"]),
        ] {
            let message = found(names).unwrap_err();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }
}
