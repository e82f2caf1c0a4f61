//! What `m/store` says of a store, and that no change is made in one that was moved away.
//!
//! Every change is guarded by the revision of `m/store` and by the absence of `m/moving`. While a migration takes its last
//! steps, `m/moving` is there (with a lease: it goes when whoever migrates dies), and changes wait. Once a store is moved,
//! `m/store` says so, and every change of it is refused, also by machines that have not heard of it.

use std::sync::Arc;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use upkeep_store::kv::{
    Answered, Change, Done, Guard, KeyValue, Kv, Op, Range, Span, Txn, Watch, WatchEvent,
};

use crate::{
    error::ConfigError,
    shared::{Config, damaged},
};

pub(crate) const STORE: &str = "m/store";
pub(crate) const MOVING: &str = "m/moving";

/// The format of all this.
pub(crate) const FORMAT: u32 = 1;

/// How often a change waits for a migration that does not end.
const WAITS: usize = 3;

/// What `m/store` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreHead {
    pub(crate) format: u32,
    /// Added to the backend's revisions.
    pub(crate) offset: u64,
    /// The newest revision of the store that all this came from. The history tells of what was until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<u64>,
    /// The migration that copies into it: not to be used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filling: Option<String>,
    /// Where everything has gone: not to be used any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moved: Option<Moved>,
}

/// Where a store has gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// Names the migration.
    pub(crate) id: String,
    /// For people.
    pub(crate) to: String,
    /// When, Unix seconds.
    pub(crate) at: u64,
}

impl StoreHead {
    pub(crate) fn read(entry: &KeyValue) -> Result<Self, ConfigError> {
        serde_json::from_slice(&entry.value).map_err(|error| damaged(STORE, error))
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>, ConfigError> {
        serde_json::to_vec(self).map_err(|error| damaged(STORE, error))
    }

    /// Refuses a store that is not to be used.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.format != FORMAT {
            let why = format!("it is of format {}, this program knows {FORMAT}", self.format);
            return Err(damaged(STORE, why));
        }
        if let Some(moved) = &self.moved {
            return Err(moved.error());
        }
        match &self.filling {
            None => Ok(()),
            Some(id) => Err(ConfigError::Filling(id.clone())),
        }
    }
}

impl Moved {
    fn error(&self) -> ConfigError {
        ConfigError::Moved {
            id: self.id.clone(),
            to: self.to.clone(),
        }
    }
}

/// What a backend says of itself, with the revision of that; begins a store where there is none.
pub(crate) async fn read_or_begin(kv: &Arc<dyn Kv>) -> Result<(StoreHead, u64), ConfigError> {
    // Who may only read finds it, too.
    let found = |entry: &KeyValue| Ok((StoreHead::read(entry)?, entry.modified));
    if let Some(entry) = kv.range(Range::one(STORE)).await?.entries.first() {
        return found(entry);
    }
    let first = StoreHead {
        format: FORMAT,
        ..StoreHead::default()
    };
    let begin = Txn {
        guards: vec![Guard::absent(STORE)],
        then: vec![Op::put(STORE, first.bytes()?)],
        otherwise: vec![Op::get(STORE)],
        with_previous: false,
    };
    let answered = kv.txn(begin).await?;
    match answered.results.first() {
        Some(Done::Got(got)) => match got.entries.first() {
            Some(entry) => found(entry),
            None => Err(damaged(STORE, "it comes and goes")),
        },
        _ => Ok((first, answered.revision)),
    }
}

impl Config {
    /// Carries out a transaction that changes something, if this is still the store to be changed. Waits for the end of a
    /// migration's last steps.
    pub(crate) async fn write(&self, mut txn: Txn) -> Result<Answered, ConfigError> {
        txn.guards.push(Guard::unchanged(STORE, self.began));
        txn.guards.push(Guard::absent(MOVING));
        txn.otherwise.push(Op::get(STORE));
        txn.otherwise.push(Op::get(MOVING));
        for _ in 0..WAITS {
            let mut answered = if self.backend().is_remote() {
                self.group.txn(self.backend(), txn.clone()).await?
            } else {
                self.backend().txn(txn.clone()).await?
            };
            if answered.succeeded {
                return Ok(answered);
            }
            let mut last = || match answered.results.pop() {
                Some(Done::Got(got)) => got.entries.into_iter().next(),
                _ => None,
            };
            let (moving, store) = (last(), last());
            match store {
                Some(entry) if entry.modified == self.began => {}
                Some(entry) => {
                    StoreHead::read(&entry)?.check()?;
                    return Err(damaged(STORE, "it was replaced while it was in use"));
                }
                None => return Err(damaged(STORE, "it is gone")),
            }
            if moving.is_none() {
                return Ok(answered);
            }
            self.moved_on(answered.revision).await?;
        }
        Err(ConfigError::Moving)
    }

    /// Waits until `m/moving`, which was there at a revision, is gone.
    async fn moved_on(&self, revision: u64) -> Result<(), ConfigError> {
        let mut watch = self
            .backend()
            .watch(Watch::new(Span::One(MOVING.to_owned())).from(revision + 1));
        while let Some(event) = watch.next().await {
            match event? {
                WatchEvent::Changes { changes, .. }
                    if changes
                        .iter()
                        .any(|change| matches!(change, Change::Delete { .. })) =>
                {
                    return Ok(());
                }
                WatchEvent::Compacted { .. } => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }
}
