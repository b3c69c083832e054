//! Adversarial images of an evaluation, where they were saved.

use super::Section;
use crate::layout::gallery;
use crate::layout::html::Page;
use crate::{Report, ReportError, derived};
use maud::{Markup, html};

pub(crate) struct Adversarial;

impl Section for Adversarial {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        let saved = derived::rows(&report.models).filter_map(|(model, readout)| {
            let found = readout.gallery.as_ref()?;
            Some(gallery::gallery(&format!("{}, readout {}", model.model, readout.name), found))
        });
        let images = saved.collect::<Result<Vec<Markup>, _>>()?;
        if images.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("images", "Images")) {
                h2 { "Images" }
                p.quiet { "Adversarial images that were saved, of images that are correct when clean." }
                @for gallery in images { (gallery) }
            }
        })
    }
}
