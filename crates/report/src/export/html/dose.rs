//! Gaps against residuals and cosines in the page: the sentences, the figures, and every point folded.

use super::parts::{Ids, drawing, table_of};
use crate::{dose, svg};
use maud::{Markup, html};

/// The section. Nothing without one.
pub(super) fn dose(section: Option<&dose::Section>, ids: &mut Ids) -> Markup {
    let Some(section) = section else { return html! {} };
    html! {
        section id="dose" {
            h2 { "Gap against residual" }
            p.quiet { (dose::ABOUT) }
            @for group in &section.groups {
                ul { @for dose in dose::Dose::ALL { li { (group.setting) ". " (group.sentence(dose)) } } }
                @for figure in dose::figures(group) { (drawing(&svg::lines(&figure), ids)) }
                details.more {
                    summary { "Every point, " (group.rung.name()) }
                    (table_of(&dose::table(group), &ids.next()))
                }
            }
            @if !section.notes.is_empty() { ul { @for note in &section.notes { li { (note) } } } }
        }
    }
}
