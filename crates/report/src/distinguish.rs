//! Names that tell records of the same model apart.

use equipoise_record::Evaluation;

/// Appends the seed, or else the source, to the names of models that several records share.
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
/// assert_eq!(models[1].model, "pgd-at (seed 1)");
/// ```
pub fn distinguish(models: &mut [Evaluation], sources: &[String]) {
    let known: Vec<(String, u64)> = models.iter().map(|model| (model.model.clone(), model.seed)).collect();
    for (at, model) in models.iter_mut().enumerate() {
        let others =
            || known.iter().enumerate().filter(|(other, (name, _))| *other != at && *name == known[at].0);
        if others().next().is_none() {
            continue;
        }
        // All of one name are told apart in the same way.
        let namesakes: Vec<usize> = others().map(|(other, _)| other).chain([at]).collect();
        let distinct = |key: &dyn Fn(usize) -> String| {
            let mut keys: Vec<String> = namesakes.iter().map(|&place| key(place)).collect();
            keys.sort();
            keys.windows(2).all(|pair| pair[0] != pair[1])
        };
        let source = |place: usize| sources.get(place).cloned().unwrap_or_default();
        let seed = |place: usize| format!("seed {}", known[place].1);
        let says = if distinct(&seed) {
            seed(at)
        } else if distinct(&source) {
            source(at)
        } else {
            format!("record {}", at + 1)
        };
        model.model = format!("{} ({says})", model.model);
    }
}
