//! What a vector-Jacobian product leaves behind for the parameters' gradients: every convolution's input and
//! its output's cotangent, and every normalisation's own gradients, for each example of a chunk.

use crate::convolution::Norm;
use crate::image::stack::Stack;
use crate::pool::Room;

/// Of one block; inputs of `conv1` are on the tape.
#[derive(Debug)]
pub(crate) struct BlockCapture {
    /// The cotangent at the output of `conv1`, bordered.
    pub at_hidden: Stack,
    /// The input of `conv2`, bordered.
    pub hidden: Stack,
    /// The cotangent at the output of `conv2`, bordered.
    pub at_mixed: Stack,
    /// The block's output, bordered: the input of the first step of every path.
    pub out: Stack,
}

/// Of one step of a path.
#[derive(Debug)]
pub(crate) struct StepCapture {
    /// The input; empty for a first step.
    pub input: Stack,
    /// The cotangent of the convolution's output.
    pub at: Stack,
}

/// Of one chunk of examples.
#[derive(Debug)]
pub(crate) struct Capture {
    /// Examples that it has room for.
    pub room: usize,
    pub blocks: Vec<BlockCapture>,
    /// The steps of all paths, by target, then source, then step.
    pub steps: Vec<StepCapture>,
    /// The cotangent at the output of each post-fusion's convolution.
    pub post: Vec<Stack>,
    /// By normalisation: gradients of γ and of β of each example, `[2, stride]`.
    pub norms: Vec<Stack>,
}

impl Capture {
    /// Notes down a normalisation's gradients, from its channel sums.
    pub fn norm(&mut self, norm: &Norm, example: usize, moments: &[f32], sums: &[f32]) {
        if norm.norm.is_affine() {
            let into = self.norms[norm.id].at_mut(example);
            into.fill(0.0);
            let (weight, bias) = into.split_at_mut(sums.len() / 2);
            norm.norm.gradients(moments, sums, weight, bias);
        }
    }
}

impl Room for Capture {
    fn room(&self) -> usize {
        self.room
    }
}
