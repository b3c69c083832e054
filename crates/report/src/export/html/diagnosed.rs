//! Diagnoses in the page: what they found, section by section, and their galleries.

use super::gallery;
use super::parts::{Ids, breakable, drawing, table_of};
use crate::{Report, ReportError, diagnosis, svg, words};
use equipoise_record::Diagnosis;
use maud::{Markup, html};

/// The images of every model of a diagnosis.
pub(super) fn galleries(diagnosis: &Diagnosis) -> Result<Vec<Markup>, ReportError> {
    let with_images = diagnosis.diagnosed.iter().filter_map(|model| {
        let found = model.gallery.as_ref()?.result.as_ref()?;
        Some(gallery::gallery(&model.model, found))
    });
    with_images.collect()
}

/// What the diagnoses found, a sentence for each model.
pub(super) fn findings(report: &Report) -> Markup {
    html! {
        @if !report.diagnoses.is_empty() {
            section id="findings" {
                h2 { "Findings" }
                @for one in &report.diagnoses {
                    @for finding in diagnosis::findings(one) {
                        article.finding-card {
                            p { strong { (finding.model) } " on " (breakable(&finding.setting)) }
                            ul { @for clause in &finding.clauses { li { (breakable(clause)) } } }
                        }
                    }
                }
            }
        }
    }
}

/// A diagnosis, section by section. Only the first gets the ids that the navigation points to.
pub(super) fn diagnosed(one: &Diagnosis, galleries: &[Markup], ids: &mut Ids) -> Markup {
    let id = |name: &str, ids: &mut Ids| if ids.first(name) { name.to_owned() } else { ids.next() };
    html! {
        section id=(id("diagnosis", ids)) {
            h2 { "Diagnosis" }
            p.quiet { (diagnosis::setting(one)) ". " (costs(one)) }
            @for part in diagnosis::parts(one) {
                h3 { (part.title) }
                p.quiet { (part.about) }
                @for line in &part.absent { p.quiet { (line) } }
                @for figure in &part.figures { (drawing(&svg::lines(figure), ids)) }
                @for table in &part.tables { (table_of(table, &ids.next())) }
            }
        }
        @if !galleries.is_empty() {
            section id=(id("gallery", ids)) {
                h2 { "Gallery" }
                p.quiet { "The first images of the data that are correct when clean, attacked by " (words::attack(one.attacked)) "." }
                @for gallery in galleries { (gallery) }
            }
        }
    }
}

/// What a diagnosis took, in words.
fn costs(one: &Diagnosis) -> String {
    let (mut seconds, mut evaluations, mut vjps) = (0.0, 0, 0);
    let mut add =
        |s: f64, e: u64, v: u64| (seconds, evaluations, vjps) = (seconds + s, evaluations + e, vjps + v);
    macro_rules! sections { ($model:ident: $($name:ident)*) => { $(
        if let Some(s) = &$model.$name { add(s.seconds, s.cell_evaluations, s.vjps) }
    )* } }
    for model in &one.diagnosed {
        sections!(model: residual accuracy alignment yardstick landscape spectrum sweep gallery);
    }
    format!(
        "It took {}, {} evaluations of the cell and {} vector-Jacobian products, beside those of the attack.",
        words::seconds(seconds),
        words::thousands(evaluations),
        words::thousands(vjps)
    )
}
