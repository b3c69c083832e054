//! The kinds of estimators, by the names with which their specifications begin.

use super::{Estimator, Spec, SpecError, adjoint, aimed, ensemble, exact, joint, through_solver, unrolled};

/// The built-in kinds, in the order in which messages name them.
const KINDS: &[EstimatorKind] = &[
    exact::KIND,
    unrolled::KIND,
    adjoint::KIND,
    through_solver::KIND,
    ensemble::KIND,
    joint::KIND,
    aimed::KIND,
];

/// A kind of estimator: how its specification begins, looks, and is read.
///
/// [`register!`](crate::register) makes a kind of another crate known wherever an estimator is read.
#[derive(Debug, Clone, Copy)]
pub struct EstimatorKind {
    /// What specifications begin with, up to a colon or a parenthesis.
    pub name: &'static str,
    /// How they look, for messages.
    pub usage: &'static str,
    /// Reads a specification of this name. A range `state=A..B` has been taken apart before: it stands for one
    /// specification for each state.
    pub parse: fn(&Spec<'_>) -> Result<Estimator, SpecError>,
}

inventory::collect!(EstimatorKind);

/// The built-in kinds, then those of other crates by name.
fn kinds() -> Vec<EstimatorKind> {
    let mut others: Vec<EstimatorKind> = inventory::iter::<EstimatorKind>.into_iter().copied().collect();
    others.sort_by_key(|kind| kind.name);
    [KINDS, &others].concat()
}

/// The kind of this name; else what is wrong with it.
pub(super) fn kind(name: &str) -> Result<EstimatorKind, String> {
    let kinds = kinds();
    let found: Vec<&EstimatorKind> = kinds.iter().filter(|kind| kind.name == name).collect();
    match found.as_slice() {
        [kind] => Ok(**kind),
        [] => {
            let usages: Vec<&str> = kinds.iter().map(|kind| kind.usage).collect();
            let (last, others) = usages.split_last().expect("there are built-in kinds");
            Err(format!("unknown; use {} or {last}", others.join(", ")))
        }
        _ => Err(format!("{} kinds are registered as `{name}`", found.len())),
    }
}
