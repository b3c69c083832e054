//! Networks against plain sums in double precision, and against differences of these; bits against batches and threads.

use pulp::Arch;

use super::*;
use crate::network::parameters::{BatchNormParameters, ChannelMap, Map, Term, TrainedConv};
use crate::network::training::{NetworkPass, TrainedNetwork, TrainingMemory};
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
    let map = ChannelMap { scale: conv(1, 20, 1).bias, shift: conv(1, 20, 1).bias };
    let h = network.layer(vec![Term::norm(x, map)], true);
    let x = network.layer(vec![Term::same(x), Term::conv(h, 3, 1, conv(20, 20, 3))], false);
    // Another input.
    let other = network.layer(vec![Term::conv(1, 1, 1, conv(6, 20, 1))], true);
    let x = network.layer(vec![Term::same(x), Term::same(other)], false);
    network.layer(vec![Term::conv(x, 1, 1, conv(20, 20, 1))], true);
    network
}

const SHAPES: [[usize; 3]; 4] = [[3, 8, 8], [3, 16, 8], [4, 7, 5], [1, 2, 1]];

/// A convolution in double precision, and what follows it.
#[derive(Clone)]
struct Conv64 {
    kernel: Vec<f64>,
    bias: Vec<f64>,
    norm: Option<Norm64>,
}

/// A normalisation in double precision.
#[derive(Clone)]
enum Norm64 {
    /// Scale and shift.
    Map(Vec<f64>, Vec<f64>),
    /// By the batch's statistics, then γ and β.
    Batch(Option<(Vec<f64>, Vec<f64>)>),
}

type Network64 = (NetworkParameters<Conv64, Norm64>, (Vec<f64>, Vec<f64>));

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|x| f64::from(*x)).collect()
}

fn classifier<C, N>(parameters: &NetworkParameters<C, N>) -> (Vec<f64>, Vec<f64>) {
    match &parameters.output {
        OutputParameters::Image => Default::default(),
        OutputParameters::Logits { weight, bias, .. } => (wide(weight), wide(bias)),
    }
}

fn evaluated(parameters: &NetworkParameters) -> Network64 {
    let of = parameters.map(
        |conv| Conv64 { kernel: wide(&conv.kernel), bias: wide(&conv.bias), norm: None },
        |norm| Norm64::Map(wide(&norm.scale), wide(&norm.shift)),
    );
    (of, classifier(parameters))
}

/// An image of every example of a batch: C, H, W and `[N, C, H, W]`.
type Images64 = ([usize; 3], Vec<f64>);

fn normalised(norm: &Norm64, ([channels, h, w], x): &Images64) -> Vec<f64> {
    let area = h * w;
    let of = |channel: usize| x.chunks(area).skip(channel).step_by(*channels).flatten();
    let maps = (0..*channels).map(|c| match norm {
        Norm64::Map(scale, shift) => (scale[c], shift[c]),
        Norm64::Batch(affine) => {
            let count = of(c).count() as f64;
            let mean = of(c).sum::<f64>() / count;
            let variance = of(c).map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let (weight, bias) = affine.as_ref().map_or((1.0, 0.0), |(weight, bias)| (weight[c], bias[c]));
            let scale = weight / (variance + 1e-5).sqrt();
            (scale, bias - mean * scale)
        }
    });
    let maps: Vec<(f64, f64)> = maps.collect();
    let map = |(at, x): (usize, &f64)| maps[at / area % channels].0 * x + maps[at / area % channels].1;
    x.iter().enumerate().map(map).collect()
}

fn convolved(of: &Conv64, size: usize, stride: usize, ([inputs, h, w], x): &Images64) -> Images64 {
    let (outputs, height, width) = (of.bias.len(), h.div_ceil(stride), w.div_ceil(stride));
    let examples = x.chunks_exact(inputs * h * w).flat_map(|x| {
        (0..outputs * height * width).map(move |at| {
            let (channel, row, column) = (at / (height * width), at / width % height, at % width);
            let mut sum = of.bias[channel];
            let area = size * size;
            let kernel = &of.kernel[channel * inputs * area..][..inputs * area];
            for (k, weights) in kernel.chunks_exact(area).enumerate() {
                for (tap, weight) in weights.iter().enumerate() {
                    let row = (row * stride + tap / size).wrapping_sub(size / 2);
                    let column = (column * stride + tap % size).wrapping_sub(size / 2);
                    if row < *h && column < *w {
                        sum += weight * x[(k * h + row) * w + column];
                    }
                }
            }
            sum
        })
    });
    let y = ([outputs, height, width], examples.collect());
    match &of.norm {
        None => y,
        Some(norm) => (y.0, normalised(norm, &y)),
    }
}

