//! Reading what is there.

use upkeep_store::kv::Range;
use zeroize::Zeroizing;

use super::{
    Config, LISTED_BYTES, LISTED_MAX, Stored, bound, by, current, damaged, masked,
    pages::{Pages, told_of_revision},
    path_of, stored, within,
};
use crate::{
    entry::{Entry, Listing, Shown},
    error::ConfigError,
    path::{Path, Place},
    record::Content,
    rights::{Asker, Verb},
    seal::{SealError, Sealed},
    value::{Kind, Value},
};

impl Config {
    /// One value. `reveal` asks for a secret in clear.
    pub async fn get(&self, asker: Asker<'_>, path: &Path, reveal: bool) -> Result<Entry, ConfigError> {
        asker.require(Verb::Read, path)?;
        let ranged = self.backend().range(Range::one(current(path))).await?;
        let entry = ranged
            .entries
            .first()
            .ok_or_else(|| ConfigError::NotFound(path.clone()))?;
        let stored = stored(entry)?;
        if reveal && stored.record.head.sealed.is_some() {
            asker.require(Verb::Reveal, path)?;
        }
        self.entry(path, &stored, reveal)
    }

    /// The values of a place that the asker may read, at most `limit`, from behind `after`. Secrets are masked.
    pub async fn list(
        &self,
        asker: Asker<'_>,
        place: &Place,
        limit: usize,
        after: Option<&Path>,
    ) -> Result<Listing, ConfigError> {
        self.list_at(asker, place, limit, after, None).await
    }

    /// The same as of a revision: what the first page of a listing says lets the next ones be of the same moment. What was not
    /// told within the last minutes takes the right to read the history of the place.
    pub async fn list_at(
        &self,
        asker: Asker<'_>,
        place: &Place,
        limit: usize,
        after: Option<&Path>,
        at: Option<u64>,
    ) -> Result<Listing, ConfigError> {
        if let Some(after) = after.filter(|after| !place.covers(after)) {
            return Err(ConfigError::Change(format!("`{after}` is not in `{place}`")));
        }
        if let Some(at) = at
            && self.oldest_lately().is_none_or(|oldest| at < oldest)
        {
            asker.require_all(Verb::History, place)?;
        }
        let limit = limit.clamp(1, LISTED_MAX);
        let offset = self.offset();
        let backend = match at {
            // What was before this store cannot be told from it.
            Some(at) if at <= offset => {
                return Err(ConfigError::Compacted {
                    asked: at,
                    oldest: offset + 1,
                });
            }
            at => at.map(|at| at - offset),
        };
        let mut pages = Pages::new(self, within('c', self.narrowed(place)), backend);
        if let Some(after) = after {
            pages.seek(format!("{}\0", current(after)));
        }
        let mut listing = Listing::default();
        let mut bytes = 0;
        loop {
            let page = match pages.next().await {
                Err(ConfigError::Store(error)) => return Err(told_of_revision(error, at, offset)),
                page => page?,
            };
            if listing.revision == 0 {
                // All pages are of one moment.
                listing.revision = at.unwrap_or(pages.revision + offset);
                if at.is_none() {
                    self.saw(listing.revision);
                }
            }
            if page.is_empty() {
                return Ok(listing);
            }
            for entry in &page {
                let path = path_of(&entry.key)?;
                if !asker.may(Verb::Read, &path) {
                    continue;
                }
                let entry = self.entry(&path, &stored(entry)?, false)?;
                bytes += weight(Some(&entry.shown));
                let is_first = listing.entries.is_empty();
                if listing.entries.len() == limit || (bytes > LISTED_BYTES && !is_first) {
                    listing.next = listing.entries.last().map(|entry| entry.path.clone());
                    return Ok(listing);
                }
                listing.entries.push(entry);
            }
        }
    }

    pub(crate) fn entry(&self, path: &Path, stored: &Stored, reveal: bool) -> Result<Entry, ConfigError> {
        let content = stored.record.content();
        let shown = match (&content, reveal) {
            (Content::Secret(kind, sealed), true) => {
                let clear = self.open_secret(path, *kind, sealed)?;
                Shown::Revealed(Value {
                    kind: *kind,
                    bytes: clear.to_vec(),
                })
            }
            _ => masked(&content).ok_or_else(|| damaged(&current(path), "it is a deletion"))?,
        };
        Ok(Entry {
            path: path.clone(),
            shown,
            revision: stored.revision(self.offset()),
            version: stored.version,
            by: by(&stored.record),
        })
    }

    pub(super) fn open_secret(
        &self,
        path: &Path,
        kind: Kind,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
        sealed
            .open(&bound(path, kind), &self.identities)
            .map_err(|why: SealError| ConfigError::Seal {
                what: "open",
                path: path.clone(),
                why,
            })
    }
}

/// About how many bytes of JSON a value makes in an answer, with its path and who wrote it.
pub(crate) fn weight(shown: Option<&Shown>) -> usize {
    let content = match shown {
        Some(Shown::Plain(value) | Shown::Revealed(value)) => match std::str::from_utf8(&value.bytes) {
            Ok(text) => text
                .bytes()
                .map(|byte| match byte {
                    b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
                    byte if byte.is_ascii_control() => 6,
                    _ => 1,
                })
                .sum(),
            Err(_) => value.bytes.len() / 3 * 4,
        },
        Some(Shown::Masked { recipients, .. }) => recipients.iter().map(|one| 100 + one.name.len()).sum(),
        Some(Shown::Hidden) | None => 0,
    };
    content + 400
}
