//! What the parts of a report are laid out with, by format: text that is shown unchanged, tables, figures.

pub(crate) mod gallery;
pub(crate) mod html;
pub(crate) mod latex;
pub(crate) mod markdown;
