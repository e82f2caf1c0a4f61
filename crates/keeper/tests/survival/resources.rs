//! What the keeper holds for the daemon, and what it does when there is nothing left to hold it with.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt};

use upkeep_keeper::protocol::{Event, ListenAddress, MAX_NOTE, Refusal, Request, Scope};
use upkeep_sys::{descriptor, listener, signal::number};

use crate::{
    Test,
    world::{World, read_until, script, sleeper},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "resources::a_pipe_outlives_the_daemon_with_what_is_in_it",
        a_pipe_outlives_the_daemon,
    ),
    (
        "resources::a_listener_is_bound_once_and_kept",
        a_listener_is_bound_once_and_kept,
    ),
    (
        "resources::a_descriptor_put_is_the_descriptor_got",
        a_descriptor_put_is_the_descriptor_got,
    ),
    (
        "resources::notes_are_kept_within_bounds",
        notes_are_kept_within_bounds,
    ),
    (
        "resources::a_child_gets_what_it_asked_for",
        a_child_gets_what_it_asked_for,
    ),
    (
        "resources::without_descriptors_the_keeper_goes_on",
        without_descriptors_the_keeper_goes_on,
    ),
];

fn a_pipe_outlives_the_daemon() {
    let world = World::new();
    let mut daemon = world.greeted();
    let output = daemon.pipe("out");
    let mut spec = script(&world, "echo before; read x < gate; echo after; exec sleep 1000");
    spec.descriptors = vec![(1, "out".into()), (2, "out".into())];
    let gate = world.path("gate");
    std::process::Command::new("mkfifo")
        .arg(&gate)
        .status()
        .expect("mkfifo");
    daemon.spawn("a", &spec);
    drop(output);
    daemon.kill();
    fs::write(&gate, "go\n").expect("the child reads");
    let mut daemon = world.greeted();
    // Idempotent: the same pipe.
    let output = daemon.pipe("out");
    assert_eq!(
        read_until(&output, |text| text.contains("after")),
        "before\nafter\n"
    );
    daemon.done(|id| Request::CloseDescriptor {
        id,
        name: "out".into(),
    });
    let (refusal, ..) = daemon.refused(|id| Request::GetDescriptor {
        id,
        name: "out".into(),
    });
    assert_eq!(refusal, Refusal::NoSuchName);
}

