//! What is known of a log beside its bytes: how much of it may stay, what is gone, how much was written.
//!
//! A [`Ledger`] is shared by the pump, which writes the log, by the janitor, which deletes from it, and by whoever
//! asks. What is gone is counted on disk before it goes.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{beside, names::accounting_path, rate::Rate};

/// Longer than any accounting, in bytes.
const ACCOUNTING_MAX: u64 = 64 << 10;

/// What rotation has deleted and what could not be written, ever since the log was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accounting {
    /// Lines and bytes that retention deleted.
    pub(crate) dropped_lines: u64,
    pub(crate) dropped_bytes: u64,
    /// Rotated files up to this number are counted in them.
    pub(crate) dropped_through: u64,
    /// Lines and bytes that never reached a file.
    pub(crate) lost_lines: u64,
    pub(crate) lost_bytes: u64,
}

/// How much of a log may stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Rotated files beside the current one.
    pub(crate) keep: u32,
    pub(crate) max_age_ms: Option<u64>,
    /// Bytes of all logs of the same group.
    pub(crate) max_total: Option<u64>,
    /// Whose logs count together: the app's name.
    pub(crate) group: String,
    /// Whether rotated files are compressed.
    pub(crate) compress: bool,
}

/// One log.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    accounting: Mutex<Accounting>,
    policy: Mutex<Policy>,
    /// Taken by whoever deletes rotated files or puts another in their place.
    pub(super) files: Mutex<()>,
    /// Bytes that the pump has written since it began.
    written: AtomicU64,
    pub(super) rate: Mutex<Rate>,
}

/// No state here can be half changed by a panic: it aborts the process.
pub(in crate::logs) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Reads what was counted before.
    pub(crate) fn load(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            accounting: Mutex::new(accounting_of(path)),
            policy: Mutex::default(),
            files: Mutex::default(),
            written: AtomicU64::new(0),
            rate: Mutex::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn accounting(&self) -> Accounting {
        lock(&self.accounting).clone()
    }

    pub(crate) fn policy(&self) -> Policy {
        lock(&self.policy).clone()
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        *lock(&self.policy) = policy;
    }

    /// Counts bytes that the pump has written.
    pub(super) fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that the pump has written since it began.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Counts what never reached the file. In memory always; on disk if that can be.
    pub(crate) fn lose(&self, lines: u64, bytes: u64) -> io::Result<()> {
        let mut accounting = lock(&self.accounting);
        accounting.lost_lines += lines;
        accounting.lost_bytes += bytes;
        save(&self.path, &accounting)
    }

    /// Counts a rotated file that is about to go.
    pub(super) fn drop_file(&self, number: u64, lines: u64, bytes: u64) -> io::Result<()> {
        let mut accounting = lock(&self.accounting);
        accounting.dropped_lines += lines;
        accounting.dropped_bytes += bytes;
        accounting.dropped_through = accounting.dropped_through.max(number);
        save(&self.path, &accounting)
    }

    /// Writes what is counted: whole or not at all.
    pub(crate) fn save(&self) -> io::Result<()> {
        save(&self.path, &lock(&self.accounting))
    }
}

/// What is counted on disk.
pub(crate) fn accounting_of(path: &Path) -> Accounting {
    beside::read_small(&accounting_path(path), ACCOUNTING_MAX)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn save(log: &Path, accounting: &Accounting) -> io::Result<()> {
    let path = accounting_path(log);
    let temporary = path.with_extension("tmp");
    // One of before, or a link that somebody put there: never written through.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&serde_json::to_vec(accounting).map_err(io::Error::other)?)?;
    fs::rename(temporary, path)
}

/// The ledgers of all logs that are being written.
#[derive(Debug, Default)]
pub(crate) struct Ledgers(Mutex<HashMap<PathBuf, Weak<Ledger>>>);

impl Ledgers {
    /// The ledger of a log: one, however many ask.
    pub(crate) fn of(&self, path: &Path) -> Arc<Ledger> {
        let mut ledgers = lock(&self.0);
        if let Some(ledger) = ledgers.get(path).and_then(Weak::upgrade) {
            return ledger;
        }
        let ledger = Arc::new(Ledger::load(path));
        ledgers.retain(|_, ledger| ledger.strong_count() > 0);
        ledgers.insert(path.to_owned(), Arc::downgrade(&ledger));
        ledger
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Ledger>> {
        lock(&self.0).values().filter_map(Weak::upgrade).collect()
    }
}
