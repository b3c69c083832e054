//! AutoAttack beside the reference implementation of Croce and Hein, on a small ResNet-18 and 50 images.
//!
//! The fixtures lie outside the repository; where they are absent these tests say so and pass. The two
//! implementations draw different random numbers, so what is compared are counts, within two points of 50 for every
//! attack alone and for the standard cascade.
//!
//! What an attack finds for a point depends on nothing but the point, so the cascade's results hold for each
//! attack alone as well, and only the points that an attack did not meet in the cascade remain to be done.

use std::path::Path;
use std::time::Instant;

use crate::common::Fixture;
use burn::tensor::Device;
use equipoise::architecture::Architecture;
use equipoise::attack::{self, Attack, Budget, Examples, Norm, WhiteBox};
use equipoise::batch::{Images, predictions, select};
use equipoise::checkpoint::{Configuration, ImportOptions, import};
use equipoise::evaluate::{Cascade, Points, Quiet, Run, Settings, run};
use equipoise::gradient::Estimator;
use equipoise::readout::Readout;
use equipoise::victim::Deployment;

/// Points by which a count may differ.
const SLACK: usize = 2;
const SEED: u64 = 0;

#[test]
fn linf() {
    compare(Norm::Linf, 8.0 / 255.0, "Linf");
}

#[test]
fn l2() {
    compare(Norm::L2, 0.5, "L2");
}

fn compare(norm: Norm, eps: f64, key: &str) {
    let folder =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/parity/resnet-w8-autoattack"));
    if !folder.is_dir() {
        eprintln!("skipped: there are no parity fixtures beside the repository (shared/parity)");
        return;
    }
    let expected = Fixture::read(&folder.join("io.safetensors"));
    let architecture = Architecture::named("resnet18").unwrap().with_width(8).unwrap();
    let configuration = Configuration { architecture, deployment: Deployment::default() };
    let file = import(
        &folder.join("checkpoint.pth"),
        configuration,
        "resnet18",
        &ImportOptions::default(),
        &Device::default(),
    )
    .unwrap()
    .model;
    let victim = file.model.victim(&file.metadata.deployment, Readout::final_state(), Estimator::exact());
    let victim = victim.as_ref();
    let (images, labels): (Images, Vec<usize>) = (expected.tensor("x"), expected.labels());
    let budget = Budget::new(norm, eps).unwrap();

    let started = Instant::now();
    let run_of = |attack: Box<dyn Attack>| Run::new(attack, "exact", victim);
    let runs: Vec<Run<'_>> = attack::set("autoattack").unwrap().into_iter().map(run_of).collect();
    let cascade = Cascade::ready_made("final", victim, runs);
    let points = Points::new((0..labels.len()).collect(), images.clone(), labels.clone()).unwrap();
    let settings = Settings { budget, seed: SEED, batch_size: 50 };
    let outcome = run(&cascade, &points, &settings, &Quiet, None).unwrap();
    let examples = &outcome.result.examples;
    let standard: Vec<bool> = examples.iter().map(|example| example.robust).collect();
    eprintln!("{key} standard: {:.1} s", started.elapsed().as_secs_f64());

    for (place, entry) in cascade.opening.iter().enumerate() {
        let name = entry.attack.name();
        // Broken in the cascade before this attack came to it.
        let unmet: Vec<usize> = (0..labels.len())
            .filter(|&row| examples[row].broken_in.opening.is_some_and(|run| run < place))
            .collect();
        let mut robust: Vec<bool> = examples
            .iter()
            .map(|example| example.robust || example.broken_by.is_some())
            .zip(examples.iter().map(|example| example.broken_in.opening == Some(place)))
            .map(|(correct, broken)| correct && !broken)
            .collect();
        // The cascade's later attacks say nothing of this one: it had met those points, and failed.
        let started = Instant::now();
        for (row, survived) in unmet.iter().zip(alone(&name, victim, &images, &labels, &unmet, &budget)) {
            robust[*row] = survived;
        }
        eprintln!("{key} {name}: {} more points, {:.1} s", unmet.len(), started.elapsed().as_secs_f64());
        check(key, &name, &robust, &expected);
    }
    check(key, "standard", &standard, &expected);
}

/// Which of these points survive an attack.
fn alone(
    name: &str,
    victim: &dyn WhiteBox,
    images: &Images,
    labels: &[usize],
    rows: &[usize],
    budget: &Budget,
) -> Vec<bool> {
    if rows.is_empty() {
        return Vec::new();
    }
    let clean = select(images, rows);
    let labels: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
    let examples = Examples { images: &clean, labels: &labels, indices: rows, seed: SEED, start: 0 };
    let found = attack::parse(name).unwrap().run(victim, &examples, budget).images;
    assert!(budget.contains(&clean, &found).into_iter().all(|inside| inside));
    predictions(&victim.logits(&found)).into_iter().zip(labels).map(|(class, y)| class == Some(y)).collect()
}

fn check(key: &str, name: &str, robust: &[bool], expected: &Fixture) {
    let reference: Vec<bool> = burn_rows(expected, &format!("{key}.{name}.robust"));
    let rows =
        |which: &dyn Fn(usize) -> bool| (0..robust.len()).filter(|&row| which(row)).collect::<Vec<_>>();
    let ours = rows(&|row| robust[row]);
    let theirs = rows(&|row| reference[row]);
    let only_ours = rows(&|row| robust[row] && !reference[row]);
    let only_theirs = rows(&|row| reference[row] && !robust[row]);
    eprintln!(
        "{key} {name}: {} of {} survive, {} in the reference; only here {only_ours:?}, only there {only_theirs:?}",
        ours.len(),
        robust.len(),
        theirs.len(),
    );
    assert!(ours.len().abs_diff(theirs.len()) <= SLACK, "{key} {name}: {ours:?} against {theirs:?}");
}

fn burn_rows(expected: &Fixture, name: &str) -> Vec<bool> {
    crate::common::entries(&expected.tensor::<1>(name)).into_iter().map(|flag| flag > 0.5).collect()
}
