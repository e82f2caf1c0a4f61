//! The history: found without reading all of it, and trimmed.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use futures_executor::block_on;
use upkeep_config::{
    ConfigError,
    entry::Shown,
    rights::{Asker, Verb},
    rules::Rules,
    shared::Keep,
};

use crate::world::{ME, Only, World, at, in_, put};

#[test]
fn the_newest_changes_are_found_without_reading_all_of_them() {
    let world = World::new();
    let rules = Rules {
        keep: Some(Keep {
            changes: 10_000,
            days: 1000,
        }),
        ..Rules::default()
    };
    block_on(world.config.set_rules(ME, &in_("/"), rules)).expect("set");
    let first = world.set("/shop/busy", "0");
    for round in 1..1500 {
        world.set("/shop/busy", &round.to_string());
    }
    for name in 0..30 {
        world.set(&format!("/shop/calm/{name}"), "x");
    }
    let store = &world.store.0;
    store.reset();
    let newest = block_on(world.config.history(ME, &in_("/shop/"), 10, None)).expect("a history");
    assert_eq!(newest.changes.len(), 10);
    assert!(newest.next.is_some());
    let (keys, bytes) = store.read();
    assert!(keys < 400, "{keys} keys were read for ten of 1530 changes");
    assert!(bytes < 100, "{bytes} bytes of values beside those ten");
    // So is what was at a revision far back.
    store.reset();
    let diff = block_on(
        world
            .config
            .diff(ME, &in_("/shop/"), (first, Some(first + 1)), 100, None),
    );
    let diff = diff.expect("a difference").differences;
    assert_eq!(diff.len(), 1);
    assert_eq!(diff[0].path, at("/shop/busy"));
    let back = block_on(world.config.rollback(ME, &in_("/shop/"), first, None, true)).expect("said");
    assert_eq!(back.differences.len(), 31);
    let (keys, _) = store.read();
    assert!(
        keys < 1500,
        "{keys} keys were read to look at two revisions of 31 values twice"
    );
    block_on(world.config.rollback(ME, &in_("/shop/"), first, None, false)).expect("done");
    assert_eq!(world.text("/shop/busy").as_deref(), Some("0"));
    assert_eq!(world.text("/shop/calm/7"), None);
}

