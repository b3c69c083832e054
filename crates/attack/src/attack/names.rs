//! Attacks by name, as they stand on the command line and in tables.
//!
//! The table in `registry.rs` has one entry for each family of attacks: each attack's own file says how its names look and what they mean.
//! [`register!`](crate::register) adds a family of another crate.

use thiserror::Error;

use super::Attack;
use crate::registry::all;

/// A family of attacks: how their names look, and what they mean.
///
/// [`register!`](crate::register) makes a family of another crate known to [`parse`] and [`set`], and so to an assessment.
#[derive(Debug, Clone, Copy)]
pub struct AttackFamily {
    /// Names of its attacks with their usual settings, which error messages recommend.
    pub names: &'static [&'static str],
    /// The form of its names, in words and with examples.
    pub usage: &'static str,
    /// The attack of a name, or `None` for a name of another family. [`Counts::read`] reads what names usually hold.
    pub parse: fn(&str) -> ParsedName,
}

/// What a family makes of a name: an attack, or `None` of another family's.
pub type ParsedName = Result<Option<Box<dyn Attack>>, AttackNameError>;

inventory::collect!(AttackFamily);

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

/// A name that is no attack's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AttackNameError {
    /// No family has such names.
    #[error("unknown attack `{name}`: the attacks are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The forms of all names.
        known: String,
    },
    /// Several families have such names.
    #[error("attack `{0}`: {1} families are registered with such names")]
    Ambiguous(String, usize),
    /// A number in the name is beyond what can be asked for.
    #[error("attack `{name}`: {number} is too many, use 1 to {most} steps and 1 to {most} restarts", most = Counts::MOST)]
    TooMany {
        /// What was asked for.
        name: String,
        /// The number.
        number: String,
    },
}

/// The attack of this name, with the settings that the name implies.
///
/// ```
/// # use equipoise_attack::attack;
/// assert_eq!(attack::parse("pgd-20x3")?.name(), "pgd-20x3");
/// assert!(attack::parse("pdg-10").is_err());
/// # Ok::<(), attack::AttackNameError>(())
/// ```
///
/// # Errors
///
/// [`AttackNameError`], which lists the names there are, or says which numbers a name can hold.
pub fn parse(name: &str) -> Result<Box<dyn Attack>, AttackNameError> {
    let families = all::<AttackFamily>();
    let mut found = Vec::new();
    for family in &families {
        match (family.parse)(name.trim()) {
            Ok(attack) => found.extend(attack),
            Err(AttackNameError::TooMany { number, .. }) => {
                return Err(AttackNameError::TooMany { name: name.trim().to_owned(), number });
            }
            Err(error) => return Err(error),
        }
    }
    if found.len() > 1 {
        return Err(AttackNameError::Ambiguous(name.trim().to_owned(), found.len()));
    }
    if let Some(attack) = found.pop() {
        return Ok(attack);
    }
    let known: Vec<&str> = families.iter().map(|family| family.usage).collect();
    Err(AttackNameError::Unknown { name: name.to_owned(), known: known.join("; ") })
}

/// The attacks of a set, in the order in which they are to be run, or the attack of this name alone.
///
/// `autoattack` is the standard version of Croce and Hein (2020, arXiv 2003.01690): APGD-CE, APGD-T, FAB-T and
/// Square, each on the points that survive those before it. `autoattack-plus` is the version with more attacks
/// and restarts.
///
/// ```
/// # use equipoise_attack::attack;
/// let names: Vec<_> = attack::set("autoattack")?.iter().map(|attack| attack.name()).collect();
/// assert_eq!(names, ["apgd-ce", "apgd-t", "fab-t", "square"]);
/// # Ok::<(), attack::AttackNameError>(())
/// ```
///
/// # Errors
///
/// [`AttackNameError`], as for [`parse`].
pub fn set(name: &str) -> Result<Vec<Box<dyn Attack>>, AttackNameError> {
    match SETS.iter().find(|set| set.name == name.trim()) {
        Some(set) => set.attacks.iter().copied().map(parse).collect(),
        None => parse(name).map(|attack| vec![attack]).map_err(|error| {
            let sets = SETS.iter().map(|set| set.name).collect::<Vec<_>>().join(", ");
            error.or(&format!("; sets of attacks are {sets}"))
        }),
    }
}

impl AttackNameError {
    /// Adds to the names there are.
    pub fn or(self, more: &str) -> Self {
        match self {
            Self::Unknown { name, known } => Self::Unknown { name, known: known + more },
            error => error,
        }
    }
}

/// Names of the attacks with the usual settings that are of this kind.
pub(super) fn possible(is: impl Fn(&dyn Attack) -> bool) -> Vec<&'static str> {
    let names = all::<AttackFamily>().into_iter().flat_map(|family| family.names);
    names.copied().filter(|name| parse(name).is_ok_and(|attack| is(attack.as_ref()))).collect()
}

/// Names in a sentence: `a, b or c`.
pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [] => "another attack".to_owned(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// What [`AttackFamily::parse`] makes of a configuration.
pub(super) fn boxed<E>(attack: Result<impl Attack + 'static, E>) -> Option<Box<dyn Attack>> {
    attack.ok().map(|attack| Box::new(attack) as Box<dyn Attack>)
}

/// Steps and restarts, as they stand in a name of the form `family-STEPS[xRESTARTS]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Steps of a search, whatever the attack calls them.
    pub steps: usize,
    /// Independent searches.
    pub restarts: usize,
}

