//! `.env` files: `KEY=value`, nothing expanded.
//!
//! * `export KEY=value` is the same as `KEY=value`; blanks around `=` are allowed.
//! * Without quotes a value ends at the end of the line or at a blank followed by `#`; blanks at its end are cut.
//! * `'…'` is taken as it is. In `"…"` the escapes `\n`, `\r`, `\t`, `\"`, `\\` and `\$` mean what they say; any other
//!   backslash stays. Both may go over several lines.
//! * `$NAME` is never replaced: what is in the file is what the app gets.
//! * A key that is given twice has its last value.

use super::{Fault, Position, tree::MAX_BYTES};

/// Reads a `.env` file: keys and values, in order, the last value of a key only.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let pairs = parse_with_places(text)?;
    Ok(pairs.into_iter().map(|(key, value, _)| (key, value)).collect())
}

/// The same, with the place of each key.
pub fn parse_with_places(text: &str) -> Result<Vec<(String, String, Position)>, Fault> {
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
    };
    let mut pairs: Vec<(String, String, Position)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    while let Some((key, value, at)) = reader.pair()? {
        match places.entry(key.clone()) {
            std::collections::hash_map::Entry::Occupied(place) => {
                let index: usize = *place.get();
                pairs[index].1 = value;
                pairs[index].2 = at;
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(pairs.len());
                pairs.push((key, value, at));
            }
        }
    }
    Ok(pairs)
}

struct Reader<'a> {
    rest: &'a str,
    at: Position,
}

impl<'a> Reader<'a> {
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

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.rest;
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        &start[..start.len() - self.rest.len()]
    }

    fn skip_blanks(&mut self) {
        self.skip_while(|character| character.is_whitespace() && character != '\n');
    }

    fn pair(&mut self) -> Result<Option<(String, String, Position)>, Fault> {
        loop {
            self.skip_while(char::is_whitespace);
            match self.peek() {
                None => return Ok(None),
                Some('#') => {
                    self.skip_while(|character| character != '\n');
                }
                Some(_) => break,
            }
        }
        if let Some(rest) = self.rest.strip_prefix("export")
            && rest.starts_with([' ', '\t'])
        {
            self.skip_while(|character| character.is_ascii_alphabetic());
            self.skip_blanks();
        }
        let at = self.at;
        let key = self
            .skip_while(|character| character != '=' && character != '\n')
            .trim_end();
        if self.peek() != Some('=') {
            return Err(Fault::new(
                at,
                format!("expected `KEY=value`, found `{}`", shorten(key)),
            ));
        }
        let valid = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
        if key.is_empty()
            || key.starts_with(|character: char| character.is_ascii_digit())
            || !key.chars().all(valid)
        {
            return Err(Fault::new(
                at,
                format!("`{}` cannot be the name of a variable", shorten(key)),
            ));
        }
        self.bump();
        self.skip_blanks();
        let value_at = self.at;
        let value = match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                let value = self.quoted(quote)?;
                self.skip_blanks();
                let after = self.at;
                let rest = self.skip_while(|character| character != '\n').trim_end();
                if !rest.is_empty() && !rest.starts_with('#') {
                    return Err(Fault::new(
                        after,
                        format!("`{}` stands behind the closing quote", shorten(rest)),
                    ));
                }
                value
            }
            _ => self.bare(),
        };
        if value.contains('\0') {
            return Err(Fault::new(
                value_at,
                format!("the value of `{key}` contains a zero byte"),
            ));
        }
        Ok(Some((key.to_owned(), value, at)))
    }

    fn bare(&mut self) -> String {
        let line = self.skip_while(|character| character != '\n');
        let end = line
            .char_indices()
            .find(|(at, character)| *character == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])))
            .map_or(line.len(), |(at, _)| at);
        line[..end].trim_end().to_owned()
    }

    fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let start = self.at;
        self.bump();
        let mut value = String::new();
        loop {
            match self.bump() {
                None => return Err(Fault::new(start, format!("this {quote} has no partner"))),
                Some(character) if character == quote => return Ok(value),
                Some('\r') if self.peek() == Some('\n') => {}
                Some('\\') if quote == '"' => match self.peek() {
                    Some('n') => self.put(&mut value, '\n'),
                    Some('r') => self.put(&mut value, '\r'),
                    Some('t') => self.put(&mut value, '\t'),
                    Some(character @ ('"' | '\\' | '$')) => self.put(&mut value, character),
                    _ => value.push('\\'),
                },
                Some(character) => value.push(character),
            }
        }
    }

    fn put(&mut self, value: &mut String, character: char) {
        self.bump();
        value.push(character);
    }
}

fn shorten(text: &str) -> String {
    text.chars()
        .take(40)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse(text) {
            Ok(pairs) => pairs
                .iter()
                .map(|(key, value)| format!("{key}={value:?}"))
                .collect::<Vec<_>>()
                .join(" "),
            Err(Fault {
                position: Some(at),
                message,
                ..
            }) => format!("{}:{}: {message}", at.line, at.column),
            Err(fault) => fault.message,
        }
    }

    #[test]
    fn values_are_read_as_they_are() {
        assert_eq!(
            read("A=1\nexport B = two words # comment\r\n# C=3\n\nD=a#b\nE=\nF=#x"),
            r#"A="1" B="two words" D="a#b" E="" F="""#
        );
        assert_eq!(
            read("A='x\\n$Y' # c\nB=\"x\\n\\\"$Y\\q\"\nC=$HOME/x"),
            r#"A="x\\n$Y" B="x\n\"$Y\\q" C="$HOME/x""#
        );
        assert_eq!(
            read("KEY=\"-----BEGIN\nabc\n-----END\"\nB=2"),
            r#"KEY="-----BEGIN\nabc\n-----END" B="2""#
        );
        assert_eq!(read("A=1\nB=2\nA=3"), r#"A="3" B="2""#);
        assert_eq!(read("\u{feff}A=1"), r#"A="1""#);
        assert_eq!(read("exported=1\nexport=2"), r#"exported="1" export="2""#);
    }

    #[test]
    fn mistakes_have_a_place() {
        assert_eq!(
            read("A=1\n  what is this\n"),
            "2:3: expected `KEY=value`, found `what is this`"
        );
        assert_eq!(read("A B=1"), "1:1: `A B` cannot be the name of a variable");
        assert_eq!(read("A=1\nB=\"x\nC=3"), "2:3: this \" has no partner");
        assert_eq!(read("A='x' y"), "1:7: `y` stands behind the closing quote");
        assert_eq!(read("=1"), "1:1: `` cannot be the name of a variable");
    }
}
