//! The verdict in words: what the record found, as a label, a sentence with its numbers, and what it rests on.
//!
//! Nothing is decided here. The finding and all its numbers come from the record
//! ([`equipoise_record::Verdict`]); its rules stand in the crate `equipoise-verdict`.

use crate::derived::{self, Case};
use crate::numbers;
use equipoise_record::{Arm, Evaluation, Finding, Interval, ReadoutResult, VerdictEvidence, wilson_interval};
use equipoise_verdict::{ENOUGH_TO_DENY, LEAST_DIFFERENCE, MOST_IMAGES};

/// What holds of every verdict, to be said once beside them.
const HOW_TO_READ: &str = "Each run through another gradient has a twin: the same attack from the same start through \
     the training gradient. Both arms begin with the images that stand after the opening, which is each ready-made \
     attack once, so a difference between them is no matter of effort. White-box accuracy is the worst case over \
     everything that was tried, an upper bound on robustness: an attack that was not tried may break more. p-values \
     are corrected over all models, readouts and radii of a record (Holm).";

/// The same for a page that is made of so many record files.
pub(crate) fn how_to_read(records: usize) -> String {
    match records {
        0 | 1 => HOW_TO_READ.to_owned(),
        several => format!("{HOW_TO_READ} This page is made of {several} records; each was corrected alone."),
    }
}

/// What the record says of one model behind one readout, in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The model's name.
    pub model: String,
    /// The readout's name.
    pub readout: String,
    /// The record's finding.
    pub finding: Finding,
    /// What shows it, where the finding is `obfuscated`.
    pub evidence: Option<VerdictEvidence>,
    /// The finding in a few words.
    pub label: &'static str,
    /// The finding as one sentence that carries its own setting and numbers.
    pub sentence: String,
    /// What it rests on, a sentence each.
    pub reasons: Vec<String>,
    /// What makes the record itself doubtful, a sentence each.
    pub warnings: Vec<String>,
}

/// The statement on every readout of a model, in the record's order: the first is the deployed one.
pub fn statements(model: &Evaluation) -> Vec<Statement> {
    model.readouts.iter().map(|readout| statement(model, readout)).collect()
}

/// The statement on one readout of `model`, at the largest radius.
pub fn statement(model: &Evaluation, readout: &ReadoutResult) -> Statement {
    let case = Case::largest(model, readout);
    Statement {
        model: model.model.clone(),
        readout: readout.name.clone(),
        finding: case.verdict.finding,
        evidence: case.verdict.evidence,
        label: label(case.verdict),
        sentence: sentence(&case),
        reasons: reasons(&case),
        warnings: warnings(&case),
    }
}

/// A finding in a few words.
pub fn label(verdict: &equipoise_record::Verdict) -> &'static str {
    match (verdict.finding, verdict.evidence) {
        (Finding::Obfuscated, Some(VerdictEvidence::Aim)) => "Obfuscation by aim",
        (Finding::Obfuscated, Some(VerdictEvidence::GradientFree)) => {
            "Gradient masking (gradient-free attacks win)"
        }
        (Finding::Obfuscated, _) => "Gradient obfuscation",
        (Finding::NotObfuscated, _) => "No gradient obfuscation",
        (Finding::Undecided, _) => "Undecided",
        (Finding::NoRobustnessLeft, _) => "No robustness left",
        (Finding::NoControl, _) => "No control",
    }
}

