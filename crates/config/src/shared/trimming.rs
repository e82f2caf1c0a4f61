//! How much of the history is kept.
//!
//! Of each value the newest change stays, whatever the rules say, and what it was within the last days that they name; of what
//! is older, so many changes as they name. Of what went by itself before those days nothing stays. The rest goes step by step:
//! whoever writes carries out a step now and then, and [`Config::trim`] does on demand. A clock that is years ahead for a moment takes nothing: who writes measures age by what it
//! said some changes ago, too. Nobody has to wait for all of it, and after a crash the next step goes on.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use upkeep_store::kv::{Guard, Op, Span, Txn};

use super::{
    Config, current,
    pages::{Found, Mark, Walk, trimmed_key},
    stored,
};
use crate::{
    error::ConfigError,
    path::{Path, Place},
    rights::{Asker, Verb},
    rules::Book,
};

/// Changes that one step looks at.
const STEP: usize = 512;
/// After so many changes a step is carried out. It looks at twice as many: while it goes round once, what is kept grows by half
/// at most, however much is written, and of what writing costs this stays a fiftieth.
const EACH: u32 = 256;

/// How much of the history of a value is kept. What exceeds either goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// So many changes.
    pub changes: u32,
    /// What was true within so many days.
    pub days: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            changes: 1000,
            days: 365,
        }
    }
}

impl Keep {
    pub(super) fn check(self) -> Result<(), ConfigError> {
        if self.changes == 0 || self.days == 0 {
            return Err(ConfigError::Change(
                "of the history at least one change and one day are kept".to_owned(),
            ));
        }
        Ok(())
    }
}

/// What a step of trimming did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Changes that went.
    pub removed: usize,
    /// It goes on behind this value; nothing: all was looked at.
    pub next: Option<Path>,
}

/// How far the steps of those who write are.
#[derive(Debug, Default)]
pub(super) struct Round {
    changes: u32,
    after: Option<Path>,
    /// What the clock said at the last step. It may be wrong for a moment, so age is not measured by what it says for the first time.
    clock: Option<u64>,
}

impl Config {
    /// Leaves out of the history what the rules do not keep: one step, from behind a value on.
    pub async fn trim(
        &self,
        asker: Asker<'_>,
        place: &Place,
        after: Option<&Path>,
    ) -> Result<Trimmed, ConfigError> {
        asker.require_all(Verb::Grant, place)?;
        if let Some(after) = after.filter(|after| !place.covers(after)) {
            return Err(ConfigError::Change(format!("`{after}` is not in `{place}`")));
        }
        self.refresh().await?;
        self.trim_step(place, after, self.millis()).await
    }

    /// Each so many changes, a step of trimming. It is no part of the change, which has succeeded: what fails is tried again.
    /// Where the backend lets this machine into some places alone, at least what was just changed is trimmed.
    pub(super) async fn tidy_now_and_then(&self, changed: &[Path]) {
        let now = self.millis();
        let (after, clock) = {
            let mut round = self.tidying.lock().unwrap_or_else(PoisonError::into_inner);
            round.changes += 1;
            if round.changes < EACH {
                return;
            }
            round.changes = 0;
            let clock = round.clock.replace(now).map_or(0, |before| before.min(now));
            (round.after.clone(), clock)
        };
        let next = self.trim_step(&Place::all(), after.as_ref(), clock).await;
        if next.is_err() {
            for path in changed {
                // As above: the next who writes tries again.
                drop(self.trim_step(&path.clone().into(), None, clock).await);
            }
        }
        let mut round = self.tidying.lock().unwrap_or_else(PoisonError::into_inner);
        round.after = next.ok().and_then(|trimmed| trimmed.next);
    }

