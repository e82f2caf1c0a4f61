//! What holds where nothing is set, as the descriptions of the settings say it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Settings;

/// Settings lie no deeper.
const DEEP: usize = 8;

/// By `logs/free_space`: what holds if it is not set. Of what has names of its own (channels, rules) nothing is said.
pub fn defaults() -> BTreeMap<String, String> {
    let schema = schemars::schema_for!(Settings).to_value();
    let mut found = BTreeMap::new();
    walk(&schema, &schema, "", DEEP, &mut found);
    found
}

/// What a schema refers to, also where it may be `null`.
fn meant<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let one = match schema.get("anyOf").and_then(Value::as_array) {
        Some(ways) => ways
            .iter()
            .find(|way| way.get("type").and_then(Value::as_str) != Some("null"))
            .unwrap_or(schema),
        None => schema,
    };
    let reference = one.get("$ref").and_then(Value::as_str);
    let pointer = reference.and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(one)
}

fn walk(root: &Value, schema: &Value, key: &str, deep: usize, found: &mut BTreeMap<String, String>) {
    let properties = meant(root, schema).get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let key = if key.is_empty() {
            name.clone()
        } else {
            format!("{key}/{name}")
        };
        let text = property
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if let Some((_, default)) = text.split_once("Default: ") {
            let words: Vec<&str> = default.split_whitespace().collect();
            found.insert(key.clone(), words.join(" ").trim_end_matches('.').to_owned());
        } else if deep > 0 {
            walk(root, property, &key, deep - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_says_what_holds_without_it() {
        let defaults = defaults();
        assert_eq!(
            defaults.get("logs/free_space").map(String::as_str),
            Some("1G, or 5% of a disk where that is less")
        );
        assert_eq!(defaults.get("otlp").map(String::as_str), Some("nowhere"));
        assert!(defaults.len() >= 6, "{defaults:?}");
    }
}
