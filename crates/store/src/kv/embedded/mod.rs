//! The embedded backend: one redb file on this machine, one writer thread, group commit.
//!
//! A transaction is queued, carried out together with what else has queued up, and answered when the disk has it. A commit
//! syncs the file once. After kill -9 redb then walks the file when it is opened, which takes some milliseconds for each MiB; so a store
//! with more than [`Options::quick_repair_bytes`] writes down with every commit what that walk would find, and syncs twice.
//! A full queue is an answer: busy. Reading one key happens where it is asked for, since it touches a handful of pages; longer
//! readings are for two threads of their own.
//!
//! | thread | does |
//! |---|---|
//! | `config-writer` | commits, ends leases whose time is up, clears away what is compacted, heartbeats |
//! | `config-reader` (two) | ranges, older revisions, watches that are behind |
//!
//! If the disk refuses, the group is answered with the error, the file is opened anew as it was before, and the next
//! group can succeed. Only when the last step of a commit fails may the outcome be unknown, and then this is said.
//!
//! The tables stand in [`tables`]; start reading at [`writer`].

mod apply;
#[cfg(test)]
mod crash;
mod hub;
mod leases;
mod queue;
mod read;
mod tables;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures_channel::oneshot;
use futures_util::FutureExt as _;
use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _, WriteTransaction};

use self::{
    apply::{Work, Worked},
    hub::Hub,
    leases::Leases,
    queue::{Queue, Refused},
    tables::{COMPACTED, Fault, LATEST, LEASE_KEYS, LEASES, LOG, META, RECLAIMED, VERSIONS, counter, newest},
    writer::{Job, Task},
};
use super::{
    Answer, Answered, Kv, KvError, Lease, LeaseId, Limits, Range, Ranged, Reason, Revision, Span, Status,
    Txn, Watch, WatchStream,
};
use crate::{
    StoreError,
    file::{File, Gone},
};

/// What the embedded backend takes in one call.
pub const LIMITS: Limits = Limits {
    key: 4096,
    value: 1 << 20,
    ops: 10_000,
    bytes: 16 << 20,
};

/// Jobs that may wait for the writer.
const JOBS: usize = 4096;
/// Bytes of values that may wait for the writer.
const WAITING_BYTES: usize = 64 << 20;
/// Readings that may wait for a thread.
const READINGS: usize = 4096;
/// Threads for readings.
const READERS: usize = 2;
/// The shortest lease.
const SHORTEST: Duration = Duration::from_secs(1);

/// How to run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of pages that the engine may keep in memory.
    pub cache_bytes: usize,
    /// Bytes of the newest changes that are kept in memory while somebody watches.
    pub recent_bytes: usize,
    /// How long a watch may be quiet before it says that it is alive.
    pub heartbeat: Duration,
    /// Bytes of keys, values and history, above which writing is refused; deleting is not.
    pub quota: Option<u64>,
    /// From so many of these bytes on, a commit takes two syncs instead of one, and opening after kill -9 does not
    /// grow with the file.
    pub quick_repair_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 8 << 20,
            recent_bytes: 1 << 20,
            heartbeat: Duration::from_secs(10),
            quota: None,
            quick_repair_bytes: 16 << 20,
        }
    }
}

/// The embedded backend. Dropping it waits for what is queued, then closes the file.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

type Reading = Box<dyn FnOnce() + Send>;

struct Shared {
    file: File,
    options: Options,
    jobs: Queue<Job>,
    /// Bytes of values in there.
    waiting: AtomicUsize,
    readings: Queue<Reading>,
    hub: Hub,
    leases: Leases,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("file", &self.file)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(LATEST)?;
    transaction.open_table(VERSIONS)?;
    transaction.open_table(LOG)?;
    transaction.open_table(LEASES)?;
    transaction.open_table(LEASE_KEYS)?;
    transaction.open_table(META)?;
    Ok(())
}

