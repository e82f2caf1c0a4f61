//! The primary of one app's cluster: what workers ask, and what they listen on.
//!
//! # Listeners
//!
//! A listener belongs to the app. It is made by the first worker that asks for it, is kept by the keeper, and outlives
//! workers, reloads and daemons. It ends when the app is stopped ([`Primary::release`]), or when the last worker that
//! is connected and not on its way out has said `close`. A worker that dies or is told to go leaves it as it is: what
//! connects meanwhile waits in the kernel's queue.
//!
//! The same key (address, port, type, descriptor; the index of the call where the port is 0) is the same
//! listener for all workers. The first worker's `data` is given to all later ones: TLS servers keep the keys of their
//! session tickets there. Keys, `data` and who uses what are a note with the keeper, so that the next daemon goes on with
//! the very same answers.
//!
//! # Workers
//!
//! ```text
//! starting ──online──▶ online ──listening──▶ listening ──retire──▶ draining ──▶ (detached)
//! ```
//!
//! A query is noted with the keeper before anything is done about it, and until its answer is out: a daemon that is
//! killed in between leaves it to the next one, which answers it when the channel is here ([`Primary::attach`]). A worker
//! that gets an answer twice drops the second one.
//!
//! What a worker can make us keep is bounded: a query in its length, its uses in their number, and all of it by what the
//! keeper takes as a note ([`NOTE_MAX`]).
//!
//! Each arrow may be left out: a worker may die, or be told to go, at any point. Time limits are the owner's. Every query is
//! answered, if need be with an errno, except those of a worker that is on its way out (Node's primary does the same).

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use upkeep_model::listen::Balance;
use upkeep_sys::clock;

use super::{
    balance::Passing,
    bind::{self, EADDRINUSE, EBADF, EMFILE, EMSGSIZE, ENOBUFS, Kind, Place, Query, Rights},
    channel::Channel,
    holder,
    keep::Keep,
};
use crate::tasks::Task;

/// How many listeners an app may have.
const LISTENERS_MAX: usize = 1024;
/// How many queries of an app may be under way.
const QUERIES_MAX: usize = 8192;
/// How long a query may be, as JSON, the `data` of a listener included: what Node says is a few hundred bytes.
const QUERY_BYTES: usize = 4 << 10;
/// How many open queries of a worker are noted.
const OPEN_MAX: usize = 16;
/// How often, and how long apart, one looks whether an answer is out.
const OUT_LOOKS: u32 = 200;
const OUT_PAUSE: Duration = Duration::from_millis(25);
/// And at first: mostly it is out at once.
const OUT_SOON: u32 = 20;
const OUT_SOON_PAUSE: Duration = Duration::from_millis(1);
/// The longest note.
const NOTE_MAX: usize = upkeep_keeper::protocol::MAX_NOTE - 1024;
/// How often, and how long apart, an address that is in use is tried again.
const BIND_TRIES: u32 = 3;
const BIND_PAUSE: Duration = Duration::from_millis(10);
/// Format of [`Kept`].
const VERSION: u32 = 1;

/// What an owner is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// The worker runs; its app has not begun yet.
    Online,
    /// A server of the app listens. `where_`: in words.
    Listening { kind: Kind, place: String },
    /// A server of the app could not listen: it was told so as well.
    Refused {
        place: String,
        errno: i32,
        /// Who has the port, if that is known.
        holder: Option<String>,
    },
    /// The app asked to leave the cluster: it will end by itself.
    Leaves,
    /// A value that the app sent.
    Message(Value),
}

/// Who is told, of which worker.
type Tell = dyn Fn(&str, Told);

/// What the next daemon must know.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    version: u32,
    listeners: BTreeMap<String, KeptListener>,
    workers: BTreeMap<String, KeptWorker>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptListener {
    data: Value,
    kind: Kind,
    place: Option<Place>,
    shown: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptWorker {
    phase: Phase,
    promoted: bool,
    uses: BTreeMap<String, Use>,
    /// Queries that had no answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    open: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Starting,
    Online,
    Listening,
    Draining,
}

/// How a worker gets its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Use {
    /// It accepts by itself.
    Shared,
    /// We accept and pass them on.
    Passed,
}

