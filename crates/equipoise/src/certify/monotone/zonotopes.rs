//! Sets of states that a step maps into themselves, as CH-zonotopes (Müller et al. 2023, arXiv 2110.08260).
//!
//! A set is S = {c + K δ + G e + b∘e′}: δ the image's change, |e|, |e′| ≤ 1. A step f of forward-backward splitting makes of it
//! another: K, G and c meet the matrix M = (1−α) I + α W, b becomes columns of G, and each ReLU whose range \[l, u\] has 0 inside is
//! λv + μ + μe″, λ = u/(u−l), 2μ = max(u(1−λ), −λl), the new b. What rounding may have hidden joins b.
//!
//! Now and then a set is **consolidated**: K and G are enclosed by one invertible matrix A = Q diag(r), Q a basis of the set's
//! directions, |QᵀK| and |QᵀG| summed into r, and widened. Such a set forgets the image. If what steps make of it comes to lie in
//! it again, f^k maps it into itself; f contracts, so that its iterates from there end at z*(x), in the set, for every image x of the
//! ball. From then on every step keeps z* in the set, which shrinks and knows the image again.
//!
//! Peaceman-Rachford steps need twice the state and the same ReLUs. Given its ranges, a set's margins are never above those of
//! [`affine`](super::affine): there an error has one sign in all steps, here a new one in each.

mod set;

use set::{Anchor, Set};

use super::affine::{SLIGHTLY, most};
use super::{Ball, Centre, Network};
use crate::certify::matrix::Matrix;
use crate::certify::upper::{UNIT, gamma, length1};

/// Consolidations on the way to an inclusion, and steps between two, so many that they contract by this, within limits: a parallelotope
/// around a set may be longer than that by the root of the number of units.
const CONSOLIDATIONS: usize = 20;
const CONTRACTED: f64 = 0.02;
const EVERY: [usize; 2] = [8, 40];
/// As many steps are taken after an inclusion, up to this often, with a look every few at what they bring.
const TIGHTENINGS: usize = 5;
const LOOK: usize = 8;
/// Consolidations with one basis, and how many sets are kept to lie in.
const BASIS: usize = 4;
const KEPT: usize = 10;
/// What r is widened by: relatively, and by so much of the largest state; and what that is multiplied by each time.
const WIDER: f64 = 0.2;
const WIDER_BY: f64 = 1e-3;
const GROWTH: f64 = 1.1;

/// How sets are stepped.
pub(crate) struct Zonotopes {
    step: f64,
    /// Steps between two consolidations.
    every: usize,
    /// M, rounded, |M|, and what an entry may be off by.
    averaged: Matrix,
    size: Matrix,
    doubt: Matrix,
    /// α U diag(1/σ), rounded.
    injection: Matrix,
}

/// The images of a ball: α (U x + b) at the middle, and what it and the injection's matrix may be off by.
struct Images<'a> {
    ball: &'a Ball<'a>,
    middle: Vec<f64>,
    off: Vec<f64>,
}

impl Zonotopes {
    /// `None` where no step is known to contract.
    pub(crate) fn new(network: &Network) -> Option<Self> {
        let (step, contraction) = network.contracting()?;
        let every = (CONTRACTED.ln() / contraction.ln()).ceil() as usize;
        let side = network.hidden();
        let (parameters, known) = (&network.parameters, network.needed());
        let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
        let averaged =
            Matrix::new(side, side, |i, j| (1.0 - step) * identity(i, j) + step * known.weight.row(i)[j]);
        let rounding = gamma(known.entry + 10, UNIT).value() * SLIGHTLY;
        let sizes =
            |i: usize, j: usize| (2.0 + parameters.monotonicity) * identity(i, j) + known.magnitude.row(i)[j];
        let doubt =
            Matrix::new(side, side, |i, j| rounding * (identity(i, j) + step * sizes(i, j) * (1.0 + 1e-6)));
        let scaled = |i: usize, j: usize| step * known.plain.row(i)[j] / parameters.deviation[j];
        let injection = Matrix::new(side, known.plain.columns, scaled);
        Some(Self {
            step,
            every: every.clamp(EVERY[0], EVERY[1]),
            size: averaged.map(f64::abs),
            averaged,
            doubt,
            injection,
        })
    }

