//! What a group of jobs does to the tables, inside one transaction of the engine.

use std::time::Duration;

use redb::{ReadableTable as _, Table, WriteTransaction};

use super::{
    hub::{Commit, Moved},
    read,
    tables::{
        CLEARED, COMPACTED, Fault, LAST_LEASE, LATEST, LEASE_KEYS, LEASES, LOG, Logged, META, RECLAIMED,
        Record, Row, VERSIONS, counter, newest,
    },
};
use crate::{
    Revision,
    kv::{Answered, Done, Guard, KeyValue, Lease, LeaseId, Op, Range, Reason, Span, Target, Txn},
};

/// Something to write.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Txn(Txn),
    Grant(Duration),
    /// By whoever holds it, or because its time is up.
    EndLease(LeaseId),
    Compact(Revision),
}

/// What it led to.
#[derive(Clone, Debug)]
pub(super) enum Worked {
    Txn(Answered),
    Lease(Lease),
    Ended(LeaseId, Revision),
    Compacted(Revision),
}

/// The tables of a group, and what it has done so far.
pub(super) struct Group<'t> {
    latest: Table<'t, &'static str, &'static [u8]>,
    versions: Table<'t, (&'static str, u64), &'static [u8]>,
    log: Table<'t, u64, &'static [u8]>,
    leases: Table<'t, i64, u64>,
    lease_keys: Table<'t, (i64, &'static str), ()>,
    meta: Table<'t, &'static str, u64>,
    /// The newest revision.
    pub(super) revision: Revision,
    /// Bytes ever written.
    written: u64,
    quota: Option<u64>,
    /// Whether to keep what the watches want to see.
    watched: bool,
    pub(super) commits: Vec<Commit>,
    /// Something has to be committed.
    pub(super) dirty: bool,
}

/// A revision that is being written.
#[derive(Default)]
struct Step {
    logged: Vec<Logged>,
    moved: Vec<Moved>,
}

impl<'t> Group<'t> {
    pub(super) fn begin(
        transaction: &'t WriteTransaction,
        quota: Option<u64>,
        watched: bool,
    ) -> Result<Self, Fault> {
        let log = transaction.open_table(LOG)?;
        let (revision, written) = newest(&log)?;
        Ok(Self {
            latest: transaction.open_table(LATEST)?,
            versions: transaction.open_table(VERSIONS)?,
            log,
            leases: transaction.open_table(LEASES)?,
            lease_keys: transaction.open_table(LEASE_KEYS)?,
            meta: transaction.open_table(META)?,
            revision,
            written,
            quota,
            watched,
            commits: Vec::new(),
            dirty: false,
        })
    }

    pub(super) fn work(&mut self, work: &Work) -> Result<Result<Worked, Reason>, Fault> {
        match work {
            Work::Txn(txn) => Ok(self.txn(txn)?.map(Worked::Txn)),
            Work::Grant(ttl) => Ok(Ok(Worked::Lease(self.grant(*ttl)?))),
            Work::EndLease(lease) => self.end_lease(*lease),
            Work::Compact(revision) => self.compact(*revision),
        }
    }

    fn txn(&mut self, txn: &Txn) -> Result<Result<Answered, Reason>, Fault> {
        let mut succeeded = true;
        for guard in &txn.guards {
            if !self.holds(guard)? {
                succeeded = false;
                break;
            }
        }
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        // Everything that can refuse comes before the first change: nothing is taken back.
        if let Some(reason) = self.refuses(branch)? {
            return Ok(Err(reason));
        }
        let mut step = Step::default();
        let mut results = Vec::with_capacity(branch.len());
        for op in branch {
            results.push(match op {
                Op::Put { key, value, lease } => {
                    let previous = self.put(&mut step, key, value, lease.unwrap_or(0))?;
                    Done::Put(previous.filter(|_| txn.with_previous))
                }
                Op::Delete(span) => {
                    let (count, previous) = self.delete(&mut step, span, txn.with_previous)?;
                    Done::Deleted { count, previous }
                }
                Op::Get(range) => Done::Got(read::now(&self.latest, range, 0)?),
            });
        }
        let revision = self.finish(step)?;
        for result in &mut results {
            if let Done::Got(ranged) = result {
                ranged.revision = revision;
            }
        }
        Ok(Ok(Answered {
            revision,
            succeeded,
            results,
        }))
    }

