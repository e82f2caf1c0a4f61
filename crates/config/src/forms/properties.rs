//! Java's properties: `key=value`, escapes, lines that go on.
//!
//! Source: the documentation of `java.util.Properties.load(Reader)` and `store(Writer, String)`, Java SE 21. What is written
//! is ASCII, so that it is the same read as ISO 8859-1 (`load(InputStream)`) and as UTF-8.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Contents, Fault, Form, FormError, Item, Known, Position, bad_name, text_of, with_kind};
use crate::{entry::Entry, path::Place};

pub(super) fn read(place: &Place, text: &str, known: &[Known]) -> Result<Contents, Fault> {
    let known: BTreeMap<_, _> = known.iter().map(|known| (&known.path, known.kind)).collect();
    let mut contents = Contents::default();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut pairs: Vec<(String, String, Position)> = Vec::new();
    for line in logical_lines(text) {
        let (key, value, at) = pair(&line)?;
        // As in Java, the last of two holds.
        match places.get(&key) {
            Some(index) => pairs[*index] = (key, value, at),
            None => {
                places.insert(key.clone(), pairs.len());
                pairs.push((key, value, at));
            }
        }
    }
    let mut seen = BTreeMap::new();
    for (key, text, at) in pairs {
        let name = if key.contains('/') {
            key.strip_prefix('/').unwrap_or(&key).to_owned()
        } else {
            key.replace('.', "/")
        };
        let path = place.join(&name).map_err(|error| bad_name(at, &error))?;
        let value = with_kind(text, known.get(&path).copied());
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

/// A character and where it stands.
type Placed = (char, Position);

fn is_blank(one: char) -> bool {
    matches!(one, ' ' | '\t' | '\u{c}')
}

/// Lines without comments and blank ones, those that go on joined.
fn logical_lines(text: &str) -> Vec<Vec<Placed>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    let mut open: Option<Vec<Placed>> = None;
    let ends = text.replace("\r\n", "\n").replace('\r', "\n");
    for (number, natural) in ends.split('\n').enumerate() {
        let line = u32::try_from(number + 1).unwrap_or(u32::MAX);
        let mut characters: Vec<Placed> = (1..)
            .zip(natural.chars())
            .map(|(column, one)| (one, Position { line, column }))
            .skip_while(|(one, _)| is_blank(*one))
            .collect();
        let is_comment = matches!(characters.first(), None | Some(('#' | '!', _)));
        if open.is_none() && is_comment {
            continue;
        }
        let slashes = characters
            .iter()
            .rev()
            .take_while(|(one, _)| *one == '\\')
            .count();
        let goes_on = slashes % 2 == 1;
        if goes_on {
            characters.pop();
        }
        open.get_or_insert_default().append(&mut characters);
        if !goes_on {
            lines.extend(open.take());
        }
    }
    // A backslash at the end of the file joins nothing.
    lines.extend(open);
    lines.retain(|line| !line.is_empty());
    lines
}

fn pair(line: &[Placed]) -> Result<(String, String, Position), Fault> {
    let at = line
        .first()
        .map_or(Position { line: 1, column: 1 }, |(_, at)| *at);
    let mut escaped = false;
    let end = line.iter().position(|(one, _)| {
        let ends = !escaped && (matches!(one, '=' | ':') || is_blank(*one));
        escaped = !escaped && *one == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let blanks = rest.iter().take_while(|(one, _)| is_blank(*one)).count();
    let rest = &rest[blanks..];
    let rest = match rest.first() {
        Some(('=' | ':', _)) => {
            let rest = &rest[1..];
            let blanks = rest.iter().take_while(|(one, _)| is_blank(*one)).count();
            &rest[blanks..]
        }
        _ => rest,
    };
    Ok((unescape(key)?, unescape(rest)?, at))
}

fn unescape(text: &[Placed]) -> Result<String, Fault> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut buffer = [0; 2];
    let mut rest = text.iter();
    let mut last = None;
    while let Some((one, at)) = rest.next() {
        let meant = if *one == '\\' {
            match rest.next() {
                None => continue,
                Some(('t', _)) => '\t',
                Some(('n', _)) => '\n',
                Some(('r', _)) => '\r',
                Some(('f', _)) => '\u{c}',
                Some(('u', _)) => {
                    let digits: String = rest.by_ref().take(4).map(|(digit, _)| digit).collect();
                    let is_hex = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| is_hex);
                    units.push(
                        unit.ok_or_else(|| Fault::new(*at, "`\\u` is followed by four hexadecimal digits"))?,
                    );
                    last = Some(*at);
                    continue;
                }
                Some((other, _)) => *other,
            }
        } else {
            *one
        };
        units.extend_from_slice(meant.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units).map_err(|_| Fault::new(last, "`\\u` names half of a character"))
}

pub(super) fn write(place: &Place, entries: &[Entry]) -> Result<String, FormError> {
    let mut out = String::new();
    for entry in entries {
        let Some(below) = place.below(&entry.path) else {
            continue;
        };
        let name = match (below.contains('.'), below.contains('/')) {
            (false, _) => below.replace('/', "."),
            (true, true) => below.to_owned(),
            (true, false) => format!("/{below}"),
        };
        match text_of(Form::Properties, entry)? {
            None => {
                let _ = writeln!(out, "# {}: a secret that was not revealed", escape(&name, true));
            }
            Some(text) => {
                let _ = writeln!(out, "{}={}", escape(&name, true), escape(text, false));
            }
        }
    }
    Ok(out)
}

fn escape(text: &str, is_key: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, one) in text.chars().enumerate() {
        match one {
            ' ' if is_key || index == 0 => out.push_str("\\ "),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            '\\' | '=' | ':' | '#' | '!' => {
                out.push('\\');
                out.push(one);
            }
            ' '..='~' => out.push(one),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        logical_lines(text)
            .iter()
            .map(|line| pair(line).map(|(key, value, _)| (key, value)).expect("a pair"))
            .collect()
    }

    /// The examples of Java's documentation, and what it says beside them.
    #[test]
    fn what_java_s_documentation_says() {
        let truth = ("Truth".to_owned(), "Beauty".to_owned());
        for text in [
            "Truth = Beauty",
            "Truth:Beauty",
            "  Truth                    :Beauty",
            "Truth Beauty",
        ] {
            assert_eq!(pairs(text), std::slice::from_ref(&truth), "{text}");
        }
        let fruits = "fruits                           apple, banana, pear, \\\n                                  cantaloupe, watermelon, \\\n                                  kiwi, mango";
        assert_eq!(
            pairs(fruits),
            [(
                "fruits".to_owned(),
                "apple, banana, pear, cantaloupe, watermelon, kiwi, mango".to_owned()
            )]
        );
        assert_eq!(pairs("cheeses"), [("cheeses".to_owned(), String::new())]);
        assert_eq!(pairs("\\:\\=x"), [(":=x".to_owned(), String::new())]);
        for (text, key, value) in [
            ("a\\ b=c", "a b", "c"),
            ("a=\\z\\\"", "a", "z\""),
            ("a=b\\\\\nc=d", "a", "b\\"),
            ("# no \\\na=1", "a", "1"),
            ("! no\n\n  \u{c}\na==b", "a", "=b"),
            ("a=\\u00e9\\uD83D\\uDE00", "a", "é😀"),
            ("a=1 \r\nb=2", "a", "1 "),
            ("a=b\\\n# no comment", "a", "b# no comment"),
        ] {
            let found = pairs(text);
            assert_eq!(found[0], (key.to_owned(), value.to_owned()), "{text}");
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        let place = "/a/".parse().expect("a place");
        for (text, line, column) in [
            ("x=1\n  y=\\u12", 2, 5),
            ("x=\\uD83D", 1, 3),
            ("x=1\nb c/d=2\n/..=1", 3, 1),
        ] {
            let fault = read(&place, text, &[]).expect_err(text);
            assert_eq!(
                fault.position,
                Some(Position { line, column }),
                "{text}: {fault:?}"
            );
        }
    }
}
