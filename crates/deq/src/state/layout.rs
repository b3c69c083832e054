//! How the branches of a multiscale state lie in its flat form.
//!
//! A multiscale state has several branches `[N, C_i, H_i, W_i]`; each is flattened in C, H, W order and they are concatenated.
//! Solvers work on the flat form and need not know the branches; cells split it with a [`Layout`].

use burn::tensor::Tensor;

/// How the branches of a state lie in its flat form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    branches: Vec<[usize; 3]>,
}

impl Layout {
    /// A state with the given branches, each C, H, W.
    pub fn new(branches: Vec<[usize; 3]>) -> Self {
        Self { branches }
    }

    /// The shape C, H, W of each branch.
    pub fn branches(&self) -> &[[usize; 3]] {
        &self.branches
    }

    /// Length D of the flat state.
    pub fn dim(&self) -> usize {
        self.branches.iter().map(|shape| shape.iter().product::<usize>()).sum()
    }

    /// The branches `[N, C_i, H_i, W_i]` of a flat state.
    pub fn split(&self, state: &Tensor<2>) -> Vec<Tensor<4>> {
        let [n, _] = state.dims();
        let mut start = 0;
        self.branches
            .iter()
            .map(|&[c, h, w]| {
                let end = start + c * h * w;
                let branch = if self.branches.len() == 1 {
                    state.clone()
                } else {
                    state.clone().slice([0..n, start..end])
                };
                start = end;
                branch.reshape([n, c, h, w])
            })
            .collect()
    }

    /// The flat state of some branches.
    pub fn join(&self, branches: Vec<Tensor<4>>) -> Tensor<2> {
        let mut flat: Vec<Tensor<2>> = branches.into_iter().map(|branch| branch.flatten::<2>(1, 3)).collect();
        if flat.len() == 1 { flat.remove(0) } else { Tensor::cat(flat, 1) }
    }
}
