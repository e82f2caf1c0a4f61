//! The embedded backend: one redb file, one writer thread, group commit.
//!
//! Tables: `keys` (key → revision and value), `journal` (id → bytes), `meta` (counters). Quick repair is on for every
//! commit, so that opening after kill -9 takes milliseconds whatever the size.
//!
//! The file is locked by redb while it is open: a second daemon on the same home is refused here even if it got past
//! the keeper's lock.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::{
    Committed, Entry, Line, OnDone, Revision, Store, StoreError, Txn,
    file::{File, Gone},
};

const KEYS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("keys");
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// How many journal lines are kept.
pub const JOURNAL_KEPT: u64 = 20_000;
/// How many transactions share one disk commit at most.
const GROUP: usize = 256;
/// Bytes of pages that redb may keep in memory.
const CACHE_BYTES: usize = 1 << 20;

/// The embedded store.
#[derive(Debug)]
pub struct Embedded {
    file: Arc<File>,
    /// Unbounded, so that nobody waits here: who submits is bounded by what it submits (exits by the keeper's limit,
    /// commands by the director's one at a time).
    queue: Mutex<Option<Sender<Queued>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Queued {
    txn: Txn,
    on_done: OnDone,
}

impl Embedded {
    /// Opens the file, or makes it (mode 0600).
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Arc::new(File::open(path, CACHE_BYTES, make_tables)?);
        let (sender, receiver) = channel();
        let for_writer = Arc::clone(&file);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .stack_size(256 << 10)
            .spawn(move || write_loop(&for_writer, &receiver))
            .map_err(|error| StoreError::Open {
                path: path.to_owned(),
                why: error.to_string(),
            })?;
        Ok(Self {
            file,
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
        })
    }

    fn read<T>(
        &self,
        what: &str,
        run: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let fail = |why: String| StoreError::Read {
            what: what.to_owned(),
            why,
        };
        let outcome = self.file.with(|database| {
            let transaction = database.begin_read()?;
            run(&transaction)
        });
        match outcome {
            Ok(outcome) => outcome.map_err(|error| fail(error.to_string())),
            Err(Gone::Closed) => Err(StoreError::Closed),
            Err(gone @ Gone::Broken(_)) => Err(fail(gone.to_string())),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Ok(mut queue) = self.queue.lock() {
            queue.take();
        }
        if let Some(writer) = self.writer.lock().ok().and_then(|mut writer| writer.take()) {
            // A panic of the writer aborts the process; there is nothing to learn from the join.
            let _ = writer.join();
        }
    }
}

impl Store for Embedded {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.read(key, |transaction| {
            let table = transaction.open_table(KEYS)?;
            Ok(table.get(key)?.map(|found| {
                let (revision, value) = found.value();
                Entry {
                    key: key.to_owned(),
                    value: value.to_vec(),
                    revision,
                }
            }))
        })
    }

    fn range(&self, prefix: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.read(prefix, |transaction| {
            let table = transaction.open_table(KEYS)?;
            let mut entries = Vec::new();
            for item in table.range(prefix..)? {
                let (key, value) = item?;
                if !key.value().starts_with(prefix) || entries.len() == limit {
                    break;
                }
                let (revision, bytes) = value.value();
                entries.push(Entry {
                    key: key.value().to_owned(),
                    value: bytes.to_vec(),
                    revision,
                });
            }
            Ok(entries)
        })
    }

    fn journal(&self, after: u64, limit: usize) -> Result<Vec<Line>, StoreError> {
        self.read("journal", |transaction| {
            let table = transaction.open_table(JOURNAL)?;
            let mut lines = Vec::new();
            for item in table.range(after.saturating_add(1)..)?.take(limit) {
                let (id, value) = item?;
                lines.push(Line {
                    id: id.value(),
                    value: value.value().to_vec(),
                });
            }
            Ok(lines)
        })
    }

