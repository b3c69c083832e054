//! How to repeat what the page shows: commands, configurations, versions.

use crate::{Report, facts, words};
use maud::{Markup, html};

/// The command that made a record, unless it is the report's own, which is shown already.
fn command<'a>(configuration: &'a serde_json::Value, report: &Report) -> Option<&'a str> {
    let command = configuration.get("command")?.as_str()?;
    (report.command.as_deref() != Some(command)).then_some(command)
}

/// JSON with indents; a JSON value can always be written.
fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}

pub(super) fn reproduce(report: &Report, configurations: &[String]) -> Markup {
    html! {
        section id="reproduce" {
            h2 { "Reproduce" }
            @match &report.command {
                Some(command) => { pre tabindex="0" { code { (command) } } }
                None => { p.quiet { "No command was recorded." } }
            }
            @for (model, configuration) in report.models.iter().zip(configurations) {
                h3 { (model.model) }
                dl {
                    dt { "Data" } dd { (model.dataset) }
                    dt { "Budget" } dd { (facts::budget(model)) }
                    dt { "Images" } dd { (model.count) }
                    dt { "Seed" } dd { (model.seed) }
                    dt { "Record format" } dd { (model.version) }
                }
                @if let Some(command) = command(&model.configuration, report) {
                    pre tabindex="0" { code { (command) } }
                }
                details { summary { "Configuration and versions" } pre tabindex="0" { code { (configuration) } } }
            }
            @for one in &report.diagnoses {
                h3 { "Diagnosis of " (words::list(&one.diagnosed.iter().map(|m| m.model.clone()).collect::<Vec<_>>())) }
                dl {
                    dt { "Data" } dd { (one.dataset) }
                    dt { "Budget" } dd { (words::norm(&one.norm)) " ε = " (words::eps(one.eps)) }
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
    }
}
