//! Node's `util.inspect(value, false, null, false)` for JSON: what `prettylist`, `id` and `slist` print.
//!
//! Lengths are UTF-16 units, as JavaScript counts them.

use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

/// A line is folded beyond this.
const BREAK_LENGTH: usize = 80;
/// Longer texts are cut.
const MAX_STRING: usize = 10_000;
/// Longer lists are cut.
const MAX_ITEMS: usize = 100;
/// So many levels of what is innermost may share a line.
const COMPACT: usize = 3;

/// A value as `console.log` shows it.
pub fn inspect(value: &Value) -> String {
    let mut view = View::default();
    view.value(value, 0)
}

#[derive(Default)]
struct View {
    indentation: usize,
    /// The depth of the object that was entered last.
    depth: usize,
}

impl View {
    fn value(&mut self, value: &Value, above: usize) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), number_text),
            Value::String(text) => self.text(text),
            Value::Array(items) if items.is_empty() => "[]".to_owned(),
            Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
            Value::Array(items) => {
                self.depth = above + 1;
                let lines = self.items(items, above + 1);
                let entries = lines.len();
                let lines = if entries > 6 {
                    self.grouped(lines, items)
                } else {
                    lines
                };
                let whole = lines.len() == entries;
                self.fold(&lines, ('[', ']'), above + 1, whole)
            }
            Value::Object(fields) => {
                self.depth = above + 1;
                let lines: Vec<String> = in_order(fields)
                    .into_iter()
                    .map(|(key, value)| {
                        self.indentation += 2;
                        let text = self.value(value, above + 1);
                        self.indentation -= 2;
                        format!("{}: {text}", key_text(key))
                    })
                    .collect();
                self.fold(&lines, ('{', '}'), above + 1, true)
            }
        }
    }

    fn items(&mut self, items: &[Value], depth: usize) -> Vec<String> {
        self.indentation += 2;
        let mut lines: Vec<String> = items
            .iter()
            .take(MAX_ITEMS)
            .map(|item| self.value(item, depth))
            .collect();
        self.indentation -= 2;
        if let Some(more) = items.len().checked_sub(MAX_ITEMS).filter(|more| *more > 0) {
            lines.push(format!("... {more} more item{}", if more > 1 { "s" } else { "" }));
        }
        lines
    }

    fn text(&self, text: &str) -> String {
        let length = units(text);
        let (text, trailer) = if length > MAX_STRING {
            let more = length - MAX_STRING;
            let plural = if more > 1 { "s" } else { "" };
            (cut(text), format!("... {more} more character{plural}"))
        } else {
            (text, String::new())
        };
        let length = length.min(MAX_STRING);
        if length <= 16 || length + self.indentation + 4 <= BREAK_LENGTH {
            return quoted(text) + &trailer;
        }
        let lines: Vec<String> = text.split_inclusive('\n').map(quoted).collect();
        lines.join(&format!(" +\n{}", " ".repeat(self.indentation + 2))) + &trailer
    }

    /// On one line if it fits and is not too deep, else one entry a line.
    fn fold(&self, lines: &[String], (open, close): (char, char), depth: usize, may_join: bool) -> String {
        if may_join && self.depth - depth < COMPACT {
            let start = lines.len() + self.indentation + 1 + 10;
            let length = lines.iter().map(|line| units(line)).sum::<usize>() + lines.len() + start;
            if length <= BREAK_LENGTH && !lines.iter().any(|line| line.contains('\n')) {
                return format!("{open} {} {close}", lines.join(", "));
            }
        }
        let indentation = format!("\n{}", " ".repeat(self.indentation));
        let between = format!(",{indentation}  ");
        format!(
            "{open}{indentation}  {}{indentation}{close}",
            lines.join(&between)
        )
    }

    /// Short entries of a long list in columns.
    fn grouped(&self, lines: Vec<String>, items: &[Value]) -> Vec<String> {
        let count = lines.len().min(MAX_ITEMS);
        let widths: Vec<usize> = lines[..count].iter().map(|line| line.width()).collect();
        let total: usize = widths.iter().map(|width| width + 2).sum();
        let longest = widths.iter().copied().max().unwrap_or(0);
        let widest = longest + 2;
        let (total_f, widest_f, count_f) = (total as f64, widest as f64, count as f64);
        if widest * 3 + self.indentation >= BREAK_LENGTH || !(total_f / widest_f > 5.0 || longest <= 6) {
            return lines;
        }
        let bias = (widest_f - total_f / lines.len() as f64).max(0.0).sqrt();
        let biased = (widest_f - 3.0 - bias).max(1.0);
        // A few dozen at most.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let square = ((2.5 * biased * count_f).sqrt() / biased + 0.5).floor() as usize;
        let columns = square
            .min((BREAK_LENGTH - self.indentation) / widest)
            .min(COMPACT * 4)
            .min(15);
        if columns <= 1 {
            return lines;
        }
        let column_width = |column: usize| {
            let longest = widths.iter().skip(column).step_by(columns).copied().max();
            longest.unwrap_or(0) + 2
        };
        let column_widths: Vec<usize> = (0..columns).map(column_width).collect();
        let to_the_right = items.iter().take(lines.len()).all(Value::is_number);
        let mut rows = Vec::new();
        for (row, widths) in lines[..count].chunks(columns).zip(widths.chunks(columns)) {
            let mut text = String::new();
            for (index, (line, width)) in row.iter().zip(widths).enumerate() {
                let last = index + 1 == row.len();
                let blanks = " ".repeat(column_widths[index] - 2 - width);
                match (to_the_right, last) {
                    (true, true) => text.push_str(&format!("{blanks}{line}")),
                    (true, false) => text.push_str(&format!("{blanks}{line}, ")),
                    (false, true) => text.push_str(line),
                    (false, false) => text.push_str(&format!("{line}, {blanks}")),
                }
            }
            rows.push(text);
        }
        rows.extend(lines.into_iter().skip(count));
        rows
    }
}

