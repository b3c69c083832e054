//! The budget: how far an adversarial image may lie from the original, and the two operations that attacks
//! need of it, projection and steepest ascent.
//!
//! Both are computed on the host in float64 and rounded **towards the original image**, so that the float32
//! image that is stored really lies within the budget, and so that a gradient of 1e-30, whose squares
//! vanish in float32, still has a direction. The cost is a pass over the pixels, nothing beside a model
//! evaluation.

use std::fmt;
use std::str::FromStr;

use pulp::{Arch, Simd, WithSimd};
use thiserror::Error;

use super::l1;
use crate::batch::{Images, from_vec, to_vec};

/// The norm in which perturbations are measured, over all pixels and channels of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// L∞: the largest change of any intensity.
    Linf,
    /// L2: the Euclidean length of the change.
    L2,
    /// L1: the sum of the changes of all intensities.
    L1,
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Linf => "linf",
            Self::L2 => "l2",
            Self::L1 => "l1",
        })
    }
}

impl FromStr for Norm {
    type Err = BudgetError;

    /// Reads `linf`, `l2` or `l1`, in any case.
    fn from_str(text: &str) -> Result<Self, BudgetError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "linf" => Ok(Self::Linf),
            "l2" => Ok(Self::L2),
            "l1" => Ok(Self::L1),
            _ => Err(BudgetError::UnknownNorm(text.to_owned())),
        }
    }
}

impl Norm {
    /// The distance between two images, in float64. Pixels that are not a number count as unchanged.
    pub fn distance(self, original: &[f32], pixels: &[f32]) -> f64 {
        let changes = original
            .iter()
            .zip(pixels)
            .map(|(&x, &pixel)| (f64::from(finite_or(pixel, x)) - f64::from(x)).abs());
        match self {
            Self::Linf => changes.fold(0.0, f64::max),
            Self::L2 => changes.map(|change| change.powi(2)).sum::<f64>().sqrt(),
            Self::L1 => changes.sum(),
        }
    }

    /// How far a linear function of this value and gradient is from 0: its value over the dual norm of the gradient, which
    /// is kept from 0. Entries that are not finite are taken as zero.
    pub fn to_zero(self, value: f64, gradient: impl Iterator<Item = f64>) -> f64 {
        let finite = |entry: f64| if entry.is_finite() { entry } else { 0.0 };
        let gradient = gradient.map(finite);
        let length = match self {
            Self::Linf => gradient.map(f64::abs).sum::<f64>(),
            Self::L2 => gradient.map(|w| w * w).sum::<f64>().sqrt(),
            Self::L1 => gradient.map(f64::abs).fold(0.0, f64::max),
        };
        finite(value).abs() / (1e-12 + length)
    }

    /// The greatest distance between two images of so many pixels, all channels counted.
    pub fn farthest(self, pixels: usize) -> f64 {
        match self {
            Self::Linf => 1.0,
            Self::L2 => (pixels as f64).sqrt(),
            Self::L1 => pixels as f64,
        }
    }
}

/// Why a budget was refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum BudgetError {
    /// The norm is not one of those supported.
    #[error("unknown norm `{0}`: use `linf`, `l2` or `l1`")]
    UnknownNorm(String),
    /// ε is negative, infinite or not a number.
    #[error(
        "eps must be finite and not negative, and is {0}: give a radius such as 8/255 (linf), 0.5 (l2) or 12 (l1)"
    )]
    Radius(f64),
    /// ε could not be read.
    #[error("cannot read `{0}` as eps: write a fraction such as 8/255 or a decimal such as 0.03")]
    Unreadable(String),
}

/// All images within distance `eps` of the original, intensities in \[0, 1\].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    norm: Norm,
    eps: f64,
}

impl Budget {
    /// A ball of radius `eps`, in units of pixel intensity (images lie in \[0, 1\]).
    ///
    /// # Errors
    ///
    /// [`BudgetError::Radius`] if `eps` is negative or not finite.
    pub fn new(norm: Norm, eps: f64) -> Result<Self, BudgetError> {
        if eps.is_finite() && eps >= 0.0 { Ok(Self { norm, eps }) } else { Err(BudgetError::Radius(eps)) }
    }

    /// 8/255 in L∞: what most of the field reports for CIFAR-10.
    pub fn usual() -> Self {
        Self { norm: Norm::Linf, eps: 8.0 / 255.0 }
    }

    /// The norm.
    pub fn norm(&self) -> Norm {
        self.norm
    }

