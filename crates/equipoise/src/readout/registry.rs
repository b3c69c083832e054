//! The kinds of readouts, by the names with which their specifications begin.

use std::str::FromStr;

use super::{Readout, early, ensemble_logits, ensemble_states, final_state};

/// The built-in kinds, in the order in which messages name them.
const KINDS: &[ReadoutKind] = &[final_state::KIND, early::KIND, ensemble_states::KIND, ensemble_logits::KIND];

/// A kind of readout: how its specification begins, looks, and is read.
///
/// [`register!`](crate::register) makes a kind of another crate known wherever a readout is read.
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

/// The built-in kinds, then those of other crates by name.
fn kinds() -> Vec<ReadoutKind> {
    let mut others: Vec<ReadoutKind> = inventory::iter::<ReadoutKind>.into_iter().copied().collect();
    others.sort_by_key(|kind| kind.name);
    [KINDS, &others].concat()
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
        let kinds = kinds();
        let found: Vec<&ReadoutKind> = kinds.iter().filter(|kind| kind.name == name).collect();
        match found.as_slice() {
            [kind] => (kind.parse)(arguments).map_err(|problem| format!("readout `{text}`: {problem}")),
            [] => {
                let usages: Vec<&str> = kinds.iter().map(|kind| kind.usage).collect();
                let (last, others) = usages.split_last().expect("there are built-in kinds");
                Err(format!("unknown readout `{text}`: use {} or {last}", others.join(", ")))
            }
            _ => Err(format!("readout `{text}`: {} kinds are registered as `{name}`", found.len())),
        }
    }
}

/// For kinds that take nothing in parentheses.
pub(super) fn nothing(arguments: Option<&str>) -> Result<(), String> {
    match arguments {
        None => Ok(()),
        Some(arguments) => Err(format!("takes nothing in parentheses; leave out ({arguments})")),
    }
}
