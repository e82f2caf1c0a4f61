//! How instances are replaced without a gap.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::size::Span;

/// How `reload`, `scale` and a changed specification replace instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutPolicy {
    /// How many new instances may be started beside the old ones at a time; 0: the old one ends first. Absent: 1 where
    /// instances share their sockets (`listen`, a cluster, a front door), else 0.
    pub surge: Option<u32>,
    /// How many instances may be away at a time, where there is no surge.
    pub max_unavailable: u32,
    /// How long a new instance has to stay ready before its old one is drained.
    pub settle: Span,
    /// Pause between two replacements.
    pub pause: Span,
    /// How long a new instance may take to become ready.
    pub timeout: Span,
    /// How long, after the last replacement, a crash of a new instance still leads back to the old ones.
    pub watch: Span,
    /// Before anything is replaced, one new instance runs for so long without traffic, on sockets of its own; 0: none.
    pub trial: Span,
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self {
            surge: None,
            max_unavailable: 1,
            settle: Span::from_secs(1),
            pause: Span::from_millis(0),
            timeout: Span::from_secs(60),
            watch: Span::from_secs(5),
            trial: Span::from_millis(0),
        }
    }
}
