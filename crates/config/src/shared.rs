//! The configuration over a backend: rights, secrets and history, the same on every backend.
//!
//! # Layout
//!
//! For the value `/shop/db` the backend holds `c/shop/db`, the value as it is, and for each change of it
//! `h/shop/db`, a NUL, the revision that the change was made on, counted down, and an id: what it became, who did it, when and
//! why. Both are written by one transaction, so the history misses nothing, and since it is made of keys of its own it outlives
//! the backend's compaction. Rules are `m/rules`, changes that wait for approval `m/proposals/ID`; `m/fit/shop/` is written by
//! every change of a place with a schema. Keys that begin with a place are the keys of that place, in `c` as in `h`: a backend
//! with rights of its own (etcd) can be told to open just these two ranges.
//!
//! The changes of one value stand from the newest to the oldest: a change is made on a revision at which the one before it was
//! there already, or its guards fail. So what a value was at a revision is found by its key, and nothing else of its history
//! is read. What of a place is newest takes a look at each of its values, and not at all of their changes. Two keys stand
//! before them: `!gone`, written when a value is deleted or is set to go by itself, by which "there is none" is guarded, and
//! `!trimmed`, which tells that older changes were left out.
//!
//! # Revisions
//!
//! A revision is the backend's plus an offset that is kept in `m/store`: when a store is moved to another backend, its
//! revisions go on instead of beginning again. The keys of changes that came along end with `@` and the revision that they had,
//! so that these are known without their values.
//!
//! # A change
//!
//! What is there is read first: what is the same already is not written, a secret stays one, and whoever asked is told what
//! there was. The transaction that follows is guarded by the revisions that were read and by the revision of the rules that
//! were last seen. If somebody was faster, it brings the new rules back and all begins again.

mod changing;
mod history;
mod lately;
mod leases;
mod looking;
mod order;
mod pages;
mod reading;
mod recent;
mod resealing;
pub(crate) mod ruling;
mod trimming;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use ring::rand::{SecureRandom, SystemRandom};
use upkeep_store::kv::{KeyValue, Kv, KvError, Range, Reason, Span};

pub(crate) use self::{
    lately::{LATELY, Lately},
    order::{Attempt, Leave, Order, Seen, Step},
    pages::{Pages, Walk, gone_key, is_change, moved_key, past_of},
    reading::weight,
};
pub use self::{
    leases::Leased,
    resealing::{Reseal, Resealed},
    trimming::{Keep, Trimmed},
};
use crate::{
    entry::{By, Shown},
    error::ConfigError,
    fit::Blocking,
    group::Group,
    head::{self, STORE},
    path::{Path, Place},
    record::{Content, Record},
    rights::{Asker, Verb},
    rules::Book,
    seal::{Identity, SealError},
    value::Kind,
};

pub(crate) const RULES: &str = "m/rules";

/// How often a change is tried again because others changed something meanwhile.
pub(crate) const TRIES: usize = 20;

/// The most others that may have to approve a change.
pub const APPROVALS_MAX: u8 = 9;

/// The most that a listing gives at once.
pub const LISTED_MAX: usize = 1000;

/// Bytes that a listing gives at once, as JSON writes them; one value is given in any case.
pub const LISTED_BYTES: usize = 6 << 20;

/// The shared configuration.
pub struct Config {
    kv: Arc<dyn Kv>,
    pub(crate) identities: Vec<Identity>,
    offset: u64,
    /// The newest revision of the store that this one was filled from.
    pub(crate) before: Option<u64>,
    /// The backend's revision of `m/store`: this store is in use since then.
    pub(crate) began: u64,
    /// Others read it, too: where the rules name nobody, nothing is sealed for this machine alone.
    is_shared: bool,
    /// What the backend lets this machine use.
    scope: Vec<Place>,
    /// The rules that were last seen, with the backend's revision of them.
    book: Mutex<(u64, Arc<Book>)>,
    pub(crate) now: fn() -> f64,
    /// Whether the rules were read once.
    looked: AtomicBool,
    /// What this process has written last.
    recent: recent::Recent,
    /// What this process has told of a moment ago.
    pub(crate) lately: Arc<Lately>,
    /// What is on its way to the backend, and what follows it.
    pub(crate) group: Group,
    /// Where the history is trimmed next.
    tidying: Mutex<trimming::Round>,
    /// Where what takes long is done.
    pub(crate) blocking: Option<Blocking>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("kv", &self.kv)
            .finish_non_exhaustive()
    }
}

/// What stands in the backend for one value.
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) modified: u64,
    pub(crate) version: u64,
    pub(crate) leased: bool,
}

impl Stored {
    /// As callers know it: where it came from another store, as it was there.
    pub(crate) fn revision(&self, offset: u64) -> u64 {
        self.record.head.revision.unwrap_or(self.modified + offset)
    }
}

