//! What a benchmark leaves behind, as JSON: the machine, the moment, and every number.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use equipoise_kernels::machine::{copy_bandwidth, peak_flops};
use serde::Serialize;
use serde_json::Value;

use crate::configuration::command_line;
use crate::machine::processor;
use crate::setup::Setup;

/// A benchmark.
#[derive(Debug, Serialize)]
pub struct Record {
    /// Version of this format.
    pub version: u32,
    /// When it was started, UTC.
    pub date: String,
    /// What repeats it.
    pub command: String,
    /// The machine.
    pub machine: Machine,
    /// Examples per batch.
    pub batch: usize,
    /// Rounds.
    pub rounds: usize,
    /// What the PyTorch program says of itself; null without one.
    pub pytorch: Value,
    /// By model: how far its results are from ours, relative, by what was compared.
    pub agreement: BTreeMap<String, BTreeMap<String, f64>>,
    /// Timings.
    pub cases: Vec<CaseResult>,
    /// Peak memory, one thing varied at a time.
    pub memory: Vec<MemoryResult>,
    /// Timings by the number of threads.
    pub threads: Vec<ThreadsResult>,
    /// Whole evaluations.
    pub verdicts: Vec<super::verdict::VerdictResult>,
    /// AutoAttack beside the reference implementation.
    pub autoattack: Option<super::autoattack::AutoAttackResult>,
}

/// The machine, and what it can do at most.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub processor: String,
    /// Threads that worked.
    pub threads: usize,
    /// Operating system and architecture.
    pub system: String,
    /// float32 GFLOP/s of fused multiply-adds on registers, all threads.
    pub peak_gflops: f64,
    /// GB/s of a copy from memory to memory, bytes read and written, all threads.
    pub copy_gb_per_second: f64,
}

/// Quartiles.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// A quarter of the values is below.
    pub low: f64,
    /// Half of them.
    pub median: f64,
    /// Three quarters.
    pub high: f64,
}

/// One case on one model.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// The model.
    pub model: String,
    /// The case.
    pub case: &'static str,
    /// What was done.
    pub about: &'static str,
    /// Seconds, over rounds.
    pub seconds: Spread,
    /// Cell evaluations per example.
    pub cell_evaluations: f64,
    /// Vector-Jacobian products per example.
    pub vjps: f64,
    /// Direct-convolution operations of those, over the median; absent where the cell does no work, or where
    /// gradients of weights add to it.
    pub gflops: Option<f64>,
    /// Least bytes that low-rank products must move, over the median; for those alone.
    pub gb_per_second: Option<f64>,
    /// The larger of operations over peak and bytes over bandwidth: no implementation by direct convolution is faster.
    pub floor_seconds: Option<f64>,
    /// Peak resident memory of the process, MiB.
    pub peak_mib: Option<f64>,
    /// The same work in PyTorch.
    pub pytorch: Option<PyTorch>,
}

/// The other side of a case.
#[derive(Debug, Serialize)]
pub struct PyTorch {
    /// Seconds, over rounds.
    pub seconds: Spread,
    /// PyTorch's seconds over ours, round by round.
    pub ratio: Spread,
    /// Peak resident memory of the process, MiB.
    pub peak_mib: Option<f64>,
}

/// Peak memory with one thing varied.
#[derive(Debug, Serialize)]
pub struct MemoryResult {
    /// The model.
    pub model: String,
    /// What is done.
    pub what: &'static str,
    /// What is varied.
    pub varied: &'static str,
    /// Its value.
    pub value: usize,
    /// Ours, MiB.
    pub peak_mib: f64,
    /// PyTorch's, MiB.
    pub pytorch_peak_mib: Option<f64>,
}

/// One case with a number of threads.
#[derive(Debug, Serialize)]
pub struct ThreadsResult {
    /// The model.
    pub model: String,
    /// The case.
    pub case: &'static str,
    /// Threads.
    pub threads: usize,
    /// Seconds, over rounds.
    pub seconds: Spread,
    /// Seconds of one thread over these times the threads, round by round: 1 if they are all of use.
    pub efficiency: Spread,
    /// The share of the work that more threads do not shorten, as if the rest were divided evenly; null for one thread.
    pub serial: Option<f64>,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

impl Record {
    /// Of a benchmark that begins now.
    pub fn begin(batch: usize, rounds: usize, setup: &Setup) -> Self {
        Self {
            version: 1,
            date: now(),
            command: command_line(),
            machine: Machine::measure(setup.threads),
            batch,
            rounds,
            pytorch: Value::Null,
            agreement: BTreeMap::new(),
            cases: Vec::new(),
            memory: Vec::new(),
            threads: Vec::new(),
            verdicts: Vec::new(),
            autoattack: None,
        }
    }
}

impl Machine {
    fn measure(threads: usize) -> Self {
        Self {
            processor: processor(),
            threads,
            system: format!("{}, {}", std::env::consts::OS, std::env::consts::ARCH),
            peak_gflops: peak_flops() / 1e9,
            copy_gb_per_second: copy_bandwidth() / 1e9,
        }
    }
}

/// Date and time, UTC, to the minute.
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86400);
    let minutes = seconds / 60 % 1440;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Year, month and day of a number of days since 1970-01-01 (Hinnant's algorithm: eras of 400 years, which begin in
/// March so that leap days come last).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_779), (2026, 11, 22));
    }

    #[test]
    fn quartiles_lie_between_values() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        assert_eq!(Spread::of(&[1.0, 2.0]).median, 1.5);
    }
}
