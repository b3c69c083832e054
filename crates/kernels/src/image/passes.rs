//! Small passes over images: copies, rectification, sums.

use pulp::{Simd, WithSimd};

use crate::image::norm::{relu, relu_vjp, vectors, vectors_mut};
use crate::image::plane::Plane;

/// out = x, or out += x, between planes of one shape.
pub(crate) struct Copy<'a> {
    pub x: &'a [f32],
    pub plane: Plane,
    pub out: &'a mut [f32],
    pub out_plane: Plane,
    pub add: bool,
}

impl WithSimd for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, plane, out, out_plane, add } = self;
        for y in 0..plane.height {
            let (from, to) = (plane.row(x, y), out_plane.row_mut(out, y));
            if !add {
                to.copy_from_slice(from);
                continue;
            }
            for (to, from) in vectors_mut::<S>(to).iter_mut().zip(vectors::<S>(from)) {
                *to = simd.add_f32s(*to, *from);
            }
        }
    }
}

/// Every pixel of an image times a vector of factors by channel, in place.
pub(crate) struct ScaleChannels<'a> {
    pub image: &'a mut [f32],
    pub plane: Plane,
    /// One per channel, padding included.
    pub factors: &'a [f32],
}

impl WithSimd for ScaleChannels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { image, plane, factors } = self;
        let factors = vectors::<S>(factors);
        for y in 0..plane.height {
            let row = vectors_mut::<S>(plane.row_mut(image, y));
            for pixel in row.chunks_exact_mut(factors.len()) {
                for (x, factor) in pixel.iter_mut().zip(factors) {
                    *x = simd.mul_f32s(*x, *factor);
                }
            }
        }
    }
}

/// out = x times a vector of factors by channel, or out += that, between images of one plane.
pub(crate) struct Scaled<'a> {
    pub x: &'a [f32],
    pub out: &'a mut [f32],
    pub plane: Plane,
    /// One per channel, padding included.
    pub factors: &'a [f32],
    pub add: bool,
}

impl WithSimd for Scaled<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, out, plane, factors, add } = self;
        let factors = vectors::<S>(factors);
        for y in 0..plane.height {
            let (from, to) = (vectors::<S>(plane.row(x, y)), vectors_mut::<S>(plane.row_mut(out, y)));
            let pixels = from.chunks_exact(factors.len()).zip(to.chunks_exact_mut(factors.len()));
            for (from, to) in pixels {
                for ((x, to), factor) in from.iter().zip(to).zip(factors) {
                    let product = simd.mul_f32s(*x, *factor);
                    *to = if add { simd.add_f32s(*to, product) } else { product };
                }
            }
        }
    }
}

/// ReLU in place, over everything.
pub(crate) struct Rectify<'a>(pub &'a mut [f32]);

impl WithSimd for Rectify<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for x in vectors_mut::<S>(self.0) {
            *x = relu(simd, *x);
        }
    }
}

/// uᵀ ∂ReLU in place, from the ReLU's output.
pub(crate) struct RectifyVjp<'a> {
    pub output: &'a [f32],
    pub u: &'a mut [f32],
}

impl WithSimd for RectifyVjp<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (u, output) in vectors_mut::<S>(self.u).iter_mut().zip(vectors::<S>(self.output)) {
            *u = relu_vjp(simd, *output, *u);
        }
    }
}

/// The transpose of nearest-neighbour upsampling: out = the sums of x over factor × factor cells.
pub(crate) struct Downsum<'a> {
    pub x: &'a [f32],
    pub plane: Plane,
    pub factor: usize,
    pub out: &'a mut [f32],
    pub out_plane: Plane,
}

impl WithSimd for Downsum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, plane, factor, out, out_plane } = self;
        let count = plane.stride() / S::F32_LANES;
        for y in 0..out_plane.height {
            let to = out_plane.row_mut(out, y);
            to.fill(0.0);
            let to = vectors_mut::<S>(to);
            for copy in 0..factor {
                let from = vectors::<S>(plane.row(x, y * factor + copy));
                let cells = from.chunks_exact(factor * count);
                for (to, cell) in to.chunks_exact_mut(count).zip(cells) {
                    for pixel in cell.chunks_exact(count) {
                        for (to, from) in to.iter_mut().zip(pixel) {
                            *to = simd.add_f32s(*to, *from);
                        }
                    }
                }
            }
        }
    }
}
