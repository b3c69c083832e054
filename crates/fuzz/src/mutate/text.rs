//! Damage to lines of keys and values: TOML, YAML and logs.

use super::bytes;
use crate::Choices;

/// Values that are unusual in one way or another.
pub(super) const VALUES: [&str; 34] = [
    "-1",
    "0",
    "1",
    "2",
    "7",
    "255",
    "65536",
    "4294967296",
    "1099511627776",
    "9223372036854775807",
    "18446744073709551615",
    "1e308",
    "-1e308",
    "1e-320",
    "1e400",
    "nan",
    "inf",
    "null",
    "true",
    "''",
    "\"\"",
    "[]",
    "{}",
    "[[[]]]",
    "[40000, 40000]",
    "\"<script>\"",
    "\"../../x\"",
    "\"\\u0000\"",
    "\"😀\"",
    "~",
    "*a",
    "\"early(99)\"",
    "\"unrolled:state=99,lead=1,steps=99999999\"",
    "&a [*a, *a]",
];

/// What is harmless once and not many times.
const REPEATED: [&str; 8] = ["[", "- ", "{a: ", "a.", "[[", "&a [", "\n ", "{\"a\":"];

/// Removes, repeats and moves lines, and puts other values in the places of theirs.
pub fn text(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    if choices.one_in(6) {
        return bytes(content, choices);
    }
    let mut text = String::from_utf8_lossy(content).into_owned();
    for _ in 0..choices.changes() {
        text = changed(&text, choices);
    }
    text.into_bytes()
}

fn changed(text: &str, choices: &mut Choices<'_>) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return text.to_owned();
    }
    let at = choices.below(lines.len());
    match choices.below(8) {
        0 => {
            lines.remove(at);
        }
        1 => {
            let line = lines[at].clone();
            lines.insert(choices.below(lines.len()), line);
        }
        2 => {
            let line = lines.remove(at);
            lines.insert(choices.below(lines.len() + 1), line);
        }
        3 if choices.one_in(4) => lines[at] = bomb(choices),
        4 if choices.one_in(4) => {
            let open = choices.pick(&REPEATED).repeat(choices.pick(&[3, 200, 20_000]));
            let end = lines[at].find([':', '=']).map_or(0, |end| end + 1);
            lines[at].insert_str(end, &open);
        }
        _ => lines[at] = other_value(&lines[at], choices),
    }
    lines.join("\n")
}

/// The line with another value in the place of one of its words.
fn other_value(line: &str, choices: &mut Choices<'_>) -> String {
    let separators = |c: char| c.is_whitespace() || ",:=[]{}()".contains(c);
    let words: Vec<&str> = line.split(separators).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return choices.pick(&VALUES).to_owned();
    }
    // The key is one of them, and the last word is a value.
    let word = if choices.one_in(2) { words[choices.below(words.len())] } else { words[words.len() - 1] };
    let at = word.as_ptr() as usize - line.as_ptr() as usize;
    format!("{}{}{}", &line[..at], choices.pick(&VALUES), &line[at + word.len()..])
}

/// Each line names the one before it ten times over.
fn bomb(choices: &mut Choices<'_>) -> String {
    let mut text = "b0: &b0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..=1 + choices.below(12) {
        let before = format!("*b{}", level - 1);
        text += &format!("b{level}: &b{level} [{}]\n", vec![before; 10].join(", "));
    }
    text
}
