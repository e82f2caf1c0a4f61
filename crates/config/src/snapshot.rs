//! Values of several places as they are at one moment, secrets revealed: for programs that run by them.

use crate::{
    entry::Entry,
    error::ConfigError,
    path::Place,
    rights::{Asker, Verb},
    shared::{Config, Pages, path_of, stored, within},
};

/// How much of values one snapshot may hold, bytes and values.
pub const SNAPSHOT_MAX: (usize, usize) = (8 << 20, 10_000);

/// All values of some places at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The store's revision.
    pub revision: u64,
    /// By place, as they were asked for; each in order of its paths.
    pub places: Vec<Vec<Entry>>,
}

impl Config {
    /// Reads places, all at one moment, with secrets in clear. It takes the rights to all of each place, whatever is in it.
    pub async fn snapshot(&self, asker: Asker<'_>, places: &[Place]) -> Result<Snapshot, ConfigError> {
        let mut at = None;
        let mut all = Vec::with_capacity(places.len());
        let (mut bytes, mut count) = (0, 0);
        for place in places {
            asker.require_all(Verb::Read, place)?;
            let mut entries = Vec::new();
            let mut pages = Pages::new(self, within('c', place), at);
            loop {
                let page = pages.next().await?;
                at = at.or(Some(pages.revision));
                if page.is_empty() {
                    break;
                }
                for found in &page {
                    let path = path_of(&found.key)?;
                    let stored = stored(found)?;
                    if stored.record.head.sealed.is_some() {
                        asker.require(Verb::Reveal, &path)?;
                    }
                    let entry = self.entry(&path, &stored, true)?;
                    bytes += entry.shown.value().map_or(0, |value| value.bytes.len());
                    count += 1;
                    if bytes > SNAPSHOT_MAX.0 || count > SNAPSHOT_MAX.1 {
                        let (most, values) = SNAPSHOT_MAX;
                        return Err(ConfigError::Change(format!(
                            "`{place}` holds more than {} MiB or {values} values, which is too much for one program",
                            most >> 20
                        )));
                    }
                    entries.push(entry);
                }
            }
            all.push(entries);
        }
        Ok(Snapshot {
            revision: at.unwrap_or_default() + self.offset(),
            places: all,
        })
    }
}
