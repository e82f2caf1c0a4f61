//! Ends: none is lost, none is told twice once acknowledged, and each says how.

use upkeep_keeper::protocol::{Ended, Event, Refusal, Request, Scope};
use upkeep_sys::signal::number;

use crate::{
    Test,
    world::{World, is_alive, read_until, script, sleeper, wait_until},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "exits::an_end_says_how_when_and_what_was_used",
        an_end_says_how_when_and_what_was_used,
    ),
    (
        "exits::unacknowledged_ends_come_again_in_order",
        unacknowledged_ends_come_again_in_order,
    ),
    (
        "exits::an_end_while_no_daemon_lives_is_kept",
        an_end_while_no_daemon_lives_is_kept,
    ),
    (
        "exits::a_list_comes_after_every_end_that_it_lacks",
        a_list_comes_after_every_end_that_it_lacks,
    ),
    ("exits::a_key_in_use_is_refused", a_key_in_use_is_refused),
    (
        "exits::what_does_not_start_is_refused_with_the_reason",
        what_does_not_start_is_refused,
    ),
    (
        "exits::the_tree_is_killed_whatever_it_does",
        the_tree_is_killed_whatever_it_does,
    ),
    (
        "exits::the_tree_is_killed_without_a_cgroup_too",
        the_tree_is_killed_without_a_cgroup_too,
    ),
    (
        "exits::a_crash_is_told_and_answered_fast",
        a_crash_is_told_and_answered_fast,
    ),
];

fn an_end_says_how_when_and_what_was_used() {
    let world = World::new();
    let mut daemon = world.greeted();
    let pid = daemon.spawn("a", &script(&world, "exit 7"));
    let record = daemon.exit_of("a");
    assert_eq!(
        (record.pid, record.how, record.leftovers),
        (pid, Ended::Code(7), false)
    );
    assert!(record.exited_unix_ms >= record.started_unix_ms && record.started_unix_ms > 0);
    assert!(record.exited_mono_ms >= record.started_mono_ms);
    assert!(record.usage.max_rss_kib > 0);
    daemon.spawn("a", &sleeper(&world));
    assert_eq!(daemon.signal("a", number::TERM, Scope::Leader), 1);
    let record = daemon.exit_of("a");
    assert_eq!(
        record.how,
        Ended::Signal {
            number: 15,
            core: false
        }
    );
    let (refusal, ..) = daemon.refused(|id| Request::Signal {
        id,
        key: "a".into(),
        signal: number::TERM,
        scope: Scope::Leader,
    });
    assert_eq!(refusal, Refusal::NoSuchKey);
}

