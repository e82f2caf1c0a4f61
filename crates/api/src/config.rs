//! Shared configuration, as it is asked for and changed.

mod exchange;
mod places;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::{
    id::AppName,
    place::{Path, Place},
};

pub use self::{
    exchange::{
        ExplainLayer, ExplainList, ExplainOrigin, ExplainPost, ExplainedValue, ExportQuery, ExportView,
        FormName, HiddenValue, ImportPost, Imported, KeepAlivePost, LeaseView, SettingsExplain,
    },
    places::{
        ApprovalsPut, ConfigProposal, KeepPut, KeepView, PlaceSchema, ProposalApprove, ProposalDecided,
        ProposalList, ProposalQuery, ProposalRefuse, ProposedView, ResealFailure, Resealed, SchemaList,
        SchemaPut, SchemaQuery,
    },
};
use crate::body::{AppConfigView, UnixTime};

/// What a value is. It is checked when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// UTF-8.
    #[default]
    Text,
    /// A number as JSON writes it.
    Number,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Any bytes.
    File,
}

/// Whom secrets are sealed for: a machine or a person with a public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// `machine:web1`, `person:ann`.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// The public key, X25519, 64 hexadecimal digits. Sent without one, a machine's is the one that it has announced.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub key: String,
}

/// A recipient with a short name of its key, for people to compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedRecipient {
    /// `machine:web1`, `person:ann`.
    pub name: String,
    /// The public key.
    pub key: String,
    /// A short name of it.
    pub fingerprint: String,
}

/// A value as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValueView {
    /// What it is; absent: the caller may not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ValueKind>,
    /// Whether it is a secret; of what the caller may not read that is not told, and this is false. Secrets come without content, unless one of them is asked for in clear.
    #[serde(default)]
    pub secret: bool,
    /// The content, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The content, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Of a secret: who can open it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Recipient>,
}

impl ValueView {
    /// With this content.
    pub fn with_content(self, bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self {
                text: Some(text),
                ..self
            },
            Err(error) => Self {
                base64: Some(STANDARD.encode(error.as_bytes())),
                ..self
            },
        }
    }

    /// The content, where it came along.
    pub fn content(&self) -> Option<Vec<u8>> {
        match (&self.text, &self.base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(text)) => STANDARD.decode(text).ok(),
            (None, None) => None,
        }
    }
}

/// A value with its last change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValueEntry {
    /// Where.
    pub path: Path,
    /// What.
    #[serde(flatten)]
    pub value: ValueView,
    /// The revision that wrote it; `ETag` says the same.
    pub revision: u64,
    /// Writes since it was created, from 1.
    pub version: u64,
    /// Who wrote it: `uid:1000`, `token:ci`.
    pub who: String,
    /// When.
    pub at: UnixTime,
    /// Why, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Query of `GET /v1/config/values`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValuesQuery {
    /// Only values of this place: `/shop/prod/`. Default: `/`.
    pub place: Option<Place>,
    /// How many, 1000 at most. Default: 1000.
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Only values behind this path, as the last answer had it in `next`.
    pub after: Option<Path>,
    /// As it was at this revision: with the first answer's, all pages are of one moment. What is forgotten is refused.
    #[schemars(range(min = 1))]
    pub at: Option<u64>,
}

/// Answer of `GET /v1/config/values`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValueList {
    /// The store's revision when they were read.
    pub revision: u64,
    /// In order of their paths. Secrets are masked.
    pub values: Vec<ValueEntry>,
    /// There are more: ask again with this in `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Path>,
}

/// Query of `GET /v1/config/values/{path}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValueQuery {
    /// A secret in clear. Takes `config:reveal`.
    #[serde(default)]
    pub reveal: bool,
}

/// Body of `PUT /v1/config/values/{path}`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValuePut {
    /// What it is.
    #[serde(default)]
    pub kind: ValueKind,
    /// The content. Either this or `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The content, of any bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Seal it. A value that is a secret stays one, whatever is said here, until it is deleted.
    #[serde(default)]
    pub secret: bool,
    /// Only if it is at this revision; 0: only if there is none. The header `If-Match` says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// It goes by itself after so many milliseconds, whole seconds of them, unless its lease is kept alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1000))]
    pub ttl_ms: Option<u64>,
    /// Kept in the history and in the event.
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

