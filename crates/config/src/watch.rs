//! Being told of changes, each once and in order, of what one may watch.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{
    StreamExt as _, TryStreamExt as _, future,
    stream::{self, BoxStream},
};
use upkeep_store::kv::{Change, Range, Watch, WatchEvent};

use crate::{
    entry::{By, Shown},
    error::ConfigError,
    head::STORE,
    path::{Path, Place},
    record::Record,
    rights::{Rights, Verb},
    shared::{Config, LATELY, Walk, by, damaged, masked, past_of, path_of, within},
};

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// All that one change did to what is watched.
    Changes {
        /// Its revision.
        revision: u64,
        /// In order of the change; a path occurs once.
        changes: Vec<ToldChange>,
    },
    /// Everything up to this revision has been told. The first item is one; then they are heartbeats.
    Progress {
        /// Watch on from the next.
        revision: u64,
    },
    /// The reader is slow: it is so many revisions behind. Nothing is lost.
    Lagging {
        /// How many.
        behind: u64,
    },
    /// What should come next is forgotten: read anew, and watch from behind that. The last item.
    Compacted {
        /// The oldest revision that can be watched from.
        oldest: u64,
    },
}

/// A change of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldChange {
    /// Which.
    pub path: Path,
    /// As it is; absent: it was deleted. Secrets are masked.
    pub shown: Option<Shown>,
    /// Who, when, why; of a deletion the history tells.
    pub by: Option<By>,
}

