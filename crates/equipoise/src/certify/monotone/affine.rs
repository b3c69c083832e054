//! The fixed points of a ball of images as one affine function of the image, plus errors of the ReLUs.
//!
//! For any positive α_i the fixed point is z = relu(v) with v = Ŵ z + ĉ, Ŵ = I − diag(α) (I − W), ĉ = α ∘ (U x + b); with
//! α_i = 1/(1 − W_ii) a unit does not act on itself. Where v_i is known to lie in \[l, u\], relu(v_i) = λ_i v_i + μ_i + μ_i e_i with
//! |e_i| ≤ 1: λ = u/(u−l) and μ = −λl/2 where 0 lies between, no error where it does not. That is a linear system,
//!
//! > v = (I − ŴΛ)⁻¹ (ĉ + Ŵ (μ + μ∘e)),
//!
//! whose matrix is invertible for every Λ in \[0, 1\], as I − WΛ is for every W of [monotone](super). So v is affine in the image and in e, which
//! bounds it anew: ranges only shrink, and each holds because those before did. The first comes from the ball that holds all
//! fixed points, in the norm of the network. Margins are affine too: what an image's pixels do to them to first order is exact.
//!
//! A unit that is never at work, u ≤ 0, is 0 and drops out: the system is that of the others.
//!
//! The inverse S is computed and not trusted: v = S (I − ŴΛ) v + E v with E = I − S (I − ŴΛ), and E times the known size of v
//! is another error. It is the relaxation of zonotopes (Singh et al. 2018), solved for its fixed point instead of iterated towards
//! it (Müller et al. 2023, arXiv 2110.08260, iterate).

use super::{Centre, Interval, Network};
use crate::certify::matrix::Matrix;
use crate::certify::metric::Metric;
use crate::certify::upper::{UNIT, Upper, dot, gamma, length, length1, less, moves};

/// The images that are spoken of, around that of a centre.
pub(crate) enum Ball<'a> {
    /// Within so much of it in L2.
    Distance(f64),
    /// Within so much of it, `middle`, in each pixel.
    Pixels { middle: &'a [f64], half: &'a [f64] },
}

/// A network in the form in which no unit acts on itself.
pub(crate) struct Affine {
    /// Ŵ, rounded, and what each entry may be off by.
    pub(super) weight: Matrix,
    pub(super) doubt: Matrix,
    /// α.
    steps: Vec<f64>,
    /// diag(α) U diag(1/σ), rounded, and the lengths of its rows.
    pub(super) injection: Matrix,
    lengths: Vec<f64>,
    /// What ĉ is between for all images in \[0, 1\].
    anywhere: Ranges,
}

/// Rounds of tightening.
const ROUNDS: usize = 40;
/// What sums of positive numbers are off by at most, to say the least.
pub(super) const SLIGHTLY: f64 = 1.0 + 1e-9;

/// Of a ball of images ĉ at its middle, how far that moves, and what it may be off by.
pub(super) struct Set {
    pub(super) middle: Vec<f64>,
    pub(super) moved: Vec<f64>,
    pub(super) off: Vec<f64>,
}

/// Ranges of v.
#[derive(Clone)]
pub(super) struct Ranges {
    pub(super) low: Vec<f64>,
    pub(super) high: Vec<f64>,
}

/// What is known of the fixed points of a ball.
pub(super) struct Known {
    pub(super) set: Set,
    pub(super) ranges: Ranges,
    /// The last form; `None` where no system could be solved.
    pub(super) form: Option<Form>,
}

impl Ranges {
    fn of(ends: impl Iterator<Item = (f64, f64)>) -> Self {
        let (low, high) = ends.unzip();
        Self { low, high }
    }

    fn pairs<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = [f64; 4]> + 'a {
        let own = self.low.iter().zip(&self.high);
        own.zip(other.low.iter().zip(&other.high)).map(|((a, b), (c, d))| [*a, *b, *c, *d])
    }

    /// Those of z = relu(v).
    pub(super) fn states(&self) -> Interval {
        let ends = |ends: &[f64]| ends.iter().map(|end| end.max(0.0)).collect();
        Interval { low: ends(&self.low), high: ends(&self.high) }
    }

    /// What is in both.
    pub(super) fn met(&self, other: &Self) -> Self {
        Self::of(self.pairs(other).map(|[a, b, c, d]| (a.max(c), b.min(d))))
    }

    /// Of all units that may be at work.
    fn width(&self) -> f64 {
        let ends = self.low.iter().zip(&self.high).filter(|(_, high)| **high > 0.0);
        ends.map(|(low, high)| high - low).sum()
    }
}

