//! What a cell is made of, as plain numbers; and, in the same shape, the gradients of these numbers.
//!
//! Weight normalisation is folded by the caller. Kernels have PyTorch's layout `[Cout, Cin, k, k]`.

/// How three by three convolutions of stride 1 are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Convolutions {
    /// By Winograd's algorithms, where the size of the image allows: up to 4 times fewer products, about twice
    /// the rounding error of a plain sum.
    #[default]
    Winograd,
    /// Term by term.
    Direct,
}

/// A group normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct NormParameters {
    /// Number of groups; divides the channels.
    pub groups: usize,
    /// γ and β, each `[C]`, when affine.
    pub affine: Option<(Vec<f32>, Vec<f32>)>,
}

/// A residual block of C channels, E·C inside: h = ReLU(GN1(conv1(z))), h = GN2(conv2(h) + injection),
/// out = GN3(ReLU(h + z)).
#[derive(Debug, Clone, PartialEq)]
pub struct BlockParameters<C = Vec<f32>, N = NormParameters> {
    /// E·C.
    pub inner: usize,
    /// `[E·C, C, 3, 3]`.
    pub conv1: C,
    /// Of E·C channels.
    pub gn1: N,
    /// `[C, E·C, 3, 3]`.
    pub conv2: C,
    /// Of C channels.
    pub gn2: N,
    /// Of C channels.
    pub gn3: N,
}

/// A convolution and a normalisation on the way from one branch to another.
#[derive(Debug, Clone, PartialEq)]
pub struct StepParameters<C = Vec<f32>, N = NormParameters> {
    /// Channels after it.
    pub outputs: usize,
    /// `[Cout, Cin, 3, 3]` in a downward path, `[Cout, Cin, 1, 1]` in an upward one.
    pub conv: C,
    /// Of Cout channels.
    pub norm: N,
}

/// The way from one branch to another.
#[derive(Debug, Clone, PartialEq)]
pub enum PathParameters<C = Vec<f32>, N = NormParameters> {
    /// To a coarser branch: each step halves the resolution; ReLU between steps.
    Down(Vec<StepParameters<C, N>>),
    /// To a finer branch: 1×1 convolution, normalisation, nearest-neighbour upsampling.
    Up(StepParameters<C, N>),
}

/// What follows the sum over branches: ReLU, 1×1 convolution, normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct PostParameters<C = Vec<f32>, N = NormParameters> {
    /// `[C, C, 1, 1]`.
    pub conv: C,
    /// Of C channels.
    pub norm: N,
}

/// A whole cell, of kernels and normalisations as numbers unless it is said of what: what applies them, or their gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct CellParameters<C = Vec<f32>, N = NormParameters> {
    /// C, H, W of each branch; each half as high and wide as the one before.
    pub branches: Vec<[usize; 3]>,
    /// One per branch.
    pub blocks: Vec<BlockParameters<C, N>>,
    /// `paths[i][j]` leads from branch j to branch i, `None` where i = j. Empty with one branch.
    pub paths: Vec<Vec<Option<PathParameters<C, N>>>>,
    /// One per branch. Empty with one branch.
    pub post: Vec<PostParameters<C, N>>,
}

/// A convolution with a bias: one with a batch normalisation, once that is folded in.
#[derive(Debug, Clone, PartialEq)]
pub struct BiasedConv {
    /// `[Cout, Cin, k, k]`.
    pub kernel: Vec<f32>,
    /// `[Cout]`.
    pub bias: Vec<f32>,
}

/// The statistics of a batch at a normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// `[C]`.
    pub mean: Vec<f32>,
    /// `[C]`: the mean squared distance from the mean.
    pub variance: Vec<f32>,
    /// Of how many numbers per channel.
    pub count: usize,
}

impl NormParameters {
    fn zeros_like(&self) -> Self {
        let zeros = |values: &Vec<f32>| vec![0.0; values.len()];
        let affine = self.affine.as_ref().map(|(weight, bias)| (zeros(weight), zeros(bias)));
        Self { groups: self.groups, affine }
    }

    pub(crate) fn check(&self, channels: usize, what: &str) {
        assert!(
            self.groups > 0 && channels.is_multiple_of(self.groups),
            "{what}: {} groups do not divide {channels} channels",
            self.groups
        );
        if let Some((weight, bias)) = &self.affine {
            assert_eq!(
                [weight.len(), bias.len()],
                [channels; 2],
                "{what}: affine map of {channels} channels"
            );
        }
    }
}

