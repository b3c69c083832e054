//! What an independent PyTorch implementation computes (`scripts/make_parity_fixture.py`), from checkpoint to
//! trace, through files as the commands do it.

use std::path::PathBuf;

use crate::common::{Fixture, relative_error, worst_cosine};
use burn::tensor::{Device, Tensor};
use equipoise::attack::Classifier;
use equipoise::batch::{select, to_vec};
use equipoise::checkpoint::{
    Configuration, ImportOptions, ModelFile, StateDict, export_pytorch, export_safetensors, import,
    read_checkpoint,
};
use equipoise::gradient::{Cotangents, Estimator, ReadHead, Reading, Solved};
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::deq::{Head, Stem};
use equipoise::model::layers::Phase;
use equipoise::model::mdeq::Mdeq;
use equipoise::model::mdeq::MdeqHead;
use equipoise::readout::{Readout, Tail};
use equipoise::state::State;
use equipoise::trace::{TraceOptions, trace_file};
use equipoise::victim::{Deployment, Victim};

const NAMES: [&str; 3] = ["two-branch", "three-branch", "single-scale"];

const GRADIENTS: [&str; 6] = [
    "exact",
    "unrolled:state=best,lead=1,steps=9,damping=0.5",
    "unrolled:state=1,lead=1,steps=1,damping=1",
    "unrolled:state=4,lead=1,steps=5,damping=1",
    "unrolled:state=8,lead=0,steps=3,damping=0.25",
    "joint(unrolled:state=2..8,lead=1,steps=0,unrolled:state=best)",
];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

fn model(name: &str) -> ModelFile {
    let configuration = Configuration::read(&folder(name).join("config.json")).unwrap();
    import(
        &folder(name).join("checkpoint.pth.tar"),
        configuration,
        name,
        &ImportOptions::default(),
        &Device::default(),
    )
    .unwrap()
    .model
}

fn close<const D: usize>(what: &str, found: &Tensor<D>, expected: &Tensor<D>, bound: f64) {
    let error = relative_error(found, expected);
    eprintln!("{what}: relative error {error:.1e}");
    assert!(error < bound, "{what}: relative error {error} above {bound}");
}

#[test]
fn traces() {
    let work = tempfile::tempdir().unwrap();
    for name in NAMES {
        let (input, output) = (folder(name).join("io.safetensors"), work.path().join("trace.safetensors"));
        let options = TraceOptions::default().with_gradients(&GRADIENTS).unwrap();
        trace_file(&model(name), &input, &output, &options, &Device::default()).unwrap();
        let (found, expected) = (Fixture::read(&output), Fixture::read(&input));
        for part in ["states", "logits.state"] {
            close(&format!("{name} {part}"), &found.tensor::<3>(part), &expected.tensor(part), 1e-4);
        }
        for part in ["residual.relative", "residual.absolute", "logits.final"] {
            close(&format!("{name} {part}"), &found.tensor::<2>(part), &expected.tensor(part), 1e-4);
        }
        close(&format!("{name} best"), &found.tensor::<1>("best"), &expected.tensor("best"), 1e-9);
        for spec in GRADIENTS {
            let part = format!("gradient.{spec}");
            let (found_gradient, gradient) = (found.tensor::<4>(&part), expected.tensor(&part));
            let cosine = worst_cosine(&found_gradient, &gradient);
            assert!(cosine > 0.9999, "{name} {part}: cosine {cosine}");
            close(&format!("{name} {part}"), &found_gradient, &gradient, 1e-4);
            let part = format!("loss.{spec}");
            close(&format!("{name} {part}"), &found.tensor::<1>(&part), &expected.tensor(&part), 1e-4);
        }
    }
}

#[test]
fn readouts() {
    for name in NAMES {
        let (file, expected) = (model(name), Fixture::read(&folder(name).join("io.safetensors")));
        let deq = file.model.downcast::<Mdeq>().unwrap();
        let deployment = &file.metadata.deployment;
        let unrolled = Deployment { tail: Tail::UNROLLED, ..deployment.clone() };
        for (readout, deployment, part) in [
            (Readout::final_state(), deployment, "logits.final"),
            (Readout::final_state(), &unrolled, "logits.unrolled"),
            (Readout::ensemble_states(), deployment, "logits.ensemble-states"),
            (Readout::ensemble_logits(), deployment, "logits.ensemble-logits"),
        ] {
            let victim = Victim::new(deq, deployment, readout, Estimator::exact());
            let logits = victim.logits(&expected.tensor("x"));
            close(&format!("{name} {part}"), &logits, &expected.tensor(part), 1e-4);
        }
        let early = Victim::new(deq, deployment, Readout::early(3), Estimator::exact());
        let at_3 = expected.tensor::<3>("logits.state").narrow(1, 2, 1).squeeze_dim::<2>(1);
        close(&format!("{name} early(3)"), &early.logits(&expected.tensor("x")), &at_3, 1e-4);
    }
}

