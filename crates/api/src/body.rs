//! Bodies of requests and answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::{
    app::AppSpec,
    exit::Exit,
    file::resolve::CommandLine,
    id::AppName,
    restart::RestartOn,
    state::{Actual, Desired},
};

/// Seconds since 1970, to the millisecond.
pub type UnixTime = f64;

/// Answer of `GET /v1/apps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppList {
    /// By name.
    pub apps: Vec<AppView>,
    /// There are more: ask for those `after` this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<AppName>,
}

/// Query of `GET /v1/apps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppsQuery {
    /// So many at most. Default: all.
    pub limit: Option<usize>,
    /// Only those whose name comes after this one.
    pub after: Option<String>,
    /// Only those of this namespace.
    pub namespace: Option<String>,
    /// Go on with what changes from now: server-sent events, each an [`AppsChange`].
    #[serde(default)]
    pub follow: bool,
}

/// One event of `GET /v1/apps?follow=true`. The first tells all apps; what comes then tells what is different. Figures
/// that never rest (processor, memory, uptime) are no change: `GET /v1/metrics?follow=true` tells those.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppsChange {
    /// Whether `apps` are all that there are: what a client knew before is void.
    pub whole: bool,
    /// Apps that are new or changed.
    pub apps: Vec<AppView>,
    /// Names of apps that are no more.
    pub gone: Vec<AppName>,
}

/// An app and its instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppView {
    /// Its name.
    pub name: AppName,
    /// Its group.
    pub namespace: String,
    /// Whether any instance is wanted.
    pub desired: Desired,
    /// Store revision of its specification: changes with every change of it.
    pub revision: u64,
    /// Whether a check tells its readiness; without one an instance is ready once it has been up for a moment.
    pub has_readiness: bool,
    /// When it is run, if it is run by the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleView>,
    /// By index.
    pub instances: Vec<InstanceView>,
    /// How far a replacement is, while one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// What it gets of the shared configuration, without values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Box<AppConfigView>>,
    /// The whole specification, values of variables hidden; only where one app is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Box<AppSpec>>,
    /// Log accounting; only where one app is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogSource>,
    /// Where its output goes besides its files; only where one app is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_sinks: Vec<LogSinkView>,
    /// What each instance may use, and what sees to it; only where one app is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitView>,
}

/// What an app gets of the shared configuration: names, and no values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppConfigView {
    /// Where its values stand; later ones win.
    pub places: Vec<upkeep_model::place::Place>,
    /// The revision of the values that are in force; absent: there are none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// When they were read, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<f64>,
    /// Names of its variables that they make.
    pub variables: Vec<String>,
    /// Files that are made of them.
    pub files: Vec<String>,
    /// Since when the shared configuration could not be read, Unix seconds; absent: what is in force is what was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<f64>,
    /// Why there is nothing, or nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Values that were read and are not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitingValues>,
}

/// Values that are not in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingValues {
    /// Their revision; 0: it is not known.
    pub revision: u64,
    /// Why they are not.
    pub why: String,
}

/// How much of one resource an instance may use, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitView {
    /// `memory`, `cpu`, `io` or `tasks`.
    pub resource: String,
    /// The limit; absent: there is none.
    pub limit: Option<String>,
    /// What enforces it: `cgroup v2`, `cgroup v1`, `rlimit` (each process by itself), `none`, or `not running`.
    pub by: String,
    /// Why it is not limited although that was asked for, or not as it should be.
    pub why: Option<String>,
    /// What the limit has led to so far.
    pub events: Option<String>,
}

/// How much harm an app could do: what holds for its process, weighed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exposure {
    /// The app.
    pub app: AppName,
    /// The level it asks for.
    pub level: upkeep_model::sandbox::Level,
    /// From 0 (it can do nothing) to 10 (it can do anything).
    pub score: f64,
    /// The score in words.
    pub verdict: String,
    /// The process that was looked at; absent: none runs, and only what was asked for was looked at.
    pub pid: Option<u32>,
    /// What the score is made of.
    pub items: Vec<ExposureItem>,
}

