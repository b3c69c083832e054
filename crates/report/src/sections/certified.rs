//! Certified accuracy: the lower bounds of a record beside the upper bounds of its attacks.

use super::Section;
use crate::derived;
use crate::figure::{Figure, Series};
use crate::layout::html::{Page, drawing, table_of};
use crate::layout::latex::{self, Tables};
use crate::layout::markdown::{self, text};
use crate::sheet::sheet;
use crate::svg::{self, Drawing};
use crate::table::{Cell, Column, Table, columns};
use crate::{Report, ReportError, numbers};
use equipoise_record::{
    Accuracy, Certificate, CertifiedRadius, Evaluation, ExampleResult, ReadoutResult, SerializedVotes,
};
use maud::{Markup, html};
use std::collections::HashMap;
use std::fmt::Write;

pub(crate) struct Certified;

/// How to read the numbers, to be said once beside them.
const ABOUT: &str = "A certificate is a lower bound: within ε no perturbation of a certified image changes its class, \
    whether an attack finds it or not. White-box accuracy is an upper bound. Of the same images and the same network, \
    certified accuracy is at most the white-box accuracy, and that at most the accuracy when clean; the true robust \
    accuracy lies between the first two. Deployed: the network that was attacked. Ideal: what it approximates, such as \
    the exact fixed point or the vote over all noise; attacks on the deployed network say nothing of that one. Where a \
    method abstains nothing is certified.";

impl Section for Certified {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let tables = tables(&report.models);
        if tables.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("certified", "Certified")) {
                h2 { "Certified accuracy" }
                p.quiet { (ABOUT) }
                @for figure in all(report) { (drawing(&svg::lines(&figure), page)) }
                @for table in &tables { (table_of(table, &page.next())) }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        let tables = tables(&report.models);
        if tables.is_empty() {
            return Ok(());
        }
        let _ = write!(out, "\n## Certified accuracy\n\n{}\n", text(ABOUT));
        tables.iter().for_each(|table| markdown::table(out, table));
        all(report).iter().for_each(|figure| markdown::figure(out, "###", figure));
        Ok(())
    }

    fn latex(&self, report: &Report, tables: &mut Tables) {
        let all = self::tables(&report.models);
        if !all.is_empty() {
            tables.out.push('\n');
            tables.comment(&latex::text(ABOUT));
        }
        for table in &all {
            let label = tables.label(&["certified", if all.len() > 1 { table.caption.as_str() } else { "" }]);
            tables.whole(&label, &latex::text(&table.caption), table);
        }
    }

    fn drawings(&self, report: &Report) -> Vec<Drawing> {
        all(report).iter().map(svg::lines).collect()
    }

    fn sheets(&self, report: &Report) -> Result<Vec<(String, String)>, ReportError> {
        let rows: Vec<Vec<String>> = bounds(&report.models).map(|bound| bound.fields()).collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![("certified.csv".to_owned(), sheet(&HEAD, rows)?)])
    }
}

/// What one certificate says at one radius.
struct Bound<'a> {
    model: &'a Evaluation,
    readout: &'a ReadoutResult,
    certificate: &'a Certificate,
    at: &'a CertifiedRadius,
}

/// Every certificate at every radius, in their order.
fn bounds(models: &[Evaluation]) -> impl Iterator<Item = Bound<'_>> {
    derived::rows(models).flat_map(|(model, readout)| {
        readout.certificates.iter().flat_map(move |certificate| {
            certificate.radii.iter().map(move |at| Bound { model, readout, certificate, at })
        })
    })
}

impl Bound<'_> {
    /// A share of the certificate's own images.
    fn of_its_images(&self, holds: impl Fn(&ExampleResult) -> bool) -> Accuracy {
        let known: HashMap<usize, &ExampleResult> =
            self.readout.examples.iter().map(|example| (example.index, example)).collect();
        let own = self.certificate.examples.iter().filter_map(|example| known.get(&example.index));
        Accuracy::new(own.filter(|example| holds(example)).count(), self.certificate.examples.len())
    }

    /// White-box accuracy of the same images within the same radius, where the record knows it.
    fn white_box(&self) -> Option<Accuracy> {
        derived::white_box(self.readout)?;
        let same = |eps: f64| (eps - self.at.eps).abs() <= 1e-9;
        if self.certificate.norm != self.model.norm {
            return None;
        }
        if same(self.model.eps) {
            return Some(self.of_its_images(|example| example.robust));
        }
        // At smaller radii only the counts of all images are known.
        let all = self.certificate.examples.len() == self.readout.examples.len();
        let radius = self.readout.radii.iter().find(|radius| all && same(radius.eps));
        radius.map(|radius| radius.white_box_accuracy)
    }

    fn row(&self) -> Vec<Cell> {
        let Certificate { method, network, norm, confidence, abstained, .. } = self.certificate;
        let sampled = confidence.map(|sure| {
            let samples = format!(
                "{} each, {} and {} samples",
                numbers::percent(sure.level),
                numbers::thousands(sure.selection as u64),
                numbers::thousands(sure.estimation as u64)
            );
            samples + &sure.serialized.as_ref().map_or(String::new(), fast)
        });
        vec![
            Cell::noted(self.model.model.clone(), vec![self.readout.name.clone()]),
            Cell::noted(method.clone(), sampled.into_iter().collect()),
            network.name().into(),
            format!("{} {}", numbers::norm(norm), numbers::eps(self.at.eps)).into(),
            Cell::accuracy(self.at.certified_accuracy),
            self.white_box().map_or("–".into(), Cell::accuracy),
            Cell::accuracy(self.of_its_images(|example| example.clean_correct)),
            abstained.to_string().into(),
        ]
    }

    fn fields(&self) -> Vec<String> {
        let (model, certificate) = (self.model, self.certificate);
        let Accuracy { value, interval: [low, high], .. } = self.at.certified_accuracy;
        let white_box = self.white_box().map_or(String::new(), |accuracy| accuracy.value.to_string());
        let clean = self.of_its_images(|example| example.clean_correct).value;
        let mut fields = vec![
            model.model.clone(),
            model.dataset.clone(),
            self.readout.name.clone(),
            certificate.method.clone(),
            certificate.network.name().to_owned(),
            certificate.norm.clone(),
            self.at.eps.to_string(),
            certificate.examples.len().to_string(),
            self.at.certified_accuracy.correct().to_string(),
        ];
        fields.extend([value, low, high].map(|share| share.to_string()));
        fields.extend([white_box, clean.to_string(), certificate.abstained.to_string()]);
        fields.extend(match certificate.confidence {
            Some(sure) => [sure.level.to_string(), sure.selection.to_string(), sure.estimation.to_string()],
            None => [const { String::new() }; 3],
        });
        fields.extend(match certificate.confidence.and_then(|sure| sure.serialized) {
            Some(fast) => [fast.steps, fast.checks, fast.checked, fast.confirmed].map(|n| n.to_string()),
            None => [const { String::new() }; 4],
        });
        fields
    }
}

