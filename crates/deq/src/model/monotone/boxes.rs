//! A monotone DEQ on boxes of images, as a DEQ: its fixed point is a box of states, and it is trained like any other.
//!
//! With A = (1−α) I + α W a step of the cell maps the states in \[l, u\] into that from relu(A⁺l + A⁻u + αc̲) to
//! relu(A⁺u + A⁻l + αc̄), where \[c̲, c̄\] holds U x + b for all images of the box. Where |A| contracts, as that of W with
//! [boxes](Deq::boxes) does, there is one fixed box, and it holds the fixed points of all images. Parameters are those of the network,
//! so that gradients are too (Wei and Kolter 2022, IBP-monDEQ).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, activation};

use super::splitting::{Coupling, Step, accumulated, where_positive};
use crate::model::cell::{BoundCell, Cell, Mask};
use crate::model::deq::{Deq, Head, Stem};
use crate::model::layers::{Dense, Phase, products};
use crate::model::normalisation::{Normalisation, normalised};
use equipoise_attack::batch::{Images, Logits};

/// A stem U x + b of the normalised image.
pub trait LinearStem: Stem {
    /// What images are normalised by.
    fn normalisation(&self) -> Option<&Normalisation>;

    /// U x + b, `[N, I]`.
    fn affine(&self, normalised: Images) -> Tensor<2>;

    /// |U| x, `[N, I]`.
    fn by_sizes(&self, normalised: Images) -> Tensor<2>;
}

/// A cell whose boxes may contract, of as many units as its injection has.
pub trait Contracting: Cell {
    /// A linear function of states.
    type Coupling: Coupling;

    /// α.
    fn step(&self) -> f64;

    /// A⁺ and A⁻, whose sum is A. `None` for a W whose boxes need not contract.
    fn signs(&self) -> Option<[Self::Coupling; 2]>;
}

/// A linear classifier of features.
pub trait LinearHead: Head {
    /// Features of z, `[N, D]` to `[N, F]`: a linear function without negative weights.
    fn features(&self, z: Tensor<2>) -> Tensor<2>;

    /// Weights `[K, F]` and biases `[K]`.
    fn classifier(&self) -> &Dense;
}

/// A monotone DEQ on boxes.
pub type Boxed<S, C, H> = Deq<BoxStem<S>, BoxCell<C>, BoxHead<H>>;

impl<S: LinearStem, C: Contracting, H: LinearHead> Deq<S, C, H> {
    /// The network on the boxes of images in \[0, 1\] within ε of each in L∞. `None` for a W whose boxes need not contract.
    pub fn boxes(&self, eps: f64) -> Option<Boxed<S, C, H>> {
        self.cell.signs()?;
        let Self { stem, cell, head } = self.clone();
        Some(Deq { stem: BoxStem { stem, eps }, cell: BoxCell { cell }, head: BoxHead { head } })
    }
}

/// The ends of U x + b over a box of images: c̲ and c̄ side by side, `[N, 2I]`.
#[derive(Module, Debug)]
pub struct BoxStem<S: Stem> {
    stem: S,
    #[module(skip)]
    eps: f64,
}

impl<S: LinearStem> Stem for BoxStem<S> {
    fn forward(&self, images: Images, _phase: &Phase<'_>) -> Tensor<2> {
        let end = |eps: f64| normalised(self.stem.normalisation(), (images.clone() + eps).clamp(0.0, 1.0));
        let (low, high) = (end(-self.eps), end(self.eps));
        let middle = self.stem.affine((low.clone() + high.clone()) * 0.5);
        let away = self.stem.by_sizes((high - low) * 0.5);
        Tensor::cat(vec![middle.clone() - away.clone(), middle + away], 1)
    }
}

/// The cell on boxes of states: l and u side by side, `[N, 2D]`.
#[derive(Module, Debug)]
pub struct BoxCell<C: Cell> {
    cell: C,
}

impl<C: Contracting> BoxCell<C> {
    fn map(&self) -> BoxStep<C> {
        let signs = self.cell.signs().expect("only cells whose boxes contract come here");
        BoxStep { signs, step: self.cell.step(), cell: self.cell.clone() }
    }
}

impl<C: Contracting> Cell for BoxCell<C> {
    fn apply(&self, state: Tensor<2>, injection: Tensor<2>) -> Tensor<2> {
        self.map().value(&state, &injection)
    }

    fn state_dim(&self) -> usize {
        2 * self.cell.state_dim()
    }

