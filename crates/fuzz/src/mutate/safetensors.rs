//! Damage to safetensors files: their header, the configuration in its metadata, and the numbers.

use serde_json::Value;

use super::{bytes, json, text};
use crate::Choices;

/// Damages a part and puts the file together again, with the right length of the header but for one time in sixteen.
pub fn safetensors(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let Some((mut header, mut body)) = parts(content) else { return bytes(content, choices) };
    match choices.below(10) {
        0..4 => metadata(&mut header, choices),
        4 | 5 => bytes::floats(&mut body, choices),
        6 => json::change(&mut header, choices),
        7 => swap(&mut header, choices),
        8 => bytes::change(&mut body, choices),
        _ => return bytes(content, choices),
    }
    let header = header.to_string().into_bytes();
    let mut length = header.len() as u64;
    if choices.one_in(16) {
        length = choices.pick(&[0, 1, length - 1, length + 1, 1 << 40, u64::MAX]);
    }
    [&length.to_le_bytes()[..], &header, &body].concat()
}

fn parts(content: &[u8]) -> Option<(Value, Vec<u8>)> {
    let length = usize::try_from(u64::from_le_bytes(*content.first_chunk::<8>()?)).ok()?;
    let header = content.get(8..)?.get(..length)?;
    Some((serde_json::from_slice(header).ok()?, content[8 + length..].to_vec()))
}

/// Metadata are texts, and ours are JSON in a text.
fn metadata(header: &mut Value, choices: &mut Choices<'_>) {
    let Some(entries) = header.get_mut("__metadata__").and_then(Value::as_object_mut) else {
        return json::change(header, choices);
    };
    let at = choices.below(entries.len());
    if let Some(Value::String(entry)) = entries.values_mut().nth(at) {
        let damage = if entry.starts_with('{') { json } else { text };
        *entry = String::from_utf8_lossy(&damage(entry.as_bytes(), choices)).into_owned();
    }
}

/// Two tensors change places.
fn swap(header: &mut Value, choices: &mut Choices<'_>) {
    let Some(entries) = header.as_object_mut() else { return };
    let names: Vec<String> = entries.keys().filter(|name| *name != "__metadata__").cloned().collect();
    if names.is_empty() {
        return;
    }
    let (a, b) = (names[choices.below(names.len())].clone(), names[choices.below(names.len())].clone());
    let (of_a, of_b) = (entries[&a].clone(), entries[&b].clone());
    entries.insert(a, of_b);
    entries.insert(b, of_a);
}
