//! The daemon ends at every instant there is, well-behaved or not; the children never notice.

use std::time::Instant;

use upkeep_keeper::protocol::{Ended, Event, MAX_FRAME, Refusal, Request, Scope};
use upkeep_sys::signal::number;

use crate::{
    Test,
    world::{Daemon, World, is_alive, keeper, read_until, script, sleeper, wait_until},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "kill::before_and_after_every_message",
        before_and_after_every_message,
    ),
    (
        "kill::a_spawn_whose_answer_was_lost_is_not_done_twice",
        a_spawn_whose_answer_was_lost_is_not_done_twice,
    ),
    (
        "kill::garbage_replaces_the_daemon_and_nothing_else",
        garbage_replaces_the_daemon_and_nothing_else,
    ),
    ("kill::half_a_message_is_forgotten", half_a_message_is_forgotten),
    (
        "kill::a_daemon_that_hangs_up_is_replaced",
        a_daemon_that_hangs_up_is_replaced,
    ),
    (
        "kill::no_version_in_common_is_refused",
        no_version_in_common_is_refused,
    ),
    (
        "kill::the_pause_doubles_and_begins_again",
        the_pause_doubles_and_begins_again,
    ),
    (
        "kill::a_daemon_that_does_not_read_is_not_read_either",
        a_daemon_that_does_not_read_is_not_read,
    ),
    ("kill::a_second_keeper_is_refused", a_second_keeper_is_refused),
    (
        "kill::leave_ends_the_keeper_once_the_children_are_gone",
        leave_ends_the_keeper,
    ),
    (
        "kill::sigterm_lets_the_daemon_stop_everything",
        sigterm_lets_the_daemon_stop_everything,
    ),
    (
        "kill::sigterm_without_a_willing_daemon_stops_everything",
        sigterm_without_a_willing_daemon,
    ),
    (
        "kill::sigterm_without_a_daemon_stops_everything",
        sigterm_without_a_daemon,
    ),
    ("kill::sighup_changes_nothing", sighup_changes_nothing),
];

/// One request of each kind, as `send` takes it.
fn each_kind(world: &World) -> Vec<(&'static str, Request)> {
    let null = upkeep_sys::descriptor::open_null().expect("null");
    vec![
        ("Ready", Request::Ready),
        (
            "Spawn",
            Request::Spawn {
                id: 1,
                key: "new".into(),
                spec: Box::new(sleeper(world)),
            },
        ),
        (
            "Signal",
            Request::Signal {
                id: 2,
                key: "victim".into(),
                signal: number::CONT,
                scope: Scope::Tree,
            },
        ),
        (
            "Spawn, caged",
            Request::Spawn {
                id: 12,
                key: "caged".into(),
                spec: Box::new(crate::limits::limited(sleeper(world))),
            },
        ),
        (
            "SetLimits",
            Request::SetLimits {
                id: 13,
                key: "victim".into(),
                limits: crate::limits::limited(sleeper(world)).limits,
            },
        ),
        ("AckExit", Request::AckExit { seq: 99 }),
        (
            "MakePipe",
            Request::MakePipe {
                id: 3,
                name: "other".into(),
            },
        ),
        (
            "Listen",
            Request::Listen {
                id: 4,
                name: "listener".into(),
                address: upkeep_keeper::protocol::ListenAddress::Unix(world.path("socket"), 0o600),
            },
        ),
        (
            "PutDescriptor",
            Request::PutDescriptor {
                id: 5,
                name: "put".into(),
                descriptor: null,
            },
        ),
        (
            "GetDescriptor",
            Request::GetDescriptor {
                id: 6,
                name: "out".into(),
            },
        ),
        (
            "CloseDescriptor",
            Request::CloseDescriptor {
                id: 7,
                name: "other".into(),
            },
        ),
        (
            "SetNote",
            Request::SetNote {
                key: "note".into(),
                bytes: b"text".to_vec(),
            },
        ),
        ("List", Request::List { id: 8 }),
    ]
}

