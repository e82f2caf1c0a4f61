//! Moving all of a store to another backend, while it is in use.
//!
//! ```text
//!  fill     m/store of the target says that it is being filled; all of the source is copied, page by page
//!  follow   what was changed meanwhile is copied, out of the source's log
//!  verify   every key of the two is compared, as of one revision
//!  hold     m/moving: changes wait; what came since is copied and verified; numbers of keys are compared; then what lives by
//!           leases is copied, which would not outlive a long copy: nobody keeps it alive at the target
//!  commit   m/store of the source says where everything has gone, in the transaction that ends the holding
//!  finish   m/store of the target says from which revision it goes on, and that it can be used
//! ```
//!
//! Until the commit the source is in use, whatever happens; from then on the target is, and [`finish`] can be called again by
//! whoever finds a source that is committed. Holding lives by a lease: if whoever migrates dies, changes go on in the source.
//!
//! Revisions go on: the target adds an offset to its own, and what was copied keeps its own in its record. Watches that resume
//! are told by the history what they have missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use ring::digest;
use upkeep_store::kv::{
    Change, Guard, KeyValue, Kv, LeaseId, Limits, Op, Outcome, Range, Reason, Span, Txn, Watch, WatchEvent,
    WatchStream, prefix_end,
};

use crate::{
    error::ConfigError,
    head::{FORMAT, MOVING, Moved, STORE, StoreHead},
    proposals,
    record::Record,
    shared::{Config, current, damaged, is_change, moved_key, path_of},
};

/// So many keys are read at once.
const PAGE: usize = 64;
/// Holding lasts no longer without a sign of life.
const LEASE: Duration = Duration::from_secs(15);
/// Written to find out that all before it was copied.
const MARK: &str = "m/copied";
/// So often what came meanwhile is copied before changes are held.
const ROUNDS: usize = 10;
/// Fewer changes than these are few enough to hold others for.
const FEW: usize = 50;

/// What was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Keys that were copied and compared.
    pub keys: u64,
    /// Of these, those that were changed meanwhile.
    pub followed: u64,
    /// The newest revision of the old store.
    pub revision: u64,
}

/// What stays behind: marks, leases, and what is about one backend only.
fn is_copied(key: &str) -> bool {
    key.starts_with("c/")
        || key.starts_with("h/")
        || key.starts_with("m/fit/")
        || key.starts_with(crate::machines::MACHINES)
        || key == crate::shared::RULES
        || proposals::is_one(key)
}

impl Config {
    /// Copies everything to `target`, verifies it and ends the use of this store. `id` names the migration, `to` tells people
    /// where everything has gone. [`finish`] has to follow.
    pub async fn migrate(&self, target: &Arc<dyn Kv>, id: &str, to: &str) -> Result<Migrated, ConfigError> {
        let mut copy = Copy {
            source: self,
            target,
            filling: begin(target, id).await?,
            limits: target.limits(),
            followed: BTreeSet::new(),
            leased: BTreeMap::new(),
        };
        let at = copy.all().await?;
        let mut log = self.backend().watch(Watch::new(Span::All).from(at + 1));
        let mut reached = at;
        for _ in 0..ROUNDS {
            let mark = self.mark().await?;
            let count = copy.follow(&mut log, mark).await?;
            reached = mark;
            if count <= FEW {
                break;
            }
        }
        copy.verify(reached).await?;
        let before = std::mem::take(&mut copy.followed);
        let lease = self.backend().grant(LEASE).await?.id;
        let committed = self.commit(&mut copy, &mut log, lease, (id, to)).await;
        // It takes m/moving with it, if that is still there.
        let ended = self.backend().revoke(lease).await;
        let (revision, keys) = committed?;
        // The commit has ended the holding already.
        drop(ended);
        Ok(Migrated {
            keys,
            followed: before.union(&copy.followed).count() as u64,
            revision,
        })
    }

    /// How much [`Self::migrate`] would move: nothing is written.
    pub async fn look_at_move(&self) -> Result<Migrated, ConfigError> {
        let mut at = None;
        let mut keys = 0;
        for prefix in ["c/", "h/", "m/"] {
            let mut cursor = Cursor::new(self.backend(), prefix, at);
            while cursor.next().await?.is_some() {
                keys += 1;
            }
            at = cursor.at;
        }
        Ok(Migrated {
            keys,
            followed: 0,
            revision: at.unwrap_or(0) + self.offset(),
        })
    }

