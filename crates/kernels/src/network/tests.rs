//! Networks against plain sums in double precision, and against differences of these; bits against batches and threads.

use pulp::Arch;

use super::*;
use crate::network::parameters::{Map, Term};
use crate::parameters::BiasedConv;
use crate::tests::{Random, archs};

/// Every kind of term: a residual network with a shortcut by convolution and one by identity, a pre-activation block,
/// a sum of two inputs, odd sizes.
fn parameters(shape: [usize; 3], logits: bool) -> NetworkParameters {
    let mut random = Random(11);
    let mut conv = |input: usize, output: usize, size: usize| BiasedConv {
        kernel: random.numbers(output * input * size * size).iter().map(|w| w * 0.5).collect(),
        bias: random.numbers(output),
    };
    let [channels, height, width] = shape;
    let half = [6, height.div_ceil(2), width.div_ceil(2)];
    let (weight, bias) = (conv(20, 5, 1).kernel, conv(1, 5, 1).bias);
    let output = match logits {
        true => OutputParameters::Logits { window: [half[1].min(4), half[2].min(3)], weight, bias },
        false => OutputParameters::Image,
    };
    let mut network = NetworkParameters::new(vec![shape, half], output);
    let x = network.layer(vec![Term::conv(0, 3, 1, conv(channels, 6, 3))], true);
    // An identity, added in place.
    let h = network.layer(vec![Term::conv(x, 3, 1, conv(6, 6, 3))], true);
    let x = network.layer(vec![Term::conv(h, 3, 1, conv(6, 6, 3)), Term::same(x)], true);
    // A shortcut whose data gradient is the first one.
    let h = network.layer(vec![Term::conv(x, 3, 2, conv(6, 20, 3))], true);
    let terms = vec![Term::conv(h, 3, 1, conv(20, 20, 3)), Term::conv(x, 1, 2, conv(6, 20, 1))];
    let x = network.layer(terms, false);
    // A normalisation before its ReLU; what it normalises is needed again.
    let map = Map::Affine { scale: conv(1, 20, 1).bias, shift: conv(1, 20, 1).bias };
    let h = network.layer(vec![Term { from: x, map }], true);
    let x = network.layer(vec![Term::same(x), Term::conv(h, 3, 1, conv(20, 20, 3))], false);
    // Another input.
    let other = network.layer(vec![Term::conv(1, 1, 1, conv(6, 20, 1))], true);
    let x = network.layer(vec![Term::same(x), Term::same(other)], false);
    network.layer(vec![Term::conv(x, 1, 1, conv(20, 20, 1))], true);
    network
}

const SHAPES: [[usize; 3]; 4] = [[3, 8, 8], [3, 16, 8], [4, 7, 5], [1, 2, 1]];

/// In double precision, from the definition.
fn reference(parameters: &NetworkParameters, row: &[f64]) -> Vec<f64> {
    let mut images: Vec<([usize; 3], Vec<f64>)> = Vec::new();
    let mut start = 0;
    for &shape in &parameters.inputs {
        let len: usize = shape.iter().product();
        images.push((shape, row[start..start + len].to_vec()));
        start += len;
    }
    for layer in &parameters.layers {
        let Term { from, map } = &layer.terms[0];
        let [channels, h, w] = images[*from].0;
        let [outputs, height, width] = match map {
            Map::Conv { stride, conv, .. } => [conv.bias.len(), h.div_ceil(*stride), w.div_ceil(*stride)],
            _ => [channels, h, w],
        };
        let mut y = vec![0.0; outputs * height * width];
        for (at, y) in y.iter_mut().enumerate() {
            let (channel, row, column) = (at / (height * width), at / width % height, at % width);
            for term in &layer.terms {
                let ([inputs, h, w], x) = &images[term.from];
                *y += match &term.map {
                    Map::Same => x[at],
                    Map::Affine { scale, shift } => {
                        f64::from(scale[channel]) * x[at] + f64::from(shift[channel])
                    }
                    Map::Conv { size, stride, conv } => {
                        let mut sum = f64::from(conv.bias[channel]);
                        let area = size * size;
                        let kernel = &conv.kernel[channel * inputs * area..][..inputs * area];
                        for (k, weights) in kernel.chunks_exact(area).enumerate() {
                            for (tap, weight) in weights.iter().enumerate() {
                                let row = (row * stride + tap / size).wrapping_sub(size / 2);
                                let column = (column * stride + tap % size).wrapping_sub(size / 2);
                                if row < *h && column < *w {
                                    sum += f64::from(*weight) * x[(k * h + row) * w + column];
                                }
                            }
                        }
                        sum
                    }
                };
            }
            if layer.rectify {
                *y = y.max(0.0);
            }
        }
        images.push(([outputs, height, width], y));
    }
    let ([channels, height, width], x) = images.pop().unwrap();
    match &parameters.output {
        OutputParameters::Image => x,
        OutputParameters::Logits { window: [rows, columns], weight, bias } => {
            let mean = |channel: usize| {
                let at = |row, column| x[(channel * height + row) * width + column];
                let sum: f64 = (0..*rows).flat_map(|r| (0..*columns).map(move |c| at(r, c))).sum();
                sum / (rows * columns) as f64
            };
            let features: Vec<f64> = (0..channels).map(mean).collect();
            let dot = |weight: &[f32]| -> f64 {
                weight.iter().zip(&features).map(|(weight, x)| f64::from(*weight) * x).sum()
            };
            weight.chunks_exact(channels).zip(bias).map(|(row, bias)| dot(row) + f64::from(*bias)).collect()
        }
    }
}

