//! Is the measured robustness real, or an artefact of gradient obfuscation? The test and its rules.
//!
//! An evaluation breaks points in two arms of equal effort, which differ in the gradient alone
//! ([`equipoise_record::Verdict`] has the words). [`conclude`] makes findings of their counts; [`check`] says
//! whether a record's findings follow from its counts; [`compare`] answers the
//! next question, whether one model or readout is more robust than another; [`power`] says beforehand what so many
//! images can show; [`Trend`] how the gaps of many models depend on something that was measured of them.
//!
//! # The rules
//!
//! The null hypothesis is that on every point a run and its twin are exchangeable. Then b of the b + c discordant
//! points is binomial at 1/2, however strong the attacks are ([`exact_test`]; McNemar 1947). The first line that
//! applies is the finding:
//!
//! | finding | when |
//! |---|---|
//! | `no-control` | nothing to compare: no ready-made attack, no other gradient, no twins, nothing correct when clean |
//! | `no-robustness-left` | the upper end of ready-made accuracy is below 3%, or of 50 images or more fewer than 6 stand after the opening |
//! | `obfuscated`, gradient | corrected p of the arms < level, lower end of the difference ≥ 1 point, and the yardstick's p < level |
//! | `obfuscated`, aim | the arms say so, the aimed arm beats the ready-made one (p < level), and what is left between the white-box and the aimed arm is below the margin |
//! | `obfuscated`, gradient-free | at least 6 points fell to gradient-free runs alone, and the lower end of their share ≥ 1 point |
//! | `not-obfuscated` | upper ends of the difference and of the gradient-free share below the margin, a gradient-free run was made, and n ≥ 80 |
//! | `undecided` | everything else |
//!
//! The level is 0.05; the margin is 3 points unless asked otherwise. Intervals are at 95%: Wilson's for a share,
//! Newcombe's method 10 for a difference. The yardstick is there because a union of *different* gradients beats a union
//! of one gradient's restarts without any obfuscation.

mod check;
mod comparison;
mod conclude;
mod power;
mod rules;
mod sampling;
mod statistics;
mod trend;

pub use check::check;
pub use comparison::{Comparison, Side, compare};
pub use conclude::{conclude, conclude_alone};
pub use power::power;
pub use rules::{ENOUGH_TO_DENY, FEWEST, Facts, LEAST_DIFFERENCE, MOST_IMAGES, decide, would_decide_at};
pub use sampling::{clopper_pearson_below, hypergeometric_below, normal_quantile_below};
pub use statistics::{Correction, difference_interval, exact_test, exact_test_two_sided, holm, paired};
pub use trend::{Estimate, FEWEST_CLUSTERS, Fitted, Observation, Trend};