/// One property.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExposureItem {
    /// Its name.
    pub what: String,
    /// How much it counts.
    pub weight: u32,
    /// How open it is, from 0 to 1.
    pub open: f64,
    /// What was found.
    pub found: String,
    /// What to write in the app file to close it.
    pub advice: Option<String>,
}

/// One running copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceView {
    /// A number that no other instance on this machine has: a selector.
    pub id: u32,
    /// Which copy of the app.
    pub index: u32,
    /// What it is doing.
    pub actual: Actual,
    /// What is wanted of it.
    pub desired: Desired,
    /// Whether it is healthy.
    pub ready: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Starts after exits and by order, since a person last started it.
    pub restarts: u32,
    /// Of those, exits in a row before `min_uptime`.
    pub unstable: u32,
    /// Since its process was started.
    pub uptime_ms: Option<u64>,
    /// When its state last changed.
    pub changed_at: UnixTime,
    /// Share of one core that its processes used over the last second, in percent.
    pub cpu_percent: Option<f64>,
    /// Resident memory of its processes, in bytes.
    pub memory_bytes: Option<u64>,
    /// How its last process ended.
    pub last_exit: Option<Exit>,
    /// Why it is in this state.
    pub why: String,
    /// Which replacement it came with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
    /// While it is being replaced: its other processes, coming or on their way out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<CopyView>,
    /// What its checks say, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthView>,
    /// Figures of its process that rise without end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<crate::metrics::Leak>,
    /// While backing off: when the next start is due, from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start_in_ms: Option<u64>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A process of an instance beside the one that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyView {
    /// Which replacement it came with.
    pub generation: u32,
    /// What it is doing.
    pub actual: Actual,
    /// Whether it is healthy.
    pub ready: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Whether it was told to end.
    pub leaving: bool,
    /// Why it is in this state.
    pub why: String,
}

/// When an app is run by the clock, and how that went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleView {
    /// The app.
    pub app: AppName,
    /// What was written: `0 3 * * *`, `@daily`, `every 30m`.
    pub at: String,
    /// The time zone that its times are of.
    pub timezone: String,
    /// It is stopped: nothing runs until it is started.
    pub paused: bool,
    /// When the next run begins.
    pub next: Option<UnixTime>,
    /// Runs that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunView>,
    /// How many runs wait for the end of another.
    #[serde(default)]
    pub waiting: usize,
    /// The last run that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRun>,
    /// Its next times, without jitter; only where one schedule is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<UnixTime>,
}

/// A run that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// Counts up within the app.
    pub number: u64,
    /// The time it stands for.
    pub due: UnixTime,
    /// When it was started.
    pub started_at: UnixTime,
    /// The instance that runs it; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastRun {
    /// The time it stood for; absent: it was started by order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<UnixTime>,
    /// When it was started.
    pub started_at: UnixTime,
    /// When its end was seen.
    pub ended_at: UnixTime,
    /// Whether it succeeded.
    pub ok: bool,
    /// How it ended, for people.
    pub what: String,
}

/// Answer of `GET /v1/schedules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleList {
    /// By name of the app.
    pub schedules: Vec<ScheduleView>,
}

/// Query of `GET /v1/schedules/{name}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleQuery {
    /// How many of its next times; 5 unless said otherwise, 1000 at most.
    pub times: Option<usize>,
}

/// What the checks of an instance say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthView {
    /// Its startup check has not succeeded yet; the others wait.
    pub starting: bool,
    /// Its checks.
    pub checks: Vec<CheckView>,
    /// What it says of itself (`STATUS=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Its main process, as it says (`MAINPID=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_pid: Option<u32>,
    /// Why it fails, as it says (`ERRNO=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// Messages that came from processes outside of its tree and were not heard.
    #[serde(default)]
    pub strangers: u32,
}

