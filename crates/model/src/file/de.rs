//! A serde deserialiser over [`Node`]: what reads the types of [`super::v1`].
//!
//! It exists for its errors. An unknown key is refused at its place with the one that was probably meant; and whatever
//! goes wrong deeper down gets the innermost position and the way to it.

use std::fmt;

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor},
};

use super::{
    Fault, Position, at, did_you_mean,
    tree::{Entry, Node, Value},
};

/// Reads a type from a tree; a fault says where and in which app.
pub(super) fn from_node<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Fault> {
    T::deserialize(Reader(node)).map_err(|error| error.into_fault(node))
}

#[derive(Debug)]
enum Step {
    Key(String),
    Item(usize),
}

/// An error on its way up.
#[derive(Debug)]
pub(super) struct ReadError {
    message: String,
    unknown_key: bool,
    hint: Option<String>,
    position: Option<Position>,
    /// Innermost first.
    way: Vec<Step>,
}

impl ReadError {
    fn new(message: String) -> Self {
        Self {
            message,
            unknown_key: false,
            hint: None,
            position: None,
            way: Vec::new(),
        }
    }

    fn at(mut self, position: Position) -> Self {
        self.position.get_or_insert(position);
        self
    }

    fn under(mut self, step: Step) -> Self {
        self.way.push(step);
        self
    }

    fn into_fault(self, root: &Node) -> Fault {
        let place = place(root, &self.way);
        let message = match (self.unknown_key, place.is_empty()) {
            (true, true) => format!("{} at the top level", self.message),
            (true, false) => format!("{} in {place}", self.message),
            (false, true) => self.message,
            (false, false) => format!("{place}: {}", self.message),
        };
        Fault {
            position: self.position,
            message,
            hint: self.hint,
        }
    }
}

/// `` `restart.backoff` of app `shop` ``.
fn place(root: &Node, way: &[Step]) -> String {
    let mut node = Some(root);
    let mut app = None;
    let mut keys: Vec<String> = Vec::new();
    for (depth, step) in way.iter().rev().enumerate() {
        let inner = node.and_then(|node| match step {
            Step::Key(key) => node.get(key),
            Step::Item(index) => node.items().get(*index),
        });
        match step {
            Step::Key(key) if depth == 1 && keys == ["apps"] => app = Some(format!("app `{key}`")),
            Step::Item(index) if depth == 1 && keys == ["apps"] => {
                let name = inner.and_then(|node| node.get("name")).and_then(Node::as_text);
                app = Some(name.map_or_else(
                    || format!("app number {}", index + 1),
                    |name| format!("app `{name}`"),
                ));
            }
            Step::Key(key) => keys.push(key.clone()),
            Step::Item(index) => {
                if let Some(last) = keys.last_mut() {
                    *last = format!("{last}[{index}]");
                }
            }
        }
        node = inner;
    }
    match app {
        Some(app) if keys.len() <= 1 => app,
        Some(app) => format!("`{}` of {app}", keys[1..].join(".")),
        None if keys.is_empty() => String::new(),
        None => format!("`{}`", keys.join(".")),
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(format!("expected {wanted}, found {}", shown(found)))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(format!("expected {wanted}, found {}", shown(found)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let choices = expected
            .iter()
            .map(|choice| format!("`{choice}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let mut error = Self::new(format!("expected one of {choices}, found `{variant}`"));
        error.hint = did_you_mean(variant, expected.iter().copied());
        error
    }

    /// Raised while the key is read, so it gets the position of the key.
    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let mut error = Self::new(format!("unknown key `{key}`"));
        error.unknown_key = true;
        error.hint = super::v1::advice(key)
            .map(str::to_owned)
            .or_else(|| did_you_mean(key, known.iter().copied()))
            .or_else(|| Some(format!("keys here are: {}", known.join(", "))));
        error
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is missing"))
    }
}

fn shown(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) if text.chars().count() <= 40 => format!("the text `{text}`"),
        Unexpected::Str(_) => "a long text".to_owned(),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}

struct Reader<'de>(&'de Node);

impl<'de> Reader<'de> {
    fn any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool { value, .. } => visitor.visit_bool(*value),
            Value::Number { raw } => number(raw, visitor),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            Value::Map(entries) => visitor.visit_map(Entries {
                entries: entries.iter(),
                value: None,
            }),
        }
    }

    fn wants_text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0.as_text() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => self.any(visitor),
        }
    }
}