fn sentence(case: &Case) -> String {
    let says = match (case.verdict.finding, case.verdict.evidence) {
        (Finding::NoControl, _) => no_control(case),
        (Finding::NoRobustnessLeft, _) => no_robustness_left(case),
        (Finding::Obfuscated, Some(VerdictEvidence::GradientFree)) => format!(
            "gradient masking: attacks without gradients alone broke {}, which withstood every attack with a \
             gradient; {}",
            gradient_free_share(case),
            arms(case).map_or_else(|| accuracies(case), |arms| format!("{arms}; {}", accuracies(case)))
        ),
        (Finding::Obfuscated, Some(VerdictEvidence::Aim)) => format!(
            "obfuscation by aim: {}, and the gap closes once the ready-made attacks are aimed at the readout{}; {}{}",
            arms(case).unwrap_or_default(),
            split(case),
            accuracies(case),
            restarts(case)
        ),
        (Finding::Obfuscated, _) => format!(
            "gradient obfuscation: {}{}{}; {}{}",
            arms(case).unwrap_or_default(),
            yardstick_in_short(case),
            split(case),
            accuracies(case),
            restarts(case)
        ),
        (Finding::NotObfuscated, _) => format!(
            "no gradient obfuscation of {} points or more: {}; attacks without gradients alone broke {}; {}",
            points_short(case.verdict.margin),
            arms(case).unwrap_or_default(),
            gradient_free_share(case),
            accuracies(case)
        ),
        (Finding::Undecided, _) => undecided(case),
    };
    format!("{}: {says}.", derived::subject(case))
}

/// `3` for three points; `2.5` where it is not a whole number.
fn points_short(fraction: f64) -> String {
    numbers::number((1e4 * fraction).round() / 100.0)
}

/// The two arms with all that the test says of them. Nothing without a control.
fn arms(case: &Case) -> Option<String> {
    let v = case.verdict;
    let (b, c) = (v.b?, v.c?);
    let runs = v.arms.white_box.len();
    let as_many = if runs == 1 {
        "the same run through the training gradient"
    } else {
        "as many runs through the training gradient from the same starts"
    };
    let p = v.p_value_corrected.or(v.p_value).map_or("unknown p".to_owned(), numbers::p_value);
    Some(format!(
        "{} through other gradients broke {} that {as_many} did not, and {c} the other way round (a difference of \
         {} points, 95% interval {}, corrected {p})",
        numbers::runs(runs),
        numbers::images(b),
        numbers::points(v.difference.unwrap_or(0.0)),
        v.difference_interval.map_or("unknown".to_owned(), numbers::points_interval)
    ))
}

fn accuracies(case: &Case) -> String {
    let ready_made = case.ready_made.map_or("not measured".to_owned(), numbers::accuracy);
    format!(
        "accuracy is {} when clean, {ready_made} under ready-made attacks, {} white-box",
        numbers::percent(case.clean.value),
        numbers::accuracy(case.white_box)
    )
}

/// What only attacks without gradients broke: `12 of 500 images (2.4% [1.4, 4.1])`.
fn gradient_free_share(case: &Case) -> String {
    let (k, n) = (case.verdict.gradient_free_only, case.verdict.n);
    format!(
        "{k} of {} ({} {})",
        numbers::images(n),
        numbers::percent(k as f64 / n.max(1) as f64),
        numbers::interval(wilson_interval(k, n))
    )
}

/// How the gap splits into aim and gradient, as a clause.
fn split(case: &Case) -> String {
    case.verdict.aim.map_or(String::new(), |aim| {
        format!(
            "; of the gap {} points are aim and {} points {} remain between the gradients",
            numbers::points(aim.difference),
            numbers::points(aim.remainder.difference),
            numbers::points_interval(aim.remainder.difference_interval)
        )
    })
}

/// That one gradient against one says the same, as a clause.
fn yardstick_in_short(case: &Case) -> String {
    case.verdict.yardstick.as_ref().map_or(String::new(), |y| {
        format!(
            ", confirmed by {} alone against {} ({} to {}, {})",
            y.gradient,
            y.training,
            y.b,
            y.c,
            numbers::p_value(y.p_value)
        )
    })
}

/// That the gap may be a matter of effort, where the twins were still breaking points.
fn restarts(case: &Case) -> &'static str {
    match case.verdict.flattened {
        Some(false) if case.verdict.b > case.verdict.c => {
            "; the last runs through the training gradient still broke images, so more restarts may close the gap"
        }
        _ => "",
    }
}

