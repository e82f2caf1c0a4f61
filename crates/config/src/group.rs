//! Changes of the same moment, in one transaction.
//!
//! A transaction on etcd costs a round trip, a proposal and a place in the log, however little it writes; that a change writes
//! the value and its history makes it dearer still than one put. So while a transaction is on its way, what comes meanwhile is
//! gathered and follows in one transaction, if no part of it writes what another part writes or looks at. If that one does
//! not succeed, because a guard of one does not hold or the store refuses one, each is carried out alone, as if nothing had been
//! gathered. The parts of one transaction share its revision; they are of different values.
//!
//! A store in a file gathers what it syncs by itself, and is not asked this way.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use upkeep_store::kv::{Answered, Guard, Kv, KvError, Op, Reason, Span, Txn};

/// What is longer goes alone: nobody waits for it.
const BYTES: usize = 256 << 10;

/// Gathers what is to be carried out.
#[derive(Debug, Default)]
pub(crate) struct Group(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    gathering: Option<Gathering>,
    /// What is on its way, or was.
    last: Option<Sent>,
}

type Sent = Shared<BoxFuture<'static, Result<Arc<Together>, Failed>>>;

/// What none of the parts got.
#[derive(Clone, Debug)]
struct Failed {
    error: KvError,
    /// There was one part only: it is its error.
    is_alone: bool,
}

impl Failed {
    /// Whether one part may be the reason, and the others may do without it.
    fn may_be_of_one(&self) -> bool {
        let is_of_one = matches!(
            self.error.reason,
            Reason::Invalid(_)
                | Reason::TooLarge { .. }
                | Reason::DuplicateKey(_)
                | Reason::NoLease(_)
                | Reason::NoSpace { maybe: false, .. }
                | Reason::Denied(_)
        );
        is_of_one && !self.is_alone
    }
}

/// A transaction that is not on its way yet.
#[derive(Debug)]
struct Gathering {
    parts: Arc<Mutex<Batch>>,
    sent: Sent,
}

#[derive(Debug, Default)]
struct Batch {
    /// It is on its way: nothing is added any more.
    closed: bool,
    parts: Vec<Part>,
    guards: BTreeMap<String, Guard>,
    writes: BTreeSet<String>,
    ops: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Part {
    txn: Txn,
    /// Gone with the one that waits for it.
    waits: Weak<()>,
}

/// What came of a transaction of several parts.
#[derive(Debug)]
struct Together {
    answered: Answered,
    /// Where the answers of each part are; nothing: nobody waited for it any more.
    answers: Vec<Option<ops::Range<usize>>>,
}

impl Together {
    /// What came of one part. Nothing: it has to be carried out alone.
    fn of(&self, part: usize) -> Option<Answered> {
        let is_alone = self.answers.iter().flatten().count() == 1;
        if !self.answered.succeeded && !is_alone {
            return None;
        }
        let answers = self.answers.get(part)?.clone()?;
        let results = if self.answered.succeeded {
            self.answered.results.get(answers)?.to_vec()
        } else {
            self.answered.results.clone()
        };
        Some(Answered {
            results,
            ..self.answered
        })
    }
}

impl Group {
    /// Carries out a transaction, perhaps with others.
    pub(crate) async fn txn(&self, kv: &Arc<dyn Kv>, txn: Txn) -> Result<Answered, KvError> {
        let waits = Arc::new(());
        let Some((part, sent)) = self.join(kv, &txn, &waits) else {
            return kv.txn(txn).await;
        };
        match sent.await {
            Ok(together) => {
                if let Some(answered) = together.of(part) {
                    return Ok(answered);
                }
            }
            Err(failed) if failed.may_be_of_one() => {}
            // In words of this part: the others may be nobody's business here.
            Err(failed) => return Err(KvError::new(txn.to_string(), failed.error.reason)),
        }
        kv.txn(txn).await
    }