pub(super) struct Listener {
    /// Absent until the keeper has been asked, in a daemon that found it.
    handle: Option<Rc<OwnedFd>>,
    data: Value,
    pub(super) kind: Kind,
    place: Option<Place>,
    shown: String,
    pub(super) passing: Option<Passing>,
}

pub(super) struct Worker {
    pub(super) channel: Option<Rc<Channel>>,
    pub(super) phase: Phase,
    /// Whether it may get connections that we pass on.
    pub(super) promoted: bool,
    pub(super) uses: BTreeMap<String, Use>,
    /// Queries whose answers are not out, by a number of ours.
    open: BTreeMap<u64, Value>,
    /// Queries that a daemon before has left open.
    left_open: Vec<Value>,
    /// Sockets that it was started with: number → name in the keeper's table.
    sockets: BTreeMap<u32, String>,
    rights: Rights,
    /// The connection that is on its way to it.
    pub(super) busy: Option<u64>,
    /// When it got its last one, as a count.
    pub(super) served: u64,
}

impl Worker {
    fn new(kept: Option<KeptWorker>) -> Self {
        let kept = kept.unwrap_or(KeptWorker {
            phase: Phase::Starting,
            promoted: false,
            uses: BTreeMap::new(),
            open: Vec::new(),
        });
        Self {
            channel: None,
            phase: kept.phase,
            promoted: kept.promoted,
            uses: kept.uses,
            open: BTreeMap::new(),
            left_open: kept.open,
            sockets: BTreeMap::new(),
            rights: Rights::default(),
            busy: None,
            served: 0,
        }
    }
}

/// The primary of one app. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Primary(pub(super) Rc<Inner>);

impl std::fmt::Debug for Primary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Primary")
            .field("prefix", &self.0.prefix)
            .finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    pub(super) keep: Rc<dyn Keep>,
    /// How the names of the app's sockets begin.
    prefix: String,
    note: String,
    balance: Cell<Balance>,
    /// Its workers are only tried: they get sockets of their own.
    trial: Cell<bool>,
    pub(super) listeners: RefCell<BTreeMap<String, Listener>>,
    pub(super) workers: RefCell<BTreeMap<String, Worker>>,
    tell: Box<Tell>,
    /// Numbers of our messages. They begin at the time, so that none is one of a daemon before.
    seq: Cell<u64>,
    queries: Cell<usize>,
    /// How many searches for who holds a port may begin.
    searches: Cell<u32>,
    /// What was noted last.
    noted: RefCell<Option<Vec<u8>>>,
    /// Counts connections that were passed on.
    pub(super) served: Cell<u64>,
}

impl Primary {
    /// A primary. `prefix`: how the names of its sockets begin in the keeper's table; it says the app and ends so that no
    /// other app's prefix begins with it. `tell` is called from within calls of this and must not call back.
    pub(crate) fn new(
        keep: Rc<dyn Keep>,
        prefix: String,
        note: String,
        balance: Balance,
        tell: impl Fn(&str, Told) + 'static,
    ) -> Self {
        Self(Rc::new(Inner {
            keep,
            prefix,
            note,
            balance: Cell::new(balance),
            trial: Cell::new(false),
            listeners: RefCell::default(),
            workers: RefCell::default(),
            tell: Box::new(tell),
            seq: Cell::new(clock::unix_ms().saturating_mul(1000)),
            queries: Cell::new(0),
            searches: Cell::new(2),
            noted: RefCell::default(),
            served: Cell::new(0),
        }))
    }

    /// Makes it one for workers that are only tried: where they ask for a port or a path they are told that they listen, and
    /// get no connection; for any port, and for datagrams, they get a free one of the loopback. (Node insists on the
    /// port that it asked for.)
    pub(crate) fn for_trials(self) -> Self {
        self.0.trial.set(true);
        self
    }