fn no_robustness_left(case: &Case) -> String {
    let n = case.verdict.n;
    let (opening, ready_made) = (case.opening.unwrap_or(case.white_box), case.ready_made);
    let left = |a| format!("{} ({} of {})", numbers::accuracy(a), a.correct(), numbers::images(n));
    if case.white_box.correct() == 0 {
        let after = ready_made.filter(|a| a.correct() > 0);
        let after = after.map_or(String::new(), |a| format!(" and ready-made accuracy {}", left(a)));
        return format!(
            "robust accuracy is 0%{after}, so obfuscation cannot be assessed; accuracy is {} when clean",
            numbers::percent(case.clean.value)
        );
    }
    format!(
        "ready-made attacks leave {}, and {} after each of them once, which is too little to assess obfuscation; {}",
        left(ready_made.unwrap_or(opening)),
        left(opening),
        accuracies(case)
    )
}

fn undecided(case: &Case) -> String {
    let because = why_undecided(case);
    let images = match case.verdict.would_decide_at {
        Some(n) => format!("{} with the same shares would decide it", numbers::images(n)),
        None if case.verdict.gradient_free_runs == 0 => {
            "add an attack without gradients, such as square-500, to decide it".to_owned()
        }
        None => format!(
            "no number of images up to {} with the same shares would decide it",
            numbers::thousands(MOST_IMAGES as u64)
        ),
    };
    format!(
        "undecided: {}{}; {images}; {}{}",
        arms(case).unwrap_or_default(),
        if because.is_empty() { String::new() } else { format!("; {}", numbers::list(&because)) },
        accuracies(case),
        restarts(case)
    )
}

/// What stands between the numbers and a finding, in the order of the rules.
fn why_undecided(case: &Case) -> Vec<String> {
    let v = case.verdict;
    let mut because = Vec::new();
    let Some([low, high]) = v.difference_interval else { return because };
    let differ = v.p_value_corrected.is_some_and(|p| p < v.level);
    if differ && low >= LEAST_DIFFERENCE {
        because.push(match &v.yardstick {
            Some(y) => format!(
                "{} alone against {} does not confirm it ({} to {}, {})",
                y.gradient,
                y.training,
                y.b,
                y.c,
                numbers::p_value(y.p_value)
            ),
            None => "no gradient was compared with the training gradient one to one".to_owned(),
        });
    } else if differ {
        because.push(format!("the interval begins below {} point", points_short(LEAST_DIFFERENCE)));
    }
    if high >= v.margin {
        because.push(format!("the interval ends above the margin of {} points", points_short(v.margin)));
    }
    let [_, most] = wilson_interval(v.gradient_free_only, v.n);
    if v.gradient_free_runs == 0 {
        because.push("no attack without gradients was run".to_owned());
    } else if most >= v.margin {
        let margin =
            if high >= v.margin { "it" } else { &format!("the margin of {} points", points_short(v.margin)) };
        because.push(format!(
            "what attacks without gradients alone broke, {}, may be above {margin}",
            gradient_free_share(case)
        ));
    }
    if v.n < ENOUGH_TO_DENY {
        because.push(format!(
            "{} are too few to rule obfuscation out ({ENOUGH_TO_DENY} are needed)",
            numbers::images(v.n)
        ));
    }
    because
}

