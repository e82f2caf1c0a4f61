//! Moving a store: what goes by itself while it is moved, what is in the way, and what a store that was moved costs afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_executor::{block_on, block_on_stream};
use upkeep_config::{
    Config, ConfigError,
    entry::{Change, Put},
    migrate::finish,
    rights::All,
    rules::Rules,
    shared::Keep,
    watch::Told,
};
use upkeep_store::kv::{Kv, Op, Range, Txn};
use upkeep_testkit::pass;

use crate::world::{ME, World, at, in_, put};

fn kv<C>(world: &World<C>) -> Arc<dyn Kv> {
    Arc::new(world.store.clone())
}

/// Moves all of a store to a new one.
fn moved(from: &World) -> World {
    let to = World::empty();
    block_on(from.config.migrate(&kv(&to), "one", "the other")).expect("moved");
    assert!(block_on(finish(&kv(from), &kv(&to), "one")).expect("finished"));
    to.opened()
}

fn for_a_second(puts: Vec<Put>) -> Change {
    Change {
        puts,
        ttl: Some(Duration::from_secs(1)),
        ..Change::default()
    }
}

fn many(name: &str, count: usize, text: &str) -> Vec<Put> {
    (0..count).map(|n| put(&format!("/{name}/{n}"), text)).collect()
}

