//! The arguments of this process, completed by those of the run that it resumes.
//!
//! `evaluate`, `diagnose` and `certify` leave their arguments in the folder that they write to. `--resume --out FOLDER` is then enough
//! to go on; flags that are given anew replace those of old. `merge FOLDER` is the evaluation of which the shards in it are
//! parts.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::error::{Error, input};
use crate::files;
use crate::flags::{Cli, Command, Merge};
use crate::shards::Shards;

/// The file in a run's folder.
const FILE: &str = "command.json";

/// The commands that keep their arguments.
const COMMANDS: [&str; 3] = ["evaluate", "diagnose", "certify"];

/// The command that unites shards, and the flag of `evaluate` that it stands for.
const MERGE: &str = "merge";
pub const MERGED: &str = "--merged";

/// Flags in which shards of one evaluation may differ: which they are, where their files are, and how they were computed.
const OF_A_SHARD: [&str; 11] = [
    "--shard",
    "--out",
    "--resume",
    "--model",
    "--data",
    "--batch-size",
    "--threads",
    "--quiet",
    "-q",
    "--verbose",
    "-v",
];

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The version that wrote it.
    equipoise: String,
    /// What stands after the program's name, without `--resume` and `--out`.
    arguments: Vec<String>,
}

static ARGUMENTS: OnceLock<Vec<String>> = OnceLock::new();

/// What stands after the program's name, completed.
pub fn all() -> &'static [String] {
    ARGUMENTS.get_or_init(given)
}

fn given() -> Vec<String> {
    std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// Completes the arguments of a run that is resumed by its folder alone.
pub fn complete() -> Result<(), Error> {
    let given = given();
    if let Some((folder, anew)) = merging(&given) {
        let mut arguments = merged(without_shard(&Shards::complete(&folder)?.command), anew);
        arguments.extend(["--out".to_owned(), folder.display().to_string(), MERGED.to_owned()]);
        let _ = ARGUMENTS.set(arguments);
        return Ok(());
    }
    let completed = match resumed(&given) {
        None => given,
        Some(folder) => match read(&folder)? {
            None => given,
            Some(kept) => merged(kept, given),
        },
    };
    // Nobody has asked for them before.
    let _ = ARGUMENTS.set(completed);
    Ok(())
}

/// What a run's folder kept before.
pub struct Before {
    path: PathBuf,
    text: Option<String>,
}

impl Before {
    /// What it keeps now. A file that cannot be read was refused when the arguments were completed, if it was needed.
    pub fn of(folder: &Path) -> Self {
        let path = folder.join(FILE);
        Self { text: std::fs::read_to_string(&path).ok(), path }
    }

    /// Puts it back: a run that is refused leaves the arguments of the one that it would have gone on with.
    pub fn put_back(&self) {
        let Self { path, text } = self;
        let back = text.as_ref().map(|text| equipoise_report::write_atomically(path, text));
        if let Some(Err(error)) = back {
            tracing::warn!("{error}");
        }
    }
}

/// Keeps the arguments in a run's folder.
pub fn keep(folder: &Path) -> Result<(), Error> {
    let kept = Kept { equipoise: env!("CARGO_PKG_VERSION").to_owned(), arguments: without_folder(all()) };
    let text = serde_json::to_string_pretty(&kept).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(equipoise_report::write_atomically(folder.join(FILE), text + "\n")?)
}

/// All of them but how the run came to its end, with `--out` as the last.
pub fn folder_last() -> Vec<String> {
    let all = without(all(), &["--resume", MERGED]);
    let folder = groups(&all).into_iter().filter(|group| group.flag == Some("--out"));
    let folder: Vec<String> = folder.flat_map(|group| group.whole).cloned().collect();
    without(&all, &["--out"]).into_iter().chain(folder).collect()
}

/// Without `--resume` and `--out`: the folder may be moved, and is named when it is resumed.
fn without_folder(arguments: &[String]) -> Vec<String> {
    without(arguments, &["--resume", "--out", MERGED])
}

/// Without the flag that says which shard it is.
pub fn without_shard(arguments: &[String]) -> Vec<String> {
    without(arguments, &["--shard"])
}

/// What the commands of all shards of an evaluation have alike.
pub fn of_all_shards(arguments: &[String]) -> Vec<String> {
    without(arguments, &OF_A_SHARD)
}

fn without(arguments: &[String], flags: &[&str]) -> Vec<String> {
    groups(arguments)
        .iter()
        .filter(|group| !group.flag.is_some_and(|flag| flags.contains(&flag)))
        .flat_map(|group| &group.whole)
        .map(|&a| a.clone())
        .collect()
}

/// The folder whose shards are to be united, and the flags that are given anew; `None` for another command, or what is none.
fn merging(arguments: &[String]) -> Option<(PathBuf, Vec<String>)> {
    let words = std::iter::once("equipoise").chain(arguments.iter().map(String::as_str));
    let Command::Merge(Merge { folder, anew }) = Cli::try_parse_from(words).ok()?.command else {
        return None;
    };
    let before = arguments.iter().take_while(|argument| *argument != MERGE);
    Some((folder, before.chain(&anew).cloned().collect()))
}

/// The arguments that a folder keeps.
pub fn read(folder: &Path) -> Result<Option<Vec<String>>, Error> {
    let path = &folder.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let kept: Kept =
        serde_json::from_str(&files::read_text_within(path, files::SHORT)?).map_err(|error| {
            input(format!("{}: {error}; give all flags of the run that is to be resumed", path.display()))
        })?;
    Ok(Some(kept.arguments))
}

/// The folder of a run that is to be resumed without saying what it was.
fn resumed(arguments: &[String]) -> Option<PathBuf> {
    let groups = groups(arguments);
    let flag = |name: &str| groups.iter().find(|group| group.flag == Some(name));
    let known = COMMANDS.iter().any(|command| arguments.iter().any(|argument| argument == command));
    if !known || flag("--resume").is_none() || flag("--model").is_some() {
        return None;
    }
    let out = flag("--out")?.values.first()?;
    Some(PathBuf::from(out))
}

/// A flag with its values, or what stands before the first flag.
struct Group<'a> {
    flag: Option<&'a str>,
    values: Vec<&'a str>,
    /// The arguments as they are.
    whole: Vec<&'a String>,
}

