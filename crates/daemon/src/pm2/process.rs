//! One process of the list.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    os::fd::OwnedFd,
    path::PathBuf,
    rc::Rc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use upkeep_model::{
    restart::{Backoff, GiveUp, RestartOn, RestartPolicy},
    size::Span,
    state::Actual,
    stop::StopPolicy,
};
use upkeep_pm2::record::{self, Record};
use upkeep_supervise::{
    event::Timer,
    instance::{Instance, Policy},
    pm2::{Counters, Rules},
};

use super::god::Variables;
use crate::{
    node::{channel::Channel, primary::Primary},
    tasks::Task,
};

/// Key of a process in the keeper's table. A replacement that runs beside the old one has a key of its own.
pub(super) fn key(id: u64, generation: u64) -> String {
    format!("{KEY}{id}:{generation}")
}

const KEY: &str = "pm2:";

/// The process and generation of a key.
pub(crate) fn parse_key(key: &str) -> Option<(u64, u64)> {
    let (id, generation) = key.strip_prefix(KEY)?.split_once(':')?;
    Some((id.parse().ok()?, generation.parse().ok()?))
}

/// Where its logs and its pid file are, before an id is put in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places {
    pub(super) out: Option<String>,
    pub(super) err: Option<String>,
    pub(super) combined: Option<String>,
    pub(super) pid: Option<String>,
}

/// What the next daemon must know: kept with the keeper after every step, and in the store after every command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Format of this.
    pub(super) version: u32,
    pub(super) record: Record,
    pub(super) machine: Instance,
    pub(super) counters: Counters,
    pub(super) places: Places,
    pub(super) generation: u64,
    pub(super) errored: bool,
    pub(super) online: bool,
    /// Cluster workers: what they listen on.
    #[serde(default)]
    pub(super) worker: u64,
}

/// Format of [`Kept`].
pub(super) const KEPT_VERSION: u32 = 1;

/// Everything about a process.
pub(super) struct State {
    pub(super) record: Record,
    pub(super) machine: Instance,
    pub(super) counters: Counters,
    pub(super) places: Places,
    /// Its stop policy, and the restart policy that the last exit was judged by.
    pub(super) policy: Policy,
    pub(super) timers: BTreeMap<Timer, Task>,
    pub(super) channel: Option<Rc<Channel>>,
    /// As a worker of a cluster: who answers it.
    pub(super) primary: Option<Primary>,
    pub(super) stdin: Option<OwnedFd>,
    /// Which of its log pipes the keeper was asked for.
    pub(super) piped: HashSet<String>,
    /// Counts its processes; part of the keeper's key.
    pub(super) generation: u64,
    /// It was started and, if it tells, has told that it is ready.
    pub(super) online: bool,
    /// It was given up, or could not be started or stopped.
    pub(super) errored: bool,
    /// PM2's pause that never ends (`supervise::pm2`).
    pub(super) waits_for_ever: bool,
    /// The next process counts as a restart.
    pub(super) counts: bool,
    /// What is left of its last process is being ended; until then nothing is started.
    pub(super) sweep: Option<Task>,
    pub(super) spawn_after_sweep: bool,
    /// Waits for `ready` at most so long.
    pub(super) listen: Option<Task>,
    pub(super) watch: Option<super::watch::Watch>,
    pub(super) cron: Option<Task>,
    /// Counts answers of the keeper to spawns, also refusals: who ordered a start waits for the next one.
    pub(super) answers: u64,
    /// Why the last start failed.
    pub(super) trouble: Option<String>,
    pub(super) deleted: bool,
    /// Another process has taken its id; this one is about to end.
    pub(super) retired: bool,
    /// As a worker of a cluster: its number, never used twice.
    pub(super) worker: u64,
    /// In cluster mode: it has said that it listens.
    pub(super) listening: bool,
}

/// One process of the list.
pub(super) struct Process {
    pub(super) id: u64,
    pub(super) state: RefCell<State>,
}

impl State {
    pub(super) fn new(record: Record, places: Places, variables: &Variables, now_ms: u64) -> Self {
        let policy = policy(&record, variables);
        Self {
            record,
            machine: Instance::new(now_ms),
            counters: Counters::default(),
            places,
            policy,
            timers: BTreeMap::new(),
            channel: None,
            primary: None,
            stdin: None,
            piped: HashSet::new(),
            generation: 0,
            online: false,
            errored: false,
            waits_for_ever: false,
            counts: false,
            sweep: None,
            spawn_after_sweep: false,
            listen: None,
            watch: None,
            cron: None,
            answers: 0,
            trouble: None,
            deleted: false,
            retired: false,
            worker: 0,
            listening: false,
        }
    }

    /// Its process has ended, or was not started: nobody is at the other ends any more.
    pub(super) fn hang_up(&mut self, id: u64) {
        self.channel = None;
        self.stdin = None;
        if let Some(primary) = self.primary.take() {
            primary.detach(&key(id, self.generation));
        }
    }

