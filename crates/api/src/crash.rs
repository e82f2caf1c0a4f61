//! Why it died: what is kept of every abnormal exit.

use serde::{Deserialize, Serialize};
use upkeep_model::{exit::Exit, id::AppName};

use crate::{
    body::{Event, LogLine, UnixTime},
    metrics::MetricsAnswer,
};

/// Answer of `GET /v1/apps/{name}/crashes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrashList {
    /// Newest first.
    pub crashes: Vec<CrashSummary>,
}

/// One crash in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrashSummary {
    /// Id of the event of the exit, by which the whole dossier is asked for.
    pub id: u64,
    /// When.
    pub at: UnixTime,
    /// Which instance.
    pub index: u32,
    /// How it ended.
    pub exit: Exit,
    /// The same in words: `killed by SIGSEGV (core dumped)`.
    pub cause: String,
    /// How long it had run, in ms.
    pub uptime_ms: u64,
    /// What was decided about it.
    pub verdict: String,
}

/// Everything that is known of a crash: answer of `GET /v1/apps/{name}/crashes/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crash {
    /// The app.
    pub app: AppName,
    /// In a line.
    #[serde(flatten)]
    pub summary: CrashSummary,
    /// Its process.
    pub pid: u32,
    /// Highest resident memory of any of its processes, in bytes, as the kernel counted.
    pub max_rss_bytes: u64,
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
