//! The nearest point of a hyperplane within the box of images (Croce and Hein 2020, arXiv 1907.02044, equation 3
//! and section 2.2).
//!
//! Moving by `t` takes every pixel towards the plane, by the same amount for L∞ and in proportion to its slope for
//! L2, until it meets 0 or 1. What is gained towards the plane is a concave, piecewise linear function of `t`;
//! Newton's method climbs it from the left, fixes the pixels that have met the box on the way, and ends exactly.
//! The reference implementation sorts the pixels and bisects instead, for the same point.

use crate::attack::Norm;

/// The shortest change d with w·d = −`excess` that keeps x + d in \[0, 1\], given x in \[0, 1\]. Where the plane
/// does not meet the box, the change that goes as far towards it as the box allows.
pub(super) fn onto_plane(norm: Norm, x: &[f64], w: &[f64], excess: f64) -> Vec<f64> {
    let towards = if excess >= 0.0 { -1.0 } else { 1.0 };
    // For each pixel: the sense in which it moves, the room it has, and how fast it moves.
    let pixels: Vec<(f64, f64, f64)> = x
        .iter()
        .zip(w)
        .map(|(&x, &w)| {
            let sense = towards * sign(w);
            let room = if sense > 0.0 { 1.0 - x } else { x }.max(0.0);
            let speed = match norm {
                Norm::Linf => 1.0,
                Norm::L2 => w.abs(),
                Norm::L1 => unreachable!("FAB refuses L1"),
            };
            (sense, room, speed)
        })
        .collect();
    let reach = how_far(&pixels, w, excess.abs());
    pixels.into_iter().map(|(sense, room, speed)| sense * room.min(reach * speed)).collect()
}

/// The smallest t with Σ|w|·min(t·speed, room) = `needed`; infinite where there is none.
fn how_far(pixels: &[(f64, f64, f64)], w: &[f64], needed: f64) -> f64 {
    let mut reach = 0.0;
    let mut stopped = None;
    // Each round fixes at least one more pixel, or is the last.
    loop {
        let (mut gained, mut slope, mut at_rest) = (0.0, 0.0, 0_usize);
        for (&(_, room, speed), w) in pixels.iter().zip(w) {
            let weight = w.abs();
            if weight == 0.0 {
                continue;
            }
            if reach * speed >= room {
                gained += weight * room;
                at_rest += 1;
            } else {
                slope += weight * speed;
            }
        }
        if stopped == Some(at_rest) {
            return reach;
        }
        if slope == 0.0 {
            return f64::INFINITY;
        }
        stopped = Some(at_rest);
        reach = ((needed - gained) / slope).max(reach);
    }
}

/// −1, 0 or 1.
fn sign(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::ExampleRng;

    /// The same by bisection over the length of the change, from the definition.
    fn bisected(norm: Norm, x: &[f64], w: &[f64], excess: f64) -> Option<Vec<f64>> {
        let change = |t: f64| -> Vec<f64> {
            x.iter()
                .zip(w)
                .map(|(&x, &w)| {
                    let slope = if excess >= 0.0 { -w } else { w };
                    let wanted = match norm {
                        Norm::L2 => t * slope,
                        Norm::Linf => t * sign(slope),
                        Norm::L1 => unreachable!("FAB refuses L1"),
                    };
                    (x + wanted).clamp(0.0, 1.0) - x
                })
                .collect()
        };
        let left = |t: f64| excess.abs() - change(t).iter().zip(w).map(|(d, w)| d * w).sum::<f64>().abs();
        let (mut low, mut high) = (0.0, 1e6);
        if left(high) > 0.0 {
            return None;
        }
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if left(middle) > 0.0 { low = middle } else { high = middle }
        }
        Some(change(high))
    }

    fn size(norm: Norm, d: &[f64]) -> f64 {
        match norm {
            Norm::Linf => d.iter().fold(0.0, |largest: f64, d| largest.max(d.abs())),
            Norm::L2 => d.iter().map(|d| d * d).sum::<f64>().sqrt(),
            Norm::L1 => unreachable!("FAB refuses L1"),
        }
    }

    #[test]
    fn it_is_the_nearest_point() {
        let mut rng = ExampleRng::new(1, "projection", 0, 0);
        let mut kinds = [0, 0];
        for round in 0..400 {
            let n = 1 + round % 40;
            let mut x: Vec<f64> = (0..n).map(|_| rng.unit()).collect();
            let mut w: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
            // Pixels in the corners of the box, and pixels without a slope.
            for k in 0..n / 8 {
                x[k] = (k % 2) as f64;
                w[n - 1 - k] = 0.0;
            }
            let excess = rng.normal() * 0.4 * n as f64;
            for norm in [Norm::Linf, Norm::L2] {
                let d = onto_plane(norm, &x, &w, excess);
                let gained: f64 = d.iter().zip(&w).map(|(d, w)| d * w).sum();
                assert!(x.iter().zip(&d).all(|(x, d)| (0.0..=1.0 + 1e-15).contains(&(x + d))));
                match bisected(norm, &x, &w, excess) {
                    Some(expected) => {
                        kinds[0] += 1;
                        assert!((gained + excess).abs() < 1e-9, "on the plane: {gained} {excess}");
                        let (found, expected) = (size(norm, &d), size(norm, &expected));
                        assert!((found - expected).abs() < 1e-9, "{norm}: {found} {expected}");
                    }
                    None => {
                        kinds[1] += 1;
                        let most: f64 = x
                            .iter()
                            .zip(&w)
                            .map(|(x, w)| w.abs() * if (*w > 0.0) == (excess >= 0.0) { *x } else { 1.0 - x })
                            .sum();
                        assert!((gained.abs() - most).abs() < 1e-9, "as far as it goes: {gained} {most}");
                    }
                }
            }
        }
        assert!(kinds.iter().all(|&count| count > 50), "both kinds occur: {kinds:?}");
    }

    #[test]
    fn without_a_slope_or_an_excess_nothing_moves() {
        for norm in [Norm::Linf, Norm::L2] {
            assert_eq!(onto_plane(norm, &[0.5, 0.0], &[0.0, 0.0], 1.0), [0.0, 0.0]);
            assert_eq!(size(norm, &onto_plane(norm, &[0.5, 0.0], &[1.0, -2.0], 0.0)), 0.0);
        }
    }

    #[test]
    fn small_slopes_have_a_direction() {
        let d = onto_plane(Norm::L2, &[0.5, 0.5], &[3e-20, -4e-20], 2.5e-20 * 0.2);
        assert!((d[0] + 0.06).abs() < 1e-12 && (d[1] - 0.08).abs() < 1e-12, "{d:?}");
    }
}