impl Embedded {
    /// Opens the file, or makes it (mode 0600). Every lease in it begins anew.
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        Self::start(File::open(path, options.cache_bytes, make_tables)?, options)
    }

    /// As [`Embedded::open`], on a disk of the tests.
    #[cfg(test)]
    fn open_on(disk: crate::disk::Disk, options: Options) -> Result<Self, StoreError> {
        Self::start(File::open_on(disk, options.cache_bytes, make_tables)?, options)
    }

    fn start(file: File, options: Options) -> Result<Self, StoreError> {
        let path = file.path().to_owned();
        let fail = |why: String| StoreError::Open {
            path: path.clone(),
            why,
        };
        let (revision, compacted) = file
            .with(first_look)
            .map_err(|gone| fail(gone.to_string()))?
            .map_err(|fault| fail(fault.to_string()))?;
        let shared = Arc::new(Shared {
            file,
            options,
            jobs: Queue::new(JOBS),
            waiting: AtomicUsize::new(0),
            readings: Queue::new(READINGS),
            hub: Hub::new(revision, compacted, options.heartbeat, options.recent_bytes),
            leases: Leases::default(),
        });
        shared
            .meet_leases()
            .map_err(|error| fail(error.reason.to_string()))?;
        let embedded = Self {
            shared: Arc::clone(&shared),
            threads: Mutex::default(),
        };
        embedded.thread("config-writer", writer::run).map_err(fail)?;
        for _ in 0..READERS {
            embedded.thread("config-reader", readings).map_err(fail)?;
        }
        Ok(embedded)
    }

    fn thread(&self, name: &str, run: fn(&Arc<Shared>)) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(512 << 10)
            .spawn(move || run(&shared))
            .map_err(|error| error.to_string())?;
        if let Ok(mut threads) = self.threads.lock() {
            threads.push(thread);
        }
        Ok(())
    }

    fn job<T: Send + 'static>(
        &self,
        attempt: String,
        task: Task,
        pick: impl FnOnce(Worked) -> Option<T> + Send + 'static,
    ) -> Answer<T> {
        let (answer, receiver) = oneshot::channel();
        let job = Job {
            attempt: attempt.clone(),
            task,
            answer,
        };
        let queued = self.shared.queue(job);
        async move {
            queued.map_err(|refused| KvError::new(attempt.clone(), refused.reason()))?;
            match receiver.await {
                Ok(Ok(worked)) => pick(worked).ok_or_else(|| {
                    KvError::new(
                        attempt,
                        Reason::Protocol("the writer answered something else".to_owned()),
                    )
                }),
                Ok(Err(error)) => Err(error),
                Err(oneshot::Canceled) => Err(KvError::new(attempt, Reason::Closed)),
            }
        }
        .boxed()
    }

    fn reading<T: Send + 'static>(
        &self,
        attempt: String,
        read: impl FnOnce(&Database) -> Result<Result<T, Reason>, Fault> + Send + 'static,
    ) -> Answer<T> {
        self.shared.reading(attempt, read)
    }
}

/// Newest revision and what is compacted.
fn first_look(database: &Database) -> Result<(Revision, Revision), Fault> {
    let transaction = database.begin_read()?;
    let (revision, _) = newest(&transaction.open_table(LOG)?)?;
    Ok((revision, counter(&transaction.open_table(META)?, COMPACTED)?))
}

/// What a reader does all day.
fn readings(shared: &Arc<Shared>) {
    while let Some(taken) = shared.readings.wait(None, 1, |_, _| false) {
        for reading in taken {
            reading();
        }
    }
}

impl Refused {
    fn reason(self) -> Reason {
        match self {
            Self::Full => Reason::Busy("too much is waiting for the store; try again in a moment".to_owned()),
            Self::Closed => Reason::Closed,
        }
    }
}

