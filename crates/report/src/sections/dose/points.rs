//! Which evaluations and diagnoses belong together, and what a point takes from each.

use super::{Dose, Rung};
use crate::numbers;
use equipoise_record::names::{Facts, distinct};
use equipoise_record::{
    Alignment, Cosine, Diagnosis, Evaluation, Finding, Interval, ModelDiagnosis, ReadoutResult, Residual,
    Section, Spectrum, View,
};
use serde_json::Value;

/// One model behind one readout: its gap, and what was measured of the state that is read.
pub(super) struct Point<'a> {
    pub model: &'a Evaluation,
    pub readout: &'a ReadoutResult,
    pub rung: Rung,
    /// The training run that it comes from, and its name.
    pub run: usize,
    pub run_name: String,
    /// After which it was kept, where its file says so.
    pub epoch: Option<u64>,
    pub residual: Option<Measured>,
    pub cosine: Option<Measured>,
    pub radius: Option<Measured>,
    pub gap: f64,
    pub interval: Interval,
    pub b: usize,
    pub c: usize,
}

/// A median over some images of a diagnosis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub median: f64,
    pub images: usize,
}

/// Readouts that are drawn alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family<'a> {
    Final,
    Early(usize),
    /// Of several states, or of a kind that is not known here.
    Other(&'a str),
}

impl<'a> Family<'a> {
    fn of(readout: &'a str) -> Self {
        let early = readout.strip_prefix("early(").and_then(|rest| rest.strip_suffix(')'));
        match early.and_then(|t| t.parse().ok()) {
            Some(t) => Self::Early(t),
            None if readout == "final" => Self::Final,
            None => Self::Other(readout),
        }
    }

    /// Its name in a legend.
    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Final => "final",
            Self::Early(_) => "early(t)",
            Self::Other(name) => name,
        }
    }

    fn ensemble(self) -> bool {
        matches!(self, Self::Other("ensemble-states" | "ensemble-logits"))
    }
}

impl<'a> Point<'a> {
    pub(super) fn family(&self) -> Family<'a> {
        Family::of(&self.readout.name)
    }

    /// Whether there was robustness that could have been obfuscated.
    pub(super) fn shown(&self) -> bool {
        self.readout.verdict.finding != Finding::NoRobustnessLeft
    }

    /// Whether a trend rests on it: a residual and a cosine are those of one state.
    pub(super) fn fitted(&self) -> bool {
        self.shown() && matches!(self.family(), Family::Final | Family::Early(_))
    }

    /// The runs of each arm: `8 runs of pgd-10`.
    pub(super) fn effort(&self) -> String {
        let runs = &self.readout.verdict.arms.white_box;
        let mut attacks: Vec<String> = Vec::new();
        for run in runs {
            if !attacks.contains(&run.attack) {
                attacks.push(run.attack.clone());
            }
        }
        format!("{} of {}", numbers::runs(runs.len()), numbers::list(&attacks))
    }

    /// What tells its model from others.
    pub(super) fn file(&self) -> String {
        hash(&self.model.configuration).unwrap_or(&self.model.model).to_owned()
    }

    /// `pgd-at, early(3)`.
    fn name(&self) -> String {
        format!("{}, {}", self.model.model, self.readout.name)
    }
}

/// The points, and what none could be made of.
pub(super) struct Found<'a> {
    pub points: Vec<Point<'a>>,
    pub left_out: Vec<String>,
}

