//! What follows the sum over branches: ReLU, 1×1 convolution, normalisation.

use std::ops::Range;

use pulp::Arch;

use crate::cell::capture::Capture;
use crate::convolution::{Conv, Counter, Norm, Planes};
use crate::image::layout::{FromChannels, ToChannels};
use crate::image::norm::{CotangentSums, Moments, Normalise, PullBack, Source, Then};
use crate::image::passes::{Rectify, RectifyVjp};
use crate::image::plane::Plane;
use crate::image::stack::{Dense, DenseMut, Stack};
use crate::parameters::PostParameters;

/// Post-fusion of one branch.
#[derive(Debug)]
pub(crate) struct Post {
    pub conv: Conv,
    pub norm: Norm,
    plane: Plane,
}

/// What it keeps.
#[derive(Debug, Clone)]
pub(crate) struct PostTape {
    /// The sum, and after [`Post::forward`] its ReLU; plain.
    pub rectified: Stack,
    convolved: Stack,
    moments: Stack,
}

/// Memory to work in.
#[derive(Debug)]
pub(crate) struct PostScratch {
    /// The output, or its cotangent; plain.
    out: Stack,
    /// The cotangent of the sum, plain.
    pub at_sum: Stack,
    sums: Vec<f32>,
}

impl Post {
    pub fn new(shape: [usize; 3], parameters: &PostParameters, counter: &mut Counter) -> Self {
        let plane = Plane::plain(shape);
        let planes = Planes { x: plane, y: plane, u: plane, dx: plane };
        Self {
            conv: counter.conv(1, 1, &parameters.conv, planes),
            norm: counter.norm(shape[0], &parameters.norm),
            plane,
        }
    }

    /// A tape with room for some examples.
    pub fn tape(&self, room: usize) -> PostTape {
        PostTape {
            rectified: Stack::of(self.plane, room),
            convolved: Stack::of(self.plane, room),
            moments: Stack::new(2 * self.plane.stride(), room),
        }
    }

    /// Memory with room for some examples.
    pub fn scratch(&self, room: usize) -> PostScratch {
        PostScratch {
            out: Stack::of(self.plane, room),
            at_sum: Stack::of(self.plane, room),
            sums: vec![0.0; 2 * self.plane.stride()],
        }
    }

    /// From the sum in the tape to the output, for examples that are worked on together.
    pub fn forward(
        &self,
        arch: Arch,
        examples: Range<usize>,
        tape: &mut PostTape,
        scratch: &mut PostScratch,
        mut output: DenseMut<'_>,
    ) {
        let PostTape { rectified, convolved, moments } = tape;
        let plane = self.plane;
        for example in examples.clone() {
            arch.dispatch(Rectify(rectified.at_mut(example)));
        }
        let (x, y) = (rectified.images(examples.start), convolved.images_mut(examples.start));
        self.conv.apply(arch, x, y, examples.len());
        for example in examples.clone() {
            let x = convolved.at(example);
            self.norm.norm.moments(arch, plane, x, moments.at_mut(example));
            let map = &self.norm.norm.map(moments.at(example));
            let out = scratch.out.at_mut(example);
            arch.dispatch(Normalise { x, plane, map, out, out_plane: plane, then: Then::Store });
            let dense = output.at(example);
            arch.dispatch(ToChannels { image: scratch.out.at(example), plane, dense });
        }
    }

    /// From the output's cotangent to the scratch's `at_sum`, for examples that are worked on together.
    #[allow(clippy::too_many_arguments)]
    pub fn pull_back(
        &self,
        arch: Arch,
        examples: Range<usize>,
        cotangent: Dense<'_>,
        tape: &PostTape,
        scratch: &mut PostScratch,
        branch: usize,
        mut capture: Option<&mut Capture>,
    ) {
        let PostTape { rectified, convolved, moments: stored } = tape;
        let plane = self.plane;
        let PostScratch { out: at, at_sum, sums } = scratch;
        for example in examples.clone() {
            let dense = cotangent.at(example);
            arch.dispatch(FromChannels { dense, out: at.at_mut(example), plane, add: false });
            let x = convolved.at(example);
            let moments = Moments::of(stored.at(example));
            let u = at.at_mut(example);
            let (u_plane, x_plane) = (plane, plane);
            arch.dispatch(CotangentSums { u, u_plane, x, x_plane, moments, rectified: None, sums });
            if let Some(capture) = capture.as_deref_mut() {
                capture.norm(&self.norm, example, stored.at(example), sums);
            }
            arch.dispatch(PullBack {
                u: Source::Output,
                x,
                x_plane,
                moments,
                coefficients: &self.norm.norm.pullback(plane, stored.at(example), sums),
                out: at.at_mut(example),
                out_plane: plane,
                rectified: false,
            });
            if let Some(capture) = capture.as_deref_mut() {
                capture.post[branch].at_mut(example).copy_from_slice(at.at(example));
            }
        }
        let (u, dx) = (at.images(examples.start), at_sum.images_mut(examples.start));
        self.conv.pull_back(arch, u, dx, examples.len(), false);
        for example in examples.clone() {
            arch.dispatch(RectifyVjp { output: rectified.at(example), u: at_sum.at_mut(example) });
        }
    }
}

impl PostTape {
    pub fn stacks(&self) -> Vec<&Stack> {
        vec![&self.rectified, &self.convolved, &self.moments]
    }

    pub fn stacks_mut(&mut self) -> Vec<&mut Stack> {
        vec![&mut self.rectified, &mut self.convolved, &mut self.moments]
    }
}
