//! Changes of the same moment: how they go together to a store that is far away, and that none is mixed up with another.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_executor::block_on;
use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture},
};
use upkeep_config::{
    Config, ConfigError, Path, Place,
    entry::{Change, Changed, Put},
    rights::{All, Asker},
    seal::Identity,
    value::Value,
};
use upkeep_store::kv::{
    Answer, Answered, Kv, KvError, Lease, LeaseId, Limits, Range, Ranged, Reason, Revision, Status, Txn,
    Watch, WatchStream,
    embedded::{Embedded, Options},
};
use upkeep_testkit::wait_until;

const ME: Asker<'static> = Asker {
    who: "uid:1000",
    rights: &All,
};

/// What happens to the next transaction that comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Well,
    /// Carried out, and nobody is told.
    Unheard,
    /// Not carried out: one of them is at fault.
    Refused,
    /// Not carried out: nobody is there.
    Away,
}

/// A store in a file that is as slow as one far away: each transaction waits until the test lets it go.
#[derive(Debug)]
struct Far {
    inner: Embedded,
    is_open: AtomicBool,
    waits: Mutex<Vec<Waker>>,
    /// Reads that were not answered yet.
    reads: AtomicUsize,
    /// How many writes each transaction had.
    sent: Mutex<Vec<usize>>,
    /// Of the transactions that come next, the last first.
    fates: Mutex<Vec<Fate>>,
}

impl Far {
    fn reading<T: Send + 'static>(self: &Arc<Self>, answer: Answer<T>) -> Answer<T> {
        let far = Arc::clone(self);
        async move {
            far.reads.fetch_add(1, Ordering::SeqCst);
            let answer = answer.await;
            far.reads.fetch_sub(1, Ordering::SeqCst);
            answer
        }
        .boxed()
    }

    /// Drives changes until they have read what they need, and wait for what is on its way.
    fn until_all_wait<T>(&self, mut changes: impl Future<Output = T> + Unpin) {
        let mut settled = 0;
        wait_until("changes to wait", Duration::from_secs(30), || {
            assert!((&mut changes).now_or_never().is_none(), "they wait");
            settled = match self.reads.load(Ordering::SeqCst) {
                0 => settled + 1,
                _ => 0,
            };
            if settled == 2 {
                Ok(())
            } else {
                Err("they read".to_owned())
            }
        });
    }

    fn hold(&self) {
        self.is_open.store(false, Ordering::SeqCst);
    }

    fn let_go(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        for waker in self.waits.lock().expect("no panic").drain(..) {
            waker.wake();
        }
    }

    fn sent(&self) -> Vec<usize> {
        std::mem::take(&mut *self.sent.lock().expect("no panic"))
    }
}

#[derive(Clone, Debug)]
struct Handle {
    far: Arc<Far>,
    /// Somebody else, who is quick: nothing waits.
    is_straight: bool,
}

impl Kv for Handle {
    fn range(&self, range: Range) -> Answer<Ranged> {
        self.far.reading(self.far.inner.range(range))
    }

