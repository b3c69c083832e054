//! The defaults that `train --help` states are those that a run without a recipe writes into its `recipe.toml`.

use std::fs;

use toml::Value;

use crate::support::{folder, succeed};

/// What stands after `[default: ` in the help of a flag, however its lines are broken.
fn stated(flag: &str) -> String {
    let help = succeed(folder().path(), "train --help");
    let start =
        help.find(&format!("      --{flag} ")).unwrap_or_else(|| panic!("train --help has no --{flag}"));
    let end = help[start + 1..].find("\n      --").map_or(help.len(), |length| start + 1 + length);
    let text = help[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.split_once("[default: ").unwrap_or_else(|| panic!("--{flag}: no default")).1;
    text.split_once(']').unwrap().0.to_owned()
}

#[test]
fn train_states_its_defaults() {
    let folder = folder();
    let at = folder.path();
    let recipe = |flags: &str, out: &str| -> Value {
        succeed(at, &format!("train --data digits --model mdeq-digits --count 80 --out {out} {flags}"));
        toml::from_str(&fs::read_to_string(at.join(out).join("recipe.toml")).unwrap()).unwrap()
    };
    let standard = recipe("", "standard");
    let train = &standard["train"];
    let number = |value: &Value| value.to_string();
    assert_eq!(stated("epochs"), number(&train["epochs"]));
    assert_eq!(stated("batch-size"), number(&train["batch_size"]));
    assert_eq!(stated("lr"), number(&train["optimizer"]["learning_rate"]));
    assert_eq!(stated("checkpoint-steps"), number(&train["checkpoint_steps"]));
    assert_eq!(stated("development"), "500, or a tenth of the images if that is less");
    assert_eq!(train["development"].as_integer(), Some(8));
    assert_eq!(equipoise::train::TrainConfig::standard(1).development, 500);
    assert_eq!(train["optimizer"]["kind"].as_str(), Some("adam"));
    assert_eq!(train["schedule"].as_str(), Some("cosine"));
    assert_eq!(stated("gradient"), standard["deployment"]["training_gradient"].as_str().unwrap());
    for (flag, key, says) in [
        ("adversary", "adversary", "none"),
        ("clip-norm", "clip_norm", "no clipping"),
        ("patience", "early_stopping", "never"),
    ] {
        assert_eq!((stated(flag).as_str(), train.get(key)), (says, None), "--{flag}");
    }

    let pgd = &recipe("--adversary pgd --epochs 1", "pgd")["train"]["adversary"];
    let trades = &recipe("--adversary trades --epochs 1", "trades")["train"]["adversary"];
    assert_eq!(stated("pgd-steps"), format!("{} for pgd, {} for trades", pgd["steps"], trades["steps"]));
    for adversary in [pgd, trades] {
        assert_eq!(stated("eps"), "8/255 for linf; another norm needs its own");
        assert_eq!(adversary["eps"].as_float(), Some(8.0 / 255.0));
        assert_eq!(stated("norm"), adversary["norm"].as_str().unwrap());
    }
    // β is written only where it was given: the library's own stands for it.
    let beta = equipoise::train::Adversary::default().beta();
    assert_eq!((stated("beta"), trades.get("beta")), (beta.to_string(), None));
}
