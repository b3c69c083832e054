//! Figures and tables as parts of the page, each with ids of its own.

use crate::svg::{Drawing, Layout};
use crate::table::{Cell, Table};
use maud::{Markup, html};

/// Numbers figures and tables, so that their parts have ids of their own.
pub(super) struct Ids {
    count: usize,
    named: Vec<String>,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self { count: 0, named: Vec::new() }
    }

    /// Whether a name has not been an id yet.
    pub(super) fn first(&mut self, name: &str) -> bool {
        let new = !self.named.iter().any(|named| named == name);
        self.named.extend(new.then(|| name.to_owned()));
        new
    }

    pub(super) fn next(&mut self) -> String {
        self.count += 1;
        format!("item-{}", self.count)
    }
}

/// A figure with its numbers folded below.
pub(super) fn drawing(drawing: &Drawing, ids: &mut Ids) -> Markup {
    let data = html! {
        details { summary { "Data of this figure" } (table_of(&drawing.table, &ids.next())) }
    };
    figure(drawing, ids, data)
}

/// A figure whose numbers stand in the table that follows it in the text.
pub(super) fn drawing_above(drawing: &Drawing, ids: &mut Ids) -> Markup {
    figure(drawing, ids, html! {})
}

fn figure(drawing: &Drawing, ids: &mut Ids, data: Markup) -> Markup {
    let id = ids.next();
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
pub(super) fn table_of(table: &Table, id: &str) -> Markup {
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
pub(super) fn breakable(says: &str) -> Markup {
    html! { @for part in says.split_inclusive([',', '+']) { (part) wbr; } }
}
