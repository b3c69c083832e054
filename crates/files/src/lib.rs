//! Files are replaced atomically (written beside their place, then renamed), and errors of the file system come with advice.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

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
    // A rename is atomic within one file system only, hence the same folder.
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".equipoise-");
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

/// What to do about an error of the file system, for the end of a message: `cannot read FILE: ERROR; ADVICE`.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "check the path",
        ErrorKind::NotADirectory => "check the path: a part of it is a file, not a folder",
        ErrorKind::IsADirectory => "check the path: this is a folder, and a file is needed",
        ErrorKind::ReadOnlyFilesystem => "choose a place that can be written to",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space, or choose another disk",
        _ => "check the path and its permissions",
    }
}

/// `tempfile` puts the temporary file's path into its errors; the user knows only the path asked for.
fn without_temporary_path(error: io::Error) -> io::Error {
    match error.kind() {
        _ if error.raw_os_error().is_some() => error,
        kind @ ErrorKind::NotFound => io::Error::new(kind, "no such folder"),
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
        assert_eq!(nowhere.to_string(), "no such folder");
        assert_eq!(names(folder.path()), ["taken"]);
    }
}
