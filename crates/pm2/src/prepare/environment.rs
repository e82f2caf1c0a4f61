//! The variables of a new app.

use serde_json::{Map, Value, json};

use super::Place;

/// A value as the text that a variable must be.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The variables that an app gets from outside: nothing, or all but those that a list or a name takes out.
pub fn filter(variables: &Map<String, Value>, filter: Option<&Value>) -> Map<String, Value> {
    let words: Vec<&str> = match filter {
        Some(Value::Bool(true)) => return Map::new(),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(name)) => vec![name.as_str()],
        _ => Vec::new(),
    };
    let kept = |name: &str| !words.iter().any(|word| name.contains(word));
    let kept = variables.iter().filter(|(name, _)| kept(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Variables of a file: objects become JSON.
fn flat(env: &Map<String, Value>) -> impl Iterator<Item = (String, Value)> {
    env.iter().map(|(name, value)| {
        let value = match value {
            Value::Object(_) | Value::Array(_) => json!(value.to_string()),
            other => other.clone(),
        };
        (name.clone(), value)
    })
}

/// Replaces `env` by the whole environment.
pub(super) fn assemble(conf: &mut Map<String, Value>, place: &Place, python: bool) {
    let name = conf.get("name").map(as_text).unwrap_or_default();
    let mut env = filter(place.variables, conf.get("filter_env"));
    if place.from_file
        && let Some(cwd) = conf.get("cwd").and_then(Value::as_str)
    {
        env.insert("PWD".to_owned(), json!(cwd));
    }
    env.insert("PM2_USAGE".to_owned(), json!("CLI"));
    if place.from_file {
        env.insert("PM2_JSON_PROCESSING".to_owned(), json!("true"));
    }
    match conf.get("env") {
        Some(Value::Object(own)) => env.extend(flat(own)),
        Some(Value::String(text)) => {
            let pairs = text.split_whitespace().filter_map(|word| word.split_once('='));
            env.extend(pairs.map(|(name, value)| (name.to_owned(), json!(value))));
        }
        _ => {}
    }
    if let Some(io) = conf.get("io").filter(|io| io.is_object()) {
        env.insert("io".to_owned(), json!(io.to_string()));
    }
    if let Some(port) = conf.get("port").filter(|port| port.as_f64() != Some(0.0)) {
        env.insert("PORT".to_owned(), port.clone());
    }
    if python {
        env.insert("PYTHONUNBUFFERED".to_owned(), json!("1"));
    }
    let settings = place.module_conf.get(&name).cloned().unwrap_or_else(|| json!({}));
    let settings = if place.from_file {
        json!(settings.to_string())
    } else {
        settings
    };
    env.insert(name, settings);
    if let Some(environment) = place.environment
        && let Some(Value::Object(own)) = conf.get(&format!("env_{environment}"))
    {
        env.extend(flat(own));
    }
    conf.insert("env".to_owned(), Value::Object(env));
}
