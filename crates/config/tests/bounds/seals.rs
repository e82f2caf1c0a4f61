//! Secrets sealed anew, and going back to secrets.

use std::sync::Arc;

use futures_executor::block_on;
use upkeep_config::{
    Config, ConfigError,
    entry::Shown,
    rules::Rules,
    seal::{Identity, Recipient},
    shared::Reseal,
};
use upkeep_store::kv::Kv;

use crate::world::{ME, World, at, in_, secret};

fn other(name: &str) -> Identity {
    Identity::generate(name).expect("random numbers")
}

fn sealed_for(world: &World, place: &str, recipients: Vec<Recipient>) {
    let rules = Rules {
        recipients,
        ..Rules::default()
    };
    block_on(world.config.set_rules(ME, &in_(place), rules)).expect("set");
}

fn recipients(world: &World, path: &str) -> Vec<String> {
    let entry = block_on(world.config.get(ME, &at(path), false)).expect("there");
    let Shown::Masked { recipients, .. } = entry.shown else {
        panic!("a secret");
    };
    recipients.into_iter().map(|one| one.name).collect()
}

#[test]
fn one_that_cannot_be_sealed_anew_keeps_no_other_from_it() {
    let world = World::new();
    let (stranger, next) = (other("machine:stranger"), other("machine:next"));
    world.put(vec![secret("/a/1", "one")]);
    sealed_for(&world, "/a/2", vec![stranger.recipient()]);
    world.put(vec![
        secret("/a/2", "two"),
        secret("/a/3", "three"),
        crate::world::put("/a/4", "no secret"),
    ]);
    sealed_for(&world, "/a/2", Vec::new());
    sealed_for(&world, "/a/", vec![next.recipient()]);
    let dry = Reseal {
        dry_run: true,
        ..Reseal::default()
    };
    let told = block_on(world.config.reseal(ME, &in_("/a/"), dry)).expect("said");
    assert_eq!(told.done, [at("/a/1"), at("/a/2"), at("/a/3")]);
    assert_eq!(recipients(&world, "/a/1"), ["machine:here"]);
    let told = block_on(world.config.reseal(ME, &in_("/a/"), Reseal::default())).expect("as far as it goes");
    assert_eq!(told.done, [at("/a/1"), at("/a/3")]);
    assert_eq!(told.failures, 1);
    assert_eq!(told.failed[0].0, at("/a/2"));
    assert!(told.failed[0].1.contains("machine:stranger"), "{told:?}");
    assert_eq!(recipients(&world, "/a/3"), ["machine:next"]);
    assert_eq!(recipients(&world, "/a/2"), ["machine:stranger"]);
}

#[test]
fn old_seals_go_out_of_the_history_if_that_is_asked_for() {
    let world = World::new();
    let next = other("machine:next");
    for round in 0..5 {
        world.put(vec![
            secret("/a/key", &format!("secret {round}")),
            crate::world::put("/a/x", &round.to_string()),
        ]);
    }
    world.put(vec![secret("/a/gone", "s")]);
    let gone = world.remove("/a/gone");
    sealed_for(&world, "/a/", vec![next.recipient()]);
    let how = Reseal {
        history: true,
        ..Reseal::default()
    };
    let told = block_on(world.config.reseal(ME, &in_("/a/"), how)).expect("sealed");
    assert_eq!((told.done.len(), told.forgotten), (1, 6));
    let left = world.history("/a/", 1000);
    for past in left.iter().filter(|past| past.path != at("/a/x")) {
        match &past.shown {
            Some(Shown::Masked { recipients, .. }) => assert_eq!(recipients[0].name, "machine:next"),
            None => assert_eq!(past.revision, gone),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        left.iter().filter(|past| past.path == at("/a/x")).count(),
        5,
        "what is no secret stays"
    );
    // It is found in no key of the store either: what is left is sealed for the new one.
    assert!(matches!(
        block_on(world.config.rollback(ME, &in_("/a/key"), gone, None, true)),
        Err(ConfigError::Trimmed { .. })
    ));
}

#[test]
fn going_back_seals_for_those_of_today_or_says_that_it_cannot() {
    let world = World::new();
    let next = other("machine:next");
    let old = world.put(vec![secret("/a/key", "first"), crate::world::put("/a/x", "1")]);
    world.put(vec![secret("/a/key", "second"), crate::world::put("/a/x", "2")]);
    let here = recipients(&world, "/a/key");
    sealed_for(&world, "/a/", vec![next.recipient()]);
    block_on(world.config.reseal(ME, &in_("/a/"), Reseal::default())).expect("sealed");
    // Another daemon without the key cannot: nothing is changed.
    let kv: Arc<dyn Kv> = Arc::new(world.store.clone());
    let keyless = block_on(Config::open(
        kv,
        vec![other("machine:keyless")],
        crate::world::now,
    ))
    .expect("open");
    let error = block_on(keyless.rollback(ME, &in_("/a/"), old, None, false)).expect_err("no key");
    assert!(
        matches!(&error, ConfigError::Seal { path, .. } if *path == at("/a/key")),
        "{error}"
    );
    assert_eq!(world.text("/a/x").as_deref(), Some("2"));
    block_on(world.config.rollback(ME, &in_("/a/"), old, None, false)).expect("back");
    assert_eq!(here, ["machine:here"]);
    assert_eq!(recipients(&world, "/a/key"), ["machine:next"]);
    let kv: Arc<dyn Kv> = Arc::new(world.store.clone());
    let there = block_on(Config::open(kv, vec![next], crate::world::now)).expect("open");
    let entry = block_on(there.get(ME, &at("/a/key"), true)).expect("opened");
    assert_eq!(entry.shown.value().expect("revealed").bytes, b"first");
}

#[test]
fn going_back_puts_no_secret_into_the_store_in_clear() {
    let world = World::new();
    let clear = world.set("/a/key", "in the open");
    let put = secret("/a/key", "sealed now");
    world.put(vec![put]);
    world.set("/a/x", "1");
    let error = block_on(world.config.rollback(ME, &in_("/a/"), clear, None, false)).expect_err("in clear");
    assert_eq!(error, ConfigError::Bared(at("/a/key")));
    assert_eq!(world.text("/a/key").as_deref(), Some("sealed now"));
    assert_eq!(world.text("/a/x").as_deref(), Some("1"));
}