#[test]
fn exports_come_back_the_same() {
    let work = tempfile::tempdir().unwrap();
    for name in NAMES {
        let file = model(name);
        let weights = file.model.weights();
        let pth = work.path().join("weights.pth");
        export_pytorch(&*file.model, &pth).unwrap();
        let read = read_checkpoint(&pth).unwrap();
        let read: StateDict = read.iter().map(|(name, raw)| (name.clone(), raw.to_f32().unwrap())).collect();
        assert_eq!(read, weights);
        let tensors = work.path().join("weights.safetensors");
        export_safetensors(&*file.model, &tensors).unwrap();
        for path in [pth, tensors] {
            let configuration = Configuration::read(&folder(name).join("config.json")).unwrap();
            let again = import(&path, configuration, name, &ImportOptions::default(), &Device::default())
                .unwrap()
                .model;
            assert_eq!(again.model.weights(), weights);
            assert_eq!(again.metadata, file.metadata);
        }
    }
}

/// A head that takes one state at a time.
struct OneByOne<'a>(&'a MdeqHead);

impl ReadHead for OneByOne<'_> {
    fn read_mean(
        &mut self,
        states: &[State],
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        let tracked: Vec<Tensor<2>> =
            states.iter().map(|z| z.tensor().clone().autodiff().require_grad()).collect();
        let logits = tracked.iter().map(|z| self.0.forward(z.clone(), &Phase::Evaluate));
        let mean = logits.reduce(|sum, term| sum + term).unwrap() / states.len() as f64;
        let plain = mean.clone().inner();
        let (values, derivative) = objective.values_and_derivative(&plain);
        let gradients = (mean * (derivative * weight)).sum().backward();
        let derivatives = tracked.iter().map(|z| z.grad(&gradients).unwrap().into()).collect();
        (Reading { logits: plain, values }, derivatives)
    }
}

#[test]
fn joint_gradients_do_not_depend_on_how_heads_are_read_or_on_the_batch() {
    let (file, fixture) = (model("two-branch"), Fixture::read(&folder("two-branch").join("io.safetensors")));
    let deq = file.model.downcast::<Mdeq>().unwrap();
    let deployment = &file.metadata.deployment;
    let joint: Estimator = GRADIENTS[5].parse().unwrap();
    let victim = Victim::new(deq, deployment, Readout::final_state(), joint.clone());
    let (images, labels) = (fixture.tensor::<4>("x"), fixture.labels());
    let objective = CrossEntropy { labels: labels.clone() };
    let (expected, gradient, forward) = victim.gradient(&images, &objective);

    let mut cotangents = Cotangents::attack();
    let mut solved = Solved {
        cell: &forward.cell,
        trajectory: &forward.trajectory,
        tail: deployment.tail,
        backward: &deployment.backward,
        readout: &Readout::final_state(),
        head: &mut OneByOne(&deq.head),
        objective: &objective,
    };
    let reading = joint.pull_back(&mut solved, 1.0, &mut cotangents);
    let tracked = images.clone().autodiff().require_grad();
    let injection = deq.stem.forward(tracked.clone(), &Phase::Evaluate);
    let product = (injection * cotangents.into_parts().0.unwrap().into_tensor()).sum();
    close("joint logits", &reading.logits, &expected.logits, 1e-6);
    close("joint values", &reading.values, &expected.values, 1e-6);
    close("joint gradient", &tracked.grad(&product.backward()).unwrap(), &gradient, 1e-5);

    for (row, &label) in labels.iter().enumerate() {
        let objective = CrossEntropy { labels: vec![label] };
        let (_, alone, _) = victim.gradient(&select(&images, &[row]), &objective);
        assert_eq!(to_vec(alone), to_vec(select(&gradient, &[row])));
    }
}