    /// Writes what a log is followed to.
    async fn mark(&self) -> Result<u64, ConfigError> {
        let txn = Txn::always(vec![Op::put(MARK, Vec::new())]);
        Ok(self.write(txn).await?.revision)
    }

    /// Holds changes, copies what came last, and ends the use of this store.
    async fn commit(
        &self,
        copy: &mut Copy<'_>,
        log: &mut WatchStream,
        lease: LeaseId,
        (id, to): (&str, &str),
    ) -> Result<(u64, u64), ConfigError> {
        let hold = Op::Put {
            key: MOVING.to_owned(),
            value: id.as_bytes().to_vec(),
            lease: Some(lease),
        };
        let held = self.write(Txn::always(vec![hold])).await?.revision;
        copy.follow(log, held).await?;
        self.backend().keep_alive(lease).await?;
        copy.verify_followed().await?;
        self.backend().keep_alive(lease).await?;
        let keys = copy.verify_count(held).await? + copy.leased(lease).await?;
        self.backend().keep_alive(lease).await?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "seconds since 1970"
        )]
        let at = (self.now)() as u64;
        let head = StoreHead {
            format: FORMAT,
            offset: self.offset(),
            before: self.before,
            filling: None,
            moved: Some(Moved {
                id: id.to_owned(),
                to: to.to_owned(),
                at,
            }),
        };
        let txn = Txn::only_if(
            vec![
                Guard::unchanged(STORE, self.began),
                Guard::unchanged(MOVING, held),
            ],
            vec![
                Op::put(STORE, head.bytes()?),
                Op::delete(MOVING),
                Op::delete(MARK),
            ],
        );
        let done = match self.backend().txn(txn).await {
            Ok(answered) => answered.succeeded.then_some(answered.revision),
            Err(error) if error.outcome() == Outcome::Unknown => {
                committed(self.backend(), id).await?.map(|(_, revision)| revision)
            }
            Err(error) => return Err(error.into()),
        };
        let revision = done.ok_or_else(|| {
            ConfigError::Change(
                "the last step of the migration took too long; the old store is in use".to_owned(),
            )
        })?;
        Ok((revision + self.offset(), keys))
    }
}

/// What `m/store` of a source says, and the backend's revision of that, if this migration has ended its use.
async fn committed(source: &Arc<dyn Kv>, id: &str) -> Result<Option<(StoreHead, u64)>, ConfigError> {
    let found = source.range(Range::one(STORE)).await?;
    let Some(entry) = found.entries.first() else {
        return Ok(None);
    };
    let head = StoreHead::read(entry)?;
    let is_it = head.moved.as_ref().is_some_and(|moved| moved.id == id);
    Ok(is_it.then_some((head, entry.modified)))
}

/// Lets a target be used, if this migration has ended the use of the source: whether it has. Can be called again.
pub async fn finish(source: &Arc<dyn Kv>, target: &Arc<dyn Kv>, id: &str) -> Result<bool, ConfigError> {
    let Some((old, committed)) = committed(source, id).await? else {
        return Ok(false);
    };
    let newest = old.offset + committed;
    let found = target.range(Range::one(STORE)).await?;
    let Some(entry) = found.entries.first() else {
        return Err(damaged(STORE, "the copy is gone"));
    };
    let filling = StoreHead::read(entry)?;
    if filling.filling.as_deref() != Some(id) {
        // It was finished before.
        filling.check()?;
        return Ok(true);
    }
    let head = StoreHead {
        format: FORMAT,
        offset: newest.saturating_sub(found.revision),
        before: Some(newest),
        ..StoreHead::default()
    };
    let txn = Txn::only_if(
        vec![Guard::unchanged(STORE, entry.modified)],
        vec![Op::put(STORE, head.bytes()?)],
    );
    target.txn(txn).await?;
    Ok(true)
}

