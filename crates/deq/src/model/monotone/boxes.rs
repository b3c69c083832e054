//! A monotone DEQ on boxes of images, as a DEQ: its fixed point is a box of states, and it is trained like any other.
//!
//! With A = (1−α) I + α W a step of the cell maps the states in \[l, u\] into that from relu(A⁺l + A⁻u + αc̲) to
//! relu(A⁺u + A⁻l + αc̄), where \[c̲, c̄\] holds U x + b for all images of the box: relu(B s + αc) of s = (l, u), B being A⁺ beside A⁻ in
//! two rows. Where |A| contracts, as that of W with [boxes](Monotone::boxes) does, there is one fixed box, and it holds the fixed
//! points of all images. Parameters are those of the network, so that gradients are too (Wei and Kolter 2022, IBP-monDEQ).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};

use super::splitting::{Step, where_positive};
use super::weight::identity;
use super::{Monotone, MonotoneCell};
use crate::model::cell::{BoundCell, Cell, Mask};
use crate::model::deq::{Deq, Head, Stem};
use crate::model::layers::{Dense, Phase, products};
use crate::model::normalisation::{Normalisation, normalised};
use equipoise_attack::batch::{Images, Logits};

/// A monotone DEQ on boxes.
pub type Boxed = Deq<BoxStem, BoxCell, BoxHead>;

impl Monotone {
    /// The network on the boxes of images in \[0, 1\] within ε of each in L∞. `None` for a W whose boxes need not contract.
    pub fn boxes(&self, eps: f64) -> Option<Boxed> {
        match &self.cell {
            MonotoneCell::WinstonKolter(_) | MonotoneCell::Lben(_) => None,
            MonotoneCell::Nemon(_) | MonotoneCell::IntervalBounded(_) => {
                let Self { stem, cell, head } = self.clone();
                let normalisation = stem.normalisation().cloned();
                Some(Deq {
                    stem: BoxStem { injection: stem.injection, normalisation, eps },
                    cell: BoxCell { cell },
                    head: BoxHead { classifier: head.classifier },
                })
            }
        }
    }
}

/// The ends of U x + b over a box of images: c̲ and c̄ side by side, `[N, 2D]`.
#[derive(Module, Debug)]
pub struct BoxStem {
    injection: Dense,
    #[module(skip)]
    normalisation: Option<Normalisation>,
    #[module(skip)]
    eps: f64,
}

impl Stem for BoxStem {
    fn forward(&self, images: Images, _phase: &Phase<'_>) -> Tensor<2> {
        let end = |eps: f64| {
            normalised(self.normalisation.as_ref(), (images.clone() + eps).clamp(0.0, 1.0)).flatten(1, 3)
        };
        let (low, high): (Tensor<2>, Tensor<2>) = (end(-self.eps), end(self.eps));
        let middle = self.injection.forward((low.clone() + high.clone()) * 0.5);
        let away = products((high - low) * 0.5, self.injection.weight.val().abs(), None);
        Tensor::cat(vec![middle.clone() - away.clone(), middle + away], 1)
    }
}

/// The cell on boxes of states: l and u side by side, `[N, 2D]`.
#[derive(Module, Debug)]
pub struct BoxCell {
    cell: MonotoneCell,
}

impl BoxCell {
    fn step(&self) -> BoxStep {
        let (m, step) = (self.cell.monotonicity(), self.cell.step());
        let v = self.cell.matrix();
        let a = identity(&v) * (1.0 - step * m) + v * step;
        let positive = activation::relu(a.clone());
        let negative = a - positive.clone();
        let rows = [[&positive, &negative], [&negative, &positive]]
            .map(|row| Tensor::cat(row.map(|part| part.clone()).to_vec(), 1));
        BoxStep { matrix: Tensor::cat(rows.to_vec(), 0), step, cell: self.cell.clone() }
    }
}

impl Cell for BoxCell {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        self.step().value(&state, &injection)
    }

    fn state_dim(&self) -> usize {
        2 * self.cell.state_dim()
    }

    fn bind(&self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        self.step().bound(injection)
    }

    fn differentiable_vjp(
        &self,
        state: &Tensor<2>,
        injection: &Tensor<2>,
        _: Option<&Mask>,
        cotangents: &[Tensor<2>],
    ) -> Option<Vec<Tensor<2>>> {
        Some(self.step().products(state, injection, cotangents))
    }
}

/// B, and the parameters that it is made of.
#[derive(Clone)]
struct BoxStep {
    matrix: Tensor<2>,
    step: f64,
    cell: MonotoneCell,
}

impl Step for BoxStep {
    fn value(&self, state: &Tensor<2>, injection: &Tensor<2>) -> Tensor<2> {
        activation::relu(products(state.clone(), self.matrix.clone(), None) + injection.clone() * self.step)
    }

    fn pulled_back(&self, _: &Tensor<2>, value: &Tensor<2>, u: &Tensor<2>) -> [Tensor<2>; 2] {
        let s = where_positive(value, u);
        [products(s.clone(), self.matrix.clone().transpose(), None), s * self.step]
    }

    /// A positive entry of A is in B where rows and columns are of the same end, a negative one where they are not.
    fn injection(&self, forward: &Tensor<2>) -> Tensor<2> {
        forward.clone()
    }

    fn accumulate(
        &self,
        state: &Tensor<2>,
        _: &Tensor<2>,
        injection: &Tensor<2>,
        into: &mut GradientsParams,
    ) {
        let side = self.cell.state_dim();
        let all = injection.clone().transpose().matmul(state.clone());
        let part = |of: &Tensor<2>, i: usize, j: usize| {
            of.clone().slice([i * side..(i + 1) * side, j * side..(j + 1) * side])
        };
        let sum = |of: &Tensor<2>, same: bool| {
            let other = usize::from(!same);
            part(of, 0, other) + part(of, 1, 1 - other)
        };
        let unused = |same: bool| part(&self.matrix, 0, usize::from(!same)).equal_elem(0.0);
        let g = sum(&all, true).mask_fill(unused(true), 0.0) + sum(&all, false).mask_fill(unused(false), 0.0);
        self.cell.accumulate(g, into);
    }
}

/// The least lead of each class over each one, of all states in a box: `[N, K²]`, that of y over j at yK + j.
#[derive(Module, Debug)]
pub struct BoxHead {
    classifier: Dense,
}

impl Head for BoxHead {
    fn forward(&self, state: Tensor<2>, _phase: &Phase<'_>) -> Logits {
        let (weight, bias) = (self.classifier.weight.val(), self.classifier.bias.val());
        let [classes, side] = weight.dims();
        let pairs = weight.clone().reshape([classes, 1, side]) - weight.reshape([1, classes, side]);
        let pairs: Tensor<2> = pairs.flatten(0, 1);
        let bias: Tensor<2> = bias.clone().reshape([classes, 1]) - bias.reshape([1, classes]);
        let (low, high) = (state.clone().narrow(1, 0, side), state.narrow(1, side, side));
        let middle = products((low.clone() + high.clone()) * 0.5, pairs.clone(), Some(bias.flatten(0, 1)));
        middle - products((high - low) * 0.5, pairs.abs(), None)
    }

    fn classes(&self) -> usize {
        self.classifier.weight.lazy_shape()[0].pow(2)
    }
}
