//! The embedded backend: the conformance suite, and what only a file can show.

use std::{path::Path, sync::Arc, time::Duration};

use futures_executor::block_on;
use futures_util::StreamExt as _;

use super::{Embedded, Options};
use crate::kv::{
    Kv, KvError, Op, Outcome, Range, Reason, Span, Txn, Watch, WatchEvent,
    conformance::{
        self, SOON, changes,
        walk::{Walk, seed},
    },
};

fn quick() -> Options {
    Options {
        heartbeat: Duration::from_millis(200),
        ..Options::default()
    }
}

fn open(dir: &Path) -> Embedded {
    Embedded::open(&dir.join("config.redb"), quick()).expect("a store")
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn conforms(name: &str) {
    let dir = dir();
    block_on(conformance::run(name, Arc::new(open(dir.path()))));
}

kv_conformance!(conforms);

fn put(store: &dyn Kv, key: &str, value: impl Into<Vec<u8>>) -> Result<u64, KvError> {
    block_on(store.txn(Txn::always(vec![Op::put(key, value)]))).map(|answered| answered.revision)
}

#[test]
fn random_walks_with_reopening_end_where_the_model_does() {
    let seed = seed();
    for round in 0..6 {
        let dir = dir();
        let mut walk = Walk::new(seed.wrapping_add(round));
        for _ in 0..25 {
            let store: Arc<dyn Kv> = Arc::new(open(dir.path()));
            for _ in 0..12 {
                block_on(walk.step(&store));
            }
        }
    }
}

#[test]
fn leases_outlive_the_process_with_their_whole_time() {
    let dir = dir();
    let store = open(dir.path());
    let lease = block_on(store.grant(Duration::from_secs(2))).expect("a lease");
    let op = Op::Put {
        key: "/lent".to_owned(),
        value: Vec::new(),
        lease: Some(lease.id),
    };
    block_on(store.txn(Txn::always(vec![op]))).expect("a put");
    drop(store);
    let store = open(dir.path());
    let found = block_on(store.lease(lease.id)).expect("the lease");
    assert_eq!(found.keys, ["/lent"]);
    assert!(found.remaining > Duration::from_millis(1500), "{found:?}");
    let mut watch = store.watch(Watch::new(Span::All));
    let gone = block_on(changes(&mut watch)).1;
    assert_eq!(gone[0].key(), "/lent");
    // The next lease has a name of its own.
    assert!(block_on(store.grant(Duration::from_secs(9))).expect("a lease").id > lease.id);
}

#[test]
fn a_slow_reader_is_told_and_keeps_nothing_in_memory() {
    let dir = dir();
    let options = Options {
        recent_bytes: 64 << 10,
        ..quick()
    };
    let store = Embedded::open(&dir.path().join("config.redb"), options).expect("a store");
    let mut watch = store.watch(Watch::new(Span::All));
    let begins = block_on(conformance::next(&mut watch));
    assert_eq!(begins, WatchEvent::Progress { revision: 1 });
    put(&store, "/a", "x").expect("a put");
    assert_eq!(block_on(changes(&mut watch)).0, 2);
    for _ in 0..100 {
        put(&store, "/a", vec![7; 10_000]).expect("a put");
    }
    assert!(store.shared.hub.kept_bytes() <= 64 << 10);
    let mut lagging = 0;
    let mut expected = 3;
    while expected <= 102 {
        match block_on(conformance::next(&mut watch)) {
            WatchEvent::Lagging { behind } => lagging += behind,
            WatchEvent::Changes { revision, .. } => {
                assert_eq!(revision, expected);
                expected += 1;
            }
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(lagging, 100);
    drop(watch);
    assert_eq!(store.shared.hub.kept_bytes(), 0, "nobody watches");
}

#[test]
fn heartbeats_tell_how_far_the_store_is() {
    let dir = dir();
    let store = open(dir.path());
    let mut watch = store.watch(Watch::new(Span::Prefix("/quiet/".to_owned())));
    let last = put(&store, "/other", "1").expect("a put");
    let told = |event: WatchEvent| matches!(event, WatchEvent::Progress { revision } if revision == last);
    let until = std::time::Instant::now() + SOON;
    while !told(block_on(conformance::next(&mut watch))) {
        assert!(std::time::Instant::now() < until, "no heartbeat tells of {last}");
    }
}

#[test]
fn a_closed_store_ends_its_watches_with_a_word() {
    let dir = dir();
    let store = open(dir.path());
    let mut watch = store.watch(Watch::new(Span::All));
    block_on(conformance::next(&mut watch));
    let reading = store.range(Range::one("/a"));
    drop(store);
    let told = block_on(conformance::within(SOON, watch.next())).expect("an end");
    assert!(matches!(told, Some(Err(error)) if error.reason == Reason::Closed));
    let refused = block_on(reading).expect_err("closed");
    assert_eq!(
        (refused.reason.clone(), refused.outcome()),
        (Reason::Closed, Outcome::Refused)
    );
    // The file is free, although watch and reading are still there.
    drop(open(dir.path()));
}

#[test]
fn a_quota_refuses_writing_and_not_deleting() {
    let dir = dir();
    let options = Options {
        quota: Some(200_000),
        ..quick()
    };
    let store = Embedded::open(&dir.path().join("config.redb"), options).expect("a store");
    let refused = (0..100)
        .find_map(|_| put(&store, "/a", vec![1; 10_000]).err())
        .expect("the quota is reached");
    assert!(matches!(refused.reason, Reason::NoSpace { .. }), "{refused:?}");
    assert_eq!(refused.outcome(), Outcome::Refused);
    let status = block_on(store.status()).expect("a status");
    assert!(status.bytes_in_use > 180_000, "{status:?}");
    let deleted = block_on(store.txn(Txn::always(vec![Op::delete("/a")]))).expect("a deletion");
    block_on(store.compact(deleted.revision)).expect("compacted");
    let until = std::time::Instant::now() + SOON;
    while put(&store, "/b", vec![1; 10_000]).is_err() {
        assert!(
            std::time::Instant::now() < until,
            "{:?}",
            block_on(store.status())
        );
        block_on(conformance::pass(Duration::from_millis(20)));
    }
}

#[test]
fn compaction_clears_the_file_and_writers_do_not_wait() {
    let dir = dir();
    let store = open(dir.path());
    for batch in 0..40 {
        let writes = (0..250).map(|number| {
            let op = Op::put(
                format!("/k/{}", number % 100),
                format!("{batch} {number} {}", "x".repeat(200)),
            );
            store.txn(Txn::always(vec![op]))
        });
        let done = block_on(futures_util::future::join_all(writes));
        assert!(done.iter().all(Result::is_ok));
    }
    let before = block_on(store.status()).expect("a status");
    assert!(before.bytes_in_use > 2_000_000, "{before:?}");
    block_on(store.compact(before.revision)).expect("compacted");
    // Writing goes on while the rest is cleared away.
    let mut slowest = Duration::ZERO;
    let until = std::time::Instant::now() + SOON;
    loop {
        let begins = std::time::Instant::now();
        put(&store, "/during", "x").expect("a put");
        slowest = slowest.max(begins.elapsed());
        let status = block_on(store.status()).expect("a status");
        if status.bytes_in_use < 100_000 {
            break;
        }
        assert!(begins < until, "{status:?}");
    }
    assert!(slowest < Duration::from_secs(2), "a write took {slowest:?}");
    assert_eq!(
        block_on(store.range(Range::prefix("/k/")))
            .expect("a reading")
            .entries
            .len(),
        100
    );
    let large = block_on(store.status()).expect("a status").bytes_on_disk;
    block_on(store.defragment()).expect("defragmented");
    let small = block_on(store.status()).expect("a status").bytes_on_disk;
    assert!(small < large / 2, "{small} after {large}");
    drop(store);
    let store = open(dir.path());
    assert_eq!(
        block_on(store.range(Range::prefix("/k/")))
            .expect("a reading")
            .entries
            .len(),
        100
    );
}

#[test]
fn too_much_at_once_is_told_busy_and_nothing_of_it_happens() {
    let dir = dir();
    let store = open(dir.path());
    let write = |number: usize| {
        store.txn(Txn::always(vec![Op::put(
            format!("/b/{number}"),
            vec![1; 1 << 20],
        )]))
    };
    let all: Vec<_> = (0..400).map(write).collect();
    let all = block_on(futures_util::future::join_all(all));
    let busy: Vec<&KvError> = all.iter().filter_map(|done| done.as_ref().err()).collect();
    assert!(!busy.is_empty() && busy.len() < 400, "{} of 400", busy.len());
    for error in &busy {
        assert!(matches!(error.reason, Reason::Busy(_)), "{error}");
        assert_eq!((error.outcome(), error.retryable()), (Outcome::Refused, true));
    }
    let count = Range {
        count_only: true,
        ..Range::prefix("/b/")
    };
    let there = block_on(store.range(count)).expect("a reading").count;
    assert_eq!(there, Some(400 - busy.len() as u64));
    // It has emptied again.
    put(&store, "/after", vec![1; 1 << 20]).expect("a put");
}

#[test]
fn a_second_opener_is_refused() {
    let dir = dir();
    let _store = open(dir.path());
    let refused = Embedded::open(&dir.path().join("config.redb"), quick()).expect_err("in use");
    assert!(matches!(refused, crate::StoreError::Open { .. }), "{refused}");
}

/// Figures for people; `cargo nextest run -p upkeep-store --release --run-ignored only a_million`.
#[test]
#[ignore = "a measurement"]
fn a_million_keys() {
    let dir = dir();
    let memory = |what: &str| {
        let status = std::fs::read_to_string("/proc/self/status").expect("proc");
        let line = status
            .lines()
            .find(|line| line.starts_with("RssAnon"))
            .expect("a line");
        eprintln!("{what}: {}", line.replace('\t', " "));
    };
    let begins = std::time::Instant::now();
    let store = open(dir.path());
    for batch in 0..1000 {
        let ops =
            (0..1000).map(|number| Op::put(format!("/shop/prod/{batch:04}/{number:06}"), vec![b'v'; 64]));
        block_on(store.txn(Txn::always(ops.collect()))).expect("a transaction");
    }
    eprintln!("a million keys in thousands: {:?}", begins.elapsed());
    drop(store);
    memory("before opening");
    for _ in 0..5 {
        let begins = std::time::Instant::now();
        let store = open(dir.path());
        let opened = begins.elapsed();
        block_on(store.range(Range::one("/shop/prod/0500/000500"))).expect("a reading");
        eprintln!("opened in {opened:?}, and a key read: {:?}", begins.elapsed());
    }
    let begins = std::time::Instant::now();
    let store = open(dir.path());
    let first = block_on(store.range(Range::one("/shop/prod/0500/000500"))).expect("a reading");
    eprintln!("opened, and the first key read: {:?}", begins.elapsed());
    assert_eq!(first.entries.len(), 1);
    memory("after opening");
    let time = |what: &str, count: u32, work: &mut dyn FnMut(u32)| {
        let begins = std::time::Instant::now();
        (0..count).for_each(&mut *work);
        eprintln!("{what}: {:?} each", begins.elapsed() / count);
    };
    time("durable write, one client", 500, &mut |number| {
        put(&store, &format!("/shop/prod/0001/{:06}", number * 2), "w").expect("a put");
    });
    time("32 durable writes at once", 100, &mut |round| {
        let writes = (0..32).map(|number| {
            let op = Op::put(format!("/shop/prod/{:04}/{round:06}", number * 30), "w");
            store.txn(Txn::always(vec![op]))
        });
        block_on(futures_util::future::join_all(writes));
    });
    time("read of a key", 20_000, &mut |number| {
        let key = format!("/shop/prod/{:04}/{:06}", number * 7 % 1000, number * 13 % 1000);
        block_on(store.range(Range::one(key))).expect("a reading");
    });
    time("read of a prefix of 1,000", 200, &mut |number| {
        let found =
            block_on(store.range(Range::prefix(format!("/shop/prod/{number:04}/")))).expect("a reading");
        assert_eq!(found.entries.len(), 1000);
    });
    let mut watch = store.watch(Watch::new(Span::Prefix("/watched/".to_owned())));
    block_on(conformance::next(&mut watch));
    time("write, and its watch told", 300, &mut |number| {
        put(&store, &format!("/watched/{number}"), "x").expect("a put");
        block_on(changes(&mut watch));
    });
    memory("in the end");
    eprintln!("{:?}", block_on(store.status()).expect("a status"));
}

/// Figures for people, as above: what kill -9 leaves is the file as it is while the store has it open.
#[test]
#[ignore = "a measurement"]
fn opening_after_a_kill() {
    for (keys, quick_repair_bytes) in [(100_000, u64::MAX), (1_000_000, u64::MAX), (1_000_000, 0)] {
        let dir = dir();
        let options = Options {
            quick_repair_bytes,
            ..quick()
        };
        let store = Embedded::open(&dir.path().join("config.redb"), options).expect("a store");
        for batch in 0..keys / 1000 {
            let ops =
                (0..1000).map(|number| Op::put(format!("/shop/{batch:04}/{number:06}"), vec![b'v'; 64]));
            block_on(store.txn(Txn::always(ops.collect()))).expect("a transaction");
        }
        let used = block_on(store.status()).expect("a status").bytes_in_use >> 20;
        std::fs::copy(dir.path().join("config.redb"), dir.path().join("killed.redb")).expect("a copy");
        let begins = std::time::Instant::now();
        let killed = Embedded::open(&dir.path().join("killed.redb"), options).expect("it opens");
        eprintln!(
            "{keys} keys, {used} MiB in use, two syncs from {quick_repair_bytes}: opened in {:?}",
            begins.elapsed()
        );
        drop((store, killed));
        let put_all = |what: &str| {
            let store = open(dir.path());
            let begins = std::time::Instant::now();
            (0..200).for_each(|number| {
                put(&store, &format!("/one/{number}"), "w").expect("a put");
            });
            eprintln!("{what}: {:?} each", begins.elapsed() / 200);
        };
        put_all("durable write, one client");
    }
}

#[test]
fn reading_one_key_never_waits_for_the_file_where_it_is_asked_for() {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    let dir = dir();
    let store = open(dir.path());
    put(&store, "a", "1").expect("written");
    let (taken, is_taken) = mpsc::channel();
    let (give_back, given_back) = mpsc::channel::<()>();
    let shared = Arc::clone(&store.shared);
    // As defragmenting does.
    let alone = std::thread::spawn(move || {
        shared
            .file
            .alone(|_| {
                taken.send(()).expect("the test waits");
                given_back.recv().expect("the test lets go");
            })
            .expect("the file");
    });
    is_taken.recv().expect("taken");
    let mut reading = store.range(Range::one("a"));
    // This thread goes on; the answer comes later.
    assert!((&mut reading).now_or_never().is_none());
    give_back.send(()).expect("it waits");
    let found = block_on(reading).expect("read");
    assert_eq!(found.entries[0].value, b"1");
    alone.join().expect("no panic");
}
