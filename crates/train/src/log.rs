//! The log: a line of JSON per step in `steps.jsonl`, and per epoch in `log.jsonl`, for any plotting tool.
//!
//! A resumed run first cuts the steps' lines back to its checkpoint, so that the file ends as that of a run that was
//! never interrupted.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::checkpoint::CheckpointError;
use super::trainer::{EpochReport, StepReport};
use equipoise_deq::checkpoint::{ModelFileError, write_atomically};

const STEPS: &str = "steps.jsonl";
const EPOCHS: &str = "log.jsonl";

/// The steps' file, open at its end.
pub struct StepLog {
    file: File,
    path: PathBuf,
}

impl StepLog {
    /// Opens the file of a run that has taken so many steps; lines of later steps are dropped.
    pub fn open(folder: &Path, steps: usize) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Line {
            step: usize,
        }
        let path = folder.join(STEPS);
        let failed = |action| {
            let path = path.clone();
            move |source| CheckpointError::Io { path, action, source }
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed("read")(error)),
        };
        // A line that was cut off by a crash is not JSON, and is dropped too.
        let earlier = |line: &&str| serde_json::from_str(line).is_ok_and(|Line { step }| step <= steps);
        let kept: String = text.lines().filter(earlier).map(|line| format!("{line}\n")).collect();
        write_atomically(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(failed("open"))?;
        Ok(Self { file, path })
    }

    /// Adds a step.
    pub fn write(&mut self, report: &StepReport) -> Result<(), CheckpointError> {
        let line = serde_json::to_string(report).map_err(std::io::Error::other);
        line.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()))
            .map_err(|source| CheckpointError::Io { path: self.path.clone(), action: "write", source })
    }
}

/// Writes the epochs' file whole.
pub fn write_epochs(folder: &Path, history: &[EpochReport]) -> Result<(), ModelFileError> {
    let line = |report: &EpochReport| serde_json::to_string(report).map(|line| line + "\n");
    let path = folder.join(EPOCHS);
    let lines: Result<String, _> = history.iter().map(line).collect();
    let lines = lines.map_err(|error| ModelFileError::Io {
        path: path.clone(),
        action: "write",
        source: std::io::Error::other(error),
    })?;
    write_atomically(&path, lines.as_bytes())
}
