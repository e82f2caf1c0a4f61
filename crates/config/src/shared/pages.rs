//! Reading spans of any size in pages that are not too large.

use std::{collections::VecDeque, sync::Arc};

use upkeep_store::kv::{Done, KeyValue, Kv, KvError, Op, Range, Reason, Span, Txn, prefix_end};

use super::{Config, Stored, current, damaged, path_of, stored, within};
use crate::{
    error::ConfigError,
    path::{Path, Place},
};

/// The most keys that are read at once.
const KEYS: usize = 1000;
/// The fewest: also of the largest values, so many fit into memory.
const FEWEST: usize = 8;
/// The first page: nothing is known of the sizes yet.
const FIRST: usize = 32;
/// Bytes of values that a page should have.
const BYTES: usize = 1 << 20;

/// Stands between a change's key and the revision that it had in another store.
const MOVED: char = '@';

/// The pages of a span, all of one moment.
pub(crate) struct Pages {
    kv: Arc<dyn Kv>,
    span: Span,
    /// The first key that was not read yet.
    from: Option<String>,
    at: Option<u64>,
    limit: usize,
    keys_only: bool,
    done: bool,
    /// The backend's revision of the newest page.
    pub(crate) revision: u64,
}

impl Pages {
    pub(crate) fn new(config: &Config, span: Span, at: Option<u64>) -> Self {
        Self {
            kv: Arc::clone(config.backend()),
            span,
            from: None,
            at,
            limit: FIRST,
            keys_only: false,
            done: false,
            revision: 0,
        }
    }

    /// Without values.
    pub(super) fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self.limit = KEYS / 4;
        self
    }

    /// Goes on at a key behind what would come next.
    pub(crate) fn seek(&mut self, key: String) {
        // Who jumps needs few of each page.
        self.limit = (self.limit / 2).max(FEWEST);
        self.from = Some(key);
    }

    /// The next page; empty: there is no more.
    pub(crate) async fn next(&mut self) -> Result<Vec<KeyValue>, ConfigError> {
        if self.done {
            return Ok(Vec::new());
        }
        let span = match (&self.from, &self.span) {
            (Some(from), Span::Prefix(prefix)) => {
                let end = prefix_end(prefix.as_bytes()).and_then(|end| String::from_utf8(end).ok());
                if end.as_ref().is_some_and(|end| from >= end) {
                    self.done = true;
                    return Ok(Vec::new());
                }
                Span::Between(from.clone(), end)
            }
            (Some(from), Span::One(key)) if from > key => {
                self.done = true;
                return Ok(Vec::new());
            }
            (Some(_) | None, span) => span.clone(),
        };
        let range = Range {
            at: self.at,
            keys_only: self.keys_only,
            ..Range::new(span).limit(self.limit)
        };
        let ranged = self.kv.range(range).await?;
        self.revision = ranged.revision;
        self.at = self.at.or(Some(ranged.revision));
        let bytes: usize = ranged.entries.iter().map(|entry| entry.value.len() + 1).sum();
        let each = bytes / ranged.entries.len().max(1);
        self.limit = (BYTES / each.max(1)).clamp(FEWEST, KEYS.min(self.limit * 32));
        match ranged.entries.last() {
            Some(last) if ranged.more => self.from = Some(format!("{}\0", last.key)),
            _ => self.done = true,
        }
        Ok(ranged.entries)
    }
}

/// A change of the past, as its key tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) path: Path,
    pub(super) key: String,
    /// As callers count.
    pub(crate) revision: u64,
    /// When, milliseconds since 1970.
    pub(super) millis: u64,
}

/// What stands in the history.
pub(super) enum Found {
    Change(Mark),
    /// What this value was before is not known any more.
    Trimmed(Path),
}

/// The key of a change, made on a revision. What came from another store has its revision there behind it ([`moved_key`]).
pub(super) fn change_key(path: &Path, on: u64, id: &str) -> String {
    format!("h{path}\0{:016x}{id}", u64::MAX - on)
}

/// The key of a change in a store that it is moved to: so its revision is known without its value.
pub(crate) fn moved_key(key: &str, revision: u64) -> String {
    format!("{key}{MOVED}{revision:016x}")
}

/// Whether it is the key of a change, and no mark; and whether it says which revision it had in another store.
pub(crate) fn is_change(key: &str) -> Option<bool> {
    let (_, rest) = key.strip_prefix("h/")?.split_once('\0')?;
    (!rest.starts_with('!')).then(|| rest.contains(MOVED))
}

