//! Everything needed to repeat a run, as it stands in `results.json`.

use equipoise::checkpoint::Metadata;
use serde_json::{Value, json};

use crate::arguments;
use crate::error::Error;
use crate::setup::Setup;

/// The command line that repeats this run, with its folder last. `--resume` is left out, and that shards were merged: they say
/// how a run came to its end, not what it is, and it has the same record as one that was not interrupted.
pub fn command_line() -> String {
    let words = std::iter::once("equipoise".to_owned()).chain(arguments::folder_last());
    words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// The end of a run that somebody asked to stop, and that can be resumed.
pub fn interrupted() -> Error {
    match arguments::all().iter().any(|argument| argument == arguments::MERGED) {
        true => Error::Interrupted("merge the folder again to go on".to_owned()),
        false => Error::Interrupted(format!("go on with `{} --resume`", command_line())),
    }
}

/// Quoted for a POSIX shell where that is needed.
pub fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,:/@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

/// What the record says of the run.
pub fn record(setup: &Setup, model: &Metadata, hash: &str, details: Value) -> Value {
    let mut record = json!({
        "equipoise": env!("CARGO_PKG_VERSION"),
        "command": command_line(),
        "device": setup.device_name,
        "threads": setup.threads,
        "model": model,
        "model_sha256": hash,
    });
    if let (Some(record), Value::Object(details)) = (record.as_object_mut(), details) {
        record.extend(details);
    }
    record
}

/// What the record of an assessment says of itself, and what only the command knows.
pub fn completed(assessed: Value, setup: &Setup, details: Value) -> Value {
    let mut record = assessed;
    let own = json!({ "command": command_line(), "device": setup.device_name, "threads": setup.threads });
    for part in [own, details] {
        if let (Some(record), Value::Object(part)) = (record.as_object_mut(), part) {
            record.extend(part);
        }
    }
    record
}
