//! The whole layer, with what it remembers and gathers, under clients that a checker watches: linearizable, whatever happens to
//! the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use upkeep_config::{
    Config, ConfigError, Path,
    entry::{Change, Entry, Put},
    rights::{All, Asker},
    seal::Identity,
    value::Value,
};
use upkeep_etcd::Etcd;
use upkeep_store::kv::{
    Answer, Answered, Done, KeyValue, Kv, KvError, Lease, LeaseId, Limits, Op, Range, Ranged, Reason,
    Revision, Span, Status, Target, Txn, Watch, WatchStream,
    conformance::{
        linear::{Recorder, client},
        walk::seed,
    },
    embedded::{Embedded, Options},
};
use upkeep_testkit::{etcd::Etcd as Servers, wait_until};

const ME: Asker<'static> = Asker {
    who: "uid:1000",
    rights: &All,
};
const SOON: Duration = Duration::from_secs(40);

/// Registers in the configuration: reads, writes and compare-and-set as every caller makes them.
#[derive(Clone, Debug)]
struct Layer(Arc<Config>);

impl Layer {
    async fn open(kv: Arc<dyn Kv>, name: &str) -> Arc<dyn Kv> {
        let identity = Identity::generate(name).expect("random numbers");
        let config = Config::open(kv, vec![identity], || 1_700_000_000.0).await;
        Arc::new(Self(Arc::new(config.expect("it opens"))))
    }

    async fn entry(&self, path: &Path) -> Result<Option<Entry>, KvError> {
        match self.0.get(ME, path, false).await {
            Ok(entry) => Ok(Some(entry)),
            Err(ConfigError::NotFound(_)) => Ok(None),
            Err(error) => Err(of_store(error)),
        }
    }

    async fn ranged(&self, key: &str) -> Result<Ranged, KvError> {
        let entry = self.entry(&path(key)).await?;
        let entries = entry.map(|entry| KeyValue {
            key: key.to_owned(),
            value: entry.shown.value().expect("no secret").bytes.clone(),
            created: 0,
            modified: entry.revision,
            version: entry.version,
            lease: None,
        });
        Ok(Ranged {
            revision: 0,
            entries: entries.into_iter().collect(),
            more: false,
            count: None,
        })
    }

    async fn changed(&self, txn: Txn) -> Result<Answered, KvError> {
        let [Op::Put { key, value, .. }] = txn.then.as_slice() else {
            panic!("registers are written one at a time: {txn:?}");
        };
        let missed = |found: Ranged| Answered {
            revision: 0,
            succeeded: false,
            results: vec![Done::Got(found)],
        };
        let mut expected = None;
        if let Some(guard) = txn.guards.first() {
            let Target::Value(wanted) = &guard.target else {
                panic!("{guard:?}");
            };
            let found = self.ranged(key).await?;
            match found.entries.first() {
                Some(entry) if entry.value == *wanted => expected = Some(entry.modified),
                _ => return Ok(missed(found)),
            }
        }
        let put = Put {
            path: path(key),
            value: Value::text(String::from_utf8(value.clone()).expect("text")),
            secret: false,
            expected,
        };
        let change = Change {
            puts: vec![put],
            ..Change::default()
        };
        match self.0.change(ME, &change).await {
            Ok(changed) => Ok(Answered {
                revision: changed.revision,
                succeeded: true,
                results: Vec::new(),
            }),
            Err(ConfigError::Conflict { .. }) => Ok(missed(self.ranged(key).await?)),
            Err(error) => Err(of_store(error)),
        }
    }
}

fn path(key: &str) -> Path {
    key.parse().expect("a path")
}

/// What the store says; everything else is a refusal.
fn of_store(error: ConfigError) -> KvError {
    match error {
        ConfigError::Store(error) => error,
        ConfigError::Busy(_) => KvError::new("change", Reason::Busy(error.to_string())),
        error => panic!("{error}"),
    }
}