    /// The radius ε, in units of pixel intensity.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// The ball of the same norm with so many times the radius, as far as numbers go.
    pub(super) fn times(&self, factor: f64) -> Self {
        Self { eps: (self.eps * factor).min(f64::MAX), ..*self }
    }

    /// Reads ε from a fraction (`8/255`) or a decimal (`0.03`).
    ///
    /// ```
    /// # use equipoise_attack::attack::Budget;
    /// assert_eq!(Budget::parse_eps("8/255"), Ok(8.0 / 255.0));
    /// assert_eq!(Budget::parse_eps("0.03"), Ok(0.03));
    /// ```
    ///
    /// # Errors
    ///
    /// [`BudgetError::Unreadable`] if it is neither, [`BudgetError::Radius`] if it is negative or not finite.
    pub fn parse_eps(text: &str) -> Result<f64, BudgetError> {
        let number = |part: &str| {
            part.trim().parse::<f64>().map_err(|_| BudgetError::Unreadable(text.trim().to_owned()))
        };
        let eps = match text.split_once('/') {
            Some((numerator, denominator)) => number(numerator)? / number(denominator)?,
            None => number(text)?,
        };
        Self::new(Norm::Linf, eps).map(|budget| budget.eps)
    }

    /// The nearest images to `perturbed` that lie in the ball around `images` and in \[0, 1\].
    ///
    /// L∞ clamps each intensity to \[max(0, x − ε), min(1, x + ε)\]. L2 scales the perturbation to length ε
    /// and then clamps to \[0, 1\]: as x itself lies in \[0, 1\], clamping only shortens the perturbation. L1
    /// goes to the nearest point of the ball and the box together (Croce and Hein 2021, arXiv 2103.01208).
    /// Pixels that are not a number return to the original.
    ///
    /// # Shapes
    ///
    /// `images`, `perturbed` and the result `[N, C, H, W]`.
    pub fn project(&self, images: &Images, perturbed: &Images) -> Images {
        combine(images, perturbed, |original, pixels| self.project_example(original, pixels))
    }

    /// Moves the pixels of one example to the nearest image in the ball, in place, as [`Self::project`] does for a batch.
    pub fn project_example(&self, original: &[f32], pixels: &mut [f32]) {
        match self.norm {
            Norm::Linf => Arch::new().dispatch(Pixels(original, pixels, |x, pixel| {
                let centre = f64::from(x);
                let wanted = f64::from(finite_or(pixel, x));
                let (low, high) = ((centre - self.eps).max(0.0), (centre + self.eps).min(1.0));
                round_towards(x, wanted.max(low).min(high))
            })),
            Norm::L2 => {
                let length = self.norm.distance(original, pixels);
                // One part in 10¹² of safety covers the rounding of the float64 sums.
                let scale = if length > self.eps { self.eps / length * (1.0 - 1e-12) } else { 1.0 };
                Arch::new().dispatch(Pixels(original, pixels, |x, pixel| {
                    let centre = f64::from(x);
                    let change = f64::from(finite_or(pixel, x)) - centre;
                    round_towards(x, (centre + scale * change).clamp(0.0, 1.0))
                }));
            }
            Norm::L1 => {
                let centre: Vec<f64> = original.iter().map(|&x| f64::from(x)).collect();
                let mut change: Vec<f64> = pixels
                    .iter()
                    .zip(original)
                    .map(|(&pixel, &x)| f64::from(finite_or(pixel, x)) - f64::from(x))
                    .collect();
                l1::project(&centre, &mut change, self.eps);
                for ((pixel, &x), change) in pixels.iter_mut().zip(original).zip(change) {
                    *pixel = round_towards(x, (f64::from(x) + change).clamp(0.0, 1.0));
                }
            }
        }
    }

    /// The perturbation of size `step` along which a linear function of slope `gradient` rises fastest:
    /// `step`·sign(g) for L∞, `step`·g/‖g‖₂ per example for L2, for L1 `step` on the largest entry alone (on the
    /// first of equal ones).
    ///
    /// A gradient of zero gives no step. An entry that is not a number says nothing about its direction and
    /// is taken as zero; an infinite entry is taken as the largest finite number. Neither is reported here:
    /// an attack goes on with what is left, and gradients are examined by the diagnostics.
    ///
    /// # Shapes
    ///
    /// `gradient` and the result `[N, C, H, W]`.
    pub fn ascent_step(&self, gradient: &Images, step: f64) -> Images {
        let shape = gradient.dims();
        let mut entries = to_vec(gradient.clone());
        rows(&mut entries, shape).for_each(|example| self.ascent_example(example, step));
        from_vec(entries, shape, &gradient.device())
    }

