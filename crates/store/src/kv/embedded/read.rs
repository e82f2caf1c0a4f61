//! Reading keys, now and at an older revision.

use redb::{ReadTransaction, ReadableTable};

use super::tables::{COMPACTED, Fault, LATEST, LOG, META, Record, VERSIONS, counter, newest};
use crate::{
    Revision,
    kv::{KeyValue, Range, Ranged, Reason, Span, check::readable},
};

/// Reads what was asked for, as one snapshot.
pub(super) fn range(transaction: &ReadTransaction, range: &Range) -> Result<Result<Ranged, Reason>, Fault> {
    let (revision, _) = newest(&transaction.open_table(LOG)?)?;
    let latest = transaction.open_table(LATEST)?;
    let at = match range.at {
        None => None,
        Some(_) => {
            let oldest = counter(&transaction.open_table(META)?, COMPACTED)?;
            match readable(range.at, revision, oldest) {
                Ok(at) => at,
                Err(reason) => return Ok(Err(reason)),
            }
        }
    };
    let Some(at) = at else {
        return now(&latest, range, revision).map(Ok);
    };
    let versions = transaction.open_table(VERSIONS)?;
    let mut page = Page::new(range);
    then(&latest, &versions, &range.span, at, |entry| page.take(entry))?;
    Ok(Ok(page.done(revision)))
}

/// Reads what is there now.
pub(super) fn now(
    latest: &impl ReadableTable<&'static str, &'static [u8]>,
    range: &Range,
    revision: Revision,
) -> Result<Ranged, Fault> {
    let mut page = Page::new(range);
    if let (Span::All, true) = (&range.span, range.count_only) {
        page.counted = latest.len()?;
        return Ok(page.done(revision));
    }
    if let Span::One(key) = &range.span {
        if let Some(found) = latest.get(key.as_str())? {
            let record = Record::decode(key, found.value())?;
            page.take(record.key_value(key, record.second, range.keys_only));
        }
        return Ok(page.done(revision));
    }
    for item in latest.range(range.span.start()..)? {
        let (key, found) = item?;
        let key = key.value();
        if !range.span.contains(key) {
            break;
        }
        if range.count_only {
            page.counted += 1;
            continue;
        }
        let record = Record::decode(key, found.value())?;
        if !page.take(record.key_value(key, record.second, range.keys_only)) {
            break;
        }
    }
    Ok(page.done(revision))
}

/// Tells what was there at an older revision, in order of keys, until `take` has enough.
fn then(
    latest: &impl ReadableTable<&'static str, &'static [u8]>,
    versions: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    span: &Span,
    at: Revision,
    mut take: impl FnMut(KeyValue) -> bool,
) -> Result<(), Fault> {
    if let Span::One(key) = span {
        if let Some(found) = one_then(latest, versions, key, at)? {
            take(found);
        }
        return Ok(());
    }
    // Two lists in order of keys; at one revision a key is in one of them at most.
    let mut lives = latest.range(span.start()..)?.map(|item| {
        let (key, found) = item?;
        let key = key.value();
        if !span.contains(key) {
            return Ok(None);
        }
        let record = Record::decode(key, found.value())?;
        Ok(Some((
            key.to_owned(),
            (record.second <= at).then(|| record.key_value(key, record.second, false)),
        )))
    });
    let mut ended = versions.range((span.start(), 0)..)?.map(|item| {
        let (key, found) = item?;
        let (key, modified) = key.value();
        if !span.contains(key) {
            return Ok(None);
        }
        let record = Record::decode(key, found.value())?;
        let there = modified <= at && at < record.second;
        Ok(Some((
            key.to_owned(),
            there.then(|| record.key_value(key, modified, false)),
        )))
    });
    let mut left = seek(&mut lives)?;
    let mut right = seek(&mut ended)?;
    loop {
        let from_left = match (&left, &right) {
            (None, None) => return Ok(()),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(left), Some(right)) => left.key <= right.key,
        };
        let (side, next) = if from_left {
            (&mut left, seek(&mut lives)?)
        } else {
            (&mut right, seek(&mut ended)?)
        };
        if let Some(entry) = std::mem::replace(side, next)
            && !take(entry)
        {
            return Ok(());
        }
    }
}

type Item = Result<Option<(String, Option<KeyValue>)>, Fault>;

/// The next that was there.
fn seek(items: &mut impl Iterator<Item = Item>) -> Result<Option<KeyValue>, Fault> {
    for item in items {
        match item? {
            None => return Ok(None),
            Some((_, None)) => {}
            Some((_, Some(entry))) => return Ok(Some(entry)),
        }
    }
    Ok(None)
}

/// A key as it was at an older revision.
fn one_then(
    latest: &impl ReadableTable<&'static str, &'static [u8]>,
    versions: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    key: &str,
    at: Revision,
) -> Result<Option<KeyValue>, Fault> {
    if let Some(found) = latest.get(key)? {
        let record = Record::decode(key, found.value())?;
        if record.second <= at {
            return Ok(Some(record.key_value(key, record.second, false)));
        }
    }
    let Some(item) = versions.range((key, 0)..=(key, at))?.next_back() else {
        return Ok(None);
    };
    let (found_key, found) = item?;
    let record = Record::decode(key, found.value())?;
    let modified = found_key.value().1;
    Ok((at < record.second).then(|| record.key_value(key, modified, false)))
}

/// A version of a key by the revision that wrote it, wherever it is now.
pub(super) fn version(
    latest: &impl ReadableTable<&'static str, &'static [u8]>,
    versions: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    key: &str,
    modified: Revision,
) -> Result<Option<KeyValue>, Fault> {
    if let Some(found) = versions.get((key, modified))? {
        let record = Record::decode(key, found.value())?;
        return Ok(Some(record.key_value(key, modified, false)));
    }
    let Some(found) = latest.get(key)? else {
        return Ok(None);
    };
    let record = Record::decode(key, found.value())?;
    Ok((record.second == modified).then(|| record.key_value(key, modified, false)))
}

/// An answer as it grows.
struct Page<'a> {
    range: &'a Range,
    entries: Vec<KeyValue>,
    counted: u64,
    more: bool,
}

impl<'a> Page<'a> {
    fn new(range: &'a Range) -> Self {
        Self {
            range,
            entries: Vec::new(),
            counted: 0,
            more: false,
        }
    }

    /// Takes an entry; false when there is no need for another.
    fn take(&mut self, mut entry: KeyValue) -> bool {
        if self.range.count_only {
            self.counted += 1;
            return true;
        }
        if self.range.limit > 0 && self.entries.len() == self.range.limit {
            self.more = true;
            return false;
        }
        if self.range.keys_only {
            entry.value = Vec::new();
        }
        self.counted += 1;
        self.entries.push(entry);
        true
    }

    fn done(self, revision: Revision) -> Ranged {
        Ranged {
            revision,
            entries: self.entries,
            more: self.more,
            count: (!self.more).then_some(self.counted),
        }
    }
}
