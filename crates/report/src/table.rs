//! Tables as plain text, made once and laid out by each format, so that formats cannot disagree.

use crate::figure::{Figure, Series};
use crate::{facts, verdict, words};
use equipoise_record::{Accuracy, Evaluation, NotTried, ReadoutResult, Verdict};

/// A table without any markup: exporters escape and lay out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub caption: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Takes a column away and gives back its cells.
    pub(crate) fn remove(&mut self, title: &str) -> Vec<Cell> {
        let Some(at) = self.columns.iter().position(|c| c.title == title) else { return Vec::new() };
        self.columns.remove(at);
        self.rows.iter_mut().filter(|row| at < row.len()).map(|row| row.remove(at)).collect()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub title: String,
    pub numeric: bool,
}

/// What a cell says, and what it adds in smaller print.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub main: String,
    pub notes: Vec<String>,
}

impl<S: Into<String>> From<S> for Cell {
    fn from(main: S) -> Self {
        Cell { main: main.into(), notes: Vec::new() }
    }
}

impl Cell {
    pub(crate) fn noted(main: impl Into<String>, notes: Vec<String>) -> Self {
        Cell { main: main.into(), notes }
    }

    /// Percentage, interval and count.
    pub(crate) fn accuracy(a: Accuracy, count: usize) -> Self {
        if count == 0 {
            return "no images".into();
        }
        let share = format!("{}/{count}", facts::correct(a, count));
        Cell::noted(words::percent(a.value), vec![words::interval(a.interval), share])
    }
}

/// Text columns, then columns of numbers, by title.
pub(crate) fn columns(text: &[&str], numeric: &[&str]) -> Vec<Column> {
    let column = |numeric| move |title: &&str| Column { title: (*title).to_owned(), numeric };
    text.iter().map(column(false)).chain(numeric.iter().map(column(true))).collect()
}

/// What the columns of [`summary`] hold.
pub(crate) const SUMMARY: &str = "Accuracy in %, with its 95% Wilson interval and count. Ready-made: after the \
    opening and, where there are, the twins of the runs through other gradients; white-box: after everything.";

/// What the columns of [`verdicts`] hold.
pub(crate) fn about_verdicts() -> String {
    format!(
        "{VERDICT_CAPTION} One against one: b, c and p of one other gradient against the training gradient. \
         Gradient-free only: images that fell to attacks without gradients alone. Images to decide: so many with the \
         same shares would give a finding."
    )
}

/// What the columns of [`cascade`] hold.
pub(crate) const CASCADE: &str = "Every run in order. Each meets only what stands in its arm; accuracy after it, of \
    what stands after it and all above it, in %, with its 95% Wilson interval and count.";

/// Clean, ready-made and white-box accuracy by model and readout, with the finding.
pub(crate) fn summary(setting: &str, models: &[&Evaluation]) -> Table {
    let mut columns = columns(&["Model", "Readout"], &["Clean", "Ready-made", "White-box"]);
    columns.extend(["Finding", "Tried"].map(|title| Column { title: title.to_owned(), numeric: false }));
    let mut rows = Vec::new();
    for model in models {
        for readout in &model.readouts {
            let n = model.count;
            rows.push(vec![
                model.model.clone().into(),
                readout.name.clone().into(),
                Cell::accuracy(readout.clean_accuracy, n),
                readout.ready_made_accuracy.map_or("not run".into(), |a| Cell::accuracy(a, n)),
                facts::white_box(readout).map_or("not run".into(), |a| Cell::accuracy(a, n)),
                verdict::label(&readout.verdict).into(),
                facts::tried(readout).into(),
            ]);
        }
    }
    Table { caption: format!("{setting}. {SUMMARY}"), columns, rows }
}

/// What the test of the arms found, by model and readout.
pub(crate) fn verdicts(setting: &str, models: &[&Evaluation]) -> Table {
    let rows = models.iter().flat_map(|model| model.readouts.iter().map(move |readout| (model, readout)));
    let rows = rows.map(|(model, readout)| {
        let v = &readout.verdict;
        let mut row = vec![Cell::noted(model.model.clone(), vec![readout.name.clone()])];
        row.extend(verdict_cells(v));
        row.extend([
            v.yardstick.as_ref().map_or("–".into(), |y| {
                Cell::noted(format!("{}, {}", y.b, y.c), vec![words::p_value(y.p_value)])
            }),
            match v.gradient_free_runs {
                0 => "not run".into(),
                _ => v.gradient_free_only.to_string().into(),
            },
            v.would_decide_at.map_or("–".into(), |n| words::thousands(n as u64).into()),
        ]);
        row
    });
    let numeric: Vec<&str> = VERDICT_COLUMNS
        .into_iter()
        .chain(["One against one", "Gradient-free only", "Images to decide"])
        .collect();
    Table {
        caption: format!("{setting}. {}", about_verdicts()),
        columns: columns(&["Model", "Finding"], &numeric),
        rows: rows.collect(),
    }
}

