//! Convolutions, their data gradients and their weight gradients, as walks over pixels.
//!
//! Every one of them is the same sum: a result at a pixel is a sum over taps and channels of inputs at that
//! pixel moved by the tap, times weights. What differs is which pixels read where ([`Walk`]) and how the
//! weights are ordered ([`Packed`]). Stride 2 reads every other pixel. The data gradient of stride 1 has its
//! taps flipped and its weights transposed; that of stride 2 falls into four such sums, one for each parity
//! of the pixel's row and column. One by one, only the pixels of even row and column have any.

use std::ops::Range;

use pulp::{Arch, Simd};

use crate::convolution::tile::{InTiles, Rows, Tiled, gather};
use crate::image::plane::{LANES, Plane};

/// Weights of one tile pass stay in the first level cache up to so many terms.
const TERMS: usize = 320;

/// Pixels that share their taps.
#[derive(Debug, Clone)]
struct Group {
    /// Input and output offset of each pixel.
    pixels: Vec<(usize, usize)>,
    /// The input's offset of each tap.
    taps: Vec<usize>,
    /// The weights of each tap: index into the kernel's k·k taps, row by row.
    kernel: Vec<usize>,
    /// One more than the largest offset of an input's first channel.
    input_end: usize,
    /// One more than the largest offset of an output's first channel.
    output_end: usize,
}

impl Group {
    fn new(pixels: Vec<(usize, usize)>, taps: Vec<usize>, kernel: Vec<usize>) -> Self {
        let last = |offsets: &mut dyn Iterator<Item = usize>| offsets.max().map_or(0, |last| last + 1);
        let reach = last(&mut taps.iter().copied()).saturating_sub(1);
        Self {
            input_end: last(&mut pixels.iter().map(|&(input, _)| input)) + reach,
            output_end: last(&mut pixels.iter().map(|&(_, output)| output)),
            pixels,
            taps,
            kernel,
        }
    }
}

/// Which pixels read where: the geometry of a convolution or of its data gradient.
#[derive(Debug, Clone)]
pub(crate) struct Walk(Vec<Group>);

impl Walk {
    /// A convolution with a k×k kernel (1 or 3) and a stride, from `x` to `y`. Three by three wants a
    /// bordered input.
    pub fn forward(kernel: usize, stride: usize, x: Plane, y: Plane) -> Self {
        assert!(kernel == 1 || (kernel == 3 && x.border() == 1));
        assert_eq!([x.height, x.width].map(|side| side.div_ceil(stride)), [y.height, y.width]);
        let corner = |row: usize, column: usize| match kernel {
            1 => x.offset(row * stride, column * stride),
            _ => x.raw_offset(row * stride, column * stride),
        };
        let pixels = (0..y.height)
            .flat_map(|row| (0..y.width).map(move |column| (row, column)))
            .map(|(row, column)| (corner(row, column), y.offset(row, column)))
            .collect();
        let taps = (0..kernel).flat_map(|dy| (0..kernel).map(move |dx| x.raw_offset(dy, dx))).collect();
        Self(vec![Group::new(pixels, taps, (0..kernel * kernel).collect())])
    }

    /// Its data gradient, from the cotangent `u` of the output to the cotangent `dx` of the input.
    pub fn backward(kernel: usize, stride: usize, u: Plane, dx: Plane) -> Self {
        if stride == 1 {
            let Self(mut groups) = Self::forward(kernel, 1, u, dx);
            groups[0].kernel.reverse();
            return Self(groups);
        }
        assert_eq!(stride, 2);
        assert_eq!([dx.height, dx.width].map(|side| side.div_ceil(2)), [u.height, u.width]);
        if kernel == 1 {
            // Only even pixels are read.
            let pixels = (0..u.height)
                .flat_map(|row| (0..u.width).map(move |column| (row, column)))
                .map(|(row, column)| (u.offset(row, column), dx.offset(2 * row, 2 * column)))
                .collect();
            return Self(vec![Group::new(pixels, vec![0], vec![0])]);
        }
        assert!(kernel == 3 && u.border() == 1);
        // Row 2y − 1 + d of the input is read by row y of the output through tap row d. So an even row 2r
        // is read by row r through tap 1; an odd row 2r + 1 by row r + 1 through tap 0 and by r through 2.
        let reads = |parity: usize| match parity {
            0 => &[(0, 1)][..],
            _ => &[(1, 0), (0, 2)],
        };
        let groups = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(odd_row, odd_column)| {
            let pixels: Vec<(usize, usize)> = (0..u.height)
                .flat_map(|row| (0..u.width).map(move |column| (row, column)))
                .filter(|(row, column)| 2 * row + odd_row < dx.height && 2 * column + odd_column < dx.width)
                .map(|(row, column)| {
                    (u.offset(row, column), dx.offset(2 * row + odd_row, 2 * column + odd_column))
                })
                .collect();
            let (taps, kernel) = reads(odd_row)
                .iter()
                .flat_map(|&(dy, ky)| {
                    reads(odd_column).iter().map(move |&(dx, kx)| (u.raw_offset(dy, dx), ky * 3 + kx))
                })
                .unzip();
            Group::new(pixels, taps, kernel)
        });
        // In images one pixel high or wide, some parities do not occur.
        Self(groups.into_iter().filter(|group| !group.pixels.is_empty()).collect())
    }

    /// The pixels and taps of a forward walk.
    pub fn only(&self) -> (&[(usize, usize)], &[usize]) {
        (&self.0[0].pixels, &self.0[0].taps)
    }
}