    pub(super) fn kept(&self) -> Kept {
        Kept {
            version: KEPT_VERSION,
            record: self.record.clone(),
            machine: self.machine.clone(),
            counters: self.counters,
            places: self.places.clone(),
            generation: self.generation,
            errored: self.errored,
            online: self.online,
            worker: self.worker,
        }
    }

    pub(super) fn name(&self) -> String {
        // A name that is a number in a file stays one in the record.
        self.record
            .get("name")
            .and_then(record::scalar)
            .unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> &str {
        record::text(&self.record, "namespace").unwrap_or("default")
    }

    pub(super) fn is_cluster(&self) -> bool {
        record::text(&self.record, "exec_mode") == Some("cluster_mode")
    }

    pub(super) fn is_module(&self) -> bool {
        record::flag(&self.record, "pmx_module") == Some(true)
    }

    /// Whether it is started by Node, so that what Node needs is given to it.
    pub(super) fn is_node(&self) -> bool {
        record::text(&self.record, "exec_interpreter")
            .and_then(|interpreter| interpreter.rsplit('/').next())
            .is_some_and(|program| program == "node" || program.starts_with("node@"))
    }

    /// PM2's word for its state.
    pub(super) fn status(&self) -> &'static str {
        match self.machine.actual() {
            Actual::Starting => "launching",
            Actual::Running if self.online => "online",
            Actual::Running => "launching",
            Actual::Stopping | Actual::Killing => "stopping",
            Actual::BackingOff => "waiting restart",
            Actual::Stopped | Actual::Waiting | Actual::Completed | Actual::Failed | Actual::GaveUp => {
                if self.errored {
                    "errored"
                } else if self.waits_for_ever {
                    "waiting restart"
                } else {
                    "stopped"
                }
            }
        }
    }

    /// Whether there is a process, or one was asked for.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.machine.actual(), Actual::Starting | Actual::Running)
    }

    /// Whether nothing of it is left and nothing will be started.
    pub(super) fn is_down(&self) -> bool {
        self.sweep.is_none()
            && matches!(
                self.machine.actual(),
                Actual::Stopped | Actual::Completed | Actual::Failed | Actual::GaveUp
            )
    }

    /// `null`, for what is absent in PM2's sense.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.record.insert(key.to_owned(), value.into());
    }

    /// What an agent in the app had announced.
    pub(super) fn forget_agent(&mut self) {
        self.set("axm_actions", Vec::<Value>::new());
        self.set("axm_monitor", Map::new());
    }

    pub(super) fn log_paths(&self) -> (Option<PathBuf>, Option<PathBuf>, Option<PathBuf>) {
        let path = |key: &str| {
            record::text(&self.record, key)
                .filter(|path| *path != "/dev/null" && *path != "NULL" && !path.is_empty())
                .map(PathBuf::from)
        };
        (
            path("pm_out_log_path"),
            path("pm_err_log_path"),
            path("pm_log_path"),
        )
    }
}

/// What is written in a record as the rules of [`upkeep_supervise::pm2`].
pub(super) fn rules(record: &Record) -> Rules {
    let stop_codes = match record.get("stop_exit_codes") {
        Some(Value::Array(codes)) => codes.iter().filter_map(as_code).collect(),
        Some(code) => as_code(code).into_iter().collect(),
        None => Vec::new(),
    };
    Rules {
        autorestart: record::flag(record, "autorestart") != Some(false),
        stop_codes,
        min_uptime_ms: record::millis(record, "min_uptime").unwrap_or(1000),
        max_restarts: record::count(record, "max_restarts").unwrap_or(16),
        restart_delay_ms: record::millis(record, "restart_delay").unwrap_or(0),
        backoff_ms: record::millis(record, "exp_backoff_restart_delay").unwrap_or(0),
    }
}

fn as_code(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The machine's policy for whatever does not concern the verdict on an exit.
pub(super) fn policy(record: &Record, variables: &Variables) -> Policy {
    let by_message = record::flag(record, "shutdown_with_message") == Some(true) || variables.kill_by_message;
    let grace = record::millis(record, "kill_timeout").unwrap_or(variables.kill_timeout_ms);
    Policy {
        restart: RestartPolicy {
            on: RestartOn::Never,
            give_up: GiveUp::default(),
            backoff: Backoff::None,
            ..RestartPolicy::default()
        },
        stop: StopPolicy {
            // A message is sent where the machine wants this signal sent.
            signal: if by_message {
                BY_MESSAGE
            } else {
                variables.kill_signal
            },
            grace: Span::from_millis(grace),
            tree: record::flag(record, "treekill") != Some(false) && !by_message,
        },
        has_dependencies: false,
        has_readiness: false,
    }
}

/// The "signal" that is a message over the channel.
pub(super) const BY_MESSAGE: i32 = 0;
