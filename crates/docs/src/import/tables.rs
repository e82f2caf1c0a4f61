//! Parameters and keys of bodies as tables.

use std::fmt::Write as _;

use serde_json::Value;

use crate::api::document::{Document, Parameter, follow};

pub(super) struct Row {
    name: String,
    kind: String,
    required: bool,
    description: String,
}

impl Row {
    pub(super) fn of_parameter(document: &Document, parameter: &Parameter) -> Self {
        Self {
            name: parameter.name.clone(),
            kind: kind(&document.root, &parameter.schema, 0),
            required: parameter.required,
            description: described(&document.root, &parameter.description, &parameter.schema),
        }
    }
}

pub(super) fn table(out: &mut String, heading: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    if !heading.is_empty() {
        let _ = writeln!(out, "#### {heading}\n");
    }
    out.push_str("| Name | Type | Required | Meaning |\n|---|---|---|---|\n");
    for row in rows {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            cell(&row.name),
            cell(&row.kind),
            if row.required { "yes" } else { "" },
            cell(&row.description)
        );
    }
    out.push('\n');
}

/// A text that stays in its cell.
pub(super) fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// The keys of a map, one row each; those of its parts too, and without those that only go the other way.
pub(super) fn rows(document: &Document, schema: &Value, hidden: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    collect(document, schema, hidden, &mut rows, 0);
    rows
}

fn collect(document: &Document, schema: &Value, hidden: &str, rows: &mut Vec<Row>, depth: usize) {
    let Ok(schema) = document.follow(schema) else {
        return;
    };
    if depth > 8 {
        return;
    }
    for part in schema
        .get("allOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        collect(document, part, hidden, rows, depth + 1);
    }
    let required = |name: &str| {
        let list = schema.get("required").and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|one| one == name))
    };
    for (name, of) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if of.get(hidden) != Some(&Value::Bool(true)) && !rows.iter().any(|row| row.name == *name) {
            rows.push(Row {
                name: name.clone(),
                kind: kind(&document.root, of, 0),
                required: required(name),
                description: described(&document.root, "", of),
            });
        }
    }
}

/// What stands beside a name: its own words, else those of its schema, and what may be said in numbers.
fn described(root: &Value, own: &str, schema: &Value) -> String {
    let words = |schema: &Value| {
        schema
            .get("description")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let mut text = if own.is_empty() {
        words(schema)
            .or_else(|| words(follow(root, schema).ok()?))
            .unwrap_or_default()
    } else {
        own.to_owned()
    };
    for (key, name) in [
        ("default", "Default"),
        ("minimum", "At least"),
        ("maximum", "At most"),
    ] {
        if let Some(value) = schema.get(key).filter(|value| !value.is_null()) {
            let _ = write!(
                text,
                "{}{name} `{value}`.",
                if text.is_empty() { "" } else { " " }
            );
        }
    }
    text
}

/// The type of a schema in a word or two.
fn kind(root: &Value, schema: &Value, depth: usize) -> String {
    let Ok(schema) = follow(root, schema) else {
        return String::new();
    };
    if depth > 4 {
        return "…".to_owned();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let shown: Vec<_> = values
            .iter()
            .take(8)
            .map(|value| {
                format!(
                    "`{}`",
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                )
            })
            .collect();
        return shown.join(", ") + if values.len() > 8 { ", …" } else { "" };
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(forms) = schema.get(key).and_then(Value::as_array) {
            let mut kinds: Vec<String> = Vec::new();
            for form in forms {
                let kind = kind(root, form, depth + 1);
                if !kind.is_empty() && !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            return kinds.join(if key == "allOf" { " and " } else { " or " });
        }
    }
    let one = |name: &str| match name {
        "array" => {
            let items = schema
                .get("items")
                .map(|items| kind(root, items, depth + 1))
                .unwrap_or_default();
            if items.is_empty() {
                "list".to_owned()
            } else {
                format!("list of {items}")
            }
        }
        "object" => "map".to_owned(),
        "integer" => "whole number".to_owned(),
        "string" => match schema.get("format").and_then(Value::as_str) {
            Some(format) => format!("text ({format})"),
            None => "text".to_owned(),
        },
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    };
    let nullable = if schema.get("nullable") == Some(&Value::Bool(true)) {
        " or null"
    } else {
        ""
    };
    match schema.get("type") {
        Some(Value::String(name)) => one(name) + nullable,
        Some(Value::Array(names)) => {
            let kinds: Vec<_> = names.iter().filter_map(Value::as_str).map(one).collect();
            kinds.join(" or ")
        }
        _ if schema.get("properties").is_some() => "map".to_owned(),
        _ => String::new(),
    }
}
