//! Fuzz targets: one for each kind of file that is read.
//!
//! The samples are fixtures of the other crates' tests, and what the program itself writes.

#[allow(dead_code, reason = "the tests of reports use all of it")]
#[path = "../../../report/tests/report/arms.rs"]
mod arms;
mod data;
#[path = "../../../dataset/tests/common/mod.rs"]
mod files;
mod models;
#[allow(dead_code, reason = "as for `arms`")]
#[path = "../../../report/tests/report/records.rs"]
mod records;
mod reports;
mod runs;

use std::path::{Path, PathBuf};

/// A fixture of another crate's tests.
fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
