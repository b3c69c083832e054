//! What a diagnosis found: residuals, accuracy by iterate, gradient alignment, loss landscape, spectrum, sweeps.
//!
//! A [`Diagnosis`] is the content of `diagnosis.json`. It holds one entry for each model and in it one for each
//! section that was asked for. Every distribution over examples is a [`Spread`], every share of examples a
//! [`Share`] with its count and 95% Wilson interval.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::accuracy::{self, Accuracy};
use crate::{Gallery, Paired};

/// Several models, diagnosed side by side on the same examples: the content of `diagnosis.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Format version, [`crate::FORMAT_VERSION`] when written by this build.
    pub version: u32,
    /// Everything needed to repeat the run.
    pub configuration: Value,
    /// The data set and split, in words that may be quoted.
    pub dataset: String,
    /// Norm of the budget: `linf`, `l2` or `l1`.
    pub norm: String,
    /// Radius of the budget, in units of pixel intensity.
    pub eps: f64,
    /// The seed that all random numbers were derived from.
    pub seed: u64,
    /// Number of examples.
    pub count: usize,
    /// What made the attacked images.
    #[serde(default)]
    pub attacked: Attacked,
    /// The models, in the order that they should be shown.
    pub diagnosed: Vec<ModelDiagnosis>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelDiagnosis {
    /// A short name for the model, as it should stand in tables.
    pub model: String,
    /// The model's own configuration and the hash of its file.
    pub configuration: Value,
    /// The gradient that the model was trained with: ready-made attacks follow it.
    pub training_gradient: String,
    /// T: steps of the deployed solver; absent for a feedforward network.
    pub solver_steps: Option<usize>,
    /// Relative residuals along the trajectory.
    #[serde(default)]
    pub residual: Option<Section<Residual>>,
    /// Accuracy of every iterate.
    #[serde(default)]
    pub accuracy: Option<Section<IterateAccuracies>>,
    /// Cosines between gradient estimators and `through-solver`.
    #[serde(default)]
    pub alignment: Option<Section<Alignment>>,
    /// Loss along the gradient and along a random direction.
    #[serde(default)]
    pub landscape: Option<Section<Landscape>>,
    /// Spectral radius and Frobenius norm of J = ∂f/∂z.
    #[serde(default)]
    pub spectrum: Option<Section<Spectrum>>,
    /// One gradient against one, behind several readouts.
    #[serde(default)]
    pub yardstick: Option<Section<Yardsticks>>,
    /// Accuracy as the solver's budget, its tolerance and ε change.
    #[serde(default)]
    pub sweep: Option<Section<Sweep>>,
    /// How far the nearest adversarial images are.
    #[serde(default)]
    pub distance: Option<Section<Distances>>,
    /// Which classes images can be turned into.
    #[serde(default)]
    pub targets: Option<Section<Targeted>>,
    /// How much longer the solver can be made to work.
    #[serde(default)]
    pub work: Option<Section<Workload>>,
    /// How many fixed points there are, from random starts.
    #[serde(default)]
    pub starts: Option<Section<Starts>>,
    /// Some images, what was added to them, and what the model made of both.
    #[serde(default)]
    pub gallery: Option<Section<Gallery>>,
}

impl ModelDiagnosis {
    /// The keys of the sections, in the order in which they are measured and shown.
    pub const SECTIONS: [&'static str; 12] = [
        "residual",
        "accuracy",
        "alignment",
        "yardstick",
        "landscape",
        "spectrum",
        "sweep",
        "distance",
        "targets",
        "work",
        "starts",
        "gallery",
    ];

    /// Whether a section of this name can hold that.
    ///
    /// # Errors
    ///
    /// Says what does not fit.
    pub fn check_section(name: &str, section: &Value) -> Result<(), serde_json::Error> {
        let mut alone = json!({ "model": "", "configuration": null, "training_gradient": "" });
        alone[name] = section.clone();
        serde_json::from_value::<Self>(alone).map(drop)
    }
}

/// What made the attacked images of a diagnosis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attacked {
    /// PGD-10 through the gradient that the model was trained with, all of its steps taken.
    #[default]
    ReadyMade,
    /// The attacks of an evaluation, which saved them. Images that were misclassified when clean are as they were.
    Saved,
}