    /// How later workers get their connections.
    pub(crate) fn set_balance(&self, balance: Balance) {
        self.0.balance.set(balance);
    }

    /// Takes up what a daemon before noted, and sockets that the keeper has, by their names. `living`: workers that run;
    /// their channels come with [`Self::attach`]. What the note tells of others is forgotten.
    pub(crate) fn recover(
        &self,
        note: Option<&[u8]>,
        names: impl IntoIterator<Item = String>,
        living: &BTreeSet<String>,
    ) {
        let kept = note
            .and_then(|note| serde_json::from_slice::<Kept>(note).ok())
            .filter(|kept| kept.version == VERSION)
            .unwrap_or_default();
        {
            let mut listeners = self.0.listeners.borrow_mut();
            let mut known = kept.listeners;
            for name in names {
                let Some(key) = name.strip_prefix(&self.0.prefix) else {
                    continue;
                };
                let kept = known.remove(key);
                let (data, kind, place, shown) = kept.map_or_else(
                    || (Value::Null, Kind::Tcp, None, key.to_owned()),
                    |kept| (kept.data, kept.kind, kept.place, kept.shown),
                );
                listeners.entry(key.to_owned()).or_insert(Listener {
                    handle: None,
                    data,
                    kind,
                    place,
                    shown,
                    passing: None,
                });
            }
        }
        let mut passed = BTreeSet::new();
        for (copy, kept) in kept.workers {
            if !living.contains(&copy) {
                continue;
            }
            let uses = kept.uses.iter().filter(|(_, how)| **how == Use::Passed);
            passed.extend(uses.map(|(key, _)| key.clone()));
            self.0.workers.borrow_mut().insert(copy, Worker::new(Some(kept)));
        }
        self.0.remember();
        for key in passed {
            let inner = Rc::clone(&self.0);
            Task::spawn_short("node listener again", async move {
                if inner.handle(&key).await.is_some() {
                    Passing::begin(&inner, &key);
                }
            });
        }
    }

    /// A worker's channel; what it asked of a daemon before is answered now. `sockets`: what the worker was started with, by number, with the names in the
    /// keeper's table.
    pub(crate) fn attach(
        &self,
        copy: &str,
        channel: Rc<Channel>,
        sockets: BTreeMap<u32, String>,
        rights: Rights,
    ) {
        let left_open = {
            let mut workers = self.0.workers.borrow_mut();
            let worker = workers
                .entry(copy.to_owned())
                .or_insert_with(|| Worker::new(None));
            worker.channel = Some(channel);
            worker.sockets = sockets;
            worker.rights = rights;
            let left_open = std::mem::take(&mut worker.left_open);
            for message in &left_open {
                // Noted before it was answered: it is no second use of that key.
                worker.uses.remove(&Query::read(message).key);
            }
            left_open
        };
        for message in left_open {
            self.query(copy, message);
        }
        self.0.remember();
        // One that was promoted by a daemon before.
        Passing::freed(&self.0, copy);
    }

    /// The worker has ended. What was on its way to it goes to another.
    pub(crate) fn detach(&self, copy: &str) {
        let gone = self.0.workers.borrow_mut().remove(copy);
        if let Some(worker) = gone {
            Passing::gone(&self.0, copy, &worker);
            self.0.remember();
        }
    }

    /// The worker may get connections that we pass on: it is ready in its owner's eyes.
    pub(crate) fn promote(&self, copy: &str) {
        let promoted = match self.0.workers.borrow_mut().get_mut(copy) {
            Some(worker) => !std::mem::replace(&mut worker.promoted, true),
            None => false,
        };
        if promoted {
            self.0.remember();
            Passing::freed(&self.0, copy);
        }
    }

