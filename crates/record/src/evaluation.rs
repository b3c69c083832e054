//! The content of `results.json`: models, readouts, runs, and what became of every example.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{
    Accuracy, Certificate, Diagnosis, Flag, Gallery, Plan, RandomnessResult, Training, Verdict, accuracy,
};

/// The version of the `results.json` format that this crate writes.
pub const FORMAT_VERSION: u32 = 2;

/// Models evaluated: the content of `results.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Collection {
    /// Format version, [`FORMAT_VERSION`] when written by this build.
    pub version: u32,
    /// The evaluations, in the order that they should be shown.
    pub models: Vec<Evaluation>,
    /// Diagnoses reported together with them.
    #[serde(default)]
    pub diagnoses: Vec<Diagnosis>,
    /// Training runs reported together with them.
    #[serde(default)]
    pub trainings: Vec<Training>,
}

/// One model, evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")] // Serde's own part of reading and writing: accuracies get their counts beyond it.
pub struct Evaluation {
    /// Format version, [`FORMAT_VERSION`] when written by this build.
    pub version: u32,
    /// A short name for the model, as it should stand in tables.
    pub model: String,
    /// Everything needed to repeat the run: command line, model and attack configuration, versions.
    pub configuration: Value,
    /// The data set and split, in words that may be quoted ("CIFAR-10 (JPEG), test").
    pub dataset: String,
    /// Names of the classes, in their order; empty where they are not known.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Norm of the budget: `linf`, `l2` or `l1`.
    pub norm: String,
    /// Radius of the budget, in units of pixel intensity (images lie in \[0, 1\]). Of several the largest.
    pub eps: f64,
    /// The seed that all random numbers were derived from.
    pub seed: u64,
    /// Number of examples evaluated.
    pub count: usize,
    /// Clean accuracy of the first readout, which is the one the model is deployed with.
    #[serde(flatten, with = "accuracy::clean")]
    pub clean_accuracy: Accuracy,
    /// One entry for each readout, in the order evaluated.
    pub readouts: Vec<ReadoutResult>,
}

impl Serialize for Evaluation {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Evaluation {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut evaluation = Self::deserialize(from)?;
        let n = evaluation.count;
        let accuracies = |accuracy: &mut Accuracy| *accuracy = accuracy.of(n);
        accuracies(&mut evaluation.clean_accuracy);
        for readout in &mut evaluation.readouts {
            readout.accuracies().for_each(accuracies);
            readout.radii.iter_mut().flat_map(RadiusResult::accuracies).for_each(accuracies);
            readout.attacks.iter_mut().map(|run| &mut run.accuracy).for_each(accuracies);
            readout.certificates.iter_mut().for_each(Certificate::count);
        }
        Ok(evaluation)
    }
}

/// What became of the examples under one readout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadoutResult {
    /// The readout: `final`, `early(5)`, `ensemble-states`, `ensemble-logits`; or the defence: `entropy-reduction`.
    pub name: String,
    /// Accuracy on unperturbed images.
    #[serde(flatten, with = "accuracy::clean")]
    pub clean_accuracy: Accuracy,
    /// Accuracy under the ready-made attacks alone, opening and twins: as many runs as through other gradients.
    /// Absent when none was run.
    #[serde(flatten, with = "accuracy::ready_made")]
    pub ready_made_accuracy: Option<Accuracy>,
    /// Accuracy under the opening alone: each ready-made attack once.
    #[serde(flatten, with = "accuracy::opening")]
    pub ready_made_opening_accuracy: Option<Accuracy>,
    /// Per-example worst case over everything that was tried.
    #[serde(flatten, with = "accuracy::white_box")]
    pub white_box_accuracy: Accuracy,
    /// The verdict at the largest radius.
    pub verdict: Verdict,
    /// Where several radii were asked for, each of them from the smallest up, the largest too.
    pub radii: Vec<RadiusResult>,
    /// All runs, in the order in which they were done.
    pub attacks: Vec<AttackResult>,
    /// Every example, in the order of the data set.
    pub examples: Vec<ExampleResult>,
    /// Checks for gradient obfuscation, raised or not.
    #[serde(default)]
    pub flags: Vec<Flag>,
    /// What was to be tried and what was not.
    #[serde(default)]
    pub plan: Option<Plan>,
    /// Some of the adversarial images, where they were saved.
    #[serde(default)]
    pub gallery: Option<Gallery>,
    /// What one draw of a model is worth that draws random numbers. Left out where nothing is drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub randomness: Option<RandomnessResult>,
    /// Lower bounds, one for each method. Left out where nothing was certified: records of earlier builds are written as
    /// they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
}

