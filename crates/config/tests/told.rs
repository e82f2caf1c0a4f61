//! What is told to whom: names of values, the past, and what there is no more.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_executor::block_on;
use futures_util::StreamExt as _;
use upkeep_config::{
    Config, ConfigError, Path, Place,
    entry::{Change, Changed, Put, Removal, Shown},
    rights::{All, Asker, Rights, Verb},
    seal::Identity,
    value::{Kind, Value},
    watch::Told,
};
use upkeep_store::kv::{
    Kv,
    embedded::{Embedded, Options},
};

const ME: Asker<'static> = Asker {
    who: "uid:0",
    rights: &All,
};

/// May do these, everywhere.
#[derive(Clone, Copy)]
struct Only(&'static [Verb]);

impl Rights for Only {
    fn may(&self, verb: Verb, _: &Path) -> bool {
        self.0.contains(&verb)
    }

    fn may_all(&self, verb: Verb, _: &Place) -> bool {
        self.0.contains(&verb)
    }
}

static WRITER: Only = Only(&[Verb::Write]);
static READER: Only = Only(&[Verb::Read, Verb::Watch]);

fn asker(rights: &'static Only) -> Asker<'static> {
    Asker {
        who: "token:some",
        rights,
    }
}

fn world(now: fn() -> f64) -> (tempfile::TempDir, Arc<dyn Kv>, Config) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&dir.path().join("config.redb"), Options::default()).expect("a store");
    let kv: Arc<dyn Kv> = Arc::new(store);
    let config = open(&kv, now);
    (dir, kv, config)
}

fn open(kv: &Arc<dyn Kv>, now: fn() -> f64) -> Config {
    let identity = Identity::generate("machine:here").expect("random numbers");
    block_on(Config::open(Arc::clone(kv), vec![identity], now)).expect("it opens")
}

fn now() -> f64 {
    1_700_000_000.0
}

fn put(path: &str, bytes: &[u8], kind: Kind) -> Put {
    Put {
        path: path.parse().expect("a path"),
        value: Value {
            kind,
            bytes: bytes.to_vec(),
        },
        secret: false,
        expected: None,
    }
}

fn place(text: &str) -> Place {
    text.parse().expect("a place")
}

fn set(config: &Config, path: &str, text: &str) -> u64 {
    let change = Change {
        puts: vec![put(path, text.as_bytes(), Kind::Text)],
        ..Change::default()
    };
    block_on(config.change(ME, &change)).expect("set").revision
}

fn remove(text: &str, dry_run: bool) -> Change {
    Change {
        removals: vec![Removal {
            place: place(text),
            expected: None,
        }],
        dry_run,
        ..Change::default()
    }
}

fn named(changed: &Changed) -> Vec<&str> {
    changed.differences.iter().map(|one| one.path.as_str()).collect()
}

#[test]
fn who_may_write_alone_is_told_no_names() {
    let (_dir, _, config) = world(now);
    set(&config, "/shop/a", "1");
    let first = set(&config, "/shop/b", "2");
    set(&config, "/shop/b", "3");
    let told = block_on(config.change(asker(&WRITER), &remove("/shop/", true))).expect("tried");
    assert_eq!((named(&told).len(), told.unnamed.len()), (0, 2));
    let told = block_on(config.rollback(asker(&WRITER), &place("/shop/"), first, None, true)).expect("tried");
    assert_eq!((named(&told).len(), told.unnamed.len()), (0, 1));
    // What is named is told of: without what it is.
    let told = block_on(config.change(asker(&WRITER), &remove("/shop/a", true))).expect("tried");
    assert_eq!(named(&told), ["/shop/a"]);
    assert_eq!(told.differences[0].before, Some(Shown::Hidden));
    let told = block_on(config.change(asker(&READER), &remove("/shop/", true)));
    assert!(matches!(told, Err(ConfigError::Denied { .. })), "{told:?}");
    // It is done all the same.
    let told = block_on(config.change(asker(&WRITER), &remove("/shop/", false))).expect("deleted");
    assert_eq!(told.unnamed.len(), 2);
    let left = block_on(config.list(ME, &place("/"), 10, None)).expect("a listing");
    assert_eq!(left.entries.len(), 0);
}

/// Seconds that the clock of the next test is on.
static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000);

fn ticking() -> f64 {
    f64::from(u32::try_from(CLOCK.load(Ordering::SeqCst)).expect("before 2106"))
}

