//! Times the cell of MDEQ-small and MDEQ-large, and ResNet-18 of width 8 and 64: evaluation, linearisation, vector-Jacobian
//! products, passes in training.
//!
//! `cargo run --release -p equipoise-kernels --example timings [BATCH] [REPETITIONS] [CASE]`
//!
//! With a case, such as "mdeq-large vjp", only that: for a profiler. Under `RUSTFLAGS="-C symbol-mangling-version=v0"`,
//! `perf record` and `perf report` name the pass that each sample was in.
//!
//! Prints the minimum and the median of each in milliseconds, and GFLOP/s (products and sums of the
//! convolutions alone) against the fused multiply-add peak that this machine shows at the same time.

use std::hint::black_box;
use std::time::Instant;

use equipoise_kernels::{
    BatchNormParameters, BiasedConv, BlockParameters, Cell, CellParameters, Convolutions, Map, Network,
    NetworkParameters, NetworkPass, NormParameters, OutputParameters, PathParameters, PostParameters,
    StepParameters, Term, TrainedConv, TrainingMemory,
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |or: usize| arguments.next().map_or(or, |argument| argument.parse().expect("a number"));
    let (batch, repetitions) = (number(32), number(15));
    let only = arguments.next();
    let threads = rayon::current_num_threads();
    let peak = peak();
    println!("{threads} threads, batch {batch}, peak {peak:.0} GFLOP/s");
    let small = parameters(&[16, 32], 16, 3, 4);
    let large = parameters(&[32, 64, 128, 256], 32, 5, 8);
    for (name, parameters) in [("mdeq-small", small), ("mdeq-large", large)] {
        if only.as_ref().is_none_or(|only| only.starts_with(name)) {
            time(name, &parameters, batch, repetitions, only.as_deref());
        }
    }
    for width in [8, 64] {
        let name = format!("resnet18-{width}");
        if only.as_ref().is_none_or(|only| only.split(' ').next() == Some(&name)) {
            time_network(&name, &resnet18(width), batch, repetitions, only.as_deref());
        }
    }
}

