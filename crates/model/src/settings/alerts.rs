//! Alerts as they are written: channels, rules, quiet hours.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Name, Named, Url, as_text};
use crate::size::{ByteSize, Span};

/// Who is told of what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map of `channels`, `rules`, `quiet`, `repeat`, `group` and `defaults`"
)]
pub struct Alerts {
    /// Ways to tell somebody, by a name of yours.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub channels: Named<Channel>,
    /// What is told of. They come beside the rules that hold by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Whether the default rules hold: crashes, crash loops, unhealthy and missing apps, leaks, missed runs and a disk
    /// that fills up. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<bool>,
    /// When nobody wants to be told; it is told afterwards. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// How often it is told again that something has not ended. Default: 4h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Span>,
    /// How long is waited for more of the same, to tell it at once. Default: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Span>,
}

/// A way to tell somebody: one of the three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map with one of `email`, `webhook` and `command`"
)]
pub struct Channel {
    /// By mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// By a `POST` of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// By a program of yours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Hook>,
}

/// By mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `host`, `from` and `to`")]
pub struct Email {
    /// Mail server.
    pub host: String,
    /// Its port. Default: 465 with `tls: always`, 587 with `starttls`, 25 with `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `starttls`: refused if the server cannot; `always`: from the first byte; `never`. Default: starttls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<MailTls>,
    /// File with certificates (PEM) to trust beside the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Who we are to the server. Default: nobody is logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the password. Only its owner may be able to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// Address of the sender: `upkeep@example.org`, or `Upkeep <upkeep@example.org>`.
    pub from: String,
    /// Addresses of the readers.
    pub to: Vec<String>,
}

/// How a mail server is talked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// It begins in the open, and nothing is said before both sides encrypt.
    #[default]
    Starttls,
    /// From the first byte.
    Always,
    /// In the open: for a server on this machine.
    Never,
}

/// By a `POST` of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `url` or `url_file`")]
pub struct Webhook {
    /// Where to. Redirections are not followed. Settings are shown: a URL that is a secret belongs into `url_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// File with the URL, in place of `url`. Only its owner may be able to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_file: Option<String>,
    /// File with the key by which bodies are signed. Only its owner may be able to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<String>,
    /// File with a header on each line (`authorization: Bearer …`). Only its owner may be able to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<String>,
    /// File with certificates (PEM) to trust beside the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// How long one try may take. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// By a program, as the daemon's user. It gets JSON on its standard input and `UPKEEP_ALERT_…` in its environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `run`")]
pub struct Hook {
    /// The program with its arguments; no shell.
    pub run: Vec<String>,
    /// How long it may take before it is killed with all its processes. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// When nobody wants to be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `from`, `to`, `timezone` and `critical`"
)]
pub struct Quiet {
    /// From when: `22:00`.
    pub from: Clock,
    /// Until when, the next day if it is before `from`.
    pub to: Clock,
    /// Name of the time zone, such as `Europe/Berlin`. Default: the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Whether what is `critical` is told all the same. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<bool>,
}

/// A time of day, in minutes since midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clock(u16);

const WANTED_CLOCK: &str = "a time of day such as `22:00`";