/// Every readout with a control of a model that was diagnosed on the same data set.
pub(super) fn find<'a>(models: &'a [Evaluation], diagnoses: &'a [Diagnosis]) -> Found<'a> {
    let runs = runs(models);
    let (mut points, mut no_control) = (Vec::new(), Vec::new());
    let (mut not_diagnosed, mut elsewhere, mut ambiguous) = (Vec::new(), Vec::new(), Vec::new());
    for (model, (run, run_name)) in models.iter().zip(runs) {
        let diagnosed = match diagnosed(model, models, diagnoses) {
            Match::Found(diagnosed) => diagnosed,
            Match::Ambiguous => {
                ambiguous.push(model.model.clone());
                continue;
            }
        };
        if diagnosed.is_empty() {
            not_diagnosed.push(model.model.clone());
            continue;
        }
        let here: Vec<Of> = diagnosed.into_iter().filter(|(one, _)| one.dataset == model.dataset).collect();
        if here.is_empty() {
            elsewhere.push(model.model.clone());
            continue;
        }
        for readout in &model.readouts {
            match point(model, readout, &here) {
                Some(point) => points.push(Point { run, run_name: run_name.clone(), ..point }),
                None => no_control.push(format!("{}, {}", model.model, readout.name)),
            }
        }
    }
    let reasons = [
        ("Without a diagnosis in this report", not_diagnosed),
        ("Diagnosed on another data set only", elsewhere),
        ("Without its file's hash, and of a name that several models have", ambiguous),
        ("Without a control", no_control),
    ];
    let left_out = reasons
        .into_iter()
        .filter_map(|(why, whose)| Some(format!("{why}, so no point: {}.", some(&whose)?)));
    Found { points, left_out: left_out.collect() }
}

/// What has a point but is missing in the figures, and why.
pub(super) fn missing(points: &[Point]) -> Vec<String> {
    let names = |of: &dyn Fn(&Point) -> bool| {
        let mut names: Vec<String> = points.iter().filter(|point| of(point)).map(Point::name).collect();
        names.dedup();
        some(&names)
    };
    let lacks = |dose: Dose| {
        let expected = |point: &Point| dose == Dose::Residual || !point.family().ensemble();
        names(&|point| point.shown() && expected(point) && dose.of(point).is_none())
    };
    let reasons = [
        ("No robustness left, so neither drawn nor fitted", names(&|point| !point.shown())),
        ("No residual of what it reads in the diagnoses, so not in that figure", lacks(Dose::Residual)),
        (
            "No cosine of the training gradient behind it in the diagnoses, so not in that figure",
            lacks(Dose::Cosine),
        ),
    ];
    reasons.into_iter().filter_map(|(why, whose)| Some(format!("{why}: {}.", whose?))).collect()
}

/// So many names are listed.
const LISTED: usize = 6;

/// Some names, or the first of many.
fn some(names: &[String]) -> Option<String> {
    let mut distinct = names.to_vec();
    distinct.dedup();
    let more = distinct.len().saturating_sub(LISTED);
    distinct.truncate(LISTED);
    if more > 0 {
        distinct.push(format!("{more} more"));
    }
    // Names hold commas.
    (!distinct.is_empty()).then(|| distinct.join("; "))
}

/// The hash of a model's file.
fn hash(configuration: &Value) -> Option<&str> {
    configuration.get("model_sha256")?.as_str()
}

/// A diagnosed model, with the diagnosis that it stands in.
type Of<'a> = (&'a Diagnosis, &'a ModelDiagnosis);

enum Match<'a> {
    Found(Vec<Of<'a>>),
    Ambiguous,
}

/// Every diagnosis of a model: by the hash of its file, where both records have one, else by its name.
fn diagnosed<'a>(model: &Evaluation, models: &[Evaluation], diagnoses: &'a [Diagnosis]) -> Match<'a> {
    let all: Vec<Of> = diagnoses.iter().flat_map(|d| d.diagnosed.iter().map(move |m| (d, m))).collect();
    let own = hash(&model.configuration);
    let same = |(_, one): &&Of| own.is_some() && hash(&one.configuration) == own;
    let by_hash: Vec<Of> = all.iter().filter(same).copied().collect();
    if !by_hash.is_empty() {
        return Match::Found(by_hash);
    }
    let unhashed = |one: &ModelDiagnosis| own.is_none() || hash(&one.configuration).is_none();
    let by_name: Vec<Of> =
        all.into_iter().filter(|(_, one)| one.model == model.model && unhashed(one)).collect();
    // A name says nothing where several files have it.
    let mut files: Vec<&str> = by_name.iter().filter_map(|(_, one)| hash(&one.configuration)).collect();
    let namesakes = models.iter().filter(|other| other.model == model.model);
    files.extend(namesakes.filter_map(|other| hash(&other.configuration)));
    files.sort_unstable();
    files.dedup();
    match by_name.len() {
        0 => Match::Found(Vec::new()),
        1 if files.len() <= 1 => Match::Found(by_name),
        _ => Match::Ambiguous,
    }
}

