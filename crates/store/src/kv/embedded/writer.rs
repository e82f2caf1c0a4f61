//! The writer thread: takes what has queued up, commits it as one, then answers all of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_channel::oneshot;
use redb::Database;

use super::{
    Options, Shared,
    apply::{Cleared, Group, Work, Worked},
    first_look,
    hub::Commit,
    tables::Fault,
};
use crate::{
    Revision,
    file::Gone,
    kv::{KvError, LeaseId, Op, Reason},
};

/// How many jobs share one disk commit at most.
const GROUP: usize = 256;
/// And how many bytes of values, so that no commit takes long.
const GROUP_BYTES: usize = 8 << 20;
/// Rows of the log that are cleared away with a group.
const CLEAR_ALONG: usize = 32;
/// Rows that are cleared away when there is nothing else to do.
const CLEAR_IDLE: usize = 256;
/// A lease whose end could not be written (full disk) is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Something for the writer, and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) attempt: String,
    pub(super) task: Task,
    pub(super) answer: oneshot::Sender<Result<Worked, KvError>>,
}

#[derive(Debug)]
pub(super) enum Task {
    Work(Work),
    /// Move what is in the file together. Needs the file alone.
    Defragment,
}

impl Task {
    pub(super) fn bytes(&self) -> usize {
        let Self::Work(Work::Txn(txn)) = self else {
            return 0;
        };
        let ops = txn.then.iter().chain(&txn.otherwise);
        ops.map(|op| {
            if let Op::Put { value, .. } = op {
                value.len()
            } else {
                0
            }
        })
        .sum()
    }
}

/// Runs until the queue is closed and empty.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut clearing = Cleared::Some;
    // After a failure, what the writer does by itself has to wait.
    let mut not_before = None;
    let beat = shared.hub.heartbeat() / 2;
    let mut next_beat = Instant::now() + beat;
    loop {
        let by_itself = match clearing {
            Cleared::Some => Some(Instant::now()),
            Cleared::Waits | Cleared::All => shared.leases.next_end(),
        };
        let by_itself = match (by_itself, not_before) {
            (Some(at), Some(not_before)) => Some(at.max(not_before)),
            (None, Some(not_before)) if shared.file.is_broken() => Some(not_before),
            (at, _) => at,
        };
        let until = by_itself.map_or(next_beat, |at| at.min(next_beat));
        let mut bytes = 0;
        let jobs = shared.jobs.wait(Some(until), GROUP, |taken, next| {
            bytes += next.task.bytes();
            let alone = |job: &Job| matches!(job.task, Task::Defragment);
            !alone(next) && !taken.iter().any(alone) && bytes < GROUP_BYTES
        });
        let Some(jobs) = jobs else { return };
        let taken = jobs.iter().map(|job| job.task.bytes()).sum();
        shared
            .waiting
            .fetch_sub(taken, std::sync::atomic::Ordering::Relaxed);
        let now = Instant::now();
        let may = not_before.is_none_or(|at| at <= now);
        let due = if may {
            shared.leases.end_due(now)
        } else {
            Vec::new()
        };
        // Readers want the file back, also if nobody writes.
        if may && not_before.is_some() && shared.file.is_broken() && reopen(shared).is_none() {
            not_before = Some(now + RETRY);
        }
        if matches!(jobs.first(), Some(job) if matches!(job.task, Task::Defragment)) {
            defragment(shared, jobs);
        } else {
            let idle = jobs.is_empty() && due.is_empty();
            let rows = match clearing {
                Cleared::Some if idle && may => CLEAR_IDLE,
                Cleared::Some | Cleared::Waits if !idle => CLEAR_ALONG,
                _ => 0,
            };
            if !idle || rows > 0 {
                match group(shared, jobs, &due, rows) {
                    Some(cleared) => {
                        clearing = cleared.unwrap_or(clearing);
                        not_before = None;
                    }
                    None => not_before = Some(now + RETRY),
                }
            }
        }
        if next_beat <= now {
            shared.hub.tick(now);
            next_beat = now + beat;
        }
    }
}

/// What a transaction of the engine did.
struct Applied {
    results: Vec<Result<Worked, Reason>>,
    commits: Vec<Commit>,
    revision: Revision,
    /// Whether there is a new revision by which to tell that it happened.
    advanced: bool,
    cleared: Option<Cleared>,
}

/// Commits a group, then answers each of it. `None`: it failed; else how far clearing is, if that has changed.
fn group(shared: &Arc<Shared>, jobs: Vec<Job>, due: &[LeaseId], rows: usize) -> Option<Option<Cleared>> {
    let mut work: Vec<Work> = due.iter().map(|lease| Work::EndLease(*lease)).collect();
    let mut waiting = Vec::with_capacity(jobs.len());
    for job in jobs {
        if let Task::Work(asked) = job.task {
            work.push(asked);
            waiting.push((job.attempt, job.answer));
        }
    }
    if shared.file.is_broken() {
        reopen(shared);
    }
    let watched = shared.hub.watched();
    let outcome = shared
        .file
        .with(|database| attempt(database, &work, shared.options, watched, rows));
    let (applied, error) = match outcome {
        Ok(Ok(applied)) => (Some(applied), None),
        Ok(Err(Failed::Before(fault))) => {
            // Nothing was committed.
            reopen(shared);
            (None, Some(reason(&fault)))
        }
        Ok(Err(Failed::Committing { fault, advances_to })) => {
            let there = reopen(shared);
            (None, Some(after_failure(&fault, advances_to, there)))
        }
        Err(Gone::Closed) => (None, Some(Reason::Closed)),
        Err(gone @ Gone::Broken(_)) => (None, Some(Reason::Storage(gone.to_string()))),
    };
    let mut results = Vec::new();
    let mut cleared = None;
    if let Some(applied) = applied {
        remember(shared, &applied.results);
        if applied.advanced {
            shared.hub.publish(applied.revision, applied.commits);
        }
        results = applied.results;
        results.drain(..due.len());
        cleared = applied.cleared;
    }
    let mut results = results.into_iter();
    for (attempt, answer) in waiting {
        let result = match (&error, results.next()) {
            (None, Some(result)) => result,
            (Some(error), _) => Err(error.clone()),
            (None, None) => Err(Reason::Protocol("the writer has no result".to_owned())),
        };
        // Who asked may have gone.
        let _ = answer.send(result.map_err(|reason| KvError::new(attempt, reason)));
    }
    error.is_none().then_some(cleared)
}