/// Whether a store can be filled: an empty one, or what a migration that was broken off has left there. The backend's revision
/// of its `m/store`.
async fn fillable(target: &Arc<dyn Kv>) -> Result<u64, ConfigError> {
    let found = target.range(Range::one(STORE)).await?;
    let Some(entry) = found.entries.first() else {
        let all = Range {
            keys_only: true,
            ..Range::new(Span::All).limit(1)
        };
        if let Some(other) = target.range(all).await?.entries.first() {
            return Err(ConfigError::Change(format!(
                "the store to move to is not empty, and no migration has filled it: it has the key `{}`; name another prefix, or \
                 delete what is there",
                other.key.escape_debug()
            )));
        }
        return Ok(0);
    };
    let head = StoreHead::read(entry)?;
    if head.filling.is_some() {
        return Ok(entry.modified);
    }
    let why = match head.moved {
        Some(moved) => format!("was moved to {} and is kept as it was", moved.to),
        None => "holds a configuration already".to_owned(),
    };
    Err(ConfigError::Change(format!("the store to move to {why}")))
}

/// Refuses a store that [`Config::migrate`] would not fill.
pub async fn may_fill(target: &Arc<dyn Kv>) -> Result<(), ConfigError> {
    fillable(target).await.map(drop)
}

/// Takes a store that can be filled. The backend's revision of its `m/store`.
async fn begin(target: &Arc<dyn Kv>, id: &str) -> Result<u64, ConfigError> {
    let was = fillable(target).await?;
    let head = StoreHead {
        format: FORMAT,
        filling: Some(id.to_owned()),
        ..StoreHead::default()
    };
    let mut then = vec![Op::put(STORE, head.bytes()?)];
    then.extend(
        ["c/", "h/", "m/fit/", "m/machines/", "m/proposals/"]
            .map(|prefix| Op::Delete(Span::Prefix(prefix.to_owned()))),
    );
    then.push(Op::delete(crate::shared::RULES));
    let answered = target
        .txn(Txn::only_if(vec![Guard::unchanged(STORE, was)], then))
        .await?;
    if answered.succeeded {
        return Ok(answered.revision);
    }
    Err(ConfigError::Change(
        "somebody else has begun to use the store to move to".to_owned(),
    ))
}

/// A copy that is being made.
struct Copy<'a> {
    source: &'a Config,
    target: &'a Arc<dyn Kv>,
    /// The target's revision of its `m/store`: if that changes, somebody else fills it.
    filling: u64,
    limits: Limits,
    /// What was copied out of the log since all was compared.
    followed: BTreeSet<String>,
    /// Keys of the source that live by a lease, with that.
    leased: BTreeMap<String, LeaseId>,
}

/// A key that is written at the target, or deleted.
struct Wanted {
    /// Of the source.
    key: String,
    step: Op,
}