#[test]
fn pages_lose_nothing_also_where_they_are_cut_within_a_revision() {
    let world = World::new();
    for round in 0..4 {
        let puts = (0..7).map(|name| put(&format!("/a/{name}"), &round.to_string()));
        world.put(puts.collect());
        world.set("/a/3", &format!("between {round}"));
    }
    let whole = world.history("/a/", 1000);
    assert_eq!(whole.len(), 32);
    assert!(
        whole.is_sorted_by(|a, b| {
            a.revision > b.revision || (a.revision == b.revision && a.path < b.path)
        })
    );
    for limit in [1, 2, 3, 5, 31, 32] {
        assert_eq!(world.history("/a/", limit), whole, "in pages of {limit}");
    }
    assert_eq!(world.history("/a/3", 2).len(), 8);
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[test]
fn what_was_at_a_revision_is_what_a_plain_model_says() {
    let world = World::new();
    let mut dice = Dice(7);
    let paths = ["/a", "/a/b", "/a/b/c", "/a-b", "/a/c"];
    let mut states: BTreeMap<u64, BTreeMap<String, String>> = BTreeMap::new();
    let mut now: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..160 {
        let path = paths[usize::try_from(dice.below(5)).expect("small")];
        let revision = match dice.below(4) {
            0 if now.remove(path).is_some() => world.remove(path),
            1 => {
                let others: Vec<_> = paths
                    .iter()
                    .map(|path| put(path, &format!("all {round}")))
                    .collect();
                now.extend(
                    paths
                        .iter()
                        .map(|path| ((*path).to_owned(), format!("all {round}"))),
                );
                world.put(others)
            }
            _ => {
                now.insert(path.to_owned(), round.to_string());
                world.set(path, &round.to_string())
            }
        };
        states.insert(revision, now.clone());
    }
    let states: Vec<_> = states.into_iter().collect();
    for place in ["/", "/a/", "/a", "/a/b/"] {
        let in_place = |state: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            let mut state = state.clone();
            state.retain(|path, _| in_(place).covers(&at(path)));
            state
        };
        for _ in 0..60 {
            let pick =
                |dice: &mut Dice| &states[usize::try_from(dice.below(states.len() as u64)).expect("small")];
            let ((from, old), (to, new)) = (pick(&mut dice), pick(&mut dice));
            let limit = usize::try_from(1 + dice.below(4)).expect("small");
            let (old, new) = (in_place(old), in_place(new));
            let mut told = Vec::new();
            let mut after = None;
            loop {
                let page =
                    block_on(
                        world
                            .config
                            .diff(ME, &in_(place), (*from, Some(*to)), limit, after.as_ref()),
                    );
                let page = page.expect("a difference");
                told.extend(page.differences);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let text = |shown: &Option<Shown>| {
                shown.as_ref().map(|shown| {
                    String::from_utf8(shown.value().expect("plain").bytes.clone()).expect("text")
                })
            };
            let told: Vec<_> = told
                .iter()
                .map(|one| (one.path.to_string(), text(&one.before), text(&one.after)))
                .collect();
            let mut wanted = Vec::new();
            for path in paths {
                let (old, new) = (old.get(path), new.get(path));
                if old != new {
                    wanted.push((path.to_owned(), old.cloned(), new.cloned()));
                }
            }
            wanted.sort();
            assert_eq!(told, wanted, "{place} from {from} to {to}");
        }
        // Going back brings exactly that state.
        for _ in 0..8 {
            let (to, then) = &states[usize::try_from(dice.below(states.len() as u64)).expect("small")];
            block_on(world.config.rollback(ME, &in_(place), *to, None, false)).expect("back");
            for path in paths.into_iter().filter(|path| in_(place).covers(&at(path))) {
                assert_eq!(world.text(path), then.get(path).cloned(), "{path} at {to}");
            }
        }
    }
}

#[test]
fn of_many_who_create_and_delete_at_once_the_history_keeps_the_order() {
    let world = World::new();
    std::thread::scope(|scope| {
        for name in 0..4 {
            let world = &world;
            scope.spawn(move || {
                for round in 0..40 {
                    world.set("/x", &format!("{name} {round}"));
                    world.remove("/x");
                }
            });
        }
    });
    let history = world.history("/x", 1000);
    // By its keys the newest comes first; that is by revisions as well.
    let keys = upkeep_store::kv::Range::prefix("h/x\0");
    let keys = block_on(upkeep_store::kv::Kv::range(&world.store, keys))
        .expect("read")
        .entries;
    let revisions: Vec<u64> = keys
        .iter()
        .filter(|entry| !entry.key.contains('!'))
        .map(|entry| entry.modified)
        .collect();
    assert!(revisions.is_sorted_by(|a, b| a > b), "{revisions:?}");
    assert_eq!(history.len(), revisions.len());
    // Deleting what is not there is no change: they alternate.
    assert!(
        history
            .iter()
            .rev()
            .zip(0..)
            .all(|(past, at): (_, usize)| at > 0 || past.shown.is_some())
    );
}

#[test]
fn of_the_history_so_much_is_kept_as_the_rules_say() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000_000);
    fn clock() -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let now = NOW.load(Ordering::Relaxed) as f64;
        now
    }
    let world = World::with(10_000, clock);
    let keep = |changes, days| Rules {
        keep: Some(Keep { changes, days }),
        ..Rules::default()
    };
    let set = |place: &str, rules| block_on(world.config.set_rules(ME, &in_(place), rules)).expect("set");
    for (place, rules) in [
        ("/few/", keep(5, 3000)),
        ("/short/", keep(1000, 10)),
        ("/short/long", keep(1000, 1000)),
    ] {
        set(place, rules);
    }
    assert!(block_on(world.config.set_rules(ME, &in_("/few/"), keep(0, 1))).is_err());
    let mut first = 0;
    for round in 0..12 {
        for path in ["/few/a", "/short/a", "/short/long", "/plain"] {
            let revision = world.set(path, &round.to_string());
            if round == 0 && path == "/few/a" {
                first = revision;
            }
        }
        NOW.fetch_add(86_400 * 2, Ordering::Relaxed);
    }
    let gone = world.remove("/few/a");
    let before = world.history("/", 1000).len();
    let mut removed = 0;
    let mut after = None;
    loop {
        let trimmed = block_on(world.config.trim(ME, &in_("/"), after.as_ref())).expect("trimmed");
        removed += trimmed.removed;
        after = trimmed.next;
        if after.is_none() {
            break;
        }
    }
    let left = world.history("/", 1000);
    assert_eq!(left.len(), before - removed);
    let of = |path: &str| left.iter().filter(|past| past.path == at(path)).count();
    assert_eq!(of("/few/a"), 5);
    // What stood ten days ago was set within twelve.
    assert_eq!(of("/short/a"), 6, "{left:?}");
    assert_eq!((of("/short/long"), of("/plain")), (12, 12));
    // The newest is there, and what stands now.
    assert_eq!(
        (&left[0].path, left[0].revision, &left[0].shown),
        (&at("/few/a"), gone, &None)
    );
    assert_eq!(world.text("/short/a").as_deref(), Some("11"));
    NOW.fetch_add(86_400 * 5000, Ordering::Relaxed);
    block_on(world.config.trim(ME, &in_("/"), None)).expect("trimmed");
    let left = world.history("/", 1000);
    assert_eq!(left.len(), 4, "the newest of each: {left:?}");
    // What is not known any more is not taken for nothing.
    let error = block_on(world.config.rollback(ME, &in_("/few/"), first, None, false)).expect_err("left out");
    assert_eq!(
        error,
        ConfigError::Trimmed {
            path: at("/few/a"),
            revision: first
        }
    );
    assert!(error.to_string().contains("`/few/a`"), "{error}");
    assert!(block_on(world.config.diff(ME, &in_("/few/"), (first, None), 10, None)).is_err());
    block_on(world.config.diff(ME, &in_("/"), (0, None), 10, None))
        .expect("before everything there was nothing");
    let nobody = Asker {
        who: "token:t",
        rights: &Only(&[Verb::Write, Verb::Read, Verb::History]),
    };
    assert!(matches!(
        block_on(world.config.trim(nobody, &in_("/"), None)),
        Err(ConfigError::Denied { .. })
    ));
}

