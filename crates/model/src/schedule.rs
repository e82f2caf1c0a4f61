//! Programs that are run by the clock.

use serde::{Deserialize, Serialize};

use crate::size::Span;

/// When an app is run. It is not kept running: each run ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// `*/5 * * * *` (five or six fields), `@daily`, `every 30m`.
    pub at: String,
    /// IANA name of the time zone; absent: the machine's.
    pub timezone: Option<String>,
    /// Each run begins up to so much later, by chance.
    pub jitter: Span,
    /// What happens if the run before has not ended.
    pub overlap: Overlap,
    /// How many runs that were missed while the daemon or the machine was down are made up for.
    pub catch_up: CatchUp,
    /// How long a run may take.
    pub timeout: Option<Span>,
    /// Command that is run when a run did not happen or failed to start.
    pub on_missed: Option<Vec<String>>,
}

/// What happens if the run before has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The new run is left out.
    #[default]
    Skip,
    /// The new run waits for the end of the old one; one waits at most.
    Queue,
    /// The old run is stopped.
    Replace,
}

/// Which missed runs are made up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// None.
    None,
    /// One, however many were missed.
    #[default]
    One,
    /// Each of them, ten at most.
    All,
}
