//! Values as they were written, to values as a record has them.

use serde_json::{Value, json};

use super::table::{Attribute, Form, Type};

/// What JavaScript takes for true.
pub(crate) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// A number as it would be in JavaScript: whole ones without a point.
pub(super) fn number(number: f64) -> Value {
    // Exact: beyond 2^53 it stays as it is.
    #[expect(clippy::cast_possible_truncation)]
    let whole = number as i64;
    if number.fract() == 0.0 && number.abs() < 9.0e15 {
        json!(whole)
    } else {
        json!(number)
    }
}

fn class(value: &Value) -> &'static str {
    match value {
        Value::Null => "[object Null]",
        Value::Bool(_) => "[object Boolean]",
        Value::Number(_) => "[object Number]",
        Value::String(_) => "[object String]",
        Value::Array(_) => "[object Array]",
        Value::Object(_) => "[object Object]",
    }
}

impl Type {
    fn class(self) -> &'static str {
        match self {
            Self::Text => "[object String]",
            Self::Number => "[object Number]",
            Self::Flag => "[object Boolean]",
            Self::List => "[object Array]",
            Self::Object => "[object Object]",
        }
    }
}

/// Digits and a unit: the number and the unit's letter in upper case.
fn amount(text: &str, units: &str) -> Option<(f64, Option<char>)> {
    let (digits, unit) = match text.char_indices().last()? {
        (at, last) if last.is_ascii_alphabetic() => (&text[..at], Some(last.to_ascii_uppercase())),
        _ => (text, None),
    };
    let known = unit.is_none_or(|unit| units.contains(unit));
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (known && plain).then(|| digits.parse().ok().map(|number| (number, unit)))?
}

impl Attribute {
    /// Checks and converts; the error is PM2's sentence.
    pub(super) fn convert(&self, value: Value) -> Result<Value, String> {
        let name = self.name;
        let value = match (self.form, value) {
            (Form::Size, Value::String(text)) => amount(&text, "GMK")
                .map(|(number, unit)| {
                    let factor = match unit {
                        Some('G') => 1024.0 * 1024.0 * 1024.0,
                        Some('M') => 1024.0 * 1024.0,
                        Some('K') => 1024.0,
                        _ => 1.0,
                    };
                    self::number(number * factor)
                })
                .ok_or_else(|| {
                    format!(
                        "Verify \"{name}\" with regex failed, it should be a NUMBER - byte, \"[NUMBER]G\"(Gigabyte), \
                         \"[NUMBER]M\"(Megabyte) or \"[NUMBER]K\"(Kilobyte)"
                    )
                })?,
            (Form::Time, Value::String(text)) => amount(&text, "HMS")
                .map(|(number, unit)| {
                    let factor = match unit {
                        Some('H') => 3_600_000.0,
                        Some('M') => 60_000.0,
                        Some('S') => 1000.0,
                        _ => 1.0,
                    };
                    self::number(number * factor)
                })
                .ok_or_else(|| {
                    format!(
                        "Verify \"{name}\" with regex failed, it should be a NUMBER - milliseconds, \
                         \"[NUMBER]h\"(hours), \"[NUMBER]m\"(minutes) or \"[NUMBER]s\"(seconds)"
                    )
                })?,
            (Form::Words, Value::String(text)) => json!(split_arguments(&text)),
            (Form::Names, Value::String(text)) => json!(text.split_whitespace().collect::<Vec<_>>()),
            (Form::Mode, Value::String(text)) => match text.as_str() {
                "fork" | "fork_mode" => json!("fork_mode"),
                "cluster" | "cluster_mode" => json!("cluster_mode"),
                _ => {
                    return Err(format!(
                        "Verify \"{name}\" with regex failed, it should be \"cluster\"(\"cluster_mode\") or \
                         \"fork\"(\"fork_mode\") only"
                    ));
                }
            },
            (Form::Instances, value) => instances(&value),
            (Form::Cron, Value::String(text)) if text.trim() == "0" => json!(0),
            (_, Value::String(text)) if self.types.contains(&Type::Number) && !self.types.contains(&Type::Text) => {
                // Numbers may be quoted.
                let parsed = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
                parsed.map_or(Value::String(text), self::number)
            }
            (_, value) => value,
        };
        if !self.types.iter().any(|kind| kind.class() == class(&value)) {
            let classes: Vec<_> = self.types.iter().map(|kind| kind.class()).collect();
            return Err(format!(
                "Expect \"{name}\" to be a typeof {}, but now is {}",
                classes.join(" / "),
                class(&value)
            ));
        }
        let too_small = |least: &u32| value.as_f64().is_some_and(|number| number < f64::from(*least));
        if let Some(least) = self.least.filter(too_small) {
            return Err(format!(
                "The minimum of \"{name}\" is {least}, but now is {value}"
            ));
        }
        Ok(value)
    }
}

/// What cannot be read counts as `max`, which is 0.
fn instances(value: &Value) -> Value {
    match value {
        Value::Number(_) => value.clone(),
        Value::String(text) => {
            let digits = text.trim();
            let end = digits
                .char_indices()
                .find(|(at, letter)| !(letter.is_ascii_digit() || *at == 0 && matches!(letter, '-' | '+')))
                .map_or(digits.len(), |(at, _)| at);
            json!(digits[..end].parse::<i64>().unwrap_or(0))
        }
        _ => json!(0),
    }
}

/// Splits at blanks, except inside of quotes. A word that is quoted as a whole loses its quotes; in `--k="a b"` they stay.
pub fn split_arguments(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut begun = false;
    for letter in text.chars() {
        match quote {
            Some(open) => {
                word.push(letter);
                if letter == open {
                    quote = None;
                }
            }
            None if letter.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            None => {
                // Elsewhere in a word it is a letter like others.
                if matches!(letter, '"' | '\'') && (word.is_empty() || word.ends_with('=')) {
                    quote = Some(letter);
                }
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words.into_iter().map(unquoted).collect()
}

fn unquoted(word: String) -> String {
    for quote in ['"', '\''] {
        let inside = word.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inside) = inside.filter(|inside| !inside.contains(quote)) {
            return inside.to_owned();
        }
    }
    word
}
