//! Figures that a report was given, beside those that are drawn from its records.

use super::Section;
use crate::layout::html::{Page, drawing};
use crate::layout::markdown;
use crate::svg::{self, Drawing};
use crate::{Report, ReportError};
use maud::{Markup, html};

pub(crate) struct Given;

impl Section for Given {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        if report.figures.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("figures", "Figures")) {
                h2 { "Figures" }
                @for figure in &report.figures { (drawing(&svg::lines(figure), page)) }
            }
        })
    }

    fn markdown(&self, report: &Report, out: &mut String) -> Result<(), ReportError> {
        markdown::section(out, "Figures", &report.figures, |out, one| markdown::figure(out, "###", one));
        Ok(())
    }

    fn drawings(&self, report: &Report) -> Vec<Drawing> {
        report.figures.iter().map(svg::lines).collect()
    }
}
