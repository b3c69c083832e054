//! Changes between C, H, W order, in which states come and go, and the H, W, C order of planes.
//!
//! Pixels go in runs of sixteen, which may cross rows: of each run and panel of channels, a square of numbers is
//! transposed in registers.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::image::norm::{vectors, vectors_mut};
use crate::image::plane::{LANES, Plane};
use crate::image::transpose::transposed;

/// From C, H, W order, dense, to a plane: its interior is set (padding channels to zero), or added to.
pub(crate) struct FromChannels<'a> {
    pub dense: &'a [f32],
    pub out: &'a mut [f32],
    pub plane: Plane,
    pub add: bool,
}

impl WithSimd for FromChannels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dense, out, plane, add } = self;
        let area = plane.height * plane.width;
        for first in (0..area).step_by(LANES) {
            let count = LANES.min(area - first);
            let pixels = pixels(plane, first..first + count);
            for panel in 0..plane.stride() / LANES {
                let present = LANES.min(plane.channels - panel * LANES);
                let mut square = [[0.0; LANES]; LANES];
                for (channel, row) in square[..present].iter_mut().enumerate() {
                    let from = &dense[(panel * LANES + channel) * area + first..][..count];
                    match from.as_array() {
                        Some(from) => *row = *from,
                        None => row[..count].copy_from_slice(from),
                    }
                }
                let square = transposed(simd, &square);
                for (pixel, at) in square[..count].iter().zip(pixels) {
                    let to = &mut out[at + panel * LANES..][..LANES];
                    if add {
                        for (to, from) in vectors_mut::<S>(to).iter_mut().zip(vectors::<S>(pixel)) {
                            *to = simd.add_f32s(*to, *from);
                        }
                    } else {
                        to.copy_from_slice(pixel);
                    }
                }
            }
        }
    }
}

/// From a plane to C, H, W order, dense.
pub(crate) struct ToChannels<'a> {
    pub image: &'a [f32],
    pub plane: Plane,
    pub dense: &'a mut [f32],
}

impl WithSimd for ToChannels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { image, plane, dense } = self;
        let area = plane.height * plane.width;
        for first in (0..area).step_by(LANES) {
            let count = LANES.min(area - first);
            let pixels = pixels(plane, first..first + count);
            for panel in 0..plane.stride() / LANES {
                let present = LANES.min(plane.channels - panel * LANES);
                let mut square = [[0.0; LANES]; LANES];
                for (pixel, at) in square[..count].iter_mut().zip(pixels) {
                    pixel.copy_from_slice(&image[at + panel * LANES..][..LANES]);
                }
                let square = transposed(simd, &square);
                for (channel, row) in square[..present].iter().enumerate() {
                    let to = &mut dense[(panel * LANES + channel) * area + first..][..count];
                    match to.as_mut_array() {
                        Some(to) => *to = *row,
                        None => to.copy_from_slice(&row[..count]),
                    }
                }
            }
        }
    }
}

/// Where a run's pixels begin in a plane.
#[inline(always)]
fn pixels(plane: Plane, run: Range<usize>) -> [usize; LANES] {
    let (mut y, mut x) = (run.start / plane.width, run.start % plane.width);
    let mut at = [0; LANES];
    for at in &mut at[..run.len()] {
        *at = plane.offset(y, x);
        x += 1;
        if x == plane.width {
            (y, x) = (y + 1, 0);
        }
    }
    at
}