/// What one check says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckView {
    /// `startup`, `readiness` or `liveness`.
    pub role: String,
    /// What is tried or waited for.
    pub what: String,
    /// Successes in a row.
    pub good: u32,
    /// Failures in a row.
    pub bad: u32,
    /// When the last answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<UnixTime>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// What was wrong; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Accounting of one log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogSource {
    /// Path of the current file.
    pub path: String,
    /// `out` or `err`.
    pub stream: Stream,
    /// Which copy of the app; absent where all share the file.
    pub index: Option<u32>,
    /// Bytes of the log that are there, as they were before compression.
    pub bytes: u64,
    /// Bytes that its files take.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Number of rotated files.
    pub rotated: u32,
    /// Lines that rotation has deleted so far.
    pub dropped_lines: u64,
    /// Bytes that rotation has deleted so far.
    pub dropped_bytes: u64,
    /// Bytes that could not be written (full disk, read-only file) and are lost.
    pub lost_bytes: u64,
    /// Lines among them.
    pub lost_lines: u64,
    /// Bytes that were written in a second, over the last five.
    #[serde(default)]
    pub bytes_per_second: f64,
    /// Lines that were written in a second, over the last five: counted up to 64 KiB in that time, beyond that
    /// estimated from the length of the newest.
    #[serde(default)]
    pub lines_per_second: f64,
    /// Lines since this daemon began, counted or estimated in the same way.
    #[serde(default)]
    pub lines: u64,
    /// Why the file cannot be written just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One place where output goes besides its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogSinkView {
    /// As it was written: `journald`, `syslog:tcp:…`.
    pub sink: String,
    /// Lines that it has taken since this daemon began.
    pub sent: u64,
    /// Lines, at most, that rotation deleted before they were sent.
    pub missed: u64,
    /// Why it takes nothing just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Body of `POST /v1/apps`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Apply {
    /// What is wanted, complete.
    #[serde(default)]
    pub apps: Vec<AppSpec>,
    /// What is wanted as people write it; worked out on the machine of the daemon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unresolved: Vec<Unresolved>,
    /// Restart apps that run already, even if their specification is the same.
    #[serde(default)]
    pub restart_unchanged: bool,
    /// How changed apps are replaced, where it is not to be as they say.
    #[serde(default)]
    pub rollout: RolloutOverrides,
    /// What every action takes.
    #[serde(flatten)]
    pub options: ActionOptions,
}

/// Apps as people write them. Defaults, `max`, programs, `env_file` and other paths are worked out with what is true of
/// the machine of the daemon. Such apps inherit the daemon's `PATH`, `HOME`, user, language and time zone, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unresolved {
    /// A file of apps.
    File(AppFile),
    /// A script or a command line.
    Command(AppCommand),
}

/// A file of apps, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppFile {
    /// Its name, which tells what it is written in: `upkeep.yaml`, `ecosystem.config.json`, `Procfile`. Errors name it.
    pub name: String,
    /// Its text. Of a file in JavaScript: what it evaluates to, as JSON.
    pub text: String,
    /// Where relative paths in it start: a folder of the daemon's machine, absolute.
    pub directory: String,
    /// Which `env_NAME` of PM2's files holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Only these of its apps; none named: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
}

/// A script or a command line, as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppCommand {
    /// A script and its arguments, or one word with blanks, which is a command line.
    pub words: Vec<String>,
    /// More arguments, taken as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// What the app is called; absent: after the script, and then it does not replace an app that runs something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where it runs, if not in `directory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// A number, or `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<String>,
    /// What runs the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// Whether it is left alone once it has ended.
    #[serde(default)]
    pub no_restart: bool,
    /// Where relative paths start: a folder of the daemon's machine, absolute.
    pub directory: String,
}

impl From<AppCommand> for CommandLine {
    fn from(command: AppCommand) -> Self {
        Self {
            words: command.words,
            args: command.args,
            name: command.name,
            namespace: command.namespace,
            cwd: command.cwd,
            instances: command.instances,
            interpreter: command.interpreter,
            restart: command.no_restart.then_some(RestartOn::Never),
            ..Self::default()
        }
    }
}

