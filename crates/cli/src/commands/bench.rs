//! `bench`: cases on models, measured and printed.

use equipoise_dataset::{Reading, Source};
use equipoise_report::write_atomically;

use super::print;
use crate::args;
use crate::bench::case::{CASES, Case, SECTIONS};
use crate::bench::process::Program;
use crate::bench::record::Record;
use crate::bench::subject::Subject;
use crate::bench::verdict::{self, Target};
use crate::bench::{autoattack, check, measure, memory, scaling, table};
use crate::error::{Error, input};
use crate::flags::Bench;
use crate::interrupt;
use crate::progress::Progress;
use crate::setup::Setup;

/// Runs the command.
pub fn run(flags: &Bench, setup: &Setup) -> Result<(), Error> {
    if flags.batch == 0 || flags.rounds == 0 || flags.count == 0 {
        return Err(input("--batch, --rounds and --count: give at least 1"));
    }
    if setup.device_name != "cpu" {
        return Err(input(format!(
            "--device {}: bench measures the CPU kernels; use cpu",
            setup.device_name
        )));
    }
    let reading = flags.preparation.check()?;
    if flags.data.is_none() && reading != Reading::default() {
        return Err(input("--resize, --crop and --layout belong to images: add --weights and --data"));
    }
    let (cases, mut sections) = chosen(flags.only.as_deref())?;
    if flags.weights.is_none() && sections.contains(&"autoattack") {
        if flags.only.is_some() {
            return Err(input(
                "--only autoattack: give a feedforward network and its images, --weights and --data",
            ));
        }
        sections.retain(|section| *section != "autoattack");
    }
    let names = flags.model.split(',').map(str::trim);
    let subjects: Vec<Subject> =
        names.map(|name| Subject::new(name, setup.seed(), &setup.device)).collect::<Result<_, _>>()?;
    let idle = |subject: &&Subject| {
        let (cases, memory) = possible(subject, &cases, &sections);
        cases.is_empty()
            && !memory
            && !["threads", "verdict", "autoattack"].iter().any(|section| sections.contains(section))
    };
    if let Some(Subject { name, .. }) = subjects.iter().find(idle) {
        return Err(input(format!("--only: nothing that {name} can do; see `equipoise bench --help`")));
    }
    let theirs = flags
        .pytorch
        .as_ref()
        .map(|python| Program::PyTorch { python: python.clone(), script: flags.pytorch_script.clone() });
    let given = match (&flags.weights, &flags.data) {
        (Some(weights), Some(data)) => {
            let source: Source = data.parse()?;
            let (model, _) = args::model(weights, &setup.device)?;
            Some(verdict::given(model, &source, &reading, flags.count, flags.eps.as_deref())?)
        }
        _ => None,
    };
    interrupt::listen();
    let mut record = Record::begin(flags.batch, flags.rounds, setup);
    tracing::info!(
        "peak {:.0} GFLOP/s, copy {:.1} GB/s",
        record.machine.peak_gflops,
        record.machine.copy_gb_per_second
    );
    if let Some(program) = &theirs {
        record.pytorch = check::about(program, setup.threads)?;
    }
    for subject in &subjects {
        measure_subject(subject, &cases, &sections, theirs.as_ref(), flags, setup, &mut record)?;
    }
    if let Some(target) = given.as_ref().filter(|_| sections.contains(&"autoattack")) {
        record.autoattack = Some(autoattack::measure(target, theirs.as_ref(), flags.batch, setup)?);
    }
    if sections.contains(&"verdict") {
        let target: Target = match given {
            Some(target) => target,
            None => verdict::trained(flags.count, setup)?,
        };
        record.verdicts.push(verdict::measure(&target, theirs.as_ref(), flags.batch, setup)?);
    }
    if let Some(path) = &flags.json {
        let text =
            serde_json::to_string_pretty(&record).map_err(|error| Error::Internal(error.to_string()))?;
        write_atomically(path, format!("{text}\n"))?;
        tracing::info!("{} written", path.display());
    }
    print(&table::tables(&record))
}

/// The cases that a model can do, and whether its memory is measured: what the sweeps vary belongs to equilibria.
fn possible<'a>(subject: &Subject, cases: &'a [Case], sections: &[&str]) -> (Vec<&'a Case>, bool) {
    let equilibrium = subject.architecture.is_equilibrium();
    let cases = cases.iter().filter(|case| case.is_for(equilibrium)).collect();
    (cases, equilibrium && sections.contains(&"memory"))
}

fn measure_subject(
    subject: &Subject,
    cases: &[Case],
    sections: &[&str],
    theirs: Option<&Program>,
    flags: &Bench,
    setup: &Setup,
    record: &mut Record,
) -> Result<(), Error> {
    let (cases, memory) = possible(subject, cases, sections);
    let wanted = !cases.is_empty() || memory;
    if let Some(program) = theirs.filter(|_| wanted) {
        let errors = check::compare(program, subject, setup.threads, &setup.device)?;
        record.agreement.insert(subject.name.clone(), errors);
    }
    let progress = Progress::new(&format!("bench {}", subject.name), cases.len(), setup.quiet);
    for (done, case) in cases.iter().enumerate() {
        progress.set(done, case.name);
        let result = measure::measure(case, subject, theirs, flags.batch, flags.rounds, &record.machine)?;
        record.cases.push(result);
    }
    drop(progress);
    if memory {
        record.memory.extend(memory::measure(subject, theirs, flags.batch, setup.threads)?);
    }
    if sections.contains(&"threads") {
        let results = scaling::measure(subject, &CASES, flags.batch, flags.rounds, setup.threads)?;
        record.threads.extend(results);
    }
    Ok(())
}

/// `--only`: cases and sections, each once, in the usual order.
fn chosen(only: Option<&str>) -> Result<(Vec<Case>, Vec<&'static str>), Error> {
    let Some(list) = only else { return Ok((CASES.to_vec(), SECTIONS.to_vec())) };
    let names: Vec<&str> = list.split(',').map(str::trim).collect();
    let known = || CASES.iter().map(|case| case.name).chain(SECTIONS);
    if let Some(name) = names.iter().find(|name| !known().any(|known| known == **name)) {
        let known = known().collect::<Vec<_>>().join(", ");
        return Err(input(format!("--only {name}: unknown; use {known}")));
    }
    let cases = CASES.into_iter().filter(|case| names.contains(&case.name)).collect();
    Ok((cases, SECTIONS.into_iter().filter(|section| names.contains(section)).collect()))
}
