//! Attacks by name, as they stand on the command line and in tables.
//!
//! Each family of attacks has one entry in a table: the form of its names, in words, and a function that
//! makes an attack of a name, or declines it. A new family is a new entry.

use std::fmt;

use thiserror::Error;

use super::Attack;
use super::apgd::{Apgd, ApgdConfig, ApgdLoss};
use super::fab::{Fab, FabConfig};
use super::pgd::{Pgd, PgdConfig, PgdLoss};
use super::square::{Square, SquareConfig};

/// A family of attacks: how its names look, and what they mean.
struct Family {
    form: &'static str,
    parse: fn(&str) -> Option<Box<dyn Attack>>,
}

const FAMILIES: &[Family] = &[
    Family {
        form: "pgd-STEPS[xRESTARTS][-margin][-warm] such as pgd-10, pgd-50x5, pgd-10-margin",
        parse: parse_pgd,
    },
    Family {
        form: "apgd-ce, apgd-dlr and apgd-t, with [-ITERATIONS[xRESTARTS]] such as apgd-ce-50, apgd-dlr-100x5",
        parse: parse_apgd,
    },
    Family {
        form: "fab-t and fab, with [-ITERATIONS[xRESTARTS]] such as fab-t-50, fab-100x5",
        parse: parse_fab,
    },
    Family { form: "square[-QUERIES[xRESTARTS]] such as square, square-1000", parse: parse_square },
];

/// Attacks that are run together, by the names they have alone.
struct Set {
    name: &'static str,
    attacks: &'static [&'static str],
}

const SETS: &[Set] = &[
    // The order and the numbers of restarts are those of the reference implementation.
    Set { name: "autoattack", attacks: &["apgd-ce", "apgd-t", "fab-t", "square"] },
    Set {
        name: "autoattack-plus",
        attacks: &["apgd-ce-100x5", "apgd-dlr-100x5", "fab-100x5", "square", "apgd-t", "fab-t"],
    },
];

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

/// The attacks of a set, in the order in which they are to be run, or the attack of this name alone.
///
/// `autoattack` is the standard version of Croce and Hein (2020, arXiv 2003.01690): APGD-CE, APGD-T, FAB-T and
/// Square, each on the points that survive those before it. `autoattack-plus` is the version with more attacks
/// and restarts.
///
/// ```
/// # use equipoise::attack;
/// let names: Vec<_> = attack::set("autoattack")?.iter().map(|attack| attack.name()).collect();
/// assert_eq!(names, ["apgd-ce", "apgd-t", "fab-t", "square"]);
/// # Ok::<(), attack::UnknownAttack>(())
/// ```
///
/// # Errors
///
/// [`UnknownAttack`], which lists the names there are.
pub fn set(name: &str) -> Result<Vec<Box<dyn Attack>>, UnknownAttack> {
    match SETS.iter().find(|set| set.name == name.trim()) {
        Some(set) => set.attacks.iter().copied().map(parse).collect(),
        None => parse(name).map(|attack| vec![attack]).map_err(|error| {
            let sets = SETS.iter().map(|set| set.name).collect::<Vec<_>>().join(", ");
            UnknownAttack { known: format!("{}; sets of attacks are {sets}", error.known), ..error }
        }),
    }
}

fn parse_pgd(name: &str) -> Option<Box<dyn Attack>> {
    let rest = name.strip_prefix("pgd-")?;
    let (rest, warm_start) = match rest.strip_suffix("-warm") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (count, objective) = match rest.strip_suffix("-margin") {
        Some(count) => (count, PgdLoss::Margin),
        None => (rest, PgdLoss::CrossEntropy),
    };
    let (steps, restarts) = count.split_once('x').unwrap_or((count, "1"));
    let (steps, restarts) = (natural(steps)?, natural(restarts)?);
    let config = PgdConfig { steps, restarts, objective, warm_start, ..PgdConfig::default() };
    Some(Box::new(Pgd::new(config).ok()?))
}

