//! `.env`: read by the reader of the app files, written so that python-dotenv and Node's dotenv read the same.
//!
//! What is plain stands without quotes; else in single quotes, in which nothing means anything; else in double quotes with
//! `\"`, `\\` and `\r` (which Node's dotenv leaves as they are: it has no way to write both kinds of quotes).

use std::{collections::BTreeMap, fmt::Write as _};

use upkeep_model::file::dotenv;

use super::{
    Contents, Fault, Form, FormError, Item, Known, Position, bad_name, env_name, env_names, text_of,
    with_kind,
};
use crate::{
    entry::Entry,
    path::{Path, Place},
};

pub(super) fn read(place: &Place, text: &str, known: &[Known]) -> Result<Contents, Fault> {
    let mut names: BTreeMap<String, Vec<&Known>> = BTreeMap::new();
    for known in known {
        if let Some(name) = env_name(place, &known.path) {
            names.entry(name).or_default().push(known);
        }
    }
    let mut contents = Contents::default();
    let mut seen = BTreeMap::new();
    for (key, text, at) in dotenv::parse_with_places(text)? {
        let (path, kind) = match names.get(&key).map(Vec::as_slice) {
            Some([known]) => (known.path.clone(), Some(known.kind)),
            Some([first, second, ..]) => {
                let why = format!("`{key}` could be `{}` and `{}`", first.path, second.path);
                return Err(Fault::new(at, why).hint("read it from JSON or YAML, which say which"));
            }
            _ => (new_path(place, &key, at)?, None),
        };
        let value = with_kind(text, kind);
        let item = Item {
            path,
            value,
            secret: false,
            at,
        };
        contents.add(item, &mut seen)?;
    }
    Ok(contents)
}

fn new_path(place: &Place, key: &str, at: Position) -> Result<Path, Fault> {
    let name = key.to_ascii_lowercase().replace("__", "/");
    place.join(&name).map_err(|error| bad_name(at, &error))
}

pub(super) fn write(place: &Place, entries: &[Entry]) -> Result<String, FormError> {
    // Two values of one name are an error before anything is written.
    env_names(place, entries.iter().map(|entry| &entry.path))?;
    let mut out = String::new();
    for entry in entries {
        let Some(name) = env_name(place, &entry.path) else {
            continue;
        };
        match text_of(Form::Dotenv, entry)? {
            None => {
                let _ = writeln!(out, "# {name}: a secret that was not revealed");
            }
            Some(text) if text.contains('\0') => {
                return Err(FormError::Unwritable {
                    path: entry.path.clone(),
                    form: Form::Dotenv,
                    why: "no variable of the environment holds a zero byte".to_owned(),
                });
            }
            Some(text) => {
                let _ = writeln!(out, "{name}={}", quoted(text));
            }
        }
    }
    Ok(out)
}

fn quoted(text: &str) -> String {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "_./:@%+,-".contains(one);
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    if !text.contains(['\'', '\\', '\r']) {
        return format!("'{text}'");
    }
    let mut out = String::from('"');
    for one in text.chars() {
        match one {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
