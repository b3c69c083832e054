//! What every format needs to know of a record: its setting in words, its counts, the parts that runs play.

use crate::{ReportError, numbers};
use equipoise_record::{Accuracy, Arm, AttackResult, Evaluation, Flag, RadiusResult, ReadoutResult, Verdict};

/// What is judged: one model behind one readout at one radius.
pub(crate) struct Case<'a> {
    pub model: &'a Evaluation,
    pub readout: &'a ReadoutResult,
    pub eps: f64,
    pub clean: Accuracy,
    pub opening: Option<Accuracy>,
    pub ready_made: Option<Accuracy>,
    pub white_box: Accuracy,
    pub verdict: &'a Verdict,
}

impl<'a> Case<'a> {
    /// At the largest radius, or the only one.
    pub(crate) fn largest(model: &'a Evaluation, readout: &'a ReadoutResult) -> Self {
        Self {
            model,
            readout,
            eps: model.eps,
            clean: readout.clean_accuracy,
            opening: readout.ready_made_opening_accuracy,
            ready_made: readout.ready_made_accuracy,
            white_box: readout.white_box_accuracy,
            verdict: &readout.verdict,
        }
    }

    /// At one radius of several.
    pub(crate) fn at(model: &'a Evaluation, readout: &'a ReadoutResult, radius: &'a RadiusResult) -> Self {
        Self {
            model,
            readout,
            eps: radius.eps,
            clean: radius.clean_accuracy,
            opening: radius.ready_made_opening_accuracy,
            ready_made: radius.ready_made_accuracy,
            white_box: radius.white_box_accuracy,
            verdict: &radius.verdict,
        }
    }
}

/// Who is spoken of, and where: model, data set, budget, count, readout.
pub(crate) fn subject(case: &Case) -> String {
    format!(
        "{} on {}, {}, {}, readout {}",
        case.model.model,
        case.model.dataset,
        budget_of(case.model, case.eps),
        numbers::images(case.model.count),
        case.readout.name
    )
}

/// Where a number comes from: data set, budget, count.
pub(crate) fn setting(model: &Evaluation) -> String {
    format!("{}, {}, {}", model.dataset, budget(model), numbers::images(model.count))
}

/// Norm and radius: `L∞ ε = 8/255`.
pub(crate) fn budget(model: &Evaluation) -> String {
    budget_of(model, model.eps)
}

fn budget_of(model: &Evaluation, eps: f64) -> String {
    format!("{} ε = {}", numbers::norm(&model.norm), numbers::eps(eps))
}

/// Models that may be compared: those of one setting stand together, in the order of their first.
pub(crate) fn by_setting(models: &[Evaluation]) -> Vec<(String, Vec<&Evaluation>)> {
    let mut groups: Vec<(String, Vec<&Evaluation>)> = Vec::new();
    for model in models {
        let setting = setting(model);
        match groups.iter_mut().find(|(s, _)| *s == setting) {
            Some((_, group)) => group.push(model),
            None => groups.push((setting, vec![model])),
        }
    }
    groups
}

/// Every model with each of its readouts.
pub(crate) fn rows(models: &[Evaluation]) -> impl Iterator<Item = (&Evaluation, &ReadoutResult)> {
    models.iter().flat_map(|model| model.readouts.iter().map(move |readout| (model, readout)))
}

/// Examples that survive the ready-made attacks but not everything. Negative if the record contradicts itself.
pub(crate) fn gap(readout: &ReadoutResult) -> Option<i64> {
    Some(readout.ready_made_accuracy?.correct() as i64 - readout.white_box_accuracy.correct() as i64)
}

/// White-box accuracy, where there is one: without any attack it would be clean accuracy by another name.
pub(crate) fn white_box(readout: &ReadoutResult) -> Option<Accuracy> {
    (!readout.attacks.is_empty()).then_some(readout.white_box_accuracy)
}

