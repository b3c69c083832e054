//! The command as a user meets it: exit codes, messages, files, interruptions.

mod bad_input;
mod bench;
mod calibrate;
mod data;
mod diagnose;
mod exchange;
mod results;
mod resume;
mod support;