/// JavaScript puts keys that are array indexes first, in their order.
fn in_order(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let index = |key: &str| {
        key.parse::<u32>()
            .ok()
            .filter(|index| *index < u32::MAX && index.to_string() == key)
    };
    let mut list: Vec<_> = fields.iter().collect();
    // Stable: what is no index stays in its order.
    list.sort_by_key(|(key, _)| index(key).map_or(u64::MAX, u64::from));
    list
}

fn units(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.encode_utf16().count()
    }
}

/// The first [`MAX_STRING`] units. A character of two that would be cut in the middle is left out.
fn cut(text: &str) -> &str {
    let mut count = 0;
    for (at, character) in text.char_indices() {
        count += character.len_utf16();
        if count > MAX_STRING {
            return &text[..at];
        }
    }
    text
}

fn key_text(key: &str) -> String {
    if key == "__proto__" {
        return "['__proto__']".to_owned();
    }
    let plain = key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && key.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if plain { key.to_owned() } else { quoted(key) }
}

/// In the quotes that need the least escaping.
fn quoted(text: &str) -> String {
    let quote = match (text.contains('\''), text.contains('"')) {
        (false, _) => '\'',
        (true, false) => '"',
        (true, true) if !text.contains('`') && !text.contains("${") => '`',
        (true, true) => '\'',
    };
    let mut result = String::with_capacity(text.len() + 2);
    result.push(quote);
    for character in text.chars() {
        match character {
            '\'' if quote == '\'' => result.push_str("\\'"),
            '\\' => result.push_str("\\\\"),
            '\u{8}' => result.push_str("\\b"),
            '\t' => result.push_str("\\t"),
            '\n' => result.push_str("\\n"),
            '\u{c}' => result.push_str("\\f"),
            '\r' => result.push_str("\\r"),
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => result.push_str(&format!("\\x{:02X}", u32::from(character))),
            _ => result.push(character),
        }
    }
    result.push(quote);
    result
}

/// A number as JavaScript writes it: the shortest digits, an exponent only when very large or very small.
pub fn number_text(number: f64) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let magnitude = number.abs();
    if (1e-6..1e21).contains(&magnitude) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests;
