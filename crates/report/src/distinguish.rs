//! Names that tell records of the same model, and runs of the same recipe, apart.

use equipoise_record::names::{Facts, distinct};
use equipoise_record::{Evaluation, Training};

/// Appends to the names of models that several rows share what tells them apart: epoch, training seed, file, the
/// evaluation's own settings, or else the source.
///
/// `sources` says for each model where it comes from, such as its record's folder.
///
/// ```
/// # let json = serde_json::json!({ "version": 2, "model": "pgd-at", "configuration": {}, "dataset": "digits, test",
/// #     "norm": "linf", "eps": 0.1, "seed": 0, "count": 0, "clean_accuracy": 0.0,
/// #     "clean_accuracy_interval": [0.0, 1.0], "readouts": [] });
/// # let one: equipoise_record::Evaluation = serde_json::from_value(json).unwrap();
/// let mut models = vec![one.clone(), equipoise_record::Evaluation { seed: 1, ..one }];
/// equipoise_report::distinguish(&mut models, &["a".into(), "b".into()]);
/// assert_eq!(models[1].model, "pgd-at (evaluation seed 1)");
/// ```
pub fn distinguish(models: &mut [Evaluation], sources: &[String]) {
    let names = names(models.iter().map(Facts::of), sources);
    for (model, name) in models.iter_mut().zip(names) {
        model.model = name;
    }
}

/// The same for training runs; their seeds are those of their recipes.
pub fn distinguish_trainings(trainings: &mut [Training], sources: &[String]) {
    let facts = |training: &Training| {
        let seed = training.recipe.get("seed").map(|seed| format!("seed {seed}"));
        Facts { name: training.model.clone(), facts: vec![seed] }
    };
    let names = names(trainings.iter().map(facts), sources);
    for (training, name) in trainings.iter_mut().zip(names) {
        training.model = name;
    }
}

/// Names that differ. Where a row comes from is the last of its facts.
fn names(rows: impl Iterator<Item = Facts>, sources: &[String]) -> Vec<String> {
    let rows = rows.enumerate().map(|(at, mut facts)| {
        facts.facts.push(sources.get(at).cloned());
        facts
    });
    distinct(&rows.collect::<Vec<_>>())
}
