//! Training runs in the page: where each has come to, the curves, and the epochs folded.

use super::parts::{Ids, drawing, table_of};
use crate::{svg, training};
use equipoise_record::Training;
use maud::{Markup, html};

/// The section of training runs. Nothing without any.
pub(super) fn trained(trainings: &[Training], ids: &mut Ids) -> Markup {
    let Some(summary) = training::summary(trainings) else { return html! {} };
    html! {
        section id="training" {
            h2 { "Training" }
            p.quiet { (training::ABOUT) }
            @if let Some(open) = training::unfinished(trainings) { p { (open) } }
            (table_of(&summary, &ids.next()))
            @for figure in training::figures(trainings) { (drawing(&svg::lines(&figure), ids)) }
            @for one in trainings {
                @if let Some(epochs) = training::epochs(one) {
                    details.more {
                        summary { (one.model) ": every epoch" }
                        (table_of(&epochs, &ids.next()))
                    }
                }
            }
        }
    }
}