/// Shows no content: bodies get into logs by accident.
impl std::fmt::Debug for ValuePut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValuePut")
            .field("kind", &self.kind)
            .field("secret", &self.secret)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl ValuePut {
    /// The content; or what is wrong with it.
    pub fn content(&self) -> Result<Vec<u8>, &'static str> {
        content(self.text.as_deref(), self.base64.as_deref())
    }
}

fn content(text: Option<&str>, base64: Option<&str>) -> Result<Vec<u8>, &'static str> {
    match (text, base64) {
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|_| "`base64` is not Base64"),
        (Some(_), Some(_)) => Err("both `text` and `base64` are there"),
        (None, None) => Err("neither `text` nor `base64` is there"),
    }
}

/// What is to be set, as one of several.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePut {
    /// Where: `/shop/prod/db/url`.
    pub path: String,
    /// What it is.
    #[serde(default)]
    pub kind: ValueKind,
    /// The content. Either this or `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The content, of any bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Seal it. A value that is a secret stays one, whatever is said here, until it is deleted.
    #[serde(default)]
    pub secret: bool,
    /// Only if it is at this revision; 0: only if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// Shows no content: bodies get into logs by accident.
impl std::fmt::Debug for ChangePut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangePut")
            .field("path", &self.path)
            .field("kind", &self.kind)
            .field("secret", &self.secret)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl ChangePut {
    /// The content; or what is wrong with it.
    pub fn content(&self) -> Result<Vec<u8>, &'static str> {
        content(self.text.as_deref(), self.base64.as_deref())
    }
}

/// What is to be deleted, as one of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRemoval {
    /// Where: one value (`/shop/db`), or all of a place (`/shop/`).
    pub place: Place,
    /// Only if it is at this revision; for one value only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// Body of `POST /v1/config/changes`: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePost {
    /// What is to be set.
    #[serde(default)]
    pub puts: Vec<ChangePut>,
    /// What is to be deleted. Nothing there is no error.
    #[serde(default)]
    pub removals: Vec<ChangeRemoval>,
    /// What is set goes by itself after so many milliseconds, whole seconds of them, unless its lease is kept alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1000))]
    pub ttl_ms: Option<u64>,
    /// Kept in the history and in the event.
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

/// Body of `DELETE /v1/config/values/{path}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueDelete {
    /// Only if it is at this revision. The header `If-Match` says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Kept in the history and in the event.
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

/// How one value differs between two points. Secrets are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValueDifference {
    /// Which.
    pub path: Path,
    /// As it was; absent: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ValueView>,
    /// As it is; absent: it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ValueView>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// Answer of changes of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigChanged {
    /// What was (with `dry_run`: would be) changed; what was the same already is not here.
    pub differences: Vec<ValueDifference>,
    /// So many values of the named places were (would be) changed too, which the caller may not read, and so is not told the
    /// names of.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unnamed: usize,
    /// The store's revision: the change's own if something was changed.
    pub revision: u64,
    /// The event that tells of it; absent for `dry_run` and where nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    /// Nothing was changed yet: others have to approve. The answer is 202, but for `dry_run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<ProposedView>,
    /// What was set goes with this lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseView>,
}

/// Query of `GET /v1/config/history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryQuery {
    /// Only changes in this place. Default: `/`.
    pub place: Option<Place>,
    /// How many, 1000 at most. Default: 100.
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Only changes before this revision.
    pub before: Option<u64>,
    /// And those of this revision to values behind this path, as the last answer had it in `next`.
    pub behind: Option<Path>,
}

/// Where a history goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryNext {
    /// For `before`.
    pub before: u64,
    /// For `behind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Path>,
}

/// One change of one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PastValue {
    /// Which.
    pub path: Path,
    /// The revision that the change made.
    pub revision: u64,
    /// What it became; absent: it was deleted. Secrets are masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ValueView>,
    /// Who: `uid:1000`, `token:ci`.
    pub who: String,
    /// When.
    pub at: UnixTime,
    /// Why, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answer of `GET /v1/config/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryList {
    /// The newest first; of one revision in order of the paths.
    pub changes: Vec<PastValue>,
    /// There are more: ask again with this in `before` and `behind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<HistoryNext>,
}

