//! Paired comparisons of models and readouts, and the names that tell records apart.

use crate::records::{healthy, obfuscated, report, two_radii, without_ready_made};
use equipoise_record::Evaluation;
use equipoise_report::{Format, comparison_csv, distinguish, render};

#[test]
fn two_models_on_the_same_images_are_compared_in_pairs() {
    let models = vec![obfuscated(), healthy()];
    // The standing images of both are the first of the data set: 158 of one and 178 of the other.
    for format in [Format::Html, Format::Markdown, Format::Latex] {
        let text = render(format, &report(models.clone())).unwrap().replace("<wbr>", "").replace("\\%", "%");
        for expected in ["of 500 images in common pgd-at/final alone is robust on", "is more robust"] {
            assert!(text.contains(expected), "{format}: {expected}");
        }
    }
    let csv = comparison_csv(&models).unwrap().unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    assert_eq!(rows.len(), 1);
    let [n, first, second] = [7, 8, 9].map(|at| rows[0][at].parse::<i64>().unwrap());
    assert_eq!((n, first - second), (500, 158 - 178));
}

#[test]
fn one_model_behind_one_readout_has_nothing_to_be_compared_with() {
    assert_eq!(comparison_csv(&[obfuscated()]).unwrap(), None);
    // Of two readouts one was not attacked.
    assert_eq!(comparison_csv(&[without_ready_made()]).unwrap(), None);
    let elsewhere = Evaluation { dataset: "digits, test".into(), ..healthy() };
    assert_eq!(comparison_csv(&[obfuscated(), elsewhere]).unwrap(), None);
    assert!(!render(Format::Markdown, &report(vec![two_radii()])).unwrap().contains("Paired comparisons"));
}

#[test]
fn many_pairs_stand_in_the_order_of_their_p_values() {
    let other = Evaluation { model: "again".into(), ..healthy() };
    let csv = comparison_csv(&[healthy(), other, obfuscated()]).unwrap().unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let p: Vec<f64> = reader.records().map(|row| row.unwrap()[14].parse().unwrap()).collect();
    assert_eq!(p.len(), 3);
    assert!(p.is_sorted() && p[2] == 1.0, "{p:?}");
}

#[test]
fn records_of_one_model_are_told_apart() {
    let named = |models: &mut [Evaluation], sources: &[&str]| {
        let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
        distinguish(models, &sources);
        models.iter().map(|model| model.model.clone()).collect::<Vec<_>>()
    };
    let of_seed = |seed| Evaluation { seed, ..obfuscated() };
    assert_eq!(named(&mut [obfuscated(), healthy()], &["a", "b"]), ["pgd-at", "trades"]);
    assert_eq!(
        named(&mut [of_seed(0), healthy(), of_seed(1)], &["a", "a", "b"]),
        ["pgd-at (evaluation seed 0)", "trades", "pgd-at (evaluation seed 1)"]
    );
    assert_eq!(named(&mut [of_seed(0), of_seed(0)], &["a", "b"]), ["pgd-at (a)", "pgd-at (b)"]);
    assert_eq!(named(&mut [of_seed(0), of_seed(0)], &["a", "a"]), ["pgd-at", "pgd-at #2"]);
}

#[test]
fn of_very_many_pairs_the_clearest_are_shown_and_the_file_has_all() {
    let models = |count: usize| -> Vec<Evaluation> {
        let model = |k: usize| match k % 2 {
            0 => Evaluation { model: format!("model {k}"), ..obfuscated() },
            _ => Evaluation { model: format!("model {k}"), ..healthy() },
        };
        (0..count).map(model).collect()
    };
    let rows = |text: &str| {
        text.lines().filter(|line| line.starts_with("| model ") && line.contains("/final")).count()
    };
    // 91 pairs of 14 models are shown as they are; of 105 of 15 some are left out, and it is said.
    let few = render(Format::Markdown, &report(models(14))).unwrap();
    assert!(rows(&few) == 91 && !few.contains("Shown are"), "{}", rows(&few));
    let many = report(models(15));
    for format in [Format::Html, Format::Markdown, Format::Latex] {
        let text = render(format, &many).unwrap();
        let left_out =
            "Shown are the 100 with the smallest p-values; the other 5 stand with them in comparisons.csv";
        assert!(text.contains(left_out), "{format}");
        assert!(text.contains("corrected over all 105 comparisons"), "{format}");
        // A sentence for each that is shown.
        assert_eq!(text.matches("images in common model ").count(), 100, "{format}");
    }
    assert_eq!(rows(&render(Format::Markdown, &many).unwrap()), 100);
    assert_eq!(comparison_csv(&many.models).unwrap().unwrap().lines().count(), 1 + 105);
}