/// Whether the network has no cell whose evaluations could be counted.
pub(crate) fn feedforward(readout: &ReadoutResult) -> bool {
    let met = |a: &&AttackResult| a.attempted > 0;
    let mut attacks = readout.attacks.iter().filter(met).peekable();
    attacks.peek().is_some() && attacks.all(|a| a.cell_evaluations == 0 && a.vjps == 0)
}

/// Where an attack takes its gradient from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Through the model's own training gradient.
    ReadyMade,
    /// Through another gradient estimator, or the training method pointed at the readout.
    Adaptive,
    /// From logits alone.
    BlackBox,
}

impl Kind {
    pub(crate) fn of(arm: Arm) -> Self {
        match arm {
            Arm::Opening | Arm::ReadyMade | Arm::YardstickTraining => Kind::ReadyMade,
            Arm::WhiteBox | Arm::Aimed | Arm::YardstickOther => Kind::Adaptive,
            Arm::GradientFree | Arm::Transferred => Kind::BlackBox,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::ReadyMade => "training gradient",
            Kind::Adaptive => "another gradient",
            Kind::BlackBox => "no gradient",
        }
    }
}

/// The part that a run plays, in words.
pub(crate) fn arm(arm: Arm) -> &'static str {
    match arm {
        Arm::Opening => "opening",
        Arm::WhiteBox => "white-box arm",
        Arm::ReadyMade => "twin",
        Arm::GradientFree => "gradient-free",
        Arm::Aimed => "aimed twin",
        Arm::YardstickOther => "one against one, other",
        Arm::YardstickTraining => "one against one, training",
        Arm::Transferred => "transferred",
    }
}

/// The gradient estimator in words; a gradient-free attack has none.
pub(crate) fn estimator(attack: &AttackResult) -> &str {
    gradient(&attack.estimator)
}

/// The same by its name in the record.
pub(crate) fn gradient(estimator: &str) -> &str {
    equipoise_record::gradient(estimator).unwrap_or("no gradient")
}

/// `pgd-10 through exact`, `square without gradients`.
pub(crate) fn attack_in_words(attack: &str, estimator: &str) -> String {
    match equipoise_record::gradient(estimator) {
        None => format!("{attack} without gradients"),
        Some(estimator) => format!("{attack} through {estimator}"),
    }
}

/// What was tried, in a few words: attacks through estimators, then those that need none.
pub(crate) fn tried(readout: &ReadoutResult) -> String {
    let distinct = |black_box: bool, name: fn(&AttackResult) -> &String| {
        let mut names: Vec<String> = Vec::new();
        for attack in readout.attacks.iter().filter(|a| a.gradient().is_none() == black_box) {
            if !names.contains(name(attack)) {
                names.push(name(attack).clone());
            }
        }
        names
    };
    let estimators = distinct(false, |a| &a.estimator);
    let through = match estimators.len() {
        1..=3 => numbers::list(&estimators),
        n => format!("{n} gradient estimators"),
    };
    let white_box = format!("{} through {through}", numbers::list(&distinct(false, |a| &a.name)));
    let black_box = format!("{} without gradients", numbers::list(&distinct(true, |a| &a.name)));
    match (estimators.is_empty(), readout.attacks.iter().any(|a| a.gradient().is_none())) {
        (true, false) => "no attack".to_owned(),
        (true, true) => black_box,
        (false, false) => white_box,
        (false, true) => format!("{white_box}; {black_box}"),
    }
}

/// The checks of one readout.
pub(crate) struct Checks<'a> {
    /// Whose they are.
    pub whose: String,
    pub raised: Vec<&'a Flag>,
    pub clear: Vec<&'a Flag>,
}

