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
//! S′ lies in {c + A e + b∘e′} if |A⁻¹(K′, G′)| 1 + |A⁻¹| d ≤ 1 row by row, d = max(0, |c′−c| + b′ − b). The inverse is R about A⁻¹:
//! with g = |(K′, G′)| 1 + d and |I − AR| g ≤ θg, θ < 1, |A⁻¹ y| ≤ |R y| + |R| g θ/(1−θ) for all |y| ≤ g.
//!
//! Peaceman-Rachford steps need twice the state and the same ReLUs. Given its ranges, a set's margins are never above those of
//! [`affine`](super::affine): there an error has one sign in all steps, here a new one in each.

use super::affine::{SLIGHTLY, most};
use super::{Ball, Centre, Network};
use crate::certify::matrix::Matrix;
use crate::certify::upper::{UNIT, Upper, dot, gamma, less};

/// Steps towards an inclusion; between two consolidations; and after it.
const STEPS: usize = 160;
const EVERY: usize = 8;
const TIGHTENINGS: usize = 40;
/// Consolidations with one basis, and how many sets are kept to lie in.
const BASIS: usize = 4;
const KEPT: usize = 10;
/// What r is widened by: relatively, and by so much of the largest state; and what that is multiplied by each time.
const WIDER: f64 = 0.2;
const WIDER_BY: f64 = 1e-3;
const GROWTH: f64 = 1.1;
/// Columns of G this small join b.
const SMALL: f64 = 1e-7;

