//! YAML as a JSON tree: all that configurations need of it.
//!
//! The parser's events are turned into a tree here, because a loader that expands aliases and descends into lists as a
//! file asks for can be made to take any amount of memory and stack by a few hundred bytes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use yaml_rust2::Yaml;
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

/// How deep lists and tables may be nested. The release's files have four levels.
const MAX_DEPTH: usize = 64;
/// The most bytes of values and keys, each counted anew where an alias repeats it.
const MAX_EXPANDED: usize = 4 << 20;
/// What a value costs beside its text.
const COST: usize = 32;

/// The one document of a text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    loop {
        match parser.next_token().map_err(|error| error.to_string())? {
            (Event::StreamEnd, _) => break,
            (event, at) => builder.take(event).map_err(|problem| located(&problem, at))?,
        }
    }
    match builder.documents {
        1 => builder.root.ok_or_else(|| "the document is empty".into()),
        several => Err(format!("one YAML document is needed, {several} are there")),
    }
}

fn located(problem: &str, at: Marker) -> String {
    format!("{problem} at line {} column {}", at.line(), at.col() + 1)
}

/// The tree so far.
#[derive(Default)]
struct Builder {
    documents: usize,
    root: Option<Value>,
    /// Lists and tables that are not complete, the outermost first.
    open: Vec<Open>,
    /// Complete values by the parser's number of their anchor, and what each costs.
    anchors: BTreeMap<usize, (Value, usize)>,
    /// What everything costs so far.
    cost: usize,
}

/// A list or table that is not complete.
struct Open {
    content: Content,
    anchor: usize,
    /// What everything before it costs.
    from: usize,
}

enum Content {
    List(Vec<Value>),
    /// The entries, and the key whose value comes next.
    Table(Map<String, Value>, Option<String>),
}

impl Builder {
    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart => {
                self.documents += 1;
                Ok(())
            }
            Event::SequenceStart(anchor, _) => self.begin(Content::List(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.begin(Content::Table(Map::new(), None), anchor),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(text.len() + COST)?;
                let cost = text.len() + COST;
                let is_text = tag.is_some_and(|tag| tag.suffix == "str");
                let value = match style {
                    TScalarStyle::Plain if !is_text => plain(&text)?,
                    _ => text.into(),
                };
                self.complete(value, anchor, cost)
            }
            Event::Alias(anchor) => {
                let Some((value, cost)) = self.anchors.get(&anchor) else {
                    return Err("an alias without its anchor".into());
                };
                let (cost, over) = (*cost, self.cost + cost > MAX_EXPANDED);
                // Nothing is copied that is too much.
                let value = if over { Value::Null } else { value.clone() };
                self.spend(cost)?;
                self.complete(value, 0, cost)
            }
        }
    }

    fn spend(&mut self, cost: usize) -> Result<(), String> {
        self.cost += cost;
        match self.cost <= MAX_EXPANDED {
            true => Ok(()),
            false => Err(format!("more than {MAX_EXPANDED} bytes of values, aliases expanded")),
        }
    }

    fn begin(&mut self, content: Content, anchor: usize) -> Result<(), String> {
        if self.open.len() == MAX_DEPTH {
            return Err(format!("lists and tables are nested more than {MAX_DEPTH} deep"));
        }
        self.open.push(Open { content, anchor, from: self.cost });
        self.spend(COST)
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(Open { content, anchor, from }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => items.into(),
            Content::Table(entries, _) => entries.into(),
        };
        self.complete(value, anchor, self.cost - from)
    }

    /// Puts a value where it belongs: into what is open, or at the root.
    fn complete(&mut self, value: Value, anchor: usize, cost: usize) -> Result<(), String> {
        if anchor > 0 {
            self.spend(cost)?;
            self.anchors.insert(anchor, (value.clone(), cost));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(value),
            Some(Content::List(items)) => items.push(value),
            Some(Content::Table(entries, key)) => match key.take() {
                None => *key = Some(name(value)?),
                Some(key) if entries.contains_key(&key) => {
                    return Err(format!("the key `{key}` is there twice"));
                }
                Some(key) => {
                    entries.insert(key, value);
                }
            },
        }
        Ok(())
    }
}

/// A value without quotes.
fn plain(text: &str) -> Result<Value, String> {
    Ok(match Yaml::from_str(text) {
        Yaml::Null => Value::Null,
        Yaml::Boolean(flag) => flag.into(),
        Yaml::Integer(number) => number.into(),
        Yaml::Real(text) => {
            let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
            number.into()
        }
        _ => text.into(),
    })
}

fn name(key: Value) -> Result<String, String> {
    match key {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err("a list, a table or nothing cannot be a key".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trees_keep_their_types() {
        let text = "a: [1, 2.5, 1e-3]\nb: {c: 'x', d: ~, 3: true}\n# a remark\ne: &n rel\nf: *n\ng: !!str 5\nh: '5'\n";
        let expected = json!({
            "a": [1, 2.5, 1e-3], "b": {"c": "x", "d": null, "3": true}, "e": "rel", "f": "rel", "g": "5", "h": "5"
        });
        assert_eq!(parse(text), Ok(expected));
        let nested = "- &list [a, [b]]\n- x: *list\n  y: *list\n- []\n- {}\n";
        assert_eq!(parse(nested), Ok(json!([["a", ["b"]], {"x": ["a", ["b"]], "y": ["a", ["b"]]}, [], {}])));
        assert!(parse("a: [1").is_err());
        assert!(parse("").unwrap_err().contains("0 are there"));
        assert!(parse("a: 1\n---\nb: 2\n").unwrap_err().contains("2 are there"));
        assert!(parse("? [a]\n: b\n").unwrap_err().contains("key at line 1"));
        assert!(parse("a: 1\na: 2\n").unwrap_err().contains("`a` is there twice at line 2"));
        assert!(parse("a: &a [*a]\n").unwrap_err().contains("without its anchor"));
    }

    #[test]
    fn bombs_are_refused_before_they_grow() {
        let mut aliases = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (name, before) in ('b'..='z').zip('a'..) {
            aliases +=
                &format!("{name}: &{name} [*{before},*{before},*{before},*{before},*{before},*{before}]\n");
        }
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(1_000));
        for bomb in [aliases, long] {
            assert!(parse(&bomb).unwrap_err().contains("aliases expanded"), "{}", &bomb[..80]);
        }
        for deep in
            ["- ".repeat(20_000) + "x", "[".repeat(20_000), "{a: ".repeat(20_000), "? ".repeat(20_000)]
        {
            let problem = parse(&deep).unwrap_err();
            assert!(problem.contains("deep") || problem.contains("recursion limit"), "{problem}");
        }
        assert!(parse(&("- ".repeat(MAX_DEPTH) + "x")).is_ok());
    }
}
