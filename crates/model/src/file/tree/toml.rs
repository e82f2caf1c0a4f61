//! TOML, by the `toml` crate's positioned tables.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Entry, MAX_BYTES, MAX_DEPTH, Node, Value};
use crate::file::{Fault, Position};

/// Reads a TOML document.
pub fn read_toml(text: &str) -> Result<Node, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::new(
            None,
            format!("file is larger than {} MiB", MAX_BYTES >> 20),
        ));
    }
    let table = DeTable::parse(text).map_err(|error| {
        let position = error.span().map(|span| Position::of_offset(text, span.start));
        Fault::new(
            position,
            format!("not readable as TOML: {}", error.message().replace('\n', ", ")),
        )
    })?;
    let lines = Lines::new(text);
    let at = Position { line: 1, column: 1 };
    Ok(Node {
        at,
        value: map(table.get_ref(), &lines, 0)?,
    })
}

/// Where lines start: a file is not searched again for every position.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    fn position(&self, offset: usize) -> Position {
        let line = self
            .starts
            .partition_point(|start| *start <= offset)
            .saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(0);
        let columns = self
            .text
            .get(start..offset)
            .map_or(0, |before| before.chars().count());
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
        Position {
            line: count(line),
            column: count(columns),
        }
    }

    fn spelled(&self, span: Range<usize>) -> String {
        self.text.get(span).unwrap_or("").trim().to_owned()
    }
}

fn map(table: &DeTable<'_>, lines: &Lines<'_>, depth: usize) -> Result<Value, Fault> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| {
            let key_at = lines.position(key.span().start);
            Ok(Entry {
                key: key.get_ref().to_string(),
                key_at,
                node: node(value, lines, depth + 1)?,
            })
        })
        .collect::<Result<_, Fault>>()?;
    entries.sort_by_key(|entry| entry.key_at);
    Ok(Value::Map(entries))
}

fn node(value: &Spanned<DeValue<'_>>, lines: &Lines<'_>, depth: usize) -> Result<Node, Fault> {
    let at = lines.position(value.span().start);
    if depth > MAX_DEPTH {
        return Err(Fault::new(at, "it is nested too deep"));
    }
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => Value::Number {
            raw: lines.spelled(value.span()),
        },
        DeValue::Boolean(flag) => Value::Bool {
            value: *flag,
            raw: flag.to_string(),
        },
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| node(item, lines, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => map(table, lines, depth)?,
    };
    Ok(Node { at, value })
}
