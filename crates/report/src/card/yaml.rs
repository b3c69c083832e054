//! YAML for front matter: maps in their order, every string in quotes.
//!
//! In quotes no reader takes a string for a number, a date or `no`. JSON's quotes are YAML's, but for characters that
//! YAML readers refuse unless they are escaped.

use std::fmt::Write;

/// A document, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Yaml {
    Text(String),
    Number(f64),
    List(Vec<Yaml>),
    Map(Vec<(&'static str, Yaml)>),
}

impl<S: Into<String>> From<S> for Yaml {
    fn from(says: S) -> Self {
        Yaml::Text(says.into())
    }
}

impl Yaml {
    /// The lines of a document, without its marks.
    pub(super) fn document(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.trim_start_matches('\n').to_owned() + "\n"
    }

    /// What follows a key or a dash. Lists and maps begin on a line of their own.
    fn write(&self, out: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        match self {
            Yaml::Text(says) => out.push_str(&quoted(says)),
            Yaml::Number(number) => out.push_str(&number.to_string()),
            Yaml::List(items) if items.is_empty() => out.push_str("[]"),
            Yaml::Map(entries) if entries.is_empty() => out.push_str("{}"),
            Yaml::List(items) => {
                for item in items {
                    let _ = write!(out, "\n{indent}- ");
                    let from = out.len();
                    item.write(out, depth + 1);
                    // The first key of a map stands behind the dash.
                    if let Some(rest) =
                        out[from..].strip_prefix('\n').map(|rest| rest.trim_start().to_owned())
                    {
                        out.truncate(from);
                        out.push_str(&rest);
                    }
                }
            }
            Yaml::Map(entries) => {
                for (key, value) in entries {
                    let _ = write!(out, "\n{indent}{key}:");
                    let from = out.len();
                    value.write(out, depth + 1);
                    if !out[from..].starts_with('\n') {
                        out.insert(from, ' ');
                    }
                }
            }
        }
    }
}

fn quoted(says: &str) -> String {
    let mut out = String::from("\"");
    for c in says.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            _ if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use yaml_rust2::{Yaml as Parsed, YamlLoader};

    fn read(yaml: &Yaml) -> Parsed {
        let text = yaml.document();
        let mut documents =
            YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    #[test]
    fn strings_stay_strings() {
        let hostile = [
            "no",
            "1e3",
            "12:30",
            "2026-11-25",
            "~",
            "",
            " ",
            "a: b # c",
            "- x",
            "---",
            "\"q\" \\ 'r'",
            "a\nb\tc\u{1}",
            "\u{85}\u{7f}\u{2028}\u{feff}",
            "é 模 𝔸",
            "{x}",
            "&a *b !c",
            "%d",
            "`",
        ];
        let list = Yaml::List(hostile.iter().map(|says| Yaml::from(*says)).collect());
        let found = read(&Yaml::Map(vec![("all", list)]));
        let all = found["all"].as_vec().unwrap();
        for (expected, found) in hostile.iter().zip(all) {
            assert_eq!(found.as_str(), Some(*expected));
        }
    }

    #[test]
    fn lists_and_maps_keep_their_order_and_depth() {
        let pair = |a, b| Yaml::Map(vec![("a", a), ("b", b)]);
        let numbers = Yaml::List(vec![Yaml::Number(0.25), Yaml::Number(1.0), Yaml::Number(1e-7)]);
        let inner =
            Yaml::List(vec![pair("x".into(), numbers.clone()), pair(numbers, Yaml::List(Vec::new()))]);
        let tree = Yaml::Map(vec![("z", pair(inner.clone(), "y".into())), ("list", Yaml::List(vec![inner]))]);
        let found = read(&tree);
        assert_eq!(found["z"]["b"].as_str(), Some("y"));
        assert_eq!(found["z"]["a"][0]["b"][0].as_f64(), Some(0.25));
        assert_eq!(found["z"]["a"][0]["b"][1].as_i64(), Some(1));
        assert_eq!(found["z"]["a"][0]["b"][2].as_f64(), Some(1e-7));
        assert_eq!(found["z"]["a"][1]["a"].as_vec().map(Vec::len), Some(3));
        assert_eq!(found["z"]["a"][1]["b"].as_vec().map(Vec::len), Some(0));
        assert_eq!(found["list"][0][0]["a"].as_str(), Some("x"));
        let keys: Vec<&str> = found.as_hash().unwrap().keys().filter_map(|key| key.as_str()).collect();
        assert_eq!(keys, ["z", "list"]);
    }
}
