//! What was: told, compared and put back.

use std::{cmp::Reverse, collections::BTreeMap};

use upkeep_store::kv::Range;

use super::{
    Attempt, Config, LISTED_BYTES, LISTED_MAX, Order, STORE, Seen, Step, Stored, TRIES, by, current, masked,
    pages::{Found, Mark, Walk, gone_key},
    reading::weight,
    shown_to, stored,
};
use crate::{
    entry::{Before, Changed, Compared, Difference, History, Past},
    error::ConfigError,
    path::{Path, Place},
    record::Content,
    rights::{Asker, Verb},
    rules::Book,
};

/// Differences of a place that are looked at for going back.
const LOOKED_AT: usize = 20_000;
/// And their bytes.
const LOOKED_AT_BYTES: usize = 64 << 20;

/// A value at two revisions: the changes that made it what it was; nothing: there was none.
struct Between {
    path: Path,
    from: Option<Mark>,
    to: Option<Mark>,
}

impl Config {
    /// What was changed in a place, the newest first: at most `limit`, behind `before`. Secrets are masked.
    pub async fn history(
        &self,
        asker: Asker<'_>,
        place: &Place,
        limit: usize,
        before: Option<&Before>,
    ) -> Result<History, ConfigError> {
        let place = self.narrowed(place);
        let limit = limit.clamp(1, LISTED_MAX);
        // The newest so far, and one more that tells that there is more.
        let mut newest: BTreeMap<(Reverse<u64>, Path), String> = BTreeMap::new();
        let mut walk = Walk::new(self, place, None);
        while let Some(found) = walk.next().await? {
            let Found::Change(mark) = found else { continue };
            if !asker.may(Verb::History, &mark.path) {
                walk.skip(&mark.path);
                continue;
            }
            if before.is_some_and(|before| !before.precedes(mark.revision, &mark.path)) {
                let on = before.map_or(0, |before| before.revision.saturating_sub(1));
                walk.skip_to(&mark.path, on);
                continue;
            }
            let key = (Reverse(mark.revision), mark.path);
            if newest.len() > limit
                && let Some((last, _)) = newest.last_key_value()
                && key > *last
            {
                // What this value was before is older still.
                walk.skip(&key.1);
                continue;
            }
            newest.insert(key, mark.key);
            if newest.len() > limit + 1 {
                newest.pop_last();
            }
        }
        let is_more = newest.len() > limit;
        let (marks, keys): (Vec<_>, Vec<_>) = newest.into_iter().take(limit).unzip();
        let (mut changes, mut bytes, mut is_cut) = (Vec::new(), 0, false);
        self.read_all(&keys, |at, entry, _| {
            // Trimmed in this moment.
            let (Some(entry), Some((Reverse(revision), path))) = (entry, marks.get(at)) else {
                return Ok(true);
            };
            let record = stored(&entry)?.record;
            let shown = shown_to(asker, path, masked(&record.content()));
            bytes += weight(shown.as_ref());
            if bytes > LISTED_BYTES && !changes.is_empty() {
                is_cut = true;
                return Ok(false);
            }
            changes.push(Past {
                path: path.clone(),
                revision: *revision,
                shown,
                by: by(&record),
            });
            Ok(true)
        })
        .await?;
        let last = if is_cut {
            changes.last().map(|past| (past.revision, past.path.clone()))
        } else {
            marks.last().map(|(revision, path)| (revision.0, path.clone()))
        };
        let next = last.filter(|_| is_more || is_cut).map(|(revision, path)| Before {
            revision,
            path: Some(path),
        });
        Ok(History { changes, next })
    }

    /// What differs in a place between two revisions, at most `limit` values, behind `after`; `to` absent: now. Secrets are
    /// masked.
    pub async fn diff(
        &self,
        asker: Asker<'_>,
        place: &Place,
        (from, to): (u64, Option<u64>),
        limit: usize,
        after: Option<&Path>,
    ) -> Result<Compared, ConfigError> {
        if let Some(after) = after.filter(|after| !place.covers(after)) {
            return Err(ConfigError::Change(format!("`{after}` is not in `{place}`")));
        }
        self.is_there(from.max(to.unwrap_or(0))).await?;
        let place = self.narrowed(place);
        let limit = limit.clamp(1, LISTED_MAX);
        let mut after = after.cloned();
        let mut compared = Compared::default();
        let mut bytes = 0;
        loop {
            let may = |path: &Path| asker.may(Verb::History, path);
            let to = to.unwrap_or(u64::MAX);
            let (between, is_more) = self
                .between(place, (from, to), &may, LISTED_MAX, after.as_ref())
                .await?;
            let mut is_full = false;
            self.contents(&between, |one, old, new| {
                if old == new {
                    return Ok(true);
                }
                let difference = Difference {
                    path: one.path.clone(),
                    before: shown_to(asker, &one.path, old.as_ref().and_then(masked)),
                    after: shown_to(asker, &one.path, new.as_ref().and_then(masked)),
                };
                bytes += weight(difference.before.as_ref()) + weight(difference.after.as_ref());
                let is_first = compared.differences.is_empty();
                if compared.differences.len() == limit || (bytes > LISTED_BYTES && !is_first) {
                    is_full = true;
                    return Ok(false);
                }
                compared.differences.push(difference);
                Ok(true)
            })
            .await?;
            if is_full {
                compared.next = compared.differences.last().map(|last| last.path.clone());
                return Ok(compared);
            }
            after = between.last().map(|last| last.path.clone());
            if !is_more {
                return Ok(compared);
            }
        }
    }

