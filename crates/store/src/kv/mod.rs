//! Shared configuration's backends: a revisioned key-value store behind one trait object, [`Kv`].
//!
//! # What this is for
//!
//! The configuration layer (rights, sealing, schema, who and why) rests on this and knows no more of its backend.
//! There are two: [`embedded::Embedded`], a file on this machine, and etcd v3 (the crate `upkeep-etcd`), for many
//! machines. Both pass one [conformance suite](conformance), so what stands here holds for both.
//!
//! # What it refuses to do
//!
//! It knows no rights, no secrets and no formats; keys are names and values are bytes. It repeats nothing whose outcome it
//! does not know.
//!
//! # How it works
//!
//! Every transaction that writes gets the next **revision** of the whole store; an empty store is at revision 1, as
//! etcd counts. A key carries the revision that *created* it, the one that last *modified* it, and its *version*, which
//! counts its writes since it was created. A key that is deleted and written again is a new key.
//!
//! **Reading** is linearizable unless [`Range::stale`] is set: it sees every write that was answered before it was asked.
//! Older revisions can be read until they are *compacted*: [`Kv::compact`] forgets what was superseded at or before a
//! revision, and this revision is then the oldest that can be read.
//!
//! **Transactions** ([`Txn`]) are atomic and, once answered, durable. One may write a key only once. An error says
//! whether the write was refused or whether nobody knows ([`KvError::outcome`]).
//!
//! **Watches** ([`Kv::watch`]) tell each transaction that touched their span once, whole and in order, from a revision on.
//! The first item says where the watch stands; when nothing happens there are heartbeats ([`WatchEvent::Progress`]), so
//! that silence means trouble. A reader that is slow costs no memory: it is told that it lags and reads from the log.
//! A watch ends after `Compacted`, after an error, and never otherwise.
//!
//! **Leases** live as long as somebody keeps them alive. When one ends, its keys are deleted in one revision.
//! After a restart of the store every lease has its whole time again: better too long than too short.
//!
//! Start reading at [`Kv`], then [`embedded`].

mod check;
#[cfg(any(test, feature = "conformance"))]
#[macro_use]
pub mod conformance;
pub mod embedded;
mod error;
#[cfg(any(test, feature = "conformance"))]
pub mod model;

use std::{fmt::Debug, time::Duration};

pub use check::{Limits, prefix_end};
pub use error::{KvError, Outcome, Reason};
use futures_util::{future::BoxFuture, stream::BoxStream};

pub use crate::Revision;

/// Names a lease; 0 is none.
pub type LeaseId = i64;

/// What a call will answer.
pub type Answer<T> = BoxFuture<'static, Result<T, KvError>>;

/// Events of a watch, until its end.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, KvError>>;

/// A backend. Futures need no particular runtime, but for etcd's, which need tokio.
///
/// A future that is dropped takes nothing back: what it had asked for may happen all the same.
pub trait Kv: Send + Sync + Debug {
    /// Reads keys.
    fn range(&self, range: Range) -> Answer<Ranged>;
    /// Carries out a transaction.
    fn txn(&self, txn: Txn) -> Answer<Answered>;
    /// Watches a span. Dropping the stream ends it.
    fn watch(&self, watch: Watch) -> WatchStream;
    /// Makes a lease that lasts for `ttl` (whole seconds, one at least; a backend may give more).
    fn grant(&self, ttl: Duration) -> Answer<Lease>;
    /// Starts a lease's time anew.
    fn keep_alive(&self, lease: LeaseId) -> Answer<Lease>;
    /// Ends a lease and deletes its keys.
    fn revoke(&self, lease: LeaseId) -> Answer<Revision>;
    /// Looks at a lease and its keys.
    fn lease(&self, lease: LeaseId) -> Answer<Lease>;
    /// Forgets what was superseded at or before `revision`. It is no longer readable once this is answered; its room
    /// comes back little by little.
    fn compact(&self, revision: Revision) -> Answer<()>;
    /// How the store is doing.
    fn status(&self) -> Answer<Status>;
    /// Gives room that is no longer needed back to the file system. May block the store (or each member in turn)
    /// meanwhile.
    fn defragment(&self) -> Answer<()>;
    /// What a call may hold.
    fn limits(&self) -> Limits;
    /// Whether a call is a round trip to another process, so that several small transactions cost far more than one.
    fn is_remote(&self) -> bool {
        false
    }
}

/// A key with its value and its history's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value; empty where only keys were asked for.
    pub value: Vec<u8>,
    /// The revision that created it.
    pub created: Revision,
    /// The revision that last wrote it.
    pub modified: Revision,
    /// Writes since it was created, from 1.
    pub version: u64,
    /// The lease that it lives by.
    pub lease: Option<LeaseId>,
}

/// Some keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// This key.
    One(String),
    /// Every key that begins so. An empty prefix is every key.
    Prefix(String),
    /// From the first (inclusive) to the second (exclusive); without the second, to the end.
    Between(String, Option<String>),
    /// Every key.
    All,
}

