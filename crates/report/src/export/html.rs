//! HTML: one self-contained page, verdict first. No scripts, nothing fetched.
//!
//! `maud` escapes every value that is put into the page; only the style sheets of this crate bypass it.
//! It was preferred to `askama` because figures are drawn by code, and one language then serves the page
//! and its SVG.

use super::Exporter;
use crate::layout::html::Page;
use crate::sections::{SECTIONS, diagnosis_setting, training_setting};
use crate::{Report, ReportError, derived, numbers};
use equipoise_record::{Diagnosis, Evaluation};
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(crate) struct Html;

impl Exporter for Html {
    fn render(&self, report: &Report) -> Result<String, ReportError> {
        let mut page = Page::default();
        let sections = SECTIONS.iter().map(|section| section.html(report, &mut page));
        let sections = sections.collect::<Result<Vec<Markup>, ReportError>>()?;
        Ok(whole(report, &page, &sections).into_string())
    }
}

fn whole(report: &Report, page: &Page, sections: &[Markup]) -> Markup {
    let title = if report.title.is_empty() { "Robustness report" } else { &report.title };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style {
                    (PreEscaped(include_str!("colours.css"))) (PreEscaped(include_str!("page.css")))
                }
            }
            body {
                header {
                    h1 { (title) }
                    @for (setting, models) in derived::by_setting(&report.models) {
                        p { (names(&models)) " on " (setting) }
                    }
                    @for setting in diagnosed_on(&report.diagnoses) { p { "Diagnosis on " (setting) } }
                    @if !report.trainings.is_empty() { p { (training_setting(&report.trainings)) } }
                    nav aria-label="Sections" {
                        @for (id, name) in &page.links { a href=(format!("#{id}")) { (name) } }
                    }
                }
                main { @for section in sections { (section) } }
                footer { "Written by equipoise-report " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    }
}

/// Who was evaluated: by name where there are few.
fn names(models: &[&Evaluation]) -> String {
    let names: Vec<String> = models.iter().map(|model| model.model.clone()).collect();
    if names.len() <= 4 { numbers::list(&names) } else { format!("{} models", names.len()) }
}

/// What was diagnosed on, each setting once.
fn diagnosed_on(diagnoses: &[Diagnosis]) -> Vec<String> {
    let mut settings: Vec<String> = Vec::new();
    for setting in diagnoses.iter().map(diagnosis_setting) {
        if !settings.contains(&setting) {
            settings.push(setting);
        }
    }
    settings
}