    fn txn(&self, txn: Txn) -> Answer<Answered> {
        let far = Arc::clone(&self.far);
        if self.is_straight {
            return far.inner.txn(txn);
        }
        if !txn.writes() {
            return far.reading(far.inner.txn(txn));
        }
        async move {
            future::poll_fn(|cx: &mut Context<'_>| {
                let mut waits = far.waits.lock().expect("no panic");
                if far.is_open.load(Ordering::SeqCst) {
                    return Poll::Ready(());
                }
                waits.push(cx.waker().clone());
                Poll::Pending
            })
            .await;
            far.sent.lock().expect("no panic").push(txn.then.len());
            let fate = far.fates.lock().expect("no panic").pop().unwrap_or_default();
            let attempt = txn.to_string();
            match fate {
                Fate::Well => far.inner.txn(txn).await,
                Fate::Refused => Err(KvError::new(attempt, Reason::Denied("not that".to_owned()))),
                Fate::Away => Err(KvError::new(
                    attempt,
                    Reason::Unavailable("nobody is there".to_owned()),
                )),
                Fate::Unheard => {
                    far.inner.txn(txn).await?;
                    Err(KvError::new(
                        attempt,
                        Reason::NoAnswer("it is far away".to_owned()),
                    ))
                }
            }
        }
        .boxed()
    }

    fn watch(&self, watch: Watch) -> WatchStream {
        self.far.inner.watch(watch)
    }

    fn grant(&self, ttl: Duration) -> Answer<Lease> {
        self.far.inner.grant(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<Lease> {
        self.far.inner.keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> Answer<Revision> {
        self.far.inner.revoke(lease)
    }

    fn lease(&self, lease: LeaseId) -> Answer<Lease> {
        self.far.inner.lease(lease)
    }

    fn compact(&self, revision: Revision) -> Answer<()> {
        self.far.inner.compact(revision)
    }

    fn status(&self) -> Answer<Status> {
        self.far.inner.status()
    }

    fn defragment(&self) -> Answer<()> {
        self.far.inner.defragment()
    }

    fn limits(&self) -> Limits {
        Limits {
            ops: 128,
            ..self.far.inner.limits()
        }
    }

    fn is_remote(&self) -> bool {
        !self.is_straight
    }
}

struct World {
    _dir: tempfile::TempDir,
    far: Arc<Far>,
    config: Config,
}

type Changing<'a> = BoxFuture<'a, Result<Changed, ConfigError>>;

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let inner = Embedded::open(&dir.path().join("config.redb"), Options::default()).expect("a store");
        let far = Arc::new(Far {
            inner,
            is_open: AtomicBool::new(true),
            waits: Mutex::default(),
            reads: AtomicUsize::new(0),
            sent: Mutex::default(),
            fates: Mutex::default(),
        });
        let identity = Identity::generate("machine:here").expect("random numbers");
        let kv: Arc<dyn Kv> = Arc::new(Handle {
            far: Arc::clone(&far),
            is_straight: false,
        });
        let config = block_on(Config::open(kv, vec![identity], || 1_700_000_000.0)).expect("it opens");
        // Rules are asked for once.
        block_on(config.change(ME, &set("/first", "1", None))).expect("set");
        far.sent();
        Self {
            _dir: dir,
            far,
            config,
        }
    }

    fn handle(&self, is_straight: bool) -> Handle {
        Handle {
            far: Arc::clone(&self.far),
            is_straight,
        }
    }

    fn change(&self, change: Change) -> Changing<'_> {
        async move { self.config.change(ME, &change).await }.boxed()
    }

    /// Begins changes: one that is on its way, and others behind it; then lets all go.
    fn together(&self, changes: Vec<Change>) -> Vec<Result<Changed, ConfigError>> {
        self.far.hold();
        let mut all = vec![self.change(set("/before", &unique(), None))];
        all.extend(changes.into_iter().map(|change| self.change(change)));
        let mut all = future::join_all(all);
        self.far.until_all_wait(&mut all);
        self.far.let_go();
        let mut done = block_on(all);
        done.remove(0).expect("the first is done");
        done
    }

    fn text(&self, path: &str) -> Option<String> {
        let entry = match block_on(self.config.get(ME, &at(path), false)) {
            Err(ConfigError::NotFound(_)) => return None,
            entry => entry.expect("read"),
        };
        let bytes = entry.shown.value().expect("shown").bytes.clone();
        Some(String::from_utf8(bytes).expect("text"))
    }
}

fn unique() -> String {
    use std::sync::atomic::AtomicU64;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}

fn at(path: &str) -> Path {
    path.parse().expect("a path")
}

fn set(path: &str, text: &str, expected: Option<u64>) -> Change {
    Change {
        puts: vec![Put {
            path: at(path),
            value: Value::text(text),
            secret: false,
            expected,
        }],
        ..Change::default()
    }
}

#[test]
fn what_comes_meanwhile_goes_together() {
    let world = World::new();
    let changes = (0..20).map(|number| set(&format!("/many/{number:02}"), "1", None));
    let done = world.together(changes.collect());
    let revisions: Vec<u64> = done
        .into_iter()
        .map(|one| one.expect("changed").revision)
        .collect();
    assert_eq!(revisions.len(), 20);
    assert!(revisions.windows(2).all(|two| two[0] == two[1]), "{revisions:?}");
    assert_eq!(world.far.sent(), [2, 40], "the first alone, the others together");
    let history = block_on(world.config.history(ME, &Place::all(), 100, None)).expect("a history");
    assert_eq!(history.changes.len(), 22, "each is in the history");
    // Writing again, from memory, goes together as well.
    let changes = (0..20).map(|number| set(&format!("/many/{number:02}"), "2", None));
    assert!(world.together(changes.collect()).iter().all(Result::is_ok));
    assert_eq!(world.far.sent(), [2, 40]);
    assert_eq!(world.text("/many/19").as_deref(), Some("2"));
}

#[test]
fn a_store_takes_so_much_in_one_transaction() {
    let world = World::new();
    let changes = (0..100).map(|number| set(&format!("/many/{number:02}"), "1", None));
    assert!(world.together(changes.collect()).iter().all(Result::is_ok));
    let sent = world.far.sent();
    assert!(sent.iter().all(|writes| *writes <= 128), "{sent:?}");
    assert_eq!(sent.iter().sum::<usize>(), 202);
    // What is large goes alone.
    let large = "x".repeat(300 << 10);
    let changes = vec![
        set("/a", &large, None),
        set("/b", "1", None),
        set("/c", "1", None),
    ];
    assert!(world.together(changes).iter().all(Result::is_ok));
    assert_eq!(world.text("/a").map(|text| text.len()), Some(300 << 10));
    assert_eq!(world.far.sent().iter().sum::<usize>(), 8);
}