/// v = middle + coefficients δ + errors e + rest of the units that may be at work, δ the change of the image.
pub(super) struct Form {
    live: Vec<usize>,
    middle: Vec<f64>,
    coefficients: Matrix,
    errors: Matrix,
    rest: Vec<f64>,
    slopes: Vec<f64>,
    offsets: Vec<f64>,
}

impl Affine {
    pub(crate) fn new(network: &Network) -> Self {
        let side = network.hidden();
        let (parameters, known) = (&network.parameters, network.needed());
        let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
        let steps: Vec<f64> = (0..side).map(|i| 1.0 / (1.0 - known.weight.row(i)[i])).collect();
        let weight = Matrix::new(side, side, |i, j| {
            identity(i, j) - steps[i] * (identity(i, j) - known.weight.row(i)[j])
        });
        let rounding = gamma(known.entry + 10, UNIT).value() * SLIGHTLY;
        let size =
            |i: usize, j: usize| (2.0 + parameters.monotonicity) * identity(i, j) + known.magnitude.row(i)[j];
        let doubt = Matrix::new(side, side, |i, j| {
            rounding * (identity(i, j) + steps[i] * size(i, j) * (1.0 + 1e-6))
        });
        let scaled = |i: usize, j: usize| steps[i] * known.plain.row(i)[j] / parameters.deviation[j];
        let injection = Matrix::new(side, known.plain.columns, scaled);
        let lengths = (0..side).map(|i| length(injection.row(i)).value()).collect();
        let off = gamma(network.pixels() + 12, UNIT).value() * SLIGHTLY;
        let anywhere = Ranges::of((0..side).map(|i| {
            let offset = parameters.offset[i];
            let (mut low, mut high, mut size) = (offset, offset, offset.abs());
            for (j, u) in known.plain.row(i).iter().enumerate() {
                let end = |pixel: f64| u * ((pixel - parameters.mean[j]) / parameters.deviation[j]);
                let (black, white) = (end(0.0), end(1.0));
                low += black.min(white);
                high += black.max(white);
                size += black.abs().max(white.abs());
            }
            let size = off * size * SLIGHTLY;
            (steps[i] * (low - size), steps[i] * (high + size))
        }));
        Self { weight, doubt, steps, injection, lengths, anywhere }
    }

    /// The least lead of the centre's class over each other one in a ball, or −∞ where nothing was shown, and a box of the fixed
    /// points. `reach` is how far those are from the centre's state at most.
    pub(crate) fn margins(
        &self,
        network: &Network,
        centre: &Centre,
        ball: &Ball<'_>,
        reach: Upper,
    ) -> (Vec<f64>, Interval) {
        let known = self.known(network, centre, ball, reach);
        let class = centre.class;
        let margin = |j: usize| {
            known.form.as_ref().map_or(f64::NEG_INFINITY, |form| form.margin(network, class, j, ball))
        };
        ((0..network.classes()).map(margin).collect(), known.ranges.states())
    }

    /// Ranges as narrow as they become, and the form that follows from them.
    pub(super) fn known(&self, network: &Network, centre: &Centre, ball: &Ball<'_>, reach: Upper) -> Known {
        let side = self.steps.len();
        // ĉ at the middle, how far it moves, and what it may be off by.
        let moved = |i: usize| match ball {
            Ball::Distance(distance) => self.lengths[i] * distance * SLIGHTLY,
            Ball::Pixels { half, .. } => moves(self.injection.row(i), half) * SLIGHTLY,
        };
        let moved: Vec<f64> = (0..side).map(moved).collect();
        let middle: Vec<f64> = self.steps.iter().zip(&centre.injected).map(|(step, c)| step * c).collect();
        let off = gamma(network.pixels() + 12, UNIT).value() * SLIGHTLY;
        let off: Vec<f64> =
            self.steps.iter().zip(&centre.magnitudes).map(|(step, size)| off * step * size).collect();

        let set = Set { middle, moved, off };
        let mut known = self.near(network.metric(), centre, &set, reach);
        let mut form = None;
        let mut width = f64::INFINITY;
        for _ in 0..ROUNDS {
            let Some(found) = self.form(&known, &set) else { break };
            known = known.met(&found.ranges(self.steps.len(), ball));
            form = Some(found);
            if known.width() >= 0.99 * width {
                break;
            }
            width = known.width();
        }
        Known { set, ranges: known, form }
    }

