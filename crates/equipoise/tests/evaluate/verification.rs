//! A record verified by the model, the data and the stored images: every edit is found.

use crate::support::{Bench, EPS, settings};
use crate::victims::{Linear, images};
use equipoise::attack::Classifier;
use equipoise::batch::{Images, from_vec, predictions, to_vec};
use equipoise::evaluate::{Outcome, Points, Quiet, SavedAdversarial, read_adversarial, save_adversarial};
use equipoise::verify::{Tally, Verification, verify_certificates, verify_readout};
use equipoise_record::{CertifiedExample, ReadoutResult};

/// An evaluation, and what was stored of it.
struct Evidence {
    bench: Bench,
    points: Points,
    outcome: Outcome,
    folder: tempfile::TempDir,
}

impl Evidence {
    fn new() -> Self {
        let bench = Bench::new();
        let points = bench.points();
        let outcome = bench.run(&points, &settings(), &Quiet, None).unwrap();
        Self { bench, points, outcome, folder: tempfile::tempdir().unwrap() }
    }

    fn stored(&self, adversarial: Images) -> SavedAdversarial {
        let mut outcome = self.outcome.clone();
        outcome.adversarial = adversarial;
        let stem = self.folder.path().join("adversarial");
        let path = save_adversarial(stem, &self.points, &settings().budget, "model", &outcome).unwrap();
        read_adversarial(path).unwrap()
    }

    fn verify(
        &self,
        recorded: &ReadoutResult,
        stored: Option<&SavedAdversarial>,
        batch: usize,
    ) -> Verification {
        let (linear, budget) = (&self.bench.linear, settings().budget);
        verify_readout(linear, recorded, &self.points, &budget, stored, (1, 1, batch), &Quiet).unwrap()
    }

    fn broken(&self) -> Vec<usize> {
        let examples = self.outcome.result.examples.iter();
        examples.filter(|example| example.broken_by.is_some()).map(|example| example.index).collect()
    }
}

fn differing(tally: &Tally) -> Vec<(usize, &str)> {
    tally.differences.iter().map(|one| (one.index, one.problem.as_str())).collect()
}

#[test]
fn an_honest_record_is_verified_in_full() {
    let evidence = Evidence::new();
    let recorded = &evidence.outcome.result;
    let stored = evidence.stored(evidence.outcome.adversarial.clone());
    for batch in [1, 7, 64] {
        let found = evidence.verify(recorded, Some(&stored), batch);
        assert_eq!(found.clean, Tally { checked: 30, differences: Vec::new() });
        assert_eq!(found.broken, Tally { checked: evidence.broken().len(), differences: Vec::new() });
        assert_eq!((found.clean.verified(), found.broken.verified()), (30, found.claimed));
        assert!(found.claimed > 3);
    }
    let claimed = evidence.verify(recorded, None, 8);
    assert_eq!((claimed.broken.checked, claimed.claimed), (0, evidence.broken().len()));
}

#[test]
fn edits_of_examples_are_found() {
    let evidence = Evidence::new();
    let stored = evidence.stored(evidence.outcome.adversarial.clone());
    let classes = evidence.bench.linear.classes;
    let after = |edit: &dyn Fn(&mut ReadoutResult)| {
        let mut recorded = evidence.outcome.result.clone();
        edit(&mut recorded);
        evidence.verify(&recorded, Some(&stored), 8)
    };
    for (row, example) in evidence.outcome.result.examples.iter().enumerate() {
        let another = |class: usize| (0..classes).find(|&c| c != class && c != example.label).unwrap();
        let clean = another(example.clean_prediction.unwrap());
        let found = after(&|recorded| recorded.examples[row].clean_prediction = Some(clean));
        assert_eq!(found.clean.differences.len(), 1);
        assert_eq!(found.clean.differences[0].index, example.index);
        // Turned round, whatever class stands there.
        let found = after(&|recorded| {
            let example = &mut recorded.examples[row];
            (example.clean_correct, example.clean_prediction) = (!example.clean_correct, None);
        });
        assert_eq!(found.clean.differences.len(), 1);
        let found = after(&|recorded| recorded.examples[row].label = (example.label + 1) % classes);
        assert!(differing(&found.clean)[0].1.contains("its class is"), "{found:?}");
        if let Some(answer) = example.adversarial_prediction {
            let found =
                after(&|recorded| recorded.examples[row].adversarial_prediction = Some(another(answer)));
            assert_eq!(found.broken.differences.len(), 1, "{found:?}");
        }
        // A robust point that is said to be broken has no image that breaks it.
        if example.robust {
            let said = evidence.outcome.result.examples.iter().find_map(|example| example.broken_by.clone());
            let found = after(&|recorded| recorded.examples[row].broken_by = said.clone());
            assert_eq!(
                differing(&found.broken),
                [(example.index, "its stored image is classified correctly")]
            );
        }
    }
    let elsewhere = after(&|recorded| recorded.examples[2].index = 5);
    assert_eq!(differing(&elsewhere.clean), [(5, "the data has no such image")]);
}

