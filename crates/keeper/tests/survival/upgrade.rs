//! New programs for the daemon and for the keeper: they take over, or the old ones go on.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use upkeep_keeper::protocol::{Ended, Event, Refusal, Request, Scope};
use upkeep_sys::signal::number;

use crate::{
    Test,
    world::{Daemon, World, is_alive, read_until, script, sleeper, wait_until},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "upgrade::a_new_daemon_that_is_ready_stays",
        a_new_daemon_that_is_ready_stays,
    ),
    (
        "upgrade::a_new_daemon_that_dies_gives_way_to_the_old",
        a_new_daemon_that_dies,
    ),
    (
        "upgrade::a_new_daemon_that_is_silent_gives_way_to_the_old",
        a_new_daemon_that_is_silent,
    ),
    (
        "upgrade::the_old_daemon_comes_back_although_its_file_is_gone",
        the_old_file_is_gone,
    ),
    (
        "upgrade::a_daemon_that_does_not_retire_is_killed",
        a_daemon_that_does_not_retire,
    ),
    (
        "upgrade::what_is_no_program_is_unfit",
        what_is_no_program_is_unfit,
    ),
    (
        "upgrade::the_keeper_is_replaced_in_place",
        the_keeper_is_replaced_in_place,
    ),
    (
        "upgrade::sigusr2_replaces_the_keeper",
        sigusr2_replaces_the_keeper,
    ),
    ("upgrade::an_unfit_keeper_is_refused", an_unfit_keeper_is_refused),
];

/// A copy of this program under another name.
fn program(world: &World, name: &str) -> PathBuf {
    let path = world.path(name);
    fs::copy(world.path("v1"), &path).expect("a copy");
    path
}

