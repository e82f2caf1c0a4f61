//! Leases: which there are and until when. Their keys are in the file; the time is only here.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::kv::{Lease, LeaseId, Reason};

#[derive(Debug, Default)]
pub(super) struct Leases {
    live: Mutex<HashMap<LeaseId, Live>>,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    ttl: Duration,
    until: Instant,
    /// The writer is about to end it; too late to keep it alive.
    ending: bool,
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease begins.
    pub(super) fn begin(&self, lease: LeaseId, ttl: Duration) {
        let live = Live {
            ttl,
            until: Instant::now() + ttl,
            ending: false,
        };
        self.lock().insert(lease, live);
    }

    /// These are in the file: whichever is not known begins, whichever is gone ends.
    pub(super) fn meet(&self, there: &[(LeaseId, Duration)]) {
        let now = Instant::now();
        let mut leases = self.lock();
        let known: HashSet<LeaseId> = there.iter().map(|(lease, _)| *lease).collect();
        leases.retain(|lease, _| known.contains(lease));
        for (lease, ttl) in there {
            leases.entry(*lease).or_insert(Live {
                ttl: *ttl,
                until: now + *ttl,
                ending: false,
            });
        }
    }

    pub(super) fn ended(&self, lease: LeaseId) {
        self.lock().remove(&lease);
    }

    pub(super) fn keep_alive(&self, lease: LeaseId) -> Result<Lease, Reason> {
        let now = Instant::now();
        let mut leases = self.lock();
        let live = leases
            .get_mut(&lease)
            .filter(|live| !live.ending && live.until > now)
            .ok_or(Reason::NoLease(lease))?;
        live.until = now + live.ttl;
        Ok(look(lease, *live, now))
    }

    pub(super) fn look(&self, lease: LeaseId) -> Result<Lease, Reason> {
        let leases = self.lock();
        let live = leases.get(&lease).ok_or(Reason::NoLease(lease))?;
        Ok(look(lease, *live, Instant::now()))
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.lock().values().map(|live| live.until).min()
    }

    /// Those whose time is up. From now on they cannot be kept alive.
    pub(super) fn end_due(&self, now: Instant) -> Vec<LeaseId> {
        let mut leases = self.lock();
        let due = leases.iter_mut().filter(|(_, live)| live.until <= now);
        let mut due: Vec<LeaseId> = due
            .map(|(lease, live)| {
                live.ending = true;
                *lease
            })
            .collect();
        due.sort_unstable();
        due
    }
}

fn look(id: LeaseId, live: Live, now: Instant) -> Lease {
    Lease {
        id,
        ttl: live.ttl,
        remaining: live.until.saturating_duration_since(now),
        keys: Vec::new(),
    }
}
