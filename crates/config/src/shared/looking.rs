//! What there is of what a change is about, read at one moment.

use std::collections::BTreeMap;

use upkeep_store::kv::{Done, Op, Txn};

use super::{
    Config, Stored, current,
    pages::{Pages, gone_key},
    path_of, stored, within,
};
use crate::{entry::Change, error::ConfigError, path::Path};

/// What is deleted is told of: so many bytes of it are read.
const REMOVED_BYTES: usize = 16 << 20;

/// What there is of what a change is about.
pub(super) struct Looked {
    pub(super) found: BTreeMap<Path, Stored>,
    /// By key, when values were deleted.
    pub(super) gone: BTreeMap<String, u64>,
    /// The backend's, at which it was so.
    pub(super) revision: u64,
    /// It is what was written last, and may be no more.
    pub(super) is_memory: bool,
}

impl Config {
    /// Reads what is there.
    pub(super) async fn look(&self, change: &Change) -> Result<Looked, ConfigError> {
        let gets = change
            .puts
            .iter()
            .flat_map(|put| [Op::get(current(&put.path)), Op::get(gone_key(&put.path))]);
        let gets: Vec<Op> = gets.collect();
        let mut found: BTreeMap<Path, Stored> = BTreeMap::new();
        let mut gone: BTreeMap<String, u64> = BTreeMap::new();
        let mut at = None;
        if !gets.is_empty() {
            let answered = self.backend().txn(Txn::always(gets)).await?;
            at = Some(answered.revision);
            for done in &answered.results {
                let Done::Got(got) = done else { continue };
                for entry in &got.entries {
                    if entry.key.starts_with('h') {
                        gone.insert(entry.key.clone(), entry.modified);
                    } else {
                        found.insert(path_of(&entry.key)?, stored(entry)?);
                    }
                }
            }
        }
        // All of it of one moment.
        let mut bytes = 0;
        for removal in &change.removals {
            let mut pages = Pages::new(self, within('c', &removal.place), at);
            loop {
                let page = pages.next().await?;
                at = at.or(Some(pages.revision));
                if page.is_empty() {
                    break;
                }
                bytes += page.iter().map(|entry| entry.value.len()).sum::<usize>();
                if bytes > REMOVED_BYTES {
                    return Err(ConfigError::Change(format!(
                        "the values that it deletes have more than {} MiB in all; delete them in parts",
                        REMOVED_BYTES >> 20
                    )));
                }
                for entry in &page {
                    found.insert(path_of(&entry.key)?, stored(entry)?);
                }
            }
        }
        Ok(Looked {
            found,
            gone,
            revision: at.unwrap_or(0),
            is_memory: false,
        })
    }
}
