//! JSON and YAML: a map of maps.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value as Json;
use upkeep_model::file::tree::{self, Dialect, Node, Value as Found};

use super::{Contents, Fault, Item, Position, bad_name};
use crate::{
    entry::{Entry, Shown},
    path::Place,
    value::{Kind, Value},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Json,
    Yaml,
}

fn parse(style: Style, text: &str) -> Result<Node, Fault> {
    match style {
        Style::Json => tree::read_json(text, Dialect::Strict),
        Style::Yaml => tree::read_yaml(text),
    }
}

pub(super) fn read(style: Style, place: &Place, text: &str) -> Result<Contents, Fault> {
    let root = parse(style, text)?;
    let mut reader = Reader {
        place,
        contents: Contents::default(),
        seen: BTreeMap::new(),
    };
    match &root.value {
        // An empty YAML file.
        Found::Null if style == Style::Yaml => {}
        Found::Map(_) => reader.map(&root, "")?,
        _ => {
            let why = format!("it is {}, and a file of values is a map", root.kind());
            return Err(Fault::new(root.at, why));
        }
    }
    Ok(reader.contents)
}

struct Reader<'a> {
    place: &'a Place,
    contents: Contents,
    seen: BTreeMap<crate::Path, Position>,
}

impl Reader<'_> {
    /// `below`: what has been gone into, ends with a slash.
    fn map(&mut self, node: &Node, below: &str) -> Result<(), Fault> {
        for entry in node.entries() {
            let key = &entry.key;
            if key == "$value" && !below.is_empty() {
                self.node(&entry.node, below.trim_end_matches('/'), entry.key_at)?;
                continue;
            }
            let is_fine = !key.is_empty() && !key.starts_with('$');
            if !is_fine {
                let shown: String = key.escape_debug().take(60).collect();
                return Err(Fault::new(entry.key_at, format!("`{shown}` names no value"))
                    .hint("`$json`, `$yaml`, `$number`, `$file` and `$secret` stand alone in their map"));
            }
            let name = format!("{below}{key}");
            // Told at the key that is wrong, and not at the first value below it.
            self.place
                .join(&name)
                .map_err(|error| bad_name(entry.key_at, &error))?;
            self.node(&entry.node, &name, entry.key_at)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, name: &str, at: Position) -> Result<(), Fault> {
        match wrapped(node)? {
            Wrapped::Nested => return self.map(node, &format!("{name}/")),
            Wrapped::NotRevealed => {
                let path = self.place.join(name).map_err(|error| bad_name(at, &error))?;
                self.contents.kept.push(path);
            }
            Wrapped::Value(value, secret) => {
                let path = self.place.join(name).map_err(|error| bad_name(at, &error))?;
                let item = Item {
                    path,
                    value,
                    secret,
                    at,
                };
                self.contents.add(item, &mut self.seen)?;
            }
        }
        Ok(())
    }
}

enum Wrapped {
    /// A map of more values.
    Nested,
    /// A secret whose content the file does not have.
    NotRevealed,
    /// A value, and whether it is a secret.
    Value(Value, bool),
}

fn wrapped(node: &Node) -> Result<Wrapped, Fault> {
    let [only] = node.entries() else {
        return Ok(match &node.value {
            Found::Map(entries) if !entries.is_empty() => Wrapped::Nested,
            _ => Wrapped::Value(plain(node)?, false),
        });
    };
    let kind = match only.key.as_str() {
        "$json" => Kind::Json,
        "$yaml" => Kind::Yaml,
        "$number" => Kind::Number,
        "$file" => Kind::File,
        "$secret" => {
            return match (&only.node.value, wrapped(&only.node)?) {
                (Found::Null, _) => Ok(Wrapped::NotRevealed),
                (_, Wrapped::Value(value, false)) => Ok(Wrapped::Value(value, true)),
                _ => Err(Fault::new(only.node.at, "a secret is one value")
                    .hint("as a whole: `{\"$secret\": {\"$json\": \"…\"}}`")),
            };
        }
        _ => return Ok(Wrapped::Nested),
    };
    let Some(text) = only.node.as_text() else {
        let why = format!("`{}` holds a text, not {}", only.key, only.node.kind());
        return Err(Fault::new(only.node.at, why));
    };
    let bytes = if kind == Kind::File {
        STANDARD
            .decode(text)
            .map_err(|error| Fault::new(only.node.at, format!("`$file` is no base64: {error}")))?
    } else {
        text.as_bytes().to_vec()
    };
    Ok(Wrapped::Value(Value { kind, bytes }, false))
}

