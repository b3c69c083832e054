//! A defended model through the ordinary commands: evaluated, verified, extended, and gradients that do not belong refused.

use std::fs;

use serde_json::Value;

use crate::support::{folder, refuse, succeed, train_longer};

#[test]
fn a_defence_is_evaluated_and_verified_like_a_readout() {
    let folder = folder();
    let at = folder.path();
    train_longer(at);
    let evaluate = "evaluate --model model/model.safetensors --data digits --eps 0.2 --attacks pgd-3,square-20 --no-flags";
    let defences =
        "--readouts final,entropy-reduction(updates=3,beta=1/255),entropy-reduction-corrected(segments=2)";
    let gradients = "--gradients shift,off(through-solver),lock-in(1,0,0,0),through-solver";
    succeed(
        at,
        &format!(
            "{evaluate} --count 16 {defences} {gradients} --save-adversarial --transfer siblings --out e"
        ),
    );
    let record = || -> Value {
        let text = fs::read_to_string(at.join("e/results.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["models"][0].take()
    };
    let names: Vec<String> = record()["readouts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|readout| readout["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "final",
            "entropy-reduction(segments=4,steps=2,updates=3,beta=1/255,rho=8/255)",
            "entropy-reduction-corrected(segments=2,steps=2,updates=10,beta=2/255,rho=8/255)"
        ]
    );
    let said = succeed(at, "verify e");
    assert!(!said.contains("differs") && said.matches("stored images as recorded").count() == 3, "{said}");
    assert!(said.contains("clean 16 of 16 as recorded"), "{said}");
    // A larger count goes on, and is verified too.
    succeed(at, "evaluate --resume --count 20 --out e");
    assert_eq!(record()["readouts"][1]["examples"].as_array().unwrap().len(), 20);
    assert!(!succeed(at, "verify e").contains("differs"));
    for (arguments, parts) in [
        ("--readouts entropy-reduction --gradients through-solver", ["--gradients", "does not go through"]),
        ("--readouts final --gradients shift", ["--gradients", "behind a defence"]),
        ("--readouts entropy-reduction --gradients lock-in(1,0)", ["2 weights", "4 segments"]),
        ("--readouts entropy-reduction(depth=2)", ["unknown setting `depth`", "segments"]),
    ] {
        refuse(at, &format!("{evaluate} --count 4 {arguments} --out no"), 2, &parts);
    }
    assert!(!at.join("no").exists());
}