impl<C, N> CellParameters<C, N> {
    /// The same cell of other kernels and normalisations, each made in the order of [`Self::parts`].
    pub fn map<'a, D, M>(
        &'a self,
        mut conv: impl FnMut(&'a C) -> D,
        mut norm: impl FnMut(&'a N) -> M,
    ) -> CellParameters<D, M> {
        let blocks = self.blocks.iter().map(|of| BlockParameters {
            inner: of.inner,
            conv1: conv(&of.conv1),
            gn1: norm(&of.gn1),
            conv2: conv(&of.conv2),
            gn2: norm(&of.gn2),
            gn3: norm(&of.gn3),
        });
        let blocks = blocks.collect();
        let mut step = |of: &'a StepParameters<C, N>| StepParameters {
            outputs: of.outputs,
            conv: conv(&of.conv),
            norm: norm(&of.norm),
        };
        let mut path = |of: &'a PathParameters<C, N>| match of {
            PathParameters::Down(steps) => PathParameters::Down(steps.iter().map(&mut step).collect()),
            PathParameters::Up(up) => PathParameters::Up(step(up)),
        };
        let paths = self.paths.iter().map(|row| row.iter().map(|of| of.as_ref().map(&mut path)).collect());
        let paths = paths.collect();
        let post = self.post.iter().map(|of| PostParameters { conv: conv(&of.conv), norm: norm(&of.norm) });
        CellParameters { branches: self.branches.clone(), blocks, paths, post: post.collect() }
    }

    /// Kernels and normalisations in a fixed order: that of the cell's own.
    pub fn parts(&self) -> (Vec<&C>, Vec<&N>) {
        let (mut kernels, mut norms) = (Vec::new(), Vec::new());
        self.map(|conv| kernels.push(conv), |norm| norms.push(norm));
        (kernels, norms)
    }
}

impl CellParameters {
    /// The same shapes, all numbers zero: where gradients are added up.
    pub fn zeros_like(&self) -> Self {
        self.map(|kernel| vec![0.0; kernel.len()], NormParameters::zeros_like)
    }

    /// The same to be changed or taken, in the same order.
    pub fn parts_mut(&mut self) -> (Vec<&mut Vec<f32>>, Vec<&mut NormParameters>) {
        let (mut kernels, mut norms) = (Vec::new(), Vec::new());
        for block in &mut self.blocks {
            kernels.extend([&mut block.conv1, &mut block.conv2]);
            norms.extend([&mut block.gn1, &mut block.gn2, &mut block.gn3]);
        }
        for path in self.paths.iter_mut().flatten().flatten() {
            let steps = match path {
                PathParameters::Down(steps) => steps.as_mut_slice(),
                PathParameters::Up(step) => std::slice::from_mut(step),
            };
            for step in steps {
                kernels.push(&mut step.conv);
                norms.push(&mut step.norm);
            }
        }
        for post in &mut self.post {
            kernels.push(&mut post.conv);
            norms.push(&mut post.norm);
        }
        (kernels, norms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which the kernels add their gradients is the one in which a caller finds its layers.
    #[test]
    fn parts_stand_in_one_order() {
        let norm = |groups: usize| NormParameters { groups, affine: Some((vec![1.0], vec![2.0])) };
        let step = |at: f32| StepParameters { outputs: 1, conv: vec![at], norm: norm(at as usize) };
        let mut cell: CellParameters = CellParameters {
            branches: vec![[1, 2, 2], [1, 1, 1]],
            blocks: vec![
                BlockParameters {
                    inner: 1,
                    conv1: vec![1.0],
                    gn1: norm(1),
                    conv2: vec![2.0],
                    gn2: norm(2),
                    gn3: norm(3),
                },
                BlockParameters {
                    inner: 1,
                    conv1: vec![3.0],
                    gn1: norm(4),
                    conv2: vec![4.0],
                    gn2: norm(5),
                    gn3: norm(6),
                },
            ],
            paths: vec![
                vec![None, Some(PathParameters::Up(step(7.0)))],
                vec![Some(PathParameters::Down(vec![step(8.0), step(9.0)])), None],
            ],
            post: vec![PostParameters { conv: vec![10.0], norm: norm(10) }],
        };
        let kernels = |parts: Vec<&Vec<f32>>| parts.into_iter().map(|kernel| kernel[0]).collect::<Vec<_>>();
        let (found, norms) = cell.parts();
        assert_eq!(kernels(found), [1.0, 2.0, 3.0, 4.0, 7.0, 8.0, 9.0, 10.0]);
        let order: Vec<usize> = norms.iter().map(|norm| norm.groups).collect();
        assert_eq!(order, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let (kept, zeros) = (cell.clone(), cell.zeros_like());
        assert_eq!(kernels(zeros.parts().0), [0.0; 8]);
        assert!(zeros.parts().1.iter().all(|norm| norm.affine == Some((vec![0.0], vec![0.0]))));
        let (kernels, norms) = cell.parts_mut();
        for (mutable, shared) in kernels.iter().zip(kept.parts().0) {
            assert_eq!(&**mutable, shared);
        }
        for (mutable, shared) in norms.iter().zip(kept.parts().1) {
            assert_eq!(&**mutable, shared);
        }
    }
}
