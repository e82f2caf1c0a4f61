//! The record of a process, `pm2_env`: a flat JSON object.
//!
//! Users read it (`jlist`, `prettylist`, dumps, dashboards), in the order in which its keys were put in, so it stays
//! the object it came as. What is read from it here is read with care: a value of another type than expected counts
//! as absent, and numbers may be quoted.

use serde_json::{Map, Value};

/// A record. Keys keep their order.
pub type Record = Map<String, Value>;

/// A text.
pub fn text<'a>(record: &'a Record, key: &str) -> Option<&'a str> {
    record.get(key).and_then(Value::as_str)
}

/// A flag: `true` or `"true"`.
pub fn flag(record: &Record, key: &str) -> Option<bool> {
    match record.get(key)? {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text == "true" => Some(true),
        Value::String(text) if text == "false" => Some(false),
        _ => None,
    }
}

/// A number, also a quoted one.
pub fn number(record: &Record, key: &str) -> Option<f64> {
    as_number(record.get(key)?)
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A whole number that is not negative, also a quoted one.
pub fn count(record: &Record, key: &str) -> Option<u64> {
    whole(number(record, key)?)
}

fn whole(number: f64) -> Option<u64> {
    // Exact below 2^53, and nothing that is counted here is larger.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (number.is_finite() && number >= 0.0).then_some(number as u64)
}

/// A time span in milliseconds: a number, or a text such as `10s`, `1m`, `1h`.
pub fn millis(record: &Record, key: &str) -> Option<u64> {
    let value = record.get(key)?;
    if let Some(number) = as_number(value) {
        return whole(number);
    }
    let text = value.as_str()?.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let factor = match unit {
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return None,
    };
    whole(digits.trim().parse::<f64>().ok()? * factor)
}

/// A list of texts: of a list its scalars, of a text the one.
pub fn texts(record: &Record, key: &str) -> Vec<String> {
    match record.get(key) {
        Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
        Some(Value::String(text)) if !text.is_empty() => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// A number, a flag or a text, as a variable of an environment shows it; nothing for null, lists and objects.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        // A whole number that came as `1.0` is shown as Node shows it.
        Value::Number(number) => Some(match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
            _ => number.to_string(),
        }),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_may_be_written() {
        let Value::Object(record) = serde_json::json!({
            "a": "1600", "b": 2.5, "c": "2m", "d": {"x": 1}, "e": "true", "f": [1, "b", null], "g": -3, "h": "1h30"
        }) else {
            return;
        };
        assert_eq!(count(&record, "a"), Some(1600));
        assert_eq!(number(&record, "b"), Some(2.5));
        assert_eq!(millis(&record, "c"), Some(120_000));
        assert_eq!(count(&record, "d"), None);
        assert_eq!(flag(&record, "e"), Some(true));
        assert_eq!(texts(&record, "f"), ["1", "b"]);
        assert_eq!(count(&record, "g"), None);
        assert_eq!(millis(&record, "h"), None);
        assert_eq!(millis(&record, "none"), None);
    }
}
