//! The record as Markdown tables.

use super::autoattack::AutoAttackResult;
use super::record::{CaseResult, MemoryResult, Record, Spread, ThreadsResult};
use super::verdict::VerdictResult;

/// All tables.
pub fn tables(record: &Record) -> String {
    let machine = &record.machine;
    let mut text = format!(
        "{}, {} threads, {}, {}. Peak {:.0} GFLOP/s, copy {:.1} GB/s. Batch {}, {} rounds.\n",
        machine.processor,
        machine.threads,
        machine.system,
        record.date,
        machine.peak_gflops,
        machine.copy_gb_per_second,
        record.batch,
        record.rounds
    );
    if !record.cases.is_empty() {
        text += "\n";
        text += &aligned(&cases(&record.cases), 2);
        text += "\nmedian (quartiles); ratio: PyTorch's seconds over ours, round by round; rate: direct-convolution GFLOP/s, \
                 for low-rank GB/s; floor: that work at the measured peak; PyTorch in milliseconds\n";
    }
    if !record.memory.is_empty() {
        text += "\n";
        text += &aligned(&memory(&record.memory), 3);
    }
    if !record.threads.is_empty() {
        text += "\n";
        text += &aligned(&threads(&record.threads), 2);
        text += "\nefficiency: seconds of one thread over these times the threads, round by round; serial: the share of the work that \
                 more threads do not shorten, as if the rest were divided evenly\n";
    }
    for verdict in &record.verdicts {
        text += "\n";
        text += &verdict_lines(verdict);
    }
    if let Some(result) = &record.autoattack {
        text += "\n";
        text += &autoattack_line(result);
    }
    text
}

fn autoattack_line(result: &AutoAttackResult) -> String {
    let AutoAttackResult { model, count, eps, ours, reference } = result;
    let mut text = format!(
        "AutoAttack standard, L∞ {eps:.5}, {count} images, {model}: {:.1} s; {} are classified rightly, {} withstand",
        ours.seconds, ours.clean, ours.robust
    );
    if let Some(reference) = reference {
        text += &format!(
            ". The reference in PyTorch: {:.1} s, {:.2} times as long; {} withstand",
            reference.seconds,
            reference.seconds / ours.seconds,
            reference.robust
        );
    }
    text + ".\n"
}

fn cases(cases: &[CaseResult]) -> Vec<Vec<String>> {
    let header = ["model", "case", "ms", "rate", "of peak", "floor ms", "MiB", "PyTorch", "MiB", "ratio"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let none = || "-".to_owned();
    for case in cases {
        let rate = match (case.gflops, case.gb_per_second) {
            (Some(rate), _) => format!("{rate:.0} GFLOP/s"),
            (None, Some(rate)) => format!("{rate:.1} GB/s"),
            (None, None) => none(),
        };
        let share = case.floor_seconds.map(|floor| format!("{:.0}%", 100.0 * floor / case.seconds.median));
        let floor = case.floor_seconds.map(milliseconds);
        let mib = |mib: Option<f64>| mib.map_or_else(none, |mib| format!("{mib:.0}"));
        let theirs = case.pytorch.as_ref();
        rows.push(vec![
            case.model.clone(),
            case.case.to_owned(),
            spread(case.seconds, milliseconds),
            rate,
            share.unwrap_or_else(none),
            floor.unwrap_or_else(none),
            mib(case.peak_mib),
            theirs.map_or_else(none, |theirs| spread(theirs.seconds, milliseconds)),
            theirs.map_or_else(none, |theirs| mib(theirs.peak_mib)),
            theirs.map_or_else(none, |theirs| spread(theirs.ratio, |ratio| format!("{ratio:.2}"))),
        ]);
    }
    rows
}

fn memory(results: &[MemoryResult]) -> Vec<Vec<String>> {
    let header = ["model", "what", "varied", "value", "MiB", "PyTorch MiB"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for result in results {
        rows.push(vec![
            result.model.clone(),
            result.what.to_owned(),
            result.varied.to_owned(),
            result.value.to_string(),
            format!("{:.0}", result.peak_mib),
            result.pytorch_peak_mib.map_or_else(|| "-".to_owned(), |mib| format!("{mib:.0}")),
        ]);
    }
    rows
}

fn threads(results: &[ThreadsResult]) -> Vec<Vec<String>> {
    let header = ["model", "case", "threads", "ms", "efficiency", "serial"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for result in results {
        rows.push(vec![
            result.model.clone(),
            result.case.to_owned(),
            result.threads.to_string(),
            spread(result.seconds, milliseconds),
            spread(result.efficiency, |share| format!("{:.0}%", 100.0 * share)),
            result.serial.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", 100.0 * share)),
        ]);
    }
    rows
}

fn verdict_lines(verdict: &VerdictResult) -> String {
    let header = ["attack", "alone s", "PyTorch s (computed)"].map(str::to_owned).to_vec();
    let mut rows = vec![header];
    for attack in &verdict.attacks {
        rows.push(vec![
            attack.estimator.clone(),
            format!("{:.2}", attack.alone_seconds),
            attack.pytorch_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
        ]);
    }
    let mut text = format!(
        "Verdict on {} images by {}, {}: the cascade takes {:.2} s, the same attacks one after another on all of them {:.2} s \
         ({:.1} times as long)",
        verdict.count,
        verdict.attack,
        verdict.model,
        verdict.cascade_seconds,
        verdict.alone_seconds,
        verdict.alone_seconds / verdict.cascade_seconds
    );
    if let Some(seconds) = verdict.pytorch_seconds {
        text += &format!(
            ", in PyTorch {seconds:.1} s ({:.1} times; computed: seconds of one step times steps)",
            seconds / verdict.cascade_seconds
        );
    }
    text += &format!(
        ". {:.1}% withstand the cascade, {:.1}% the last iterates of the others.\n\n",
        100.0 * verdict.white_box_accuracy,
        100.0 * verdict.alone_accuracy
    );
    text + &aligned(&rows, 1)
}

fn milliseconds(seconds: f64) -> String {
    let ms = 1e3 * seconds;
    if ms < 9.95 { format!("{ms:.2}") } else { format!("{ms:.0}") }
}

fn spread(spread: Spread, show: impl Fn(f64) -> String) -> String {
    format!("{} ({}–{})", show(spread.median), show(spread.low), show(spread.high))
}

/// A Markdown table; the columns after `left` hold numbers.
fn aligned(rows: &[Vec<String>], left: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(2);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column < left {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let rules = widths.iter().enumerate().map(|(column, &width)| match column < left {
                true => "-".repeat(width),
                false => format!("{}:", "-".repeat(width - 1)),
            });
            text += &format!("| {} |\n", rules.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}
