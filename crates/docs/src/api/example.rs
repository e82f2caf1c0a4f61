//! A value that a schema allows: what stands as an example in the document, else something made up.
//!
//! Made-up values are short and always the same, so that pages made twice are equal.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use upkeep_schema::at_reference;

/// Values within values: deeper than this nothing is made.
const MAX_DEPTH: usize = 12;
/// Keys of a map that need not be there are shown up to this depth,
const OPTIONAL_DEPTH: usize = 4;
/// and if they hold maps and lists themselves, up to this one: samples that go over pages teach nobody.
const OPTIONAL_PARTS_DEPTH: usize = 1;

/// Words for names, where the document gives no examples: `name: shop`.
pub type Words = BTreeMap<String, String>;

/// A value for a schema. `request` leaves out what is read-only, an answer what is write-only.
pub fn of_schema(root: &Value, schema: &Value, request: bool, words: &Words) -> Value {
    let mut maker = Maker {
        root,
        request,
        words,
        open: Vec::new(),
    };
    maker.make(schema, "", 0).unwrap_or_default()
}

struct Maker<'a> {
    root: &'a Value,
    request: bool,
    words: &'a Words,
    /// References that are being followed: one that holds itself ends there.
    open: Vec<String>,
}

impl Maker<'_> {
    /// None if the value would hold itself.
    fn make(&mut self, schema: &Value, name: &str, depth: usize) -> Option<Value> {
        let Value::Object(schema) = schema else {
            return Some(Value::Object(Map::new()));
        };
        if let Some(example) = schema.get("example") {
            return Some(example.clone());
        }
        if let Some(example) = schema.get("examples").and_then(|examples| examples.get(0)) {
            return Some(example.clone());
        }
        for key in ["const", "default"] {
            // A default of null tells a reader nothing.
            if let Some(value) = schema.get(key).filter(|value| !value.is_null()) {
                return Some(value.clone());
            }
        }
        if let Some(first) = schema.get("enum").and_then(|values| values.get(0)) {
            return Some(first.clone());
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            if self.open.iter().any(|open| open == reference) || depth > MAX_DEPTH {
                return None;
            }
            self.open.push(reference.to_owned());
            let made = at_reference(self.root, reference)
                .map_or(Some(Value::Null), |target| self.make(target, name, depth));
            self.open.pop();
            return made;
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(forms) = schema.get(key).and_then(Value::as_array) {
                // `null` is the form that shows least.
                let best = forms
                    .iter()
                    .find(|form| form["type"] != "null")
                    .or_else(|| forms.first());
                let made = best.and_then(|form| self.make(form, name, depth));
                if !schema.contains_key("properties")
                    && let Some(made) = made
                {
                    return Some(made);
                }
            }
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            let mut whole = Map::new();
            let mut other = None;
            for part in parts.iter().cloned().chain([without(schema, "allOf")]) {
                match self.make(&part, name, depth)? {
                    Value::Object(entries) => whole.extend(entries),
                    value => other = other.or(Some(value)),
                }
            }
            return Some(match other {
                Some(value) if whole.is_empty() => value,
                _ => Value::Object(whole),
            });
        }
        Some(self.typed(schema, name, depth))
    }

    /// By its type.
    fn typed(&mut self, schema: &Map<String, Value>, name: &str, depth: usize) -> Value {
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(Value::Array(kinds)) => kinds
                .iter()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null")
                .unwrap_or("null"),
            _ if schema.contains_key("properties") => "object",
            _ if schema.contains_key("items") => "array",
            _ => "object",
        };
        let least = schema
            .get("minimum")
            .filter(|least| least.as_f64().is_some_and(|least| least > 1.0))
            .cloned();
        match kind {
            "boolean" => json!(true),
            "integer" => self
                .word(name)
                .and_then(|word| word.parse::<i64>().ok())
                .map(Value::from)
                .or(least)
                .unwrap_or_else(|| whole(schema, name)),
            "number" => self
                .word(name)
                .and_then(|word| word.parse::<f64>().ok())
                .map(Value::from)
                .or(least)
                .unwrap_or_else(|| fraction(schema, name)),
            "string" => json!(text(schema, self.word(name).unwrap_or(name))),
            "null" => Value::Null,
            "array" => {
                let each = schema.get("items").filter(|_| depth < MAX_DEPTH);
                let each = each
                    .and_then(|items| self.make(items, name.strip_suffix('s').unwrap_or(name), depth + 1));
                Value::Array(each.into_iter().collect())
            }
            _ => self.object(schema, depth),
        }
    }

    fn word(&self, name: &str) -> Option<&str> {
        self.words.get(name).map(String::as_str)
    }

    fn object(&mut self, schema: &Map<String, Value>, depth: usize) -> Value {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut out = Map::new();
        let hidden = if self.request { "readOnly" } else { "writeOnly" };
        for (name, of) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let shown = of.get(hidden) != Some(&Value::Bool(true))
                && of.get("deprecated") != Some(&Value::Bool(true));
            let needed = required.contains(&name.as_str());
            let wanted = needed || (shown && depth < OPTIONAL_DEPTH);
            if !wanted {
                continue;
            }
            match self.make(of, name, depth + 1) {
                Some(Value::Object(_) | Value::Array(_)) if !needed && depth >= OPTIONAL_PARTS_DEPTH => {}
                Some(value) => drop(out.insert(name.clone(), value)),
                None if needed => drop(out.insert(name.clone(), Value::Object(Map::new()))),
                None => {}
            }
        }
        if out.is_empty()
            && let Some(more) = schema.get("additionalProperties").filter(|more| more.is_object())
        {
            let made = self.make(more, "name", depth + 1);
            out.extend(made.map(|made| ("name".to_owned(), made)));
        }
        Value::Object(out)
    }
}