fn groups(arguments: &[String]) -> Vec<Group<'_>> {
    let mut groups = vec![Group { flag: None, values: Vec::new(), whole: Vec::new() }];
    for argument in arguments {
        let is_flag = argument.starts_with("--")
            || (argument.starts_with('-') && argument[1..].starts_with(|c: char| c.is_ascii_alphabetic()));
        if is_flag {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (argument.as_str(), None),
            };
            groups.push(Group {
                flag: Some(flag),
                values: value.into_iter().collect(),
                whole: vec![argument],
            });
        } else if let Some(last) = groups.last_mut() {
            last.values.push(argument);
            last.whole.push(argument);
        }
    }
    groups
}

/// The arguments of old, but for the flags that are given anew.
fn merged(kept: Vec<String>, given: Vec<String>) -> Vec<String> {
    let new = groups(&given);
    let replaced =
        |group: &Group<'_>| new.iter().any(|other| group.flag.is_some() && other.flag == group.flag);
    let mut arguments: Vec<String> = groups(&kept)
        .iter()
        .filter(|group| !replaced(group))
        .flat_map(|group| &group.whole)
        .map(|&a| a.clone())
        .collect();
    // The command itself stands in both.
    arguments.extend(given.into_iter().filter(|argument| !COMMANDS.contains(&argument.as_str())));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(String::from).collect()
    }

    #[test]
    fn flags_given_anew_replace_those_of_old() {
        let kept = words("evaluate --model a b --data digits --count 10 --eps=0.1 --out x --seed 3");
        let given = words("evaluate --resume --out x --count=20 -q");
        assert_eq!(resumed(&given), Some("x".into()));
        let expected =
            words("evaluate --model a b --data digits --eps=0.1 --seed 3 --resume --out x --count=20 -q");
        assert_eq!(merged(kept, given), expected);
        let moved = words("evaluate --resume --model a --out x --count 3 --out=y -q");
        assert_eq!(without_folder(&moved), words("evaluate --model a --count 3 -q"));
        for other in [
            "evaluate --resume --model a --out x",
            "evaluate --out x",
            "train --resume --out x",
            "evaluate --resume",
        ] {
            assert_eq!(resumed(&words(other)), None, "{other}");
        }
    }

    equipoise_fuzz::fuzz!(kept_arguments, 1000, {
        let arguments = words("evaluate --model a b --data digits --count 10 --eps=0.1 --out x --seed 3");
        let kept = Kept { equipoise: "0.1.0".into(), arguments };
        let text = serde_json::to_string(&kept).unwrap();
        let sample = equipoise_fuzz::Sample::of(FILE, text, equipoise_fuzz::mutate::json);
        equipoise_fuzz::Target::new(vec![sample], |folder| {
            let kept = read(folder).map_err(|error| error.to_string())?.unwrap();
            let merged = merged(kept, words("evaluate --resume --out x --count=20 -q"));
            let all = std::iter::once("equipoise".to_owned()).chain(merged);
            // Flags that are no flags are refused in clap's words.
            let _ = <crate::flags::Cli as clap::Parser>::try_parse_from(all);
            Ok(())
        })
    });
}
