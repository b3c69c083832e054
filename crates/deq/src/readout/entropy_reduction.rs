//! `entropy-reduction`: a defence that changes its input between segments of the solve, as settings and as a string.
//!
//! What it computes stands in [`defence`](crate::defence). The settings that are left out of a string are the published
//! ones, so that `entropy-reduction` alone is the published defence.

use std::fmt;

use super::{ReadState, Readout, ReadoutKind, StateReadout};
use equipoise_attack::attack::Budget;
use equipoise_attack::work::Work;

pub(super) const PUBLISHED: ReadoutKind = ReadoutKind {
    name: "entropy-reduction",
    usage: "entropy-reduction(segments=S,steps=K,updates=R,beta=B,rho=P)",
    parse: |arguments| EntropyReduction::parse(Variant::Published, arguments).map(Readout::from),
};

pub(super) const CORRECTED: ReadoutKind = ReadoutKind {
    name: "entropy-reduction-corrected",
    usage: "entropy-reduction-corrected(..)",
    parse: |arguments| EntropyReduction::parse(Variant::Corrected, arguments).map(Readout::from),
};

/// Which form of the defence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// As it was published, step by step.
    Published,
    /// Without three slips of the published form: what the solver learned is kept over all segments instead of being
    /// overwritten from the second step of a segment on; a secant spans two states that follow each other, and a step that
    /// did not help is forgotten with it; and the answer is the deployed tail's at the last input, instead of the head's
    /// at the last state itself.
    Corrected,
}

/// Input entropy reduction (Yang, Li, Pang and Liu, ICML 2023): segments of a solve by Broyden's method, and after each
/// but the last some steps of the input that lower the entropy of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct EntropyReduction {
    /// Which form.
    pub variant: Variant,
    /// S, segments of the solve.
    pub segments: usize,
    /// K, steps of the solver in each.
    pub steps: usize,
    /// R, steps of the input between two segments.
    pub updates: usize,
    /// β, the length of a step of the input in each intensity.
    pub beta: f64,
    /// ρ, how far each intensity may come from that of the image received.
    pub rho: f64,
}

/// The most segments, steps of each, and updates between two.
const MOST: usize = 1_000;

impl EntropyReduction {
    /// Four segments of two steps, ten updates of 2/255 within 8/255 of the image received.
    pub const PUBLISHED: Self = Self {
        variant: Variant::Published,
        segments: 4,
        steps: 2,
        updates: 10,
        beta: 2.0 / 255.0,
        rho: 8.0 / 255.0,
    };

    /// The same in the corrected form.
    pub const CORRECTED: Self = Self { variant: Variant::Corrected, ..Self::PUBLISHED };

    /// Whether the settings make sense.
    ///
    /// # Errors
    ///
    /// Names the setting and its range.
    pub fn validate(&self) -> Result<(), String> {
        for (name, value, least) in
            [("segments", self.segments, 1), ("steps", self.steps, 1), ("updates", self.updates, 0)]
        {
            if !(least..=MOST).contains(&value) {
                return Err(format!("{name}={value} must be a whole number from {least} to {MOST}"));
            }
        }
        for (name, value) in [("beta", self.beta), ("rho", self.rho)] {
            if !((0.0..=1.0).contains(&value)) {
                return Err(format!("{name}={value} must be in [0, 1], as in {name}=2/255"));
            }
        }
        Ok(())
    }

    fn parse(variant: Variant, arguments: Option<&str>) -> Result<Self, String> {
        let mut settings = Self { variant, ..Self::PUBLISHED };
        let pairs = arguments.into_iter().flat_map(|list| list.split(','));
        for pair in pairs.map(str::trim).filter(|pair| !pair.is_empty()) {
            let pair_of =
                |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
            let (key, value) = pair_of(pair).ok_or_else(|| format!("`{pair}` is not KEY=VALUE"))?;
            let number = || value.parse().map_err(|_| format!("{key}={value}: a whole number is needed"));
            let length = || {
                Budget::parse_eps(&value)
                    .map_err(|_| format!("{key}={value}: a number such as 2/255 is needed"))
            };
            match key.as_str() {
                "segments" => settings.segments = number()?,
                "steps" => settings.steps = number()?,
                "updates" => settings.updates = number()?,
                "beta" => settings.beta = length()?,
                "rho" => settings.rho = length()?,
                _ => {
                    return Err(format!(
                        "unknown setting `{key}`; it has segments, steps, updates, beta and rho"
                    ));
                }
            }
        }
        settings.validate()?;
        Ok(settings)
    }

