//! Watches: how those who wait learn of a commit.
//!
//! Nothing is sent to a watch. It has a place (the next revision it wants) and fetches from there: from the **ring**,
//! the newest commits in memory, or, if its place is no longer in there, from the log on the disk. So a slow reader
//! costs nothing, and none can lose anything.
//!
//! A watch that has fetched everything is *parked* here. A commit that does not touch its span moves its place
//! without waking it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};

use crate::{
    Revision,
    kv::{Change, KeyValue, Span, Watch, WatchEvent},
};

/// Revisions that the ring holds at most.
const RING: usize = 4096;
/// Events that a watch takes along at once.
const CHUNK: usize = 64;

/// One revision.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) revision: Revision,
    pub(super) changes: Vec<Moved>,
}

/// What became of a key.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) key: String,
    /// `None`: it was deleted.
    pub(super) now: Option<KeyValue>,
    pub(super) previous: Option<KeyValue>,
}

impl Commit {
    fn bytes(&self) -> usize {
        let of = |entry: &Option<KeyValue>| {
            entry
                .as_ref()
                .map_or(0, |entry| entry.key.len() + entry.value.len() + 80)
        };
        let changes = self.changes.iter();
        64 + changes
            .map(|change| change.key.len() + of(&change.now) + of(&change.previous) + 48)
            .sum::<usize>()
    }

    fn event(&self, watch: &Watch) -> Option<WatchEvent> {
        let mut changes = Vec::new();
        for change in self
            .changes
            .iter()
            .filter(|change| watch.span.contains(&change.key))
        {
            let previous = change.previous.clone().filter(|_| watch.with_previous);
            changes.push(match &change.now {
                Some(now) => Change::Put {
                    now: now.clone(),
                    previous,
                },
                None => Change::Delete {
                    key: change.key.clone(),
                    previous,
                },
            });
        }
        (!changes.is_empty()).then_some(WatchEvent::Changes {
            revision: self.revision,
            changes,
        })
    }
}

#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    heartbeat: Duration,
    ring_bytes: usize,
}

#[derive(Debug)]
struct State {
    /// The newest revision that is durable.
    revision: Revision,
    compacted: Revision,
    closed: bool,
    watches: usize,
    /// Without a gap, up to `revision`; empty as long as nobody watches.
    ring: VecDeque<Arc<Commit>>,
    bytes: usize,
    parked: HashMap<u64, Parked>,
    last_slot: u64,
}

#[derive(Debug)]
struct Parked {
    span: Span,
    next: Revision,
    /// Gone once it has been woken.
    waker: Option<Waker>,
    beat_at: Instant,
}

/// What a watch found.
#[derive(Debug)]
pub(super) enum Found {
    /// These; its place is now there.
    Events(Vec<WatchEvent>, Revision),
    /// Not in the ring: so many revisions behind.
    Log(u64),
    /// Nothing, but it has been quiet for so long that this is worth saying.
    Quiet(Revision),
    /// Nothing; it is parked in this slot and will be woken.
    Parked(u64),
    Closed,
}

