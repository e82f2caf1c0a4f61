//! How an instance is ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::size::Span;

/// How an instance is ended: a signal, time to obey it, then SIGKILL to the whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopPolicy {
    /// The first signal, by number (SIGTERM unless said otherwise; PM2 files bring SIGINT).
    pub signal: i32,
    /// How long the instance may take to end before SIGKILL.
    pub grace: Span,
    /// Whether the first signal goes to the whole tree rather than to the main process alone. SIGKILL always goes
    /// to the whole tree.
    pub tree: bool,
}

impl Default for StopPolicy {
    fn default() -> Self {
        Self {
            signal: 15,
            grace: Span::from_secs(15),
            tree: false,
        }
    }
}