impl Checks<'_> {
    /// All of them in one line: `7 checks, none raised: a, b, c`.
    pub(crate) fn in_short(&self) -> String {
        let count = self.raised.len() + self.clear.len();
        let checks = if count == 1 { "1 check".to_owned() } else { format!("{count} checks") };
        let names: Vec<&str> = self.clear.iter().map(|flag| flag.name.as_str()).collect();
        match (self.raised.len(), names.is_empty()) {
            (0, _) => format!("{checks}, none raised: {}", names.join(", ")),
            (raised, true) => format!("{checks}, {raised} raised"),
            (raised, false) => format!("{checks}, {raised} raised; clear: {}", names.join(", ")),
        }
    }
}

/// The checks of every readout that has any.
pub(crate) fn checks(models: &[Evaluation]) -> Vec<Checks<'_>> {
    let checked = rows(models).filter(|(_, readout)| !readout.flags.is_empty());
    let checks = checked.map(|(model, readout)| {
        let (raised, clear) = readout.flags.iter().partition(|flag| flag.raised);
        Checks { whose: format!("{}, readout {}", model.model, readout.name), raised, clear }
    });
    checks.collect()
}

/// A NaN would be printed as a number in one format and as `null` in another: refuse it in all of them.
pub(crate) fn check_finite(models: &[Evaluation]) -> Result<(), ReportError> {
    for model in models {
        let check = |field: String, values: &[f64]| match values.iter().all(|v| v.is_finite()) {
            true => Ok(()),
            false => Err(ReportError::NotFinite { model: model.model.clone(), field }),
        };
        let accuracy = |field: String, a: Accuracy| check(field, &[a.value, a.interval[0], a.interval[1]]);
        check("eps".to_owned(), &[model.eps])?;
        accuracy("clean_accuracy".to_owned(), model.clean_accuracy)?;
        for readout in &model.readouts {
            let name = &readout.name;
            let largest = Case::largest(model, readout);
            let radii = readout.radii.iter().map(|radius| Case::at(model, readout, radius));
            for case in std::iter::once(largest).chain(radii) {
                let field = |what: &str| format!("readouts.{name}.{what}");
                check(field("radii.eps"), &[case.eps])?;
                accuracy(field("clean_accuracy"), case.clean)?;
                accuracy(field("white_box_accuracy"), case.white_box)?;
                for (what, found) in
                    [("ready_made_accuracy", case.ready_made), ("ready_made_opening_accuracy", case.opening)]
                {
                    found.map_or(Ok(()), |a| accuracy(field(what), a))?;
                }
                check(field("verdict"), &numbers(case.verdict))?;
            }
            for certificate in &readout.certificates {
                let field =
                    |what: &str| format!("readouts.{name}.certificates.{}.{what}", certificate.method);
                check(field("seconds"), &[certificate.seconds])?;
                check(
                    field("radius"),
                    &certificate.examples.iter().filter_map(|e| e.radius).collect::<Vec<_>>(),
                )?;
                check(
                    field("confidence"),
                    &certificate.confidence.iter().map(|c| c.level).collect::<Vec<_>>(),
                )?;
                for radius in &certificate.radii {
                    check(field("radii.eps"), &[radius.eps])?;
                    accuracy(field("certified_accuracy"), radius.certified_accuracy)?;
                }
            }
            for attack in &readout.attacks {
                let field = format!("readouts.{name}.attacks.{}/{}", attack.name, attack.estimator);
                accuracy(field.clone(), attack.accuracy)?;
                check(field, &[attack.seconds])?;
            }
        }
    }
    Ok(())
}

/// Every number of a verdict that need not be finite.
fn numbers(v: &Verdict) -> Vec<f64> {
    let mut numbers = vec![v.level, v.margin];
    numbers.extend([v.p_value, v.p_value_corrected, v.difference].into_iter().flatten());
    numbers.extend(v.difference_interval.into_iter().flatten());
    numbers.extend(v.yardstick.iter().map(|y| y.p_value));
    if let Some(aim) = v.aim {
        let left = aim.remainder;
        numbers.extend([aim.difference, left.difference, left.p_value]);
        numbers.extend(left.difference_interval);
    }
    numbers
}
