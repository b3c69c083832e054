//! Checks in the page: clear ones in one line for each readout, raised ones with what they found.

use super::parts::breakable;
use crate::facts::{self, Checks};
use crate::words;
use equipoise_record::{Evaluation, Flag};
use maud::{Markup, html};

/// The section of checks. Nothing where none was made.
pub(super) fn checks(models: &[Evaluation]) -> Markup {
    let all = facts::checks(models);
    html! {
        @if !all.is_empty() {
            section id="checks" {
                h2 { "Checks" }
                p.quiet {
                    "Signs of gradient obfuscation, or of an evaluation that cannot be trusted, beside the verdict. A "
                    "check that found nothing is named too."
                }
                @for checks in &all { (of_readout(checks)) }
            }
        }
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
                    dd { (e.value.map_or("not finite".to_owned(), words::number)) }
                }
            }
        }
    }
}
