//! What users write, read into one form, and what follows from it.
//!
//! ```text
//!  text ── tree ──▶ Node with positions ── de + v1 ──────▶ Written ── resolve ──▶ AppSpec
//!  (YAML, TOML, JSON)                   └─ ecosystem ────▶    ▲
//!  Procfile ───────────────────────────── procfile ───────────┘
//!  command line ───────────────────────── resolve::from_command_line
//! ```
//!
//! * [`tree`] reads YAML, TOML and JSON into the same tree, in which every key and value knows its line and column,
//!   and every scalar the text that was written (`0644`, `1.10` and `yes` stay what they were).
//! * [`v1`] is the written form: types that read themselves from the tree (through `de`, a serde deserialiser that
//!   refuses unknown keys with a suggestion) and that give the published JSON Schema ([`schema`]). One source for
//!   both.
//! * [`ecosystem`] reads PM2's files into the same form, with PM2's defaults.
//! * [`resolve`] fills in every default. It asks the machine only through [`resolve::Facts`].
//!
//! Nothing here does I/O, and no text makes it panic or run away: depth, nodes and aliases are bounded.

use std::fmt;

pub mod at;
mod de;
pub mod dotenv;
pub mod ecosystem;
pub mod hosts;
pub mod parse;
pub mod procfile;
pub mod resolve;
pub mod schema;
pub mod settings;
pub mod split;
pub mod tree;
pub mod v1;

pub use self::{
    at::{At, Position},
    parse::{Format, Style, Written, is_javascript, parse},
};

/// What is wrong with a file, where, and what could be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file as it was named.
    pub path: String,
    /// Line and column, where they are known.
    pub position: Option<Position>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What could be done; printed after the message.
    pub hint: Option<String>,
}

impl FileError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for FileError {}

/// A [`FileError`] before anybody has said which file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line and column, where they are known.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What could be done.
    pub hint: Option<String>,
}

impl Fault {
    /// Something wrong at a place.
    pub fn new(position: impl Into<Option<Position>>, message: impl Into<String>) -> Self {
        Self {
            position: position.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// With advice.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// In a file of that name.
    pub fn in_file(self, path: &str) -> FileError {
        FileError {
            path: path.to_owned(),
            position: self.position,
            message: self.message,
            hint: self.hint,
        }
    }
}

/// A file of ours as YAML.
pub fn to_yaml(file: &serde_json::Value) -> Result<String, FileError> {
    serde_saphyr::to_string(file).map_err(|error| Fault::new(None, error.to_string()).in_file("upkeep.yaml"))
}

/// ``did you mean `instances`?`` for something close to one of the `known` names.
pub(crate) fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = written.to_lowercase().replace('-', "_");
    let limit = (lower.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| format!("did you mean `{name}`?"))
}
