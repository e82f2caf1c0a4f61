//! Values that go when nobody keeps them alive.
//!
//! What one change sets with a time to live goes together, with one lease, as with etcd. The time begins anew with each
//! [`Config::keep_alive`]; setting the value again gives it a new lease, or none. A restart of the store gives every lease its
//! whole time again. What went by itself has no line in the history: its last line says that it was to go.

use std::time::Duration;

use upkeep_store::kv::{KvError, LeaseId, Reason};

use super::{Config, path_of};
use crate::{
    entry::Change,
    error::ConfigError,
    rights::{Asker, Verb},
};

/// The longest time to live.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// What a value lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// Keep this alive.
    pub id: LeaseId,
    /// How long it lasts.
    pub ttl: Duration,
}

impl Config {
    /// A lease for what a change sets.
    pub(super) async fn lease_for(&self, change: &Change, ttl: Duration) -> Result<Leased, ConfigError> {
        let fail = |why: String| Err(ConfigError::Change(why));
        if ttl < Duration::from_secs(1) || ttl > LONGEST {
            return fail(format!(
                "a time to live is between a second and {} days",
                LONGEST.as_secs() / 86_400
            ));
        }
        if change.puts.is_empty() {
            return fail("it sets nothing that could go by itself".to_owned());
        }
        let lease = self.backend().grant(Duration::from_secs(ttl.as_secs())).await?;
        Ok(Leased {
            id: lease.id,
            ttl: lease.ttl,
        })
    }

    /// Begins a lease's time anew: for whoever may write all that lives by it.
    pub async fn keep_alive(&self, asker: Asker<'_>, id: LeaseId) -> Result<Leased, ConfigError> {
        let none = |error: KvError| match error.reason {
            Reason::NoLease(_) | Reason::Invalid(_) => ConfigError::NoLease(id),
            _ => error.into(),
        };
        let lease = self.backend().lease(id).await.map_err(none)?;
        let mut is_ours = false;
        for key in lease.keys.iter().filter(|key| key.starts_with("c/")) {
            if !asker.may(Verb::Write, &path_of(key)?) {
                return Err(ConfigError::NoLease(id));
            }
            is_ours = true;
        }
        // One that nothing of ours lives by is nobody's to keep.
        if !is_ours || lease.keys.iter().any(|key| !key.starts_with("c/")) {
            return Err(ConfigError::NoLease(id));
        }
        let lease = self.backend().keep_alive(id).await.map_err(none)?;
        Ok(Leased { id, ttl: lease.ttl })
    }
}
