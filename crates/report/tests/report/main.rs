//! Reports on small records written out by hand, so that every number in them can be checked by eye.

mod arms;
mod board;
mod browser;
mod cards;
mod certified;
mod comparisons;
mod diagnoses;
mod dose;
mod figures;
mod files;
mod formats;
mod page;
mod radii;
mod records;
mod trainings;
mod verdicts;
mod writing;