    fn journal_tail(&self, limit: usize) -> Result<Vec<Line>, StoreError> {
        self.read("journal", |transaction| {
            let table = transaction.open_table(JOURNAL)?;
            let mut lines = Vec::new();
            for item in table.iter()?.rev().take(limit) {
                let (id, value) = item?;
                lines.push(Line {
                    id: id.value(),
                    value: value.value().to_vec(),
                });
            }
            lines.reverse();
            Ok(lines)
        })
    }

    fn submit(&self, txn: Txn, on_done: OnDone) {
        let sender = self.queue.lock().ok().and_then(|queue| queue.clone());
        match sender {
            Some(sender) => {
                if let Err(refused) = sender.send(Queued { txn, on_done }) {
                    (refused.0.on_done)(Err(StoreError::Closed));
                }
            }
            None => on_done(Err(StoreError::Closed)),
        }
    }
}

fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(KEYS)?;
    transaction.open_table(JOURNAL)?;
    transaction.open_table(META)?;
    Ok(())
}

fn write_loop(file: &File, queue: &Receiver<Queued>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        write_group(file, group);
    }
}

/// Commits a group, then answers each of it.
fn write_group(file: &File, group: Vec<Queued>) {
    let (txns, callbacks): (Vec<Txn>, Vec<OnDone>) = group
        .into_iter()
        .map(|queued| (queued.txn, queued.on_done))
        .unzip();
    let outcome = match file.with(|database| try_group(database, &txns)) {
        Ok(outcome) => outcome.map_err(|error| StoreError::Write {
            why: error.to_string(),
        }),
        Err(Gone::Closed) => Err(StoreError::Closed),
        Err(gone @ Gone::Broken(_)) => Err(StoreError::Write {
            why: gone.to_string(),
        }),
    };
    match outcome {
        Ok(results) => {
            for (on_done, result) in callbacks.into_iter().zip(results) {
                on_done(result);
            }
        }
        Err(error) => {
            file.reopen();
            for on_done in callbacks {
                on_done(Err(error.clone()));
            }
        }
    }
}

type GroupResults = Vec<Result<Committed, StoreError>>;

fn try_group(database: &Database, txns: &[Txn]) -> Result<GroupResults, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let results = apply_group(&transaction, txns)?;
    transaction.commit()?;
    Ok(results)
}

