//! Files are replaced atomically (written beside their place, then renamed), a folder has one writer, what is read back
//! carries checksums, and errors of the file system come with advice.

mod lock;
mod sums;

pub use lock::{Lock, claim, lock};
pub use sums::{SUMS, damage, seal, sha256, sums, unseal};

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// How the names of temporary files and folders begin.
const TEMPORARY: &str = ".equipoise-";

/// Writes `contents` to `path` so that a reader never meets half a file: to a temporary file in the same folder,
/// flushed to disk, then renamed over `path`.
///
/// # Errors
///
/// What the operating system says. `path` is as it was then, and nothing is left behind.
pub fn write_atomically(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    write_atomically_with(path, |file| file.write_all(contents.as_ref()))
}

/// [`write_atomically`] for contents that are written piece by piece. `write` must flush buffers of its own.
///
/// # Errors
///
/// As for [`write_atomically`], and those of `write`.
pub fn write_atomically_with(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let path = path.as_ref();
    let folder = beside(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    {
        // A temporary file is private by default; a result gets what the user's umask allows.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(without_temporary_path)?;
    write(file.as_file_mut())?;
    // On disk before it gets its name: a crash must not leave an empty file under it.
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?; // a file that is not persisted is removed when dropped
    Ok(())
}

/// Makes a folder of some files, each a name and its contents, so that a reader never meets half of it: in a temporary
/// folder beside `path`, flushed to disk, then renamed. An empty folder of that name gives way.
///
/// # Errors
///
/// What the operating system says; among it, that there is a folder with something in it. `path` is as it was then, and
/// nothing is left behind.
pub fn write_folder_atomically<'a>(
    path: impl AsRef<Path>,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> io::Result<()> {
    let path = path.as_ref();
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    {
        // As for a file: not private, but what the user's umask allows.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    let folder = builder.tempdir_in(beside(path)).map_err(without_temporary_path)?;
    for (name, contents) in files {
        let mut file = File::create_new(folder.path().join(name))?;
        file.write_all(contents)?;
        file.sync_all()?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(folder.path(), path)?; // a folder that is not renamed is removed when dropped
    let _ = folder.keep();
    Ok(())
}

/// Removes the temporary files and folders that killed writers left in a folder and those below it. Nobody may be writing
/// there: hold a [`lock`].
///
/// # Errors
///
/// What the operating system says.
pub fn sweep(folder: impl AsRef<Path>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        match (kind.is_dir(), is_temporary(&entry.file_name())) {
            (true, true) => fs::remove_dir_all(path)?,
            (true, false) => sweep(path)?,
            (false, true) => fs::remove_file(path)?,
            (false, false) => {}
        }
    }
    Ok(())
}

/// Whether a folder holds anything but what a killed writer left before it wrote anything; not if there is no such folder.
///
/// # Errors
///
/// What the operating system says.
pub fn has_content(folder: impl AsRef<Path>) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        if name != lock::NAME && !is_temporary(&name) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(TEMPORARY))
}

/// Where to write before renaming: a rename is atomic within one file system only, hence the same folder.
fn beside(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What to do about an error of the file system, for the end of a message: `cannot read FILE: ERROR; ADVICE`.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "check the path",
        ErrorKind::NotADirectory => "check the path: a part of it is a file, not a folder",
        ErrorKind::IsADirectory => "check the path: this is a folder, and a file is needed",
        ErrorKind::ReadOnlyFilesystem => "choose a place that can be written to",
        ErrorKind::ResourceBusy => "wait for it to end, or give another folder",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space, or choose another disk",
        _ => "check the path and its permissions",
    }
}

/// `tempfile` puts the temporary file's path into its errors; the user knows only the path asked for.
fn without_temporary_path(error: io::Error) -> io::Error {
    match error.kind() {
        _ if error.raw_os_error().is_some() => error,
        kind @ ErrorKind::NotFound => {
            io::Error::new(kind, "no such folder, or none that files can be made in")
        }
        kind => kind.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_write_replaces_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, "a longer text").unwrap();
        write_atomically(&path, "short").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn advice_fits_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "a file").unwrap();
        let read = |path: &Path| advice(&std::fs::read(path).unwrap_err());
        assert_eq!(read(&folder.path().join("none")), "check the path");
        assert!(read(folder.path()).contains("this is a folder"));
        assert!(read(&file.join("below")).contains("a part of it is a file"));
        let full = advice(&ErrorKind::StorageFull.into());
        assert!(full.contains("free some space"), "{full}");
        assert!(!advice(&ErrorKind::PermissionDenied.into()).contains("space"));
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::create_dir_all(taken.join("inside")).unwrap();
        assert!(write_atomically(&taken, "content").is_err());
        let half = |file: &mut File| file.write_all(b"half").and_then(|()| Err(io::Error::other("cut")));
        assert!(write_atomically_with(folder.path().join("new"), half).is_err());
        let nowhere = write_atomically(folder.path().join("no/file"), "content").unwrap_err();
        assert!(nowhere.to_string().starts_with("no such folder"), "{nowhere}");
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn a_folder_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub");
        let files: [(&str, &[u8]); 2] = [("a", b"one"), ("b", b"two")];
        write_folder_atomically(&path, files).unwrap();
        assert_eq!((names(folder.path()).len(), names(&path).len()), (1, 2));
        assert_eq!(std::fs::read(path.join("b")).unwrap(), b"two");
        // One with something in it stays, an empty one gives way.
        assert!(write_folder_atomically(&path, [("c", b"three".as_slice())]).is_err());
        assert_eq!(names(&path).len(), 2);
        let empty = folder.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        write_folder_atomically(&empty, files).unwrap();
        assert_eq!(names(&empty).len(), 2);
        // What cannot be written leaves nothing behind.
        let twice: [(&str, &[u8]); 2] = [("a", b"one"), ("a", b"two")];
        assert!(write_folder_atomically(folder.path().join("no"), twice).is_err());
        assert!(write_folder_atomically(folder.path().join("no/hub"), files).is_err());
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, ["empty", "hub"]);
    }

    #[test]
    fn what_killed_writers_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("journal/final");
        fs::create_dir_all(below.join(".equipoise-abc")).unwrap();
        fs::write(below.join(".equipoise-abc/half"), "half").unwrap();
        fs::write(folder.path().join(".equipoise-def"), "half").unwrap();
        assert!(has_content(folder.path()).unwrap());
        assert!(!has_content(below.join(".equipoise-abc/none")).unwrap());
        assert!(!has_content(&below).unwrap(), "what a killed writer left is none");
        fs::write(below.join("batch"), "whole").unwrap();
        assert!(has_content(&below).unwrap());
        sweep(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["journal"]);
        assert_eq!(names(&below), ["batch"]);
        assert!(sweep(folder.path().join("none")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_can_be_read_by_others() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub");
        write_folder_atomically(&path, [("a", b"one".as_slice())]).unwrap();
        let plain = folder.path().join("plain");
        std::fs::create_dir(&plain).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }
}