    /// Whether the centre's class leads each other one by more than is `lost` of it, for every image of a ball around the centre.
    pub(crate) fn leads(
        &self,
        network: &Network,
        centre: &Centre,
        ball: &Ball<'_>,
        lost: &dyn Fn(usize) -> f64,
    ) -> bool {
        let off = gamma(network.pixels() + 16, UNIT).value() * SLIGHTLY;
        let moved = |i: usize| most(self.injection.row(i), ball);
        let images = Images {
            ball,
            middle: centre.injected.iter().map(|c| self.step * c).collect(),
            off: (0..self.injection.rows)
                .map(|i| off * (self.step * centre.magnitudes[i] + moved(i)) * SLIGHTLY)
                .collect(),
        };
        let Some(mut set) = self.included(&images, &centre.state) else { return false };
        let mut least = f64::NEG_INFINITY;
        for step in 1..=TIGHTENINGS * self.every {
            set = self.stepped(&set, &images);
            let margins = set.margins(network, centre.class, ball);
            let left: Vec<f64> = margins.iter().enumerate().map(|(j, margin)| margin - lost(j)).collect();
            if left.iter().all(|left| *left > 0.0) {
                return true;
            }
            let now = left.into_iter().fold(f64::INFINITY, f64::min);
            // It has come to rest: what is still to come is a fraction of that.
            if step % LOOK == 0 {
                if now <= least + 1e-2 * least.abs() {
                    return false;
                }
                least = now;
            }
        }
        false
    }

    /// A set that holds the fixed points of all images.
    fn included(&self, images: &Images<'_>, state: &[f64]) -> Option<Set> {
        let side = state.len();
        let mut set = Set {
            centre: state.to_vec(),
            image: None,
            errors: Matrix::of(side, 0, Vec::new()),
            around: vec![0.0; side],
        };
        let largest = state.iter().fold(1e-6, |most: f64, z| most.max(*z));
        let mut wider = (WIDER, WIDER_BY * largest);
        let mut basis = None;
        let mut kept: Vec<Anchor> = Vec::new();
        for step in 1..=CONSOLIDATIONS * self.every {
            set = self.stepped(&set, images);
            if step % self.every != 0 {
                continue;
            }
            if kept.iter().rev().take(KEPT).any(|anchor| anchor.holds(&set, images.ball)) {
                return Some(set);
            }
            let sizes = set.sizes(images.ball);
            if !sizes.iter().all(|size| size.is_finite() && *size < 1e3 * (1.0 + largest)) {
                return None;
            }
            if step / self.every % BASIS == 1 {
                basis = set.directions(images.ball);
            }
            kept.push(set.consolidated(basis.as_ref()?, images.ball, wider));
            set = kept.last().map(|anchor| anchor.set.clone())?;
            wider = (wider.0 * GROWTH, wider.1 * GROWTH);
        }
        None
    }

