//! Moving a store to another backend while it is in use, and what a migration that was broken off leaves.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_executor::{block_on, block_on_stream};
use upkeep_config::{
    Config, ConfigError, Path, Place,
    entry::{Change, Put, Removal},
    migrate::finish,
    proposals::Approval,
    rights::{All, Asker},
    rules::Rules,
    seal::Identity,
    value::Value,
    watch::Told,
};
use upkeep_model::settings::MachineName;
use upkeep_store::kv::{
    Kv, Op, Range, Span, Txn,
    embedded::{Embedded, Options},
};

const ME: Asker<'static> = Asker {
    who: "uid:1000",
    rights: &All,
};
const OTHER: Asker<'static> = Asker {
    who: "uid:1001",
    rights: &All,
};

fn now() -> f64 {
    1_795_000_000.0
}

fn store(folder: &tempfile::TempDir, name: &str) -> Arc<dyn Kv> {
    Arc::new(Embedded::open(&folder.path().join(name), Options::default()).expect("a store"))
}

fn key() -> [u8; 32] {
    *Identity::generate("machine:here")
        .expect("random numbers")
        .to_bytes()
}

fn open(kv: &Arc<dyn Kv>, key: [u8; 32]) -> Result<Config, ConfigError> {
    let identity = Identity::from_bytes("machine:here", key);
    block_on(Config::open(Arc::clone(kv), vec![identity], now))
}

fn path(text: &str) -> Path {
    text.parse().expect(text)
}

fn place(text: &str) -> Place {
    text.parse().expect(text)
}

fn put(config: &Config, at: &str, text: &str, secret: bool) -> Result<u64, ConfigError> {
    let change = Change {
        puts: vec![Put {
            path: path(at),
            value: Value::text(text),
            secret,
            expected: None,
        }],
        ..Change::default()
    };
    block_on(config.change(ME, &change)).map(|changed| changed.revision)
}

fn text(config: &Config, at: &str) -> Option<(String, u64)> {
    let entry = block_on(config.get(ME, &path(at), true)).ok()?;
    let value = entry.shown.value().expect("shown").bytes.clone();
    Some((String::from_utf8(value).expect("text"), entry.revision))
}

fn history(config: &Config) -> Vec<(String, u64, bool)> {
    let past = block_on(config.history(ME, &Place::all(), 10_000, None)).expect("a history");
    let all = past
        .changes
        .into_iter()
        .map(|past| (past.path.to_string(), past.revision, past.shown.is_some()));
    all.collect()
}

/// What a store has of each kind: values, a secret, a deletion, rules, a schema, a proposal, a machine.
fn fill(config: &Config) -> String {
    for n in 0..150 {
        put(config, &format!("/many/{n}"), &n.to_string(), false).expect("set");
    }
    put(config, "/shop/password", "hunter2", true).expect("set");
    put(config, "/shop/gone", "x", false).expect("set");
    let removal = Change {
        removals: vec![Removal {
            place: place("/shop/gone"),
            expected: None,
        }],
        ..Change::default()
    };
    block_on(config.change(ME, &removal)).expect("deleted");
    put(config, "/shop/port", "1", false).expect("set");
    put(config, "/safe/a", "old", false).expect("set");
    let leased = Change {
        puts: vec![Put {
            path: path("/live/one"),
            value: Value::text("here"),
            secret: false,
            expected: None,
        }],
        ttl: Some(std::time::Duration::from_mins(5)),
        ..Change::default()
    };
    block_on(config.change(ME, &leased)).expect("set for a while");
    let approved = Rules {
        approvals: 1,
        ..Rules::default()
    };
    block_on(config.set_rules(ME, &place("/safe/"), approved)).expect("rules");
    let schema = Rules {
        schema: Some(serde_json::json!({"properties": {"port": {"type": "string"}}})),
        ..Rules::default()
    };
    block_on(config.set_rules(ME, &place("/shop/"), schema)).expect("rules");
    let own = config.machines();
    assert!(block_on(own).expect("machines").is_empty());
    let machine = Identity::generate("machine:here")
        .expect("random numbers")
        .recipient();
    assert!(block_on(config.announce(&machine)).expect("announced"));
    let change = Change {
        puts: vec![Put {
            path: path("/safe/a"),
            value: Value::text("new"),
            secret: false,
            expected: None,
        }],
        ..Change::default()
    };
    let proposed = block_on(config.change(ME, &change)).expect("proposed").proposed;
    proposed.and_then(|proposed| proposed.id).expect("an id")
}

