//! What the daemon must do because of an event.

use upkeep_model::state::{Actual, Desired};

use crate::event::Timer;

/// What the daemon must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the keeper for a process.
    Spawn,
    /// Send a signal, to the whole tree or to the main process.
    Signal { signal: i32, tree: bool },
    /// SIGKILL whatever the exited process left behind.
    Sweep,
    /// Feed `TimerFired { timer, epoch }` at `at_ms` (CLOCK_MONOTONIC).
    StartTimer { timer: Timer, epoch: u64, at_ms: u64 },
    /// Forget that timer.
    CancelTimer { timer: Timer },
    /// Tell who waits, and the event log: it went from one state to another, and why.
    Changed { from: Actual, to: Actual, desired: Desired, why: String },
    /// Readiness changed.
    ReadyChanged { ready: bool, why: String },
}
