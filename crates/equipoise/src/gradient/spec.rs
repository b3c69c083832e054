//! Estimators as strings, as commands and file formats write them.
//!
//! `exact` · `unrolled:state=t,lead=l,steps=k,damping=λ` (every key optional: best, 1, 9, 0.5) ·
//! `adjoint:state=t,beta=β` (last, 1) · `through-solver` ·
//! `ensemble(member,member,...)` · `joint(member,member,...)` · `aimed(method)`; in lists of members `state=a..b` stands for one member for each
//! state, in writing as in reading. Lists are separated by commas; a part without a name of its own (`lead=2`)
//! belongs to the estimator before it.

use std::fmt;
use std::str::FromStr;

use super::Estimator;
use crate::readout::Tail;
use crate::solve::{MAX_STEPS, StateChoice};

/// The most characters of a list of estimators: each may stand for as many members as there are states.
const MAX_LENGTH: usize = 10_000;
/// How deep parentheses may be nested.
const MAX_DEPTH: usize = 8;

/// The most characters of it that an error repeats.
const SHOWN: usize = 200;

/// An estimator string that cannot be understood.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("gradient estimator `{spec}`: {problem}")]
pub struct SpecError {
    spec: String,
    problem: String,
}

impl SpecError {
    fn new(spec: &str, problem: impl Into<String>) -> Self {
        let shown: String = spec.chars().take(SHOWN).collect();
        let rest = if shown.len() < spec.len() { ".." } else { "" };
        Self { spec: shown + rest, problem: problem.into() }
    }
}

impl fmt::Display for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Unrolled { state, tail: Tail { lead, steps, damping } } => {
                write!(f, "unrolled:state={state},lead={lead},steps={steps},damping={damping}")
            }
            Self::Adjoint { state, beta } => write!(f, "adjoint:state={state},beta={beta}"),
            Self::ThroughSolver => f.write_str("through-solver"),
            Self::Ensemble(members) => write!(f, "ensemble({})", joined(members)),
            Self::Joint(members) => write!(f, "joint({})", joined(members)),
            Self::Aimed(method) => write!(f, "aimed({method})"),
        }
    }
}

/// Members, those that differ by consecutive states alone as one range, as [`parse_states`] reads it.
fn joined(members: &[Estimator]) -> String {
    let mut names = Vec::new();
    let mut rest = members;
    while let [first, others @ ..] = rest {
        let Some(from) = first.state() else {
            names.push(first.to_string());
            rest = others;
            continue;
        };
        let follows = |(k, member): (usize, &Estimator)| *member == first.at(from + k);
        let length = rest.iter().enumerate().take_while(|&pair| follows(pair)).count();
        let name = first.to_string();
        names.push(match length {
            1 => name,
            _ => {
                let range = format!("state={from}..{}", from + length - 1);
                name.replacen(&format!("state={from}"), &range, 1)
            }
        });
        rest = &rest[length..];
    }
    names.join(",")
}

impl Estimator {
    /// The t of z_t where this estimator is unrolled or read off, if it names one.
    fn state(&self) -> Option<usize> {
        match self {
            Self::Unrolled { state: StateChoice::At(t), .. }
            | Self::Adjoint { state: StateChoice::At(t), .. } => Some(*t),
            _ => None,
        }
    }

    /// The same at z_t.
    fn at(&self, t: usize) -> Self {
        let mut other = self.clone();
        if let Self::Unrolled { state, .. } | Self::Adjoint { state, .. } = &mut other {
            *state = StateChoice::At(t);
        }
        other
    }
}

impl FromStr for Estimator {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match parse_list(text)?.as_slice() {
            [one] => Ok(one.clone()),
            several => Err(SpecError::new(text, format!("one estimator expected, {} found", several.len()))),
        }
    }
}

/// Estimators separated by commas.
///
/// # Errors
///
/// If one of them is unknown, or has a key or value that it does not know.
pub fn parse_list(text: &str) -> Result<Vec<Estimator>, SpecError> {
    if text.len() > MAX_LENGTH {
        return Err(SpecError::new(text, format!("longer than {MAX_LENGTH} characters")));
    }
    let mut estimators = Vec::new();
    for spec in join_keys(split_outside_parentheses(text)?) {
        estimators.extend(parse_one(&spec)?);
    }
    Ok(estimators)
}

