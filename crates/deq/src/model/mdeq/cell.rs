//! The MDEQ cell: blocks, fusion, post-fusion; forward, and vector-Jacobian products by hand.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use equipoise_kernels::Convolutions;

use super::block::{Block, BlockCotangents, BlockTape, BoundBlock};
use super::config::MdeqConfig;
use super::fused;
use super::fusion::{FusePath, PathTape, PostFuse, PostTape};
use crate::model::cell::{BoundCell, Cell, FixedPointMap, Linearization, Mask};
use crate::model::init::Init;
use crate::model::layers::Kernel;
use crate::model::prepared::Prepared;
use crate::state::{Injection, Layout, State};
use equipoise_attack::batch;

/// A branch: its blocks, of which there is one.
#[derive(Module, Debug)]
pub struct Branch {
    /// The residual block.
    pub blocks: Vec<Block>,
}

/// The cell of an MDEQ.
#[derive(Module, Debug)]
pub struct MdeqCell {
    /// One per resolution.
    pub branches: Vec<Branch>,
    /// `fuse_layers[i][j]` leads from branch j to branch i. Empty with one branch.
    pub fuse_layers: Vec<Vec<Option<FusePath>>>,
    /// One per branch. Empty with one branch.
    pub post_fuse_layers: Vec<PostFuse>,
    #[module(skip)]
    layout: Layout,
    #[module(skip)]
    prepared: Prepared<fused::Weights>,
    #[module(skip)]
    convolutions: Convolutions,
}

impl MdeqCell {
    /// A cell with random weights.
    pub fn new(config: &MdeqConfig, init: &mut Init) -> Self {
        let branches = config.channels.iter();
        let branches =
            branches.map(|&channels| Branch { blocks: vec![Block::new(channels, config, init)] }).collect();
        let fused = if config.branches() > 1 { config.branches() } else { 0 };
        let fuse_layers = (0..fused)
            .map(|to| (0..fused).map(|from| FusePath::new(from, to, config, init)).collect())
            .collect();
        let post_fuse_layers = (0..fused).map(|i| PostFuse::new(config.channels[i], config, init)).collect();
        let (layout, prepared, convolutions) =
            (config.layout(), Prepared::default(), Convolutions::default());
        Self { branches, fuse_layers, post_fuse_layers, layout, prepared, convolutions }
    }

    /// The same cell whose fused kernels compute their convolutions in the given way. The direct one is for
    /// comparisons with other programs to the last digits: where a unit is at the kink of its ReLU, any other
    /// rounding is another gradient.
    pub fn with_convolutions(self, convolutions: Convolutions) -> Self {
        Self { prepared: Prepared::default(), convolutions, ..self }
    }

    /// How the branches lie in the flat state.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The cell bound to an injection, evaluated in Burn operations even where [`Cell::bind`] would pick the
    /// fused kernels: the reference for their tests and benchmarks, and what can itself be differentiated.
    pub fn bind_composed(&self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        self.bind_composed_masked(injection, None)
    }

    /// The same with a dropout mask.
    pub fn bind_composed_masked(&self, injection: &Tensor<2>, mask: Option<&Mask>) -> Box<dyn BoundCell> {
        Box::new(self.bound(injection, mask))
    }

    fn bound(&self, injection: &Tensor<2>, mask: Option<&Mask>) -> BoundMdeq {
        let weights = Weights {
            blocks: self.branches.iter().map(|branch| branch.blocks[0].bind()).collect(),
            post: self.post_fuse_layers.iter().map(|post| post.conv.kernel()).collect(),
            cell: self.clone(),
        };
        BoundMdeq { weights: Arc::new(weights), injection: injection.clone(), mask: mask.cloned() }
    }
}

