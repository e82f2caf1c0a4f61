//! Options of the command line as attributes of an app.

use std::path::Path;

use serde_json::{Map, Value, json};
use upkeep_pm2::schema;

use crate::{args::Options, context::Context};

/// Options whose value is the attribute's.
const VALUES: &[(&str, &str)] = &[
    ("name", "name"),
    ("namespace", "namespace"),
    ("interpreter", "exec_interpreter"),
    ("node-args", "node_args"),
    ("interpreter-args", "node_args"),
    ("output", "out_file"),
    ("error", "error_file"),
    ("log-type", "log_type"),
    ("log-date-format", "log_date_format"),
    ("instances", "instances"),
    ("pid", "pid_file"),
    ("kill-timeout", "kill_timeout"),
    ("listen-timeout", "listen_timeout"),
    ("max-memory-restart", "max_memory_restart"),
    ("restart-delay", "restart_delay"),
    ("exp-backoff-restart-delay", "exp_backoff_restart_delay"),
    ("user", "uid"),
    ("uid", "uid"),
    ("gid", "gid"),
    ("cwd", "cwd"),
    ("cron", "cron_restart"),
    ("cron-restart", "cron_restart"),
    ("stop-exit-codes", "stop_exit_codes"),
];

/// Options that are on when they are there.
const FLAGS: &[(&str, &str)] = &[
    ("time", "time"),
    ("disable-logs", "disable_logs"),
    ("force", "force"),
    ("shutdown-with-message", "shutdown_with_message"),
    ("execute-command", "execute_command"),
    ("source-map-support", "source_map_support"),
    ("disable-source-map-support", "disable_source_map_support"),
    ("wait-ready", "wait_ready"),
    ("merge-logs", "merge_logs"),
    ("write", "write"),
    ("trace", "trace"),
    ("disable-trace", "disable_trace"),
    ("v8", "v8"),
    ("event-loop-inspector", "event_loop_inspector"),
    ("deep-monitoring", "deep_monitoring"),
];

/// Options that take away what is there by default.
const NEGATED: &[(&str, &str)] = &[
    ("no-vizion", "vizion"),
    ("no-autostart", "autostart"),
    ("no-autorestart", "autorestart"),
    ("no-treekill", "treekill"),
    ("no-pmx", "pmx"),
    ("no-automation", "automation"),
];

/// What an option with an optional value means without one.
fn text_or_true(options: &Options, name: &str) -> Option<Value> {
    options
        .has(name)
        .then(|| options.text(name).map_or(json!(true), |text| json!(text)))
}

/// What was given as options, in the names of the schema.
pub(crate) fn given(context: &Context) -> Map<String, Value> {
    let options = &context.options;
    let mut given = Map::new();
    let mut set = |name: &str, value: Value| given.insert(name.to_owned(), value);
    for (option, attribute) in VALUES {
        if let Some(text) = options.text(option) {
            set(attribute, json!(text));
        }
    }
    for (option, attribute) in FLAGS {
        if options.has(option) {
            set(attribute, json!(true));
        }
    }
    for (option, attribute) in NEGATED {
        if options.has(option) {
            set(attribute, json!(false));
        }
    }
    for (option, attribute) in [("log", "log_file"), ("max-restarts", "max_restarts")] {
        if let Some(value) = text_or_true(options, option) {
            set(attribute, value);
        }
    }
    set("filter_env", json!(options.all("filter-env").collect::<Vec<_>>()));
    if let Some(delay) = options.text("watch-delay") {
        set("watch_delay", watch_delay(delay));
    }
    if let Some(text) = options.text("ignore-watch") {
        set("ignore_watch", json!(text));
    }
    if let Some(extensions) = options.text("ext") {
        let others = other_files(&context.cwd, extensions);
        if !others.is_empty() {
            set("ignore_watch", json!(others));
        }
    }
    if let Some(arguments) = &context.app_args {
        set("args", json!(arguments));
    }
    given
}

/// Seconds.
fn watch_delay(text: &str) -> Value {
    let milliseconds = text.parse::<f64>().map(|seconds| seconds * 1000.0);
    // What is no number is for the check to complain about.
    milliseconds.map_or_else(|_| json!(text), |number| json!(number.to_string()))
}

/// `--watch`: everything, or these. Among the words for the app it counts as well.
pub(crate) fn watch(context: &Context) -> Value {
    let options = &context.options;
    let paths: Vec<_> = options.all("watch").collect();
    if paths.is_empty() {
        let of_app = context.app_args.iter().flatten().any(|word| word == "--watch");
        json!(of_app || options.has("watch"))
    } else {
        json!(paths)
    }
}

/// The files under a folder that do not have one of these extensions.
fn other_files(folder: &Path, extensions: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if name != "node_modules" && depth < 32 {
                    folders.push((path, depth + 1));
                }
                continue;
            }
            let extension = path.extension().and_then(|extension| extension.to_str());
            if !extension
                .is_some_and(|extension| extensions.split(',').any(|wanted| wanted.trim() == extension))
            {
                files.push(path.display().to_string());
            }
        }
    }
    files.sort();
    files
}

/// Of what was given for a restart: only that, and what every restart sends.
pub(crate) fn current_conf(context: &Context, with_filter: bool) -> schema::Checked {
    let mut given = given(context);
    if !with_filter {
        given.shift_remove("filter_env");
    }
    let mut checked = schema::check(&given);
    for attribute in [
        "vizion",
        "autostart",
        "autorestart",
        "pmx",
        "automation",
        "treekill",
    ] {
        if !given.contains_key(attribute) {
            checked.conf.shift_remove(attribute);
        }
    }
    // The daemon takes away what is called so; other attributes are no texts, and are refused.
    if given.get("node_args") == Some(&json!("null")) {
        checked.conf.insert("node_args".to_owned(), json!("null"));
    }
    checked.conf.insert("env".to_owned(), json!({}));
    checked
}
