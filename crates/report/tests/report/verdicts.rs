//! The rules of the verdict, one case each.

use crate::records::{self, Attack, UNROLLED, model, readout};
use equipoise_record::Flag;
use equipoise_report::{Finding, Verdict, verdicts};

fn judge(count: usize, clean: usize, attacks: &[Attack]) -> Verdict {
    verdicts(&model("m", count, vec![readout("final", count, clean, attacks)])).remove(0)
}

#[test]
fn a_clear_gap_is_obfuscation() {
    let verdict = verdicts(&records::flattered()).remove(0);
    assert_eq!(verdict.finding, Finding::Flattered);
    assert_eq!(verdict.gap_points, Some(8.2));
    assert_eq!(
        verdict.sentence,
        "pgd-at on CIFAR-10 (JPEG), test, L∞ ε = 8/255, 500 images, readout final: ready-made attacks leave \
         41.2% [37.0, 45.6], white-box 33.0% [29.0, 37.2]: 8.2 points of the ready-made figure are gradient \
         obfuscation."
    );
    let evidence = verdict.evidence.join("\n");
    assert!(evidence.contains("41 of 500 images (8.2 points, 95% interval [6.1, 10.9])"), "{evidence}");
    assert!(evidence.contains(&format!("38 to pgd-10 through {UNROLLED} and 3 to square without gradients")));
}

#[test]
fn a_few_images_are_no_sign() {
    let verdict = verdicts(&records::honest()).remove(0);
    assert_eq!(verdict.finding, Finding::NoSign);
    assert!(
        verdict.sentence.ends_with(
            "0.4 points apart (2 of 500 images): no sign of gradient obfuscation in what was tried."
        ),
        "{}",
        verdict.sentence
    );
}

#[test]
fn a_raised_check_takes_the_calm_away() {
    let flag = |name: &str, raised| Flag {
        name: name.into(),
        raised,
        statement: "what was found".into(),
        evidence: Vec::new(),
    };
    let mut evaluation = records::honest();
    evaluation.readouts[0].flags =
        vec![flag("black-box-beats-white-box", true), flag("unconfirmed-successes", false)];
    let verdict = verdicts(&evaluation).remove(0);
    assert_eq!(verdict.finding, Finding::ChecksRaised);
    assert!(
        verdict.sentence.contains("no gap in what was tried, but 1 check was raised"),
        "{}",
        verdict.sentence
    );
    assert!(verdict.evidence.contains(&"Checks raised: black-box-beats-white-box.".to_owned()));
}

#[test]
fn a_real_but_small_gap_is_measured_and_not_explained() {
    let verdict = judge(1000, 800, &[("pgd-10", "exact", true, 300), ("pgd-10", UNROLLED, false, 12)]);
    assert_eq!(verdict.finding, Finding::Small);
    assert!(verdict.sentence.contains("not evidence of gradient obfuscation"), "{}", verdict.sentence);
}

#[test]
fn few_images_cannot_explain_a_wide_gap() {
    let verdict = judge(20, 18, &[("pgd-10", "exact", true, 5), ("pgd-10", UNROLLED, false, 5)]);
    assert_eq!(verdict.finding, Finding::Unresolved);
    assert!(verdict.sentence.contains("25.0 points apart (5 of 20 images)"), "{}", verdict.sentence);
}

#[test]
fn few_images_without_a_gap_say_how_much_they_may_hide() {
    let verdict = judge(20, 18, &[("pgd-10", "exact", true, 5), ("pgd-10", UNROLLED, false, 0)]);
    assert_eq!(verdict.finding, Finding::NoSign);
    assert!(
        verdict.sentence.ends_with("though 20 images could hide a gap of 16.1 points."),
        "{}",
        verdict.sentence
    );
}

#[test]
fn a_stronger_attack_is_not_taken_for_obfuscation() {
    let verdict = judge(500, 400, &[("pgd-10", "exact", true, 200), ("apgd-t", UNROLLED, false, 50)]);
    assert_eq!(verdict.finding, Finding::StrongerAttack);
    assert!(verdict.sentence.contains("cannot be told apart"), "{}", verdict.sentence);

    let mixed =
        [("pgd-10", "exact", true, 200), ("pgd-10", UNROLLED, false, 40), ("apgd-t", UNROLLED, false, 10)];
    let verdict = judge(500, 400, &mixed);
    assert_eq!(verdict.finding, Finding::Flattered);
    assert_eq!(verdict.gap_points, Some(10.0));
    assert!(
        verdict.sentence.ends_with(
            "8.0 points of the ready-made figure are gradient obfuscation; 2.0 more fell only to attacks that \
             were not run ready-made."
        ),
        "{}",
        verdict.sentence
    );
}

#[test]
fn a_black_box_attack_that_wins_is_obfuscation() {
    let verdict = judge(500, 400, &[("pgd-10", "exact", true, 20), ("square", "none", false, 60)]);
    assert_eq!(verdict.finding, Finding::Flattered);
}

#[test]
fn without_two_sides_there_is_no_comparison() {
    for verdict in verdicts(&records::without_ready_made()).into_iter().chain([
        judge(100, 90, &[("pgd-10", "exact", true, 50)]),
        judge(100, 90, &[]),
        verdicts(&records::empty()).remove(0),
    ]) {
        assert_eq!(verdict.finding, Finding::NoComparison, "{}", verdict.sentence);
        assert_eq!(verdict.gap_points, None);
    }
    let [attacked, not_attacked] =
        <[Verdict; 2]>::try_from(verdicts(&records::without_ready_made())).unwrap();
    assert!(attacked.sentence.contains("no ready-made attack was run, so no comparison is possible"));
    assert!(not_attacked.sentence.contains("no attack was run"));
}

#[test]
fn nothing_left_is_not_called_honest() {
    let verdict = judge(500, 450, &[("pgd-10", "exact", true, 450), ("pgd-10", UNROLLED, false, 0)]);
    assert_eq!(verdict.finding, Finding::NothingLeft);
}

#[test]
fn a_worst_case_above_its_part_is_a_contradiction() {
    let mut readout =
        readout("final", 100, 90, &[("pgd-10", "exact", true, 50), ("square", "none", false, 0)]);
    readout.white_box_accuracy = readout.clean_accuracy;
    let verdict = verdicts(&model("m", 100, vec![readout])).remove(0);
    assert_eq!(verdict.finding, Finding::Contradiction);
}

#[test]
fn what_weakens_the_evidence_is_said() {
    let attacks = [("pgd-10", UNROLLED, false, 10), ("pgd-10", "exact", true, 50)];
    let mut readout = readout("final", 100, 90, &attacks);
    readout.attacks[1].unconfirmed = 3;
    readout.examples[0].non_finite = true;
    readout.examples.pop();
    let evidence = verdicts(&model("m", 100, vec![readout])).remove(0).evidence.join("\n");
    assert!(evidence.contains("ran after others"), "{evidence}");
    assert!(evidence.contains("not counted: 3."), "{evidence}");
    assert!(evidence.contains("not finite: 1 image."), "{evidence}");
    assert!(evidence.contains("lists 99 images of 100"), "{evidence}");
}
