//! The cases: pieces of work that this library and a PyTorch program can both do.

use equipoise::solve::SolverConfig;
use equipoise::victim::Deployment;

/// A piece of work.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name on the command line and in the record.
    pub name: &'static str,
    /// What is done, for a batch.
    pub about: &'static str,
    /// What our worker is asked for; see [`super::worker::Task`].
    pub ours: &'static str,
    /// What the PyTorch worker is asked for, if that differs.
    pub theirs: &'static str,
    /// Which models can do it.
    pub by: By,
    /// Whether the model is deployed with the unrolled tail.
    unrolled: bool,
}

/// Which models can do a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Those that solve for a state.
    Equilibrium,
    /// Those that go from images to logits in one pass.
    Feedforward,
    /// All.
    Any,
}

const fn same(name: &'static str, about: &'static str) -> Case {
    Case { name, about, ours: name, theirs: name, by: By::Equilibrium, unrolled: false }
}

/// The state after each of the 8 solver steps, one application of f each.
const ENSEMBLE: &str = "pgd:ensemble(unrolled:state=1..8,lead=1,steps=0)";

/// All of them, in the order in which they are run.
pub const CASES: [Case; 13] = [
    same("cell-forward", "f(z; x)"),
    same("cell-vjp", "one vector-Jacobian product, to state and injection, at a kept linearisation"),
    same("low-rank", "the low-rank products of a forward solve alone"),
    same("solve", "forward solve, 8 Broyden steps"),
    Case {
        ours: "pgd:exact",
        theirs: "pgd:exact",
        ..same("pgd-exact", "PGD step, exact gradient, 7 backward steps")
    },
    Case {
        ours: UNROLLED,
        theirs: UNROLLED,
        unrolled: true,
        ..same("pgd-unrolled", "PGD step, gradient through 1 + 9 applications of f")
    },
    Case {
        ours: ENSEMBLE,
        theirs: "pgd:resolve(unrolled:state=1..8,lead=1,steps=0)",
        ..same(
            "pgd-ensemble",
            "PGD step, mean gradient over 8 states; PyTorch solves again for each, as the authors do",
        )
    },
    Case {
        ours: ENSEMBLE,
        theirs: ENSEMBLE,
        ..same("pgd-ensemble-shared", "the same, PyTorch with one trajectory too")
    },
    same("vote", "votes of smoothing on 16 batches of draws of one image: noise, stem, solve, tail, head"),
    same("vote-fast", "the same by serialized smoothing: one solver step from the end of the batch before"),
    Case { by: By::Feedforward, ..same("logits", "from images to logits") },
    Case { ours: "pgd:exact", by: By::Feedforward, ..same("pgd", "PGD step") },
    Case {
        by: By::Any,
        ..same("train-step", "adversarial training step: one PGD step and one Adam step, exact gradients")
    },
];

const UNROLLED: &str = "pgd:unrolled:state=best,lead=1,steps=9,damping=0.5";

/// Sections of the benchmark that are not cases.
pub const SECTIONS: [&str; 4] = ["memory", "threads", "verdict", "autoattack"];

impl Case {
    /// How the model is used in this case.
    pub fn deployment(&self) -> Deployment {
        deployment(self.unrolled)
    }

    /// Whether such a model can do it.
    pub fn is_for(&self, equilibrium: bool) -> bool {
        match self.by {
            By::Any => true,
            By::Equilibrium => equilibrium,
            By::Feedforward => !equilibrium,
        }
    }
}

/// 8 forward and 7 backward steps, all of them taken: with a tolerance, how many are taken would depend on
/// rounding, and timings with it.
pub fn deployment(unrolled: bool) -> Deployment {
    let base = if unrolled { Deployment::unrolled() } else { Deployment::exact() };
    Deployment {
        solver: SolverConfig::broyden(8).with_tolerance(0.0),
        backward: SolverConfig::broyden(7).with_tolerance(0.0),
        ..base
    }
}