/// What every action takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionOptions {
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// How long to wait for the instances to come to rest; 0: do not wait; absent: 30,000 and the
    /// longest grace of what is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Only if the app is at this revision: the header `If-Match` of calls about one app.
    #[serde(skip)]
    pub if_revision: Option<u64>,
}

/// Body of `POST /v1/selections/…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Selection {
    /// Names, `NAME:INDEX`, ids, globs or `all`.
    pub selectors: Vec<String>,
    /// For `reload`: how, where it is not to be as the app says.
    #[serde(default)]
    pub rollout: RolloutOverrides,
    /// What every action takes.
    #[serde(flatten)]
    pub options: ActionOptions,
}

/// Body of `POST /v1/apps/{name}/scale`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scale {
    /// How many instances there shall be: a number, or `+N` and `-N` from what there is.
    pub instances: String,
    /// What every action takes.
    #[serde(flatten)]
    pub options: ActionOptions,
}

/// Body of `POST /v1/apps/{name}/rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rollback {
    /// How, where it is not to be as the app says.
    #[serde(default)]
    pub rollout: RolloutOverrides,
    /// What every action takes.
    #[serde(flatten)]
    pub options: ActionOptions,
}

/// What differs from an app's own `rollout`, for one replacement. Times in ms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutOverrides {
    /// How many new instances may be started beside the old ones at a time; 0: the old one ends first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surge: Option<u32>,
    /// How many instances may be away at a time, without surge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
    /// How long a new instance has to stay ready before its old one goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle_ms: Option<u64>,
    /// Pause between two replacements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
    /// How long a new instance may take to become ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How long one new instance is tried without traffic before; 0: not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_ms: Option<u64>,
}

/// Answer of every action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActionResult {
    /// What was (or with `dry_run`: would be) done, by app.
    pub changes: Vec<Change>,
    /// The apps afterwards; those that were deleted are not here.
    pub apps: Vec<AppView>,
    /// The event that tells of it; absent for `dry_run`.
    pub event: Option<u64>,
    /// Whether everything came to rest in time.
    pub settled: bool,
    /// Replacements that did not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// What was understood in `unresolved` and is not honoured, or was changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A replacement that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The app.
    pub app: AppName,
    /// What runs now.
    pub outcome: FailureOutcome,
    /// Why.
    pub why: String,
}

/// What runs after a replacement that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureOutcome {
    /// The trial failed: nothing was touched.
    Refused,
    /// What was there before runs again.
    Returned,
    /// The way back failed too.
    Broken,
}

/// What an action does to one app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The app.
    pub app: AppName,
    /// Which instances; empty: all.
    pub instances: Vec<u32>,
    /// What.
    pub what: What,
    /// Of an update: which parts of the specification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// One part of a specification that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Where: `instances`, `stop.grace`, `env.PORT`.
    pub key: String,
    /// What it was, as JSON; absent: it was not there. Values of variables are never told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<serde_json::Value>,
    /// What it becomes, as JSON; absent: it goes away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<serde_json::Value>,
}

/// Kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// New in the list, and started if it starts by itself.
    Created,
    /// Its specification changed; what ran was replaced.
    Updated,
    /// Nothing to do.
    Unchanged,
    /// Started.
    Started,
    /// Stopped.
    Stopped,
    /// Restarted.
    Restarted,
    /// Every copy replaced by a new one.
    Reloaded,
    /// Stopped and forgotten.
    Deleted,
}