    /// Tells a worker to take no more connections, to end those it has, and to hang up. `false`: it has no
    /// channel, does not read it, or is Bun, which would drop what is under way.
    pub(crate) fn retire(&self, copy: &str, before: Option<&Value>) -> bool {
        let channel = {
            let mut workers = self.0.workers.borrow_mut();
            let Some(worker) = workers.get_mut(copy) else {
                return false;
            };
            let Some(channel) = worker.channel.clone().filter(|channel| !channel.is_bun()) else {
                return false;
            };
            worker.phase = Phase::Draining;
            channel
        };
        self.0.remember();
        if let Some(before) = before {
            // Who does not know it is not harmed; who does not read is told nothing either below.
            let _ = channel.send(before);
        }
        let disconnect = json!({"cmd": "NODE_CLUSTER", "act": "disconnect", "seq": self.0.next_seq()});
        channel.send(&disconnect)
    }

    /// Whether a worker has said that it listens.
    pub(crate) fn is_listening(&self, copy: &str) -> bool {
        self.0
            .workers
            .borrow()
            .get(copy)
            .is_some_and(|worker| worker.phase == Phase::Listening)
    }

    /// Whether a worker was told to go, or goes by itself.
    pub(crate) fn is_leaving(&self, copy: &str) -> bool {
        self.0
            .workers
            .borrow()
            .get(copy)
            .is_some_and(|worker| worker.phase == Phase::Draining)
    }

    /// Closes everything: the app is stopped.
    pub(crate) fn release(&self) {
        let listeners = std::mem::take(&mut *self.0.listeners.borrow_mut());
        for (key, listener) in listeners {
            self.0.close(&key, listener);
        }
        self.0.remember();
    }

    /// A message of a worker.
    pub(crate) fn hear(&self, copy: &str, message: Value) {
        if message.get("cmd").and_then(Value::as_str) != Some("NODE_CLUSTER") {
            (self.0.tell)(copy, Told::Message(message));
            return;
        }
        match message.get("act").and_then(Value::as_str) {
            Some("online") => {
                self.0.phase(copy, Phase::Online);
                (self.0.tell)(copy, Told::Online);
            }
            Some("queryServer") => self.query(copy, message),
            Some("listening") => {
                let query = Query::read(&message);
                self.0.phase(copy, Phase::Listening);
                Passing::freed(&self.0, copy);
                let kind = match query.family {
                    bind::Family::Udp4 | bind::Family::Udp6 => Kind::Udp,
                    bind::Family::Unix => Kind::Unix,
                    bind::Family::V4 | bind::Family::V6 | bind::Family::Other => Kind::Tcp,
                };
                let place = query.shown();
                (self.0.tell)(copy, Told::Listening { kind, place });
            }
            Some("close") => {
                if let Some(key) = message.get("key").and_then(Value::as_str) {
                    self.closed(copy, key);
                }
            }
            Some("exitedAfterDisconnect") => {
                let channel = {
                    let mut workers = self.0.workers.borrow_mut();
                    workers.get_mut(copy).and_then(|worker| {
                        worker.phase = Phase::Draining;
                        worker.channel.clone()
                    })
                };
                self.0.remember();
                if let Some(channel) = channel {
                    let seq = self.0.next_seq();
                    channel.send(&json!({"cmd": "NODE_CLUSTER", "ack": message.get("seq"), "seq": seq}));
                }
                (self.0.tell)(copy, Told::Leaves);
            }
            // An answer to a connection that was passed on; or what later versions of Node say, without waiting for an answer.
            _ => {
                if let (Some(seq), Some(accepted)) = (
                    message.get("ack").and_then(Value::as_u64),
                    message.get("accepted").and_then(Value::as_bool),
                ) {
                    Passing::answered(&self.0, copy, seq, accepted);
                }
            }
        }
    }

    /// A message with a socket that the worker could not take, as it was sent.
    pub(crate) fn undelivered(&self, copy: &str, message: &Value) {
        if message.get("act").and_then(Value::as_str) == Some("newconn") {
            if let Some(seq) = message.get("seq").and_then(Value::as_u64) {
                Passing::answered(&self.0, copy, seq, false);
            }
            return;
        }
        let channel = {
            let mut workers = self.0.workers.borrow_mut();
            workers.get_mut(copy).and_then(|worker| {
                if let Some(key) = message.get("key").and_then(Value::as_str) {
                    worker.uses.remove(key);
                }
                worker.channel.clone()
            })
        };
        if let Some(channel) = channel {
            let mut answer = message.clone();
            answer["errno"] = (-EMFILE).into();
            channel.send(&answer);
        }
        self.0.remember();
    }

