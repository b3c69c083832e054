//! What every format needs to know of a record: its setting in words, its counts, its kinds of attack.

use crate::{ReportError, words};
use equipoise_record::{Accuracy, AttackResult, Evaluation, Flag, ReadoutResult};

/// Where a number comes from: data set, budget, count.
pub(crate) fn setting(model: &Evaluation) -> String {
    format!("{}, {}, {}", model.dataset, budget(model), words::images(model.count))
}

/// Norm and radius: `L∞ ε = 8/255`.
pub(crate) fn budget(model: &Evaluation) -> String {
    format!("{} ε = {}", words::norm(&model.norm), words::eps(model.eps))
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

/// How many examples an accuracy stands for.
pub(crate) fn correct(accuracy: Accuracy, count: usize) -> usize {
    (accuracy.value * count as f64).round() as usize
}

/// Examples that survive the ready-made attacks but not everything: the gap this project asks about.
/// Negative if the record contradicts itself.
pub(crate) fn gap(readout: &ReadoutResult, count: usize) -> Option<i64> {
    let ready_made = correct(readout.ready_made_accuracy?, count) as i64;
    Some(ready_made - correct(readout.white_box_accuracy, count) as i64)
}

/// White-box accuracy, where there is one: without any attack it would be clean accuracy by another name.
pub(crate) fn white_box(readout: &ReadoutResult) -> Option<Accuracy> {
    (!readout.attacks.is_empty()).then_some(readout.white_box_accuracy)
}

/// Where an attack takes its gradient from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Through the model's own training gradient.
    ReadyMade,
    /// Through another gradient estimator.
    Adaptive,
    /// From logits alone.
    BlackBox,
}

impl Kind {
    pub(crate) fn of(attack: &AttackResult) -> Self {
        if attack.ready_made {
            Kind::ReadyMade
        } else if attack.estimator == "none" {
            Kind::BlackBox
        } else {
            Kind::Adaptive
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::ReadyMade => "ready-made",
            Kind::Adaptive => "adaptive",
            Kind::BlackBox => "black box",
        }
    }
}

/// The gradient estimator in words; a black-box attack has none.
pub(crate) fn estimator(attack: &AttackResult) -> &str {
    if attack.estimator == "none" { "no gradient" } else { &attack.estimator }
}

/// `pgd-10 through exact`, `square without gradients`.
pub(crate) fn attack_in_words(attack: &AttackResult) -> String {
    if attack.estimator == "none" {
        format!("{} without gradients", attack.name)
    } else {
        format!("{} through {}", attack.name, attack.estimator)
    }
}

/// What was tried, in a few words: attacks through estimators, then those that need none.
pub(crate) fn tried(readout: &ReadoutResult) -> String {
    let distinct = |black_box: bool, name: fn(&AttackResult) -> &String| {
        let mut names: Vec<String> = Vec::new();
        for attack in readout.attacks.iter().filter(|a| (a.estimator == "none") == black_box) {
            if !names.contains(name(attack)) {
                names.push(name(attack).clone());
            }
        }
        names
    };
    let estimators = distinct(false, |a| &a.estimator);
    let through = match estimators.len() {
        1..=3 => words::list(&estimators),
        n => format!("{n} gradient estimators"),
    };
    let white_box = format!("{} through {through}", words::list(&distinct(false, |a| &a.name)));
    let black_box = format!("{} without gradients", words::list(&distinct(true, |a| &a.name)));
    match (estimators.is_empty(), readout.attacks.iter().any(|a| a.estimator == "none")) {
        (true, false) => "no attack".to_owned(),
        (true, true) => black_box,
        (false, false) => white_box,
        (false, true) => format!("{white_box}; {black_box}"),
    }
}

/// The checks of every readout, by whose they are; those that found something first.
pub(crate) fn checks(models: &[Evaluation]) -> Vec<(String, Vec<&Flag>)> {
    let mut checks = Vec::new();
    for model in models {
        for readout in model.readouts.iter().filter(|readout| !readout.flags.is_empty()) {
            let mut flags: Vec<&Flag> = readout.flags.iter().collect();
            flags.sort_by_key(|flag| !flag.raised);
            checks.push((format!("{}, readout {}", model.model, readout.name), flags));
        }
    }
    checks
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
            accuracy(format!("readouts.{name}.clean_accuracy"), readout.clean_accuracy)?;
            accuracy(format!("readouts.{name}.white_box_accuracy"), readout.white_box_accuracy)?;
            if let Some(ready_made) = readout.ready_made_accuracy {
                accuracy(format!("readouts.{name}.ready_made_accuracy"), ready_made)?;
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
