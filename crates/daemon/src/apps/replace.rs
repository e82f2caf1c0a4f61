//! An actor's part in a replacement: tells the machine what is ([`upkeep_supervise::rollout`]) and does what it says.
//!
//! The machine lies with the keeper as a note, before anything it asked for is done; copies carry their generation in
//! their keys. So a new daemon finds both sides and carries on. Whoever turns back changes the record in memory at once,
//! and has the director make it durable; if the daemon dies in between, the note says it again.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use upkeep_keeper::protocol::Request;
use upkeep_model::{app::AppSpec, id::AppName, listen::Mode, state::Desired};
use upkeep_supervise::{
    event::{Event, Order},
    rollout::{Act, Facts, Plan, Rollout, Side, TRIAL, Verdict},
};
use upkeep_sys::clock;

use super::{actor::Actor, directory::AppRecord, launch::CopyId};

/// A replacement as an order asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replacement {
    /// Which instances; `None`: all.
    pub(crate) indices: Option<Vec<u32>>,
    /// Old and new are the same specification.
    pub(crate) same: bool,
    /// What differs from the app's own policy.
    pub(crate) overrides: upkeep_api::body::RolloutOverrides,
}

/// How a replacement ended, for the director to make durable and for the event log.
#[derive(Debug)]
pub(crate) struct Concluded {
    pub(crate) app: AppName,
    pub(crate) verdict: Verdict,
    /// The record that holds from now on, if it is another.
    pub(crate) record: Option<Arc<AppRecord>>,
}

/// One that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Active {
    machine: Rollout,
    /// Generation of new copies.
    new_generation: u32,
    same: bool,
}

/// Key of the note of an app's replacement.
pub(crate) fn note_key(app: &AppName) -> String {
    format!("rollout:{app}")
}

/// How the copies of an app are replaced.
fn plan(spec: &AppSpec, overrides: &upkeep_api::body::RolloutOverrides) -> Plan {
    let policy = spec.rollout;
    let shares = spec.mode == Mode::Cluster || !spec.listen.is_empty() || spec.door.is_some();
    let millis = |given: Option<u64>, usual: u64| given.unwrap_or(usual);
    Plan {
        surge: overrides
            .surge
            .or(policy.surge)
            .unwrap_or_else(|| u32::from(shares)),
        max_unavailable: overrides.max_unavailable.unwrap_or(policy.max_unavailable),
        settle_ms: millis(overrides.settle_ms, policy.settle.as_millis()),
        pause_ms: millis(overrides.pause_ms, policy.pause.as_millis()),
        timeout_ms: millis(overrides.timeout_ms, policy.timeout.as_millis()),
        watch_ms: policy.watch.as_millis(),
        trial_ms: millis(overrides.trial_ms, policy.trial.as_millis()),
    }
}

impl Actor {
    /// Whether a replacement is at work that somebody may be waiting for.
    pub(super) fn is_replacing(&self) -> bool {
        self.rollout
            .as_ref()
            .is_some_and(|active| !active.machine.is_watching())
    }

    /// Begins to replace what runs by what the record says now.
    pub(super) fn begin_rollout(&mut self, request: &Replacement) {
        let count = u32::try_from(self.record.instances.len()).unwrap_or(u32::MAX);
        let wanted = |index: &u32| {
            let instance = self.record.instances.get(*index as usize);
            instance.is_some_and(|instance| instance.desired == Desired::Up)
                && request
                    .indices
                    .as_ref()
                    .is_none_or(|chosen| chosen.contains(index))
        };
        let indices: BTreeSet<u32> = (0..count).filter(wanted).collect();
        for slot in &mut self.slots {
            slot.restarts_before = slot.machine.view().restarts;
        }
        self.rollout = Some(Active {
            machine: Rollout::new(plan(&self.record.spec, &request.overrides), indices, request.same),
            new_generation: self.record.generation,
            same: request.same,
        });
        self.last_rollout = None;
        self.drive_rollout();
    }

