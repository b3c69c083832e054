//! Images that were stored, as an attack: each example is given the one with its index.

use std::ops::ControlFlow;

use equipoise_files::sha256;

use super::saved::SavedAdversarial;
use crate::attack::{
    Attack, Attempt, Budget, Examples, Norm, Progress, Queries, Schedule, Search, Step, WhiteBox,
};
use crate::batch::{from_vec, to_vec};

/// Images of some examples, whatever they were made against. An example that has none, or one outside of the budget, keeps its
/// unperturbed image. Nothing is claimed: whoever evaluates it looks.
#[derive(Debug, Clone)]
pub struct Stored {
    name: String,
    images: SavedAdversarial,
    hash: String,
}

impl Stored {
    /// Under a name that tells them from others in a table, such as that of the file.
    pub fn new(name: impl Into<String>, images: SavedAdversarial) -> Self {
        let hash = sha256(&images.bytes());
        Self { name: name.into(), images, hash }
    }
}

impl Attack for Stored {
    fn name(&self) -> String {
        format!("stored({})", self.name)
    }

    fn settings(&self) -> String {
        format!("{} {}", self.name(), self.hash)
    }

    fn needs_gradients(&self) -> bool {
        false
    }

    fn draws_start(&self) -> bool {
        false
    }

    fn schedule(&self, _classes: usize, _norm: Norm) -> Schedule {
        Schedule::new(1, 1, Queries::default())
    }

    fn search(&self, _search: &mut Search<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn run_with(
        &self,
        _victim: &dyn WhiteBox,
        examples: &Examples<'_>,
        budget: &Budget,
        progress: &dyn Progress,
    ) -> Attempt {
        let n = examples.labels.len();
        let [_, shape @ ..] = examples.images.dims();
        let step = Step { done: 0, total: 1, examples: n, standing: n };
        if shape != self.images.shape() || progress.step(step).is_break() {
            return Attempt::nothing(examples);
        }
        let clean = to_vec(examples.images.clone());
        let size: usize = shape.iter().product();
        let image = |(row, &index): (usize, &usize)| {
            let own = &clean[row * size..][..size];
            self.images.image(index).unwrap_or(own).to_vec()
        };
        let given: Vec<f32> = examples.indices.iter().enumerate().flat_map(image).collect();
        let given = from_vec(given, examples.images.dims(), &examples.images.device());
        let inside = budget.contains(examples.images, &given);
        let given = to_vec(given);
        let kept = (0..n).flat_map(|row| {
            let of = if inside[row] { &given } else { &clean };
            of[row * size..][..size].to_vec()
        });
        let images = from_vec(kept.collect(), examples.images.dims(), &examples.images.device());
        Attempt { images, claimed: vec![false; n] }
    }
}
