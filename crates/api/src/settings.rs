//! Settings of the machine, as they are asked for and changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upkeep_model::settings::Settings;

use crate::body::Difference;

/// Answer of `GET /v1/settings`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsView {
    /// Store revision of the last change; 0: never changed.
    pub revision: u64,
    /// What was set.
    pub settings: Settings,
}

/// Body of `PUT /v1/settings`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsPut {
    /// All of them: what is absent is no longer set.
    pub settings: Settings,
    /// Only if the last change was this one. The header `If-Match` says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
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

/// Answer of `PUT /v1/settings`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsResult {
    /// What is (with `dry_run`: would be) different.
    pub changes: Vec<Difference>,
    /// Store revision afterwards.
    pub revision: u64,
    /// The event that tells of it; absent for `dry_run` and where nothing has changed.
    pub event: Option<u64>,
}
