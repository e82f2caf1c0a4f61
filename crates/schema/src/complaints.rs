//! What of a schema cannot be meant.

use regex::Regex;
use serde_json::{Map, Value};

use crate::{at_reference, did_you_mean, judge::Fault, judge::escape};

/// Schemas within schemas.
const MAX_DEPTH: usize = 100;

const TYPES: &[&str] = &[
    "null", "boolean", "object", "array", "string", "number", "integer",
];

/// Keywords whose value is a schema.
const ONE: &[&str] = &[
    "not",
    "if",
    "then",
    "else",
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
];

/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];

/// Keywords whose value is schemas by name.
const NAMED: &[&str] = &[
    "properties",
    "patternProperties",
    "dependentSchemas",
    "$defs",
    "definitions",
];

const NUMBERS: &[&str] = &["maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"];

const COUNTS: &[&str] = &[
    "maxLength",
    "minLength",
    "maxItems",
    "minItems",
    "maxContains",
    "minContains",
    "maxProperties",
    "minProperties",
];

/// Keywords that only describe.
const OTHERS: &[&str] = &[
    "$schema",
    "$comment",
    "$ref",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "type",
    "enum",
    "const",
    "pattern",
    "required",
    "dependentRequired",
    "uniqueItems",
    "multipleOf",
    "contentEncoding",
    "contentMediaType",
];

/// Every place of a schema (2020-12) that cannot be meant. Who judges by a schema ignores what they do not understand, so
/// this has to be asked before a schema is trusted.
pub fn complaints(schema: &Value) -> Vec<Fault> {
    let mut found = Vec::new();
    Walk {
        root: schema,
        found: &mut found,
    }
    .schema(schema, "", 0);
    found
}

struct Walk<'a> {
    root: &'a Value,
    found: &'a mut Vec<Fault>,
}