/// How sets are stepped.
pub(crate) struct Zonotopes {
    step: f64,
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

/// {c + K δ + G e + b∘e′}; K is absent where the image was forgotten.
#[derive(Clone)]
struct Set {
    centre: Vec<f64>,
    image: Option<Matrix>,
    errors: Matrix,
    around: Vec<f64>,
}

/// A consolidated set, and its inverse with what that may be off by.
struct Anchor {
    set: Set,
    inverse: Matrix,
    residual: Matrix,
}

impl Zonotopes {
    /// `None` where no step is known to contract.
    pub(crate) fn new(network: &Network) -> Option<Self> {
        let step = network.contracting()?;
        let side = network.hidden();
        let parameters = &network.parameters;
        let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
        let averaged =
            Matrix::new(side, side, |i, j| (1.0 - step) * identity(i, j) + step * network.weight.row(i)[j]);
        let rounding = gamma(network.entry + 10, UNIT).value() * SLIGHTLY;
        let sizes = |i: usize, j: usize| {
            (2.0 + parameters.monotonicity) * identity(i, j) + network.magnitude.row(i)[j]
        };
        let doubt =
            Matrix::new(side, side, |i, j| rounding * (identity(i, j) + step * sizes(i, j) * (1.0 + 1e-6)));
        let scaled = |i: usize, j: usize| step * parameters.injection.row(i)[j] / parameters.deviation[j];
        let injection = Matrix::new(side, parameters.injection.columns, scaled);
        Some(Self { step, size: averaged.map(f64::abs), averaged, doubt, injection })
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
        for step in 0..TIGHTENINGS {
            set = self.stepped(&set, &images);
            let margins = (0..network.classes()).filter(|j| *j != centre.class);
            let left = margins.map(|j| set.margin(network, centre.class, j, ball) - lost(j));
            let now = left.fold(f64::INFINITY, f64::min);
            if now > 0.0 {
                return true;
            }
            // It has come to rest.
            if step % EVERY == EVERY - 1 {
                if now <= least + 1e-4 * least.abs() {
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
        for step in 1..=STEPS {
            set = self.stepped(&set, images);
            if step % EVERY != 0 {
                continue;
            }
            if kept.iter().rev().take(KEPT).any(|anchor| anchor.holds(&set, images.ball)) {
                return Some(set);
            }
            let sizes = set.sizes(images.ball);
            if !sizes.iter().all(|size| size.is_finite() && *size < 1e3 * (1.0 + largest)) {
                return None;
            }
            if step / EVERY % BASIS == 1 {
                basis = None;
            }
            let basis = basis.get_or_insert_with(|| set.directions(images.ball));
            kept.push(set.consolidated(basis, images.ball, wider));
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
        let mut errors = Matrix::new(side, width, |i, k| match k.checked_sub(old.columns) {
            None => old.row(i)[k],
            Some(k) => self.averaged.row(i)[spread[k]] * set.around[spread[k]],
        });
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

/// ‖v‖₁, as computed.
fn length1(v: &[f64]) -> f64 {
    v.iter().map(|entry| entry.abs()).sum()
}

impl Set {
    /// |K δ| + |G| 1 of each unit, at most.
    fn spans(&self, ball: &Ball<'_>) -> Vec<f64> {
        let of_image = |i: usize| self.image.as_ref().map_or(0.0, |image| most(image.row(i), ball));
        (0..self.centre.len()).map(|i| (of_image(i) + length1(self.errors.row(i))) * SLIGHTLY).collect()
    }

    /// How far each unit is from the centre at most.
    fn sizes(&self, ball: &Ball<'_>) -> Vec<f64> {
        self.spans(ball).iter().zip(&self.around).map(|(span, around)| (span + around) * SLIGHTLY).collect()
    }

    /// The same with small columns of G in b.
    fn pruned(self) -> Self {
        let Self { centre, image, errors, mut around } = self;
        let mut columns = vec![0.0; errors.columns];
        for i in 0..errors.rows {
            columns.iter_mut().zip(errors.row(i)).for_each(|(sum, entry)| *sum += entry.abs());
        }
        let small = SMALL * columns.iter().fold(0.0, |most: f64, size| most.max(*size));
        let large: Vec<usize> = (0..columns.len()).filter(|&k| columns[k] > small).collect();
        for (i, around) in around.iter_mut().enumerate() {
            let row = errors.row(i).iter().zip(&columns).filter(|(_, size)| **size <= small);
            let joined: f64 = row.map(|(entry, _)| entry.abs()).sum();
            *around = if joined > 0.0 { (*around + joined) * SLIGHTLY } else { *around };
        }
        let errors = Matrix::new(errors.rows, large.len(), |i, k| errors.row(i)[large[k]]);
        Self { centre, image, errors, around }
    }

    /// K and G by a matrix.
    fn turned(&self, by: &Matrix) -> (Option<Matrix>, Matrix) {
        (self.image.as_ref().map(|image| by.product(image)), by.product(&self.errors))
    }

    /// An orthonormal basis of its directions, in columns, as good as float64 has it.
    fn directions(&self, ball: &Ball<'_>) -> Matrix {
        let scaled = self.image.as_ref().map(|image| match ball {
            Ball::Distance(distance) => image.map(|entry| entry * distance),
            Ball::Pixels { half, .. } => {
                Matrix::new(image.rows, image.columns, |i, j| image.row(i)[j] * half[j])
            }
        });
        let gram = |of: &Matrix, i: usize, j: usize| dot(of.row(i), of.row(j));
        let side = self.centre.len();
        let mut sum = Matrix::new(side, side, |_, _| 0.0);
        for i in 0..side {
            for j in 0..=i {
                let image = scaled.as_ref().map_or(0.0, |image| gram(image, i, j));
                let entry = image + gram(&self.errors, i, j);
                (sum.values[i * side + j], sum.values[j * side + i]) = (entry, entry);
            }
        }
        sum.eigenvectors()
    }

    /// A set that holds this one, with a square matrix of a basis.
    fn consolidated(&self, basis: &Matrix, ball: &Ball<'_>, (wider, by): (f64, f64)) -> Anchor {
        let side = self.centre.len();
        let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
        let rounding = gamma(2 * side + 20, UNIT).value() * SLIGHTLY;
        let back = basis.transposed();
        let spans = self.spans(ball);
        let (image, errors) = self.turned(&back);
        let lengths: Vec<f64> = (0..side)
            .map(|i| {
                let span =
                    image.as_ref().map_or(0.0, |image| most(image.row(i), ball)) + length1(errors.row(i));
                (span * (1.0 + wider) + by) * SLIGHTLY
            })
            .collect();
        let matrix = Matrix::new(side, side, |i, j| basis.row(i)[j] * lengths[j]);
        // (I − Q Qᵀ) (K, G), and the roundings of QᵀK, QᵀG and A.
        let product = basis.product(&back);
        let sizes = basis.map(f64::abs).product(&back.map(f64::abs));
        let lost = |i: usize| {
            let each = (0..side).map(|j| {
                ((identity(i, j) - product.row(i)[j]).abs() + 2.0 * rounding * sizes.row(i)[j]) * spans[j]
            });
            let of_matrix: f64 = matrix.row(i).iter().map(|entry| rounding * entry.abs()).sum();
            (each.sum::<f64>() + of_matrix) * SLIGHTLY
        };
        let around = (0..side).map(|i| ((self.around[i] + lost(i)) * SLIGHTLY).next_up()).collect();
        let inverse = Matrix::new(side, side, |i, j| back.row(i)[j] / lengths[i]);
        let product = matrix.product(&inverse);
        let sizes = matrix.map(f64::abs).product(&inverse.map(f64::abs));
        let residual = Matrix::new(side, side, |i, j| {
            ((identity(i, j) - product.row(i)[j]).abs() + rounding * sizes.row(i)[j]) * SLIGHTLY
        });
        let set = Self { centre: self.centre.clone(), image: None, errors: matrix, around };
        Anchor { set, inverse, residual }
    }

    /// The least lead of a class over another.
    fn margin(&self, network: &Network, class: usize, other: usize, ball: &Ball<'_>) -> f64 {
        let (head, bias) = (&network.parameters.head, &network.parameters.bias);
        let w: Vec<f64> =
            head.row(class).iter().zip(head.row(other)).map(|(own, other)| own - other).collect();
        let sizes: Vec<f64> = w.iter().map(|entry| entry.abs()).collect();
        let middle = dot(&w, &self.centre) + (bias[class] - bias[other]);
        let image = self.image.as_ref().map_or(0.0, |image| most(&image.combined(&w), ball));
        let errors = length1(&self.errors.combined(&w)) + dot(&sizes, &self.around);
        let terms: Vec<f64> =
            self.sizes(ball).iter().zip(&self.centre).map(|(size, c)| size + c.abs()).collect();
        let total = dot(&sizes, &terms) + bias[class].abs() + bias[other].abs();
        let columns = self.errors.columns + self.image.as_ref().map_or(0, |image| image.columns);
        let rounding = gamma(2 * w.len() + columns + 40, UNIT) * Upper::exact(total * SLIGHTLY);
        less(middle, Upper::exact((image + errors) * SLIGHTLY) + rounding)
    }
}

impl Anchor {
    /// Whether a set lies in it.
    fn holds(&self, set: &Set, ball: &Ball<'_>) -> bool {
        let Self { set: own, inverse, residual } = self;
        let side = own.centre.len();
        let apart: Vec<f64> = (0..side)
            .map(|i| {
                let moved = (set.centre[i] - own.centre[i]).abs() + set.around[i];
                // Three roundings.
                (moved * SLIGHTLY - own.around[i]).next_up().max(0.0)
            })
            .collect();
        let reach: Vec<f64> = set
            .spans(ball)
            .iter()
            .zip(&apart)
            .map(|(span, apart)| (span + apart) * SLIGHTLY + f64::MIN_POSITIVE)
            .collect();
        let lost = residual.times(&reach);
        let theta = lost.iter().zip(&reach).map(|(lost, reach)| lost / reach * SLIGHTLY).fold(0.0, f64::max);
        if !(theta < 0.5) {
            return false;
        }
        let sizes = inverse.map(f64::abs);
        let rounding = gamma(2 * side + 20, UNIT).value() * SLIGHTLY;
        // |R| (d + g θ/(1−θ)), and the roundings of R K′ and R G′: θ/(1−θ) ≤ 2θ.
        let rest: Vec<f64> =
            apart.iter().zip(&reach).map(|(apart, reach)| apart + (2.0 * theta + rounding) * reach).collect();
        let rest = sizes.times(&rest);
        let (image, errors) = set.turned(inverse);
        (0..side).all(|i| {
            let span = image.as_ref().map_or(0.0, |image| most(image.row(i), ball)) + length1(errors.row(i));
            (span + rest[i]) * SLIGHTLY <= 1.0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certify::monotone::testing::{network, numbers};

    /// A set of so many units, symbols and pixels.
    fn set(seed: u64, [side, columns, pixels]: [usize; 3], size: f64) -> Set {
        let matrix =
            |seed: u64, columns: usize| Matrix::of(side, columns, numbers(seed, side * columns, size));
        Set {
            centre: numbers(seed + 1, side, 0.1 * size),
            image: (pixels > 0).then(|| matrix(seed + 2, pixels)),
            errors: matrix(seed + 3, columns),
            around: numbers(seed + 4, side, 0.3 * size).into_iter().map(f64::abs).collect(),
        }
    }

    /// Whether {c′ + G′e} lies in {c + G e} of two or three dimensions, by all facets of the latter: those of a zonotope are parallel
    /// to its generators, and the former's largest value in a direction is a sum.
    fn lies_in(inner: &(Vec<f64>, Vec<Vec<f64>>), outer: &(Vec<f64>, Vec<Vec<f64>>)) -> bool {
        let normals: Vec<Vec<f64>> = match outer.0.len() {
            2 => outer.1.iter().map(|g| vec![-g[1], g[0]]).collect(),
            _ => {
                let pairs = outer
                    .1
                    .iter()
                    .enumerate()
                    .flat_map(|(i, a)| outer.1[i + 1..].iter().map(move |b| (a, b)));
                let cross = |(a, b): (&Vec<f64>, &Vec<f64>)| {
                    vec![a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
                };
                pairs.map(cross).collect()
            }
        };
        let apart: Vec<f64> = inner.0.iter().zip(&outer.0).map(|(a, b)| a - b).collect();
        normals.iter().filter(|n| length1(n) > 1e-12).all(|n| {
            let along = |of: &[Vec<f64>]| of.iter().map(|g| dot(n, g).abs()).sum::<f64>();
            dot(n, &apart).abs() + along(&inner.1) <= along(&outer.1) * (1.0 + 1e-12)
        })
    }

    /// Centre and generators, b's among them, for pixels that move by 1.
    fn generators(set: &Set) -> (Vec<f64>, Vec<Vec<f64>>) {
        let side = set.centre.len();
        let columns = |of: &Matrix| -> Vec<Vec<f64>> {
            (0..of.columns).map(|k| (0..side).map(|i| of.row(i)[k]).collect()).collect()
        };
        let boxes = (0..side).map(|j| (0..side).map(|i| if i == j { set.around[j] } else { 0.0 }).collect());
        let mut all: Vec<Vec<f64>> = columns(&set.errors);
        all.extend(set.image.iter().flat_map(columns));
        all.extend(boxes);
        (set.centre.clone(), all)
    }

    /// What is found to lie in a set does, as the facets say; and half of what does is found to. An inverse that is wrong is not
    /// trusted, and would be without its residual.
    #[test]
    fn inclusion_is_never_found_where_it_is_not() {
        let (mut found, mut true_, mut trusted) = (0, 0, 0);
        for seed in 0..600 {
            let side = 2 + (seed % 2) as usize;
            let half = [1.0; 2];
            let ball = Ball::Pixels { middle: &[0.5; 2], half: &half };
            let outer = set(100 * seed, [side, 2 * side, 2], 1.0);
            let anchor = outer.consolidated(&outer.directions(&ball), &ball, (0.2, 1e-3));
            assert!(
                lies_in(&generators(&outer), &generators(&anchor.set)),
                "a consolidated set holds what it was"
            );
            let size = 0.2 + 0.9 * (seed % 10) as f64 / 10.0;
            let inner = set(100 * seed + 50, [side, side + 1, 2], size);
            let lies = lies_in(&generators(&inner), &generators(&anchor.set));
            let holds = anchor.holds(&inner, &ball);
            assert!(lies || !holds, "{seed}");
            (true_, found) = (true_ + usize::from(lies), found + usize::from(holds));

            // R a tenth too small.
            let inverse = anchor.inverse.map(|entry| 0.9 * entry);
            let residual = Matrix::new(side, side, |i, j| {
                anchor.residual.row(i)[j] + if i == j { 0.100_000_1 } else { 1e-7 }
            });
            let wrong =
                |residual: Matrix| Anchor { set: anchor.set.clone(), inverse: inverse.clone(), residual };
            assert!(lies || !wrong(residual).holds(&inner, &ball), "{seed}");
            let careless = wrong(Matrix::new(side, side, |_, _| 0.0));
            trusted += usize::from(!lies && careless.holds(&inner, &ball));
        }
        assert!(found > true_ / 2 && true_ > 100 && true_ < 500, "{found} of {true_}");
        assert!(trusted > 0, "no wrong inverse would have been taken for one");
    }

    /// A set lies in itself, but for rounding, and not in one that is a millionth smaller.
    #[test]
    fn inclusion_is_tight() {
        let ball = Ball::Pixels { middle: &[0.5; 2], half: &[1.0; 2] };
        let whole = set(7, [3, 3, 0], 1.0);
        let anchor = whole.consolidated(&whole.directions(&ball), &ball, (0.0, 0.0));
        let scaled = |by: f64| Set {
            errors: anchor.set.errors.map(|entry| entry * by),
            around: anchor.set.around.iter().map(|b| b * by).collect(),
            ..anchor.set.clone()
        };
        assert!(anchor.holds(&scaled(1.0 - 1e-6), &ball) && !anchor.holds(&scaled(1.0 + 1e-6), &ball));
    }

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
