//! The rules: from counts to a finding, and to the number of images that would give one.

use equipoise_record::{Finding, Verdict, VerdictEvidence, wilson_interval};

use crate::statistics::{difference_interval, exact_test};

/// Fewest points for which the exact test can reject at 5% on one side of nothing.
pub const FEWEST: usize = 6;
/// A difference whose lower end is below this is too small to be called obfuscation.
pub const LEAST_DIFFERENCE: f64 = 0.01;
/// Ready-made accuracy with an upper end below this is no robustness.
const NO_ROBUSTNESS: f64 = 0.03;
/// From so many images on, too few standing points say that no robustness is left.
const ENOUGH_TO_SEE_NONE: usize = 50;
/// Fewest images for `not-obfuscated`.
pub const ENOUGH_TO_DENY: usize = 80;
/// Most images that are ever asked for.
pub const MOST_IMAGES: usize = 1_000_000;

/// What a finding rests on: counts of one model behind one readout at one radius.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// All points.
    pub n: usize,
    /// Points that stand after the opening.
    pub opening_standing: usize,
    /// Points that stand in both arms.
    pub standing: usize,
    /// Points broken in the white-box arm only.
    pub b: usize,
    /// Points broken in the ready-made arm only.
    pub c: usize,
    /// What Holm's correction multiplies the arms' p-value by.
    pub factor: f64,
    /// Points that fell to gradient-free runs alone.
    pub gradient_free_only: usize,
    /// Whether a gradient-free run was made.
    pub gradient_free: bool,
    /// b, c of the yardstick, and the factor for its choice of a gradient.
    pub yardstick: Option<(usize, usize, f64)>,
    /// b, c of the aimed arm against the ready-made one; then b, c of the white-box arm against the aimed one, and the
    /// points that stand in both of these.
    pub aim: Option<[usize; 5]>,
    /// The level of the tests.
    pub level: f64,
    /// The margin of `not-obfuscated`.
    pub margin: f64,
}

impl Facts {
    /// The arms' corrected p-value, as far as the factor says.
    fn p_value(&self) -> f64 {
        (self.factor * exact_test(self.b, self.c)).min(1.0)
    }

    fn difference_interval(&self) -> [f64; 2] {
        let Self { n, standing, b, c, .. } = *self;
        difference_interval(n.saturating_sub(standing + b + c), b, c, standing)
    }

    /// The same shares of `n` images, rounded.
    fn scaled(&self, n: usize) -> Self {
        let of = |count: usize| (count as f64 * n as f64 / self.n as f64).round() as usize;
        Self {
            n,
            opening_standing: of(self.opening_standing),
            standing: of(self.standing),
            b: of(self.b),
            c: of(self.c),
            gradient_free_only: of(self.gradient_free_only),
            yardstick: self.yardstick.map(|(b, c, factor)| (of(b), of(c), factor)),
            aim: self.aim.map(|counts| counts.map(of)),
            ..*self
        }
    }
}

/// The finding, given the arms' p-value after correction, and what shows it.
///
/// `no-control` is not decided here: it is the finding where there are no such counts.
pub fn decide(facts: &Facts, p_value_corrected: f64) -> (Finding, Option<VerdictEvidence>) {
    let &Facts { n, level, margin, .. } = facts;
    let ready_made = facts.standing + facts.b;
    let too_few = n >= ENOUGH_TO_SEE_NONE && facts.opening_standing < FEWEST;
    if wilson_interval(ready_made, n)[1] < NO_ROBUSTNESS || too_few {
        return (Finding::NoRobustnessLeft, None);
    }
    let [low, high] = facts.difference_interval();
    if p_value_corrected < level && low >= LEAST_DIFFERENCE {
        if facts.yardstick.is_some_and(|(b, c, factor)| b > c && factor * exact_test(b, c) < level) {
            return (Finding::Obfuscated, Some(VerdictEvidence::Gradient));
        }
        if facts.aim.is_some_and(|counts| is_aim(counts, n, level, margin)) {
            return (Finding::Obfuscated, Some(VerdictEvidence::Aim));
        }
    }
    let [least_share, most_share] = wilson_interval(facts.gradient_free_only, n);
    if facts.gradient_free_only >= FEWEST && least_share >= LEAST_DIFFERENCE {
        return (Finding::Obfuscated, Some(VerdictEvidence::GradientFree));
    }
    if high < margin && most_share < margin && facts.gradient_free && n >= ENOUGH_TO_DENY {
        return (Finding::NotObfuscated, None);
    }
    (Finding::Undecided, None)
}

