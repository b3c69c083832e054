//! How much memory the images of a data set may take, whatever a file claims.

use std::fmt::{self, Display};
use std::str::FromStr;

use crate::DatasetError;

/// What an image costs beside its pixels: its label, in the widths through which it passes.
const LABEL: u64 = 32;

/// The most bytes that decoded images and their labels may take. Written `32GiB`, `500MiB` or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit(pub u64);

impl Default for Limit {
    /// 16 GiB: 100,000 images of 224x224 in colour, with 8 bits each.
    fn default() -> Self {
        Self(16 << 30)
    }
}

impl Limit {
    /// Refuses more than so many images of so many bytes; `place` is what the error names.
    pub(crate) fn check(self, place: impl Display, images: usize, bytes: usize) -> Result<(), DatasetError> {
        let needed = (images as u128) * (bytes as u128 + u128::from(LABEL));
        if needed <= u128::from(self.0) {
            return Ok(());
        }
        let needed = Self(u64::try_from(needed).unwrap_or(u64::MAX));
        Err(DatasetError::format(
            place,
            format!(
                "{images} images of {bytes} bytes need {needed} of memory, more than the limit of {self}"
            ),
            "raise it with --max-input, or look at fewer images",
        ))
    }
}

const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

impl Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS[..4].iter().find(|(_, size)| self.0 >= *size) {
            Some((unit, size)) if self.0.is_multiple_of(*size) => write!(f, "{} {unit}", self.0 / size),
            Some((unit, size)) => write!(f, "{:.1} {unit}", self.0 as f64 / *size as f64),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl FromStr for Limit {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self, DatasetError> {
        let wrong = || DatasetError::UnknownReading {
            text: text.to_owned(),
            form: "a size such as 32GiB, 500MiB or a number of bytes",
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text[digits.len()..].to_ascii_lowercase() {
            unit if unit.is_empty() || unit == "b" => 1,
            unit => {
                let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&unit));
                known.ok_or_else(wrong)?.1
            }
        };
        let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|&bytes| bytes > 0).map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("32GiB", 32 << 30), ("1 MiB", 1 << 20), ("5kb", 5_000), ("77", 77), ("2TiB", 2 << 40)]
        {
            assert_eq!(text.parse::<Limit>().unwrap(), Limit(bytes), "{text}");
        }
        for bad in ["", "GiB", "0", "-1", "1.5GiB", "1XB", "99999999999TiB", "1é"] {
            let message = bad.parse::<Limit>().unwrap_err().to_string();
            assert!(message.contains(&format!("\"{bad}\"")) && message.contains("32GiB"), "{message}");
        }
        assert_eq!(Limit::default().to_string(), "16 GiB");
        assert_eq!(Limit(1_500_000).to_string(), "1.4 MiB");
        assert_eq!(Limit(7).to_string(), "7 bytes");
    }

    #[test]
    fn what_needs_more_is_refused_without_overflow() {
        assert!(Limit(10 * 132).check("here", 10, 100).is_ok());
        let message = Limit(10 * 132 - 1).check("here", 10, 100).unwrap_err().to_string();
        assert!(
            message.starts_with("here: 10 images of 100 bytes") && message.contains("--max-input"),
            "{message}"
        );
        assert!(Limit::default().check("here", usize::MAX, usize::MAX).is_err());
    }
}