    fn query(&self, copy: &str, message: Value) {
        if length(&message) > QUERY_BYTES {
            let seq = message.get("seq").and_then(Value::as_u64);
            let key = Query::read(&message).key;
            self.0.refuse(copy, &json!({"seq": seq}), &key, EMSGSIZE);
            return;
        }
        let query = Query::read(&message);
        if self.0.queries.get() >= QUERIES_MAX {
            self.0.refuse(copy, &message, &query.key, ENOBUFS);
            return;
        }
        self.0.queries.set(self.0.queries.get() + 1);
        let open = self.0.open(copy, &message);
        let (inner, copy) = (Rc::clone(&self.0), copy.to_owned());
        Task::spawn_short("node query", async move {
            if let Err(errno) = inner.answer(&copy, &query, &message).await {
                let refused = inner.refuse(&copy, &message, &query.key, errno);
                if refused {
                    let place = query.shown();
                    let holder = inner.holder(&query, errno).await;
                    (inner.tell)(&copy, Told::Refused { place, errno, holder });
                }
            }
            inner.queries.set(inner.queries.get() - 1);
            if let Some(open) = open {
                inner.answered(&copy, open).await;
            }
        });
    }

    /// A worker has closed one of its servers.
    fn closed(&self, copy: &str, key: &str) {
        let unused = {
            let mut workers = self.0.workers.borrow_mut();
            let Some(worker) = workers.get_mut(copy) else {
                return;
            };
            // It closes because it was told to: the next one goes on with the socket.
            if worker.uses.remove(key).is_none() || worker.phase == Phase::Draining {
                return;
            }
            !workers
                .values()
                .any(|worker| worker.phase != Phase::Draining && worker.uses.contains_key(key))
        };
        if unused {
            let listener = self.0.listeners.borrow_mut().remove(key);
            if let Some(listener) = listener {
                self.0.close(key, listener);
            }
        }
        self.0.remember();
    }
}

/// How long a message is, as JSON.
fn length(message: &Value) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, message) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX,
    }
}

impl Inner {
    pub(super) fn next_seq(&self) -> u64 {
        self.seq.set(self.seq.get() + 1);
        self.seq.get()
    }

    fn phase(&self, copy: &str, phase: Phase) {
        let changed = match self.workers.borrow_mut().get_mut(copy) {
            // Who is on its way out stays so.
            Some(worker) if worker.phase != Phase::Draining && worker.phase != phase => {
                // A server that listens is not undone by a second `online`.
                let back = worker.phase == Phase::Listening;
                if !back {
                    worker.phase = phase;
                }
                !back
            }
            _ => false,
        };
        if changed {
            self.remember();
        }
    }

    /// Notes a query until it is answered; its number.
    fn open(&self, copy: &str, message: &Value) -> Option<u64> {
        let number = self.next_seq();
        {
            let mut workers = self.workers.borrow_mut();
            let worker = workers.get_mut(copy)?;
            if worker.open.len() >= OPEN_MAX {
                return None;
            }
            worker.open.insert(number, message.clone());
        }
        self.remember();
        Some(number)
    }

    /// Forgets a query once its answer is out.
    async fn answered(&self, copy: &str, open: u64) {
        for look in 0..OUT_LOOKS {
            let waits = {
                let workers = self.workers.borrow();
                let channel = workers.get(copy).and_then(|worker| worker.channel.as_ref());
                channel.is_some_and(|channel| !channel.is_idle())
            };
            if !waits {
                break;
            }
            let soon = look < OUT_SOON;
            tokio::time::sleep(if soon { OUT_SOON_PAUSE } else { OUT_PAUSE }).await;
        }
        let known = match self.workers.borrow_mut().get_mut(copy) {
            Some(worker) => worker.open.remove(&open).is_some(),
            None => false,
        };
        if known {
            self.remember();
        }
    }

