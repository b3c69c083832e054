//! Tests of what callers cannot see: every instruction set that the machine has, and the adjoint identities of
//! single convolutions. Whole cells are compared with the composed cell by the tests of `equipoise`.
//!
//! They run under Miri, which knows no vector extensions and so takes the scalar path.

use pulp::Arch;

use crate::convolution::direct::{Images, ImagesMut, Packed, Walk, convolve};
use crate::convolution::gradient::{Job, accumulate};
use crate::convolution::points::Scheme;
use crate::convolution::wide::Share;
use crate::convolution::winograd::Winograd;
use crate::convolution::{Counter, Planes};
use crate::image::plane::Plane;
use crate::image::stack::Stack;
use crate::{
    BlockParameters, Cell, CellParameters, Convolutions, NormParameters, PathParameters, PostParameters,
    StepParameters,
};

#[derive(Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Images whose borders and padding channels are zero.
    fn images(&mut self, plane: Plane, count: usize) -> Stack {
        let mut stack = Stack::of(plane, count);
        for example in 0..count {
            for y in 0..plane.height {
                for x in 0..plane.width {
                    let at = plane.offset(y, x);
                    stack.at_mut(example)[at..at + plane.channels].fill_with(|| self.next());
                }
            }
        }
        stack
    }
}

/// Every instruction set that pulp and this machine know.
pub(crate) fn archs() -> Vec<Arch> {
    #[allow(unused_mut)]
    let mut archs = vec![Arch::Scalar, Arch::new()];
    #[cfg(target_arch = "x86_64")]
    archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
    archs
}

