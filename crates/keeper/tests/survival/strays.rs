//! The keeper itself is killed: the next one finds what the first one left.

use std::fs;

use upkeep_keeper::protocol::{Ended, Refusal, Request, Scope};
use upkeep_sys::signal::number;

use crate::{
    Test,
    world::{World, is_alive, script, sleeper, wait_until},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "strays::the_next_keeper_finds_them_by_the_journal",
        the_next_keeper_finds_them_by_the_journal,
    ),
    (
        "strays::the_next_keeper_finds_them_by_their_marker",
        the_next_keeper_finds_them_by_their_marker,
    ),
    (
        "strays::left_over_trees_are_found_too",
        left_over_trees_are_found_too,
    ),
    (
        "strays::a_keeper_that_ends_alone_ends_strays_too",
        a_keeper_that_ends_alone_ends_strays_too,
    ),
];

fn find(cgroup: bool, journal: bool) {
    let mut world = World::new();
    let mut daemon = world.greeted();
    let mut spec = sleeper(&world);
    spec.cgroup = cgroup;
    let keys = ["a", "b c:d\ne", "ö%41"];
    let pids = keys.map(|key| daemon.spawn(key, &spec));
    daemon.spawn("ended", &script(&world, "exit 0"));
    daemon.exit_of("ended");
    let before = daemon.list();
    world.kill_keeper();
    daemon.hung_up();
    daemon.kill();
    if !journal {
        fs::remove_file(world.run_dir().join("children")).expect("a journal");
    }
    world.start_keeper();
    let mut daemon = world.greeted();
    let listing = daemon.list();
    assert_eq!(listing.children.len(), keys.len());
    for (key, pid) in keys.iter().zip(pids) {
        let entry = listing
            .children
            .iter()
            .find(|child| child.key == *key)
            .expect("found");
        assert!(entry.pid == pid && entry.stray && is_alive(pid));
        let old = before
            .children
            .iter()
            .find(|child| child.key == *key)
            .expect("known");
        assert_eq!(entry.start_ticks, old.start_ticks);
        assert!(entry.started_unix_ms.abs_diff(old.started_unix_ms) < 2000);
    }
    // They hold their keys, can be signalled, and their end is seen but not known.
    let (refusal, ..) = daemon.refused(|id| Request::Spawn {
        id,
        key: "a".into(),
        spec: Box::new(sleeper(&world)),
    });
    assert_eq!(refusal, Refusal::KeyInUse);
    assert_eq!(daemon.signal("a", number::TERM, Scope::Leader), 1);
    assert_eq!(daemon.exit_of("a").how, Ended::Unknown);
    assert_eq!(daemon.signal("b c:d\ne", number::KILL, Scope::Tree), 1);
    assert_eq!(daemon.exit_of("b c:d\ne").how, Ended::Unknown);
    daemon.spawn("a", &spec);
    // Once more: strays and children side by side.
    world.kill_keeper();
    daemon.kill();
    world.start_keeper();
    let mut daemon = world.greeted();
    let listing = daemon.list();
    assert_eq!(listing.children.len(), 2);
    assert!(listing.children.iter().all(|child| child.stray));
}

fn the_next_keeper_finds_them_by_the_journal() {
    find(false, true);
    find(true, true);
}

fn the_next_keeper_finds_them_by_their_marker() {
    find(false, false);
    find(true, false);
}

fn left_over_trees_are_found_too() {
    for cgroup in [true, false] {
        let mut world = World::new();
        let mut daemon = world.greeted();
        let mut spec = script(&world, "sleep 1000 & echo $! > rest; exit 0");
        spec.cgroup = cgroup;
        daemon.spawn("a", &spec);
        assert!(daemon.exit_of("a").leftovers);
        let rest: u32 = fs::read_to_string(world.path("rest"))
            .expect("a pid")
            .trim()
            .parse()
            .expect("a pid");
        world.kill_keeper();
        daemon.kill();
        world.start_keeper();
        let mut daemon = world.greeted();
        assert!(daemon.list().children.is_empty(), "what is left is no child");
        assert!(is_alive(rest));
        assert_eq!(daemon.signal("a", number::KILL, Scope::Tree), 1);
        wait_until("the rest is dead", || !is_alive(rest));
    }
}

fn a_keeper_that_ends_alone_ends_strays_too() {
    let mut world = World::with(&[("terminate", 50), ("tree_grace", 200)]);
    let mut daemon = world.greeted();
    let pid = daemon.spawn("a", &script(&world, "trap '' TERM; while :; do sleep 0.01; done"));
    world.kill_keeper();
    daemon.kill();
    world.start_keeper();
    let daemon = world.greeted();
    world.signal_keeper(number::TERM);
    assert!(world.keeper_ended().success());
    assert!(!is_alive(pid));
    drop(daemon);
}