/// Answer of `GET /v1/daemon`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonView {
    /// Version of the daemon.
    pub version: String,
    /// What its machine calls itself.
    #[serde(default)]
    pub hostname: String,
    /// Process of the daemon.
    pub daemon_pid: u32,
    /// Process of the keeper.
    pub keeper_pid: u32,
    /// Version of the keeper.
    pub keeper_version: String,
    /// Version of the protocol between them.
    pub keeper_protocol: u16,
    /// When this daemon started.
    pub started_at: UnixTime,
    /// State directory.
    pub home: String,
    /// How process trees are tracked: which level of cgroups is in force.
    pub tracking: String,
    /// Number of apps.
    pub apps: usize,
    /// What came of the last upgrade that was tried since the keeper started, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_trouble: Option<String>,
    /// Where it listens over TCP, as the settings ask for (`web`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerView>,
}

/// An address over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerView {
    /// Scheme, address and port.
    pub url: String,
    /// `api`, or `pm2_health`: the JSON that PM2 tells on port 9615.
    pub serves: String,
    /// Whether it has its address.
    pub listening: bool,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One line of the event log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Counts up.
    pub id: u64,
    /// When.
    pub at: UnixTime,
    /// Who: `uid:1000`, `token:ci`, `cert:laptop`, `upkeep`.
    pub who: String,
    /// What: `start`, `stop`, `restart`, `delete`, `apply`, `exited`, `state`, …
    pub what: String,
    /// The app, or `shop:0` for one instance; empty for the machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Why: the reason that was given, or the verdict's.
    pub why: String,
    /// What came of it.
    pub result: String,
    /// More, by kind: `exit`, `pid`, `uptime_ms`, `max_rss_bytes`, `user_ms`, `system_ms`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, serde_json::Value>,
}

/// Answer of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventList {
    /// Oldest first.
    pub events: Vec<Event>,
}

impl Event {
    /// What an event is that stands for those that a client missed for good: it asked to go on behind an event that is no
    /// longer kept, or that this log never had. Its id is the place before the event that follows.
    pub const GAP: &'static str = "gap";

    /// Detail of an event of an app: which values of the shared configuration have changed. Only those are shown whose history
    /// the caller may read.
    pub const CHANGED_VALUES: &'static str = "changed";

    /// Whether it is [`Event::GAP`].
    pub fn is_gap(&self) -> bool {
        self.what == Self::GAP
    }

    /// Whether it tells of the values that an app gets of the shared configuration.
    pub fn is_of_values(&self) -> bool {
        self.what.starts_with("values_")
    }

    /// Whether it tells that something went wrong.
    pub fn is_failure(&self) -> bool {
        match self.what.as_str() {
            "exited" => self.details.get("abnormal").is_some_and(|value| value == true),
            "start_failed" | "unhealthy" | "unready" | "refused" | "returned" | "broken" | "killed"
            | "leak" | "log_trouble" | "otlp_trouble" | "otlp_refused" | "listen_refused" | "hook_failed"
            | "denied" | "sign_in_failed" | "run_missed" | "run_late" | "run_timeout"
            | "alert_undelivered" | "values_refused" | "values_returned" | "values_stale" | "values_lost" => {
                true
            }
            "run_ended" => self.result.starts_with("failed"),
            "alert" => self.result == "firing",
            _ => false,
        }
    }

    /// Whether it tells what somebody did or was refused, and not what happened by itself.
    pub fn is_act(&self) -> bool {
        self.who.contains(':') || matches!(self.what.as_str(), "denied" | "sign_in_failed")
    }

    /// What it takes to read it, besides `events:read`: some kinds tell of what other verbs guard.
    pub fn guard(&self) -> Option<upkeep_model::access::Verb> {
        use upkeep_model::access::Verb;
        let kind = self.what.as_str();
        let is_of_access = matches!(kind, "denied" | "sign_in_failed" | "authority_made")
            || ["token_", "role_", "certificate_"]
                .iter()
                .any(|start| kind.starts_with(start));
        match kind {
            _ if is_of_access => Some(Verb::AccessRead),
            "settings" => Some(Verb::SettingsRead),
            _ if kind.starts_with("config.") => Some(Verb::ConfigHistory),
            _ => None,
        }
    }