/// Columns of `certified.csv`. Accuracies are fractions of the certificate's images; a field that does not apply is empty.
const HEAD: [&str; 22] = [
    "model",
    "dataset",
    "readout",
    "method",
    "network",
    "norm",
    "eps",
    "count",
    "certified",
    "certified_accuracy",
    "certified_accuracy_low",
    "certified_accuracy_high",
    "white_box_accuracy",
    "clean_accuracy",
    "abstained",
    "confidence",
    "selection",
    "estimation",
    "fast_steps",
    "checks",
    "checked",
    "confirmed",
];

/// Of fast votes, what they were and what became of those that were checked.
fn fast(votes: &SerializedVotes) -> String {
    let SerializedVotes { steps, checks, checked, confirmed, .. } = *votes;
    let number = |count: usize| numbers::thousands(count as u64);
    format!(
        ", cast fast ({steps} solver {}), {} of them picked to be checked: {} of {} confirmed; what is certified are accurate votes",
        if steps == 1 { "step" } else { "steps" },
        number(checks),
        number(confirmed),
        number(checked),
    )
}

/// A table for each setting in which anything was certified.
pub(crate) fn tables(models: &[Evaluation]) -> Vec<Table> {
    let mut all: Vec<Table> = Vec::new();
    for bound in bounds(models) {
        let caption = format!(
            "{}, {}. Shares of the images that each method was tried on, in %, with 95% Wilson interval and count. \
             White-box: of the same images within the same ε, where that was attacked. Abstained: images.",
            bound.model.dataset,
            numbers::images(bound.model.count)
        );
        let row = bound.row();
        match all.iter_mut().find(|table| table.caption == caption) {
            Some(table) => table.rows.push(row),
            None => {
                let numeric = ["ε", "Certified", "White-box", "Clean", "Abstained"];
                let columns: Vec<Column> = columns(&["Model", "Method", "Network"], &numeric);
                all.push(Table { caption, columns, rows: vec![row] });
            }
        }
    }
    all
}

/// The curves of every readout.
fn all(report: &Report) -> Vec<Figure> {
    derived::rows(&report.models).flat_map(|(model, readout)| curves(model, readout)).collect()
}

/// Certified accuracy against ε where there are several radii, a figure for each norm; in that of the attacks the
/// white-box accuracy beside it.
fn curves(model: &Evaluation, readout: &ReadoutResult) -> Vec<Figure> {
    let several = |certificate: &&Certificate| certificate.radii.len() > 1;
    let mut norms: Vec<&str> = Vec::new();
    for certificate in readout.certificates.iter().filter(several) {
        if !norms.contains(&certificate.norm.as_str()) {
            norms.push(&certificate.norm);
        }
    }
    let series = |name: String, points: Vec<(f64, Accuracy)>| Series {
        name,
        band: Some(points.iter().map(|(_, a)| (100.0 * a.interval[0], 100.0 * a.interval[1])).collect()),
        points: points.iter().map(|(eps, a)| (*eps, 100.0 * a.value)).collect(),
    };
    let figure = |norm: &&str| {
        let own = readout.certificates.iter().filter(several).filter(|certificate| certificate.norm == *norm);
        let mut curves: Vec<Series> = own
            .map(|certificate| {
                let name = format!("certified, {} ({})", certificate.method, certificate.network.name());
                let points = certificate.radii.iter().map(|radius| (radius.eps, radius.certified_accuracy));
                series(name, points.collect())
            })
            .collect();
        if *norm == model.norm && derived::white_box(readout).is_some() {
            let mut points = vec![(0.0, readout.clean_accuracy)];
            match readout.radii.as_slice() {
                [] => points.push((model.eps, readout.white_box_accuracy)),
                radii => points.extend(radii.iter().map(|radius| (radius.eps, radius.white_box_accuracy))),
            }
            curves.push(series("white-box, all images".to_owned(), points));
        }
        Figure {
            title: format!(
                "{}, readout {}: certified accuracy against ε, {}",
                model.model,
                readout.name,
                numbers::norm(norm)
            ),
            caption: format!(
                "{}, {}. Certified: a lower bound, of the images that the method was tried on. White-box: an upper \
                 bound, from the accuracy when clean on. Bands are 95% Wilson intervals.",
                model.dataset,
                numbers::images(model.count)
            ),
            x_label: format!("ε, {}", numbers::norm(norm)),
            y_label: "accuracy in %".into(),
            from_zero: true,
            series: curves,
            ..Figure::default()
        }
    };
    norms.iter().map(figure).collect()
}