fn split_outside_parentheses(text: &str) -> Result<Vec<&str>, SpecError> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' if depth == MAX_DEPTH => {
                return Err(SpecError::new(
                    text,
                    format!("more than {MAX_DEPTH} parentheses within each other"),
                ));
            }
            '(' => depth += 1,
            ')' => {
                let open = depth.checked_sub(1);
                depth = open.ok_or_else(|| SpecError::new(text, "a `)` without its `(`"))?;
            }
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(SpecError::new(text, "a `(` without its `)`"));
    }
    parts.push(text[start..].trim());
    Ok(parts)
}

/// Attaches parts such as `lead=2` to the estimator before them.
fn join_keys(parts: Vec<&str>) -> Vec<String> {
    let mut specs: Vec<String> = Vec::new();
    for part in parts {
        let key_alone = part.split_once('=').is_some_and(|(key, _)| !key.contains([':', '(']));
        match specs.last_mut() {
            Some(spec) if key_alone => {
                spec.push(',');
                spec.push_str(part);
            }
            _ => specs.push(part.to_owned()),
        }
    }
    specs
}

/// One estimator, or one for each state of a range.
fn parse_one(spec: &str) -> Result<Vec<Estimator>, SpecError> {
    if let Some(members) = spec.strip_prefix("ensemble(").and_then(|rest| rest.strip_suffix(')')) {
        return Ok(vec![Estimator::Ensemble(parse_list(members)?)]);
    }
    if let Some(members) = spec.strip_prefix("joint(").and_then(|rest| rest.strip_suffix(')')) {
        let members = parse_list(members)?;
        let plain = |member: &Estimator| matches!(member, Estimator::Exact | Estimator::Unrolled { .. });
        if !members.iter().all(plain) {
            return Err(SpecError::new(spec, "members of `joint` must be exact or unrolled"));
        }
        return Ok(vec![Estimator::Joint(members)]);
    }
    if let Some(method) = spec.strip_prefix("aimed(").and_then(|rest| rest.strip_suffix(')')) {
        let methods = parse_list(method)?;
        return match methods.as_slice() {
            [method @ (Estimator::Exact | Estimator::Unrolled { .. })] => {
                Ok(vec![Estimator::Aimed(Box::new(method.clone()))])
            }
            _ => Err(SpecError::new(spec, "`aimed` takes one method, exact or unrolled")),
        };
    }
    let (name, keys) = spec.split_once(':').unwrap_or((spec, ""));
    let keys: Vec<&str> = keys.split(',').filter(|key| !key.is_empty()).collect();
    match name {
        "exact" if keys.is_empty() => Ok(vec![Estimator::Exact]),
        "through-solver" if keys.is_empty() => Ok(vec![Estimator::ThroughSolver]),
        "exact" | "through-solver" => Err(SpecError::new(spec, format!("`{name}` takes no settings"))),
        "unrolled" => parse_unrolled(spec, &keys),
        "adjoint" => parse_adjoint(spec, &keys),
        _ => Err(SpecError::new(
            spec,
            "unknown; use exact, unrolled:state=T,lead=L,steps=K,damping=D, adjoint:state=T,beta=B, \
             through-solver, ensemble(..), joint(..) or aimed(..)",
        )),
    }
}

fn parse_unrolled(spec: &str, keys: &[&str]) -> Result<Vec<Estimator>, SpecError> {
    let mut tail = Tail::UNROLLED;
    let mut states = vec![StateChoice::Best];
    for key in keys {
        let (key, value) =
            key.split_once('=').ok_or_else(|| SpecError::new(spec, format!("`{key}` is not KEY=VALUE")))?;
        let number = || {
            let problem = || format!("{key}={value}: a whole number is needed");
            value.parse().map_err(|_| SpecError::new(spec, problem()))
        };
        match key {
            "state" => states = parse_states(spec, value)?,
            "lead" => tail.lead = number()?,
            "steps" => tail.steps = number()?,
            "damping" => {
                let problem = || SpecError::new(spec, format!("damping={value} must be in (0, 1]"));
                tail.damping = value.parse().map_err(|_| problem())?;
            }
            _ => {
                let problem = format!("unknown setting `{key}`; it has state, lead, steps and damping");
                return Err(SpecError::new(spec, problem));
            }
        }
    }
    tail.validate().map_err(|problem| SpecError::new(spec, problem))?;
    if tail.lead + tail.steps == 0 {
        return Err(SpecError::new(spec, "lead and steps are both 0: no gradient would reach the image"));
    }
    Ok(states.into_iter().map(|state| Estimator::Unrolled { state, tail }).collect())
}

