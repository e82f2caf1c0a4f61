//! Why it died: what is kept of every abnormal exit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::{exit::Exit, id::AppName, state::Actual};

use crate::{
    body::{Event, LogLine, UnixTime},
    metrics::MetricsAnswer,
};

/// Answer of `GET /v1/apps/{name}/crashes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrashList {
    /// Newest first: at most 20, fewer where other apps crash more.
    pub crashes: Vec<CrashSummary>,
}

/// One crash in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrashSummary {
    /// Id of the event of the exit, by which the whole dossier is asked for.
    pub id: u64,
    /// When.
    pub at: UnixTime,
    /// Which instance.
    pub index: u32,
    /// How it ended; absent: it could not be started.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// The same in words: `killed by SIGSEGV (core dumped)`.
    pub cause: String,
    /// How long it had run, in ms.
    pub uptime_ms: u64,
    /// What was decided about it.
    pub verdict: String,
    /// The state that this led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Actual>,
}

/// Everything that is known of a crash: answer of `GET /v1/apps/{name}/crashes/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Crash {
    /// The app.
    pub app: AppName,
    /// In a line.
    #[serde(flatten)]
    pub summary: CrashSummary,
    /// Its process; 0: it could not be started.
    pub pid: u32,
    /// How many crashes of this app came shortly before and have no dossier, because there were too many.
    #[serde(default)]
    pub skipped: u32,
    /// Highest resident memory of any of its processes, in bytes, as the kernel counted.
    pub max_rss_bytes: u64,
    /// Its limit of memory, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// The last lines it printed, oldest first: at most 200.
    pub logs: Vec<LogLine>,
    /// Its figures in the minutes before.
    pub metrics: Option<MetricsAnswer>,
    /// What was changed before: actions on the app and on what it depends on, newest first.
    pub changes: Vec<Event>,
    /// Where the core dump is, if there is one.
    pub core: Option<String>,
    /// What the numbers above suggest, in words, the likeliest first.
    pub findings: Vec<String>,
}
