//! What the daemon must do because of an event.

use upkeep_model::state::{Actual, Desired};

use crate::event::Timer;

/// What the daemon must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the keeper for a process.
    Spawn,
    /// Send a signal, to the whole tree or to the main process. That nothing is there to be reached is no error:
    /// the exit is on its way.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether every process of the tree gets it.
        tree: bool,
    },
    /// SIGKILL whatever the exited process left behind.
    Sweep,
    /// Feed `TimerFired { timer, epoch }` at `at_ms` (CLOCK_MONOTONIC), or as soon as possible after it.
    StartTimer {
        /// Which timer; one that runs already is replaced.
        timer: Timer,
        /// To be given back; an older one is ignored.
        epoch: u64,
        /// When.
        at_ms: u64,
    },
    /// Forget that timer.
    CancelTimer {
        /// Which timer.
        timer: Timer,
    },
    /// Tell who waits, and the event log: it went from one state to another, and why.
    Changed {
        /// The state it left.
        from: Actual,
        /// The state it entered.
        to: Actual,
        /// What is wanted of it.
        desired: Desired,
        /// Why, for people.
        why: String,
    },
    /// Readiness changed.
    ReadyChanged {
        /// Whether it is ready now.
        ready: bool,
        /// Why, for people.
        why: String,
    },
}