impl Cell for MdeqCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        self.bound(&injection, None).forward(&state).0
    }

    fn state_dim(&self) -> usize {
        self.layout.dim()
    }

    /// Fused kernels for plain float32 tensors on the flex CPU device, Burn operations for all others.
    fn bind(&self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        match fused::bind(self, &self.prepared, self.convolutions, injection, None) {
            Some(bound) => bound,
            None => self.bind_composed(injection),
        }
    }

    /// A factor for each channel of each branch.
    fn mask_dim(&self) -> usize {
        self.layout.branches().iter().map(|shape| shape[0]).sum()
    }

    fn bind_masked(&self, injection: &Tensor<2>, mask: &Mask) -> Option<Box<dyn BoundCell>> {
        let fused = fused::bind(self, &self.prepared, self.convolutions, injection, Some(mask));
        Some(fused.unwrap_or_else(|| self.bind_composed_masked(injection, Some(mask))))
    }

    fn differentiable_vjp(
        &self,
        state: &Tensor<2>,
        injection: &Tensor<2>,
        mask: Option<&Mask>,
        cotangents: &[Tensor<2>],
    ) -> Option<Vec<Tensor<2>>> {
        let linearization = self.bound(injection, mask).linearized(state);
        Some(cotangents.iter().map(|cotangent| linearization.pull_back(cotangent, None).0).collect())
    }
}

/// The cell with everything folded that does not depend on the state.
struct Weights {
    cell: MdeqCell,
    blocks: Vec<BoundBlock>,
    post: Vec<Kernel>,
}

#[derive(Clone)]
struct BoundMdeq {
    weights: Arc<Weights>,
    /// Into branch 0, flattened; the other branches get nothing.
    injection: Tensor<2>,
    /// Of variational dropout, in training.
    mask: Option<Mask>,
}

/// What the cell keeps of an evaluation.
struct Tape {
    blocks: Vec<BlockTape>,
    /// `paths[i][j]` as `fuse_layers[i][j]`.
    paths: Vec<Vec<Option<PathTape>>>,
    post: Vec<PostTape>,
}

impl BoundMdeq {
    fn rows(&self, rows: &[usize]) -> Self {
        let injection = batch::select(&self.injection, rows);
        let mask = self.mask.as_ref().map(|mask| batch::select(mask, rows));
        Self { weights: self.weights.clone(), injection, mask }
    }

    fn linearized(&self, state: &Tensor<2>) -> MdeqLinearization {
        let (value, tape) = self.forward(state);
        MdeqLinearization { weights: self.weights.clone(), value: value.into(), tape }
    }

    fn forward(&self, state: &Tensor<2>) -> (Tensor<2>, Tape) {
        let Weights { cell, blocks, post } = &*self.weights;
        let n = state.dims()[0];
        let [c, h, w] = cell.layout.branches()[0];
        let mut injection = Some(self.injection.clone().reshape([n, c, h, w]));
        let mut first_channel = 0;
        let (mixed, block_tapes): (Vec<_>, Vec<_>) = cell
            .layout
            .split(state)
            .into_iter()
            .zip(blocks)
            .map(|(z, block)| {
                let [n, channels, ..] = z.dims();
                let columns = first_channel..first_channel + channels;
                first_channel += channels;
                let mask = self.mask.as_ref();
                let mask = mask.map(|mask| mask.clone().slice([0..n, columns]).reshape([n, channels, 1, 1]));
                block.forward(z, injection.take(), mask)
            })
            .unzip();
        if post.is_empty() {
            let tape = Tape { blocks: block_tapes, paths: Vec::new(), post: Vec::new() };
            return (cell.layout.join(mixed), tape);
        }
        let mut outputs = Vec::new();
        let mut paths = Vec::new();
        let mut post_tapes = Vec::new();
        for (i, row) in cell.fuse_layers.iter().enumerate() {
            let mut sum: Option<Tensor<4>> = None;
            let mut tapes = Vec::new();
            for (branch, path) in mixed.iter().zip(row) {
                let (term, tape) = match path {
                    None => (branch.clone(), None),
                    Some(path) => {
                        let (term, tape) = path.forward(branch.clone());
                        (term, Some(tape))
                    }
                };
                tapes.push(tape);
                sum = Some(match sum {
                    None => term,
                    Some(sum) => sum + term,
                });
            }
            paths.push(tapes);
            let sum = sum.expect("a fused cell has at least two branches");
            let (output, tape) = cell.post_fuse_layers[i].forward(&post[i], sum);
            outputs.push(output);
            post_tapes.push(tape);
        }
        (cell.layout.join(outputs), Tape { blocks: block_tapes, paths, post: post_tapes })
    }
}

