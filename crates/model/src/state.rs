//! What can be said of an instance.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an instance is doing: the actual side. What is wanted of it stands in [`Desired`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Actual {
    /// No process, and none coming.
    Stopped,
    /// No process yet: a dependency has not reached its condition.
    Waiting,
    /// The keeper was asked for a process.
    Starting,
    /// It has a process.
    Running,
    /// It was sent its stop signal and has its grace.
    Stopping,
    /// It was sent SIGKILL, with all its tree.
    Killing,
    /// No process: the next start is after a pause.
    BackingOff,
    /// No process: it ended by itself and its policy does not start it again, with success.
    Completed,
    /// No process: it ended by itself with a failure that its policy does not restart.
    Failed,
    /// No process: it failed too often.
    GaveUp,
}

impl Actual {
    /// The word on screens and wires.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Killing => "killing",
            Self::BackingOff => "backing_off",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::GaveUp => "gave_up",
        }
    }

    /// Whether nothing more happens to it without an order.
    pub const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Stopped | Self::Running | Self::Completed | Self::Failed | Self::GaveUp
        )
    }
}

impl fmt::Display for Actual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wanted of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It runs.
    Up,
    /// It does not run.
    Down,
}
