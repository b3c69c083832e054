//! How peak memory grows: one thing varied at a time, a fresh process for each value.

use equipoise::solve::SolverConfig;
use equipoise::victim::Deployment;

use super::case::deployment;
use super::measure::mebibytes;
use super::process::{Process, Program};
use super::record::MemoryResult;
use super::subject::Subject;
use crate::error::Error;
use crate::interrupt;

/// One thing that is varied.
struct Sweep {
    what: &'static str,
    varied: &'static str,
    values: Vec<usize>,
    /// Task, deployment and batch for a value.
    setting: fn(usize, usize) -> (String, Deployment, usize),
}

fn sweeps(batch: usize) -> Vec<Sweep> {
    let mut around = vec![batch.div_ceil(4), batch.div_ceil(2), batch, 2 * batch];
    around.dedup();
    vec![
        Sweep {
            what: "PGD step, exact",
            varied: "images in the batch",
            values: around,
            setting: |value, _| ("pgd:exact".into(), deployment(false), value),
        },
        Sweep {
            what: "PGD step, exact",
            varied: "solver steps T",
            values: vec![4, 8, 16],
            setting: |value, batch| {
                let solver = SolverConfig { steps: value, ..deployment(false).solver };
                ("pgd:exact".into(), Deployment { solver, ..deployment(false) }, batch)
            },
        },
        Sweep {
            what: "PGD step, ensemble",
            varied: "states",
            values: vec![1, 2, 4, 8],
            setting: |value, batch| {
                (format!("pgd:ensemble(unrolled:state=1..{value},lead=1,steps=0)"), deployment(false), batch)
            },
        },
        Sweep {
            what: "PGD step, exact",
            varied: "deployed applications after the solver",
            values: vec![1, 5, 10, 20],
            setting: |value, batch| {
                let mut deployed = deployment(true);
                deployed.tail.steps = value - 1;
                ("pgd:exact".into(), deployed, batch)
            },
        },
        Sweep {
            what: "PGD step, unrolled",
            varied: "deployed applications after the solver",
            values: vec![1, 5, 10, 20],
            setting: |value, batch| {
                let mut deployed = deployment(true);
                deployed.tail.steps = value - 1;
                let spec = format!("pgd:unrolled:state=best,lead=1,steps={},damping=0.5", value - 1);
                (spec, deployed, batch)
            },
        },
    ]
}

/// Peak memory over all sweeps.
pub fn measure(
    subject: &Subject,
    theirs: Option<&Program>,
    batch: usize,
    threads: usize,
) -> Result<Vec<MemoryResult>, Error> {
    let mut results = Vec::new();
    for sweep in sweeps(batch) {
        for &value in &sweep.values {
            if interrupt::asked() {
                return Err(Error::Interrupted("a benchmark cannot be resumed; run it again".into()));
            }
            let (task, deployed, count) = (sweep.setting)(value, batch);
            let (model, _) = subject.model(&deployed)?;
            let data = subject.images(count)?;
            let peak = |program: &Program| -> Result<Option<f64>, Error> {
                // Twice: what one step leaves behind is there when the next begins.
                Ok(mebibytes(&Process::start(program, &task, &model, &data, threads)?.run(2)?))
            };
            let Some(own) = peak(&Program::Ours)? else {
                tracing::warn!("peak memory is known on Linux alone: the section is left out");
                return Ok(Vec::new());
            };
            results.push(MemoryResult {
                model: subject.name.clone(),
                what: sweep.what,
                varied: sweep.varied,
                value,
                peak_mib: own,
                pytorch_peak_mib: theirs.map(peak).transpose()?.flatten(),
            });
        }
    }
    Ok(results)
}
