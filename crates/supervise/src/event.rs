//! What happens to an instance.

use upkeep_model::exit::Exit;

/// What happens to an instance. Times are milliseconds of CLOCK_MONOTONIC, so that a clock that is set does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants something.
    Ordered(Order),
    /// Everything in `depends_on` has reached its condition.
    DependenciesMet,
    /// A dependency can no longer reach its condition; the text names it.
    DependencyFailed { why: String },
    /// The keeper started it.
    Spawned { pid: u32 },
    /// The keeper could not start it.
    SpawnFailed { why: String },
    /// Its process ended.
    Exited { pid: u32, exit: Exit, uptime_ms: u64, leftovers: bool },
    /// A timer that [`crate::effect::Effect::StartTimer`] started has run out.
    TimerFired { timer: Timer, epoch: u64 },
    /// Its readiness check succeeded often enough.
    BecameReady,
    /// Its readiness check failed often enough.
    BecameUnready { why: String },
    /// A new daemon found its process alive in the keeper's table. `stray`: a killed keeper's child.
    Found { pid: u32, uptime_ms: u64, stray: bool },
    /// A new daemon found no process for it in the keeper's table, and no exit record either.
    NotFound,
}

/// Orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Start,
    Stop,
    Restart,
}

/// Timers of an instance. At most one of each kind runs; starting it again replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// The pause before the next start is over.
    Backoff,
    /// The grace of a stop is over.
    Grace,
    /// SIGKILL has not ended it: say so and try again.
    KillRetry,
    /// It has been up for `min_uptime`.
    Stable,
}
