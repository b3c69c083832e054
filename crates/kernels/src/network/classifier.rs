//! The mean over pixels and a linear map: from an image to logits, and back.

use crate::image::plane::Plane;

/// A pooling and a linear classifier in use.
#[derive(Debug)]
pub(crate) struct Classifier {
    plane: Plane,
    window: [usize; 2],
    /// `[classes, features]` and `[classes]`.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Classifier {
    /// Of the first rows and columns of an image.
    ///
    /// # Panics
    ///
    /// If the window is larger than the image, or the weights are not of its channels.
    pub fn new(plane: Plane, window: [usize; 2], weight: &[f32], bias: &[f32]) -> Self {
        let [rows, columns] = window;
        assert!((1..=plane.height).contains(&rows) && (1..=plane.width).contains(&columns), "a window");
        assert_eq!(weight.len(), bias.len() * plane.channels, "a weight for each class and feature");
        Self { plane, window, weight: weight.to_vec(), bias: bias.to_vec() }
    }

    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    fn share(&self) -> f32 {
        1.0 / (self.window[0] * self.window[1]) as f32
    }

    /// The means of one image, padding included.
    fn pooled(&self, image: &[f32]) -> Vec<f32> {
        let Self { plane, window: [rows, columns], .. } = self;
        let share = self.share();
        let mut pooled = vec![0.0; plane.stride()];
        for y in 0..*rows {
            for pixel in plane.row(image, y).chunks_exact(plane.stride()).take(*columns) {
                pooled.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
            }
        }
        pooled.iter_mut().for_each(|x| *x *= share);
        pooled
    }

    /// The logits of one image.
    pub fn forward(&self, image: &[f32], logits: &mut [f32]) {
        let Self { plane, weight, bias, .. } = self;
        let pooled = self.pooled(image);
        for ((logit, bias), weight) in logits.iter_mut().zip(bias).zip(weight.chunks(plane.channels)) {
            let terms = weight.iter().zip(&pooled).map(|(w, x)| f64::from(*w) * f64::from(*x));
            *logit = (terms.sum::<f64>() + f64::from(*bias)) as f32;
        }
    }

    /// The gradients of weights and biases: sums over images and cotangents of their logits, in their order.
    pub fn gradients<'a>(
        &self,
        examples: impl Iterator<Item = (&'a [f32], &'a [f32])>,
    ) -> (Vec<f32>, Vec<f32>) {
        let features = self.plane.channels;
        let (mut weight, mut bias) = (vec![0.0; self.weight.len()], vec![0.0; self.bias.len()]);
        for (image, cotangent) in examples {
            let pooled = self.pooled(image);
            for ((u, weight), bias) in cotangent.iter().zip(weight.chunks_exact_mut(features)).zip(&mut bias)
            {
                weight.iter_mut().zip(&pooled).for_each(|(sum, x)| *sum += u * x);
                *bias += u;
            }
        }
        (weight, bias)
    }

    /// The cotangent of one image from that of its logits.
    pub fn pull_back(&self, cotangent: &[f32], image: &mut [f32]) {
        let Self { plane, window: [rows, columns], weight, .. } = self;
        let share = self.share();
        let mut pooled = vec![0.0; plane.stride()];
        for (u, weight) in cotangent.iter().zip(weight.chunks(plane.channels)) {
            pooled.iter_mut().zip(weight).for_each(|(sum, w)| *sum += u * share * w);
        }
        for y in 0..plane.height {
            for (x, pixel) in plane.row_mut(image, y).chunks_exact_mut(plane.stride()).enumerate() {
                match y < *rows && x < *columns {
                    true => pixel.copy_from_slice(&pooled),
                    false => pixel.fill(0.0),
                }
            }
        }
    }
}