    /// Notes the state for the next daemon.
    fn remember(&self) {
        let mut bytes = self.snapshot(true);
        if bytes.len() > NOTE_MAX {
            // What is open is what may be lost.
            bytes = self.snapshot(false);
        }
        if self.noted.borrow().as_ref() == Some(&bytes) {
            return;
        }
        self.noted.replace(Some(bytes.clone()));
        self.keep.note(self.note.clone(), bytes);
    }

    /// Whether the state can be noted.
    fn fits(&self) -> bool {
        self.snapshot(false).len() <= NOTE_MAX
    }

    fn snapshot(&self, with_open: bool) -> Vec<u8> {
        let listeners = self.listeners.borrow();
        let workers = self.workers.borrow();
        if listeners.is_empty() && workers.is_empty() {
            Vec::new()
        } else {
            let kept = Kept {
                version: VERSION,
                listeners: listeners
                    .iter()
                    .map(|(key, listener)| {
                        let kept = KeptListener {
                            data: listener.data.clone(),
                            kind: listener.kind,
                            place: listener.place.clone(),
                            shown: listener.shown.clone(),
                        };
                        (key.clone(), kept)
                    })
                    .collect(),
                workers: workers
                    .iter()
                    .map(|(copy, worker)| {
                        let kept = KeptWorker {
                            phase: worker.phase,
                            promoted: worker.promoted,
                            uses: worker.uses.clone(),
                            open: if with_open {
                                let open = worker.left_open.iter().chain(worker.open.values());
                                open.cloned().collect()
                            } else {
                                Vec::new()
                            },
                        };
                        (copy.clone(), kept)
                    })
                    .collect(),
            };
            serde_json::to_vec(&kept).unwrap_or_default()
        }
    }

    /// Who has the port of a query. Not looked for too often: it is a search through all processes.
    async fn holder(&self, query: &Query, errno: i32) -> Option<String> {
        if errno != EADDRINUSE || query.port == 0 || self.searches.get() == 0 {
            return None;
        }
        self.searches.set(self.searches.get() - 1);
        let port = query.port;
        let found = tokio::task::spawn_blocking(move || holder::of(port)).await;
        self.searches.set(self.searches.get() + 1);
        found.ok().flatten()
    }

    /// Answers with an errno. `false`: nobody is there, or it is on its way out.
    fn refuse(&self, copy: &str, message: &Value, key: &str, errno: i32) -> bool {
        let Some(channel) = self.asking(copy) else {
            return false;
        };
        channel.send(&json!({
            "cmd": "NODE_CLUSTER",
            "ack": message.get("seq"),
            "seq": self.next_seq(),
            "key": key,
            "errno": -errno,
            "data": message.get("data"),
        }))
    }

    /// The channel of a worker whose queries are answered.
    fn asking(&self, copy: &str) -> Option<Rc<Channel>> {
        let workers = self.workers.borrow();
        let worker = workers
            .get(copy)
            .filter(|worker| worker.phase != Phase::Draining)?;
        worker.channel.clone()
    }

    /// The socket of a listener: ours, or what the keeper has. `None`: there is none.
    async fn handle(&self, key: &str) -> Option<Rc<OwnedFd>> {
        if let Some(listener) = self.listeners.borrow().get(key)
            && let Some(handle) = &listener.handle
        {
            return Some(Rc::clone(handle));
        }
        let handle = Rc::new(self.keep.get(format!("{}{key}", self.prefix)).await?);
        // It may be of a daemon that knew less.
        bind::make_nonblocking(&handle).ok()?;
        let mut listeners = self.listeners.borrow_mut();
        let listener = listeners.entry(key.to_owned()).or_insert_with(|| Listener {
            handle: None,
            data: Value::Null,
            kind: Kind::of(&handle).unwrap_or(Kind::Tcp),
            place: None,
            shown: key.to_owned(),
            passing: None,
        });
        // Somebody else may have asked at the same time.
        Some(Rc::clone(listener.handle.get_or_insert(handle)))
    }