    /// Ranges of v where z is within a distance of the centre's state.
    fn near(&self, metric: &Metric, centre: &Centre, set: &Set, distance: Upper) -> Ranges {
        let state = &centre.state;
        let ends = (0..state.len()).map(|i| {
            let row = self.weight.row(i);
            let (coupled, middle) = (dot(row, state), set.middle[i]);
            let sizes = row.iter().zip(state).map(|(w, z)| (w * z).abs()).sum::<f64>() + set.middle[i].abs();
            let along = |row: &[f64]| (metric.dual(row) * distance).value();
            let doubts = dot(self.doubt.row(i), state) + along(self.doubt.row(i));
            let away = along(row) + set.off[i] + doubts + sizes * 1e-12;
            // Of a ball in L2 some images may lie outside of [0, 1]: nothing is said of these.
            let low = (middle - set.moved[i] * SLIGHTLY).max(self.anywhere.low[i]);
            let high = (middle + set.moved[i] * SLIGHTLY).min(self.anywhere.high[i]);
            ((coupled + low - away * SLIGHTLY).next_down(), (coupled + high + away * SLIGHTLY).next_up())
        });
        Ranges::of(ends)
    }

    /// The affine form that follows from ranges. `None` where the system could not be solved.
    pub(super) fn form(&self, ranges: &Ranges, set: &Set) -> Option<Form> {
        let may_work = |i: &usize| ranges.high[*i] > 0.0 || ranges.high[*i].is_nan();
        let live: Vec<usize> = (0..self.steps.len()).filter(may_work).collect();
        let side = live.len();
        let of = |all: &[f64]| -> Vec<f64> { live.iter().map(|&i| all[i]).collect() };
        let within = |all: &Matrix| Matrix::new(side, side, |i, j| all.row(live[i])[live[j]]);
        let (weight, doubt) = (within(&self.weight), within(&self.doubt));
        let pixels = self.injection.columns;
        let injection = Matrix::new(side, pixels, |i, j| self.injection.row(live[i])[j]);
        let (middle, moved, off) = (of(&set.middle), of(&set.moved), of(&set.off));
        let ranges = Ranges { low: of(&ranges.low), high: of(&ranges.high) };
        let relaxed = |(&low, &high): (&f64, &f64)| match (low >= 0.0, high <= 0.0) {
            (true, _) => (1.0, 0.0),
            (_, true) => (0.0, 0.0),
            _ => {
                let slope = (high / (high - low)).clamp(0.0, 1.0);
                (slope, (0.5 * (high * (1.0 - slope)).max(-slope * low) * SLIGHTLY).next_up())
            }
        };
        let (slopes, offsets): (Vec<f64>, Vec<f64>) =
            ranges.low.iter().zip(&ranges.high).map(relaxed).unzip();
        let system =
            Matrix::new(side, side, |i, j| f64::from(u8::from(i == j)) - weight.row(i)[j] * slopes[j]);
        let inverse = system.inverse()?;
        let sizes = inverse.map(f64::abs);
        let rounding = gamma(4 * side + injection.columns + 60, UNIT).value() * SLIGHTLY;

        // |E|, and the sizes of v and z.
        let product = inverse.product(&system);
        let magnitudes = sizes.product(&system.map(f64::abs));
        let largest: Vec<f64> =
            ranges.low.iter().zip(&ranges.high).map(|(low, high)| low.abs().max(high.abs())).collect();
        let states: Vec<f64> = ranges.high.iter().map(|high| high.max(0.0)).collect();
        let lost = |i: usize| {
            let each = (0..side).map(|j| {
                let error = (f64::from(u8::from(i == j)) - product.row(i)[j]).abs();
                (error + rounding * magnitudes.row(i)[j]) * largest[j]
            });
            each.sum::<f64>()
        };
        let doubts: Vec<f64> =
            doubt.times(&states).iter().zip(&off).map(|(doubt, off)| doubt + off).collect();
        let weights = weight.map(f64::abs);
        let terms: Vec<f64> = weights
            .times(&offsets)
            .iter()
            .zip(middle.iter().zip(&moved))
            .map(|(offset, (middle, moved))| 2.0 * offset + middle.abs() + moved)
            .collect();
        let rest = (0..side)
            .map(|i| {
                (lost(i) + dot(sizes.row(i), &doubts) + rounding * dot(sizes.row(i), &terms)) * SLIGHTLY
                    + f64::MIN_POSITIVE
            })
            .collect();

        let right: Vec<f64> =
            weight.times(&offsets).iter().zip(&middle).map(|(offset, middle)| offset + middle).collect();
        let coupled = inverse.product(&weight);
        Some(Form {
            live,
            middle: inverse.times(&right),
            coefficients: inverse.product(&injection),
            errors: Matrix::new(side, side, |i, k| coupled.row(i)[k] * offsets[k]),
            rest,
            slopes,
            offsets,
        })
    }
}