fn plain(node: &Node) -> Result<Value, Fault> {
    let json = |value: &Json| Value {
        kind: Kind::Json,
        bytes: value.to_string().into_bytes(),
    };
    Ok(match &node.value {
        Found::Text(text) => Value::text(text.clone()),
        Found::Number { raw } if is_number(raw) => Value {
            kind: Kind::Number,
            bytes: raw.clone().into_bytes(),
        },
        // What only YAML has: `0x1F` is a number, `2026-01-01` and `.inf` are as they are written.
        Found::Number { raw } => match yaml_integer(raw) {
            Some(number) => Value {
                kind: Kind::Number,
                bytes: number.to_string().into_bytes(),
            },
            None => Value::text(raw.clone()),
        },
        _ => json(&to_json(node)?),
    })
}

fn is_number(raw: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(raw).is_ok()
}

fn yaml_integer(raw: &str) -> Option<i64> {
    let (digits, sign) = raw.strip_prefix('-').map_or((raw, 1), |rest| (rest, -1));
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let number = if let Some(hex) = digits.strip_prefix("0x") {
        i64::from_str_radix(hex, 16).ok()
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i64::from_str_radix(octal, 8).ok()
    } else {
        digits.parse::<i64>().ok().filter(|_| !digits.starts_with('0'))
    };
    number.map(|number| sign * number)
}

fn to_json(node: &Node) -> Result<Json, Fault> {
    Ok(match &node.value {
        Found::Null => Json::Null,
        Found::Bool { value, .. } => (*value).into(),
        Found::Number { raw } => match serde_json::from_str::<serde_json::Number>(raw) {
            Ok(number) => number.into(),
            Err(_) => yaml_integer(raw).map_or_else(|| raw.as_str().into(), Json::from),
        },
        Found::Text(text) => text.as_str().into(),
        Found::List(items) => items.iter().map(to_json).collect::<Result<Vec<_>, _>>()?.into(),
        Found::Map(entries) => {
            let mut map = serde_json::Map::new();
            for entry in entries {
                map.insert(entry.key.clone(), to_json(&entry.node)?);
            }
            map.into()
        }
    })
}

/// What is written, before it is text.
#[derive(Default)]
struct Branch {
    own: Option<String>,
    below: BTreeMap<String, Branch>,
}

