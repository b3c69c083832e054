//! One CSV file for each section, in long form: a row for each number with its spread or interval.
//!
//! Shares are fractions; a field without a value is empty.

use super::results;
use crate::sheet::sheet;
use crate::{ReportError, words};
use equipoise_record::{Diagnosis, Paired, Share, Spread};

/// File name and content of each section that was measured.
///
/// # Errors
/// [`ReportError::Csv`] if the writer fails.
pub fn diagnosis_csv(diagnosis: &Diagnosis) -> Result<Vec<(String, String)>, ReportError> {
    let sheets = [
        residual(diagnosis),
        accuracy(diagnosis),
        alignment(diagnosis),
        yardstick(diagnosis),
        landscape(diagnosis),
        spectrum(diagnosis),
        sweep(diagnosis),
        gallery(diagnosis),
    ];
    let measured = sheets.into_iter().filter(|sheet| !sheet.rows.is_empty());
    measured.map(|s| Ok((format!("{}.csv", s.name), sheet(&s.head, s.rows)?))).collect()
}

struct Sheet {
    name: &'static str,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Sheet {
    fn new(name: &'static str, head: &[&[&'static str]]) -> Self {
        Self { name, head: head.concat(), rows: Vec::new() }
    }

    fn row(&mut self, parts: &[Vec<String>]) {
        self.rows.push(parts.concat());
    }
}

const SPREAD: [&str; 5] = ["p10", "median", "p90", "finite", "non_finite"];
const SHARE: [&str; 5] = ["correct", "count", "share", "share_low", "share_high"];

fn spread(s: &Spread) -> Vec<String> {
    let number = |x: Option<f64>| x.map_or(String::new(), |x| x.to_string());
    vec![number(s.low), number(s.median), number(s.high), s.finite.to_string(), s.non_finite.to_string()]
}

fn share(s: &Share) -> Vec<String> {
    let [low, high] = s.accuracy.interval;
    vec![
        s.correct.to_string(),
        s.count.to_string(),
        s.accuracy.value.to_string(),
        low.to_string(),
        high.to_string(),
    ]
}

fn text(parts: &[&dyn std::fmt::Display]) -> Vec<String> {
    parts.iter().map(ToString::to_string).collect()
}

fn empty(count: usize) -> Vec<String> {
    vec![String::new(); count]
}

fn residual(diagnosis: &Diagnosis) -> Sheet {
    let mut sheet = Sheet::new("residual", &[&["model", "images", "measure", "t"], &SPREAD, &SHARE]);
    for (model, residual) in results(diagnosis, |m| m.residual.as_ref()) {
        for view in &residual.views {
            let name = view.view.name();
            for (k, s) in view.by_iterate.iter().enumerate() {
                sheet.row(&[
                    text(&[&model.model, &name, &"relative residual", &(k + 1)]),
                    spread(s),
                    empty(5),
                ]);
            }
            for (k, s) in view.reached.iter().enumerate() {
                sheet.row(&[text(&[&model.model, &name, &"reached", &(k + 1)]), empty(5), share(s)]);
            }
            sheet.row(&[
                text(&[&model.model, &name, &"steps to tolerance", &""]),
                spread(&view.steps),
                empty(5),
            ]);
            sheet.row(&[text(&[&model.model, &name, &"never", &""]), empty(5), share(&view.never)]);
        }
    }
    sheet
}

fn accuracy(diagnosis: &Diagnosis) -> Sheet {
    let mut sheet = Sheet::new("accuracy", &[&["model", "readout", "t", "measure"], &SHARE]);
    for (model, accuracy) in results(diagnosis, |m| m.accuracy.as_ref()) {
        let mut rows = |readout: &str, t: &str, clean: &Share, robust: &Share| {
            sheet.row(&[text(&[&model.model, &readout, &t, &"clean"]), share(clean)]);
            sheet.row(&[text(&[&model.model, &readout, &t, &"robust"]), share(robust)]);
        };
        rows(&accuracy.readout, "", &accuracy.clean, &accuracy.robust);
        for a in &accuracy.by_iterate {
            rows(&format!("early({})", a.t), &a.t.to_string(), &a.clean, &a.robust);
        }
    }
    sheet
}

fn alignment(diagnosis: &Diagnosis) -> Sheet {
    let head = ["model", "images", "readout", "estimator", "family", "t", "zero_gradients"];
    let mut sheet = Sheet::new("alignment", &[&head, &SPREAD]);
    for (model, alignment) in results(diagnosis, |m| m.alignment.as_ref()) {
        for c in &alignment.cosines {
            let t = c.t.map_or(String::new(), |t| t.to_string());
            let what =
                text(&[&model.model, &c.view.name(), &c.readout, &c.estimator, &c.family, &t, &c.zero]);
            sheet.row(&[what, spread(&c.cosine)]);
        }
    }
    sheet
}

