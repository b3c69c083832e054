//! Names of models in tables, so that no two rows look alike.
//!
//! Models of one recipe, of several epochs or seeds, have one name; so has one model that was evaluated twice. A name that
//! several rows share is followed by as few facts as tell them apart: epoch, training seed, file, then the evaluation's
//! own settings.

use serde_json::Value;

use crate::Evaluation;

/// What can tell a row from others of its name, in the order in which it is tried.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The model's name.
    pub name: String,
    /// Each fact in words, such as `epoch 5`; `None` where it is not known.
    pub facts: Vec<Option<String>>,
}

impl Facts {
    /// Of a model by its metadata as JSON and its file.
    pub fn of_model(name: &str, model: &Value, file: Option<&str>) -> Self {
        let training = &model["training"];
        let number = |key: &str, word: &str| training[key].as_u64().map(|number| format!("{word} {number}"));
        let facts = vec![number("epoch", "epoch"), number("seed", "seed"), file.map(String::from)];
        Self { name: name.to_owned(), facts }
    }

    /// Of an evaluation.
    pub fn of(evaluation: &Evaluation) -> Self {
        let Evaluation { configuration, .. } = evaluation;
        let file = configuration["model_file"].as_str();
        let mut facts = Self::of_model(&evaluation.model, &configuration["model"], file);
        let list = |key: &str| {
            let names: Vec<&str> = configuration[key].as_array()?.iter().filter_map(Value::as_str).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        facts.facts.extend([
            Some(format!("{} ε = {}", evaluation.norm, evaluation.eps)),
            Some(format!("{} images", evaluation.count)),
            list("attacks"),
            Some(format!("evaluation seed {}", evaluation.seed)),
            Some(evaluation.dataset.clone()),
        ]);
        facts
    }
}

/// A name for each row: its own where no other row has it, else with the first facts that tell the rows of that name
/// apart, and with a number if none do.
pub fn distinct(rows: &[Facts]) -> Vec<String> {
    let mut names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    let longest = rows.iter().map(|row| row.facts.len()).max().unwrap_or(0);
    for (at, row) in rows.iter().enumerate() {
        let same: Vec<&Facts> = rows.iter().filter(|other| other.name == row.name).collect();
        if same.len() == 1 {
            continue;
        }
        let fact = |row: &Facts, k: usize| row.facts.get(k).cloned().flatten();
        // Facts that all of them share say nothing.
        let telling: Vec<usize> =
            (0..longest).filter(|&k| same.iter().any(|other| fact(other, k) != fact(row, k))).collect();
        let mut used = Vec::new();
        let parts = |row: &Facts, used: &[usize]| -> Vec<String> {
            used.iter().filter_map(|&k| fact(row, k)).collect()
        };
        let groups = |used: &[usize]| {
            let mut all: Vec<Vec<String>> = same.iter().map(|other| parts(other, used)).collect();
            all.sort();
            all.dedup();
            all.len()
        };
        for k in telling {
            let more: Vec<usize> = used.iter().copied().chain([k]).collect();
            if groups(&more) > groups(&used) {
                used = more;
            }
        }
        let said = parts(row, &used);
        if !said.is_empty() {
            names[at] = format!("{} ({})", row.name, said.join(", "));
        }
    }
    let number = |at: usize| names[..at].iter().filter(|name| **name == names[at]).count() + 1;
    let numbered = |(at, name): (usize, &String)| match number(at) {
        1 => name.clone(),
        number => format!("{name} #{number}"),
    };
    names.iter().enumerate().map(numbered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, facts: &[Option<&str>]) -> Facts {
        Facts { name: name.into(), facts: facts.iter().map(|fact| fact.map(String::from)).collect() }
    }

    #[test]
    fn rows_that_share_a_name_are_told_apart_by_as_little_as_does() {
        let epoch = |number: &str, file: &str| row("pgd-at", &[Some(number), Some("seed 0"), Some(file)]);
        let rows = [epoch("epoch 2", "a/x"), row("standard", &[]), epoch("epoch 4", "b/x")];
        assert_eq!(distinct(&rows), ["pgd-at (epoch 2)", "standard", "pgd-at (epoch 4)"]);
        let rows = [epoch("epoch 2", "a/x"), epoch("epoch 2", "b/x")];
        assert_eq!(distinct(&rows), ["pgd-at (a/x)", "pgd-at (b/x)"]);
        let seeds = [("epoch 2", "seed 0"), ("epoch 2", "seed 1"), ("epoch 4", "seed 1")];
        let rows = seeds.map(|(epoch, seed)| row("m", &[Some(epoch), Some(seed), Some("f")]));
        let names = distinct(&rows);
        assert_eq!(names, ["m (epoch 2, seed 0)", "m (epoch 2, seed 1)", "m (epoch 4, seed 1)"]);
        let same = row("m", &[None, None]);
        assert_eq!(distinct(&[same.clone(), same.clone(), same]), ["m", "m #2", "m #3"]);
        assert!(distinct(&[]).is_empty());
    }
}