/// Times a network.
fn time_network(
    name: &str,
    (parameters, terms): &(NetworkParameters, usize),
    batch: usize,
    repetitions: usize,
    only: Option<&str>,
) {
    let started = Instant::now();
    let network = Network::new(parameters, Convolutions::Winograd);
    println!("{name}: prepared in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let mut random = Random(7);
    let input = random.numbers(batch * network.input_dim(), 1.0);
    let cotangent = random.numbers(batch * network.output_dim(), 1.0);
    let (mut output, mut gradient) = (vec![0.0; cotangent.len()], vec![0.0; input.len()]);
    let work = 2.0 * (*terms * batch) as f64;
    let report = |what: &str, work: f64, run: &mut dyn FnMut()| {
        if only.is_none_or(|only| only == name || only == format!("{name} {what}")) {
            report(what, repetitions, work, run);
        }
    };
    report("forward", work, &mut || network.forward(&input, &mut output));
    report("linearize", work, &mut || drop(network.linearize(&input, &mut output)));
    report("linearize and vjp", 2.0 * work, &mut || {
        network.linearize(&input, &mut output).pull_back(&cotangent, &mut gradient);
    });
    let conv = |of: &BiasedConv| TrainedConv {
        outputs: of.bias.len(),
        kernel: of.kernel.clone(),
        norm: Some(BatchNormParameters { affine: Some((of.bias.clone(), of.bias.clone())) }),
    };
    let trained = parameters.map(conv, |_| BatchNormParameters::default());
    let memory = TrainingMemory::default();
    let pass =
        |output: &mut [f32]| NetworkPass::forward(&trained, Convolutions::Winograd, &memory, &input, output);
    report("training forward", work, &mut || drop(pass(&mut output)));
    report("training", 3.0 * work, &mut || drop(pass(&mut output).pull_back(&cotangent, None)));
}

/// A ResNet-18 of random weights for 32×32 colour images, and its products for one of them.
fn resnet18(width: usize) -> (NetworkParameters, usize) {
    let (mut random, mut terms) = (Random(1), 0);
    let mut conv = |from: usize, channels: [usize; 2], size: usize, stride: usize, side: usize| {
        let [input, output] = channels;
        let count = input * output * size * size;
        terms += count * side * side;
        let kernel = random.numbers(count, (2.0 / (input * size * size) as f32).sqrt());
        Term::conv(from, size, stride, BiasedConv { kernel, bias: vec![0.1; output] })
    };
    let last = 8 * width;
    let (weight, bias) = (vec![0.1; 10 * last], vec![0.0; 10]);
    let output = OutputParameters::Logits { window: [4, 4], weight, bias };
    let mut network = NetworkParameters::new(vec![[3, 32, 32]], output);
    let mut x = network.layer(vec![conv(0, [3, width], 3, 1, 32)], true);
    let mut input = width;
    for stage in 0..4 {
        let (output, side) = (width << stage, 32 >> stage);
        for _ in 0..2 {
            let stride = if input == output { 1 } else { 2 };
            let h = network.layer(vec![conv(x, [input, output], 3, stride, side)], true);
            let shortcut = match stride {
                1 => Term { from: x, map: Map::Same },
                _ => conv(x, [input, output], 1, 2, side),
            };
            x = network.layer(vec![conv(h, [output, output], 3, 1, side), shortcut], true);
            input = output;
        }
    }
    (network, terms)
}

fn time(name: &str, parameters: &CellParameters, batch: usize, repetitions: usize, only: Option<&str>) {
    let started = Instant::now();
    let cell = Cell::new(parameters, Convolutions::Winograd);
    println!("{name}: prepared in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let mut random = Random(7);
    let state = random.numbers(batch * cell.state_dim(), 1.0);
    let injection = random.numbers(batch * cell.injection_dim(), 1.0);
    let cotangent = random.numbers(state.len(), 1.0);
    let mut out = vec![0.0; state.len()];
    let mut at_injection = vec![0.0; injection.len()];
    let work = flops(parameters) * batch as f64;
    let wanted = |what: &str| only.is_none_or(|only| only == format!("{name} {what}"));
    let report = |what: &str, work: f64, run: &mut dyn FnMut()| {
        if wanted(what) {
            report(what, repetitions, work, run);
        }
    };
    report("forward", work, &mut || cell.forward(&state, &injection, &mut out));
    report("linearize", work, &mut || drop(cell.linearize(&state, &injection, &mut out)));
    let tape = cell.linearize(&state, &injection, &mut out);
    report("vjp", work, &mut || tape.vjp(&cotangent, &mut out, Some(&mut at_injection)));
    let mut gradients = parameters.zeros_like();
    report("vjp and parameters", 2.0 * work, &mut || {
        tape.vjp_parameters(&cotangent, &mut out, &mut at_injection, &mut gradients);
    });
    let rows: Vec<usize> = (0..batch).filter(|row| row % 3 > 0).collect();
    report("select 2 of 3", 0.0, &mut || drop(tape.select(&rows)));
}

fn report(what: &str, repetitions: usize, work: f64, run: &mut dyn FnMut()) {
    run();
    let mut times: Vec<f64> = (0..repetitions)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (least, median) = (times[0], times[times.len() / 2]);
    let (rate, best) = (work / median / 1e9, work / least / 1e9);
    println!(
        "  {what:20} {:8.2} ms median {:8.2} ms least  {rate:6.0} GFLOP/s median {best:6.0} best",
        median * 1e3,
        least * 1e3
    );
}

/// Products and sums of all convolutions for one example.
fn flops(parameters: &CellParameters) -> f64 {
    let area = |branch: usize| parameters.branches[branch][1] * parameters.branches[branch][2];
    let mut terms = 0;
    for (i, block) in parameters.blocks.iter().enumerate() {
        terms += (block.conv1.len() + block.conv2.len()) * area(i);
    }
    for row in &parameters.paths {
        for (j, path) in row.iter().enumerate() {
            match path {
                Some(PathParameters::Up(step)) => terms += step.conv.len() * area(j),
                Some(PathParameters::Down(steps)) => {
                    for (number, step) in steps.iter().enumerate() {
                        terms += step.conv.len() * area(j) / 4_usize.pow(number as u32 + 1);
                    }
                }
                None => {}
            }
        }
    }
    for (i, post) in parameters.post.iter().enumerate() {
        terms += post.conv.len() * area(i);
    }
    2.0 * terms as f64
}

/// A cell of random weights.
fn parameters(channels: &[usize], size: usize, expansion: usize, groups: usize) -> CellParameters {
    let mut random = Random(1);
    let norm = |channels: usize, groups: usize, affine: bool| NormParameters {
        groups,
        affine: affine.then(|| (vec![1.0; channels], vec![0.0; channels])),
    };
    let mut kernel = |outputs: usize, inputs: usize, size: usize| {
        random.numbers(outputs * inputs * size * size, 1.0 / ((inputs * size * size) as f32).sqrt())
    };
    let branches: Vec<[usize; 3]> =
        channels.iter().enumerate().map(|(i, &c)| [c, size >> i, size >> i]).collect();
    let blocks = channels
        .iter()
        .map(|&c| BlockParameters {
            inner: c * expansion,
            conv1: kernel(c * expansion, c, 3),
            gn1: norm(c * expansion, groups, true),
            conv2: kernel(c, c * expansion, 3),
            gn2: norm(c, groups, true),
            gn3: norm(c, groups, true),
        })
        .collect();
    let mut path = |to: usize, from: usize| {
        let (source, target) = (channels[from], channels[to]);
        let mut step = |outputs: usize, size: usize| StepParameters {
            outputs,
            conv: kernel(outputs, source, size),
            norm: norm(outputs, groups, true),
        };
        match to.cmp(&from) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Less => Some(PathParameters::Up(step(target, 1))),
            std::cmp::Ordering::Greater => {
                let outputs = |number| if from + number == to { target } else { source };
                Some(PathParameters::Down((1..=to - from).map(|number| step(outputs(number), 3)).collect()))
            }
        }
    };
    let count = channels.len();
    let paths = (0..count).map(|to| (0..count).map(|from| path(to, from)).collect()).collect();
    let post = channels
        .iter()
        .map(|&c| PostParameters { conv: kernel(c, c, 1), norm: norm(c, groups / 2, false) })
        .collect();
    CellParameters { branches, blocks, paths, post }
}

/// Uniform numbers of the given deviation (a linear congruential generator: only timings depend on it).
struct Random(u64);

impl Random {
    fn numbers(&mut self, count: usize, deviation: f32) -> Vec<f32> {
        (0..count)
            .map(|_| {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0) * 3_f32.sqrt() * deviation
            })
            .collect()
    }
}

/// GFLOP/s of fused multiply-adds on registers, on all threads.
fn peak() -> f64 {
    const STEPS: usize = 20_000_000;
    struct Chains;
    impl WithSimd for Chains {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            let (a, b) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
            let mut sums = [simd.splat_f32s(1.0); 10];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = simd.mul_add_f32s(*sum, a, b);
                }
            }
            sums.iter().map(|&sum| simd.reduce_sum_f32s(sum)).sum()
        }
    }
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    let threads = rayon::current_num_threads();
    let lanes = Arch::new().dispatch(Lanes);
    let once = || {
        let started = Instant::now();
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
            black_box(Arch::new().dispatch(Chains));
        });
        (threads * STEPS * 10 * lanes * 2) as f64 / started.elapsed().as_secs_f64() / 1e9
    };
    (0..3).map(|_| once()).fold(0.0, f64::max)
}