fn before_and_after_every_message() {
    let world = World::new();
    let mut daemon = world.greeted();
    let output = daemon.pipe("out");
    let mut spec = script(&world, "while :; do echo tick; sleep 0.05; done");
    spec.descriptors = vec![(1, "out".into())];
    let victim = daemon.spawn("victim", &spec);
    daemon.spawn("ended", &script(&world, "exit 5"));
    daemon.exit_of("ended");
    for (name, request) in each_kind(&world) {
        // Right after sending: the answer meets nobody.
        daemon.send(&request);
        daemon.kill();
        daemon = world.daemon();
        // Before Hello.
        daemon.kill();
        daemon = world.greeted();
        let record = daemon.exit_of("ended");
        assert_eq!((record.seq, record.how), (1, Ended::Code(5)), "after {name}");
        let listing = daemon.list();
        let child = listing.children.iter().find(|child| child.key == "victim");
        assert_eq!(
            child.map(|child| (child.pid, child.stray)),
            Some((victim, false)),
            "after {name}"
        );
    }
    let listing = daemon.list();
    assert!(listing.children.iter().any(|child| child.key == "new"));
    assert_eq!(listing.notes, [("note".to_owned(), b"text".to_vec())]);
    assert_eq!(listing.descriptors, ["listener", "out", "put"]);
    read_until(&output, |text| text.contains("tick"));
    assert!(is_alive(victim));
}

fn a_spawn_whose_answer_was_lost_is_not_done_twice() {
    let world = World::new();
    let mut daemon = world.greeted();
    daemon.send(&Request::Spawn {
        id: 1,
        key: "a".into(),
        spec: Box::new(sleeper(&world)),
    });
    daemon.kill();
    let mut daemon = world.greeted();
    let again = Box::new(sleeper(&world));
    let (refusal, ..) = daemon.refused(|id| Request::Spawn {
        id,
        key: "a".into(),
        spec: again,
    });
    assert_eq!(refusal, Refusal::KeyInUse);
    assert_eq!(daemon.list().children.len(), 1);
}

fn garbage_replaces_the_daemon_and_nothing_else() {
    let world = World::new();
    let mut daemon = world.greeted();
    let child = daemon.spawn("a", &sleeper(&world));
    let huge = u32::try_from(MAX_FRAME + 1).expect("fits").to_le_bytes();
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 0],
        &huge,
        &[1, 0, 0, 0, 255],
        &[3, 0, 0, 0, 3, 1, 2],
        // A caged child that is cut short.
        &[1, 0, 0, 0, 32],
    ];
    for bytes in garbage {
        let pid = daemon.pid;
        daemon.write_raw(bytes);
        daemon.hung_up();
        wait_until("the daemon is dead", || !is_alive(pid));
        daemon = world.greeted();
        assert_eq!(daemon.list().children[0].pid, child);
    }
    // Anything before Hello.
    daemon.kill();
    let mut daemon = world.daemon();
    daemon.send(&Request::List { id: 1 });
    daemon.hung_up();
    let mut daemon = world.greeted();
    assert_eq!(daemon.list().children[0].pid, child);
}

fn half_a_message_is_forgotten() {
    let world = World::new();
    let mut daemon = world.greeted();
    let child = daemon.spawn("a", &sleeper(&world));
    daemon.write_raw(&[200, 0, 0, 0, 3, 1]);
    daemon.kill();
    let mut daemon = world.greeted();
    assert_eq!(daemon.list().children[0].pid, child);
}

fn a_daemon_that_hangs_up_is_replaced() {
    let world = World::new();
    let daemon = world.greeted();
    let pid = daemon.pid;
    let Daemon { link, .. } = daemon;
    drop(link);
    wait_until("the daemon is dead", || !is_alive(pid));
    world.greeted();
}

fn no_version_in_common_is_refused() {
    let world = World::new();
    let mut daemon = world.daemon();
    daemon.send(&Request::Hello {
        oldest: 7,
        newest: 9,
        program_version: "future".into(),
    });
    let event = daemon.event("a refusal", |event| matches!(event, Event::Refused { .. }));
    assert!(matches!(
        event,
        Event::Refused {
            id: 0,
            refusal: Refusal::Version,
            ..
        }
    ));
    daemon.hung_up();
    daemon.exit(0);
    world.greeted();
}

