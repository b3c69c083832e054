//! A layer in use: its maps, and which of a chunk's images each of them goes between.

use std::ops::Range;

use pulp::Arch;

use crate::convolution::Conv;
use crate::image::passes::{Copy, Scaled};
use crate::image::plane::Plane;
use crate::image::signs::{Finish, GateBySigns, Signs, signs_len};
use crate::image::stack::Stack;
use crate::network::places::Step;

/// A layer in use.
#[derive(Debug)]
pub(crate) struct Layer {
    pub plane: Plane,
    pub maps: Vec<Mapping>,
    /// By channel, padded with zeros.
    pub bias: Vec<f32>,
    pub rectify: bool,
    /// Where its image is, and the way there.
    pub image: usize,
    pub forward: Vec<Step>,
    /// Where its image's cotangent is, and the way from there.
    pub cotangent: usize,
    pub backward: Vec<Step>,
}

/// A map in use.
#[derive(Debug)]
pub(crate) enum Mapping {
    Same(Plane),
    /// Factors by channel, padded with zeros.
    Scale(Plane, Vec<f32>),
    Conv(Box<Conv>),
}

/// What is kept of an evaluation: for each layer, what its ReLU let through, by example. Empty where there is none.
pub(crate) type Kept = Vec<Vec<Signs>>;

impl Layer {
    /// Whether it takes whole batches.
    pub fn is_wide(&self) -> bool {
        self.maps.iter().any(|map| matches!(map, Mapping::Conv(conv) if conv.is_wide()))
    }

    /// Numbers that its ReLU keeps of each example.
    pub fn kept(&self) -> usize {
        if self.rectify { signs_len(self.plane) } else { 0 }
    }

    /// One of the terms of some examples.
    pub fn add_term(&self, arch: Arch, step: Step, images: &mut [Stack], examples: Range<usize>) {
        let (from, to) = two(images, step.at, self.image);
        match &self.maps[step.map] {
            Mapping::Conv(conv) => {
                let (x, y) = (from.images(examples.start), to.images_mut(examples.start));
                match step.add {
                    true => conv.accumulate(arch, x, y, examples.len()),
                    false => conv.apply(arch, x, y, examples.len()),
                }
            }
            map => map.pass(arch, from, to, step.add, examples),
        }
    }

    /// Bias and ReLU of some examples.
    pub fn finish(
        &self,
        arch: Arch,
        images: &mut [Stack],
        mut kept: Option<&mut [Signs]>,
        examples: Range<usize>,
    ) {
        let each = self.kept();
        for example in examples {
            let image = images[self.image].at_mut(example);
            let signs = kept.as_deref_mut().map(|kept| &mut kept[example * each..][..each]);
            let (plane, bias, rectify) = (self.plane, &self.bias[..], self.rectify);
            arch.dispatch(Finish { image, plane, bias, rectify, signs });
        }
    }

    /// The way back through the ReLU, of some examples.
    pub fn gate(&self, arch: Arch, cotangents: &mut [Stack], kept: &[Signs], examples: Range<usize>) {
        if !self.rectify {
            return;
        }
        let each = self.kept();
        for example in examples {
            let u = cotangents[self.cotangent].at_mut(example);
            arch.dispatch(GateBySigns { u, plane: self.plane, signs: &kept[example * each..][..each] });
        }
    }

    /// The way back through one of the terms, of some examples.
    pub fn pull_term_back(&self, arch: Arch, step: Step, cotangents: &mut [Stack], examples: Range<usize>) {
        let (from, to) = two(cotangents, self.cotangent, step.at);
        match &self.maps[step.map] {
            Mapping::Conv(conv) => pull_back(arch, conv, from, to, step.add, examples),
            map => map.pass(arch, from, to, step.add, examples),
        }
    }
}

impl Mapping {
    /// The maps that are their own transposes.
    fn pass(&self, arch: Arch, from: &Stack, to: &mut Stack, add: bool, examples: Range<usize>) {
        for example in examples {
            let (x, out) = (from.at(example), to.at_mut(example));
            match self {
                Self::Same(plane) => arch.dispatch(Copy { x, plane: *plane, out, out_plane: *plane, add }),
                Self::Scale(plane, factors) => {
                    arch.dispatch(Scaled { x, out, plane: *plane, factors, add });
                }
                Self::Conv(_) => unreachable!("a convolution is not its own transpose"),
            }
        }
    }
}

/// dx (+)= uᵀ ∂conv/∂x of some examples, every pixel of it.
pub(crate) fn pull_back(
    arch: Arch,
    conv: &Conv,
    u: &Stack,
    dx: &mut Stack,
    add: bool,
    examples: Range<usize>,
) {
    let everywhere = conv.pulls_back_everywhere();
    if !everywhere && !add {
        examples.clone().for_each(|example| dx.at_mut(example).fill(0.0));
    }
    let (u, dx) = (u.images(examples.start), dx.images_mut(examples.start));
    conv.pull_back(arch, u, dx, examples.len(), add || !everywhere);
}

/// Two images, of which the second is written to.
pub(crate) fn two(images: &mut [Stack], from: usize, to: usize) -> (&Stack, &mut Stack) {
    let [from, to] = images.get_disjoint_mut([from, to]).expect("no term is computed in place");
    (from, to)
}
