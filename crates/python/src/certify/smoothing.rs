//! Votes under noise, of a classifier or a DEQ: certificates, and the smoothed classifier's own answers.

use std::sync::Arc;
use std::time::Instant;

use equipoise::attack::{Classifier, Norm};
use equipoise::certify::{Prediction, Serialized, Smoothing, SmoothingError};
use equipoise::evaluate::{Observer, Points};
use equipoise::readout::Readout;
use equipoise::victim::Deployment;
use equipoise_record::ReadoutResult;
use numpy::PyReadonlyArray4;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::Asked;
use crate::model::Foreign;
use crate::serve::{Caller, serve};
use crate::subject::Subject;
use crate::watch::Watch;

/// The settings of smoothing; a dictionary with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Settings {
    sigma: f64,
    selection: usize,
    samples: usize,
    alpha: f64,
    /// Steps of fast votes, chains and checks.
    serialized: Option<(usize, usize, usize)>,
}

impl Settings {
    fn check(&self) -> PyResult<Smoothing> {
        let serialized = |(steps, chains, checks)| Serialized { steps, chains, checks };
        let smoothing = Smoothing {
            sigma: self.sigma,
            selection: self.selection,
            estimation: self.samples,
            alpha: self.alpha,
            serialized: self.serialized.map(serialized),
        };
        smoothing.check().map_err(refused)?;
        Ok(smoothing)
    }
}

fn refused(SmoothingError { field, problem }: SmoothingError) -> PyErr {
    let argument = if field == "estimation" { "samples" } else { field };
    PyValueError::new_err(format!("{argument}: {problem}"))
}

/// Certifies images by votes under noise. The record as JSON.
#[pyfunction]
pub fn certify(
    py: Python<'_>,
    model: &Bound<'_, PyAny>,
    images: PyReadonlyArray4<'_, f32>,
    asked: Asked,
    settings: Settings,
    watch: Option<Py<PyAny>>,
) -> PyResult<String> {
    let voting = Voting::new(model, &images, asked, &settings)?;
    let (norm, described) = (voting.asked.norm()?, voting.asked.described()?);
    let given = voting.asked.radii(norm)?;
    let eps = if given.is_empty() { voting.smoothing.radii(norm, voting.pixels()) } else { given };
    let (voting, result) = voting
        .serve(py, watch, move |voting, classifier, watch| voting.certified(classifier, norm, &eps, watch))?;
    voting.asked.record(norm, described, result?.flatten())
}

/// What the smoothed classifier answers to images: for each its class, if it does not abstain, and how many draws gave each class.
#[pyfunction]
pub fn predict(
    py: Python<'_>,
    model: &Bound<'_, PyAny>,
    images: PyReadonlyArray4<'_, f32>,
    asked: Asked,
    settings: Settings,
    watch: Option<Py<PyAny>>,
) -> PyResult<Vec<(Option<usize>, Vec<usize>)>> {
    let voting = Voting::new(model, &images, asked, &settings)?;
    let (_, answers) =
        voting.serve(py, watch, |voting, classifier, watch| Ok(voting.answers(classifier, watch)))?;
    let stopped = || PyRuntimeError::new_err("stopped before all images were answered");
    let answers = answers?.flatten().ok_or_else(stopped)?;
    Ok(answers.into_iter().map(|Prediction { class, counts }| (class, counts)).collect())
}

/// A model and images that it is to vote on.
struct Voting {
    smoothing: Smoothing,
    asked: Asked,
    points: Points,
    deployed: Option<(Deployment, Readout)>,
    subject: Subject,
    object: Arc<Py<PyAny>>,
}

impl Voting {
    fn new(
        model: &Bound<'_, PyAny>,
        images: &PyReadonlyArray4<'_, f32>,
        asked: Asked,
        settings: &Settings,
    ) -> PyResult<Self> {
        let smoothing = settings.check()?;
        let deployed = asked.deployed()?;
        if let Some((deployment, _)) = &deployed {
            let solver = &deployment.solver;
            Smoothing::check_solver(solver)
                .map_err(|SmoothingError { problem, .. }| PyValueError::new_err(problem))?;
            smoothing.serialized.map_or(Ok(()), |fast| fast.check_solver(solver)).map_err(refused)?;
        }
        let points = asked.points(images)?;
        let (subject, object) = (Subject::new(model), Arc::new(model.clone().unbind()));
        Ok(Self { smoothing, asked, points, deployed, subject, object })
    }

    /// CHW.
    fn pixels(&self) -> usize {
        self.points.images().dims()[1..].iter().product()
    }

    /// Does something with the classifier that votes. `None` if Python has failed before.
    fn serve<T: Send>(
        self,
        py: Python<'_>,
        watch: Option<Py<PyAny>>,
        work: impl FnOnce(&Self, &dyn Classifier, &Watch) -> PyResult<T> + Send,
    ) -> PyResult<(Self, PyResult<Option<T>>)> {
        let watch = watch.map(Arc::new);
        serve(py, move |caller: &Caller| {
            let watch = Watch::new(watch, caller);
            let able = |classifier: &dyn Classifier| {
                self.smoothing.check_classifier(classifier).map_err(refused)?;
                work(&self, classifier, &watch).map(Some)
            };
            let result = match &self.deployed {
                None => able(&Foreign::new(self.object.clone(), self.asked.class_names.len(), caller)),
                Some((deployment, readout)) => match self.subject.asked_by(caller) {
                    None => Ok(None),
                    Some(network) => {
                        let gradient = deployment.training_gradient.clone();
                        able(&network.victim(deployment, readout.clone(), gradient))
                    }
                },
            };
            (self, result)
        })
    }

    /// Every image's votes, and the answers on the unperturbed images. `None` if it was stopped.
    fn certified(
        &self,
        classifier: &dyn Classifier,
        norm: Norm,
        eps: &[f64],
        watch: &Watch,
    ) -> PyResult<Option<ReadoutResult>> {
        let Self { smoothing, points, asked, .. } = self;
        watch.stage("certifying", points.len());
        let (start, mut all, mut shown) = (Instant::now(), Vec::new(), 0);
        for (row, &index) in points.indices().iter().enumerate() {
            let votes = smoothing.votes(classifier, points, row, asked.seed, asked.batch_size, watch);
            let Some(votes) = votes else { return Ok(None) };
            let found = smoothing.certified(index, votes, norm, self.pixels());
            let class = found.and_then(|found| found.class);
            shown += usize::from(class == Some(points.labels()[row]));
            all.push(votes);
            watch.counts(row + 1, shown);
            watch.advance(1, "");
        }
        let spent = (start.elapsed().as_secs_f64(), classifier.work().cell_evaluations);
        let certificate = smoothing.certificate(points, &all, norm, eps, spent);
        let certificate = certificate.ok_or_else(|| PyRuntimeError::new_err("L1 was refused"))?;
        asked.answered(classifier, points, norm, vec![certificate], watch)
    }

    /// Every image's answer. `None` if it was stopped.
    fn answers(&self, classifier: &dyn Classifier, watch: &Watch) -> Option<Vec<Prediction>> {
        let Self { smoothing, points, asked, .. } = self;
        watch.stage("answering by votes", points.len());
        let mut answer = |row: usize| {
            let found = smoothing.predict(classifier, points, row, asked.seed, asked.batch_size, watch)?;
            watch.advance(1, "");
            Some(found)
        };
        (0..points.len()).map(&mut answer).collect()
    }
}