/// The first key of the changes that were made on a revision or before it.
fn changes_from(path: &Path, on: u64) -> String {
    change_key(path, on, "")
}

/// Written when a value is deleted, or set to go by itself.
pub(crate) fn gone_key(path: &Path) -> String {
    format!("h{path}\0!gone")
}

/// Tells that older changes of the value were left out.
pub(super) fn trimmed_key(path: &Path) -> String {
    format!("h{path}\0!trimmed")
}

/// Walks through the history of a place: by paths, of each path from the newest change to the oldest. It can jump, and reads keys
/// alone.
pub(crate) struct Walk {
    kv: Arc<dyn Kv>,
    pages: Pages,
    offset: u64,
    /// What the backend had before was copied from another store.
    copied: Option<u64>,
    page: VecDeque<KeyValue>,
    /// What comes before it is left out.
    target: String,
    /// The last path that was once deleted, or was to go by itself.
    gone: Option<String>,
}

impl Walk {
    /// From the beginning, or from behind a path.
    pub(crate) fn new(config: &Config, place: &Place, after: Option<&Path>) -> Self {
        let mut walk = Self {
            kv: Arc::clone(config.backend()),
            pages: Pages::new(config, within('h', place), None).keys_only(),
            offset: config.offset(),
            copied: config.before.map(|_| config.began),
            page: VecDeque::new(),
            target: String::new(),
            gone: None,
        };
        if let Some(after) = after {
            walk.skip(after);
            walk.pages.seek(walk.target.clone());
        }
        walk
    }

    /// Whether this value was ever deleted, or set to go by itself. Of the path that was found last.
    pub(super) fn was_gone(&self, path: &Path) -> bool {
        self.gone.as_ref().is_some_and(|key| *key == gone_key(path))
    }

    /// Leaves out what is left of a path.
    pub(super) fn skip(&mut self, path: &Path) {
        self.jump(format!("h{path}\x01"));
    }

    /// Leaves out what of a path was made on a later revision.
    pub(super) fn skip_to(&mut self, path: &Path, on: u64) {
        self.jump(changes_from(path, on));
    }

    fn jump(&mut self, to: String) {
        if to > self.target {
            self.target = to;
        }
    }

