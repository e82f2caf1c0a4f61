//! Shared state that survives: keys with revisions, and journals.
//!
//! # What this is for
//!
//! The daemon keeps what is *wanted* here (apps, counters) and what *happened* (the event journal), behind the trait
//! object [`Store`] with one backend, [`embedded::Embedded`] over redb. Figures have a file of their own ([`blocks`]).
//! Shared configuration has another interface, with history, watches and leases, and more than one backend: [`kv`].
//!
//! # What it refuses to do
//!
//! It knows nothing of apps, rights or HTTP. It never invents ids or times: they come in with the data.
//!
//! # How it works
//!
//! *Keys* are UTF-8 paths (`/apps/shop`). Every commit that changes keys gets the next store **revision**; each key
//! carries the revision that last wrote it, so that a writer can say "only if it is still what I read"
//! ([`Condition`]). *Journals* are append-only lists with ids that count up from 1 and a cap on their length.
//!
//! A [`Txn`] is atomic and, once its result is there, durable: it survives kill -9 and power loss as far as the
//! disk keeps its promises. There is one writer thread; it takes everything that has queued up meanwhile into one
//! disk commit (**group commit**) and only then answers all of it. A condition that fails refuses its own
//! transaction and no other.
//!
//! If the disk refuses (full, read-only, gone), the transaction is answered with the error and nothing of it is
//! kept; the backend reopens its file, so that the next transaction can succeed once there is room again.
//!
//! Start reading at [`Store`], then [`embedded`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod blocks;
#[cfg(test)]
mod disk;
pub mod embedded;
mod file;
pub mod kv;

use std::path::PathBuf;

/// A store revision: counts every commit that changed a key, from 1. 0 means "never".
pub type Revision = u64;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that last wrote it.
    pub revision: Revision,
}

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counts up from 1 within its journal; a trimmed journal keeps its ids.
    pub id: u64,
    /// What was appended.
    pub value: Vec<u8>,
}

/// A change: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold, or the whole is refused.
    pub conditions: Vec<Condition>,
    /// Keys to write, in order.
    pub puts: Vec<(String, Vec<u8>)>,
    /// Keys to delete; missing ones do no harm.
    pub deletes: Vec<String>,
    /// Lines for the journals.
    pub appends: Vec<Vec<u8>>,
}

/// "This key was last written by that revision" (0: it does not exist).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The key.
    pub key: String,
    /// Its revision.
    pub revision: Revision,
}

/// What a transaction led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The store's revision after it.
    pub revision: Revision,
    /// Ids of the appended lines, in order.
    pub appended: Vec<u64>,
}

/// Called once, when the transaction is durable or refused.
pub type OnDone = Box<dyn FnOnce(Result<Committed, StoreError>) + Send>;

/// A backend.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Reads one key.
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;
    /// Reads every key that starts with `prefix`, in order of keys, `limit` at most.
    fn range(&self, prefix: &str, limit: usize) -> Result<Vec<Entry>, StoreError>;
    /// Reads journal lines with ids above `after`, oldest first, `limit` at most.
    fn journal(&self, after: u64, limit: usize) -> Result<Vec<Line>, StoreError>;
    /// Reads the newest `limit` journal lines, oldest first.
    fn journal_tail(&self, limit: usize) -> Result<Vec<Line>, StoreError>;
    /// Queues a transaction. `on_done` runs on the store's own thread: hand over, do not work there.
    fn submit(&self, txn: Txn, on_done: OnDone);
    /// Queues a transaction and waits for its result. Blocks: not for async code.
    fn commit(&self, txn: Txn) -> Result<Committed, StoreError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(
            txn,
            Box::new(move |result| {
                // The receiver waits below; it cannot be gone.
                let _ = sender.send(result);
            }),
        );
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }
}

/// Why the store could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody wrote the key in between.
    #[error("`{key}` is at revision {actual}, not at {expected}")]
    Conflict {
        /// The key.
        key: String,
        /// The revision that the condition named.
        expected: Revision,
        /// The revision it has.
        actual: Revision,
    },
    /// The file cannot be opened.
    #[error("failed to open the store `{}`: {why}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The engine's or the kernel's words.
        why: String,
    },
    /// Reading failed.
    #[error("failed to read `{what}` from the store: {why}")]
    Read {
        /// The key or journal.
        what: String,
        /// The engine's or the kernel's words.
        why: String,
    },
    /// The commit failed; nothing of it is kept.
    #[error("failed to write to the store: {why}")]
    Write {
        /// The engine's or the kernel's words.
        why: String,
    },
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}