/// What a linear function of the image's change comes to in a ball at most.
pub(super) fn most(coefficients: &[f64], ball: &Ball<'_>) -> f64 {
    match ball {
        Ball::Distance(distance) => length(coefficients).value() * distance * SLIGHTLY,
        Ball::Pixels { half, .. } => moves(coefficients, half) * SLIGHTLY,
    }
}

impl Form {
    /// What v is in then; of the other units nothing new.
    pub(super) fn ranges(&self, side: usize, ball: &Ball<'_>) -> Ranges {
        let mut ranges = Ranges { low: vec![f64::NEG_INFINITY; side], high: vec![f64::INFINITY; side] };
        for (at, &i) in self.live.iter().enumerate() {
            let around = self.reach(at, ball);
            ranges.low[i] = (self.middle[at] - around).next_down();
            ranges.high[i] = (self.middle[at] + around).next_up();
        }
        ranges
    }

    /// How far v_i is from its middle at most.
    fn reach(&self, i: usize, ball: &Ball<'_>) -> f64 {
        let errors = length1(self.errors.row(i));
        (most(self.coefficients.row(i), ball) + errors * SLIGHTLY + self.rest[i]) * SLIGHTLY
    }

    /// The least lead of a class over another: w·z with z = Λv + μ + μ∘e.
    pub(super) fn margin(&self, network: &Network, class: usize, other: usize, ball: &Ball<'_>) -> f64 {
        if class == other {
            return f64::INFINITY;
        }
        let (head, bias) = (&network.parameters.head, &network.parameters.bias);
        let (own, rival) = (head.row(class), head.row(other));
        let w: Vec<f64> = self.live.iter().map(|&i| own[i] - rival[i]).collect();
        let weighted: Vec<f64> = w.iter().zip(&self.slopes).map(|(w, slope)| w * slope).collect();
        let middle = dot(&weighted, &self.middle) + dot(&w, &self.offsets) + (bias[class] - bias[other]);
        let image = most(&self.coefficients.combined(&weighted), ball);
        let errors = self.errors.combined(&weighted);
        let errors: f64 = errors
            .iter()
            .zip(w.iter().zip(&self.offsets))
            .map(|(e, (w, offset))| (e + w * offset).abs())
            .sum();
        let sizes = |v: &[f64]| v.iter().map(|entry| entry.abs()).collect::<Vec<f64>>();
        let (sizes_w, sizes_weighted) = (sizes(&w), sizes(&weighted));
        let rest = dot(&sizes_weighted, &self.rest);
        // Everything that was added up, for its rounding.
        let reaches: Vec<f64> = (0..w.len()).map(|i| self.middle[i].abs() + self.reach(i, ball)).collect();
        let total = dot(&sizes_weighted, &reaches)
            + 2.0 * dot(&sizes_w, &self.offsets)
            + bias[class].abs()
            + bias[other].abs();
        let rounding = gamma(4 * w.len() + 40, UNIT) * Upper::exact(total * SLIGHTLY);
        less(middle, Upper::exact((image + errors + rest) * SLIGHTLY) + rounding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certify::monotone::testing::{network, numbers};
    use crate::certify::monotone::{Coupling, Parameters};

    /// Neither random images of a ball nor those along the gradient have a smaller margin; and the bound is far above that by
    /// the Lipschitz constant, for units that are coupled weakly and strongly.
    #[test]
    fn margins_hold_in_a_ball_and_are_better_than_by_the_lipschitz_constant() {
        for (monotonicity, skew) in [(6.0, 0.3), (2.0, 1.5), (0.5, 0.6)] {
            let network = network(monotonicity, skew);
            let affine = Affine::new(&network);
            let image: Vec<f64> = numbers(7, 16, 0.4).into_iter().map(|x| x + 0.5).collect();
            let centre = network.centre(&image);
            let lead = |reached: &Centre, j: usize| {
                let logit = |k: usize| {
                    dot(network.parameters.head.row(k), &reached.state) + network.parameters.bias[k]
                };
                logit(centre.class) - logit(j)
            };
            for eps in [0.0, 1e-4, 0.02, 0.2] {
                let half = vec![eps; 16];
                for linf in [false, true] {
                    let ball =
                        if linf { Ball::Pixels { middle: &image, half: &half } } else { Ball::Distance(eps) };
                    let reach = network.reach(&network.spread(&ball)) + centre.distance;
                    let (margins, states) = affine.margins(&network, &centre, &ball, reach);
                    for j in (0..3).filter(|j| *j != centre.class) {
                        // The steepest image of the ball at its middle, by differences.
                        let slope: Vec<f64> = (0..16)
                            .map(|p| {
                                let mut moved = image.clone();
                                moved[p] += 1e-6;
                                (lead(&network.centre(&moved), j) - lead(&centre, j)) / 1e-6
                            })
                            .collect();
                        let size = length(&slope).value();
                        let worst = slope.iter().map(|s| if linf { -s.signum() } else { -s / size });
                        let worst: Vec<f64> = worst.collect();
                        let mut least = f64::INFINITY;
                        for draw in 0..300 {
                            let noise = if draw == 0 { worst.clone() } else { numbers(100 + draw, 16, 1.0) };
                            let scale = match linf {
                                true => eps,
                                false => eps / length(&noise).value(),
                            };
                            let moved: Vec<f64> =
                                image.iter().zip(&noise).map(|(x, d)| x + scale * d).collect();
                            let reached = network.centre(&moved);
                            for (i, z) in reached.state.iter().enumerate() {
                                let off = reached.distance.value();
                                assert!(*z >= states.low[i] - off && *z <= states.high[i] + off, "unit {i}");
                            }
                            least = least.min(lead(&reached, j));
                        }
                        let bound = margins[j];
                        assert!(bound <= least + 1e-9, "{monotonicity} {eps} {linf}: {bound} {least}");
                        let lipschitz = centre.margins[j] - (network.gap(centre.class, j) * reach).value();
                        assert!(bound > lipschitz - 1e-9, "{monotonicity} {eps} {linf}: {bound} {lipschitz}");
                        if eps < 0.01 {
                            assert!(
                                least - bound < 1e-9 + 2.0 * eps * eps.sqrt() + 1e-6 * size,
                                "{bound} {least}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// Units that have the pixels: in L2 too none of them is below 0, whatever the image is, so that none switches and margins are exact.
    #[test]
    fn a_ball_in_l2_has_images_in_their_range_alone() {
        let side = 16;
        let zeros = Matrix::of(side, side, vec![0.0; side * side]);
        let head = Matrix::of(3, side, numbers(5, 3 * side, 1.0));
        let parameters = Parameters {
            monotonicity: 1.0,
            step: 0.5,
            offset: vec![0.0; side],
            mean: vec![0.0; side],
            deviation: vec![1.0; side],
            head: head.clone(),
            bias: vec![2.0, 0.0, 0.0],
            bound: None,
            scale: 1.0,
            reading: side + 4,
        };
        let identity = Matrix::new(side, side, |i, j| f64::from(u8::from(i == j)));
        let network = Network::new(Coupling::full(&zeros, &zeros, 1.0), identity, parameters);
        let affine = Affine::new(&network);
        let centre = network.centre(&vec![0.0; side]);
        let ball = Ball::Distance(0.3);
        let reach = network.reach(&network.spread(&ball)) + centre.distance;
        let Known { ranges, .. } = affine.known(&network, &centre, &ball, reach);
        assert!(ranges.low.iter().all(|low| *low < 0.0 && *low > -1e-9), "{:?}", ranges.low);
        let (margins, _) = affine.margins(&network, &centre, &ball, reach);
        for (j, margin) in margins.into_iter().enumerate().skip(1) {
            let w: Vec<f64> = head.row(0).iter().zip(head.row(j)).map(|(own, rival)| own - rival).collect();
            let exact = 2.0 - 0.3 * length(&w).value();
            assert!(margin <= exact && margin > exact - 1e-6, "{margin} {exact}");
        }
    }
}
