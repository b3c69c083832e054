//! The residual block of one branch, and its vector-Jacobian products by hand.
//!
//! h = ReLU(GN1(conv1(z))), h = GN2(drop(conv2(h)) + injection), out = GN3(ReLU(h + z)), where drop multiplies
//! whole channels by a mask in training and is the identity otherwise.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};

use super::config::MdeqConfig;
use crate::model::init::{Init, Law};
use crate::model::layers::{GroupNorm, GroupNormTape, Kernel, WeightNormConv2d};
use crate::model::parameters::accumulate;
use equipoise_attack::batch;

/// One residual block of C channels, E·C inside.
#[derive(Module, Debug)]
pub struct Block {
    /// 3×3, C to E·C.
    pub conv1: WeightNormConv2d,
    /// After `conv1`.
    pub gn1: GroupNorm,
    /// 3×3, E·C to C.
    pub conv2: WeightNormConv2d,
    /// After the injection.
    pub gn2: GroupNorm,
    /// After the residual connection.
    pub gn3: GroupNorm,
}

/// The block with its weight normalisation folded in.
#[derive(Clone)]
pub struct BoundBlock {
    block: Block,
    conv1: Kernel,
    conv2: Kernel,
}

/// What the block keeps of an evaluation.
#[derive(Clone)]
pub struct BlockTape {
    /// The input z.
    input: Tensor<4>,
    gn1: GroupNormTape,
    /// ReLU(GN1(conv1(z))).
    hidden: Tensor<4>,
    /// Factors of the channels of `conv2`, `[N, C, 1, 1]`.
    mask: Option<Tensor<4>>,
    gn2: GroupNormTape,
    /// ReLU(h + z).
    residual: Tensor<4>,
    gn3: GroupNormTape,
}

/// Cotangents of a block's inputs, and of what its parameters were applied to.
pub struct BlockCotangents {
    /// Of the state's branch z.
    pub state: Tensor<4>,
    /// Of the injection into this branch.
    pub injection: Tensor<4>,
    /// Of the output of `conv2`, before the mask.
    conv2: Tensor<4>,
    gn1: Tensor<4>,
    conv1: Tensor<4>,
    gn2: Tensor<4>,
}

impl Block {
    /// A block with random weights.
    pub fn new(channels: usize, config: &MdeqConfig, init: &mut Init) -> Self {
        let inner = channels * config.expansion;
        let law = Law::Normal(0.01); // the MDEQ release's initialisation
        let norm = |c, init: &mut Init| GroupNorm::new(c, config.groups, config.block_affine, init);
        Self {
            conv1: WeightNormConv2d::new([channels, inner], 3, law, init),
            gn1: norm(inner, init),
            conv2: WeightNormConv2d::new([inner, channels], 3, law, init),
            gn2: norm(channels, init),
            gn3: norm(channels, init),
        }
    }

    /// Folds the weight normalisation.
    pub fn bind(&self) -> BoundBlock {
        BoundBlock { block: self.clone(), conv1: self.conv1.kernel(), conv2: self.conv2.kernel() }
    }
}

impl BoundBlock {
    /// The block's output for a branch `[N, C, H, W]`, and its tape. No injection means zero; no dropout mask
    /// `[N, C, 1, 1]` means one.
    pub fn forward(
        &self,
        z: Tensor<4>,
        injection: Option<Tensor<4>>,
        mask: Option<Tensor<4>>,
    ) -> (Tensor<4>, BlockTape) {
        let (hidden, gn1) = self.block.gn1.forward(self.conv1.apply(z.clone()));
        let hidden = activation::relu(hidden);
        let mut h = self.conv2.apply(hidden.clone());
        if let Some(mask) = &mask {
            h = h * mask.clone();
        }
        if let Some(injection) = injection {
            h = h + injection;
        }
        let (h, gn2) = self.block.gn2.forward(h);
        let residual = activation::relu(h + z.clone());
        let (out, gn3) = self.block.gn3.forward(residual.clone());
        (out, BlockTape { input: z, gn1, hidden, mask, gn2, residual, gn3 })
    }

    /// Pulls an output cotangent back.
    pub fn vjp(&self, tape: &BlockTape, u: Tensor<4>) -> BlockCotangents {
        let [_, _, h, w] = tape.input.dims();
        let residual = relu_vjp(&tape.residual, self.block.gn3.vjp_input(&tape.gn3, u));
        let injection = self.block.gn2.vjp_input(&tape.gn2, residual.clone());
        let conv2 = match &tape.mask {
            Some(mask) => injection.clone() * mask.clone(),
            None => injection.clone(),
        };
        let gn1 = relu_vjp(&tape.hidden, self.conv2.vjp_input(conv2.clone(), [h, w]));
        let conv1 = self.block.gn1.vjp_input(&tape.gn1, gn1.clone());
        let state = self.conv1.vjp_input(conv1.clone(), [h, w]) + residual.clone();
        BlockCotangents { state, injection, conv2, gn1, conv1, gn2: residual }
    }

    /// The parameters' cotangents, from those of [`Self::vjp`] for the same output cotangent u.
    pub fn vjp_parameters(
        &self,
        tape: &BlockTape,
        u: Tensor<4>,
        at: &BlockCotangents,
        into: &mut GradientsParams,
    ) {
        let Block { conv1, gn1, conv2, gn2, gn3 } = &self.block;
        fold_gradient(conv1, self.conv1.vjp_weight(tape.input.clone(), at.conv1.clone()), into);
        fold_gradient(conv2, self.conv2.vjp_weight(tape.hidden.clone(), at.conv2.clone()), into);
        affine_gradient(gn1, &tape.gn1, at.gn1.clone(), into);
        affine_gradient(gn2, &tape.gn2, at.gn2.clone(), into);
        affine_gradient(gn3, &tape.gn3, u, into);
    }
}

impl BlockTape {
    /// The tape of some rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            input: batch::select(&self.input, rows),
            gn1: self.gn1.select(rows),
            hidden: batch::select(&self.hidden, rows),
            mask: self.mask.as_ref().map(|mask| batch::select(mask, rows)),
            gn2: self.gn2.select(rows),
            residual: batch::select(&self.residual, rows),
            gn3: self.gn3.select(rows),
        }
    }
}

/// uᵀ ∂ReLU, from the ReLU's **output**.
pub fn relu_vjp(output: &Tensor<4>, u: Tensor<4>) -> Tensor<4> {
    let dead = output.clone().lower_equal_elem(0.0);
    u.mask_fill(dead, 0.0)
}

/// Adds the gradients of g and v for the cotangent of a folded kernel.
pub fn fold_gradient(conv: &WeightNormConv2d, cotangent: Tensor<4>, into: &mut GradientsParams) {
    let (g, v) = conv.vjp_fold(cotangent);
    accumulate(into, conv.weight_g.id, g);
    accumulate(into, conv.weight_v.id, v);
}

/// Adds the gradients of a group normalisation's affine map, where it has one.
pub fn affine_gradient(norm: &GroupNorm, tape: &GroupNormTape, u: Tensor<4>, into: &mut GradientsParams) {
    if let (Some(weight), Some(bias)) = (&norm.weight, &norm.bias)
        && let Some((dw, db)) = norm.vjp_affine(tape, u)
    {
        accumulate(into, weight.id, dw);
        accumulate(into, bias.id, db);
    }
}
