//! Records verified, as they were written and after edits by hand.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{folder, refuse, run, succeed, train_longer};

/// A model that there is something to break of, and its evaluation with stored images.
pub fn evaluated(at: &Path) {
    train_longer(at);
    succeed(
        at,
        "evaluate --model model/model.safetensors --data digits --count 30 --eps 0.2 --readouts final,early(2) --attacks pgd-5 \
         --gradients none --no-flags --save-adversarial --out e",
    );
}

fn edited(at: &Path, edit: impl Fn(&mut Value)) {
    let path = at.join("e/results.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    edit(&mut record["models"][0]);
    fs::write(path, serde_json::to_string(&record).unwrap()).unwrap();
}

/// It ends with 1, and says all of `parts` on either stream.
fn differs(at: &Path, arguments: &str, parts: &[&str]) {
    let output = run(at, arguments);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments}: {said}");
    for part in parts {
        assert!(said.contains(part), "{arguments}: no `{part}` in: {said}");
    }
}

#[test]
fn a_record_is_verified_and_edits_are_found() {
    let folder = folder();
    let at = folder.path();
    evaluated(at);
    let said = succeed(at, "verify e");
    for part in ["weights          as recorded", "images           as recorded", "clean 30 of 30 as recorded"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert!(said.matches("stored images as recorded").count() == 2 && !said.contains("differs"), "{said}");
    assert_eq!(said, succeed(at, "verify e/results.json --batch-size 7"));
    let json: Value = serde_json::from_str(&succeed(at, "verify e --json")).unwrap();
    assert_eq!(json["verified"], true);
    let broken = &json["models"][0]["readouts"][0]["broken"];
    assert!(broken["checked"].as_u64().unwrap() > 3 && broken["checked"] == broken["verified"], "{broken}");

    let honest = fs::read(at.join("e/results.json")).unwrap();
    let restore = || fs::write(at.join("e/results.json"), &honest).unwrap();
    // What contradicts the record itself is found before anything is computed.
    edited(at, |model| model["readouts"][0]["white_box_accuracy"] = 0.9.into());
    refuse(at, "verify e", 2, &["white_box_accuracy", "30 examples are robust"]);
    restore();
    // What does not, by the model: another class of an image that is misclassified anyway, and of an adversarial one.
    edited(at, |model| {
        let examples = model["readouts"][0]["examples"].as_array_mut().unwrap();
        let wrong = examples.iter_mut().find(|example| example["clean_correct"] == false).unwrap();
        let (label, class) = (wrong["label"].as_u64().unwrap(), wrong["clean_prediction"].as_u64().unwrap());
        wrong["clean_prediction"] = (0..10).find(|other| *other != label && *other != class).unwrap().into();
    });
    differs(at, "verify e", &["clean 29 of 30", "differs: final, image", "one thing differs"]);
    restore();
    edited(at, |model| {
        let examples = model["readouts"][1]["examples"].as_array_mut().unwrap();
        let broken = examples.iter_mut().find(|example| !example["broken_by"].is_null()).unwrap();
        let (label, class) =
            (broken["label"].as_u64().unwrap(), broken["adversarial_prediction"].as_u64().unwrap());
        broken["adversarial_prediction"] =
            (0..10).find(|other| *other != label && *other != class).unwrap().into();
    });
    differs(at, "verify e", &["differs: early(2), image", "to its stored image"]);
    restore();
    edited(at, |model| model["configuration"]["images_sha256"] = "00".into());
    differs(at, "verify e", &["images           ANOTHER than recorded"]);
    restore();
    edited(at, |model| model["configuration"]["model_sha256"] = "00".into());
    differs(at, "verify e", &["weights          ANOTHER than recorded", "nothing else was checked"]);
    restore();
    edited(at, |model| model["configuration"]["split"] = "train".into());
    differs(at, "verify e", &["images           ANOTHER", "its class is"]);
    restore();

    // Other stored images: those of another seed, and none.
    succeed(
        at,
        "evaluate --model model/model.safetensors --data digits --count 30 --eps 0.2 --readouts final,early(2) --attacks pgd-5 \
         --gradients none --no-flags --save-adversarial --seed 1 --out other",
    );
    let own = fs::read(at.join("e/adversarial-final.safetensors")).unwrap();
    fs::copy(at.join("other/adversarial-final.safetensors"), at.join("e/adversarial-final.safetensors"))
        .unwrap();
    differs(at, "verify e", &["stored images ANOTHER than recorded"]);
    fs::remove_file(at.join("e/adversarial-final.safetensors")).unwrap();
    let said = succeed(at, "verify e");
    assert!(said.contains("claimed, no images of them are stored"), "{said}");
    let mut cut = own.clone();
    cut.truncate(own.len() - 4);
    fs::write(at.join("e/adversarial-final.safetensors"), cut).unwrap();
    refuse(at, "verify e", 2, &["adversarial-final.safetensors", "no complete file"]);
    fs::write(at.join("e/adversarial-final.safetensors"), own).unwrap();

    // Files elsewhere.
    fs::rename(at.join("model"), at.join("moved")).unwrap();
    refuse(at, "verify e", 2, &["model/model.safetensors"]);
    succeed(at, "verify e --model moved/model.safetensors");
    succeed(at, "train --config recipe.toml --seed 1 --epochs 1 --out second");
    differs(at, "verify e --model second/model.safetensors", &["ANOTHER than recorded"]);
    refuse(at, "verify nowhere", 2, &["nowhere"]);
    refuse(at, "verify e --batch-size 0", 2, &["--batch-size 0"]);
}