#[test]
fn whoever_writes_trims() {
    let world = World::new();
    let rules = Rules {
        keep: Some(Keep {
            changes: 10,
            days: 1000,
        }),
        ..Rules::default()
    };
    block_on(world.config.set_rules(ME, &in_("/"), rules)).expect("set");
    for round in 0..600 {
        world.set("/a", &round.to_string());
    }
    let left = world.history("/a", 1000).len();
    assert!((10..=10 + 256).contains(&left), "{left}");
}

#[test]
fn a_clock_that_is_years_ahead_for_one_change_takes_no_history() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000_000);
    const YEARS: u64 = 86_400 * 3650;
    fn clock() -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let now = NOW.load(Ordering::Relaxed) as f64;
        now
    }
    let world = World::with(10_000, clock);
    for round in 0..800 {
        // Each of them once, so also the one by which is trimmed.
        let is_ahead = (400..656).contains(&round) && round % 2 == 1;
        if is_ahead {
            NOW.fetch_add(YEARS, Ordering::Relaxed);
        }
        world.set("/a", &round.to_string());
        if is_ahead {
            NOW.fetch_sub(YEARS, Ordering::Relaxed);
        }
    }
    assert_eq!(world.history("/a", 1000).len(), 800);
    // If it stays there, it is believed.
    NOW.fetch_add(YEARS, Ordering::Relaxed);
    for round in 0..1500 {
        world.set("/b", &round.to_string());
    }
    let left = world.history("/a", 1000).len();
    assert!(left < 20, "{left}");
}

#[test]
fn who_may_not_read_the_history_is_not_shown_it_by_going_back() {
    let world = World::new();
    let old = world.set("/a", "was");
    world.set("/a", "is");
    for (verbs, shown) in [
        (&[Verb::Write, Verb::Read][..], false),
        (&[Verb::Write, Verb::Read, Verb::History], true),
        (&[Verb::Write, Verb::History], false),
    ] {
        let asker = Asker {
            who: "token:t",
            rights: &Only(match verbs.len() {
                3 => &[Verb::Write, Verb::Read, Verb::History],
                _ if verbs.contains(&Verb::Read) => &[Verb::Write, Verb::Read],
                _ => &[Verb::Write, Verb::History],
            }),
        };
        let told = block_on(world.config.rollback(asker, &in_("/a"), old, None, true)).expect("said");
        let after = told.differences[0].after.clone().expect("there was one");
        assert_eq!(after != Shown::Hidden, shown, "{verbs:?}: {after:?}");
    }
}

#[test]
fn a_conflict_tells_the_revision_to_who_may_read() {
    let world = World::new();
    let revision = world.set("/a", "1");
    let change = upkeep_config::entry::Change {
        puts: vec![upkeep_config::entry::Put {
            expected: Some(revision + 7),
            ..put("/a", "2")
        }],
        ..Default::default()
    };
    let writer = Asker {
        who: "token:w",
        rights: &Only(&[Verb::Write]),
    };
    let error = world
        .try_change(writer, &change)
        .expect_err("another revision")
        .to_string();
    assert_eq!(
        error,
        format!("`/a` is not at revision {}; nothing was changed", revision + 7)
    );
    let error = world
        .try_change(ME, &change)
        .expect_err("another revision")
        .to_string();
    assert!(
        error.contains(&format!("is at revision {revision}, not")),
        "{error}"
    );
}
