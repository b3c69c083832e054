//! Norms: which attacks search in which balls.

use thiserror::Error;

use super::{Attack, Budget, Norm};

/// An attack has no form for a norm.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{attack} does not search in {norm} balls: with {norm} use apgd-ce, apgd-dlr or apgd-t (in place of autoattack: \
     apgd-ce,apgd-t)"
)]
pub struct UnsupportedNorm {
    /// The attack's name.
    pub attack: String,
    /// The norm.
    pub norm: Norm,
}

/// For attacks that know L∞ and L2 alone. A step of steepest ascent in L1 changes one pixel, and a ball of L1 leaves
/// few pixels to change: what is made for the others finds next to nothing there.
pub(super) fn not_l1(attack: &dyn Attack, norm: Norm) -> Result<(), UnsupportedNorm> {
    match norm {
        Norm::Linf | Norm::L2 => Ok(()),
        Norm::L1 => Err(UnsupportedNorm { attack: attack.name(), norm }),
    }
}

/// For attacks, whose callers have checked.
///
/// # Panics
///
/// If the attack does not search in balls of this norm.
pub(super) fn right_norm(attack: &dyn Attack, budget: &Budget) {
    if let Err(error) = attack.check_norm(budget.norm()) {
        panic!("{error}");
    }
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