impl Counts {
    /// The most steps, and the most restarts, that a name can ask for.
    pub const MOST: usize = 1_000_000;

    /// Reads `family-STEPS[xRESTARTS]`, and `family` alone where there is a `usual` number of steps. `None` for any
    /// other name.
    ///
    /// ```
    /// # use equipoise_attack::attack::Counts;
    /// assert_eq!(Counts::read("mi-fgsm-10x3", "mi-fgsm", None)?, Some(Counts { steps: 10, restarts: 3 }));
    /// assert_eq!(Counts::read("mi-fgsm", "mi-fgsm", None)?, None);
    /// # Ok::<(), equipoise_attack::attack::AttackNameError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`AttackNameError::TooMany`] for a number beyond [`Self::MOST`].
    pub fn read(name: &str, family: &str, usual: Option<usize>) -> Result<Option<Self>, AttackNameError> {
        let Some(rest) = name.strip_prefix(family) else { return Ok(None) };
        if rest.is_empty() {
            return Ok(usual.map(|steps| Self { steps, restarts: 1 }));
        }
        let Some(rest) = rest.strip_prefix('-') else { return Ok(None) };
        let (steps, restarts) = rest.split_once('x').unwrap_or((rest, "1"));
        if !is_natural(steps) || !is_natural(restarts) {
            return Ok(None);
        }
        let number =
            |digits: &str| {
                // Digits that do not fit into a number are too many as well.
                digits.parse().ok().filter(|number| *number <= Self::MOST).ok_or_else(|| {
                    AttackNameError::TooMany { name: name.to_owned(), number: digits.to_owned() }
                })
            };
        Ok(Some(Self { steps: number(steps)?, restarts: number(restarts)? }))
    }

    /// Writes what [`Self::read`] reads, in its shortest form.
    pub fn name(&self, family: &str, usual: Option<usize>) -> String {
        match (Some(self.steps) == usual, self.restarts) {
            (true, 1) => family.to_owned(),
            (_, 1) => format!("{family}-{}", self.steps),
            _ => format!("{family}-{}x{}", self.steps, self.restarts),
        }
    }
}

/// Whether this is a positive whole number in plain digits, however large.
fn is_natural(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Named;

    #[test]
    fn names_are_read_back() {
        for name in ["pgd-1", "pgd-10", "pgd-10x5", "pgd-100-margin", "pgd-7x2-margin", "pgd-7x2-pma"] {
            assert_eq!(parse(name).unwrap().name(), name);
        }
        assert_eq!(parse(" pgd-10 ").unwrap().name(), "pgd-10");
        for family in ["apgd-ce", "apgd-dlr", "apgd-pma", "apgd-t", "apgd-t-malt", "fab-t", "fab", "square"] {
            for suffix in ["", "-7", "-7x3"] {
                let name = format!("{family}{suffix}");
                assert_eq!(parse(&name).unwrap().name(), name);
            }
        }
        assert_eq!(parse("apgd-t-100").unwrap().name(), "apgd-t");
        assert_eq!(parse("square-5000x2").unwrap().name(), "square-5000x2");
    }

    /// Under the same name, with other settings: a journal of one is not continued by the other.
    #[test]
    fn some_attacks_can_be_told_to_take_all_their_steps() {
        for name in ["pgd-10", "pgd-50x5-margin-warm", "apgd-ce", "apgd-pma-20x2"] {
            let attack = parse(name).unwrap();
            let whole = attack.to_the_end().expect(name);
            assert_eq!(whole.name(), name);
            assert!(whole.settings() != attack.settings() && whole.settings().contains("after all steps"));
            assert_eq!(whole.to_the_end().expect(name).settings(), whole.settings());
        }
        // Losses for several targets cannot be compared, and the others end as they end.
        for name in ["apgd-t", "apgd-t-malt", "fab-t", "square"] {
            assert!(parse(name).unwrap().to_the_end().is_none(), "{name}");
        }
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
        assert!(matches!(error, AttackNameError::Unknown { name, .. } if name == "auto"));
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
            "pgd-10-margin-pma",
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

    #[test]
    fn numbers_have_a_bound() {
        assert_eq!(parse("pgd-1000000x1000000").unwrap().name(), "pgd-1000000x1000000");
        for (name, number) in [
            ("pgd-99999999999", "99999999999"),
            ("pgd-10x1000001-margin-warm", "1000001"),
            ("apgd-t-1000001", "1000001"),
            ("fab-2000000x2", "2000000"),
            ("square-340282366920938463463374607431768211456", "340282366920938463463374607431768211456"),
        ] {
            let message = parse(name).unwrap_err().to_string();
            assert!(message.contains(number) && message.contains("1 to 1000000 steps"), "{message}");
            assert_eq!(set(name).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_names_of_every_family_are_read_back() {
        for family in AttackFamily::BUILT_IN {
            for &name in family.names {
                assert_eq!(parse(name).unwrap().name(), name);
                assert!(family.usage.contains(name), "{name} stands in {}", family.usage);
            }
        }
    }
}