    /// Something else is wanted of all of it: a replacement that is under way is given up. What runs stays: what comes
    /// next decides about it.
    pub(super) fn supersede_rollout(&mut self) {
        let Some(active) = self.rollout.take() else { return };
        self.rollout_wake = None;
        if let (Some(why), false) = (active.machine.returning(), active.same) {
            // What it turned back to is what the record says now, and has to be durable.
            self.conclude(Concluded {
                app: self.name.clone(),
                verdict: Verdict::Returned { why: why.to_owned() },
                record: Some(Arc::clone(&self.record)),
            });
        } else {
            self.note_rollout();
        }
        for at in 0..self.slots.len() {
            if self.slots[at].copy.index == TRIAL && !self.slots[at].surplus {
                self.end_copy(at);
            }
        }
    }

    /// Some instances are stopped: they are no part of a replacement any more, and have one copy each.
    pub(super) fn leave_out_of_rollout(&mut self, leaves: &dyn Fn(u32) -> bool) {
        let Some(active) = &mut self.rollout else { return };
        if active.machine.retain(|index| !leaves(index)) {
            self.note_rollout();
        } else {
            self.supersede_rollout();
        }
        for at in 0..self.slots.len() {
            let index = self.slots[at].copy.index;
            if index != TRIAL && leaves(index) && self.serving(index) != Some(at) && !self.slots[at].surplus {
                self.end_copy(at);
            }
        }
    }

    /// Whether an instance gets a new copy anyway.
    pub(super) fn replaces(&self, index: u32) -> bool {
        self.rollout
            .as_ref()
            .is_some_and(|active| !active.machine.is_watching() && active.machine.has(index))
    }

    /// A record that brings no other generation than the one that is being carried out: the replacement goes on, over
    /// the instances that there shall be now. `false`: there is none, or the record is another matter.
    pub(super) fn goes_on_with(&mut self, record: &Arc<AppRecord>) -> bool {
        let Some(active) = &mut self.rollout else {
            return false;
        };
        let known = self.record.generation;
        if record.generation == known {
            self.record = Arc::clone(record);
        } else if record.generation | 1 == known {
            // Who gave it does not know yet that we have turned back: what is new in it is how many are wanted.
            let mut ours = AppRecord::clone(&self.record);
            ours.instances.clone_from(&record.instances);
            ours.spec.instances = record.spec.instances;
            self.record = Arc::new(ours);
        } else {
            return false;
        }
        let up: BTreeSet<u32> = (0..)
            .zip(&self.record.instances)
            .filter(|(_, instance)| instance.desired == Desired::Up)
            .map(|(index, _)| index)
            .collect();
        active.machine.retain(|index| up.contains(&index));
        active.machine.extend(up);
        true
    }

    /// How a replacement ended is durable: nobody needs the note any more.
    pub(super) fn rollout_stored(&self) {
        if self.rollout.is_none() {
            self.note_rollout();
        }
    }

    /// Whether a change of the specification may yet turn back.
    pub(super) fn is_unproven(&self) -> bool {
        // One that is only watched has shown that it gets ready.
        self.is_replacing() && self.rollout.as_ref().is_some_and(|active| !active.same)
    }

    /// The record went back: instances that it does not have are no part of it.
    fn shrink_to_record(&mut self) {
        let count = self.count();
        if let Some(active) = &mut self.rollout {
            active.machine.retain(|index| index < count);
        }
        for at in 0..self.slots.len() {
            let index = self.slots[at].copy.index;
            if index >= count && index != TRIAL && !self.slots[at].surplus {
                self.end_copy(at);
            }
        }
    }

    /// Carries on from the note of a daemon before.
    pub(super) fn resume_rollout(&mut self, note: &[u8]) {
        // One that cannot be read was written by a newer daemon; what is there then counts as it is.
        let active: Option<Active> = serde_json::from_slice(note).ok();
        if let Some(active) = &active {
            // The daemon that turned back may have died before that was durable.
            let turns = active.machine.returning().is_some() && !active.same;
            if turns
                && self.record.generation == active.new_generation
                && let Some(record) = self.record.turned_back()
            {
                self.record = Arc::new(record);
                self.context.supply.wants(&self.record, &self.supplied);
            }
        }
        self.rollout = active;
    }

