//! Node's `util.inspect` for JSON.

/// A value as `console.log` shows it.
pub fn inspect(value: &serde_json::Value) -> String {
    value.to_string()
}