/// How the columns of a verdict are read.
pub(crate) const VERDICT_CAPTION: &str = "b, c: images broken through other gradients only, and in as many runs through \
    the training gradient only. Difference: (b − c)/n in points, with its 95% interval. p: exact one-sided test, corrected \
    over the record.";

/// The columns that [`verdict_cells`] fills after the finding.
pub(crate) const VERDICT_COLUMNS: [&str; 4] = ["Runs", "b, c", "Difference", "p, corrected"];

/// The finding, and the numbers that it rests on.
pub(crate) fn verdict_cells(v: &Verdict) -> Vec<Cell> {
    vec![
        verdict::label(v).into(),
        v.arms.white_box.len().to_string().into(),
        v.b.zip(v.c).map_or("–".into(), |(b, c)| format!("{b}, {c}").into()),
        verdict::difference(v).map_or("–".into(), |(difference, interval)| {
            Cell::noted(difference, vec![words::points_interval(interval)])
        }),
        v.p_value_corrected.map_or("–".into(), |p| words::p_cell(p).into()),
    ]
}

/// All runs of one readout in order, with what each broke and cost.
pub(crate) fn cascade(model: &Evaluation, readout: &ReadoutResult) -> Table {
    let n = model.count;
    let numeric = ["Start", "Attempted", "Broken", "Accuracy after", "Time", "Cell evaluations", "VJPs"];
    let wrong = n.saturating_sub(facts::correct(readout.clean_accuracy, n));
    let none = || Cell::from("–");
    let clean = vec![
        "clean".into(),
        none(),
        none(),
        none(),
        n.to_string().into(),
        wrong.to_string().into(),
        Cell::accuracy(readout.clean_accuracy, n),
        none(),
        none(),
        none(),
    ];
    let attacks = readout.attacks.iter().map(|a| {
        let mut notes = Vec::new();
        if a.carried > 0 {
            notes.push(format!("{} at a smaller ε", a.carried));
        }
        if a.unconfirmed > 0 {
            notes.push(format!("{} unconfirmed", a.unconfirmed));
        }
        vec![
            a.name.clone().into(),
            facts::estimator(a).into(),
            format!("{} {}", facts::arm(a.arm), a.run + 1).into(),
            a.start.to_string().into(),
            a.attempted.to_string().into(),
            Cell::noted(a.broken.to_string(), notes),
            Cell::accuracy(a.accuracy, n),
            words::seconds(a.seconds).into(),
            words::thousands(a.cell_evaluations).into(),
            words::thousands(a.vjps).into(),
        ]
    });
    Table {
        caption: format!("{}, readout {}: {}. {CASCADE}", model.model, readout.name, facts::setting(model)),
        columns: columns(&["Attack", "Gradient", "Part"], &numeric),
        rows: std::iter::once(clean).chain(attacks).collect(),
    }
}

/// What a readout was not attacked with although it was planned, and why; `None` if there is nothing of the kind.
pub(crate) fn not_tried(model: &Evaluation, readout: &ReadoutResult) -> Option<Table> {
    let plan = readout.plan.as_ref().filter(|plan| !plan.not_tried.is_empty())?;
    let limit = plan.time_limit.map_or(String::new(), |seconds| {
        let seconds = words::seconds(seconds);
        format!(
            " The attacks were given {seconds}: with more time, or on a faster machine, more may be broken."
        )
    });
    let row = |not: &NotTried| {
        vec![not.attack.clone().into(), not.estimator.clone().into(), not.reason.clone().into()]
    };
    Some(Table {
        caption: format!(
            "{}, readout {}: not tried, or not on all images.{limit}",
            model.model, readout.name
        ),
        columns: columns(&["Attack", "Gradient", "Why"], &[]),
        rows: plan.not_tried.iter().map(row).collect(),
    })
}

/// The points of a figure, one row for each point of each series and each trend.
pub(crate) fn points(figure: &Figure) -> Table {
    let name = |label: &str, otherwise: &str| if label.is_empty() { otherwise } else { label }.to_owned();
    let (x, y) = (name(&figure.x_label, "x"), name(&figure.y_label, "y"));
    let all = || figure.series.iter().chain(&figure.trends);
    let banded = all().any(|s| s.band.is_some());
    let numeric: &[&str] = if banded { &[&x, &y, "low", "high"] } else { &[&x, &y] };
    let rows = all().flat_map(|s| series_rows(s, banded)).collect();
    Table { caption: figure.title.clone(), columns: columns(&["Series"], numeric), rows }
}

fn series_rows(series: &Series, banded: bool) -> impl Iterator<Item = Vec<Cell>> {
    series.points.iter().enumerate().map(move |(i, &(x, y))| {
        let mut row: Vec<Cell> =
            vec![series.name.clone().into(), words::number(x).into(), words::number(y).into()];
        if banded {
            match series.band.as_ref().and_then(|band| band.get(i)) {
                Some(&(low, high)) => row.extend([words::number(low).into(), words::number(high).into()]),
                None => row.extend(["–".into(), "–".into()]),
            }
        }
        row
    })
}