#[test]
fn who_may_read_alone_is_not_told_the_past() {
    let (_dir, kv, config) = world(ticking);
    let oops = set(&config, "/shop/key", "plain oops");
    set(&config, "/shop/key", "mended");
    // Ten minutes later that is the past.
    CLOCK.fetch_add(601, Ordering::SeqCst);
    let reader = asker(&READER);
    let at = |config: &Config, revision| {
        block_on(config.list_at(reader, &place("/shop/"), 10, None, Some(revision)))
    };
    let told = at(&config, oops);
    assert!(matches!(told, Err(ConfigError::Denied { .. })), "{told:?}");
    // The next page of a listing is of the moment of the first.
    let first = block_on(config.list(reader, &place("/shop/"), 10, None)).expect("a listing");
    let again = set(&config, "/shop/key", "again");
    let same = at(&config, first.revision).expect("the same moment");
    assert_eq!(same.entries[0].shown.value().expect("shown").bytes, b"mended");
    // A watch that was cut off goes on, also at a daemon that has heard of nothing yet.
    let watched = |config: &Config, from: u64| {
        let mut watch = config.watch(Arc::new(READER), &place("/shop/"), Some(from));
        loop {
            let item = block_on(watch.next()).expect("an item").expect("no error");
            if !matches!(item, Told::Progress { .. }) {
                return item;
            }
        }
    };
    let other = open(&kv, ticking);
    for config in [&config, &other] {
        let told = watched(config, first.revision + 1);
        assert!(
            matches!(told, Told::Changes { revision, .. } if revision == again),
            "{told:?}"
        );
        let told = watched(config, oops);
        assert!(matches!(told, Told::Compacted { .. }), "{told:?}");
    }
    set(&config, "/shop/key", "and again");
    CLOCK.fetch_add(601, Ordering::SeqCst);
    let told = at(&config, first.revision);
    assert!(matches!(told, Err(ConfigError::Denied { .. })), "{told:?}");
    let told = watched(&config, first.revision + 1);
    assert!(matches!(told, Told::Compacted { .. }), "{told:?}");
    // Who may read the history is asked nothing.
    let past = block_on(config.list_at(ME, &place("/shop/"), 10, None, Some(oops))).expect("the past");
    assert_eq!(past.entries[0].shown.value().expect("shown").bytes, b"plain oops");
    let mut all = config.watch(Arc::new(All), &place("/shop/"), Some(oops));
    let told = block_on(all.next()).expect("an item").expect("no error");
    assert!(!matches!(told, Told::Compacted { .. }), "{told:?}");
}

#[test]
fn a_page_does_not_begin_outside_of_its_place() {
    let (_dir, _, config) = world(now);
    set(&config, "/aaa/x", "1");
    let last = set(&config, "/shop/port", "2");
    let after: Path = "/aa".parse().expect("a path");
    let between = (1, Some(last));
    let told = block_on(config.diff(ME, &place("/shop/port"), between, 10, Some(&after)));
    assert!(matches!(told, Err(ConfigError::Change(_))), "{told:?}");
    let told = block_on(config.trim(ME, &place("/shop/"), Some(&after)));
    assert!(matches!(told, Err(ConfigError::Change(_))), "{told:?}");
}

#[test]
fn a_revision_that_is_not_there_is_no_revision_to_go_to() {
    let (_dir, _, config) = world(now);
    let last = set(&config, "/shop/port", "2");
    let shop = place("/shop/");
    for dry_run in [true, false] {
        let told = block_on(config.rollback(ME, &shop, last + 1, None, dry_run));
        assert!(matches!(told, Err(ConfigError::Future { .. })), "{told:?}");
        let told = block_on(config.rollback(ME, &shop, 0, None, dry_run));
        assert!(matches!(told, Err(ConfigError::Change(_))), "{told:?}");
    }
    let told = block_on(config.diff(ME, &shop, (last, Some(last + 9)), 10, None));
    assert!(matches!(told, Err(ConfigError::Future { .. })), "{told:?}");
    let told = block_on(config.diff(ME, &shop, (0, None), 10, None)).expect("from the beginning");
    assert_eq!(told.differences.len(), 1);
}

#[test]
fn what_is_deleted_at_once_is_bounded_in_bytes() {
    let (_dir, _, config) = world(now);
    let large = vec![b'x'; 500 << 10];
    for number in 0..40 {
        let change = Change {
            puts: vec![put(&format!("/big/{number:02}"), &large, Kind::Text)],
            ..Change::default()
        };
        block_on(config.change(ME, &change)).expect("set");
    }
    for dry_run in [true, false] {
        let error = block_on(config.change(ME, &remove("/big/", dry_run))).expect_err("too much");
        assert!(error.to_string().contains("in parts"), "{error}");
    }
    let part = block_on(config.change(ME, &remove("/big/07", false))).expect("deleted");
    assert_eq!(named(&part), ["/big/07"]);
    let left = block_on(config.list(ME, &place("/big/"), 1000, None)).expect("a listing");
    assert!(left.next.is_some() && left.entries.len() < 40);
}
