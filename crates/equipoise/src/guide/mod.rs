// The pages of `docs/guide`, so that their examples are compiled and run with the tests. A page's last lines say where
// its links lead on GitHub; `links.md`, which comes before them, says where the same labels lead here: the first
// definition of a label counts. `guide` is a symbolic link to `docs/guide`, so that the published crate holds the pages.
#![doc = include_str!("links.md")]
#![doc = include_str!("../../guide/README.md")]

macro_rules! page {
    ($name:ident, $file:literal) => {
        #[doc = include_str!("links.md")]
        #[doc = include_str!(concat!("../../guide/", $file))]
        pub mod $name {}
    };
}

page!(equilibrium, "equilibrium.md");
page!(gradients_overview, "gradients.md");

/// Gradient estimators, a page each.
pub mod gradients {
    page!(exact, "gradients/exact.md");
    page!(unrolled, "gradients/unrolled.md");
    page!(adjoint, "gradients/adjoint.md");
    page!(through_solver, "gradients/through-solver.md");
    page!(ensemble, "gradients/ensemble.md");
    page!(joint, "gradients/joint.md");
    page!(aimed, "gradients/aimed.md");
}

page!(attacks_overview, "attacks.md");

/// Attacks, a page each.
pub mod attacks {
    page!(pgd, "attacks/pgd.md");
    page!(apgd, "attacks/apgd.md");
    page!(fab, "attacks/fab.md");
    page!(square, "attacks/square.md");
    page!(autoattack, "attacks/autoattack.md");
    page!(whitebox, "attacks/whitebox.md");
    page!(own_attack, "attacks/own-attack.md");
}

page!(defences, "defences.md");
page!(certificates, "certificates.md");
page!(training, "training.md");
page!(diagnostics, "diagnostics.md");
page!(report, "report.md");
page!(reporting, "reporting.md");
page!(own_cell, "own-cell.md");
page!(own_solver, "own-solver.md");
page!(own_estimator, "own-estimator.md");
page!(pytorch, "pytorch.md");
page!(python, "python.md");
page!(machines, "machines.md");
