//! The evaluation cascade: a file for each thing that it promises.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/victims.rs"]
mod victims;

mod arms;
mod autoattack_parity;
mod defence;
mod interruption;
mod journal;
mod randomised;
mod refusals;
mod saved_images;
mod shards;
mod support;
mod time_limit;
mod transfer;
mod verdicts;
mod verification;
