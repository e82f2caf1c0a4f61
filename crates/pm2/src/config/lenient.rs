//! JSON as people write it: comments, single quotes, bare keys, trailing commas.
//!
//! What needs more than that (variables, calls, templates) is JavaScript, and is left to Node.

use serde_json::{Map, Value};

/// Deeper than anybody writes; a limit because this reads by recursion.
const MAX_DEPTH: usize = 128;

/// The value, or `None` if it takes JavaScript to read it.
pub fn read(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let mut reader = Reader {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
    };
    let value = reader.value(0)?;
    reader.blanks()?;
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn next(&mut self) -> Option<char> {
        let first = self.rest.chars().next()?;
        self.rest = &self.rest[first.len_utf8()..];
        Some(first)
    }

    /// Blanks and comments.
    fn blanks(&mut self) -> Option<()> {
        loop {
            self.rest = self.rest.trim_start();
            if self.take("//") {
                self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
            } else if self.take("/*") {
                self.rest = self.rest.split_once("*/")?.1;
            } else {
                return Some(());
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.blanks()?;
        match self.rest.chars().next()? {
            '{' => self.object(depth),
            '[' => self.list(depth),
            '"' | '\'' => self.text().map(Value::String),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.next()?;
        let mut fields = Map::new();
        loop {
            self.blanks()?;
            if self.take("}") {
                return Some(Value::Object(fields));
            }
            let key = match self.rest.chars().next()? {
                '"' | '\'' => self.text()?,
                _ => self.name()?,
            };
            self.blanks()?;
            if !self.take(":") {
                return None;
            }
            let value = self.value(depth + 1)?;
            fields.insert(key, value);
            self.blanks()?;
            if !self.take(",") && !self.rest.starts_with('}') {
                return None;
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.next()?;
        let mut items = Vec::new();
        loop {
            self.blanks()?;
            if self.take("]") {
                return Some(Value::Array(items));
            }
            items.push(self.value(depth + 1)?);
            self.blanks()?;
            if !self.take(",") && !self.rest.starts_with(']') {
                return None;
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let end = self
            .rest
            .find(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == '$'))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.next()?;
        let mut text = String::new();
        loop {
            match self.next()? {
                letter if letter == quote => return Some(text),
                '\n' => return None,
                '\\' => match self.next()? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    '\n' => {}
                    letter @ ('"' | '\'' | '\\' | '/' | '`') => text.push(letter),
                    // Rarer escapes are for Node.
                    _ => return None,
                },
                letter => text.push(letter),
            }
        }
    }

    /// `true`, `null`, a number.
    fn word(&mut self) -> Option<Value> {
        let end = self
            .rest
            .find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '+')))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        serde_json::from_str(word).ok()
    }
}