#[test]
fn everything_is_there_afterwards_at_the_revisions_that_it_had() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (store(&folder, "old"), store(&folder, "new"));
    let key = key();
    let source = open(&old, key).expect("a configuration");
    let proposal = fill(&source);
    let told = |config: &Config| {
        let paths = ["/many/7", "/shop/password", "/shop/gone", "/shop/port", "/safe/a"];
        (paths.map(|path| text(config, path)), history(config))
    };
    let before = told(&source);
    let done = block_on(source.migrate(&new, "one", "the other")).expect("moved");
    assert!(done.keys > 300, "{done:?}");
    // From here on nobody uses either of them, until it is finished.
    let refused = put(&source, "/shop/port", "2", false).expect_err("it was moved");
    assert!(
        matches!(&refused, ConfigError::Moved { id, to } if id == "one" && to == "the other"),
        "{refused}"
    );
    assert!(matches!(open(&old, key), Err(ConfigError::Moved { .. })));
    assert!(matches!(open(&new, key), Err(ConfigError::Filling(_))));
    assert!(block_on(finish(&old, &new, "one")).expect("finished"));
    assert!(
        block_on(finish(&old, &new, "one")).expect("again"),
        "it does no harm"
    );
    assert!(
        !block_on(finish(&old, &new, "two")).expect("looked at"),
        "another one"
    );

    let target = open(&new, key).expect("a configuration");
    assert_eq!(told(&target), before);
    // What goes by itself does so there, too.
    let live = block_on(new.range(Range::one("c/live/one")))
        .expect("read")
        .entries;
    let lease = live.first().and_then(|entry| entry.lease).expect("by a lease");
    assert_eq!(block_on(new.lease(lease)).expect("it lasts").ttl.as_secs(), 300);
    assert_eq!(block_on(target.machines()).expect("machines").len(), 1);
    let next = put(&target, "/shop/port", "2", false).expect("set");
    assert!(next > done.revision, "{next} after {done:?}");
    // The schema holds, what was seen can be changed, and the proposal is still good.
    let unfit = Change {
        puts: vec![Put {
            path: path("/shop/port"),
            value: Value {
                kind: upkeep_config::value::Kind::Number,
                bytes: b"3".to_vec(),
            },
            secret: false,
            expected: Some(next),
        }],
        ..Change::default()
    };
    let error = block_on(target.change(ME, &unfit)).expect_err("no string");
    assert!(matches!(error, ConfigError::Unfit { .. }), "{error}");
    let approved = block_on(target.approve(OTHER, &proposal)).expect("approved");
    assert!(matches!(approved, Approval::Done(..)), "{approved:?}");
    assert_eq!(text(&target, "/safe/a").expect("it is there").0, "new");
    // Back to what was before the move.
    let (_, was) = before.0[3].clone().expect("it was there");
    block_on(target.rollback(ME, &place("/shop/"), was, None, false)).expect("set back");
    assert_eq!(text(&target, "/shop/port").expect("it is there").0, "1");
    let error = block_on(target.migrate(&old, "two", "back")).expect_err("it is kept");
    assert!(error.to_string().contains("is kept as it was"), "{error}");
}

#[test]
fn writers_lose_nothing_and_watches_have_no_gap() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (store(&folder, "old"), store(&folder, "new"));
    let key = key();
    let source = open(&old, key).expect("a configuration");
    put(&source, "/w/0", "0", false).expect("set");
    let over = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let (acknowledged, moved) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (source, over, count) = (&source, &over, &count);
                scope.spawn(move || {
                    let mut done = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let value = count.fetch_add(1, Ordering::Relaxed);
                        match put(source, &format!("/w/{writer}"), &value.to_string(), false) {
                            Ok(revision) => done.push((format!("/w/{writer}"), value, revision)),
                            Err(ConfigError::Moved { .. }) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    done
                })
            })
            .collect();
        while count.load(Ordering::Relaxed) < 50 {
            std::thread::yield_now();
        }
        let moved = block_on(source.migrate(&new, "one", "the other"));
        over.store(true, Ordering::Relaxed);
        let done: Vec<_> = writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("a writer"))
            .collect();
        (done, moved)
    });
    let moved = moved.expect("moved");
    assert!(moved.followed < 200, "few are held up: {moved:?}");
    assert!(block_on(finish(&old, &new, "one")).expect("finished"));
    let target = open(&new, key).expect("a configuration");
    let last = put(&target, "/w/new", "1", false).expect("set");

    // From the first on: each change once, in order, and those after the move behind them.
    let from = acknowledged.iter().map(|(.., revision)| *revision).min();
    let mut told = Vec::new();
    for item in block_on_stream(target.watch(Arc::new(All), &place("/w/"), from)) {
        match item.expect("told") {
            Told::Changes { revision, changes } => {
                let entries = changes.iter().map(|change| {
                    let shown = change
                        .shown
                        .as_ref()
                        .and_then(|shown| shown.value())
                        .expect("a value");
                    let value: u64 = String::from_utf8_lossy(&shown.bytes).parse().expect("a number");
                    (change.path.to_string(), value, revision)
                });
                told.extend(entries);
                if revision == last {
                    break;
                }
            }
            Told::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told.pop(), Some(("/w/new".to_owned(), 1, last)));
    assert!(told.windows(2).all(|two| two[0].2 < two[1].2), "{told:?}");
    let mut wanted = acknowledged;
    wanted.sort_by_key(|(.., revision)| *revision);
    assert_eq!(told, wanted);
}

