//! What the authors' release computes, from its own checkpoints.
//!
//! The fixtures lie outside the repository; where they are absent these tests say so and pass.

mod common;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use common::{Fixture, relative_error, worst_cosine};
use equipoise::attack::{Classifier, WhiteBox};
use equipoise::batch::{Images, predictions, to_vec};
use equipoise::checkpoint::{Configuration, ModelFile, import};
use equipoise::deployed::{Deployment, Victim};
use equipoise::gradient::Estimator;
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::mdeq::Mdeq;
use equipoise::network::{Architecture, Network};
use equipoise::readout::Readout;
use equipoise::solve::{SolverConfig, StateChoice, StopScope};
use equipoise::trace::{Trace, TraceOptions, trace};

const MDEQS: [&str; 2] = ["two-branch", "four-branch"];

fn folder(name: &str) -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/parity")).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: there are no parity fixtures beside the repository (shared/parity/{name})");
    None
}

/// A model of the release, deployed with its whole-batch norms, and what the release computes on it.
struct Release {
    name: &'static str,
    file: ModelFile,
    expected: Fixture,
}

fn releases() -> Vec<Release> {
    let read = |name| {
        let folder = folder(name)?;
        let configuration = Configuration::read(&folder.join("config.yaml")).unwrap();
        let checkpoint = folder.join("checkpoint.pth.tar");
        let mut file = import(&checkpoint, configuration, name, &Device::default()).unwrap();
        file.metadata.deployment = batch_scope(file.metadata.deployment);
        Some(Release { name, file, expected: Fixture::read(&folder.join("io.safetensors")) })
    };
    MDEQS.into_iter().filter_map(read).collect()
}

fn batch_scope(mut deployment: Deployment) -> Deployment {
    deployment.solver.scope = StopScope::Batch;
    deployment.backward.scope = StopScope::Batch;
    deployment
}

impl Release {
    fn model(&self) -> &Mdeq {
        let Network::Mdeq(model) = &self.file.network else { unreachable!() };
        model
    }

    fn images(&self) -> Images {
        self.expected.tensor("x")
    }

    fn loss(&self) -> CrossEntropy {
        CrossEntropy { labels: self.expected.labels() }
    }

    fn exact(&self) -> Deployment {
        self.file.metadata.deployment.clone()
    }

    fn unrolled(&self) -> Deployment {
        Deployment { tail: equipoise::readout::Tail::UNROLLED, ..self.exact() }
    }

    fn trace(&self, gradients: &[&str]) -> Trace {
        let options = TraceOptions { scope: StopScope::Batch, ..TraceOptions::default() };
        let options = options.with_gradients(gradients).unwrap();
        trace(self.model(), &self.exact(), &self.images(), &self.expected.labels(), &options)
    }

    fn logits(&self, deployment: &Deployment, readout: Readout) -> Tensor<2> {
        Victim::new(self.model(), deployment, readout, Estimator::Exact).logits(&self.images())
    }

    /// Prints, then checks, a relative error.
    fn close<const D: usize>(&self, what: &str, found: &Tensor<D>, expected: &Tensor<D>, bound: f64) {
        let error = relative_error(found, expected);
        eprintln!("{} {what}: relative error {error:.1e}", self.name);
        assert!(error < bound, "{} {what}: relative error {error} above {bound}", self.name);
    }
}

#[test]
fn states_residuals_and_logits() {
    for release in releases() {
        let Release { expected, .. } = &release;
        let trace = release.trace(&[]);
        let states: Tensor<3> = expected.tensor("states");
        for t in 0..8 {
            let at = |states: &Tensor<3>| states.clone().narrow(1, t, 1);
            release.close(&format!("z_{}", t + 1), &at(&trace.states), &at(&states), 1e-3);
        }
        let whole = |trace: &Tensor<2>| trace.clone().narrow(0, 0, 1).flatten::<1>(0, 1);
        release.close("relative residuals", &whole(&trace.relative), &expected.tensor("rel_trace"), 1e-3);
        release.close("absolute residuals", &whole(&trace.absolute), &expected.tensor("abs_trace"), 1e-3);
        release.close("logits by state", &trace.state_logits, &expected.tensor("logits.per_state"), 1e-3);
        release.close("logits, exact", &trace.final_logits, &expected.tensor("logits.exact"), 1e-3);
        let rel = to_vec(expected.tensor::<1>("rel_trace"));
        let best = (0..8).min_by(|&a, &b| rel[a].total_cmp(&rel[b])).unwrap() + 1;
        assert!(trace.best.iter().all(|&found| found == best), "{:?}, not {best}", trace.best);
        let lowest = trace.states.clone().narrow(1, best - 1, 1).squeeze_dim::<2>(1);
        release.close("best iterate", &lowest, &expected.tensor("lowest_state"), 1e-3);
        let unrolled = release.logits(&release.unrolled(), Readout::Final);
        release.close("logits, unrolled", &unrolled, &expected.tensor("logits.unrolled9"), 1e-3);
        let ensemble = release.logits(&release.exact(), Readout::EnsembleStates);
        release.close("logits, ensemble", &ensemble, &expected.tensor("logits.ensemble_states"), 1e-3);
    }
}
