//! The page as it is made: ids, links of the navigation, figures and tables.

use crate::svg::{Drawing, Layout};
use crate::table::{Cell, Table};
use maud::{Markup, html};

/// Gives sections, figures and tables ids of their own, and keeps what the navigation links to.
#[derive(Default)]
pub(crate) struct Page {
    count: usize,
    /// Id and name of each section, in their order.
    pub links: Vec<(&'static str, &'static str)>,
}

impl Page {
    /// The id of a section, which the navigation links to by this name. A section that comes again has an id of its
    /// own, and no link.
    pub(crate) fn section(&mut self, id: &'static str, name: &'static str) -> String {
        if self.links.iter().any(|(known, _)| *known == id) {
            return self.next();
        }
        self.links.push((id, name));
        id.to_owned()
    }

    /// The id of a figure or a table.
    pub(crate) fn next(&mut self) -> String {
        self.count += 1;
        format!("item-{}", self.count)
    }
}

/// A figure with its numbers folded below.
pub(crate) fn drawing(drawing: &Drawing, page: &mut Page) -> Markup {
    let data = html! {
        details { summary { "Data of this figure" } (table_of(&drawing.table, &page.next())) }
    };
    figure(drawing, page, data)
}

/// A figure whose numbers stand in the table that follows it in the text.
pub(crate) fn drawing_above(drawing: &Drawing, page: &mut Page) -> Markup {
    figure(drawing, page, html! {})
}

fn figure(drawing: &Drawing, page: &mut Page, data: Markup) -> Markup {
    let id = page.next();
    html! {
        figure id=(id) {
            figcaption { strong { (drawing.title) } span { (drawing.caption) } }
            (drawing.svg(&id, Layout::Wide))
            (drawing.svg(&id, Layout::Narrow))
            (data)
        }
    }
}

/// A table that scrolls inside its own container; `id` must be unique in the page.
pub(crate) fn table_of(table: &Table, id: &str) -> Markup {
    let caption = format!("{id}-caption");
    html! {
        div.table {
            // Outside of what scrolls, so that it wraps to the screen and not to the table.
            p.caption id=(caption) { (table.caption) }
            // Focusable, so that the keyboard can scroll it.
            div.scroll role="region" tabindex="0" aria-labelledby=(caption) {
                table aria-labelledby=(caption) {
                    thead { tr {
                        @for column in &table.columns { th scope="col" class=(class(column.numeric)) { (column.title) } }
                    } }
                    tbody {
                        @for row in &table.rows {
                            tr { @for (cell, column) in row.iter().zip(&table.columns) { (cell_of(cell, column.numeric)) } }
                        }
                    }
                }
            }
        }
    }
}

fn class(numeric: bool) -> &'static str {
    if numeric { "n" } else { "t" }
}

fn cell_of(cell: &Cell, numeric: bool) -> Markup {
    let class = if !numeric && cell.main.chars().count() > 20 { "long" } else { class(numeric) };
    html! {
        td class=(class) {
            @if class == "long" { (breakable(&cell.main)) } @else { (cell.main) }
            @for note in &cell.notes { " " small { (note) } }
        }
    }
}

/// An estimator is one long word: let it break after its commas and pluses.
pub(crate) fn breakable(says: &str) -> Markup {
    html! { @for part in says.split_inclusive([',', '+']) { (part) wbr; } }
}