impl Shared {
    /// Has the writer do it, if not too much is waiting.
    fn queue(&self, job: Job) -> Result<(), Refused> {
        let bytes = job.task.bytes();
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_BYTES {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Refused::Full);
        }
        self.jobs.push(job).inspect_err(|_| {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        })
    }

    /// Has a reader do it. `always`: also if a lot is waiting.
    fn read_later(
        &self,
        attempt: &str,
        always: bool,
        read: impl FnOnce() + Send + 'static,
    ) -> Result<(), KvError> {
        let read: Reading = Box::new(read);
        let queued = if always {
            self.readings.push_always(read)
        } else {
            self.readings.push(read)
        };
        queued.map_err(|refused| KvError::new(attempt, refused.reason()))
    }

    /// Has a reader do it, and tells what came of it.
    fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        attempt: String,
        read: impl FnOnce(&Database) -> Result<Result<T, Reason>, Fault> + Send + 'static,
    ) -> Answer<T> {
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(self);
        let words = attempt.clone();
        let queued = self.read_later(&attempt, false, move || {
            // Who asked may have gone.
            let _ = sender.send(shared.read(&words, read));
        });
        async move {
            queued?;
            receiver
                .await
                .unwrap_or_else(|oneshot::Canceled| Err(KvError::new(attempt, Reason::Closed)))
        }
        .boxed()
    }

    /// Reads, here and now.
    fn read<T>(
        &self,
        attempt: &str,
        read: impl FnOnce(&Database) -> Result<Result<T, Reason>, Fault>,
    ) -> Result<T, KvError> {
        Self::outcome(attempt, self.file.with(read))
    }

    /// Reads here, if nobody has the file for himself just now: defragmenting takes long.
    fn try_read<T>(
        &self,
        attempt: &str,
        read: impl FnOnce(&Database) -> Result<Result<T, Reason>, Fault>,
    ) -> Option<Result<T, KvError>> {
        let read = self.file.try_with(read)?;
        Some(Self::outcome(attempt, read))
    }

    fn outcome<T>(attempt: &str, read: Result<Result<Result<T, Reason>, Fault>, Gone>) -> Result<T, KvError> {
        let outcome = match read {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(fault)) => Err(Reason::Storage(fault.to_string())),
            Err(Gone::Closed) => Err(Reason::Closed),
            Err(gone @ Gone::Broken(_)) => Err(Reason::Storage(gone.to_string())),
        };
        outcome.map_err(|reason| KvError::new(attempt, reason))
    }

    /// Takes over the leases of the file: those that are not known yet begin.
    fn meet_leases(&self) -> Result<(), KvError> {
        let there = self.read("read the leases", |database| {
            use redb::ReadableTable as _;
            let mut there = Vec::new();
            for item in database.begin_read()?.open_table(LEASES)?.iter()? {
                let (lease, seconds) = item?;
                there.push((lease.value(), Duration::from_secs(seconds.value())));
            }
            Ok(Ok(there))
        })?;
        self.leases.meet(&there);
        Ok(())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.hub.close();
        self.shared.jobs.close();
        self.shared.readings.close();
        let threads = self
            .threads
            .lock()
            .map(|mut threads| std::mem::take(&mut *threads));
        for thread in threads.unwrap_or_default() {
            // A panic of a thread aborts the process; there is nothing to learn from the join.
            let _ = thread.join();
        }
        self.shared.file.close();
    }
}

impl Kv for Embedded {
    fn range(&self, range: Range) -> Answer<Ranged> {
        if let Err(error) = LIMITS.check_range(&range) {
            return std::future::ready(Err(error)).boxed();
        }
        let attempt = format!("read {}", range.span);
        let read = |range: Range| {
            move |database: &Database| {
                let transaction = database.begin_read()?;
                read::range(&transaction, &range)
            }
        };
        if let (Span::One(_), None) = (&range.span, range.at) {
            let shared = Arc::clone(&self.shared);
            return async move {
                match shared.try_read(&attempt, read(range.clone())) {
                    Some(answer) => answer,
                    None => shared.reading(attempt, read(range)).await,
                }
            }
            .boxed();
        }
        self.reading(attempt, read(range))
    }

