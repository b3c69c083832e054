//! What an independent PyTorch implementation computes (`scripts/make_parity_fixture.py`), from checkpoint to
//! trace, through files as the commands do it.

mod common;

use std::path::PathBuf;

use burn::tensor::{Device, Tensor};
use common::{Fixture, relative_error, worst_cosine};
use equipoise::attack::Classifier;
use equipoise::checkpoint::{
    Configuration, ModelFile, export_pytorch, export_safetensors, import, read_pytorch,
};
use equipoise::deployed::{Deployment, Victim};
use equipoise::gradient::Estimator;
use equipoise::network::Network;
use equipoise::readout::{Readout, Tail};
use equipoise::trace::{TraceOptions, trace_file};

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
    import(&folder(name).join("checkpoint.pth.tar"), configuration, name, &Device::default()).unwrap()
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
        let Network::Mdeq(deq) = &file.network else { unreachable!() };
        let deployment = &file.metadata.deployment;
        let unrolled = Deployment { tail: Tail::UNROLLED, ..deployment.clone() };
        for (readout, deployment, part) in [
            (Readout::Final, deployment, "logits.final"),
            (Readout::Final, &unrolled, "logits.unrolled"),
            (Readout::EnsembleStates, deployment, "logits.ensemble-states"),
            (Readout::EnsembleLogits, deployment, "logits.ensemble-logits"),
        ] {
            let victim = Victim::new(deq, deployment, readout, Estimator::Exact);
            let logits = victim.logits(&expected.tensor("x"));
            close(&format!("{name} {part}"), &logits, &expected.tensor(part), 1e-4);
        }
        let early = Victim::new(deq, deployment, Readout::Early(3), Estimator::Exact);
        let at_3 = expected.tensor::<3>("logits.state").narrow(1, 2, 1).squeeze_dim::<2>(1);
        close(&format!("{name} early(3)"), &early.logits(&expected.tensor("x")), &at_3, 1e-4);
    }
}

#[test]
fn exports_come_back_the_same() {
    let work = tempfile::tempdir().unwrap();
    for name in NAMES {
        let file = model(name);
        let weights = file.network.weights();
        let pth = work.path().join("weights.pth");
        export_pytorch(&file.network, &pth).unwrap();
        assert_eq!(read_pytorch(&pth).unwrap(), weights);
        let tensors = work.path().join("weights.safetensors");
        export_safetensors(&file.network, &tensors).unwrap();
        for path in [pth, tensors] {
            let configuration = Configuration::read(&folder(name).join("config.json")).unwrap();
            let again = import(&path, configuration, name, &Device::default()).unwrap();
            assert_eq!(again.network.weights(), weights);
            assert_eq!(again.metadata, file.metadata);
        }
    }
}
