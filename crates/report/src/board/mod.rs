//! A leaderboard: what stands of each network after everything that was ever tried on it.
//!
//! Evidence about the same weights, readout, images and budget makes one [`Standing`], whatever records it comes from: a point is
//! robust there if it is robust in every record. So a later attack can only lower a row, and none is lost in a weaker record.

mod page;
mod robustbench;
mod table;

pub use page::page;
pub use robustbench::entry;
pub use table::table;

use std::collections::BTreeMap;

use equipoise_record::{Accuracy, CertifiedNetwork, Evaluation, ReadoutResult};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::verdict::label;

/// A record with what lies beside it.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// What was evaluated.
    pub record: &'a Evaluation,
    /// Where the record is, as the page links to it.
    pub link: String,
    /// What people know of the model.
    pub about: About,
    /// What `verify` found of this very record, where it was asked.
    pub verified: Option<bool>,
}

/// What people know of a model, and no evaluation does; RobustBench's fields of these names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct About {
    /// Address of the paper.
    pub link: String,
    /// Name of the method.
    pub name: String,
    /// Authors.
    pub authors: String,
    /// Where it was published.
    pub venue: String,
    /// Whether the model was trained on more than the data set.
    pub additional_data: bool,
    /// What a reader should know.
    pub footnote: String,
}

/// What a row rests on, from the least up: what is refuted stays so whatever else there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// `verify` found something that differs.
    Refuted,
    /// No adversarial images were stored: what was broken is claimed.
    Claimed,
    /// Images are stored, and nobody said that he verified them.
    Stored,
    /// `verify` found nothing that differs.
    Verified,
}

impl Trust {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Stored => "images stored",
            Self::Verified => "verified",
            Self::Refuted => "REFUTED",
        }
    }
}

/// One network behind one readout within one budget, over all records of it.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The model's name in its first record.
    pub model: String,
    /// Kind and sizes, in a few words.
    pub architecture: String,
    /// SHA-256 of the weights; empty where the record has none.
    pub weights: String,
    /// The readout.
    pub readout: String,
    /// Data set and split.
    pub dataset: String,
    /// Norm of the budget.
    pub norm: String,
    /// Radius of the budget.
    pub eps: f64,
    /// Accuracy on unperturbed images.
    pub clean: Accuracy,
    /// Accuracy under the pointwise worst of all records.
    pub robust: Accuracy,
    /// The least that one record alone leaves.
    pub lowest_alone: Accuracy,
    /// The largest share of images that some certificate of the deployed network proves at this radius, and its method.
    pub certified: Option<(Accuracy, String)>,
    /// What the standard AutoAttack leaves, where a record has its four attacks through the training gradient and nothing else.
    pub autoattack: Option<Accuracy>,
    /// Findings, in the order of the records.
    pub findings: Vec<String>,
    /// Checks that were raised, each once.
    pub raised: Vec<String>,
    /// Links to the records.
    pub links: Vec<String>,
    /// What it rests on: the least of its records.
    pub trust: Trust,
    /// What people know of the model, from the first record that has any.
    pub about: About,
}

/// Why records cannot stand in one row.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{} and {}: {problem}; records with the same hashes must agree, so one of them was changed or made by another build: \
     `equipoise verify` says which", .records.0, .records.1
)]
pub struct Contradiction {
    /// The records, by their links.
    pub records: (String, String),
    /// About what.
    pub problem: String,
}

/// What must be equal for records to be evidence about the same thing.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    weights: String,
    images: String,
    deployment: String,
    readout: String,
    dataset: String,
    norm: String,
    /// Bits of the radius.
    eps: u64,
    /// Of a record without hashes, which stands alone.
    alone: usize,
}

