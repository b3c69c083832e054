//! A model of a kind that the library does not know, defined in one file: the example, which is run as it stands, and what
//! files, training, the white-box plan and the diagnosis make of its architecture.

use crate::own_deq::TanhDeq;
use equipoise::assess::{self, Assessment};
use equipoise::checkpoint::{FORMAT_VERSION, Metadata, export_safetensors};
use equipoise::diagnose::{Examination, QUESTIONS, Settings};
use equipoise::prelude::*;
use equipoise::train::{EpochReport, Observer as Watching, Silent, StepReport};

#[test]
fn the_example_runs() {
    crate::own_deq::main().unwrap();
}

fn metadata() -> Metadata {
    Metadata {
        format_version: FORMAT_VERSION,
        name: "own".into(),
        architecture: TanhDeq { image: [1, 8, 8], classes: 10 }.into(),
        deployment: Deployment { solver: SolverConfig::anderson(4), ..Deployment::unrolled() },
        training: serde_json::Value::Null,
        data: String::new(),
    }
}

/// Stops after so many steps.
struct StopAfter(usize);

impl Watching for StopAfter {
    fn begin(&self, _: usize, _: usize) {}
    fn step(&self, report: &StepReport) {
        assert!(report.step <= self.0);
    }
    fn epoch(&self, _: &EpochReport) {}
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn it_is_trained_and_resumed_saved_attacked_and_diagnosed() {
    let device = Device::default();
    let data = Source::Digits.load(Split::Train).unwrap().take(160);
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plan = |folder: &std::path::Path, resume| {
        let config = TrainConfig { development: 0, batch_size: 32, ..TrainConfig::standard(1) };
        let (metadata, folder) = (metadata(), folder.to_owned());
        Plan { metadata, config, data: &data, init: None, seed: 3, folder, resume }
    };
    let trained = train(&plan(whole.path(), false), &device, &Silent).unwrap();
    assert!(!train(&plan(cut.path(), false), &device, &StopAfter(1)).unwrap().complete);
    let resumed = train(&plan(cut.path(), true), &device, &Silent).unwrap();
    assert!(trained.complete && resumed.complete);
    assert_eq!(trained.model.model.weights(), resumed.model.model.weights());

    let file = ModelFile::read(&whole.path().join("model.safetensors"), &device).unwrap();
    assert_eq!(file.metadata.architecture, metadata().architecture);
    assert_eq!(file.metadata.architecture.kind(), "tanh-deq");
    assert_eq!(file.model.weights(), trained.model.model.weights());
    export_safetensors(&*file.model, &whole.path().join("weights.safetensors")).unwrap();

    let images = Source::Digits.load(Split::Test).unwrap().take(6);
    let record = Assessment::new(&file, &images)
        .budget(Budget::new(Norm::Linf, 0.05).unwrap())
        .readouts(["early(2)".parse().unwrap(), "ensemble-logits".parse().unwrap()])
        .run(&Quiet)
        .unwrap()
        .unwrap();
    for readout in &record.readouts {
        // Through the solver of its own deployment, Anderson's, and through the aimed training gradient.
        let through = |name: &str| readout.attacks.iter().any(|attack| attack.estimator.starts_with(name));
        assert!(["through-solver", "exact", "adjoint", "none"].into_iter().all(through), "{}", readout.name);
        assert_eq!(readout.flags.len(), 5, "{}", readout.name);
    }

    let points = assess::points(&images, (0..6).collect(), &device).unwrap();
    let budget = Budget::new(Norm::Linf, 0.05).unwrap();
    let examination = Examination::new(&file, &points, Settings { budget, seed: 0, batch_size: 4 });
    let all = examination.questions(QUESTIONS.to_vec()).gallery(2, &images.class_names);
    let diagnosis = all.run(&Quiet).unwrap();
    let sections = serde_json::to_value(&diagnosis).unwrap();
    for question in QUESTIONS {
        assert!(sections[question.name]["result"].is_object(), "{}", question.name);
    }
}

#[test]
fn sizes_that_make_no_sense_and_unknown_kinds_are_refused_by_name() {
    let architecture = Architecture::from(TanhDeq { image: [1, 80, 80], classes: 10 });
    let message = architecture.init(0, &Device::default()).unwrap_err().to_string();
    assert!(message.contains("image"), "{message}");
    let message = serde_json::from_str::<Architecture>(r#"{"kind":"tanh"}"#).unwrap_err().to_string();
    assert!(["tanh-deq", "mdeq", "resnet18"].iter().all(|kind| message.contains(kind)), "{message}");
    let unknown = r#"{"kind":"tanh-deq","image":[1,8,8],"classes":10,"depth":3}"#;
    let message = serde_json::from_str::<Architecture>(unknown).unwrap_err().to_string();
    assert!(message.contains("depth"), "{message}");
}
