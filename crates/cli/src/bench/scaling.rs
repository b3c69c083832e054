//! What more threads bring: the same work with one thread, two, four, .. in turns.

use std::thread;

use super::case::Case;
use super::measure::{PAUSE, repetitions, turn};
use super::process::{Process, Program};
use super::record::{Spread, ThreadsResult};
use super::subject::Subject;
use crate::error::Error;
use crate::interrupt;

/// Pieces of work that are measured: a forward pass or a product alone, an attack's step, a training step.
const CASES: [&str; 5] = ["cell-forward", "pgd-exact", "logits", "pgd", "train-step"];

/// Numbers of threads up to the most: powers of two, and the most.
fn counts(most: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |&count| Some(2 * count));
    let mut counts: Vec<usize> = powers.take_while(|&count| count < most).collect();
    counts.push(most);
    counts
}

/// Some of the cases with every number of threads, in turns, each in a process of its own.
pub fn measure(
    subject: &Subject,
    cases: &[Case],
    batch: usize,
    rounds: usize,
    most: usize,
) -> Result<Vec<ThreadsResult>, Error> {
    let equilibrium = subject.architecture.is_equilibrium();
    let mut results = Vec::new();
    for case in cases.iter().filter(|case| CASES.contains(&case.name) && case.is_for(equilibrium)) {
        let (model, _) = subject.model(&case.deployment())?;
        let data = subject.images(batch)?;
        let counts = counts(most);
        let mut processes = Vec::new();
        for &count in &counts {
            let mut process = Process::start(&Program::Ours, case.ours, &model, &data, count)?;
            let repetitions = repetitions(&mut process)?;
            processes.push((process, repetitions));
        }
        let mut seconds = vec![Vec::new(); counts.len()];
        for _ in 0..rounds {
            if interrupt::asked() {
                return Err(Error::Interrupted("a benchmark cannot be resumed; run it again".into()));
            }
            for ((process, repetitions), seconds) in processes.iter_mut().zip(&mut seconds) {
                thread::sleep(PAUSE);
                seconds.push(turn(process, *repetitions)?.0);
            }
        }
        for (&threads, of) in counts.iter().zip(&seconds) {
            let gains: Vec<f64> = seconds[0].iter().zip(of).map(|(one, these)| one / these).collect();
            let efficiencies: Vec<f64> = gains.iter().map(|gain| gain / threads as f64).collect();
            let efficiency = Spread::of(&efficiencies);
            results.push(ThreadsResult {
                model: subject.name.clone(),
                case: case.name,
                threads,
                seconds: Spread::of(of),
                serial: serial(threads, efficiency.median),
                efficiency,
            });
        }
    }
    Ok(results)
}

/// The share s of the work of which more threads take nothing away, if all the rest is divided by their number (Amdahl
/// 1967): t_n = t_1 (s + (1 − s)/n) with efficiency e = t_1/(n t_n), so that s = (1/e − 1)/(n − 1). Memory that all
/// threads share and tasks of different lengths count as if they were such work. `None` for one thread.
fn serial(threads: usize, efficiency: f64) -> Option<f64> {
    (threads > 1).then(|| (1.0 / efficiency - 1.0) / (threads - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_part_is_that_of_the_law() {
        for (threads, share) in [(2, 0.0), (2, 0.1), (16, 0.02), (64, 1.0)] {
            let time = share + (1.0 - share) / threads as f64;
            let found = serial(threads, 1.0 / (threads as f64 * time)).unwrap();
            assert!((found - share).abs() < 1e-12, "{found}");
        }
        assert_eq!(serial(1, 1.0), None);
    }

    #[test]
    fn threads_are_doubled_up_to_what_there_is() {
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(2), [1, 2]);
        assert_eq!(counts(6), [1, 2, 4, 6]);
        assert_eq!(counts(8), [1, 2, 4, 8]);
    }
}
