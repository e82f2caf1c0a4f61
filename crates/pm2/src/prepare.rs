//! From attributes to the argument of the method `prepare`: everything absolute, everything decided.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::{
    home::Pm2Home,
    schema::{self, check_cron},
};

mod environment;
mod interpreter;
mod program;

pub use environment::{DEPLOY_ENV, as_text, filter, of_file, settings};
pub use program::{absolute, find_in_path, resolve_path};

/// Why an app cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No `script`.
    #[error("No script path - aborting")]
    NoScript,
    /// The script is neither a file nor in `PATH`.
    #[error("Script not found: {path}")]
    NoFile {
        /// Where it was looked for first.
        path: String,
    },
    /// A program that should run the script.
    #[error("Interpreter {name} is NOT AVAILABLE in PATH. (type 'which {name}' to double check.)")]
    NoInterpreter {
        /// As given, or by extension.
        name: String,
    },
    /// TypeScript without anything that runs it.
    #[error(
        "TypeScript apps require bun, Node.js >= 22.18 (native type stripping) or a custom interpreter (e.g. \
         --interpreter ts-node)"
    )]
    NoTypeScript,
    /// `uid`.
    #[error(" User {name} cannot be found")]
    NoUser {
        /// As given.
        name: String,
    },
    /// `gid`.
    #[error(" Group {name} cannot be found")]
    NoGroup {
        /// As given.
        name: String,
    },
    /// `cron_restart`.
    #[error("Cron pattern error: {why}")]
    Cron {
        /// What is wrong with it.
        why: String,
    },
    /// A folder for logs or pid files.
    #[error("failed to make `{path}`: {why}")]
    Folder {
        /// The folder.
        path: String,
        /// The kernel's words.
        why: String,
    },
}

/// A user as an app is started under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home.
    pub home: String,
}

/// What is around an app that is prepared.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The command's working directory.
    pub cwd: &'a Path,
    /// Where logs go.
    pub home: &'a Pm2Home,
    /// The command's environment, in its order.
    pub variables: &'a Map<String, Value>,
    /// Who runs the command.
    pub username: &'a str,
    /// The settings of modules and apps (`pm2 set`).
    pub module_conf: &'a Map<String, Value>,
    /// The name of `--env`.
    pub environment: Option<&'a str>,
    /// From a file; else from the command line.
    pub from_file: bool,
    /// Looks a user up by name or number.
    pub user: &'a dyn Fn(&str) -> Option<Account>,
    /// Looks a group up by name or number.
    pub group: &'a dyn Fn(&str) -> Option<u32>,
    /// The program that serves folders: what the script `serve` means.
    pub server: &'a Path,
    /// Is told what is done beside preparing.
    pub listener: &'a dyn Listener,
}

/// Who wants to know what is done beside preparing.
pub trait Listener {
    /// A folder for logs or pid files is not there, and is made.
    fn makes_folder(&self, folder: &Path);
}

impl Listener for () {
    fn makes_folder(&self, _: &Path) {}
}

impl std::fmt::Debug for Place<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Place")
            .field("cwd", &self.cwd)
            .field("from_file", &self.from_file)
            .finish_non_exhaustive()
    }
}

