//! What happens to each class: accuracy by true class, and which class an adversarial image is taken for.

use super::{Rank, Section};
use crate::layout::html::{Page, table_of};
use crate::layout::latex::Tables;
use crate::layout::markdown;
use crate::sheet::sheet;
use crate::table::{Cell, Table, columns};
use crate::{Report, ReportError, derived, numbers};
use equipoise_record::{Accuracy, Evaluation, ReadoutResult};
use maud::{Markup, html};

pub(crate) struct Classes;

impl Section for Classes {
    /// Of the first readout; the others are folded.
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let mut rows = derived::rows(&report.models).filter(|(_, readout)| known(readout));
        let Some((model, readout)) = rows.next() else { return Ok(html! {}) };
        let of = |model: &Evaluation, readout: &ReadoutResult, page: &mut Page| {
            html! { @for table in tables(model, readout) { (table_of(&table, &page.next())) } }
        };
        Ok(html! {
            section id=(page.section("classes", "Classes")) {
                h2 { "Classes" }
                (of(model, readout, page))
                @for (model, readout) in rows {
                    details.more {
                        summary { (model.model) ", readout " (readout.name) }
                        (of(model, readout, page))
                    }
                }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        let all = derived::rows(&report.models).flat_map(|(model, readout)| tables(model, readout));
        markdown::section(out, "Classes", &all.collect::<Vec<_>>(), markdown::table);
        Ok(())
    }

    fn rank(&self) -> Rank {
        Rank::Details
    }

    fn latex(&self, report: &Report, tables: &mut Tables) {
        tables.of_readouts(report, "classes", ACCURACY, accuracy);
        tables.of_readouts(report, "confusion", "", confusion);
    }

    fn sheets(&self, report: &Report) -> Result<Vec<(String, String)>, ReportError> {
        classes_csv(&report.models)
    }
}

/// Whether anything can be said of its classes.
fn known(readout: &ReadoutResult) -> bool {
    !readout.examples.is_empty() && !readout.attacks.is_empty()
}

/// Accuracy by true class, and what the broken images are taken for.
fn tables(model: &Evaluation, readout: &ReadoutResult) -> impl Iterator<Item = Table> + use<> {
    [accuracy(model, readout), confusion(model, readout)].into_iter().flatten()
}

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

/// What the columns of [`accuracy`] hold.
const ACCURACY: &str = "Accuracy by true class in %, with its 95% Wilson interval and count.";

/// Clean and white-box accuracy of each true class. Nothing without examples or without an attack.
fn accuracy(model: &Evaluation, readout: &ReadoutResult) -> Option<Table> {
    if !known(readout) {
        return None;
    }
    let row = |class: usize| {
        let of_class = || readout.examples.iter().filter(|e| e.label == class);
        let n = of_class().count();
        // Interval and count in one line: there are many rows.
        let share = |correct: usize| {
            let cell = Cell::accuracy(Accuracy::new(correct, n));
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
            "{}, readout {}: {}. {ACCURACY}",
            model.model,
            readout.name,
            derived::setting(model)
        ),
        columns: columns(&["Class"], &["Images", "Clean", "White-box"]),
        rows,
    })
}

/// True class and given class of every image that an attack broke, where the record knows it.
fn taken_for(readout: &ReadoutResult) -> Vec<(usize, usize)> {
    let broken = readout.examples.iter().filter(|e| e.clean_correct && !e.robust);
    broken.filter_map(|e| Some((e.label, e.adversarial_prediction?))).collect()
}

/// What the images that an attack broke are taken for. Nothing where the record does not know it.
fn confusion(model: &Evaluation, readout: &ReadoutResult) -> Option<Table> {
    let classes = count(model, readout);
    let pairs = taken_for(readout);
    if pairs.is_empty() {
        return None;
    }
    let how_many = |pair: (usize, usize)| pairs.iter().filter(|found| **found == pair).count();
    let setting = format!(
        "{}, readout {}: {}. {} that were correct when clean and broken: the class that the model gives the \
         adversarial image",
        model.model,
        readout.name,
        derived::setting(model),
        numbers::images(pairs.len())
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

/// Accuracy by true class and the confusions of some models as CSV: `classes.csv` with a row for each class,
/// `confusion.csv` with a row for each pair of true and given class that occurs. Each where there is anything to hold.
///
/// Accuracies are fractions; classes are numbers, beside their names.
///
/// # Errors
/// [`ReportError::Csv`] if the writer fails.
pub fn classes_csv(models: &[Evaluation]) -> Result<Vec<(String, String)>, ReportError> {
    let (mut accuracies, mut confusions) = (Vec::new(), Vec::new());
    for (model, readout) in derived::rows(models).filter(|(_, readout)| !readout.attacks.is_empty()) {
        let start = || {
            let eps = model.eps.to_string();
            [&model.model, &model.dataset, &model.norm, &eps, &readout.name].map(String::clone).to_vec()
        };
        for class in 0..count(model, readout) {
            let of_class = || readout.examples.iter().filter(|e| e.label == class);
            let n = of_class().count();
            if n == 0 {
                continue;
            }
            let mut row = start();
            row.extend([class.to_string(), name(model, class), n.to_string()]);
            let clean = of_class().filter(|e| e.clean_correct).count();
            for correct in [clean, of_class().filter(|e| e.robust).count()] {
                let Accuracy { value, interval: [low, high], .. } = Accuracy::new(correct, n);
                row.push(correct.to_string());
                row.extend([value, low, high].map(|share| share.to_string()));
            }
            accuracies.push(row);
        }
        let mut pairs = taken_for(readout);
        pairs.sort_unstable();
        for same in pairs.chunk_by(|a, b| a == b) {
            let (from, to) = same[0];
            let mut row = start();
            row.extend([from.to_string(), name(model, from), to.to_string(), name(model, to)]);
            row.push(same.len().to_string());
            confusions.push(row);
        }
    }
    let accuracy = ["clean_correct", "clean_accuracy", "clean_accuracy_low", "clean_accuracy_high"];
    let white_box = ["robust", "white_box_accuracy", "white_box_accuracy_low", "white_box_accuracy_high"];
    let sheets = [
        (
            "classes.csv",
            [SETTING.as_slice(), &["class", "class_name", "count"], &accuracy, &white_box].concat(),
            accuracies,
        ),
        (
            "confusion.csv",
            [SETTING.as_slice(), &["class", "class_name", "given", "given_name", "count"]].concat(),
            confusions,
        ),
    ];
    let filled = sheets.into_iter().filter(|(.., rows)| !rows.is_empty());
    filled.map(|(name, head, rows)| Ok((name.to_owned(), sheet(&head, rows)?))).collect()
}

/// Where the numbers of a row come from.
const SETTING: [&str; 5] = ["model", "dataset", "norm", "eps", "readout"];
