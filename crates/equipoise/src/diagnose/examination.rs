//! A whole diagnosis of one model: the sections that were asked for, one after another, on the same points.
//!
//! A section is one [`Question`]: a file of this folder with its `QUESTION`, a line in [`QUESTIONS`], and a field of
//! [`ModelDiagnosis`] for its answer.

use std::time::Instant;

use equipoise_record::{ModelDiagnosis, Section};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Case, DiagnoseError, Measured, Settings, SpectrumConfig, accuracy, alignment, distance, gallery,
    landscape, residual, spectrum, starts, sweep, targets, work, yardstick,
};
use crate::attack::WhiteBox;
use crate::checkpoint::ModelFile;
use crate::evaluate::{Observer, Points, Verified};
use crate::gradient::Estimator;
use crate::model::equilibrium::Equilibrium;
use crate::network::Network;
use crate::solve::MAX_STEPS;
use crate::victim::Deployment;
use crate::work::Work;

/// Every question, in the order in which they are asked and shown.
pub const QUESTIONS: [Question; 12] = [
    residual::QUESTION,
    accuracy::QUESTION,
    alignment::QUESTION,
    yardstick::QUESTION,
    landscape::QUESTION,
    spectrum::QUESTION,
    sweep::QUESTION,
    distance::QUESTION,
    targets::QUESTION,
    work::QUESTION,
    starts::QUESTION,
    gallery::QUESTION,
];

/// What was found, as the section holds it.
pub(super) type Answer = Result<Measured<Value>, DiagnoseError>;

/// One question of a diagnosis, and how it is answered.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The name of its section.
    pub name: &'static str,
    /// How a model with an equilibrium answers it.
    pub(super) equilibrium: fn(&Examination<'_>, &dyn Equilibrium, &Case<'_>) -> Answer,
    /// How a feedforward network does; or what it would need, and has not.
    pub(super) feedforward: Result<fn(&Examination<'_>, &Case<'_>) -> Answer, &'static str>,
}

impl Question {
    /// Whether it is asked unless others are named. Those that attack every image many times anew are not.
    pub fn is_usual(&self) -> bool {
        let unusual = [distance::QUESTION, targets::QUESTION, work::QUESTION, starts::QUESTION];
        unusual.iter().all(|question| question.name != self.name)
    }

    /// The questions whose sections have these names, each once, in their own order.
    ///
    /// # Errors
    ///
    /// [`UnknownSection`], with the names that there are.
    pub fn named<S: AsRef<str>>(names: &[S]) -> Result<Vec<Self>, UnknownSection> {
        let known = |name: &str| QUESTIONS.iter().any(|question| question.name == name);
        if let Some(unknown) = names.iter().find(|name| !known(name.as_ref())) {
            return Err(UnknownSection(unknown.as_ref().to_owned()));
        }
        let asked = |question: &Self| names.iter().any(|name| name.as_ref() == question.name);
        Ok(QUESTIONS.into_iter().filter(asked).collect())
    }
}

/// A section that is none of [`QUESTIONS`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown section `{}`; use {}", .0, QUESTIONS.map(|question| question.name).join(", "))]
pub struct UnknownSection(String);

/// What is asked of one model, and on which points. Set what differs from the defaults, then [`run`](Self::run) it.
#[derive(Clone)]
pub struct Examination<'a> {
    network: &'a dyn Network,
    deployment: &'a Deployment,
    name: String,
    points: &'a Points,
    settings: Settings,
    questions: Vec<Question>,
    pub(super) horizon: usize,
    pub(super) spectrum: SpectrumConfig,
    pub(super) gallery: usize,
    pub(super) classes: Vec<String>,
    attacked: Option<&'a Verified>,
}

impl<'a> Examination<'a> {
    /// The usual questions ([`Question::is_usual`]), with ready-made PGD-10 as the attack, and no gallery.
    pub fn new(model: &'a ModelFile, points: &'a Points, settings: Settings) -> Self {
        let ModelFile { metadata, model } = model;
        Self::of(&**model, &metadata.deployment, points, settings).named(&metadata.name)
    }

    /// The same for any network, deployed in some way.
    pub fn of(
        network: &'a dyn Network,
        deployment: &'a Deployment,
        points: &'a Points,
        settings: Settings,
    ) -> Self {
        Self {
            network,
            deployment,
            name: "model".to_owned(),
            points,
            settings,
            questions: QUESTIONS.into_iter().filter(Question::is_usual).collect(),
            horizon: (3 * deployment.solver.steps).min(MAX_STEPS),
            spectrum: SpectrumConfig::default(),
            gallery: 0,
            classes: Vec::new(),
            attacked: None,
        }
    }

    /// The model's name in the record.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Some sections, by name; they are measured in their own order.
    ///
    /// # Errors
    ///
    /// [`UnknownSection`], with the names that there are.
    pub fn sections<S: AsRef<str>>(self, names: &[S]) -> Result<Self, UnknownSection> {
        Ok(self.questions(Question::named(names)?))
    }

