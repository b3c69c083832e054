//! `leaderboard`: a folder of records to one page, and to RobustBench's files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use equipoise_record::Collection;
use equipoise_report::board::{About, Evidence, Standing, entry, page, standings, table};
use equipoise_report::write_atomically;
use serde::Deserialize;

use super::print;
use crate::error::{Error, input};
use crate::files;
use crate::flags::Leaderboard;
use crate::records::{self, RESULTS};

const ABOUT: &str = "about.json";
const VERIFICATION: &str = "verification.json";

/// Runs the command.
pub fn run(flags: &Leaderboard) -> Result<(), Error> {
    let mut paths = Vec::new();
    for path in &flags.records {
        let found = find(path)?;
        if found.is_empty() {
            return Err(input(format!(
                "{}: there is no {RESULTS} in it or below it; give a folder that evaluate wrote",
                path.display()
            )));
        }
        paths.extend(found.into_iter().filter(|path| !paths.contains(path)).collect::<Vec<_>>());
    }
    let found = paths.iter().map(|path| Found::read(path)).collect::<Result<Vec<_>, _>>()?;
    let out = std::path::absolute(&flags.out).map_err(files::failed(&flags.out, "find"))?;
    let evidence: Vec<Evidence> = found
        .iter()
        .flat_map(|one| one.collection.models.iter().map(move |record| (one, record)))
        .map(|(one, record)| Evidence {
            record,
            link: link(&out, &one.path),
            about: one.about.clone(),
            verified: one.verified,
        })
        .collect();
    let rows = standings(&evidence).map_err(|error| input(error.to_string()))?;
    if rows.is_empty() {
        return Err(input("the records hold diagnoses alone; give what evaluate wrote"));
    }
    let html = page(&flags.title, &rows)?;
    let csv = table(&rows)?;
    files::make_folder(&flags.out)?;
    let mut written = Vec::new();
    for (name, text) in
        [("index.html".into(), html), ("leaderboard.csv".into(), csv)].into_iter().chain(entries(&rows))
    {
        let path = flags.out.join::<PathBuf>(name);
        if let Some(folder) = path.parent() {
            files::make_folder(folder)?;
        }
        write_atomically(&path, text)?;
        written.push(format!("{}\n", path.display()));
    }
    print(&written.concat())
}

/// A record with what lies beside it.
struct Found {
    path: PathBuf,
    collection: Collection,
    about: About,
    verified: Option<bool>,
}

/// What `verify --json` prints, as far as it matters here.
#[derive(Deserialize)]
struct Verified {
    verified: bool,
    /// Of the record.
    record_sha256: Option<String>,
}

impl Found {
    fn read(path: &Path) -> Result<Self, Error> {
        let about = beside(path, ABOUT)?.unwrap_or_default();
        let verified = match beside::<Verified>(path, VERIFICATION)? {
            None => None,
            Some(verified) if verified.record_sha256 == Some(files::sha256(path)?) => Some(verified.verified),
            Some(_) => {
                return Err(input(format!(
                    "{}: it speaks of another record than {} beside it; verify again with `equipoise verify {} --json`",
                    path.with_file_name(VERIFICATION).display(),
                    path.display(),
                    path.display()
                )));
            }
        };
        let path = std::path::absolute(path).map_err(files::failed(path, "find"))?;
        Ok(Self { collection: records::read(&path)?, path, about, verified })
    }
}

/// A JSON file in the same folder, if there is one.
fn beside<T: for<'de> Deserialize<'de>>(record: &Path, name: &str) -> Result<Option<T>, Error> {
    let path = record.with_file_name(name);
    if !path.exists() {
        return Ok(None);
    }
    let text = files::read_text(&path)?;
    let read = serde_json::from_str(&text);
    read.map(Some).map_err(|error| {
        input(format!("{}: {error}; `equipoise leaderboard --help` says what it holds", path.display()))
    })
}

/// Records at a path: itself, or all in a folder and below it, in the order of their paths. Links are not followed.
fn find(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = BTreeSet::from([path.to_owned()]);
    while let Some(folder) = folders.pop_first() {
        let entries = fs::read_dir(&folder).map_err(files::failed(&folder, "read"))?;
        for entry in entries {
            let entry = entry.map_err(files::failed(&folder, "read"))?;
            let kind = entry.file_type().map_err(files::failed(&entry.path(), "read"))?;
            if kind.is_dir() {
                folders.insert(entry.path());
            } else if entry.file_name() == RESULTS {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The way from the page to a record, both absolute: up, then down.
fn link(from: &Path, to: &Path) -> String {
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - shared);
    let down = to[shared..].iter().map(|part| escaped(&part.as_os_str().to_string_lossy()));
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// A part of an address: bytes that mean something there are escaped.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+,=@()".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// RobustBench's files: the folder by data and norm, the file by model and readout. Where two rows would share a name, the later
/// ones are numbered.
fn entries(rows: &[Standing]) -> Vec<(PathBuf, String)> {
    let mut written: Vec<(PathBuf, String)> = Vec::new();
    for row in rows {
        let norm = match row.norm.as_str() {
            "linf" => "Linf",
            "l2" => "L2",
            "l1" => "L1",
            other => other,
        };
        let folder = Path::new("robustbench").join(plain(&row.dataset)).join(norm);
        let name = plain(&format!("{} {}", row.model, row.readout));
        let names = (1..)
            .map(|k| folder.join(if k == 1 { format!("{name}.json") } else { format!("{name}-{k}.json") }));
        let path = names.into_iter().find(|path| written.iter().all(|(known, _)| known != path));
        let text = serde_json::to_string_pretty(&entry(row)).expect("texts and numbers") + "\n";
        written.push((path.expect("there are numbers enough"), text));
    }
    written
}

/// Letters, digits, dots and hyphens: a file's name on every system.
fn plain(text: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let joined: String = text.chars().map(kept).collect();
    joined.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_go_up_and_down() {
        let to = |from: &str, to: &str| link(Path::new(from), Path::new(to));
        assert_eq!(to("/a/board", "/a/runs/e 1/results.json"), "../runs/e%201/results.json");
        assert_eq!(to("/a", "/a/results.json"), "results.json");
    }

    #[test]
    fn names_are_files_everywhere() {
        assert_eq!(plain("CIFAR-10 (JPEG), test"), "CIFAR-10-JPEG-test");
        assert_eq!(plain("../x early(2)"), "..-x-early-2");
    }
}
