//! Looking after an etcd cluster (the file of this machine: [`care_file`](super::care_file)): compaction, defragmentation, a warning before the quota is reached.
//!
//! Of all machines that share it one does this at a time: whoever holds `m/keeper`, by a lease. What was done, when and by
//! whom stands in `m/care`, so that whoever comes next goes on from there. A machine that may not write these keys (etcd lets
//! it use some places only) leaves it to others.
//!
//! - **Compaction** forgets what was superseded longer than `keep_for` ago, or lies more than `keep_revisions` back. The
//!   history of values is made of keys of its own and stays.
//! - **Defragmentation** blocks a member, so it is done only when it pays ([`pays`]), to one member after the other, the
//!   leader last, and only while all members are well.
//! - **Before the quota** is reached there is an event, once until it is well below again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use upkeep_api::config_store::{Compaction, Defragmentation, StoreCare};
use upkeep_config::machines::CARE;
use upkeep_etcd::Etcd;
use upkeep_model::{settings::EtcdStore, size::Span};
use upkeep_store::kv::{AlarmKind, Guard, Kv, KvError, LeaseId, Member, Op, Range, Reason, Txn};

use super::{Configuration, Opened};
use crate::{events, main_loop::note};

/// Held by whoever looks after the cluster.
const KEEPER: &str = "m/keeper";
/// Whoever holds it and dies lets go after this.
const LEASE: Duration = Duration::from_mins(1);
/// How often is looked.
const ROUND: Duration = Duration::from_secs(10);
/// Points in time of which the revision is kept, so that an age can be told in revisions.
const SAMPLES: usize = 48;
/// A member is not defragmented more often.
const DEFRAGMENT_EVERY: f64 = 3600.0;
/// Smaller files are left alone.
const SMALL: u64 = 64 << 20;
/// In use above this share of the quota: a warning; below the other: the next one may come.
const WARN: f64 = 0.8;
const CALM: f64 = 0.7;

/// What stands in `m/care`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Log {
    /// When the store was at which revision, the oldest first.
    pub(super) samples: Vec<(f64, u64)>,
    pub(super) compacted: Option<Compaction>,
    pub(super) defragmented: Vec<Defragmentation>,
    pub(super) warned: bool,
}

/// How long superseded revisions are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping {
    /// Seconds.
    span: f64,
    revisions: u64,
}

impl Keeping {
    pub(super) fn new(span: Span, revisions: u64) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a span of at most a year in milliseconds"
        )]
        let span = span.as_millis() as f64 / 1000.0;
        Self { span, revisions }
    }
}

/// What this machine knows of it, for the status.
#[derive(Debug, Default)]
pub(super) struct Seen {
    held: Mutex<Option<String>>,
}

impl Seen {
    pub(super) fn set(&self, why: Option<String>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) fn not_here(&self) -> Option<String> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a member's file is worth the time for which it answers nobody.
fn pays(disk: u64, used: u64, quota: u64) -> bool {
    let free = disk.saturating_sub(used);
    free * 10 >= disk * 3 && (disk >= SMALL || disk * 2 >= quota)
}

/// What can be forgotten now: the newest revision that is older than `keep_for`, and the one that is further back than
/// `keep_revisions`.
fn forgettable(samples: &[(f64, u64)], now: f64, revision: u64, keeping: Keeping) -> (u64, u64) {
    let by_age = samples
        .iter()
        .rev()
        .find(|(when, _)| *when <= now - keeping.span)
        .map_or(0, |(_, revision)| *revision);
    (by_age, revision.saturating_sub(keeping.revisions))
}

/// How a store stands when it is looked after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) now: f64,
    pub(super) revision: u64,
    pub(super) oldest: Option<u64>,
    /// The revision at which the log of this was written last; 0: never.
    pub(super) written: u64,
}

impl Standing {
    /// Whether others have written anything since.
    fn is_news(self) -> bool {
        self.revision > self.written
    }
}

impl Log {
    /// Remembers that the store was at this revision. What only this log has added says nothing.
    pub(super) fn sample(&mut self, at: Standing) {
        if at.is_news() && self.samples.last().is_none_or(|(_, last)| *last < at.revision) {
            self.samples.push((at.now, at.revision));
            let more = self.samples.len().saturating_sub(SAMPLES);
            self.samples.drain(..more);
        }
    }
}

