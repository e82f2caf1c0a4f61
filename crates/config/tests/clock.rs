//! The clock jumps, back and far ahead: nothing is lost, refused or out of order because of it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use futures_executor::block_on;
use upkeep_config::{
    Config, Place,
    entry::{Change, Put},
    rights::{All, Asker},
    seal::Identity,
    value::Value,
};
use upkeep_store::kv::{
    Kv,
    embedded::{Embedded, Options},
};

const ME: Asker<'static> = Asker {
    who: "uid:1000",
    rights: &All,
};

/// Unix seconds.
static CLOCK: AtomicI64 = AtomicI64::new(1_795_000_000);

#[expect(clippy::cast_precision_loss, reason = "seconds of some years")]
fn now() -> f64 {
    CLOCK.load(SeqCst) as f64
}

const DAY: i64 = 86_400;

#[test]
fn changes_are_in_the_order_in_which_they_were_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = || {
        let store = Embedded::open(&dir.path().join("config.redb"), Options::default()).expect("a store");
        let kv: Arc<dyn Kv> = Arc::new(store);
        let identity = Identity::generate("machine:one").expect("random numbers");
        block_on(Config::open(kv, vec![identity], now)).expect("it opens")
    };
    let begun = CLOCK.load(SeqCst);
    let mut config = open();
    let mut revisions = Vec::new();
    // Back by a day, ahead by ten months, to the year 1970, before it, and home again; the store is opened anew in between.
    let jumps = [0, -DAY, 300 * DAY, 1 - begun, -2 * begun, 0];
    for (round, jump) in jumps.into_iter().enumerate() {
        CLOCK.store(begun + jump, SeqCst);
        if round == 3 {
            drop(config);
            config = open();
        }
        for part in 0..3 {
            let change = Change {
                puts: vec![Put {
                    path: "/a".parse().expect("a path"),
                    value: Value::text(format!("{round}.{part}")),
                    secret: false,
                    expected: None,
                }],
                ..Change::default()
            };
            revisions.push(block_on(config.change(ME, &change)).expect("changed").revision);
        }
    }
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    let all = block_on(config.history(ME, &Place::all(), 100, None)).expect("a history");
    let told: Vec<String> = all
        .changes
        .iter()
        .map(|past| {
            let value = past
                .shown
                .as_ref()
                .and_then(|shown| shown.value())
                .expect("shown");
            String::from_utf8_lossy(&value.bytes).into_owned()
        })
        .collect();
    let wanted: Vec<String> = (0..jumps.len())
        .rev()
        .flat_map(|round| (0..3).rev().map(move |part| format!("{round}.{part}")))
        .collect();
    assert_eq!(told, wanted);
    // What was at a revision is found, whatever the clock said then.
    for (at, wanted) in [(4, "1.1"), (7, "2.1"), (10, "3.1"), (13, "4.1")] {
        block_on(config.rollback(ME, &Place::all(), revisions[at], None, false)).expect("back");
        let entry = block_on(config.get(ME, &"/a".parse().expect("a path"), false)).expect("it is there");
        assert_eq!(entry.shown.value().expect("shown").bytes, wanted.as_bytes());
    }
}
