//! Resampling from one branch to another, step by step.
//!
//! Down: 3×3 convolutions of stride 2 with normalisation, ReLU between them but not after. Up: 1×1
//! convolution, normalisation, nearest-neighbour upsampling.

use std::ops::Range;

use pulp::Arch;

use crate::cell::capture::{Capture, StepCapture};
use crate::convolution::{Conv, Counter, Norm, Planes};
use crate::image::norm::{CotangentSums, Moments, Normalise, PullBack, Source, Then};
use crate::image::passes::{Copy, Downsum};
use crate::image::plane::Plane;
use crate::image::stack::Stack;
use crate::parameters::{PathParameters, StepParameters};

/// One convolution and its normalisation.
#[derive(Debug)]
pub(crate) struct Step {
    pub conv: Conv,
    pub norm: Norm,
}

/// A path in use.
#[derive(Debug)]
pub(crate) struct Path {
    pub steps: Vec<Step>,
    /// Upsampling after the only step; `None` on the way down.
    factor: Option<usize>,
}

/// What a step keeps: its convolution's output, and the moments of that.
#[derive(Debug, Clone)]
pub(crate) struct StepTape {
    convolved: Stack,
    moments: Stack,
}

/// Memory to work in.
#[derive(Debug)]
pub(crate) struct StepScratch {
    /// The step's input; empty for the first step, whose input is the branch.
    input: Stack,
    /// The cotangent of the convolution's output.
    at: Stack,
    sums: Vec<f32>,
}

impl Path {
    /// From the branch of shape `from` to that of shape `to`.
    pub fn new(from: [usize; 3], to: [usize; 3], parameters: &PathParameters, counter: &mut Counter) -> Self {
        match parameters {
            PathParameters::Up(step) => {
                let low = [to[0], from[1], from[2]];
                let planes = Planes {
                    x: Plane::bordered(from),
                    y: Plane::plain(low),
                    u: Plane::plain(low),
                    dx: Plane::plain(from),
                };
                let steps = vec![Step::new(1, 1, step, planes, counter)];
                Self { steps, factor: Some(to[1] / from[1]) }
            }
            PathParameters::Down(list) => {
                let mut shape = from;
                let mut steps = Vec::with_capacity(list.len());
                for (number, step) in list.iter().enumerate() {
                    let next = [step.outputs, shape[1] / 2, shape[2] / 2];
                    let planes = Planes {
                        x: Plane::bordered(shape),
                        y: Plane::plain(next),
                        u: Plane::bordered(next),
                        // The first step adds to the branch's cotangent, the others hand on to the one before.
                        dx: if number == 0 { Plane::plain(shape) } else { Plane::bordered(shape) },
                    };
                    steps.push(Step::new(3, 2, step, planes, counter));
                    shape = next;
                }
                assert_eq!(shape, to, "a downward path that ends in the shape of its branch");
                Self { steps, factor: None }
            }
        }
    }

    /// A tape with room for some examples.
    pub fn tape(&self, room: usize) -> Vec<StepTape> {
        let tape = |step: &Step| StepTape {
            convolved: Stack::of(step.conv.planes.y, room),
            moments: Stack::new(2 * step.conv.planes.y.stride(), room),
        };
        self.steps.iter().map(tape).collect()
    }

    /// Memory with room for some examples.
    pub fn scratch(&self, room: usize) -> Vec<StepScratch> {
        let scratch = |(number, step): (usize, &Step)| StepScratch {
            input: if number == 0 { Stack::default() } else { Stack::of(step.conv.planes.x, room) },
            at: Stack::of(step.conv.planes.u, room),
            sums: vec![0.0; 2 * step.conv.planes.u.stride()],
        };
        self.steps.iter().enumerate().map(scratch).collect()
    }

