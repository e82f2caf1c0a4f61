//! From an ecosystem file to `upkeep.yaml`: what it says in our words, and what could not be carried over.
//!
//! Only what is written is carried over. PM2's defaults are not: SIGINT after which 1.6 s are left, or a give-up after 16 restarts within
//! a second, are what people leave behind.

use serde_json::{Map, Value, json};

use crate::{config::Config, record, schema};

/// The new file.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// What `upkeep.yaml` holds.
    pub file: Value,
    /// What it does not, one sentence each, with the app's name before it.
    pub left: Vec<String>,
}

/// Translates a file; `env` names the `env_NAME` that goes into `env`.
pub fn import(config: &Config, env: Option<&str>) -> Imported {
    let mut left = Vec::new();
    let apps: Vec<Value> = config
        .apps
        .iter()
        .map(|written| app(written, env, &mut left))
        .collect();
    if config.deploy.is_some() {
        left.push("`deploy` stays in the old file: `pm2 deploy` reads it there".to_owned());
    }
    Imported {
        file: json!({ "apps": apps }),
        left,
    }
}

fn app(written: &Map<String, Value>, env_name: Option<&str>, left: &mut Vec<String>) -> Value {
    let written = schema::canonical(written);
    let name = written
        .get("name")
        .and_then(record::scalar)
        .unwrap_or_else(|| "an app without a name".to_owned());
    let mut tell = |what: String| left.push(format!("{name}: {what}"));
    let mut app = Map::new();
    let (mut restart, mut stop, mut logs) = (Map::new(), Map::new(), Map::new());
    let mut env = Map::new();
    let millis = |value: &Value| {
        // A number is milliseconds; a text has its unit with it.
        record::scalar(value).map(|text| {
            if text.parse::<f64>().is_ok() {
                format!("{text}ms")
            } else {
                text
            }
        })
    };
    for (key, value) in &written {
        match key.as_str() {
            "name" | "namespace" | "cwd" | "args" | "instance_var" | "autostart" => {
                app.insert(key.clone(), value.clone());
            }
            "script" => {
                let line = value.as_str().unwrap_or_default();
                // A script with blanks is a command line to PM2.
                let key = if line.contains(' ') { "command" } else { "script" };
                app.insert(key.to_owned(), value.clone());
            }
            "exec_interpreter" | "interpreter" => {
                app.insert("interpreter".to_owned(), value.clone());
            }
            "node_args" | "interpreter_args" => {
                if !matches!(value, Value::Array(items) if items.is_empty()) {
                    app.insert("interpreter_args".to_owned(), value.clone());
                }
            }
            "instances" => match record::number(&written, "instances") {
                Some(count) if count >= 1.0 => {
                    app.insert(key.clone(), value.clone());
                }
                Some(count) if count < 0.0 => {
                    app.insert(key.clone(), "max".into());
                    tell(format!(
                        "`instances: {count}` (all processors but {}) became `max`",
                        -count
                    ));
                }
                _ => {
                    app.insert(key.clone(), "max".into());
                }
            },
            "exec_mode" => {
                if value.as_str().is_some_and(|mode| mode.starts_with("cluster")) {
                    tell("`exec_mode: cluster`: instances are processes of their own and do not share a port yet".to_owned());
                }
            }
            "uid" | "user" => {
                app.insert("user".to_owned(), value.clone());
            }
            "gid" => {
                app.insert("group".to_owned(), value.clone());
            }
            "env" => {
                if let Value::Object(variables) = value {
                    env.extend(variables.clone());
                }
            }
            "port" => {
                env.insert("PORT".to_owned(), value.clone());
            }
            "autorestart" => {
                if record::flag(&written, key) == Some(false) {
                    restart.insert("on".to_owned(), "never".into());
                }
            }
            "stop_exit_codes" => {
                restart.insert("stop_codes".to_owned(), value.clone());
            }
            "restart_delay" => {
                if let Some(delay) = millis(value).filter(|delay| delay != "0ms") {
                    restart.insert("delay".to_owned(), delay.into());
                }
            }
            "exp_backoff_restart_delay" => {
                if let Some(delay) = millis(value).filter(|delay| delay != "0ms") {
                    restart.insert("backoff".to_owned(), json!({ "min": delay, "max": "15s" }));
                }
            }
            "min_uptime" => {
                if let Some(uptime) = millis(value) {
                    restart.insert("min_uptime".to_owned(), uptime.into());
                }
            }
            "max_restarts" => tell(format!(
                "`max_restarts: {value}` counts exits before `min_uptime`; ours gives up after 15 starts within 5 minutes \
                 (`restart: {{give_up_after: …}}`)"
            )),
            "kill_timeout" => {
                if let Some(grace) = millis(value) {
                    stop.insert("grace".to_owned(), grace.into());
                }
            }
            "treekill" => {
                if record::flag(&written, key) == Some(true) {
                    stop.insert("tree".to_owned(), true.into());
                }
            }
            "out_file" => {
                logs.insert("out".to_owned(), value.clone());
            }
            "error_file" => {
                logs.insert("err".to_owned(), value.clone());
            }
            "disable_logs" => {
                logs.insert("disabled".to_owned(), value.clone());
            }
            "env_file" => {
                app.insert(key.clone(), value.clone());
            }
            // What belongs to PM2's own workings, or is a default of ours.
            "merge_logs"
            | "vizion"
            | "pmx"
            | "automation"
            | "windowsHide"
            | "username"
            | "kill_retry_time"
            | "time"
            | "log_date_format"
            | "source_map_support"
            | "disable_source_map_support"
            | "force"
            | "write" => {}
            other => {
                if let Some(of) = other.strip_prefix("env_") {
                    if Some(of) != env_name {
                        tell(format!("`{other}` (choose it with `--env {of}`)"));
                    }
                } else if says_something(value) {
                    tell(format!("`{other}` has no counterpart in `upkeep.yaml` yet"));
                }
            }
        }
    }
    if let Some(Value::Object(variables)) = env_name.and_then(|of| written.get(&format!("env_{of}"))) {
        env.extend(variables.clone());
    }
    for (key, part) in [("env", env), ("restart", restart), ("stop", stop), ("logs", logs)] {
        if !part.is_empty() {
            app.insert(key.to_owned(), Value::Object(part));
        }
    }
    Value::Object(app)
}

fn says_something(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
        && value != &json!(0)
        && value != &json!("")
        && value != &json!([])
        && value != &json!({})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_carried_over_or_named() {
        let config = crate::config::parse(&json!({
            "apps": [{
                "name": "shop", "script": "server.js", "exec_mode": "cluster", "instances": -1,
                "env": {"A": 1}, "env_production": {"A": 2}, "kill_timeout": 3000, "max_memory_restart": "200M",
                "errFile": "e.log", "autorestart": false, "watch": false,
            }],
            "deploy": {"production": {}},
        }));
        let imported = import(&config, Some("production"));
        assert_eq!(
            imported.file["apps"][0],
            json!({
                "name": "shop", "script": "server.js", "instances": "max",
                "env": {"A": 2}, "restart": {"on": "never"}, "stop": {"grace": "3000ms"},
                "logs": {"err": "e.log"},
            })
        );
        let left = imported.left.join("\n");
        for word in ["cluster", "instances", "max_memory_restart", "deploy"] {
            assert!(left.contains(word), "{word} in {left}");
        }
        assert!(!left.contains("watch"), "{left}");
    }
}