/// Whether the gap closes once the ready-made method is aimed at the readout: the aimed arm finds more than the
/// ready-made one, and what the white-box arm finds beyond it is below the margin.
fn is_aim([b, c, left_b, left_c, standing]: [usize; 5], n: usize, level: f64, margin: f64) -> bool {
    let fallen = n.saturating_sub(standing + left_b + left_c);
    exact_test(b, c) < level && difference_interval(fallen, left_b, left_c, standing)[1] < margin
}

/// The smallest number of images, up to a million, at which the same shares (scaled and rounded) give another finding.
/// `None` if there is none, or if the finding is not `undecided`.
pub fn would_decide_at(facts: &Facts) -> Option<usize> {
    let finding = |facts: &Facts| decide(facts, facts.p_value()).0;
    if facts.n == 0 || finding(facts) != Finding::Undecided {
        return None;
    }
    (facts.n + 1..=MOST_IMAGES).find(|&n| finding(&facts.scaled(n)) != Finding::Undecided)
}

impl Facts {
    /// The facts behind a verdict, with the number of points that stand after the opening and after both ready-made
    /// parts. `None` where there is no control.
    pub fn of(
        verdict: &Verdict,
        opening_standing: usize,
        ready_made_standing: usize,
        factor: f64,
    ) -> Option<Self> {
        let (b, c) = (verdict.b?, verdict.c?);
        let white_box_standing = verdict.arms.white_box.last()?.standing;
        let aim = verdict.aim.map(|aim| {
            let left = aim.remainder;
            [aim.b, aim.c, left.b, left.c, white_box_standing.saturating_sub(left.c)]
        });
        Some(Self {
            n: verdict.n,
            opening_standing,
            standing: ready_made_standing.saturating_sub(b),
            b,
            c,
            factor,
            gradient_free_only: verdict.gradient_free_only,
            gradient_free: verdict.gradient_free_runs > 0,
            yardstick: verdict.yardstick.as_ref().map(|y| (y.b, y.c, y.chosen_from as f64)),
            aim,
            level: verdict.level,
            margin: verdict.margin,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A healthy model of 200 images: 100 stand, nothing but noise between the arms.
    const HEALTHY: Facts = Facts {
        n: 200,
        opening_standing: 104,
        standing: 100,
        b: 1,
        c: 1,
        factor: 1.0,
        gradient_free_only: 0,
        gradient_free: true,
        yardstick: Some((2, 1, 1.0)),
        aim: None,
        level: 0.05,
        margin: 0.03,
    };

    fn finding(facts: &Facts) -> (Finding, Option<VerdictEvidence>) {
        decide(facts, facts.p_value())
    }

    #[test]
    fn a_healthy_model_is_not_obfuscated() {
        assert_eq!(finding(&HEALTHY), (Finding::NotObfuscated, None));
        // The same without a gradient-free run, with a gradient-free find too many, or with too few images.
        let undecided = (Finding::Undecided, None);
        assert_eq!(finding(&Facts { gradient_free: false, ..HEALTHY }), undecided);
        assert_eq!(finding(&Facts { gradient_free_only: 3, ..HEALTHY }), undecided);
        let few = Facts { n: 79, opening_standing: 40, standing: 40, b: 0, c: 0, ..HEALTHY };
        assert_eq!(finding(&few), undecided);
        let three = Facts { n: 3, opening_standing: 1, standing: 1, b: 0, c: 0, ..HEALTHY };
        assert_eq!(finding(&three), undecided);
    }

    #[test]
    fn a_gap_needs_the_yardstick() {
        let gap = Facts { b: 16, c: 1, standing: 80, yardstick: Some((14, 2, 1.0)), ..HEALTHY };
        assert_eq!(finding(&gap), (Finding::Obfuscated, Some(VerdictEvidence::Gradient)));
        assert_eq!(finding(&Facts { yardstick: Some((3, 2, 1.0)), ..gap }), (Finding::Undecided, None));
        assert_eq!(finding(&Facts { yardstick: Some((8, 1, 20.0)), ..gap }), (Finding::Undecided, None));
        assert_eq!(finding(&Facts { yardstick: None, ..gap }), (Finding::Undecided, None));
        // Corrected over twenty rows, six points are not enough.
        let eight = Facts { b: 8, c: 0, n: 100, standing: 40, opening_standing: 50, ..gap };
        assert_eq!(finding(&eight).0, Finding::Obfuscated, "{:?}", eight.difference_interval());
        assert_eq!(finding(&Facts { factor: 20.0, ..eight }), (Finding::Undecided, None));
    }

    #[test]
    fn a_gap_that_aiming_closes_is_aim() {
        let gap = Facts { b: 16, c: 0, standing: 80, yardstick: Some((1, 2, 1.0)), ..HEALTHY };
        let aimed = Facts { aim: Some([15, 0, 1, 0, 79]), ..gap };
        assert_eq!(finding(&aimed), (Finding::Obfuscated, Some(VerdictEvidence::Aim)));
        // Half of the gap is left: neither aim nor, without the yardstick, gradient.
        assert_eq!(finding(&Facts { aim: Some([8, 0, 8, 0, 80]), ..gap }), (Finding::Undecided, None));
    }

    #[test]
    fn gradient_free_finds_alone_are_masking() {
        let masked = Facts { b: 0, c: 0, gradient_free_only: 20, ..HEALTHY };
        assert_eq!(finding(&masked), (Finding::Obfuscated, Some(VerdictEvidence::GradientFree)));
        assert_eq!(finding(&Facts { gradient_free_only: 5, ..masked }), (Finding::Undecided, None));
    }

    #[test]
    fn where_nothing_is_left_nothing_is_asked() {
        let none = Facts { opening_standing: 5, standing: 2, b: 3, c: 0, ..HEALTHY };
        assert_eq!(finding(&none), (Finding::NoRobustnessLeft, None));
        let low = Facts { opening_standing: 9, standing: 1, b: 1, ..HEALTHY };
        assert_eq!(finding(&low), (Finding::NotObfuscated, None), "2 of 200 may be 3.6%");
        let few = Facts { n: 10, opening_standing: 2, standing: 2, b: 0, c: 0, ..HEALTHY };
        assert_eq!(finding(&few), (Finding::Undecided, None));
    }

    #[test]
    fn the_images_that_would_decide_are_found_by_trying() {
        let open = Facts {
            n: 40,
            opening_standing: 24,
            standing: 20,
            b: 3,
            c: 0,
            yardstick: Some((3, 0, 1.0)),
            ..HEALTHY
        };
        let at = would_decide_at(&open).unwrap();
        assert_eq!(finding(&open.scaled(at)).0, Finding::Obfuscated);
        assert!((41..at).all(|n| finding(&open.scaled(n)).0 == Finding::Undecided));
        let healthy = Facts { n: 40, opening_standing: 20, standing: 20, b: 0, c: 0, ..HEALTHY };
        let at = would_decide_at(&healthy).unwrap();
        assert_eq!(finding(&healthy.scaled(at)).0, Finding::NotObfuscated);
        assert_eq!(would_decide_at(&HEALTHY), None);
        // A gap that one gradient against one never confirms is never decided.
        let never = Facts { b: 10, c: 0, standing: 80, yardstick: Some((2, 2, 1.0)), ..HEALTHY };
        assert_eq!(would_decide_at(&never), None);
    }
}