fn shell_program(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

/// Asks for the upgrade and retires.
fn begin(daemon: &mut Daemon, program: PathBuf) {
    daemon.done(|id| Request::UpgradeDaemon { id, program });
    daemon.event("Retire", |event| matches!(event, Event::Retire));
}

fn outcome(daemon: &mut Daemon) -> (bool, String) {
    match daemon.event("an outcome", |event| {
        matches!(event, Event::UpgradeOutcome { .. })
    }) {
        Event::UpgradeOutcome { ok, message } => (ok, message),
        other => panic!("{other:?}"),
    }
}

fn a_new_daemon_that_is_ready_stays() {
    let world = World::new();
    let mut daemon = world.greeted();
    assert_eq!(daemon.name, "v1");
    daemon.ready();
    let child = daemon.spawn("a", &sleeper(&world));
    begin(&mut daemon, program(&world, "v2"));
    daemon.exit(0);
    let mut daemon = world.greeted();
    assert_eq!(daemon.name, "v2");
    daemon.ready();
    let (ok, message) = outcome(&mut daemon);
    assert!(ok && message.contains("v2"), "{message}");
    assert_eq!(daemon.list().children[0].pid, child);
    // From now on it is the one that is started again.
    daemon.kill();
    let daemon = world.greeted();
    assert_eq!(daemon.name, "v2");
}

fn a_new_daemon_that_dies() {
    let world = World::new();
    let mut daemon = world.greeted();
    daemon.ready();
    let child = daemon.spawn("a", &sleeper(&world));
    begin(&mut daemon, shell_program(&world, "v2", "exit 9"));
    daemon.exit(0);
    let mut daemon = world.greeted();
    assert_eq!(daemon.name, "v1");
    let (ok, message) = outcome(&mut daemon);
    assert!(!ok && message.contains("exit code 9"), "{message}");
    assert_eq!(daemon.list().children[0].pid, child);
    assert!(is_alive(child));
}

fn a_new_daemon_that_is_silent() {
    let world = World::with(&[("trial", 300)]);
    let mut daemon = world.greeted();
    daemon.ready();
    begin(&mut daemon, program(&world, "v2"));
    daemon.exit(0);
    let mut silent = world.greeted();
    assert_eq!(silent.name, "v2");
    silent.hung_up();
    let mut daemon = world.greeted();
    assert_eq!(daemon.name, "v1");
    assert!(!outcome(&mut daemon).0);
    // Until it is ready, each is told; then no more.
    daemon.kill();
    let mut daemon = world.greeted();
    assert!(!outcome(&mut daemon).0);
    daemon.ready();
    daemon.kill();
    let mut daemon = world.greeted();
    daemon.settle();
    daemon.spawn("a", &sleeper(&world));
}

fn the_old_file_is_gone() {
    let world = World::with(&[("trial", 300)]);
    let mut daemon = world.greeted();
    daemon.ready();
    // As package managers do it: the new file under the old name.
    let broken = shell_program(&world, "new", "exit 1");
    fs::rename(broken, world.path("v1")).expect("rename");
    begin(&mut daemon, world.path("v1"));
    daemon.exit(0);
    let mut daemon = world.greeted();
    assert!(!outcome(&mut daemon).0);
    daemon.ready();
    daemon.kill();
    // And again, from the held file.
    let mut daemon = world.greeted();
    daemon.settle();
}

fn a_daemon_that_does_not_retire() {
    let world = World::with(&[("retire", 200)]);
    let mut daemon = world.greeted();
    let old = daemon.pid;
    begin(&mut daemon, program(&world, "v2"));
    let daemon = world.greeted();
    assert_eq!(daemon.name, "v2");
    assert!(!is_alive(old));
}

fn what_is_no_program_is_unfit() {
    let world = World::new();
    let mut daemon = world.greeted();
    for path in ["/no/such/program", "/etc/passwd"] {
        let (refusal, ..) = daemon.refused(|id| Request::UpgradeDaemon {
            id,
            program: path.into(),
        });
        assert_eq!(refusal, Refusal::Unfit);
        let (refusal, ..) = daemon.refused(|id| Request::UpgradeKeeper {
            id,
            program: path.into(),
        });
        assert_eq!(refusal, Refusal::Unfit);
    }
    daemon.settle();
}

/// Everything a keeper can hold; then `replace`; then everything must still be there.
fn survives(replace: impl FnOnce(&World, &mut Daemon)) {
    let world = World::new();
    let mut daemon = world.greeted();
    daemon.ready();
    let output = daemon.pipe("out");
    let mut spec = script(
        &world,
        "echo one; while [ ! -e go ]; do sleep 0.01; done; echo two; exit 6",
    );
    spec.descriptors = vec![(1, "out".into())];
    spec.cgroup = true;
    daemon.spawn("writer", &spec);
    let sleeping = daemon.spawn("sleeping", &sleeper(&world));
    daemon.spawn("ended", &script(&world, "exit 4"));
    daemon.exit_of("ended");
    daemon.spawn("forked", &script(&world, "sleep 1000 & exit 0"));
    assert!(daemon.exit_of("forked").leftovers);
    daemon.send(&Request::SetNote {
        key: "n".into(),
        bytes: b"note".to_vec(),
    });
    let before = daemon.list();
    let keeper = world.keeper_pid();
    replace(&world, &mut daemon);
    wait_until("it is replaced", || {
        world.log().contains("keeper resumed goes on")
    });
    // The same daemon, the same link, the same children.
    assert_eq!(daemon.list(), before);
    assert_eq!(world.keeper_pid(), keeper);
    fs::write(world.path("go"), "").expect("go");
    let record = daemon.exit_of("writer");
    assert_eq!(record.how, Ended::Code(6));
    assert_eq!(read_until(&output, |text| text.contains("two")), "one\ntwo\n");
    let daemon_pid = daemon.pid;
    daemon.kill();
    let mut daemon = world.greeted();
    assert_ne!(daemon.pid, daemon_pid);
    assert_eq!(daemon.exit_of("ended").how, Ended::Code(4));
    assert_eq!(daemon.exit_of("writer").seq, record.seq);
    assert_eq!(daemon.signal("forked", number::KILL, Scope::Tree), 1);
    daemon.signal("sleeping", number::KILL, Scope::Tree);
    let ended = daemon.exit_of("sleeping");
    assert_eq!(
        (ended.pid, ended.how),
        (
            sleeping,
            Ended::Signal {
                number: 9,
                core: false
            }
        )
    );
    let pipe = daemon.pipe("out");
    drop(pipe);
    // And once more, from the program that resumed.
    let program = world.path("v1");
    daemon.done(|id| Request::UpgradeKeeper { id, program });
    daemon.spawn("last", &sleeper(&world));
}

fn the_keeper_is_replaced_in_place() {
    survives(|world, daemon| {
        let program = program(world, "k2");
        daemon.done(|id| Request::UpgradeKeeper { id, program });
    });
}

fn sigusr2_replaces_the_keeper() {
    survives(|world, _| world.signal_keeper(number::USR2));
}

fn an_unfit_keeper_is_refused() {
    let world = World::with(&[("probe", 300)]);
    let mut daemon = world.greeted();
    let child = daemon.spawn("a", &sleeper(&world));
    for text in ["exit 1", "exec sleep 1000"] {
        let unfit = shell_program(&world, "unfit", text);
        let (refusal, ..) = daemon.refused(|id| Request::UpgradeKeeper { id, program: unfit });
        assert_eq!(refusal, Refusal::Unfit);
    }
    assert_eq!(daemon.list().children[0].pid, child);
    daemon.signal("a", number::KILL, Scope::Leader);
    daemon.exit_of("a");
}
