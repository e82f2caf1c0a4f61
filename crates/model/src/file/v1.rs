//! The written form of an app, version 1: what `upkeep.yaml`, `.toml` and `.json` hold.
//!
//! Everything is optional here; what an absent key means stands in its comment, and [`super::resolve`] makes it so.
//! The comments are the descriptions in the published schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::At;
use crate::{
    id::AppName,
    listen::{Balance, Mode},
};

mod apps;
mod listen;
mod policy;
mod probe;
mod rollout;
mod sandbox;
mod schedule;
mod supply;
mod value;

pub use self::{
    apps::{Apps, DependsOn},
    listen::{DoorSpec, ListenList, ListenSpec, TlsSpec},
    policy::{BackoffSpec, GiveUpSpec, Growing, Restart, RestartSpec, StartsWithinSpec, Stop},
    probe::{ExecCheck, HttpCheck, HttpGet, HttpHeader, HttpParts, Readiness, TcpCheck, TcpParts},
    rollout::{LimitsSpec, RolloutSpec},
    sandbox::{SandboxParts, SandboxSpec},
    schedule::{ScheduleParts, ScheduleSpec},
    supply::{ActionWord, ConfigSpec, FileSpec, OnChangeParts, OnChangeSpec},
    value::{Codes, Instances, LimitValue, OneOrMany, RlimitSpec, Scalar, SignalName, Umask},
};

/// Applications that Upkeep keeps running.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `apps`")]
pub struct File {
    /// Where the schema of this file is found; for editors, not read.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// The apps: a list, or a map from name to app.
    pub apps: Apps,
}

/// One application.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an app, which is a map")]
pub struct App {
    /// Unique name. Default: the name of the script or program without its extension.
    pub name: Option<At<String>>,
    /// File to run, relative to `cwd`. Its extension chooses the interpreter. Either this or `command`.
    pub script: Option<At<String>>,
    /// What to run, with its arguments: a list of words, or a line. A line with shell characters (`|`, `&&`, `$`, …)
    /// is run by `/bin/sh -c`.
    pub command: Option<At<OneOrMany>>,
    /// Arguments: a list of words, or a line that is split at blanks outside of quotes.
    pub args: Option<At<OneOrMany>>,
    /// Program that runs the script, or `none` for a script that is a program. Default: by extension.
    pub interpreter: Option<At<String>>,
    /// Arguments of the interpreter, before the script.
    #[serde(alias = "node_args")]
    pub interpreter_args: Option<At<OneOrMany>>,
    /// Working directory, relative to the directory of this file. Default: that directory.
    pub cwd: Option<String>,
    /// Group of apps that selectors may name. Default: `default`.
    pub namespace: Option<At<String>>,
    /// How many copies run, or `max` for one per CPU. Default: 1.
    pub instances: Option<At<Instances>>,
    /// Environment variables. They override those of `env_file`.
    pub env: Option<BTreeMap<String, Scalar>>,
    /// Files with `KEY=value` lines, relative to the directory of this file. Later ones override earlier ones.
    pub env_file: Option<At<OneOrMany>>,
    /// Variable that tells an instance its number. Default: `NODE_APP_INSTANCE`.
    pub instance_var: Option<String>,
    /// Apps that must be there first: a list of names (they have been started), or a map from name to `started`,
    /// `healthy` or `completed`.
    pub depends_on: Option<DependsOn>,
    /// When it is started again: a word, or a map. Default: `always`.
    pub restart: Option<At<Restart>>,
    /// How it is stopped.
    pub stop: Option<At<Stop>>,
    /// How it is found out that it is ready. Default: it is ready once it has been up for `restart.min_uptime`.
    pub readiness: Option<At<Readiness>>,
    /// User to run as, by name or number. Default: the user that Upkeep runs as.
    pub user: Option<At<String>>,
    /// Group to run as, by name or number. Default: the user's own.
    pub group: Option<At<String>>,
    /// File mode creation mask. The digits are octal however they are written: `0022`, `"0022"` and `22` are the same.
    pub umask: Option<Umask>,
    /// Resource limits: `nofile`, `nproc`, `core`, `as`, `cpu`, `data`, `fsize`, `memlock`, `stack`.
    pub rlimits: Option<BTreeMap<At<String>, RlimitSpec>>,
    /// Whether the program may never gain privileges, through setuid files for instance. Default: false.
    pub no_new_privs: Option<bool>,
    /// Whether it starts when it is added and when the machine starts. Default: true.
    pub autostart: Option<bool>,
    /// Where its output goes.
    pub logs: Option<Logs>,
    /// `fork`, or `cluster` for Node programs whose copies share what they listen on. Default: fork; in PM2's files
    /// `cluster` for a Node script with `instances`.
    pub mode: Option<Mode>,
    /// In a cluster, who gets a new connection: `shared` (whoever is first) or `rr` (one after the other). Default: shared.
    pub balance: Option<Balance>,
    /// Whether workers of a cluster get the preload that ends kept connections in peace. Default: true.
    pub drain_preload: Option<bool>,
    /// Sockets that are bound for it and handed to every copy (`LISTEN_FDS`): `3000`, `127.0.0.1:80`, `udp:53`,
    /// `unix:/run/shop.sock`, or a list of them.
    pub listen: Option<ListenList>,
    /// Port of the first copy, for programs that bind by themselves; the next ones count up. Given as `PORT` and `{port}`.
    pub port: Option<At<u16>>,
    /// Public address of programs that bind by themselves: a small proxy that knows who is ready.
    pub door: Option<At<DoorSpec>>,
    /// How it is found out that it still works; if not, it is ended and started again. Default: not at all.
    pub liveness: Option<At<Readiness>>,
    /// How it is found out that it has started; until then the other checks wait. Default: not at all.
    pub startup: Option<At<Readiness>>,
    /// How copies are replaced.
    pub rollout: Option<At<RolloutSpec>>,
    /// Command that has to succeed before anything that runs is touched, such as `nginx -t`.
    pub check: Option<At<OneOrMany>>,
    /// How much of the machine a copy may use.
    pub limits: Option<At<LimitsSpec>>,
    /// How far it is kept apart from the machine: `none`, `light`, `standard`, `strict`, or a map. Default: none.
    pub sandbox: Option<At<SandboxSpec>>,
    /// When it is run by the clock: a time, or a map. It is then not kept running.
    pub schedule: Option<At<ScheduleSpec>>,
    /// Place of the shared configuration whose values are variables of its environment (`/shop/prod/`), a list of them (later
    /// ones win), or a map of `places` and `env`. Default: none.
    pub config: Option<At<ConfigSpec>>,
    /// Files that are made from templates and the values of `config`.
    pub files: Option<Vec<At<FileSpec>>>,
    /// What is done when the values of `config` change: `reload`, `restart`, `none`, or a map. Default: reload.
    pub on_change: Option<At<OnChangeSpec>>,
    /// What else [`super::ecosystem`] found.
    #[serde(skip)]
    pub pm2: Pm2Extras,
}