    /// Replaces the gradient of one example by the step of steepest ascent, as [`Self::ascent_step`] does for a batch.
    pub fn ascent_example(&self, gradient: &mut [f32], step: f64) {
        for entry in gradient.iter_mut() {
            *entry = finite_or(*entry, 0.0);
        }
        match self.norm {
            Norm::Linf => {
                for entry in gradient {
                    *entry = if *entry == 0.0 { 0.0 } else { (step as f32).copysign(*entry) };
                }
            }
            Norm::L2 => {
                let length = gradient.iter().map(|&entry| f64::from(entry).powi(2)).sum::<f64>().sqrt();
                if length > 0.0 {
                    for entry in gradient {
                        *entry = (step * (f64::from(*entry) / length)) as f32;
                    }
                }
            }
            Norm::L1 => {
                let largest = gradient.iter().fold(0.0, |largest: f32, entry| largest.max(entry.abs()));
                let mut left = largest > 0.0;
                for entry in gradient {
                    let taken = left && entry.abs() == largest;
                    left &= !taken;
                    *entry = if taken { (step as f32).copysign(*entry) } else { 0.0 };
                }
            }
        }
    }

    /// Whether each image lies in \[0, 1\] and within ε of its original, up to a few float32 roundings: 2⁻²²
    /// for L∞, 2⁻²³·√(CHW) for L2 and 2⁻²³·CHW for L1 (7e-6 and 4e-4 for 32×32 colour images). Images that are
    /// not finite do not.
    ///
    /// # Shapes
    ///
    /// `images` and `perturbed` `[N, C, H, W]`; the result has N entries.
    ///
    /// # Panics
    ///
    /// If the shapes differ.
    pub fn contains(&self, images: &Images, perturbed: &Images) -> Vec<bool> {
        let slack = self.slack(images.dims());
        self.distances(images, perturbed).into_iter().map(|distance| distance <= self.eps + slack).collect()
    }

    /// How far beyond ε the rounding of a correct float32 computation may lead.
    pub fn slack(&self, [_, channels, height, width]: [usize; 4]) -> f64 {
        match self.norm {
            Norm::Linf => 2.0 * f64::from(f32::EPSILON),
            norm => f64::from(f32::EPSILON) * norm.farthest(channels * height * width),
        }
    }

    /// The distance of each image from its original, measured in float64; infinite for an image that leaves
    /// \[0, 1\] or is not a number.
    pub fn distances(&self, images: &Images, perturbed: &Images) -> Vec<f64> {
        let shape = images.dims();
        assert_eq!(shape, perturbed.dims(), "an image and its perturbed version have the same shape");
        let mut original = to_vec(images.clone());
        let mut changed = to_vec(perturbed.clone());
        rows(&mut original, shape)
            .zip(rows(&mut changed, shape))
            .map(|(x, p)| {
                if p.iter().any(|pixel| !(0.0..=1.0).contains(pixel)) {
                    return f64::INFINITY;
                }
                self.norm.distance(x, p)
            })
            .collect()
    }
}

impl fmt::Display for Budget {
    /// For instance `linf 8/255`, `linf 0.2`, `l2 0.5` or `l1 12`: a radius is a fraction of 255 where it is a whole
    /// number of grey levels and has no short decimal form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimal = self.eps.to_string();
        let levels = self.eps * 255.0;
        let whole = levels.round();
        if self.norm == Norm::Linf && decimal.len() > 6 && whole >= 1.0 && (levels - whole).abs() < 1e-9 {
            write!(f, "{} {whole}/255", self.norm)
        } else {
            write!(f, "{} {decimal}", self.norm)
        }
    }
}

/// Changes every pixel by itself, given the original's: a loop that is compiled for each instruction set. The results are
/// those of any other, since no sum depends on the width of a register.
struct Pixels<'a, F>(&'a [f32], &'a mut [f32], F);

impl<F: Fn(f32, f32) -> f32> WithSimd for Pixels<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self(original, pixels, change) = self;
        for (pixel, &x) in pixels.iter_mut().zip(original) {
            *pixel = change(x, *pixel);
        }
    }
}

/// `value`, or `otherwise` where it is not a number, or the largest finite number where it is infinite.
#[inline(always)]
pub(super) fn finite_or(value: f32, otherwise: f32) -> f32 {
    if value.is_nan() { otherwise } else { value.clamp(-f32::MAX, f32::MAX) }
}