fn a_listener_is_bound_once_and_kept() {
    let world = World::new();
    let mut daemon = world.greeted();
    let address: SocketAddr = "127.0.0.1:0".parse().expect("address");
    let listen = |id| Request::Listen {
        id,
        name: "web".into(),
        address: ListenAddress::Tcp(address),
    };
    let socket = std::net::TcpListener::from(daemon.descriptor(listen));
    let bound = socket.local_addr().expect("bound");
    drop(socket);
    daemon.kill();
    let mut daemon = world.greeted();
    let _client = std::net::TcpStream::connect(bound).expect("somebody listens");
    let socket = std::net::TcpListener::from(daemon.descriptor(listen));
    assert_eq!(socket.local_addr().expect("bound"), bound);
    // The same address under another name is the kernel's to refuse.
    let (refusal, errno, message) = daemon.refused(|id| Request::Listen {
        id,
        name: "other".into(),
        address: ListenAddress::Tcp(bound),
    });
    assert_eq!((refusal, errno), (Refusal::Kernel, 98));
    assert!(
        message.contains(&format!("failed to bind `tcp:{bound}`")),
        "{message}"
    );
    let path = world.path("unix");
    let unix = |id| Request::Listen {
        id,
        name: "u".into(),
        address: ListenAddress::Unix(path.clone(), 0o660),
    };
    daemon.descriptor(unix);
    listener::unix_connect(&path).expect("somebody listens");
    let mode = fs::metadata(&path).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

fn a_descriptor_put_is_the_descriptor_got() {
    let world = World::new();
    let mut daemon = world.greeted();
    fs::write(world.path("file"), "content").expect("a file");
    let descriptor = fs::File::open(world.path("file")).expect("a file").into();
    daemon.done(|id| Request::PutDescriptor {
        id,
        name: "file".into(),
        descriptor,
    });
    daemon.kill();
    let mut daemon = world.greeted();
    let got = daemon.descriptor(|id| Request::GetDescriptor {
        id,
        name: "file".into(),
    });
    assert_eq!(
        std::io::read_to_string(fs::File::from(got)).expect("read"),
        "content"
    );
    assert_eq!(daemon.list().descriptors, ["file"]);
}

fn notes_are_kept_within_bounds() {
    let world = World::new();
    let mut daemon = world.greeted();
    daemon.send(&Request::SetNote {
        key: "a".into(),
        bytes: vec![7; MAX_NOTE],
    });
    daemon.send(&Request::SetNote {
        key: "b".into(),
        bytes: vec![7; MAX_NOTE + 1],
    });
    let event = daemon.event("a refusal", |event| matches!(event, Event::Refused { id: 0, .. }));
    assert!(matches!(
        event,
        Event::Refused {
            refusal: Refusal::TooLarge,
            ..
        }
    ));
    daemon.kill();
    let mut daemon = world.greeted();
    assert_eq!(daemon.list().notes, [("a".to_owned(), vec![7; MAX_NOTE])]);
    daemon.send(&Request::SetNote {
        key: "a".into(),
        bytes: Vec::new(),
    });
    assert!(daemon.list().notes.is_empty());
}

fn a_child_gets_what_it_asked_for() {
    let world = World::new();
    let mut daemon = world.greeted();
    let output = daemon.pipe("out");
    let mut spec = script(
        &world,
        "echo $A; pwd; umask; ulimit -n; cat <&5; echo $UPKEEP_KEEPER | sed 's/.*://'; \
         ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0; echo end",
    );
    fs::write(world.path("five"), "5\n").expect("a file");
    let five = fs::File::open(world.path("five")).expect("a file").into();
    daemon.done(|id| Request::PutDescriptor {
        id,
        name: "five".into(),
        descriptor: five,
    });
    spec.env.push(("A".into(), "value".into()));
    spec.cwd = "/usr".into();
    spec.umask = Some(0o77);
    spec.rlimits = vec![(upkeep_sys::rlimit::OPEN_FILES, 77, 77)];
    spec.descriptors = vec![(1, "out".into()), (5, "five".into())];
    spec.no_new_privs = true;
    spec.cgroup = true;
    daemon.spawn("the key", &spec);
    let text = read_until(&output, |text| text.contains("end\n"));
    assert_eq!(
        text,
        "value\n/usr\n0077\n77\n5\nthe key\n0 1 2 3 5 /dev/null\nend\n"
    );
    daemon.exit_of("the key");
}

fn without_descriptors_the_keeper_goes_on() {
    let world = World::new();
    let mut daemon = world.greeted();
    let limit = upkeep_sys::rlimit::get(upkeep_sys::rlimit::OPEN_FILES).expect("limit");
    // Fill the keeper's table: it may have twice `held` plus a little.
    let keeper = world.keeper_pid();
    let in_use = fs::read_dir(format!("/proc/{keeper}/fd")).expect("fds").count();
    let status = std::process::Command::new("prlimit")
        .args([
            format!("--pid={keeper}"),
            format!("--nofile={}:{}", in_use + 40, limit.hard),
        ])
        .status();
    if !status.is_ok_and(|status| status.success()) {
        return;
    }
    let mut made = 0;
    let (errno, message) = loop {
        match daemon.ask(|id| Request::MakePipe {
            id,
            name: format!("{made}"),
        }) {
            Event::Descriptor { .. } => made += 1,
            Event::Refused {
                refusal: Refusal::Kernel,
                errno,
                message,
                ..
            } => break (errno, message),
            other => panic!("{other:?}"),
        }
        assert!(made < 100);
    };
    assert_eq!(errno, 24, "{message}");
    // One descriptor may still be free: take it.
    for name in ["x", "y", "z"] {
        let descriptor = descriptor::open_null().expect("null");
        daemon.ask(|id| Request::PutDescriptor {
            id,
            name: name.into(),
            descriptor,
        });
    }
    let descriptor = descriptor::open_null().expect("null");
    let (refusal, errno, _) = daemon.refused(|id| Request::PutDescriptor {
        id,
        name: "w".into(),
        descriptor,
    });
    assert_eq!((refusal, errno), (Refusal::Kernel, 24));
    // Starting, signalling, reaping and another daemon need none of these.
    let mut spec = sleeper(&world);
    spec.cgroup = true;
    daemon.spawn("a", &spec);
    daemon.kill();
    let mut daemon = world.greeted();
    daemon.signal("a", number::KILL, Scope::Leader);
    assert!(!daemon.exit_of("a").leftovers);
    for name in ["0", "1"] {
        daemon.done(|id| Request::CloseDescriptor {
            id,
            name: name.into(),
        });
    }
    daemon.pipe("0");
}