impl ReadoutResult {
    fn accuracies(&mut self) -> impl Iterator<Item = &mut Accuracy> {
        let Self {
            clean_accuracy, ready_made_accuracy, ready_made_opening_accuracy, white_box_accuracy, ..
        } = self;
        let optional = [ready_made_accuracy, ready_made_opening_accuracy].into_iter().flatten();
        [clean_accuracy, white_box_accuracy].into_iter().chain(optional)
    }
}

/// One radius of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RadiusResult {
    /// The radius.
    pub eps: f64,
    /// Accuracy on unperturbed images: the same at every radius.
    #[serde(flatten, with = "accuracy::clean")]
    pub clean_accuracy: Accuracy,
    /// As in [`ReadoutResult`].
    #[serde(flatten, with = "accuracy::ready_made")]
    pub ready_made_accuracy: Option<Accuracy>,
    /// As in [`ReadoutResult`].
    #[serde(flatten, with = "accuracy::opening")]
    pub ready_made_opening_accuracy: Option<Accuracy>,
    /// As in [`ReadoutResult`].
    #[serde(flatten, with = "accuracy::white_box")]
    pub white_box_accuracy: Accuracy,
    /// The verdict at this radius.
    pub verdict: Verdict,
}

impl RadiusResult {
    /// What a readout's record says at its largest radius, or its only one.
    pub fn of(eps: f64, readout: &ReadoutResult) -> Self {
        Self {
            eps,
            clean_accuracy: readout.clean_accuracy,
            ready_made_accuracy: readout.ready_made_accuracy,
            ready_made_opening_accuracy: readout.ready_made_opening_accuracy,
            white_box_accuracy: readout.white_box_accuracy,
            verdict: readout.verdict.clone(),
        }
    }

    fn accuracies(&mut self) -> impl Iterator<Item = &mut Accuracy> {
        let Self {
            clean_accuracy, ready_made_accuracy, ready_made_opening_accuracy, white_box_accuracy, ..
        } = self;
        let optional = [ready_made_accuracy, ready_made_opening_accuracy].into_iter().flatten();
        [clean_accuracy, white_box_accuracy].into_iter().chain(optional)
    }
}

/// The part that a run plays in an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// A ready-made attack, once.
    Opening,
    /// Through another gradient.
    WhiteBox,
    /// The twin of a run through another gradient: from the same start, through the training gradient.
    ReadyMade,
    /// Without gradients, on what withstood everything else.
    GradientFree,
    /// Through the training method pointed at the readout, from the same start.
    Aimed,
    /// One gradient against one, on all points that are correct when clean: the other gradient.
    YardstickOther,
    /// The same for the training gradient.
    YardstickTraining,
    /// Images that were not made against the model behind this readout, on what withstood everything else.
    Transferred,
}

impl Arm {
    /// Every arm, in the order in which one that broke a point is named: the contract's four, then the others.
    pub const ALL: [Self; 8] = [
        Self::Opening,
        Self::WhiteBox,
        Self::ReadyMade,
        Self::GradientFree,
        Self::Aimed,
        Self::YardstickOther,
        Self::YardstickTraining,
        Self::Transferred,
    ];

    /// The name in records: `opening`, `white-box`, ..
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::WhiteBox => "white-box",
            Self::ReadyMade => "ready-made",
            Self::GradientFree => "gradient-free",
            Self::Aimed => "aimed",
            Self::YardstickOther => "yardstick-other",
            Self::YardstickTraining => "yardstick-training",
            Self::Transferred => "transferred",
        }
    }
}

/// What stands in the place of a gradient estimator for an attack that asks for none.
pub const NO_GRADIENT: &str = "none";

/// One run: one attack from one start through one gradient estimator.
///
/// It meets only the points that stand in its arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackResult {
    /// The attack: `pgd-10`, `apgd-ce`, `square`, ...
    pub name: String,
    /// The gradient estimator that the attack saw, or `none` for a gradient-free attack.
    pub estimator: String,
    /// The part it plays.
    pub arm: Arm,
    /// Its place in its arm, from 0: what `broken_in` of an example refers to.
    pub run: usize,
    /// The number that keys its random start.
    pub start: usize,
    /// Whether it went through the model's own training gradient.
    pub ready_made: bool,
    /// Robust accuracy **after** this run: the share of all points that are classified correctly when clean and
    /// stand after this run and all before it, whatever their arms.
    #[serde(flatten, with = "accuracy::plain")]
    pub accuracy: Accuracy,
    /// Points that were attacked: those standing in its arm.
    pub attempted: usize,
    /// Points that this run broke.
    pub broken: usize,
    /// Points that this run broke at a smaller radius, which count as broken here without an attack.
    pub carried: usize,
    /// Claimed successes that the independent forward pass on the stored image did not confirm. They are
    /// not counted as broken.
    pub unconfirmed: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Cell evaluations, counted per example (one evaluation of a batch of 32 counts 32).
    pub cell_evaluations: u64,
    /// Vector-Jacobian products of the cell, counted per example.
    pub vjps: u64,
}

