//! Replacing the copies of an app by new ones, without a gap and with a way back.
//!
//! # Theory of operation
//!
//! An app has *indices*; each normally has one copy. While it is being replaced, an index may have an old and a new
//! copy at once. This machine decides by *levels*: at each step it is told of every copy what it is
//! ([`Fact`]), and says what has to be done next ([`Act`]). Nothing is remembered that the facts tell, so that a new
//! daemon carries on in the middle.
//!
//! ```text
//!           trial settled and gone           every index has a settled new copy, no old one
//!   Trial ─────────────────────────▶ Replacing ───────────────────────────▶ Watching ──────▶ Replaced
//!     │ fails                          │ a new copy fails, or is not ready in time │ fails   (time over)
//!     ▼                                ▼                                           │
//!   Refused                        Returning ◀─────────────────────────────────────┘
//!                                      │ every index has a settled old copy          an old copy fails: Broken
//!                                      ▼
//!                                   Returned
//! ```
//!
//! **With surge** (the copies share their sockets) the new copy is started beside the old one; once it has been ready
//! for `settle_ms` the old one is told to end. **Without** the old one ends first, and at most `max_unavailable`
//! indices are without a ready copy at a time.
//!
//! **The way back** is the same walk with the old specification as its target: an old copy that is still there is
//! kept, what is missing is started, and what is new is ended. If both specifications are the same (a reload), new
//! copies that are well are kept as well.
//!
//! **Trial**: one copy on sockets of its own ([`TRIAL`] as its index) has to stay ready for `trial_ms`, before anything
//! else is touched.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The index of a copy that is only tried.
pub const TRIAL: u32 = u32::MAX;

/// How to go about it. Times in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many new copies may be coming beside old ones; 0: the old one ends first.
    pub surge: u32,
    /// Without surge: how many indices may be without a ready copy.
    pub max_unavailable: u32,
    /// How long a copy has to be ready before it counts.
    pub settle_ms: u64,
    /// Pause between two replacements.
    pub pause_ms: u64,
    /// How long a copy may take to become ready.
    pub timeout_ms: u64,
    /// How long after the last replacement a failure leads back.
    pub watch_ms: u64,
    /// How long a trial lasts; 0: none.
    pub trial_ms: u64,
}

/// Which side a copy belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What was there before, or was started to return to it.
    Old,
    /// What it is replaced by.
    New,
}

/// What a copy is, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// On its way: not ready yet, or not any more.
    Coming,
    /// Ready since this moment (CLOCK_MONOTONIC ms).
    Ready {
        /// Since when.
        since_ms: u64,
    },
    /// It has done its work and ended well.
    Completed,
    /// It has ended, or could not be started.
    Failed {
        /// What became of it.
        why: String,
    },
    /// It was told to end, and has not yet.
    Ending,
}

/// One copy. Copies that are gone are not told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Tells the copies of one index apart.
    pub generation: u32,
    /// Whether it is old or new.
    pub side: Side,
    /// What it is.
    pub state: State,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Start a copy of what is wanted now: new, or old while returning.
    Start {
        /// Of this index.
        index: u32,
    },
    /// Let a copy finish what it has in hand, and end it.
    End {
        /// Of this index.
        index: u32,
        /// Which.
        generation: u32,
    },
    /// From here on the old specification is wanted again.
    TurnBack {
        /// Why.
        why: String,
    },
    /// Every index has its new copy; it is only watched from now on.
    Replaced,
    /// It is over.
    Finished(Verdict),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything is new.
    Replaced,
    /// The trial failed: nothing was touched.
    Refused {
        /// Why.
        why: String,
    },
    /// Everything is as it was before.
    Returned {
        /// Why.
        why: String,
    },
    /// The way back failed too: what runs was left as it is.
    Broken {
        /// Why.
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Trial,
    Replacing,
    Watching { since_ms: u64 },
    Returning { why: String },
}

