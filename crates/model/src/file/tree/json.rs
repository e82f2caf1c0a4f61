//! JSON, our own reader: positions, and PM2's looser dialect.

use super::{Entry, MAX_BYTES, MAX_DEPTH, Node, Value};
use crate::file::{Fault, Position};

/// What counts as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 8259; comments (`//`, `/* */`) and trailing commas pass as well, as editors allow them in settings.
    Strict,
    /// What PM2 evaluates as an expression and people write: also single quotes, keys without quotes and a
    /// semicolon at the end.
    Loose,
}

/// Reads one JSON value.
pub fn read_json(text: &str, dialect: Dialect) -> Result<Node, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::new(
            None,
            format!("file is larger than {} MiB", MAX_BYTES >> 20),
        ));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        rest: text,
        at: Position { line: 1, column: 1 },
        dialect,
    };
    reader.blanks()?;
    let node = reader.node(0)?;
    reader.blanks()?;
    if dialect == Dialect::Loose && reader.rest.starts_with(';') {
        reader.bump();
        reader.blanks()?;
    }
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader.unexpected("the end of the file")),
    }
}

struct Reader<'a> {
    rest: &'a str,
    at: Position,
    dialect: Dialect,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.rest = &self.rest[character.len_utf8()..];
        if character == '\n' {
            self.at = Position {
                line: self.at.line.saturating_add(1),
                column: 1,
            };
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(character)
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let found = match self.peek() {
            None => "the end of the file".to_owned(),
            Some(character) if character.is_control() => format!("`{}`", character.escape_default()),
            Some(character) => format!("`{character}`"),
        };
        Fault::new(
            self.at,
            format!("not readable as JSON: expected {wanted}, found {found}"),
        )
    }

    /// Blanks and comments.
    fn blanks(&mut self) -> Result<(), Fault> {
        loop {
            match self.peek() {
                Some(character) if character.is_whitespace() => {
                    self.bump();
                }
                Some('/') if self.rest.starts_with("//") => {
                    while self.peek().is_some_and(|character| character != '\n') {
                        self.bump();
                    }
                }
                Some('/') if self.rest.starts_with("/*") => {
                    let start = self.at;
                    while !self.rest.starts_with("*/") {
                        if self.bump().is_none() {
                            return Err(Fault::new(
                                start,
                                "not readable as JSON: this comment does not end",
                            ));
                        }
                    }
                    self.bump();
                    self.bump();
                }
                _ => return Ok(()),
            }
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, Fault> {
        let at = self.at;
        if depth > MAX_DEPTH {
            return Err(Fault::new(at, "it is nested too deep"));
        }
        let value = match self.peek() {
            Some('{') => self.map(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => Value::Text(self.text('"')?),
            Some('\'') if self.dialect == Dialect::Loose => Value::Text(self.text('\'')?),
            Some(character) if character == '-' || character.is_ascii_digit() => self.number()?,
            Some(character) if character.is_alphabetic() => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { at, value })
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        self.bump();
        loop {
            self.blanks()?;
            if self.peek() == Some('}') {
                self.bump();
                return Ok(Value::Map(entries));
            }
            let key_at = self.at;
            let key = self.key()?;
            if !seen.insert(key.clone()) {
                return Err(Fault::new(key_at, format!("key `{key}` is given twice")));
            }
            self.blanks()?;
            if self.peek() != Some(':') {
                return Err(self.unexpected("`:` after the key"));
            }
            self.bump();
            self.blanks()?;
            entries.push(Entry {
                key,
                key_at,
                node: self.node(depth + 1)?,
            });
            self.comma_or('}')?;
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        self.bump();
        loop {
            self.blanks()?;
            if self.peek() == Some(']') {
                self.bump();
                return Ok(Value::List(items));
            }
            items.push(self.node(depth + 1)?);
            self.comma_or(']')?;
        }
    }

    fn comma_or(&mut self, end: char) -> Result<(), Fault> {
        self.blanks()?;
        match self.peek() {
            Some(',') => {
                self.bump();
                Ok(())
            }
            Some(character) if character == end => Ok(()),
            _ => Err(self.unexpected(&format!("`,` or `{end}`"))),
        }
    }

    fn key(&mut self) -> Result<String, Fault> {
        match self.peek() {
            Some('"') => self.text('"'),
            Some('\'') if self.dialect == Dialect::Loose => self.text('\''),
            Some(character)
                if self.dialect == Dialect::Loose
                    && (character.is_alphabetic() || "_$".contains(character)) =>
            {
                Ok(self.take_while(|character| character.is_alphanumeric() || "_$".contains(character)))
            }
            _ => Err(self.unexpected("a key in double quotes")),
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(character) = self.peek().filter(|character| wanted(*character)) {
            taken.push(character);
            self.bump();
        }
        taken
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let at = self.at;
        let raw = self.take_while(|character| character.is_ascii_alphanumeric() || "+-.".contains(character));
        if raw.parse::<f64>().is_ok_and(f64::is_finite) {
            Ok(Value::Number { raw })
        } else {
            Err(Fault::new(
                at,
                format!("not readable as JSON: `{raw}` is no number"),
            ))
        }
    }

    fn word(&mut self) -> Result<Value, Fault> {
        let at = self.at;
        let raw = self.take_while(|character| character.is_alphanumeric() || "_$.".contains(character));
        match raw.as_str() {
            "true" | "false" => Ok(Value::Bool {
                value: raw == "true",
                raw,
            }),
            "null" => Ok(Value::Null),
            "undefined" if self.dialect == Dialect::Loose => Ok(Value::Null),
            _ => Err(
                Fault::new(at, format!("not readable as JSON: `{raw}` is no value"))
                    .hint("texts stand in double quotes"),
            ),
        }
    }

    fn text(&mut self, quote: char) -> Result<String, Fault> {
        let start = self.at;
        let mut text = String::new();
        self.bump();
        loop {
            let at = self.at;
            match self.bump() {
                None | Some('\n') => {
                    return Err(Fault::new(
                        start,
                        "not readable as JSON: this text does not end on its line",
                    ));
                }
                Some(character) if character == quote => return Ok(text),
                Some('\\') => self.escape(at, &mut text)?,
                Some(character) => text.push(character),
            }
        }
    }

    fn escape(&mut self, at: Position, text: &mut String) -> Result<(), Fault> {
        let plain = match self.bump() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('u') => return self.unicode(at, text),
            Some(character @ ('"' | '\\' | '/' | '\'')) => character,
            _ => return Err(Fault::new(at, "not readable as JSON: no such escape")),
        };
        text.push(plain);
        Ok(())
    }

    fn unicode(&mut self, at: Position, text: &mut String) -> Result<(), Fault> {
        let bad = || {
            Fault::new(
                at,
                "not readable as JSON: `\\u` needs four hexadecimal digits of a character",
            )
        };
        let first = self.hex4().ok_or_else(bad)?;
        let code = if (0xd800..0xdc00).contains(&first) && self.rest.starts_with("\\u") {
            self.bump();
            self.bump();
            let second = self
                .hex4()
                .filter(|low| (0xdc00..0xe000).contains(low))
                .ok_or_else(bad)?;
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        text.push(char::from_u32(code).ok_or_else(bad)?);
        Ok(())
    }

    fn hex4(&mut self) -> Option<u32> {
        let mut code = 0;
        for _ in 0..4 {
            code = code * 16 + self.bump()?.to_digit(16)?;
        }
        Some(code)
    }
}
