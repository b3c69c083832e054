//! The command as a user meets it: exit codes, messages, files, interruptions.

mod bad_input;
mod bench;
mod calibrate;
mod diagnose;
mod exchange;
<<<<<<< HEAD
mod many;
=======
mod hub;
mod report;
>>>>>>> report
mod results;
mod resume;
mod support;
