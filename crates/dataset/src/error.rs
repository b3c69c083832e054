//! What can be wrong with a data set. Every message is one line: where, what, and what to do.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Why a data set could not be read, made or written.
///
/// `place` fields say where the fault is: a file, and within it a row, record, array or byte.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A `--data` specification that means nothing.
    #[error("data set \"{spec}\": {problem}; write {}", crate::Source::FORMS)]
    UnknownSource {
        /// What was given.
        spec: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A split that is neither `train` nor `test`.
    #[error("split \"{name}\" is unknown; write train or test")]
    UnknownSplit {
        /// What was given.
        name: String,
    },
    /// A size or layout to read images by that means nothing.
    #[error("\"{text}\" is not understood; write {form}")]
    UnknownReading {
        /// What was given.
        text: String,
        /// What could be.
        form: &'static str,
    },
    /// Files or folders that a source needs are not there.
    #[error("{place}: {missing} not found; {advice}")]
    Missing {
        /// Where they were looked for.
        place: String,
        /// What was looked for.
        missing: String,
        /// What to do.
        advice: String,
    },
    /// The operating system refused to read or write.
    #[error("cannot {action} {path}: {source}; {}", equipoise_files::advice(.source))]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Bytes that are not what their format asks for: truncated, damaged, or another format.
    #[error("{place}: {problem}; {advice}")]
    Format {
        /// Where.
        place: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// An image whose size is not that of the data set.
    #[error(
        "{place}: the image is {found} pixels, expected {expected}; resize or remove it (sizes are width x height)"
    )]
    ImageSize {
        /// Which image.
        place: String,
        /// Its size, `WIDTHxHEIGHT`.
        found: String,
        /// The size it should have, `WIDTHxHEIGHT`.
        expected: String,
    },
    /// A label that is no class.
    #[error("{place}: label {label} is outside 0..={}; number the {classes} classes from 0", classes.saturating_sub(1))]
    Label {
        /// Which image.
        place: String,
        /// Its label.
        label: i128,
        /// The number of classes.
        classes: usize,
    },
    /// A float pixel that is not a number in `[0, 1]`.
    #[error(
        "{place}: pixel value {value} is outside [0, 1]; divide 8-bit images by 255, undo any normalisation, clip"
    )]
    Pixel {
        /// Which image and which of its values (in C, H, W order).
        place: String,
        /// The value.
        value: f32,
    },
    /// Two counts that must agree and do not.
    #[error("{place}: {what}: found {found}, expected {expected}; give as many as the shape asks for")]
    Length {
        /// Which data set or array.
        place: String,
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// No images at all.
    #[error("{place}: no images; {advice}")]
    Empty {
        /// Where images were expected.
        place: String,
        /// What to do.
        advice: String,
    },
}

impl DatasetError {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Io { action: "read", path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Io { action: "write", path: path.to_owned(), source }
    }

    pub(crate) fn format(place: impl Display, problem: impl Display, advice: impl Display) -> Self {
        Self::Format { place: place.to_string(), problem: one_line(problem), advice: advice.to_string() }
    }
}

/// A decoder's message may span lines; ours do not.
fn one_line(message: impl Display) -> String {
    message.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