impl Hub {
    pub(super) fn new(
        revision: Revision,
        compacted: Revision,
        heartbeat: Duration,
        ring_bytes: usize,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                revision,
                compacted,
                closed: false,
                watches: 0,
                ring: VecDeque::new(),
                bytes: 0,
                parked: HashMap::new(),
                last_slot: 0,
            }),
            heartbeat,
            ring_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// A watch begins; the newest revision, and what is compacted.
    pub(super) fn join(&self) -> (Revision, Revision) {
        let mut state = self.lock();
        state.watches += 1;
        (state.revision, state.compacted)
    }

    /// A watch ends.
    pub(super) fn leave(&self, slot: Option<u64>) {
        let mut state = self.lock();
        state.watches -= 1;
        if let Some(slot) = slot {
            state.parked.remove(&slot);
        }
        if state.watches == 0 {
            state.ring.clear();
            state.bytes = 0;
        }
    }

    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether commits are worth keeping.
    pub(super) fn watched(&self) -> bool {
        self.lock().watches > 0
    }

    /// New revisions are durable. `commits` is empty if nobody watched when they were made.
    pub(super) fn publish(&self, revision: Revision, commits: Vec<Commit>) {
        let mut wake = Vec::new();
        let mut state = self.lock();
        let complete = commits
            .first()
            .is_some_and(|first| first.revision == state.revision + 1);
        if !complete {
            // A watch may have come in between; it reads the log.
            state.ring.clear();
            state.bytes = 0;
        }
        let before = state.revision;
        state.revision = revision;
        for parked in state.parked.values_mut() {
            if parked.next > revision {
                continue;
            }
            let touched = !complete
                || commits.iter().any(|commit| {
                    commit.revision >= parked.next
                        && commit
                            .changes
                            .iter()
                            .any(|change| parked.span.contains(&change.key))
                });
            // One that was woken keeps its place: it has yet to look.
            if touched {
                wake.extend(parked.waker.take());
            } else if parked.next > before {
                parked.next = revision + 1;
            }
        }
        if complete {
            for commit in commits {
                state.bytes += commit.bytes();
                state.ring.push_back(Arc::new(commit));
            }
            while state.ring.len() > RING || (state.bytes > self.ring_bytes && !state.ring.is_empty()) {
                let oldest = state.ring.pop_front();
                state.bytes -= oldest.map_or(0, |oldest| oldest.bytes());
            }
        }
        drop(state);
        for waker in wake {
            waker.wake();
        }
    }

    /// The file was opened anew. What it has that nobody was told of is in the log.
    pub(super) fn found(&self, revision: Revision, compacted: Revision) {
        let newer = {
            let mut state = self.lock();
            state.compacted = compacted;
            revision > state.revision
        };
        if newer {
            self.publish(revision, Vec::new());
        }
    }

    pub(super) fn compacted(&self, revision: Revision) {
        self.lock().compacted = revision;
    }

    /// Wakes those that have been quiet for long.
    pub(super) fn tick(&self, now: Instant) {
        let mut state = self.lock();
        let due = state.parked.values_mut().filter(|parked| parked.beat_at <= now);
        let wake: Vec<Waker> = due.filter_map(|parked| parked.waker.take()).collect();
        drop(state);
        for waker in wake {
            waker.wake();
        }
    }

    /// Ends every watch.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wake: Vec<Waker> = state
            .parked
            .values_mut()
            .filter_map(|parked| parked.waker.take())
            .collect();
        drop(state);
        for waker in wake {
            waker.wake();
        }
    }

    /// What there is for a watch that wants `next`, or a place to wait.
    pub(super) fn look(
        &self,
        watch: &Watch,
        mut next: Revision,
        slot: Option<u64>,
        beat_at: Instant,
        waker: &Waker,
    ) -> Found {
        let mut state = self.lock();
        if let Some(parked) = slot.and_then(|slot| state.parked.remove(&slot)) {
            next = next.max(parked.next);
        }
        if state.closed {
            return Found::Closed;
        }
        let mut events = Vec::new();
        if next <= state.revision {
            let Some(skip) = state
                .ring
                .front()
                .and_then(|oldest| next.checked_sub(oldest.revision))
            else {
                return Found::Log(state.revision + 1 - next);
            };
            for commit in state
                .ring
                .iter()
                .skip(usize::try_from(skip).unwrap_or(usize::MAX))
            {
                next = commit.revision + 1;
                events.extend(commit.event(watch));
                if events.len() == CHUNK {
                    break;
                }
            }
        }
        if !events.is_empty() {
            return Found::Events(events, next);
        }
        if beat_at <= Instant::now() {
            return Found::Quiet(next - 1);
        }
        state.last_slot += 1;
        let slot = state.last_slot;
        state.parked.insert(
            slot,
            Parked {
                span: watch.span.clone(),
                next,
                waker: Some(waker.clone()),
                beat_at,
            },
        );
        Found::Parked(slot)
    }
}