fn parse_apgd(name: &str) -> Option<Box<dyn Attack>> {
    let losses = [
        ("apgd-ce", ApgdLoss::CrossEntropy),
        ("apgd-dlr", ApgdLoss::Dlr),
        ("apgd-t", ApgdLoss::TargetedDlr { targets: USUAL_TARGETS }),
    ];
    losses.into_iter().find_map(|(family, loss)| {
        let usual = ApgdConfig { loss, ..ApgdConfig::default() };
        let (iterations, restarts) = counts(name, family, usual.iterations)?;
        Some(Box::new(Apgd::new(ApgdConfig { iterations, restarts, ..usual }).ok()?) as Box<dyn Attack>)
    })
}

fn parse_fab(name: &str) -> Option<Box<dyn Attack>> {
    // The longer name first: `fab` is how both begin.
    [("fab-t", Some(USUAL_TARGETS)), ("fab", None)].into_iter().find_map(|(family, targets)| {
        let usual = FabConfig { targets, ..FabConfig::default() };
        let (iterations, restarts) = counts(name, family, usual.iterations)?;
        Some(Box::new(Fab::new(FabConfig { iterations, restarts, ..usual }).ok()?) as Box<dyn Attack>)
    })
}

fn parse_square(name: &str) -> Option<Box<dyn Attack>> {
    let usual = SquareConfig::default();
    let (queries, restarts) = counts(name, "square", usual.queries)?;
    Some(Box::new(Square::new(SquareConfig { queries, restarts, ..usual }).ok()?))
}

/// Target classes of the targeted attacks in the reference implementation.
const USUAL_TARGETS: usize = 9;

/// Iterations and restarts in a name of the form `family[-ITERATIONS[xRESTARTS]]`.
fn counts(name: &str, family: &str, usual: usize) -> Option<(usize, usize)> {
    let rest = name.strip_prefix(family)?;
    if rest.is_empty() {
        return Some((usual, 1));
    }
    let rest = rest.strip_prefix('-')?;
    let (iterations, restarts) = rest.split_once('x').unwrap_or((rest, "1"));
    Some((natural(iterations)?, natural(restarts)?))
}

/// Writes what [`counts`] reads, in its shortest form.
pub(super) fn write_name(
    f: &mut fmt::Formatter<'_>,
    family: &str,
    (iterations, usual): (usize, usize),
    restarts: usize,
) -> fmt::Result {
    match (iterations == usual, restarts) {
        (true, 1) => write!(f, "{family}"),
        (_, 1) => write!(f, "{family}-{iterations}"),
        _ => write!(f, "{family}-{iterations}x{restarts}"),
    }
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
        for family in ["apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "fab", "square"] {
            for suffix in ["", "-7", "-7x3"] {
                let name = format!("{family}{suffix}");
                assert_eq!(parse(&name).unwrap().name(), name);
            }
        }
        assert_eq!(parse("apgd-t-100").unwrap().name(), "apgd-t");
        assert_eq!(parse("square-5000x2").unwrap().name(), "square-5000x2");
    }

    #[test]
    fn sets_are_those_of_the_reference() {
        let names = |set_name| set(set_name).unwrap().iter().map(|attack| attack.name()).collect::<Vec<_>>();
        assert_eq!(names("autoattack"), ["apgd-ce", "apgd-t", "fab-t", "square"]);
        let plus = ["apgd-ce-100x5", "apgd-dlr-100x5", "fab-100x5", "square", "apgd-t", "fab-t"];
        assert_eq!(names("autoattack-plus"), plus);
        assert_eq!(names("pgd-10"), ["pgd-10"]);
        let Err(error) = set("auto") else { panic!("auto was read") };
        assert!(error.to_string().contains("autoattack-plus"), "{error}");
        assert_eq!(error.name, "auto");
    }

    #[test]
    fn other_names_are_refused_with_a_list() {
        for name in [
            "",
            "pgd",
            "pgd-",
            "pgd-0",
            "pgd-10x0",
            "pgd-10x",
            "pgd-+5",
            "pgd--5",
            "pgd-10-dlr",
            "fgsm",
            "apgd",
            "apgd-cex",
            "apgd-ce-",
            "apgd-ce-0",
            "apgd-t-5x",
            "fab-x",
            "fab-t-0x1",
            "squares",
            "square-1e3",
            "autoattack",
        ] {
            let Err(error) = parse(name) else { panic!("{name} was read") };
            assert!(error.to_string().contains("pgd-STEPS"), "{error}");
        }
    }
}