impl Config {
    /// Opens the configuration that a backend holds, or begins one. `identities` open secrets; `now` tells Unix seconds.
    pub async fn open(
        kv: Arc<dyn Kv>,
        identities: Vec<Identity>,
        now: fn() -> f64,
    ) -> Result<Self, ConfigError> {
        let (head, began) = head::read_or_begin(&kv).await?;
        head.check()?;
        Ok(Self {
            kv,
            identities,
            offset: head.offset,
            before: head.before,
            began,
            is_shared: false,
            scope: vec![Place::all()],
            book: Mutex::default(),
            now,
            looked: AtomicBool::new(false),
            recent: recent::Recent::default(),
            lately: Arc::default(),
            group: Group::default(),
            tidying: Mutex::default(),
            blocking: None,
        })
    }

    /// Has what takes long (places judged by their schemas) done by `blocking` instead of by whoever waits for it.
    #[must_use]
    pub fn with_blocking(mut self, blocking: Blocking) -> Self {
        self.blocking = Some(blocking);
        self
    }

    /// Several machines use it: where the rules name no recipients, secrets are refused instead of being sealed for this
    /// machine alone, which the others could not read.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.is_shared = true;
        self
    }

    /// The backend lets this machine use these places only.
    #[must_use]
    pub fn within(mut self, places: Vec<Place>) -> Self {
        self.scope = places;
        self
    }

    /// What the backend lets this machine use.
    pub fn scope(&self) -> &[Place] {
        &self.scope
    }

    /// What this machine can have of a place.
    pub(crate) fn narrowed<'a>(&'a self, place: &'a Place) -> &'a Place {
        match self.scope.as_slice() {
            [one] if place.contains(one) => one,
            _ => place,
        }
    }

    /// Added to the backend's revisions.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The backend, for what is about it and not about values.
    pub fn backend(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    pub(crate) fn book(&self) -> (u64, Arc<Book>) {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        (book.0, Arc::clone(&book.1))
    }

    fn learn(&self, revision: u64, book: Book) {
        *self.book.lock().unwrap_or_else(PoisonError::into_inner) = (revision, Arc::new(book));
    }

    pub(crate) fn learn_from(&self, entry: Option<&KeyValue>) -> Result<(), ConfigError> {
        let (revision, book) = match entry {
            Some(entry) => {
                let book = serde_json::from_slice(&entry.value).map_err(|error| damaged(RULES, error))?;
                (entry.modified, book)
            }
            None => (0, Book::default()),
        };
        self.learn(revision, book);
        Ok(())
    }

    pub(crate) async fn refresh(&self) -> Result<(), ConfigError> {
        let ranged = self.kv.range(Range::one(RULES)).await?;
        self.learn_from(ranged.entries.first())
    }

    /// Names a change: grows with time, and is never used twice.
    pub(crate) fn id(&self) -> Result<String, ConfigError> {
        let mut random = [0; 6];
        SystemRandom::new().fill(&mut random).map_err(|_| {
            let reason = Reason::Storage(SealError::NoRandom.to_string());
            ConfigError::Store(KvError::new("name the change", reason))
        })?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "milliseconds since 1970"
        )]
        let millis = ((self.now)() * 1000.0) as u64;
        let tail = random.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        Ok(format!("{millis:012x}{tail:012x}"))
    }
}

pub(crate) fn masked(content: &Content) -> Option<Shown> {
    match content {
        Content::Deleted => None,
        Content::Plain(value) => Some(Shown::Plain(value.clone())),
        Content::Secret(kind, sealed) => Some(Shown::Masked {
            kind: *kind,
            recipients: sealed.recipients(),
        }),
    }
}

pub(crate) fn by(record: &Record) -> By {
    By {
        who: record.head.who.clone(),
        at: record.head.at,
        why: record.head.why.clone(),
    }
}

/// What a secret is bound to.
fn bound(path: &Path, kind: Kind) -> Vec<u8> {
    format!("{path}\0{kind}").into_bytes()
}

/// What an asker sees: what they may not read is hidden.
fn shown_to(asker: Asker<'_>, path: &Path, shown: Option<Shown>) -> Option<Shown> {
    if asker.may(Verb::Read, path) {
        return shown;
    }
    shown.map(|_| Shown::Hidden)
}

pub(crate) fn current(path: &Path) -> String {
    format!("c{path}")
}

/// The keys of a place in one of the two ranges.
pub(crate) fn within(range: char, place: &Place) -> Span {
    let start = format!("{range}{place}");
    match (place.is_many(), range) {
        (true, _) => Span::Prefix(start),
        (false, 'h') => Span::Prefix(format!("{start}\0")),
        (false, _) => Span::One(start),
    }
}

pub(crate) fn path_of(key: &str) -> Result<Path, ConfigError> {
    key.get(1..)
        .unwrap_or_default()
        .parse()
        .map_err(|error| damaged(key, error))
}

pub(crate) fn stored(entry: &KeyValue) -> Result<Stored, ConfigError> {
    Ok(Stored {
        record: Record::from_bytes(&entry.value).map_err(|why| damaged(&entry.key, why))?,
        modified: entry.modified,
        version: entry.version,
        leased: entry.lease.is_some(),
    })
}

pub(crate) fn damaged(key: &str, why: impl fmt::Display) -> ConfigError {
    ConfigError::Damaged {
        key: key.to_owned(),
        why: why.to_string(),
    }
}
