//! Alerts: what fires, what was told to whom, and what is silenced.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::settings::{RuleKind, Severity};

use crate::{
    body::UnixTime,
    crash::{Crash, CrashSummary},
};

/// Answer of `GET /v1/alerts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertsView {
    /// What fires now.
    pub firing: Vec<AlertView>,
    /// Rules that hold, in order of their names.
    pub rules: Vec<RuleView>,
    /// Channels, by name.
    pub channels: Vec<ChannelView>,
    /// What is not told for a while.
    pub silences: Vec<Silence>,
    /// These are quiet hours.
    pub quiet: bool,
}

/// Something that fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertView {
    /// Name of its rule.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// Of what: `shop:0`, or `machine`.
    pub subject: String,
    /// Since when.
    pub since: UnixTime,
    /// How often it occurred, or 1.
    pub count: u32,
    /// In words.
    pub text: String,
    /// Whether somebody was told; else it waits for more of its kind, for the end of quiet hours, or is silenced.
    pub told: bool,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// What it is on.
    pub on: RuleKind,
    /// How bad that is.
    pub severity: Severity,
    /// How long it must hold.
    pub for_ms: u64,
    /// Whether it holds by default, and nobody wrote it.
    pub default: bool,
}

/// A channel, and how it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// `email`, `webhook` or `command`.
    pub kind: String,
    /// Messages that wait to be delivered.
    pub pending: usize,
    /// What went wrong last, if that was the last thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What is not told for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Silence {
    /// An app, or `machine`.
    pub app: String,
    /// Until when.
    pub until: UnixTime,
    /// Who wants it.
    pub who: String,
    /// Why.
    #[serde(default)]
    pub why: String,
}

/// Body of `PUT /v1/alerts/silences/{app}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SilencePut {
    /// For how long.
    pub for_ms: u64,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say whether it could be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/alerts/test`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestPost {
    /// Which channel; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say which channels would be tried.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/alerts/test`: one try of each channel, which is not repeated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestResult {
    /// By channel.
    pub channels: Vec<Tested>,
}

/// How one channel was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tested {
    /// Its name.
    pub channel: String,
    /// What was wrong; absent: nothing.
    pub error: Option<String>,
    /// How long it took.
    pub took_ms: u64,
}

/// Answer of `GET /v1/alerts/deliveries`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryList {
    /// Newest first: all that wait, and the newest 500 that do not.
    pub deliveries: Vec<Delivery>,
}

/// A message for a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// Its id: the same at every try, so that a receiver can tell that it has it already.
    pub id: String,
    /// For whom.
    pub channel: String,
    /// When it was made.
    pub at: UnixTime,
    /// How it stands.
    pub state: DeliveryState,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<UnixTime>,
    /// How often it was tried.
    pub tries: u32,
    /// The newest tries, oldest first: at most 10.
    pub attempts: Vec<Attempt>,
    /// What it says.
    pub message: Message,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is tried, or will be tried again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// It was tried for a day, or there was no room, or the channel is gone.
    GaveUp,
}

/// One try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// When.
    pub at: UnixTime,
    /// How long it took.
    pub took_ms: u64,
    /// What was wrong; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is told: the body of a webhook, and the standard input of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// The delivery's id.
    pub id: String,
    /// Name of the machine.
    pub host: String,
    /// When.
    pub at: UnixTime,
    /// `firing`, `repeated`, `resolved`, or `test`: of the first entry.
    pub state: String,
    /// Name of the rule.
    pub rule: String,
    /// What it is on; absent: a test.
    pub on: Option<RuleKind>,
    /// How bad it is.
    pub severity: Severity,
    /// All of it in one line.
    pub summary: String,
    /// What it is about.
    pub alerts: Vec<MessageAlert>,
    /// How many more there are that are not told one by one.
    pub more: u32,
}

/// One alert of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageAlert {
    /// `shop:0`, or `machine`.
    pub subject: String,
    /// `firing`, `repeated` or `resolved`.
    pub state: String,
    /// Since when.
    pub since: UnixTime,
    /// How often it occurred, or 1.
    pub count: u32,
    /// In words.
    pub text: String,
    /// The newest crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<CrashBrief>,
}

/// What a message says of a crash; all of it is told by `GET /v1/apps/{name}/crashes/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrashBrief {
    /// In a line.
    #[serde(flatten)]
    pub summary: CrashSummary,
    /// What the numbers and last words suggest.
    pub findings: Vec<String>,
    /// The last lines, at most 20.
    pub lines: Vec<String>,
    /// Where the core dump is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<String>,
}

/// How many lines a message holds of each crash.
const LINES: usize = 20;

impl From<Crash> for CrashBrief {
    fn from(crash: Crash) -> Self {
        let skip = crash.logs.len().saturating_sub(LINES);
        Self {
            summary: crash.summary,
            findings: crash.findings,
            lines: crash.logs.into_iter().skip(skip).map(|line| line.line).collect(),
            core: crash.core,
        }
    }
}
