//! The event log: every action and everything that happened, with who, what, why and result.
//!
//! Events live in the store's journal. Actions are written in the same transaction as the state they change; exits
//! are written before the keeper is allowed to forget them, so that a status is known exactly once whatever is
//! killed when.

use std::sync::Arc;

use tokio::sync::broadcast;
use upkeep_api::body::Event;
use upkeep_store::{Store, StoreError, Txn};
use upkeep_sys::clock;

/// How many events a slow follower may lag behind before it is told to read the journal again.
const FOLLOW_BUFFER: usize = 256;

/// The event log.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    store: Arc<dyn Store>,
    live: broadcast::Sender<Event>,
}

/// Now, as the API tells times.
pub(crate) fn now() -> f64 {
    clock::unix_ms() as f64 / 1000.0
}

impl Events {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            live: broadcast::channel(FOLLOW_BUFFER).0,
        }
    }

    /// An event as it goes into a transaction; the journal gives it its id.
    pub(crate) fn encode(event: &Event) -> Vec<u8> {
        serde_json::to_vec(event).unwrap_or_default()
    }

    /// Commits a transaction together with an event and tells followers. `done` runs on the store's thread.
    pub(crate) fn commit(
        &self,
        mut txn: Txn,
        mut event: Event,
        done: impl FnOnce(Result<(u64, u64), StoreError>) + Send + 'static,
    ) {
        txn.appends.push(Self::encode(&event));
        let live = self.live.clone();
        self.store.submit(
            txn,
            Box::new(move |result| {
                done(result.map(|committed| {
                    event.id = committed.appended.first().copied().unwrap_or(0);
                    let id = event.id;
                    // No follower: no error.
                    let _ = live.send(event);
                    (committed.revision, id)
                }));
            }),
        );
    }

    /// Commits a transaction together with several events.
    pub(crate) fn commit_all(
        &self,
        mut txn: Txn,
        mut events: Vec<Event>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        txn.appends.extend(events.iter().map(Self::encode));
        let live = self.live.clone();
        self.store.submit(
            txn,
            Box::new(move |result| {
                done(result.map(|committed| {
                    for (event, id) in events.iter_mut().zip(committed.appended) {
                        event.id = id;
                    }
                    for event in events {
                        // No follower: no error.
                        let _ = live.send(event);
                    }
                }));
            }),
        );
    }

    /// Follows from now.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.live.subscribe()
    }

    /// The newest `limit` events that `keep` accepts, oldest first.
    pub(crate) fn tail(
        &self,
        limit: usize,
        after: u64,
        keep: &dyn Fn(&Event) -> bool,
    ) -> Result<Vec<Event>, StoreError> {
        let read = |lines: Vec<upkeep_store::Line>| {
            lines
                .into_iter()
                .filter_map(|line| {
                    let mut event: Event = serde_json::from_slice(&line.value).ok()?;
                    event.id = line.id;
                    (event.id > after && keep(&event)).then_some(event)
                })
                .collect::<Vec<_>>()
        };
        // Most questions are about the last few; look further back only if those do not answer.
        let mut window = limit.max(64);
        loop {
            let lines = self.store.journal_tail(window)?;
            let all = lines.len() < window || lines.first().is_some_and(|line| line.id <= after);
            let mut events = read(lines);
            if all || events.len() >= limit {
                events.drain(..events.len().saturating_sub(limit));
                return Ok(events);
            }
            window *= 8;
        }
    }
}
