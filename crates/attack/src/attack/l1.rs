//! The nearest point of an L1 ball within the box of images (Croce and Hein 2021, arXiv 2103.01208).
//!
//! Every change shrinks by the same amount λ, as on the L1 ball alone, and stops at 0 and at the face of the box:
//! |δ| = min(max(|d| − λ, 0), room). Their sum falls piecewise linearly with λ, with a corner wherever a pixel leaves
//! 0 or meets the box; walking the sorted corners from the largest down finds the piece that holds ε.

/// Replaces `change` d by the δ nearest to it in the Euclidean sense with ‖δ‖₁ ≤ `eps` and x + δ in \[0, 1\], given
/// x in \[0, 1\].
pub(super) fn project(x: &[f64], change: &mut [f64], eps: f64) {
    // The size of each change, and the room that it has before it meets the box.
    let pixels: Vec<(f64, f64)> = x
        .iter()
        .zip(&*change)
        .map(|(x, d)| (d.abs(), if *d > 0.0 { 1.0 - x } else { *x }.max(0.0)))
        .collect();
    let shrunk = |shrinkage: f64| {
        pixels.iter().map(move |&(size, room)| (size - shrinkage).max(0.0).min(room)).collect::<Vec<f64>>()
    };
    let mut sizes = shrunk(0.0);
    if sizes.iter().sum::<f64>() > eps {
        // One part in 10¹² of safety covers the rounding of the float64 sums.
        let eps = eps * (1.0 - 1e-12);
        sizes = shrunk(shrinkage(&pixels, eps));
        // Beside changes so large that their differences are rounded, the sum may still be too large.
        let sum = sizes.iter().sum::<f64>();
        if sum > eps {
            sizes.iter_mut().for_each(|size| *size *= eps / sum);
        }
    }
    for (d, size) in change.iter_mut().zip(sizes) {
        *d = size.copysign(*d);
    }
}

/// The λ at which the sizes sum to `eps`, which is less than their sum at λ = 0.
fn shrinkage(pixels: &[(f64, f64)], eps: f64) -> f64 {
    // As λ falls, a pixel begins to move at its size and comes to rest at its size less its room.
    let mut corners: Vec<(f64, f64)> =
        pixels.iter().flat_map(|&(size, room)| [(size, 1.0), (size - room, -1.0)]).collect();
    corners.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut sum, mut moving, mut last) = (0.0, 0.0, f64::INFINITY);
    for (corner, turn) in corners {
        if moving > 0.0 {
            let next = sum + moving * (last - corner);
            if next >= eps {
                return (last - (eps - sum) / moving).max(0.0);
            }
            sum = next;
        }
        (moving, last) = (moving + turn, corner);
    }
    // Only rounding leads here: all have come to rest, and the sum is just short of ε.
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::ExampleRng;

    /// The same from the definition, by bisection over λ.
    fn bisected(x: &[f64], d: &[f64], eps: f64) -> Vec<f64> {
        let at = |shrinkage: f64| -> Vec<f64> {
            let shrink = |(x, d): (&f64, &f64)| {
                let wanted = d.signum() * (d.abs() - shrinkage).max(0.0);
                (x + wanted).clamp(0.0, 1.0) - x
            };
            x.iter().zip(d).map(shrink).collect()
        };
        let size = |change: &[f64]| change.iter().map(|d| d.abs()).sum::<f64>();
        if size(&at(0.0)) <= eps {
            return at(0.0);
        }
        let (mut low, mut high) = (0.0, 1e3);
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if size(&at(middle)) > eps { low = middle } else { high = middle }
        }
        at(high)
    }

    #[test]
    fn it_is_the_nearest_point() {
        let mut rng = ExampleRng::new(1, "l1 projection", 0, 0);
        let (mut at_the_box, mut short, mut cut) = (0, 0, 0);
        for round in 0..600 {
            let n = 1 + round % 50;
            // Pixels at the ends of the box among them, and changes from tiny to far beyond the box.
            let x: Vec<f64> = (0..n).map(|_| rng.uniform(-0.3, 1.3).clamp(0.0, 1.0)).collect();
            let scale = 10f64.powf(rng.uniform(-2.0, 1.0));
            let d: Vec<f64> = (0..n).map(|_| scale * rng.normal()).collect();
            let eps = n as f64 * 10f64.powf(rng.uniform(-3.0, 0.0));
            let mut found = d.clone();
            project(&x, &mut found, eps);

            let size: f64 = found.iter().map(|d| d.abs()).sum();
            assert!(size <= eps, "{size} {eps}");
            assert!(x.iter().zip(&found).all(|(x, d)| (-1e-15..=1.0 + 1e-15).contains(&(x + d))));
            for (k, (found, expected)) in found.iter().zip(bisected(&x, &d, eps)).enumerate() {
                assert!((found - expected).abs() < 1e-9, "pixel {k} of {n}: {found} {expected}");
            }
            // The projection p of q onto a convex set is the point with ⟨q − p, r − p⟩ ≤ 0 for all its points r.
            for _ in 0..20 {
                let other: Vec<f64> = (0..n).map(|_| rng.uniform(-1.0, 1.0)).collect();
                let other: Vec<f64> = x.iter().zip(other).map(|(x, d)| (x + d).clamp(0.0, 1.0) - x).collect();
                let length: f64 = other.iter().map(|d| d.abs()).sum();
                let scale = (eps / length).min(1.0);
                let product: f64 = d
                    .iter()
                    .zip(&found)
                    .zip(&other)
                    .map(|((d, found), other)| (d - found) * (scale * other - found))
                    .sum();
                assert!(product <= 1e-8 * (1.0 + scale), "{product}");
            }
            at_the_box +=
                usize::from(x.iter().zip(&found).any(|(x, d)| *d != 0.0 && (x + d == 0.0 || x + d == 1.0)));
            cut += usize::from(size > eps * (1.0 - 1e-9));
            short += usize::from(size < eps * (1.0 - 1e-9));
        }
        assert!(at_the_box > 100 && short > 50 && cut > 200, "{at_the_box} {short} {cut}");
    }

    #[test]
    fn changes_beyond_all_measure_still_end_in_the_ball() {
        for size in [1e20, 3e38, f64::MAX] {
            let mut change = [size, -size, size * 0.999_999, 0.1];
            project(&[0.5, 0.25, 0.5, 0.5], &mut change, 0.6);
            let sum: f64 = change.iter().map(|d| d.abs()).sum();
            assert!(sum <= 0.6 && change.iter().all(|d| d.is_finite()), "{change:?}");
        }
    }
}