/// Rows from records, those that keep most points first.
///
/// # Errors
///
/// [`Contradiction`] if two records of the same weights and images differ in a class, or in an answer to an unperturbed image.
pub fn standings(evidence: &[Evidence<'_>]) -> Result<Vec<Standing>, Contradiction> {
    let mut subjects: BTreeMap<Subject, Vec<(&Evidence<'_>, &ReadoutResult)>> = BTreeMap::new();
    for (place, one) in evidence.iter().enumerate() {
        for readout in &one.record.readouts {
            subjects.entry(subject(one.record, readout, place)).or_default().push((one, readout));
        }
    }
    let mut rows = subjects.into_values().map(|records| unite(&records)).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by(|a, b| {
        let order = (&a.dataset, &a.norm).cmp(&(&b.dataset, &b.norm)).then(a.eps.total_cmp(&b.eps));
        order.then(b.robust.value.total_cmp(&a.robust.value)).then(a.model.cmp(&b.model))
    });
    Ok(rows)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn subject(record: &Evaluation, readout: &ReadoutResult, place: usize) -> Subject {
    let hash = |key| text(&record.configuration, key).to_owned();
    let (weights, images) = (hash("model_sha256"), hash("images_sha256"));
    let alone = if weights.is_empty() || images.is_empty() { place + 1 } else { 0 };
    let deployment = record.configuration.pointer("/model/deployment").unwrap_or(&Value::Null);
    Subject {
        weights,
        images,
        deployment: deployment.to_string(),
        readout: readout.name.clone(),
        dataset: record.dataset.clone(),
        norm: record.norm.clone(),
        eps: record.eps.to_bits(),
        alone,
    }
}

fn unite(records: &[(&Evidence<'_>, &ReadoutResult)]) -> Result<Standing, Contradiction> {
    let (first, readout) = records[0];
    let mut robust: Vec<bool> = readout.examples.iter().map(|example| example.robust).collect();
    for (other, same) in &records[1..] {
        let differs =
            |problem: String| Contradiction { records: (first.link.clone(), other.link.clone()), problem };
        if same.examples.len() != readout.examples.len() {
            return Err(differs(format!("{} images and {}", readout.examples.len(), same.examples.len())));
        }
        for ((stands, a), b) in robust.iter_mut().zip(&readout.examples).zip(&same.examples) {
            if (a.index, a.label, a.clean_correct) != (b.index, b.label, b.clean_correct) {
                return Err(differs(format!(
                    "image {} behind {} has another class, or another answer without a perturbation",
                    a.index, readout.name
                )));
            }
            *stands &= b.robust;
        }
    }
    let count = robust.len();
    let record = first.record;
    let lowest = records.iter().map(|(_, readout)| readout.white_box_accuracy);
    let lowest = lowest.min_by(|a, b| a.value.total_cmp(&b.value)).expect("a row has a record");
    let findings = records.iter().map(|(_, readout)| label(&readout.verdict).to_owned()).collect();
    let mut raised: Vec<String> = Vec::new();
    for flag in records.iter().flat_map(|(_, readout)| &readout.flags).filter(|flag| flag.raised) {
        if !raised.contains(&flag.name) {
            raised.push(flag.name.clone());
        }
    }
    Ok(Standing {
        model: record.model.clone(),
        architecture: architecture(record),
        weights: text(&record.configuration, "model_sha256").to_owned(),
        readout: readout.name.clone(),
        dataset: record.dataset.clone(),
        norm: record.norm.clone(),
        eps: record.eps,
        clean: readout.clean_accuracy,
        robust: Accuracy::new(robust.iter().filter(|&&stands| stands).count(), count),
        lowest_alone: lowest,
        certified: certified(records, record),
        autoattack: records.iter().find_map(|(_, readout)| robustbench::autoattack(readout)),
        findings,
        raised,
        links: records.iter().map(|(evidence, _)| evidence.link.clone()).collect(),
        trust: records
            .iter()
            .map(|(evidence, readout)| trust(evidence, readout))
            .min()
            .expect("a row has a record"),
        about: records
            .iter()
            .map(|(evidence, _)| &evidence.about)
            .find(|about| **about != About::default())
            .cloned()
            .unwrap_or_default(),
    })
}

/// The most that a certificate of the deployed network shows of the row's images, by its method.
fn certified(records: &[(&Evidence<'_>, &ReadoutResult)], row: &Evaluation) -> Option<(Accuracy, String)> {
    let deployed =
        records.iter().flat_map(|(_, readout)| readout.certificates.iter().map(move |one| (*readout, one)));
    let deployed =
        deployed.filter(|(_, one)| one.network == CertifiedNetwork::Deployed && one.norm == row.norm);
    let shares = deployed.map(|(readout, one)| {
        let label = |index| {
            readout.examples.iter().find(|example| example.index == index).map(|example| example.label)
        };
        let holds = one
            .examples
            .iter()
            .filter(|example| label(example.index).is_some_and(|class| example.holds(class, row.eps)));
        (Accuracy::new(holds.count(), one.examples.len()), one.method.clone())
    });
    shares.max_by(|a, b| a.0.value.total_cmp(&b.0.value))
}

fn trust(evidence: &Evidence<'_>, readout: &ReadoutResult) -> Trust {
    let stored = evidence
        .record
        .configuration
        .pointer("/adversarial_sha256")
        .and_then(|files| files.get(&readout.name));
    match (evidence.verified, stored) {
        (Some(false), _) => Trust::Refuted,
        (_, None) => Trust::Claimed,
        (None, Some(_)) => Trust::Stored,
        (Some(true), Some(_)) => Trust::Verified,
    }
}

/// `mdeq, 8/16 channels`, `resnet18, width 3`.
fn architecture(record: &Evaluation) -> String {
    let Some(described) = record.configuration.pointer("/model/architecture") else { return String::new() };
    let name =
        described.get("kind").or_else(|| described.get("name")).and_then(Value::as_str).unwrap_or_default();
    let numbers = |value: &Value| {
        let list = value.as_array()?;
        Some(list.iter().map(Value::to_string).collect::<Vec<_>>().join("/"))
    };
    let size = described
        .get("channels")
        .and_then(numbers)
        .map(|channels| format!(", {channels} channels"))
        .or_else(|| Some(format!(", width {}", described.get("width")?)));
    format!("{name}{}", size.unwrap_or_default())
}