#[test]
fn one_that_fails_takes_nobody_with_it() {
    let world = World::new();
    let revision = block_on(world.change(set("/kept", "1", None)))
        .expect("set")
        .revision;
    // The same value twice, one that expects what is no more, and two that have nothing to do with them.
    let other = block_on(Config::open(
        Arc::new(world.handle(false)),
        vec![Identity::generate("machine:other").expect("random numbers")],
        || 1_700_000_000.0,
    ))
    .expect("it opens");
    world.far.hold();
    let mut all = future::join_all([
        world.change(set("/before", "1", None)),
        world.change(set("/a", "1", None)),
        world.change(set("/kept", "mine", Some(revision))),
        world.change(set("/same", "1", None)),
        world.change(set("/same", "2", None)),
        world.change(set("/b", "1", None)),
    ]);
    world.far.until_all_wait(&mut all);
    // Somebody else is faster: past the door, straight into the file.
    let inner = Config::open(
        Arc::new(world.handle(true)),
        vec![Identity::generate("machine:third").expect("random numbers")],
        || 1_700_000_000.0,
    );
    let inner = block_on(inner).expect("it opens");
    block_on(inner.change(ME, &set("/kept", "theirs", None))).expect("set");
    world.far.let_go();
    let done = block_on(all);
    let failed: Vec<usize> = (0..done.len()).filter(|number| done[*number].is_err()).collect();
    assert_eq!(failed, [2], "{done:?}");
    assert!(matches!(&done[2], Err(ConfigError::Conflict { .. })), "{done:?}");
    assert_eq!(world.text("/kept").as_deref(), Some("theirs"));
    assert_eq!(world.text("/a").as_deref(), Some("1"));
    assert_eq!(world.text("/b").as_deref(), Some("1"));
    let same = block_on(other.history(ME, &"/same".parse().expect("a place"), 10, None)).expect("a history");
    assert_eq!(same.changes.len(), 2, "one after the other");
}

#[test]
fn a_refusal_of_all_is_tried_by_each() {
    let world = World::new();
    world.far.hold();
    let mut all = future::join_all([
        world.change(set("/before", "1", None)),
        world.change(set("/a", "1", None)),
        world.change(set("/b", "1", None)),
    ]);
    world.far.until_all_wait(&mut all);
    // The first one goes alone, and its refusal is its own; of the others each is tried by itself.
    *world.far.fates.lock().expect("no panic") = vec![Fate::Refused, Fate::Refused];
    world.far.let_go();
    let done = block_on(all);
    let failed: Vec<bool> = done.iter().map(Result::is_err).collect();
    assert_eq!(failed, [true, false, false], "{done:?}");
    assert_eq!(world.far.sent(), [2, 4, 2, 2]);
    // What has nothing to do with them is not tried again by each: they would only wait once more.
    world.far.hold();
    let mut all = future::join_all([
        world.change(set("/before", "2", None)),
        world.change(set("/a", "2", None)),
        world.change(set("/b", "2", None)),
    ]);
    world.far.until_all_wait(&mut all);
    *world.far.fates.lock().expect("no panic") = vec![Fate::Away, Fate::Away];
    world.far.let_go();
    let done = block_on(all);
    assert!(done.iter().all(Result::is_err), "{done:?}");
    for (error, path) in done.into_iter().zip(["/before", "/a", "/b"]) {
        let error = error.expect_err("away").to_string();
        assert!(error.contains(path), "its own words: {error}");
    }
    assert_eq!(world.far.sent(), [2, 4]);
}

#[test]
fn who_gets_no_answer_finds_out_alone() {
    let world = World::new();
    world.far.hold();
    let mut all = future::join_all([
        world.change(set("/a", "1", None)),
        world.change(set("/b", "1", None)),
        world.change(set("/c", "1", None)),
    ]);
    world.far.until_all_wait(&mut all);
    *world.far.fates.lock().expect("no panic") = vec![Fate::Unheard];
    world.far.let_go();
    // Each looks for its own line in the history.
    let done = block_on(all);
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    for path in ["/a", "/b", "/c"] {
        assert_eq!(world.text(path).as_deref(), Some("1"));
    }
}

#[test]
fn who_does_not_wait_any_more_changes_nothing_later() {
    let world = World::new();
    world.far.hold();
    let mut first = world.change(set("/before", "1", None));
    world.far.until_all_wait(&mut first);
    let mut gone = world.change(set("/gone", "1", None));
    world.far.until_all_wait(&mut gone);
    let mut stays = world.change(set("/stays", "1", None));
    world.far.until_all_wait(&mut stays);
    drop(gone);
    // Not even the one that is on its way keeps the others from going on.
    drop(first);
    world.far.let_go();
    block_on(stays).expect("changed");
    assert_eq!(world.text("/gone"), None);
    assert_eq!(world.text("/stays").as_deref(), Some("1"));
    block_on(world.change(set("/next", "1", None))).expect("changed");
    assert_eq!(world.text("/gone"), None);
}
