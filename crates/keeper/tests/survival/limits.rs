//! What a tree may use, and what remains of that when somebody ends.

use std::path::PathBuf;

use upkeep_keeper::protocol::{Cage, Ended, Event, Limits, Refusal, Request, Scope, SpawnSpec, VERSION};
use upkeep_sys::{
    cgroup::limit::{Resource, in_force},
    signal::number,
};

use crate::{
    Test,
    world::{World, is_alive, pid, script, sleeper, wait_until},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "limits::who_takes_too_much_memory_is_killed_and_that_is_told",
        who_takes_too_much_memory_is_killed,
    ),
    (
        "limits::they_can_be_changed_while_it_runs",
        they_can_be_changed_while_it_runs,
    ),
    (
        "limits::groups_outlive_the_keeper_and_go_with_their_tree",
        groups_outlive_the_keeper,
    ),
    (
        "limits::a_replaced_keeper_still_counts_the_killed",
        a_replaced_keeper_still_counts_the_killed,
    ),
    (
        "limits::an_older_daemon_is_spoken_to_in_its_words",
        an_older_daemon_is_spoken_to_in_its_words,
    ),
    (
        "limits::a_cage_that_cannot_be_had_is_refused_with_its_step",
        a_cage_that_cannot_be_had_is_refused,
    ),
];

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn skipped(what: &str) {
    eprintln!("SKIPPED: {what}");
}

/// With limits.
pub(crate) fn limited(spec: SpawnSpec) -> SpawnSpec {
    SpawnSpec {
        limits: Limits {
            memory: Some(48 << 20),
            tasks: Some(30),
            ..Limits::default()
        },
        cgroup: true,
        ..spec
    }
}

/// The group that limits the memory of a process; none, and said, where there is no controller.
fn memory_group(raw: u32) -> Option<PathBuf> {
    match in_force(pid(raw), Resource::Memory) {
        Some(found) if found.limits.memory.is_some() => Some(found.group),
        other => {
            skipped(&format!("no memory controller that we can use: {other:?}"));
            None
        }
    }
}

fn who_takes_too_much_memory_is_killed() {
    let world = World::new();
    let mut daemon = world.greeted();
    // It keeps the last line in memory, and there is no end of line.
    let hog = limited(script(&world, "read x < gate; exec tail /dev/zero"));
    let gate = world.path("gate");
    std::process::Command::new("mkfifo")
        .arg(&gate)
        .status()
        .expect("mkfifo");
    let child = daemon.spawn("hog", &hog);
    let group = memory_group(child);
    if group.is_none() {
        daemon.signal("hog", number::KILL, Scope::Tree);
        return;
    }
    std::fs::write(&gate, "go\n").expect("the child reads");
    let record = daemon.exit_of("hog");
    assert_eq!(
        record.how,
        Ended::Signal {
            number: 9,
            core: false
        }
    );
    assert!(record.oom_kills >= 1, "{record:?}");
    let group = group.expect("looked at above");
    daemon.settle();
    wait_until("the end of the group", || !group.exists());
    // Who ends otherwise has not been killed.
    daemon.spawn("calm", &limited(script(&world, "exit 3")));
    assert_eq!(daemon.exit_of("calm").oom_kills, 0);
}

fn they_can_be_changed_while_it_runs() {
    let world = World::new();
    let mut daemon = world.greeted();
    let child = daemon.spawn("a", &limited(sleeper(&world)));
    daemon.spawn("free", &sleeper(&world));
    let more = Limits {
        memory: Some(96 << 20),
        ..Limits::default()
    };
    let (refusal, ..) = daemon.refused(|id| Request::SetLimits {
        id,
        key: "free".into(),
        limits: more,
    });
    assert_eq!(refusal, Refusal::NoSuchKey);
    if memory_group(child).is_none() {
        return;
    }
    daemon.done(|id| Request::SetLimits {
        id,
        key: "a".into(),
        limits: more,
    });
    let held = |resource| in_force(pid(child), resource).map(|found| found.limits);
    assert_eq!(
        held(Resource::Memory).and_then(|limits| limits.memory),
        Some(96 << 20)
    );
    assert_eq!(held(Resource::Tasks).and_then(|limits| limits.tasks), None);
    assert!(is_alive(child));
}

fn groups_outlive_the_keeper() {
    let mut world = World::new();
    let mut daemon = world.greeted();
    let child = daemon.spawn("a", &limited(sleeper(&world)));
    let Some(group) = memory_group(child) else { return };
    world.kill_keeper();
    daemon.hung_up();
    daemon.kill();
    world.start_keeper();
    let mut daemon = world.greeted();
    assert!(group.exists(), "its tree lives");
    daemon.signal("a", number::KILL, Scope::Tree);
    daemon.exit_of("a");
    wait_until("the end of the group", || !group.exists());
}

fn a_replaced_keeper_still_counts_the_killed() {
    let world = World::new();
    let mut daemon = world.greeted();
    daemon.ready();
    let gate = world.path("gate");
    std::process::Command::new("mkfifo")
        .arg(&gate)
        .status()
        .expect("mkfifo");
    let child = daemon.spawn(
        "hog",
        &limited(script(&world, "read x < gate; exec tail /dev/zero")),
    );
    if memory_group(child).is_none() {
        daemon.signal("hog", number::KILL, Scope::Tree);
        return;
    }
    let program = world.path("keeper2");
    std::fs::copy(world.path("v1"), &program).expect("a copy");
    daemon.done(|id| Request::UpgradeKeeper { id, program });
    assert_eq!(daemon.list().children[0].pid, child);
    std::fs::write(&gate, "go\n").expect("the child reads");
    let record = daemon.exit_of("hog");
    assert!(record.oom_kills >= 1, "{record:?}");
}

fn an_older_daemon_is_spoken_to_in_its_words() {
    let world = World::new();
    let mut daemon = world.daemon();
    daemon.hello_as(1);
    daemon.spawn("hog", &limited(script(&world, "exec tail /dev/zero")));
    let record = daemon.exit_of("hog");
    assert_eq!(
        record.oom_kills, 0,
        "it would not know the message that has the number"
    );
    // It may be replaced on the spot by one that does (or find out that the keeper has been).
    let welcome = daemon.hello();
    assert!(
        matches!(welcome, Event::Welcome { version: VERSION, .. }),
        "{welcome:?}"
    );
}

fn a_cage_that_cannot_be_had_is_refused() {
    let world = World::new();
    let mut daemon = world.greeted();
    let mut spec = sleeper(&world);
    spec.no_new_privs = true;
    spec.cage = Some(Box::new(Cage {
        // No instruction of any filter.
        filters: vec![vec![0xff; 8]],
        ..Cage::default()
    }));
    let (refusal, _, message) = daemon.refused(|id| Request::Spawn {
        id,
        key: "a".into(),
        spec: Box::new(spec.clone()),
    });
    assert_eq!(refusal, Refusal::Kernel);
    assert!(message.contains("filter the system calls of"), "{message}");
    assert!(daemon.list().children.is_empty());
}
