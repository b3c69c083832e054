//! Estimators as strings, as commands and file formats write them.
//!
//! A specification is a name with settings, `name:key=value,key=value`, or with members, `name(member,member)`. Lists are
//! separated by commas; a part without a name of its own (`lead=2`) belongs to the estimator before it. `state=a..b` stands
//! for one estimator for each state, both ends included; lists of members are written with such ranges too. What a name
//! stands for is the matter of its [`EstimatorKind`](super::EstimatorKind).

use std::str::FromStr;

use super::{Estimator, registry};
use crate::solve::MAX_STEPS;

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

/// The specification of one estimator, taken apart.
#[derive(Debug, Clone)]
pub struct Spec<'a> {
    text: &'a str,
    name: &'a str,
    settings: Vec<String>,
    members: Option<&'a str>,
}

impl Spec<'_> {
    /// The settings, as pairs of key and value, which are among those `known`.
    ///
    /// # Errors
    ///
    /// If one is not, or is no pair, or there are members instead.
    pub fn settings(&self, known: &[&str]) -> Result<Vec<(&str, &str)>, SpecError> {
        let name = self.name;
        if self.members.is_some() {
            return Err(self.error(format!("`{name}` takes no members in parentheses")));
        }
        let Some((last, others)) = known.split_last() else {
            return match self.settings.as_slice() {
                [] => Ok(Vec::new()),
                _ => Err(self.error(format!("`{name}` takes no settings"))),
            };
        };
        let mut pairs = Vec::with_capacity(self.settings.len());
        for setting in &self.settings {
            let pair = setting.split_once('=');
            let (key, value) = pair.ok_or_else(|| self.error(format!("`{setting}` is not KEY=VALUE")))?;
            if !known.contains(&key) {
                let all = if others.is_empty() { String::new() } else { others.join(", ") + " and " };
                return Err(self.error(format!("unknown setting `{key}`; it has {all}{last}")));
            }
            pairs.push((key, value));
        }
        Ok(pairs)
    }

    /// A whole number that a setting has as its value.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn number(&self, key: &str, value: &str) -> Result<usize, SpecError> {
        value.parse().map_err(|_| self.error(format!("{key}={value}: a whole number is needed")))
    }

    /// The members in parentheses.
    ///
    /// # Errors
    ///
    /// If there are none, or one cannot be understood.
    pub fn members(&self) -> Result<Vec<Estimator>, SpecError> {
        let name = self.name;
        let members = self.members.ok_or_else(|| {
            self.error(format!("`{name}` takes members in parentheses, as in {name}(exact)"))
        })?;
        parse_list(members)
    }

    /// What stands in parentheses, as it is.
    ///
    /// # Errors
    ///
    /// If there are none; `example` shows how it is written.
    pub fn argument(&self, example: &str) -> Result<&str, SpecError> {
        let name = self.name;
        self.members.ok_or_else(|| self.error(format!("`{name}` takes parentheses, as in {example}")))
    }

    /// The same, taken apart at the commas that stand in no parentheses of their own.
    ///
    /// # Errors
    ///
    /// As for [`Self::argument`], or if parentheses do not match.
    pub fn parts(&self, example: &str) -> Result<Vec<&str>, SpecError> {
        split_outside_parentheses(self.argument(example)?)
    }

    /// An error that says what is wrong with the specification.
    pub fn error(&self, problem: impl Into<String>) -> SpecError {
        SpecError::new(self.text, problem)
    }
}

/// Members, those that differ by consecutive states alone as one range, as [`parse_list`] reads it.
pub(super) fn joined(members: &[Estimator]) -> String {
    let specs: Vec<String> = members.iter().map(|member| member.spec()).collect();
    let mut names = Vec::new();
    let mut rest = specs.as_slice();
    while let [first, others @ ..] = rest {
        let Some((before, from, after)) = around_state(first) else {
            names.push(first.clone());
            rest = others;
            continue;
        };
        let follows = |(k, spec): (usize, &String)| around_state(spec) == Some((before, from + k, after));
        let length = rest.iter().enumerate().take_while(|&pair| follows(pair)).count();
        names.push(match length {
            1 => first.clone(),
            _ => format!("{before}{from}..{}{after}", from + length - 1),
        });
        rest = &rest[length..];
    }
    names.join(",")
}