fn unacknowledged_ends_come_again_in_order() {
    let world = World::new();
    let mut daemon = world.greeted();
    for key in ["a", "b", "c"] {
        daemon.spawn(key, &script(&world, "exit 1"));
        daemon.exit_of(key);
    }
    daemon.send(&Request::AckExit { seq: 2 });
    daemon.settle();
    daemon.kill();
    let mut daemon = world.greeted();
    let mut seen = Vec::new();
    for _ in 0..2 {
        match daemon.event("an end", |event| matches!(event, Event::Exited(_))) {
            Event::Exited(record) => seen.push((record.seq, record.key)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [(1, "a".to_owned()), (3, "c".to_owned())]);
    daemon.send(&Request::AckExit { seq: 1 });
    daemon.send(&Request::AckExit { seq: 3 });
    daemon.settle();
    daemon.kill();
    let mut daemon = world.greeted();
    daemon.spawn("d", &script(&world, "exit 0"));
    assert_eq!(daemon.exit_of("d").seq, 4);
}

fn an_end_while_no_daemon_lives_is_kept() {
    let world = World::with(&[("backoff_min", 300)]);
    let mut daemon = world.greeted();
    let pid = daemon.spawn("a", &sleeper(&world));
    daemon.kill();
    upkeep_sys::signal::send(crate::world::pid(pid), number::KILL).expect("it lives");
    wait_until("it is reaped", || !is_alive(pid));
    let mut daemon = world.greeted();
    assert_eq!(
        daemon.exit_of("a").how,
        Ended::Signal {
            number: 9,
            core: false
        }
    );
}

/// A daemon that says Hello and asks for the list in one breath must not take what ended for what vanished.
fn a_list_comes_after_every_end_that_it_lacks() {
    let world = World::with(&[("backoff_min", 300)]);
    let mut daemon = world.greeted();
    let pid = daemon.spawn("a", &sleeper(&world));
    daemon.kill();
    upkeep_sys::signal::send(crate::world::pid(pid), number::KILL).expect("it lives");
    wait_until("it is reaped", || !is_alive(pid));
    let mut daemon = world.daemon();
    let hello = Request::Hello {
        oldest: 1,
        newest: 1,
        program_version: "test".to_owned(),
    };
    daemon.link.queue(&hello).expect("a request that fits");
    daemon.send(&Request::List { id: 1 });
    let first = daemon.event("an end or a list", |event| {
        matches!(event, Event::Exited(_) | Event::Listing { .. })
    });
    assert!(matches!(first, Event::Exited(_)), "{first:?} came first");
}

fn a_key_in_use_is_refused() {
    let world = World::new();
    let mut daemon = world.greeted();
    let pid = daemon.spawn("ä key, with\nanything", &sleeper(&world));
    let again = Box::new(sleeper(&world));
    let (refusal, ..) = daemon.refused(|id| Request::Spawn {
        id,
        key: "ä key, with\nanything".into(),
        spec: again,
    });
    assert_eq!(refusal, Refusal::KeyInUse);
    let long = "x".repeat(513);
    let (refusal, ..) = daemon.refused(|id| Request::Spawn {
        id,
        key: long,
        spec: Box::new(sleeper(&world)),
    });
    assert_eq!(refusal, Refusal::TooLarge);
    let listing = daemon.list();
    assert_eq!(listing.children.len(), 1);
    assert_eq!((listing.children[0].pid, listing.children[0].stray), (pid, false));
}

fn what_does_not_start_is_refused() {
    let world = World::new();
    let mut daemon = world.greeted();
    let mut missing = sleeper(&world);
    missing.argv = vec!["no-such-program".into()];
    let (refusal, errno, message) = daemon.refused(|id| Request::Spawn {
        id,
        key: "a".into(),
        spec: Box::new(missing),
    });
    assert_eq!((refusal, errno), (Refusal::Kernel, 2));
    assert!(
        message.contains("failed to execute `no-such-program`"),
        "{message}"
    );
    let mut nowhere = sleeper(&world);
    nowhere.cwd = "/no/such/place".into();
    nowhere.cgroup = true;
    let (_, errno, message) = daemon.refused(|id| Request::Spawn {
        id,
        key: "a".into(),
        spec: Box::new(nowhere),
    });
    assert_eq!(errno, 2);
    assert!(
        message.contains("working directory `/no/such/place`"),
        "{message}"
    );
    let mut unknown = sleeper(&world);
    unknown.descriptors = vec![(1, "no-such-pipe".into())];
    let (refusal, ..) = daemon.refused(|id| Request::Spawn {
        id,
        key: "a".into(),
        spec: Box::new(unknown),
    });
    assert_eq!(refusal, Refusal::NoSuchName);
    assert!(daemon.list().children.is_empty());
}

/// Forks twice, leaves its session, ignores SIGTERM, and its parent dies.
const HYDRA: &str = "trap '' TERM
    (setsid sh -c 'trap \"\" TERM; echo inner $$; while :; do sleep 0.1; done' &)
    (sh -c 'trap \"\" TERM; echo middle $$; while :; do sleep 0.1; done' &)
    echo outer $$
    while :; do sleep 0.1; done";

fn kill_hydra(cgroup: bool) {
    let world = World::new();
    let mut daemon = world.greeted();
    let output = daemon.pipe("out");
    let mut spec = script(&world, HYDRA);
    spec.cgroup = cgroup;
    spec.descriptors = vec![(1, "out".into())];
    let leader = daemon.spawn("hydra", &spec);
    let text = read_until(&output, |text| text.lines().count() == 3);
    let pids: Vec<u32> = text
        .lines()
        .map(|line| line.split(' ').nth(1).expect("pid").parse().expect("pid"))
        .collect();
    assert!(pids.contains(&leader));
    assert!(daemon.signal("hydra", number::TERM, Scope::Tree) >= 3);
    assert!(pids.iter().all(|pid| is_alive(*pid)), "they ignore SIGTERM");
    // The leader alone: the rest is left over.
    daemon.signal("hydra", number::KILL, Scope::Leader);
    let record = daemon.exit_of("hydra");
    assert!(record.leftovers);
    // The key is free although its old tree lives, and the tree is still within reach.
    daemon.spawn("hydra", &spec);
    assert!(daemon.signal("hydra", number::KILL, Scope::Tree) >= 5);
    wait_until("all heads are off", || !pids.iter().any(|pid| is_alive(*pid)));
    daemon.exit_of("hydra");
    // The dying still count for a moment.
    wait_until("nothing is within reach any more", || {
        let again = daemon.ask(|id| Request::Signal {
            id,
            key: "hydra".into(),
            signal: number::KILL,
            scope: Scope::Tree,
        });
        matches!(
            again,
            Event::Refused {
                refusal: Refusal::NoSuchKey,
                ..
            }
        )
    });
}

fn the_tree_is_killed_whatever_it_does() {
    kill_hydra(true);
}

fn the_tree_is_killed_without_a_cgroup_too() {
    kill_hydra(false);
}

fn a_crash_is_told_and_answered_fast() {
    let world = World::new();
    let mut daemon = world.greeted();
    daemon.pipe("out");
    let mut spec = sleeper(&world);
    spec.argv = ["/bin/sleep", "1000"].map(Into::into).to_vec();
    spec.descriptors = vec![(1, "out".into()), (2, "out".into())];
    for cgroup in [false, true] {
        spec.cgroup = cgroup;
        let mut pid = daemon.spawn("a", &spec);
        for _ in 0..50 {
            upkeep_sys::signal::send(crate::world::pid(pid), number::KILL).expect("it lives");
            let record = daemon.exit_of("a");
            assert_eq!(record.pid, pid);
            daemon.send(&Request::AckExit { seq: record.seq });
            pid = daemon.spawn("a", &spec);
        }
        daemon.signal("a", number::KILL, Scope::Leader);
        daemon.exit_of("a");
    }
}
