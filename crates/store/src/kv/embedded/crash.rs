//! The embedded backend under kill -9 and power cuts: it opens, it is whole, and nothing that was acknowledged is gone.
//!
//! `UPKEEP_TEST_ROUNDS` sets how many rounds each of the two tests has.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_executor::block_on;
use futures_util::future::join_all;

use super::{Embedded, Options};
use crate::{
    disk::Disk,
    kv::{
        Change, KeyValue, Kv, KvError, Op, Outcome, Range, Reason, Revision, Span, Txn, Watch, WatchEvent,
        conformance::{
            self,
            linear::{self, Recorder},
            walk::{Dice, seed},
        },
    },
};

const WRITERS: u64 = 6;
const DIRECTORY: &str = "UPKEEP_TEST_CRASH_DIRECTORY";

fn rounds() -> u64 {
    std::env::var("UPKEEP_TEST_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(60)
}

/// Stores that are opened one after the other commit with one sync, with two, and now so and now so.
fn options() -> Options {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    let number = u64::from(std::process::id()) + OPENED.fetch_add(1, Ordering::Relaxed);
    Options {
        heartbeat: Duration::from_millis(50),
        quick_repair_bytes: [0, 150_000, u64::MAX][usize::try_from(number % 3).expect("small")],
        ..Options::default()
    }
}

fn open(dir: &Path) -> Embedded {
    Embedded::open(&dir.join("config.redb"), options()).expect("it opens")
}

/// Writes number `number` of a writer: two keys that have to agree, and this and that.
async fn write(store: &dyn Kv, writer: u64, number: u64) -> Result<Revision, KvError> {
    let key = |name: &str| format!("/w/{writer}/{name}");
    let mut ops = vec![
        Op::put(key("a"), number.to_string()),
        Op::put(key("b"), number.to_string()),
    ];
    match number % 8 {
        0 => ops.push(Op::put(key(&format!("large/{}", number % 3)), vec![7; 30_000])),
        1 => ops.push(Op::put(key(&format!("new/{number}")), "x")),
        2 => ops.push(Op::Delete(Span::Prefix(key("new/")))),
        _ => {}
    }
    let revision = store.txn(Txn::always(ops)).await?.revision;
    if writer == 0 && number.is_multiple_of(16) {
        match store.compact(revision.saturating_sub(20)).await {
            Err(error) if !matches!(error.reason, Reason::Compacted { .. }) => return Err(error),
            _ => {}
        }
    }
    Ok(revision)
}

/// The numbers that the store has, by writer; panics if it is not whole.
fn found(store: &dyn Kv) -> BTreeMap<u64, u64> {
    let now = block_on(store.range(Range::new(Span::All))).expect("a reading");
    let value = |key: String| -> u64 {
        let entry = now.entries.iter().find(|entry| entry.key == key);
        entry.map_or(0, |entry| {
            String::from_utf8_lossy(&entry.value).parse().expect("a number")
        })
    };
    let numbers = (0..WRITERS).map(|writer| {
        let (one, other) = (value(format!("/w/{writer}/a")), value(format!("/w/{writer}/b")));
        assert_eq!(one, other, "a transaction is whole");
        (writer, one)
    });
    let numbers = numbers.collect();
    replayed(store, now.revision, &now.entries);
    numbers
}

/// The oldest state that can be read, with all changes since, is what is there now.
fn replayed(store: &dyn Kv, newest: Revision, now: &[KeyValue]) {
    let oldest = block_on(store.status())
        .expect("a status")
        .oldest
        .expect("it tells");
    let then = block_on(store.range(Range::new(Span::All).at(oldest))).expect("the oldest");
    let mut keys: BTreeMap<String, KeyValue> = BTreeMap::new();
    keys.extend(then.entries.into_iter().map(|entry| (entry.key.clone(), entry)));
    let mut stream = store.watch(Watch::new(Span::All).from(oldest + 1));
    let mut told = oldest;
    while told < newest {
        match block_on(conformance::next(&mut stream)) {
            WatchEvent::Changes { revision, changes } => {
                assert_eq!(revision, told + 1, "no gap and no double");
                told = revision;
                for change in changes {
                    match change {
                        Change::Put { now, .. } => drop(keys.insert(now.key.clone(), now)),
                        Change::Delete { key, .. } => drop(keys.remove(&key)),
                    }
                }
            }
            WatchEvent::Progress { .. } | WatchEvent::Lagging { .. } => {}
            event @ WatchEvent::Compacted { .. } => panic!("{event:?}"),
        }
    }
    let replayed: Vec<KeyValue> = keys.into_values().collect();
    assert_eq!(replayed, now, "the log and the state agree");
}

/// Nothing that was acknowledged is gone, and nothing is there that nobody wrote.
fn compare(acknowledged: &BTreeMap<u64, u64>, found: &BTreeMap<u64, u64>, words: &str) {
    for (writer, number) in found {
        let known = acknowledged.get(writer).copied().unwrap_or(0);
        assert!(
            *number >= known,
            "{words}: writer {writer} was told {known}, the store has {number}"
        );
        assert!(
            *number <= known + 1,
            "{words}: writer {writer} wrote {known} + 1 at most, not {number}"
        );
    }
}

/// The child that is killed: not a test of its own.
#[test]
#[ignore = "started by the test that kills it"]
fn a_writer_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = open(Path::new(&dir));
    let begins = found(&store);
    let writers = begins.into_iter().map(|(writer, last)| {
        let store = &store;
        async move {
            for number in last + 1.. {
                write(store, writer, number).await.expect("a write");
                // One write(2) a line: a line is there or it is not.
                let line = format!("\nack {writer} {number}\n");
                std::io::stdout()
                    .write_all(line.as_bytes())
                    .expect("the parent reads");
            }
        }
    });
    block_on(join_all(writers));
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let mut dice = Dice::new(seed());
    let dir = tempfile::tempdir().expect("a directory");
    let mut acknowledged = BTreeMap::new();
    let mut acks = 0_u64;
    for round in 0..rounds() {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "kv::embedded::crash::a_writer_until_it_is_killed",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the child starts");
        let stdout = child.stdout.take().expect("its output");
        // Some are killed after so many acknowledgements, some at any moment, opening included.
        let patience = Duration::from_micros(dice.below(60_000));
        let enough = dice.below(120);
        let by_time = dice.below(2) == 0;
        let (sender, lines) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(ack) = line.strip_prefix("ack ")
                    && let Some((writer, number)) = ack.split_once(' ')
                    && let (Ok(writer), Ok(number)) = (writer.parse::<u64>(), number.parse::<u64>())
                {
                    // The test is over if nobody listens.
                    let _ = sender.send((writer, number));
                }
            }
        });
        let mut heard = 0;
        let mut hear = |(writer, number)| {
            acknowledged.insert(writer, number);
            acks += 1;
        };
        if by_time {
            block_on(conformance::pass(patience));
        } else {
            while heard < enough {
                hear(lines.recv_timeout(conformance::SOON).expect("the child writes"));
                heard += 1;
            }
        }
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        reader.join().expect("the reader ends");
        lines.try_iter().for_each(&mut hear);
        let store = open(dir.path());
        let there = found(&store);
        compare(&acknowledged, &there, &format!("round {round}"));
        acknowledged = there;
    }
    eprintln!("{} rounds, {acks} acknowledged transactions", rounds());
    assert!(acks > rounds(), "there was something to lose: {acks}");
}