    /// Of an event of the shared configuration: what was changed. Who reads it must be allowed to read the history of all.
    pub fn places(&self) -> Option<Vec<upkeep_model::place::Place>> {
        let places = self.details.get("places")?;
        serde_json::from_value(places.clone()).ok()
    }

    /// Whether a query asks for it.
    pub fn is_asked_for(&self, query: &EventQuery) -> bool {
        let of_app = |app: &str| {
            self.target.split(' ').any(|target| {
                target == app || target.strip_prefix(app).is_some_and(|rest| rest.starts_with(':'))
            })
        };
        query.app.as_deref().is_none_or(of_app)
            && (query.kind.is_empty() || query.kind.split(',').any(|kind| kind == self.what))
            && query.who.as_deref().is_none_or(|who| self.who.contains(who))
            && query.since.is_none_or(|since| self.at >= since)
            && query.until.is_none_or(|until| self.at <= until)
            && (!query.failed || self.is_failure())
            && (!query.audit || self.is_act())
    }
}

/// Query of `GET /v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventQuery {
    /// Only events with higher ids. A stream that cannot go on there (it is no longer kept, or there is none yet) begins with
    /// an event `gap`, and goes on with the oldest that is kept. `Last-Event-ID` means the same.
    pub after: Option<u64>,
    /// How many, the newest; 100 unless said otherwise.
    pub limit: Option<usize>,
    /// Only those of this app or instance.
    pub app: Option<String>,
    /// Only of these kinds (`apply`, `exited`, …), separated by commas; empty: all.
    #[serde(default)]
    pub kind: String,
    /// Only by whom: a part of the name.
    pub who: Option<String>,
    /// Only since this time.
    pub since: Option<UnixTime>,
    /// Only until this time.
    pub until: Option<UnixTime>,
    /// Only what went wrong: see [`Event::is_failure`].
    #[serde(default)]
    pub failed: bool,
    /// Only what somebody did or was refused: `GET /v1/audit` asks so.
    #[serde(skip)]
    pub audit: bool,
    /// Go on with what happens from now.
    #[serde(default)]
    pub follow: bool,
}

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Query of `GET /v1/logs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogQuery {
    /// Selectors, separated by commas; empty: all.
    #[serde(default)]
    pub apps: String,
    /// How many of the newest lines, over all sources; absent with `since`: all.
    pub lines: Option<usize>,
    /// Only this stream.
    pub stream: Option<Stream>,
    /// Only lines that arrived at or after this time.
    pub since: Option<UnixTime>,
    /// Only lines that arrived at or before this time; not with `follow`.
    #[serde(default)]
    pub until: Option<UnixTime>,
    /// Only lines that match this regular expression.
    pub grep: Option<String>,
    /// Lines that continue the one before (they begin with a blank, `at `, `Caused by`) belong to it: `grep` chooses
    /// whole records.
    #[serde(default)]
    pub records: bool,
    /// Go on with what is written from now.
    #[serde(default)]
    pub follow: bool,
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// The app.
    pub app: AppName,
    /// The instance; absent where all share a file.
    pub index: Option<u32>,
    /// Which output.
    pub stream: Stream,
    /// When it arrived, as exactly as the log's index tells: the batch it came with.
    pub at: UnixTime,
    /// Its text, without the newline; bytes that are not UTF-8 are replaced.
    pub line: String,
    /// Whether it is the start of a line that is longer than 1 MiB, or has not ended yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Instead of a line: what a reader must know (lines dropped by rotation, bytes lost).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub notice: bool,
}

/// Body of `POST /v1/daemon/upgrade`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Upgrade {
    /// The program; absent: the path that the keeper was started from.
    pub program: Option<String>,
    /// Replace the keeper's program as well, in place.
    #[serde(default)]
    pub keeper: bool,
    /// Kept in the event.
    #[serde(default, deserialize_with = "crate::reason::read")]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
}

/// An answer that only says that it was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// What happens now.
    pub message: String,
}
