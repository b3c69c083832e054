//! Images that were made elsewhere join an evaluation, attributed and counted apart.

use std::fs;

use serde_json::Value;

use crate::support::{folder, refuse, succeed};
use crate::verify::evaluated;

#[test]
fn stored_images_and_siblings_are_tried_last() {
    let folder = folder();
    let at = folder.path();
    evaluated(at);
    // One step from the image itself leaves something to break.
    let evaluate = "evaluate --model model/model.safetensors --data digits --count 30 --eps 0.2 --readouts final,early(2) --attacks \
                    pgd-1 --gradients none --no-flags";
    succeed(
        at,
        &format!(
            "{evaluate} --save-adversarial --transfer siblings,final,e/adversarial-final.safetensors --out t"
        ),
    );
    let record: Value =
        serde_json::from_str(&fs::read_to_string(at.join("t/results.json")).unwrap()).unwrap();
    let model = &record["models"][0];
    let transfer = ["final", "early(2)", "final", "stored(adversarial-final)"];
    assert_eq!(model["configuration"]["transfer"], Value::from(transfer.to_vec()));
    for (readout, sibling) in model["readouts"].as_array().unwrap().iter().zip(["early(2)", "final"]) {
        let tried: Vec<(&str, &str)> = readout["attacks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|run| run["arm"] == "transferred")
            .map(|run| (run["name"].as_str().unwrap(), run["estimator"].as_str().unwrap()))
            .collect();
        let through = format!("through-solver of {sibling}");
        assert_eq!(tried, [("pgd-10", through.as_str()), ("stored(adversarial-final)", "none")]);
        let fallen = readout["examples"].as_array().unwrap().iter();
        let fallen = fallen.filter(|example| example["broken_by"]["arm"] == "transferred").count();
        assert_eq!(readout["verdict"]["transfer_only"], Value::from(fallen), "{readout}");
    }
    let only = |readout: usize| model["readouts"][readout]["verdict"]["transfer_only"].as_u64().unwrap();
    assert!(only(0) + only(1) > 0, "{record}");
    // The record of it is verified as any other, and reported.
    assert!(!succeed(at, "verify t").contains("differs"));
    let page = fs::read_to_string(at.join("t/results.md")).unwrap();
    assert!(page.contains("transferred"), "{page}");
    // An early state chosen under the true gradients too is never more robust than by a ready-made attack.
    succeed(
        at,
        "evaluate --model model/model.safetensors --data digits --count 10 --eps 0.05 --readouts early,early:whitebox --development \
         60 --attacks pgd-1 --gradients none --no-flags --out early",
    );
    let record: Value =
        serde_json::from_str(&fs::read_to_string(at.join("early/results.json")).unwrap()).unwrap();
    let chosen = |key: &str| -> Vec<f64> {
        let by_t = &record["models"][0]["configuration"][key]["robust_accuracy_by_t"];
        by_t.as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).collect()
    };
    let (ready_made, white_box) = (chosen("early"), chosen("early_whitebox"));
    assert!(ready_made.len() == 4 && ready_made.iter().sum::<f64>() > 0.0, "{ready_made:?}");
    assert!(white_box.iter().zip(&ready_made).all(|(white_box, ready_made)| white_box <= ready_made));
    refuse(at, &format!("{evaluate} --transfer nowhere.safetensors --out u"), 2, &["nowhere.safetensors"]);
    refuse(at, &format!("{evaluate} --transfer earlier --out u"), 2, &["--transfer", "siblings"]);
    refuse(at, &format!("{evaluate} --transfer early(9) --out u"), 2, &["--transfer"]);
    refuse(at, &format!("{evaluate} --transfer recipe.toml --out u"), 2, &["--transfer"]);
}
