//! Square Attack in L∞: every pixel stands at −ε or ε from the clean image; a query moves a square of them to one
//! side (Andriushchenko et al. 2020, arXiv 1912.00049, section 4.2).

use super::Scene;
use crate::random::ExampleRng;

/// Vertical stripes one pixel wide, each channel of each at −ε or ε.
pub(super) fn stripes(scene: &Scene<'_>, rng: &mut ExampleRng) -> Vec<f32> {
    let [channels, height, width] = scene.shape;
    let mut image = scene.clean.to_vec();
    for channel in 0..channels {
        for column in 0..width {
            let change = (rng.sign() * scene.eps) as f32;
            for row in 0..height {
                image[scene.at(channel, row, column)] += change;
            }
        }
    }
    image
}

/// The image with each channel of a square of this side pushed by −2ε or 2ε. Projected onto the budget, the square
/// stands at one side of the ball.
pub(super) fn push(scene: &Scene<'_>, best: &[f32], side: usize, rng: &mut ExampleRng) -> Vec<f32> {
    let mut image = best.to_vec();
    let (top, left) = scene.place(side, rng);
    for channel in 0..scene.shape[0] {
        let change = (rng.sign() * 2.0 * scene.eps) as f32;
        for row in top..top + side {
            for column in left..left + side {
                image[scene.at(channel, row, column)] += change;
            }
        }
    }
    image
}
