//! `calibrate`: nulls, planted faults and checks, measured and written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use equipoise::evaluate::Points;
use equipoise::victim::Victim;
use equipoise_report::{Report, svg_files, write_atomically};

use super::print;
use crate::bench::record::now;
use crate::calibrate::checks::{PLANTED, Planted, RADII, residuals_of};
use crate::calibrate::effort::Effort;
use crate::calibrate::faults::{FAULTS, Fault};
use crate::calibrate::nulls::NULLS;
use crate::calibrate::record::{CheckRow, Record, Row, Summary, VictimSummary};
use crate::calibrate::victims::{Kind, Victims};
use crate::calibrate::{figures, nulls, summary, table};
use crate::configuration::command_line;
use crate::error::{Error, input};
use crate::files::claim;
use crate::flags::Calibrate;
use crate::interrupt;
use crate::machine::processor;
use crate::progress::Progress;
use crate::setup::Setup;

/// What can be asked for.
const KINDS: [&str; 7] = ["a", "b", "c", "d", "healthy", "faults", "checks"];

/// The radius at which faults are planted for the checks.
const FAULT_RADIUS: f64 = 0.1;

/// Runs the command.
pub fn run(flags: &Calibrate, setup: &Setup) -> Result<(), Error> {
    let kinds = chosen(flags.kinds.as_deref())?;
    let effort = if flags.quick { Effort::QUICK } else { Effort::FULL };
    if flags.models == Some(0) {
        return Err(input("--models 0: give at least 1"));
    }
    let effort = Effort { models: flags.models.unwrap_or(effort.models), ..effort };
    let _lock = claim(&flags.out, false)?;
    interrupt::listen();
    let started = Instant::now();
    let victims = Victims::new(effort.training, &setup.device)?;
    let work = Work { victims: &victims, effort, setup };
    let mut verdicts = Vec::new();
    let mut checks = Vec::new();
    for kind in &kinds {
        let begun = Instant::now();
        match *kind {
            "healthy" => verdicts.extend(work.healthy()?),
            "faults" => verdicts.extend(work.faults()?),
            "checks" => checks.extend(work.checks()?),
            letter => verdicts.extend(work.nulls(letter)?),
        }
        tracing::info!("{kind}: {:.0} s", begun.elapsed().as_secs_f64());
    }
    let (size, targets) = (summary::size(&verdicts), Vec::new());
    let faults = summary::faults(&verdicts);
    let targets = if faults.is_empty() { targets } else { summary::targets(&verdicts) };
    let check_rates = summary::checks(&checks);
    let failures = summary::failures(&size, &targets, &check_rates);
    let summary = Summary {
        version: 1,
        date: now(),
        command: command_line(),
        machine: format!("{}, {} threads", processor(), setup.threads),
        models: effort.models,
        victims: work.describe()?,
        size,
        healthy: summary::healthy(&verdicts),
        power: summary::power(&verdicts),
        faults,
        targets,
        checks: check_rates,
        failures,
        seconds: started.elapsed().as_secs_f64(),
    };
    let record = Record { summary, verdicts, checks };
    write(flags, &record)?;
    for failure in &record.summary.failures {
        tracing::warn!("{failure}");
    }
    print(&table::markdown(&record.summary))
}

fn write(flags: &Calibrate, record: &Record) -> Result<(), Error> {
    let json = |value: Result<String, serde_json::Error>| {
        value.map(|text| text + "\n").map_err(|error| Error::Internal(error.to_string()))
    };
    let file = |name: &str, text: String| write_atomically(flags.out.join(name), text);
    file("calibration.json", json(serde_json::to_string(record))?)?;
    file("summary.json", json(serde_json::to_string_pretty(&record.summary))?)?;
    file("calibration.md", table::markdown(&record.summary))?;
    if !record.verdicts.is_empty() {
        file("verdicts.csv", table::verdicts_csv(record))?;
    }
    if !record.checks.is_empty() {
        file("checks.csv", table::checks_csv(record))?;
    }
    for (name, figure) in figures::figures(&record.summary) {
        let report = Report { figures: vec![figure], ..Report::default() };
        if let Some(svg) = svg_files(&report).into_iter().next() {
            file(&format!("{name}.svg"), svg.contents)?;
        }
    }
    tracing::info!("{} written", flags.out.display());
    Ok(())
}

/// `--kinds`: each once, in the usual order.
fn chosen(list: Option<&str>) -> Result<Vec<&'static str>, Error> {
    let Some(list) = list else { return Ok(KINDS.to_vec()) };
    let names: Vec<&str> = list.split(',').map(str::trim).collect();
    if let Some(name) = names.iter().find(|name| !KINDS.contains(name)) {
        return Err(input(format!("--kinds {name}: unknown; use {}", KINDS.join(", "))));
    }
    Ok(KINDS.into_iter().filter(|kind| names.contains(kind)).collect())
}

struct Work<'a> {
    victims: &'a Victims,
    effort: Effort,
    setup: &'a Setup,
}

