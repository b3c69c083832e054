//! Verification of a record: what anyone can check of it who has the model, the images and the adversarial images that were stored,
//! and did not make it.
//!
//! Nothing here attacks. Unperturbed images are classified again, and each answer is compared with the record's. A broken point
//! is verified by its stored image: it must lie in the budget, and a pass of its own must misclassify it. That a point is *robust*
//! cannot be verified in this way, only that nothing stored breaks it.

use std::collections::{HashMap, HashSet};

use equipoise_record::{CertifiedExample, ExampleResult, ReadoutResult};

use crate::attack::{Budget, Classifier};
use crate::batch::{Images, from_vec};
use crate::evaluate::{Observer, Points, SavedAdversarial, judged};

/// Something that is not as the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The example's index in its data set.
    pub index: usize,
    /// What was found instead.
    pub problem: String,
}

/// How many were checked, and what was found to differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checked.
    pub checked: usize,
    /// Not as recorded, in the order of the data set.
    pub differences: Vec<Difference>,
}

impl Tally {
    fn differs(&mut self, index: usize, problem: impl Into<String>) {
        self.differences.push(Difference { index, problem: problem.into() });
    }

    /// Those that are as recorded.
    pub fn verified(&self) -> usize {
        let mut differing: Vec<usize> = self.differences.iter().map(|difference| difference.index).collect();
        differing.sort_unstable();
        differing.dedup();
        self.checked - differing.len().min(self.checked)
    }
}

/// What came of one readout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Answers to unperturbed images.
    pub clean: Tally,
    /// Points that the record has as broken, by their stored images. Without stored images nothing is checked: the record
    /// claims them.
    pub broken: Tally,
    /// Points that the record has as broken.
    pub claimed: usize,
}

/// Verifies one readout of a record, whose points these are, in the order of its examples: the answers of the `judge`, the model
/// behind that readout, to unperturbed images and to the stored ones. A judge that draws random numbers is asked as the
/// verdict asked it, `draws` times with the same numbers.
///
/// `None` if the observer cancelled.
pub fn verify_readout(
    judge: &dyn Classifier,
    recorded: &ReadoutResult,
    points: &Points,
    budget: &Budget,
    stored: Option<&SavedAdversarial>,
    (seed, draws, batch_size): (u64, usize, usize),
    observer: &dyn Observer,
) -> Option<Verification> {
    let mut found = Verification::default();
    let by_index: HashMap<usize, &ExampleResult> =
        recorded.examples.iter().map(|example| (example.index, example)).collect();
    let rows: Vec<usize> =
        (0..points.len()).filter(|&row| by_index.contains_key(&points.indices()[row])).collect();
    let known: HashSet<usize> = points.indices().iter().copied().collect();
    for example in &recorded.examples {
        if !known.contains(&example.index) {
            found.clean.differs(example.index, "the data has no such image");
        }
    }
    observer.stage(&format!("{}: unperturbed images", recorded.name), rows.len());
    for rows in rows.chunks(batch_size.max(1)) {
        if observer.cancelled() {
            return None;
        }
        let batch = points.select(rows);
        let answers = answers(judge, &batch, batch.images(), (seed, draws));
        for (k, answer) in answers.into_iter().enumerate() {
            let (index, label) = (batch.indices()[k], batch.labels()[k]);
            let example = by_index[&index];
            if example.label != label {
                found.clean.differs(
                    index,
                    format!("its class is {label} in the data, and {} in the record", example.label),
                );
            } else if (answer == Some(label)) != example.clean_correct
                || (example.clean_prediction.is_some() && answer != example.clean_prediction)
            {
                found.clean.differs(
                    index,
                    format!(
                        "the model answers {}, and the record has {}",
                        class(answer),
                        class(example.clean_prediction)
                    ),
                );
            }
        }
        observer.advance(rows.len(), "");
    }
    found.clean.checked = recorded.examples.len();

    let broken: Vec<usize> =
        rows.into_iter().filter(|row| by_index[&points.indices()[*row]].broken_by.is_some()).collect();
    found.claimed = recorded.examples.iter().filter(|example| example.broken_by.is_some()).count();
    let Some(stored) = stored else { return Some(found) };
    observer.stage(&format!("{}: stored images", recorded.name), broken.len());
    for rows in broken.chunks(batch_size.max(1)) {
        if observer.cancelled() {
            return None;
        }
        let batch = points.select(rows);
        let mut places = Vec::new();
        let mut images = Vec::new();
        for (k, &index) in batch.indices().iter().enumerate() {
            match stored.image(index) {
                Some(image) => {
                    places.push(k);
                    images.extend_from_slice(image);
                }
                None => found.broken.differs(index, "no image of it is stored"),
            }
        }
        let [_, shape @ ..] = batch.images().dims();
        if stored.shape() != shape {
            batch.indices().iter().for_each(|&index| {
                found.broken.differs(index, format!("its stored image has the shape {:?}", stored.shape()));
            });
        } else if !places.is_empty() {
            let batch = batch.select(&places);
            let images = from_vec(images, batch.images().dims(), &batch.images().device());
            let inside = budget.contains(batch.images(), &images);
            let answers = answers(judge, &batch, &images, (seed, draws));
            for k in 0..places.len() {
                let (index, label) = (batch.indices()[k], batch.labels()[k]);
                if !inside[k] {
                    found
                        .broken
                        .differs(index, format!("its stored image is outside of {budget}, or of [0, 1]"));
                } else if answers[k] == Some(label) {
                    found.broken.differs(index, "its stored image is classified correctly");
                } else if by_index[&index]
                    .adversarial_prediction
                    .is_some_and(|recorded| answers[k] != Some(recorded))
                {
                    found.broken.differs(
                        index,
                        format!(
                            "the model answers {} to its stored image, and the record has {}",
                            class(answers[k]),
                            class(by_index[&index].adversarial_prediction)
                        ),
                    );
                }
            }
        }
        observer.advance(rows.len(), "");
    }
    found.broken.checked = found.claimed;
    Some(found)
}

/// What of recorded certificates holds, given whether the claim of each was shown again.
pub fn verify_certificates(shown: &[(&CertifiedExample, bool)]) -> Tally {
    let mut tally = Tally { checked: shown.len(), ..Tally::default() };
    for (example, _) in shown.iter().filter(|(_, shown)| !shown) {
        if let Some((class, radius)) = example.class.zip(example.radius) {
            tally.differs(
                example.index,
                format!("the record has class {class} within {radius}, and that is not proved"),
            );
        }
    }
    tally
}

fn class(class: Option<usize>) -> String {
    class.map_or("no class".to_owned(), |class| format!("class {class}"))
}

fn answers(
    judge: &dyn Classifier,
    batch: &Points,
    images: &Images,
    (seed, draws): (u64, usize),
) -> Vec<Option<usize>> {
    // Logits of a wrong shape are no class.
    judged(judge, batch, images, seed, draws).unwrap_or_else(|_| vec![None; batch.labels().len()])
}
