//! Changing values: what is asked for, what it comes to, and the transaction that does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use upkeep_store::kv::{Done, Guard, Op, Outcome, Range, Txn};

use super::{
    Attempt, Config, Leased, Leave, Order, RULES, STORE, Seen, Step, Stored, TRIES, bound, current, damaged,
    looking::Looked,
    masked,
    order::{OPS_OF_PUT, OPS_OF_REMOVAL},
    pages::{change_key, gone_key},
    stored, within,
};
use crate::{
    entry::{Change, Changed, Proposed, Put},
    error::ConfigError,
    path::{Path, Place},
    record::{Content, Record},
    rights::{Asker, Verb},
    rules::Book,
    seal::{Identity, Sealed},
};

impl Config {
    /// Sets and deletes, all or nothing.
    pub async fn change(&self, asker: Asker<'_>, change: &Change) -> Result<Changed, ConfigError> {
        Self::allow(asker, change)?;
        // The guards find out that there are other rules by now; what is only tried has none.
        if change.dry_run || (self.book().0 == 0 && !self.looked.swap(true, Ordering::Relaxed)) {
            self.refresh().await?;
        }
        let lease = match change.ttl {
            Some(ttl) if !change.dry_run => Some(self.lease_for(change, ttl).await?),
            _ => None,
        };
        let mut done = self.change_with(asker, change, lease).await;
        // Rules that were remembered may refuse what those of today take.
        if let Err(ConfigError::Unfit { .. } | ConfigError::Seal { .. } | ConfigError::Change(_)) = &done {
            let judged_by = self.book().0;
            if self.refresh().await.is_ok() && self.book().0 != judged_by {
                done = self.change_with(asker, change, lease).await;
            }
        }
        match (lease, &done) {
            (Some(_), Ok(changed)) if changed.proposed.is_none() => {}
            // Nothing lives by it. If nobody can say so now, it ends by itself.
            (Some(lease), _) => drop(self.backend().revoke(lease.id).await),
            (None, _) => {}
        }
        if let Ok(changed) = &done
            && !change.dry_run
        {
            let paths: Vec<Path> = changed
                .differences
                .iter()
                .take(8)
                .map(|one| one.path.clone())
                .collect();
            self.tidy_now_and_then(&paths).await;
        }
        done
    }

    async fn change_with(
        &self,
        asker: Asker<'_>,
        change: &Change,
        lease: Option<Leased>,
    ) -> Result<Changed, ConfigError> {
        for _ in 0..TRIES {
            match self.attempt(asker, change, lease).await? {
                Attempt::Done(changed) => return Ok(changed),
                Attempt::Again => {}
            }
        }
        let put = change.puts.first().map(|put| put.path.clone().into());
        let removed = || change.removals.first().map(|removal| removal.place.clone());
        Err(ConfigError::Busy(put.or_else(removed).unwrap_or_else(Place::all)))
    }

