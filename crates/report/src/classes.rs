//! What happens to each class: accuracy by true class, and which class an adversarial image is taken for.

use crate::facts;
use crate::table::{Cell, Table, columns};
use crate::words;
use equipoise_record::{Accuracy, Evaluation, ReadoutResult};

/// More classes than this make no matrix that can be read: their most frequent confusions are listed.
const MATRIX: usize = 12;
/// How many confusions are listed then.
const LISTED: usize = 30;

/// A class by its name, or by its number where names are not known.
fn name(model: &Evaluation, class: usize) -> String {
    model.classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}

/// How many classes the examples speak of.
fn count(model: &Evaluation, readout: &ReadoutResult) -> usize {
    let seen = readout.examples.iter().flat_map(|e| [Some(e.label), e.adversarial_prediction]).flatten();
    seen.map(|class| class + 1).chain([model.classes.len()]).max().unwrap_or(0)
}

/// Clean and white-box accuracy of each true class. Nothing without examples or without an attack.
pub(crate) fn accuracy(model: &Evaluation, readout: &ReadoutResult) -> Option<Table> {
    if readout.examples.is_empty() || readout.attacks.is_empty() {
        return None;
    }
    let row = |class: usize| {
        let of_class = || readout.examples.iter().filter(|e| e.label == class);
        let n = of_class().count();
        // Interval and count in one line: there are many rows.
        let share = |correct: usize| {
            let cell = Cell::accuracy(Accuracy::new(correct, n), n);
            Cell::noted(cell.main, vec![cell.notes.join(" ")])
        };
        (n > 0).then(|| {
            vec![
                name(model, class).into(),
                n.to_string().into(),
                share(of_class().filter(|e| e.clean_correct).count()),
                share(of_class().filter(|e| e.robust).count()),
            ]
        })
    };
    let rows: Vec<Vec<Cell>> = (0..count(model, readout)).filter_map(row).collect();
    Some(Table {
        caption: format!(
            "{}, readout {}: {}. Accuracy by true class in %, with its 95% Wilson interval and count.",
            model.model,
            readout.name,
            facts::setting(model)
        ),
        columns: columns(&["Class"], &["Images", "Clean", "White-box"]),
        rows,
    })
}

/// What the images that an attack broke are taken for. Nothing where the record does not know it.
pub(crate) fn confusion(model: &Evaluation, readout: &ReadoutResult) -> Option<Table> {
    let classes = count(model, readout);
    let broken = readout.examples.iter().filter(|e| e.clean_correct && !e.robust);
    let pairs: Vec<(usize, usize)> =
        broken.filter_map(|e| Some((e.label, e.adversarial_prediction?))).collect();
    if pairs.is_empty() {
        return None;
    }
    let how_many = |pair: (usize, usize)| pairs.iter().filter(|found| **found == pair).count();
    let setting = format!(
        "{}, readout {}: {}. {} that were correct when clean and broken: the class that the model gives the \
         adversarial image",
        model.model,
        readout.name,
        facts::setting(model),
        words::images(pairs.len())
    );
    if classes <= MATRIX {
        let cell = |from: usize, to: usize| match how_many((from, to)) {
            0 => Cell::from("·"),
            n => n.to_string().into(),
        };
        let row = |from: usize| {
            let named = std::iter::once(name(model, from).into());
            named.chain((0..classes).map(|to| cell(from, to))).collect::<Vec<Cell>>()
        };
        let names: Vec<String> = (0..classes).map(|class| name(model, class)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        return Some(Table {
            caption: format!("{setting} (columns) by true class (rows)."),
            columns: columns(&["True class"], &names),
            rows: (0..classes).map(row).collect(),
        });
    }
    let mut distinct = pairs.clone();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.sort_by_key(|pair| std::cmp::Reverse(how_many(*pair)));
    let all = distinct.len();
    distinct.truncate(LISTED);
    let row = |&(from, to): &(usize, usize)| {
        vec![name(model, from).into(), name(model, to).into(), how_many((from, to)).to_string().into()]
    };
    Some(Table {
        caption: format!("{setting}, the {} most frequent of {all} pairs.", distinct.len()),
        columns: columns(&["True class", "Given class"], &["Images"]),
        rows: distinct.iter().map(row).collect(),
    })
}
