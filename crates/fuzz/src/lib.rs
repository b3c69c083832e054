//! Fuzzing of readers: files that the program wrote are damaged, and reading them must end in a result or in an error
//! that names the file, within time and memory that the file's size bounds.
//!
//! A [`Target`] has samples and a reader. A case is some bytes, taken as [`Choices`]: which sample, which of its files,
//! what is done to it (see [`mutate`]). Cases are drawn by `proptest` from a seed, so that a run can be repeated; it runs
//! them in a child process, which a panic, an abort, a stack overflow or a hang ends, and looks for the smallest case
//! that does so. The damaged files stay where the message says.
//!
//! `EQUIPOISE_FUZZ_TIMES` makes a run so many times as long, and `PROPTEST_RNG_SEED` gives it another seed.

mod choices;
pub mod mutate;
mod target;

use std::alloc::System;

use cap::Cap;

pub use choices::Choices;
pub use mutate::Mutator;
pub use target::{Sample, Target, run};

/// Refuses what is beyond the limit of a case; Rust then aborts the child process.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// A test that fuzzes a target: its name, the number of cases in a short run, and the [`Target`].
#[macro_export]
macro_rules! fuzz {
    ($name:ident, $cases:expr, $target:expr) => {
        #[test]
        fn $name() {
            $crate::run(concat!(module_path!(), "::", stringify!($name)), $cases, || $target);
        }
    };
}
