//! Finding a text in all that there is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::UnixTime;

/// Query of `GET /v1/search`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchQuery {
    /// The text; upper and lower case are the same.
    #[serde(default)]
    pub q: String,
    /// Where, separated by commas: `apps`, `instances`, `events`, `logs`, `docs`; empty: everywhere.
    #[serde(default, rename = "in")]
    pub places: String,
    /// So many of each place at most; 20 unless said otherwise, at most 200.
    pub limit: Option<usize>,
    /// Of events and logs: only since this time. Default: a day ago.
    pub since: Option<UnixTime>,
}

/// Answer of `GET /v1/search`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchAnswer {
    /// Apps first, then instances, events and logs, newest first, then pages of the reference, best first.
    pub hits: Vec<Hit>,
    /// Places that the caller may not look into.
    pub partial: Vec<String>,
}

/// One place where the text was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hit {
    /// What it is.
    pub kind: Kind,
    /// The app, or `shop:0`; of the reference the title of a page; empty: the machine.
    pub target: String,
    /// The line or field in which it was found.
    pub text: String,
    /// When, where it has a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixTime>,
    /// Of an event: its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    /// Where the whole thing can be read.
    pub url: String,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An app: its name, namespace, command, or a name of a variable.
    App,
    /// An instance: why it is in its state, its process.
    Instance,
    /// An event.
    Event,
    /// A line of output.
    Log,
    /// A page of the reference.
    Doc,
}
