//! RobustBench's file about a model, `model_info/<dataset>/<threat>/<name>.json`: the same keys, of the same types.
//!
//! Its accuracies are percentages as text, with two decimals. `autoattack_acc` is written where a record has just the standard
//! AutoAttack, `external` is the pointwise worst of everything: RobustBench ranks by that where it is there.

use equipoise_record::{Accuracy, Arm, ReadoutResult};
use serde_json::{Value, json};

use super::Standing;
use crate::numbers;

/// The attacks of the standard AutoAttack.
const STANDARD: [&str; 4] = ["apgd-ce", "apgd-t", "fab-t", "square"];

/// What the standard AutoAttack leaves, if it is all that was tried, or all but the yardstick. Where other gradients were tried
/// too, Square has not met what they broke, and what AutoAttack alone would leave is not known.
pub(super) fn autoattack(readout: &ReadoutResult) -> Option<Accuracy> {
    let alone = readout.attacks.iter().all(|run| match run.arm {
        Arm::Opening | Arm::GradientFree => STANDARD.contains(&run.name.as_str()),
        Arm::YardstickOther | Arm::YardstickTraining => true,
        Arm::WhiteBox | Arm::ReadyMade | Arm::Aimed | Arm::Transferred => false,
    });
    let all = STANDARD.iter().all(|name| readout.attacks.iter().any(|run| run.name == *name));
    (alone && all).then_some(readout.white_box_accuracy)
}

/// RobustBench's entry of a row.
pub fn entry(row: &Standing) -> Value {
    let percent = |accuracy: Accuracy| format!("{:.2}", 100.0 * accuracy.value);
    let about = &row.about;
    let name =
        if about.name.is_empty() { format!("{} ({})", row.model, row.readout) } else { about.name.clone() };
    let mut entry = json!({
        "link": about.link,
        "name": name,
        "authors": about.authors,
        "additional_data": about.additional_data,
        "number_forward_passes": 1,
        "dataset": row.dataset,
        "venue": about.venue,
        "architecture": row.architecture,
        "eps": numbers::eps(row.eps),
        "clean_acc": percent(row.clean),
        "reported": percent(row.robust),
        "external": percent(row.robust),
        "unreliable": !row.raised.is_empty(),
        "footnote": footnote(row),
    });
    if let Some(accuracy) = row.autoattack {
        entry["autoattack_acc"] = percent(accuracy).into();
    }
    entry
}

/// Fewer than the whole test set is said where RobustBench expects all of it.
fn footnote(row: &Standing) -> String {
    let counted =
        format!("{} of {} images robust under everything tried.", row.robust.correct(), row.robust.count());
    if row.about.footnote.is_empty() { counted } else { format!("{} {counted}", row.about.footnote) }
}
