//! Values that go by themselves.

use std::{sync::Arc, time::Duration};

use futures_executor::block_on;
use upkeep_config::{
    Config, ConfigError,
    entry::{Change, Put},
    rights::{Asker, Verb},
};
use upkeep_store::kv::Kv;

use crate::world::{ME, Only, World, at, in_, put};

fn for_(puts: Vec<Put>, ttl: u64) -> Change {
    Change {
        puts,
        ttl: Some(Duration::from_secs(ttl)),
        ..Change::default()
    }
}

#[test]
fn what_nobody_keeps_alive_goes() {
    let world = World::new();
    goes(&world.config, |path| world.text(path));
    let history = world.history("/web/", 100);
    assert_eq!(history.len(), 4, "what went by itself has no line: {history:?}");
}

/// The same on every backend.
pub(crate) fn goes(config: &Config, text: impl Fn(&str) -> Option<String>) {
    let change = |change: &Change| block_on(config.change(ME, change)).expect("changed");
    let first = change(&for_(vec![put("/web/1", "up"), put("/web/load", "3")], 1));
    let lease = first.lease.expect("it has one");
    assert!(lease.ttl >= Duration::from_secs(1), "{lease:?}");
    assert_eq!(text("/web/1").as_deref(), Some("up"));
    // Kept alive for longer than it lasts.
    let until = std::time::Instant::now() + lease.ttl + Duration::from_millis(700);
    while std::time::Instant::now() < until {
        block_on(config.keep_alive(ME, lease.id)).expect("alive");
        upkeep_testkit::pass(Duration::from_millis(150));
    }
    assert_eq!(text("/web/load").as_deref(), Some("3"));
    // Who may not write all of it is not told that there is one.
    let reader = Asker {
        who: "token:r",
        rights: &Only(&[Verb::Read]),
    };
    assert_eq!(
        block_on(config.keep_alive(reader, lease.id)),
        Err(ConfigError::NoLease(lease.id))
    );
    // Written anew without one, it stays; written with another, that one counts.
    change(&Change {
        puts: vec![put("/web/load", "3")],
        ..Change::default()
    });
    let next = change(&for_(vec![put("/web/1", "up")], 1))
        .lease
        .expect("another");
    assert_ne!(next.id, lease.id);
    upkeep_testkit::wait_until("the value to go", Duration::from_secs(20), || {
        match text("/web/1") {
            None => Ok(()),
            Some(text) => Err(format!("it is there: {text}")),
        }
    });
    assert_eq!(text("/web/load").as_deref(), Some("3"));
    assert_eq!(
        block_on(config.keep_alive(ME, next.id)),
        Err(ConfigError::NoLease(next.id))
    );
    assert_eq!(
        block_on(config.keep_alive(ME, 12345)),
        Err(ConfigError::NoLease(12345))
    );
}

#[test]
fn what_cannot_be_leased_is_refused() {
    let world = World::new();
    for (change, why) in [
        (for_(vec![put("/a", "1")], 0), "between a second and"),
        (for_(vec![put("/a", "1")], 40 * 86_400), "between a second and"),
        (
            Change {
                removals: vec![upkeep_config::entry::Removal {
                    place: in_("/a"),
                    expected: None,
                }],
                ..for_(Vec::new(), 5)
            },
            "sets nothing",
        ),
    ] {
        let error = world.try_change(ME, &change).expect_err("refused").to_string();
        assert!(error.contains(why), "{error}");
    }
    let rules = upkeep_config::rules::Rules {
        approvals: 1,
        ..Default::default()
    };
    block_on(world.config.set_rules(ME, &in_("/slow/"), rules)).expect("set");
    let error = world
        .try_change(ME, &for_(vec![put("/slow/a", "1")], 5))
        .expect_err("it would wait");
    assert!(error.to_string().contains("cannot wait"), "{error}");
    // No lease is left of it, and none comes of trying.
    let dry = Change {
        dry_run: true,
        ..for_(vec![put("/a", "1")], 5)
    };
    assert_eq!(world.try_change(ME, &dry).expect("said").lease, None);
}

#[test]
fn going_back_leaves_alone_what_goes_by_itself() {
    let world = World::new();
    let old = world.set("/a/lasting", "1");
    world
        .try_change(ME, &for_(vec![put("/a/short", "up")], 60))
        .expect("set");
    world.set("/a/lasting", "2");
    let told = block_on(world.config.rollback(ME, &in_("/a/"), old, None, false)).expect("back");
    let paths: Vec<_> = told.differences.iter().map(|one| one.path.clone()).collect();
    assert_eq!(paths, [at("/a/lasting")]);
    assert_eq!(world.text("/a/short").as_deref(), Some("up"));
}

#[test]
fn what_is_kept_alive_outlives_the_store_being_opened_again() {
    let world = World::new();
    let lease = world
        .try_change(ME, &for_(vec![put("/a", "1")], 60))
        .expect("set")
        .lease
        .expect("one");
    let kv: Arc<dyn Kv> = Arc::new(world.store.clone());
    let other = block_on(Config::open(kv, Vec::new(), crate::world::now)).expect("open");
    assert_eq!(
        block_on(other.keep_alive(ME, lease.id)).expect("alive").id,
        lease.id
    );
}
