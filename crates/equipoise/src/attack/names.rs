//! Attacks by name, as they stand on the command line and in tables.
//!
//! Each family of attacks has one entry in a table: the form of its names, in words, and a function that
//! makes an attack of a name, or declines it. A new family is a new entry.

use thiserror::Error;

use super::Attack;
use super::pgd::{Pgd, PgdConfig, PgdLoss};

/// A family of attacks: how its names look, and what they mean.
struct Family {
    form: &'static str,
    parse: fn(&str) -> Option<Box<dyn Attack>>,
}

const FAMILIES: &[Family] = &[Family {
    form: "pgd-STEPS[xRESTARTS][-margin] such as pgd-10, pgd-50x5, pgd-10-margin",
    parse: parse_pgd,
}];

/// A name that no attack has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown attack `{name}`: the attacks are {known}")]
pub struct UnknownAttack {
    /// What was asked for.
    pub name: String,
    /// The forms of all names.
    pub known: String,
}

/// The attack of this name, with the settings that the name implies.
///
/// ```
/// # use equipoise::attack;
/// assert_eq!(attack::parse("pgd-20x3")?.name(), "pgd-20x3");
/// assert!(attack::parse("pdg-10").is_err());
/// # Ok::<(), attack::UnknownAttack>(())
/// ```
///
/// # Errors
///
/// [`UnknownAttack`], which lists the names there are.
pub fn parse(name: &str) -> Result<Box<dyn Attack>, UnknownAttack> {
    FAMILIES.iter().find_map(|family| (family.parse)(name.trim())).ok_or_else(|| UnknownAttack {
        name: name.to_owned(),
        known: FAMILIES.iter().map(|family| family.form).collect::<Vec<_>>().join("; "),
    })
}

fn parse_pgd(name: &str) -> Option<Box<dyn Attack>> {
    let rest = name.strip_prefix("pgd-")?;
    let (count, objective) = match rest.strip_suffix("-margin") {
        Some(count) => (count, PgdLoss::Margin),
        None => (rest, PgdLoss::CrossEntropy),
    };
    let (steps, restarts) = count.split_once('x').unwrap_or((count, "1"));
    let config =
        PgdConfig { steps: natural(steps)?, restarts: natural(restarts)?, objective, ..PgdConfig::default() };
    Some(Box::new(Pgd::new(config).ok()?))
}

/// A positive whole number in plain digits.
fn natural(text: &str) -> Option<usize> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in ["pgd-1", "pgd-10", "pgd-10x5", "pgd-100-margin", "pgd-7x2-margin"] {
            assert_eq!(parse(name).unwrap().name(), name);
        }
        assert_eq!(parse(" pgd-10 ").unwrap().name(), "pgd-10");
    }

    #[test]
    fn other_names_are_refused_with_a_list() {
        for name in
            ["", "pgd", "pgd-", "pgd-0", "pgd-10x0", "pgd-10x", "pgd-+5", "pgd--5", "pgd-10-dlr", "fgsm"]
        {
            let Err(error) = parse(name) else { panic!("{name} was read") };
            assert!(error.to_string().contains("pgd-STEPS"), "{error}");
        }
    }
}
