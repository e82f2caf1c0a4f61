//! One copy of an app as its actor holds it.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use upkeep_model::{app::AppSpec, listen::Mode, size::Span, state::Actual};
use upkeep_supervise::{
    event::Timer,
    instance::{Instance, Policy, Recovered},
    rollout::{Fact, Side, State},
};

use super::{
    health::{Monitor, Prepared},
    launch::CopyId,
};
use crate::tasks::Task;
use upkeep_keeper::protocol::ExitRecord;

/// One copy.
pub(super) struct Slot {
    pub(super) copy: CopyId,
    /// Number of the instance on this machine.
    pub(super) id: u32,
    /// What it runs by.
    pub(super) spec: Arc<AppSpec>,
    pub(super) policy: Policy,
    pub(super) machine: Instance,
    pub(super) timers: BTreeMap<Timer, (u64, u64)>,
    /// Who looks after its process.
    pub(super) health: Option<Monitor>,
    /// What was made ready for a process that is being started.
    pub(super) prepared: Option<Prepared>,
    /// Nobody wants it any more: it is forgotten once it has stopped.
    pub(super) surplus: bool,
    /// It waits for sockets before the keeper is asked to start it.
    pub(super) waits_for_sockets: bool,
    /// The port that it binds by itself.
    pub(super) port: Option<u16>,
    /// Whether the front door was told that it takes work.
    pub(super) door_takes: bool,
    /// The signal that ends it, held back until it has finished what it has in hand: number, and whether to the tree.
    pub(super) held_signal: Option<(i32, bool)>,
    /// The end of that patience.
    pub(super) drain: Option<Task>,
    /// It is being ended because a check failed.
    pub(super) unhealthy: bool,
    /// Why it waits for what it gets of the shared configuration.
    pub(super) unsupplied: Option<String>,
    /// Since when it has been ready, CLOCK_MONOTONIC ms.
    pub(super) ready_since_ms: Option<u64>,
    /// Its restarts when the replacement began that it is part of.
    pub(super) restarts_before: u32,
    pub(super) shown: Option<(Actual, bool)>,
}

/// What the keeper remembers of a copy for the next daemon.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) machine: Instance,
    #[serde(default)]
    pub(super) port: Option<u16>,
}

/// The note of a copy.
pub(super) fn note(slot: &Slot) -> Vec<u8> {
    #[derive(Serialize)]
    struct Borrowed<'a> {
        machine: &'a Instance,
        port: Option<u16>,
    }
    let kept = Borrowed {
        machine: &slot.machine,
        port: slot.port,
    };
    serde_json::to_vec(&kept).unwrap_or_default()
}

/// Reads a note: of today, or of a daemon that knew no ports.
pub(super) fn read_note(bytes: &[u8]) -> Option<Kept> {
    serde_json::from_slice(bytes).ok().or_else(|| {
        let machine = serde_json::from_slice(bytes).ok()?;
        Some(Kept { machine, port: None })
    })
}

/// What a new daemon knows of one copy.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) note: Option<Vec<u8>>,
    /// The note about its health.
    pub(crate) health: Option<Vec<u8>>,
    pub(crate) recovered: Recovered,
    /// Exit records to be told of, oldest first.
    pub(crate) exits: Vec<ExitRecord>,
}

/// Whether something tells its readiness: the check of that name, or else the startup check; a worker of a cluster is
/// ready when it listens.
pub(crate) fn has_readiness(spec: &AppSpec) -> bool {
    spec.readiness.is_some() || spec.startup.is_some() || spec.mode == Mode::Cluster
}

/// What the machine needs of a specification.
pub(super) fn policy(spec: &AppSpec) -> Policy {
    let mut stop = spec.stop;
    if let Some(door) = &spec.door {
        // What it has in hand at the door is finished before the signal.
        stop.grace = Span::from_millis(stop.grace.as_millis().saturating_add(door.drain.as_millis()));
    }
    Policy {
        restart: spec.restart.clone(),
        stop,
        has_dependencies: !spec.depends_on.is_empty() || spec.config.is_some(),
        has_readiness: has_readiness(spec),
    }
}

impl Slot {
    /// Its process is no more, or is being killed: nothing is held back for it.
    pub(super) fn let_go(&mut self) {
        self.held_signal = None;
        self.drain = None;
        self.unhealthy = false;
    }

    /// Takes note of when it became ready.
    pub(super) fn look_at_readiness(&mut self, now_ms: u64) {
        if self.machine.is_ready() {
            self.ready_since_ms.get_or_insert(now_ms);
        } else {
            self.ready_since_ms = None;
        }
    }

    /// What a replacement has to know of it.
    pub(super) fn fact(&self, side: Side) -> Fact {
        let view = self.machine.view();
        let state = match view.actual {
            _ if self.surplus => State::Ending,
            Actual::Completed => State::Completed,
            _ if view.restarts > self.restarts_before => State::Failed { why: view.why },
            Actual::BackingOff | Actual::Failed | Actual::GaveUp | Actual::Stopped => {
                State::Failed { why: view.why }
            }
            Actual::Running => match self.ready_since_ms {
                Some(since_ms) => State::Ready { since_ms },
                None => State::Coming,
            },
            Actual::Waiting if self.unsupplied.is_some() => State::Failed {
                why: self.unsupplied.clone().unwrap_or_default(),
            },
            Actual::Waiting | Actual::Starting | Actual::Stopping | Actual::Killing => State::Coming,
        };
        Fact {
            generation: self.copy.generation,
            side,
            state,
        }
    }
}