fn parse_adjoint(spec: &str, keys: &[&str]) -> Result<Vec<Estimator>, SpecError> {
    let (mut states, mut beta) = (vec![StateChoice::Last], 1.0);
    for key in keys {
        match key.split_once('=') {
            Some(("state", value)) => states = parse_states(spec, value)?,
            Some(("beta", value)) => match value.parse::<f64>() {
                Ok(value) if value > 0.0 && value.is_finite() => beta = value,
                _ => return Err(SpecError::new(spec, format!("beta={value} must be positive"))),
            },
            _ => {
                let problem = format!("unknown setting `{key}`; it has state and beta");
                return Err(SpecError::new(spec, problem));
            }
        }
    }
    Ok(states.into_iter().map(|state| Estimator::Adjoint { state, beta }).collect())
}

/// `best`, `last`, `t` or `a..b`, both ends included.
fn parse_states(spec: &str, value: &str) -> Result<Vec<StateChoice>, SpecError> {
    if let Some((from, to)) = value.split_once("..") {
        return match (from.parse::<usize>(), to.parse::<usize>()) {
            (Ok(from), Ok(to)) if from >= 1 && from <= to && to <= MAX_STEPS => {
                Ok((from..=to).map(StateChoice::At).collect())
            }
            _ => {
                let problem = format!("state={value} is not a range A..B with 1 <= A <= B <= {MAX_STEPS}");
                Err(SpecError::new(spec, problem))
            }
        };
    }
    Ok(vec![value.parse().map_err(|problem: String| SpecError::new(spec, problem))?])
}

impl serde::Serialize for Estimator {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Estimator {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_a_round_trip() {
        for spec in [
            "exact",
            "unrolled:state=3,lead=1,steps=5,damping=1",
            "unrolled:state=best,lead=1,steps=9,damping=0.5",
            "adjoint:state=4,beta=0.5",
            "through-solver",
            "ensemble(exact,unrolled:state=2,lead=1,steps=0,damping=0.5)",
            "joint(exact,unrolled:state=2,lead=1,steps=0,damping=0.5)",
            "aimed(exact)",
            "aimed(unrolled:state=best,lead=1,steps=9,damping=0.5)",
            "ensemble(joint(exact,exact),exact)",
            "ensemble(unrolled:state=1..8,lead=1,steps=0,damping=0.5)",
            "ensemble(adjoint:state=2..3,beta=1,adjoint:state=3..4,beta=0.5,through-solver)",
            "joint(exact,unrolled:state=3,lead=1,steps=9,damping=0.5,unrolled:state=5..6,lead=1,steps=9,damping=0.5,\
             unrolled:state=best,lead=1,steps=9,damping=0.5)",
            "ensemble(joint(unrolled:state=1..2,lead=1,steps=0,damping=1),exact)",
        ] {
            assert_eq!(spec.parse::<Estimator>().unwrap().to_string(), spec);
        }
    }

    #[test]
    fn commas_separate_estimators_and_their_settings() {
        let list = parse_list("exact,unrolled:state=3,lead=1,ensemble(exact,unrolled:state=1..2,steps=0)");
        let list = list.unwrap();
        assert_eq!(list.len(), 3);
        assert!(matches!(&list[2], Estimator::Ensemble(members) if members.len() == 3));
    }

    #[test]
    fn mistakes_are_named() {
        let (deep, long) = ("ensemble(".repeat(9), "exact,".repeat(2_000));
        for (spec, problem) in [
            ("exakt", "unknown; use exact"),
            ("unrolled:state=0", "`0` is not"),
            ("unrolled:depth=3", "unknown setting `depth`"),
            ("unrolled:damping=0", "must be in (0, 1]"),
            ("unrolled:damping=nan", "must be in (0, 1]"),
            ("unrolled:damping=x", "must be in (0, 1]"),
            ("unrolled:lead=0,steps=0", "no gradient"),
            ("unrolled:steps=1001", "at most 1000"),
            ("unrolled:lead=18446744073709551615,steps=1", "at most 1000"),
            ("unrolled:state=1..9999999999", "is not a range"),
            ("adjoint:beta=inf", "must be positive"),
            (deep.as_str(), "more than 8 parentheses"),
            (long.as_str(), "longer than 10000 characters"),
            ("ensemble(exact", "without its `)`"),
            ("joint(ensemble(exact))", "must be exact or unrolled"),
            ("aimed(adjoint)", "takes one method"),
            ("exact,exact", "one estimator expected"),
        ] {
            let message = spec.parse::<Estimator>().unwrap_err().to_string();
            assert!(message.contains(problem), "{spec}: {message}");
        }
    }
}
