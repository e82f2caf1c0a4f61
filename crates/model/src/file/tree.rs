//! One tree for YAML, TOML and JSON.

use super::Position;

mod json;
mod toml;
mod yaml;

pub use self::{
    json::{Dialect, read_json},
    toml::read_toml,
    yaml::read_yaml,
};

/// Deeper than this nothing is read.
pub const MAX_DEPTH: usize = 64;
/// More nodes than this, aliases expanded, nothing is read.
pub const MAX_NODES: usize = 50_000;
/// Nothing longer than this is read.
pub const MAX_BYTES: usize = 4 << 20;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing: `null`, `~`, an empty value.
    Null,
    /// `true` or `false`, and how it was spelled.
    Bool {
        /// The value.
        value: bool,
        /// The spelling.
        raw: String,
    },
    /// A number or a date, as it was spelled.
    Number {
        /// The spelling.
        raw: String,
    },
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file; keys are unique.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_at: Position,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The text of a scalar as it was written.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Bool { raw, .. } | Value::Number { raw } | Value::Text(raw) => Some(raw),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The value under a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// The entries of a map; none if it is something else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Bool { .. } | Value::Number { .. } | Value::Text(_) | Value::List(_) => &[],
        }
    }

    /// The items of a list; none if it is something else.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Null | Value::Bool { .. } | Value::Number { .. } | Value::Text(_) | Value::Map(_) => &[],
        }
    }

    /// What it is, for people: ``the number `3` ``.
    pub fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool { raw, .. } => format!("`{raw}`"),
            Value::Number { raw } => format!("the number `{raw}`"),
            Value::Text(text) if text.chars().count() > 40 || text.contains('\n') => "a long text".to_owned(),
            Value::Text(text) => format!("the text `{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}
