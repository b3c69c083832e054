//! Reports on small records written out by hand, so that every number in them can be checked by eye.

mod browser;
mod diagnoses;
mod figures;
mod files;
mod formats;
mod page;
mod records;
mod verdicts;
mod writing;