/// What comes out of a batch, in double precision, from the definition.
fn reference((parameters, (weight, bias)): &Network64, rows: &[f64]) -> Vec<f64> {
    let mut images: Vec<Images64> = Vec::new();
    let dim: usize = parameters.inputs.iter().map(|shape| shape.iter().product::<usize>()).sum();
    let mut start = 0;
    for &shape in &parameters.inputs {
        let len: usize = shape.iter().product();
        images.push((shape, rows.chunks(dim).flat_map(|row| &row[start..start + len]).copied().collect()));
        start += len;
    }
    for layer in &parameters.layers {
        let terms = layer.terms.iter().map(|term| {
            let x = &images[term.from];
            match &term.map {
                Map::Same => x.clone(),
                Map::Norm(norm) => (x.0, normalised(norm, x)),
                Map::Conv { size, stride, conv } => convolved(conv, *size, *stride, x),
            }
        });
        let mut sum =
            terms.reduce(|(shape, a), (_, b)| (shape, a.iter().zip(&b).map(|(a, b)| a + b).collect()));
        let (_, y) = sum.as_mut().unwrap();
        if layer.rectify {
            y.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        images.extend(sum);
    }
    let ([channels, height, width], x) = images.pop().unwrap();
    let OutputParameters::Logits { window: [rows, columns], .. } = parameters.output else { return x };
    let examples = x.chunks(channels * height * width).flat_map(|x| {
        let mean = |channel: usize| {
            let at = |row, column| x[(channel * height + row) * width + column];
            let sum: f64 = (0..rows).flat_map(|r| (0..columns).map(move |c| at(r, c))).sum();
            sum / (rows * columns) as f64
        };
        let features: Vec<f64> = (0..channels).map(mean).collect();
        let dot = |weight: &[f64]| -> f64 { weight.iter().zip(&features).map(|(w, x)| w * x).sum() };
        weight.chunks_exact(channels).zip(bias).map(|(row, bias)| dot(row) + bias).collect::<Vec<_>>()
    });
    examples.collect()
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
        let exact = evaluated(&parameters);
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
                reference(&exact, &input)
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

/// The network above in training: normalisations with and without an affine map, convolutions with and without one.
fn trained(shape: [usize; 3], logits: bool) -> TrainedNetwork {
    let mut random = Random(21);
    let mut number = 0;
    let mut norm = |channels: usize| {
        number += 1;
        let affine = (number % 3 != 0).then(|| (random.numbers(channels), random.numbers(channels)));
        BatchNormParameters { affine }
    };
    let mut convs = 0;
    let of = parameters(shape, logits);
    let mut channels: Vec<usize> = of.inputs.iter().map(|shape| shape[0]).collect();
    for layer in &of.layers {
        let term = &layer.terms[0];
        channels.push(match &term.map {
            Map::Conv { conv, .. } => conv.bias.len(),
            _ => channels[term.from],
        });
    }
    let norms: Vec<BatchNormParameters> = (0..20).map(|_| norm(20)).collect();
    let cut = |norm: &BatchNormParameters, channels: usize| BatchNormParameters {
        affine: norm.affine.as_ref().map(|(w, b)| (w[..channels].to_vec(), b[..channels].to_vec())),
    };
    let mut at = 0;
    let mut next = |channels: usize| {
        at += 1;
        cut(&norms[at], channels)
    };
    of.map(
        |conv| {
            convs += 1;
            let norm = (convs % 4 != 2).then(|| next(conv.bias.len()));
            TrainedConv { outputs: conv.bias.len(), kernel: conv.kernel.clone(), norm }
        },
        |norm| cut(&norms[19], norm.scale.len()),
    )
}

/// The network moved along a direction in the shape of its parameters.
fn moved(parameters: &TrainedNetwork, direction: &TrainedNetwork, step: f64) -> Network64 {
    let line = |from: &[f32], to: &[f32]| -> Vec<f64> {
        from.iter().zip(to).map(|(x, d)| f64::from(*x) + step * f64::from(*d)).collect()
    };
    let norm = |from: &BatchNormParameters, to: &BatchNormParameters| {
        let pair = from.affine.as_ref().zip(to.affine.as_ref());
        Norm64::Batch(pair.map(|(from, to)| (line(&from.0, &to.0), line(&from.1, &to.1))))
    };
    let mut directions = direction.terms();
    let mut terms = Vec::new();
    for term in parameters.terms() {
        let to = directions.next().unwrap();
        terms.push(match (&term.map, &to.map) {
            (Map::Conv { conv: from, .. }, Map::Conv { conv: to, .. }) => {
                let kernel = line(&from.kernel, &to.kernel);
                let norm = from.norm.as_ref().zip(to.norm.as_ref()).map(|(from, to)| norm(from, to));
                (Some(Conv64 { kernel, bias: vec![0.0; from.outputs], norm }), None)
            }
            (Map::Norm(from), Map::Norm(to)) => (None, Some(norm(from, to))),
            _ => (None, None),
        });
    }
    let mut convs = terms.iter().filter_map(|(conv, _)| conv.clone());
    let mut norms = terms.iter().filter_map(|(_, norm)| norm.clone());
    let of = parameters.map(|_| convs.next().unwrap(), |_| norms.next().unwrap());
    let ((w, b), (dw, db)) = (classifier(parameters), classifier(direction));
    let line = |from: Vec<f64>, to: Vec<f64>| from.iter().zip(&to).map(|(x, d)| x + step * d).collect();
    (of, (line(w, dw), line(b, db)))
}

/// All numbers of a network in a fixed order.
fn numbers(parameters: &TrainedNetwork) -> Vec<f64> {
    let mut all = Vec::new();
    let norm = |all: &mut Vec<f64>, norm: &BatchNormParameters| {
        if let Some((weight, bias)) = &norm.affine {
            all.extend(wide(weight));
            all.extend(wide(bias));
        }
    };
    for term in parameters.terms() {
        match &term.map {
            Map::Same => {}
            Map::Norm(of) => norm(&mut all, of),
            Map::Conv { conv, .. } => {
                all.extend(wide(&conv.kernel));
                conv.norm.iter().for_each(|of| norm(&mut all, of));
            }
        }
    }
    let (weight, bias) = classifier(parameters);
    all.extend(weight);
    all.extend(bias);
    all
}

/// Random numbers in the shape of the parameters.
fn direction(parameters: &TrainedNetwork, seed: u64) -> TrainedNetwork {
    let random = std::cell::RefCell::new(Random(seed));
    let draw = |of: &[f32]| random.borrow_mut().numbers(of.len());
    let norm = |of: &BatchNormParameters| BatchNormParameters {
        affine: of.affine.as_ref().map(|(weight, bias)| (draw(weight), draw(bias))),
    };
    let mut to = parameters.map(
        |of| TrainedConv { outputs: of.outputs, kernel: draw(&of.kernel), norm: of.norm.as_ref().map(norm) },
        norm,
    );
    if let OutputParameters::Logits { weight, bias, .. } = &mut to.output {
        (*weight, *bias) = (draw(weight), draw(bias));
    }
    to
}

#[test]
fn training_takes_the_batchs_statistics_and_gradients_are_its_differences() {
    const COUNT: usize = 5;
    // One for all: passes of other networks leave nothing behind that matters.
    let memory = TrainingMemory::default();
    for (shape, logits) in SHAPES.into_iter().flat_map(|shape| [true, false].map(|logits| (shape, logits))) {
        let parameters = trained(shape, logits);
        let along = direction(&parameters, 31);
        for (arch, convolutions) in archs()
            .into_iter()
            .flat_map(|arch| [Convolutions::Winograd, Convolutions::Direct].map(|way| (arch, way)))
        {
            let what = format!("{shape:?} {logits} {arch:?} {convolutions:?}");
            let mut random = Random(22);
            let dim: usize = parameters.inputs.iter().map(|shape| shape.iter().product::<usize>()).sum();
            let input = random.numbers(COUNT * dim);
            let expected = reference(&moved(&parameters, &along, 0.0), &wide(&input));
            let mut output = vec![0.0; expected.len()];
            let pass = NetworkPass::with(&parameters, convolutions, arch, &memory, &input, &mut output);
            let found = error(&output, &expected);
            assert!(found < 1e-5, "{what}: {found:e}");
            let u = random.numbers(output.len());
            let mut at_input = vec![0.0; input.len()];
            let gradient = pass.pull_back(&u, Some(&mut at_input));
            // Along a direction of the parameters, and along one of the input.
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let towards = wide(&random.numbers(input.len()));
            let step = 1e-6;
            let slope = |f: &dyn Fn(f64) -> Vec<f64>| {
                let (ahead, behind) = (f(step), f(-step));
                let slopes: Vec<f64> =
                    ahead.iter().zip(&behind).map(|(a, b)| (a - b) / (2.0 * step)).collect();
                dot(&slopes, &wide(&u))
            };
            let of_parameters = slope(&|step| reference(&moved(&parameters, &along, step), &wide(&input)));
            let of_input = slope(&|step| {
                let input: Vec<f64> = wide(&input).iter().zip(&towards).map(|(x, d)| x + step * d).collect();
                reference(&moved(&parameters, &along, 0.0), &input)
            });
            let check = |slope: f64, gradient: &[f64], direction: &[f64], of: &str| {
                let scale = dot(gradient, gradient).sqrt() * dot(direction, direction).sqrt()
                    / (direction.len() as f64).sqrt();
                let product = dot(gradient, direction);
                assert!((slope - product).abs() < 1e-4 * scale, "{what}, {of}: {slope} and {product}");
            };
            check(of_parameters, &numbers(&gradient), &numbers(&along), "parameters");
            check(of_input, &wide(&at_input), &towards, "input");
            // The input's cotangent is left out where nobody asks for it, and nothing else changes.
            let pass = NetworkPass::with(&parameters, convolutions, arch, &memory, &input, &mut output);
            assert!(pass.pull_back(&u, None) == gradient, "{what}");
        }
    }
}

#[test]
fn statistics_are_those_of_the_batch() {
    let mut parameters = TrainedNetwork::new(vec![[2, 4, 3]], OutputParameters::Image);
    parameters.layer(vec![Term::norm(0, BatchNormParameters::default())], false);
    let input = Random(41).numbers(7 * 24);
    let pass = NetworkPass::forward(
        &parameters,
        Convolutions::Winograd,
        &TrainingMemory::default(),
        &input,
        &mut vec![0.0; input.len()],
    );
    let statistics = pass.statistics();
    let Map::Norm(found) = &statistics.terms().next().unwrap().map else { panic!("a normalisation") };
    assert_eq!(found.count, 7 * 12);
    for channel in 0..2 {
        let numbers = || input.chunks(12).skip(channel).step_by(2).flatten().map(|x| f64::from(*x));
        let mean = numbers().sum::<f64>() / 84.0;
        let variance = numbers().map(|x| (x - mean).powi(2)).sum::<f64>() / 84.0;
        assert!((f64::from(found.mean[channel]) - mean).abs() < 1e-6);
        assert!((f64::from(found.variance[channel]) - variance).abs() < 1e-6);
    }
}

/// To the bit.
#[test]
#[cfg_attr(miri, ignore = "starts threads; what they do is tested above")]
fn training_does_not_depend_on_threads() {
    const COUNT: usize = 37;
    let parameters = trained([3, 8, 8], true);
    let dim: usize = parameters.inputs.iter().map(|shape| shape.iter().product::<usize>()).sum();
    let mut random = Random(23);
    let (input, u) = (random.numbers(COUNT * dim), random.numbers(COUNT * 5));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut output, mut at_input) = (vec![0.0; u.len()], vec![0.0; input.len()]);
            let pass = NetworkPass::forward(
                &parameters,
                Convolutions::Winograd,
                &TrainingMemory::default(),
                &input,
                &mut output,
            );
            let statistics = pass.statistics();
            (pass.pull_back(&u, Some(&mut at_input)), statistics, output, at_input)
        })
    };
    let alone = run(1);
    assert!([2, 3, 7].into_iter().all(|threads| run(threads) == alone));
}
