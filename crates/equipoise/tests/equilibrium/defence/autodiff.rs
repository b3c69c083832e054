//! The published defence with every operation of it tracked by autodiff: an independent way to its derivative.

use burn::tensor::Tensor;
use equipoise::batch::Images;
use equipoise::model::cell::Cell;
use equipoise::model::deq::Head;
use equipoise::model::layers::Phase;

use super::Tanh;
use crate::common::entries;

/// The published defence of one image in Burn operations, all of them tracked.
pub fn logits(model: &Tanh, image: Images) -> Tensor<2> {
    type Pair = (Tensor<2>, Tensor<2>);
    let dot = |a: &Tensor<2>, b: &Tensor<2>| (a.clone() * b.clone()).sum_dim(1);
    let product = |pairs: &[Pair], x: &Tensor<2>| {
        pairs.iter().fold(x.clone().neg(), |sum, (u, v)| sum + u.clone() * dot(v, x))
    };
    let secant = |pairs: &[Pair], step: &Tensor<2>, change: &Tensor<2>| {
        let exchanged: Vec<Pair> = pairs.iter().cloned().map(|(u, v)| (v, u)).collect();
        let v = product(&exchanged, step);
        ((step.clone() - product(pairs, change)) / dot(&v, change), v)
    };
    let mut input = image.clone();
    let mut z = input.clone().flatten::<2>(1, 3) * 0.0;
    let mut last: Option<Pair> = None;
    let mut pairs: Vec<Pair> = Vec::new();
    for s in 0..4 {
        let injection = input.clone().flatten::<2>(1, 3);
        let residual = |z: &Tensor<2>| model.cell.apply(z.clone(), injection.clone()) - z.clone();
        let mut g = residual(&z);
        if let Some((step, before)) = last.take() {
            pairs.push(secant(&pairs, &step, &(g.clone() - before)));
        }
        let first = product(&pairs, &g).neg();
        let (z_1, g_1) = (z.clone() + first.clone(), residual(&(z + first.clone())));
        let size = |g: &Tensor<2>, z: &Tensor<2>| {
            let norm = |x: Tensor<2>| entries(&x.inner()).iter().map(|x| x * x).sum::<f64>().sqrt();
            norm(g.clone()) / (norm(g.clone() + z.clone()) + 1e-9)
        };
        let mut answer = z_1.clone();
        (z, pairs) = (z_1.clone(), Vec::new());
        if size(&g_1, &z_1) < 1e-3 {
            last = Some((first, g));
        } else {
            pairs.push(secant(&[], &first, &(g_1.clone() - g)));
            let second = product(&pairs, &g_1).neg();
            answer = z_1.clone() + second.clone();
            g = residual(&answer);
            if size(&g, &answer) < size(&g_1, &z_1) {
                z = answer.clone();
            }
            last = Some((second, g_1));
        }
        if s == 3 {
            return model.head.forward(answer, &Phase::Evaluate);
        }
        for _ in 0..10 {
            let (held, at) = (z.clone().inner(), input.clone().inner());
            let entropy = at.clone().autodiff().require_grad();
            let f = model.cell.apply(held.autodiff(), entropy.clone().flatten::<2>(1, 3));
            let log = burn::tensor::activation::log_softmax(model.head.forward(f, &Phase::Evaluate), 1);
            let gradients = (log.clone().exp() * log).sum().neg().backward();
            let sign = entropy.grad(&gradients).unwrap().sign();
            let (low, high) = (image.clone() - 8.0 / 255.0, image.clone() + 8.0 / 255.0);
            let moved = input - sign.autodiff() * (2.0 / 255.0);
            input = moved.max_pair(low).min_pair(high).clamp(0.0, 1.0);
        }
    }
    unreachable!("the last segment answers")
}
