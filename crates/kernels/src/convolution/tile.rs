//! The inner loops that do nearly all of the work.
//!
//! They hold a tile of the result in registers: some rows times one or two panels of [`LANES`] columns. Every
//! element of a result is accumulated over its terms in one fixed order with the same instruction, whichever
//! tile it falls into and however many rows that tile has: results do not depend on how work is cut up.
//!
//! They are generic over the instruction set (`pulp`), and are inlined into functions compiled for it.

#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use crate::image::plane::LANES;

/// a · b + c: one rounding where the instruction set has it.
#[inline(always)]
pub(crate) fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if Instructions::<S>::FUSED { simd.mul_add_f32s(a, b, c) } else { simd.add_f32s(simd.mul_f32s(a, b), c) }
}

/// What is known about an instruction set.
struct Instructions<S>(std::marker::PhantomData<S>);

impl<S: Simd> Instructions<S> {
    /// Whether it multiplies and adds at once. The portable ones would call a library function.
    const FUSED: bool = S::REGISTER_COUNT > 16 || S::F32_LANES == 8;
}

/// Work on tiles of R rows and P panels of V vectors.
pub(crate) trait Tiled {
    type Output;

    fn run<S: Simd, const R: usize, const P: usize, const V: usize>(self, simd: S) -> Self::Output;
}

/// That work, with as many rows and panels as the registers of an instruction set hold.
pub(crate) struct InTiles<T>(pub T);

impl<T: Tiled> WithSimd for InTiles<T> {
    type Output = T::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> T::Output {
        match S::F32_LANES {
            16 => self.0.run::<S, 8, 2, 1>(simd),
            8 => self.0.run::<S, 6, 1, 2>(simd),
            4 => self.0.run::<S, 4, 1, 4>(simd),
            _ => self.0.run::<S, 1, 1, 16>(simd),
        }
    }
}

/// Rows and panels of a tile.
pub(crate) struct TileSize;

impl Tiled for TileSize {
    type Output = [usize; 2];

    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize, const V: usize>(self, _: S) -> [usize; 2] {
        [R, P]
    }
}

/// Rows of a result: where row i reads its input and writes its output.
#[derive(Clone, Copy)]
pub(crate) struct Rows<const M: usize> {
    /// Offsets of the rows' inputs.
    pub input: [usize; M],
    /// Offsets of the rows' outputs.
    pub output: [usize; M],
    /// The rows that are stored: the first so many. The others repeat a valid row.
    pub count: usize,
}

/// For each row i and column n of `P` panels: output\[i\]\[n\] (+)= Σ over taps t and channels k of
/// x\[input\[i\] + t + k\] · w\[t, k, n\].
///
/// `V` vectors make a panel; of a single panel there may be fewer, and then only these are computed. `weights` are `P` panels `panel_stride` apart, each `[taps, channels, LANES]`.
///
/// # Safety
///
/// For every row and tap, `channels` floats must be readable at `x + input + tap`, and `P * LANES` floats
/// be readable and writable at `y + output`; `taps.len() * channels * LANES` floats must be readable at each
/// panel. `y` must not overlap the others.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn gather<S: Simd, const M: usize, const P: usize, const V: usize>(
    simd: S,
    x: *const f32,
    weights: *const f32,
    panel_stride: usize,
    taps: &[usize],
    channels: usize,
    rows: &Rows<M>,
    y: *mut f32,
    accumulate: bool,
) {
    debug_assert!(V * S::F32_LANES == LANES || (P == 1 && V * S::F32_LANES < LANES));
    // SAFETY: all pointers stay within the ranges that the caller vouches for.
    unsafe {
        let mut sum = [[[simd.splat_f32s(0.0); V]; P]; M];
        if accumulate {
            for i in 0..M {
                for p in 0..P {
                    for v in 0..V {
                        let at = y.add(rows.output[i] + p * LANES + v * S::F32_LANES);
                        sum[i][p][v] = at.cast::<S::f32s>().read_unaligned();
                    }
                }
            }
        }
        let mut w = weights;
        for &tap in taps {
            let x: [*const f32; M] = std::array::from_fn(|i| x.add(rows.input[i] + tap));
            for k in 0..channels {
                let mut column = [[simd.splat_f32s(0.0); V]; P];
                for p in 0..P {
                    for v in 0..V {
                        let at = w.add(p * panel_stride + v * S::F32_LANES);
                        column[p][v] = at.cast::<S::f32s>().read_unaligned();
                    }
                }
                for i in 0..M {
                    let value = simd.splat_f32s(*x[i].add(k));
                    for p in 0..P {
                        for v in 0..V {
                            sum[i][p][v] = multiply_add(simd, value, column[p][v], sum[i][p][v]);
                        }
                    }
                }
                w = w.add(LANES);
            }
        }
        // Rows beyond the count repeat the last one; they are not stored.
        for i in 0..M {
            if i < rows.count {
                for p in 0..P {
                    for v in 0..V {
                        let at = y.add(rows.output[i] + p * LANES + v * S::F32_LANES);
                        at.cast::<S::f32s>().write_unaligned(sum[i][p][v]);
                    }
                }
            }
        }
    }
}