/// Size, stride, channels in and out, height and width of the output.
const SHAPES: [(usize, usize, [usize; 2], [usize; 2]); 17] = [
    (3, 1, [3, 5], [4, 3]),
    (3, 1, [20, 40], [3, 2]),
    (3, 2, [4, 17], [2, 3]),
    (3, 2, [33, 6], [1, 1]),
    (3, 1, [20, 40], [8, 4]),
    (3, 1, [70, 100], [4, 4]),
    (3, 1, [33, 17], [2, 6]),
    (3, 1, [130, 6], [8, 8]),
    (3, 2, [20, 40], [8, 4]),
    (3, 2, [17, 100], [4, 4]),
    (3, 2, [6, 350], [2, 6]),
    (3, 2, [40, 33], [8, 8]),
    (1, 1, [6, 50], [2, 2]),
    (1, 1, [1, 1], [1, 1]),
    (1, 2, [6, 50], [2, 2]),
    (1, 2, [17, 8], [3, 2]),
    (3, 1, [330, 16], [1, 2]),
];

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn convolutions_are_the_sums_that_define_them() {
    let mut random = Random(1);
    for (size, stride, [input, output], [height, width]) in SHAPES {
        let x_plane = Plane::bordered([input, height * stride, width * stride]);
        let y_plane = Plane::plain([output, height, width]);
        let kernel = random.numbers(output * input * size * size);
        let walk = Walk::forward(size, stride, x_plane, y_plane);
        let packed = Packed::new(&kernel, [output, input, size * size], &walk, false);
        let x = random.images(x_plane, 3);
        for arch in archs() {
            let mut y = Stack::of(y_plane, 3);
            convolve(arch, &walk, &packed, x.images(0), y.images_mut(0), 3, false);
            for example in 0..3 {
                for row in 0..height {
                    for column in 0..width {
                        for n in 0..output {
                            let mut sum = 0.0;
                            for tap in 0..size * size {
                                let at = match size {
                                    3 => {
                                        x_plane.raw_offset(row * stride + tap / 3, column * stride + tap % 3)
                                    }
                                    _ => x_plane.offset(row * stride, column * stride),
                                };
                                for k in 0..input {
                                    let weight = kernel[(n * input + k) * size * size + tap];
                                    sum += f64::from(weight) * f64::from(x.at(example)[at + k]);
                                }
                            }
                            let found = y.at(example)[y_plane.offset(row, column) + n];
                            assert!(
                                (f64::from(found) - sum).abs() < 1e-4,
                                "{size} {stride} {input} {output}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// ⟨u, conv(x)⟩ = ⟨convᵀ(u), x⟩ = ⟨kernel's gradient, kernel⟩.
#[test]
fn gradients_of_convolutions_are_adjoint() {
    let mut random = Random(2);
    for (size, stride, [input, output], [height, width]) in SHAPES {
        let kernel = random.numbers(output * input * size * size);
        let small = Plane::plain([output, height, width]);
        let planes = Planes {
            x: Plane::bordered([input, height * stride, width * stride]),
            y: small,
            u: if size == 3 { Plane::bordered([output, height, width]) } else { small },
            dx: Plane::bordered([input, height * stride, width * stride]),
        };
        let x = random.images(planes.x, 2);
        let u = random.images(planes.u, 2);
        for arch in archs() {
            let mut counter = Counter::new(Convolutions::Winograd, usize::MAX);
            let conv = counter.conv(size, stride, &kernel, planes);
            let mut y = Stack::of(planes.y, 2);
            conv.apply(arch, x.images(0), y.images_mut(0), 2);
            let mut dx = Stack::of(planes.dx, 2);
            conv.pull_back(arch, u.images(0), dx.images_mut(0), 2, false);
            conv.pull_back(arch, u.images(0), dx.images_mut(0), 2, true);
            let mut gradient = vec![0.0; kernel.len()];
            let jobs = [Job { conv: &conv, chunks: vec![(&x, &u, 1), (&x, &u, 2)] }];
            accumulate(arch, &jobs, &mut [&mut gradient]);
            let mut forward = 0.0;
            let mut of_first = 0.0;
            for example in 0..2 {
                for row in 0..height {
                    let at = |plane: Plane, stack: &Stack| plane.row(stack.at(example), row).to_vec();
                    let term = dot(&at(planes.y, &y), &at(planes.u, &u));
                    forward += term;
                    of_first += if example == 0 { term } else { 0.0 };
                }
            }
            let backward = dot(dx.images(0).data, x.images(0).data) / 2.0;
            let scale = forward.abs().max(10.0);
            assert!((forward - backward).abs() < 1e-4 * scale, "{size} {stride}: {forward} {backward}");
            let expected = forward + of_first;
            let found = dot(&gradient, &kernel);
            assert!((found - expected).abs() < 1e-4 * scale, "{size} {stride}: {found} {expected}");
        }
    }
}

/// Channels in and out, height and width: tiles of 4×4 and of 2×2, several parts of channels, panels without a
/// partner, more tiles than are worked on at once.
const TILED: [([usize; 2], [usize; 2]); 7] = [
    ([3, 5], [8, 4]),
    ([20, 40], [4, 8]),
    ([17, 32], [4, 4]),
    ([6, 50], [6, 2]),
    ([330, 16], [8, 8]),
    ([33, 100], [2, 2]),
    ([48, 16], [16, 16]),
];

/// Applies a convolution of either kind to some images of a stack, from the given one on.
fn apply(
    conv: &Winograd,
    arch: Arch,
    (x, from): (&Stack, usize),
    (y, to): (&mut Stack, usize),
    count: usize,
    accumulate: bool,
) {
    let (x, y) = (x.images(from), y.images_mut(to));
    match conv.wide {
        false => conv.apply(arch, x, y, count, accumulate),
        true => conv.apply_to_all(arch, vec![Share { x, y, count }], accumulate),
    }
}

/// Forward and as a data gradient, against sums in double precision; and the error that this costs, which
/// `docs/performance.md` states: for uniform numbers, relative to the largest result, below 5e-6 on every instruction set.
#[test]
fn tiled_convolutions_are_the_sums_that_define_them() {
    let mut random = Random(5);
    for ([input, output], [height, width]) in TILED {
        let kernel = random.numbers(output * input * 9);
        for transposed in [false, true] {
            let (from, to) = if transposed { (output, input) } else { (input, output) };
            let x_plane = Plane::bordered([from, height, width]);
            let y_plane = Plane::bordered([to, height, width]);
            let x = random.images(x_plane, 3);
            let mut expected = vec![0.0; 3 * height * width * to];
            let places = (0..3 * height * width).map(|at| (at / (height * width), at % (height * width)));
            for ((example, pixel), sums) in places.zip(expected.chunks_exact_mut(to)) {
                for tap in 0..9 {
                    let at = x_plane.raw_offset(pixel / width + tap / 3, pixel % width + tap % 3);
                    for (n, sum) in sums.iter_mut().enumerate() {
                        for k in 0..from {
                            let weight = match transposed {
                                false => kernel[(n * input + k) * 9 + tap],
                                true => kernel[(k * input + n) * 9 + 8 - tap],
                            };
                            *sum += f64::from(weight) * f64::from(x.at(example)[at + k]);
                        }
                    }
                }
            }
            let largest = expected.iter().fold(0.0_f64, |largest, sum| largest.max(sum.abs()));
            for (arch, wide) in archs().into_iter().flat_map(|arch| [false, true].map(|wide| (arch, wide))) {
                let (shape, planes) = ([output, input, 9], [x_plane, y_plane]);
                let scheme = Scheme::at_stride_1([height, width], wide).unwrap();
                let conv = Winograd::new(arch, &kernel, shape, transposed, planes, scheme, wide);
                let mut y = Stack::of(y_plane, 3);
                apply(&conv, arch, (&x, 0), (&mut y, 0), 3, false);
                apply(&conv, arch, (&x, 1), (&mut y, 1), 1, true);
                let places = (0..3 * height * width).map(|at| (at / (height * width), at % (height * width)));
                for ((example, pixel), sums) in places.zip(expected.chunks_exact(to)) {
                    let at = y_plane.offset(pixel / width, pixel % width);
                    let times = if example == 1 { 2.0 } else { 1.0 };
                    for (found, sum) in y.at(example)[at..].iter().zip(sums) {
                        let error = (f64::from(*found) - times * sum).abs() / largest;
                        assert!(error < 5e-6, "{arch:?} {input} {output} {height} {width}: {error:e}");
                    }
                }
                // Nothing but the image is written to.
                let border = y_plane.len() - (height * width) * y_plane.stride();
                let zeros = y.at(2).iter().filter(|value| **value == 0.0).count();
                assert!(zeros >= border + height * width * (y_plane.stride() - to));
            }
        }
    }
}

/// To the bit: whether alone, with others, or cut into other blocks.
#[test]
fn tiled_examples_do_not_depend_on_their_batch() {
    let mut random = Random(6);
    for ([input, output], [height, width]) in TILED {
        let kernel = random.numbers(output * input * 9);
        let (x_plane, y_plane) =
            (Plane::bordered([input, height, width]), Plane::plain([output, height, width]));
        let x = random.images(x_plane, 32);
        for (arch, wide) in archs().into_iter().flat_map(|arch| [false, true].map(|wide| (arch, wide))) {
            let (shape, planes) = ([output, input, 9], [x_plane, y_plane]);
            let scheme = Scheme::at_stride_1([height, width], wide).unwrap();
            let conv = Winograd::new(arch, &kernel, shape, false, planes, scheme, wide);
            let mut whole = Stack::of(y_plane, 32);
            apply(&conv, arch, (&x, 0), (&mut whole, 0), 32, false);
            for (start, count) in [(0, 1), (31, 1), (7, 3), (13, 19)] {
                let mut part = Stack::of(y_plane, count);
                apply(&conv, arch, (&x, start), (&mut part, 0), count, false);
                for example in 0..count {
                    assert_eq!(part.at(example), whole.at(start + example));
                }
            }
        }
    }
}

/// Data gradients at stride 2, against direct ones; and to the bit, whether alone or with others.
#[test]
fn tiled_data_gradients_at_stride_2_are_the_direct_ones() {
    let mut random = Random(7);
    for ([input, output], [height, width]) in TILED {
        let kernel = random.numbers(output * input * 9);
        let planes = Planes {
            x: Plane::bordered([input, 2 * height, 2 * width]),
            y: Plane::plain([output, height, width]),
            u: Plane::bordered([output, height, width]),
            dx: Plane::plain([input, 2 * height, 2 * width]),
        };
        let u = random.images(planes.u, 19);
        for arch in archs() {
            let gradient = |convolutions: Convolutions| {
                let conv = Counter::new(convolutions, usize::MAX).conv(3, 2, &kernel, planes);
                let mut dx = random.clone().images(planes.dx, 19);
                conv.pull_back(arch, u.images(0), dx.images_mut(0), 19, true);
                for example in [0, 18] {
                    let mut alone = random.clone().images(planes.dx, 19);
                    conv.pull_back(arch, u.images(example), alone.images_mut(example), 1, true);
                    assert_eq!(alone.at(example), dx.at(example));
                }
                dx
            };
            let (found, expected) = (gradient(Convolutions::Winograd), gradient(Convolutions::Direct));
            let (found, expected) = (found.images(0).data, expected.images(0).data);
            let largest = expected.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            for (found, expected) in found.iter().zip(expected) {
                let error = (found - expected).abs() / largest;
                assert!(error < 5e-6, "{arch:?} {input} {output} {height} {width}: {error:e}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "input images")]
fn short_images_are_refused_by_tiles_too() {
    let (x, y) = (Plane::bordered([4, 4, 4]), Plane::plain([4, 4, 4]));
    let scheme = Scheme::at_stride_1([4, 4], false).unwrap();
    let conv = Winograd::new(Arch::new(), &[0.0; 4 * 4 * 9], [4, 4, 9], false, [x, y], scheme, false);
    let image = vec![0.0; x.len() - 16];
    let mut out = vec![0.0; y.len()];
    let (x, y) = (Images { data: &image, stride: x.len() }, ImagesMut { data: &mut out, stride: y.len() });
    conv.apply(Arch::new(), x, y, 1, false);
}

#[test]
#[should_panic(expected = "output images")]
fn short_images_are_refused_by_wide_convolutions() {
    let (x, y) = (Plane::bordered([4, 4, 4]), Plane::plain([4, 4, 4]));
    let scheme = Scheme::at_stride_1([4, 4], true).unwrap();
    let conv = Winograd::new(Arch::new(), &[0.0; 4 * 4 * 9], [4, 4, 9], false, [x, y], scheme, true);
    let image = vec![0.0; x.len()];
    let mut out = vec![0.0; y.len() - 16];
    let (x, y) = (Images { data: &image, stride: x.len() }, ImagesMut { data: &mut out, stride: y.len() });
    conv.apply_to_all(Arch::new(), vec![Share { x, y, count: 1 }], false);
}

#[test]
#[should_panic(expected = "input_end")]
fn short_images_are_refused() {
    let (x, y) = (Plane::bordered([4, 4, 4]), Plane::plain([4, 4, 4]));
    let walk = Walk::forward(3, 1, x, y);
    let packed = Packed::new(&[0.0; 4 * 4 * 9], [4, 4, 9], &walk, false);
    let image = vec![0.0; x.len() - 16];
    let mut out = vec![0.0; y.len()];
    let (x, y) = (Images { data: &image, stride: x.len() }, ImagesMut { data: &mut out, stride: y.len() });
    convolve(Arch::new(), &walk, &packed, x, y, 1, false);
}

/// Two branches, 6 and 10 channels.
fn parameters() -> CellParameters {
    let mut random = Random(3);
    let branches = vec![[6, 8, 8], [10, 4, 4]];
    let norm = |channels: usize, random: &mut Random| NormParameters {
        groups: 2,
        affine: Some((random.numbers(channels), random.numbers(channels))),
    };
    let blocks = branches
        .iter()
        .map(|&[c, _, _]| BlockParameters {
            inner: 3 * c,
            conv1: random.numbers(27 * c * c),
            gn1: norm(3 * c, &mut random),
            conv2: random.numbers(27 * c * c),
            gn2: norm(c, &mut random),
            gn3: norm(c, &mut random),
        })
        .collect();
    let mut step = |from: usize, to: usize, area: usize| StepParameters {
        outputs: to,
        conv: random.numbers(from * to * area),
        norm: norm(to, &mut random),
    };
    let paths = vec![
        vec![None, Some(PathParameters::Up(step(10, 6, 1)))],
        vec![Some(PathParameters::Down(vec![step(6, 10, 9)])), None],
    ];
    let post = branches
        .iter()
        .map(|&[c, _, _]| PostParameters {
            conv: random.numbers(c * c),
            norm: NormParameters { groups: 1, affine: None },
        })
        .collect();
    CellParameters { branches, blocks, paths, post }
}

/// Value, products with respect to state and injection, and the gradient of the first block's second kernel; under a
/// dropout mask.
fn everything(cell: &Cell, count: usize) -> [Vec<f32>; 4] {
    let mut random = Random(4);
    let state = random.numbers(count * cell.state_dim());
    let injection = random.numbers(count * cell.injection_dim());
    let u = random.numbers(state.len());
    let mask: Vec<f32> = (0..count * cell.mask_dim()).map(|i| [1.5, 0.0, 1.5][i % 3]).collect();
    let mut value = vec![0.0; state.len()];
    let tape = cell.linearize_masked(&state, &injection, Some(&mask), &mut value);
    let mut alone = vec![0.0; state.len()];
    cell.forward_masked(&state, &injection, Some(&mask), &mut alone);
    assert_eq!(value, alone);
    cell.forward(&state, &injection, &mut alone);
    assert_ne!(value, alone);
    let (mut at_state, mut at_injection) = (vec![0.0; state.len()], vec![0.0; injection.len()]);
    let mut gradients = parameters().zeros_like();
    tape.vjp_parameters(&u, &mut at_state, &mut at_injection, &mut gradients);
    let mut again = vec![0.0; state.len()];
    tape.vjp(&u, &mut again, None);
    assert_eq!(at_state, again);
    [value, at_state, at_injection, gradients.blocks.swap_remove(0).conv2]
}

/// Convolutions, and weights from which on they are wide: all of them, or those of the coarse branch alone.
const WAYS: [(Convolutions, usize); 4] = [
    (Convolutions::Winograd, usize::MAX),
    (Convolutions::Winograd, 0),
    (Convolutions::Winograd, 2000),
    (Convolutions::Direct, 0),
];

#[test]
fn instruction_sets_agree() {
    let expected = everything(&Cell::new(&parameters(), Convolutions::Winograd), 2);
    for (arch, (convolutions, wide_from)) in archs().into_iter().flat_map(|arch| WAYS.map(|way| (arch, way)))
    {
        let found = everything(&Cell::with(&parameters(), convolutions, arch, wide_from), 2);
        for (found, expected) in found.iter().zip(&expected) {
            let difference: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
            let error = (dot(&difference, &difference) / dot(expected, expected)).sqrt();
            assert!(error < 1e-5, "{arch:?} {convolutions:?} {wide_from}: {error}");
        }
    }
}

/// To the bit, sums over the batch included.
#[test]
#[cfg_attr(miri, ignore = "starts threads; what they do is tested above")]
fn threads_change_nothing() {
    for (convolutions, wide_from) in WAYS {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let cell = Cell::with(&parameters(), convolutions, Arch::new(), wide_from);
            pool.install(|| everything(&cell, 7))
        };
        let expected = run(1);
        for threads in [2, 3, 7] {
            assert_eq!(run(threads), expected, "{threads} threads");
        }
    }
}

/// To the bit, in chunks of any size.
#[test]
#[cfg_attr(miri, ignore = "starts threads; what they do is tested above")]
fn batches_change_nothing() {
    for (convolutions, wide_from) in WAYS {
        batches_change_nothing_in(&Cell::with(&parameters(), convolutions, Arch::new(), wide_from));
    }
}

fn batches_change_nothing_in(cell: &Cell) {
    let mut random = Random(8);
    let numbers = |each: usize, random: &mut Random| random.numbers(32 * each);
    let (state, injection) =
        (numbers(cell.state_dim(), &mut random), numbers(cell.injection_dim(), &mut random));
    let u = numbers(cell.state_dim(), &mut random);
    let run = |threads: usize, first: usize, count: usize| {
        let rows = |data: &[f32]| {
            let each = data.len() / 32;
            data[first * each..(first + count) * each].to_vec()
        };
        let (mut value, mut at_state) = (rows(&state), rows(&state));
        let mut at_injection = rows(&injection);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let tape = cell.linearize(&rows(&state), &rows(&injection), &mut value);
            tape.vjp(&rows(&u), &mut at_state, Some(&mut at_injection));
        });
        [value, at_state, at_injection]
    };
    let whole = run(1, 0, 32);
    for (threads, first, count) in [(2, 0, 32), (1, 4, 3), (2, 4, 3), (1, 31, 1), (2, 0, 1), (2, 9, 23)] {
        for (part, whole) in run(threads, first, count).iter().zip(&whole) {
            let each = whole.len() / 32;
            assert_eq!(part[..], whole[first * each..(first + count) * each]);
        }
    }
}

/// At z = 0 the hidden layers are those of any image, and are computed once: the same to the bit as a linearisation, which
/// computes them for every example, also where some examples of a batch are at z = 0 and others are not.
#[test]
fn evaluations_at_zero_are_those_of_a_linearisation() {
    for (convolutions, wide_from) in WAYS {
        let cell = Cell::with(&parameters(), convolutions, Arch::new(), wide_from);
        let count = if cfg!(miri) { 2 } else { 21 };
        let mut random = Random(9);
        let injection = random.numbers(count * cell.injection_dim());
        let mask: Vec<f32> = (0..count * cell.mask_dim()).map(|i| [1.5, 0.0, 1.5][i % 3]).collect();
        let elsewhere = random.numbers(cell.state_dim());
        for moved in [None, Some(0), Some(count - 1)] {
            let mut state = vec![0.0; count * cell.state_dim()];
            if let Some(example) = moved {
                state[example * cell.state_dim()..][..cell.state_dim()].copy_from_slice(&elsewhere);
            }
            for mask in [None, Some(&mask[..])] {
                let (mut value, mut alone) = (state.clone(), state.clone());
                cell.linearize_masked(&state, &injection, mask, &mut value);
                cell.forward_masked(&state, &injection, mask, &mut alone);
                let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&value), bits(&alone), "{convolutions:?} {wide_from} {moved:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "a mask of 16 factors for each of 1 examples")]
fn masks_of_the_wrong_length_are_refused() {
    let cell = Cell::new(&parameters(), Convolutions::Winograd);
    let mut out = vec![0.0; cell.state_dim()];
    cell.forward_masked(
        &vec![0.0; cell.state_dim()],
        &vec![0.0; cell.injection_dim()],
        Some(&[1.0]),
        &mut out,
    );
}

#[test]
#[should_panic(expected = "an output of")]
fn outputs_of_the_wrong_length_are_refused() {
    let cell = Cell::new(&parameters(), Convolutions::Winograd);
    let mut out = vec![0.0; cell.state_dim() + 1];
    cell.forward(&vec![0.0; cell.state_dim()], &vec![0.0; cell.injection_dim()], &mut out);
}