pub(super) fn write(style: Style, place: &Place, entries: &[Entry]) -> String {
    let mut root = Branch::default();
    for entry in entries {
        let Some(below) = place.below(&entry.path) else {
            continue;
        };
        let mut branch = &mut root;
        for segment in below.split('/') {
            branch = branch.below.entry(segment.to_owned()).or_default();
        }
        branch.own = Some(leaf(style, &entry.shown));
    }
    let mut out = String::new();
    if root.below.is_empty() {
        out.push_str("{}");
    } else {
        put(style, &root, 0, &mut out);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn put(style: Style, branch: &Branch, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth + usize::from(style == Style::Json));
    let mut lines: Vec<(String, Option<&Branch>, String)> = Vec::new();
    if let (Some(own), false) = (&branch.own, branch.below.is_empty()) {
        lines.push((quoted("$value"), None, own.clone()));
    }
    for (name, below) in &branch.below {
        let key = match style {
            Style::Yaml if is_plain_key(name) => name.clone(),
            _ => quoted(name),
        };
        match (&below.own, below.below.is_empty()) {
            (Some(own), true) => lines.push((key, None, own.clone())),
            _ => lines.push((key, Some(below), String::new())),
        }
    }
    if style == Style::Json {
        out.push_str("{\n");
    }
    let count = lines.len();
    for (index, (key, below, own)) in lines.into_iter().enumerate() {
        out.push_str(&indent);
        out.push_str(&key);
        out.push(':');
        match (below, style) {
            (None, _) => {
                out.push(' ');
                out.push_str(&own);
            }
            (Some(below), Style::Json) => {
                out.push(' ');
                put(style, below, depth + 1, out);
            }
            (Some(below), Style::Yaml) => {
                out.push('\n');
                put(style, below, depth + 1, out);
                // Each line below has ended itself.
                continue;
            }
        }
        if style == Style::Json && index + 1 < count {
            out.push(',');
        }
        out.push('\n');
    }
    if style == Style::Json {
        out.push_str(&"  ".repeat(depth));
        out.push('}');
    }
}

/// A key that YAML 1.1 and 1.2 take for a text.
fn is_plain_key(name: &str) -> bool {
    let is_word = name.starts_with(|one: char| one.is_ascii_alphabetic())
        && name
            .chars()
            .all(|one| one.is_ascii_alphanumeric() || "_-".contains(one));
    let lower = name.to_ascii_lowercase();
    is_word && !["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&lower.as_str())
}

fn leaf(style: Style, shown: &Shown) -> String {
    match shown {
        Shown::Plain(value) => scalar(style, value),
        // `null` alone says that it was not revealed.
        Shown::Revealed(value) if value.kind == Kind::Json && value.bytes == b"null" => {
            "{\"$secret\": {\"$json\": \"null\"}}".to_owned()
        }
        Shown::Revealed(value) => format!("{{\"$secret\": {}}}", scalar(style, value)),
        Shown::Masked { .. } | Shown::Hidden => "{\"$secret\": null}".to_owned(),
    }
}

/// A value on one line, as it stands in JSON and in YAML's flow style alike.
fn scalar(style: Style, value: &Value) -> String {
    let text = match (value.kind, std::str::from_utf8(&value.bytes)) {
        (Kind::File, _) | (_, Err(_)) => {
            return format!("{{\"$file\": \"{}\"}}", STANDARD.encode(&value.bytes));
        }
        (_, Ok(text)) => text,
    };
    // Plain only if it is read back as it was.
    let is_same = || {
        let node = parse(style, &format!("{{\"a\": {text}}}")).ok();
        let read = node.and_then(|node| plain(node.get("a")?).ok());
        read.as_ref() == Some(value)
    };
    match value.kind {
        Kind::Text | Kind::File => quoted(text),
        Kind::Number if is_simple_number(text) && is_same() => text.to_owned(),
        Kind::Number => format!("{{\"$number\": {}}}", quoted(text)),
        Kind::Json if is_simple_json(text) && is_same() => text.to_owned(),
        Kind::Json => format!("{{\"$json\": {}}}", quoted(text)),
        Kind::Yaml => format!("{{\"$yaml\": {}}}", quoted(text)),
    }
}

/// A number that every reader takes for one: YAML 1.1 wants a point and a sign with an exponent.
fn is_simple_number(text: &str) -> bool {
    is_number(text) && text.len() <= 18 && !text.contains(char::is_whitespace) && !text.contains(['e', 'E'])
}

/// `true`, `null`, `[1,"a"]`: no maps, and nothing that YAML would read otherwise.
fn is_simple_json(text: &str) -> bool {
    let Ok(value) = serde_json::from_str::<Json>(text) else {
        return false;
    };
    let is_list = match &value {
        Json::Array(items) => items.iter().all(|item| match item {
            Json::Number(number) => is_simple_number(&number.to_string()),
            Json::String(text) => text.chars().all(is_printable),
            other => other.is_boolean() || other.is_null(),
        }),
        Json::Null | Json::Bool(_) => true,
        Json::Object(map) => map.is_empty(),
        _ => false,
    };
    let written = value.to_string();
    is_list && written == text
}

/// Characters that YAML has without escapes.
fn is_printable(one: char) -> bool {
    matches!(one, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// A text in double quotes, with escapes that JSON and YAML share.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for one in text.chars() {
        match one {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            one if is_printable(one) => out.push(one),
            // Nothing that is not printable lies outside the plane that four digits reach.
            other => out.push_str(&format!("\\u{:04x}", u32::from(other))),
        }
    }
    out.push('"');
    out
}
