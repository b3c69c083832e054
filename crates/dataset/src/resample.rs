//! Bilinear resizing with antialiasing, value for value as Pillow's `Image.resize(.., BILINEAR)`, which torchvision
//! calls.
//!
//! A new pixel is a weighted mean of the old ones below it: a triangle as wide as two old pixels, or two new ones
//! where the image shrinks. Rows come first, then columns. 8-bit values are summed in integers of 22 fractional bits
//! and rounded after each of the two passes.

/// A value of a plane.
pub(crate) trait Value: Copy + Default {
    /// The mean of values by weights that sum to 1.
    fn mean(values: impl Iterator<Item = Self>, weights: &Weights) -> Self;
}

/// The weights of one new pixel.
pub(crate) struct Weights {
    first: usize,
    exact: Vec<f64>,
    fixed: Vec<i32>,
}

/// Fractional bits of the weights of 8-bit values: 32 less 8 for the value and 2 to spare.
const BITS: u32 = 22;

impl Value for u8 {
    fn mean(values: impl Iterator<Item = Self>, weights: &Weights) -> Self {
        let half = 1 << (BITS - 1);
        let sum: i32 = values.zip(&weights.fixed).map(|(value, weight)| i32::from(value) * weight).sum();
        ((sum + half) >> BITS).clamp(0, 255) as u8
    }
}

impl Value for f32 {
    fn mean(values: impl Iterator<Item = Self>, weights: &Weights) -> Self {
        let sum: f64 = values.zip(&weights.exact).map(|(value, weight)| f64::from(value) * weight).sum();
        // Weights sum to 1 but for rounding, which must not carry a pixel out of [0, 1].
        sum.clamp(0.0, 1.0) as f32
    }
}

/// One plane, row by row, of `from` = [width, height], in the size `to`.
pub(crate) fn resampled<T: Value>(plane: &[T], from: [usize; 2], to: [usize; 2]) -> Vec<T> {
    let mut plane = plane.to_vec();
    if from[0] != to[0] {
        let weights = weights(from[0], to[0]);
        let row = |row: &[T]| -> Vec<T> {
            weights.iter().map(|weights| T::mean(row[weights.first..].iter().copied(), weights)).collect()
        };
        plane = plane.chunks_exact(from[0]).flat_map(row).collect();
    }
    if from[1] != to[1] {
        let width = to[0];
        let columns = |weights: &Weights| -> Vec<T> {
            let below = &plane[weights.first * width..];
            (0..width).map(|x| T::mean(below[x..].iter().step_by(width).copied(), weights)).collect()
        };
        plane = weights(from[1], to[1]).iter().flat_map(columns).collect();
    }
    plane
}

/// The weights of each of `to` new pixels on a line of `from` old ones.
fn weights(from: usize, to: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    (0..to)
        .map(|at| {
            let centre = (at as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let triangle = |x: usize| (1.0 - ((x as f64 - centre + 0.5) / support).abs()).max(0.0);
            let raw: Vec<f64> = (first..end).map(triangle).collect();
            let sum: f64 = raw.iter().sum();
            let exact: Vec<f64> = raw.iter().map(|weight| weight / sum).collect();
            let fixed = exact.iter().map(|weight| (weight * f64::from(1 << BITS) + 0.5) as i32).collect();
            Weights { first, exact, fixed }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Pillow 13.0.0 answers: `Image.fromarray(plane).resize((w, h), Image.Resampling.BILINEAR)`.
    const PILLOW: &str = include_str!("../tests/data/resized.txt");

    #[test]
    fn values_are_those_of_pillow() {
        let mut cases = 0;
        for line in PILLOW.lines().filter(|line| !line.starts_with('#')) {
            let numbers: Vec<usize> = line.split(' ').map(|number| number.parse().unwrap()).collect();
            let (from, to) = ([numbers[0], numbers[1]], [numbers[2], numbers[3]]);
            let plane: Vec<u8> = (0..from[0] * from[1]).map(|at| (at * at * 7 + at * 13) as u8).collect();
            let expected: Vec<u8> = numbers[4..].iter().map(|&value| value as u8).collect();
            assert_eq!(resampled(&plane, from, to), expected, "{from:?} to {to:?}");
            // Floats are rounded once, bytes after each pass.
            let floats: Vec<f32> = plane.iter().map(|&value| f32::from(value) / 255.0).collect();
            for (value, expected) in resampled(&floats, from, to).into_iter().zip(expected) {
                assert!((value * 255.0 - f32::from(expected)).abs() < 1.01, "{value} {expected}");
            }
            cases += 1;
        }
        assert_eq!(cases, 8);
    }

    #[test]
    fn constant_images_stay_constant() {
        assert_eq!(resampled(&[255u8; 35], [5, 7], [13, 3]), [255; 39]);
        assert_eq!(resampled(&[1.0f32; 35], [5, 7], [13, 3]), [1.0; 39]);
        assert_eq!(resampled(&[0.0f32; 35], [5, 7], [2, 11]), [0.0; 22]);
    }
}
