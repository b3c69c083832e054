//! Square Attack in L2: the perturbation is a sum of bumps; a query takes the length of one square's perturbation
//! and gives it, with what is left of ε, to a new bump in another (Andriushchenko et al. 2020, arXiv 1912.00049,
//! section 4.3 and algorithm 3).

use super::Scene;
use crate::random::ExampleRng;

/// Guards a division by the length of a window that may be empty.
const TINY: f64 = 1e-12;

/// Five by five tiles of bumps (more where the side is no multiple of five), each channel of each up or down,
/// together of length ε.
pub(super) fn tiles(scene: &Scene<'_>, rng: &mut ExampleRng) -> Vec<f32> {
    let [channels, height, width] = scene.shape;
    let mut change = vec![0.0; scene.clean.len()];
    let side = (height.min(width) / 5).max(1);
    let margin = height.saturating_sub(5 * side) / 2;
    let bump = Bump::new(side);
    for top in (margin..(height + 1).saturating_sub(side)).step_by(side).take(height / side) {
        for left in (margin..(width + 1).saturating_sub(side)).step_by(side).take(width / side) {
            let turned = rng.sign() > 0.0;
            for channel in 0..channels {
                let sign = rng.sign();
                for row in 0..side {
                    for column in 0..side {
                        change[scene.at(channel, top + row, left + column)] +=
                            sign * bump.at(row, column, turned);
                    }
                }
            }
        }
    }
    scene.with_length_eps(change)
}

/// The image with the perturbation of one square moved to another, where it becomes a new bump.
pub(super) fn shift(scene: &Scene<'_>, best: &[f32], side: usize, rng: &mut ExampleRng) -> Vec<f32> {
    let channels = scene.shape[0];
    let mut change: Vec<f64> =
        best.iter().zip(scene.clean).map(|(&pixel, &x)| f64::from(pixel) - f64::from(x)).collect();
    let to = scene.place(side, rng);
    let from = scene.place(side, rng);
    let turned = rng.sign() > 0.0;
    let bump = Bump::new(side);
    let used: f64 = change.iter().map(|d| d * d).sum();
    // What is left of ε², for each channel.
    let spare = (scene.eps * scene.eps - used).max(0.0) / channels as f64;
    for channel in 0..channels {
        let pixels = |(top, left): (usize, usize)| {
            (0..side * side).map(move |k| scene.at(channel, top + k / side, left + k % side))
        };
        let inside = |index: usize, (top, left): (usize, usize)| {
            let (row, column) = scene.row_and_column(index);
            (top..top + side).contains(&row) && (left..left + side).contains(&column)
        };
        let square = |index: usize| change[index] * change[index];
        let target: f64 = pixels(to).map(square).sum();
        let both = target + pixels(from).filter(|&index| !inside(index, to)).map(square).sum::<f64>();
        let sign = rng.sign();
        let mut fresh: Vec<f64> = pixels(to)
            .enumerate()
            .map(|(k, index)| {
                sign * bump.at(k / side, k % side, turned) + change[index] / (TINY + target.sqrt())
            })
            .collect();
        let length = fresh.iter().map(|d| d * d).sum::<f64>().sqrt();
        let wanted = (spare + both).sqrt();
        fresh.iter_mut().for_each(|d| *d *= wanted / (TINY + length));
        pixels(from).for_each(|index| change[index] = 0.0);
        for (index, d) in pixels(to).zip(fresh) {
            change[index] = d;
        }
    }
    scene.with_length_eps(change)
}

/// Two hills side by side, one up and one down, of length 1 together (the paper's η).
struct Bump {
    side: usize,
    heights: Vec<f64>,
}

impl Bump {
    fn new(side: usize) -> Self {
        let half = side / 2;
        let up = hill(half, side);
        let down = hill(side - half, side).into_iter().map(|height| -height);
        let mut heights: Vec<f64> = up.into_iter().chain(down).collect();
        scale_to_one(&mut heights);
        Self { side, heights }
    }

    /// The height at a place, or at its mirror image across the diagonal.
    fn at(&self, row: usize, column: usize, turned: bool) -> f64 {
        let (row, column) = if turned { (column, row) } else { (row, column) };
        self.heights[row * self.side + column]
    }
}

/// A hill of length 1 on `rows` × `columns` pixels: at distance r from the middle (in the larger of rows and
/// columns) as high as Σ 1/(n+1)² over the n from r on.
fn hill(rows: usize, columns: usize) -> Vec<f64> {
    let (middle_row, middle_column) = (rows / 2, columns / 2);
    let radii = middle_row.max(middle_column) + 1;
    let mut by_distance = vec![0.0; radii];
    let mut height = 0.0;
    for n in (0..radii).rev() {
        height += 1.0 / ((n + 1) * (n + 1)) as f64;
        by_distance[n] = height;
    }
    let mut heights: Vec<f64> = (0..rows * columns)
        .map(|k| by_distance[middle_row.abs_diff(k / columns).max(middle_column.abs_diff(k % columns))])
        .collect();
    scale_to_one(&mut heights);
    heights
}

fn scale_to_one(heights: &mut [f64]) {
    let length = heights.iter().map(|height| height * height).sum::<f64>().sqrt();
    if length > 0.0 {
        heights.iter_mut().for_each(|height| *height /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn hills_have_their_heights() {
        // On 3 × 3 pixels: 1 + 1/4 in the middle and 1/4 around it.
        let three = hill(3, 3);
        let length = (1.25_f64.powi(2) + 8.0 * 0.25_f64.powi(2)).sqrt();
        assert!(close(three[4], 1.25 / length) && close(three[0], 0.25 / length));
        // On 1 × 3 pixels the middle is pixel 1.
        assert!(close(hill(1, 3)[1] / hill(1, 3)[0], 5.0));
        assert!(hill(0, 3).is_empty());
    }

    #[test]
    fn a_bump_is_up_and_down_and_of_length_one() {
        for side in 1..8 {
            let bump = Bump::new(side);
            assert!(close(bump.heights.iter().map(|h| h * h).sum(), 1.0), "{side}");
            for row in 0..side {
                for column in 0..side {
                    assert_eq!(bump.at(row, column, false) > 0.0, row < side / 2);
                    assert_eq!(bump.at(row, column, true), bump.at(column, row, false));
                }
            }
        }
    }

    #[test]
    fn a_query_moves_length_from_one_square_to_another() {
        let clean = vec![0.5; 3 * 100];
        let scene = Scene { clean: &clean, shape: [3, 10, 10], eps: 0.2 };
        let mut rng = ExampleRng::new(1, "shift", 0, 0);
        let start = tiles(&scene, &mut rng);
        let length = |image: &[f32]| crate::attack::Norm::L2.distance(&clean, image);
        assert!((length(&start) - 0.2).abs() < 1e-6);
        assert!(start.iter().zip(&clean).all(|(a, b)| a != b), "tiles of two pixels cover ten by ten");
        let moved = shift(&scene, &start, 3, &mut rng);
        assert!((length(&moved) - 0.2).abs() < 1e-6);
        // Nothing but the two squares changes, up to the scaling to ε.
        let same = start.iter().zip(&moved).filter(|(a, b)| (*a - *b).abs() < 1e-6).count();
        assert!((300 - 54..300 - 20).contains(&same), "{same}");
        let still = moved.iter().zip(&clean).filter(|(a, b)| a == b).count();
        assert!((1..=27).contains(&still), "the square that gave its length: {still}");
    }
}
