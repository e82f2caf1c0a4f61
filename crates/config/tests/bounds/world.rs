//! A configuration over a store that counts what is read, and a clock that is set.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_executor::block_on;
use upkeep_config::{
    Config, ConfigError, Path, Place,
    entry::{Before, Change, Changed, Past, Put, Removal},
    rights::{All, Asker, Rights, Verb},
    seal::Identity,
    value::Value,
};
use upkeep_store::kv::{
    Answer, Answered, Kv, Lease, LeaseId, Limits, Range, Ranged, Revision, Status, Txn, Watch, WatchStream,
    embedded::{Embedded, Options},
};

pub(crate) const ME: Asker<'static> = Asker {
    who: "uid:1000",
    rights: &All,
};

static SECONDS: AtomicU64 = AtomicU64::new(1_795_000_000);

/// Unix seconds. Tests that set it forward disturb no other: each looks at differences alone.
pub(crate) fn now() -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let now = SECONDS.load(Ordering::Relaxed) as f64;
    now
}

/// A backend that counts the keys that it gives, and takes as much as it is told to.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) inner: Arc<dyn Kv>,
    pub(crate) keys: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    pub(crate) ops: usize,
}

impl Counted {
    pub(crate) fn reset(&self) {
        self.keys.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> (usize, usize) {
        (
            self.keys.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// The store, shared with the test.
#[derive(Clone, Debug)]
pub(crate) struct Handle(pub(crate) Arc<Counted>);

impl Kv for Handle {
    fn range(&self, range: Range) -> Answer<Ranged> {
        let counted = Arc::clone(&self.0);
        let answer = counted.inner.range(range);
        Box::pin(async move {
            let ranged = answer.await?;
            counted.keys.fetch_add(ranged.entries.len(), Ordering::Relaxed);
            let bytes: usize = ranged.entries.iter().map(|entry| entry.value.len()).sum();
            counted.bytes.fetch_add(bytes, Ordering::Relaxed);
            Ok(ranged)
        })
    }

    fn txn(&self, txn: Txn) -> Answer<Answered> {
        assert!(
            txn.then.len() <= self.0.ops && txn.guards.len() <= self.0.ops,
            "this store would refuse that: {} steps, {} guards",
            txn.then.len(),
            txn.guards.len()
        );
        self.0.inner.txn(txn)
    }

    fn watch(&self, watch: Watch) -> WatchStream {
        self.0.inner.watch(watch)
    }

    fn grant(&self, ttl: Duration) -> Answer<Lease> {
        self.0.inner.grant(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<Lease> {
        self.0.inner.keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> Answer<Revision> {
        self.0.inner.revoke(lease)
    }

    fn lease(&self, lease: LeaseId) -> Answer<Lease> {
        self.0.inner.lease(lease)
    }

    fn compact(&self, revision: Revision) -> Answer<()> {
        self.0.inner.compact(revision)
    }

    fn status(&self) -> Answer<Status> {
        self.0.inner.status()
    }

    fn defragment(&self) -> Answer<()> {
        self.0.inner.defragment()
    }

    fn limits(&self) -> Limits {
        Limits {
            ops: self.0.ops,
            ..self.0.inner.limits()
        }
    }
}

pub(crate) struct World<C = Config> {
    folder: tempfile::TempDir,
    pub(crate) store: Handle,
    pub(crate) config: C,
}

impl World<()> {
    /// A store without anything in it.
    pub(crate) fn empty() -> Self {
        Self::empty_with(10_000)
    }

    fn empty_with(ops: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.redb");
        let inner: Arc<dyn Kv> = Arc::new(Embedded::open(&file, Options::default()).expect("a store"));
        let store = Handle(Arc::new(Counted {
            inner,
            keys: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            ops,
        }));
        Self {
            folder,
            store,
            config: (),
        }
    }

    /// With the configuration that it holds.
    pub(crate) fn opened(self) -> World {
        self.opened_with(now)
    }

    fn opened_with(self, now: fn() -> f64) -> World {
        let identity = Identity::generate("machine:here").expect("random numbers");
        let kv: Arc<dyn Kv> = Arc::new(self.store.clone());
        let config = block_on(Config::open(kv, vec![identity], now)).expect("a configuration");
        World {
            folder: self.folder,
            store: self.store,
            config,
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(10_000, now)
    }

    /// With so many steps in a change, and this clock.
    pub(crate) fn with(ops: usize, now: fn() -> f64) -> Self {
        World::empty_with(ops).opened_with(now)
    }

    pub(crate) fn try_change(&self, asker: Asker<'_>, change: &Change) -> Result<Changed, ConfigError> {
        block_on(self.config.change(asker, change))
    }

    pub(crate) fn put(&self, puts: Vec<Put>) -> u64 {
        let change = Change {
            puts,
            ..Change::default()
        };
        self.patient(&change)
    }

    /// Makes a change, however many others are faster.
    fn patient(&self, change: &Change) -> u64 {
        loop {
            match self.try_change(ME, change) {
                Ok(changed) => return changed.revision,
                Err(ConfigError::Busy(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn set(&self, path: &str, text: &str) -> u64 {
        self.put(vec![put(path, text)])
    }

    pub(crate) fn remove(&self, place: &str) -> u64 {
        let removals = vec![Removal {
            place: in_(place),
            expected: None,
        }];
        let change = Change {
            removals,
            ..Change::default()
        };
        self.patient(&change)
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        match block_on(self.config.get(ME, &at(path), true)) {
            Ok(entry) => {
                let value = entry.shown.value().expect("it was to be revealed").clone();
                Some(String::from_utf8(value.bytes).expect("text"))
            }
            Err(ConfigError::NotFound(_)) => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// All of the history, page by page.
    pub(crate) fn history(&self, place: &str, limit: usize) -> Vec<Past> {
        let mut all = Vec::new();
        let mut before: Option<Before> = None;
        loop {
            let page = block_on(self.config.history(ME, &in_(place), limit, before.as_ref()));
            let page = page.expect("a history");
            assert!(page.changes.len() <= limit);
            all.extend(page.changes);
            before = page.next;
            if before.is_none() {
                return all;
            }
        }
    }
}

pub(crate) fn at(path: &str) -> Path {
    path.parse().expect("a path")
}

pub(crate) fn in_(place: &str) -> Place {
    place.parse().expect("a place")
}

pub(crate) fn put(path: &str, text: &str) -> Put {
    Put {
        path: at(path),
        value: Value::text(text),
        secret: false,
        expected: None,
    }
}

pub(crate) fn secret(path: &str, text: &str) -> Put {
    Put {
        secret: true,
        ..put(path, text)
    }
}

/// These verbs, everywhere.
pub(crate) struct Only(pub(crate) &'static [Verb]);

impl Rights for Only {
    fn may(&self, verb: Verb, _: &Path) -> bool {
        self.0.contains(&verb)
    }

    fn may_all(&self, verb: Verb, _: &Place) -> bool {
        self.0.contains(&verb)
    }
}
