//! The MDEQ cell over the fused kernels of `equipoise-kernels`.
//!
//! They serve plain float32 tensors on the flex CPU device, without copying states. Whatever is tracked by
//! autodiff, on another device or in another precision goes through the composed cell instead.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use equipoise_kernels::{
    BlockParameters, Cell as Kernels, CellParameters, Convolutions, NormParameters, PathParameters,
    PostParameters, StepParameters, Tape,
};

use super::block::{Block, fold_gradient};
use super::cell::MdeqCell;
use super::fusion::{ConvNorm, FusePath};
use crate::model::cell::{BoundCell, FixedPointMap, Linearization, Mask};
use crate::model::layers::{Conv2d, GroupNorm, WeightNormConv2d};
use crate::model::parameters::accumulate;
use crate::model::prepared::Prepared;
use crate::state::{Injection, State};
use equipoise_attack::batch::{self, from_vec, to_vec};
use equipoise_attack::cpu::{numbers_of, plain};

/// What is made from a cell's parameters.
#[derive(Debug)]
pub struct Weights {
    kernels: Kernels,
}

/// The cell bound to an injection, if the kernels can serve it.
pub fn bind(
    cell: &MdeqCell,
    prepared: &Prepared<Weights>,
    convolutions: Convolutions,
    injection: &Tensor<2>,
    mask: Option<&Mask>,
) -> Option<Box<dyn BoundCell>> {
    let mask = match mask {
        Some(mask) => Some(PlainMask { plain: plain(mask)?, mask: mask.clone() }),
        None => None,
    };
    let plain = plain(injection)?;
    let weights = prepared.get(cell, || Weights { kernels: Kernels::new(&numbers(cell), convolutions) })?;
    Some(Box::new(FusedMdeq { cell: cell.clone(), weights, plain, injection: injection.clone(), mask }))
}

/// A convolution of the cell.
enum Conv<'a> {
    /// With weight normalisation, which the kernels want folded.
    Folded(&'a WeightNormConv2d),
    Plain(&'a Conv2d),
}

impl Conv<'_> {
    fn numbers(&self) -> Vec<f32> {
        match self {
            Self::Folded(conv) => to_vec(conv.kernel().weight().clone()),
            Self::Plain(conv) => to_vec(conv.weight.val()),
        }
    }

    /// As many as its kernel has.
    fn zeros(&self) -> Vec<f32> {
        let kernel = match self {
            Self::Folded(conv) => conv.weight_v.dims(),
            Self::Plain(conv) => conv.weight.dims(),
        };
        vec![0.0; kernel.iter().product()]
    }

    /// Adds the gradient of its kernel to those of its parameters.
    fn accumulate(&self, gradient: Vec<f32>, device: &Device, into: &mut GradientsParams) {
        let tensor = |dims| from_vec(gradient, dims, device);
        match self {
            Self::Folded(conv) => fold_gradient(conv, tensor(conv.weight_v.dims()), into),
            Self::Plain(conv) => accumulate(into, conv.weight.id, tensor(conv.weight.dims())),
        }
    }
}

/// Every convolution and normalisation of the cell, each in its place among the kernels' parameters.
fn layers(cell: &MdeqCell) -> CellParameters<Conv<'_>, &GroupNorm> {
    fn step(step: &ConvNorm) -> StepParameters<Conv<'_>, &GroupNorm> {
        StepParameters {
            outputs: step.conv.weight.dims()[0],
            conv: Conv::Plain(&step.conv),
            norm: &step.gnorm,
        }
    }
    fn path(path: &FusePath) -> PathParameters<Conv<'_>, &GroupNorm> {
        match path {
            FusePath::Down(down) => PathParameters::Down(down.net.iter().map(step).collect()),
            FusePath::Up(up) => PathParameters::Up(step(&up.net)),
        }
    }
    let blocks = cell.branches.iter().map(|branch| {
        let Block { conv1, gn1, conv2, gn2, gn3 } = &branch.blocks[0];
        let inner = conv1.weight_v.dims()[0];
        BlockParameters { inner, conv1: Conv::Folded(conv1), gn1, conv2: Conv::Folded(conv2), gn2, gn3 }
    });
    let post = cell.post_fuse_layers.iter();
    let paths = cell.fuse_layers.iter().map(|row| row.iter().map(|of| of.as_ref().map(path)).collect());
    CellParameters {
        branches: cell.layout().branches().to_vec(),
        blocks: blocks.collect(),
        paths: paths.collect(),
        post: post.map(|post| PostParameters { conv: Conv::Folded(&post.conv), norm: &post.gnorm }).collect(),
    }
}

