//! Measurement: what a piece of work takes, in seconds, in shares of what the machine can do, and in memory.
//!
//! Every case runs in a process of its own ([`worker`]), so that its peak memory is its own. The command asks that
//! process, round after round, for a repetition; where a PyTorch program is given it asks that one for the same
//! work in the same round ([`process`]), and takes the ratio round by round: both see the same minute of the machine.

pub mod autoattack;
pub mod case;
pub mod check;
pub mod flops;
pub mod measure;
pub mod memory;
pub mod process;
pub mod record;
pub mod scaling;
pub mod subject;
pub mod table;
pub mod verdict;
pub mod worker;
