//! Pictures of an evaluation: images, perturbations, and what the model answered.

use equipoise_record::{Answers, Gallery, GalleryItem};

use super::ledger::Outcome;
use super::points::Points;
use crate::attack::Norm;
use crate::batch::to_vec;

/// Some images before and after an attack, as bytes.
pub struct Pictures<'a> {
    clean: &'a [f32],
    attacked: &'a [f32],
    /// Perturbations are shown as mid-grey + scale × perturbation.
    pub scale: f64,
    size: usize,
}

impl<'a> Pictures<'a> {
    /// Of images of `size` pixels, row by row. The largest change of all just reaches black or white.
    pub fn new(clean: &'a [f32], attacked: &'a [f32], size: usize) -> Self {
        let changes = attacked.iter().zip(clean).map(|(a, b)| f64::from((a - b).abs()));
        let largest = changes.fold(0.0, f64::max);
        let scale = if largest > 0.0 { 0.5 / largest } else { 1.0 };
        // A whole number is easier to say; the largest change is ε only up to rounding.
        let scale = if scale > 1.0 { (scale + 1e-3).floor() } else { scale };
        Self { clean, attacked, scale, size }
    }

    /// One image with the model's answers.
    pub fn item(
        &self,
        row: usize,
        (index, label): (usize, usize),
        norm: Norm,
        (clean_answers, attacked_answers): (Answers, Answers),
    ) -> GalleryItem {
        let part = row * self.size..(row + 1) * self.size;
        let (clean, attacked) = (&self.clean[part.clone()], &self.attacked[part]);
        let byte = |intensity: f64| (255.0 * intensity).round().clamp(0.0, 255.0) as u8;
        let bytes = |pixels: &[f32]| pixels.iter().map(|&pixel| byte(f64::from(pixel))).collect::<Vec<u8>>();
        let changes = attacked.iter().zip(clean).map(|(a, b)| byte(0.5 + self.scale * f64::from(a - b)));
        GalleryItem {
            index,
            label,
            clean: bytes(clean),
            perturbation: changes.collect(),
            attacked: bytes(attacked),
            distance: norm.distance(clean, attacked),
            clean_answers,
            attacked_answers,
        }
    }
}

/// The first `count` broken points of an evaluation, with the classes' names. Nothing is evaluated.
pub fn gallery(points: &Points, outcome: &Outcome, norm: Norm, classes: &[String], count: usize) -> Gallery {
    let broken =
        outcome.result.examples.iter().enumerate().filter(|(_, example)| example.broken_by.is_some());
    let rows: Vec<usize> = broken.map(|(row, _)| row).take(count).collect();
    let [_, channels, height, width] = points.images().dims();
    let size = channels * height * width;
    let of = |pixels: &[f32]| -> Vec<f32> {
        rows.iter().flat_map(|&row| pixels[row * size..][..size].to_vec()).collect()
    };
    let (clean, attacked) = (of(&to_vec(points.images().clone())), of(&to_vec(outcome.adversarial.clone())));
    let pictures = Pictures::new(&clean, &attacked, size);
    let answer = |deployed| Answers { by_iterate: Vec::new(), deployed };
    let items = rows.iter().enumerate().map(|(place, &row)| {
        let named = (points.indices()[row], points.labels()[row]);
        let answers = (answer(outcome.clean_predictions[row]), answer(outcome.adversarial_predictions[row]));
        pictures.item(place, named, norm, answers)
    });
    Gallery {
        shape: [channels, height, width],
        classes: classes.to_vec(),
        scale: pictures.scale,
        items: items.collect(),
    }
}