/// A part of a diagnosis with what it cost: either a result, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section<T> {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Cell evaluations, counted per example.
    pub cell_evaluations: u64,
    /// Vector-Jacobian products of the cell, counted per example.
    pub vjps: u64,
    /// What was found.
    #[serde(default = "nothing")]
    pub result: Option<T>,
    /// Why nothing could be.
    #[serde(default)]
    pub absent: Option<String>,
}

fn nothing<T>() -> Option<T> {
    None
}

impl<T> Section<T> {
    /// A section that makes no sense for this model.
    pub fn absent(reason: impl Into<String>) -> Self {
        Self { seconds: 0.0, cell_evaluations: 0, vjps: 0, result: None, absent: Some(reason.into()) }
    }

    /// The same without its result: what it cost, and why there may be none.
    pub fn outline(&self) -> Section<()> {
        let Self { seconds, cell_evaluations, vjps, .. } = *self;
        Section { seconds, cell_evaluations, vjps, result: None, absent: self.absent.clone() }
    }
}

/// One gradient against one, behind several readouts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Yardsticks {
    /// The attack, with its starts, the same on every side.
    pub attack: String,
    /// A row for each readout.
    pub rows: Vec<YardstickRow>,
}

/// What each gradient broke behind one readout, of the points that are correct when clean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct YardstickRow {
    /// The readout.
    pub readout: String,
    /// Points that are correct when clean: those attacked.
    pub correct: usize,
    /// The training gradient.
    pub training: String,
    /// Points that it broke.
    pub training_broken: usize,
    /// The other gradient.
    pub other: String,
    /// Points that it broke.
    pub other_broken: usize,
    /// The training method pointed at the readout; absent where the training gradient reads it already.
    pub aimed: Option<String>,
    /// Points that it broke.
    pub aimed_broken: Option<usize>,
    /// The other gradient against the training gradient.
    pub total: Paired,
    /// What of that is aim: the aimed gradient against the training gradient.
    pub aim: Option<Paired>,
    /// What of it is gradient: the other against the aimed one; against the training gradient where there is none.
    pub gradient: Paired,
}

/// A share of examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "ReadShare")]
pub struct Share {
    /// How many.
    pub correct: usize,
    /// Of how many.
    pub count: usize,
    /// The share with its 95% Wilson interval: `accuracy`, `accuracy_interval`.
    #[serde(flatten, with = "accuracy::plain")]
    pub accuracy: Accuracy,
}

/// A share as it is read, before its accuracy knows its count.
#[derive(Deserialize)]
struct ReadShare {
    correct: usize,
    count: usize,
    #[serde(flatten, with = "accuracy::plain")]
    accuracy: Accuracy,
}

impl From<ReadShare> for Share {
    fn from(ReadShare { correct, count, accuracy }: ReadShare) -> Self {
        Self { correct, count, accuracy: accuracy.of(count) }
    }
}

impl Share {
    /// `correct` of `count`.
    pub fn new(correct: usize, count: usize) -> Self {
        Self { correct, count, accuracy: Accuracy::new(correct, count) }
    }

    /// How many of these hold.
    pub fn of(examples: impl IntoIterator<Item = bool>) -> Self {
        let (mut correct, mut count) = (0, 0);
        for holds in examples {
            count += 1;
            correct += usize::from(holds);
        }
        Self::new(correct, count)
    }
}

/// Median and 10th to 90th percentile of one number per example.
///
/// ```
/// use equipoise_record::Spread;
///
/// let spread = Spread::of([3.0, 1.0, 2.0, f64::NAN]);
/// assert_eq!((spread.median, spread.finite, spread.non_finite), (Some(2.0), 3, 1));
/// assert_eq!(spread.low, Some(1.2)); // between 1 and 2
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// 10th percentile; absent without a finite number, as are the other two.
    pub low: Option<f64>,
    /// Median.
    pub median: Option<f64>,
    /// 90th percentile.
    pub high: Option<f64>,
    /// Numbers that these stand for.
    pub finite: usize,
    /// Numbers left out because they are not finite.
    pub non_finite: usize,
}

impl Spread {
    /// Of some numbers. Percentiles between two of them are interpolated linearly.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut finite = Vec::new();
        let mut non_finite = 0;
        for number in numbers {
            if number.is_finite() { finite.push(number) } else { non_finite += 1 }
        }
        finite.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let place = share * finite.len().checked_sub(1)? as f64;
            let (below, above) = (finite[place.floor() as usize], finite[place.ceil() as usize]);
            Some(below + (above - below) * place.fract())
        };
        Self {
            low: quantile(0.1),
            median: quantile(0.5),
            high: quantile(0.9),
            finite: finite.len(),
            non_finite,
        }
    }
}

