//! Adversarial images, saved and read back.

use std::fs;

use crate::support::{Bench, EPS, settings};
use crate::victims::{Altered, zero};
use equipoise::attack::{Budget, Classifier, Norm};
use equipoise::batch::{Images, Logits, from_vec, predictions, select, to_vec};
use equipoise::evaluate::{Points, Quiet, SavedError, Verified, read_adversarial, save_adversarial};

#[test]
fn adversarial_images_are_saved_to_the_bit() {
    let bench = Bench::new();
    let points = bench.points();
    let outcome = bench.run(&points, &settings(), &Quiet, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // A dot in the stem is not an extension.
    let stem = folder.path().join("adversarial-0.03");
    let path = save_adversarial(&stem, &points, &settings().budget, "model", &outcome).unwrap();
    assert_eq!(path.file_name().unwrap(), "adversarial-0.03.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let integers = |name: &str| -> Vec<i64> {
        let data = file.tensor(name).unwrap();
        assert_eq!((data.dtype(), data.shape()), (safetensors::Dtype::I64, &[30][..]));
        data.data().chunks(8).map(|word| i64::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let x = file.tensor("x").unwrap();
    assert_eq!(x.shape(), points.images().dims());
    let pixels: Vec<f32> =
        x.data().chunks(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(pixels, to_vec(outcome.adversarial.clone()));
    assert_eq!(integers("y"), points.labels().iter().map(|&y| y as i64).collect::<Vec<_>>());
    assert_eq!(integers("index"), points.indices().iter().map(|&k| k as i64).collect::<Vec<_>>());

    // The file alone supports the verdicts.
    let images = from_vec(pixels, points.images().dims(), &points.images().device());
    let answers = predictions(&bench.linear.logits(&images));
    let (clean, adversarial) = (integers("clean_prediction"), integers("adversarial_prediction"));
    let broken = file.tensor("broken").unwrap();
    for (row, example) in outcome.result.examples.iter().enumerate() {
        assert_eq!(answers[row], Some(adversarial[row] as usize));
        assert_eq!(clean[row] == example.label as i64, example.clean_correct);
        assert_eq!(broken.data()[row] == 1, example.broken_by.is_some());
    }
    let missing = save_adversarial(
        folder.path().join("no/such/folder"),
        &points,
        &settings().budget,
        "model",
        &outcome,
    );
    assert!(missing.unwrap_err().to_string().contains("no/such/folder.safetensors"));
}

#[test]
fn saved_images_are_verified_before_they_are_used() {
    let bench = Bench::new();
    let points = bench.points();
    let outcome = bench.run(&points, &settings(), &Quiet, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("adversarial");
    let path = save_adversarial(&stem, &points, &settings().budget, "model", &outcome).unwrap();
    let saved = read_adversarial(&path).unwrap();
    let verify = |judge: &dyn Classifier, model: &str, readout: &str, points: &Points, eps, batch_size| {
        let budget = Budget::new(Norm::Linf, eps).unwrap();
        saved.verify(judge, (model, readout), points, &budget, batch_size, &Quiet)
    };
    let some = |rows: &[usize], shift: usize, turn: usize| {
        let indices = rows.iter().map(|&row| points.indices()[row] + shift).collect();
        let labels = rows.iter().map(|&row| (points.labels()[row] + turn) % 5).collect();
        Points::new(indices, select(points.images(), rows), labels).unwrap()
    };
    // All of them, and some in another order.
    let all: Vec<usize> = (0..30).collect();
    for rows in [all.as_slice(), &[17, 3, 29]] {
        let points = some(rows, 0, 0);
        let verified = verify(&bench.linear, "model", "final", &points, EPS, 7).unwrap();
        let settings = equipoise::diagnose::Settings { budget: settings().budget, seed: 0, batch_size: 4 };
        let case = equipoise::diagnose::Case::saved(5, &points, &verified, settings, &Quiet).unwrap();
        let attacked = case.images(equipoise_record::View::Attacked);
        assert_eq!(to_vec(attacked.clone()), to_vec(select(&outcome.adversarial, rows)));
    }
    let refused = |result: Result<Verified, SavedError>, part: &str| {
        let error = result.map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, SavedError::Foreign { .. }) && text.contains(part), "{text}");
        assert!(text.contains("adversarial.safetensors"), "{text}");
    };
    let linear = &bench.linear;
    let good = some(&all, 0, 0);
    refused(verify(linear, "another", "final", &good, EPS, 7), "another model");
    refused(verify(linear, "model", "early(2)", &good, EPS, 7), "deployed with early(2)");
    refused(verify(linear, "model", "final", &good, 0.03, 7), "within linf of 0.03");
    refused(verify(linear, "model", "final", &some(&[5], 500, 0), EPS, 7), "image 1505");
    refused(verify(linear, "model", "final", &some(&[5], 0, 1), EPS, 7), "image 1005 has label");
    refused(
        verify(linear, "model", "final", &some(&[0, 5], 0, 0), EPS, 7).and_then(|_| {
            // Image 1000 under the name of 1001.
            let labels = vec![points.labels()[1]];
            let moved = Points::new(vec![1001], select(points.images(), &[0]), labels).unwrap();
            verify(linear, "model", "final", &moved, EPS, 7)
        }),
        "image 1001 is not within",
    );
    let contrary =
        Altered { inner: linear, logits: |_: &Images, logits: Logits| logits.neg(), gradient: zero };
    refused(verify(&contrary, "model", "final", &good, EPS, 7), "the contrary is found");

    let whole = fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() / 2], b"", b"PK\x03\x04 not safetensors at all"] {
        fs::write(&path, bytes).unwrap();
        let text = read_adversarial(&path).unwrap_err().to_string();
        assert!(text.contains("adversarial.safetensors: no complete file"), "{text}");
    }
    assert!(matches!(read_adversarial(folder.path().join("nothing")), Err(SavedError::File { .. })));
}