fn error(found: &[f32], expected: &[f64]) -> f64 {
    let square = |x: f64| x * x;
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - b)).sum();
    (difference / expected.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
}

/// Convolutions, and weights from which on they are wide.
const WAYS: [(Convolutions, usize); 4] = [
    (Convolutions::Winograd, usize::MAX),
    (Convolutions::Winograd, 0),
    (Convolutions::Winograd, 2000),
    (Convolutions::Direct, 0),
];

#[test]
fn values_are_the_definitions_and_products_its_differences() {
    for (shape, logits) in SHAPES.into_iter().flat_map(|shape| [true, false].map(|logits| (shape, logits))) {
        let parameters = parameters(shape, logits);
        for (arch, (convolutions, wide_from)) in
            archs().into_iter().flat_map(|arch| WAYS.map(|way| (arch, way)))
        {
            let network = Network::with(&parameters, convolutions, arch, wide_from);
            let mut random = Random(12);
            let input = random.numbers(2 * network.input_dim());
            let u = random.numbers(2 * network.output_dim());
            let direction = random.numbers(input.len());
            let mut output = vec![0.0; u.len()];
            let tape = network.linearize(&input, &mut output);
            let mut alone = vec![0.0; u.len()];
            network.forward(&input, &mut alone);
            assert_eq!(alone, output);
            let mut gradient = vec![0.0; input.len()];
            tape.pull_back(&u, &mut gradient);
            let moved = |step: f64| -> Vec<f64> {
                let input = input.iter().zip(&direction).map(|(x, d)| f64::from(*x) + step * f64::from(*d));
                let input: Vec<f64> = input.collect();
                input.chunks(network.input_dim()).flat_map(|row| reference(&parameters, row)).collect()
            };
            let found = error(&output, &moved(0.0));
            assert!(found < 1e-5, "{shape:?} {arch:?} {convolutions:?} {wide_from}: {found:e}");
            let step = 1e-6;
            let (ahead, behind) = (moved(step), moved(-step));
            let slopes = ahead.iter().zip(&behind).map(|(a, b)| (a - b) / (2.0 * step));
            let slope: f64 = slopes.zip(&u).map(|(slope, u)| slope * f64::from(*u)).sum();
            let product: f64 =
                gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let scale: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(
                (slope - product).abs() < 1e-4 * scale,
                "{shape:?} {arch:?} {convolutions:?} {wide_from}: {slope} and {product}"
            );
        }
    }
}

/// To the bit, alone, in chunks and in waves of any size, on any number of threads.
#[test]
#[cfg_attr(miri, ignore = "starts threads; what they do is tested above")]
fn neither_batch_nor_threads_matter() {
    const COUNT: usize = 131;
    let parameters = parameters([3, 8, 8], true);
    for (convolutions, wide_from) in WAYS {
        let network = Network::with(&parameters, convolutions, Arch::new(), wide_from);
        let (from, to) = (network.input_dim(), network.output_dim());
        let mut random = Random(13);
        let (input, u) = (random.numbers(COUNT * from), random.numbers(COUNT * to));
        let run = |threads: usize, rows: std::ops::Range<usize>| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut output = vec![0.0; rows.len() * to];
                let mut gradient = vec![0.0; rows.len() * from];
                let tape = network.linearize(&input[rows.start * from..rows.end * from], &mut output);
                tape.pull_back(&u[rows.start * to..rows.end * to], &mut gradient);
                [output, gradient]
            })
        };
        let whole = run(1, 0..COUNT);
        for (threads, rows) in
            [(2, 0..COUNT), (3, 0..COUNT), (1, 77..78), (2, 100..COUNT), (1, 5..70), (7, 9..41)]
        {
            let [output, gradient] = run(threads, rows.clone());
            assert!(output == whole[0][rows.start * to..rows.end * to], "{threads} {rows:?}");
            assert!(gradient == whole[1][rows.start * from..rows.end * from], "{threads} {rows:?}");
        }
    }
}

#[test]
#[should_panic(expected = "every image but the last is read")]
fn layers_that_lead_nowhere_are_refused() {
    let mut parameters = parameters([3, 8, 8], false);
    let conv = BiasedConv { kernel: vec![0.0; 3], bias: vec![0.0] };
    parameters.layer(vec![Term::conv(0, 1, 1, conv)], true);
    Network::new(&parameters, Convolutions::Winograd);
}

#[test]
#[should_panic(expected = "as many examples as were evaluated")]
fn cotangents_of_other_examples_are_refused() {
    let network = Network::new(&parameters([3, 8, 8], false), Convolutions::Winograd);
    let mut output = vec![0.0; network.output_dim()];
    let tape = network.linearize(&vec![0.0; network.input_dim()], &mut output);
    tape.pull_back(&vec![0.0; 40 * output.len()], &mut vec![0.0; 40 * network.input_dim()]);
}