impl Work<'_> {
    fn base(&self) -> u64 {
        self.setup.seed()
    }

    /// Something of each item, on as many threads as the command has, in order.
    fn each<T: Sync, R: Send>(
        &self,
        what: &str,
        items: &[T],
        of: impl Fn(&T) -> Result<Vec<R>, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        let progress = Mutex::new(Progress::new(&format!("calibrate {what}"), items.len(), self.setup.quiet));
        let next = AtomicUsize::new(0);
        let found = Mutex::new(BTreeMap::new());
        let work = || {
            while let place = next.fetch_add(1, Ordering::Relaxed)
                && let Some(item) = items.get(place)
            {
                let rows = go_on().and_then(|()| of(item));
                let failed = rows.is_err();
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.insert(place, rows);
                progress.lock().unwrap_or_else(PoisonError::into_inner).set(found.len(), "evaluations");
                if failed {
                    next.store(items.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.setup.threads {
                scope.spawn(work);
            }
            work();
        });
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let all: Result<Vec<Vec<R>>, Error> = found.into_values().collect();
        Ok(all?.into_iter().flatten().collect())
    }

    /// Models' seeds.
    fn models(&self) -> std::ops::Range<u64> {
        let base = 1000 * self.base();
        base..base + self.effort.models
    }

    /// Each model with each of so many evaluation seeds.
    fn seeds(&self, seeds: u64) -> Vec<(u64, u64)> {
        self.models().flat_map(|model| (0..seeds).map(move |seed| (model, seed))).collect()
    }

    fn nulls(&self, letter: &str) -> Result<Vec<Row>, Error> {
        let points = self.victims.first(self.effort.images)?;
        let mut rows = Vec::new();
        for null in NULLS.iter().filter(|null| null.letter() == letter) {
            let items = self.seeds(null.seeds(&self.effort));
            rows.extend(self.each(&null.name(), &items, |&(model, seed)| {
                null.verdicts(self.victims, &points, model, seed)
            })?);
        }
        Ok(rows)
    }

    fn healthy(&self) -> Result<Vec<Row>, Error> {
        let points = self.victims.first(self.effort.images)?;
        self.planted(&[(Fault::Healthy, &[0.1])], &points, self.effort.healthy_seeds)
    }

    fn faults(&self) -> Result<Vec<Row>, Error> {
        let points = self.victims.first(self.effort.fault_images)?;
        self.planted(&FAULTS, &points, self.effort.fault_seeds)
    }

    fn planted(&self, faults: &[(Fault, &[f64])], points: &Points, seeds: u64) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for (fault, radii) in faults {
            let seeds = self.seeds(seeds);
            let items: Vec<(u64, u64, f64)> = seeds
                .iter()
                .flat_map(|&(model, seed)| radii.iter().map(move |&eps| (model, seed, eps)))
                .collect();
            rows.extend(
                self.each(&fault.name(), &items, |&item| fault.verdicts(self.victims, points, item))?,
            );
        }
        Ok(rows)
    }

    fn checks(&self) -> Result<Vec<CheckRow>, Error> {
        let mut rows = Vec::new();
        let (images, groups) = (self.effort.check_images, self.effort.check_groups);
        for (planted, own) in PLANTED {
            // A fault is planted once; healthy models are seen at every radius.
            let radii = RADII.into_iter().filter(|&eps| planted == Planted::Healthy || eps == FAULT_RADIUS);
            let radii: Vec<f64> = radii.collect();
            let groups = self.models().flat_map(|model| (0..groups).map(move |group| (model, group)));
            let items: Vec<(u64, f64, usize)> =
                groups.flat_map(|(model, group)| radii.iter().map(move |&eps| (model, eps, group))).collect();
            let found = self.each(planted.name(), &items, |&item| {
                let points = self.victims.slice(item.2 * images..(item.2 + 1) * images)?;
                planted.rows(self.victims, &points, item)
            })?;
            rows.extend(found.into_iter().filter(|row| own.is_empty() || own.contains(&row.check.as_str())));
        }
        Ok(rows)
    }

    /// What the victims are like.
    fn describe(&self) -> Result<Vec<VictimSummary>, Error> {
        let points = self.victims.first(self.effort.images)?;
        let mut all = Vec::new();
        for (kind, name) in [
            (Kind::Contractive, "contractive, gain at most 0.7"),
            (Kind::Tight, "contractive, gain at most 0.5, solved to the last bit"),
            (Kind::Loose, "gain at most 1.6"),
        ] {
            let (mut clean, mut median, mut high, mut models) = (0.0, 0.0, 0.0_f64, 0);
            let mut cosine: Option<f64> = None;
            for seed in self.models() {
                let Some(model) = self.victims.known(kind, seed) else { continue };
                models += 1;
                let deployment = Victims::deployment(kind);
                let victim = Victim::ready_made(&*model, &deployment);
                clean += accuracy(&victim, &points);
                let mut residuals = residuals_of(&model, &deployment, points.images());
                residuals.sort_by(f64::total_cmp);
                median += residuals[residuals.len() / 2];
                high = high.max(residuals[residuals.len() * 99 / 100]);
                if kind == Kind::Tight {
                    let least = nulls::least_cosine(&model, &deployment, &points)?;
                    cosine = Some(cosine.map_or(least, |known| known.min(least)));
                }
            }
            if models > 0 {
                all.push(VictimSummary {
                    kind: name.into(),
                    models,
                    clean_accuracy: clean / models as f64,
                    residual: median / models as f64,
                    residual_99: high,
                    cosine,
                });
            }
        }
        Ok(all)
    }
}

fn accuracy(victim: &dyn equipoise::attack::Classifier, points: &Points) -> f64 {
    let found = equipoise::batch::predictions(&victim.logits(points.images()));
    let right = found.iter().zip(points.labels()).filter(|(class, label)| **class == Some(**label)).count();
    right as f64 / points.len() as f64
}

/// An error once somebody has asked to stop.
fn go_on() -> Result<(), Error> {
    if interrupt::asked() {
        return Err(Error::Interrupted("a calibration cannot be resumed; run it again".into()));
    }
    Ok(())
}
