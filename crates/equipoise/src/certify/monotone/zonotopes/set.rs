//! CH-zonotopes as numbers: their sizes, what encloses them, and whether one lies in another.
//!
//! S′ lies in {c + A e + b∘e′} if |A⁻¹(K′, G′)| 1 + |A⁻¹| d ≤ 1 row by row, d = max(0, |c′−c| + b′ − b). The inverse is R about A⁻¹:
//! with g = |(K′, G′)| 1 + d and |I − AR| g ≤ θg, θ < 1, |A⁻¹ y| ≤ |R y| + |R| g θ/(1−θ) for all |y| ≤ g.

use crate::certify::matrix::Matrix;
use crate::certify::monotone::affine::{SLIGHTLY, most};
use crate::certify::monotone::{Ball, Network};
use crate::certify::upper::{UNIT, Upper, dot, gamma, length1, less, moves};

/// Columns of G this small join b.
const SMALL: f64 = 1e-4;
/// What a unit is taken to move by at least, of what the most moving one does, where the rounding of an inverse is counted.
const LEAST: f64 = 1e-6;

/// {c + K δ + G e + b∘e′}; K is absent where the image was forgotten.
#[derive(Clone)]
pub(super) struct Set {
    pub(super) centre: Vec<f64>,
    pub(super) image: Option<Matrix>,
    pub(super) errors: Matrix,
    pub(super) around: Vec<f64>,
}

/// A consolidated set, and its inverse with what that may be off by.
pub(super) struct Anchor {
    pub(super) set: Set,
    inverse: Matrix,
    residual: Matrix,
    /// The set's sizes: what lies in it lies in the box around it.
    sizes: Vec<f64>,
}

impl Set {
    /// |K δ| + |G| 1 of each unit, at most.
    fn spans(&self, ball: &Ball<'_>) -> Vec<f64> {
        let of_image = |i: usize| self.image.as_ref().map_or(0.0, |image| most(image.row(i), ball));
        (0..self.centre.len()).map(|i| (of_image(i) + length1(self.errors.row(i))) * SLIGHTLY).collect()
    }

    /// How far each unit is from the centre at most.
    pub(super) fn sizes(&self, ball: &Ball<'_>) -> Vec<f64> {
        self.spans(ball).iter().zip(&self.around).map(|(span, around)| (span + around) * SLIGHTLY).collect()
    }

    /// The same with small columns of G in b.
    pub(super) fn pruned(self) -> Self {
        let Self { centre, image, errors, mut around } = self;
        let mut columns = vec![0.0; errors.columns];
        for i in 0..errors.rows {
            columns.iter_mut().zip(errors.row(i)).for_each(|(sum, entry)| *sum += entry.abs());
        }
        let small = SMALL * columns.iter().fold(0.0, |most: f64, size| most.max(*size));
        let large: Vec<usize> = (0..columns.len()).filter(|&k| columns[k] > small).collect();
        if large.len() == columns.len() {
            return Self { centre, image, errors, around };
        }
        let mut kept = Vec::with_capacity(errors.rows * large.len());
        for (i, around) in around.iter_mut().enumerate() {
            let row = errors.row(i);
            kept.extend(large.iter().map(|&k| row[k]));
            let joined = row.iter().zip(&columns).filter(|(_, size)| **size <= small);
            let joined: f64 = joined.map(|(entry, _)| entry.abs()).sum();
            *around = if joined > 0.0 { (*around + joined) * SLIGHTLY } else { *around };
        }
        let errors = Matrix::of(errors.rows, large.len(), kept);
        Self { centre, image, errors, around }
    }

    /// K and G by a matrix.
    fn turned(&self, by: &Matrix) -> (Option<Matrix>, Matrix) {
        (self.image.as_ref().map(|image| by.product(image)), by.product(&self.errors))
    }

    /// An orthonormal basis of its directions, in columns, as good as float64 has it; `None` where none is found.
    pub(super) fn directions(&self, ball: &Ball<'_>) -> Option<Matrix> {
        let scaled = self.image.as_ref().map(|image| match ball {
            Ball::Distance(distance) => image.map(|entry| entry * distance),
            Ball::Pixels { half, .. } => {
                Matrix::new(image.rows, image.columns, |i, j| image.row(i)[j] * half[j])
            }
        });
        let mut sum = self.errors.gram();
        if let Some(image) = scaled {
            sum.values.iter_mut().zip(image.gram().values).for_each(|(sum, image)| *sum += image);
        }
        sum.eigenvectors()
    }

    /// A set that holds this one, with a square matrix of a basis.
    pub(super) fn consolidated(&self, basis: &Matrix, ball: &Ball<'_>, (wider, by): (f64, f64)) -> Anchor {
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
        Anchor { sizes: set.sizes(ball), set, inverse, residual }
    }