/// Why there is no control, as far as the record shows it.
fn no_control(case: &Case) -> String {
    let (readout, v, n) = (case.readout, case.verdict, case.model.count);
    let white_box = numbers::accuracy(case.white_box);
    let ran = |arm| readout.attacks.iter().any(|a| a.arm == arm);
    if n == 0 {
        return "no image was evaluated, so nothing can be said".to_owned();
    }
    if readout.attacks.is_empty() {
        let clean = numbers::accuracy(case.clean);
        return format!(
            "accuracy is {clean} when clean; no attack was run, so nothing is known of its robustness"
        );
    }
    if case.clean.correct() == 0 {
        return "no image is classified correctly when clean, so there is no robustness to assess".to_owned();
    }
    let Some(ready_made) = case.ready_made else {
        return format!(
            "white-box accuracy is {white_box}; no ready-made attack was run, so there is nothing to compare it with \
             and obfuscation cannot be assessed"
        );
    };
    let gap = || {
        let gap = ready_made.correct() as i64 - case.white_box.correct() as i64;
        let share = gap as f64 / n as f64;
        format!("gap, cause open: {} points ({gap} of {})", numbers::points(share), numbers::images(n))
    };
    if ready_made.correct() == 0 {
        return "robust accuracy is 0%, so obfuscation cannot be assessed".to_owned();
    }
    if !ran(Arm::WhiteBox) {
        let why = if derived::feedforward(readout) {
            "the network has one gradient only, so there is no other to compare it with"
        } else {
            "only the training gradient was tried; add --gradients to test for obfuscation"
        };
        let beyond = match ran(Arm::GradientFree) {
            true => format!("attacks without gradients broke {} beyond it", gradient_free_share(case)),
            false => "no attack without gradients was run".to_owned(),
        };
        return format!("{why}; {beyond}; {}", accuracies(case));
    }
    if v.arms.white_box.is_empty() {
        return format!(
            "{} between ready-made and white-box accuracy; this record is of version 1, which has no runs of equal \
             effort to compare with, so evaluate the model again; {}",
            gap(),
            accuracies(case)
        );
    }
    format!(
        "{} between ready-made and white-box accuracy; the control was off, so {} through other gradients stand \
         against each ready-made attack once and more starts alone may explain it; {}",
        gap(),
        numbers::runs(v.arms.white_box.len()),
        accuracies(case)
    )
}

fn reasons(case: &Case) -> Vec<String> {
    let (readout, v) = (case.readout, case.verdict);
    let mut says = Vec::new();
    says.extend(effort(case));
    if let (Some(p), Some(corrected)) = (v.p_value, v.p_value_corrected) {
        says.push(format!(
            "Exact one-sided test: {}, corrected {}; the level is {}.",
            numbers::p_value(p),
            numbers::p_value(corrected),
            numbers::number(v.level)
        ));
    }
    if let Some(y) = &v.yardstick {
        let chosen = match y.chosen_from {
            0 | 1 => String::new(),
            several => {
                format!(", times {several} because it was chosen from {several} gradients by what they broke")
            }
        };
        says.push(format!(
            "One gradient against one, {} on all images that are correct when clean: {} alone broke {} that {} did not, \
             and {} the other way round ({}{chosen}).",
            y.attack,
            y.gradient,
            numbers::images(y.b),
            y.training,
            y.c,
            numbers::p_value(y.p_value)
        ));
    }
    if let Some(aim) = v.aim {
        let left = aim.remainder;
        says.push(format!(
            "Aim: the same attacks through the training method, pointed at the readout, broke {} that the ready-made \
             ones did not, and {} the other way round: {} points. Beyond these, other gradients broke {}, and {} the \
             other way round: {} points, 95% interval {}, {}.",
            numbers::images(aim.b),
            aim.c,
            numbers::points(aim.difference),
            left.b,
            left.c,
            numbers::points(left.difference),
            numbers::points_interval(left.difference_interval),
            numbers::p_value(left.p_value)
        ));
    }
    if v.gradient_free_runs > 0 {
        says.push(format!(
            "Without gradients, {} on what withstood everything else: {} fell to them alone.",
            numbers::runs(v.gradient_free_runs),
            gradient_free_share(case)
        ));
    }
    if v.transfer_only > 0 {
        says.push(format!(
            "{} fell to transferred images alone, which is no sign of masking.",
            numbers::images(v.transfer_only)
        ));
    }
    if v.flattened == Some(true) {
        says.push(
            "The last quarter of the runs through the training gradient broke next to nothing: more restarts would \
             hardly change the ready-made figure."
                .to_owned(),
        );
    }
    if let [earlier @ .., _] = v.looks.as_slice()
        && !earlier.is_empty()
    {
        let counts: Vec<String> = earlier.iter().map(|n| numbers::thousands(*n as u64)).collect();
        says.push(format!(
            "A finding was shown before, at {} images, so this one is tested at the level {}.",
            numbers::list(&counts),
            numbers::number(v.level)
        ));
    }
    if !readout.attacks.is_empty() {
        says.push(format!("Tried: {}.", derived::tried(readout)));
    }
    let raised: Vec<String> =
        readout.flags.iter().filter(|flag| flag.raised).map(|flag| flag.name.clone()).collect();
    if !raised.is_empty() {
        says.push(format!("Checks raised: {}.", numbers::list(&raised)));
    }
    says
}