/// Where output goes, and how much of it is kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map of `out`, `err`, `max_size`, `every`, `keep`, `max_age`, `max_total`, `compress`, `format`, `also` and `disabled`"
)]
pub struct Logs {
    /// File for standard output, relative to `cwd`. Default: one per instance under the home of Upkeep.
    pub out: Option<String>,
    /// File for standard error, relative to `cwd`. Default: one per instance under the home of Upkeep.
    pub err: Option<String>,
    /// Size at which a file is rotated. Default: 10M.
    pub max_size: Option<crate::size::ByteSize>,
    /// When a file is rotated by the clock as well: `hourly`, `daily`, `weekly` or a span. Default: by size only.
    pub every: Option<crate::logs::Every>,
    /// How many rotated files are kept. Default: 10.
    pub keep: Option<u32>,
    /// Rotated files are deleted when their last line is older than this, for instance `14d`. Default: at no age.
    pub max_age: Option<crate::size::Span>,
    /// How much all logs of the app may take on disk, for instance `1G`. Default: `keep` files of `max_size` each.
    pub max_total: Option<crate::size::ByteSize>,
    /// How rotated files are kept: `none`, `zstd`. Default: zstd.
    pub compress: Option<crate::logs::Compress>,
    /// What a line looks like in the file: `raw`, `timestamped`, `json`. Default: raw.
    pub format: Option<crate::logs::LogFormat>,
    /// Where output goes besides its files: `journald`, `syslog`, `syslog:udp:HOST:PORT`, `syslog:tcp:HOST:PORT`,
    /// `stdout` (of the service). Default: nowhere.
    #[schemars(length(max = 8))]
    pub also: Option<Vec<crate::logs::LogSink>>,
    /// Whether nothing is stored at all. Default: false.
    pub disabled: Option<bool>,
}

pub(crate) use self::value::INSTANCES_MAX;

/// What PM2's files say beyond the written form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pm2Extras {
    /// `env_NAME`, by name.
    pub env_by_name: BTreeMap<String, BTreeMap<String, Scalar>>,
    /// `name_prefix`.
    pub name_prefix: Option<String>,
    /// `append_env_to_name`.
    pub append_env_to_name: bool,
}

/// A dependency that was written.
pub type Dependency = (At<AppName>, crate::app::Condition);

/// Advice for keys that people bring from elsewhere, or that this version does not honour.
pub(super) fn advice(key: &str) -> Option<&'static str> {
    Some(match key {
        "kill_timeout" => "write `stop: {grace: …}`",
        "kill_signal" | "stop_signal" => "write `stop: {signal: …}`",
        "stop_grace_period" => "write `stop: {grace: …}`",
        "treekill" => "write `stop: {tree: …}`",
        "autorestart" => "write `restart: never`, or leave it out",
        "restart_delay" => "write `restart: {delay: …}`",
        "exp_backoff_restart_delay" => "write `restart: {backoff: {min: …}}`",
        "stop_exit_codes" => "write `restart: {stop_codes: …}`",
        "out_file" | "out_log" | "stdout_logfile" => "write `logs: {out: …}`",
        "error_file" | "err_log" | "stderr_logfile" => "write `logs: {err: …}`",
        "exec" | "cmd" => "write `script` for a file and `command` for a command line",
        "uid" => "write `user`",
        "gid" => "write `group`",
        "environment" => "write `env`",
        "working_dir" | "directory" | "workdir" => "write `cwd`",
        "replicas" | "numprocs" => "write `instances`",
        "healthcheck" | "readiness_probe" => "write `readiness`",
        "exec_mode" => "write `mode`",
        "wait_ready" => "write `readiness: {message: true}`",
        "cron" => "write `schedule`",
        "liveness_probe" => "write `liveness`",
        "startup_probe" => "write `startup`",
        "resources" => "write `limits`",
        "compress" => "write `logs: {compress: zstd}`, which is the default",
        "env_from" | "config_map" | "secrets" => "write `config: /shop/prod/`",
        "templates" => "write `files: [{template: …, to: …}]`",
        "watch" | "cron_restart" | "max_memory_restart" => "this version does not honour it yet",
        _ => return None,
    })
}
