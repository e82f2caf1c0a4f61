//! The event log: every action and everything that happened, with who, what, why and result.
//!
//! Events live in the store's journal. Actions are written in the same transaction as the state they change; exits
//! are written before the keeper is allowed to forget them, so that a status is known exactly once whatever is
//! killed when.

use std::sync::Arc;

use tokio::sync::{broadcast, oneshot};
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

    /// Commits a transaction together with an event, and waits for it. What is kept beside the store is brought up to date
    /// by `stored`, with the revision, on the store's thread: so it holds what is stored also if whoever waits has gone.
    pub(crate) async fn commit_then(
        &self,
        txn: Txn,
        event: Event,
        stored: impl FnOnce(u64) + Send + 'static,
    ) -> Result<(u64, u64), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.commit(txn, event, move |result| {
            if let Ok((revision, _)) = result {
                stored(revision);
            }
            // Whoever asked may have gone away.
            let _ = sender.send(result);
        });
        receiver.await.unwrap_or(Err(StoreError::Closed))
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

    /// Ids of the oldest and the newest event that are kept.
    pub(crate) fn kept(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let oldest = self.store.journal(0, 1)?;
        let newest = self.store.journal_tail(1)?;
        Ok(oldest
            .first()
            .zip(newest.last())
            .map(|(oldest, newest)| (oldest.id, newest.id)))
    }

    /// What somebody is told first who goes on behind an event that is no longer kept, or that never was: the log goes on
    /// with the oldest event that is kept, and the id is the place before that.
    pub(crate) fn gap(&self, after: u64) -> Result<Option<Event>, StoreError> {
        let kept = self.kept()?;
        let (before, newest) = kept.map_or((0, 0), |(oldest, newest)| (oldest.saturating_sub(1), newest));
        let (why, result) = if after > newest {
            let why = format!("there is no event {after} yet: the log was begun anew");
            (why, "all that is kept follows".to_owned())
        } else if after > 0 && after < before {
            let why = format!("events {} to {before} are no longer kept", after + 1);
            (why, format!("goes on with event {}", before + 1))
        } else {
            return Ok(None);
        };
        Ok(Some(Event {
            id: before,
            at: now(),
            who: "upkeep".to_owned(),
            what: Event::GAP.to_owned(),
            target: String::new(),
            why,
            result,
            details: [("after".to_owned(), after.into())].into(),
        }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use upkeep_store::embedded::{Embedded, JOURNAL_KEPT};

    fn event(number: u64) -> Event {
        Event {
            id: 0,
            at: 0.0,
            who: "upkeep".to_owned(),
            what: "exited".to_owned(),
            target: String::new(),
            why: number.to_string(),
            result: String::new(),
            details: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_no_longer_kept_is_a_gap() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(&dir.path().join("store.redb")).expect("a store");
        let events = Events::new(Arc::new(store));
        assert_eq!(events.gap(0).expect("it can be read"), None);
        let nothing = events
            .gap(3)
            .expect("it can be read")
            .expect("there is no event 3");
        assert_eq!(nothing.id, 0);
        let (sender, receiver) = std::sync::mpsc::channel();
        let many = (1..=JOURNAL_KEPT + 50).map(event).collect();
        events.commit_all(Txn::default(), many, move |result| {
            result.expect("it is stored");
            sender.send(()).expect("somebody waits");
        });
        receiver.recv().expect("it is done");
        let (oldest, newest) = events.kept().expect("it can be read").expect("events");
        assert!(oldest > 1 && newest == JOURNAL_KEPT + 50, "{oldest} to {newest}");
        let gap = events.gap(5).expect("it can be read").expect("a gap");
        assert!(gap.is_gap());
        assert_eq!(gap.id, oldest - 1);
        assert_eq!(gap.why, format!("events 6 to {} are no longer kept", oldest - 1));
        let next = events
            .tail(usize::MAX >> 8, gap.id, &|_| true)
            .expect("it can be read");
        assert_eq!(next.first().map(|event| event.id), Some(oldest));
        for known in [0, oldest - 1, oldest, newest] {
            assert_eq!(events.gap(known).expect("it can be read"), None, "{known}");
        }
        let later = events.gap(newest + 1).expect("it can be read").expect("a gap");
        assert_eq!(later.id, oldest - 1);
    }
}