/// Has a store forget what can be forgotten.
pub(super) async fn compact(
    kv: &dyn Kv,
    keeping: Keeping,
    by: &str,
    log: &mut Log,
    at: Standing,
) -> Result<(), KvError> {
    let every = keeping.span / 24.0;
    if log.samples.last().is_none_or(|(last, _)| at.now - last >= every) {
        log.sample(at);
    }
    let (by_age, by_count) = forgettable(&log.samples, at.now, at.revision, keeping);
    let to = by_age.max(by_count);
    let done = log.compacted.as_ref().map_or(0, |done| done.revision);
    let done = done.max(at.oldest.unwrap_or(0));
    // Little by little costs more than it gives; but where nothing more comes, what is little goes as well.
    let step = (keeping.revisions / 10).clamp(10, 10_000);
    if to < done + step && (at.is_news() || by_age <= done) {
        return Ok(());
    }
    match kv.compact(to).await {
        Ok(()) => {
            log.compacted = Some(Compaction {
                revision: to,
                at: at.now,
                by: by.to_owned(),
            });
            Ok(())
        }
        // Others have compacted it further.
        Err(error) if matches!(error.reason, Reason::Compacted { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Looks after one cluster for as long as it is in use.
pub(super) struct Carer {
    pub(super) etcd: Etcd,
    pub(super) at: EtcdStore,
    /// This machine.
    pub(super) name: String,
    pub(super) seen: Arc<Seen>,
}

impl Carer {
    /// Never ends.
    pub(super) async fn run(self, config: &Configuration) {
        let mut lease = None;
        let mut told = false;
        loop {
            if self.at.care == Some(false) {
                self.seen
                    .set(Some("the settings say so (`care: false`)".to_owned()));
                std::future::pending::<()>().await;
            }
            let (held, why) = match self.hold(lease).await {
                Ok(held) => (held, None),
                Err(error) => {
                    let is_denied = matches!(error.reason, Reason::Denied(_));
                    if !std::mem::replace(&mut told, true) && !is_denied {
                        note(&format!(
                            "the store of the configuration is not looked after: {error}"
                        ));
                    }
                    (None, Some(error.to_string()))
                }
            };
            lease = held;
            self.seen.set(why);
            if lease.is_some() {
                told = false;
                if let Err(error) = self.round(config, lease).await {
                    self.seen.set(Some(error.to_string()));
                    note(&format!(
                        "the store of the configuration is not looked after: {error}"
                    ));
                }
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Keeps what is held, or takes it if nobody has it.
    async fn hold(&self, lease: Option<LeaseId>) -> Result<Option<LeaseId>, KvError> {
        if let Some(lease) = lease
            && self.etcd.keep_alive(lease).await.is_ok()
        {
            return Ok(Some(lease));
        }
        if !self.etcd.range(Range::one(KEEPER)).await?.entries.is_empty() {
            return Ok(None);
        }
        let lease = self.etcd.grant(LEASE).await?.id;
        let take = Op::Put {
            key: KEEPER.to_owned(),
            value: self.name.clone().into_bytes(),
            lease: Some(lease),
        };
        let txn = Txn::only_if(vec![Guard::absent(KEEPER)], vec![take]);
        let taken = self.etcd.txn(txn).await;
        if taken.as_ref().is_ok_and(|answered| answered.succeeded) {
            return Ok(Some(lease));
        }
        // It ends by itself as well.
        let _ = self.etcd.revoke(lease).await;
        taken.map(|_| None)
    }

    async fn round(&self, config: &Configuration, lease: Option<LeaseId>) -> Result<(), KvError> {
        let (mut log, known) = read(&self.etcd).await?;
        let before = log.clone();
        let status = self.etcd.status().await?;
        let now = events::now();
        let keeping = Keeping::new(self.at.keep_for(), self.at.keep_revisions());
        let at = Standing {
            now,
            revision: status.revision,
            oldest: status.oldest,
            written: known,
        };
        compact(&self.etcd, keeping, &self.name, &mut log, at).await?;
        let quota = status.quota.unwrap_or_else(|| self.at.quota());
        let is_full = status.alarms.iter().any(|alarm| alarm.kind == AlarmKind::NoSpace);
        self.warn(config, &mut log, status.bytes_in_use, quota, is_full)
            .await;
        let well = status.members.iter().all(|member| member.health.is_ok());
        let mut members: Vec<&Member> = status.members.iter().collect();
        members.sort_by_key(|member| Some(member.id) == status.leader);
        for member in members {
            let Ok(health) = &member.health else { continue };
            let last = log.defragmented.iter().find(|done| done.member == member.name);
            let is_due = last.is_none_or(|done| now - done.at >= DEFRAGMENT_EVERY);
            if !well || !is_due || !pays(health.bytes_on_disk, health.bytes_in_use, quota) {
                continue;
            }
            self.while_held(lease, self.etcd.defragment_one(member))
                .await
                .map_err(|why| {
                    KvError::new(format!("defragment `{}`", member.name), Reason::Unavailable(why))
                })?;
            let after = self.etcd.status().await?;
            let size = after
                .members
                .iter()
                .find(|one| one.id == member.id)
                .and_then(|one| one.health.as_ref().ok())
                .map_or(0, |health| health.bytes_on_disk);
            log.defragmented.retain(|done| done.member != member.name);
            log.defragmented.push(Defragmentation {
                member: member.name.clone(),
                at: events::now(),
                by: self.name.clone(),
                before_bytes: health.bytes_on_disk,
                after_bytes: size,
            });
        }
        if is_full {
            let after = self.etcd.status().await?;
            if after.bytes_on_disk < quota {
                self.etcd.clear_no_space().await?;
            }
        }
        if log == before {
            return Ok(());
        }
        log.sample(at);
        let bytes = serde_json::to_vec(&log).unwrap_or_default();
        let txn = Txn::only_if(vec![Guard::unchanged(CARE, known)], vec![Op::put(CARE, bytes)]);
        match self.etcd.txn(txn).await {
            // It is what fills the store that is in the way; the next round writes it.
            Err(error) if is_full && matches!(error.reason, Reason::NoSpace { .. }) => Ok(()),
            done => done.map(drop),
        }
    }

    /// Keeps the lease while something takes long.
    async fn while_held<T>(&self, lease: Option<LeaseId>, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                // Cancel-safe: it only waits.
                () = tokio::time::sleep(LEASE / 3) => if let Some(lease) = lease {
                    // If it is lost, the next round finds out.
                    let _ = self.etcd.keep_alive(lease).await;
                },
            }
        }
    }

    async fn warn(&self, config: &Configuration, log: &mut Log, used: u64, quota: u64, is_full: bool) {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = used as f64 / quota.max(1) as f64;
        if (share >= WARN || is_full) && !log.warned {
            log.warned = true;
            let why = if is_full {
                format!("etcd refuses writes: {used} of {quota} bytes are in use")
            } else {
                format!("{used} of {quota} bytes are in use; at the quota etcd refuses writes")
            };
            config.tell_store("config.store_full", why).await;
        } else if share < CALM && !is_full {
            log.warned = false;
        }
    }
}

pub(super) async fn read(kv: &dyn Kv) -> Result<(Log, u64), KvError> {
    let found = kv.range(Range::one(CARE)).await?;
    Ok(match found.entries.first() {
        // What cannot be read is begun anew.
        Some(entry) => (
            serde_json::from_slice(&entry.value).unwrap_or_default(),
            entry.modified,
        ),
        None => (Log::default(), 0),
    })
}

/// Who looks after it, and what was done last, for the status.
pub(super) async fn view(opened: &Opened, seen: &Seen) -> StoreCare {
    let kv = opened.config.backend().as_ref();
    let by = if opened.etcd.is_some() {
        let found = kv.range(Range::one(KEEPER)).await.ok();
        let held = found.and_then(|found| found.entries.into_iter().next());
        held.map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    } else {
        // Nobody else can.
        Some(opened.machine.name.clone())
    };
    let log = read(kv).await.map(|(log, _)| log).unwrap_or_default();
    StoreCare {
        by,
        not_here: seen.not_here(),
        compacted: log.compacted.map(|done| Compaction {
            revision: done.revision + opened.config.offset(),
            ..done
        }),
        defragmented: log.defragmented,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(keep_revisions: u64) -> Keeping {
        Keeping::new(Span::from_secs(3600), keep_revisions)
    }

    #[test]
    fn what_is_old_or_far_back_is_forgotten() {
        let samples = [(0.0, 10), (1800.0, 20), (3600.0, 30)];
        assert_eq!(forgettable(&samples, 3599.0, 40, at(1000)), (0, 0));
        assert_eq!(forgettable(&samples, 3600.0, 40, at(1000)), (10, 0));
        assert_eq!(forgettable(&samples, 7200.0, 40, at(1000)), (30, 0));
        assert_eq!(forgettable(&[], 7200.0, 1500, at(1000)), (0, 500));
        assert_eq!(forgettable(&samples, 7200.0, 1500, at(1000)), (30, 500));
    }

    #[test]
    fn defragmentation_pays_where_much_is_free_and_it_matters() {
        const MIB: u64 = 1 << 20;
        for (disk, used, quota, expected) in [
            (100, 50, 2048, true),
            (100, 71, 2048, false),
            (20, 1, 2048, false),
            (20, 1, 32, true),
            (0, 0, 32, false),
        ] {
            assert_eq!(
                pays(disk * MIB, used * MIB, quota * MIB),
                expected,
                "{disk} {used} {quota}"
            );
        }
    }
}
