//! Which of a file's tensors are the model's.
//!
//! People's checkpoints wrap a state dict in dictionaries (`state_dict`, `model`, `ema`, nested) and put prefixes before
//! its names (`module.`, `_orig_mod.`, `model.`). Both are a prefix of the dotted path in the file. Every prefix under
//! which some of the model's names stand is a candidate; no list of names of wrappers is needed.

use std::collections::BTreeMap;

use super::tensors::Tensors;
use crate::model::state_dict::{Shapes, StateDictError};

/// A part of the file that holds names of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What stands before the model's names, with its last dot; empty where nothing does.
    pub prefix: String,
    /// How many of the model's names it holds.
    pub names: usize,
    /// How many of these have the model's shape.
    pub fitting: usize,
}

impl Candidate {
    /// The key that chooses it.
    pub fn key(&self) -> &str {
        if self.prefix.is_empty() { TOP } else { self.prefix.trim_end_matches('.') }
    }
}

/// What was made of the names of a file.
#[derive(Debug)]
pub struct Choice {
    /// The candidate.
    pub candidate: Candidate,
    /// Its tensors by the model's names, with others that stand between them.
    pub tensors: Tensors,
    /// Those outside of it, by their path in the file: an optimiser's state, another copy of the weights, counters.
    pub aside: Tensors,
}

/// Why no part of the file is the model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unchosen {
    /// No name of the model stands anywhere.
    Nothing,
    /// Several parts hold the whole model.
    Several(Vec<Candidate>),
    /// The key that was asked for has none of the model's names; these have.
    NoSuchKey(Vec<Candidate>),
}

/// The newer spelling of weight normalisation, and its older one.
const SPELLINGS: [(&str, &str); 2] =
    [("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v")];

/// What `key` calls the top level of a file.
const TOP: &str = ".";

/// Chooses the part that holds most of the model, of those with the parts of `key` in their path if it is given.
pub fn choose(mut tensors: Tensors, needed: &Shapes, key: Option<&str>) -> Result<Choice, Unchosen> {
    for (new, old) in SPELLINGS {
        tensors = tensors.into_iter().map(|(name, tensor)| (name.replace(new, old), tensor)).collect();
    }
    let all = candidates(&tensors, needed);
    if all.is_empty() {
        return Err(Unchosen::Nothing);
    }
    let below = |candidate: &&Candidate| match key {
        None => true,
        Some(TOP) => candidate.prefix.is_empty(),
        Some(key) => format!(".{}", candidate.prefix).contains(&format!(".{}.", key.trim_matches('.'))),
    };
    let mut eligible: Vec<Candidate> = all.iter().filter(below).cloned().collect();
    let Some(best) = eligible.iter().max_by_key(|candidate| (candidate.fitting, candidate.names)).cloned()
    else {
        return Err(Unchosen::NoSuchKey(all));
    };
    // Parts of a state dict look like small models themselves: only another that is as whole is a rival.
    eligible.retain(|candidate| (candidate.fitting, candidate.names) == (best.fitting, best.names));
    if eligible.len() > 1 {
        return Err(Unchosen::Several(eligible));
    }
    let (mut inside, mut aside) = (Tensors::new(), Tensors::new());
    for (name, tensor) in tensors {
        match name.strip_prefix(&best.prefix) {
            // With nothing before the model's names, other dictionaries of the file stand among them.
            Some(rest) if !best.prefix.is_empty() || !is_elsewhere(rest, needed, &all) => {
                inside.insert(rest.to_owned(), tensor);
            }
            _ => {
                aside.insert(name, tensor);
            }
        }
    }
    Ok(Choice { candidate: best, tensors: inside, aside })
}

