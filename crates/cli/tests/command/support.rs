//! Runs the binary in a folder of its own, on a model small enough to be trained in a moment.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A tiny model, trained for a moment on a few digits.
pub const RECIPE: &str = r#"
name = "tiny"

[model]
kind = "mdeq"
channels = [4]
head_channels = [2]
final_channels = 8
groups = 2
expansion = 1

[deployment]
solver = { steps = 4 }

[train]
epochs = 2
batch_size = 16
development = 0
checkpoint_steps = 1

[data]
spec = "digits"
count = 48
"#;

/// An empty folder.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The command, to be run in a folder: paths in its arguments are relative to it.
pub fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_equipoise"));
    command.current_dir(folder).args(arguments.split_whitespace()).args(["--threads", "1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub fn run(folder: &Path, arguments: &str) -> Output {
    command(folder, arguments).output().expect("the command starts")
}

/// Runs it, and it must succeed. Returns stdout.
pub fn succeed(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {stderr}");
    String::from_utf8(output.stdout).expect("stdout is text")
}

/// Runs it, and it must refuse with this exit code and a one-line error that says all of `parts`.
pub fn refuse(folder: &Path, arguments: &str, code: i32, parts: &[&str]) {
    let output = run(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments}: {}", String::from_utf8_lossy(&output.stdout));
    let errors: Vec<&str> = stderr.lines().collect();
    assert!(matches!(errors.as_slice(), [line] if line.starts_with("error: ")), "{arguments}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{arguments}: no `{part}` in: {stderr}");
    }
}

/// Trains the tiny model to `model/model.safetensors`.
pub fn train_tiny(folder: &Path) {
    std::fs::write(folder.join("recipe.toml"), RECIPE).expect("writable");
    succeed(folder, "train --config recipe.toml --out model");
}

/// Trains it long enough that there is something to break, to `model/model.safetensors`; the recipe stays as `recipe.toml`.
pub fn train_longer(folder: &Path) {
    let longer =
        RECIPE.replace("epochs = 2", "epochs = 60").replace("checkpoint_steps = 1", "checkpoint_steps = 999");
    let faster = "[train]\noptimizer = { kind = \"adam\", learning_rate = 0.01 }";
    std::fs::write(folder.join("recipe.toml"), longer.replace("[train]", faster)).expect("writable");
    succeed(folder, "train --config recipe.toml --out model");
}