/// `value` as float32, never further from `centre` than `value` is.
#[inline(always)]
fn round_towards(centre: f32, value: f64) -> f32 {
    let rounded = value as f32;
    let centre_distance = |point: f64| (point - f64::from(centre)).abs();
    if centre_distance(f64::from(rounded)) <= centre_distance(value) {
        rounded
    } else if rounded > centre {
        rounded.next_down()
    } else {
        rounded.next_up()
    }
}

/// The examples of row-major content, one slice each.
fn rows(
    content: &mut [f32],
    [_, channels, height, width]: [usize; 4],
) -> std::slice::ChunksExactMut<'_, f32> {
    content.chunks_exact_mut((channels * height * width).max(1))
}

/// Applies `change(original, perturbed)` to each example, in place of the perturbed image.
fn combine(images: &Images, perturbed: &Images, change: impl Fn(&[f32], &mut [f32])) -> Images {
    let shape = images.dims();
    assert_eq!(shape, perturbed.dims(), "an image and its perturbed version have the same shape");
    let mut original = to_vec(images.clone());
    let mut pixels = to_vec(perturbed.clone());
    for (x, p) in rows(&mut original, shape).zip(rows(&mut pixels, shape)) {
        change(x, p);
    }
    from_vec(pixels, shape, &images.device())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::attack::Noise;
    use crate::random::ExampleRng;

    fn images(values: &[f32]) -> Images {
        from_vec(values.to_vec(), [1, 1, 1, values.len()], &Device::default())
    }

    #[test]
    fn eps_is_read_as_people_write_it() {
        assert_eq!(Budget::parse_eps(" 8 / 255 "), Ok(8.0 / 255.0));
        assert_eq!(Budget::parse_eps("0"), Ok(0.0));
        for bad in ["", "8/", "eight", "8/255/2"] {
            assert!(matches!(Budget::parse_eps(bad), Err(BudgetError::Unreadable(_))), "{bad}");
        }
        for bad in ["-0.1", "inf", "nan", "1/0", "0/0"] {
            assert!(matches!(Budget::parse_eps(bad), Err(BudgetError::Radius(_))), "{bad}");
        }
    }

    #[test]
    fn norms_are_read_and_written() {
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            assert_eq!(norm.to_string().parse(), Ok(norm));
        }
        assert_eq!("L2".parse(), Ok(Norm::L2));
        assert!("l0".parse::<Norm>().unwrap_err().to_string().contains("linf"));
        assert_eq!(Budget::new(Norm::L1, 12.0).unwrap().to_string(), "l1 12");
        assert_eq!(Budget::new(Norm::Linf, 8.0 / 255.0).unwrap().to_string(), "linf 8/255");
        // 51/255, which nobody means who wrote 0.2.
        assert_eq!(Budget::new(Norm::Linf, 0.2).unwrap().to_string(), "linf 0.2");
        assert_eq!(Budget::new(Norm::L2, 0.5).unwrap().to_string(), "l2 0.5");
    }

    #[test]
    fn a_projected_image_lies_in_the_ball_without_any_slack() {
        let device = Device::default();
        let shape = [3, 8, 8];
        let indices: Vec<usize> = (0..16).collect();
        let x = Noise::new(1, "x", 0).uniform(&indices, shape, 0.0, 1.0, &device);
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            for eps in [0.0, 1e-9, 1e-4, 8.0 / 255.0, 0.5, 3.0, 40.0, 1e6] {
                let budget = Budget::new(norm, eps).unwrap();
                for size in [1e-3, 1.0, 1e20] {
                    let p = x.clone() + Noise::new(1, "p", 0).normal(&indices, shape, &device) * size;
                    let projected = budget.project(&x, &p);
                    for distance in budget.distances(&x, &projected) {
                        assert!(distance <= eps, "{norm} {eps} {size}: {distance}");
                    }
                    let again = budget.project(&x, &projected);
                    assert_eq!(to_vec(again), to_vec(projected), "projection is idempotent: {norm} {eps}");
                }
            }
        }
    }

    #[test]
    fn projection_goes_to_the_nearest_point() {
        let x = images(&[0.5, 0.5, 0.5, 0.02]);
        let p = images(&[0.9, 0.55, 0.1, -1.0]);
        let linf = Budget::new(Norm::Linf, 0.125).unwrap().project(&x, &p);
        assert_eq!(to_vec(linf), vec![0.625, 0.55, 0.375, 0.0]);
        // A perturbation (0.3, 0.4) of length 0.5, scaled to 0.25.
        let l2 = Budget::new(Norm::L2, 0.25).unwrap().project(&images(&[0.5, 0.5]), &images(&[0.8, 0.9]));
        for (pixel, expected) in to_vec(l2).into_iter().zip([0.65, 0.7]) {
            assert!((pixel - expected).abs() < 1e-6, "{pixel} {expected}");
        }
    }

    #[test]
    fn pixels_that_are_not_numbers_return_to_the_original() {
        let x = images(&[0.5, 0.25, 0.75]);
        let p = images(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(to_vec(Budget::new(Norm::Linf, 0.125).unwrap().project(&x, &p)), vec![0.5, 0.375, 0.625]);
        for norm in [Norm::L2, Norm::L1] {
            let projected = Budget::new(norm, 0.125).unwrap().project(&x, &p);
            assert!(to_vec(projected).iter().all(|pixel| pixel.is_finite()), "{norm}");
        }
    }

    /// The loops compiled for an instruction set give the bits of those that are not.
    #[test]
    fn every_instruction_set_projects_to_the_same_bits() {
        let mut rng = ExampleRng::new(1, "projection", 0, 0);
        let mut original: Vec<f32> = (0..1001).map(|_| rng.unit() as f32).collect();
        original[..2].copy_from_slice(&[0.0, 1.0]);
        let mut strayed: Vec<f32> = original.iter().map(|x| x + 0.2 * rng.normal() as f32).collect();
        strayed[2..6].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]);
        for norm in [Norm::Linf, Norm::L2] {
            let budget = Budget::new(norm, 0.1).unwrap();
            let mut together = strayed.clone();
            budget.project_example(&original, &mut together);
            let mut alone = strayed.clone();
            let length = norm.distance(&original, &alone);
            for (pixel, &x) in alone.iter_mut().zip(&original) {
                let (centre, wanted) = (f64::from(x), f64::from(finite_or(*pixel, x)));
                let inside = match norm {
                    Norm::Linf => wanted.max((centre - 0.1).max(0.0)).min((centre + 0.1).min(1.0)),
                    _ => (centre + 0.1 / length * (1.0 - 1e-12) * (wanted - centre)).clamp(0.0, 1.0),
                };
                *pixel = round_towards(x, inside);
            }
            let bits = |pixels: &[f32]| pixels.iter().map(|pixel| pixel.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&together), bits(&alone), "{norm}");
        }
    }

    #[test]
    fn what_strays_is_not_contained() {
        let x = images(&[0.5, 0.99]);
        let linf = Budget::new(Norm::Linf, 0.1).unwrap();
        assert_eq!(linf.contains(&x, &images(&[0.6, 0.9])), [true]);
        assert_eq!(linf.contains(&x, &images(&[0.601, 0.9])), [false]);
        assert_eq!(linf.contains(&x, &images(&[0.5, 1.0001])), [false]);
        assert_eq!(linf.contains(&x, &images(&[f32::NAN, 0.99])), [false]);
        let l2 = Budget::new(Norm::L2, 0.1).unwrap();
        assert_eq!(l2.contains(&x, &images(&[0.56, 0.91])), [true]);
        assert_eq!(l2.contains(&x, &images(&[0.57, 0.90])), [false]);
    }

    #[test]
    fn steps_have_the_right_size_however_small_the_gradient() {
        let gradient = images(&[3e-30, -4e-30, 0.0, f32::NAN]);
        let linf = Budget::new(Norm::Linf, 1.0).unwrap().ascent_step(&gradient, 0.25);
        assert_eq!(to_vec(linf), vec![0.25, -0.25, 0.0, 0.0]);
        let l2 = Budget::new(Norm::L2, 1.0).unwrap().ascent_step(&gradient, 0.25);
        for (entry, expected) in to_vec(l2).into_iter().zip([0.15, -0.2, 0.0, 0.0]) {
            assert!((entry - expected).abs() < 1e-7, "{entry} {expected}");
        }
        let l1 = Budget::new(Norm::L1, 1.0).unwrap().ascent_step(&images(&[3.0, -4.0, 4.0]), 0.25);
        assert_eq!(to_vec(l1), vec![0.0, -0.25, 0.0]);
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let zero = images(&[0.0, -0.0]);
            assert_eq!(to_vec(Budget::new(norm, 1.0).unwrap().ascent_step(&zero, 0.25)), vec![0.0, 0.0]);
        }
    }
}