#[test]
fn power_cuts_lose_nothing_that_was_synced() {
    let mut dice = Dice::new(seed());
    let mut disk = Disk::default();
    let mut known: BTreeMap<u64, u64> = (0..WRITERS).map(|writer| (writer, 0)).collect();
    let mut cuts = 0;
    for round in 0..rounds() {
        let acknowledged = Arc::new(Mutex::new(known.clone()));
        let at_the_cut = Arc::new(Mutex::new(None));
        let (acks, cut) = (Arc::clone(&acknowledged), Arc::clone(&at_the_cut));
        // Opening may be cut, too.
        disk.cut_in(1 + dice.below(400), move || {
            *cut.lock().expect("a lock") = Some(acks.lock().expect("a lock").clone());
        });
        let store = Embedded::open_on(disk.clone(), options()).expect("it opens");
        let writers = known.iter().map(|(writer, last)| {
            let (store, acknowledged) = (&store, &acknowledged);
            async move {
                for number in last + 1..last + 12 {
                    write(store, *writer, number).await.expect("a write");
                    acknowledged.lock().expect("a lock").insert(*writer, number);
                }
            }
        });
        block_on(join_all(writers));
        drop(store);
        let (image, told) = match disk.image() {
            Some(image) => {
                cuts += 1;
                (
                    image,
                    at_the_cut.lock().expect("a lock").clone().expect("it was cut"),
                )
            }
            None => {
                known = acknowledged.lock().expect("a lock").clone();
                continue;
            }
        };
        let torn = image.torn(|end| dice.below(end));
        let store = Embedded::open_on(torn.clone(), options()).expect("it opens after a power cut");
        let there = found(&store);
        compare(&told, &there, &format!("round {round}"));
        known = there;
        drop(store);
        disk = torn;
    }
    eprintln!(
        "{} rounds, {cuts} power cuts, {} bytes in the end",
        rounds(),
        disk.bytes()
    );
    assert!(cuts * 2 > rounds(), "{cuts} cuts in {} rounds", rounds());
}

/// The child of the next test.
#[test]
#[ignore = "started by the test that kills it"]
fn clients_until_they_are_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let round: u64 = std::env::var("UPKEEP_TEST_ROUND")
        .ok()
        .and_then(|round| round.parse().ok())
        .expect("a round");
    let store: Arc<dyn Kv> = Arc::new(open(Path::new(&dir)));
    let recorder = Recorder::echoing();
    let stop = AtomicBool::new(false);
    let clients = (0..WRITERS).map(|number| {
        let number = round * WRITERS + number + 1;
        linear::client(
            Arc::clone(&store),
            &recorder,
            number,
            seed(),
            Duration::from_millis(1),
            &stop,
        )
    });
    block_on(join_all(clients));
}

