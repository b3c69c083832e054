//! Squares of 16×16 numbers, transposed in registers: what a change between C, H, W and H, W, C order is made of.

use std::any::Any;

use pulp::Simd;

use crate::image::plane::LANES;

/// Rows of numbers.
pub(crate) type Square = [[f32; LANES]; LANES];

/// The transpose, by shuffles where the instruction set is known to have the right ones.
#[inline(always)]
pub(crate) fn transposed<S: Simd>(simd: S, square: &Square) -> Square {
    // Types are known where this is inlined, so that one branch remains.
    #[cfg(target_arch = "x86_64")]
    {
        let simd: &dyn Any = &simd;
        if let Some(simd) = simd.downcast_ref() {
            return with_avx512(*simd, square);
        }
        if let Some(simd) = simd.downcast_ref() {
            return with_avx2(*simd, square);
        }
    }
    let _: &dyn Any = &simd;
    std::array::from_fn(|row| std::array::from_fn(|column| square[column][row]))
}

/// Pairs, then fours of rows are interleaved; that leaves whole quarters of registers to put in order.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn with_avx512(simd: pulp::x86::V4, square: &Square) -> Square {
    use pulp::cast;
    let simd = simd.avx512f;
    let mut pairs = [simd._mm512_setzero_ps(); LANES];
    for i in (0..LANES).step_by(2) {
        let (a, b) = (cast(square[i]), cast(square[i + 1]));
        pairs[i] = simd._mm512_unpacklo_ps(a, b);
        pairs[i + 1] = simd._mm512_unpackhi_ps(a, b);
    }
    // Quarter q of register 4i + j has column 4q + j of rows 4i to 4i + 3.
    let mut fours = pairs;
    for i in (0..LANES).step_by(4) {
        for j in 0..2 {
            let (a, b) = (cast(pairs[i + j]), cast(pairs[i + j + 2]));
            fours[i + 2 * j] = cast(simd._mm512_unpacklo_pd(a, b));
            fours[i + 2 * j + 1] = cast(simd._mm512_unpackhi_pd(a, b));
        }
    }
    let mut out = *square;
    for j in 0..4 {
        let even = |i: usize| simd._mm512_shuffle_f32x4::<0x88>(fours[i + j], fours[i + j + 4]);
        let odd = |i: usize| simd._mm512_shuffle_f32x4::<0xdd>(fours[i + j], fours[i + j + 4]);
        let (even, odd) = ([even(0), even(8)], [odd(0), odd(8)]);
        out[j] = cast(simd._mm512_shuffle_f32x4::<0x88>(even[0], even[1]));
        out[8 + j] = cast(simd._mm512_shuffle_f32x4::<0xdd>(even[0], even[1]));
        out[4 + j] = cast(simd._mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]));
        out[12 + j] = cast(simd._mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]));
    }
    out
}

/// The same on squares of half the side.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn with_avx2(simd: pulp::x86::V3, square: &Square) -> Square {
    use pulp::cast;
    const HALF: usize = LANES / 2;
    let simd = simd.avx;
    let mut out = *square;
    for (top, left) in [(0, 0), (0, HALF), (HALF, 0), (HALF, HALF)] {
        let mut pairs = [simd._mm256_setzero_ps(); HALF];
        for i in (0..HALF).step_by(2) {
            let half = |row: &[f32; LANES]| cast(row.as_chunks::<HALF>().0[left / HALF]);
            let (a, b) = (half(&square[top + i]), half(&square[top + i + 1]));
            pairs[i] = simd._mm256_unpacklo_ps(a, b);
            pairs[i + 1] = simd._mm256_unpackhi_ps(a, b);
        }
        let mut fours = pairs;
        for i in (0..HALF).step_by(4) {
            for j in 0..2 {
                let (a, b) = (cast(pairs[i + j]), cast(pairs[i + j + 2]));
                fours[i + 2 * j] = cast(simd._mm256_unpacklo_pd(a, b));
                fours[i + 2 * j + 1] = cast(simd._mm256_unpackhi_pd(a, b));
            }
        }
        for j in 0..4 {
            let low: [f32; HALF] = cast(simd._mm256_permute2f128_ps::<0x20>(fours[j], fours[j + 4]));
            let high: [f32; HALF] = cast(simd._mm256_permute2f128_ps::<0x31>(fours[j], fours[j + 4]));
            out[left + j][top..top + HALF].copy_from_slice(&low);
            out[left + 4 + j][top..top + HALF].copy_from_slice(&high);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Transposed<'a>(&'a Square);

    impl WithSimd for Transposed<'_> {
        type Output = Square;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Square {
            transposed(simd, self.0)
        }
    }

    #[test]
    fn every_instruction_set_transposes() {
        let square: Square =
            std::array::from_fn(|row| std::array::from_fn(|column| (100 * row + column) as f32));
        for arch in crate::tests::archs() {
            let found: Square = Arch::dispatch(arch, Transposed(&square));
            for (row, numbers) in found.iter().enumerate() {
                for (column, number) in numbers.iter().enumerate() {
                    assert_eq!(*number, (100 * column + row) as f32, "{arch:?}: {row}, {column}");
                }
            }
        }
    }
}