    fn bind(&self, injection: &Tensor<2>) -> Box<dyn BoundCell> {
        self.map().bound(injection)
    }

    fn differentiable_vjp(
        &self,
        state: &Tensor<2>,
        injection: &Tensor<2>,
        _: Option<&Mask>,
        cotangents: &[Tensor<2>],
    ) -> Option<Vec<Tensor<2>>> {
        Some(self.map().products(state, injection, cotangents))
    }
}

/// A⁺ and A⁻, and the cell that they are of.
#[derive(Clone)]
struct BoxStep<C: Contracting> {
    signs: [C::Coupling; 2],
    step: f64,
    cell: C,
}

/// One end of each box beside the other, `[N, 2D]`, as rows below each other, `[2N, D]`, l first.
fn stacked(ends: &Tensor<2>) -> Tensor<2> {
    let [n, both] = ends.dims();
    let low = ends.clone().narrow(1, 0, both / 2);
    Tensor::cat(vec![low, ends.clone().slice([0..n, both / 2..both])], 0)
}

/// The upper half of the rows in the place of the lower one.
fn exchanged(rows: &Tensor<2>) -> Tensor<2> {
    let [both, _] = rows.dims();
    let half = |start: usize| rows.clone().narrow(0, start, both / 2);
    Tensor::cat(vec![half(both / 2), half(0)], 0)
}

/// And back.
fn side_by_side(rows: Tensor<2>) -> Tensor<2> {
    let [both, _] = rows.dims();
    Tensor::cat(vec![rows.clone().narrow(0, 0, both / 2), rows.narrow(0, both / 2, both / 2)], 1)
}

/// (A⁺l + A⁻u, A⁺u + A⁻l), by two functions of rows.
fn ends<V>([positive, negative]: &[V; 2], by: fn(&V, &Tensor<2>) -> Tensor<2>, of: &Tensor<2>) -> Tensor<2> {
    let rows = stacked(of);
    side_by_side(by(positive, &rows) + by(negative, &exchanged(&rows)))
}

impl<C: Contracting> Step for BoxStep<C> {
    fn value(&self, state: &Tensor<2>, injection: &Tensor<2>) -> Tensor<2> {
        activation::relu(ends(&self.signs, Coupling::times, state) + injection.clone() * self.step)
    }

    fn pulled_back(&self, _: &Tensor<2>, value: &Tensor<2>, u: &Tensor<2>) -> [Tensor<2>; 2] {
        let s = where_positive(value, u);
        [ends(&self.signs, Coupling::transposed, &s), s * self.step]
    }

    fn injection(&self, forward: &Tensor<2>) -> Tensor<2> {
        forward.clone()
    }

    /// ∂f/∂y is α times that of what is under the ReLU, of which A is the linear part here.
    fn accumulate(&self, state: &Tensor<2>, _: &Tensor<2>, forward: &Tensor<2>, into: &mut GradientsParams) {
        let product = |cell: &C, states: &Tensor<2>| {
            let signs = cell.signs().expect("the same cell");
            ends(&signs, Coupling::times, states)
        };
        accumulated(&self.cell, product, state, &(forward.clone() / self.step), into);
    }
}

/// The least lead of each class over each one, of all states in a box: `[N, K²]`, that of y over j at yK + j.
#[derive(Module, Debug)]
pub struct BoxHead<H: Head> {
    head: H,
}

impl<H: LinearHead> Head for BoxHead<H> {
    fn forward(&self, state: Tensor<2>, _phase: &Phase<'_>) -> Logits {
        let classifier = self.head.classifier();
        let (weight, bias) = (classifier.weight.val(), classifier.bias.val());
        let [classes, features] = weight.dims();
        let pairs = weight.clone().reshape([classes, 1, features]) - weight.reshape([1, classes, features]);
        let pairs: Tensor<2> = pairs.flatten(0, 1);
        let bias: Tensor<2> = bias.clone().reshape([classes, 1]) - bias.reshape([1, classes]);
        let [_, both] = state.dims();
        let end = |start: usize| self.head.features(state.clone().narrow(1, start, both / 2));
        let (low, high) = (end(0), end(both / 2));
        let middle = products((low.clone() + high.clone()) * 0.5, pairs.clone(), Some(bias.flatten(0, 1)));
        middle - products((high - low) * 0.5, pairs.abs(), None)
    }

    fn classes(&self) -> usize {
        self.head.classes().pow(2)
    }
}