fn apply_group(transaction: &WriteTransaction, txns: &[Txn]) -> Result<GroupResults, redb::Error> {
    let mut keys = transaction.open_table(KEYS)?;
    let mut journal = transaction.open_table(JOURNAL)?;
    let mut meta = transaction.open_table(META)?;
    let stored: Revision = meta.get("revision")?.map_or(0, |value| value.value());
    let mut revision = stored;
    let mut last_line = journal.last()?.map_or(0, |(id, _)| id.value());
    let mut results = Vec::with_capacity(txns.len());
    for txn in txns {
        let mut conflict = None;
        for condition in &txn.conditions {
            let actual = keys
                .get(condition.key.as_str())?
                .map_or(0, |found| found.value().0);
            if actual != condition.revision {
                conflict = Some(StoreError::Conflict {
                    key: condition.key.clone(),
                    expected: condition.revision,
                    actual,
                });
                break;
            }
        }
        if let Some(conflict) = conflict {
            results.push(Err(conflict));
            continue;
        }
        if !txn.puts.is_empty() || !txn.deletes.is_empty() {
            revision += 1;
        }
        for key in &txn.deletes {
            keys.remove(key.as_str())?;
        }
        for (key, value) in &txn.puts {
            keys.insert(key.as_str(), (revision, value.as_slice()))?;
        }
        let mut appended = Vec::with_capacity(txn.appends.len());
        for line in &txn.appends {
            last_line += 1;
            journal.insert(last_line, line.as_slice())?;
            appended.push(last_line);
        }
        results.push(Ok(Committed { revision, appended }));
    }
    if last_line > JOURNAL_KEPT {
        let oldest_kept = last_line - JOURNAL_KEPT + 1;
        if journal.first()?.is_some_and(|(id, _)| id.value() < oldest_kept) {
            journal.retain_in(..oldest_kept, |_, _| false)?;
        }
    }
    if revision != stored {
        meta.insert("revision", revision)?;
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Condition;

    fn store() -> (tempfile::TempDir, Embedded) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(&dir.path().join("store.redb")).expect("a store");
        (dir, store)
    }

    fn put(key: &str, value: &str) -> Txn {
        Txn {
            puts: vec![(key.to_owned(), value.as_bytes().to_vec())],
            ..Txn::default()
        }
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let (dir, store) = store();
        let done = store.commit(put("/apps/a", "1")).expect("a commit");
        assert_eq!(done.revision, 1);
        drop(store);
        let again = Embedded::open(&dir.path().join("store.redb")).expect("a store");
        let entry = again.get("/apps/a").expect("a read").expect("the key");
        assert_eq!((entry.value.as_slice(), entry.revision), (b"1".as_slice(), 1));
    }

    #[test]
    fn a_failed_condition_refuses_its_transaction_alone() {
        let (_dir, store) = store();
        store.commit(put("/a", "1")).expect("a commit");
        let mut txn = put("/a", "2");
        txn.conditions.push(Condition {
            key: "/a".to_owned(),
            revision: 0,
        });
        assert_eq!(
            store.commit(txn),
            Err(StoreError::Conflict {
                key: "/a".to_owned(),
                expected: 0,
                actual: 1
            })
        );
        assert_eq!(
            store.get("/a").expect("a read").map(|entry| entry.value),
            Some(b"1".to_vec())
        );
    }

    #[test]
    fn prefixes_do_not_leak_into_neighbours() {
        let (_dir, store) = store();
        for key in ["/apps/a", "/apps/b", "/appsx", "/aoo"] {
            store.commit(put(key, "v")).expect("a commit");
        }
        let keys: Vec<_> = store
            .range("/apps/", 10)
            .expect("a range")
            .into_iter()
            .map(|entry| entry.key)
            .collect();
        assert_eq!(keys, ["/apps/a", "/apps/b"]);
        assert_eq!(store.range("/apps/", 1).expect("a range").len(), 1);
    }

    #[test]
    fn the_journal_keeps_ids_and_order() {
        let (_dir, store) = store();
        for line in ["one", "two", "three"] {
            store
                .commit(Txn {
                    appends: vec![line.into()],
                    ..Txn::default()
                })
                .expect("a commit");
        }
        let ids = |lines: Vec<Line>| lines.into_iter().map(|line| line.id).collect::<Vec<_>>();
        assert_eq!(ids(store.journal(1, 10).expect("lines")), [2, 3]);
        assert_eq!(ids(store.journal_tail(2).expect("lines")), [2, 3]);
    }

    #[test]
    fn many_writers_share_commits_and_lose_nothing() {
        let (_dir, store) = store();
        let store = &store;
        std::thread::scope(|scope| {
            for writer in 0..8 {
                scope.spawn(move || {
                    for number in 0..25 {
                        store
                            .commit(put(&format!("/w/{writer}/{number:02}"), "x"))
                            .expect("a commit");
                    }
                });
            }
        });
        assert_eq!(store.range("/w/", 1000).expect("a range").len(), 200);
    }

    #[test]
    fn a_second_opener_is_refused() {
        let (dir, _store) = store();
        let error = Embedded::open(&dir.path().join("store.redb")).expect_err("the file is in use");
        assert!(matches!(error, StoreError::Open { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("store.redb");
        std::fs::write(&path, b"not a database at all").expect("a file");
        assert!(Embedded::open(&path).is_err());
        assert_eq!(std::fs::read(&path).expect("the file"), b"not a database at all");
    }
}