impl Walk<'_> {
    fn say(&mut self, at: &str, message: impl Into<String>) {
        self.found.push(Fault {
            pointer: at.to_owned(),
            message: message.into(),
        });
    }

    fn schema(&mut self, schema: &Value, at: &str, depth: usize) {
        let Value::Object(schema) = schema else {
            if !schema.is_boolean() {
                self.say(at, "a schema is a map, `true` or `false`");
            }
            return;
        };
        if depth > MAX_DEPTH {
            return self.say(at, format!("it is deeper than {MAX_DEPTH}"));
        }
        for (key, value) in schema {
            let below = format!("{at}/{}", escape(key));
            match key.as_str() {
                one if ONE.contains(&one) => self.schema(value, &below, depth + 1),
                list if LIST.contains(&list) => match value {
                    Value::Array(many) => {
                        for (index, one) in many.iter().enumerate() {
                            self.schema(one, &format!("{below}/{index}"), depth + 1);
                        }
                    }
                    _ => self.say(&below, "it is a list of schemas"),
                },
                named if NAMED.contains(&named) => self.named(named, value, &below, depth),
                number if NUMBERS.contains(&number) && !value.is_number() => {
                    self.say(&below, "it is a number");
                }
                count if COUNTS.contains(&count) && !value.is_u64() => {
                    self.say(&below, "it is a whole number, 0 or more");
                }
                _ => self.plain(key, value, &below),
            }
        }
        self.strange(schema, at);
    }

    fn named(&mut self, key: &str, value: &Value, at: &str, depth: usize) {
        let Value::Object(named) = value else {
            return self.say(at, "it is a map of schemas");
        };
        for (name, one) in named {
            let below = format!("{at}/{}", escape(name));
            if key == "patternProperties" {
                self.pattern(name, &below);
            }
            self.schema(one, &below, depth + 1);
        }
    }

    fn pattern(&mut self, pattern: &str, at: &str) {
        if Regex::new(pattern).is_err() {
            let shown: String = pattern.escape_debug().take(60).collect();
            self.say(
                at,
                format!("the pattern `{shown}` cannot be read (no look-around, no back-references)"),
            );
        }
    }

    fn plain(&mut self, key: &str, value: &Value, at: &str) {
        match (key, value) {
            ("type", Value::String(name)) => self.type_name(name, at),
            ("type", Value::Array(names)) => {
                for name in names {
                    match name {
                        Value::String(name) => self.type_name(name, at),
                        _ => self.say(at, "a type is a word"),
                    }
                }
            }
            ("type", _) => self.say(at, "a type is a word or a list of words"),
            ("pattern", Value::String(pattern)) => self.pattern(pattern, at),
            ("pattern", _) => self.say(at, "a pattern is a text"),
            ("enum", value) if !value.is_array() => self.say(at, "it is a list of what is allowed"),
            ("required", value) if !is_words(value) => self.say(at, "it is a list of names"),
            ("dependentRequired", value)
                if !value
                    .as_object()
                    .is_some_and(|named| named.values().all(is_words)) =>
            {
                self.say(at, "it is a map of lists of names");
            }
            ("uniqueItems", value) if !value.is_boolean() => self.say(at, "it is `true` or `false`"),
            ("multipleOf", value) if !value.as_f64().is_some_and(|step| step > 0.0) => {
                self.say(at, "it is a number above 0");
            }
            ("$ref", Value::String(reference)) => {
                if let Err(why) = at_reference(self.root, reference) {
                    self.say(at, why);
                }
            }
            ("$id" | "$anchor" | "$dynamicRef" | "$dynamicAnchor" | "$vocabulary", _) => {
                self.say(
                    at,
                    format!("`{key}` is not followed here; use `$ref` with `#/$defs/…`"),
                );
            }
            _ => {}
        }
    }

    fn type_name(&mut self, name: &str, at: &str) {
        if TYPES.contains(&name) {
            return;
        }
        let hint = did_you_mean(name, TYPES).map(|hint| format!("; {hint}"));
        let hint = hint.unwrap_or_else(|| format!("; there are {}", TYPES.join(", ")));
        self.say(at, format!("`{}` is no type{hint}", name.escape_debug()));
    }

    /// Words that are none of the specification's and nearly one of them.
    fn strange(&mut self, schema: &Map<String, Value>, at: &str) {
        let known: Vec<&str> = [ONE, LIST, NAMED, NUMBERS, COUNTS, OTHERS].concat();
        for key in schema.keys().filter(|key| !known.contains(&key.as_str())) {
            // `did_you_mean` compares in lower case, and the words of JSON Schema have capitals.
            let near = known
                .iter()
                .find(|word| strsim::osa_distance(&word.to_lowercase(), &key.to_lowercase()) <= 1);
            if let Some(near) = near {
                self.say(
                    &format!("{at}/{}", escape(key)),
                    format!("`{}` says nothing; did you mean `{near}`?", key.escape_debug()),
                );
            }
        }
    }
}

fn is_words(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|words| words.iter().all(Value::is_string))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_let_everything_pass_is_told() {
        let schema = json!({
            "type": "object",
            "required": "name",
            "properties": {
                "a": {"type": "strin"},
                "b": {"pattern": "(?=x)"},
                "c": {"$ref": "#/$defs/no"},
                "d": {"maxlength": 3},
                "e": {"minimum": "1"},
                "f": {"allOf": {"type": "null"}},
                "g": 5,
                "h": {"$ref": "#/$defs/fine"},
                "x-note": {"x-mine": 1},
            },
            "$defs": {"fine": {"type": ["integer", "null"], "multipleOf": 0.5}},
        });
        let told: Vec<String> = complaints(&schema)
            .into_iter()
            .map(|fault| format!("{} {}", fault.pointer, fault.message))
            .collect();
        assert_eq!(
            told,
            [
                "/required it is a list of names",
                "/properties/a/type `strin` is no type; did you mean `string`?",
                "/properties/b/pattern the pattern `(?=x)` cannot be read (no look-around, no back-references)",
                "/properties/c/$ref the reference `#/$defs/no` leads nowhere",
                "/properties/d/maxlength `maxlength` says nothing; did you mean `maxLength`?",
                "/properties/e/minimum it is a number",
                "/properties/f/allOf it is a list of schemas",
                "/properties/g a schema is a map, `true` or `false`",
            ]
        );
        assert_eq!(complaints(&json!(true)), []);
    }
}
