//! What is in the file, and how it is written down.
//!
//! | table | key | value |
//! |---|---|---|
//! | `latest` | key | the record of what is there now |
//! | `versions` | key, revision that wrote it | the record of what was there, with the revision that ended it |
//! | `log` | revision | what it changed: keys, and which version each replaced |
//! | `leases` | lease | seconds |
//! | `lease_keys` | lease, key | – |
//! | `meta` | name | a counter |
//!
//! A value is stored once: it moves from `latest` to `versions` when it is replaced. Numbers are big-endian.

use redb::{ReadableTable, TableDefinition};

use crate::{
    Revision,
    kv::{KeyValue, LeaseId},
};

pub(super) const LATEST: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("latest");
pub(super) const VERSIONS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("versions");
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
pub(super) const LEASES: TableDefinition<'_, i64, u64> = TableDefinition::new("leases");
pub(super) const LEASE_KEYS: TableDefinition<'_, (i64, &str), ()> = TableDefinition::new("lease_keys");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// In `meta`: what is compacted, that is: the oldest readable revision, if any.
pub(super) const COMPACTED: &str = "compacted";
/// In `meta`: up to which revision the log has been cleared away.
pub(super) const CLEARED: &str = "cleared";
/// In `meta`: bytes that clearing has given back.
pub(super) const RECLAIMED: &str = "reclaimed";
/// In `meta`: the last lease that was given.
pub(super) const LAST_LEASE: &str = "last_lease";

/// The revision of a store in which nothing was ever written, as etcd has it.
pub(super) const FIRST: Revision = 1;

/// Bytes of a record before its value.
const HEAD: usize = 32;

/// Why the engine's file did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Engine(#[from] redb::Error),
    #[error("the file is damaged: {0}")]
    Damaged(String),
}

macro_rules! engine {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Engine(error.into())
            }
        }
    )*};
}
engine!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError,
    redb::CompactionError
);

/// A key's figures and value as they are stored: in `latest` the second number is the revision that wrote it, in
/// `versions` the one that ended it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) created: Revision,
    pub(super) second: Revision,
    pub(super) version: u64,
    pub(super) lease: LeaseId,
    pub(super) value: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.value.len());
        bytes.extend_from_slice(&self.created.to_be_bytes());
        bytes.extend_from_slice(&self.second.to_be_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.lease.to_be_bytes());
        bytes.extend_from_slice(self.value);
        bytes
    }

    pub(super) fn decode(key: &str, bytes: &'a [u8]) -> Result<Self, Fault> {
        let damaged = || Fault::Damaged(format!("the record of `{key}` is cut short"));
        let (head, value) = bytes.split_at_checked(HEAD).ok_or_else(damaged)?;
        let mut numbers = head
            .chunks_exact(8)
            .map(|chunk| u64::from_be_bytes(chunk.try_into().unwrap_or_default()));
        let mut next = || numbers.next().unwrap_or_default();
        Ok(Self {
            created: next(),
            second: next(),
            version: next(),
            lease: next().cast_signed(),
            value,
        })
    }

    /// Bytes that it takes in `latest` under a key.
    pub(super) fn weight(&self, key: &str) -> u64 {
        (key.len() + HEAD + self.value.len()) as u64
    }

    pub(super) fn key_value(&self, key: &str, modified: Revision, keys_only: bool) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: if keys_only {
                Vec::new()
            } else {
                self.value.to_vec()
            },
            created: self.created,
            modified,
            version: self.version,
            lease: (self.lease != 0).then_some(self.lease),
        }
    }
}

/// One change in a row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) key: String,
    pub(super) deleted: bool,
    /// The revision that wrote what was replaced; 0 is nothing.
    pub(super) previous: Revision,
}

/// A row of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Bytes of records and rows that were ever written, up to this one.
    pub(super) written: u64,
    pub(super) changes: Vec<Logged>,
}

impl Row {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.changes.len() * 48);
        bytes.extend_from_slice(&self.written.to_be_bytes());
        for change in &self.changes {
            bytes.push(u8::from(change.deleted));
            bytes.extend_from_slice(&change.previous.to_be_bytes());
            let length = u32::try_from(change.key.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(change.key.as_bytes());
        }
        bytes
    }

    /// Only [`Row::written`].
    pub(super) fn decode_written(bytes: &[u8]) -> u64 {
        bytes
            .first_chunk()
            .map_or(0, |written| u64::from_be_bytes(*written))
    }

    pub(super) fn decode(revision: Revision, bytes: &[u8]) -> Result<Self, Fault> {
        let damaged = || Fault::Damaged(format!("revision {revision} of the log is cut short"));
        let (written, mut rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let mut row = Self {
            written: u64::from_be_bytes(*written),
            changes: Vec::new(),
        };
        while let Some((kind, after)) = rest.split_first() {
            let (previous, after) = after.split_first_chunk().ok_or_else(damaged)?;
            let (length, after) = after.split_first_chunk().ok_or_else(damaged)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (key, after) = after.split_at_checked(length).ok_or_else(damaged)?;
            row.changes.push(Logged {
                key: std::str::from_utf8(key).map_err(|_| damaged())?.to_owned(),
                deleted: *kind == 1,
                previous: u64::from_be_bytes(*previous),
            });
            rest = after;
        }
        Ok(row)
    }
}

/// The newest revision, and the bytes ever written.
pub(super) fn newest(log: &impl ReadableTable<u64, &'static [u8]>) -> Result<(Revision, u64), Fault> {
    Ok(log.last()?.map_or((FIRST, 0), |(revision, row)| {
        (revision.value(), Row::decode_written(row.value()))
    }))
}

pub(super) fn counter(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, Fault> {
    Ok(meta.get(name)?.map_or(0, |value| value.value()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let row = Row {
            written: 77,
            changes: vec![
                Logged {
                    key: "/a".to_owned(),
                    deleted: false,
                    previous: 0,
                },
                Logged {
                    key: "/ü".to_owned(),
                    deleted: true,
                    previous: 9,
                },
            ],
        };
        let bytes = row.encode();
        assert_eq!(Row::decode(3, &bytes).expect("a row"), row);
        assert_eq!(Row::decode_written(&bytes), 77);
        for end in (0..bytes.len()).filter(|end| ![8, 8 + 13 + 2].contains(end)) {
            assert!(Row::decode(3, &bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
