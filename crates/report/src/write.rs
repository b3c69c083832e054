//! A file is either the old one or the new one, never half of each: write beside it, then rename.

use crate::ReportError;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Writes `contents` to `path` so that a reader never meets half a file: to a temporary file in the same
/// folder, flushed to disk, then renamed over `path`. On failure `path` is as it was and nothing is left
/// behind.
///
/// # Errors
/// [`ReportError::Write`], with what to do: the folder must exist and be writable.
pub fn write_atomically(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<(), ReportError> {
    let path = path.as_ref();
    write(path, contents.as_ref()).map_err(|cause| ReportError::Write {
        path: path.to_owned(),
        advice: advice(cause.kind()),
        cause,
    })
}

fn write(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    // A rename is atomic within one file system only, hence the same folder.
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".equipoise-");
    #[cfg(unix)]
    {
        // A temporary file is private by default; a report gets what the user's umask allows.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(without_temporary_path)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?; // a file that is not persisted is removed when dropped
    Ok(())
}

/// `tempfile` puts the temporary file's path into its errors; the user knows only the path asked for.
fn without_temporary_path(error: std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(_) => error,
        None => error.kind().into(),
    }
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "its folder does not exist: create it or choose another",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "the folder is not writable: change its permissions or choose another"
        }
        ErrorKind::NotADirectory => "a part of the path is a file, not a folder: choose another path",
        ErrorKind::IsADirectory => "there is a folder of that name: choose another name",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space or choose another disk",
        _ => "check the path or choose another",
    }
}
