//! Names that tell records of the same model apart.

use equipoise_record::Evaluation;
use equipoise_record::names::{Facts, distinct};

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
    let facts = models.iter().enumerate().map(|(at, model)| {
        let mut facts = Facts::of(model);
        facts.facts.push(sources.get(at).cloned());
        facts
    });
    let names = distinct(&facts.collect::<Vec<_>>());
    for (model, name) in models.iter_mut().zip(names) {
        model.model = name;
    }
}
