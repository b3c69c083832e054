//! Norms: which attacks search in which balls.

use thiserror::Error;

use super::names::{listed, possible, set};
use super::{Attack, Norm};

/// An attack has no form for a norm.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{attack} does not search in {norm} balls: with {norm} use {possible}")]
pub struct UnsupportedNorm {
    /// The attack's name.
    pub attack: String,
    /// The norm.
    pub norm: Norm,
    /// The attacks that search in its balls.
    pub possible: String,
}

/// Whether an attack searches in balls of this norm.
pub(super) fn searches_in(attack: &(impl Attack + ?Sized), norm: Norm) -> Result<(), UnsupportedNorm> {
    if attack.norms().contains(&norm) {
        return Ok(());
    }
    let mut possible = listed(&possible(|other| other.norms().contains(&norm)));
    let standard = set("autoattack").unwrap_or_default();
    let remain = standard.iter().filter(|member| member.norms().contains(&norm));
    let remain: Vec<String> = remain.map(|member| member.name()).collect();
    if remain.len() < standard.len() {
        possible.push_str(&format!(" (in place of autoattack: {})", remain.join(",")));
    }
    Err(UnsupportedNorm { attack: attack.name(), norm, possible })
}

#[cfg(test)]
mod tests {
    use crate::attack::{Norm, parse};

    #[test]
    fn only_apgd_searches_in_l1() {
        for (name, fine) in [
            ("apgd-ce", true),
            ("apgd-dlr", true),
            ("apgd-t", true),
            ("pgd-10", false),
            ("fab-t", false),
            ("fab", false),
            ("square", false),
        ] {
            let attack = parse(name).unwrap();
            assert_eq!(attack.check_norm(Norm::L1).is_ok(), fine, "{name}");
            assert!(attack.check_norm(Norm::Linf).is_ok() && attack.check_norm(Norm::L2).is_ok());
            if let Err(error) = attack.check_norm(Norm::L1) {
                let text = error.to_string();
                assert!(text.contains(name) && text.contains("apgd-ce,apgd-t"), "{text}");
            }
        }
    }
}
