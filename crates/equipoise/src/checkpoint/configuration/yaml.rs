//! YAML as a JSON tree: all that configurations need of it.

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// The one document of a text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
    match documents.as_slice() {
        [document] => tree(document),
        several => Err(format!("one YAML document is needed, {} are there", several.len())),
    }
}

fn tree(yaml: &Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(flag) => (*flag).into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Real(text) => {
            let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
            number.into()
        }
        Yaml::String(text) => text.as_str().into(),
        Yaml::Array(items) => items.iter().map(tree).collect::<Result<Vec<_>, _>>()?.into(),
        Yaml::Hash(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                map.insert(name(key)?, tree(value)?);
            }
            map.into()
        }
        Yaml::Alias(_) | Yaml::BadValue => {
            return Err("an alias without its anchor, or a broken value".into());
        }
    })
}

fn name(key: &Yaml) -> Result<String, String> {
    match key {
        Yaml::String(text) | Yaml::Real(text) => Ok(text.clone()),
        Yaml::Integer(number) => Ok(number.to_string()),
        Yaml::Boolean(flag) => Ok(flag.to_string()),
        other => Err(format!("{other:?} cannot be a key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trees_keep_their_types() {
        let text = "a: [1, 2.5, 1e-3]\nb: {c: 'x', d: ~, 3: true}\n# a remark\ne: &n rel\nf: *n\n";
        let expected =
            json!({"a": [1, 2.5, 1e-3], "b": {"c": "x", "d": null, "3": true}, "e": "rel", "f": "rel"});
        assert_eq!(parse(text), Ok(expected));
        assert!(parse("a: [1").is_err());
        assert!(parse("").unwrap_err().contains("0 are there"));
    }
}