/// For each of `M` rows i and column n of `P` panels: y\[i\]\[n\] (+)= Σ over channels k of x\[i\]\[k\] · w\[k\]\[n\].
///
/// Rows are `x_stride` and `y_stride` apart. Of a single panel there may be fewer vectors than it has. Meanwhile `channels * LANES` floats at `ahead`, which may lie
/// anywhere, are fetched into the cache.
///
/// # Safety
///
/// `channels` floats must be readable in each of `M` rows of x, `P * LANES` be readable and writable in each of
/// `M` rows of y, and `channels * P * LANES` be readable at `weights`. `y` must not overlap the others.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn product<S: Simd, const M: usize, const P: usize, const V: usize>(
    simd: S,
    x: *const f32,
    x_stride: usize,
    weights: *const f32,
    channels: usize,
    y: *mut f32,
    y_stride: usize,
    accumulate: bool,
    ahead: *const f32,
) {
    debug_assert!(V * S::F32_LANES == LANES || (P == 1 && V * S::F32_LANES < LANES));
    // SAFETY: all pointers stay within the ranges that the caller vouches for.
    unsafe {
        let at = |i: usize, p: usize, v: usize| {
            y.add(i * y_stride + p * LANES + v * S::F32_LANES).cast::<S::f32s>()
        };
        let mut sum = [[[simd.splat_f32s(0.0); V]; P]; M];
        if accumulate {
            for i in 0..M {
                for p in 0..P {
                    for v in 0..V {
                        sum[i][p][v] = at(i, p, v).read_unaligned();
                    }
                }
            }
        }
        for k in 0..channels {
            prefetch(ahead.wrapping_add(k * LANES));
            let mut column = [[simd.splat_f32s(0.0); V]; P];
            for p in 0..P {
                for v in 0..V {
                    let at = weights.add((k * P + p) * LANES + v * S::F32_LANES);
                    column[p][v] = at.cast::<S::f32s>().read_unaligned();
                }
            }
            for i in 0..M {
                let value = simd.splat_f32s(*x.add(i * x_stride + k));
                for p in 0..P {
                    for v in 0..V {
                        sum[i][p][v] = multiply_add(simd, value, column[p][v], sum[i][p][v]);
                    }
                }
            }
        }
        for i in 0..M {
            for p in 0..P {
                for v in 0..V {
                    at(i, p, v).write_unaligned(sum[i][p][v]);
                }
            }
        }
    }
}

/// Fetches what lies at an address into the cache, where the instruction set can. Any address will do.
#[inline(always)]
fn prefetch(address: *const f32) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every x86-64 processor has the instruction, and it does not fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// y\[i\]\[n\] += Σ over pixels (p, q) of x\[p + i\] · u\[q + n\], for M rows i and the columns n of `P` panels:
/// one tap's share of a weight gradient.
///
/// `y` has `M` rows of `P * LANES`.
///
/// # Safety
///
/// For every pixel, `M` floats must be readable at `x + p` and `P * LANES` at `u + q`; `M * P * LANES` floats
/// must be readable and writable at `y`, which must not overlap the others.
#[inline(always)]
pub(crate) unsafe fn outer<S: Simd, const M: usize, const P: usize, const V: usize>(
    simd: S,
    x: *const f32,
    u: *const f32,
    pixels: &[(usize, usize)],
    y: *mut f32,
) {
    debug_assert_eq!(V * S::F32_LANES, LANES);
    // SAFETY: all pointers stay within the ranges that the caller vouches for.
    unsafe {
        let at =
            |i: usize, p: usize, v: usize| y.add((i * P + p) * LANES + v * S::F32_LANES).cast::<S::f32s>();
        let mut sum = [[[simd.splat_f32s(0.0); V]; P]; M];
        for i in 0..M {
            for p in 0..P {
                for v in 0..V {
                    sum[i][p][v] = at(i, p, v).read_unaligned();
                }
            }
        }
        for &(from, cotangent) in pixels {
            let (x, u) = (x.add(from), u.add(cotangent));
            let mut column = [[simd.splat_f32s(0.0); V]; P];
            for p in 0..P {
                for v in 0..V {
                    column[p][v] = u.add(p * LANES + v * S::F32_LANES).cast::<S::f32s>().read_unaligned();
                }
            }
            for i in 0..M {
                let value = simd.splat_f32s(*x.add(i));
                for p in 0..P {
                    for v in 0..V {
                        sum[i][p][v] = multiply_add(simd, value, column[p][v], sum[i][p][v]);
                    }
                }
            }
        }
        for i in 0..M {
            for p in 0..P {
                for v in 0..V {
                    at(i, p, v).write_unaligned(sum[i][p][v]);
                }
            }
        }
    }
}