    /// What f makes of a set, and more.
    fn stepped(&self, set: &Set, images: &Images<'_>) -> Set {
        let side = set.centre.len();
        let sizes = set.sizes(images.ball);
        let entries: Vec<f64> = sizes.iter().zip(&set.centre).map(|(r, c)| r + c.abs()).collect();
        // Products of M and what is added to them.
        let rounding = gamma(side + 12, UNIT).value() * SLIGHTLY;
        let of_products = self.size.times(&entries).into_iter().zip(self.doubt.times(&entries));
        let off = of_products.zip(&images.off).zip(&images.middle);
        let off: Vec<f64> = off
            .map(|(((product, doubt), off), middle)| {
                (rounding * (product + middle.abs()) + doubt + off) * SLIGHTLY + f64::MIN_POSITIVE
            })
            .collect();
        let product = self.averaged.times(&set.centre);
        let mut centre: Vec<f64> = product.iter().zip(&images.middle).map(|(c, x)| c + x).collect();
        let mut image = match &set.image {
            None => self.injection.clone(),
            Some(image) => {
                let mut next = self.averaged.product(image);
                next.values.iter_mut().zip(&self.injection.values).for_each(|(entry, u)| *entry += u);
                next
            }
        };
        // b's columns come last, where there is something in them.
        let spread: Vec<usize> = (0..side).filter(|&j| set.around[j] > 0.0).collect();
        let old = self.averaged.product(&set.errors);
        let width = old.columns + spread.len();
        let mut columns = Vec::with_capacity(side * width);
        for i in 0..side {
            let row = self.averaged.row(i);
            columns.extend_from_slice(old.row(i));
            columns.extend(spread.iter().map(|&j| row[j] * set.around[j]));
        }
        let mut errors = Matrix::of(side, width, columns);
        let mut around = vec![0.0; side];
        for i in 0..side {
            let reach = (most(image.row(i), images.ball) + length1(errors.row(i)) + off[i]) * SLIGHTLY;
            let (low, high) = ((centre[i] - reach).next_down(), (centre[i] + reach).next_up());
            if low >= 0.0 {
                around[i] = off[i];
                continue;
            }
            let (slope, shift) = relaxed(low, high);
            // A rounding for each product by the slope, and for the centre's sum.
            let lost = 4.0 * UNIT * (centre[i].abs() + reach + shift);
            around[i] = ((shift + slope * off[i] + lost) * SLIGHTLY).next_up();
            centre[i] = slope * centre[i] + shift;
            image.values[i * image.columns..][..image.columns].iter_mut().for_each(|entry| *entry *= slope);
            errors.values[i * width..][..width].iter_mut().for_each(|entry| *entry *= slope);
            if slope == 0.0 {
                (centre[i], around[i]) = (0.0, 0.0);
            }
        }
        Set { centre, image: Some(image), errors, around }.pruned()
    }
}

/// λ and μ of a ReLU whose range begins below 0.
fn relaxed(low: f64, high: f64) -> (f64, f64) {
    if high <= 0.0 {
        return (0.0, 0.0);
    }
    let slope = (high / (high - low)).clamp(0.0, 1.0);
    (slope, (0.5 * (high * (1.0 - slope)).max(-slope * low) * SLIGHTLY).next_up())
}

#[cfg(test)]
mod tests {
    use super::set::testing::set;
    use super::*;
    use crate::certify::monotone::testing::{network, numbers};
    use crate::certify::upper::dot;

    /// relu(v) − λv is in \[0, 2μ\] on all of a range. With the λ and μ of the authors' code, a small number added to u − l, it is not.
    #[test]
    fn relaxations_hold_at_both_ends() {
        let mut beyond = 0;
        for (low, high) in numbers(3, 4000, 1.0).into_iter().zip(numbers(4, 4000, 1.0)) {
            let (low, high) = (-low.abs() - 1e-9, high.abs() + 1e-9);
            let holds = |(slope, shift): (f64, f64)| {
                // u − λu with one rounding.
                let at_high = (-slope).mul_add(high, high);
                (0.0..=1.0).contains(&slope) && at_high <= 2.0 * shift && -slope * low <= 2.0 * shift
            };
            assert!(holds(relaxed(low, high)), "{low} {high}");
            let slope = high / (high - low + 1e-6);
            beyond += usize::from(!holds((slope, -slope * low / 2.0)));
        }
        assert!(beyond > 3000, "{beyond}");
        assert_eq!(relaxed(-1.0, -0.5), (0.0, 0.0));
    }

