//! The variables of a new app.

use serde_json::{Map, Value, json};

use super::Place;

/// What the file's `deploy` has for the chosen environment: it counts more than `env`, and less than `env_NAME`. No attribute,
/// and never sent.
pub const DEPLOY_ENV: &str = "deploy_env";

/// A value as the text that a variable must be; numbers as JavaScript writes them.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .map_or_else(|| number.to_string(), crate::inspect::number_text),
        other => other.to_string(),
    }
}

/// The variables that an app gets from outside: all but those whose name has a word of a list in it, or is this word.
pub fn filter(variables: &Map<String, Value>, filter: Option<&Value>) -> Map<String, Value> {
    let words: Vec<&str> = match filter {
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let one = filter.and_then(Value::as_str);
    let kept = |name: &str| one != Some(name) && !words.iter().any(|word| name.contains(word));
    let kept = variables.iter().filter(|(name, _)| kept(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What `pm2 set NAME:key value` has made of an app's environment: each key, and all of them as JSON under its name.
/// Without settings only the name is there, with an empty object, or its text.
pub fn settings(module_conf: &Map<String, Value>, name: &str, as_json: bool) -> Map<String, Value> {
    let mut env = Map::new();
    match module_conf.get(name) {
        Some(Value::Object(own)) if !own.is_empty() => {
            env.extend(own.clone());
            env.insert(name.to_owned(), json!(json!(own).to_string()));
        }
        _ if as_json => {
            env.insert(name.to_owned(), json!("{}"));
        }
        _ => {
            env.insert(name.to_owned(), json!({}));
        }
    }
    env
}

/// The variables that a restart takes from a file, for an environment (`--env`). `port` counts at the start only.
pub fn of_file(conf: &Map<String, Value>, environment: Option<&str>) -> Map<String, Value> {
    let mut env = Map::new();
    if let Some(Value::Object(own)) = conf.get("env") {
        env.extend(flat(own));
    }
    if let Some(io) = conf.get("io").filter(|io| io.is_object()) {
        env.insert("io".to_owned(), json!(io.to_string()));
    }
    if let Some(Value::Object(of_deploy)) = conf.get(DEPLOY_ENV) {
        env.extend(flat(of_deploy));
    }
    if let Some(Value::Object(own)) = environment.and_then(|name| conf.get(&format!("env_{name}"))) {
        env.extend(flat(own));
    }
    env
}

/// Variables of a file: objects become JSON.
fn flat(env: &Map<String, Value>) -> impl Iterator<Item = (String, Value)> {
    env.iter().map(|(name, value)| {
        let value = match value {
            Value::Object(_) | Value::Array(_) | Value::Null => json!(value.to_string()),
            other => other.clone(),
        };
        (name.clone(), value)
    })
}

/// Replaces `env` by the whole environment.
pub(super) fn assemble(conf: &mut Map<String, Value>, place: &Place, python: bool) {
    let name = conf.get("name").map(as_text).unwrap_or_default();
    let mut env = filter(place.variables, conf.get("filter_env"));
    if let Some(cwd) = conf.get("cwd").and_then(Value::as_str) {
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
    env.extend(settings(place.module_conf, &name, place.from_file));
    if let Some(Value::Object(of_deploy)) = conf.shift_remove(DEPLOY_ENV) {
        env.extend(flat(&of_deploy));
    }
    if let Some(environment) = place.environment
        && let Some(Value::Object(own)) = conf.get(&format!("env_{environment}"))
    {
        env.extend(flat(own));
    }
    // JavaScript has numbers before all other keys.
    let (mut numbers, others): (Vec<_>, Vec<_>) =
        env.into_iter().partition(|(name, _)| index(name).is_some());
    numbers.sort_by_key(|(name, _)| index(name));
    conf.insert("env".to_owned(), numbers.into_iter().chain(others).collect());
}

/// A key that JavaScript takes for a number.
fn index(name: &str) -> Option<u32> {
    let number = name.parse().ok()?;
    (name == u32::to_string(&number) && number < u32::MAX).then_some(number)
}
