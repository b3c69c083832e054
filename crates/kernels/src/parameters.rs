//! What a cell is made of, as plain numbers; and, in the same shape, the gradients of these numbers. And what a
//! head is made of.
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
pub struct BlockParameters {
    /// E·C.
    pub inner: usize,
    /// `[E·C, C, 3, 3]`.
    pub conv1: Vec<f32>,
    /// Of E·C channels.
    pub gn1: NormParameters,
    /// `[C, E·C, 3, 3]`.
    pub conv2: Vec<f32>,
    /// Of C channels.
    pub gn2: NormParameters,
    /// Of C channels.
    pub gn3: NormParameters,
}

/// A convolution and a normalisation on the way from one branch to another.
#[derive(Debug, Clone, PartialEq)]
pub struct StepParameters {
    /// Channels after it.
    pub outputs: usize,
    /// `[Cout, Cin, 3, 3]` in a downward path, `[Cout, Cin, 1, 1]` in an upward one.
    pub conv: Vec<f32>,
    /// Of Cout channels.
    pub norm: NormParameters,
}

/// The way from one branch to another.
#[derive(Debug, Clone, PartialEq)]
pub enum PathParameters {
    /// To a coarser branch: each step halves the resolution; ReLU between steps.
    Down(Vec<StepParameters>),
    /// To a finer branch: 1×1 convolution, normalisation, nearest-neighbour upsampling.
    Up(StepParameters),
}

/// What follows the sum over branches: ReLU, 1×1 convolution, normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct PostParameters {
    /// `[C, C, 1, 1]`.
    pub conv: Vec<f32>,
    /// Of C channels.
    pub norm: NormParameters,
}

/// A whole cell.
#[derive(Debug, Clone, PartialEq)]
pub struct CellParameters {
    /// C, H, W of each branch; each half as high and wide as the one before.
    pub branches: Vec<[usize; 3]>,
    /// One per branch.
    pub blocks: Vec<BlockParameters>,
    /// `paths[i][j]` leads from branch j to branch i, `None` where i = j. Empty with one branch.
    pub paths: Vec<Vec<Option<PathParameters>>>,
    /// One per branch. Empty with one branch.
    pub post: Vec<PostParameters>,
}

/// A convolution with a bias: one with a batch normalisation, once that is folded in.
#[derive(Debug, Clone, PartialEq)]
pub struct BiasedConv {
    /// `[Cout, Cin, k, k]`.
    pub kernel: Vec<f32>,
    /// `[Cout]`.
    pub bias: Vec<f32>,
}

/// A convolution with a batch normalisation that is not folded in, as in training.
#[derive(Debug, Clone, PartialEq)]
pub struct NormedConv {
    /// Cout.
    pub outputs: usize,
    /// `[Cout, Cin, k, k]`.
    pub kernel: Vec<f32>,
    /// γ and β, each `[Cout]`, when affine.
    pub affine: Option<(Vec<f32>, Vec<f32>)>,
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

/// A bottleneck: ReLU after each convolution, the last one's after the shortcut is added.
#[derive(Debug, Clone, PartialEq)]
pub struct BottleneckParameters<C> {
    /// 1×1.
    pub conv1: C,
    /// 3×3.
    pub conv2: C,
    /// 1×1.
    pub conv3: C,
    /// 1×1; `None` where the input itself is added.
    pub shortcut: Option<C>,
}

/// A whole head, of [`BiasedConv`] in evaluation and of [`NormedConv`] in training.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadParameters<C> {
    /// C, H, W of each branch; each half as high and wide as the one before.
    pub branches: Vec<[usize; 3]>,
    /// One per branch.
    pub bottlenecks: Vec<BottleneckParameters<C>>,
    /// 3×3 of stride 2, from each branch but the last to the next; ReLU after it.
    pub down: Vec<C>,
    /// 1×1; ReLU after it, then the mean over pixels.
    pub last: C,
    /// Weights `[K, C]` and biases `[K]` of the classifier.
    pub classifier: (Vec<f32>, Vec<f32>),
}

/// A convolution of a stem: ReLU after it.
#[derive(Debug, Clone, PartialEq)]
pub struct StemConv<C> {
    /// k: 1 or 3.
    pub size: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Weights, and what follows them.
    pub conv: C,
}