    /// Adds what comes of a branch (bordered) to `sum` (plain), for examples that are worked on together.
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        arch: Arch,
        examples: Range<usize>,
        branch: &Stack,
        sum: &mut Stack,
        sum_plane: Plane,
        tape: &mut [StepTape],
        scratch: &mut [StepScratch],
    ) {
        for (number, step) in self.steps.iter().enumerate() {
            let StepTape { convolved, moments } = &mut tape[number];
            let input = if number == 0 { branch } else { &scratch[number].input };
            let (x, y) = (input.images(examples.start), convolved.images_mut(examples.start));
            step.conv.apply(arch, x, y, examples.len());
            let plane = step.conv.planes.y;
            for example in examples.clone() {
                let x = convolved.at(example);
                step.norm.norm.moments(arch, plane, x, moments.at_mut(example));
                let map = &step.norm.norm.map(moments.at(example));
                if number + 1 < self.steps.len() {
                    let out = scratch[number + 1].input.at_mut(example);
                    let out_plane = self.steps[number + 1].conv.planes.x;
                    arch.dispatch(Normalise { x, plane, map, out, out_plane, then: Then::Rectify });
                } else {
                    let then = self.factor.map_or(Then::Accumulate, Then::Upsample);
                    let (out, out_plane) = (sum.at_mut(example), sum_plane);
                    arch.dispatch(Normalise { x, plane, map, out, out_plane, then });
                }
            }
        }
    }

    /// Pulls the cotangent of the sum back and sets the branch's cotangent `into` to it, or adds it; for examples
    /// that are worked on together.
    #[allow(clippy::too_many_arguments)]
    pub fn pull_back(
        &self,
        arch: Arch,
        examples: Range<usize>,
        at_sum: &Stack,
        sum_plane: Plane,
        into: &mut Stack,
        accumulate: bool,
        tape: &[StepTape],
        scratch: &mut [StepScratch],
        mut capture: Option<(&mut Capture, usize)>,
    ) {
        let last = self.steps.len() - 1;
        for (number, step) in self.steps.iter().enumerate().rev() {
            let (earlier, later) = scratch.split_at_mut(number);
            let StepScratch { at, sums, .. } = &mut later[0];
            let StepTape { convolved, moments: stored } = &tape[number];
            let (u_plane, x_plane) = (step.conv.planes.u, step.conv.planes.y);
            for example in examples.clone() {
                if number == last {
                    let (x, plane) = (at_sum.at(example), sum_plane);
                    let (out, out_plane) = (at.at_mut(example), u_plane);
                    match self.factor {
                        None => arch.dispatch(Copy { x, plane, out, out_plane, add: false }),
                        Some(factor) => arch.dispatch(Downsum { x, plane, factor, out, out_plane }),
                    }
                }
                let x = convolved.at(example);
                let moments = Moments::of(stored.at(example));
                let map = (number < last).then(|| step.norm.norm.map(stored.at(example)));
                arch.dispatch(CotangentSums {
                    u: at.at_mut(example),
                    u_plane,
                    x,
                    x_plane,
                    moments,
                    rectified: map.as_ref(),
                    sums,
                });
                if let Some((capture, _)) = &mut capture {
                    capture.norm(&step.norm, example, stored.at(example), sums);
                }
                arch.dispatch(PullBack {
                    u: Source::Output,
                    x,
                    x_plane,
                    moments,
                    coefficients: &step.norm.norm.pullback(u_plane, stored.at(example), sums),
                    out: at.at_mut(example),
                    out_plane: u_plane,
                    rectified: false,
                });
                if let Some((capture, first)) = &mut capture {
                    let StepCapture { at: kept, .. } = &mut capture.steps[*first + number];
                    kept.at_mut(example).copy_from_slice(at.at(example));
                    if number < last {
                        let StepCapture { input, .. } = &mut capture.steps[*first + number + 1];
                        arch.dispatch(Normalise {
                            x,
                            plane: x_plane,
                            map: map.as_ref().expect("only the last step has no ReLU after it"),
                            out: input.at_mut(example),
                            out_plane: self.steps[number + 1].conv.planes.x,
                            then: Then::Rectify,
                        });
                    }
                }
            }
            let (out, accumulate) = match earlier.last_mut() {
                Some(before) => (&mut before.at, false),
                None => (&mut *into, accumulate),
            };
            let (u, dx) = (at.images(examples.start), out.images_mut(examples.start));
            step.conv.pull_back(arch, u, dx, examples.len(), accumulate);
        }
    }
}

impl Step {
    fn new(size: usize, stride: usize, step: &StepParameters, planes: Planes, counter: &mut Counter) -> Self {
        Self {
            conv: counter.conv(size, stride, &step.conv, planes),
            norm: counter.norm(step.outputs, &step.norm),
        }
    }
}

impl StepTape {
    pub fn stacks(&self) -> Vec<&Stack> {
        vec![&self.convolved, &self.moments]
    }

    pub fn stacks_mut(&mut self) -> Vec<&mut Stack> {
        vec![&mut self.convolved, &mut self.moments]
    }
}