/// Which images something was measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// As they are in the data set.
    Clean,
    /// After an attack: that of [`Diagnosis::attacked`].
    Attacked,
}

impl View {
    /// `clean` or `attacked`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Attacked => "attacked",
        }
    }
}

/// How fast the forward solver converges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Residual {
    /// The relative residual below which an example counts as converged: that of the deployed solver.
    pub tolerance: f64,
    /// Steps that the solver was given here. It does not stop at the tolerance.
    pub horizon: usize,
    /// One entry for each kind of images.
    pub views: Vec<ResidualView>,
}

/// Residuals on one kind of images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResidualView {
    /// Which images.
    pub view: View,
    /// ‖f(z_t) − z_t‖ / ‖f(z_t)‖, t from 1.
    pub by_iterate: Vec<Spread>,
    /// Share of examples whose residual has been below the tolerance at some iterate up to t, t from 1.
    pub reached: Vec<Share>,
    /// Steps to the tolerance, of those examples that reach it.
    pub steps: Spread,
    /// Share of examples that do not reach it within the horizon.
    pub never: Share,
}

/// What the head would answer at every iterate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IterateAccuracies {
    /// The deployed readout.
    pub readout: String,
    /// Its accuracy when clean.
    pub clean: Share,
    /// Its robust accuracy: correct both when clean and when attacked.
    pub robust: Share,
    /// The same at z_1, z_2, .., on the same images. Empty for a feedforward network.
    pub by_iterate: Vec<IterateAccuracy>,
}

/// Accuracy when z_t is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IterateAccuracy {
    /// t, from 1.
    pub t: usize,
    /// When clean.
    pub clean: Share,
    /// Correct both when clean and when attacked.
    pub robust: Share,
}

/// How gradient estimators point, beside the true gradient of what is deployed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alignment {
    /// One entry for each kind of images, readout and estimator.
    pub cosines: Vec<Cosine>,
}

/// The angle between one estimator's gradient and that of `through-solver` behind the same readout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cosine {
    /// Which images.
    pub view: View,
    /// The readout that `through-solver` differentiates: `final` or `early(t)`.
    pub readout: String,
    /// The estimator.
    pub estimator: String,
    /// The estimator without its state, shared by those that differ in t alone.
    pub family: String,
    /// The state that the estimator starts from, where that is a numbered iterate.
    pub t: Option<usize>,
    /// The cosine. Left out (`non_finite`) where one of the two gradients is zero or not finite.
    pub cosine: Spread,
    /// Examples where the estimator's gradient is exactly zero.
    pub zero: usize,
}

/// How the loss changes on straight lines through the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Landscape {
    /// Cross-entropy at the images themselves.
    pub origin: Spread,
    /// One entry for each direction.
    pub lines: Vec<Line>,
}

/// The loss along one direction, of length ε in the budget's norm; images are clipped to \[0, 1\].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// `gradient SPEC`, the direction of steepest ascent by an estimator; or `random`.
    pub direction: String,
    /// The points on the line, in order.
    pub points: Vec<LinePoint>,
    /// Share of examples whose loss at +ε is higher than at the image.
    pub rises: Share,
}

/// One point of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinePoint {
    /// Its distance from the image, in units of ε.
    pub distance: f64,
    /// Cross-entropy there, less that at the image.
    pub change: Spread,
    /// Share classified correctly there.
    pub correct: Share,
}

/// J = ∂f/∂z at the best iterate z*.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// Length D of the state.
    pub dim: usize,
    /// Power iterations that each example was given at most.
    pub limit: usize,
    /// Relative change of u below which an example's power iteration counts as converged.
    pub tolerance: f64,
    /// Random probes of Hutchinson's estimate.
    pub probes: usize,
    /// One entry for each kind of images.
    pub views: Vec<SpectrumView>,
}

/// The spectrum on one kind of images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpectrumView {
    /// Which images.
    pub view: View,
    /// Largest modulus of an eigenvalue, of those examples whose power iteration converged.
    pub radius: Spread,
    /// Share whose power iteration converged.
    pub converged: Share,
    /// Among those, the share with a radius below 1: f contracts near z*, in some norm.
    pub below_one: Share,
    /// Among the converged, how many have a complex dominant pair.
    pub complex: usize,
    /// Mean growth of the norm per iteration, of those that did not converge: a rough guess at the radius.
    pub unconverged_growth: Spread,
    /// Power iterations taken.
    pub iterations: Spread,
    /// Hutchinson's estimate of ‖J‖_F².
    pub squared_norm: Spread,
    /// Its standard error, relative to it.
    pub relative_error: Spread,
}