#[test]
fn what_was_broken_off_leaves_the_old_store_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (store(&folder, "old"), store(&folder, "new"));
    let key = key();
    let source = open(&old, key).expect("a configuration");
    fill(&source);
    // A copy that was begun, with something in it that is not in the source.
    let begun = serde_json::json!({"format": 1, "offset": 0, "filling": "dead"}).to_string();
    block_on(new.txn(Txn::always(vec![
        Op::put("m/store", begun),
        Op::put("c/left/over", "x"),
    ])))
    .expect("written");
    assert!(matches!(open(&new, key), Err(ConfigError::Filling(id)) if id == "dead"));
    put(&source, "/shop/port", "2", false).expect("the old one is in use");
    block_on(source.migrate(&new, "two", "the other")).expect("moved");
    assert!(block_on(finish(&old, &new, "two")).expect("finished"));
    let target = open(&new, key).expect("a configuration");
    assert_eq!(text(&target, "/left/over"), None);
    assert_eq!(text(&target, "/shop/port").expect("it is there").0, "2");

    // One that is not empty is not touched.
    let third = store(&folder, "third");
    let own = open(&third, key).expect("a configuration");
    put(&own, "/own", "1", false).expect("set");
    let error = block_on(target.migrate(&third, "three", "there")).expect_err("it holds something");
    assert!(
        error.to_string().contains("holds a configuration already"),
        "{error}"
    );
    assert_eq!(text(&own, "/own").expect("it is there").0, "1");
    put(&target, "/shop/port", "3", false).expect("the old one is in use");
}

#[test]
fn changes_wait_while_a_store_is_held_and_go_on_when_its_lease_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let kv = store(&folder, "kv");
    let config = open(&kv, key()).expect("a configuration");
    let lease = block_on(kv.grant(std::time::Duration::from_secs(1)))
        .expect("a lease")
        .id;
    let hold = Op::Put {
        key: "m/moving".to_owned(),
        value: Vec::new(),
        lease: Some(lease),
    };
    block_on(kv.txn(Txn::always(vec![hold]))).expect("held");
    let before = std::time::Instant::now();
    // Whoever held it is dead: its lease ends by itself.
    put(&config, "/a", "1", false).expect("it waits and is made");
    assert!(before.elapsed() >= std::time::Duration::from_millis(500));
    let left = block_on(kv.range(Range::new(Span::One("m/moving".to_owned())))).expect("read");
    assert!(left.entries.is_empty());
    // A file that is opened anew is held by nobody.
    let lease = block_on(kv.grant(std::time::Duration::from_mins(10)))
        .expect("a lease")
        .id;
    let hold = Op::Put {
        key: "m/moving".to_owned(),
        value: Vec::new(),
        lease: Some(lease),
    };
    block_on(kv.txn(Txn::always(vec![hold]))).expect("held");
    block_on(upkeep_config::migrate::let_go(&kv)).expect("let go");
    put(&config, "/a", "2", false).expect("at once");
}

#[test]
fn a_name_belongs_to_the_first_key_and_places_become_spans() {
    let folder = tempfile::tempdir().expect("a folder");
    let kv = store(&folder, "kv");
    let config = open(&kv, key()).expect("a configuration");
    let machine = |name: &str| Identity::generate(name).expect("random numbers").recipient();
    let first = machine("machine:web1");
    assert!(block_on(config.announce(&first)).expect("announced"));
    assert!(!block_on(config.announce(&first)).expect("known"), "once");
    let error = block_on(config.announce(&machine("machine:web1"))).expect_err("another key");
    assert!(error.to_string().contains("another machine is known"), "{error}");
    block_on(config.announce(&machine("machine:../x"))).expect_err("no name");
    let known = block_on(config.machines()).expect("machines");
    assert_eq!((known.len(), &known[0].key), (1, &first.key));

    let name: MachineName = "web1".parse().expect("a name");
    let spans = upkeep_config::machines::spans(&name, &[place("/shop/prod/"), place("/mail/host")], true);
    let may = |key: &str, write: bool| {
        spans
            .iter()
            .any(|(span, writes)| span.contains(key) && (*writes || !write))
    };
    for own in [
        "c/shop/prod/db",
        "h/shop/prod/db\x00012",
        "m/fit/shop/prod/",
        "m/proposals/shop/prod/\x00ab",
        "c/mail/host",
        "h/mail/host\x00012",
        "m/machines/web1",
    ] {
        assert!(may(own, false) && may(own, true), "{own:?}");
    }
    for read in [
        "m/rules",
        "m/store",
        "m/moving",
        "m/machines/db1",
        "m/grants/web1",
        "m/care",
    ] {
        assert!(may(read, false) && !may(read, true), "{read}");
    }
    for other in [
        "c/shop/test/db",
        "c/shop/produce",
        "c/mail/host2",
        "c/mail/host/x",
        "h/mail/host2\x00012",
        "m/fit/shop/",
        "m/proposals/shop/\x00ab",
        "m/proposals/mail/host2\x00ab",
        "m/grants/db1",
        "m/keeper",
        "x",
    ] {
        assert!(!may(other, false), "{other:?}");
    }
}