    /// Answers a query with a socket, or with where we accept for the worker. Errors: what to answer instead.
    async fn answer(self: &Rc<Self>, copy: &str, query: &Query, message: &Value) -> Result<(), i32> {
        if self.asking(copy).is_none() {
            return Ok(());
        }
        if let Some(fd) = query.fd {
            return self.answer_foreign(copy, fd, query, message).await;
        }
        {
            let mut workers = self.workers.borrow_mut();
            let Some(worker) = workers.get_mut(copy) else {
                return Ok(());
            };
            worker.rights.check(query)?;
            // Until it is bound nobody knows how; what counts is that the key is taken.
            if worker.uses.contains_key(&query.key) {
                return Err(EADDRINUSE);
            }
            if worker.uses.len() >= LISTENERS_MAX {
                return Err(EMFILE);
            }
            worker.uses.insert(query.key.clone(), Use::Shared);
        }
        if !self.fits() {
            if let Some(worker) = self.workers.borrow_mut().get_mut(copy) {
                worker.uses.remove(&query.key);
            }
            return Err(EMFILE);
        }
        if self.trial.get()
            && let Some(name) = query.name_on_trial()
        {
            // It believes that it listens; nothing is ever passed on to it.
            let Some(channel) = self.asking(copy) else {
                return Ok(());
            };
            let mut answer = json!({
                "cmd": "NODE_CLUSTER",
                "ack": message.get("seq"),
                "seq": self.next_seq(),
                "key": query.key,
                "errno": 0,
                "data": message.get("data"),
            });
            if !name.is_null() {
                answer["sockname"] = name;
            }
            channel.send(&answer);
            return Ok(());
        }
        let bound = self.listener(copy, query, message).await;
        let handle = match bound {
            Ok(handle) => handle,
            Err(errno) => {
                if let Some(worker) = self.workers.borrow_mut().get_mut(copy) {
                    worker.uses.remove(&query.key);
                }
                return Err(errno);
            }
        };
        let (kind, data) = {
            let mut listeners = self.listeners.borrow_mut();
            let Some(listener) = listeners.get_mut(&query.key) else {
                // Closed meanwhile, by a stop.
                return Err(EBADF);
            };
            // A daemon before died between binding and noting.
            if listener.data.is_null() {
                listener.data = message.get("data").cloned().unwrap_or_default();
            }
            (listener.kind, listener.data.clone())
        };
        let how = match (self.balance.get(), kind) {
            (Balance::RoundRobin, Kind::Tcp | Kind::Unix) => Use::Passed,
            // Datagrams have no connections to pass on.
            (Balance::RoundRobin, Kind::Udp) | (Balance::Shared, _) => Use::Shared,
        };
        if let Some(worker) = self.workers.borrow_mut().get_mut(copy) {
            worker.uses.insert(query.key.clone(), how);
        }
        // The next daemon must know before the worker does.
        self.remember();
        let Some(channel) = self.asking(copy) else {
            return Ok(());
        };
        let mut answer = json!({
            "cmd": "NODE_CLUSTER",
            "ack": message.get("seq"),
            "seq": self.next_seq(),
            "key": query.key,
            "errno": 0,
            "data": data,
        });
        match how {
            Use::Shared => channel.send_handle(answer, kind.native(), handle),
            Use::Passed => {
                if kind == Kind::Tcp
                    && let Some(name) = bind::name_of(&handle)
                {
                    answer["sockname"] = name;
                }
                let sent = channel.send(&answer);
                Passing::begin(self, &query.key);
                sent
            }
        };
        Ok(())
    }

