//! Trains a small DEQ on the embedded digits and attacks it: the library from end to end, in one file.
//!
//! `cargo run --release -p equipoise --example train_and_attack`

use burn::tensor::Device;
use equipoise::attack::{Budget, Norm};
use equipoise::checkpoint::{FORMAT_VERSION, Metadata};
use equipoise::deployed::Deployment;
use equipoise::evaluate::{self, Cascade, Pair, Points, Quiet, Run, Settings};
use equipoise::gradient::Estimator;
use equipoise::network::Architecture;
use equipoise::readout::Readout;
use equipoise::train::{EpochReport, Observer, Plan, StepReport, TrainConfig, train};
use equipoise_dataset::{Source, Split};

struct Print;

impl Observer for Print {
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
    let indices: Vec<usize> = (0..test.len()).collect();
    let images = equipoise::batch::from_vec(test.images(&indices), [test.len(), 1, 8, 8], &device);
    let points = Points::new(indices, images, test.labels.clone())?;
    let deployment = &model.metadata.deployment;
    let victim = |estimator: Estimator| model.network.victim(deployment, Readout::Final, estimator);
    let (exact, middle) = (victim(Estimator::Exact), victim("unrolled:state=4,lead=1,steps=4".parse()?));
    let ready_made = Run::new(equipoise::attack::parse("pgd-10")?, "exact", &*exact);
    // The same attack through another gradient, from a start of its own, and its twin from the same start.
    let white_box = ready_made.through("unrolled:state=4,lead=1,steps=4", &*middle).starting(1);
    let twin = Some(white_box.through("exact", &*exact));
    let mut cascade = Cascade::ready_made("final", &*exact, vec![ready_made]);
    cascade.pairs.push(Pair { white_box, twin, aimed: None });
    let settings = Settings { budget: Budget::new(Norm::Linf, 0.1)?, seed: 0, batch_size: 50 };
    let outcome = evaluate::run(&cascade, &points, &settings, &Quiet, None)?;
    let mut result = outcome.result;
    println!("clean {:?}", result.clean_accuracy);
    for attack in &result.attacks {
        println!(
            "{} through {}: {:?} in {:.1} s",
            attack.name, attack.estimator, attack.accuracy, attack.seconds
        );
    }
    // From the arms' counts to a finding. Twenty pairs and an attack without gradients would say more.
    equipoise::verdict::conclude_alone(&mut result);
    let verdict = &result.verdict;
    println!("{:?}: b = {:?}, c = {:?}, p = {:?}", verdict.finding, verdict.b, verdict.c, verdict.p_value);
    Ok(())
}
