//! Every finding, and every reason for none, in words.

use crate::arms::{self, Runs, model};
use crate::records;
use equipoise_record::{Accuracy, Collection, Evaluation, Finding, ReadoutResult, VerdictEvidence};
use equipoise_report::{Format, Statement, render, statements};

fn concluded(count: usize, readout: ReadoutResult) -> Statement {
    statements(&model("m", count, vec![readout])).remove(0)
}

fn state(runs: Runs) -> Statement {
    concluded(runs.count, runs.record())
}

#[track_caller]
fn says(statement: &Statement, parts: &[&str]) {
    for part in parts {
        assert!(statement.sentence.contains(part), "no `{part}` in: {}", statement.sentence);
    }
}

#[track_caller]
fn because(statement: &Statement, parts: &[&str]) {
    let lines = statement.reasons.iter().chain(&statement.warnings).cloned().collect::<Vec<_>>().join("\n");
    for part in parts {
        assert!(lines.contains(part), "no `{part}` in: {lines}");
    }
}

#[test]
fn obfuscation_by_the_gradient() {
    let found = state(arms::obfuscated());
    assert_eq!((found.finding, found.evidence), (Finding::Obfuscated, Some(VerdictEvidence::Gradient)));
    assert_eq!(found.label, "Gradient obfuscation");
    assert_eq!(
        found.sentence,
        "m on CIFAR-10 (JPEG), test, L∞ ε = 8/255, 500 images, readout final: gradient obfuscation: 6 runs through \
         other gradients broke 38 images that as many runs through the training gradient from the same starts did \
         not, and 2 the other way round (a difference of 7.2 points, 95% interval [4.8, 9.6], corrected \
         p < 0.001), confirmed by through-solver alone against exact (21 to 2, p < 0.001); accuracy is 73.4% when \
         clean, 39.6% [35.4, 44.0] under ready-made attacks, 31.6% [27.7, 35.8] white-box."
    );
    because(
        &found,
        &[
            "6 runs in the white-box arm",
            "6 runs in the ready-made arm",
            "All begin with the 206 images that stand after the opening",
            "the level is 0.05",
            "One gradient against one, pgd-10x4",
            "2 of 500 images (0.4% [0.1, 1.4]) fell to them alone",
            "more restarts would hardly change",
            "Tried: pgd-10, apgd-ce and pgd-10x4 through 5 gradient estimators; square without gradients.",
        ],
    );
}

#[test]
fn twins_that_still_break_images_may_close_the_gap() {
    let mut runs = arms::obfuscated();
    runs.pairs.last_mut().unwrap().twin = 9;
    let found = state(runs);
    assert_eq!(found.finding, Finding::Obfuscated);
    says(&found, &["more restarts may close the gap"]);
}

#[test]
fn obfuscation_by_aim() {
    let found = state(arms::by_aim());
    assert_eq!((found.finding, found.evidence), (Finding::Obfuscated, Some(VerdictEvidence::Aim)));
    assert_eq!(found.label, "Obfuscation by aim");
    says(
        &found,
        &[
            "readout early(3): obfuscation by aim: 4 runs",
            "the gap closes once the ready-made attacks are aimed at the readout",
            "of the gap 5.0 points are aim and 0.2 points [",
            "remain between the gradients",
        ],
    );
    because(
        &found,
        &["4 runs in the aimed arm", "Aim: the same attacks through the training method, pointed at"],
    );
}

#[test]
fn masking_that_only_gradient_free_attacks_see() {
    let found = state(arms::masked());
    assert_eq!((found.finding, found.evidence), (Finding::Obfuscated, Some(VerdictEvidence::GradientFree)));
    assert_eq!(found.label, "Gradient masking (gradient-free attacks win)");
    says(
        &found,
        &[
            "attacks without gradients alone broke 31 of 500 images (6.2% [4.4, 8.7])",
            "4 runs through other gradients broke 1 image",
        ],
    );
}