impl Span {
    /// Whether a key is in it.
    pub fn contains(&self, key: &str) -> bool {
        match self {
            Self::One(one) => key == one,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
            Self::Between(from, to) => key >= from.as_str() && to.as_ref().is_none_or(|to| key < to.as_str()),
            Self::All => true,
        }
    }

    /// The first key that may be in it.
    pub fn start(&self) -> &str {
        match self {
            Self::One(from) | Self::Prefix(from) | Self::Between(from, _) => from,
            Self::All => "",
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(key) => write!(f, "`{key}`"),
            Self::Prefix(prefix) => write!(f, "`{prefix}…`"),
            Self::Between(from, Some(to)) => write!(f, "`{from}` to `{to}`"),
            Self::Between(from, None) => write!(f, "`{from}` and after"),
            Self::All => write!(f, "all keys"),
        }
    }
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which keys.
    pub span: Span,
    /// As of this revision; without one, the newest.
    pub at: Option<Revision>,
    /// So many at most; 0 is no limit.
    pub limit: usize,
    /// Leave the values out.
    pub keys_only: bool,
    /// Leave everything out but the number.
    pub count_only: bool,
    /// Whatever this member has will do, also without a majority.
    pub stale: bool,
}

impl Range {
    /// Reads a span, whole, newest, linearizable.
    pub fn new(span: Span) -> Self {
        Self {
            span,
            at: None,
            limit: 0,
            keys_only: false,
            count_only: false,
            stale: false,
        }
    }

    /// Reads one key.
    pub fn one(key: impl Into<String>) -> Self {
        Self::new(Span::One(key.into()))
    }

    /// Reads every key that begins so.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::new(Span::Prefix(prefix.into()))
    }

    /// As of a revision.
    #[must_use]
    pub fn at(mut self, revision: Revision) -> Self {
        self.at = Some(revision);
        self
    }

    /// So many at most.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranged {
    /// The store's revision when it was read (not the one that was asked for).
    pub revision: Revision,
    /// The keys, in order of their bytes.
    pub entries: Vec<KeyValue>,
    /// There are more than the limit let through; read on from behind the last key, at this revision.
    pub more: bool,
    /// How many keys the span has; `None` when a limit cut them off and nobody has counted.
    pub count: Option<u64>,
}

/// If all guards hold, `then`, else `otherwise`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub guards: Vec<Guard>,
    /// What to do if it does.
    pub then: Vec<Op>,
    /// What to do if it does not.
    pub otherwise: Vec<Op>,
    /// Answer with what was there before, too.
    pub with_previous: bool,
}

impl Txn {
    /// Does these, whatever is there.
    pub fn always(then: Vec<Op>) -> Self {
        Self {
            then,
            ..Self::default()
        }
    }

    /// Does these if the guards hold.
    pub fn only_if(guards: Vec<Guard>, then: Vec<Op>) -> Self {
        Self {
            guards,
            then,
            ..Self::default()
        }
    }

    /// Whether one of its branches can change anything.
    pub fn writes(&self) -> bool {
        self.then.iter().chain(&self.otherwise).any(Op::writes)
    }
}

impl std::fmt::Display for Txn {
    /// In words, for errors: what it writes, without any value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut writes = self.then.iter().chain(&self.otherwise).filter(|op| op.writes());
        match writes.next() {
            Some(Op::Put { key, .. }) => write!(f, "write `{key}`")?,
            Some(Op::Delete(span)) => write!(f, "delete {span}")?,
            Some(Op::Get(_)) | None => return f.write_str("carry out a reading transaction"),
        }
        match writes.count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A condition on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The key.
    pub key: String,
    /// How it compares with `target`: the key's own on the left.
    pub is: Compare,
    /// What is compared.
    pub target: Target,
}

impl Guard {
    /// "It is still what I read": last modified by that revision; 0 is "it does not exist".
    pub fn unchanged(key: impl Into<String>, modified: Revision) -> Self {
        Self {
            key: key.into(),
            is: Compare::Equal,
            target: Target::Modified(modified),
        }
    }

    /// It does not exist.
    pub fn absent(key: impl Into<String>) -> Self {
        Self::unchanged(key, 0)
    }
}

/// How two compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// =
    Equal,
    /// ≠
    NotEqual,
    /// <
    Less,
    /// >
    Greater,
}

impl Compare {
    /// Whether `left` compares so with `right`.
    pub fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::Greater => left > right,
        }
    }
}

/// What of a key is compared. A key that does not exist has 0 for its figures, and no value compares with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The revision that last wrote it.
    Modified(Revision),
    /// The revision that created it.
    Created(Revision),
    /// Its version.
    Version(u64),
    /// Its value, by bytes.
    Value(Vec<u8>),
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key. Without a lease it lives on its own, also if it had one.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// Deleted with this lease.
        lease: Option<LeaseId>,
    },
    /// Deletes what is in the span.
    Delete(Span),
    /// Reads, after the steps before it. `at` and `stale` are not used here.
    Get(Range),
}

