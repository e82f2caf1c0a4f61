//! The attributes of an app: names, aliases, types, and the order in which a record has them.

use serde_json::{Map, Value, json};

mod convert;
mod cron;
mod table;
#[cfg(test)]
mod tests;

pub use convert::split_arguments;
pub use cron::check as check_cron;
use table::{ATTRIBUTES, Attribute};

/// What became of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Attributes by their own names, in the order of a record.
    pub conf: Map<String, Value>,
    /// Complaints, in PM2's words.
    pub errors: Vec<String>,
}

/// How camelCase is written with underscores: `maxMemoryRestart` is `max_memory_restart`.
fn underscored(key: &str) -> String {
    let mut text = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn attribute_of(key: &str) -> Option<&'static Attribute> {
    let by_name = |key: &str| {
        ATTRIBUTES
            .iter()
            .find(|attribute| attribute.name == key || attribute.aliases.contains(&key))
    };
    by_name(key).or_else(|| by_name(&underscored(key)))
}

/// Renames what a user wrote to the attributes' own names; values and unknown keys stay as they are.
pub fn canonical(given: &Map<String, Value>) -> Map<String, Value> {
    given
        .iter()
        .map(|(key, value)| {
            let name = attribute_of(key).map_or(key.as_str(), |attribute| attribute.name);
            (name.to_owned(), value.clone())
        })
        .collect()
}

/// What a record has about its app and the state of it, rather than from its environment.
pub fn is_setting(key: &str) -> bool {
    const STATE: [&str; 11] = [
        "pm_exec_path",
        "pm_cwd",
        "pm_out_log_path",
        "pm_err_log_path",
        "pm_log_path",
        "pm_pid_path",
        "pm_id",
        "pm_uptime",
        "status",
        "restart_time",
        "unstable_restarts",
    ];
    STATE.contains(&key) || key == "created_at" || ATTRIBUTES.iter().any(|attribute| attribute.name == key)
}

/// Renames, checks and converts what a user wrote. Unknown keys are dropped, except `env_NAME`.
pub fn check(given: &Map<String, Value>) -> Checked {
    let mut named: Map<String, Value> = Map::new();
    let mut environments = Map::new();
    for (key, value) in given {
        if let Some(attribute) = attribute_of(key) {
            if !value.is_null() {
                named.insert(attribute.name.to_owned(), value.clone());
            }
        } else if key.starts_with("env_") {
            environments.insert(key.clone(), value.clone());
        }
    }
    let mut checked = Checked::default();
    for attribute in ATTRIBUTES {
        let given = named.remove(attribute.name);
        let Some(value) = given.filter(|value| attribute.keeps_nothing || convert::is_truthy(value)) else {
            if let Some(default) = attribute.default {
                checked.conf.insert(attribute.name.to_owned(), default.value());
            }
            continue;
        };
        match attribute.convert(value) {
            Ok(value) => {
                checked.conf.insert(attribute.name.to_owned(), value);
            }
            Err(complaint) => checked.errors.push(complaint),
        }
    }
    checked.conf.extend(environments);
    settle(&mut checked.conf);
    checked
}

/// Attributes that decide about others.
fn settle(conf: &mut Map<String, Value>) {
    if conf.shift_remove("disable_trace").is_some() {
        conf.insert("trace".to_owned(), json!(false));
        reorder(conf);
    }
    if conf.get("time") == Some(&json!(true)) {
        conf.insert("log_date_format".to_owned(), json!(crate::date::USUAL));
        reorder(conf);
    }
    if conf.shift_remove("execute_command").is_some() {
        conf.insert("exec_mode".to_owned(), json!("fork_mode"));
        reorder(conf);
    }
}

/// Puts what was inserted late to its place.
pub fn reorder(conf: &mut Map<String, Value>) {
    let place = |key: &str| {
        ATTRIBUTES
            .iter()
            .position(|attribute| attribute.name == key)
            .unwrap_or(usize::MAX)
    };
    let mut fields: Vec<(String, Value)> = std::mem::take(conf).into_iter().collect();
    // Stable: what is no attribute stays behind, in its order.
    fields.sort_by_key(|(key, _)| place(key));
    conf.extend(fields);
}
