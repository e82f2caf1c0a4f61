//! Values from files and into them, where a value comes from, and leases.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::{
    access::Pattern,
    place::{Path, Place},
};

use super::ConfigChanged;

/// How values stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormName {
    /// `.env`: names and texts.
    Dotenv,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Java's properties.
    Properties,
}

/// Body of `POST /v1/config/import`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportPost {
    /// Where the values go: `/shop/prod/`.
    pub place: Place,
    /// How they stand in `text`.
    pub form: FormName,
    /// What the file holds.
    pub text: String,
    /// Seal those below the place that fit one of these: `db/password`, `*`, `*/key`. A star stands for any text.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub secret: Vec<Pattern>,
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
impl std::fmt::Debug for ImportPost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportPost")
            .field("place", &self.place)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// Answer of `POST /v1/config/import`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// What it changed, all or nothing.
    #[serde(flatten)]
    pub changed: ConfigChanged,
    /// Secrets that the file only names: they were left as they are.
    #[serde(default)]
    pub kept: Vec<Path>,
}

/// Query of `GET /v1/config/export`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExportQuery {
    /// Which values: `/shop/prod/`. Default: `/`.
    pub place: Option<Place>,
    /// How they are written. Default: JSON.
    pub form: Option<FormName>,
    /// With secrets in clear. Takes `config:reveal`. Default: they are named and left out.
    #[serde(default)]
    pub reveal: bool,
}

/// Answer of `GET /v1/config/export`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExportView {
    /// The store's revision when they were read.
    pub revision: u64,
    /// How many values there are.
    pub values: usize,
    /// Secrets that are named and left out.
    pub masked: Vec<Path>,
    /// The file.
    pub text: String,
}

/// Shows no content: answers get into logs by accident.
impl std::fmt::Debug for ExportView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportView")
            .field("revision", &self.revision)
            .field("values", &self.values)
            .finish_non_exhaustive()
    }
}

/// A layer of settings that lies below the shared configuration.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainLayer {
    /// What the answer calls it: the name of the file.
    #[schemars(length(min = 1, max = 4096))]
    pub name: String,
    /// How it is written.
    pub form: FormName,
    /// What it holds.
    pub text: String,
}

/// Shows no content: bodies get into logs by accident.
impl std::fmt::Debug for ExplainLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExplainLayer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Body of `POST /v1/config/explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainPost {
    /// `db/url`, or `db` for all below it; empty: everything.
    #[schemars(length(max = 1000))]
    pub key: String,
    /// Files, the first at the bottom: what comes later wins.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub layers: Vec<ExplainLayer>,
    /// On top of them the values of this place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Body of `POST /v1/settings/explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsExplain {
    /// `web/listen`, or `web` for all below it; empty: everything.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub key: String,
    /// Files on top of what is stored, as if they were set.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub layers: Vec<ExplainLayer>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum ExplainOrigin {
    /// The program itself.
    Default,
    /// A file.
    File {
        /// Its name.
        file: String,
        /// Where the key stands.
        line: u64,
        /// Where in the line.
        column: u64,
    },
    /// A variable of the environment.
    Variable {
        /// Its name.
        name: String,
    },
    /// The shared configuration.
    Shared {
        /// The path.
        path: Path,
        /// The revision that wrote it.
        revision: u64,
    },
    /// The settings of this machine.
    Stored {
        /// The revision of their last change.
        revision: u64,
    },
}

/// A value that another one overrules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HiddenValue {
    /// Its key.
    pub key: String,
    /// It; absent: it is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    /// Where it came from.
    pub origin: ExplainOrigin,
}

/// A value that holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedValue {
    /// `db/url`.
    pub key: String,
    /// It; absent: it is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    /// Where it came from.
    pub origin: ExplainOrigin,
    /// What it overrules, the nearest first.
    pub hides: Vec<HiddenValue>,
}

/// Answer of `POST /v1/config/explain` and of `POST /v1/settings/explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainList {
    /// In order of their keys.
    pub values: Vec<ExplainedValue>,
}

/// What values live by that go by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseView {
    /// Keep this alive.
    pub id: String,
    /// How long it lasts.
    pub ttl_ms: u64,
}

/// Body of `POST /v1/config/leases/{lease}/keep-alive`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepAlivePost {}
