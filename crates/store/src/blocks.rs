//! Blocks of bytes by kind, series and time: what a history of figures rests on.
//!
//! A file of its own, so that nothing here can hold up or harm the store of records. Every write is one transaction
//! that is on the disk when it returns; after a kill or a power cut the file is as it was after the last one. A file
//! that cannot be read is put aside, not repaired: figures are worth less than a daemon that starts.

use std::{
    fs::OpenOptions,
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::RwLock,
};

use redb::{Database, ReadableDatabase, TableDefinition};

use crate::StoreError;

const BLOCKS: TableDefinition<(u8, u32, u64), &[u8]> = TableDefinition::new("blocks");
/// Bytes of pages that redb may keep in memory.
const CACHE_BYTES: usize = 256 << 10;

/// Where a block is: its kind, whose it is, and when it begins.
pub type Key = (u8, u32, u64);

/// What one transaction does, deletions first.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Deletes every block of a kind and a series that begins in the range.
    pub deletes: Vec<(u8, u32, Range<u64>)>,
    /// Writes these, over what was there.
    pub puts: Vec<(Key, Vec<u8>)>,
}

/// The file.
#[derive(Debug)]
pub struct Blocks {
    path: PathBuf,
    /// `None` between an I/O error and the next successful opening.
    database: RwLock<Option<Database>>,
}

impl Blocks {
    /// Opens the file, or makes it (mode 0600). A file that is no store is renamed to `….broken`; the text says why.
    pub fn open(path: &Path) -> Result<(Self, Option<String>), StoreError> {
        let fail = |why: String| StoreError::Open {
            path: path.to_owned(),
            why,
        };
        let (database, put_aside) = match open_database(path) {
            Ok(database) => (database, None),
            // Somebody else has it, or the disk is full: nothing is wrong with the file.
            Err(error) if !is_broken(&error) => return Err(fail(error.to_string())),
            Err(error) => {
                let aside = path.with_extension("redb.broken");
                std::fs::rename(path, &aside).map_err(|rename| fail(format!("{error}; {rename}")))?;
                let database = open_database(path).map_err(|error| fail(error.to_string()))?;
                (
                    database,
                    Some(format!("it was put aside as `{}`: {error}", aside.display())),
                )
            }
        };
        let blocks = Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
        };
        Ok((blocks, put_aside))
    }

    /// Carries out a batch; it is durable when this returns.
    pub fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let outcome = {
            let guard = self.database.read().map_err(|_| StoreError::Closed)?;
            match guard.as_ref() {
                Some(database) => write(database, batch).map_err(|error| error.to_string()),
                None => Err("the file could not be reopened after an error".to_owned()),
            }
        };
        outcome.map_err(|why| {
            // After an I/O error redb refuses everything on that handle.
            if let Ok(mut guard) = self.database.write() {
                guard.take();
                *guard = open_database(&self.path).ok();
            }
            StoreError::Write { why }
        })
    }

    /// The blocks of a kind and a series that begin in the range, oldest first.
    pub fn range(&self, kind: u8, series: u32, range: Range<u64>) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.collect((kind, series, range.start)..(kind, series, range.end))
            .map(|found| {
                found
                    .into_iter()
                    .map(|((_, _, start), value)| (start, value))
                    .collect()
            })
    }

    /// All blocks of a kind, by series and time.
    pub fn kind(&self, kind: u8) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.collect((kind, 0, 0)..(kind, u32::MAX, u64::MAX))
    }

    /// The highest number of a series that has blocks of a kind.
    pub fn last_series(&self, kind: u8) -> Result<Option<u32>, StoreError> {
        self.read(0, |database| last_series(database, kind))
    }

    fn collect(&self, range: Range<Key>) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.read(range.start.1, |database| collect(database, range))
    }

    fn read<T>(
        &self,
        series: u32,
        read: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let fail = |why: String| StoreError::Read {
            what: format!("blocks of series {series}"),
            why,
        };
        let guard = self.database.read().map_err(|_| StoreError::Closed)?;
        let database = guard
            .as_ref()
            .ok_or_else(|| fail("the file could not be reopened after an error".to_owned()))?;
        read(database).map_err(|error| fail(error.to_string()))
    }
}

fn last_series(database: &Database, kind: u8) -> Result<Option<u32>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(BLOCKS)?;
    let last = table
        .range((kind, 0, 0)..=(kind, u32::MAX, u64::MAX))?
        .next_back();
    Ok(last.transpose()?.map(|(key, _)| key.value().1))
}

fn collect(database: &Database, range: Range<Key>) -> Result<Vec<(Key, Vec<u8>)>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(BLOCKS)?;
    let mut found = Vec::new();
    if range.start < range.end {
        for item in table.range(range)? {
            let (key, value) = item?;
            found.push((key.value(), value.value().to_vec()));
        }
    }
    Ok(found)
}

fn write(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(BLOCKS)?;
        for (kind, series, range) in &batch.deletes {
            if range.start < range.end {
                table.retain_in(
                    (*kind, *series, range.start)..(*kind, *series, range.end),
                    |_, _| false,
                )?;
            }
        }
        for (key, value) in &batch.puts {
            table.insert(key, value.as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn open_database(path: &Path) -> Result<Database, redb::Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let backend = redb::backends::FileBackend::new(file)?;
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(BLOCKS)?;
    transaction.commit()?;
    Ok(database)
}

/// Whether it is the file's content that is wrong.
fn is_broken(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: Key, value: &[u8]) -> Batch {
        Batch {
            puts: vec![(key, value.to_vec())],
            ..Batch::default()
        }
    }

    #[test]
    fn blocks_are_found_by_their_time_and_deleted_by_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("metrics.redb");
        let (blocks, aside) = Blocks::open(&path).expect("a file");
        assert_eq!(aside, None);
        for start in [0, 900, 1800] {
            blocks
                .write(&put((1, 7, start), &start.to_le_bytes()))
                .expect("a write");
        }
        blocks.write(&put((1, 8, 900), b"other")).expect("a write");
        let starts = |blocks: &Blocks, range| -> Vec<u64> {
            let found = blocks.range(1, 7, range).expect("a read");
            found.into_iter().map(|(start, _)| start).collect()
        };
        assert_eq!(starts(&blocks, 900..5000), [900, 1800]);
        let batch = Batch {
            deletes: vec![(1, 7, 0..1800)],
            ..Batch::default()
        };
        blocks.write(&batch).expect("a write");
        drop(blocks);
        let (blocks, _) = Blocks::open(&path).expect("the file again");
        assert_eq!(starts(&blocks, 0..5000), [1800]);
        assert_eq!(blocks.kind(1).expect("a read").len(), 2);
        assert!(
            Blocks::open(&path).is_err(),
            "it is in use, which is no reason to put it aside"
        );
        assert!(!path.with_extension("redb.broken").exists());
    }

    #[test]
    fn a_file_that_is_no_store_is_put_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("metrics.redb");
        std::fs::write(&path, vec![b'x'; 9000]).expect("a file");
        let (blocks, aside) = Blocks::open(&path).expect("a new file");
        assert!(aside.expect("a reason").contains("metrics.redb.broken"));
        assert!(blocks.kind(1).expect("a read").is_empty());
        assert_eq!(
            std::fs::read(path.with_extension("redb.broken"))
                .expect("the old one")
                .len(),
            9000
        );
    }
}
