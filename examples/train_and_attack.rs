//! Trains a small DEQ on the embedded digits and attacks it: the library from end to end, in one file.
//!
//! `cargo run --release -p equipoise --example train_and_attack`

use equipoise::checkpoint::{FORMAT_VERSION, Metadata};
use equipoise::prelude::*;
use equipoise::train::{self, EpochReport, StepReport};

struct Print;

impl train::Observer for Print {
    fn begin(&self, _step: usize, _steps: usize) {}
    fn step(&self, _report: &StepReport) {}
    fn epoch(&self, report: &EpochReport) {
        println!("{report:?}");
    }
    fn cancelled(&self) -> bool {
        false
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default();
    let data = Source::Digits.load(Split::Train)?;
    let architecture = Architecture::named("mdeq-digits").ok_or("no such architecture")?;
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: "example".into(),
        architecture,
        deployment: Deployment::exact(),
        training: serde_json::Value::Null,
        data: String::new(),
    };
    let folder = std::env::temp_dir().join("equipoise-example");
    let config = TrainConfig { development: 97, ..TrainConfig::standard(6) };
    let plan = Plan { metadata, config, data: &data, init: None, seed: 0, folder, resume: false };
    let model = train(&plan, &device, &Print)?.model;

    let test = Source::Digits.load(Split::Test)?.take(100);
    // PGD through the training gradient, and as often through two others, from the same starts; then an attack without
    // gradients. `Attacks::white_box()` instead of names would try everything that fits the model.
    let gradients = vec!["unrolled:state=4,lead=1,steps=4".parse()?, Estimator::through_solver()];
    let record = Assessment::new(&model, &test)
        .budget(Budget::new(Norm::Linf, 0.1)?)
        .attacks("pgd-10,square-500".parse()?)
        .gradients(gradients, Vec::new())
        .readouts(["final".parse()?, "early(2)".parse()?])
        .run(&Quiet)?
        .ok_or("nobody stops it")?;
    for readout in &record.readouts {
        println!("{}: clean {:?}", readout.name, readout.clean_accuracy);
        for attack in &readout.attacks {
            println!(
                "{} through {}: {} of {} broken",
                attack.name, attack.estimator, attack.broken, attack.attempted
            );
        }
        let verdict = &readout.verdict;
        println!(
            "{:?}: b = {:?}, c = {:?}, p = {:?}",
            verdict.finding, verdict.b, verdict.c, verdict.p_value
        );
    }
    Ok(())
}
