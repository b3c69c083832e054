//! The command as a user meets it: exit codes, messages, files, interruptions.

mod bad_input;
mod bench;
mod calibrate;
mod certify;
mod data;
mod defaults;
mod defence;
mod device;
mod diagnose;
mod documents;
mod exchange;
mod hub;
mod kill;
mod leaderboard;
mod limits;
mod many;
mod randomised;
mod ranks;
mod report;
mod results;
mod resume;
mod shards;
mod support;
mod transfer;
mod verify;
