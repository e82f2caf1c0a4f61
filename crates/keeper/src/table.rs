//! What the keeper holds about processes: who lives, what trees were left behind, which ends have not been
//! acknowledged, and the daemon's notes. Data only; `children` and `strays` act on it.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use upkeep_sys::{Pid, clock};

use crate::protocol::{ChildEntry, Ended, ExitRecord, MAX_NOTE, Usage};

/// What all notes together may be: the listing that carries them has to fit into one frame.
pub(crate) const NOTES_LIMIT: usize = 12 << 20;
/// Ends the daemon may leave unacknowledged before it gets no more children.
pub(crate) const EXITS_LIMIT: usize = 1 << 16;
/// The longest key or name, in bytes.
pub(crate) const NAME_LIMIT: usize = 512;

/// A living child, or a stray.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) key: String,
    pub(crate) pid: Pid,
    pub(crate) start_ticks: u64,
    pub(crate) started_unix_ms: u64,
    pub(crate) started_mono_ms: u64,
    /// The name of its cgroup below the base (a whole path for a stray of another base).
    pub(crate) group: Option<String>,
    /// The name of the groups that limit it.
    pub(crate) limited: Option<String>,
    /// Its pidfd, if an earlier keeper was its parent.
    pub(crate) stray: Option<OwnedFd>,
}

/// What the tree of an ended child may still be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    pub(crate) key: String,
    /// Its process group and session, as long as they have members. `None`: only a marker was found.
    pub(crate) leader: Option<Pid>,
    pub(crate) group: Option<String>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) children: BTreeMap<String, Child>,
    pub(crate) remains: Vec<Remains>,
    exits: BTreeMap<u64, ExitRecord>,
    pub(crate) last_seq: u64,
    notes: BTreeMap<String, Vec<u8>>,
    notes_size: usize,
}

/// A note that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoteTooLarge;

impl Table {
    pub(crate) fn key_of(&self, pid: Pid) -> Option<&str> {
        let own = |child: &&Child| child.pid == pid && child.stray.is_none();
        self.children.values().find(own).map(|child| child.key.as_str())
    }

    /// Files an exit record for a child that has been taken out of `children`.
    pub(crate) fn file_exit(
        &mut self,
        child: &Child,
        how: Ended,
        usage: Usage,
        leftovers: bool,
        oom_kills: u32,
    ) {
        self.last_seq += 1;
        let record = ExitRecord {
            seq: self.last_seq,
            key: child.key.clone(),
            pid: child.pid.unsigned(),
            how,
            started_unix_ms: child.started_unix_ms,
            exited_unix_ms: clock::unix_ms(),
            started_mono_ms: child.started_mono_ms,
            exited_mono_ms: clock::monotonic_ms(),
            usage,
            leftovers,
            oom_kills,
        };
        self.exits.insert(record.seq, record);
    }

    pub(crate) fn restore_exit(&mut self, record: ExitRecord) {
        self.exits.insert(record.seq, record);
    }

    /// Unacknowledged ends after `seq`, oldest first.
    pub(crate) fn exits_after(&self, seq: u64) -> impl Iterator<Item = &ExitRecord> {
        self.exits
            .range(seq.saturating_add(1)..)
            .map(|(_, record)| record)
    }

    pub(crate) fn exits_waiting(&self) -> usize {
        self.exits.len()
    }

    pub(crate) fn forget_exit(&mut self, seq: u64) {
        self.exits.remove(&seq);
    }

    /// Keeps a note, or forgets it if it is empty.
    pub(crate) fn set_note(&mut self, key: String, bytes: Vec<u8>) -> Result<(), NoteTooLarge> {
        let size = |key: &str, bytes: &[u8]| key.len() + bytes.len() + 8;
        let old = self.notes.get(&key).map_or(0, |old| size(&key, old));
        if bytes.is_empty() {
            self.notes.remove(&key);
            self.notes_size -= old;
            return Ok(());
        }
        let new = self.notes_size - old + size(&key, &bytes);
        if bytes.len() > MAX_NOTE || key.len() > NAME_LIMIT || new > NOTES_LIMIT {
            return Err(NoteTooLarge);
        }
        self.notes.insert(key, bytes);
        self.notes_size = new;
        Ok(())
    }

    pub(crate) fn notes(&self) -> Vec<(String, Vec<u8>)> {
        self.notes
            .iter()
            .map(|(key, bytes)| (key.clone(), bytes.clone()))
            .collect()
    }

    pub(crate) fn entries(&self) -> Vec<ChildEntry> {
        let entry = |child: &Child| ChildEntry {
            key: child.key.clone(),
            pid: child.pid.unsigned(),
            start_ticks: child.start_ticks,
            started_unix_ms: child.started_unix_ms,
            started_mono_ms: child.started_mono_ms,
            stray: child.stray.is_some(),
        };
        self.children.values().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_each_and_together() {
        let mut table = Table::default();
        assert_eq!(
            table.set_note("a".into(), vec![0; MAX_NOTE + 1]),
            Err(NoteTooLarge)
        );
        let mut kept = 0;
        while table.set_note(format!("{kept}"), vec![1; MAX_NOTE]).is_ok() {
            kept += 1;
        }
        assert!(kept * MAX_NOTE <= NOTES_LIMIT && (kept + 1) * MAX_NOTE > NOTES_LIMIT - 4096);
        assert_eq!(table.set_note("0".into(), Vec::new()), Ok(()));
        assert_eq!(table.set_note("new".into(), vec![1; MAX_NOTE]), Ok(()));
        assert_eq!(table.notes().len(), kept);
    }
}
