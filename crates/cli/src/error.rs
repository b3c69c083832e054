//! Everything that can end a command early, and with which exit code.

use std::io;
use std::path::PathBuf;

use equipoise::checkpoint::{ImportError, ModelFileError};
use equipoise::defense::DefenseError;
use equipoise::evaluate::{EvaluateError, PointsError, SaveError, SavedError};
use equipoise::trace::TraceError;
use equipoise::train::TrainError;
use equipoise_dataset::DatasetError;
use equipoise_report::ReportError;

/// Why a command ended. The message is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag, a value, or a file given by the user that cannot be used.
    #[error("{0}")]
    Input(String),
    /// Ctrl-C. What was done so far is kept; the message says how to go on.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// A file or folder that cannot be read or written.
    #[error("{}: cannot {action}: {source}; {}", .path.display(), equipoise_files::advice(.source))]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A data set.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A model file.
    #[error(transparent)]
    Model(#[from] ModelFileError),
    /// Points to evaluate.
    #[error(transparent)]
    Points(#[from] PointsError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// An evaluation.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The choice of an early readout.
    #[error(transparent)]
    Defense(#[from] DefenseError),
    /// Adversarial images that could not be written.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// Adversarial images that cannot be used.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// Weights from elsewhere.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A trace.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Something that cannot happen did.
    #[error("internal failure: {0}; please report it")]
    Internal(String),
}

impl Error {
    /// Bad usage or bad input is 2: what the user gave cannot be used, folders that cannot be written among it.
    /// Anything that goes wrong with good input is 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Io { .. } | Self::Dataset(_) | Self::Model(_) | Self::Points(_) => 2,
            Self::Import(_) | Self::Trace(_) | Self::Saved(_) => 2,
            Self::Interrupted(_) | Self::Internal(_) | Self::Save(_) => 1,
            Self::Defense(error) => match error {
                DefenseError::Cancelled | DefenseError::Attack(_) => 1,
                _ => 2,
            },
            Self::Train(error) => match error {
                TrainError::NonFinite { .. } => 1,
                _ => 2,
            },
            Self::Evaluate(error) => match error {
                EvaluateError::BatchSize
                | EvaluateError::Label { .. }
                | EvaluateError::Classes(_)
                | EvaluateError::Journal(_) => 2,
                _ => 1,
            },
            Self::Report(error) => match error {
                ReportError::Json(_) | ReportError::Csv(_) | ReportError::Pdf(_) => 1,
                _ => 2,
            },
        }
    }
}

/// For `map_err`: an [`Error::Input`] of anything that can be printed.
pub fn input(problem: impl std::fmt::Display) -> Error {
    Error::Input(problem.to_string())
}