    /// What was copied by a program that did not write the revision into the key has it in the value.
    async fn of_then(&self, entry: &KeyValue, mark: Mark) -> Result<Mark, ConfigError> {
        let is_told = is_change(&entry.key) == Some(true);
        if is_told || self.copied.is_none_or(|began| entry.modified > began) {
            return Ok(mark);
        }
        let ranged = self.kv.range(Range::one(&entry.key)).await?;
        let revision = match ranged.entries.first() {
            Some(entry) => stored(entry)?.revision(self.offset),
            // Trimmed this moment.
            None => mark.revision,
        };
        Ok(Mark { revision, ..mark })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Found>, ConfigError> {
        loop {
            while let Some(entry) = self.page.pop_front() {
                if entry.key < self.target {
                    continue;
                }
                match found(&entry, self.offset)? {
                    Some(Found::Change(mark)) => {
                        return Ok(Some(Found::Change(self.of_then(&entry, mark).await?)));
                    }
                    Some(found) => return Ok(Some(found)),
                    None => self.gone = Some(entry.key),
                }
            }
            if self.pages.from.as_ref().is_some_and(|from| *from < self.target) {
                self.pages.seek(self.target.clone());
            }
            self.page = self.pages.next().await?.into();
            if self.page.is_empty() {
                return Ok(None);
            }
        }
    }
}

/// What a key of the history is; nothing: the mark of what was deleted.
fn found(entry: &KeyValue, offset: u64) -> Result<Option<Found>, ConfigError> {
    let bad = || damaged(&entry.key, "its key is none of a change");
    let (name, rest) = entry.key.split_once('\0').ok_or_else(bad)?;
    let path = path_of(name)?;
    if rest == "!trimmed" {
        return Ok(Some(Found::Trimmed(path)));
    }
    if rest.starts_with('!') {
        return Ok(None);
    }
    let number = |digits: Option<&str>| {
        digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(bad)
    };
    let (own, moved) = match rest.split_once(MOVED) {
        Some((own, revision)) => (own, Some(revision)),
        None => (rest, None),
    };
    number(own.get(..16))?;
    Ok(Some(Found::Change(Mark {
        path,
        key: entry.key.clone(),
        revision: match moved {
            Some(revision) => number(Some(revision))?,
            None => entry.modified + offset,
        },
        millis: number(own.get(16..28))?,
    })))
}

/// More changes are not told again at once.
const REPLAYED: usize = 5000;
/// Nor more bytes of them.
const REPLAYED_BYTES: usize = 8 << 20;

/// What the history has of a place between two revisions, both included, of the values that `may` lets through. Nothing if that is
/// too much, or if something went by itself, of which the history knows nothing.
pub(crate) async fn past_of(
    kv: &Arc<dyn Kv>,
    mut walk: Walk,
    (from, to): (u64, u64),
    may: impl Fn(&Path) -> bool,
) -> Result<Option<Vec<(Mark, Stored)>>, ConfigError> {
    // With each, whether it was before, and is looked at only because it may have gone by itself.
    let mut marks = Vec::new();
    while let Some(found) = walk.next().await? {
        let Found::Change(mark) = found else { continue };
        if !may(&mark.path) {
            walk.skip(&mark.path);
            continue;
        }
        if mark.revision > to {
            walk.skip_to(&mark.path, to.saturating_sub(1));
            continue;
        }
        let is_before = mark.revision < from;
        if is_before {
            walk.skip(&mark.path);
            if !walk.was_gone(&mark.path) {
                continue;
            }
        }
        if marks.len() == REPLAYED {
            return Ok(None);
        }
        marks.push((mark, is_before));
    }
    let mut all = Vec::with_capacity(marks.len());
    let mut bytes = 0;
    for (mark, is_before) in marks {
        let ranged = kv.range(Range::one(mark.key.as_str())).await?;
        // Trimmed this moment.
        let Some(entry) = ranged.entries.first() else {
            continue;
        };
        bytes += entry.value.len();
        let stored = stored(entry)?;
        if bytes > REPLAYED_BYTES || (stored.record.head.ttl.is_some() && !is_there(kv, &mark).await?) {
            return Ok(None);
        }
        if is_before {
            bytes -= entry.value.len();
        } else {
            all.push((mark, stored));
        }
    }
    Ok(Some(all))
}

/// Whether what a change before the move has set still stands.
async fn is_there(kv: &Arc<dyn Kv>, mark: &Mark) -> Result<bool, ConfigError> {
    let ranged = kv.range(Range::one(current(&mark.path))).await?;
    let now = ranged.entries.first().map(stored).transpose()?;
    Ok(now.is_some_and(|now| now.record.head.revision == Some(mark.revision)))
}

impl Config {
    /// What stands under keys, in their order; a few large ones or many small ones in one call. `each` says whether to go on.
    /// Of keys that belong together in pairs both are of one moment.
    pub(super) async fn read_all(
        &self,
        keys: &[String],
        mut each: impl FnMut(usize, Option<KeyValue>, u64) -> Result<bool, ConfigError>,
    ) -> Result<(), ConfigError> {
        let most = (self.backend().limits().ops.min(256) & !1).max(2);
        let mut size = FEWEST.min(most);
        let mut from = 0;
        while from < keys.len() {
            let batch = keys.get(from..(from + size).min(keys.len())).unwrap_or_default();
            let answered = self
                .backend()
                .txn(Txn::always(batch.iter().map(Op::get).collect()))
                .await?;
            let mut bytes = 0;
            for (at, done) in answered.results.into_iter().enumerate() {
                let Done::Got(got) = done else { continue };
                let entry = got.entries.into_iter().next();
                bytes += entry.as_ref().map_or(0, |entry| entry.value.len());
                if !each(from + at, entry, answered.revision)? {
                    return Ok(());
                }
            }
            from += batch.len();
            size = (BYTES * size / bytes.max(1)).clamp(FEWEST, size * 4).min(most) & !1;
        }
        Ok(())
    }
}

/// What a revision that was asked for lacks, in callers' counting.
pub(super) fn told_of_revision(error: KvError, asked: Option<u64>, offset: u64) -> ConfigError {
    match (&error.reason, asked) {
        (Reason::Compacted { oldest }, Some(asked)) => ConfigError::Compacted {
            asked,
            oldest: oldest + offset,
        },
        (Reason::Future { current, .. }, Some(asked)) => ConfigError::Future {
            asked,
            current: current + offset,
        },
        _ => error.into(),
    }
}
