//! Checks: clear ones in one line for each readout, raised ones with what they found.

use super::Section;
use crate::derived::{self, Checks};
use crate::layout::html::{Page, breakable};
use crate::layout::markdown::{section, text};
use crate::{Report, ReportError, numbers};
use equipoise_record::Flag;
use maud::{Markup, html};
use std::fmt::Write;

pub(crate) struct Flags;

impl Section for Flags {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let all = derived::checks(&report.models);
        if all.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("checks", "Checks")) {
                h2 { "Checks" }
                p.quiet {
                    "Signs of gradient obfuscation, or of an evaluation that cannot be trusted, beside the verdict. A "
                    "check that found nothing is named too."
                }
                @for checks in &all { (of_readout(checks)) }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        section(out, "Checks", &derived::checks(&report.models), |out, checks| {
            let _ = write!(out, "\n**{}**: {}.\n", text(&checks.whose), text(&checks.in_short()));
            out.push_str(if checks.raised.is_empty() { "" } else { "\n" });
            for flag in &checks.raised {
                let _ = writeln!(out, "- {}, **raised**: {}", text(&flag.name), text(&flag.statement));
            }
        });
        Ok(())
    }
}

fn of_readout(checks: &Checks) -> Markup {
    html! {
        div.checked {
            @if checks.clear.is_empty() {
                (line(checks))
            } @else {
                details { summary { (line(checks)) } (list(&checks.clear)) }
            }
            @if !checks.raised.is_empty() { (list(&checks.raised)) }
        }
    }
}

/// All checks of a readout in one line.
fn line(checks: &Checks) -> Markup {
    html! { strong { (checks.whose) } ": " (breakable(&checks.in_short())) }
}

fn list(flags: &[&Flag]) -> Markup {
    html! {
        ul.checks {
            @for flag in flags {
                li.raised[flag.raised] {
                    span.state { @if flag.raised { "▲ raised" } @else { "clear" } }
                    div {
                        p { strong { (flag.name) ":" } " " (breakable(&flag.statement)) }
                        @if !flag.evidence.is_empty() { (evidence(flag)) }
                    }
                }
            }
        }
    }
}

/// The numbers of a check; those of a raised one are open.
fn evidence(flag: &Flag) -> Markup {
    html! {
        details open[flag.raised] {
            summary { "Evidence" }
            dl {
                @for e in &flag.evidence {
                    dt { (breakable(&e.name)) }
                    dd { (e.value.map_or("not finite".to_owned(), numbers::number)) }
                }
            }
        }
    }
}