/// Accuracy as one setting changes and the others stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// T of the solver, attacked anew each time. Empty for a feedforward network.
    pub solver_steps: Vec<SweepPoint>,
    /// Its tolerance, attacked anew each time. Empty for a feedforward network.
    pub tolerance: Vec<SweepPoint>,
    /// ε, up to 0% or to the largest that means anything.
    pub eps: Vec<SweepPoint>,
}

/// Accuracy at one setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// The setting.
    pub at: f64,
    /// Accuracy when clean.
    pub clean: Share,
    /// Robust accuracy under the ready-made PGD-10 at this setting.
    pub robust: Share,
    /// Robust accuracy on the images that PGD-10 found at the deployed setting: how far results depend on
    /// the setting alone. Absent along ε.
    #[serde(default)]
    pub transferred: Option<Share>,
}

/// How far the nearest adversarial images are that minimum-norm attacks find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// The gradient that the attacks went through.
    pub gradient: String,
    /// Each attack alone.
    pub attacks: Vec<AttackDistances>,
    /// The least distance of all attacks, of images that are correct when clean; not finite where nothing was found.
    pub least: Spread,
    /// Share of all images that are correct when clean and without an adversarial image within ε, ε from 0 up.
    pub curve: Vec<DistancePoint>,
}

/// Distances of one minimum-norm attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackDistances {
    /// The attack.
    pub attack: String,
    /// In the diagnosis' norm, of images that are correct when clean.
    pub distance: Spread,
    /// Share of them for which one was found.
    pub found: Share,
}

/// A point of the curve of distances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistancePoint {
    /// ε.
    pub eps: f64,
    /// Images whose least distance is larger.
    pub standing: Share,
}

/// Which classes images can be turned into within ε.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Targeted {
    /// The attack, once for each other class.
    pub attack: String,
    /// The gradient that it went through.
    pub gradient: String,
    /// Names of the classes; empty where they are not known.
    pub classes: Vec<String>,
    /// A row for each true class.
    pub rows: Vec<TargetedRow>,
    /// Pairs of image and other class that were reached.
    pub reached: Share,
}

/// Images of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetedRow {
    /// Images of it that are correct when clean: those attacked.
    pub images: usize,
    /// How many of them can be turned into each class; 0 at their own.
    pub reached: Vec<usize>,
}

/// How much longer the solver can be made to work within ε.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// The attack: on the residual at z_T.
    pub attack: String,
    /// The relative residual at which a solve is done.
    pub tolerance: f64,
    /// Steps that solves were given to reach it.
    pub horizon: usize,
    /// As the images are.
    pub clean: WorkloadSide,
    /// Where the attack ends.
    pub attacked: WorkloadSide,
}

/// Work on one kind of images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSide {
    /// Relative residual at z_T, T of the deployed solver.
    pub residual: Spread,
    /// Steps to the tolerance, of those images that reach it.
    pub steps: Spread,
    /// The most of them.
    pub most: Option<usize>,
    /// Images that do not reach it within the horizon.
    pub never: Share,
}

/// How many fixed points there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Starts {
    /// Starts of each image, one of them 0, the others random.
    pub starts: usize,
    /// The relative residual below which a solve has found a fixed point.
    pub tolerance: f64,
    /// Steps of a solve.
    pub horizon: usize,
    /// Relative distance below which two fixed points are one.
    pub cluster: f64,
    /// One entry for each kind of images.
    pub views: Vec<StartsView>,
}

/// Fixed points on one kind of images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartsView {
    /// Which images.
    pub view: View,
    /// Solves that found a fixed point.
    pub converged: Share,
    /// Distinct fixed points of an image, of those images for which any was found.
    pub distinct: Spread,
    /// Images with more than one.
    pub several: Share,
    /// Images to which different starts give different classes.
    pub disagree: Share,
    /// Accuracy of the answer from z_0 = 0.
    pub from_zero: Share,
    /// Accuracy of the answer at the iterate with the lowest residual of all starts.
    pub lowest: Share,
}