/// The median that `of` finds in a section, of the first diagnosis where it finds one.
fn measured<'a, T: 'a>(
    diagnosed: &[Of<'a>],
    section: impl Fn(&'a ModelDiagnosis) -> Option<&'a Section<T>>,
    of: impl Fn(&'a ModelDiagnosis, &'a T) -> Option<f64>,
) -> Option<Measured> {
    diagnosed.iter().find_map(|&(diagnosis, model)| {
        let median = of(model, section(model)?.result.as_ref()?)?;
        Some(Measured { median, images: diagnosis.count })
    })
}

/// A readout's point; nothing without a control. Its training run is filled in later.
fn point<'a>(model: &'a Evaluation, readout: &'a ReadoutResult, diagnosed: &[Of<'a>]) -> Option<Point<'a>> {
    let verdict = &readout.verdict;
    if verdict.finding == Finding::NoControl {
        return None;
    }
    let through_solver = verdict.arms.white_box.iter().any(|run| run.estimator == "through-solver");
    let residual = |of: &ModelDiagnosis, found: &Residual| residual(&readout.name, of.solver_steps?, found);
    let cosine = |of: &ModelDiagnosis, found: &Alignment| {
        let behind = |c: &&Cosine| c.view == View::Clean && c.readout == readout.name;
        let mut behind = found.cosines.iter().filter(behind);
        behind.find(|c| c.estimator == of.training_gradient)?.cosine.median
    };
    let radius = |_: &ModelDiagnosis, found: &Spectrum| {
        found.views.iter().find(|view| view.view == View::Clean)?.radius.median
    };
    Some(Point {
        model,
        readout,
        rung: if through_solver { Rung::TrueGradient } else { Rung::OtherGradients },
        run: 0,
        run_name: String::new(),
        epoch: model.configuration.pointer("/model/training/epoch").and_then(Value::as_u64),
        residual: measured(diagnosed, |m| m.residual.as_ref(), residual),
        cosine: measured(diagnosed, |m| m.alignment.as_ref(), cosine),
        radius: measured(diagnosed, |m| m.spectrum.as_ref(), radius),
        gap: verdict.difference?,
        interval: verdict.difference_interval?,
        b: verdict.b?,
        c: verdict.c?,
    })
}

/// The median relative residual of what a readout reads, on clean images. A residual of exactly 0 has no logarithm, and
/// counts as not measured.
fn residual(readout: &str, steps: usize, residual: &Residual) -> Option<f64> {
    let clean = residual.views.iter().find(|view| view.view == View::Clean)?;
    let at = |t: usize| clean.by_iterate.get(t.checked_sub(1)?)?.median.filter(|median| *median > 0.0);
    match Family::of(readout) {
        Family::Final => at(steps),
        Family::Early(t) => at(t),
        family if family.ensemble() && steps > 0 => {
            let sum = (1..=steps).map(|t| at(t).map(f64::ln)).sum::<Option<f64>>()?;
            Some((sum / steps as f64).exp())
        }
        Family::Other(_) => None,
    }
}

/// The training run of each model, by number and name. Models whose metadata agree in everything but the epoch and its
/// steps are of one run; one without metadata stands for itself, by the hash of its file or its name.
fn runs(models: &[Evaluation]) -> Vec<(usize, String)> {
    let mut known: Vec<Value> = Vec::new();
    let mut names: Vec<Facts> = Vec::new();
    let mut found = Vec::new();
    for model in models {
        let configuration = &model.configuration;
        let mut metadata = configuration.get("model").cloned().unwrap_or(Value::Null);
        if let Some(Value::Object(training)) = metadata.get_mut("training") {
            training.remove("epoch");
            training.remove("step");
        }
        if metadata.is_null() {
            metadata = hash(configuration).unwrap_or(&model.model).into();
        }
        let at = known.iter().position(|one| *one == metadata).unwrap_or_else(|| {
            let name = metadata.get("name").and_then(Value::as_str).unwrap_or(&model.model);
            // By its seed where others have its name: the epoch is what a run's models differ in.
            names.push(Facts::of_model(name, &metadata, None));
            known.push(metadata);
            known.len() - 1
        });
        found.push(at);
    }
    let names = distinct(&names);
    found.into_iter().map(|at| (at, names[at].clone())).collect()
}