/// The t of `state=t` among the settings of a specification, with what stands before and after it.
fn around_state(spec: &str) -> Option<(&str, usize, &str)> {
    const KEY: &str = "state=";
    let (at, _) = spec.match_indices(KEY).find(|(at, _)| spec[..*at].ends_with([':', ',']))?;
    let (before, value) = spec.split_at(at + KEY.len());
    let (t, after) = value.split_at(value.find(',').unwrap_or(value.len()));
    // Settings of a member of the member are not its own.
    let t = t.parse().ok().filter(|_| !before.contains('('))?;
    Some((before, t, after))
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
fn parse_one(text: &str) -> Result<Vec<Estimator>, SpecError> {
    let (name, rest) = text.split_at(text.find([':', '(']).unwrap_or(text.len()));
    let kind = registry::kind(name).map_err(|problem| SpecError::new(text, problem))?;
    let members = match rest.strip_prefix('(').map(|rest| rest.strip_suffix(')')) {
        Some(None) => return Err(SpecError::new(text, format!("`{name}(..)` goes on after its `)`"))),
        Some(members) => members,
        None => None,
    };
    let settings = rest.strip_prefix(':').unwrap_or("").split(',');
    let settings: Vec<String> = settings.filter(|setting| !setting.is_empty()).map(str::to_owned).collect();
    let mut spec = Spec { text, name, settings, members };
    let Some((place, range)) = states(&spec)? else {
        return Ok(vec![(kind.parse)(&spec)?]);
    };
    range
        .map(|t| {
            spec.settings[place] = format!("state={t}");
            (kind.parse)(&spec)
        })
        .collect()
}

/// Which of the settings is a range of states, if one is, and the range.
fn states(spec: &Spec<'_>) -> Result<Option<(usize, std::ops::RangeInclusive<usize>)>, SpecError> {
    let of = |setting: &str| -> Option<(String, String)> {
        let (from, to) = setting.strip_prefix("state=")?.split_once("..")?;
        Some((from.to_owned(), to.to_owned()))
    };
    let found = spec.settings.iter().enumerate().find_map(|(place, setting)| Some((place, of(setting)?)));
    let Some((place, (from, to))) = found else { return Ok(None) };
    match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) if from >= 1 && from <= to && to <= MAX_STEPS => Ok(Some((place, from..=to))),
        _ => {
            let problem = format!("state={from}..{to} is not a range A..B with 1 <= A <= B <= {MAX_STEPS}");
            Err(spec.error(problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::EstimatorError;

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
            "shift",
            "smooth(0.1)",
            "lock-in(1,0,0,0)",
            "lock-in(0.25,-1,smooth(10))",
            "off(ensemble(exact,through-solver))",
        ] {
            assert_eq!(spec.parse::<Estimator>().unwrap().to_string(), spec);
        }
    }

    #[test]
    fn commas_separate_estimators_and_their_settings() {
        let list = parse_list("exact,unrolled:state=3,lead=1,ensemble(exact,unrolled:state=1..2,steps=0)");
        let list = list.unwrap();
        assert_eq!(list.len(), 3);
        let members = "ensemble(exact,unrolled:state=1..2,lead=1,steps=0,damping=0.5)";
        assert_eq!(list[2].to_string(), members);
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
            (
                "nothing",
                "unknown; use exact, unrolled:state=T,lead=L,steps=K,damping=D, adjoint:state=T,beta=B, \
                 through-solver, ensemble(..), joint(..), aimed(..), shift, smooth(C), lock-in(W,W,..,METHOD) or \
                 off(METHOD)",
            ),
            ("exact:state=1", "takes no settings"),
            ("exact(adjoint)", "takes no members"),
            ("ensemble", "members in parentheses"),
            ("ensemble()", "unknown; use exact"),
            ("ensemble(exact),lead=2", "goes on after its `)`"),
            ("unrolled:state", "`state` is not KEY=VALUE"),
            ("unrolled:lead=x", "lead=x: a whole number is needed"),
            ("adjoint:state=2..1", "is not a range"),
            ("smooth", "takes parentheses, as in smooth(1)"),
            ("smooth(0)", "C is a positive number"),
            ("smooth(much)", "C is a positive number"),
            ("shift:c=1", "takes no settings"),
            ("lock-in(0,0)", "one of them not 0"),
            ("lock-in(1,x,0)", "a weight for each segment"),
            ("lock-in(1,exact)", "a weight for each segment"),
            ("off(shift)", "one gradient of the undefended model"),
        ] {
            let message = spec.parse::<Estimator>().unwrap_err().to_string();
            assert!(message.contains(problem), "{spec}: {message}");
        }
    }

    #[test]
    fn what_makes_no_sense_cannot_be_built() {
        let problem = |built: Result<Estimator, EstimatorError>| built.unwrap_err().to_string();
        let (exact, through) = (Estimator::exact, Estimator::through_solver);
        for (message, expected) in [
            (
                problem(Estimator::joint(vec![exact(), through()])),
                "`joint(exact,through-solver)`: members of `joint`",
            ),
            (problem(Estimator::joint(vec![])), "at least one member"),
            (problem(Estimator::ensemble(vec![])), "`ensemble()`: give at least one member"),
            (problem(Estimator::aimed(through())), "`aimed(through-solver)`: `aimed` takes one method"),
        ] {
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(Estimator::joint(vec![exact()]).unwrap(), "joint(exact)".parse().unwrap());
    }

    /// Only what reads the same way back is written as a range.
    #[test]
    fn ranges_are_of_members_that_differ_in_their_state_alone() {
        let joint = |t: usize| format!("joint(unrolled:state={t},lead=1,steps=0,damping=0.5)");
        let spec = format!("ensemble({},{})", joint(1), joint(2));
        let estimator: Estimator = spec.parse().unwrap();
        assert_eq!(estimator.to_string(), spec);
        let apart = "ensemble(adjoint:state=1,beta=1,adjoint:state=2,beta=0.5,adjoint:state=4,beta=0.5)";
        assert_eq!(apart.parse::<Estimator>().unwrap().to_string(), apart);
    }
}