#[test]
fn no_obfuscation_below_the_margin() {
    let found = state(arms::healthy());
    assert_eq!((found.finding, found.label), (Finding::NotObfuscated, "No gradient obfuscation"));
    says(
        &found,
        &[
            "no gradient obfuscation of 3 points or more: 4 runs",
            "a difference of 0.0 points, 95% interval [−",
            "corrected p = 0.75",
            "attacks without gradients alone broke 0 of 500 images (0.0% [0.0, 0.8])",
        ],
    );
}

#[test]
fn few_images_are_undecided_and_say_how_many_would_do() {
    let found = state(arms::undecided());
    assert_eq!((found.finding, found.label), (Finding::Undecided, "Undecided"));
    says(
        &found,
        &[
            "undecided: 4 runs",
            "40 images are too few to rule obfuscation out (80 are needed)",
            "images with the same shares would decide it",
            "the interval ends above the margin of 3 points",
        ],
    );
    assert!(!found.sentence.contains("no sign"));
    // Three images, one of them correct: never a word of comfort.
    let runs = Runs {
        count: 3,
        clean: 1,
        opening: &[("pgd-10", 0)],
        pairs: arms::pairs(&[(0, 0, 0)]),
        ..Runs::default()
    };
    assert_eq!(state(runs).finding, Finding::Undecided);
}

#[test]
fn undecided_says_what_is_missing() {
    let unconfirmed = state(Runs { yardstick: Some((3, 2)), ..arms::obfuscated() });
    assert_eq!(unconfirmed.finding, Finding::Undecided);
    says(
        &unconfirmed,
        &[
            "through-solver alone against exact does not confirm it (3 to 2, p = 0.50)",
            "with the same shares would decide it",
        ],
    );
    let blind = state(Runs { free: &[], ..arms::healthy() });
    assert_eq!(blind.finding, Finding::Undecided);
    says(
        &blind,
        &[
            "no attack without gradients was run",
            "add an attack without gradients, such as square-500, to decide it",
        ],
    );
    let never = state(Runs { yardstick: Some((2, 2)), ..arms::obfuscated() });
    says(&never, &["no number of images up to 1,000,000 with the same shares would decide it"]);
}

#[test]
fn the_records_of_these_tests_are_sound() {
    let models = vec![
        records::obfuscated(),
        records::healthy(),
        records::without_ready_made(),
        records::empty(),
        model("aim", 500, vec![arms::by_aim().record()]),
        model("masked", 500, vec![arms::masked().record()]),
        model("few", 40, vec![arms::undecided().record()]),
        model("none", 500, vec![arms::nothing_left().record()]),
        model("one gradient", 500, vec![arms::feedforward().record()]),
    ];
    for model in models {
        let collection =
            Collection { version: 2, models: vec![model], diagnoses: Vec::new(), trainings: Vec::new() };
        equipoise_verdict::check(&collection).unwrap();
    }
}

#[test]
fn no_robustness_is_left() {
    let found = state(arms::nothing_left());
    assert_eq!((found.finding, found.label), (Finding::NoRobustnessLeft, "No robustness left"));
    says(&found, &["robust accuracy is 0%, so obfuscation cannot be assessed; accuracy is 91.6% when clean"]);
    let few = Runs { opening: &[("pgd-10", 455)], ..arms::nothing_left() };
    let found = state(few);
    assert_eq!(found.finding, Finding::NoRobustnessLeft);
    says(&found, &["ready-made attacks leave 0.6% [0.2, 1.7] (3 of 500 images)"]);
}