    /// Adds a part to what is gathered; nothing: it goes alone.
    fn join(&self, kv: &Arc<dyn Kv>, txn: &Txn, waits: &Arc<()>) -> Option<(usize, Sent)> {
        let part = Part {
            txn: txn.clone(),
            waits: Arc::downgrade(waits),
        };
        let writes = written(txn)?;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gathering) = &state.gathering {
            let mut parts = lock(&gathering.parts);
            if !parts.closed {
                let number = parts.add(&writes, part, kv.limits().ops)?;
                return Some((number, gathering.sent.clone()));
            }
        }
        let mut parts = Batch::default();
        let number = parts.add(&writes, part, kv.limits().ops)?;
        let parts = Arc::new(Mutex::new(parts));
        // What is over is not kept any longer than that.
        let before = state.last.take().filter(|last| last.peek().is_none());
        let sent = send(Arc::clone(kv), before, Arc::clone(&parts)).boxed().shared();
        state.last = Some(sent.clone());
        state.gathering = Some(Gathering {
            parts,
            sent: sent.clone(),
        });
        Some((number, sent))
    }
}

/// Waits for what is on its way, closes what was gathered meanwhile, and sends it. It goes on as long as one waits for it.
async fn send(
    kv: Arc<dyn Kv>,
    before: Option<Sent>,
    parts: Arc<Mutex<Batch>>,
) -> Result<Arc<Together>, Failed> {
    if let Some(before) = before {
        drop(before.await);
    }
    let parts = {
        let mut parts = lock(&parts);
        parts.closed = true;
        std::mem::take(&mut parts.parts)
    };
    let mut whole = Txn::default();
    let mut guards: BTreeMap<String, Guard> = BTreeMap::new();
    let mut answers = Vec::with_capacity(parts.len());
    let is_alone = parts.iter().filter(|part| part.waits.strong_count() > 0).count() == 1;
    for part in parts {
        if part.waits.strong_count() == 0 {
            answers.push(None);
            continue;
        }
        let begin = whole.then.len();
        whole.then.extend(part.txn.then);
        answers.push(Some(begin..whole.then.len()));
        guards.extend(
            part.txn
                .guards
                .into_iter()
                .map(|guard| (guard.key.clone(), guard)),
        );
        if is_alone {
            whole.otherwise = part.txn.otherwise;
        }
    }
    whole.guards = guards.into_values().collect();
    let answered = kv.txn(whole).await;
    let answered = answered.map_err(|error| Failed { error, is_alone })?;
    Ok(Arc::new(Together { answered, answers }))
}

fn lock(parts: &Mutex<Batch>) -> MutexGuard<'_, Batch> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The keys that a transaction writes; nothing where they cannot be told beforehand, or where it answers more than that it is done.
fn written(txn: &Txn) -> Option<BTreeSet<String>> {
    if txn.with_previous || txn.otherwise.iter().any(Op::writes) {
        return None;
    }
    let keys = txn.then.iter().map(|op| match op {
        Op::Put { key, .. } | Op::Delete(Span::One(key)) => Some(key.clone()),
        Op::Delete(_) | Op::Get(_) => None,
    });
    keys.collect()
}

impl Batch {
    /// Adds one, if it fits and is about other keys.
    fn add(&mut self, writes: &BTreeSet<String>, part: Part, limit: usize) -> Option<usize> {
        let txn = &part.txn;
        let meets = |guard: &Guard| {
            self.writes.contains(&guard.key)
                || self.guards.get(&guard.key).is_some_and(|other| other != guard)
        };
        let twice = |(at, guard): (usize, &Guard)| {
            txn.guards
                .iter()
                .take(at)
                .any(|other| other.key == guard.key && other != guard)
        };
        if txn.guards.iter().any(meets)
            || txn.guards.iter().enumerate().any(twice)
            || writes.iter().any(|key| self.writes.contains(key))
            || (!self.parts.is_empty() && writes.iter().any(|key| self.guards.contains_key(key)))
        {
            return None;
        }
        let new: Vec<Guard> = txn
            .guards
            .iter()
            .filter(|guard| !self.guards.contains_key(&guard.key))
            .cloned()
            .collect();
        let keys = new.iter().map(|guard| guard.key.len()).sum::<usize>();
        let bytes = self.bytes + keys + txn.then.iter().map(bytes).sum::<usize>();
        let ops = self.ops + txn.then.len();
        if bytes > BYTES || ops > limit || self.guards.len() + new.len() > limit {
            return None;
        }
        (self.bytes, self.ops) = (bytes, ops);
        self.writes.extend(writes.iter().cloned());
        self.guards
            .extend(new.into_iter().map(|guard| (guard.key.clone(), guard)));
        self.parts.push(part);
        Some(self.parts.len() - 1)
    }
}

fn bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete(span) => span.start().len(),
        Op::Get(_) => 0,
    }
}