impl Kv for Layer {
    fn range(&self, range: Range) -> Answer<Ranged> {
        let this = self.clone();
        async move {
            let Span::One(key) = &range.span else {
                panic!("{range:?}");
            };
            this.ranged(key).await
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> Answer<Answered> {
        let this = self.clone();
        async move { this.changed(txn).await }.boxed()
    }

    fn watch(&self, _: Watch) -> WatchStream {
        unreachable!("nobody watches registers here")
    }

    fn grant(&self, _: Duration) -> Answer<Lease> {
        unreachable!("registers have no leases")
    }

    fn keep_alive(&self, _: LeaseId) -> Answer<Lease> {
        unreachable!("registers have no leases")
    }

    fn revoke(&self, _: LeaseId) -> Answer<Revision> {
        unreachable!("registers have no leases")
    }

    fn lease(&self, _: LeaseId) -> Answer<Lease> {
        unreachable!("registers have no leases")
    }

    fn compact(&self, _: Revision) -> Answer<()> {
        unreachable!("nobody compacts here")
    }

    fn status(&self) -> Answer<Status> {
        unreachable!("nobody asks here")
    }

    fn defragment(&self) -> Answer<()> {
        unreachable!("nobody asks here")
    }

    fn limits(&self) -> Limits {
        unreachable!("registers are small")
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// Runs clients, two on each layer, while `drill` goes on; then checks what they saw.
fn under(open: impl AsyncFn() -> Vec<Arc<dyn Kv>> + Sync, drill: impl FnOnce(&Recorder)) {
    let recorder = Recorder::default();
    let stop = AtomicBool::new(false);
    let seed = seed();
    std::thread::scope(|scope| {
        let clients =
            scope.spawn(|| {
                block_on(async {
                    let stores = open().await;
                    let twice = stores.iter().chain(&stores).zip(1..);
                    let pause = Duration::from_millis(8);
                    join_all(twice.map(|(store, number)| {
                        client(Arc::clone(store), &recorder, number, seed, pause, &stop)
                    }))
                    .await;
                });
            });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            some_more(&recorder, 200);
            drill(&recorder);
            some_more(&recorder, 200);
        }));
        stop.store(true, Ordering::Relaxed);
        let seen = clients.join();
        if let Some(panic) = outcome.err().or_else(|| seen.err()) {
            std::panic::resume_unwind(panic);
        }
    });
    recorder.check();
}

fn some_more(recorder: &Recorder, answers: u64) {
    let enough = recorder.answered() + answers;
    wait_until("clients to be answered", SOON, || {
        let answered = recorder.answered();
        if answered >= enough {
            Ok(())
        } else {
            Err(format!("{answered} of {enough}"))
        }
    });
}

#[test]
fn three_layers_over_one_file_are_linearizable() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&dir.path().join("config.redb"), Options::default()).expect("a store");
    let kv: Arc<dyn Kv> = Arc::new(store);
    let open = async || {
        let names = ["machine:one", "machine:two", "machine:three"];
        join_all(names.map(|name| Layer::open(Arc::clone(&kv), name))).await
    };
    under(open, |recorder| some_more(recorder, 400));
}

#[test]
fn heavy_three_layers_over_a_cluster_are_linearizable_while_members_are_killed() {
    let mut servers = Servers::three(false, &[]);
    let endpoints = servers.endpoints();
    let open = async || {
        let stores = (0..3).map(|number| {
            // Each begins with another member.
            let mut endpoints = endpoints.clone();
            endpoints.rotate_left(number);
            let config = upkeep_etcd::Config {
                endpoints,
                timeout: Duration::from_secs(3),
                connect_timeout: Duration::from_millis(700),
                ..upkeep_etcd::Config::default()
            };
            let kv: Arc<dyn Kv> = Arc::new(Etcd::new(config).expect("a backend"));
            async move { Layer::open(kv, &format!("machine:{number}")).await }
        });
        join_all(stores).await
    };
    under(open, |recorder| {
        // Whoever leads is among them.
        for member in 0..3 {
            servers.kill(member);
            some_more(recorder, 60);
            servers.start(member);
            some_more(recorder, 30);
        }
        for member in 0..3 {
            servers.pause(member);
            some_more(recorder, 30);
            servers.resume(member);
        }
    });
}
