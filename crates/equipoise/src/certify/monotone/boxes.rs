//! Boxes of states that hold the fixed point of every image in a box of images.
//!
//! With A = (1−α) I + α W, which has the fixed points of W, and the interval \[c̲, c̄\] of U x + b over the images,
//! F(l, u) = (relu(A⁺l + A⁻u + αc̲), relu(A⁺u + A⁻l + αc̄)) bounds what a step makes of the states in \[l, u\]. If F(l, u) lies in
//! \[l, u\], then for each of the images the step maps the box into itself, so that a fixed point lies in it (Brouwer), which is
//! z*(x), the only one. No claim about how the box was found is needed. Applied again, F makes it smaller.
//!
//! A box is found where |A| v ≤ θv for some v > 0 and θ < 1: then F contracts, and what iteration leaves outside is covered by δv,
//! δ a little above (excess/v)/(1−θ). With α ≤ 1/(1 − min W_ii) that is so if and only if W's weighted matrix measure,
//! max_i (W_ii + Σ_{j≠i} |W_ij| v_j/v_i), is below 1 (Jafarpour et al. 2021, arXiv 2106.03194). A network whose skew part is
//! large has no such v.

use super::Network;
use crate::certify::matrix::Matrix;
use crate::certify::metric::Metric;
use crate::certify::upper::{UNIT, Upper, dot, gamma, less};

/// How boxes are found in a network that has them.
pub(crate) struct Boxes {
    /// α.
    step: f64,
    /// A⁺ and A⁻, rounded.
    positive: Matrix,
    negative: Matrix,
    /// |A|, and what each entry of A may be off by.
    size: Matrix,
    doubt: Matrix,
    /// v, and |A| v ≤ θv.
    weights: Vec<f64>,
    theta: f64,
}

/// Lower and upper ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: Vec<f64>,
    pub(crate) high: Vec<f64>,
}

/// Iterations towards v, and towards a box.
const ITERATIONS: usize = 2_000;
/// How often the inflation of a box is doubled before it is given up.
const DOUBLINGS: usize = 20;
/// Applications of F to a box that holds the fixed points.
const TIGHTENINGS: usize = 20;

impl Boxes {
    /// `None` for a network whose matrix measure is not below 1.
    pub(crate) fn new(network: &Network) -> Option<Self> {
        let side = network.hidden();
        let known = network.needed();
        let weight = &known.weight;
        let lowest = (0..side).map(|i| weight.row(i)[i]).fold(0.0, f64::min);
        let step = 1.0 / (1.0 - lowest);
        let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
        let averaged =
            Matrix::new(side, side, |i, j| (1.0 - step) * identity(i, j) + step * weight.row(i)[j]);
        let m = network.monotonicity();
        let rounding = gamma(known.entry + 6, UNIT).value();
        let magnitude = |i: usize, j: usize| (1.0 + m) * identity(i, j) + known.magnitude.row(i)[j];
        let doubt =
            Matrix::new(side, side, |i, j| 1.000_001 * rounding * (identity(i, j) + step * magnitude(i, j)));
        let size = averaged.map(f64::abs);
        // v = Σ |A|ᵏ v₀, which exists where |A|'s spectral radius is below 1. Where |A| v₀ ≤ θv₀, as of a W that contracts in a
        // weighted ℓ∞ norm, every partial sum has that too.
        let first = network.metric().units();
        let mut weights = first.clone();
        for _ in 0..ITERATIONS {
            let next: Vec<f64> =
                size.times(&weights).iter().zip(&first).map(|(p, first)| first + p).collect();
            let grown = next.iter().zip(&weights).map(|(next, now)| next / now).fold(1.0, f64::max);
            weights = next;
            if grown < 1.0 + 1e-9 || weights.iter().any(|weight| *weight > 1e12) {
                break;
            }
        }
        let all = Matrix::new(side, side, |i, j| (size.row(i)[j] + doubt.row(i)[j]).next_up());
        let products = all.times(&weights);
        let share =
            |(product, weight): (&f64, &f64)| Upper::computed(*product, 2 * side).over(*weight).value();
        let theta = products.iter().zip(&weights).map(share).fold(0.0, f64::max);
        let (positive, negative) =
            (averaged.map(|entry| entry.max(0.0)), averaged.map(|entry| entry.min(0.0)));
        (theta < 1.0).then_some(Self { step, positive, negative, size, doubt, weights, theta })
    }

    /// A box that holds the fixed points for all injections in an interval; `None` if none was proved. The search begins at a
    /// state.
    pub(crate) fn around(&self, injection: &Interval, state: &[f64]) -> Option<Interval> {
        let mut found = Interval { low: state.to_vec(), high: state.to_vec() };
        for _ in 0..ITERATIONS {
            let next = self.applied(&found, injection);
            let moved = self.excess(&next, &found).max(self.excess(&found, &next));
            let width = next.high.iter().fold(1e-12, |width: f64, high| width.max(*high));
            found = next;
            if moved <= 1e-9 * width {
                break;
            }
        }
        let image = self.applied(&found, injection);
        let mut delta = 1.01 * self.excess(&image, &found) / (1.0 - self.theta) + 1e-14;
        for _ in 0..DOUBLINGS {
            let larger = self.inflated(&found, delta);
            let image = self.applied(&larger, injection);
            if image.is_within(&larger) {
                return Some(
                    (0..TIGHTENINGS).fold(image, |box_, _| self.applied(&box_, injection).met(&box_)),
                );
            }
            delta *= 2.0;
        }
        None
    }