#[test]
fn what_is_kept_alive_for_a_second_each_time_does_not_stand_in_the_way() {
    let world = World::new();
    for part in 0..3 {
        world.put(many(&format!("many{part}"), 4000, &"x".repeat(200)));
    }
    let leased: Vec<_> = (0..30)
        .map(|n| {
            let change = for_a_second(vec![put(&format!("/live/{n}"), "up")]);
            let changed = block_on(world.config.change(ME, &change)).expect("set");
            changed.lease.expect("it has one").id
        })
        .collect();
    let long = Change {
        ttl: Some(Duration::from_mins(10)),
        ..for_a_second(vec![put("/live/long", "up")])
    };
    block_on(world.config.change(ME, &long)).expect("set");
    // One that becomes lasting meanwhile, and one that goes.
    let is_over = AtomicBool::new(false);
    let target = World::empty();
    let (moved, written) = std::thread::scope(|scope| {
        let keeper = scope.spawn(|| {
            let source = kv(&world);
            while !is_over.load(Ordering::Relaxed) {
                for lease in &leased[1..] {
                    // Lost only if the machine stands still for a second.
                    drop(block_on(source.keep_alive(*lease)));
                }
                pass(Duration::from_millis(100));
            }
        });
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !is_over.load(Ordering::Relaxed) {
                let change = Change {
                    puts: vec![
                        put(&format!("/meanwhile/{written}"), "1"),
                        put("/live/1", "to stay"),
                    ],
                    ..Change::default()
                };
                match block_on(world.config.change(ME, &change)) {
                    Ok(_) => written += 1,
                    Err(ConfigError::Moved { .. }) => break,
                    Err(ConfigError::Busy(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                pass(Duration::from_millis(20));
            }
            written
        });
        let moved = block_on(world.config.migrate(&kv(&target), "one", "the other"));
        is_over.store(true, Ordering::Relaxed);
        keeper.join().expect("the keeper");
        (moved, writer.join().expect("the writer"))
    });
    let moved = moved.expect("moved");
    assert!(block_on(finish(&kv(&world), &kv(&target), "one")).expect("finished"));
    assert!(written > 10, "{written} were written meanwhile");
    // All of these were set meanwhile, with a line in the history each; the first may have been there already.
    assert!(
        moved.followed >= 2 * (written - 3),
        "{moved:?}, {written} were written"
    );
    let ends = block_on(kv(&target).range(Range::prefix("c/live/"))).expect("read");
    for entry in &ends.entries {
        let stays = entry.key == "c/live/1";
        assert_eq!(entry.lease.is_none(), stays, "{}", entry.key);
    }
    // Those of a second may have gone again.
    assert!(ends.entries.iter().any(|entry| entry.key == "c/live/long"));
    let target = target.opened();
    assert_eq!(target.text("/live/1").as_deref(), Some("to stay"));
    assert_eq!(target.text("/many2/3999").map(|text| text.len()), Some(200));
}

#[test]
fn what_others_have_there_is_not_touched() {
    let world = World::new();
    world.set("/a", "1");
    let target = World::empty();
    block_on(kv(&target).txn(Txn::always(vec![Op::put("c/of/others", "theirs")]))).expect("written");
    let error =
        block_on(world.config.migrate(&kv(&target), "one", "the other")).expect_err("it is not empty");
    assert!(error.to_string().contains("`c/of/others`"), "{error}");
    let left = block_on(kv(&target).range(Range::prefix(""))).expect("read");
    assert_eq!(left.entries.len(), 1, "{left:?}");
    world.set("/a", "2");
}

/// What a watch of all tells first, from a revision on.
fn first_told(config: &Config, from: u64) -> Vec<Told> {
    let stream = block_on_stream(config.watch(Arc::new(All), &in_("/"), Some(from)));
    let mut told = Vec::new();
    for item in stream {
        let item = item.expect("told");
        let is_last = matches!(&item, Told::Compacted { .. })
            || matches!(&item, Told::Changes { changes, .. } if changes.iter().any(|change| change.path == at("/last")));
        told.push(item);
        if is_last {
            break;
        }
    }
    told
}

#[test]
fn who_was_away_while_something_went_by_itself_is_told_to_read_anew() {
    let world = World::new();
    let seen = block_on(world.config.change(ME, &for_a_second(vec![put("/web/1", "up")])))
        .expect("set")
        .revision;
    upkeep_testkit::wait_until("it to go", Duration::from_secs(10), || {
        world.text("/web/1").map_or(Ok(()), Err)
    });
    let after = world.set("/a", "1");
    let lasting = Change {
        ttl: Some(Duration::from_mins(10)),
        ..for_a_second(vec![put("/live/1", "up")])
    };
    block_on(world.config.change(ME, &lasting)).expect("set");
    let new = moved(&world);
    new.set("/last", "1");
    for from in [seen, seen + 1] {
        let told = first_told(&new.config, from);
        assert!(matches!(told[..], [Told::Compacted { .. }]), "{from}: {told:?}");
    }
    // Where nothing of this is watched, or all of it is there, everything is told.
    let told = block_on_stream(new.config.watch(Arc::new(All), &in_("/live/"), Some(seen + 1))).take(2);
    let told: Vec<_> = told.map(|item| item.expect("told")).collect();
    assert!(
        matches!(&told[..], [Told::Progress { .. }, Told::Changes { changes, .. }] if changes.len() == 1),
        "{told:?}"
    );
    let told = block_on_stream(new.config.watch(Arc::new(All), &in_("/a"), Some(after))).take(2);
    let told: Vec<_> = told.map(|item| item.expect("told")).collect();
    assert!(
        matches!(told[1], Told::Changes { revision, .. } if revision == after),
        "{told:?}"
    );
}

#[test]
fn a_store_that_was_moved_is_read_by_its_keys_and_told_again_within_bounds() {
    let world = World::new();
    let big = "x".repeat(400_000);
    let first = world.set("/big/0", &big);
    for n in 1..40 {
        world.set(&format!("/big/{}", n % 20), &format!("{big}{n}"));
    }
    let middle = world.set("/small", "1");
    let new = moved(&world);
    costs_little(&new, "1", first, middle);
    let again = moved(&new);
    costs_little(&again, "2", first, middle);
    let old: Vec<_> = world
        .history("/big/", 1000)
        .into_iter()
        .map(|past| past.revision)
        .collect();
    let copied: Vec<_> = again
        .history("/big/", 1000)
        .into_iter()
        .map(|past| past.revision)
        .collect();
    assert_eq!(old, copied);
    // Going back finds what there was by its key.
    block_on(again.config.rollback(ME, &in_("/big/0"), first, None, false)).expect("set back");
    assert_eq!(again.text("/big/0").as_deref(), Some(big.as_str()));
}

/// What is read of a store that was moved: keys, and of what has to be told again so much as can be held.
fn costs_little(world: &World, last: &str, first: u64, middle: u64) {
    world.set("/last", last);
    world.store.0.reset();
    block_on(world.config.trim(ME, &in_("/"), None)).expect("trimmed");
    let page = block_on(world.config.history(ME, &in_("/"), 3, None)).expect("a history");
    let mut small = page.changes.iter().filter(|past| past.path == at("/small"));
    assert_eq!(small.next().map(|past| past.revision), Some(middle), "{page:?}");
    let (_, bytes) = world.store.0.read();
    assert!(bytes < 100_000, "{bytes} bytes were read");
    // 16 MB are too much to be held at once.
    world.store.0.reset();
    let told = first_told(&world.config, first);
    assert!(
        matches!(told[..], [Told::Compacted { .. }]),
        "told {} items",
        told.len()
    );
    let (_, bytes) = world.store.0.read();
    assert!(bytes < 10_000_000, "{bytes} bytes were read");
    // A few of them are told.
    let told = first_told(&world.config, middle - 5);
    let changes = told.iter().filter(|told| matches!(told, Told::Changes { .. }));
    assert_eq!(changes.count(), 7, "{} items", told.len());
}

#[test]
fn one_machines_garbage_is_passed_over_and_named() {
    let world = World::new();
    let own = upkeep_config::seal::Identity::generate("machine:weba").expect("random numbers");
    block_on(world.config.announce(&own.recipient())).expect("announced");
    let garbage = [
        ("m/machines/zz", "garbage"),
        ("m/machines/yy", r#"{"key":"no key","at":1}"#),
        ("m/machines/xx", r#"{"key":7}"#),
    ];
    let ops = garbage.map(|(key, text)| Op::put(key, text)).to_vec();
    block_on(kv(&world).txn(Txn::always(ops))).expect("written");
    let known = block_on(world.config.machines()).expect("machines");
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!(known[0].name, "machine:weba");
    let (_, damaged) = block_on(world.config.announced()).expect("machines");
    let names: Vec<_> = damaged.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["machine:xx", "machine:yy", "machine:zz"]);
    assert!(damaged.iter().all(|one| !one.why.is_empty()), "{damaged:?}");
}

#[test]
fn names_that_expire_leave_nothing_in_the_end() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000_000);
    fn clock() -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let now = NOW.load(Ordering::Relaxed) as f64;
        now
    }
    let world = World::with(10_000, clock);
    let keys = |world: &World| block_on(kv(world).status()).expect("a status").keys;
    let keep = Rules {
        keep: Some(Keep {
            changes: 10,
            days: 30,
        }),
        ..Rules::default()
    };
    block_on(world.config.set_rules(ME, &in_("/"), keep)).expect("set");
    let lasting = Change {
        ttl: Some(Duration::from_mins(10)),
        ..for_a_second(vec![put("/live", "up")])
    };
    block_on(world.config.change(ME, &lasting)).expect("set");
    world.set("/deleted", "1");
    world.remove("/deleted");
    let before = keys(&world);
    block_on(world.config.change(ME, &for_a_second(many("web", 40, "up")))).expect("set");
    upkeep_testkit::wait_until("them to go", Duration::from_secs(10), || {
        world.text("/web/39").map_or(Ok(()), Err)
    });
    let trim = || {
        let trimmed = block_on(world.config.trim(ME, &in_("/"), None));
        trimmed.expect("trimmed").removed
    };
    assert_eq!(trim(), 0, "who looks for it finds it for some days");
    assert_eq!(keys(&world), before + 80);
    NOW.fetch_add(31 * 86_400, Ordering::Relaxed);
    // One of them is there again.
    world.set("/web/7", "here to stay");
    let removed = trim();
    assert!(removed >= 39, "{removed}");
    // Its value, two changes, and that it was once to go. Of what was deleted, the deletion and that older changes were left out.
    assert_eq!(keys(&world), before + 4);
    assert_eq!(world.text("/web/7").as_deref(), Some("here to stay"));
    assert_eq!(world.text("/live").as_deref(), Some("up"));
    let of = |path: &str| world.history(path, 100).len();
    assert_eq!((of("/live"), of("/deleted"), of("/web/8")), (1, 1, 0));
    world.set("/web/8", "anew");
    assert_eq!(world.text("/web/8").as_deref(), Some("anew"));
}
