//! The simplest store that does what [`Kv`](super::Kv) promises: every revision kept whole, in memory. Tests compare
//! backends with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Answered, Change, Done, Guard, KeyValue, LeaseId, Op, Range, Ranged, Reason, Revision, Span, Target, Txn,
    check::readable,
};

type Keys = BTreeMap<String, KeyValue>;

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    first: Revision,
    /// What was there after each revision, from `first` on.
    states: Vec<Keys>,
    /// What each revision after `first` changed.
    changes: Vec<Vec<Change>>,
    compacted: Revision,
    leases: BTreeSet<LeaseId>,
}

impl Default for Model {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Model {
    /// An empty store at a revision.
    pub fn new(first: Revision) -> Self {
        Self {
            first,
            states: vec![Keys::new()],
            changes: Vec::new(),
            compacted: 0,
            leases: BTreeSet::new(),
        }
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.first + self.changes.len() as u64
    }

    /// What is there now.
    pub fn now(&self) -> &Keys {
        self.states.last().expect("there is a first state")
    }

    /// Reads.
    pub fn range(&self, range: &Range) -> Result<Ranged, Reason> {
        let at = readable(range.at, self.revision(), self.compacted)?.unwrap_or_else(|| self.revision());
        let index = usize::try_from(at - self.first).expect("small");
        Ok(read(&self.states[index], range, self.revision()))
    }

    /// Carries out a transaction.
    pub fn txn(&mut self, txn: &Txn) -> Result<Answered, Reason> {
        let succeeded = txn.guards.iter().all(|guard| holds(self.now(), guard));
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        for op in branch {
            if let Op::Put {
                lease: Some(lease), ..
            } = op
                && !self.leases.contains(lease)
            {
                return Err(Reason::NoLease(*lease));
            }
        }
        let mut keys = self.now().clone();
        let mut changes = Vec::new();
        let revision = self.revision() + 1;
        let mut results: Vec<Done> = branch
            .iter()
            .map(|op| step(&mut keys, &mut changes, revision, op, txn.with_previous))
            .collect();
        self.push(keys, changes);
        for result in &mut results {
            if let Done::Got(ranged) = result {
                ranged.revision = self.revision();
            }
        }
        Ok(Answered {
            revision: self.revision(),
            succeeded,
            results,
        })
    }

    fn push(&mut self, keys: Keys, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.states.push(keys);
            self.changes.push(changes);
        }
    }

    /// A lease begins.
    pub fn grant(&mut self, lease: LeaseId) {
        self.leases.insert(lease);
    }

    /// A lease ends.
    pub fn revoke(&mut self, lease: LeaseId) -> Result<Revision, Reason> {
        if !self.leases.remove(&lease) {
            return Err(Reason::NoLease(lease));
        }
        let mut keys = self.now().clone();
        let mut changes = Vec::new();
        keys.retain(|key, entry| {
            let goes = entry.lease == Some(lease);
            if goes {
                changes.push(Change::Delete {
                    key: key.clone(),
                    previous: Some(entry.clone()),
                });
            }
            !goes
        });
        self.push(keys, changes);
        Ok(self.revision())
    }

    /// Compacts.
    pub fn compact(&mut self, revision: Revision) -> Result<(), Reason> {
        if revision > self.revision() {
            return Err(Reason::Future {
                asked: revision,
                current: self.revision(),
            });
        }
        if revision <= self.compacted {
            return Err(Reason::Compacted {
                oldest: self.compacted,
            });
        }
        self.compacted = revision;
        Ok(())
    }

    /// What a watch tells from a revision on, each with its previous one; `Err` is the oldest that can be watched from.
    pub fn watch(&self, span: &Span, from: Revision) -> Result<Vec<(Revision, Vec<Change>)>, Revision> {
        if from <= self.compacted {
            return Err(self.compacted + 1);
        }
        let skip = usize::try_from((from - 1).saturating_sub(self.first)).expect("small");
        let revisions = (self.first + 1..).zip(&self.changes).skip(skip);
        Ok(revisions
            .filter_map(|(revision, changes)| {
                let changes: Vec<Change> = changes
                    .iter()
                    .filter(|change| span.contains(change.key()))
                    .cloned()
                    .collect();
                (!changes.is_empty()).then_some((revision, changes))
            })
            .collect())
    }
}

fn step(
    keys: &mut Keys,
    changes: &mut Vec<Change>,
    revision: Revision,
    op: &Op,
    with_previous: bool,
) -> Done {
    match op {
        Op::Put { key, value, lease } => {
            let previous = keys.get(key).cloned();
            let now = KeyValue {
                key: key.clone(),
                value: value.clone(),
                created: previous.as_ref().map_or(revision, |previous| previous.created),
                modified: revision,
                version: previous.as_ref().map_or(0, |previous| previous.version) + 1,
                lease: *lease,
            };
            keys.insert(key.clone(), now.clone());
            changes.push(Change::Put {
                now,
                previous: previous.clone(),
            });
            Done::Put(previous.filter(|_| with_previous))
        }
        Op::Delete(span) => {
            let mut gone = Vec::new();
            keys.retain(|key, entry| {
                let goes = span.contains(key);
                if goes {
                    gone.push(entry.clone());
                }
                !goes
            });
            changes.extend(gone.iter().map(|entry| Change::Delete {
                key: entry.key.clone(),
                previous: Some(entry.clone()),
            }));
            Done::Deleted {
                count: gone.len() as u64,
                previous: if with_previous { gone } else { Vec::new() },
            }
        }
        Op::Get(range) => Done::Got(read(keys, range, 0)),
    }
}

fn read(keys: &Keys, range: &Range, revision: Revision) -> Ranged {
    let inside: Vec<&KeyValue> = keys
        .values()
        .filter(|entry| range.span.contains(&entry.key))
        .collect();
    let count = inside.len();
    let limit = match (range.count_only, range.limit) {
        (true, _) => 0,
        (false, 0) => usize::MAX,
        (false, limit) => limit,
    };
    let mut entries: Vec<KeyValue> = inside.into_iter().take(limit).cloned().collect();
    if range.keys_only {
        for entry in &mut entries {
            entry.value.clear();
        }
    }
    let more = !range.count_only && entries.len() < count;
    Ranged {
        revision,
        entries,
        more,
        count: (!more).then_some(count as u64),
    }
}

fn holds(keys: &Keys, guard: &Guard) -> bool {
    let entry = keys.get(&guard.key);
    let figure = |of: fn(&KeyValue) -> u64| entry.map_or(0, of);
    match &guard.target {
        Target::Modified(revision) => guard.is.holds(&figure(|entry| entry.modified), revision),
        Target::Created(revision) => guard.is.holds(&figure(|entry| entry.created), revision),
        Target::Version(version) => guard.is.holds(&figure(|entry| entry.version), version),
        Target::Value(value) => entry.is_some_and(|entry| guard.is.holds(&entry.value, value)),
    }
}