    /// The values whose newest change differs between two revisions; and whether there are more than `most`. Reads keys alone.
    async fn between(
        &self,
        place: &Place,
        (from, to): (u64, u64),
        may: &(dyn Fn(&Path) -> bool + Sync),
        most: usize,
        after: Option<&Path>,
    ) -> Result<(Vec<Between>, bool), ConfigError> {
        let (low, high) = (from.min(to), from.max(to));
        let mut all: Vec<Between> = Vec::new();
        let mut walk = Walk::new(self, place, after);
        let mut at = Looked::default();
        loop {
            let found = walk.next().await?;
            let path = match &found {
                Some(Found::Change(mark)) => Some(&mark.path),
                Some(Found::Trimmed(path)) => Some(path),
                None => None,
            };
            if path != at.path.as_ref() {
                if let Some((path, older, newer)) = std::mem::take(&mut at).done(low)? {
                    if all.len() == most {
                        return Ok((all, true));
                    }
                    let (from, to) = if from <= to {
                        (older, newer)
                    } else {
                        (newer, older)
                    };
                    all.push(Between { path, from, to });
                }
                at.path = path.cloned();
            }
            match found {
                None => return Ok((all, false)),
                Some(Found::Trimmed(path)) if may(&path) => at.trimmed = true,
                Some(Found::Trimmed(_)) => {}
                Some(Found::Change(mark)) if !may(&mark.path) => walk.skip(&mark.path),
                Some(Found::Change(mark)) => {
                    at.known = true;
                    if mark.revision > high {
                        walk.skip_to(&mark.path, high.saturating_sub(1));
                        continue;
                    }
                    if at.newer.is_none() {
                        at.newer = Some(mark.clone());
                    }
                    if mark.revision > low {
                        walk.skip_to(&mark.path, low.saturating_sub(1));
                        continue;
                    }
                    walk.skip(&mark.path);
                    at.older = Some(mark);
                }
            }
        }
    }

    /// Reads what values were at the two revisions; nothing: there was none.
    async fn contents(
        &self,
        between: &[Between],
        mut each: impl FnMut(&Between, Option<Content>, Option<Content>) -> Result<bool, ConfigError>,
    ) -> Result<(), ConfigError> {
        let keys: Vec<String> = between
            .iter()
            .flat_map(|one| [&one.from, &one.to])
            .flatten()
            .map(|mark| mark.key.clone())
            .collect();
        let mut ones = between.iter();
        let mut held: Vec<Option<Content>> = Vec::new();
        let mut now = ones.next();
        self.read_all(&keys, |_, entry, _| {
            let content = entry.map(|entry| Ok::<_, ConfigError>(stored(&entry)?.record.content()));
            held.push(
                content
                    .transpose()?
                    .filter(|content| *content != Content::Deleted),
            );
            let Some(one) = now else { return Ok(false) };
            let wanted = usize::from(one.from.is_some()) + usize::from(one.to.is_some());
            if held.len() < wanted {
                return Ok(true);
            }
            let mut held = std::mem::take(&mut held).into_iter();
            let from = one.from.as_ref().and_then(|_| held.next().flatten());
            let to = one.to.as_ref().and_then(|_| held.next().flatten());
            now = ones.next();
            each(one, from, to)
        })
        .await
    }

    /// Sets a place back to what it was at a revision. Secrets are sealed for those who are their recipients now; it takes no
    /// right to read anything. What goes by itself is left alone.
    pub async fn rollback(
        &self,
        asker: Asker<'_>,
        place: &Place,
        to: u64,
        why: Option<&str>,
        dry_run: bool,
    ) -> Result<Changed, ConfigError> {
        asker.require_all(Verb::Write, place)?;
        if to == 0 {
            return Err(ConfigError::Change(format!(
                "there is no revision 0 to go back to; to delete all of `{place}`, delete it"
            )));
        }
        self.is_there(to).await?;
        self.refresh().await?;
        for _ in 0..TRIES {
            let held = self.book();
            let steps = self.steps_back(place, to, &held.1).await?;
            let order = Order {
                why,
                dry_run,
                of_the_past: true,
                ..Order::of(asker, held)
            };
            match self.carry_out(order, steps).await? {
                Attempt::Done(changed) => return Ok(changed),
                Attempt::Again => {}
            }
        }
        Err(ConfigError::Busy(place.clone()))
    }

    /// Refuses a revision that is not there yet.
    async fn is_there(&self, asked: u64) -> Result<(), ConfigError> {
        let current = self.backend().range(Range::one(STORE)).await?.revision + self.offset();
        if asked > current {
            return Err(ConfigError::Future { asked, current });
        }
        Ok(())
    }

