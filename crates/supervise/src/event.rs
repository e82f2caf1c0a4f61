//! What happens to an instance.

use upkeep_model::{exit::Exit, size::Span};

/// What happens to an instance. Times are milliseconds of CLOCK_MONOTONIC, so that a clock that is set does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants something.
    Ordered(Order),
    /// Everything in `depends_on` has reached its condition.
    DependenciesMet,
    /// A dependency can no longer reach its condition.
    DependencyFailed {
        /// Which one, and why.
        why: String,
    },
    /// The keeper started it.
    Spawned {
        /// Its process.
        pid: u32,
    },
    /// The keeper could not start it.
    SpawnFailed {
        /// What the kernel or the keeper said.
        why: String,
    },
    /// The keeper was not asked: what it needs to be started with is not there for now.
    HeldBack {
        /// What is not there.
        why: String,
    },
    /// Its process ended.
    Exited {
        /// The process.
        pid: u32,
        /// How.
        exit: Exit,
        /// How long it had been up.
        uptime_ms: u64,
        /// Whether processes of its tree are still alive.
        leftovers: bool,
    },
    /// A timer that [`crate::effect::Effect::StartTimer`] started has run out.
    TimerFired {
        /// Which timer.
        timer: Timer,
        /// The epoch it was started with.
        epoch: u64,
    },
    /// Its readiness check succeeded often enough.
    BecameReady,
    /// Its readiness check failed often enough.
    BecameUnready {
        /// What the check said.
        why: String,
    },
    /// Its process is there and does no good: a liveness check or the startup check failed, or it missed its
    /// watchdog. It is stopped, and the restart policy judges that as a failure.
    Unhealthy {
        /// What the check said.
        why: String,
        /// Signal to begin with, where it is not the stop policy's (SIGABRT of a watchdog).
        signal: Option<i32>,
        /// Time to end, where it is not the stop policy's.
        grace: Option<Span>,
    },
    /// It asks for more time to stop (`EXTEND_TIMEOUT_USEC` of sd_notify): none is over before that moment.
    MoreTime {
        /// CLOCK_MONOTONIC ms.
        until_ms: u64,
    },
    /// A new daemon found its process alive in the keeper's table. `stray`: a killed keeper's child.
    Found {
        /// The process.
        pid: u32,
        /// How long it has been up.
        uptime_ms: u64,
        /// Whether an earlier keeper, killed since, was its parent.
        stray: bool,
    },
    /// A new daemon found no process for it in the keeper's table, and no exit record of its last process either.
    NotFound,
}

/// Orders. Who gave them is the daemon's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It shall run; one that runs is left alone.
    Start,
    /// It shall not run.
    Stop,
    /// It shall run in a new process.
    Restart,
}

/// Timers of an instance. At most one of each kind runs; starting it again replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
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
