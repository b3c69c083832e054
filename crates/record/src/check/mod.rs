//! A record checked against itself: every figure that follows from its examples is counted again.

mod accuracies;
mod arms;
mod certificates;
mod examples;
mod radii;
mod recount;
mod runs;
mod verdict;

use std::collections::HashSet;
use std::fmt;

use serde_json::Value;

use crate::{Collection, Evaluation, FORMAT_VERSION, ReadoutResult};
use recount::Recount;

/// Something in a record that does not follow from the rest of it.
///
/// ```
/// let contradiction = equipoise_record::Contradiction {
///     model: "small".into(),
///     readout: Some("final".into()),
///     field: "white_box_accuracy".into(),
///     stands: "0.9".into(),
///     follows: "12 of 100 examples are robust (0.12)".into(),
/// };
/// assert_eq!(
///     contradiction.to_string(),
///     "model small, readout final: white_box_accuracy is 0.9, and 12 of 100 examples are robust (0.12)"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The model's name.
    pub model: String,
    /// The readout's name; absent where the contradiction is in no readout.
    pub readout: Option<String>,
    /// The field, as a path below the readout or the model: `verdict.b`, `examples[3].robust`.
    pub field: String,
    /// What stands there.
    pub stands: String,
    /// What follows from the rest of the record.
    pub follows: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, readout, field, stands, follows } = self;
        write!(f, "model {}", Plain(model))?;
        if let Some(readout) = readout {
            write!(f, ", readout {}", Plain(readout))?;
        }
        write!(f, ": {} is {}, and {}", field, Plain(stands), Plain(follows))
    }
}

impl std::error::Error for Contradiction {}

/// Text from a record without its control characters, which a terminal would obey.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") }
        })
    }
}

/// Checks a record against itself: accuracies, intervals, runs, b and c are counted again from its examples, and what
/// smaller radii say, which have no examples, must fit together.
///
/// A record may lack what it has no use for: a readout without attacks has no ready-made accuracy, and one of version
/// 1, read by [`read`](crate::read), has neither predictions nor a control. p-values, intervals of differences and
/// findings are checked by `equipoise_verdict::check`, which has the tests and the rules.
///
/// # Errors
///
/// The first [`Contradiction`] that is met.
pub fn check(collection: &Collection) -> Result<(), Contradiction> {
    collection.models.iter().try_for_each(check_model)
}

fn check_model(model: &Evaluation) -> Result<(), Contradiction> {
    let place = Place { model: &model.model, readout: None };
    if model.version != FORMAT_VERSION {
        let follows = format!("the record is of version {FORMAT_VERSION}");
        return Err(place.refuse("version", model.version, follows));
    }
    if !NORMS.contains(&model.norm.as_str()) {
        return Err(place.refuse("norm", &model.norm, "a norm is linf, l2 or l1"));
    }
    if !(model.eps.is_finite() && model.eps >= 0.0) {
        return Err(place.refuse("eps", model.eps, "a radius is a number from 0"));
    }
    if let Some(asked) = largest_radius(&model.configuration).filter(|&asked| !same(asked, model.eps)) {
        return Err(place.refuse("eps", model.eps, format!("the largest of configuration.eps is {asked}")));
    }
    let mut names = HashSet::new();
    for (at, readout) in model.readouts.iter().enumerate() {
        if !names.insert(&readout.name) {
            let field = format!("readouts[{at}].name");
            return Err(place.refuse(field, &readout.name, "another readout has the same name"));
        }
        check_readout(model, readout)?;
    }
    if let Some(first) = model.readouts.first() {
        let what = "clean_accuracy";
        if !same(model.clean_accuracy.value, first.clean_accuracy.value) {
            let follows = format!("that of the first readout is {}", first.clean_accuracy.value);
            return Err(place.refuse(what, model.clean_accuracy.value, follows));
        }
        accuracies::interval(&place, what, &first.clean_accuracy, &model.clean_accuracy.interval)?;
    }
    Ok(())
}

/// The largest radius that was asked for, where the configuration lists them.
fn largest_radius(configuration: &Value) -> Option<f64> {
    configuration.get("eps")?.as_array()?.iter().filter_map(Value::as_f64).max_by(f64::total_cmp)
}

fn check_readout(model: &Evaluation, readout: &ReadoutResult) -> Result<(), Contradiction> {
    let place = Place { model: &model.model, readout: Some(&readout.name) };
    runs::check_numbers(&place, readout)?;
    examples::check(&place, model, readout)?;
    let recount = Recount::of(readout);
    runs::check(&place, readout, &recount)?;
    accuracies::check(&place, readout, &recount)?;
    verdict::check(&place, readout, &recount)?;
    radii::check(&place, model, readout)?;
    within_radius(&place, model, readout)?;
    certificates::check(&place, model, readout)
}

/// Perturbations that are shown are as long as the largest radius at most. They were measured in single precision.
fn within_radius(
    place: &Place<'_>,
    model: &Evaluation,
    readout: &ReadoutResult,
) -> Result<(), Contradiction> {
    let shown = readout.gallery.iter().flat_map(|gallery| &gallery.items).enumerate();
    for (at, item) in shown {
        if !(0.0..=model.eps * 1.001 + 1e-6).contains(&item.distance) {
            let follows = format!("the largest radius is the model's eps, {}", model.eps);
            return Err(place.refuse(format!("gallery.items[{at}].distance"), item.distance, follows));
        }
    }
    Ok(())
}

/// Names of norms, those with the larger balls first.
const NORMS: [&str; 3] = ["linf", "l2", "l1"];

/// Where a contradiction is looked for.
struct Place<'a> {
    model: &'a str,
    readout: Option<&'a str>,
}

impl Place<'_> {
    fn refuse(
        &self,
        field: impl Into<String>,
        stands: impl fmt::Display,
        follows: impl Into<String>,
    ) -> Contradiction {
        Contradiction {
            model: self.model.to_owned(),
            readout: self.readout.map(str::to_owned),
            field: field.into(),
            stands: stands.to_string(),
            follows: follows.into(),
        }
    }
}

/// Whether two numbers are the same but for rounding.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9
}

/// `null` or the value, as JSON has it.
fn shown<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}
