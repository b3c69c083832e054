//! Files and folders: making them, hashing them, saying who they belong to.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use equipoise_files::Lock;
pub use equipoise_files::sha256 as digest;

use crate::error::{Error, input};
use crate::printable::printable;

/// An [`Error::Io`].
pub fn failed(path: &Path, action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), action, source }
}

/// Makes the folder of `--out` and those above it.
pub fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|error| no_folder(path, &error))
}

/// Makes the folder of `--out` for the only run that writes to it until the lock is dropped. One that is resumed loses what
/// a killed run left half written.
pub fn claim(path: &Path, resume: bool) -> Result<Lock, Error> {
    make_folder(path)?;
    let lock = equipoise_files::claim(path, resume).map_err(failed(path, "write to this folder"))?;
    if let Some(warning) = lock.warning() {
        tracing::warn!("{warning}");
    }
    Ok(lock)
}

/// Whether there is anything in the folder of `--out`, or in one below it; not if there is no such folder.
pub fn has_content(path: &Path) -> Result<bool, Error> {
    equipoise_files::has_content(path).map_err(|error| no_folder(path, &error))
}

/// `--out` names something that is no folder and cannot become one.
fn no_folder(path: &Path, error: &io::Error) -> Error {
    if let Some(file) = path.ancestors().find(|part| part.is_file()) {
        return input(format!(
            "--out: {} is a file, and a folder is needed for results; give another --out",
            file.display()
        ));
    }
    let advice = equipoise_files::advice(error);
    input(format!("--out {}: {error}; {advice}, or give another --out", path.display()))
}

/// The SHA-256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> Result<String, Error> {
    Ok(digest(&fs::read(path).map_err(failed(path, "read"))?))
}

/// The most bytes of a text that people write by hand.
pub const SHORT: u64 = 1 << 20;

/// Reads a text file of at most so many bytes.
pub fn read_text_within(path: &Path, most: u64) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(failed(path, "read"))?;
    if bytes.len() as u64 > most {
        return Err(input(format!("{}: longer than {most} bytes; is this the right file?", path.display())));
    }
    String::from_utf8(bytes).map_err(|error| input(format!("{}: not text: {error}", path.display())))
}

/// Reads a text file.
pub fn read_text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(failed(path, "read"))
}

/// To stdout, without control characters. Whoever reads it may stop reading.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(printable(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(failed(Path::new("standard output"), "write")(error))
        }
        _ => Ok(()),
    }
}