/// A row for each comparison: all of the difference, what of it is aim, what is gradient.
fn yardstick(diagnosis: &Diagnosis) -> Sheet {
    let head = ["model", "readout", "attack", "count", "correct", "measure"];
    let sides = ["first", "first_broken", "second", "second_broken"];
    let paired = ["first_only", "second_only", "difference", "difference_low", "difference_high", "p_value"];
    let mut sheet = Sheet::new("yardstick", &[&head, &sides, &paired]);
    for (model, yardstick) in results(diagnosis, |m| m.yardstick.as_ref()) {
        for row in &yardstick.rows {
            let training = (&row.training, row.training_broken);
            let other = (&row.other, row.other_broken);
            let aimed = row.aimed.as_ref().zip(row.aimed_broken);
            let mut compare =
                |measure: &str, first: (&String, usize), second: (&String, usize), p: &Paired| {
                    let [low, high] = p.difference_interval;
                    sheet.row(&[
                        text(&[
                            &model.model,
                            &row.readout,
                            &yardstick.attack,
                            &diagnosis.count,
                            &row.correct,
                            &measure,
                        ]),
                        text(&[&first.0, &first.1, &second.0, &second.1]),
                        text(&[&p.b, &p.c, &p.difference, &low, &high, &words::p_exact(p.p_value)]),
                    ]);
                };
            compare("total", other, training, &row.total);
            if let (Some(aimed), Some(aim)) = (aimed, &row.aim) {
                compare("aim", aimed, training, aim);
            }
            compare("gradient", other, aimed.unwrap_or(training), &row.gradient);
        }
    }
    sheet
}

fn landscape(diagnosis: &Diagnosis) -> Sheet {
    let mut sheet = Sheet::new("landscape", &[&["model", "direction", "distance_in_eps"], &SPREAD, &SHARE]);
    for (model, landscape) in results(diagnosis, |m| m.landscape.as_ref()) {
        for line in &landscape.lines {
            for p in &line.points {
                let what = text(&[&model.model, &line.direction, &p.distance]);
                sheet.row(&[what, spread(&p.change), share(&p.correct)]);
            }
        }
    }
    sheet
}

fn spectrum(diagnosis: &Diagnosis) -> Sheet {
    let mut sheet = Sheet::new("spectrum", &[&["model", "images", "measure"], &SPREAD, &SHARE]);
    for (model, spectrum) in results(diagnosis, |m| m.spectrum.as_ref()) {
        for view in &spectrum.views {
            let what = |measure: &str| text(&[&model.model, &view.view.name(), &measure]);
            for (measure, s) in [
                ("spectral radius", &view.radius),
                ("growth, not converged", &view.unconverged_growth),
                ("power iterations", &view.iterations),
                ("squared frobenius norm", &view.squared_norm),
                ("its relative standard error", &view.relative_error),
            ] {
                sheet.row(&[what(measure), spread(s), empty(5)]);
            }
            for (measure, s) in [("converged", &view.converged), ("radius below 1", &view.below_one)] {
                sheet.row(&[what(measure), empty(5), share(s)]);
            }
        }
    }
    sheet
}

fn sweep(diagnosis: &Diagnosis) -> Sheet {
    let mut sheet = Sheet::new("sweep", &[&["model", "setting", "at", "measure"], &SHARE]);
    for (model, sweep) in results(diagnosis, |m| m.sweep.as_ref()) {
        let all =
            [("eps", &sweep.eps), ("solver steps", &sweep.solver_steps), ("tolerance", &sweep.tolerance)];
        for (setting, points) in all {
            for p in points {
                let measures = [
                    ("clean", Some(&p.clean)),
                    ("robust", Some(&p.robust)),
                    ("transferred", p.transferred.as_ref()),
                ];
                for (measure, s) in measures.into_iter().filter_map(|(measure, s)| Some((measure, s?))) {
                    sheet.row(&[text(&[&model.model, &setting, &p.at, &measure]), share(s)]);
                }
            }
        }
    }
    sheet
}

fn gallery(diagnosis: &Diagnosis) -> Sheet {
    let head = ["model", "index", "label", "distance", "images", "t", "answer"];
    let mut sheet = Sheet::new("gallery", &[&head]);
    for (model, gallery) in results(diagnosis, |m| m.gallery.as_ref()) {
        for item in &gallery.items {
            for (images, answers) in [("clean", &item.clean_answers), ("attacked", &item.attacked_answers)] {
                let by_iterate = answers.by_iterate.iter().enumerate();
                let by_iterate = by_iterate.map(|(k, answer)| ((k + 1).to_string(), *answer));
                for (t, answer) in by_iterate.chain([(String::new(), answers.deployed)]) {
                    let answer = answer.map_or(String::new(), |answer| answer.to_string());
                    let row =
                        text(&[&model.model, &item.index, &item.label, &item.distance, &images, &t, &answer]);
                    sheet.row(&[row]);
                }
            }
        }
    }
    sheet
}