/// A replacement that is under way. Serialisable, so that the next daemon carries on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    plan: Plan,
    indices: BTreeSet<u32>,
    /// Old and new are the same specification.
    same: bool,
    phase: Phase,
    /// Since when a copy that counts is awaited, by index.
    begun: BTreeMap<u32, u64>,
    /// Indices whose other copies have been told to end.
    replaced: BTreeSet<u32>,
    last_ms: Option<u64>,
}

/// What a step comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be done in this order.
    pub acts: Vec<Act>,
    /// When to ask again at the latest (CLOCK_MONOTONIC ms).
    pub wake_ms: Option<u64>,
}

impl Step {
    fn wake(&mut self, at_ms: u64) {
        self.wake_ms = Some(self.wake_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }
}

/// Copies by index.
pub type Facts = BTreeMap<u32, Vec<Fact>>;

impl Rollout {
    /// Begins. `same`: old and new are one specification.
    pub fn new(plan: Plan, indices: BTreeSet<u32>, same: bool) -> Self {
        Self {
            plan,
            indices,
            same,
            phase: if plan.trial_ms > 0 {
                Phase::Trial
            } else {
                Phase::Replacing
            },
            begun: BTreeMap::new(),
            replaced: BTreeSet::new(),
            last_ms: None,
        }
    }

    /// Whether only the early life of new copies is watched: whoever waited for it need not wait any more.
    pub fn is_watching(&self) -> bool {
        matches!(self.phase, Phase::Watching { .. })
    }

    /// Leaves out indices that are no part of it any more. `false`: nothing is left.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) -> bool {
        self.indices.retain(|index| keep(*index));
        self.begun.retain(|index, _| *index == TRIAL || keep(*index));
        self.replaced.retain(|index| *index == TRIAL || keep(*index));
        !self.indices.is_empty()
    }

    /// Takes up indices that have come since.
    pub fn extend(&mut self, indices: impl IntoIterator<Item = u32>) {
        self.indices.extend(indices);
    }

    /// Whether it has an index.
    pub fn has(&self, index: u32) -> bool {
        self.indices.contains(&index)
    }

    /// Why it is on its way back, if it is.
    pub fn returning(&self) -> Option<&str> {
        match &self.phase {
            Phase::Returning { why } => Some(why),
            Phase::Trial | Phase::Replacing | Phase::Watching { .. } => None,
        }
    }

    /// For people: how far it is.
    pub fn describe(&self) -> String {
        let all = self.indices.len();
        let done = self.replaced.len();
        match &self.phase {
            Phase::Trial => "a trial copy runs without traffic".to_owned(),
            Phase::Replacing => format!("{done} of {all} replaced"),
            Phase::Watching { .. } => "all replaced; the new ones are being watched".to_owned(),
            Phase::Returning { why } => format!("returning to what was there before: {why}"),
        }
    }

    /// Looks at what is, and says what is next.
    pub fn step(&mut self, now_ms: u64, facts: &Facts) -> Step {
        let mut step = Step::default();
        match &self.phase {
            Phase::Trial => self.try_out(now_ms, facts, &mut step),
            Phase::Replacing | Phase::Returning { .. } => self.walk(now_ms, facts, &mut step),
            Phase::Watching { since_ms } => {
                let over = since_ms.saturating_add(self.plan.watch_ms);
                if let Some(why) = self.failure(Side::New, facts) {
                    self.turn_back(why, &mut step);
                    self.walk(now_ms, facts, &mut step);
                } else if now_ms >= over {
                    step.acts.push(Act::Finished(Verdict::Replaced));
                } else {
                    step.wake(over);
                }
            }
        }
        step
    }

