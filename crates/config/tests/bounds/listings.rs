//! Listings by bytes and of one moment; watches that say why they end; places that are too large for a schema.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_executor::{block_on, block_on_stream};
use serde_json::json;
use upkeep_config::{
    Blocking, Config, ConfigError, Job,
    entry::{Change, Put},
    rights::All,
    rules::Rules,
    shared::LISTED_BYTES,
    watch::Told,
};
use upkeep_store::kv::{Kv, Op, Txn};

use crate::world::{ME, World, at, in_, put};

#[test]
fn a_listing_of_large_values_comes_in_pages_of_one_moment() {
    let world = World::new();
    let large = "x".repeat(400 << 10);
    for name in 0..20 {
        world.set(&format!("/a/{name:02}"), &large);
    }
    world.store.0.reset();
    let first = block_on(world.config.list(ME, &in_("/a/"), 1000, None)).expect("a listing");
    assert!(first.entries.len() < 20);
    let next = first.next.clone().expect("there is more");
    let bytes: usize = first
        .entries
        .iter()
        .map(|entry| entry.shown.value().expect("plain").bytes.len())
        .sum();
    assert!(bytes <= LISTED_BYTES, "{bytes}");
    let (_, read) = world.store.0.read();
    assert!(read < 2 * LISTED_BYTES, "{read} bytes were read for a page");
    // What changes meanwhile is not in it.
    world.set("/a/19", "changed");
    world.remove("/a/18");
    let rest = block_on(
        world
            .config
            .list_at(ME, &in_("/a/"), 1000, Some(&next), Some(first.revision)),
    );
    let rest = rest.expect("the rest");
    assert_eq!((rest.revision, rest.next), (first.revision, None));
    assert_eq!(first.entries.len() + rest.entries.len(), 20);
    assert!(
        rest.entries
            .iter()
            .all(|entry| entry.shown.value().expect("plain").bytes.len() == large.len())
    );
    let now = block_on(world.config.list(ME, &in_("/a/"), 1000, Some(&next))).expect("as it is");
    assert_eq!(now.entries.len() + first.entries.len(), 19);
    // A revision that is forgotten, or not there yet, says so.
    let newest = world.set("/b", "1");
    block_on(world.store.compact(newest)).expect("compacted");
    let ask = |revision| block_on(world.config.list_at(ME, &in_("/a/"), 10, None, Some(revision)));
    assert_eq!(
        ask(first.revision).expect_err("forgotten"),
        ConfigError::Compacted {
            asked: first.revision,
            oldest: newest
        }
    );
    assert_eq!(
        ask(newest + 5).expect_err("not there yet"),
        ConfigError::Future {
            asked: newest + 5,
            current: newest
        }
    );
}

#[test]
fn one_value_is_listed_however_large() {
    let world = World::new();
    // Each byte of it takes six in JSON.
    let large = "\u{1}".repeat(512 << 10);
    for name in ["/a/0", "/a/1", "/a/2", "/a/3"] {
        world.set(name, &large);
    }
    let mut after = None;
    let mut pages = Vec::new();
    loop {
        let page = block_on(world.config.list(ME, &in_("/a/"), 1000, after.as_ref())).expect("a listing");
        pages.push(page.entries.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages.iter().sum::<usize>(), 4);
    // Behind the only value of a place there is none.
    let behind = block_on(world.config.list(ME, &in_("/a/1"), 10, Some(&at("/a/1")))).expect("a listing");
    assert_eq!(behind.entries, []);
    assert!(pages.len() >= 2, "{pages:?}");
}

#[test]
fn a_watch_says_why_it_tells_nothing() {
    let world = World::new();
    let revision = world.set("/a", "1");
    let mut watch = block_on_stream(world.config.watch(Arc::new(All), &in_("/"), Some(revision + 9)));
    assert_eq!(
        watch.next().expect("it is told").expect_err("not there yet"),
        ConfigError::Future {
            asked: revision + 9,
            current: revision
        }
    );
    assert!(watch.next().is_none());
    // The one behind the newest is what whoever resumes asks for.
    let mut watch = block_on_stream(world.config.watch(Arc::new(All), &in_("/"), Some(revision + 1)));
    world.set("/b", "2");
    loop {
        match watch.next().expect("it goes on").expect("no error") {
            Told::Changes { changes, .. } => {
                assert_eq!(changes[0].path, at("/b"));
                break;
            }
            Told::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // What is no record of ours ends it, and says which.
    block_on(
        world
            .store
            .txn(Txn::always(vec![Op::put("c/broken", "no record")])),
    )
    .expect("written");
    let error = loop {
        match watch.next().expect("it is told") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, ConfigError::Damaged { key, .. } if key == "c/broken"),
        "{error}"
    );
}

#[test]
fn a_place_with_a_schema_is_judged_elsewhere_and_only_if_it_is_not_too_large() {
    static JOBS: AtomicUsize = AtomicUsize::new(0);
    let world = World::new();
    let rules = Rules {
        schema: Some(json!({"properties": {"port": {"maxLength": 4}}})),
        ..Rules::default()
    };
    let blocking: Blocking = Arc::new(|job: Job| {
        JOBS.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::spawn(job);
        Box::pin(async move { thread.join().expect("it ends") })
    });
    let kv: Arc<dyn Kv> = Arc::new(world.store.clone());
    let config = block_on(Config::open(kv, Vec::new(), crate::world::now))
        .expect("open")
        .with_blocking(blocking);
    block_on(config.set_rules(ME, &in_("/a/"), rules)).expect("set");
    assert_eq!(JOBS.load(Ordering::Relaxed), 1);
    let change = |puts: Vec<Put>| Change {
        puts,
        ..Change::default()
    };
    block_on(config.change(ME, &change(vec![put("/a/port", "8080")]))).expect("it fits");
    let error = block_on(config.change(ME, &change(vec![put("/a/port", "80800")]))).expect_err("too long");
    assert!(error.to_string().contains("`/a/port`"), "{error}");
    assert_eq!(JOBS.load(Ordering::Relaxed), 3);
    block_on(config.change(ME, &change(vec![put("/b/port", "80800")]))).expect("elsewhere");
    assert_eq!(JOBS.load(Ordering::Relaxed), 3);
    // Sixteen MiB and no more.
    let large = "x".repeat(512 << 10);
    for name in 0..32 {
        block_on(config.change(ME, &change(vec![put(&format!("/a/{name}"), &large)]))).expect("it fits");
    }
    let error = block_on(config.change(ME, &change(vec![put("/a/port", "1")]))).expect_err("too large");
    assert!(
        error.to_string().contains("give the schema to places within it"),
        "{error}"
    );
}