fn without(schema: &Map<String, Value>, key: &str) -> Value {
    let mut rest = schema.clone();
    rest.remove(key);
    Value::Object(rest)
}

/// 2026-11-23 00:00 UTC.
const TIME: i64 = 1_795_392_000;

/// Whether a name is that of a time.
fn is_time(name: &str) -> bool {
    matches!(name, "at" | "time" | "since" | "until" | "due" | "next") || name.ends_with("_at")
}

/// A number that looks like what its name says, within its bounds.
fn whole(schema: &Map<String, Value>, name: &str) -> Value {
    let number = match name {
        _ if is_time(name) => TIME,
        "port" => 3000,
        "pid" => 4711,
        _ if name.ends_with("_ms") => 1500,
        _ if name.ends_with("_bytes") || name == "bytes" => 1_048_576,
        _ => 1,
    };
    let most = schema.get("maximum").and_then(Value::as_i64).unwrap_or(i64::MAX);
    json!(number.min(most))
}

fn fraction(schema: &Map<String, Value>, name: &str) -> Value {
    let most = schema.get("maximum").and_then(Value::as_f64).unwrap_or(f64::MAX);
    let number: f64 = if is_time(name) { 1_795_392_000.5 } else { 0.5 };
    json!(number.min(most))
}

fn text(schema: &Map<String, Value>, name: &str) -> String {
    let text = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-11-23T08:00:00Z",
        Some("date") => "2026-11-23",
        Some("time") => "08:00:00Z",
        Some("uuid") => "123e4567-e89b-42d3-a456-426614174000",
        Some("email") => "ada@example.com",
        Some("uri" | "url") => "https://example.com/",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        _ if name.is_empty() => "text",
        _ => name,
    };
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0);
    let least = usize::try_from(least).unwrap_or(0).min(256);
    let most = schema
        .get("maxLength")
        .and_then(Value::as_u64)
        .unwrap_or(u64::MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    text.chars()
        .chain(std::iter::repeat('x'))
        .take(text.chars().count().max(least).min(most))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use upkeep_schema::{Judge, Way};

    #[test]
    fn what_is_made_fits() {
        let root = json!({"components": {"schemas": {
            "tree": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "minLength": 6},
                "started_at": {"type": "integer"},
                "kind": {"enum": ["a", "b"]},
                "children": {"type": "array", "items": {"$ref": "#/components/schemas/tree"}},
                "maybe": {"oneOf": [{"type": "null"}, {"type": "integer", "minimum": 3}]},
                "some": {"type": ["null", "string"], "minLength": 3},
                "map": {"type": "object", "additionalProperties": {"type": "number"}},
                "id": {"type": "integer", "readOnly": true},
                "both": {"allOf": [{"required": ["x"], "properties": {"x": {"const": 5}}}], "properties": {"y": {"default": 7}}},
            }},
        }}});
        let schema = json!({"$ref": "#/components/schemas/tree"});
        let words = Words::from([("some".to_owned(), "a word".to_owned())]);
        let value = of_schema(&root, &schema, false, &words);
        assert_eq!(Judge::new(&root, false, Way::Response).judge(&schema, &value), []);
        assert_eq!(value["name"], "namexx");
        assert_eq!(value["both"], json!({"x": 5, "y": 7}));
        assert_eq!(value["children"], json!([]));
        assert_eq!(value["maybe"], 3);
        assert_eq!(value["some"], "a word");
        assert_eq!(value["id"], 1);
        assert_eq!(of_schema(&root, &schema, true, &words).get("id"), None);
    }
}
