//! Checksums: what was written is what is read, or the reader says so.
//!
//! A folder carries a file `SHA256SUMS`, which `sha256sum --check` reads too. A JSON file carries the digest of its own
//! content ([`seal`]).

use std::fs;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The file of a folder's checksums.
pub const SUMS: &str = "SHA256SUMS";

/// The key of what a clock said.
const CLOCK: &str = "seconds";

/// The SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The content of `SHA256SUMS` for some files, each a name and its contents.
pub fn sums<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    files.into_iter().map(|(name, contents)| format!("{}  {name}\n", sha256(contents))).collect()
}

/// Whether a folder's files are those that its `SHA256SUMS` was made of: nothing, or what is wrong with which file.
/// `needed` must be among them.
///
/// # Errors
///
/// What the operating system says of a file that is there and cannot be read.
pub fn damage(folder: &Path, needed: &[&str]) -> io::Result<Option<String>> {
    let there = |name: &str| match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let Some(list) = there(SUMS)? else {
        return Ok(Some(format!(
            "it has no {SUMS}: a part of it was removed, or an earlier version wrote it"
        )));
    };
    let list = String::from_utf8_lossy(&list);
    let mut missing = needed.to_vec();
    for line in list.lines() {
        let Some((sum, name)) = line.split_once("  ") else {
            return Ok(Some(format!("its {SUMS} is damaged")));
        };
        missing.retain(|needed| *needed != name);
        match there(name)? {
            None => return Ok(Some(format!("it has no {name}"))),
            Some(bytes) if sha256(&bytes) != sum => {
                return Ok(Some(format!("its {name} is not as it was written")));
            }
            Some(_) => {}
        }
    }
    Ok(missing.first().map(|name| format!("its {SUMS} lacks {name}")))
}

/// A value as JSON together with its digest. What a clock said is no part of that (the entries `seconds`): the same result
/// has the same digest.
///
/// # Errors
///
/// If the value cannot be written as JSON.
pub fn seal<T: Serialize>(value: &T) -> serde_json::Result<String> {
    let content = serde_json::to_value(value)?;
    let sum = digest(&content);
    Ok(format!("{}\n", json!({ "content": content, "sha256": sum })))
}

/// What [`seal`] was given.
///
/// # Errors
///
/// What is wrong with the text.
pub fn unseal<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sealed {
        content: Value,
        sha256: String,
    }
    let sealed: Sealed = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if digest(&sealed.content) != sealed.sha256 {
        return Err("its checksum does not match its content: it is not as it was written".to_owned());
    }
    serde_json::from_value(sealed.content).map_err(|error| error.to_string())
}

/// Of a tree's text with its keys in order.
fn digest(tree: &Value) -> String {
    sha256(without_clock(tree).to_string().as_bytes())
}

fn without_clock(tree: &Value) -> Value {
    match tree {
        Value::Object(entries) => {
            let kept = entries.iter().filter(|(key, _)| *key != CLOCK);
            kept.map(|(key, value)| (key.clone(), without_clock(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_clock).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let files: [(&str, &[u8]); 2] = [("a", b"one"), ("b", b"two")];
        for (name, contents) in files {
            fs::write(path.join(name), contents).unwrap();
        }
        let found = |needed: &[&str]| damage(path, needed).unwrap().unwrap_or_default();
        assert!(found(&["a"]).starts_with("it has no SHA256SUMS"));
        let list = sums(files);
        assert!(list.starts_with(&format!("{}  a\n", sha256(b"one"))), "{list}");
        fs::write(path.join(SUMS), &list).unwrap();
        assert_eq!(found(&["a", "b"]), "");
        assert_eq!(found(&["c"]), "its SHA256SUMS lacks c");
        fs::write(path.join("b"), "twp").unwrap();
        assert_eq!(found(&["a"]), "its b is not as it was written");
        fs::remove_file(path.join("a")).unwrap();
        assert_eq!(found(&["a"]), "it has no a");
        fs::write(path.join(SUMS), "x").unwrap();
        assert_eq!(found(&[]), "its SHA256SUMS is damaged");
    }

    #[test]
    fn a_sealed_value_is_read_back_and_no_bit_of_it_may_change() {
        let value = json!({ "a": [0.1, 1.0 / 3.0, 17], "b": { "text": "x", "seconds": 1.25 }, "c": null });
        let text = seal(&value).unwrap();
        assert_eq!(unseal(text.as_bytes()), Ok(value.clone()));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(read) = unseal::<Value>(&bytes) {
                    assert_eq!(without_clock(&read), without_clock(&value), "byte {at}, bit {bit}");
                }
            }
        }
        let mut later = value.clone();
        later["b"]["seconds"] = json!(7.5);
        let sum = |text: &str| serde_json::from_str::<Value>(text).unwrap()["sha256"].clone();
        assert_eq!(sum(&seal(&later).unwrap()), sum(&text), "only the clock differs");
        assert_eq!(unseal::<Value>(text.replace("1.25", "1.5").as_bytes()).unwrap()["b"]["seconds"], 1.5);
    }
}
