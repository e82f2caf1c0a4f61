//! What holds for places, and changes that wait for others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::place::Place;

use super::{ConfigChanged, ValueDifference};
use crate::body::UnixTime;

/// Query of `GET /v1/config/schemas`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SchemaQuery {
    /// Only of this place and what is in it. Default: `/`.
    pub place: Option<Place>,
}

/// The schema of a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlaceSchema {
    /// Which.
    pub place: Place,
    /// JSON Schema of the object that its values make, by segments (of a single value: of the value).
    pub schema: serde_json::Value,
}

/// Answer of `GET /v1/config/schemas`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SchemaList {
    /// Of places of which the caller reads all.
    pub schemas: Vec<PlaceSchema>,
}

/// Body of `PUT /v1/config/schemas`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaPut {
    /// For which place.
    pub place: Place,
    /// JSON Schema of the object that its values make; absent: none holds any more. What is there has to fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `PUT /v1/config/approvals`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalsPut {
    /// For which place.
    pub place: Place,
    /// So many others have to approve a change there; 0: none. What holds further out is never made less.
    #[schemars(range(max = 9))]
    pub approvals: u8,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// How much of the history of each value is kept. What exceeds either goes; the newest change of a value stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepView {
    /// So many changes.
    #[schemars(range(min = 1))]
    pub changes: u32,
    /// What was true within so many days.
    #[schemars(range(min = 1))]
    pub days: u32,
}

/// Body of `PUT /v1/config/keep`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepPut {
    /// For which place.
    pub place: Place,
    /// So much; absent: what holds further out, and where nothing does, 1000 changes and 365 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepView>,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// A change that waits for others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProposedView {
    /// The proposal; absent if the change was only tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How many others have to approve.
    pub approvals: u8,
}

/// Query of `GET /v1/config/proposals`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProposalQuery {
    /// How many, 1000 at most. Default: 100.
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Only those behind this one, as the last answer had it in `next`.
    #[schemars(length(max = 64))]
    pub after: Option<String>,
}

/// A change of a protected place, as it waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigProposal {
    /// Which.
    pub id: String,
    /// Who proposed it: `uid:1000`, `token:ci`.
    pub who: String,
    /// When.
    pub at: UnixTime,
    /// Why, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who has approved it so far.
    pub approved_by: Vec<String>,
    /// How many have to.
    pub approvals: u8,
    /// What it would change, from what there is now. Secrets are masked.
    pub differences: Vec<ValueDifference>,
}

/// Answer of `GET /v1/config/proposals`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProposalList {
    /// The oldest first: the caller's own, and those where the caller may read or write all.
    pub proposals: Vec<ConfigProposal>,
    /// There are more: ask again with this in `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Body of `POST /v1/config/proposals/{proposal}/approve`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposalApprove {
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only show it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/config/proposals/{proposal}/refuse`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposalRefuse {
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only show it.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProposalDecided {
    /// The proposal, as it was then.
    pub proposal: ConfigProposal,
    /// It was carried out; absent: it waits for others, was refused, or was only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<ConfigChanged>,
    /// The event that tells of it; absent for `dry_run` and where nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// A secret that was not sealed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResealFailure {
    /// Which.
    pub place: Place,
    /// Why.
    pub why: String,
}

/// Answer of `POST /v1/config/reseal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resealed {
    /// What was (with `dry_run`: would be) sealed anew.
    pub changes: Vec<Place>,
    /// What was not; the first hundred. It is sealed as it was.
    pub failed: Vec<ResealFailure>,
    /// How many were not, in all.
    pub failures: usize,
    /// Secrets of the past that were (would be) taken out of the history.
    pub forgotten: usize,
    /// The event that tells of it; absent for `dry_run` and where nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}