    /// Asks the machine what is next, until it has nothing more to say.
    pub(super) fn drive_rollout(&mut self) {
        self.rollout_wake = None;
        // Each round changes what is; more rounds than this would be a fault, and must not hang the daemon.
        for _ in 0..10_000 {
            let facts = self.facts();
            let Some(active) = &mut self.rollout else { return };
            let before = active.machine.clone();
            let step = active.machine.step(clock::monotonic_ms(), &facts);
            let changed = before != active.machine;
            self.rollout_wake = step.wake_ms;
            if changed || !step.acts.is_empty() {
                self.note_rollout();
            }
            if step.acts.is_empty() {
                if changed {
                    self.publish();
                }
                return;
            }
            for act in step.acts {
                self.obey_rollout(act);
            }
            // A copy that had no process when it was told to end is gone at once, and no exit will tell of it.
            self.forget_surplus();
            self.publish();
        }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        let Some(active) = &self.rollout else { return facts };
        for slot in &self.slots {
            let side = if slot.copy.generation == active.new_generation {
                Side::New
            } else {
                Side::Old
            };
            facts.entry(slot.copy.index).or_default().push(slot.fact(side));
        }
        facts
    }

    fn obey_rollout(&mut self, act: Act) {
        match act {
            Act::Start { index } => {
                let generation = self.record.generation;
                let copy = CopyId { index, generation };
                if let Some(at) = self.slots.iter().position(|slot| slot.copy == copy) {
                    // It ended on the way out, and is wanted again.
                    self.slots[at].surplus = false;
                    self.step(at, Event::Ordered(Order::Start));
                } else {
                    self.add_copy(copy);
                }
            }
            Act::End { index, generation } => {
                let copy = CopyId { index, generation };
                if let Some(at) = self.slots.iter().position(|slot| slot.copy == copy) {
                    self.end_copy(at);
                }
            }
            Act::TurnBack { why } => {
                let same = self.rollout.as_ref().is_some_and(|active| active.same);
                self.log_app(
                    "turned_back",
                    &why,
                    "the copies before are kept, or started again",
                );
                if !same && let Some(record) = self.record.turned_back() {
                    self.record = Arc::new(record);
                    self.context.supply.wants(&self.record, &self.supplied);
                    self.renew_specs();
                    self.shrink_to_record();
                }
            }
            Act::Replaced => self.log_app("replaced", "", "every copy is a new one"),
            Act::Finished(verdict) => {
                let turned = match &verdict {
                    // Nothing of it was ever wanted: the record goes back too.
                    Verdict::Refused { .. } => {
                        let same = self.rollout.as_ref().is_some_and(|active| active.same);
                        let back = (!same).then(|| self.record.turned_back()).flatten();
                        if let Some(record) = back {
                            self.record = Arc::new(record);
                            self.context.supply.wants(&self.record, &self.supplied);
                            self.renew_specs();
                            self.shrink_to_record();
                        }
                        true
                    }
                    Verdict::Returned { .. } | Verdict::Broken { .. } => true,
                    Verdict::Replaced => false,
                };
                self.rollout = None;
                self.rollout_wake = None;
                if !turned {
                    // Else it stays until the record is durable: the next daemon would say all this again.
                    self.note_rollout();
                }
                self.last_rollout = Some(verdict.clone());
                self.conclude(Concluded {
                    app: self.name.clone(),
                    verdict,
                    record: turned.then(|| Arc::clone(&self.record)),
                });
            }
        }
    }

    fn note_rollout(&self) {
        let bytes = match &self.rollout {
            Some(active) => serde_json::to_vec(active).unwrap_or_default(),
            None => Vec::new(),
        };
        self.context.link.tell(&Request::SetNote {
            key: note_key(&self.name),
            bytes,
        });
    }

    /// How far it is, for people.
    pub(super) fn rollout_state(&self) -> Option<String> {
        self.rollout.as_ref().map(|active| active.machine.describe())
    }
}