/// The cell as plain numbers.
fn numbers(cell: &MdeqCell) -> CellParameters {
    let norm = |norm: &&GroupNorm| NormParameters {
        groups: norm.groups(),
        affine: match (&norm.weight, &norm.bias) {
            (Some(weight), Some(bias)) => Some((to_vec(weight.val()), to_vec(bias.val()))),
            _ => None,
        },
    };
    layers(cell).map(Conv::numbers, norm)
}

/// Zeros in the shapes of the cell's parameters.
fn zeros(cell: &MdeqCell) -> CellParameters {
    let norm = |norm: &&GroupNorm| {
        let zeros = |weight: &Param<Tensor<1>>| vec![0.0; weight.dims()[0]];
        NormParameters {
            groups: norm.groups(),
            affine: norm.weight.as_ref().zip(norm.bias.as_ref()).map(|(w, b)| (zeros(w), zeros(b))),
        }
    };
    layers(cell).map(Conv::zeros, norm)
}

/// Adds gradients of plain numbers to those of the cell's parameters.
fn accumulate_numbers(
    cell: &MdeqCell,
    mut numbers: CellParameters,
    device: &Device,
    into: &mut GradientsParams,
) {
    let layers = layers(cell);
    let ((convs, norms), (kernels, affine)) = (layers.parts(), numbers.parts_mut());
    for (conv, gradient) in convs.into_iter().zip(kernels) {
        conv.accumulate(std::mem::take(gradient), device, into);
    }
    for (norm, gradient) in norms.into_iter().zip(affine) {
        let parameters = (&norm.weight, &norm.bias);
        if let ((Some(weight), Some(bias)), Some((dw, db))) = (parameters, gradient.affine.take()) {
            accumulate(into, weight.id, from_vec(dw, weight.dims(), device));
            accumulate(into, bias.id, from_vec(db, bias.dims(), device));
        }
    }
}

/// The bound cell.
struct FusedMdeq {
    cell: MdeqCell,
    weights: Arc<Weights>,
    injection: Tensor<2>,
    plain: FlexTensor,
    mask: Option<PlainMask>,
}

/// A dropout mask, also as plain numbers.
#[derive(Clone)]
struct PlainMask {
    mask: Mask,
    plain: FlexTensor,
}

impl FusedMdeq {
    /// A result, `[N, D]`, on the device of the arguments.
    fn tensor(&self, values: Vec<f32>, columns: usize) -> State {
        let rows = values.len() / columns;
        from_vec(values, [rows, columns], &self.injection.device()).into()
    }

    fn rows(&self, rows: &[usize]) -> Self {
        let injection = batch::select(&self.injection, rows);
        const PLAIN: &str = "rows of a plain tensor are plain";
        let mask = self.mask.as_ref().map(|mask| {
            let mask = batch::select(&mask.mask, rows);
            PlainMask { plain: plain(&mask).expect(PLAIN), mask }
        });
        let plain = plain(&injection).expect(PLAIN);
        Self { cell: self.cell.clone(), weights: self.weights.clone(), injection, plain, mask }
    }

    fn composed(&self) -> Box<dyn BoundCell> {
        self.cell.bind_composed_masked(&self.injection, self.mask.as_ref().map(|mask| &mask.mask))
    }

    fn mask_numbers(&self) -> Option<&[f32]> {
        self.mask.as_ref().map(|mask| numbers_of(&mask.plain))
    }
}