/// How many runs each arm had, and what they cost.
fn effort(case: &Case) -> Option<String> {
    let (v, n) = (case.verdict, case.verdict.n);
    if v.arms.white_box.is_empty() || n == 0 {
        return None;
    }
    let work = |runs: &[equipoise_record::ArmRun]| -> (f64, f64) {
        let sum =
            |of: fn(&equipoise_record::ArmRun) -> u64| runs.iter().map(of).sum::<u64>() as f64 / n as f64;
        (sum(|run| run.cell_evaluations), sum(|run| run.vjps))
    };
    let in_words = |name: &str, runs: &[equipoise_record::ArmRun]| {
        let (evaluations, vjps) = work(runs);
        let cost = format!(
            "{} cell evaluations and {} VJPs per image",
            numbers::thousands(evaluations.round() as u64),
            numbers::thousands(vjps.round() as u64)
        );
        let cost = if evaluations + vjps > 0.0 { format!(" ({cost})") } else { String::new() };
        format!("{} in the {name} arm{cost}", numbers::runs(runs.len()))
    };
    let mut arms = vec![in_words("white-box", &v.arms.white_box)];
    for (name, runs) in [("ready-made", &v.arms.ready_made), ("aimed", &v.arms.aimed)] {
        if !runs.is_empty() {
            arms.push(in_words(name, runs));
        }
    }
    let start = case.opening.map_or(String::new(), |opening| {
        let standing = opening.correct();
        format!(" All begin with the {} that stand after the opening.", numbers::images(standing))
    });
    Some(format!("Effort: {}.{start}", numbers::list(&arms)))
}

/// What makes the record itself doubtful.
fn warnings(case: &Case) -> Vec<String> {
    let (readout, n) = (case.readout, case.model.count);
    let mut says = Vec::new();
    if case.ready_made.is_some_and(|a| a.correct() < case.white_box.correct()) {
        says.push(
            "White-box accuracy lies above ready-made accuracy, which is a part of it, so this record contradicts \
             itself; evaluate the model again."
                .to_owned(),
        );
    }
    let unconfirmed: usize = readout.attacks.iter().map(|a| a.unconfirmed).sum();
    if unconfirmed > 0 {
        says.push(format!(
            "Claimed successes that an independent forward pass did not confirm, and that are not counted: \
             {unconfirmed}."
        ));
    }
    let non_finite = readout.examples.iter().filter(|e| e.non_finite).count();
    if non_finite > 0 {
        says.push(format!(
            "Counted as broken because the logits were not finite: {}.",
            numbers::images(non_finite)
        ));
    }
    if !readout.examples.is_empty() && readout.examples.len() != n {
        says.push(format!(
            "The record lists {} of {n}: it is incomplete.",
            numbers::images(readout.examples.len())
        ));
    }
    says
}

/// The difference of a verdict with its interval and counts, as a cell shows it.
pub(crate) fn difference(verdict: &equipoise_record::Verdict) -> Option<(String, Interval)> {
    Some((numbers::points(verdict.difference?), verdict.difference_interval?))
}
