//! The evaluation cascade: a file for each thing that it promises.

#[path = "../attack_victims/mod.rs"]
mod attack_victims;
mod arms;
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
