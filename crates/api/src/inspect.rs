//! Looks into a Node program that runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/apps/{name}/heap`. The answer is a file: `.heapsnapshot`, or `.heapprofile` where allocations are
/// sampled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapRequest {
    /// Which instance; absent: the only one, or the first that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Instead of a snapshot, which stops the program for a while: sample what is allocated for so many ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_ms: Option<u64>,
    /// Also if the snapshot may need more memory than the app may use.
    #[serde(default)]
    pub force: bool,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
}

/// Body of `POST /v1/apps/{name}/profile`. The answer is a file: `.cpuprofile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileRequest {
    /// Which instance; absent: the only one, or the first that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// For how long, in ms; 10,000 unless given, at most 600,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Between two samples, in µs; 1,000 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_us: Option<u64>,
    /// Kept in the event.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::reason::read"
    )]
    #[schemars(length(max = 1000))]
    pub reason: Option<String>,
}