impl Op {
    /// Writes a key.
    pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        }
    }

    /// Deletes a key.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete(Span::One(key.into()))
    }

    /// Reads a key.
    pub fn get(key: impl Into<String>) -> Self {
        Self::Get(Range::one(key))
    }

    /// Whether it can change anything.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Get(_))
    }
}

/// What a transaction led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The store's revision after it: its own, if it changed something.
    pub revision: Revision,
    /// Whether the guards held.
    pub succeeded: bool,
    /// One for each step of the branch that was taken.
    pub results: Vec<Done>,
}

/// What a step led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Written; what was there, if that was asked for.
    Put(Option<KeyValue>),
    /// Deleted.
    Deleted {
        /// How many keys.
        count: u64,
        /// What they were, if that was asked for.
        previous: Vec<KeyValue>,
    },
    /// Read.
    Got(Ranged),
}

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Which keys.
    pub span: Span,
    /// Every change from this revision on (inclusive); without one, from now on.
    pub from: Option<Revision>,
    /// Tell what was there before, where it is still known.
    pub with_previous: bool,
}

impl Watch {
    /// Watches a span from now on.
    pub fn new(span: Span) -> Self {
        Self {
            span,
            from: None,
            with_previous: false,
        }
    }

    /// From a revision on, inclusive.
    #[must_use]
    pub fn from(mut self, revision: Revision) -> Self {
        self.from = Some(revision);
        self
    }
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// All that one transaction changed in the span.
    Changes {
        /// Its revision.
        revision: Revision,
        /// In the order of its steps; a key occurs once.
        changes: Vec<Change>,
    },
    /// Everything up to and including this revision has been told. The first item of every watch is one; then they are
    /// heartbeats, which may lag behind the store (with etcd before 3.4.25 and 3.5.8 they do not advance).
    Progress {
        /// Watch on from the next one after it.
        revision: Revision,
    },
    /// The reader is so far behind that it is served from the log. Nothing is lost. (Etcd does this without a word.)
    Lagging {
        /// How many revisions behind.
        behind: u64,
    },
    /// What should come next has been compacted. Read the span anew, then watch from behind what was read. The last
    /// item.
    Compacted {
        /// The oldest revision that can be watched from.
        oldest: Revision,
    },
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Written.
    Put {
        /// As it is now.
        now: KeyValue,
        /// As it was, if that was asked for, there was one and it is still known.
        previous: Option<KeyValue>,
    },
    /// Deleted, by somebody or with its lease.
    Delete {
        /// The key.
        key: String,
        /// As it was, if that was asked for and is still known.
        previous: Option<KeyValue>,
    },
}

impl Change {
    /// The key.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { now, .. } => &now.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// How long it lasts.
    pub ttl: Duration,
    /// How long it still lasts.
    pub remaining: Duration,
    /// Keys that go with it; only [`Kv::lease`] looks.
    pub keys: Vec<String>,
}

/// How a store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `embedded` or `etcd`.
    pub backend: &'static str,
    /// The backend's version.
    pub version: String,
    /// The newest revision.
    pub revision: Revision,
    /// The oldest that can be read; `None` where the backend does not tell.
    pub oldest: Option<Revision>,
    /// How many keys of ours there are.
    pub keys: u64,
    /// Bytes that it takes on the disk (of the fullest member).
    pub bytes_on_disk: u64,
    /// Bytes of these that are in use.
    pub bytes_in_use: u64,
    /// How many bytes it may take; `None` is as many as there are, or not known.
    pub quota: Option<u64>,
    /// What is wrong.
    pub alarms: Vec<Alarm>,
    /// Who takes part; a file has none.
    pub members: Vec<Member>,
    /// The member that leads.
    pub leader: Option<u64>,
}

/// What is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Whose; 0 where there are no members.
    pub member: u64,
    /// What.
    pub kind: AlarmKind,
}

/// Kinds of [`Alarm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmKind {
    /// The quota is reached: writes are refused until there is room and the alarm is cleared.
    NoSpace,
    /// A member found its data damaged.
    Corrupt,
    /// Something newer than we are.
    Other(i32),
}

/// A member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// It only listens and has no vote.
    pub learner: bool,
    /// What it said, or why it said nothing.
    pub health: Result<MemberHealth, String>,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberHealth {
    /// Its version.
    pub version: String,
    /// Bytes on its disk.
    pub bytes_on_disk: u64,
    /// Bytes of these in use.
    pub bytes_in_use: u64,
    /// Whom it takes for the leader; 0 is nobody.
    pub leader: u64,
    /// How far its log is.
    pub index: u64,
    /// The newest revision that it knows.
    pub revision: u64,
    /// How many bytes it may have, if it tells.
    pub quota: Option<u64>,
    /// What it complains of.
    pub errors: Vec<String>,
}