fn number<'de, V: Visitor<'de>>(raw: &'de str, visitor: V) -> Result<V::Value, ReadError> {
    let plain = raw.replace('_', "");
    let radix = |prefix: &str, radix| {
        plain
            .strip_prefix(prefix)
            .and_then(|rest| u64::from_str_radix(rest, radix).ok())
    };
    if let Some(value) = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
    {
        return visitor.visit_u64(value);
    }
    if let Ok(value) = plain.parse::<u64>() {
        return visitor.visit_u64(value);
    }
    if let Ok(value) = plain.parse::<i64>() {
        return visitor.visit_i64(value);
    }
    match plain.parse::<f64>() {
        Ok(value) => visitor.visit_f64(value),
        Err(_) => visitor.visit_borrowed_str(raw),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

macro_rules! wants_number {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            let at = self.0.at;
            match &self.0.value {
                Value::Text(text) if text.trim().parse::<f64>().is_ok() => number(text.trim(), visitor),
                _ => self.any(visitor),
            }
            .map_err(|error| error.at(at))
        }
    )*};
}

macro_rules! wants_any {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            let at = self.0.at;
            self.any(visitor).map_err(|error| error.at(at))
        }
    )*};
}

macro_rules! wants_text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            let at = self.0.at;
            self.wants_text(visitor).map_err(|error| error.at(at))
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    wants_any! { deserialize_any deserialize_unit deserialize_seq deserialize_map deserialize_ignored_any
    deserialize_bytes deserialize_byte_buf }
    wants_text! { deserialize_str deserialize_string deserialize_char deserialize_identifier }
    wants_number! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
    deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let at = self.0.at;
        match self.0.as_text().and_then(truth) {
            Some(value) => visitor.visit_bool(value),
            None => Err(ReadError::new(format!(
                "expected `true` or `false`, found {}",
                self.0.kind()
            ))),
        }
        .map_err(|error| error.at(at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == at::NAME {
            visitor.visit_seq(Placed {
                node: self.0,
                part: 0,
            })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let at = self.0.at;
        match self.0.as_text() {
            Some(text) => visitor.visit_enum(IntoDeserializer::<ReadError>::into_deserializer(text)),
            None => Err(ReadError::new(format!(
                "expected one of {}, found {}",
                variants
                    .iter()
                    .map(|variant| format!("`{variant}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
                self.0.kind()
            ))),
        }
        .map_err(|error| error.at(at))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_any(visitor)
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(Reader(node))
            .map(Some)
            .map_err(|error| error.at(node.at).under(Step::Item(index)))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(entry);
        seed.deserialize(Key(entry))
            .map(Some)
            .map_err(|error| error.at(entry.key_at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let entry = self
            .value
            .take()
            .ok_or_else(|| ReadError::new("a value before its key".to_owned()))?;
        seed.deserialize(Reader(&entry.node))
            .map_err(|error| error.at(entry.node.at).under(Step::Key(entry.key.clone())))
    }
}

/// A key: a text with a place.
struct Key<'de>(&'de Entry);

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_borrowed_str(&self.0.key)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == at::NAME {
            visitor.visit_seq(PlacedKey {
                entry: self.0,
                part: 0,
            })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_enum(IntoDeserializer::<ReadError>::into_deserializer(
            self.0.key.as_str(),
        ))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// Line, column, value: what [`super::At`] reads.
struct Placed<'de> {
    node: &'de Node,
    part: u8,
}

impl<'de> de::SeqAccess<'de> for Placed<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        self.part += 1;
        match self.part {
            1 => seed.deserialize(self.node.at.line.into_deserializer()),
            2 => seed.deserialize(self.node.at.column.into_deserializer()),
            _ => seed.deserialize(Reader(self.node)),
        }
        .map(Some)
    }
}

struct PlacedKey<'de> {
    entry: &'de Entry,
    part: u8,
}

impl<'de> de::SeqAccess<'de> for PlacedKey<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        self.part += 1;
        match self.part {
            1 => seed.deserialize(self.entry.key_at.line.into_deserializer()),
            2 => seed.deserialize(self.entry.key_at.column.into_deserializer()),
            _ => seed.deserialize(Key(self.entry)),
        }
        .map(Some)
    }
}
