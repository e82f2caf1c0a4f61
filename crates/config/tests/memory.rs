//! What was written last is remembered, and never believed: two who use one store, each with a memory of its own.

use std::sync::Arc;

use futures_executor::block_on;
use upkeep_config::{
    Config, ConfigError, Path, Place,
    entry::{Change, Changed, Put, Removal, Shown},
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

fn now() -> f64 {
    1_700_000_000.0
}

fn two() -> (tempfile::TempDir, Config, Config) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&dir.path().join("config.redb"), Options::default()).expect("a store");
    let kv: Arc<dyn Kv> = Arc::new(store);
    let open = |name: &str| {
        let identity = Identity::generate(name).expect("random numbers");
        block_on(Config::open(Arc::clone(&kv), vec![identity], now)).expect("it opens")
    };
    let (one, other) = (open("machine:one"), open("machine:other"));
    (dir, one, other)
}

fn path(text: &str) -> Path {
    text.parse().expect("a path")
}

fn put(at: &str, text: &str, expected: Option<u64>) -> Change {
    Change {
        puts: vec![Put {
            path: path(at),
            value: Value::text(text),
            secret: false,
            expected,
        }],
        ..Change::default()
    }
}

#[track_caller]
fn set(config: &Config, text: &str) -> Changed {
    block_on(config.change(ME, &put("/a", text, None))).expect("changed")
}

fn remove(config: &Config, at: &str) {
    let place: Place = at.parse().expect("a place");
    let change = Change {
        removals: vec![Removal {
            place,
            expected: None,
        }],
        ..Change::default()
    };
    block_on(config.change(ME, &change)).expect("deleted");
}

/// What a change says that there was.
fn before(changed: &Changed) -> Option<String> {
    let shown = changed.differences.first()?.before.clone()?;
    match shown {
        Shown::Plain(value) => String::from_utf8(value.bytes).ok(),
        other => panic!("{other:?}"),
    }
}

fn history(config: &Config) -> Vec<(u64, Option<String>)> {
    let all = block_on(config.history(ME, &Place::all(), 1000, None)).expect("a history");
    let text =
        |shown: Option<Shown>| shown.and_then(|shown| String::from_utf8(shown.value()?.bytes.clone()).ok());
    all.changes
        .into_iter()
        .map(|past| (past.revision, text(past.shown)))
        .collect()
}

#[test]
fn what_others_did_is_seen_by_who_remembers() {
    let (_dir, one, other) = two();
    set(&one, "1");
    set(&other, "2");
    let third = set(&one, "3");
    assert_eq!(before(&third).as_deref(), Some("2"), "not what it wrote itself");
    // What it wrote is there again, and that is no change; what it remembers is not there, and that is one.
    assert!(set(&one, "3").differences.is_empty());
    set(&other, "4");
    let fifth = set(&one, "3");
    assert_eq!(before(&fifth).as_deref(), Some("4"));
    remove(&other, "/a");
    let again = set(&one, "3");
    assert_eq!((before(&again), again.differences.len()), (None, 1));
    remove(&other, "/");
    set(&other, "8");
    assert_eq!(before(&set(&one, "9")).as_deref(), Some("8"));
    let seen: Vec<Option<String>> = history(&one).into_iter().map(|(_, text)| text).collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        seen,
        [
            text("9"),
            text("8"),
            None,
            text("3"),
            None,
            text("3"),
            text("4"),
            text("3"),
            text("2"),
            text("1")
        ]
    );
    let revisions: Vec<u64> = history(&other)
        .into_iter()
        .map(|(revision, _)| revision)
        .collect();
    assert!(revisions.is_sorted_by(|a, b| a > b), "{revisions:?}");
    // Back to when it was "4", found among what was written from memory and what was not.
    let fourth = revisions[6];
    block_on(one.rollback(ME, &Place::all(), fourth, None, false)).expect("back");
    let entry = block_on(other.get(ME, &path("/a"), false)).expect("it is there");
    assert_eq!(entry.shown.value().expect("shown").bytes, b"4");
}

#[test]
fn an_expected_revision_is_that_of_the_store() {
    let (_dir, one, other) = two();
    let mine = set(&one, "1").revision;
    let theirs = set(&other, "2").revision;
    let error = block_on(one.change(ME, &put("/a", "3", Some(mine)))).expect_err("it was changed");
    assert!(
        matches!(error, ConfigError::Conflict { found: Some(found), .. } if found == theirs),
        "{error}"
    );
    block_on(one.change(ME, &put("/a", "3", Some(theirs)))).expect("changed");
}

#[test]
fn writers_with_memories_lose_nothing_of_each_other() {
    let (_dir, one, other) = two();
    std::thread::scope(|scope| {
        for (config, name) in [(&one, "one"), (&other, "other")] {
            scope.spawn(move || {
                for number in 0..200 {
                    let change = put("/a", &format!("{name} {number}"), None);
                    // Who is slower again and again is told so, and asks again.
                    while let Err(error) = block_on(config.change(ME, &change)) {
                        assert!(matches!(error, ConfigError::Busy(_)), "{error}");
                    }
                }
            });
        }
    });
    let all = history(&one);
    assert_eq!(all.len(), 400, "each is there");
    for name in ["one", "other"] {
        let of_one: Vec<&str> = all
            .iter()
            .rev()
            .filter_map(|(_, text)| text.as_deref()?.strip_prefix(name)?.strip_prefix(' '))
            .collect();
        let wanted: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        assert_eq!(of_one, wanted, "in the order in which they were written");
    }
    let entry = block_on(one.get(ME, &path("/a"), false)).expect("it is there");
    assert_eq!(
        Some(entry.shown.value().expect("shown").bytes.as_slice()),
        all[0].1.as_deref().map(str::as_bytes)
    );
}

#[test]
fn rules_that_are_remembered_refuse_nothing_that_those_of_today_take() {
    let (_dir, one, other) = two();
    let port = |text: &str, dry_run| Change {
        puts: vec![Put {
            path: path("/y/port"),
            value: Value::text(text),
            secret: false,
            expected: None,
        }],
        dry_run,
        ..Change::default()
    };
    let place: Place = "/y/".parse().expect("a place");
    let rules = |schema| upkeep_config::rules::Rules {
        schema,
        ..upkeep_config::rules::Rules::default()
    };
    let schema = serde_json::json!({"properties": {"port": {"enum": ["1", "2"]}}});
    block_on(one.set_rules(ME, &place, rules(Some(schema)))).expect("a schema");
    let refused = block_on(other.change(ME, &port("9", true)));
    assert!(
        matches!(refused, Err(ConfigError::Unfit { .. })),
        "what is only tried is judged too: {refused:?}"
    );
    block_on(other.change(ME, &port("1", false))).expect("it fits");
    block_on(one.set_rules(ME, &place, rules(None))).expect("no schema");
    block_on(other.change(ME, &port("9", false))).expect("nothing refuses it any more");
}
