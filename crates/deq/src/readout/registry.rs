//! The kinds of readouts, by the names with which their specifications begin.

use std::str::FromStr;

use super::{
    Readout, early, ensemble_logits, ensemble_states, entropy_reduction, final_state, random_starts,
    random_states,
};
use equipoise_attack::registry::{Named, Unknown, named};

/// A kind of readout: how its specification begins, looks, and is read.
///
/// [`register!`](equipoise_attack::register) makes a kind of another crate known wherever a readout is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadoutKind {
    /// What specifications begin with, up to a parenthesis.
    pub name: &'static str,
    /// How they look, for messages.
    pub usage: &'static str,
    /// Reads what stands between the parentheses, if there are any. An error says what is wrong with it.
    pub parse: fn(arguments: Option<&str>) -> Result<Readout, String>,
}

inventory::collect!(ReadoutKind);

impl Named for ReadoutKind {
    const BUILT_IN: &'static [Self] = &[
        final_state::KIND,
        early::KIND,
        ensemble_states::KIND,
        ensemble_logits::KIND,
        random_states::KIND,
        random_starts::KIND,
        entropy_reduction::PUBLISHED,
        entropy_reduction::CORRECTED,
    ];

    fn name(&self) -> &'static str {
        self.name
    }

    fn usage(&self) -> &'static str {
        self.usage
    }
}

impl FromStr for Readout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, arguments) = match text.split_once('(') {
            Some((name, rest)) => match rest.strip_suffix(')') {
                Some(arguments) => (name, Some(arguments)),
                None => return Err(format!("readout `{text}`: a `(` without its `)` at the end")),
            },
            None => (text, None),
        };
        let kind: ReadoutKind = named(name).map_err(|unknown| match unknown {
            Unknown::Name(usages) => format!("unknown readout `{text}`: use {usages}"),
            Unknown::Ambiguous(count) => {
                format!("readout `{text}`: {count} kinds are registered as `{name}`")
            }
        })?;
        (kind.parse)(arguments).map_err(|problem| format!("readout `{text}`: {problem}"))
    }
}

/// The names in a list that is separated by commas; commas within parentheses belong to a name.
pub fn names(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = list.split(move |character| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    });
    parts.map(str::trim)
}

/// For kinds that take nothing in parentheses.
pub(super) fn nothing(arguments: Option<&str>) -> Result<(), String> {
    match arguments {
        None => Ok(()),
        Some(arguments) => Err(format!("takes nothing in parentheses; leave out ({arguments})")),
    }
}
