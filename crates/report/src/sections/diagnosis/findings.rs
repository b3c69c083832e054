//! Findings: a diagnosis in one sentence for each model, with its numbers.

use super::{Clause, MEASUREMENTS, setting};
use crate::layout::html::{Page, breakable};
use crate::layout::markdown;
use crate::sections::Section;
use crate::{Report, ReportError};
use equipoise_record::{Diagnosis, ModelDiagnosis};
use maud::{Markup, html};
use std::fmt::Write;

/// What was found on one model: where, and in which clauses.
struct Found {
    model: String,
    setting: String,
    clauses: Vec<String>,
}

/// What was found, one entry for each model.
fn findings(diagnosis: &Diagnosis) -> Vec<Found> {
    let clauses = |model: &ModelDiagnosis| -> Vec<String> {
        let all = MEASUREMENTS.iter().filter_map(|of| of.clause(diagnosis, model));
        let mut clauses: Vec<Clause> = all.collect();
        clauses.sort_by_key(|clause| clause.place);
        match clauses.is_empty() {
            true => vec!["nothing was measured".to_owned()],
            false => clauses.into_iter().map(|clause| clause.says).collect(),
        }
    };
    let found = |model: &ModelDiagnosis| Found {
        model: model.model.clone(),
        setting: setting(diagnosis),
        clauses: clauses(model),
    };
    diagnosis.diagnosed.iter().map(found).collect()
}

/// What was found, one sentence for each model; plain text.
pub fn diagnosis_summary(diagnosis: &Diagnosis) -> Vec<String> {
    let sentence = |f: Found| format!("{} on {}: {}.", f.model, f.setting, f.clauses.join("; "));
    findings(diagnosis).into_iter().map(sentence).collect()
}

/// The findings of all diagnoses, before the diagnoses themselves.
pub(crate) struct Findings;

impl Section for Findings {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        if report.diagnoses.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("findings", "Findings")) {
                h2 { "Findings" }
                @for finding in report.diagnoses.iter().flat_map(findings) {
                    article.finding-card {
                        p { strong { (finding.model) } " on " (breakable(&finding.setting)) }
                        ul { @for clause in &finding.clauses { li { (breakable(clause)) } } }
                    }
                }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        let sentences = report.diagnoses.iter().flat_map(diagnosis_summary);
        let sentences: Vec<String> = sentences.map(|says| markdown::text(&says)).collect();
        if !sentences.is_empty() {
            let _ = write!(out, "\n## Findings\n\n- {}\n", sentences.join("\n- "));
        }
        Ok(())
    }
}
