//! What every command sets up before it does anything: logging, threads, device.

use burn::tensor::Device;

use crate::error::{Error, input};
use crate::flags::Global;
use crate::lifeline;
use crate::log;

/// How a device is opened, by its number if one was given.
type Open = fn(Option<usize>) -> Device;

/// The devices of this build: the CPU, and one more for each of these cargo features.
const DEVICES: &[(&str, Open)] = &[
    (CPU, |_| Device::flex()),
    #[cfg(feature = "vulkan")]
    ("vulkan", |number| Device::vulkan(discrete(number))),
    #[cfg(feature = "wgpu")]
    ("wgpu", |number| Device::wgpu(discrete(number))),
    #[cfg(feature = "cuda")]
    ("cuda", |number| Device::cuda(number.unwrap_or(0))),
];

const CPU: &str = "cpu";

/// Bytes of a thread's stack: those of a process on Linux.
const STACK: usize = 8 << 20;

/// Devices that a build may have, each by the cargo feature of its name.
const FEATURES: [&str; 3] = ["cuda", "vulkan", "wgpu"];

/// A discrete GPU by its number; without one the fastest that there is.
#[cfg(any(feature = "vulkan", feature = "wgpu"))]
fn discrete(number: Option<usize>) -> burn::tensor::DeviceKind {
    number.map_or(burn::tensor::DeviceKind::DefaultDevice, burn::tensor::DeviceKind::DiscreteGpu)
}

/// `--device`: `cpu`, or the name of a cargo feature of this build, with a number after a colon for one GPU of several.
fn device(given: &str) -> Result<Device, Error> {
    let (name, number) = match given.split_once(':') {
        Some((name, number)) => (name, Some(number)),
        None => (given, None),
    };
    let build = |feature: &str| format!("`cargo install --path crates/cli --features {feature}`");
    let Some((_, open)) = DEVICES.iter().find(|(known, _)| *known == name) else {
        let known = DEVICES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(input(if FEATURES.contains(&name) {
            format!("--device {given}: this build has {known} alone; build with {}", build(name))
        } else {
            format!(
                "--device {given}: unknown; this build has {known}. GPUs are cargo features: build with {}, or with \
                 vulkan or wgpu in its place",
                build(FEATURES[0])
            )
        }));
    };
    let number = match number {
        None => None,
        Some(_) if name == CPU => {
            return Err(input(format!(
                "--device {given}: the CPU has no number; use cpu, and --threads for its cores"
            )));
        }
        Some(text) => Some(text.parse().map_err(|_| {
            input(format!("--device {given}: `{text}` is no number of a GPU; count from 0, as in {name}:0"))
        })?),
    };
    Ok(open(number))
}

/// What commands need to know of the machine.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where tensors live.
    pub device: Device,
    /// Its name, as given.
    pub device_name: String,
    /// Threads that work.
    pub threads: usize,
    /// Seed of all random numbers, if one was given.
    pub seed: Option<u64>,
    /// Whether nothing but errors should be said.
    pub quiet: bool,
}

impl Setup {
    /// Must come before any computation: the thread pool cannot be changed later.
    pub fn new(global: &Global) -> Result<Self, Error> {
        log::start(global.verbose as i8 - if global.quiet { 100 } else { 0 });
        if global.device != "cpu" {
            lifeline::hold(&global.device);
        }
        let device = device(&global.device)?;
        if global.threads == Some(0) {
            return Err(input("--threads 0: give at least 1, or leave it out for one per core"));
        }
        // 0 is one thread per core. Commands run on these threads, with the stack that a process begins with.
        let threads = global.threads.unwrap_or(0);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK).build_global();
        pool.map_err(|error| match global.threads {
            Some(threads) => input(format!("--threads {threads}: {error}; give a smaller number")),
            None => Error::Internal(format!("no threads: {error}; --threads 1 asks for one")),
        })?;
        Ok(Self {
            device,
            device_name: global.device.clone(),
            threads: rayon::current_num_threads(),
            seed: global.seed,
            quiet: global.quiet,
        })
    }

    /// The seed, 0 unless another was given.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_explained() {
        assert!(device("cpu").is_ok());
        let message = |given: &str| device(given).unwrap_err().to_string();
        for feature in FEATURES.into_iter().filter(|name| DEVICES.iter().all(|(known, _)| known != name)) {
            for given in [feature.to_owned(), format!("{feature}:1")] {
                let said = message(&given);
                assert!(said.contains(&given) && said.contains(&format!("--features {feature}`")), "{said}");
            }
        }
        for unknown in ["gpu", "tpu:0", ""] {
            let said = message(unknown);
            assert!(said.contains("this build has cpu") && said.contains("--features cuda"), "{said}");
        }
        assert!(message("cpu:1").contains("--threads"));
    }
}