/// Weights in the order in which a walk meets them: `[panel, tap, channel, LANES outputs]`, outputs beyond the
/// last zero.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    data: Vec<f32>,
    channels: usize,
    outputs: usize,
    taps: usize,
    panels: usize,
}

impl Packed {
    /// Packs a kernel `[Cout, Cin, k, k]` for a walk; transposed, its outputs are the kernel's inputs.
    pub fn new(kernel: &[f32], [output, input, area]: [usize; 3], walk: &Walk, transposed: bool) -> Self {
        assert_eq!(kernel.len(), output * input * area, "a kernel [{output}, {input}, k, k], k·k = {area}");
        let order: Vec<usize> = walk.0.iter().flat_map(|group| &group.kernel).copied().collect();
        let (channels, outputs) = if transposed { (output, input) } else { (input, output) };
        let (per_channel, per_output) = if transposed { (input * area, area) } else { (area, input * area) };
        let panels = outputs.div_ceil(LANES);
        let mut data = vec![0.0; panels * order.len() * channels * LANES];
        let panel_len = order.len() * channels * LANES;
        for (panel, data) in data.chunks_exact_mut(panel_len).enumerate() {
            let first = panel * LANES;
            let present = LANES.min(outputs - first);
            for (&tap, data) in order.iter().zip(data.chunks_exact_mut(channels * LANES)) {
                for (channel, column) in data.chunks_exact_mut(LANES).enumerate() {
                    let from = first * per_output + channel * per_channel + tap;
                    for (n, weight) in column[..present].iter_mut().enumerate() {
                        *weight = kernel[from + n * per_output];
                    }
                }
            }
        }
        Self { data, channels, outputs, taps: order.len(), panels }
    }
}

/// Images of several examples, one every `stride` floats.
pub(crate) struct Images<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

/// Results of several examples, one every `stride` floats.
pub(crate) struct ImagesMut<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
}

/// y (+)= the sums of `walk` with `weights` over x, for `count` examples.
///
/// # Panics
///
/// If an image is too short for the walk.
pub(crate) fn convolve(
    arch: Arch,
    walk: &Walk,
    weights: &Packed,
    x: Images<'_>,
    y: ImagesMut<'_>,
    count: usize,
    accumulate: bool,
) {
    assert_eq!(walk.0.iter().map(|group| group.taps.len()).sum::<usize>(), weights.taps);
    if count == 0 {
        return;
    }
    let mut first = 0;
    for group in &walk.0 {
        let taps = first..first + group.taps.len();
        first = taps.end;
        // What the tiles rely on: no read or write beyond the last example's last pixel.
        let last = count - 1;
        assert!(group.input_end - 1 + weights.channels + last * x.stride <= x.data.len());
        assert!(group.output_end - 1 + weights.panels * LANES + last * y.stride <= y.data.len());
        assert_eq!(weights.data.len(), weights.panels * weights.taps * weights.channels * LANES);
        let data = &mut *y.data;
        let y_stride = y.stride;
        arch.dispatch(InTiles(Pass { group, taps, weights, x: &x, y: data, y_stride, count, accumulate }));
    }
}

/// One group of a walk.
struct Pass<'a> {
    group: &'a Group,
    taps: Range<usize>,
    weights: &'a Packed,
    x: &'a Images<'a>,
    y: &'a mut [f32],
    y_stride: usize,
    count: usize,
    accumulate: bool,
}

