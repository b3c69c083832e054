//! The kinds of estimators, by the names with which their specifications begin.

use super::{
    Estimator, Spec, SpecError, adjoint, aimed, ensemble, exact, joint, lock_in, off, shift, smooth,
    through_solver, unrolled,
};
use equipoise_attack::registry::{Named, Unknown, named};

/// A kind of estimator: how its specification begins, looks, and is read.
///
/// [`register!`](equipoise_attack::register) makes a kind of another crate known wherever an estimator is read.
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

impl Named for EstimatorKind {
    const BUILT_IN: &'static [Self] = &[
        exact::KIND,
        unrolled::KIND,
        adjoint::KIND,
        through_solver::KIND,
        ensemble::KIND,
        joint::KIND,
        aimed::KIND,
        shift::KIND,
        smooth::KIND,
        lock_in::KIND,
        off::KIND,
    ];

    fn name(&self) -> &'static str {
        self.name
    }

    fn usage(&self) -> &'static str {
        self.usage
    }
}

/// The kind of this name; else what is wrong with it.
pub(super) fn kind(name: &str) -> Result<EstimatorKind, String> {
    named(name).map_err(|unknown| match unknown {
        Unknown::Name(usages) => format!("unknown; use {usages}"),
        Unknown::Ambiguous(count) => format!("{count} kinds are registered as `{name}`"),
    })
}
