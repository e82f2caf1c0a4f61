//! What was written last, so that who writes again need not read first.
//!
//! A change reads what is there before it writes: on etcd that is a second round trip. What this process wrote itself a moment
//! ago it remembers instead, and tries with that; the transaction's guards find out whether somebody else was faster, and
//! bring along what is there instead. Only what a successful change would do may be worked out from memory: whether something is the
//! same already, or not at the revision that was asked for, is always read.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Stored;
use crate::{
    entry::Change,
    path::Path,
    record::{Content, Record},
};

/// So many values are remembered.
const VALUES: usize = 1024;
/// And so many bytes of them.
const BYTES: usize = 1 << 20;

/// A value as it was written.
#[derive(Debug)]
struct Written {
    content: Content,
    /// The backend's revision of it.
    modified: u64,
    /// Its place in the order.
    number: u64,
}

#[derive(Debug, Default)]
struct Held {
    by_path: BTreeMap<Path, Written>,
    /// The oldest first.
    order: BTreeMap<u64, Path>,
    last: u64,
    bytes: usize,
}

/// The values that were written last.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Held>);

impl Recent {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was written.
    pub(super) fn keep(&self, path: Path, content: Content, modified: u64) {
        let mut held = self.held();
        held.forget(&path);
        held.bytes += content.len();
        held.last += 1;
        let number = held.last;
        held.order.insert(number, path.clone());
        let written = Written {
            content,
            modified,
            number,
        };
        held.by_path.insert(path, written);
        while held.by_path.len() > VALUES || held.bytes > BYTES {
            let Some((_, oldest)) = held.order.pop_first() else {
                break;
            };
            held.forget(&oldest);
        }
    }

    /// Somebody else has changed them, or may have.
    pub(super) fn forget<'a>(&self, paths: impl Iterator<Item = &'a Path>) {
        let mut held = self.held();
        for path in paths {
            held.forget(path);
        }
    }

    /// What is there for a change that sets values and asks nothing else, if all of it is remembered.
    pub(super) fn known(&self, change: &Change) -> Option<BTreeMap<Path, Stored>> {
        let is_plain = change.removals.is_empty() && change.ttl.is_none() && !change.dry_run;
        if !is_plain || change.puts.iter().any(|put| put.expected.is_some()) {
            return None;
        }
        let held = self.held();
        let known = change.puts.iter().map(|put| {
            let written = held.by_path.get(&put.path)?;
            let stored = Stored {
                record: Record::new(written.content.clone(), "", 0.0, None),
                modified: written.modified,
                version: 0,
                leased: false,
            };
            Some((put.path.clone(), stored))
        });
        known.collect()
    }
}

impl Held {
    fn forget(&mut self, path: &Path) {
        if let Some(gone) = self.by_path.remove(path) {
            self.bytes -= gone.content.len();
            self.order.remove(&gone.number);
        }
    }
}
