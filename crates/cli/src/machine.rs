//! The machine that this process runs on, for records.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files;

/// Where something was computed: what the last digits of a result may depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name in the network.
    pub host: String,
    /// The processor, as it calls itself.
    pub processor: String,
    /// The instruction set that the kernels choose there.
    pub instruction_set: String,
    /// Version of the program.
    pub equipoise: String,
    /// SHA-256 of the program's file.
    pub binary: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Result<Self, Error> {
        let binary = std::env::current_exe().map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Self {
            host: host(),
            processor: processor(),
            instruction_set: equipoise_kernels::machine::instruction_set().to_owned(),
            equipoise: env!("CARGO_PKG_VERSION").to_owned(),
            binary: files::sha256(&binary)?,
        })
    }

    /// Whether both compute the same to the last digit: the same program on the same kind of processor.
    pub fn alike(&self, other: &Self) -> bool {
        let kind = |machine: &Self| {
            (machine.processor.clone(), machine.instruction_set.clone(), machine.binary.clone())
        };
        kind(self) == kind(other)
    }
}

fn host() -> String {
    let name =
        fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map_or("unknown".to_owned(), |name| name.trim().to_owned())
}

/// The processor, as it calls itself.
pub fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or("unknown", |(_, name)| name.trim()).to_owned()
}
