//! Everything that can end a command early, and with which exit code.

use std::io;
use std::path::PathBuf;

use equipoise::assess::AssessError;
use equipoise::checkpoint::{ImportError, ModelFileError};
use equipoise::early_exit::EarlyExitError;
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
    EarlyExit(#[from] EarlyExitError),
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
    /// What was to be verified is not as it says.
    #[error("{0}")]
    Differs(String),
    /// Something that cannot happen did.
    #[error("internal failure: {0}; please report it")]
    Internal(String),
}

impl Error {
    /// Bad usage or bad input is 2: what the user gave cannot be used, folders that cannot be written among it.
    /// Anything that goes wrong with good input is 1, a full or broken disk among it.
    pub fn exit_code(&self) -> u8 {
        if fails_good_input(self) {
            return 1;
        }
        match self {
            Self::Input(_) | Self::Io { .. } | Self::Dataset(_) | Self::Model(_) | Self::Points(_) => 2,
            Self::Import(_) | Self::Trace(_) | Self::Saved(_) => 2,
            Self::Interrupted(_) | Self::Internal(_) | Self::Save(_) | Self::Differs(_) => 1,
            Self::EarlyExit(error) => match error {
                EarlyExitError::Cancelled | EarlyExitError::Attack(_) => 1,
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
                | EvaluateError::Norm(_)
                | EvaluateError::Sharded
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

impl From<AssessError> for Error {
    fn from(error: AssessError) -> Self {
        match error {
            AssessError::Points(error) => error.into(),
            AssessError::Evaluate(error) => error.into(),
            AssessError::EarlyExit(error) => error.into(),
            AssessError::Save(error) => error.into(),
            AssessError::Npz(error) => error.into(),
            AssessError::Checks(error) => Self::Internal(error.to_string()),
            AssessError::Nothing(_) | AssessError::NoDevelopment => Self::Input(error.to_string()),
        }
    }
}

/// Whether the operating system is at the root of an error, and what was given is not to blame.
fn fails_good_input(error: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind as Kind;
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(system) = error.downcast_ref::<io::Error>()
            && system.raw_os_error().is_some()
        {
            return !matches!(
                system.kind(),
                Kind::NotFound
                    | Kind::PermissionDenied
                    | Kind::AlreadyExists
                    | Kind::NotADirectory
                    | Kind::IsADirectory
                    | Kind::DirectoryNotEmpty
                    | Kind::ReadOnlyFilesystem
                    | Kind::InvalidFilename
                    | Kind::InvalidInput
                    | Kind::ArgumentListTooLong
                    | Kind::CrossesDevices
                    | Kind::ResourceBusy
                    | Kind::Unsupported
            );
        }
        cause = error.source();
    }
    false
}

/// For `map_err`: an [`Error::Input`] of anything that can be printed.
pub fn input(problem: impl std::fmt::Display) -> Error {
    Error::Input(problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_broken_disk_is_no_bad_input_however_deep_it_lies() {
        use equipoise::checkpoint::ModelFileError;
        use equipoise::train::CheckpointError;
        let (missing, broken, full) = (2, 5, 28);
        let of = |code| io::Error::from_raw_os_error(code);
        let path = PathBuf::from("x");
        let all = |code| {
            [
                Error::Io { path: path.clone(), action: "write", source: of(code) },
                Error::from(TrainError::from(CheckpointError::from(ModelFileError::Io {
                    path: path.clone(),
                    action: "write",
                    source: of(code),
                }))),
                Error::from(ReportError::Write { path: path.clone(), advice: "", cause: of(code) }),
            ]
        };
        assert!(all(missing).iter().all(|error| error.exit_code() == 2));
        assert!(all(broken).iter().all(|error| error.exit_code() == 1));
        assert!(all(full).iter().all(|error| error.exit_code() == 1));
    }

    #[test]
    fn an_attack_that_has_no_form_for_what_is_asked_is_bad_input() {
        use equipoise::attack::{Norm, parse};
        let attack = parse("fab-t").unwrap();
        let refused: [EvaluateError; 2] =
            [attack.check(1).unwrap_err().into(), attack.check_norm(Norm::L1).unwrap_err().into()];
        for error in refused {
            assert_eq!(Error::from(error).exit_code(), 2);
        }
    }
}
