//! How to repeat what the page shows: commands, configurations, versions.

use super::{Section, diagnosis_setting};
use crate::layout::html::Page;
use crate::layout::markdown::{fenced, text};
use crate::{Report, ReportError, derived, numbers};
use maud::{Markup, html};
use std::fmt::Write;

/// The command that made a record, unless it is the report's own, which is shown already.
fn command<'a>(configuration: &'a serde_json::Value, report: &Report) -> Option<&'a str> {
    let command = configuration.get("command")?.as_str()?;
    (report.command.as_deref() != Some(command)).then_some(command)
}

/// JSON with indents; a JSON value can always be written.
fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}

pub(crate) struct Reproduce;

impl Section for Reproduce {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        Ok(html! {
            section id=(page.section("reproduce", "Reproduce")) {
                h2 { "Reproduce" }
                @match &report.command {
                    Some(command) => { pre tabindex="0" { code { (command) } } }
                    None => { p.quiet { "No command was recorded." } }
                }
                @for model in &report.models {
                    h3 { (model.model) }
                    dl {
                        dt { "Data" } dd { (model.dataset) }
                        dt { "Budget" } dd { (derived::budget(model)) }
                        dt { "Images" } dd { (model.count) }
                        dt { "Seed" } dd { (model.seed) }
                        dt { "Record format" } dd { (model.version) }
                    }
                    @if let Some(command) = command(&model.configuration, report) {
                        pre tabindex="0" { code { (command) } }
                    }
                    details {
                        summary { "Configuration and versions" }
                        pre tabindex="0" { code { (serde_json::to_string_pretty(&model.configuration)?) } }
                    }
                }
                @for one in &report.diagnoses {
                    h3 { "Diagnosis of " (numbers::list(&one.diagnosed.iter().map(|m| m.model.clone()).collect::<Vec<_>>())) }
                    dl {
                        dt { "Data" } dd { (one.dataset) }
                        dt { "Budget" } dd { (numbers::norm(&one.norm)) " ε = " (numbers::eps(one.eps)) }
                        dt { "Images" } dd { (one.count) }
                        dt { "Seed" } dd { (one.seed) }
                        dt { "Record format" } dd { (one.version) }
                    }
                    @if let Some(command) = command(&one.configuration, report) {
                        pre tabindex="0" { code { (command) } }
                    }
                    details {
                        summary { "Configuration and versions" }
                        pre tabindex="0" { code { (pretty(&one.configuration)) } }
                        @for model in &one.diagnosed {
                            pre tabindex="0" { code { (model.model) ": " (pretty(&model.configuration)) } }
                        }
                    }
                }
                @for one in report.trainings.iter().filter(|one| !one.recipe.is_null()) {
                    h3 { "Training of " (one.model) }
                    details { summary { "Recipe" } pre tabindex="0" { code { (pretty(&one.recipe)) } } }
                }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        out.push_str("\n## Reproduce\n");
        if let Some(command) = &report.command {
            out.push_str(&fenced("sh", command));
        }
        for model in &report.models {
            let configuration = serde_json::to_string_pretty(&model.configuration)?;
            let _ = write!(
                out,
                "\n**{}**: {}, seed {}, record format {}.\n",
                text(&model.model),
                text(&derived::setting(model)),
                model.seed,
                model.version
            );
            let block = fenced("json", &configuration);
            let _ = write!(out, "\n<details><summary>Configuration</summary>\n{block}\n</details>\n");
        }
        for one in &report.diagnoses {
            let _ = write!(out, "\n**Diagnosis**: {}, seed {}.\n", text(&diagnosis_setting(one)), one.seed);
            let mut all = vec![serde_json::to_string_pretty(&one.configuration)?];
            for model in &one.diagnosed {
                all.push(serde_json::to_string_pretty(&model.configuration)?);
            }
            let block = fenced("json", &all.join("\n"));
            let _ = write!(out, "\n<details><summary>Configuration</summary>\n{block}\n</details>\n");
        }
        for one in report.trainings.iter().filter(|one| !one.recipe.is_null()) {
            let block = fenced("json", &serde_json::to_string_pretty(&one.recipe)?);
            let _ = write!(
                out,
                "\n**Training of {}**.\n\n<details><summary>Recipe</summary>\n{block}\n</details>\n",
                text(&one.model)
            );
        }
        let _ = write!(out, "\nWritten by equipoise-report {}.\n", env!("CARGO_PKG_VERSION"));
        Ok(())
    }
}