enum Failed {
    Before(Fault),
    Committing {
        fault: Fault,
        /// The revision that there is if it happened all the same.
        advances_to: Option<Revision>,
    },
}

impl<E: Into<Fault>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Before(error.into())
    }
}

fn attempt(
    database: &Database,
    work: &[Work],
    options: Options,
    watched: bool,
    rows: usize,
) -> Result<Applied, Failed> {
    let mut transaction = database.begin_write()?;
    let mut group = Group::begin(&transaction, options.quota, watched)?;
    let before = group.revision;
    let mut results = Vec::with_capacity(work.len());
    for work in work {
        results.push(group.work(work)?);
    }
    let compacted = results
        .iter()
        .any(|result| matches!(result, Ok(Worked::Compacted(_))));
    let cleared = match rows {
        0 if compacted => Some(Cleared::Some),
        0 => None,
        rows => Some(group.clear(rows)?),
    };
    let dirty = group.dirty;
    let is_large = group.used()? >= options.quick_repair_bytes;
    let applied = Applied {
        results,
        commits: std::mem::take(&mut group.commits),
        revision: group.revision,
        advanced: group.revision > before,
        cleared,
    };
    drop(group);
    transaction.set_quick_repair(is_large);
    if !dirty {
        transaction.abort()?;
        return Ok(applied);
    }
    match transaction.commit() {
        Ok(()) => Ok(applied),
        Err(error) => Err(Failed::Committing {
            fault: error.into(),
            advances_to: applied.advanced.then_some(applied.revision),
        }),
    }
}

/// Opens the file anew and takes over what it has. The newest revision, if it can be read.
fn reopen(shared: &Arc<Shared>) -> Option<Revision> {
    shared.file.reopen();
    let Ok(Ok((revision, compacted))) = shared.file.with(first_look) else {
        return None;
    };
    shared.hub.found(revision, compacted);
    // If they cannot be read now, then the next time.
    let _ = shared.meet_leases();
    Some(revision)
}

/// The commit itself failed; `there` is what the file has now.
fn after_failure(fault: &Fault, advances_to: Option<Revision>, there: Option<Revision>) -> Reason {
    match (advances_to, there) {
        // It is not there, so it never will be.
        (Some(wanted), Some(there)) if there < wanted => reason(fault),
        // It may be there; and even if it can be read, whether the disk will still have it after a power cut, nobody
        // knows.
        _ => Reason::NoAnswer(fault.to_string()),
    }
}

/// Leases and compaction, once they are durable.
fn remember(shared: &Shared, results: &[Result<Worked, Reason>]) {
    for result in results {
        match result {
            Ok(Worked::Lease(lease)) => shared.leases.begin(lease.id, lease.ttl),
            // One that is not in the file is not here either.
            Ok(Worked::Ended(lease, _)) | Err(Reason::NoLease(lease)) => shared.leases.ended(*lease),
            Ok(Worked::Compacted(revision)) => shared.hub.compacted(*revision),
            Ok(Worked::Txn(_)) | Err(_) => {}
        }
    }
}

/// The engine's words, and what they mean.
pub(super) fn reason(fault: &Fault) -> Reason {
    use std::io::ErrorKind;
    if let Fault::Engine(redb::Error::Io(error)) = fault
        && matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        )
    {
        return Reason::NoSpace {
            why: error.to_string(),
            hint: "make room on the disk; nothing of this was kept, and writing works again then".to_owned(),
            maybe: false,
        };
    }
    Reason::Storage(fault.to_string())
}

fn defragment(shared: &Arc<Shared>, jobs: Vec<Job>) {
    let outcome = shared.file.alone(|database| -> Result<(), Fault> {
        while database.compact()? {}
        // The engine's own commits leave out what makes opening after a crash quick.
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.commit()?;
        Ok(())
    });
    let result = match outcome {
        Ok(Ok(())) => Ok(Worked::Compacted(0)),
        Ok(Err(fault)) => {
            reopen(shared);
            Err(reason(&fault))
        }
        Err(Gone::Closed) => Err(Reason::Closed),
        Err(gone @ Gone::Broken(_)) => {
            reopen(shared);
            Err(Reason::Storage(gone.to_string()))
        }
    };
    for job in jobs {
        // Who asked may have gone.
        let _ = job
            .answer
            .send(result.clone().map_err(|reason| KvError::new(job.attempt, reason)));
    }
}