impl FixedPointMap for BoundMdeq {
    fn apply(&self, state: &State) -> State {
        self.forward(state.tensor()).0.into()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(self.rows(rows))
    }
}

impl BoundCell for BoundMdeq {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        Box::new(self.linearized(state.tensor()))
    }

    fn linearize_rows(&self, state: &State, rows: &[usize]) -> Box<dyn Linearization> {
        self.rows(rows).linearize(&state.select(rows))
    }
}

struct MdeqLinearization {
    weights: Arc<Weights>,
    value: State,
    tape: Tape,
}

impl MdeqLinearization {
    /// Pulls a cotangent back to the state and to the injection.
    fn pull_back(
        &self,
        u: &Tensor<2>,
        mut parameters: Option<&mut GradientsParams>,
    ) -> (Tensor<2>, Tensor<2>) {
        let Weights { cell, blocks, post } = &*self.weights;
        let mut at_blocks: Vec<Option<Tensor<4>>> = vec![None; blocks.len()];
        for (i, u) in cell.layout.split(u).into_iter().enumerate() {
            if post.is_empty() {
                at_blocks[i] = Some(u);
                continue;
            }
            let at_sum =
                cell.post_fuse_layers[i].vjp(&post[i], &self.tape.post[i], u, parameters.as_deref_mut());
            for (j, (path, tape)) in cell.fuse_layers[i].iter().zip(&self.tape.paths[i]).enumerate() {
                let term = match (path, tape) {
                    (Some(path), Some(tape)) => path.vjp(tape, at_sum.clone(), parameters.as_deref_mut()),
                    _ => at_sum.clone(),
                };
                at_blocks[j] = Some(match at_blocks[j].take() {
                    None => term,
                    Some(sum) => sum + term,
                });
            }
        }
        let mut injection = None;
        let states = blocks
            .iter()
            .zip(&self.tape.blocks)
            .zip(at_blocks)
            .map(|((block, tape), u)| {
                let u = u.expect("every branch reaches the output");
                let at: BlockCotangents = block.vjp(tape, u.clone());
                if let Some(into) = parameters.as_deref_mut() {
                    block.vjp_parameters(tape, u, &at, into);
                }
                injection.get_or_insert(at.injection);
                at.state
            })
            .collect();
        let injection: Tensor<4> = injection.expect("a cell has at least one branch");
        (cell.layout.join(states), injection.flatten(1, 3))
    }
}

impl Linearization for MdeqLinearization {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, cotangent: &State) -> State {
        self.pull_back(cotangent.tensor(), None).0.into()
    }

    fn vjp(&self, cotangent: &State) -> (State, Injection) {
        let (state, injection) = self.pull_back(cotangent.tensor(), None);
        (state.into(), injection.into())
    }

    fn vjp_parameters(&self, cotangent: &State, into: &mut GradientsParams) -> (State, Injection) {
        let (state, injection) = self.pull_back(cotangent.tensor(), Some(into));
        (state.into(), injection.into())
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        let path = |path: &Option<PathTape>| path.as_ref().map(|tape| tape.select(rows));
        let tape = Tape {
            blocks: self.tape.blocks.iter().map(|tape| tape.select(rows)).collect(),
            paths: self.tape.paths.iter().map(|row| row.iter().map(path).collect()).collect(),
            post: self.tape.post.iter().map(|tape| tape.select(rows)).collect(),
        };
        Box::new(Self { weights: self.weights.clone(), value: self.value.select(rows), tape })
    }
}