impl Clock {
    /// Minutes since midnight.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for Clock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(hours, minutes)| {
            let number = |text: &str| match text.len() {
                1 | 2 => text.parse::<u16>().ok(),
                _ => None,
            };
            Some((number(hours)?, number(minutes).filter(|_| minutes.len() == 2)?))
        });
        match parts {
            Some((hours, minutes)) if hours < 24 && minutes < 60 => Ok(Self(hours * 60 + minutes)),
            _ => Err(format!("`{text}` is not {WANTED_CLOCK}")),
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

as_text!(Clock, "Clock", WANTED_CLOCK);

/// What is told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `on`")]
pub struct Rule {
    /// What happens: `crash`, `crash_loop`, `unhealthy`, `over_limit`, `leak`, `disk_floor`, `app_missing` or
    /// `missed_run`.
    pub on: RuleKind,
    /// Its name in messages and in the history. Default: what it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Whose: names and globs (`web-*`) of apps. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<String>,
    /// Of `over_limit`: `memory`, `cpu`, `fds` or `threads` of an instance; `host_cpu`, `host_memory` or `host_load` of
    /// the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Figure>,
    /// Of `over_limit`: above what (`400M`, `1.5`, `90%` of its limit). Of `disk_floor`: below how much free space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// Where it ends again. Default: a tenth from the threshold, so that it does not begin and end all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_at: Option<Threshold>,
    /// How long it must hold before it is told. Default: by kind.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// How long it must be away before it counts as ended. Default: by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_after: Option<Span>,
    /// How often it is told again. Default: that of `alerts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Span>,
    /// `info`, `warning` or `critical`. Default: by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Names of channels. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Name>,
}

impl Rule {
    /// A rule that leaves all else to its defaults.
    pub const fn on(on: RuleKind) -> Self {
        Self {
            on,
            name: None,
            apps: Vec::new(),
            metric: None,
            threshold: None,
            resolve_at: None,
            hold: None,
            resolve_after: None,
            repeat: None,
            severity: None,
            channels: Vec::new(),
        }
    }
}

/// What a rule is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// An exit that nobody ordered and that is no success.
    Crash,
    /// It was given up, or crashes again and again.
    CrashLoop,
    /// Its checks fail.
    Unhealthy,
    /// A figure is above a threshold.
    OverLimit,
    /// Its memory, files or threads grow without end.
    Leak,
    /// There is little free space where the state directory lies.
    DiskFloor,
    /// It is wanted and does not run.
    AppMissing,
    /// A run by the clock did not happen or failed.
    MissedRun,
}

impl RuleKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Crash,
        Self::CrashLoop,
        Self::Unhealthy,
        Self::OverLimit,
        Self::Leak,
        Self::DiskFloor,
        Self::AppMissing,
        Self::MissedRun,
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::CrashLoop => "crash_loop",
            Self::Unhealthy => "unhealthy",
            Self::OverLimit => "over_limit",
            Self::Leak => "leak",
            Self::DiskFloor => "disk_floor",
            Self::AppMissing => "app_missing",
            Self::MissedRun => "missed_run",
        }
    }
}

/// A figure that a rule can be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Resident memory of an instance, in bytes; a share is of its limit.
    Memory,
    /// Processor time of an instance, in cores; a share is of its limit, or of one core.
    Cpu,
    /// Open files of an instance.
    Fds,
    /// Threads of an instance.
    Threads,
    /// Processor time of the machine, in cores; a share is of all of them.
    HostCpu,
    /// Memory in use on the machine; a share is of all of it.
    HostMemory,
    /// Load average of the machine.
    HostLoad,
}

impl Figure {
    /// Its name in `/v1/metrics`, and whether it is the machine's.
    pub const fn metric(self) -> (&'static str, bool) {
        match self {
            Self::Memory => ("memory", false),
            Self::Cpu => ("cpu", false),
            Self::Fds => ("fds", false),
            Self::Threads => ("threads", false),
            Self::HostCpu => ("cpu", true),
            Self::HostMemory => ("memory", true),
            Self::HostLoad => ("load", true),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A border: a number, a size, or a share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// A number, or bytes.
    Absolute(f64),
    /// Percent of the limit or of the whole.
    Percent(f64),
}

const WANTED_THRESHOLD: &str = "a number, a size such as `400M`, or a share such as `90%`";

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not {WANTED_THRESHOLD}");
        let sound = |number: &f64| number.is_finite() && *number >= 0.0;
        let trimmed = text.trim();
        if let Some(percent) = trimmed.strip_suffix('%') {
            let percent: Option<f64> = percent.trim().parse().ok().filter(sound);
            return percent.map(Self::Percent).ok_or_else(wrong);
        }
        let number: Option<f64> = trimmed.parse().ok().filter(sound);
        let size = || {
            trimmed
                .parse::<ByteSize>()
                .ok()
                .map(|size| size.as_bytes() as f64)
        };
        number.or_else(size).map(Self::Absolute).ok_or_else(wrong)
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(number) => number.fmt(f),
            Self::Percent(number) => write!(f, "{number}%"),
        }
    }
}

as_text!(Threshold, "Threshold", WANTED_THRESHOLD);
