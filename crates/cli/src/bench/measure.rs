//! Rounds of one case.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::case::Case;
use super::flops;
use super::process::{Process, Program};
use super::record::{CaseResult, Machine, PyTorch, Spread};
use super::subject::Subject;
use super::worker::Reply;
use crate::error::Error;
use crate::interrupt;

/// Threads that wait for work spin for a while before they sleep; they must not do so in the other's turn.
pub const PAUSE: Duration = Duration::from_millis(20);
/// A turn shorter than this is repeated within its round, and counts by its median.
const TURN: f64 = 0.05;
/// At most so often.
const REPETITIONS: usize = 20;

/// Measures a case: a repetition of ours, then one of theirs, round after round.
pub fn measure(
    case: &Case,
    subject: &Subject,
    theirs: Option<&Program>,
    batch: usize,
    rounds: usize,
    machine: &Machine,
) -> Result<CaseResult, Error> {
    let (model, _) = subject.model(&case.deployment())?;
    let data = subject.images(batch)?;
    let start = |program: &Program, task: &str| start(program, task, &model, &data, machine.threads);
    let mut ours = start(&Program::Ours, case.ours)?;
    let mut theirs = theirs.map(|program| start(program, case.theirs)).transpose()?;
    let repetitions = repetitions(&mut ours)?;
    if let Some(theirs) = &mut theirs {
        theirs.run(2)?;
    }
    let (mut seconds, mut their_seconds, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut last, mut their_last) = (None, None);
    for _ in 0..rounds {
        if interrupt::asked() {
            return Err(Error::Interrupted("a benchmark cannot be resumed; run it again".into()));
        }
        thread::sleep(PAUSE);
        let (own, reply) = turn(&mut ours, repetitions)?;
        seconds.push(own);
        last = Some(reply);
        if let Some(theirs) = &mut theirs {
            thread::sleep(PAUSE);
            let (other, reply) = turn(theirs, repetitions)?;
            their_seconds.push(other);
            ratios.push(other / own);
            their_last = Some(reply);
        }
    }
    let last = last.ok_or_else(|| Error::Internal("no rounds".into()))?;
    let seconds = Spread::of(&seconds);
    // Gradients of weights are work too, and counted nowhere.
    let of_an_image = match (subject.mdeq(), case.name) {
        (_, "train-step") => 0.0,
        (Some(config), _) => (last.cell_evaluations + last.vjps) * flops::cell(config),
        (None, "logits") => flops::feedforward(&subject.architecture),
        // A data gradient of each convolution as well.
        (None, _) => 2.0 * flops::feedforward(&subject.architecture),
    };
    let operations = (of_an_image > 0.0).then_some(batch as f64 * of_an_image);
    let steps = case.deployment().solver.steps;
    let low_rank = subject.mdeq().filter(|_| case.name == "low-rank");
    let bytes = low_rank.map(|config| batch as f64 * flops::low_rank_bytes(config.layout().dim(), steps));
    let floor = operations.map(|operations| operations / machine.peak_gflops / 1e9);
    let floor = floor.or(bytes.map(|bytes| bytes / machine.copy_gb_per_second / 1e9));
    Ok(CaseResult {
        model: subject.name.clone(),
        case: case.name,
        about: case.about,
        cell_evaluations: last.cell_evaluations,
        vjps: last.vjps,
        gflops: operations.map(|operations| operations / seconds.median / 1e9),
        gb_per_second: bytes.map(|bytes| bytes / seconds.median / 1e9),
        floor_seconds: floor,
        peak_mib: mebibytes(&last),
        seconds,
        pytorch: their_last.map(|reply| PyTorch {
            seconds: Spread::of(&their_seconds),
            ratio: Spread::of(&ratios),
            peak_mib: mebibytes(&reply),
        }),
    })
}

fn start(program: &Program, task: &str, model: &Path, data: &Path, threads: usize) -> Result<Process, Error> {
    Process::start(program, task, model, data, threads)
}

/// How often it repeats its work within a turn; its first repetitions are not counted.
pub fn repetitions(process: &mut Process) -> Result<usize, Error> {
    let warm = process.run(2)?.seconds[1];
    Ok(((TURN / warm).ceil() as usize).clamp(1, REPETITIONS))
}

/// The median of some repetitions.
pub fn turn(process: &mut Process, repetitions: usize) -> Result<(f64, Reply), Error> {
    let reply = process.run(repetitions)?;
    Ok((Spread::of(&reply.seconds).median, reply))
}

/// Peak memory of a worker.
pub fn mebibytes(reply: &Reply) -> Option<f64> {
    reply.peak_kib.map(|kib| kib as f64 / 1024.0)
}
