//! YAML, by serde-saphyr: anchors, aliases and merge keys are resolved, with a budget.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Options, Spanned};

use super::{Entry, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, Value};
use crate::file::{Fault, Position};

/// Reads one YAML document.
pub fn read_yaml(text: &str) -> Result<Node, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::new(
            None,
            format!("file is larger than {} MiB", MAX_BYTES >> 20),
        ));
    }
    let mut options = Options::default();
    options.with_snippet = false;
    options.strict_booleans = true;
    options.non_finite_float_policy = serde_saphyr::NonFiniteFloatPolicy::PassThrough;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = MAX_DEPTH;
        budget.max_nodes = MAX_NODES;
    }
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => finish(raw, text, 0),
        Err(error) => Err(fault(&error)),
    }
}

fn fault(error: &serde_saphyr::Error) -> Fault {
    let position = error.location().map(|location| position(&location));
    let full = error.without_snippet().to_string();
    let message = full.split(" at line ").next().unwrap_or(&full);
    if message.contains("duplicate mapping key") {
        let key = message
            .rsplit("key: ")
            .next()
            .and_then(|rest| rest.split(", set ").next())
            .unwrap_or("");
        return Fault::new(position, format!("key `{key}` is given twice"));
    }
    if message.contains("multiple YAML documents") {
        return Fault::new(position, "a second document starts here")
            .hint("one file describes one set of apps");
    }
    if message.contains("budget breached") || message.contains("limit") {
        return Fault::new(
            position,
            "it is nested too deep, or its aliases expand to too much",
        );
    }
    Fault::new(position, format!("not readable as YAML: {message}"))
}

fn position(location: &serde_saphyr::Location) -> Position {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    Position {
        line: number(location.line()),
        column: number(location.column()),
    }
}

/// What the reader gives; scalars that are not texts get their spelling from the source afterwards.
enum Raw {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;

        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
                Raw::deserialize(deserializer)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }
            fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }
            fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Text(value.to_owned()))
            }
            fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Raw, E> {
                Err(E::custom("binary values have no use here"))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Raw::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Raw::Map(map))
            }
        }

        deserializer.deserialize_any(RawVisitor)
    }
}

fn finish(raw: Spanned<Raw>, text: &str, depth: usize) -> Result<Node, Fault> {
    let at = position(&raw.referenced);
    if depth > MAX_DEPTH {
        return Err(Fault::new(at, "it is nested too deep"));
    }
    let span = raw.defined.span();
    let spelled = || {
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        text.get(start..end)
            .map(str::trim)
            .filter(|spelled| !spelled.is_empty())
            .map(str::to_owned)
    };
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool {
            value,
            raw: spelled().unwrap_or_else(|| value.to_string()),
        },
        Raw::Number(number) => Value::Number {
            raw: spelled().unwrap_or(number),
        },
        Raw::Text(text) => Value::Text(text),
        Raw::List(items) => Value::List(
            items
                .into_iter()
                .map(|item| finish(item, text, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| entry(key, value, text, depth))
                .collect::<Result<_, _>>()?,
        ),
    };
    Ok(Node { at, value })
}

fn entry(key: Spanned<Raw>, value: Spanned<Raw>, text: &str, depth: usize) -> Result<Entry, Fault> {
    let key = finish(key, text, depth + 1)?;
    let name = key
        .as_text()
        .ok_or_else(|| Fault::new(key.at, format!("{} cannot be a key", key.kind())))?;
    Ok(Entry {
        key: name.to_owned(),
        key_at: key.at,
        node: finish(value, text, depth + 1)?,
    })
}