impl Tiled for Pass<'_> {
    type Output = ();

    /// Rows are pixels.
    #[inline(always)]
    fn run<S: Simd, const M: usize, const P: usize, const V: usize>(mut self, simd: S) {
        let mut panel = 0;
        while panel + P <= self.weights.panels {
            self.panels::<S, M, P, V>(simd, panel);
            panel += P;
        }
        while panel < self.weights.panels {
            // Padding beyond the first vector stays zero.
            match (S::F32_LANES, self.weights.outputs - panel * LANES <= S::F32_LANES) {
                (8, true) => self.panels::<S, 12, 1, 1>(simd, panel),
                (_, true) => self.panels::<S, M, 1, 1>(simd, panel),
                _ => self.panels::<S, M, 1, V>(simd, panel),
            }
            panel += 1;
        }
    }
}

impl Pass<'_> {
    #[inline(always)]
    fn panels<S: Simd, const M: usize, const P: usize, const V: usize>(&mut self, simd: S, panel: usize) {
        let Packed { channels, taps: all, .. } = *self.weights;
        let taps = self.taps.len();
        if channels >= TERMS {
            let parts = channels.div_ceil(TERMS);
            for tap in 0..taps {
                for part in 0..parts {
                    let from = channels * part / parts;
                    let to = channels * (part + 1) / parts;
                    let accumulate = self.accumulate || tap + part > 0;
                    self.block::<S, M, P, V>(simd, panel, all, tap..tap + 1, from..to, accumulate);
                }
            }
        } else {
            let step = (TERMS / channels).max(1);
            // Evenly, so that the last block is not a stub.
            let step = taps.div_ceil(taps.div_ceil(step));
            for tap in (0..taps).step_by(step) {
                let end = (tap + step).min(taps);
                let accumulate = self.accumulate || tap > 0;
                self.block::<S, M, P, V>(simd, panel, all, tap..end, 0..channels, accumulate);
            }
        }
    }

    /// All pixels, for some panels, taps and channels.
    #[inline(always)]
    fn block<S: Simd, const M: usize, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        panel: usize,
        all_taps: usize,
        taps: Range<usize>,
        channels: Range<usize>,
        accumulate: bool,
    ) {
        let group = self.group;
        let panel_stride = all_taps * self.weights.channels * LANES;
        let start = panel * panel_stride
            + ((self.taps.start + taps.start) * self.weights.channels + channels.start) * LANES;
        let weights = &self.weights.data[start..];
        let total = self.count * group.pixels.len();
        let mut pixels = (0..self.count).flat_map(|example| group.pixels.iter().map(move |p| (example, p)));
        let mut done = 0;
        while done < total {
            let count = M.min(total - done);
            let mut rows = Rows { input: [0; M], output: [0; M], count };
            for i in 0..M {
                if i < count
                    && let Some((example, (input, output))) = pixels.next()
                {
                    rows.input[i] = input + example * self.x.stride + channels.start;
                    rows.output[i] = output + example * self.y_stride + panel * LANES;
                } else {
                    (rows.input[i], rows.output[i]) = (rows.input[i - 1], rows.output[i - 1]);
                }
            }
            tile::<S, M, P, V>(
                simd,
                self.x.data,
                weights,
                panel_stride,
                &group.taps[taps.clone()],
                channels.len(),
                &rows,
                self.y,
                accumulate,
            );
            done += count;
        }
    }
}

/// The one call of the unsafe tile.
#[allow(unsafe_code, clippy::too_many_arguments)]
#[inline(always)]
fn tile<S: Simd, const M: usize, const P: usize, const V: usize>(
    simd: S,
    x: &[f32],
    weights: &[f32],
    panel_stride: usize,
    taps: &[usize],
    channels: usize,
    rows: &Rows<M>,
    y: &mut [f32],
    accumulate: bool,
) {
    debug_assert!({
        let reach = taps.iter().copied().max().unwrap_or(0) + channels;
        rows.input.iter().all(|input| input + reach <= x.len())
    });
    debug_assert!(rows.output.iter().all(|output| output + P * LANES <= y.len()));
    debug_assert!((P - 1) * panel_stride + taps.len() * channels * LANES <= weights.len());
    // SAFETY: `convolve` has checked the largest offsets of the walk against both images and the weights'
    // length against their shape; `y` is borrowed exclusively.
    unsafe {
        gather::<S, M, P, V>(
            simd,
            x.as_ptr(),
            weights.as_ptr(),
            panel_stride,
            taps,
            channels,
            rows,
            y.as_mut_ptr(),
            accumulate,
        )
    }
}
