//! A proportion with its count and 95% interval, and how it is laid out in JSON: `NAME` the fraction,
//! `NAME_interval` the pair beside it.

use serde::{Deserialize, Serialize};

/// Lower and upper end of a confidence interval, as fractions.
pub type Interval = [f64; 2];

/// A share of examples with its 95% Wilson score interval.
///
/// Records hold share and interval only: their counts follow from the number of examples beside them, and are filled in
/// when a record is read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The share, in \[0, 1\].
    pub value: f64,
    /// 95% Wilson score interval.
    pub interval: Interval,
    correct: usize,
    count: usize,
}

impl Accuracy {
    /// `correct` of `count` examples. Without examples, the value is 0 and the interval is \[0, 1\].
    pub fn new(correct: usize, count: usize) -> Self {
        let value = if count == 0 { 0.0 } else { correct as f64 / count as f64 };
        Self { value, interval: wilson_interval(correct, count), correct, count }
    }

    /// How many examples.
    pub fn correct(&self) -> usize {
        self.correct
    }

    /// Of how many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// As a record has it, until [`Self::of`] says how many examples it stands for.
    fn read(value: f64, interval: Interval) -> Self {
        Self { value, interval, correct: 0, count: 0 }
    }

    /// The same as a share of so many examples. Of a share that is not one of them the nearest count is taken; the check
    /// of a record refuses it.
    pub(crate) fn of(self, count: usize) -> Self {
        // Casts saturate: a share below 0 or above 1 is none or all.
        let correct = ((self.value * count as f64).round() as usize).min(count);
        Self { correct, count, ..self }
    }
}

/// The 95% Wilson score interval of a proportion (Wilson 1927, Journal of the American Statistical
/// Association 22:209).
///
/// ```
/// let [low, high] = equipoise_record::wilson_interval(5, 10);
/// assert!((low - 0.2366).abs() < 1e-4 && (high - 0.7634).abs() < 1e-4);
/// ```
pub fn wilson_interval(correct: usize, count: usize) -> Interval {
    if count == 0 {
        return [0.0, 1.0];
    }
    let z = 1.959_963_984_540_054_f64; // 97.5% quantile of the standard normal distribution
    let n = count as f64;
    let p = correct as f64 / n;
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    [(centre - half).clamp(0.0, p), (centre + half).clamp(p, 1.0)]
}

/// Serde for a flattened pair of fields, `$name` and `$name_interval`.
macro_rules! layout {
    ($module:ident, $value:literal, $interval:literal) => {
        pub(crate) mod $module {
            use super::*;
            use serde::{Deserializer, Serializer};

            #[derive(Serialize, Deserialize)]
            struct Fields {
                #[serde(rename = $value)]
                value: f64,
                #[serde(rename = $interval)]
                interval: Interval,
            }

            pub fn serialize<S: Serializer>(a: &Accuracy, to: S) -> Result<S::Ok, S::Error> {
                Fields { value: a.value, interval: a.interval }.serialize(to)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Accuracy, D::Error> {
                Fields::deserialize(from).map(|f| Accuracy::read(f.value, f.interval))
            }
        }
    };
}

layout!(plain, "accuracy", "accuracy_interval");
layout!(certified, "certified_accuracy", "certified_accuracy_interval");
layout!(clean, "clean_accuracy", "clean_accuracy_interval");
layout!(white_box, "white_box_accuracy", "white_box_accuracy_interval");

/// The same for an accuracy that may be absent (both fields null).
macro_rules! optional_layout {
    ($module:ident, $value:literal, $interval:literal) => {
        pub(crate) mod $module {
            use super::*;
            use serde::de::Error as _;
            use serde::{Deserializer, Serializer};

            #[derive(Serialize, Deserialize)]
            struct Fields {
                #[serde(rename = $value)]
                value: Option<f64>,
                #[serde(rename = $interval)]
                interval: Option<Interval>,
            }

            pub fn serialize<S: Serializer>(a: &Option<Accuracy>, to: S) -> Result<S::Ok, S::Error> {
                Fields { value: a.map(|a| a.value), interval: a.map(|a| a.interval) }.serialize(to)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Accuracy>, D::Error> {
                let f = Fields::deserialize(from)?;
                match (f.value, f.interval) {
                    (Some(value), Some(interval)) => Ok(Some(Accuracy::read(value, interval))),
                    (None, None) => Ok(None),
                    (Some(_), None) => {
                        Err(D::Error::custom(concat!($interval, " is null, and ", $value, " is not")))
                    }
                    (None, Some(_)) => {
                        Err(D::Error::custom(concat!($value, " is null, and ", $interval, " is not")))
                    }
                }
            }
        }
    };
}

optional_layout!(ready_made, "ready_made_accuracy", "ready_made_accuracy_interval");
optional_layout!(opening, "ready_made_opening_accuracy", "ready_made_opening_accuracy_interval");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        for (r, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let [l, h] = wilson_interval(r, n);
            assert!((l - low).abs() < 1e-4 && (h - high).abs() < 1e-4, "{r}/{n}: {l} {h}");
        }
    }

    #[test]
    fn a_share_gives_its_count_back() {
        for count in [1, 3, 7, 200, 9_999, 1_000_000] {
            for correct in [0, 1, count / 3, count - 1, count] {
                let accuracy = Accuracy::new(correct, count);
                let read = Accuracy::read(accuracy.value, accuracy.interval);
                assert_eq!(read.of(count), accuracy);
            }
        }
        assert_eq!(Accuracy::read(1.5, [0.0, 1.0]).of(10).correct(), 10);
    }

    #[test]
    fn no_examples_say_nothing() {
        assert_eq!(wilson_interval(0, 0), [0.0, 1.0]);
    }
}