impl AttackResult {
    /// The gradient estimator, where the attack asked for gradients.
    pub fn gradient(&self) -> Option<&str> {
        gradient(&self.estimator)
    }
}

/// The gradient estimator of this name in a record; `None` for [`NO_GRADIENT`].
pub fn gradient(estimator: &str) -> Option<&str> {
    (estimator != NO_GRADIENT).then_some(estimator)
}

/// One example under one readout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExampleResult {
    /// Index in the data set's split.
    pub index: usize,
    /// True class.
    pub label: usize,
    /// Whether the unperturbed image is classified correctly.
    pub clean_correct: bool,
    /// Whether the point survived everything: false if misclassified when clean.
    pub robust: bool,
    /// For each arm the run that broke it there.
    pub broken_in: BrokenIn,
    /// The first run that broke it, in the order of [`Arm::ALL`]; absent for a robust point and for one that was
    /// misclassified when clean.
    pub broken_by: Option<BrokenBy>,
    /// The class that the model gave the unperturbed image; absent where its logits were not finite.
    pub clean_prediction: Option<usize>,
    /// The class that it gave the adversarial image of the run in `broken_by`; absent where there is none, or where
    /// the logits were not finite.
    pub adversarial_prediction: Option<usize>,
    /// Whether the model's logits were not finite on the clean or on the adversarial image.
    #[serde(default)]
    pub non_finite: bool,
}

/// The run of each arm that broke a point: an index into the runs of that arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenIn {
    /// In the opening.
    pub opening: Option<usize>,
    /// In the white-box arm.
    pub white_box: Option<usize>,
    /// In the ready-made arm.
    pub ready_made: Option<usize>,
    /// By a gradient-free run.
    pub gradient_free: Option<usize>,
    /// In the aimed arm.
    #[serde(default)]
    pub aimed: Option<usize>,
    /// On the yardstick, by the other gradient.
    #[serde(default)]
    pub yardstick_other: Option<usize>,
    /// On the yardstick, by the training gradient.
    #[serde(default)]
    pub yardstick_training: Option<usize>,
    /// By transferred images.
    #[serde(default)]
    pub transferred: Option<usize>,
}

impl BrokenIn {
    /// The run of an arm.
    pub fn get(&self, arm: Arm) -> Option<usize> {
        match arm {
            Arm::Opening => self.opening,
            Arm::WhiteBox => self.white_box,
            Arm::ReadyMade => self.ready_made,
            Arm::GradientFree => self.gradient_free,
            Arm::Aimed => self.aimed,
            Arm::YardstickOther => self.yardstick_other,
            Arm::YardstickTraining => self.yardstick_training,
            Arm::Transferred => self.transferred,
        }
    }

    /// The place of an arm's run.
    pub fn get_mut(&mut self, arm: Arm) -> &mut Option<usize> {
        match arm {
            Arm::Opening => &mut self.opening,
            Arm::WhiteBox => &mut self.white_box,
            Arm::ReadyMade => &mut self.ready_made,
            Arm::GradientFree => &mut self.gradient_free,
            Arm::Aimed => &mut self.aimed,
            Arm::YardstickOther => &mut self.yardstick_other,
            Arm::YardstickTraining => &mut self.yardstick_training,
            Arm::Transferred => &mut self.transferred,
        }
    }

    /// The first arm that broke it, in the order of [`Arm::ALL`], with its run.
    pub fn first(&self) -> Option<(Arm, usize)> {
        Arm::ALL.into_iter().find_map(|arm| Some((arm, self.get(arm)?)))
    }
}

/// The run that broke a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenBy {
    /// Its arm.
    pub arm: Arm,
    /// The attack.
    pub attack: String,
    /// The gradient estimator, or `none`.
    pub estimator: String,
    /// The number that keyed its random start.
    pub start: usize,
}

impl BrokenBy {
    /// `attack/estimator`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.attack, self.estimator)
    }
}