#[test]
fn no_control_says_why() {
    let nothing_correct = Runs { clean: 0, opening: &[("pgd-10", 0)], ..Runs::default() };
    let no_ready_made = Runs { opening: &[], ..Runs::default() };
    let one_gradient = Runs { free: &[], ..Runs::default() };
    for (runs, parts) in [
        (
            arms::control_off(),
            &["gap, cause open: 9.2 points (46 of 500 images)", "control was off", "6 runs"][..],
        ),
        (
            arms::feedforward(),
            &["the network has one gradient only", "broke 4 of 500 images (0.8% [0.3, 2.0]) beyond it"],
        ),
        (
            one_gradient,
            &["only the training gradient was tried; add --gradients to test", "no attack without"],
        ),
        (nothing_correct, &["no image is classified correctly when clean"]),
        (no_ready_made, &["no ready-made attack was run"]),
        (Runs { opening: &[], free: &[], ..Runs::default() }, &["no attack was run"]),
    ] {
        let found = state(runs);
        assert_eq!((found.finding, found.label), (Finding::NoControl, "No control"), "{}", found.sentence);
        says(&found, parts);
    }
    let empty = statements(&records::empty()).remove(0);
    says(&empty, &["no image was evaluated, so nothing can be said"]);
}

#[test]
fn a_record_of_version_1_has_no_control() {
    let [clean, opening, white_box] = [9, 6, 4].map(|correct| Accuracy::new(correct, 10));
    let attack = |estimator: &str, ready_made: bool, before: usize, after: usize| {
        let accuracy = Accuracy::new(after, 10);
        serde_json::json!({
            "name": "pgd-10", "estimator": estimator, "ready_made": ready_made, "accuracy": accuracy.value,
            "accuracy_interval": accuracy.interval, "attempted": before, "broken": before - after,
            "unconfirmed": 0, "seconds": 1.0, "cell_evaluations": 90, "vjps": 40,
        })
    };
    let broken_by = |index: usize| match index {
        4..6 => Some("pgd-10/through-solver"),
        6..9 => Some("pgd-10/exact"),
        _ => None,
    };
    let example = |index: usize| {
        serde_json::json!({
            "index": index, "label": 0, "clean_correct": index < 9, "robust": index < 4,
            "broken_by": broken_by(index), "non_finite": false,
        })
    };
    let record = serde_json::json!({
        "version": 1, "model": "old", "configuration": {}, "dataset": "digits, test", "norm": "linf", "eps": 0.1,
        "seed": 0, "count": 10, "clean_accuracy": clean.value, "clean_accuracy_interval": clean.interval,
        "readouts": [{
            "name": "final", "clean_accuracy": clean.value, "clean_accuracy_interval": clean.interval,
            "ready_made_accuracy": opening.value, "ready_made_accuracy_interval": opening.interval,
            "white_box_accuracy": white_box.value, "white_box_accuracy_interval": white_box.interval,
            "attacks": [attack("exact", true, 9, 6), attack("through-solver", false, 6, 4)],
            "examples": (0..10).map(example).collect::<Vec<_>>(),
        }],
    });
    let models: Vec<Evaluation> = equipoise_record::read(&record.to_string()).unwrap().models;
    let found = statements(&models[0]).remove(0);
    assert_eq!(found.finding, Finding::NoControl);
    says(&found, &["gap, cause open: 20.0 points (2 of 10 images)", "this record is of version 1"]);
    for format in Format::ALL {
        render(format, &records::report(models.clone())).unwrap();
    }
}

#[test]
fn looks_and_transferred_images_are_told() {
    let mut model = records::healthy();
    let verdict = &mut model.readouts[0].verdict;
    verdict.looks = vec![100, 200, 500];
    verdict.level = 0.0125;
    verdict.transfer_only = 3;
    let found = statements(&model).remove(0);
    because(
        &found,
        &[
            "A finding was shown before, at 100 and 200 images, so this one is tested at the level 0.0125.",
            "3 images fell to transferred images alone, which is no sign of masking.",
        ],
    );
}

#[test]
fn what_makes_the_record_doubtful_is_said() {
    let mut readout = arms::healthy().record();
    readout.attacks[1].unconfirmed = 3;
    readout.examples[0].non_finite = true;
    readout.examples.pop();
    readout.white_box_accuracy = readout.clean_accuracy;
    let found = concluded(500, readout);
    because(
        &found,
        &[
            "this record contradicts itself",
            "not counted: 3.",
            "not finite: 1 image.",
            "lists 499 images of 500",
        ],
    );
}