/// Query of `GET /v1/config/diff`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiffQuery {
    /// Only values of this place. Default: `/`.
    pub place: Option<Place>,
    /// The revision that is compared with; 0: nothing.
    #[serde(default)]
    pub from: u64,
    /// The other one. Default: now.
    pub to: Option<u64>,
    /// How many, 1000 at most. Default: 1000.
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Only values behind this path, as the last answer had it in `next`.
    pub after: Option<Path>,
}

/// Answer of `GET /v1/config/diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffList {
    /// In order of their paths.
    pub differences: Vec<ValueDifference>,
    /// There are more: ask again with this in `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Path>,
}

/// Body of `POST /v1/config/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackPost {
    /// What is set back: `/shop/prod/`.
    pub place: Place,
    /// To what it was at this revision. Secrets are sealed for those who are their recipients now; what goes by itself is left
    /// alone.
    #[schemars(range(min = 1))]
    pub to: u64,
    /// Kept in the history and in the event.
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

/// Query of `GET /v1/config/watch`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchQuery {
    /// Only changes in this place. Default: `/`.
    pub place: Option<Place>,
    /// Every change from this revision on. Default: from now on. `Last-Event-ID` goes on behind that revision.
    pub from: Option<u64>,
}

/// A change of one value, as a watch tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchedValue {
    /// Which.
    pub path: Path,
    /// As it is; absent: it was deleted. Secrets are masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ValueView>,
    /// Who; of a deletion the history tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixTime>,
    /// Why, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a watch tells, one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Watched {
    /// All that one change did to what is watched.
    Changes {
        /// Its revision.
        revision: u64,
        /// A path occurs once.
        changes: Vec<WatchedValue>,
    },
    /// Everything up to this revision has been told. The first item is one; then they are heartbeats.
    Progress {
        /// Watch on from the next.
        revision: u64,
    },
    /// The reader is slow. Nothing is lost.
    Lagging {
        /// So many revisions behind.
        behind: u64,
    },
    /// What should come next is forgotten: read anew, and watch from behind that. The last item.
    Compacted {
        /// The oldest revision that can be watched from.
        oldest: u64,
    },
    /// It cannot go on. The last item.
    Failed {
        /// Why.
        why: String,
    },
}

/// What holds for one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaceRules {
    /// Which.
    pub place: Place,
    /// Whom secrets there are sealed for.
    pub recipients: Vec<Recipient>,
    /// So many others have to approve changes there.
    #[serde(default)]
    pub approvals: u8,
    /// Whether its values have to fit a schema.
    #[serde(default)]
    pub schema: bool,
    /// How much of the history there is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepView>,
}

/// Answer of `GET /v1/config/rules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RulesView {
    /// By place; the nearest that names recipients holds. Where none does, secrets are sealed for the machine that is asked.
    pub places: Vec<PlaceRules>,
}

/// Body of `PUT /v1/config/rules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesPut {
    /// For which place.
    pub place: Place,
    /// Whom secrets there are sealed for from now on; none: what holds further out. Secrets that are there stay sealed as they
    /// are until they are written, or sealed anew.
    pub recipients: Vec<Recipient>,
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

/// Body of `POST /v1/config/reseal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResealPost {
    /// Which secrets.
    pub place: Place,
    /// With new data keys. Default: the data keys that are there are given to the recipients of today.
    #[serde(default)]
    pub anew: bool,
    /// Also take what is sealed for others out of the history (with `anew`: all secrets of the past).
    #[serde(default)]
    pub history: bool,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
    /// Only say which would be sealed anew.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of changes that are about places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlacesChanged {
    /// What was (with `dry_run`: would be) changed: places or values; empty: nothing was to do.
    pub changes: Vec<Place>,
    /// Of rules: whom secrets there are sealed for from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<NamedRecipient>,
    /// The event that tells of it; absent for `dry_run` and where nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// An app that gets values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigUser {
    /// Which.
    pub app: AppName,
    /// What it gets.
    pub config: AppConfigView,
}