    /// F, rounded outwards.
    fn applied(&self, states: &Interval, injection: &Interval) -> Interval {
        let Self { positive, negative, size, doubt, step, .. } = self;
        let Interval { low, high } = states;
        let side = low.len();
        let rounding = gamma(side + 6, UNIT).value() * 1.000_001;
        let ends = (0..side).map(|i| {
            let (sizes, doubts) = (dot(size.row(i), high), dot(doubt.row(i), high));
            let [from, to] = [injection.low[i], injection.high[i]];
            // States are not negative: `high` is the largest of their sizes.
            let error = |c: f64| {
                let terms = Upper::computed(sizes + step * c.abs(), side + 4).value();
                (rounding * terms + Upper::computed(doubts, side).value()).next_up() + f64::MIN_POSITIVE
            };
            let above = dot(positive.row(i), high) + dot(negative.row(i), low) + step * to;
            let below = dot(positive.row(i), low) + dot(negative.row(i), high) + step * from;
            ((below - error(from)).next_down().max(0.0), (above + error(to)).next_up().max(0.0))
        });
        let (low, high) = ends.unzip();
        Interval { low, high }
    }

    /// By how many v one box stands out of another at most.
    fn excess(&self, of: &Interval, out_of: &Interval) -> f64 {
        let below = out_of.low.iter().zip(&of.low).map(|(own, other)| own - other);
        let above = of.high.iter().zip(&out_of.high).map(|(other, own)| other - own);
        let sides = below.zip(&self.weights).chain(above.zip(&self.weights));
        sides.map(|(excess, weight)| excess / weight).fold(0.0, f64::max)
    }

    fn inflated(&self, states: &Interval, delta: f64) -> Interval {
        let low = states.low.iter().zip(&self.weights).map(|(low, v)| (low - delta * v).max(0.0)).collect();
        let high = states.high.iter().zip(&self.weights).map(|(high, v)| high + delta * v).collect();
        Interval { low, high }
    }
}

impl Interval {
    fn is_within(&self, other: &Self) -> bool {
        let inside = |own: &[f64], other: &[f64], within: fn(&f64, &f64) -> bool| {
            own.iter().zip(other).all(|(own, other)| within(own, other))
        };
        inside(&self.low, &other.low, |own, other| own >= other)
            && inside(&self.high, &other.high, |own, other| own <= other)
    }

    /// What is in both.
    pub(crate) fn met(&self, other: &Self) -> Self {
        let ends = |own: &[f64], other: &[f64], pick: fn(f64, f64) -> f64| {
            own.iter().zip(other).map(|(own, other)| pick(*own, *other)).collect()
        };
        Self { low: ends(&self.low, &other.low, f64::max), high: ends(&self.high, &other.high, f64::min) }
    }

    /// All within a distance of a point.
    pub(crate) fn around(metric: &Metric, point: &[f64], distance: Upper) -> Self {
        let away: Vec<Upper> = (0..point.len()).map(|i| metric.of_unit(i, distance)).collect();
        let low = point.iter().zip(&away).map(|(z, away)| less(*z, *away).max(0.0)).collect();
        let high = point.iter().zip(&away).map(|(z, away)| (z + away.value()).next_up()).collect();
        Self { low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certify::monotone::testing::{network, numbers};

    /// The fixed points of 10,000 images lie in it, corners among them, and reach a good part of it; margins are bounded too.
    #[test]
    fn a_box_holds_the_fixed_points_of_its_images() {
        let network = network(6.0, 0.3);
        let boxes = Boxes::new(&network).unwrap();
        let image: Vec<f64> = numbers(7, 16, 0.4).into_iter().map(|x| x + 0.5).collect();
        for eps in [0.0, 1e-3, 0.05] {
            let centre = network.centre(&image);
            let found = boxes.around(&network.injections(&image, &[eps; 16]), &centre.state).unwrap();
            let (mut low, mut high) = (centre.state.clone(), centre.state.clone());
            let mut least = f64::INFINITY;
            for draw in 0..10_000 / if eps == 0.0 { 100 } else { 1 } {
                let noise = numbers(100 + draw, 16, eps);
                let corner = |d: &f64| if draw % 2 == 0 { eps * d.signum() } else { *d };
                let moved: Vec<f64> = image.iter().zip(&noise).map(|(x, d)| x + corner(d)).collect();
                let reached = network.centre(&moved);
                let distance = reached.distance.value();
                for (i, z) in reached.state.iter().enumerate() {
                    assert!(
                        *z >= found.low[i] - distance && *z <= found.high[i] + distance,
                        "{eps}, unit {i}"
                    );
                    (low[i], high[i]) = (low[i].min(*z), high[i].max(*z));
                }
                let lead = |k: usize| {
                    dot(network.parameters.head.row(k), &reached.state) + network.parameters.bias[k]
                };
                least = least.min(lead(0) - lead(1));
            }
            assert!(network.margin(0, 1, &found) <= least + 1e-12);
            let width = |low: &[f64], high: &[f64]| -> f64 {
                high.iter().zip(low).map(|(high, low)| high - low).sum()
            };
            let (width, reached) = (width(&found.low, &found.high), width(&low, &high));
            assert!(width <= 4.0 * reached + 1e-9, "{eps}: {width} for {reached}");
        }
    }

    #[test]
    fn a_large_skew_part_has_no_boxes() {
        assert!(Boxes::new(&network(6.0, 3.0)).is_none());
        // Yet there is one fixed point, and a distance to it.
        assert!(network(6.0, 3.0).centre(&[0.5; 16]).distance.value() < 1e-9);
    }
}
