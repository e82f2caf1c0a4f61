//! What of this process decides how an app is prepared: environment, user, folders.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use upkeep_pm2::prepare::{Account, Listener, Place};

use crate::context::{Context, Failure};

/// Taken once, so that every app of a file is prepared alike.
#[derive(Debug)]
pub(crate) struct Surroundings {
    variables: Map<String, Value>,
    username: String,
    module_conf: Map<String, Value>,
    environment: Option<String>,
    server: PathBuf,
}

impl Surroundings {
    pub(crate) fn new(context: &Context) -> Result<Self, Failure> {
        let mut variables = variables();
        // PM2's command leaves these in its own environment, in this order: apps inherit the second one from the command
        // that gave birth to the daemon.
        if context.gave_birth {
            variables.insert("PM2_USAGE".to_owned(), json!("CLI"));
            variables.insert("PM2_INTERACTOR_PROCESSING".to_owned(), json!("true"));
        }
        Ok(Self {
            variables,
            username: username(),
            module_conf: module_conf(context),
            environment: context.options.text("env").map(str::to_owned),
            server: std::env::current_exe()
                .map_err(|error| Failure::new(format!("failed to find our own program: {error}")))?,
        })
    }

    pub(crate) fn place<'a>(&'a self, context: &'a Context, from_file: bool) -> Place<'a> {
        Place {
            cwd: &context.cwd,
            home: &context.home,
            variables: &self.variables,
            username: &self.username,
            module_conf: &self.module_conf,
            environment: self.environment.as_deref().filter(|_| from_file),
            from_file,
            user: &user,
            group: &|name| upkeep_sys::user::group(name).ok(),
            server: &self.server,
            listener: context,
        }
    }

    pub(crate) fn variables(&self) -> &Map<String, Value> {
        &self.variables
    }

    /// What `pm2 set NAME:key value` has made of an app's environment: the keys, and all of them under its name.
    pub(crate) fn settings_of(&self, name: &str) -> Map<String, Value> {
        upkeep_pm2::prepare::settings(&self.module_conf, name, false)
    }
}

impl Listener for Context {
    fn makes_folder(&self, folder: &Path) {
        self.warn_aside(format_args!("Folder does not exist: {}", folder.display()));
        // That nobody reads it does not keep the folder from being made.
        let _ = self.say(format_args!("Creating folder: {}", folder.display()));
    }
}

fn user(name: &str) -> Option<Account> {
    let user = upkeep_sys::user::user(name).ok()?;
    Some(Account {
        uid: user.uid,
        gid: user.gid,
        home: user.home,
    })
}

fn username() -> String {
    let named = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    let uid = std::fs::metadata("/proc/self")
        .ok()
        .map(|data| std::os::unix::fs::MetadataExt::uid(&data));
    let of_process = uid
        .and_then(|uid| upkeep_sys::user::user(&uid.to_string()).ok())
        .map(|user| user.name);
    of_process.or(named).unwrap_or_default()
}

fn module_conf(context: &Context) -> Map<String, Value> {
    std::fs::read(&context.home.module_conf)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Our environment, without what an app that runs us under PM2 has from PM2. Node takes the last ones out of the
/// environment of every program that it runs.
fn variables() -> Map<String, Value> {
    const OF_PM2: [&str; 28] = [
        "name",
        "pm_id",
        "status",
        "exec_mode",
        "exec_interpreter",
        "pm_exec_path",
        "pm_cwd",
        "pm_out_log_path",
        "pm_err_log_path",
        "pm_pid_path",
        "created_at",
        "pm_uptime",
        "unstable_restarts",
        "restart_time",
        "treekill",
        "version",
        "autostart",
        "autorestart",
        "instance_var",
        "pmx",
        "vizion",
        "username",
        "watch",
        "windowsHide",
        "instances",
        "automation",
        "merge_logs",
        "kill_retry_time",
    ];
    const OF_NODE: [&str; 2] = ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE"];
    let under_pm2 = std::env::var_os("pm_id").is_some() && std::env::var_os("pm_exec_path").is_some();
    let mut variables: Vec<(String, Value)> = std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                json!(value.to_string_lossy()),
            )
        })
        .filter(|(name, _)| {
            !(under_pm2 && OF_PM2.contains(&name.as_str()) || OF_NODE.contains(&name.as_str()))
        })
        .collect();
    if under_pm2 {
        // In this case PM2 goes through them from the last to the first.
        variables.reverse();
        for (_, value) in variables.iter_mut().filter(|(name, _)| name == "vizion_running") {
            *value = json!(false);
        }
    }
    variables.into_iter().collect()
}
