//! Writing a report, with advice where that fails.

use crate::ReportError;
use std::io::ErrorKind;
use std::path::Path;

/// Writes `contents` to `path` so that a reader never meets half a file: to a temporary file in the same
/// folder, flushed to disk, then renamed over `path`. On failure `path` is as it was and nothing is left
/// behind.
///
/// # Errors
/// [`ReportError::Write`], with what to do: the folder must exist and be writable.
pub fn write_atomically(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<(), ReportError> {
    let path = path.as_ref();
    equipoise_files::write_atomically(path, contents).map_err(|cause| ReportError::Write {
        path: path.to_owned(),
        advice: advice(cause.kind()),
        cause,
    })
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