    /// `listen({fd: 3})`: a socket that the worker was started with.
    async fn answer_foreign(&self, copy: &str, fd: u32, query: &Query, message: &Value) -> Result<(), i32> {
        let name = {
            let workers = self.workers.borrow();
            let worker = workers.get(copy).ok_or(EBADF)?;
            worker.sockets.get(&fd).cloned().ok_or(EBADF)?
        };
        let handle = self.keep.get(name).await.ok_or(EBADF)?;
        let kind = Kind::of(&handle).ok_or(EBADF)?;
        bind::make_nonblocking(&handle)?;
        let Some(channel) = self.asking(copy) else {
            return Ok(());
        };
        let answer = json!({
            "cmd": "NODE_CLUSTER",
            "ack": message.get("seq"),
            "seq": self.next_seq(),
            "key": query.key,
            "errno": 0,
            "data": message.get("data"),
        });
        channel.send_handle(answer, kind.native(), Rc::new(handle));
        Ok(())
    }

    /// The listener of a query: the one there is, or a new one.
    async fn listener(&self, copy: &str, query: &Query, message: &Value) -> Result<Rc<OwnedFd>, i32> {
        if let Some(handle) = self.handle(&query.key).await {
            return Ok(handle);
        }
        if self.listeners.borrow().len() >= LISTENERS_MAX {
            return Err(EMFILE);
        }
        let wanted = if self.trial.get() {
            query.clone().on_trial()
        } else {
            query.clone()
        };
        let mut tries = 0;
        let bound = loop {
            // Another worker may have been faster, while this one waited. From here to where it is kept nothing waits.
            if let Some((handle, _)) = self.socket(&query.key) {
                return Ok(handle);
            }
            // It may have ended, and everything been closed: nobody would close this one.
            if self.asking(copy).is_none() {
                return Err(EBADF);
            }
            match bind::bind(&wanted) {
                // What this app has just closed may take a moment to be closed everywhere.
                Err(EADDRINUSE) if tries < BIND_TRIES => {
                    tries += 1;
                    tokio::time::sleep(BIND_PAUSE).await;
                }
                bound => break bound?,
            }
        };
        let name = format!("{}{}", self.prefix, query.key);
        let handle = Rc::new(bound.socket);
        // Before anything else is waited for: the next worker that asks finds it.
        self.listeners.borrow_mut().insert(
            query.key.clone(),
            Listener {
                handle: Some(Rc::clone(&handle)),
                data: message.get("data").cloned().unwrap_or_default(),
                kind: bound.kind,
                place: bound.place,
                shown: query.shown(),
                passing: None,
            },
        );
        if !self.fits() {
            let listener = self.listeners.borrow_mut().remove(&query.key);
            if let Some(listener) = listener {
                self.close(&query.key, listener);
            }
            return Err(EMFILE);
        }
        let duplicate = handle.try_clone().map_err(|_| EMFILE)?;
        self.keep.put(name, duplicate).await;
        Ok(handle)
    }

    fn close(&self, key: &str, listener: Listener) {
        if let Some(place) = &listener.place {
            place.remove();
        }
        self.keep.close(format!("{}{key}", self.prefix));
    }

    /// The socket of a listener, once it is here.
    pub(super) fn socket(&self, key: &str) -> Option<(Rc<OwnedFd>, Kind)> {
        let listeners = self.listeners.borrow();
        let listener = listeners.get(key)?;
        Some((Rc::clone(listener.handle.as_ref()?), listener.kind))
    }
}

/// Where an app listens and how many workers do: for people.
impl Primary {
    /// One line for each listener.
    pub(crate) fn places(&self) -> Vec<String> {
        let listeners = self.0.listeners.borrow();
        listeners
            .values()
            .map(|listener| {
                let real = listener
                    .handle
                    .as_ref()
                    .and_then(|handle| bind::name_of(handle))
                    .and_then(|name| name.get("port").cloned());
                match real {
                    Some(port) if listener.shown.ends_with(":0") => {
                        format!("{} (port {port})", listener.shown)
                    }
                    _ => listener.shown.clone(),
                }
            })
            .collect()
    }
}

/// Maps by worker and number.
pub(super) type ByWorker<T> = HashMap<(String, u64), T>;

#[cfg(test)]
#[path = "primary_tests.rs"]
mod tests;
