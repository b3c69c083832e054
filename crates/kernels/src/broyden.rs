//! A step of limited-memory Broyden without waste: B = −I + U Vᵀ is read once for B g and once for BᵀΔz, and
//! nothing else of its size is made but the new correction.
//!
//! Each example is one task, and its inner products are summed in one fixed order.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::convolution::tile::multiply_add;
use crate::image::norm::{vectors, vectors_mut};

/// What a step starts from. All slices are `[N, D]`.
#[derive(Debug, Clone, Copy)]
pub struct BroydenStep<'a> {
    /// D.
    pub dim: usize,
    /// The rank-one corrections u, v of B, oldest first.
    pub corrections: &'a [(&'a [f32], &'a [f32])],
    /// z.
    pub state: &'a [f32],
    /// g(z).
    pub residual: &'a [f32],
    /// z and g(z) of the step before.
    pub previous: Option<(&'a [f32], &'a [f32])>,
}

/// A correction u, v of B, each `[N, D]`.
pub type Correction = (Vec<f32>, Vec<f32>);

/// B g, `[N, D]`, of which the step is the negative; with B corrected first if there was a step before, by the
/// u and v that are returned: vᵀ = Δzᵀ B and u = −B g / (vᵀ Δg), entries that are not finite set to 0.
///
/// # Panics
///
/// If the slices do not have the same length, or D does not divide it.
pub fn broyden_direction(step: &BroydenStep<'_>) -> (Vec<f32>, Option<Correction>) {
    run(step, false)
}

/// z − B g, `[N, D]`: the next state, with B corrected first as by [`broyden_direction`].
///
/// # Panics
///
/// If the slices do not have the same length, or D does not divide it.
pub fn broyden_next(step: &BroydenStep<'_>) -> (Vec<f32>, Option<Correction>) {
    run(step, true)
}

fn run(step: &BroydenStep<'_>, next: bool) -> (Vec<f32>, Option<Correction>) {
    let &BroydenStep { dim, corrections, state, residual, previous } = step;
    let len = state.len();
    assert!(dim > 0 && len.is_multiple_of(dim), "a state of {dim} numbers per example");
    let vectors = corrections.iter().copied().chain(previous).flat_map(|(a, b)| [a, b]);
    assert!(vectors.chain([residual]).all(|x| x.len() == len), "slices as long as the state, {len}");
    let arch = Arch::new();
    let mut direction = vec![0.0; len];
    let count = if previous.is_some() { len } else { 0 };
    let (mut u, mut v) = (vec![0.0; count], vec![0.0; count]);
    let mut rows: Vec<_> = direction.chunks_exact_mut(dim).map(|direction| (direction, None)).collect();
    for ((_, correction), pair) in rows.iter_mut().zip(u.chunks_exact_mut(dim).zip(v.chunks_exact_mut(dim))) {
        *correction = Some(pair);
    }
    rows.into_par_iter().enumerate().for_each(|(example, (direction, correction))| {
        arch.dispatch(Row { step, example, direction, correction, next });
    });
    (direction, previous.map(|_| (u, v)))
}

/// One example's step.
struct Row<'a> {
    step: &'a BroydenStep<'a>,
    example: usize,
    /// B g.
    direction: &'a mut [f32],
    correction: Option<(&'a mut [f32], &'a mut [f32])>,
    /// Whether `direction` is to become z − B g.
    next: bool,
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { step, example, direction, correction, next } = self;
        let rows = example * step.dim..(example + 1) * step.dim;
        let (state, residual) = (&step.state[rows.clone()], &step.residual[rows.clone()]);
        low_rank(simd, step.corrections.iter().copied(), example, residual, direction);
        if let (Some((previous_state, previous_residual)), Some((u, v))) = (step.previous, correction) {
            let (previous_state, previous_residual) =
                (&previous_state[rows.clone()], &previous_residual[rows]);
            // Δz and, after it has been used, u.
            for ((to, a), b) in u.iter_mut().zip(state).zip(previous_state) {
                *to = a - b;
            }
            low_rank(simd, step.corrections.iter().map(|&(u, v)| (v, u)), example, u, v);
            for ((to, a), b) in u.iter_mut().zip(residual).zip(previous_residual) {
                *to = a - b;
            }
            let scale = dot(simd, v, u);
            for (u, along) in u.iter_mut().zip(&*direction) {
                *u = finite_or_zero(-along / scale);
            }
            for v in v.iter_mut() {
                *v = finite_or_zero(*v);
            }
            let along = dot(simd, v, residual);
            add(simd, direction, u, along);
        }
        if next {
            for (direction, state) in direction.iter_mut().zip(state) {
                *direction = state - *direction;
            }
        }
    }
}

