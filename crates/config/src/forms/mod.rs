//! Values from files and into them: dotenv, JSON, YAML, Java's properties.
//!
//! # What becomes what
//!
//! A file holds the values of one place. Of `/shop/prod/db/url` below `/shop/prod/`, each form makes
//!
//! | form | name | kinds |
//! |---|---|---|
//! | JSON, YAML | `{"db": {"url": …}}`; a key `db/url` is read as well | kept |
//! | properties | `db.url`; with slashes (`a.b/c`, `/a.b`) where a segment has a dot | text |
//! | dotenv | `DB_URL` ([`env_name`]) | text |
//!
//! In JSON and YAML a text is a text, a number a number, and `true`, `null` and lists are JSON values. What has no form of its
//! own there is a map with one key that no path can have: `{"$json": "{\"a\": 1}"}`, `$yaml`, `$number` (spelled as no plain
//! number is), `$file` (base64), `$secret`; `$value` is the value of a path that has others below it. So what is written is
//! read back as it was, byte by byte.
//!
//! Properties and dotenv know no kinds: where the caller says what is there already ([`Known`]), a value keeps its kind as long
//! as it is of that kind, and dotenv's names find their paths. A name that is not known becomes a path in lower case in which
//! `__` parts segments: `DB__URL` is `db/url`, `LOG_LEVEL` is `log_level`.
//!
//! # Secrets
//!
//! A secret is written only as it was revealed. One that was not is a comment, or `{"$secret": null}`, which is read as "leave
//! it as it is" and never as an empty value.

mod dotenv;
mod names;
mod properties;
mod tree;

use std::{collections::BTreeMap, fmt, str::FromStr};

pub use names::{Collision, env_name, env_names};
pub use upkeep_model::file::{Fault, Position};

use crate::{
    entry::{Entry, Put},
    path::{Path, PathError, Place},
    value::{Kind, Value},
};

/// How values stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `.env`.
    Dotenv,
    /// JSON; comments are read as well.
    Json,
    /// YAML.
    Yaml,
    /// Java's properties.
    Properties,
}

impl Form {
    /// The form that the name of a file tells.
    pub fn of_file(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or(name);
        if name == ".env" || name.starts_with(".env.") {
            return Some(Self::Dotenv);
        }
        name.rsplit_once('.')?.1.parse().ok()
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "dotenv" | "env" => Ok(Self::Dotenv),
            "json" => Ok(Self::Json),
            "yaml" | "yml" => Ok(Self::Yaml),
            "properties" => Ok(Self::Properties),
            _ => Err(format!(
                "`{}` is no form of values: there are dotenv, json, yaml, properties",
                text.escape_debug()
            )),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dotenv => "dotenv",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Properties => "properties",
        })
    }
}

/// What is at a path already: it lends its kind to what has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where.
    pub path: Path,
    /// What.
    pub kind: Kind,
}

impl Known {
    /// What a listing tells.
    pub fn of(entries: &[Entry]) -> Vec<Self> {
        let known = entries.iter().filter_map(|entry| {
            Some(Self {
                path: entry.path.clone(),
                kind: entry.shown.kind()?,
            })
        });
        known.collect()
    }
}

/// One value of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it goes.
    pub path: Path,
    /// What it is.
    pub value: Value,
    /// The file says that it is a secret.
    pub secret: bool,
    /// Where it stands in the file.
    pub at: Position,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// In the order of the file.
    pub items: Vec<Item>,
    /// Secrets that were not revealed to whoever wrote the file: to be left as they are.
    pub kept: Vec<Path>,
}

impl Contents {
    /// What is to be set. `secret`: all of it is.
    pub fn puts(self, secret: bool) -> Vec<Put> {
        let puts = self.items.into_iter().map(|item| Put {
            path: item.path,
            value: item.value,
            secret: secret || item.secret,
            expected: None,
        });
        puts.collect()
    }

    /// Adds a value, if nothing stands in its way.
    fn add(&mut self, item: Item, seen: &mut BTreeMap<Path, Position>) -> Result<(), Fault> {
        if let Some(first) = seen.insert(item.path.clone(), item.at) {
            return Err(Fault::new(
                item.at,
                format!(
                    "`{}` is given a second time; the first is in line {}",
                    item.path, first.line
                ),
            ));
        }
        item.value
            .check()
            .map_err(|why| Fault::new(item.at, format!("`{}`: {why}", item.path)))?;
        self.items.push(item);
        Ok(())
    }
}

/// Reads the values of a place from a file. A fault has line and column.
pub fn read(form: Form, place: &Place, text: &str, known: &[Known]) -> Result<Contents, Fault> {
    if !place.is_many() {
        return Err(one_only(place));
    }
    match form {
        Form::Dotenv => dotenv::read(place, text, known),
        Form::Json => tree::read(tree::Style::Json, place, text),
        Form::Yaml => tree::read(tree::Style::Yaml, place, text),
        Form::Properties => properties::read(place, text, known),
    }
}

/// Why values are not written in a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Two values would have one name.
    #[error(transparent)]
    Collision(#[from] Collision),
    /// The form has no way to write a value.
    #[error("failed to write `{path}` as {form}: {why}")]
    Unwritable {
        /// Which.
        path: Path,
        /// As what.
        form: Form,
        /// Why. Repeats nothing of the value.
        why: String,
    },
    /// Not a place of several values.
    #[error("{0}")]
    Place(String),
}

/// Writes the values of a place. What is not below it is left out.
pub fn write(form: Form, place: &Place, entries: &[Entry]) -> Result<String, FormError> {
    if !place.is_many() {
        return Err(FormError::Place(one_only(place).message));
    }
    match form {
        Form::Dotenv => dotenv::write(place, entries),
        Form::Json => Ok(tree::write(tree::Style::Json, place, entries)),
        Form::Yaml => Ok(tree::write(tree::Style::Yaml, place, entries)),
        Form::Properties => properties::write(place, entries),
    }
}

fn one_only(place: &Place) -> Fault {
    Fault::new(
        None,
        format!("`{place}` is one value, and a file holds those of a place"),
    )
    .hint("end the place with a slash")
}

/// A name below a place that is none.
fn bad_name(at: Position, error: &PathError) -> Fault {
    Fault::new(at, error.to_string())
}

/// The text of a value, for forms that hold nothing else.
fn text_of(form: Form, entry: &Entry) -> Result<Option<&str>, FormError> {
    let Some(value) = entry.shown.value() else {
        return Ok(None);
    };
    match std::str::from_utf8(&value.bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(FormError::Unwritable {
            path: entry.path.clone(),
            form,
            why: "it is no text (UTF-8)".to_owned(),
        }),
    }
}

/// A text as what is known to be there, if it is of that kind.
fn with_kind(text: String, kind: Option<Kind>) -> Value {
    let value = Value {
        kind: kind.unwrap_or_default(),
        bytes: text.into_bytes(),
    };
    if value.check().is_ok() {
        return value;
    }
    Value {
        kind: Kind::Text,
        ..value
    }
}