    fn txn(&self, txn: Txn) -> Answer<Answered> {
        if let Err(error) = LIMITS.check_txn(&txn) {
            return std::future::ready(Err(error)).boxed();
        }
        let attempt = txn.to_string();
        self.job(attempt, Task::Work(Work::Txn(txn)), |worked| match worked {
            Worked::Txn(answered) => Some(answered),
            _ => None,
        })
    }

    fn watch(&self, watch: Watch) -> WatchStream {
        if let Err(error) = LIMITS.check_watch(&watch) {
            return Box::pin(futures_util::stream::iter([Err(error)]));
        }
        Box::pin(watch::Watcher::new(Arc::clone(&self.shared), watch))
    }

    fn grant(&self, ttl: Duration) -> Answer<Lease> {
        let whole = Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).max(SHORTEST);
        let task = Task::Work(Work::Grant(whole));
        self.job("make a lease".to_owned(), task, |worked| match worked {
            Worked::Lease(lease) => Some(lease),
            _ => None,
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<Lease> {
        let kept = self.shared.leases.keep_alive(lease);
        let kept = kept.map_err(|reason| KvError::new(format!("keep lease {lease:x} alive"), reason));
        std::future::ready(kept).boxed()
    }

    fn revoke(&self, lease: LeaseId) -> Answer<Revision> {
        let task = Task::Work(Work::EndLease(lease));
        self.job(format!("end lease {lease:x}"), task, |worked| match worked {
            Worked::Ended(_, revision) => Some(revision),
            _ => None,
        })
    }

    fn lease(&self, lease: LeaseId) -> Answer<Lease> {
        let shared = Arc::clone(&self.shared);
        self.reading(format!("look at lease {lease:x}"), move |database| {
            let keys = apply::keys_of(&database.begin_read()?.open_table(LEASE_KEYS)?, lease)?;
            Ok(shared.leases.look(lease).map(|found| Lease { keys, ..found }))
        })
    }

    fn compact(&self, revision: Revision) -> Answer<()> {
        let task = Task::Work(Work::Compact(revision));
        self.job(format!("compact to revision {revision}"), task, |worked| {
            matches!(worked, Worked::Compacted(_)).then_some(())
        })
    }

    fn status(&self) -> Answer<Status> {
        let shared = Arc::clone(&self.shared);
        self.reading("ask the store how it is".to_owned(), move |database| {
            let transaction = database.begin_read()?;
            let (revision, written) = newest(&transaction.open_table(LOG)?)?;
            let meta = transaction.open_table(META)?;
            let bytes_in_use = written.saturating_sub(counter(&meta, RECLAIMED)?);
            let quota = shared.options.quota;
            let full = quota.is_some_and(|quota| bytes_in_use >= quota);
            Ok(Ok(Status {
                backend: "embedded",
                version: env!("CARGO_PKG_VERSION").to_owned(),
                revision,
                oldest: Some(counter(&meta, COMPACTED)?.max(tables::FIRST)),
                keys: transaction.open_table(LATEST)?.len()?,
                bytes_on_disk: std::fs::metadata(shared.file.path()).map_or(0, |metadata| metadata.len()),
                bytes_in_use,
                quota,
                alarms: full
                    .then_some(super::Alarm {
                        member: 0,
                        kind: super::AlarmKind::NoSpace,
                    })
                    .into_iter()
                    .collect(),
                members: Vec::new(),
                leader: None,
            }))
        })
    }

    fn defragment(&self) -> Answer<()> {
        self.job("defragment".to_owned(), Task::Defragment, |worked| {
            matches!(worked, Worked::Compacted(_)).then_some(())
        })
    }

    fn limits(&self) -> Limits {
        LIMITS
    }
}
