//! A watch: what the hub has for it, and what it reads from the log when it is behind.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures_channel::oneshot;
use futures_util::{FutureExt as _, Stream};
use redb::{ReadTransaction, ReadableDatabase as _};

use super::{
    Shared,
    hub::Found,
    read::version,
    tables::{COMPACTED, FIRST, Fault, LATEST, LOG, META, Row, VERSIONS, counter},
};
use crate::{
    Revision,
    kv::{Change, KvError, Reason, Watch, WatchEvent},
};

/// Rows of the log that are looked at in one go.
const ROWS: usize = 1024;
/// Bytes of values after which a reading stops.
const BYTES: usize = 1 << 20;

/// The stream of a watch.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    watch: Watch,
    /// The next revision that it wants.
    next: Revision,
    slot: Option<u64>,
    pending: VecDeque<WatchEvent>,
    reading: Option<oneshot::Receiver<Result<Chunk, KvError>>>,
    /// It has been up to date: from now on, being behind is worth saying.
    caught_up: bool,
    beat_at: Instant,
    ended: bool,
}

/// What a reading of the log found.
enum Chunk {
    /// These; on from there.
    Events(Vec<WatchEvent>, Revision),
    /// Everything from there on is known.
    Compacted(Revision),
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>, watch: Watch) -> Self {
        let (revision, compacted) = shared.hub.join();
        let next = watch.from.unwrap_or(revision + 1);
        let begins = if next <= compacted {
            WatchEvent::Compacted {
                oldest: compacted + 1,
            }
        } else {
            WatchEvent::Progress { revision: next - 1 }
        };
        let beat_at = Instant::now() + shared.hub.heartbeat();
        Self {
            ended: matches!(begins, WatchEvent::Compacted { .. }),
            shared,
            watch,
            next,
            slot: None,
            pending: VecDeque::from([begins]),
            reading: None,
            caught_up: false,
            beat_at,
        }
    }

    fn read_log(&mut self) -> Result<(), KvError> {
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let watch = self.watch.clone();
        let next = self.next;
        let attempt = format!("watch {}", self.watch.span);
        self.shared.read_later(&attempt.clone(), true, move || {
            let chunk = shared.read(&attempt, |database| {
                let transaction = database.begin_read()?;
                read_log(&transaction, &watch, next)
            });
            // The watch may have been dropped.
            let _ = sender.send(chunk);
        })?;
        self.reading = Some(receiver);
        Ok(())
    }
}

impl Stream for Watcher {
    type Item = Result<WatchEvent, KvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.pending.pop_front() {
                this.beat_at = Instant::now() + this.shared.hub.heartbeat();
                return Poll::Ready(Some(Ok(event)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(reading) = &mut this.reading {
                let chunk = ready!(reading.poll_unpin(context));
                this.reading = None;
                match chunk {
                    Ok(Ok(Chunk::Events(events, next))) => {
                        this.pending.extend(events);
                        this.next = next;
                    }
                    Ok(Ok(Chunk::Compacted(oldest))) => {
                        this.pending.push_back(WatchEvent::Compacted { oldest });
                        this.ended = true;
                    }
                    Ok(Err(error)) => return this.fail(error.reason),
                    Err(oneshot::Canceled) => return this.fail(Reason::Closed),
                }
                continue;
            }
            let found = this.shared.hub.look(
                &this.watch,
                this.next,
                this.slot.take(),
                this.beat_at,
                context.waker(),
            );
            match found {
                Found::Events(events, next) => {
                    this.caught_up = true;
                    this.pending.extend(events);
                    this.next = next;
                }
                Found::Quiet(revision) => {
                    this.next = revision + 1;
                    this.pending.push_back(WatchEvent::Progress { revision });
                }
                Found::Parked(slot) => {
                    this.caught_up = true;
                    this.slot = Some(slot);
                    return Poll::Pending;
                }
                Found::Log(behind) => {
                    if std::mem::take(&mut this.caught_up) {
                        this.pending.push_back(WatchEvent::Lagging { behind });
                    }
                    if let Err(error) = this.read_log() {
                        return this.fail(error.reason);
                    }
                }
                Found::Closed => return this.fail(Reason::Closed),
            }
        }
    }
}

impl Watcher {
    fn fail(&mut self, reason: Reason) -> Poll<Option<Result<WatchEvent, KvError>>> {
        self.ended = true;
        let attempt = format!("watch {}", self.watch.span);
        Poll::Ready(Some(Err(KvError::new(attempt, reason))))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.hub.leave(self.slot);
    }
}

fn read_log(
    transaction: &ReadTransaction,
    watch: &Watch,
    from: Revision,
) -> Result<Result<Chunk, Reason>, Fault> {
    let compacted = counter(&transaction.open_table(META)?, COMPACTED)?;
    if from <= compacted {
        return Ok(Ok(Chunk::Compacted(compacted + 1)));
    }
    let latest = transaction.open_table(LATEST)?;
    let versions = transaction.open_table(VERSIONS)?;
    let log = transaction.open_table(LOG)?;
    let mut events = Vec::new();
    let mut bytes = 0;
    // The first revision of all has no row.
    let mut next = from.max(FIRST + 1);
    for item in log.range(from..)?.take(ROWS) {
        let (revision, row) = item?;
        let revision = revision.value();
        if revision != next {
            return Err(Fault::Damaged(format!("the log has no revision {next}")));
        }
        let row = Row::decode(revision, row.value())?;
        let mut changes = Vec::new();
        for logged in row
            .changes
            .into_iter()
            .filter(|logged| watch.span.contains(&logged.key))
        {
            let previous = if watch.with_previous && logged.previous > 0 {
                version(&latest, &versions, &logged.key, logged.previous)?
            } else {
                None
            };
            bytes += previous.as_ref().map_or(0, |previous| previous.value.len()) + logged.key.len() + 128;
            if logged.deleted {
                changes.push(Change::Delete {
                    key: logged.key,
                    previous,
                });
                continue;
            }
            let now = version(&latest, &versions, &logged.key, revision)?.ok_or_else(|| {
                Fault::Damaged(format!("`{}` of revision {revision} is not there", logged.key))
            })?;
            bytes += now.value.len();
            changes.push(Change::Put { now, previous });
        }
        if !changes.is_empty() {
            events.push(WatchEvent::Changes { revision, changes });
        }
        next = revision + 1;
        if bytes > BYTES {
            break;
        }
    }
    if next == from {
        return Err(Fault::Damaged(format!("the log ends before revision {from}")));
    }
    Ok(Ok(Chunk::Events(events, next)))
}
