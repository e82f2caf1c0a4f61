//! One instance as a state machine.

use serde::{Deserialize, Serialize};
use upkeep_model::{
    exit::Exit,
    restart::RestartPolicy,
    state::{Actual, Desired},
    stop::StopPolicy,
};

use crate::{effect::Effect, event::Event};

/// What of an app's spec the machine needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub restart: RestartPolicy,
    pub stop: StopPolicy,
    /// Whether it has dependencies to wait for before every start by order (not before restarts after an exit).
    pub has_dependencies: bool,
    /// Whether readiness is told by `BecameReady`; else `min_uptime` makes it ready.
    pub has_readiness: bool,
}

/// One instance. Serialisable, so that the next daemon continues where this one was killed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    // fields: private, by the author of the bodies
}

/// What can be told of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub actual: Actual,
    pub desired: Desired,
    pub ready: bool,
    pub pid: Option<u32>,
    /// CLOCK_MONOTONIC ms of the last change of `actual`.
    pub since_ms: u64,
    /// CLOCK_MONOTONIC ms of the last start of a process.
    pub started_ms: Option<u64>,
    /// Restarts since a person last started it: after exits and by order.
    pub restarts: u32,
    /// Of those, exits before `min_uptime` in a row.
    pub unstable: u32,
    pub last_exit: Option<Exit>,
    /// Why it is in this state, for people.
    pub why: String,
    /// When the next start is due, while backing off.
    pub next_start_ms: Option<u64>,
}

impl Instance {
    /// A new instance: stopped, wanted down.
    pub fn new(now_ms: u64) -> Self {
        let _ = now_ms;
        unimplemented!()
    }
    /// The one way to change it.
    pub fn step(&mut self, policy: &Policy, now_ms: u64, event: Event) -> Vec<Effect> {
        let _ = (policy, now_ms, event);
        unimplemented!()
    }
    /// After a restore from a snapshot: starts the timers again that were running.
    pub fn rearm(&self) -> Vec<Effect> {
        unimplemented!()
    }
    /// What can be told of it.
    pub fn view(&self) -> View {
        unimplemented!()
    }
}
