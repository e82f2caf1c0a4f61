//! Sealing anew what is sealed.

use upkeep_store::kv::Range;

use super::{
    Attempt, Config, Leave, Order, Seen, Step, TRIES, bound, current,
    pages::{Found, Pages, Walk},
    path_of, stored, within,
};
use crate::{
    error::ConfigError,
    path::{Path, Place},
    record::Content,
    rights::{Asker, Verb},
    seal::Sealed,
};

/// Failures that are told one by one.
const FAILURES: usize = 100;

/// What sealing anew did. What is not named here was none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Sealed for those who are recipients now.
    pub done: Vec<Path>,
    /// Not sealed anew, and why; the first hundred.
    pub failed: Vec<(Path, String)>,
    /// How many were not, in all.
    pub failures: usize,
    /// Seals of the past that were taken out of the history.
    pub forgotten: usize,
}

/// What is to be sealed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reseal {
    /// With new data keys, which takes this machine's key for each; else the data keys are given to the new recipients.
    pub anew: bool,
    /// What is sealed for others in the history goes (with `anew`: all secrets of the past). Going back to it is not possible
    /// any more.
    pub history: bool,
    /// Only tell which.
    pub dry_run: bool,
}

impl Config {
    /// Seals the secrets of a place for those who are its recipients now. One that cannot be sealed does not keep the others
    /// from it.
    pub async fn reseal(
        &self,
        asker: Asker<'_>,
        place: &Place,
        how: Reseal,
    ) -> Result<Resealed, ConfigError> {
        asker.require_all(Verb::Grant, place)?;
        let mut told = Resealed::default();
        let mut pages = Pages::new(self, within('c', place), None);
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                break;
            }
            for entry in page {
                let Ok(path) = path_of(&entry.key) else { continue };
                let is_secret =
                    stored(&entry).is_ok_and(|stored| matches!(stored.record.content(), Content::Secret(..)));
                if !is_secret {
                    continue;
                }
                let done = if how.dry_run {
                    Ok(true)
                } else {
                    self.reseal_one(asker, &path, how.anew).await
                };
                match done {
                    Ok(true) => told.done.push(path),
                    Ok(false) => {}
                    Err(error) => {
                        told.failures += 1;
                        if told.failed.len() < FAILURES {
                            told.failed.push((path, error.to_string()));
                        }
                    }
                }
            }
        }
        if how.history {
            self.reseal_history(place, how, &mut told).await?;
        }
        Ok(told)
    }

    /// Takes old seals out of the history. What stands now, the newest change of each value, stays.
    async fn reseal_history(
        &self,
        place: &Place,
        how: Reseal,
        told: &mut Resealed,
    ) -> Result<(), ConfigError> {
        self.refresh().await?;
        let book = self.book().1;
        let mut walk = Walk::new(self, place, None);
        let mut newest: Option<Path> = None;
        let mut batch: Vec<(Path, String)> = Vec::new();
        loop {
            let found = walk.next().await?;
            let is_end = found.is_none();
            if let Some(Found::Change(mark)) = found {
                if newest.as_ref() == Some(&mark.path) {
                    batch.push((mark.path, mark.key));
                } else {
                    newest = Some(mark.path);
                }
            }
            if is_end && batch.is_empty() {
                return Ok(());
            }
            if !is_end && batch.len() < 200 {
                continue;
            }
            let keys: Vec<String> = batch.iter().map(|(_, key)| key.clone()).collect();
            let mut old: Vec<(Path, String)> = Vec::new();
            self.read_all(&keys, |at, entry, _| {
                let (Some(entry), Some((path, key))) = (entry, batch.get(at)) else {
                    return Ok(true);
                };
                if let Content::Secret(_, sealed) = stored(&entry)?.record.content()
                    && (how.anew || sealed.recipients() != self.recipients(&book, path))
                {
                    old.push((path.clone(), key.clone()));
                }
                Ok(true)
            })
            .await?;
            for (path, key) in old {
                if !how.dry_run {
                    self.forget(&path, &[key]).await?;
                }
                told.forgotten += 1;
            }
            batch.clear();
        }
    }

    /// Seals one value for those who are its recipients now; whether it is a secret.
    async fn reseal_one(&self, asker: Asker<'_>, path: &Path, anew: bool) -> Result<bool, ConfigError> {
        for _ in 0..TRIES {
            self.refresh().await?;
            let held = self.book();
            let ranged = self.backend().range(Range::one(current(path))).await?;
            let Some(entry) = ranged.entries.first() else {
                return Ok(false);
            };
            let Content::Secret(kind, sealed) = stored(entry)?.record.content() else {
                return Ok(false);
            };
            let recipients = self.recipients(&held.1, path);
            let fail = |why| ConfigError::Seal {
                what: "seal anew",
                path: path.clone(),
                why,
            };
            if entry.lease.is_some() {
                return Err(ConfigError::Change(
                    "it goes by itself; whoever sets it next seals it for those of today".to_owned(),
                ));
            }
            let sealed = if anew {
                let clear = sealed.open(&bound(path, kind), &self.identities).map_err(fail)?;
                Sealed::seal(&clear, &bound(path, kind), &recipients).map_err(fail)?
            } else {
                sealed.rewrap(&self.identities, &recipients).map_err(fail)?
            };
            let step = Step {
                path: path.clone(),
                content: Content::Secret(kind, sealed),
                seen: Seen {
                    at: ranged.revision,
                    modified: entry.modified,
                    gone: 0,
                },
                before: None,
                clear: None,
                is_named: true,
            };
            let order = Order {
                why: Some("sealed anew"),
                leave: Leave::Exempt,
                ..Order::of(asker, held)
            };
            // Else somebody wrote it, or the rules are others by now: it is looked at again.
            if let Attempt::Done(_) = self.carry_out(order, vec![step]).await? {
                return Ok(true);
            }
        }
        Err(ConfigError::Busy(path.clone().into()))
    }
}