impl Place<'_> {
    pub(crate) fn path(&self) -> &str {
        self.variables
            .get("PATH")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// A name that comes from a script's path: the last part without its extension.
pub fn name_of_script(script: &str) -> String {
    let base = script.rsplit('/').find(|part| !part.is_empty()).unwrap_or(script);
    base.rfind('.').map_or(base, |at| &base[..at]).to_owned()
}

/// Decisions that start and restart have in common.
pub fn settle(conf: &mut Map<String, Value>, place: &Place) -> Result<(), PrepareError> {
    if let Some(Value::String(pattern)) = conf.get("cron_restart") {
        check_cron(pattern).map_err(|why| PrepareError::Cron { why })?;
    }
    let cluster = conf.get("exec_mode") == Some(&json!("cluster_mode"));
    let instances = conf.get("instances").and_then(Value::as_f64).unwrap_or(0.0);
    if !cluster && instances == 0.0 && !conf.contains_key("merge_logs") {
        conf.insert("merge_logs".to_owned(), json!(true));
    }
    // `false` was written, and has done what it should: not to be the default.
    if conf.get("merge_logs") == Some(&json!(false)) {
        conf.shift_remove("merge_logs");
    }
    if conf.get("automation") == Some(&json!(false)) {
        conf.insert("pmx".to_owned(), json!(false));
    }
    conf.insert("username".to_owned(), json!(place.username));
    account(conf, place)?;
    schema::reorder(conf);
    Ok(())
}

fn account(conf: &mut Map<String, Value>, place: &Place) -> Result<(), PrepareError> {
    let word = |key: &str| conf.get(key).map(as_text);
    let (uid, gid) = (word("uid"), word("gid"));
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    let name = uid.clone().unwrap_or_else(|| "undefined".to_owned());
    let account = (place.user)(&name)
        .filter(|_| uid.is_some())
        .ok_or(PrepareError::NoUser { name })?;
    let group = match gid {
        Some(name) => (place.group)(&name).ok_or(PrepareError::NoGroup { name })?,
        None => account.gid,
    };
    conf.insert("uid".to_owned(), json!(account.uid));
    conf.insert("gid".to_owned(), json!(group));
    let env = conf.entry("env").or_insert_with(|| json!({}));
    if let Value::Object(env) = env {
        env.insert("HOME".to_owned(), json!(account.home));
    }
    Ok(())
}

/// The argument of `prepare`.
pub fn prepare(mut conf: Map<String, Value>, place: &Place) -> Result<Map<String, Value>, PrepareError> {
    let script = match conf.shift_remove("script") {
        Some(Value::String(script)) if !script.is_empty() => script,
        _ => return Err(PrepareError::NoScript),
    };
    let text =
        |conf: &Map<String, Value>, key: &str| conf.get(key).and_then(Value::as_str).map(str::to_owned);
    let cwd = absolute(place.cwd, &text(&conf, "cwd").unwrap_or_default(), place);
    if !conf.contains_key("name") {
        conf.insert("name".to_owned(), json!(name_of_script(&script)));
    }
    let (program, itself) = program::resolve(&mut conf, &script, &cwd, place)?;
    let interpreter = if itself {
        "none".to_owned()
    } else {
        interpreter::resolve(&mut conf, &program, place)?
    };
    let python = interpreter.contains("python");
    environment::assemble(&mut conf, place, python);
    schema::reorder(&mut conf);
    if !conf.contains_key("namespace") {
        conf.insert("namespace".to_owned(), json!("default"));
    }
    if !conf.contains_key("node_args") {
        conf.insert("node_args".to_owned(), json!([]));
    }
    conf.insert("pm_exec_path".to_owned(), json!(program));
    conf.insert("pm_cwd".to_owned(), json!(cwd));
    conf.insert("exec_interpreter".to_owned(), json!(interpreter));
    let mode = mode(&conf, &interpreter);
    conf.insert("exec_mode".to_owned(), json!(mode));
    if !conf.contains_key("instances") {
        conf.insert("instances".to_owned(), json!(1));
    }
    log_paths(&mut conf, &cwd, place)?;
    conf.insert("km_link".to_owned(), json!(false));
    Ok(conf)
}

fn mode(conf: &Map<String, Value>, interpreter: &str) -> String {
    if let Some(Value::String(mode)) = conf.get("exec_mode") {
        return mode.clone();
    }
    let runs_workers = interpreter.ends_with("node") || interpreter.ends_with("bun");
    let many = conf
        .get("instances")
        .and_then(Value::as_f64)
        .is_some_and(|count| count >= -1.0);
    if many && runs_workers {
        "cluster_mode"
    } else {
        "fork_mode"
    }
    .to_owned()
}

fn log_paths(conf: &mut Map<String, Value>, cwd: &Path, place: &Place) -> Result<(), PrepareError> {
    let name = conf.get("name").map(as_text).unwrap_or_default();
    let pid = place
        .home
        .pids
        .join(format!("{}.pid", crate::home::file_name(&name)));
    let combined = place.home.default_log(&name, "");
    let rows = [
        ("log_file", "pm_log_path", combined),
        (
            "out_file",
            "pm_out_log_path",
            place.home.default_log(&name, "-out"),
        ),
        (
            "error_file",
            "pm_err_log_path",
            place.home.default_log(&name, "-error"),
        ),
        ("pid_file", "pm_pid_path", pid),
    ];
    for (given, key, default) in rows {
        let path = match conf.shift_remove(given) {
            Some(Value::String(text)) if text == "NULL" || text == "/dev/null" => PathBuf::from("/dev/null"),
            Some(Value::String(text)) => absolute(cwd, &text, place),
            Some(_) => default,
            None if given == "log_file" => continue,
            None => default,
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            place.listener.makes_folder(folder);
            std::fs::create_dir_all(folder).map_err(|error| PrepareError::Folder {
                path: folder.display().to_string(),
                why: error.to_string(),
            })?;
        }
        conf.insert(key.to_owned(), json!(path));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
