//! Configuration reaches programs: variables and files, changed while they run, with the store away, and for programs that are
//! not ours.

mod away;
mod change;
mod env;
mod files;
mod hidden;
mod nginx;
mod render;
mod rights;

use std::path::Path;

use serde_json::{Value, json};
use upkeep_e2e::{LONG, app, environment, events, pids, wait_value, with};
use upkeep_testkit::{Home, wait_until};

/// An app that waits, gets `/shop/` and is quick to follow it.
fn shop(home: &Home, more: Value) -> Value {
    let quick = json!({
        "config": "/shop/",
        "on_change": {"wait": "100ms", "max": "1s"},
        "rollout": {"settle": "100ms", "timeout": "20s"},
        "restart": {"min_uptime": "200ms"},
        "stop": {"grace": "3s"},
    });
    with(with(app(home, "shop", &["wait"]), quick), more)
}

/// Sets values, all by calls of their own.
#[track_caller]
fn set(home: &Home, values: &[(&str, &str)]) {
    for (path, text) in values {
        home.ok(["config", "set", path, text]);
    }
}

/// Sets a secret.
#[track_caller]
fn set_secret(home: &Home, path: &str, text: &str) {
    let output = home.cmd_with_input(["config", "set", path, "-", "--secret"], text.as_bytes());
    assert_eq!(output.code, 0, "{output:?}");
}

/// What the API tells of an app's values.
#[track_caller]
fn told(home: &Home, name: &str) -> Value {
    home.json(["show", name])["config"].clone()
}

/// Waits for an event of a kind that names the app, and gives back all of them.
#[track_caller]
fn wait_event(home: &Home, name: &str, kind: &str, count: usize) -> Vec<Value> {
    wait_until(&format!("{count} events `{kind}` of {name}"), LONG, || {
        let found: Vec<Value> = events(home)
            .into_iter()
            .filter(|event| event["what"] == kind && event["target"] == name)
            .collect();
        if found.len() >= count {
            Ok(found)
        } else {
            Err(format!("{found:?}"))
        }
    })
}

/// Files below a folder that hold a text in clear.
fn holders(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                        found.push(path.display().to_string());
                    }
                }
                _ => {}
            }
        }
    }
    found
}