/// Every prefix under which names of the model stand, the fullest first.
fn candidates(tensors: &Tensors, needed: &Shapes) -> Vec<Candidate> {
    let mut found: BTreeMap<&str, Candidate> = BTreeMap::new();
    for (name, tensor) in tensors {
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
        for start in starts {
            let (prefix, rest) = name.split_at(start);
            let Some(shape) = needed.get(rest) else { continue };
            let candidate = found.entry(prefix).or_insert_with(|| Candidate {
                prefix: prefix.to_owned(),
                names: 0,
                fitting: 0,
            });
            candidate.names += 1;
            candidate.fitting += usize::from(tensor.shape == *shape);
        }
    }
    let mut found: Vec<Candidate> = found.into_values().collect();
    found.sort_by(|a, b| (b.fitting, b.names, &a.prefix).cmp(&(a.fitting, a.names, &b.prefix)));
    // A name of the model may end another: what holds one name in ten is no candidate beside what holds them all.
    let most = found.first().map_or(0, |candidate| candidate.names);
    found.retain(|candidate| candidate.names * 2 > most);
    found
}

/// Whether a tensor belongs to another dictionary that stands beside the names of the model.
fn is_elsewhere(name: &str, needed: &Shapes, all: &[Candidate]) -> bool {
    if needed.contains_key(name) {
        return false;
    }
    let other = |candidate: &Candidate| !candidate.prefix.is_empty() && name.starts_with(&candidate.prefix);
    all.iter().any(other)
}

/// A few words for each top-level part of some tensors: `optimizer (61 tensors), n_averaged`.
pub fn summary(tensors: &Tensors) -> String {
    let mut parts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in tensors.keys() {
        *parts.entry(name.split('.').next().unwrap_or(name)).or_default() += 1;
    }
    let words = parts.into_iter().map(|(part, count)| match count {
        1 if tensors.contains_key(part) => part.to_owned(),
        1 => tensors.keys().find(|name| name.starts_with(part)).cloned().unwrap_or_default(),
        _ => format!("{part} ({count} tensors)"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Why a file does not fit, in a sentence or two: what all its names have in common, and the first differences.
pub fn diagnosis(file: &Tensors, needed: &Shapes, misfit: Option<(&Candidate, &StateDictError)>) -> String {
    let total = needed.len();
    let Some((candidate, error)) = misfit else {
        let mut text = match common_prefix(file.keys()) {
            Some(prefix) => format!("all {} names in it begin with `{prefix}`, and", file.len()),
            None => format!("of its {} names", file.len()),
        };
        let first = |names: &mut dyn Iterator<Item = &String>| names.next().cloned().unwrap_or_default();
        text += &format!(
            " none ends in one of the {total} names that this model has; first difference: the file has `{}`, the model \
             `{}`",
            first(&mut file.keys()),
            first(&mut needed.keys())
        );
        return text;
    };
    let mut text = match candidate.prefix.as_str() {
        "" => format!("{} of the model's {total} names stand in it", candidate.names),
        prefix => format!("{} of the model's {total} names stand under `{prefix}`", candidate.names),
    };
    let mut first = |what: &str, names: &[String]| {
        if let [name, rest @ ..] = names {
            text += &format!("; {what}: {name}");
            if !rest.is_empty() {
                text += &format!(" and {} more", rest.len());
            }
        }
    };
    first("missing", &error.missing);
    first("unexpected", &error.unexpected);
    let shapes: Vec<String> = error.misshapen.iter().map(StateDictError::shapes).collect();
    first("wrong shape", &shapes);
    first("NaN or infinite", &error.not_finite);
    text
}

/// What all names begin with, up to a dot.
fn common_prefix<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<String> {
    let first = names.next()?;
    let mut shared = first.as_str();
    for name in names {
        let same = shared.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        // A shared part of a character is no part.
        shared = &shared[..(0..=same).rev().find(|&at| shared.is_char_boundary(at)).unwrap_or(0)];
    }
    let end = shared.rfind('.')?;
    Some(shared[..=end].to_owned())
}

/// Whether a tensor only counts: batches (batch normalisation) or averaged models. No model needs it.
pub fn is_counter(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("num_batches_tracked" | "n_averaged"))
}