    fn holds(&self, guard: &Guard) -> Result<bool, Fault> {
        let found = self.latest.get(guard.key.as_str())?;
        let record = match &found {
            Some(found) => Some(Record::decode(&guard.key, found.value())?),
            None => None,
        };
        let figure = |of: fn(&Record<'_>) -> u64| record.as_ref().map_or(0, of);
        Ok(match &guard.target {
            Target::Modified(revision) => guard.is.holds(&figure(|record| record.second), revision),
            Target::Created(revision) => guard.is.holds(&figure(|record| record.created), revision),
            Target::Version(version) => guard.is.holds(&figure(|record| record.version), version),
            Target::Value(value) => {
                record.is_some_and(|record| guard.is.holds(record.value, value.as_slice()))
            }
        })
    }

    fn refuses(&self, branch: &[Op]) -> Result<Option<Reason>, Fault> {
        let mut wanted = 0;
        for op in branch {
            let Op::Put { key, value, lease } = op else {
                continue;
            };
            wanted += (key.len() + value.len()) as u64;
            if let Some(lease) = lease
                && self.leases.get(lease)?.is_none()
            {
                return Ok(Some(Reason::NoLease(*lease)));
            }
        }
        if let Some(quota) = self.quota
            && wanted > 0
        {
            let used = self.used()?;
            if used + wanted > quota {
                return Ok(Some(Reason::NoSpace {
                    why: format!("{used} bytes are in use and the quota is {quota}"),
                    hint: "delete what is not needed and compact, or raise the quota".to_owned(),
                    maybe: false,
                }));
            }
        }
        Ok(None)
    }

    /// Bytes of records and rows that are there.
    pub(super) fn used(&self) -> Result<u64, Fault> {
        Ok(self.written.saturating_sub(counter(&self.meta, RECLAIMED)?))
    }

    /// Writes a key; what it was before.
    fn put(
        &mut self,
        step: &mut Step,
        key: &str,
        value: &[u8],
        lease: LeaseId,
    ) -> Result<Option<KeyValue>, Fault> {
        let revision = self.revision + 1;
        let previous = self.retire(key, revision)?;
        let before = previous.as_ref().map_or(0, |previous| previous.modified);
        let record = Record {
            created: previous.as_ref().map_or(revision, |previous| previous.created),
            second: revision,
            version: previous.as_ref().map_or(0, |previous| previous.version) + 1,
            lease,
            value,
        };
        self.latest.insert(key, record.encode().as_slice())?;
        self.written += record.weight(key);
        if lease != 0 {
            self.lease_keys.insert((lease, key), ())?;
        }
        step.logged.push(Logged {
            key: key.to_owned(),
            deleted: false,
            previous: before,
        });
        if self.watched {
            step.moved.push(Moved {
                key: key.to_owned(),
                now: Some(record.key_value(key, revision, false)),
                previous: previous.clone(),
            });
        }
        Ok(previous)
    }

    /// Deletes a span: how many keys, and what they were, if that is wanted.
    fn delete(&mut self, step: &mut Step, span: &Span, wanted: bool) -> Result<(u64, Vec<KeyValue>), Fault> {
        let range = Range {
            keys_only: true,
            ..Range::new(span.clone())
        };
        let keys = read::now(&self.latest, &range, 0)?.entries;
        let count = keys.len() as u64;
        let mut gone = Vec::new();
        for key in keys {
            let previous = self.delete_one(step, &key.key)?;
            gone.extend(previous.filter(|_| wanted));
        }
        Ok((count, gone))
    }

    fn delete_one(&mut self, step: &mut Step, key: &str) -> Result<Option<KeyValue>, Fault> {
        let previous = self.retire(key, self.revision + 1)?;
        if let Some(previous) = &previous {
            step.logged.push(Logged {
                key: key.to_owned(),
                deleted: true,
                previous: previous.modified,
            });
            if self.watched {
                step.moved.push(Moved {
                    key: key.to_owned(),
                    now: None,
                    previous: Some(previous.clone()),
                });
            }
        }
        Ok(previous)
    }

    /// Takes a key out of `latest` into `versions`.
    fn retire(&mut self, key: &str, revision: Revision) -> Result<Option<KeyValue>, Fault> {
        let Some(found) = self.latest.remove(key)? else {
            return Ok(None);
        };
        let record = Record::decode(key, found.value())?;
        let previous = record.key_value(key, record.second, false);
        let ended = Record {
            second: revision,
            ..record
        };
        self.versions
            .insert((key, previous.modified), ended.encode().as_slice())?;
        self.written += 8;
        if let Some(lease) = previous.lease {
            self.lease_keys.remove((lease, key))?;
        }
        Ok(Some(previous))
    }

    /// Writes the row of a revision, if it changed something; the newest revision.
    fn finish(&mut self, step: Step) -> Result<Revision, Fault> {
        if step.logged.is_empty() {
            return Ok(self.revision);
        }
        self.revision += 1;
        self.dirty = true;
        let mut row = Row {
            written: 0,
            changes: step.logged,
        };
        self.written += row.encode().len() as u64 + 8;
        row.written = self.written;
        self.log.insert(self.revision, row.encode().as_slice())?;
        if self.watched {
            self.commits.push(Commit {
                revision: self.revision,
                changes: step.moved,
            });
        }
        Ok(self.revision)
    }

    fn grant(&mut self, ttl: Duration) -> Result<Lease, Fault> {
        let id = counter(&self.meta, LAST_LEASE)? + 1;
        self.meta.insert(LAST_LEASE, id)?;
        self.leases.insert(id.cast_signed(), ttl.as_secs())?;
        self.dirty = true;
        Ok(Lease {
            id: id.cast_signed(),
            ttl,
            remaining: ttl,
            keys: Vec::new(),
        })
    }

    fn end_lease(&mut self, lease: LeaseId) -> Result<Result<Worked, Reason>, Fault> {
        if self.leases.remove(lease)?.is_none() {
            return Ok(Err(Reason::NoLease(lease)));
        }
        self.dirty = true;
        let mut step = Step::default();
        for key in keys_of(&self.lease_keys, lease)? {
            self.delete_one(&mut step, &key)?;
        }
        Ok(Ok(Worked::Ended(lease, self.finish(step)?)))
    }

    fn compact(&mut self, revision: Revision) -> Result<Result<Worked, Reason>, Fault> {
        let compacted = counter(&self.meta, COMPACTED)?;
        if revision > self.revision {
            return Ok(Err(Reason::Future {
                asked: revision,
                current: self.revision,
            }));
        }
        if revision <= compacted {
            return Ok(Err(Reason::Compacted { oldest: compacted }));
        }
        self.meta.insert(COMPACTED, revision)?;
        self.dirty = true;
        Ok(Ok(Worked::Compacted(revision)))
    }

    /// Clears away some of what is compacted.
    pub(super) fn clear(&mut self, rows: usize) -> Result<Cleared, Fault> {
        let cleared = counter(&self.meta, CLEARED)?;
        let compacted = counter(&self.meta, COMPACTED)?;
        // The row of the newest revision stays: it is how the revision is known.
        let upto = compacted.min(self.revision - 1);
        let left = if upto < compacted {
            Cleared::Waits
        } else {
            Cleared::All
        };
        if cleared >= upto {
            return Ok(left);
        }
        let mut found = Vec::new();
        for item in self.log.range(cleared + 1..=upto)?.take(rows) {
            let (revision, row) = item?;
            let bytes = row.value();
            found.push((
                revision.value(),
                bytes.len() as u64 + 8,
                Row::decode(revision.value(), bytes)?,
            ));
        }
        let last = match found.last() {
            Some((revision, ..)) if found.len() == rows => *revision,
            _ => upto,
        };
        let mut reclaimed = 0;
        for (revision, bytes, row) in found {
            for change in row.changes.iter().filter(|change| change.previous > 0) {
                if let Some(old) = self.versions.remove((change.key.as_str(), change.previous))? {
                    reclaimed += (change.key.len() + old.value().len() + 8) as u64;
                }
            }
            self.log.remove(revision)?;
            reclaimed += bytes;
        }
        let before = counter(&self.meta, RECLAIMED)?;
        self.meta.insert(RECLAIMED, before + reclaimed)?;
        self.meta.insert(CLEARED, last)?;
        self.dirty = true;
        Ok(if last < upto { Cleared::Some } else { left })
    }
}

/// How far clearing away is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleared {
    /// There is more.
    Some,
    /// Only the newest revision is left, which goes when it is no longer the newest.
    Waits,
    /// All that is compacted.
    All,
}

/// The keys of a lease.
pub(super) fn keys_of(
    lease_keys: &impl redb::ReadableTable<(i64, &'static str), ()>,
    lease: LeaseId,
) -> Result<Vec<String>, Fault> {
    let mut keys = Vec::new();
    for item in lease_keys.range((lease, "")..)? {
        let (found, ()) = (item?.0, ());
        let (of, key) = found.value();
        if of != lease {
            break;
        }
        keys.push(key.to_owned());
    }
    Ok(keys)
}
