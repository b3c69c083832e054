//! Damage to JSON as a tree.

use serde_json::{Map, Value, json};

use super::text;
use super::text::VALUES;
use crate::Choices;

/// Changes values, removes, renames and repeats parts; the result is JSON, but for one time in six.
pub fn json(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    if choices.one_in(6) {
        return text(content, choices);
    }
    let Ok(mut tree) = serde_json::from_slice::<Value>(content) else { return text(content, choices) };
    for _ in 0..choices.changes() {
        change(&mut tree, choices);
    }
    let text = tree.to_string();
    // Numbers that no tree holds.
    if choices.one_in(30) { text.replacen("0.", "1e400,0.", 1) } else { text }.into_bytes()
}

/// Damages one line of a file of JSON values, or the lines as such.
pub fn json_lines(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    if choices.one_in(3) {
        return text(content, choices);
    }
    let mut lines: Vec<Vec<u8>> = content.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = choices.below(lines.len());
    lines[at] = json(&lines[at], choices);
    lines.join(&b'\n')
}

/// Damages JSON that carries its checksum, which is made right again, but for one time in five.
pub fn sealed(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let inner =
        if choices.one_in(5) { Err(String::new()) } else { equipoise_files::unseal::<Value>(content) };
    let Ok(inner) = inner else { return json(content, choices) };
    let damaged = serde_json::from_slice::<Value>(&json(inner.to_string().as_bytes(), choices));
    let again = damaged.and_then(|damaged| equipoise_files::seal(&damaged));
    again.map_or_else(|_| json(content, choices), String::into_bytes)
}

/// One change, somewhere.
pub(super) fn change(tree: &mut Value, choices: &mut Choices<'_>) {
    let inner = match tree {
        Value::Object(map) if !map.is_empty() && !choices.one_in(6) => {
            let at = choices.below(map.len());
            map.values_mut().nth(at)
        }
        Value::Array(items) if !items.is_empty() && !choices.one_in(6) => {
            let at = choices.below(items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) => change(inner, choices),
        None => change_here(tree, choices),
    }
}

fn change_here(node: &mut Value, choices: &mut Choices<'_>) {
    let op = choices.below(6);
    match node {
        Value::Object(map) if op > 1 && !map.is_empty() => change_map(map, op, choices),
        Value::Array(items) if op > 1 && !items.is_empty() => match op {
            2 => items.truncate(choices.below(items.len())),
            3 => *items = vec![items.as_slice(); choices.pick(&[2, 10, 100])].concat(),
            4 => items.reverse(),
            _ => {
                items.remove(choices.below(items.len()));
            }
        },
        Value::Number(number) if op > 2 => {
            let value = number.as_f64().unwrap_or_default();
            *node = match choices.below(6) {
                0 => json!(-value),
                1 => json!(value + 1.0),
                2 => json!(value * 1000.0),
                3 => json!(value / 3.0),
                4 => json!(number.as_i64().unwrap_or(1).wrapping_add(1)),
                _ => json!(number.as_i64().unwrap_or(1).wrapping_neg()),
            };
        }
        Value::String(text) if op > 2 => match choices.below(4) {
            0 => {
                text.pop();
            }
            1 => *text = text.repeat(40),
            2 => text.push('\n'),
            _ => *text = text.to_uppercase(),
        },
        node if op == 1 => {
            for _ in 0..choices.pick(&[1, 5, 200]) {
                *node = Value::Array(vec![node.take()]);
            }
        }
        node => *node = value(choices),
    }
}

fn change_map(map: &mut Map<String, Value>, op: usize, choices: &mut Choices<'_>) {
    let at = choices.below(map.len());
    let Some(key) = map.keys().nth(at).cloned() else { return };
    match op {
        2 | 3 => {
            map.remove(&key);
        }
        4 => {
            let other = choices.pick(&["", "😀", "<b>", "version", "name"]);
            let taken = map[&key].clone();
            map.insert(other.to_owned(), taken);
        }
        _ => {
            map.insert(key, value(choices));
        }
    }
}

/// A value from the list, as JSON; a string where it is none.
pub(super) fn value(choices: &mut Choices<'_>) -> Value {
    let text = choices.pick(&VALUES);
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.repeat(choices.pick(&[1, 1, 1000]))))
}
