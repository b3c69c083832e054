//! What every command sets up before it does anything: logging, threads, device.

use burn::tensor::Device;

use crate::error::{Error, input};
use crate::flags::Global;
use crate::log;

/// How a device is opened.
type Open = fn() -> Device;

/// The devices of this build: the CPU, and one more for each of these cargo features.
const DEVICES: &[(&str, Open)] = &[
    ("cpu", Device::flex),
    #[cfg(feature = "vulkan")]
    ("vulkan", || Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
    #[cfg(feature = "wgpu")]
    ("wgpu", || Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
    #[cfg(feature = "cuda")]
    ("cuda", || Device::cuda(0)),
];

/// Devices that a build may have, each by the cargo feature of its name.
const FEATURES: [&str; 3] = ["vulkan", "wgpu", "cuda"];

/// What commands need to know of the machine.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where tensors live.
    pub device: Device,
    /// Its name, as given.
    pub device_name: &'static str,
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
        let known = || DEVICES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let (device_name, device) =
            DEVICES.iter().find(|(name, _)| *name == global.device).ok_or_else(|| match &global.device {
                name if FEATURES.contains(&name.as_str()) => input(format!(
                    "--device {name}: not in this build, which has {}; build with `cargo build --release -p \
                     equipoise-cli --features {name}`",
                    known()
                )),
                name => input(format!("unknown device `{name}`: this build has {}", known())),
            })?;
        if let Some(threads) = global.threads {
            if threads == 0 {
                return Err(input("--threads 0: give at least 1, or leave it out for one per core"));
            }
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
            pool.map_err(|error| input(format!("--threads {threads}: {error}; give a smaller number")))?;
        }
        Ok(Self {
            device: device(),
            device_name,
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