    /// Some questions, in this order.
    pub fn questions(self, questions: Vec<Question>) -> Self {
        Self { questions, ..self }
    }

    /// Solver steps of the residual's curve, three times the deployed ones unless said otherwise.
    pub fn horizon(self, steps: usize) -> Self {
        Self { horizon: steps, ..self }
    }

    /// How long and how exactly to look at J.
    pub fn spectrum(self, spectrum: SpectrumConfig) -> Self {
        Self { spectrum, ..self }
    }

    /// A gallery of the first `count` points, with the classes' names.
    pub fn gallery(self, count: usize, classes: &[String]) -> Self {
        Self { gallery: count, classes: classes.to_vec(), ..self }
    }

    /// Images of attacks that were run before, verified for these very points, in the place of ready-made PGD-10.
    pub fn attacked(self, images: Option<&'a Verified>) -> Self {
        Self { attacked: images, ..self }
    }

    /// Measures every section.
    ///
    /// # Errors
    ///
    /// If there are no points, a label is not a class of the model, or the observer cancels.
    pub fn run(&self, observer: &dyn Observer) -> Result<ModelDiagnosis, DiagnoseError> {
        self.run_keeping(observer, |_, measure| measure())
    }

    /// The same with somebody who keeps sections: `keep` is given each section's name and a way to measure it, and returns
    /// what was measured, now or before.
    ///
    /// # Errors
    ///
    /// As for [`Self::run`], and what `keep` reports.
    pub fn run_keeping<E: From<DiagnoseError>>(
        &self,
        observer: &dyn Observer,
        mut keep: impl FnMut(&'static str, &mut dyn FnMut() -> Result<Value, E>) -> Result<Value, E>,
    ) -> Result<ModelDiagnosis, E> {
        let ready_made = self.victim(self.training_gradient());
        // The attack is run when the first section needs it: all may be kept already.
        let mut attacked: Option<Case<'_>> = None;
        let mut case = || -> Result<Case<'_>, DiagnoseError> {
            let case = match (attacked.take(), self.attacked) {
                (Some(case), _) => case,
                (None, None) => Case::new(&*ready_made, self.points, self.settings, observer)?,
                (None, Some(images)) => {
                    Case::saved(ready_made.classes(), self.points, images, self.settings, observer)?
                }
            };
            attacked = Some(case.clone());
            Ok(case)
        };
        let steps = self.network.equilibrium().map(|_| self.deployment().solver.steps);
        let gradient = steps.map_or("backpropagation".to_owned(), |_| self.training_gradient().to_string());
        let mut found = json!({
            "model": self.name,
            "configuration": null,
            "training_gradient": gradient,
            "solver_steps": steps,
        });
        for question in &self.questions {
            if question.name == gallery::QUESTION.name && self.gallery == 0 {
                continue;
            }
            found[question.name] = keep(question.name, &mut || Ok(self.answer(question, &mut case)?))?;
        }
        Ok(serde_json::from_value(found).expect("sections are those of a diagnosis"))
    }

    /// A section, with what it cost.
    fn answer<'c>(
        &self,
        question: &Question,
        case: &mut impl FnMut() -> Result<Case<'c>, DiagnoseError>,
    ) -> Result<Value, DiagnoseError> {
        let equilibrium = self.network.equilibrium();
        if let (None, Err(lacks)) = (equilibrium, question.feedforward) {
            return Ok(plain(&Section::<()>::absent(format!("a feedforward network has no {lacks}"))));
        }
        let case = case()?;
        let start = Instant::now();
        let Measured { result, work } = match (equilibrium, question.feedforward) {
            (Some(model), _) => (question.equilibrium)(self, model, &case)?,
            (None, Ok(measure)) => measure(self, &case)?,
            (None, Err(_)) => unreachable!("returned above"),
        };
        let Work { cell_evaluations, vjps } = work;
        let seconds = start.elapsed().as_secs_f64();
        Ok(plain(&Section { seconds, cell_evaluations, vjps, result: Some(result), absent: None }))
    }

    pub(super) fn deployment(&self) -> &'a Deployment {
        self.deployment
    }

    pub(super) fn training_gradient(&self) -> &'a Estimator {
        &self.deployment().training_gradient
    }

    /// The deployed model, attacked through an estimator.
    pub(super) fn victim(&self, estimator: &Estimator) -> Box<dyn WhiteBox + 'a> {
        let deployment = self.deployment();
        self.network.victim(deployment, deployment.readout.clone(), estimator.clone())
    }
}

/// What was measured, as the section holds it.
pub(super) fn answer<T: Serialize>(measured: Result<Measured<T>, DiagnoseError>) -> Answer {
    measured.map(|Measured { result, work }| Measured { result: plain(&result), work })
}

fn plain<T: Serialize>(data: &T) -> Value {
    serde_json::to_value(data).expect("records are plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_of_a_record_has_a_question() {
        assert_eq!(QUESTIONS.map(|question| question.name), ModelDiagnosis::SECTIONS);
    }
}