    fn allow(asker: Asker<'_>, change: &Change) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        for put in &change.puts {
            asker.require(Verb::Write, &put.path)?;
            put.value.check().map_err(|why| ConfigError::Invalid {
                path: put.path.clone(),
                why,
            })?;
            if !seen.insert(put.path.as_str()) {
                return Err(ConfigError::Change(format!("`{}` is set twice", put.path)));
            }
        }
        let mut places: Vec<&Place> = change.removals.iter().map(|removal| &removal.place).collect();
        places.sort();
        // In order, what a place contains stands right behind it.
        if let Some((outer, inner)) = places
            .iter()
            .zip(places.iter().skip(1))
            .find(|(outer, inner)| outer.meets(inner))
        {
            let why = format!("`{outer}` and `{inner}` have values in common");
            return Err(ConfigError::Change(why));
        }
        for removal in &change.removals {
            asker.require_all(Verb::Write, &removal.place)?;
            if removal.expected.is_some() && removal.place.is_many() {
                let why = format!(
                    "`{}` is a place of several values, which have no one revision",
                    removal.place
                );
                return Err(ConfigError::Change(why));
            }
            if let Some(put) = change.puts.iter().find(|put| removal.place.covers(&put.path)) {
                return Err(ConfigError::Change(format!(
                    "`{}` is both set and deleted",
                    put.path
                )));
            }
        }
        if change.puts.is_empty() && change.removals.is_empty() {
            return Err(ConfigError::Change("nothing is named".to_owned()));
        }
        Ok(())
    }

    /// Refuses what touches more values than one change may, before any of them is read.
    async fn is_bounded(&self, change: &Change) -> Result<(), ConfigError> {
        let limit = self.backend().limits().ops;
        let each = if change.ttl.is_some() {
            OPS_OF_REMOVAL
        } else {
            OPS_OF_PUT
        };
        let mut ops = change.puts.len() * each;
        for removal in &change.removals {
            if ops > limit {
                break;
            }
            let range = Range {
                keys_only: true,
                ..Range::new(within('c', &removal.place)).limit(limit / OPS_OF_REMOVAL + 1)
            };
            ops += self.backend().range(range).await?.entries.len() * OPS_OF_REMOVAL;
        }
        if change.removals.is_empty() && ops > limit {
            return Err(ConfigError::Change(format!(
                "it sets {} values, and this store takes {} in one change",
                change.puts.len(),
                limit / each
            )));
        }
        if ops > limit {
            return Err(ConfigError::Change(format!(
                "it touches more values than this store takes in one change: {} to be set, or {} to be deleted",
                limit / each,
                limit / OPS_OF_REMOVAL
            )));
        }
        Ok(())
    }

    /// Reads what is there, works out what is to be done and does it, if nobody was faster.
    async fn attempt(
        &self,
        asker: Asker<'_>,
        change: &Change,
        lease: Option<Leased>,
    ) -> Result<Attempt, ConfigError> {
        self.is_bounded(change).await?;
        if let Some(found) = self.recent.known(change) {
            let revision = found.values().map(|stored| stored.modified).max().unwrap_or(0);
            let looked = Looked {
                found,
                gone: BTreeMap::new(),
                revision,
                is_memory: true,
            };
            if let Some(attempt) = self.worked_out(asker, change, lease, looked).await? {
                return Ok(attempt);
            }
        }
        let looked = self.look(change).await?;
        let attempt = self.worked_out(asker, change, lease, looked).await?;
        Ok(attempt.unwrap_or(Attempt::Again))
    }

    /// Works out what is to be done and does it, if nobody was faster. Nothing: memory does not tell.
    async fn worked_out(
        &self,
        asker: Asker<'_>,
        change: &Change,
        lease: Option<Leased>,
        looked: Looked,
    ) -> Result<Option<Attempt>, ConfigError> {
        let Looked {
            found,
            gone,
            revision,
            is_memory,
        } = looked;
        let as_expected = |path: &Path, expected: Option<u64>| {
            let revision = found.get(path).map_or(0, |stored| stored.revision(self.offset()));
            match expected {
                Some(expected) if expected != revision => Err(ConfigError::Conflict {
                    path: path.clone(),
                    expected,
                    found: asker.may(Verb::Read, path).then_some(revision),
                }),
                _ => Ok(()),
            }
        };
        let seen = |path: &Path| Seen {
            at: revision,
            modified: found.get(path).map_or(0, |stored| stored.modified),
            gone: gone.get(&gone_key(path)).copied().unwrap_or(0),
        };
        let held = self.book();
        let book = Arc::clone(&held.1);
        // What waits for others is made on what is there.
        if is_memory && change.puts.iter().any(|put| book.approvals(&put.path) > 0) {
            return Ok(None);
        }
        let mut steps = Vec::new();
        for put in &change.puts {
            as_expected(&put.path, put.expected)?;
            let old = found.get(&put.path);
            // What is to live by another lease is written, also if it stays the same.
            let is_moved = change.ttl.is_some() || old.is_some_and(|old| old.leased);
            let Some(content) = self.content(asker, put, old, &book, is_moved)? else {
                continue;
            };
            steps.push(Step {
                path: put.path.clone(),
                content,
                seen: seen(&put.path),
                before: old.and_then(|stored| masked(&stored.record.content())),
                clear: Some(put.value.clone()),
                is_named: true,
            });
        }
        for removal in &change.removals {
            if let Some(path) = removal.place.as_path() {
                as_expected(&path, removal.expected)?;
            }
            for (path, stored) in found.iter().filter(|(path, _)| removal.place.covers(path)) {
                steps.push(Step {
                    path: path.clone(),
                    content: Content::Deleted,
                    seen: seen(path),
                    before: masked(&stored.record.content()),
                    clear: None,
                    is_named: removal.place.as_path().is_some(),
                });
            }
        }
        // What is the same already is so only if it is still there.
        if is_memory && steps.len() < change.puts.len() {
            return Ok(None);
        }
        if steps.is_empty() {
            return Ok(Some(Attempt::Done(Changed {
                revision: revision + self.offset(),
                differences: Vec::new(),
                unnamed: Vec::new(),
                proposed: None,
                lease: None,
            })));
        }
        let order = Order {
            why: change.why.as_deref(),
            dry_run: change.dry_run,
            ttl: change.ttl,
            lease,
            ..Order::of(asker, held)
        };
        self.carry_out(order, steps).await.map(Some)
    }

    /// What a value is to become; nothing if it is that already. Who may not read what there is, is not told by this either.
    fn content(
        &self,
        asker: Asker<'_>,
        put: &Put,
        old: Option<&Stored>,
        book: &Book,
        is_moved: bool,
    ) -> Result<Option<Content>, ConfigError> {
        let old = old.map(|stored| stored.record.content());
        let was_secret = matches!(old, Some(Content::Secret(..)));
        if !put.secret && !was_secret {
            let content = Content::Plain(put.value.clone());
            let is_same = !is_moved && old.as_ref() == Some(&content) && asker.may(Verb::Read, &put.path);
            return Ok((!is_same).then_some(content));
        }
        let bound = bound(&put.path, put.value.kind);
        if let Some(Content::Secret(kind, sealed)) = &old
            && !is_moved
            && *kind == put.value.kind
            && asker.may(Verb::Reveal, &put.path)
            && sealed
                .open(&bound, &self.identities)
                .is_ok_and(|clear| *clear == put.value.bytes)
        {
            return Ok(None);
        }
        let sealed =
            Sealed::seal(&put.value.bytes, &bound, &self.recipients(book, &put.path)).map_err(|why| {
                ConfigError::Seal {
                    what: "seal",
                    path: put.path.clone(),
                    why,
                }
            })?;
        Ok(Some(Content::Secret(put.value.kind, sealed)))
    }

    /// Those that the rules name; where they name nobody, this machine alone, unless there are others.
    pub(crate) fn recipients(&self, book: &Book, path: &Path) -> Vec<crate::seal::Recipient> {
        match book.recipients(path) {
            [] if self.is_shared => Vec::new(),
            [] => self.identities.iter().take(1).map(Identity::recipient).collect(),
            named => named.to_vec(),
        }
    }

    pub(crate) async fn carry_out(
        &self,
        order: Order<'_>,
        mut steps: Vec<Step>,
    ) -> Result<Attempt, ConfigError> {
        let Order { asker, why, .. } = order;
        let (rules, book) = (order.held.0, Arc::clone(&order.held.1));
        steps.sort_by(|a, b| a.path.cmp(&b.path));
        let fitting = self.fits_after(asker, &book, &steps).await?;
        let (differences, unnamed) = order.differences(&steps);
        let approvals = match order.leave {
            Leave::Asked => steps
                .iter()
                .map(|step| book.approvals(&step.path))
                .max()
                .unwrap_or(0),
            Leave::Exempt | Leave::Given { .. } => 0,
        };
        if order.ttl.is_some() && approvals > 0 {
            return Err(ConfigError::Change(
                "it waits for others, and what goes by itself cannot wait".to_owned(),
            ));
        }
        // What could not be carried out is not kept until others have approved it.
        self.is_taken(&order, &steps, fitting.len(), approvals > 0)?;
        let (offset, lease) = (self.offset(), order.lease);
        let done = |revision, proposed| {
            Ok(Attempt::Done(Changed {
                revision: revision + offset,
                differences,
                unnamed,
                proposed,
                lease,
            }))
        };
        if order.dry_run || steps.is_empty() {
            let revision = self.backend().range(Range::one(STORE)).await?.revision;
            return done(
                revision,
                (approvals > 0).then_some(Proposed { id: None, approvals }),
            );
        }
        if approvals > 0 {
            let Some((revision, id)) = self.propose(asker.who, why, rules, steps).await? else {
                return Ok(Attempt::Again);
            };
            let id = Some(id);
            return done(revision, Some(Proposed { id, approvals }));
        }
        let lasts = order.ttl.is_none();
        let contents: Vec<(Path, Content)> = steps
            .iter()
            .map(|step| (step.path.clone(), step.content.clone()))
            .collect();
        let (txn, mark) = self.transaction(order, fitting, steps)?;
        // Only what is known to have happened is remembered.
        self.recent.forget(contents.iter().map(|(path, _)| path));
        let answered = match self.write(txn).await {
            Ok(answered) => answered,
            // The id of the change is in the history if it happened.
            Err(ConfigError::Store(error)) if error.outcome() == Outcome::Unknown => {
                return match self.backend().range(Range::one(&mark)).await {
                    Ok(ranged) if !ranged.entries.is_empty() => {
                        done(ranged.entries.first().map_or(0, |entry| entry.modified), None)
                    }
                    _ => Err(error.into()),
                };
            }
            Err(error) => return Err(error),
        };
        if answered.succeeded {
            let kept = contents
                .into_iter()
                .filter(|(_, content)| lasts && *content != Content::Deleted);
            for (path, content) in kept {
                self.recent.keep(path, content, answered.revision);
            }
            return done(answered.revision, None);
        }
        let mut got = answered.results.iter().map(|done| match done {
            Done::Got(got) => got.entries.first(),
            _ => None,
        });
        if let Some(rules) = got.next() {
            self.learn_from(rules)?;
        }
        // What is there instead came along: who was slower need not ask for it, and so is not slower again.
        for (entry, (path, _)) in got.zip(contents) {
            if let Some(now) = entry.map(stored).transpose()?.filter(|now| !now.leased) {
                self.recent.keep(path, now.record.content(), now.modified);
            }
        }
        Ok(Attempt::Again)
    }

    /// Refuses what the store does not take in one change.
    fn is_taken(
        &self,
        order: &Order<'_>,
        steps: &[Step],
        fitting: usize,
        waits: bool,
    ) -> Result<(), ConfigError> {
        let limit = self.backend().limits().ops;
        let besides = fitting + usize::from(waits || matches!(order.leave, Leave::Given { .. }));
        let ops: usize = steps.iter().map(|step| step.ops(order.ttl.is_some())).sum();
        let absent = steps.iter().filter(|step| step.seen.modified == 0).count();
        // The rules, and two of every change.
        let guards = steps.len() + absent + 3;
        let most = ops.max(guards) + besides;
        if most <= limit {
            return Ok(());
        }
        Err(ConfigError::Change(format!(
            "it touches {} values, which takes {most} steps, and this store takes {limit} in one change",
            steps.len(),
        )))
    }

    /// The transaction that does it all, and a key that is there once it is done.
    fn transaction(
        &self,
        order: Order<'_>,
        fitting: Vec<Guard>,
        steps: Vec<Step>,
    ) -> Result<(Txn, String), ConfigError> {
        let id = self.id()?;
        let at = (self.now)();
        let mut txn = Txn {
            guards: vec![Guard::unchanged(RULES, order.held.0)],
            otherwise: vec![Op::get(RULES)],
            ..Txn::default()
        };
        for guard in fitting {
            txn.then.push(Op::put(&guard.key, Vec::new()));
            txn.guards.push(guard);
        }
        if let Leave::Given { key, modified } = order.leave {
            txn.guards.push(Guard::unchanged(&key, modified));
            txn.then.push(Op::delete(key));
        }
        let mut mark = String::new();
        for step in steps {
            let key = current(&step.path);
            txn.guards.push(Guard::unchanged(&key, step.seen.modified));
            txn.otherwise.push(Op::get(&key));
            if step.seen.modified == 0 {
                // Nor was there anything meanwhile.
                txn.guards
                    .push(Guard::unchanged(gone_key(&step.path), step.seen.gone));
            }
            let is_deleted = step.content == Content::Deleted;
            let ttl = order.ttl.filter(|_| !is_deleted);
            if is_deleted || ttl.is_some() {
                txn.then.push(Op::put(gone_key(&step.path), Vec::new()));
            }
            let mut record = Record::new(step.content, order.asker.who, at, order.why);
            record.head.ttl = ttl.map(|ttl| ttl.as_secs());
            let bytes = record.to_bytes().map_err(|why| damaged(&key, why))?;
            mark = change_key(&step.path, step.seen.at + self.offset(), &id);
            txn.then.push(Op::put(&mark, bytes.clone()));
            txn.then.push(if is_deleted {
                Op::delete(key)
            } else {
                Op::Put {
                    key,
                    value: bytes,
                    lease: order.lease.map(|lease| lease.id),
                }
            });
        }
        Ok((txn, mark))
    }
}