#[test]
fn edits_of_images_are_found() {
    let evidence = Evidence::new();
    let (recorded, broken) = (&evidence.outcome.result, evidence.broken());
    let clean = evidence.points.images().clone();
    let all = |problem: &str, found: &Verification| {
        let expected: Vec<usize> = broken.clone();
        let indices: Vec<usize> = found.broken.differences.iter().map(|one| one.index).collect();
        assert_eq!(indices, expected);
        assert!(found.broken.differences.iter().all(|one| one.problem.contains(problem)), "{found:?}");
        assert_eq!(found.broken.verified(), 0);
    };
    let harmless = evidence.stored(clean.clone());
    all("classified correctly", &evidence.verify(recorded, Some(&harmless), 8));
    let away = to_vec(clean.clone()).into_iter();
    let away = away.map(|x| if x < 0.5 { x + 2.0 * EPS as f32 } else { x - 2.0 * EPS as f32 }).collect();
    let away = evidence.stored(from_vec(away, clean.dims(), &clean.device()));
    all("outside of", &evidence.verify(recorded, Some(&away), 8));
    // Of one image only.
    let size = to_vec(clean.clone()).len() / evidence.points.len();
    let row = evidence.points.indices().iter().position(|&index| index == broken[1]).unwrap();
    let mut pixels = to_vec(evidence.outcome.adversarial.clone());
    pixels[row * size..][..size].copy_from_slice(&to_vec(clean.clone())[row * size..][..size]);
    let one = evidence.stored(from_vec(pixels, clean.dims(), &clean.device()));
    let found = evidence.verify(recorded, Some(&one), 8);
    assert_eq!(differing(&found.broken), [(broken[1], "its stored image is classified correctly")]);
    assert_eq!(found.broken.verified(), broken.len() - 1);
}

#[test]
fn another_model_and_other_data_are_found() {
    let evidence = Evidence::new();
    let recorded = &evidence.outcome.result;
    let stored = evidence.stored(evidence.outcome.adversarial.clone());
    let other = Linear::random(5, 38);
    let budget = settings().budget;
    let found = verify_readout(&other, recorded, &evidence.points, &budget, Some(&stored), (1, 1, 8), &Quiet)
        .unwrap();
    let answers = predictions(&other.logits(evidence.points.images()));
    let expected =
        recorded.examples.iter().zip(answers).filter(|(example, answer)| example.clean_prediction != *answer);
    assert_eq!(found.clean.differences.len(), expected.count());
    assert!(found.clean.differences.len() > 10);

    let (indices, labels) = (evidence.points.indices().to_vec(), evidence.points.labels().to_vec());
    let others = Points::new(indices, images(30, 30, 0.0, 1.0).flip([0]), labels).unwrap();
    let linear = &evidence.bench.linear;
    let found = verify_readout(linear, recorded, &others, &budget, Some(&stored), (1, 1, 8), &Quiet).unwrap();
    assert!(found.clean.differences.len() > 10 && found.broken.verified() == 0, "{found:?}");
    assert!(evidence.points.sha256() != others.sha256());
}

#[test]
fn certificates_are_verified_image_by_image() {
    let example = |index: usize, radius: Option<f64>| CertifiedExample {
        index,
        class: radius.map(|_| 3),
        radius,
        abstained: radius.is_none(),
    };
    let recorded = [example(4, Some(0.5)), example(5, None), example(6, Some(0.25))];
    let same = verify_certificates(&[(&recorded[1], true), (&recorded[2], true)]);
    assert_eq!((same.checked, same.verified()), (2, 2));
    let found = verify_certificates(&[(&recorded[0], false), (&recorded[1], false), (&recorded[2], true)]);
    assert_eq!((found.checked, found.verified()), (3, 2));
    let expected = [(4, "the record has class 3 within 0.5, and that is not proved")];
    assert_eq!(differing(&found), expected);
}