    /// What has to be done to bring a place back.
    async fn steps_back(&self, place: &Place, to: u64, book: &Book) -> Result<Vec<Step>, ConfigError> {
        let (between, is_more) = self
            .between(place, (to, u64::MAX), &|_| true, LOOKED_AT, None)
            .await?;
        if is_more {
            return Err(ConfigError::Change(format!(
                "more than {LOOKED_AT} values of `{place}` were changed since revision {to}; go back in parts"
            )));
        }
        let most = self.backend().limits().bytes;
        let mut wanted: Vec<(Path, Option<Stored>)> = Vec::new();
        let keys: Vec<String> = between
            .iter()
            .filter_map(|one| one.from.as_ref())
            .map(|mark| mark.key.clone())
            .collect();
        let mut bytes = 0;
        let mut of_then = Vec::new();
        let mut looked_at = 0;
        self.read_all(&keys, |_, entry, _| {
            looked_at += entry.as_ref().map_or(0, |entry| entry.value.len());
            if looked_at > LOOKED_AT_BYTES {
                return Err(ConfigError::Change(format!(
                    "the values of `{place}` that were changed since revision {to} have more than {LOOKED_AT_BYTES} bytes; go back in parts"
                )));
            }
            let entry = entry.map(|entry| stored(&entry)).transpose()?;
            of_then.push(entry);
            Ok(true)
        })
        .await?;
        let mut of_then = of_then.into_iter();
        for one in between {
            let then = one.from.as_ref().and_then(|_| of_then.next().flatten());
            wanted.push((one.path, then));
        }
        let keys: Vec<String> = wanted
            .iter()
            .flat_map(|(path, _)| [current(path), gone_key(path)])
            .collect();
        let mut steps = Vec::new();
        let mut now: Option<(Option<Stored>, u64)> = None;
        self.read_all(&keys, |at, entry, revision| {
            if at % 2 == 0 {
                now = Some((entry.map(|entry| stored(&entry)).transpose()?, revision));
                return Ok(true);
            }
            let (Some((path, then)), Some((now, revision))) = (wanted.get(at / 2), now.take()) else {
                return Ok(true);
            };
            let gone = entry.map_or(0, |entry| entry.modified);
            let goes = |stored: &Option<Stored>| {
                stored.as_ref().is_some_and(|stored| stored.leased || stored.record.head.ttl.is_some())
            };
            if goes(&now) || goes(then) {
                return Ok(true);
            }
            let content = then.as_ref().map_or(Content::Deleted, |stored| stored.record.content());
            let before = now.as_ref().map(|stored| stored.record.content());
            if content == *before.as_ref().unwrap_or(&Content::Deleted) {
                return Ok(true);
            }
            if matches!((&content, &before), (Content::Plain(_), Some(Content::Secret(..)))) {
                return Err(ConfigError::Bared(path.clone()));
            }
            let content = self.sealed_for_now(path, content, book)?;
            bytes += content.len();
            if bytes > most {
                return Err(ConfigError::Change(format!(
                    "going back would write more than the {most} bytes that this store takes in one change; go back in parts"
                )));
            }
            steps.push(Step {
                path: path.clone(),
                content,
                seen: Seen {
                    at: revision,
                    modified: now.as_ref().map_or(0, |stored| stored.modified),
                    gone,
                },
                before: before.as_ref().and_then(masked),
                clear: None,
                is_named: !place.is_many(),
            });
            Ok(true)
        })
        .await?;
        Ok(steps)
    }

    /// What was sealed for others is sealed for those who hold now; what was not is as it was.
    pub(crate) fn sealed_for_now(
        &self,
        path: &Path,
        content: Content,
        book: &Book,
    ) -> Result<Content, ConfigError> {
        let Content::Secret(kind, sealed) = &content else {
            return Ok(content);
        };
        let recipients = self.recipients(book, path);
        if sealed.recipients() == recipients {
            return Ok(content);
        }
        let sealed = sealed
            .rewrap(&self.identities, &recipients)
            .map_err(|why| ConfigError::Seal {
                what: "seal anew",
                path: path.clone(),
                why,
            })?;
        Ok(Content::Secret(*kind, sealed))
    }
}

/// What of one value was found so far.
#[derive(Default)]
struct Looked {
    path: Option<Path>,
    trimmed: bool,
    known: bool,
    older: Option<Mark>,
    newer: Option<Mark>,
}

impl Looked {
    /// The value with both of its changes, if they are two; the error, if the older one is not known any more.
    #[expect(clippy::type_complexity, reason = "a value and two changes")]
    fn done(self, low: u64) -> Result<Option<(Path, Option<Mark>, Option<Mark>)>, ConfigError> {
        let Some(path) = self.path.filter(|_| self.known) else {
            return Ok(None);
        };
        // Before everything there was nothing.
        if self.trimmed && self.older.is_none() && low > 0 {
            return Err(ConfigError::Trimmed { path, revision: low });
        }
        Ok((self.older != self.newer).then_some((path, self.older, self.newer)))
    }
}