    /// What an answer costs: cell evaluations and vector-Jacobian products for one example.
    pub fn work(&self, tail: usize) -> Work {
        let updates = (self.segments - 1) * self.updates;
        let last = match self.variant {
            Variant::Published => 0,
            // The tail's first application is the solver's last evaluation.
            Variant::Corrected => tail.saturating_sub(1),
        };
        Work::new(self.segments * (self.steps + 1) + updates + last, updates)
    }
}

/// Settings that are not the published ones are all written.
impl fmt::Display for EntropyReduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variant, segments, steps, updates, beta, rho } = self;
        f.write_str(match variant {
            Variant::Published => PUBLISHED.name,
            Variant::Corrected => CORRECTED.name,
        })?;
        if (Self { variant: *variant, ..Self::PUBLISHED }) == *self {
            return Ok(());
        }
        let (beta, rho) = (levels(*beta), levels(*rho));
        write!(f, "(segments={segments},steps={steps},updates={updates},beta={beta},rho={rho})")
    }
}

/// A length as it is read: in levels of 8-bit images where it is a whole number of these.
fn levels(length: f64) -> String {
    let levels = (length * 255.0).round();
    if levels / 255.0 == length { format!("{levels}/255") } else { length.to_string() }
}

impl StateReadout for EntropyReduction {
    fn spec(&self) -> String {
        self.to_string()
    }

    fn check(&self, _: usize) -> Result<(), String> {
        self.validate()
    }

    /// With the defence off: that of the undefended model.
    fn states(&self, _: usize) -> Vec<ReadState> {
        vec![ReadState::Final]
    }

    fn defence(&self) -> Option<&EntropyReduction> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_a_round_trip() {
        for spec in [
            "entropy-reduction",
            "entropy-reduction-corrected",
            "entropy-reduction(segments=2,steps=3,updates=5,beta=1/255,rho=4/255)",
            "entropy-reduction-corrected(segments=4,steps=2,updates=10,beta=0.0123,rho=8/255)",
        ] {
            let readout = spec.parse::<Readout>().unwrap();
            assert_eq!(readout.to_string(), spec);
            assert!(readout.defence().is_some());
        }
        let published = "entropy-reduction(steps=2, rho=8/255)".parse::<Readout>().unwrap();
        assert_eq!(published.to_string(), "entropy-reduction");
        assert_eq!(published.defence(), Some(&EntropyReduction::PUBLISHED));
        let short = "entropy-reduction(updates=3)".parse::<Readout>().unwrap();
        assert_eq!(short.to_string(), "entropy-reduction(segments=4,steps=2,updates=3,beta=2/255,rho=8/255)");
    }

    #[test]
    fn mistakes_are_named() {
        for (spec, problem) in [
            ("entropy-reduction(depth=3)", "unknown setting `depth`; it has segments, steps, updates"),
            ("entropy-reduction(steps)", "`steps` is not KEY=VALUE"),
            ("entropy-reduction(steps=two)", "steps=two: a whole number is needed"),
            ("entropy-reduction(steps=0)", "steps=0 must be a whole number from 1"),
            ("entropy-reduction(segments=1001)", "segments=1001 must be"),
            ("entropy-reduction(beta=much)", "beta=much: a number such as 2/255"),
            ("entropy-reduction-corrected(rho=2)", "rho=2 must be in [0, 1]"),
        ] {
            let message = spec.parse::<Readout>().unwrap_err();
            assert!(message.contains(problem), "{spec}: {message}");
        }
    }

    #[test]
    fn the_published_one_costs_twelve_evaluations_and_thirty_updates() {
        assert_eq!(EntropyReduction::PUBLISHED.work(1), Work::new(12 + 30, 30));
        assert_eq!(EntropyReduction::CORRECTED.work(10), Work::new(12 + 30 + 9, 30));
    }
}