#[test]
fn histories_across_kill_9_are_linearizable() {
    let mut dice = Dice::new(seed());
    let dir = tempfile::tempdir().expect("a directory");
    let recorder = Arc::new(Recorder::default());
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "kv::embedded::crash::clients_until_they_are_killed",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(DIRECTORY, dir.path())
            .env("UPKEEP_TEST_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let stdout = child.stdout.take().expect("its output");
        let enough = recorder.answered() + 20 + dice.below(200);
        let hearing = Arc::clone(&recorder);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                hearing.hear(&line);
            }
        });
        let until = std::time::Instant::now() + conformance::SOON;
        while recorder.answered() < enough {
            assert!(std::time::Instant::now() < until, "the clients do nothing");
            block_on(conformance::pass(Duration::from_millis(1)));
        }
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        reader.join().expect("the reader ends");
    }
    recorder.check();
    eprintln!(
        "{} answers, {} open writes",
        recorder.answered(),
        recorder.unknown()
    );
    let store: Arc<dyn Kv> = Arc::new(open(dir.path()));
    let last = AtomicU64::new(block_on(linear::newest(&store)));
    let told = block_on(linear::follow(Arc::clone(&store), 1, &last));
    block_on(linear::check_told(&store, &told));
}

fn put(store: &Embedded, key: &str, bytes: usize) -> Result<Revision, KvError> {
    let txn = Txn::always(vec![Op::put(key, vec![1; bytes])]);
    block_on(store.txn(txn)).map(|answered| answered.revision)
}

#[test]
fn a_full_disk_refuses_and_nothing_of_it_is_kept() {
    let disk = Disk::default();
    let store = Embedded::open_on(disk.clone(), options()).expect("a store");
    let mut watch = store.watch(Watch::new(Span::All));
    block_on(conformance::next(&mut watch));
    let lease = block_on(store.grant(Duration::from_hours(1))).expect("a lease");
    let before = put(&store, "/a", 10).expect("a put");
    disk.room(Some(disk.bytes()));
    let mut last = before;
    let full = (0..1000)
        .find_map(|_| match put(&store, "/a", 500_000) {
            Ok(revision) => {
                last = revision;
                None
            }
            Err(error) => Some(error),
        })
        .expect("the disk gets full");
    assert!(matches!(full.reason, Reason::NoSpace { .. }), "{full}");
    assert_eq!(full.outcome(), Outcome::Refused);
    // Reading goes on, and nothing of what was refused is there.
    let now = block_on(store.range(Range::one("/a"))).expect("a reading");
    assert_eq!(now.revision, last);
    assert_eq!(now.entries[0].modified, last);
    assert!(put(&store, "/b", 900_000).is_err(), "it is still full");
    disk.room(None);
    let after = put(&store, "/b", 900_000).expect("there is room again");
    assert_eq!(after, last + 1);
    // The watch heard what was written, and only that.
    for revision in before..=after {
        assert_eq!(block_on(conformance::changes(&mut watch)).0, revision);
    }
    assert!(block_on(store.keep_alive(lease.id)).is_ok(), "leases outlive it");
    drop(store);
    let store = Embedded::open_on(disk, options()).expect("it opens");
    replayed(
        &store,
        after,
        &block_on(store.range(Range::new(Span::All)))
            .expect("a reading")
            .entries,
    );
}

#[test]
fn a_sync_that_fails_is_told_as_what_it_is() {
    // A commit syncs once or twice: before the last, nothing of it counts; after it, nobody knows.
    for (good, quick_repair_bytes) in [0, 1, 2, 3]
        .into_iter()
        .flat_map(|good| [(good, 0), (good, u64::MAX)])
    {
        let disk = Disk::default();
        let options = Options {
            quick_repair_bytes,
            ..options()
        };
        let store = Embedded::open_on(disk.clone(), options).expect("a store");
        let mut watch = store.watch(Watch::new(Span::All));
        block_on(conformance::next(&mut watch));
        let before = put(&store, "/a", 10).expect("a put");
        disk.good_syncs(Some(good));
        let failed = put(&store, "/a", 20);
        disk.good_syncs(None);
        // Opened anew or still open: it works on, and says what it has.
        let until = std::time::Instant::now() + conformance::SOON;
        let now = loop {
            match block_on(store.range(Range::one("/a"))) {
                Ok(mut found) => break found.entries.remove(0),
                Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
            }
            block_on(conformance::pass(Duration::from_millis(10)));
        };
        match failed {
            Ok(revision) => assert_eq!((now.modified, now.value.len()), (revision, 20)),
            Err(error) if error.outcome() == Outcome::Refused => {
                assert_eq!((now.modified, now.value.len()), (before, 10), "{error}");
            }
            Err(error) => assert!(matches!(error.reason, Reason::NoAnswer(_)), "{error}"),
        }
        let after = put(&store, "/b", 10).expect("it goes on");
        for revision in before..=after {
            assert_eq!(
                block_on(conformance::changes(&mut watch)).0,
                revision,
                "with {good} good syncs"
            );
        }
    }
}