impl Copy<'_> {
    /// A value as it is at the target.
    async fn translated(&self, entry: &KeyValue) -> Result<Vec<u8>, ConfigError> {
        if !proposals::is_one(&entry.key) {
            return self.comparable(entry);
        }
        // What it was made on has another revision there.
        let mut bases = BTreeMap::new();
        for path in proposals::paths(entry)? {
            let key = current(&path);
            let old = self.source.backend().range(Range::one(&key)).await?;
            let new = self.target.range(Range::one(&key)).await?;
            if let (Some(old), Some(new)) = (old.entries.first(), new.entries.first()) {
                bases.insert(path, (old.modified, new.modified));
            }
        }
        proposals::translated(entry, |path, base| match bases.get(path) {
            Some((old, new)) if *old == base => *new,
            // It was changed since, and the proposal holds no more: no revision is that.
            _ => u64::MAX >> 1,
        })
    }

    /// A key of the source as it is to be at the target. What lives by a lease waits until the end.
    async fn wanted(&mut self, entry: &KeyValue) -> Result<Wanted, ConfigError> {
        if let Some(lease) = entry.lease {
            self.leased.insert(entry.key.clone(), lease);
            return Ok(unwanted(&entry.key));
        }
        self.leased.remove(&entry.key);
        Ok(Wanted {
            key: entry.key.clone(),
            step: Op::put(self.key_there(entry)?, self.translated(entry).await?),
        })
    }

    /// What a key of the source is called at the target.
    fn key_there(&self, entry: &KeyValue) -> Result<String, ConfigError> {
        if is_change(&entry.key) != Some(false) {
            return Ok(entry.key.clone());
        }
        let record = Record::from_bytes(&entry.value).map_err(|why| damaged(&entry.key, why))?;
        let revision = record.head.revision;
        Ok(moved_key(
            &entry.key,
            revision.unwrap_or_else(|| entry.modified + self.source.offset()),
        ))
    }

    /// Copies what lives by leases, each with a lease of its own at the target, and what is about it. Nobody keeps those alive
    /// before the target is in use, so this comes last; whoever does is told that they are gone, and sets the values anew. How
    /// many values.
    async fn leased(&mut self, holding: LeaseId) -> Result<u64, ConfigError> {
        let (source, target) = (self.source.backend(), self.target);
        let leases: BTreeSet<LeaseId> = self.leased.values().copied().collect();
        let mut copied = BTreeSet::new();
        for lease in leases {
            source.keep_alive(holding).await?;
            let found = match source.lease(lease).await {
                Ok(found) => found,
                // What went meanwhile is not at the target yet.
                Err(error) if matches!(error.reason, Reason::NoLease(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut entries = Vec::new();
            for key in found.keys.iter().filter(|key| is_copied(key)) {
                entries.extend(source.range(Range::one(key)).await?.entries);
            }
            let new = target.grant(found.ttl).await?.id;
            let mut steps = Vec::new();
            for entry in entries.iter().filter(|entry| entry.lease == Some(lease)) {
                copied.insert(entry.key.clone());
                steps.push(Wanted {
                    key: entry.key.clone(),
                    step: Op::Put {
                        key: entry.key.clone(),
                        value: self.comparable(entry)?,
                        lease: Some(new),
                    },
                });
            }
            self.put(steps).await?;
        }
        if !copied.is_empty() {
            // Their revisions at the target are known only now.
            let mut proposals = Cursor::new(source, "m/", None);
            let mut steps = Vec::new();
            while let Some(entry) = proposals.next().await? {
                let is_about = proposals::is_one(&entry.key)
                    && proposals::paths(&entry)?
                        .iter()
                        .any(|path| copied.contains(&current(path)));
                if is_about {
                    steps.push(self.wanted(&entry).await?);
                }
            }
            self.put(steps).await?;
        }
        Ok(copied.len() as u64)
    }

    /// What has to be the same at both.
    fn comparable(&self, entry: &KeyValue) -> Result<Vec<u8>, ConfigError> {
        // Marks of the history say something by being there.
        if entry.key.starts_with("h/") && entry.value.is_empty() {
            return Ok(Vec::new());
        }
        if entry.key.starts_with("c/") || entry.key.starts_with("h/") {
            let mut record = Record::from_bytes(&entry.value).map_err(|why| damaged(&entry.key, why))?;
            record
                .head
                .revision
                .get_or_insert_with(|| entry.modified + self.source.offset());
            return record.to_bytes().map_err(|why| damaged(&entry.key, why));
        }
        if proposals::is_one(&entry.key) {
            return proposals::translated(entry, |_, _| 1);
        }
        Ok(entry.value.clone())
    }

    /// Everything, as of one moment: which.
    async fn all(&mut self) -> Result<u64, ConfigError> {
        let mut at = None;
        // Proposals come after the values that they are about.
        for prefix in ["c/", "h/", "m/"] {
            let mut cursor = Cursor::new(self.source.backend(), prefix, at);
            let mut puts = Vec::new();
            while let Some(entry) = cursor.next().await? {
                if let Some(lease) = entry.lease {
                    self.leased.insert(entry.key, lease);
                    continue;
                }
                puts.push(self.wanted(&entry).await?);
                if puts.len() >= PAGE {
                    self.put(std::mem::take(&mut puts)).await?;
                }
            }
            self.put(puts).await?;
            at = cursor.at;
        }
        Ok(at.unwrap_or(0))
    }

    /// Writes to the target in as many transactions as it takes: it is not in use yet.
    async fn put(&self, changes: Vec<Wanted>) -> Result<(), ConfigError> {
        let mut txn = Txn::default();
        let mut bytes = 0;
        for Wanted { key, step } in changes {
            let value = if let Op::Put { value, .. } = &step {
                value.len()
            } else {
                0
            };
            let size = key.len() + value + 128;
            if txn.then.len() + 2 > self.limits.ops || bytes + size > self.limits.bytes {
                self.send(std::mem::take(&mut txn)).await?;
                bytes = 0;
            }
            bytes += size;
            txn.then.push(step);
        }
        if txn.then.is_empty() {
            Ok(())
        } else {
            self.send(txn).await
        }
    }

    async fn send(&self, mut txn: Txn) -> Result<(), ConfigError> {
        txn.guards.push(Guard::unchanged(STORE, self.filling));
        let answered = self.target.txn(txn).await?;
        if !answered.succeeded {
            return Err(ConfigError::Change(
                "somebody else has begun to fill the store to move to; the old store is in use".to_owned(),
            ));
        }
        Ok(())
    }

    /// Copies what the log tells up to a revision. How many keys these were.
    async fn follow(&mut self, log: &mut WatchStream, to: u64) -> Result<usize, ConfigError> {
        let mut count = 0;
        loop {
            match log.next().await {
                Some(Ok(WatchEvent::Changes { revision, changes })) => {
                    let mut puts = Vec::new();
                    for change in changes {
                        if !is_copied(change.key()) {
                            continue;
                        }
                        puts.push(match change {
                            Change::Put { now, .. } => self.wanted(&now).await?,
                            Change::Delete { key, .. } => {
                                self.leased.remove(&key);
                                unwanted(&key)
                            }
                        });
                    }
                    count += puts.len();
                    self.followed.extend(puts.iter().map(|put| put.key.clone()));
                    self.put(puts).await?;
                    if revision >= to {
                        return Ok(count);
                    }
                }
                Some(Ok(WatchEvent::Compacted { .. })) => {
                    return Err(ConfigError::Change(
                        "the old store was compacted meanwhile; try again".to_owned(),
                    ));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => {
                    return Err(ConfigError::Change(
                        "the log of the old store ended; it is in use".to_owned(),
                    ));
                }
            }
        }
    }

    /// Compares all keys of the two, as of one revision of the source: their number, and the digest of each.
    async fn verify(&self, at: u64) -> Result<u64, ConfigError> {
        let mut count = 0;
        for prefix in ["c/", "h/", "m/"] {
            let mut old = Cursor::new(self.source.backend(), prefix, Some(at));
            let mut new = Cursor::new(self.target, prefix, None);
            loop {
                // What lives by a lease comes last.
                let lasting = async {
                    loop {
                        match old.next().await? {
                            Some(entry) if entry.lease.is_some() => {}
                            other => return Ok::<_, ConfigError>(other),
                        }
                    }
                };
                match (lasting.await?, new.next().await?) {
                    (None, None) => break,
                    (Some(old), Some(new)) if self.key_there(&old)? == new.key => {
                        if digest_of(&self.comparable(&old)?) != digest_of(&self.comparable(&new)?) {
                            return Err(different(&old.key));
                        }
                        count += 1;
                    }
                    (Some(one), _) | (None, Some(one)) => return Err(different(&one.key)),
                }
            }
        }
        Ok(count)
    }

    /// Compares what was changed since all was compared.
    async fn verify_followed(&self) -> Result<(), ConfigError> {
        for key in &self.followed {
            let found = self.source.backend().range(Range::one(key)).await?;
            let old = found.entries.first().filter(|entry| entry.lease.is_none());
            let found = self.target.range(Range::new(span_there(key))).await?;
            let is_same = match (old, found.entries.as_slice()) {
                (None, []) => true,
                (Some(old), [new]) => {
                    self.key_there(old)? == new.key && self.comparable(old)? == self.comparable(new)?
                }
                _ => false,
            };
            if !is_same {
                return Err(different(key));
            }
        }
        Ok(())
    }

    /// Compares the numbers of keys, as of a revision of the source, without what lives by leases; how many there are.
    async fn verify_count(&self, at: u64) -> Result<u64, ConfigError> {
        let mut all = 0;
        for prefix in ["c/", "h/", "m/fit/", "m/machines/", "m/proposals/"] {
            let count = |kv: &Arc<dyn Kv>, at: Option<u64>| {
                kv.range(Range {
                    count_only: true,
                    at,
                    ..Range::prefix(prefix)
                })
            };
            let leased = self.leased.keys().filter(|key| key.starts_with(prefix)).count() as u64;
            let old = count(self.source.backend(), Some(at)).await?.count.unwrap_or(0);
            let old = old.saturating_sub(leased);
            let new = count(self.target, None).await?.count.unwrap_or(0);
            if old != new {
                return Err(ConfigError::Change(format!(
                    "the old store has {old} keys that begin with `{prefix}`, the copy {new}; the old store is in use"
                )));
            }
            all += old;
        }
        Ok(all)
    }
}

/// A key of the source that is not to be at the target.
fn unwanted(key: &str) -> Wanted {
    Wanted {
        key: key.to_owned(),
        step: Op::Delete(span_there(key)),
    }
}

/// Where at the target a key of the source is, if it is there.
fn span_there(key: &str) -> Span {
    match is_change(key) {
        // Its revision comes behind it.
        Some(false) => Span::Prefix(key.to_owned()),
        _ => Span::One(key.to_owned()),
    }
}

/// Goes through the keys that are copied, page by page.
struct Cursor<'a> {
    kv: &'a Arc<dyn Kv>,
    from: String,
    end: Option<String>,
    at: Option<u64>,
    page: std::vec::IntoIter<KeyValue>,
    more: bool,
}

impl<'a> Cursor<'a> {
    /// As of a revision, or of the one that the first page is of.
    fn new(kv: &'a Arc<dyn Kv>, prefix: &str, at: Option<u64>) -> Self {
        Self {
            kv,
            from: prefix.to_owned(),
            end: prefix_end(prefix.as_bytes()).and_then(|end| String::from_utf8(end).ok()),
            at,
            page: Vec::new().into_iter(),
            more: true,
        }
    }

    async fn fetch(&mut self) -> Result<(), ConfigError> {
        let range = Range {
            at: self.at,
            ..Range::new(Span::Between(self.from.clone(), self.end.clone())).limit(PAGE)
        };
        let ranged = self.kv.range(range).await?;
        self.at.get_or_insert(ranged.revision);
        if let Some(last) = ranged.entries.last() {
            self.from = format!("{}\0", last.key);
        }
        self.more = ranged.more;
        self.page = ranged.entries.into_iter();
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<KeyValue>, ConfigError> {
        loop {
            if let Some(entry) = self.page.find(|entry| is_copied(&entry.key)) {
                return Ok(Some(entry));
            }
            if !self.more {
                return Ok(None);
            }
            self.fetch().await?;
        }
    }
}

fn different(key: &str) -> ConfigError {
    let path = path_of(key.split('\0').next().unwrap_or_default()).map(|path| path.to_string());
    ConfigError::Change(format!(
        "the copy differs at `{}`; the old store is in use",
        path.unwrap_or_else(|_| key.escape_debug().to_string())
    ))
}

fn digest_of(value: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, value).as_ref());
    bytes
}

/// How a backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is in it.
    Empty,
    /// A migration has begun to fill it.
    Filling,
    /// It is in use.
    InUse,
    /// Everything was moved away.
    Moved,
}

/// How a backend stands.
pub async fn state(kv: &Arc<dyn Kv>) -> Result<State, ConfigError> {
    let found = kv.range(Range::one(STORE)).await?;
    let Some(entry) = found.entries.first() else {
        return Ok(State::Empty);
    };
    let head = StoreHead::read(entry)?;
    Ok(match (head.moved, head.filling) {
        (Some(_), _) => State::Moved,
        (None, Some(_)) => State::Filling,
        (None, None) => State::InUse,
    })
}

/// Ends the holding of a store that nobody else can have opened: whoever held it is dead, and nobody has to wait for its lease.
pub async fn let_go(kv: &Arc<dyn Kv>) -> Result<(), ConfigError> {
    if !kv.range(Range::one(MOVING)).await?.entries.is_empty() {
        kv.txn(Txn::always(vec![Op::delete(MOVING)])).await?;
    }
    Ok(())
}

/// Whether a migration has ended the use of a source.
pub async fn is_committed(source: &Arc<dyn Kv>, id: &str) -> Result<bool, ConfigError> {
    Ok(committed(source, id).await?.is_some())
}