/// A whole stem, of [`BiasedConv`] in evaluation and of [`NormedConv`] in training.
#[derive(Debug, Clone, PartialEq)]
pub struct StemParameters<C> {
    /// C, H, W of an image.
    pub image: [usize; 3],
    /// One after another.
    pub convs: Vec<StemConv<C>>,
}

impl<C> HeadParameters<C> {
    /// The convolutions in a fixed order: of each branch those of its bottleneck, its shortcut and the way to it;
    /// then the last one.
    pub fn convs(&self) -> Vec<&C> {
        let mut convs = Vec::new();
        for (i, BottleneckParameters { conv1, conv2, conv3, shortcut }) in self.bottlenecks.iter().enumerate()
        {
            convs.extend([conv1, conv2, conv3]);
            convs.extend(shortcut);
            if i > 0 {
                convs.push(&self.down[i - 1]);
            }
        }
        convs.push(&self.last);
        convs
    }

    /// The same head of other convolutions.
    pub fn map<D>(&self, f: impl Fn(&C) -> D) -> HeadParameters<D> {
        let bottleneck = |of: &BottleneckParameters<C>| BottleneckParameters {
            conv1: f(&of.conv1),
            conv2: f(&of.conv2),
            conv3: f(&of.conv3),
            shortcut: of.shortcut.as_ref().map(&f),
        };
        HeadParameters {
            branches: self.branches.clone(),
            bottlenecks: self.bottlenecks.iter().map(bottleneck).collect(),
            down: self.down.iter().map(&f).collect(),
            last: f(&self.last),
            classifier: self.classifier.clone(),
        }
    }
}

impl<C> StemParameters<C> {
    /// Whether there are kernels for it: strides must divide what they halve.
    pub fn supported(&self) -> bool {
        let [_, mut height, mut width] = self.image;
        self.convs.iter().all(|&StemConv { size, stride, .. }| {
            let fits = height.is_multiple_of(stride) && width.is_multiple_of(stride);
            (height, width) = (height / stride, width / stride);
            fits && matches!((size, stride), (1 | 3, 1) | (3, 2))
        })
    }

    /// The same stem of other convolutions.
    pub fn map<D>(&self, f: impl Fn(&C) -> D) -> StemParameters<D> {
        let conv = |of: &StemConv<C>| StemConv { size: of.size, stride: of.stride, conv: f(&of.conv) };
        StemParameters { image: self.image, convs: self.convs.iter().map(conv).collect() }
    }
}

impl StemParameters<NormedConv> {
    /// Length I of an injection.
    pub fn injection_dim(&self) -> usize {
        let [channels, height, width] = self.image;
        let strides: usize = self.convs.iter().map(|of| of.stride).product();
        let channels = self.convs.last().map_or(channels, |of| of.conv.outputs);
        channels * (height / strides) * (width / strides)
    }
}

impl NormParameters {
    fn fill_zero(&mut self) {
        if let Some((weight, bias)) = &mut self.affine {
            weight.fill(0.0);
            bias.fill(0.0);
        }
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

impl StepParameters {
    fn fill_zero(&mut self) {
        self.conv.fill(0.0);
        self.norm.fill_zero();
    }
}

impl CellParameters {
    /// The same shapes, all numbers zero: where gradients are added up.
    pub fn zeros_like(&self) -> Self {
        let mut zeros = self.clone();
        for block in &mut zeros.blocks {
            block.conv1.fill(0.0);
            block.conv2.fill(0.0);
            block.gn1.fill_zero();
            block.gn2.fill_zero();
            block.gn3.fill_zero();
        }
        for path in zeros.paths.iter_mut().flatten().flatten() {
            match path {
                PathParameters::Down(steps) => steps.iter_mut().for_each(StepParameters::fill_zero),
                PathParameters::Up(step) => step.fill_zero(),
            }
        }
        for post in &mut zeros.post {
            post.conv.fill(0.0);
            post.norm.fill_zero();
        }
        zeros
    }

    /// Kernels and normalisations in a fixed order: that of the cell's own.
    pub(crate) fn parts_mut(&mut self) -> (Vec<&mut Vec<f32>>, Vec<&mut NormParameters>) {
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
