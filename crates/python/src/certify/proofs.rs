//! Certificates of monotone DEQs, by proof: of model files of Equipoise's own.

use std::sync::Arc;

use equipoise::attack::Norm;
use equipoise::batch::to_vec;
use equipoise::certify::{Method, MonotoneCertifier, Proof, side_by_side};
use equipoise::checkpoint::ModelFile;
use equipoise::evaluate::{Observer, Points};
use equipoise::readout::Readout;
use equipoise::victim::Deployment;
use equipoise_record::{Certificate, CertifiedExample, CertifiedNetwork};
use numpy::PyReadonlyArray4;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::Asked;
use crate::errors::value_error;
use crate::serve::{Caller, serve};
use crate::subject::Native;
use crate::watch::Watch;

/// Certifies images of a monotone DEQ by methods, by all that it has if there are none, and of one network (`ideal` or `deployed`)
/// if it is named, else of both; at the radii asked for alone, or searching for the largest. The record as JSON, and what is not certified with the reasons.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "called from Python, with what it was asked")]
pub fn prove(
    py: Python<'_>,
    model: &Native,
    images: PyReadonlyArray4<'_, f32>,
    asked: Asked,
    methods: Vec<String>,
    network: Option<String>,
    at_eps: bool,
    watch: Option<Py<PyAny>>,
) -> PyResult<(String, Vec<String>)> {
    let norm = asked.norm()?;
    let (described, eps) = (asked.described()?, asked.radii(norm)?);
    let network = network.as_deref().map(named).transpose()?;
    let (deployment, readout) =
        asked.deployed()?.ok_or_else(|| PyRuntimeError::new_err("a model file has a deployment"))?;
    let points = asked.points(&images)?;
    let file = model.file();
    let (watch, job) =
        (watch.map(Arc::new), Job { file, points, norm, eps, at_eps, deployment, readout, network });
    let (asked, found) = serve(py, move |caller: &Caller| {
        let watch = Watch::new(watch, caller);
        let result = job.run(&asked, &methods, &watch);
        (asked, result)
    })?;
    let (result, notes) = found?;
    Ok((asked.record(norm, described, result)?, notes))
}

/// Reads a network's name.
fn named(text: &str) -> PyResult<CertifiedNetwork> {
    let both = [CertifiedNetwork::Ideal, CertifiedNetwork::Deployed];
    let found = both.into_iter().find(|network| network.name() == text);
    found.ok_or_else(|| {
        PyValueError::new_err(format!("network {text}: use ideal or deployed, or leave it out for both"))
    })
}

struct Job {
    file: Arc<ModelFile>,
    points: Points,
    norm: Norm,
    eps: Vec<f64>,
    /// Whether these are the only radii that are tried.
    at_eps: bool,
    deployment: Deployment,
    readout: Readout,
    network: Option<CertifiedNetwork>,
}

impl Job {
    /// The certificates beside the answers on the unperturbed images, `None` if it was stopped, and what is not certified.
    fn run(
        &self,
        asked: &Asked,
        names: &[String],
        watch: &Watch,
    ) -> PyResult<(Option<equipoise_record::ReadoutResult>, Vec<String>)> {
        let certifier = MonotoneCertifier::new(&*self.file.model).map_err(|error| {
            PyValueError::new_err(format!(
                "{error}; for any model there is smoothing: give sigma, such as 0.25"
            ))
        })?;
        let mut notes = Vec::new();
        let methods = self.methods(&certifier, names, &mut notes)?;
        let known = certifier.deployed(Method::Lipschitz, &self.deployment, &self.readout).map(drop);
        let deployed = match (known, self.network) {
            (Ok(()), network) => network != Some(CertifiedNetwork::Ideal),
            (Err(error), Some(CertifiedNetwork::Deployed)) => {
                return Err(PyValueError::new_err(format!("network deployed: {error}; use ideal")));
            }
            (Err(_), Some(CertifiedNetwork::Ideal)) => false,
            (Err(error), None) => {
                notes.push(format!("what is certified is the ideal network, not the deployed one: {error}"));
                false
            }
        };
        let deployed = deployed.then_some((&self.deployment, &self.readout));
        let mut proofs = certifier.proofs(&methods, deployed).map_err(value_error)?;
        proofs.retain(|proof| self.network.is_none_or(|network| proof.network() == network));
        if self.at_eps {
            proofs = proofs.into_iter().map(|proof| proof.among(&self.eps)).collect();
        }
        let Some(certificates) = self.certificates(&proofs, watch) else { return Ok((None, notes)) };
        let gradient = self.deployment.training_gradient.clone();
        let victim = self.file.model.victim(&self.deployment, self.readout.clone(), gradient);
        let result = asked.answered(&victim, &self.points, self.norm, certificates, watch)?;
        Ok((result, notes))
    }

    /// Those that are named, each once; all that say something if none are.
    fn methods(
        &self,
        certifier: &MonotoneCertifier,
        names: &[String],
        notes: &mut Vec<String>,
    ) -> PyResult<Vec<Method>> {
        if names.is_empty() {
            let (known, unknown) = certifier.methods(self.norm);
            notes
                .extend(unknown.iter().map(|(method, error)| format!("no certificate by {method}: {error}")));
            return Ok(known);
        }
        let mut methods = Vec::new();
        for name in names {
            let refused = |problem: String| PyValueError::new_err(format!("method: {problem}"));
            let method: Method = name.parse().map_err(|error| refused(format!("{error}, or smoothing")))?;
            let refused = |error| refused(format!("{name}: {error}"));
            method.check_norm(self.norm).map_err(refused)?;
            certifier.ideal(method).map_err(refused)?;
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        Ok(methods)
    }

    /// Every image by every proof. `None` if it was stopped.
    fn certificates(&self, proofs: &[Proof<'_>], watch: &Watch) -> Option<Vec<Certificate>> {
        let Self { points, norm, .. } = self;
        watch.stage("proving", points.len());
        let numbers = to_vec(points.images().clone());
        let pixels = numbers.len() / points.len();
        let mut found: Vec<Vec<CertifiedExample>> = vec![Vec::new(); proofs.len()];
        let mut seconds = vec![0.0; proofs.len()];
        let mut shown = 0;
        let images: Vec<(usize, &[f32])> =
            points.indices().iter().copied().zip(numbers.chunks_exact(pixels)).collect();
        let mut rows = 0..points.len();
        for images in images.chunks(side_by_side(proofs.len())) {
            if watch.cancelled() {
                return None;
            }
            for (each, row) in equipoise::certify::prove(proofs, images, *norm).into_iter().zip(rows.by_ref())
            {
                shown += usize::from(each[0].0.class == Some(points.labels()[row]));
                for (at, (example, spent)) in each.into_iter().enumerate() {
                    found[at].push(example);
                    seconds[at] += spent;
                }
                watch.counts(row + 1, shown);
                watch.advance(1, "");
            }
        }
        let usual = || equipoise::certify::usual_radii(&found);
        let eps = if self.eps.is_empty() { usual() } else { self.eps.clone() };
        let each = proofs.iter().zip(found.iter().cloned()).zip(seconds);
        let certificates = each
            .map(|((proof, found), seconds)| proof.certificate(found, points.labels(), *norm, &eps, seconds));
        Some(certificates.collect())
    }
}