    fn try_out(&mut self, now_ms: u64, facts: &Facts, step: &mut Step) {
        let tried = facts.get(&TRIAL).into_iter().flatten().next();
        let Some(fact) = tried else {
            if self.replaced.remove(&TRIAL) {
                self.phase = Phase::Replacing;
                self.begun.clear();
                self.walk(now_ms, facts, step);
            } else if self.begun.insert(TRIAL, now_ms).is_none() {
                step.acts.push(Act::Start { index: TRIAL });
            } else {
                // It was asked for, and has vanished without a word.
                let why = "the trial copy is gone".to_owned();
                step.acts.push(Act::Finished(Verdict::Refused { why }));
            }
            return;
        };
        let end = Act::End {
            index: TRIAL,
            generation: fact.generation,
        };
        match &fact.state {
            State::Coming => {
                let since = *self.begun.entry(TRIAL).or_insert(now_ms);
                let limit = since.saturating_add(self.plan.timeout_ms);
                if now_ms >= limit {
                    let why = format!("the trial copy was not ready within {} ms", self.plan.timeout_ms);
                    step.acts.extend([end, Act::Finished(Verdict::Refused { why })]);
                } else {
                    step.wake(limit);
                }
            }
            State::Ready { since_ms } => {
                let settled = since_ms.saturating_add(self.plan.trial_ms);
                if now_ms >= settled {
                    self.replaced.insert(TRIAL);
                    step.acts.push(end);
                } else {
                    step.wake(settled);
                }
            }
            State::Completed => {
                self.replaced.insert(TRIAL);
                step.acts.push(end);
            }
            State::Failed { why } => {
                let why = format!("the trial copy failed: {why}");
                step.acts.extend([end, Act::Finished(Verdict::Refused { why })]);
            }
            State::Ending => {}
        }
    }

    /// A copy of that side that has failed.
    fn failure(&self, side: Side, facts: &Facts) -> Option<String> {
        self.indices
            .iter()
            .filter_map(|index| facts.get(index))
            .flatten()
            .find_map(|fact| match &fact.state {
                State::Failed { why } if fact.side == side => Some(why.clone()),
                _ => None,
            })
    }

    fn turn_back(&mut self, why: String, step: &mut Step) {
        self.begun.clear();
        self.replaced.clear();
        self.last_ms = None;
        step.acts.push(Act::TurnBack { why: why.clone() });
        self.phase = Phase::Returning { why };
    }

