//! Which numbers of an image a ReLU let through, one bit each: all that its way back needs.

use std::any::Any;

use pulp::{Simd, WithSimd};

use crate::image::norm::{relu, vectors, vectors_mut};
use crate::image::plane::{LANES, Plane};

/// A bit for each number of a panel.
pub(crate) type Signs = u16;

const _: () = assert!(Signs::BITS as usize == LANES);

/// How many it takes for an image.
pub(crate) fn signs_len(plane: Plane) -> usize {
    plane.height * plane.row_len() / LANES
}

/// x ← x + bias by channel, and a ReLU of that if it is wanted, in place.
pub(crate) struct Finish<'a> {
    pub image: &'a mut [f32],
    pub plane: Plane,
    /// One per channel, padding included.
    pub bias: &'a [f32],
    pub rectify: bool,
    /// Where to note what the ReLU lets through.
    pub signs: Option<&'a mut [Signs]>,
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { image, plane, bias, rectify, mut signs } = self;
        let bias = vectors::<S>(bias);
        let of_row = plane.row_len() / LANES;
        for y in 0..plane.height {
            let row = plane.row_mut(image, y);
            for pixel in vectors_mut::<S>(row).chunks_exact_mut(bias.len()) {
                for (x, bias) in pixel.iter_mut().zip(bias) {
                    *x = simd.add_f32s(*x, *bias);
                }
            }
            if !rectify {
                continue;
            }
            if let Some(signs) = &mut signs {
                let signs = &mut signs[y * of_row..][..of_row];
                for (signs, panel) in signs.iter_mut().zip(row.as_chunks::<LANES>().0) {
                    *signs = !not_above_zero(simd, panel);
                }
            }
            for x in vectors_mut::<S>(row) {
                *x = relu(simd, *x);
            }
        }
    }
}

/// uᵀ ∂ReLU in place, from the signs of the ReLU's output.
pub(crate) struct GateBySigns<'a> {
    pub u: &'a mut [f32],
    pub plane: Plane,
    pub signs: &'a [Signs],
}

impl WithSimd for GateBySigns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { u, plane, signs } = self;
        let bits: [u32; LANES] = std::array::from_fn(|lane| 1 << lane);
        let (bits, _) = S::as_simd_u32s(&bits);
        let (none, zero) = (simd.splat_u32s(0), simd.splat_f32s(0.0));
        let of_row = plane.row_len() / LANES;
        for y in 0..plane.height {
            let signs = &signs[y * of_row..][..of_row];
            let row = vectors_mut::<S>(plane.row_mut(u, y));
            for (signs, panel) in signs.iter().zip(row.chunks_exact_mut(bits.len())) {
                let signs = simd.splat_u32s(u32::from(*signs));
                for (u, bit) in panel.iter_mut().zip(bits) {
                    let closed = simd.equal_u32s(simd.and_u32s(signs, *bit), none);
                    *u = simd.select_f32s(closed, zero, *u);
                }
            }
        }
    }
}

/// A bit for each x ≤ 0. Not one for what is not a number: a ReLU keeps it.
#[inline(always)]
fn not_above_zero<S: Simd>(simd: S, panel: &[f32; LANES]) -> Signs {
    // Types are known where this is inlined, so that one branch remains.
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::_CMP_LE_OQ;
        let simd: &dyn Any = &simd;
        if let Some(simd) = simd.downcast_ref::<pulp::x86::V4>() {
            let simd = simd.avx512f;
            return simd._mm512_cmp_ps_mask::<_CMP_LE_OQ>(pulp::cast(*panel), simd._mm512_setzero_ps());
        }
        if let Some(simd) = simd.downcast_ref::<pulp::x86::V3>() {
            let (simd, zero) = (simd.avx, simd.avx._mm256_setzero_ps());
            let half = |x: &[f32]| {
                let x = pulp::cast(x.as_chunks::<8>().0[0]);
                simd._mm256_movemask_ps(simd._mm256_cmp_ps::<_CMP_LE_OQ>(x, zero)) as Signs
            };
            return half(&panel[..8]) | half(&panel[8..]) << 8;
        }
    }
    let _: &dyn Any = &simd;
    panel.iter().enumerate().fold(0, |bits, (lane, x)| bits | Signs::from(*x <= 0.0) << lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_open_where_the_relu_did_not_close() {
        let plane = Plane::bordered([20, 2, 3]);
        let numbers = [1.5, -2.0, 0.0, -0.0, f32::NAN, f32::INFINITY, -1e-30, 1e-30];
        let bias = vec![0.0; plane.stride()];
        for arch in crate::tests::archs() {
            let mut image = vec![0.0; plane.len()];
            let inside = |image: &mut Vec<f32>, f: &mut dyn FnMut(usize, &mut f32)| {
                for y in 0..plane.height {
                    plane.row_mut(image, y).iter_mut().enumerate().for_each(|(at, x)| f(at + 3 * y, x));
                }
            };
            inside(&mut image, &mut |at, x| *x = numbers[at % numbers.len()]);
            let mut signs = vec![0; signs_len(plane)];
            let (image, kept) = (&mut image, Some(&mut signs[..]));
            arch.dispatch(Finish { image, plane, bias: &bias, rectify: true, signs: kept });
            let mut u = vec![0.0; plane.len()];
            inside(&mut u, &mut |_, u| *u = 7.0);
            arch.dispatch(GateBySigns { u: &mut u, plane, signs: &signs });
            for (u, x) in u.iter().zip(&*image) {
                let open = *x > 0.0 || x.is_nan();
                assert_eq!(*u, if open { 7.0 } else { 0.0 }, "{arch:?}: {x}");
                assert!(open || *x == 0.0, "{arch:?}: {x}");
            }
        }
    }
}