    /// After a step a set holds what f makes of its points for the same image: in every direction, with and without a memory of the
    /// image. And the set of a ball holds the fixed points of its images.
    #[test]
    fn steps_and_inclusions_hold_the_states_of_their_images() {
        let network = network(6.0, 0.3);
        let zonotopes = Zonotopes::new(&network).unwrap();
        let image: Vec<f64> = numbers(7, 16, 0.4).into_iter().map(|x| x + 0.5).collect();
        let centre = network.centre(&image);
        for eps in [1e-3, 0.1] {
            let half = [eps; 16];
            let ball = Ball::Pixels { middle: &image, half: &half };
            let images = Images {
                ball: &ball,
                middle: centre.injected.iter().map(|c| zonotopes.step * c).collect(),
                off: vec![0.0; 10],
            };
            for pixels in [0, 16] {
                let before = set(11, [10, 12, pixels], 0.2);
                let after = zonotopes.stepped(&before, &images);
                for draw in 0..200 {
                    let signs = |seed: u64, count: usize| -> Vec<f64> {
                        numbers(1000 * seed + draw, count, 1.0).into_iter().map(f64::signum).collect()
                    };
                    let change: Vec<f64> = signs(1, 16).iter().map(|sign| sign * eps).collect();
                    let moved: Vec<f64> = image.iter().zip(&change).map(|(x, d)| x + d).collect();
                    let of_image = before.image.as_ref().map_or(vec![0.0; 10], |k| k.times(&change));
                    let point: Vec<f64> = before
                        .errors
                        .times(&signs(2, 12))
                        .iter()
                        .zip(of_image)
                        .zip(signs(3, 10).iter().zip(&before.around))
                        .zip(&before.centre)
                        .map(|(((g, k), (sign, b)), c)| c + g + k + sign * b)
                        .collect();
                    let injected = network.centre(&moved).injected;
                    let product = zonotopes.averaged.times(&point);
                    let next: Vec<f64> = product
                        .iter()
                        .zip(&injected)
                        .map(|(m, c)| (m + zonotopes.step * c).max(0.0))
                        .collect();
                    within(&after, &next, &change);
                }
            }
            let found = zonotopes.included(&images, &centre.state).unwrap();
            let (mut low, mut high) = (centre.state.clone(), centre.state.clone());
            for draw in 0..400 {
                let noise = numbers(100 + draw, 16, eps);
                let change: Vec<f64> =
                    noise.iter().map(|d| if draw % 2 == 0 { eps * d.signum() } else { *d }).collect();
                let moved: Vec<f64> = image.iter().zip(&change).map(|(x, d)| x + d).collect();
                let state = network.centre(&moved).state;
                within(&found, &state, &change);
                for i in 0..10 {
                    (low[i], high[i]) = (low[i].min(state[i]), high[i].max(state[i]));
                }
            }
            let width: f64 = high.iter().zip(&low).map(|(high, low)| high - low).sum();
            let size: f64 = found.sizes(&ball).iter().sum();
            assert!(2.0 * size < 6.0 * width, "{eps}: {size} for {width}");
        }
    }

    /// A point of an image with this change lies in the set, as far as some directions tell.
    fn within(set: &Set, point: &[f64], change: &[f64]) {
        for seed in 0..12 {
            let direction = match seed {
                0..10 => (0..10).map(|i| f64::from(u8::from(i == seed))).collect(),
                _ => numbers(seed as u64, 10, 1.0),
            };
            let sizes: Vec<f64> = direction.iter().map(|d: &f64| d.abs()).collect();
            let of_image = set.image.as_ref().map_or(0.0, |k| dot(&direction, &k.times(change)));
            let reach = length1(&set.errors.combined(&direction)) + dot(&sizes, &set.around);
            let off = dot(&direction, point) - dot(&direction, &set.centre) - of_image;
            assert!(off.abs() <= reach * (1.0 + 1e-9) + 1e-12, "{seed}: {off} of {reach}");
        }
    }
}