    fn walk(&mut self, now_ms: u64, facts: &Facts, step: &mut Step) {
        let target = match &self.phase {
            Phase::Returning { .. } => Side::Old,
            _ => Side::New,
        };
        let late = self.indices.iter().find(|index| {
            let since = self.begun.get(index);
            since.is_some_and(|since| now_ms >= since.saturating_add(self.plan.timeout_ms))
        });
        let failure = self.failure(target, facts).or_else(|| {
            late.map(|index| format!("copy {index} was not ready within {} ms", self.plan.timeout_ms))
        });
        if let Some(failure) = failure {
            match &self.phase {
                Phase::Returning { why } => {
                    let why = format!("{why}; and on the way back: {failure}");
                    step.acts.push(Act::Finished(Verdict::Broken { why }));
                    return;
                }
                _ => {
                    self.turn_back(failure, step);
                    self.walk(now_ms, facts, step);
                    return;
                }
            }
        }
        let none = Vec::new();
        let chosen: BTreeMap<u32, Option<&Fact>> = self
            .indices
            .iter()
            .map(|index| (*index, self.choose(target, facts.get(index).unwrap_or(&none))))
            .collect();
        let is_settled = |fact: &Fact| match fact.state {
            State::Ready { since_ms } => now_ms >= since_ms.saturating_add(self.plan.settle_ms),
            State::Completed => true,
            // Only what is kept for want of anything better.
            State::Failed { .. } => true,
            State::Coming | State::Ending => false,
        };
        let is_ready = |fact: &Fact| matches!(fact.state, State::Ready { .. } | State::Completed);
        let mut coming = chosen.values().flatten().filter(|fact| !is_settled(fact)).count();
        // Served: by what counts already, or by what it replaces.
        let is_served = |index: &u32, chosen: Option<&Fact>| {
            let mut copies = facts.get(index).unwrap_or(&none).iter();
            chosen.is_some_and(is_settled) || copies.any(|copy| copy.side != target && is_ready(copy))
        };
        let mut away = chosen
            .iter()
            .filter(|(index, chosen)| !is_served(index, **chosen))
            .count();
        let mut all_done = true;
        let mut missing = Vec::new();
        for (index, chosen) in chosen {
            let copies = facts.get(&index).unwrap_or(&none);
            match chosen {
                Some(fact) if is_settled(fact) => {
                    self.begun.remove(&index);
                    for other in copies.iter().filter(|other| other.generation != fact.generation) {
                        all_done = false;
                        if other.state != State::Ending {
                            step.acts.push(Act::End {
                                index,
                                generation: other.generation,
                            });
                        }
                    }
                    if self.replaced.insert(index) {
                        self.last_ms = Some(now_ms);
                    }
                }
                Some(fact) => {
                    all_done = false;
                    let since = *self.begun.entry(index).or_insert(now_ms);
                    match fact.state {
                        State::Ready { since_ms } => {
                            self.begun.insert(index, now_ms);
                            step.wake(since_ms.saturating_add(self.plan.settle_ms));
                        }
                        _ => step.wake(since.saturating_add(self.plan.timeout_ms)),
                    }
                }
                None => {
                    all_done = false;
                    missing.push(index);
                }
            }
        }
        let pause_over = self
            .last_ms
            .map(|last| last.saturating_add(self.plan.pause_ms))
            .filter(|over| now_ms < *over);
        for index in missing {
            let copies = facts.get(&index).unwrap_or(&none);
            if let Some(over) = pause_over {
                step.wake(over);
                break;
            }
            let alone = copies.is_empty();
            if self.plan.surge > 0 || alone {
                if alone || coming < self.plan.surge as usize {
                    coming += 1;
                    self.begun.insert(index, now_ms);
                    step.acts.push(Act::Start { index });
                }
            } else if copies.iter().any(|copy| copy.state != State::Ending) {
                let ready = copies.iter().any(is_ready);
                if !ready || away < self.plan.max_unavailable.max(1) as usize {
                    away += usize::from(ready);
                    let alive = copies.iter().filter(|copy| copy.state != State::Ending);
                    step.acts.extend(alive.map(|copy| Act::End {
                        index,
                        generation: copy.generation,
                    }));
                }
            }
        }
        if !all_done {
            return;
        }
        match &self.phase {
            Phase::Returning { why } => {
                let why = why.clone();
                step.acts.push(Act::Finished(Verdict::Returned { why }));
            }
            _ if self.plan.watch_ms == 0 => {
                step.acts
                    .extend([Act::Replaced, Act::Finished(Verdict::Replaced)]);
            }
            _ => {
                self.phase = Phase::Watching { since_ms: now_ms };
                step.acts.push(Act::Replaced);
                step.wake(now_ms.saturating_add(self.plan.watch_ms));
            }
        }
    }

    /// The copy of an index that shall stay: one of the wanted side, the best of them.
    fn choose<'a>(&self, target: Side, copies: &'a [Fact]) -> Option<&'a Fact> {
        let rank = |fact: &Fact| match fact.state {
            State::Ready { since_ms } => (3, u64::MAX - since_ms),
            State::Completed => (2, 0),
            State::Coming => (1, 0),
            State::Failed { .. } | State::Ending => (0, 0),
        };
        let best = |side: Side| {
            copies
                .iter()
                .filter(|fact| fact.side == side && rank(fact).0 > 0)
                .max_by_key(|fact| rank(fact))
        };
        best(target).or_else(|| {
            let keeps_new = self.same && target == Side::Old;
            if !keeps_new {
                return None;
            }
            // Nothing old is left of the same specification: what is new stays, be it well or left to its policy.
            let new = || copies.iter().filter(|fact| fact.state != State::Ending);
            best(Side::New).or_else(|| new().next())
        })
    }
}

#[cfg(test)]
mod tests;