    /// `now` is what age is measured by, milliseconds since 1970.
    async fn trim_step(&self, place: &Place, after: Option<&Path>, now: u64) -> Result<Trimmed, ConfigError> {
        let book = self.book().1;
        let mut walk = Walk::new(self, place, after);
        let mut trimmed = Trimmed::default();
        let mut of_one = Vec::new();
        let mut gone = Vec::new();
        let mut looked = 0;
        loop {
            let mark = match walk.next().await? {
                Some(Found::Trimmed(_)) => continue,
                Some(Found::Change(mark)) => Some(mark),
                None => None,
            };
            let path = of_one.first().map(|mark: &Mark| mark.path.clone());
            if path.is_some() && path != mark.as_ref().map(|mark| mark.path.clone()) {
                trimmed.removed += self.trim_one(&book, std::mem::take(&mut of_one), now).await?;
                if looked >= STEP && mark.is_some() {
                    trimmed.removed += self.forget_gone(&gone).await?;
                    trimmed.next = path;
                    return Ok(trimmed);
                }
            }
            let Some(mark) = mark else {
                trimmed.removed += self.forget_gone(&gone).await?;
                return Ok(trimmed);
            };
            looked += 1;
            let is_newest = path.as_ref() != Some(&mark.path);
            if is_newest && walk.was_gone(&mark.path) && mark.millis < oldest(&book, &mark.path, now) {
                gone.push((mark.path.clone(), mark.key.clone()));
            }
            of_one.push(mark);
        }
    }

    /// Milliseconds since 1970.
    fn millis(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "milliseconds since 1970"
        )]
        let now = ((self.now)() * 1000.0) as u64;
        now
    }

    /// Of values that went by themselves, nothing stays: going back leaves them alone, so nobody needs to know that they were. Of
    /// those that were once deleted or set so, with the key of their newest change. How many changes went.
    async fn forget_gone(&self, old: &[(Path, String)]) -> Result<usize, ConfigError> {
        let keys: Vec<String> = old
            .iter()
            .flat_map(|(path, newest)| [current(path), newest.clone()])
            .collect();
        let mut gone = Vec::new();
        let mut is_there = false;
        self.read_all(&keys, |at, entry, _| {
            if at % 2 == 0 {
                is_there = entry.is_some();
                return Ok(true);
            }
            let goes = match &entry {
                Some(entry) => stored(entry)?.record.head.ttl.is_some(),
                None => false,
            };
            if let (false, true, Some((path, _))) = (is_there, goes, old.get(at / 2)) {
                gone.push(path);
            }
            Ok(true)
        })
        .await?;
        let mut removed = 0;
        // A guard and a step each, and those of every write.
        let most = (self.backend().limits().ops.min(500)).saturating_sub(4).max(1);
        for paths in gone.chunks(most) {
            // Who sets one of them meanwhile has written its value, or finds its mark gone and looks again.
            let guards = paths.iter().map(|path| Guard::absent(current(path))).collect();
            let history = paths
                .iter()
                .map(|path| Op::Delete(Span::Prefix(format!("h{path}\0"))))
                .collect();
            if self.write(Txn::only_if(guards, history)).await?.succeeded {
                removed += paths.len();
            }
        }
        Ok(removed)
    }

    /// Leaves out what of one value is not kept. Its changes come from the newest to the oldest.
    async fn trim_one(&self, book: &Book, marks: Vec<Mark>, now: u64) -> Result<usize, ConfigError> {
        let Some(path) = marks.first().map(|mark| mark.path.clone()) else {
            return Ok(0);
        };
        let keep = book.keep(&path);
        let oldest = oldest(book, &path, now);
        let mut newer = None;
        let mut kept = 0_u32;
        let mut gone = Vec::new();
        for mark in marks {
            // What was replaced before those days was not true within them.
            let is_old = newer.is_some_and(|newer| newer < oldest);
            newer = Some(mark.millis);
            if kept > 0 && (is_old || kept >= keep.changes) {
                gone.push(mark.key);
            } else {
                kept += 1;
            }
        }
        self.forget(&path, &gone).await?;
        Ok(gone.len())
    }

    /// Takes changes of a value out of the history.
    pub(super) async fn forget(&self, path: &Path, keys: &[String]) -> Result<(), ConfigError> {
        let most = self.backend().limits().ops.min(500) - 1;
        for keys in keys.chunks(most) {
            // The same transaction tells that they are missing.
            let mut then = vec![Op::put(trimmed_key(path), Vec::new())];
            then.extend(keys.iter().map(Op::delete));
            self.write(Txn::always(then)).await?;
        }
        Ok(())
    }
}

/// What was replaced before this is not kept.
fn oldest(book: &Book, path: &Path, now: u64) -> u64 {
    now.saturating_sub(u64::from(book.keep(path).days) * 86_400_000)
}
