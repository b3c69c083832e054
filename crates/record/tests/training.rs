//! Logs of training runs: whole, while they are written, and damaged.

use equipoise_record::{Training, read_epochs, read_steps};

/// As `train` writes them; the second step's gradient was not finite.
const STEPS: &str = r#"{"step":1,"epoch":1,"loss":2.4,"accuracy":0.08,"learning_rate":0.001,"gradient_norm":20.5,"jacobian":null,"jacobian_norm":null,"solver_steps":8,"residual":0.26}
{"step":2,"epoch":1,"loss":2.3,"accuracy":0.11,"learning_rate":0.0009,"gradient_norm":null,"jacobian":0.5,"jacobian_norm":12.0,"solver_steps":null,"residual":null}
"#;

const EPOCHS: &str = r#"{"epoch":1,"step":7,"loss":2.3,"accuracy":0.09,"learning_rate":0.0008,"gradient_norm":8.9,"jacobian":null,"residual":0.196,"development_accuracy":0.14,"development_robust_accuracy":0.125,"best_epoch":1,"seconds":3.5}
{"epoch":2,"step":14,"loss":2.2,"accuracy":0.2,"learning_rate":0.0003,"gradient_norm":6.4,"jacobian":null,"residual":0.134,"development_accuracy":0.23,"development_robust_accuracy":0.016,"best_epoch":1,"seconds":2.9}
"#;

#[test]
fn every_field_is_read() {
    let steps = read_steps(STEPS).unwrap();
    assert_eq!((steps[0].step, steps[0].loss, steps[0].residual), (1, 2.4, Some(0.26)));
    assert_eq!((steps[1].jacobian_norm, steps[1].solver_steps), (Some(12.0), None));
    assert!(steps[1].gradient_norm.is_nan());
    let epochs = read_epochs(EPOCHS).unwrap();
    assert_eq!((epochs[1].epoch, epochs[1].step, epochs[1].best_epoch), (2, Some(14), Some(1)));
    assert_eq!(epochs[1].development_robust_accuracy, Some(0.016));
    assert_eq!((read_steps("").unwrap().len(), read_epochs("").unwrap().len()), (0, 0));
}

#[test]
fn a_log_is_readable_at_every_moment_of_its_writing() {
    let whole = read_steps(STEPS).unwrap();
    for length in 0..=STEPS.len() {
        let found = read_steps(&STEPS[..length]).unwrap_or_else(|error| panic!("{length}: {error}"));
        // A line is whole with its last brace.
        let complete = STEPS[..length].matches('}').count();
        assert_eq!(found.len(), complete, "{length}");
        assert!(found.iter().zip(&whole).all(|(a, b)| a.step == b.step && a.loss == b.loss));
    }
}

#[test]
fn damage_is_named_by_its_line() {
    let refused = |text: &str| read_steps(text).unwrap_err().to_string();
    assert!(
        refused(&STEPS.replace("\"step\":2", "\"step\":\"two\"")).starts_with("line 2: this is no step (")
    );
    assert_eq!(refused(&format!("{STEPS}{STEPS}")), "line 3: step 1 comes after step 2");
    assert!(refused(&format!("{STEPS}\n")).starts_with("line 3: "));
    // The steps in the place of the epochs.
    assert!(
        read_epochs(STEPS).unwrap_err().to_string().starts_with("line 1: this is no epoch (missing field")
    );
}

#[test]
fn a_log_of_before_there_were_steps_is_read() {
    let log = include_str!("../../../docs/reproduction/mdeq-small-pgd-at-exact-14-epochs-training.jsonl");
    let epochs = read_epochs(log).unwrap();
    assert_eq!((epochs.len(), epochs[13].epoch, epochs[13].step), (14, 14, None));
    assert!(epochs.iter().all(|epoch| epoch.gradient_norm > 0.0 && epoch.development_accuracy.is_some()));
    let early = r#"{"epoch":1,"loss":2.3,"accuracy":0.09,"learning_rate":0.0008,"seconds":3.5}"#;
    let early = read_epochs(early).unwrap();
    assert!(early[0].gradient_norm.is_nan() && early[0].residual.is_none());
}

#[test]
fn a_run_survives_json_with_what_is_not_finite() {
    let training = Training {
        model: "deq".into(),
        recipe: serde_json::Value::Null,
        finished: false,
        epochs: read_epochs(EPOCHS).unwrap(),
        steps: read_steps(STEPS).unwrap(),
    };
    let back: Training = serde_json::from_str(&serde_json::to_string(&training).unwrap()).unwrap();
    assert_eq!(back.epochs, training.epochs);
    assert!(back.steps[1].gradient_norm.is_nan() && back.steps[0] == training.steps[0]);
}
