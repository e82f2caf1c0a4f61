//! What an app is, once every default is filled in.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::AppName,
    limits::Limits,
    listen::{Balance, Door, Listen, Mode},
    logs::LogSpec,
    restart::RestartPolicy,
    rollout::RolloutPolicy,
    sandbox::{Level, Sandbox},
    schedule::Schedule,
    size::Span,
    stop::StopPolicy,
    supply::{ConfigUse, FileUse, OnChange},
};

/// What the daemon keeps running: complete, so that it means the same on every reading.
///
/// Made by [`crate::file::resolve`] from what a user wrote; carried by the API; kept in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppSpec {
    /// Unique name.
    pub name: AppName,
    /// Group of apps; `default` unless said otherwise. Selectors may name it.
    pub namespace: String,
    /// Program and arguments. The program is a path, or a name that is looked up in the app's own `PATH`.
    pub command: Vec<String>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// How many copies.
    pub instances: u32,
    /// What the user wrote in `env` and `env_file`: part of the identity of the spec.
    pub env: BTreeMap<String, String>,
    /// The caller's environment at the time (without what belongs to a terminal session): lower priority than
    /// `env`, and a change in it alone is not a change of the app.
    pub inherited_env: BTreeMap<String, String>,
    /// Name of the variable that tells an instance its index (`NODE_APP_INSTANCE` too is always set).
    pub instance_var: String,
    /// Apps that must have reached a condition first.
    pub depends_on: BTreeMap<AppName, Condition>,
    /// Restart policy.
    pub restart: RestartPolicy,
    /// Stop policy.
    pub stop: StopPolicy,
    /// Readiness check; without one an instance is healthy once it has been up for `restart.min_uptime`.
    pub readiness: Option<Probe>,
    /// User to run as: a name or a number; the daemon's own unless given.
    pub user: Option<String>,
    /// Group to run as: a name or a number; the user's own unless given.
    pub group: Option<String>,
    /// File mode creation mask, such as `0o022`.
    pub umask: Option<u32>,
    /// Resource limits by name: `nofile`, `nproc`, `core`, `as`, `cpu`, `data`, `fsize`, `memlock`, `stack`.
    pub rlimits: BTreeMap<String, Rlimit>,
    /// Whether the program may gain privileges through setuid files.
    pub no_new_privs: bool,
    /// Whether it starts when the daemon starts and when it is added.
    pub autostart: bool,
    /// Where its output goes.
    pub logs: LogSpec,
    /// How its instances share what they listen on.
    #[serde(default)]
    pub mode: Mode,
    /// Who gets a new connection, in a cluster.
    #[serde(default)]
    pub balance: Balance,
    /// Whether workers of a cluster get the small preload that lets kept connections end in peace.
    #[serde(default = "yes")]
    pub drain_preload: bool,
    /// Sockets that are bound for it and handed over as `LISTEN_FDS`.
    #[serde(default)]
    pub listen: Vec<Listen>,
    /// For programs that bind by themselves: instance i gets the port `port + i`, as `PORT` and `{port}`.
    #[serde(default)]
    pub port: Option<u16>,
    /// The front door of programs that bind by themselves.
    #[serde(default)]
    pub door: Option<Door>,
    /// Liveness check: while it fails, the instance is ended and started again.
    #[serde(default)]
    pub liveness: Option<Probe>,
    /// Startup check: until it succeeds the others are not made.
    #[serde(default)]
    pub startup: Option<Probe>,
    /// How instances are replaced.
    #[serde(default)]
    pub rollout: RolloutPolicy,
    /// Command that has to succeed before what runs is touched.
    #[serde(default)]
    pub check: Option<Vec<String>>,
    /// How much an instance may use.
    #[serde(default)]
    pub limits: Limits,
    /// How far it is kept apart.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// When it is run, if by the clock.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// What of the shared configuration it gets.
    #[serde(default)]
    pub config: Option<ConfigUse>,
    /// Files that are made for it from these values.
    #[serde(default)]
    pub files: Vec<FileUse>,
    /// What is done when these values change.
    #[serde(default)]
    pub on_change: OnChange,
}

const fn yes() -> bool {
    true
}

impl AppSpec {
    /// Whether what runs by this must be started anew to run by `other`: the number of copies does not count, nor how
    /// they are replaced, nor limits of what has been limited from its start.
    pub fn restarts_into(&self, other: &Self) -> bool {
        let other = Self {
            instances: self.instances,
            autostart: self.autostart,
            rollout: self.rollout,
            check: self.check.clone(),
            schedule: self.schedule.clone(),
            on_change: self.on_change,
            limits: if self.is_limited() {
                Limits {
                    oom_score: other.limits.oom_score,
                    ..self.limits.clone()
                }
            } else {
                other.limits.clone()
            },
            ..other.clone()
        };
        self.differs_from(&other)
    }

    /// Whether an instance is started in groups whose limits can be changed while it runs.
    pub fn is_limited(&self) -> bool {
        let none = Limits {
            oom_score: self.limits.oom_score,
            ..Limits::default()
        };
        self.sandbox.level != Level::None || self.limits != none
    }

    /// Whether `other` would run differently: everything but the inherited environment counts.
    pub fn differs_from(&self, other: &Self) -> bool {
        let strip = |spec: &Self| Self {
            inherited_env: BTreeMap::new(),
            ..spec.clone()
        };
        strip(self) != strip(other)
    }
}

/// What an app may wait for in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Every instance has been started.
    Started,
    /// Every instance is healthy.
    Healthy,
    /// Every instance has ended with success.
    #[serde(alias = "completed_successfully")]
    Completed,
}

/// How readiness is found out. Names and defaults of the fields follow Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// What is tried.
    pub check: Check,
    /// Time between tries.
    pub period: Span,
    /// Time one try may take.
    pub timeout: Span,
    /// Wait before the first try.
    pub initial_delay: Span,
    /// Failures in a row that make a ready instance unready.
    pub failure_threshold: u32,
    /// Successes in a row that make it ready.
    pub success_threshold: u32,
    /// Grace of the stop that a failure leads to; absent: the stop policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// Each pause is longer by up to so much, by chance: many probes do not come at once.
    #[serde(default)]
    pub jitter: Span,
}

/// One way to ask an instance whether it is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// `GET` answers with a status from 200 to 399.
    Http {
        /// Host or address.
        host: String,
        /// Port; 0: the one that the instance was given ([`AppSpec::port`], or behind a front door).
        port: u16,
        /// Path with query.
        path: String,
        /// Headers of the request, by name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
    },
    /// The port accepts a connection.
    Tcp {
        /// Host or address.
        host: String,
        /// Port; 0: the instance's own.
        port: u16,
    },
    /// The command ends with code 0.
    Exec {
        /// Program and arguments, run in the app's directory.
        command: Vec<String>,
    },
    /// A line of its output matches.
    Log {
        /// Regular expression.
        pattern: String,
    },
    /// It says so itself: `READY=1`, `WATCHDOG=1` (`sd_notify(3)`).
    Notify,
    /// It says so itself: `process.send('ready')` of Node.
    Message,
}

/// A soft and a hard limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rlimit {
    /// What holds now.
    pub soft: Option<u64>,
    /// What the program may raise it to.
    pub hard: Option<u64>,
}