/// g = f − z, `[N, D]`, and ‖g‖ and ‖f‖ of each example, in one pass.
///
/// # Panics
///
/// If the slices do not have the same length, or D does not divide it.
pub fn residuals(dim: usize, state: &[f32], value: &[f32]) -> (Vec<f32>, Vec<(f64, f64)>) {
    assert!(dim > 0 && state.len().is_multiple_of(dim), "a state of {dim} numbers per example");
    assert_eq!(value.len(), state.len(), "as many values as numbers of the state");
    let arch = Arch::new();
    let mut residual = vec![0.0; state.len()];
    let rows =
        residual.par_chunks_exact_mut(dim).zip(state.par_chunks_exact(dim)).zip(value.par_chunks_exact(dim));
    let norms =
        rows.map(|((residual, state), value)| arch.dispatch(Residual { residual, state, value })).collect();
    (residual, norms)
}

/// One example's residual.
struct Residual<'a> {
    residual: &'a mut [f32],
    state: &'a [f32],
    value: &'a [f32],
}

impl WithSimd for Residual<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f64, f64) {
        let Self { residual, state, value } = self;
        for ((to, f), z) in residual.iter_mut().zip(value).zip(state) {
            *to = f - z;
        }
        let norm = |x: &[f32]| f64::from(dot(simd, x, x)).sqrt();
        (norm(residual), norm(value))
    }
}

/// out = −x + Σ a (b · x) over pairs a, b of which this is the example's row.
#[inline(always)]
fn low_rank<'a, S: Simd>(
    simd: S,
    pairs: impl Iterator<Item = (&'a [f32], &'a [f32])>,
    example: usize,
    x: &[f32],
    out: &mut [f32],
) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = -x;
    }
    for (a, b) in pairs {
        let rows = example * x.len()..(example + 1) * x.len();
        let factor = dot(simd, &b[rows.clone()], x);
        add(simd, out, &a[rows], factor);
    }
}

/// a · b.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    const CHAINS: usize = 8;
    let (body, rest) = (vectors::<S>(a), a.len() / S::F32_LANES * S::F32_LANES);
    let other = vectors::<S>(b);
    let mut sums = [simd.splat_f32s(0.0); CHAINS];
    let (chunks, others) = (body.chunks_exact(CHAINS), other.chunks_exact(CHAINS));
    let (last, last_other) = (chunks.remainder(), others.remainder());
    for (a, b) in chunks.zip(others) {
        for i in 0..CHAINS {
            sums[i] = multiply_add(simd, a[i], b[i], sums[i]);
        }
    }
    for (i, (a, b)) in last.iter().zip(last_other).enumerate() {
        sums[i] = multiply_add(simd, *a, *b, sums[i]);
    }
    let sum: f64 = sums.iter().map(|&sum| f64::from(simd.reduce_sum_f32s(sum))).sum();
    let tail: f64 = a[rest..].iter().zip(&b[rest..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    (sum + tail) as f32
}

/// out += factor · a.
#[inline(always)]
fn add<S: Simd>(simd: S, out: &mut [f32], a: &[f32], factor: f32) {
    let rest = a.len() / S::F32_LANES * S::F32_LANES;
    let factors = simd.splat_f32s(factor);
    for (out, a) in vectors_mut::<S>(out).iter_mut().zip(vectors::<S>(a)) {
        *out = multiply_add(simd, *a, factors, *out);
    }
    for (out, a) in out[rest..].iter_mut().zip(&a[rest..]) {
        *out += a * factor;
    }
}

#[inline(always)]
fn finite_or_zero(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}
