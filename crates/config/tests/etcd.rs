//! The configuration layer on a real etcd: what goes by itself, the order of the history, pages of one moment, trimming.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use upkeep_config::{
    Config, ConfigError, Path, Place,
    entry::{Before, Change, Past, Put, Removal},
    rights::{All, Asker},
    rules::Rules,
    seal::Identity,
    shared::Keep,
    value::Value,
};
use upkeep_etcd::{Config as Settings, Etcd};
use upkeep_store::kv::{Kv, Range};
use upkeep_testkit::{etcd::Etcd as Servers, pass, wait_until};

const ME: Asker<'static> = Asker {
    who: "uid:1000",
    rights: &All,
};

fn now() -> f64 {
    1_795_000_000.0
}

struct World {
    runtime: tokio::runtime::Runtime,
    kv: Arc<dyn Kv>,
    config: Config,
    _servers: Servers,
}

impl World {
    fn new() -> Self {
        let servers = Servers::single(&[]);
        let settings = Settings {
            endpoints: servers.endpoints(),
            timeout: Duration::from_secs(20),
            ..Settings::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (kv, config) = runtime.block_on(async {
            let kv: Arc<dyn Kv> = Arc::new(Etcd::new(settings).expect("a backend"));
            let identity = Identity::generate("machine:here").expect("random numbers");
            let config = Config::open(Arc::clone(&kv), vec![identity], now).await;
            (kv, config.expect("a configuration"))
        });
        Self {
            runtime,
            kv,
            config,
            _servers: servers,
        }
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn change(&self, change: &Change) -> upkeep_config::entry::Changed {
        self.wait(self.config.change(ME, change)).expect("changed")
    }

    fn set(&self, path: &str, text: &str) -> u64 {
        self.change(&Change {
            puts: vec![put(path, text)],
            ..Change::default()
        })
        .revision
    }

    fn remove(&self, place: &str) -> u64 {
        self.change(&Change {
            removals: vec![Removal {
                place: in_(place),
                expected: None,
            }],
            ..Change::default()
        })
        .revision
    }

    fn text(&self, path: &str) -> Option<String> {
        match self.wait(self.config.get(ME, &at(path), true)) {
            Ok(entry) => {
                Some(String::from_utf8(entry.shown.value().expect("shown").bytes.clone()).expect("text"))
            }
            Err(ConfigError::NotFound(_)) => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    fn history(&self, place: &str, limit: usize) -> Vec<Past> {
        let mut all = Vec::new();
        let mut before: Option<Before> = None;
        loop {
            let page = self.wait(self.config.history(ME, &in_(place), limit, before.as_ref()));
            let page = page.expect("a history");
            all.extend(page.changes);
            before = page.next;
            if before.is_none() {
                return all;
            }
        }
    }
}

fn at(path: &str) -> Path {
    path.parse().expect("a path")
}

fn in_(place: &str) -> Place {
    place.parse().expect("a place")
}

fn put(path: &str, text: &str) -> Put {
    Put {
        path: at(path),
        value: Value::text(text),
        secret: false,
        expected: None,
    }
}

#[test]
fn what_nobody_keeps_alive_goes() {
    let world = World::new();
    let leased = Change {
        puts: vec![put("/web/1", "up"), put("/web/load", "3")],
        ttl: Some(Duration::from_secs(1)),
        ..Change::default()
    };
    let lease = world.change(&leased).lease.expect("it has one");
    let until = Instant::now() + lease.ttl + Duration::from_millis(700);
    while Instant::now() < until {
        let alive = world.wait(world.config.keep_alive(ME, lease.id)).expect("alive");
        assert_eq!(alive.id, lease.id);
        pass(Duration::from_millis(200));
    }
    assert_eq!(world.text("/web/load").as_deref(), Some("3"));
    // Written anew it lives on its own.
    world.set("/web/load", "3");
    wait_until("the value to go", Duration::from_secs(30), || {
        match world.text("/web/1") {
            None => Ok(()),
            Some(text) => Err(format!("it is there: {text}")),
        }
    });
    assert_eq!(world.text("/web/load").as_deref(), Some("3"));
    assert_eq!(
        world.wait(world.config.keep_alive(ME, lease.id)),
        Err(ConfigError::NoLease(lease.id))
    );
    // What comes next has its place in the history behind what went.
    let last = world.set("/web/1", "again");
    let history = world.history("/web/1", 10);
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].revision, last);
}

#[test]
fn the_history_is_in_order_and_found_by_keys_on_etcd_too() {
    let world = World::new();
    let first = world.set("/shop/a", "0");
    for round in 1..20 {
        world.remove("/shop/a");
        world.set("/shop/a", &round.to_string());
    }
    for name in 0..30 {
        world.set(&format!("/shop/b/{name:02}"), "x");
    }
    let entries = world
        .wait(world.kv.range(Range::prefix("h/shop/a\0")))
        .expect("read")
        .entries;
    let revisions: Vec<u64> = entries
        .iter()
        .filter(|entry| !entry.key.contains('!'))
        .map(|entry| entry.modified)
        .collect();
    assert_eq!(revisions.len(), 39);
    assert!(revisions.is_sorted_by(|a, b| a > b), "{revisions:?}");
    let whole = world.history("/shop/", 1000);
    assert_eq!(whole.len(), 69);
    assert_eq!(world.history("/shop/", 7), whole);
    // Pages of one moment, and going back as far as it goes.
    let page = world
        .wait(world.config.list(ME, &in_("/shop/"), 10, None))
        .expect("a listing");
    world.set("/shop/b/29", "later");
    let next = page.next.clone();
    let rest = world.wait(
        world
            .config
            .list_at(ME, &in_("/shop/"), 1000, next.as_ref(), Some(page.revision)),
    );
    let rest = rest.expect("the rest");
    assert_eq!(rest.entries.len(), 21);
    assert_eq!(rest.entries[20].shown.value().expect("plain").bytes, b"x");
    let dry = world
        .wait(world.config.rollback(ME, &in_("/shop/"), first, None, true))
        .expect("said");
    assert_eq!(dry.differences.len(), 31);
    // Kept is what the place keeps.
    let rules = Rules {
        keep: Some(Keep { changes: 4, days: 10 }),
        ..Rules::default()
    };
    world
        .wait(world.config.set_rules(ME, &in_("/shop/"), rules))
        .expect("set");
    let trimmed = world
        .wait(world.config.trim(ME, &in_("/"), None))
        .expect("trimmed");
    assert_eq!(
        (trimmed.removed, trimmed.next),
        (0, None),
        "it went when that was said"
    );
    assert_eq!(world.history("/shop/a", 1000).len(), 4);
    assert!(matches!(
        world.wait(world.config.rollback(ME, &in_("/shop/"), first, None, true)),
        Err(ConfigError::Trimmed { .. })
    ));
    assert_eq!(world.text("/shop/a").as_deref(), Some("19"));
}