impl Config {
    /// Tells of every change of a place from a revision on (inclusive), or from now on: of the values that `rights` let watch
    /// and read. It ends after an error and after [`Told::Compacted`]; to whoever may not read the history of the place, all is
    /// compacted that was neither told nor changed within the last minutes.
    pub fn watch(
        &self,
        rights: Arc<dyn Rights>,
        place: &Place,
        from: Option<u64>,
    ) -> BoxStream<'static, Result<Told, ConfigError>> {
        let offset = self.offset();
        let place = self.narrowed(place).clone();
        // What was told by the store that this one was filled from is told out of the history; filling it is not told.
        let begin = self.began + offset;
        let may_look_back = match place.as_path() {
            Some(path) => rights.may(Verb::History, &path),
            None => rights.may_all(Verb::History, &place),
        };
        let replay = match (from, self.before) {
            (Some(from), Some(before)) if from <= before && may_look_back => Some((from, before)),
            _ => None,
        };
        let asked = from;
        let from = match self.before {
            Some(_) => from.map(|from| from.max(begin + 1)),
            None => from,
        };
        let watch = Watch {
            // What is older than this store cannot be told from it: its first revision is what is compacted.
            from: from.map(|from| from.saturating_sub(offset).max(1)),
            ..Watch::new(within('c', &place))
        };
        let kv = Arc::clone(self.backend());
        let earlier = self.replayed(Arc::clone(&rights), place, replay);
        let (lately, now) = (Arc::clone(&self.lately), self.now);
        let events = stream::once(async move {
            // What is before this is the past, if one may not look back.
            let mut past = None;
            // A revision that is not there yet would be waited for without a word.
            if let Some(asked) = asked {
                let current = kv.range(Range::one(STORE)).await?.revision + offset;
                if asked > current.saturating_add(1) {
                    return Err(ConfigError::Future { asked, current });
                }
                lately.saw(now(), current);
                let oldest = lately.oldest(now()).unwrap_or(current);
                if asked < oldest && !may_look_back {
                    past = Some(current);
                }
            }
            let events = kv.watch(watch).map_err(ConfigError::from);
            Ok(events.map_ok(move |event| (event, past)))
        })
        .try_flatten();
        let lately = Arc::clone(&self.lately);
        let told = events.map(move |event| {
            let (event, past) = event?;
            if let (WatchEvent::Changes { revision, changes }, Some(past)) = (&event, past)
                && revision + offset <= past
                && !changes.iter().all(|change| is_of_late(change, now()))
            {
                return Ok(Told::Compacted { oldest: past });
            }
            if let WatchEvent::Progress { revision } | WatchEvent::Changes { revision, .. } = &event {
                lately.saw(now(), revision + offset);
            }
            let told = match event {
                WatchEvent::Changes { revision, changes } => {
                    let changes = changes
                        .into_iter()
                        .filter_map(|change| told(change, rights.as_ref()).transpose())
                        .collect::<Result<Vec<_>, _>>()?;
                    Told::Changes {
                        revision: revision + offset,
                        changes,
                    }
                }
                WatchEvent::Progress { revision } => Told::Progress {
                    revision: revision + offset,
                },
                WatchEvent::Lagging { behind } => Told::Lagging { behind },
                WatchEvent::Compacted { oldest } => Told::Compacted {
                    oldest: oldest + offset,
                },
            };
            Ok(told)
        });
        let told = told.scan(false, |is_over, told| {
            let item = (!*is_over).then_some(told);
            *is_over = matches!(item, Some(Ok(Told::Compacted { .. }) | Err(_)));
            future::ready(item)
        });
        // What nobody may see is not even told to have been.
        let told = told.filter(|told| {
            future::ready(!matches!(told, Ok(Told::Changes { changes, .. }) if changes.is_empty()))
        });
        earlier.chain(told).boxed()
    }

    /// What the history tells of two revisions and all between them.
    fn replayed(
        &self,
        rights: Arc<dyn Rights>,
        place: Place,
        between: Option<(u64, u64)>,
    ) -> BoxStream<'static, Result<Told, ConfigError>> {
        let Some((from, to)) = between else {
            return stream::empty().boxed();
        };
        let kv = Arc::clone(self.backend());
        let walk = Walk::new(self, &place, None);
        let told = async move {
            let may = |path: &Path| rights.may(Verb::Watch, path) && rights.may(Verb::Read, path);
            let past = match past_of(&kv, walk, (from, to), may).await {
                Ok(Some(past)) => past,
                // Too much to be told again, or the history does not know all of it: whoever asked reads anew.
                Ok(None) => return vec![Ok(Told::Compacted { oldest: to + 1 })],
                Err(error) => return vec![Err(error)],
            };
            let mut by_revision: BTreeMap<u64, Vec<ToldChange>> = BTreeMap::new();
            for (mark, stored) in past {
                let shown = masked(&stored.record.content());
                by_revision.entry(mark.revision).or_default().push(ToldChange {
                    path: mark.path,
                    by: shown.is_some().then_some(by(&stored.record)),
                    shown,
                });
            }
            let begin = Told::Progress {
                revision: from.saturating_sub(1),
            };
            let changes = by_revision.into_iter().map(|(revision, mut changes)| {
                changes.sort_by(|a, b| a.path.cmp(&b.path));
                Told::Changes { revision, changes }
            });
            std::iter::once(begin).chain(changes).map(Ok).collect()
        };
        stream::once(told).flat_map(stream::iter).boxed()
    }
}

/// Whether a change says that it was made within the last minutes. A deletion says nothing of that.
fn is_of_late(change: &Change, now: f64) -> bool {
    match change {
        Change::Put { now: entry, .. } => {
            let record = Record::from_bytes(&entry.value);
            record.is_ok_and(|record| (0.0..LATELY).contains(&(now - record.head.at)))
        }
        Change::Delete { .. } => false,
    }
}

fn told(change: Change, rights: &dyn Rights) -> Result<Option<ToldChange>, ConfigError> {
    let path = path_of(change.key())?;
    if !(rights.may(Verb::Watch, &path) && rights.may(Verb::Read, &path)) {
        return Ok(None);
    }
    Ok(Some(match change {
        Change::Put { now, .. } => {
            let record = Record::from_bytes(&now.value).map_err(|why| damaged(&now.key, why))?;
            ToldChange {
                path,
                shown: masked(&record.content()),
                by: Some(by(&record)),
            }
        }
        Change::Delete { .. } => ToldChange {
            path,
            shown: None,
            by: None,
        },
    }))
}