fn the_pause_doubles_and_begins_again() {
    let world = World::with(&[("backoff_min", 40), ("backoff_max", 320), ("stable", 100)]);
    let next = |daemon: Daemon| {
        let begin = Instant::now();
        daemon.kill();
        let daemon = world.daemon();
        (daemon, begin.elapsed().as_millis())
    };
    let mut daemon = world.daemon();
    for pause in [40, 80, 160, 320, 320] {
        let took;
        (daemon, took) = next(daemon);
        assert!(took >= pause, "{took} ms instead of {pause}");
    }
    daemon.hello();
    daemon.ready();
    daemon.settle();
    let ready = Instant::now();
    wait_until("it is stable", || ready.elapsed().as_millis() > 150);
    let (daemon, took) = next(daemon);
    assert!((40..320).contains(&took), "{took} ms");
    drop(daemon);
}

fn a_daemon_that_does_not_read_is_not_read() {
    let world = World::new();
    let mut daemon = world.greeted();
    for part in 0..40 {
        daemon.send(&Request::SetNote {
            key: format!("{part}"),
            bytes: vec![0; 200 << 10],
        });
    }
    // Each answer has 8 MB; the keeper must stop reading long before it has a thousand of them.
    let mut queued = 0;
    let begin = Instant::now();
    while queued < 200_000 && begin.elapsed().as_millis() < 1500 {
        daemon.link.queue(&Request::List { id: 7 }).expect("small");
        daemon.link.flush().expect("connected");
        queued += 1;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.keeper_pid())).expect("status");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 100 << 10, "{kib} KiB after {queued} requests");
    daemon.kill();
    world.greeted();
}

fn a_second_keeper_is_refused() {
    let world = World::new();
    let mut daemon = world.greeted();
    let status = world.keeper_command().status().expect("a keeper");
    assert_eq!(status.code(), Some(i32::from(keeper::ALREADY_RUNNING)));
    daemon.settle();
}

fn leave_ends_the_keeper() {
    let mut world = World::new();
    let mut daemon = world.greeted();
    let child = daemon.spawn(
        "a",
        &script(&world, "trap 'exit 0' TERM; while :; do sleep 0.01; done"),
    );
    daemon.done(|id| Request::Leave { id });
    daemon.exit(0);
    assert!(is_alive(child));
    upkeep_sys::signal::send(crate::world::pid(child), number::KILL).expect("it lives");
    assert!(world.keeper_ended().success());
    assert!(!world.run_dir().join("keeper.pid").exists());
}

fn sigterm_lets_the_daemon_stop_everything() {
    let mut world = World::new();
    let mut daemon = world.greeted();
    daemon.spawn("a", &sleeper(&world));
    world.signal_keeper(number::TERM);
    let event = daemon.event("Terminate", |event| matches!(event, Event::Terminate { .. }));
    assert!(matches!(event, Event::Terminate { signal: number::TERM }));
    daemon.signal("a", number::TERM, Scope::Tree);
    daemon.exit_of("a");
    daemon.done(|id| Request::Leave { id });
    daemon.exit(0);
    assert!(world.keeper_ended().success());
}

fn sigterm_without_a_willing_daemon() {
    let mut world = World::with(&[("terminate", 100), ("tree_grace", 200)]);
    let mut daemon = world.greeted();
    let daemon_pid = daemon.pid;
    let gentle = daemon.spawn("gentle", &sleeper(&world));
    let stubborn = daemon.spawn(
        "stubborn",
        &script(&world, "trap '' TERM; while :; do sleep 0.01; done"),
    );
    world.signal_keeper(number::INT);
    assert!(world.keeper_ended().success());
    for pid in [gentle, stubborn, daemon_pid] {
        assert!(!is_alive(pid));
    }
}

fn sigterm_without_a_daemon() {
    let mut world = World::with(&[("backoff_min", 100_000), ("tree_grace", 200)]);
    let mut daemon = world.greeted();
    let mut spec = script(
        &world,
        "(trap '' TERM; while :; do sleep 0.01; done) & exec sleep 1000",
    );
    spec.cgroup = true;
    let child = daemon.spawn("a", &spec);
    daemon.kill();
    wait_until("the daemon is reaped", || world.log().contains("ended: signal 9"));
    world.signal_keeper(number::TERM);
    assert!(world.keeper_ended().success());
    assert!(!is_alive(child));
}

fn sighup_changes_nothing() {
    let world = World::new();
    let mut daemon = world.greeted();
    world.signal_keeper(number::HUP);
    let child = daemon.spawn("a", &sleeper(&world));
    assert!(is_alive(child));
}