    /// The least lead of a class over each; ∞ over itself.
    pub(super) fn margins(&self, network: &Network, class: usize, ball: &Ball<'_>) -> Vec<f64> {
        let (head, bias) = (&network.parameters.head, &network.parameters.bias);
        let own = head.row(class);
        let slopes = Matrix::new(head.rows, head.columns, |j, i| own[i] - head.row(j)[i]);
        let image = self.image.as_ref().map(|image| slopes.product(image));
        let errors = slopes.product(&self.errors);
        let terms: Vec<f64> =
            self.sizes(ball).iter().zip(&self.centre).map(|(size, c)| size + c.abs()).collect();
        let columns = self.errors.columns + self.image.as_ref().map_or(0, |image| image.columns);
        let margin = |j: usize| {
            if j == class {
                return f64::INFINITY;
            }
            let w = slopes.row(j);
            let middle = dot(w, &self.centre) + (bias[class] - bias[j]);
            let image = image.as_ref().map_or(0.0, |image| most(image.row(j), ball));
            let errors = length1(errors.row(j)) + moves(w, &self.around);
            let total = moves(w, &terms) + bias[class].abs() + bias[j].abs();
            let rounding = gamma(2 * w.len() + columns + 40, UNIT) * Upper::exact(total * SLIGHTLY);
            less(middle, Upper::exact((image + errors) * SLIGHTLY) + rounding)
        };
        (0..head.rows).map(margin).collect()
    }
}

impl Anchor {
    /// Whether a set lies in it.
    pub(super) fn holds(&self, set: &Set, ball: &Ball<'_>) -> bool {
        let Self { set: own, inverse, residual, sizes } = self;
        let side = own.centre.len();
        let ends = set.sizes(ball).into_iter().zip(set.centre.iter().zip(&own.centre));
        if ends.zip(sizes).any(|((size, (centre, own)), most)| (centre - own).abs() + size > most * SLIGHTLY)
        {
            return false;
        }
        let apart: Vec<f64> = (0..side)
            .map(|i| {
                let moved = (set.centre[i] - own.centre[i]).abs() + set.around[i];
                // Three roundings.
                (moved * SLIGHTLY - own.around[i]).next_up().max(0.0)
            })
            .collect();
        // More than it is for units that hardly move: what the residual has of others is not small beside those.
        let reach = set.spans(ball).into_iter().zip(&apart).map(|(span, apart)| (span + apart) * SLIGHTLY);
        let reach: Vec<f64> = reach.collect();
        let least = LEAST * reach.iter().copied().fold(0.0, f64::max) + f64::MIN_POSITIVE;
        let reach: Vec<f64> = reach.into_iter().map(|reach| reach.max(least)).collect();
        let lost = residual.times(&reach);
        let theta = lost.iter().zip(&reach).map(|(lost, reach)| lost / reach * SLIGHTLY).fold(0.0, f64::max);
        if !lost.iter().all(|lost| lost.is_finite()) || theta >= 0.5 {
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
pub(super) mod testing {
    use super::*;
    use crate::certify::monotone::testing::numbers;

    /// A set of so many units, symbols and pixels.
    pub(in crate::certify::monotone::zonotopes) fn set(
        seed: u64,
        [side, columns, pixels]: [usize; 3],
        size: f64,
    ) -> Set {
        let matrix =
            |seed: u64, columns: usize| Matrix::of(side, columns, numbers(seed, side * columns, size));
        Set {
            centre: numbers(seed + 1, side, 0.1 * size),
            image: (pixels > 0).then(|| matrix(seed + 2, pixels)),
            errors: matrix(seed + 3, columns),
            around: numbers(seed + 4, side, 0.3 * size).into_iter().map(f64::abs).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::set;
    use super::*;

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
            let anchor = outer.consolidated(&outer.directions(&ball).unwrap(), &ball, (0.2, 1e-3));
            assert!(
                lies_in(&generators(&outer), &generators(&anchor.set)),
                "a consolidated set holds what it was"
            );
            let size = 0.4 + 1.6 * (seed % 10) as f64 / 10.0;
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
            let wrong = |residual: Matrix| Anchor {
                set: anchor.set.clone(),
                inverse: inverse.clone(),
                residual,
                sizes: anchor.sizes.clone(),
            };
            assert!(lies || !wrong(residual).holds(&inner, &ball), "{seed}");
            let careless = wrong(Matrix::new(side, side, |_, _| 0.0));
            trusted += usize::from(!lies && careless.holds(&inner, &ball));
        }
        assert!(found > true_ / 2 && true_ > 100 && true_ < 500, "{found} of {true_}");
        assert!(trusted > 0, "no wrong inverse would have been taken for one");
    }

    /// A unit that hardly moves, whose own size the roundings of others exceed, keeps nothing from lying in a wider set.
    #[test]
    fn units_may_stand_nearly_still() {
        let ball = Ball::Pixels { middle: &[0.5; 2], half: &[1.0; 2] };
        for still in [1e-8, 1e-16, 1e-30] {
            let mut whole = set(7, [6, 8, 0], 1.0);
            whole.around[0] *= still;
            whole.errors.values[..8].iter_mut().for_each(|entry| *entry *= still);
            let anchor = whole.consolidated(&whole.directions(&ball).unwrap(), &ball, (0.2, 1e-3));
            assert!(anchor.holds(&whole, &ball), "{still}");
        }
    }

    /// A set lies in itself, but for rounding, and not in one that is a millionth smaller.
    #[test]
    fn inclusion_is_tight() {
        let ball = Ball::Pixels { middle: &[0.5; 2], half: &[1.0; 2] };
        let whole = set(7, [3, 3, 0], 1.0);
        let anchor = whole.consolidated(&whole.directions(&ball).unwrap(), &ball, (0.0, 0.0));
        let scaled = |by: f64| Set {
            errors: anchor.set.errors.map(|entry| entry * by),
            around: anchor.set.around.iter().map(|b| b * by).collect(),
            ..anchor.set.clone()
        };
        assert!(anchor.holds(&scaled(1.0 - 1e-6), &ball) && !anchor.holds(&scaled(1.0 + 1e-6), &ball));
    }
}