impl FixedPointMap for FusedMdeq {
    fn apply(&self, state: &State) -> State {
        let Some(plain) = state.plain() else {
            return self.composed().apply(state);
        };
        let state = numbers_of(&plain);
        let mut out = vec![0.0; state.len()];
        let (injection, mask) = (numbers_of(&self.plain), self.mask_numbers());
        self.weights.kernels.forward_masked(state, injection, mask, &mut out);
        self.tensor(out, self.weights.kernels.state_dim())
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(self.rows(rows))
    }
}

impl BoundCell for FusedMdeq {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        let Some(plain) = state.plain() else {
            return self.composed().linearize(state);
        };
        let state_numbers = numbers_of(&plain);
        let mut out = vec![0.0; state_numbers.len()];
        let (injection, mask) = (numbers_of(&self.plain), self.mask_numbers());
        let tape = self.weights.kernels.linearize_masked(state_numbers, injection, mask, &mut out);
        let value = self.tensor(out, self.weights.kernels.state_dim());
        Box::new(FusedLinearization {
            cell: self.cell.clone(),
            weights: self.weights.clone(),
            state: state.clone(),
            injection: self.injection.clone(),
            mask: self.mask.as_ref().map(|mask| mask.mask.clone()),
            value,
            tape,
        })
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.rows(rows).linearize(&state.select(rows))
    }
}

/// The cell linearised at a state.
struct FusedLinearization {
    cell: MdeqCell,
    weights: Arc<Weights>,
    /// Where it was linearised, for cotangents that the kernels cannot serve.
    state: State,
    injection: Tensor<2>,
    mask: Option<Mask>,
    value: State,
    tape: Tape,
}

impl FusedLinearization {
    fn composed(&self) -> Box<dyn Linearization> {
        self.cell.bind_composed_masked(&self.injection, self.mask.as_ref()).linearize(&self.state)
    }

    fn state_like(&self, values: Vec<f32>) -> State {
        from_vec(values, self.state.dims(), &self.injection.device()).into()
    }

    fn injection_like(&self, values: Vec<f32>) -> Injection {
        from_vec(values, self.injection.dims(), &self.injection.device()).into()
    }

    fn zeros(dims: [usize; 2]) -> Vec<f32> {
        vec![0.0; dims.iter().product()]
    }
}

impl Linearization for FusedLinearization {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        let Some(plain) = cotangent.plain() else { return self.composed().vjp_state(cotangent) };
        let mut state = Self::zeros(self.state.dims());
        self.tape.vjp(numbers_of(&plain), &mut state, None);
        self.state_like(state)
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        let Some(plain) = cotangent.plain() else { return self.composed().vjp(cotangent) };
        let (mut state, mut injection) = (Self::zeros(self.state.dims()), Self::zeros(self.injection.dims()));
        self.tape.vjp(numbers_of(&plain), &mut state, Some(&mut injection));
        (self.state_like(state), self.injection_like(injection))
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        let Some(plain) = cotangent.plain() else { return self.composed().vjp_parameters(cotangent, into) };
        let (mut state, mut injection) = (Self::zeros(self.state.dims()), Self::zeros(self.injection.dims()));
        let mut numbers = zeros(&self.cell);
        self.tape.vjp_parameters(numbers_of(&plain), &mut state, &mut injection, &mut numbers);
        accumulate_numbers(&self.cell, numbers, &self.injection.device(), into);
        (self.state_like(state), self.injection_like(injection))
    }

    fn memory(&self) -> Option<usize> {
        Some(self.weights.kernels.tape_bytes())
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        Box::new(Self {
            cell: self.cell.clone(),
            weights: self.weights.clone(),
            state: self.state.select(rows),
            injection: batch::select(&self.injection, rows),
            mask: self.mask.as_ref().map(|mask| batch::select(mask, rows)),
            value: self.value.select(rows),
            tape: self.tape.select(rows),
        })
    }
}
