//! Markdown in GitHub's flavour: text that shows unchanged, tables, and figures as tables of their points, folded.

use crate::figure::Figure;
use crate::table::{self, Cell, Table};
use std::fmt::Write;

/// A section with its parts, unless there are none.
pub(crate) fn section<T>(out: &mut String, title: &str, parts: &[T], write: impl Fn(&mut String, &T)) {
    if !parts.is_empty() {
        let _ = write!(out, "\n## {title}\n");
    }
    parts.iter().for_each(|part| write(out, part));
}

/// Tables that unfold below a line.
pub(crate) fn folded(out: &mut String, summary: &str, write: impl FnOnce(&mut String)) {
    let _ = write!(out, "\n<details><summary>{summary}</summary>\n");
    write(out);
    out.push_str("\n</details>\n");
}

/// A figure as the table of its points, folded.
pub(crate) fn figure(out: &mut String, heading: &str, figure: &Figure) {
    let _ = write!(out, "\n{heading} {}\n\n{}\n", text(&figure.title), text(&figure.caption));
    let points = Table { caption: String::new(), ..table::points(figure) };
    folded(out, "Points", |out| table(out, &points));
}

/// A table below its caption.
pub(crate) fn table(out: &mut String, table: &Table) {
    if !table.caption.is_empty() {
        let _ = write!(out, "\n{}\n", text(&table.caption));
    }
    out.push('\n');
    line(out, table.columns.iter().map(|c| text(&c.title)));
    line(out, table.columns.iter().map(|c| if c.numeric { "---:" } else { "---" }.to_owned()));
    for row in &table.rows {
        line(out, row.iter().map(cell));
    }
}

fn line(out: &mut String, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn cell(cell: &Cell) -> String {
    let parts: Vec<String> = std::iter::once(&cell.main).chain(&cell.notes).map(|part| text(part)).collect();
    parts.join(" ")
}

/// Plain text as Markdown that shows it unchanged, in a table as well: no markup, no HTML, one line.
pub(crate) fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '|' | '#' | '~' | '!' => out.extend(['\\', c]),
            '\n' | '\r' | '\t' => out.push(' '),
            _ => out.push(c),
        }
    }
    // Brackets stay as they are, since intervals are everywhere; only `](` and `][` make links.
    out.replace("](", "]\\(").replace("][", "]\\[")
}

/// A code block whose fence is longer than any run of backticks inside.
pub(crate) fn fenced(language: &str, code: &str) -> String {
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("\n{fence}{language}\n{}\n{fence}\n", code.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_unchanged() {
        assert_eq!(text("41.2% [37.0, 45.6]"), "41.2% [37.0, 45.6]");
        assert_eq!(text("a|b_c*<b>"), "a\\|b\\_c\\*&lt;b&gt;");
        assert_eq!(text("[x](http://example.org)\nb"), "[x]\\(http://example.org) b");
    }

    #[test]
    fn fences_hold_what_they_fence() {
        assert!(fenced("sh", "a ```` b").contains("\n`````sh\n"));
        assert!(fenced("sh", "a").contains("\n```sh\na\n```\n"));
    }
}
