//! Names that tell records of the same model apart.

use equipoise_record::{Evaluation, Training};

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
    let known: Vec<(String, String)> =
        models.iter().map(|model| (model.model.clone(), format!("seed {}", model.seed))).collect();
    for (model, name) in models.iter_mut().zip(names(&known, sources)) {
        model.model = name;
    }
}

/// The same for training runs; their seeds are those of their recipes.
pub fn distinguish_trainings(trainings: &mut [Training], sources: &[String]) {
    let seed =
        |training: &Training| training.recipe.get("seed").map_or(String::new(), |s| format!("seed {s}"));
    let known: Vec<(String, String)> = trainings.iter().map(|t| (t.model.clone(), seed(t))).collect();
    for (training, name) in trainings.iter_mut().zip(names(&known, sources)) {
        training.model = name;
    }
}

/// Names that differ, of pairs of a name and a seed.
fn names(known: &[(String, String)], sources: &[String]) -> Vec<String> {
    let name = |(at, (name, _)): (usize, &(String, String))| {
        let namesakes: Vec<usize> = (0..known.len()).filter(|&other| known[other].0 == *name).collect();
        if namesakes.len() == 1 {
            return name.clone();
        }
        // All of one name are told apart in the same way.
        let distinct = |key: &dyn Fn(usize) -> String| {
            let mut keys: Vec<String> = namesakes.iter().map(|&place| key(place)).collect();
            keys.sort();
            keys.windows(2).all(|pair| pair[0] != pair[1])
        };
        let source = |place: usize| sources.get(place).cloned().unwrap_or_default();
        let seed = |place: usize| known[place].1.clone();
        let says = if distinct(&seed) {
            seed(at)
        } else if distinct(&source) {
            source(at)
        } else {
            format!("record {}", at + 1)
        };
        format!("{name} ({says})")
    };
    known.iter().enumerate().map(name).collect()
}
