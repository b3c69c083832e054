//! Attacks: textbook steps, the contract of every attack, AutoAttack's parts.

#[path = "../common/victims.rs"]
mod victims;

mod autoattack;
mod contract;
mod pgd;
