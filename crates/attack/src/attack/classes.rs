//! Classes: how many an attack needs, and in which order targeted attacks try them.

use thiserror::Error;

use super::names::{listed, possible};
use crate::batch::{Logits, to_vec};

/// An attack needs more classes than the model has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{attack} needs at least {needed} classes and the model has {classes}: use {possible} instead")]
pub struct TooFewClasses {
    /// The attack's name.
    pub attack: String,
    /// The classes that it needs.
    pub needed: usize,
    /// The classes that there are.
    pub classes: usize,
    /// The attacks that remain possible.
    pub possible: String,
}

/// Whether there are as many classes as needed.
pub(super) fn at_least(needed: usize, attack: &str, classes: usize) -> Result<(), TooFewClasses> {
    if classes >= needed {
        return Ok(());
    }
    let possible = match classes {
        2.. => listed(&possible(|attack| attack.least_classes() <= classes)),
        _ => "a model with at least two classes".to_owned(),
    };
    Err(TooFewClasses { attack: attack.to_owned(), needed, classes, possible })
}

/// In which order targeted attacks try classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetOrder {
    /// From the most likely on the unperturbed image down.
    #[default]
    Likely,
    /// By the distance of the linearised boundary, (z_y − z_t) / ‖∇(z_y − z_t)‖ in the dual norm, at the unperturbed
    /// image, the nearest first: the order of MALT (Melamed et al. 2024), which asks for a gradient for each of the 100
    /// most likely classes. It matters where there are more classes than targets.
    Near,
}

/// The most classes that are ranked by distance, as in the publication.
const RANKED: usize = 100;

impl TargetOrder {
    /// Gradients that it takes to rank K classes.
    pub(super) fn gradients(self, classes: usize) -> usize {
        match self {
            Self::Likely => 0,
            Self::Near => classes.saturating_sub(1).min(RANKED),
        }
    }
}

/// Each example's classes other than its label, from the largest logit down, ties to the lower class; for a
/// correctly classified example these are the classes ranked 2, 3, .. .
pub(super) fn rivals(logits: &Logits, labels: &[usize]) -> Vec<Vec<usize>> {
    let [_, classes] = logits.dims();
    to_vec(logits.clone())
        .chunks_exact(classes.max(1))
        .zip(labels)
        .map(|(row, &label)| {
            let mut others: Vec<usize> = (0..classes).filter(|&class| class != label).collect();
            others.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            others
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::batch::from_vec;

    #[test]
    fn rivals_are_ranked_without_the_label() {
        let logits = from_vec(vec![0.1, 0.4, 0.3, 0.2, 1.0, 1.0, 0.0, 1.0], [2, 4], &Device::default());
        assert_eq!(rivals(&logits, &[1, 1]), [vec![2, 3, 0], vec![0, 3, 2]]);
    }

    #[test]
    fn the_message_names_what_remains() {
        assert_eq!(at_least(4, "apgd-t", 4), Ok(()));
        let three = at_least(4, "apgd-t", 3).unwrap_err().to_string();
        assert_eq!(
            three,
            "apgd-t needs at least 4 classes and the model has 3: use pgd-10, apgd-ce, apgd-dlr, apgd-pma, fab, fab-t or \
             square instead"
        );
        let two = at_least(3, "apgd-dlr", 2).unwrap_err().to_string();
        assert!(two.contains("apgd-ce, apgd-pma, fab, fab-t or square") && !two.contains("-dlr,"), "{two}");
    }
}
