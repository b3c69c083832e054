//! Error rate and power of the verdict, measured on small models that are trained for it.
//!
//! *Size*: verdicts where nothing is obfuscated ([`nulls`]). *Power*: verdicts on planted faults ([`faults`]). *Checks*:
//! the checks on healthy models and on their own faults ([`checks`]). Outcomes belong to examples, so that one
//! evaluation gives verdicts on many disjoint subsets of its images ([`trial`]).

pub mod checks;
pub mod drawn;
pub mod effort;
pub mod faults;
pub mod figures;
pub mod model;
pub mod nulls;
pub mod planted;
pub mod record;
pub mod subset;
pub mod summary;
pub mod table;
pub mod trial;
pub mod victims;
