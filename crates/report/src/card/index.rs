//! The results of a card for machines: `model-index`, as the Hugging Face Hub reads it.
//!
//! An entry for each data set, in it a metric for each accuracy of each readout at each radius. What the Hub has no key
//! for stands in a metric's `args`: readout, norm, ε, count, interval, attacks, finding. Shares are fractions.

use super::yaml::Yaml;
use crate::derived::{self, Case};
use crate::numbers;
use equipoise_record::{Accuracy, Arm, AttackResult, Evaluation};

/// The metric of robust accuracies. They are kept apart from `accuracy`, which is that of clean images everywhere else.
pub(super) const ROBUST: &str = "robust-accuracy";

/// Names of data sets as the Hub knows them, by how our descriptions begin.
const DATASETS: [(&str, &str); 2] = [("CIFAR-10", "cifar10"), ("Fashion-MNIST", "fashion_mnist")];

/// The Hub's name of a data set, if it is one of those that it has.
pub(super) fn known_dataset(description: &str) -> Option<&'static str> {
    DATASETS.into_iter().find(|(ours, _)| description.starts_with(ours)).map(|(_, theirs)| theirs)
}

/// `model-index` of a model.
pub(super) fn model_index(name: &str, models: &[Evaluation]) -> Yaml {
    let mut results: Vec<(String, Vec<Yaml>)> = Vec::new();
    for model in models {
        match results.iter_mut().find(|(dataset, _)| *dataset == model.dataset) {
            Some((_, found)) => found.extend(metrics(model)),
            None => results.push((model.dataset.clone(), metrics(model))),
        }
    }
    let result = |(dataset, metrics): (String, Vec<Yaml>)| {
        let slug = crate::svg::slug(&dataset);
        let known = known_dataset(&dataset).unwrap_or(if slug.is_empty() { "custom" } else { &slug });
        let mut set = vec![("type", known.into()), ("name", dataset.as_str().into())];
        if let Some((_, split)) = dataset.rsplit_once(", ") {
            set.push(("split", split.into()));
        }
        let task = vec![("type", "image-classification".into()), ("name", "Image classification".into())];
        Yaml::Map(vec![
            ("task", Yaml::Map(task)),
            ("dataset", Yaml::Map(set)),
            ("metrics", Yaml::List(metrics)),
        ])
    };
    let results = results.into_iter().map(result).collect();
    Yaml::List(vec![Yaml::Map(vec![("name", name.into()), ("results", Yaml::List(results))])])
}

fn metrics(model: &Evaluation) -> Vec<Yaml> {
    let mut metrics = Vec::new();
    for readout in &model.readouts {
        let clean = Case::largest(model, readout);
        metrics.push(metric(&clean, "accuracy", "Clean accuracy".into(), clean.clean, Vec::new()));
        let largest = std::iter::once(Case::largest(model, readout));
        let cases: Vec<Case> = match readout.radii.as_slice() {
            [] => largest.collect(),
            radii => radii.iter().map(|radius| Case::at(model, readout, radius)).collect(),
        };
        for case in cases.iter().filter(|_| !readout.attacks.is_empty()) {
            let budget = || vec![("norm", model.norm.as_str().into()), ("eps", Yaml::Number(case.eps))];
            let title = |what: &str| {
                format!(
                    "Robust accuracy, {what}, {} ε = {}",
                    numbers::norm(&model.norm),
                    numbers::eps(case.eps)
                )
            };
            if let Some(accuracy) = case.ready_made {
                let ready_made = |a: &&AttackResult| matches!(a.arm, Arm::Opening | Arm::ReadyMade);
                let mut details = budget();
                details.push(("attacks", attacks(readout.attacks.iter().filter(ready_made))));
                metrics.push(metric(case, ROBUST, title("ready-made attacks"), accuracy, details));
            }
            let mut details = budget();
            details.push(("attacks", attacks(readout.attacks.iter())));
            details.push(("finding", numbers::finding(case.verdict.finding).into()));
            metrics.push(metric(case, ROBUST, title("white-box"), case.white_box, details));
        }
    }
    metrics
}

fn metric(
    case: &Case,
    kind: &str,
    title: String,
    accuracy: Accuracy,
    details: Vec<(&'static str, Yaml)>,
) -> Yaml {
    let readout = case.readout.name.as_str();
    let [low, high] = accuracy.interval;
    let mut args = vec![
        ("readout", readout.into()),
        ("count", Yaml::Number(case.model.count as f64)),
        ("interval_95", Yaml::List(vec![Yaml::Number(low), Yaml::Number(high)])),
    ];
    args.extend(details);
    Yaml::Map(vec![
        ("type", kind.into()),
        ("name", format!("{title}, readout {readout}").into()),
        ("value", Yaml::Number(accuracy.value)),
        ("args", Yaml::Map(args)),
    ])
}

/// What was tried, each attack through each gradient once.
fn attacks<'a>(runs: impl Iterator<Item = &'a AttackResult>) -> Yaml {
    let mut names: Vec<String> = Vec::new();
    for run in runs {
        let name = derived::attack_in_words(&run.name, &run.estimator);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Yaml::List(names.into_iter().map(Yaml::from).collect())
}
