//! Everything but spawning, against the real kernel.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    fs,
    io::{Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use upkeep_sys::{
    Pid, descriptor, fd_pass, listener,
    listener::ListenError,
    lock, memfd, notify, peer, pidfd, pipe, poll, process, rlimit, signal,
    signal::{SignalFd, number},
    spawn::{self, Launch},
    subreaper,
    tree::{self, Signs},
    wait::{self, Status},
};

fn shell(script: &str) -> Launch<'static> {
    Launch {
        argv: ["sh", "-c", script].map(OsString::from).to_vec(),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        new_session: true,
        ..Launch::default()
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "the one poll loop that all waits go through"
        )]
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_end_says_how_and_what_was_used() {
    let pid = spawn::spawn(
        &shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 9"),
        None,
    )
    .unwrap();
    let reaped = wait::wait_for(pid).unwrap().unwrap();
    assert_eq!((reaped.pid, reaped.status), (pid, Status::Code(9)));
    assert!(reaped.usage.user_us + reaped.usage.system_us > 0);
    assert!(reaped.usage.max_rss_kib > 100);
    assert_eq!(wait::reap(pid).unwrap(), None);
    let pid = spawn::spawn(&shell("kill -KILL $$"), None).unwrap();
    let status = wait::wait_for(pid).unwrap().unwrap().status;
    assert_eq!(
        status,
        Status::Signal {
            number: 9,
            core: false
        }
    );
}

#[test]
fn a_pidfd_sees_the_end_and_signals_nobody_else() {
    let pid = spawn::spawn(&shell("exec sleep 1000"), None).unwrap();
    let handle = pidfd::open(pid).unwrap();
    assert!(!pidfd::has_exited(&handle).unwrap());
    // A real-time signal, which ends it by default.
    pidfd::send_signal(&handle, 40).unwrap();
    assert!(poll::readable_within(&handle, 10_000).unwrap());
    assert_eq!(
        wait::wait_for(pid).unwrap().unwrap().status,
        Status::Signal {
            number: 40,
            core: false
        }
    );
    assert_eq!(pidfd::send_signal(&handle, number::TERM).unwrap_err().errno, 3);
    assert_eq!(pidfd::open(pid).unwrap_err().call, "pidfd_open");
}

#[test]
fn blocked_signals_are_read_as_data() {
    let signals = SignalFd::new(&[number::USR1, number::USR2]).unwrap();
    assert_eq!(signals.read().unwrap(), None);
    // JUSTIFICATION: to this very thread; the test runner has others, which do not block the signal.
    // SAFETY: `raise` touches no memory of ours.
    assert_eq!(unsafe { libc::raise(number::USR1) }, 0);
    assert!(poll::readable_within(&signals, 10_000).unwrap());
    let received = signals.read().unwrap().unwrap();
    assert_eq!(received.signal, number::USR1);
    assert!(received.sender.is_some());
    assert_eq!(signals.read().unwrap(), None);
}

#[test]
fn descriptors_come_in_order_with_their_bytes() {
    let (one, other) = fd_pass::socketpair().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |text: &str| -> OwnedFd {
        let path = folder.path().join(text);
        fs::write(&path, text).unwrap();
        fs::File::open(path).unwrap().into()
    };
    let (a, b, c) = (file("a"), file("b"), file("c"));
    fd_pass::send(&one, b"first", &[a.as_fd()]).unwrap();
    fd_pass::send(&one, b"second", &[]).unwrap();
    fd_pass::send(&one, b"third", &[b.as_fd(), c.as_fd()]).unwrap();
    drop((a, b, c));
    let (mut bytes, mut passed) = (Vec::new(), VecDeque::new());
    while bytes.len() < "firstsecondthird".len() {
        let mut part = [0; 100];
        let count = fd_pass::recv(&other, &mut part, &mut passed).unwrap();
        bytes.extend_from_slice(&part[..count]);
        // No descriptor is late.
        let wanted = match bytes.len() {
            0..=11 => 1,
            _ => 3,
        };
        assert_eq!(passed.len(), wanted, "after {} bytes", bytes.len());
    }
    assert_eq!(bytes, b"firstsecondthird");
    let texts: String = passed
        .into_iter()
        .map(|fd| std::io::read_to_string(fs::File::from(fd)).unwrap())
        .collect();
    assert_eq!(texts, "abc");
    // Nothing more: the other end would wait, this one is at its end.
    let mut passed = VecDeque::new();
    assert!(
        fd_pass::recv(&one, &mut [0; 1], &mut passed)
            .unwrap_err()
            .would_block()
    );
    drop(other);
    assert_eq!(fd_pass::recv(&one, &mut [0; 1], &mut passed).unwrap(), 0);
}

#[test]
fn as_many_descriptors_as_the_kernel_allows() {
    let (one, other) = fd_pass::socketpair().unwrap();
    let null = descriptor::open_null().unwrap();
    let many = vec![null.as_fd(); fd_pass::MAX_DESCRIPTORS];
    fd_pass::send(&one, b"x", &many).unwrap();
    let mut passed = VecDeque::new();
    assert_eq!(fd_pass::recv(&other, &mut [0; 10], &mut passed).unwrap(), 1);
    assert_eq!(passed.len(), fd_pass::MAX_DESCRIPTORS);
    let more = vec![null.as_fd(); fd_pass::MAX_DESCRIPTORS + 1];
    assert!(matches!(
        fd_pass::send(&one, b"x", &more),
        Err(fd_pass::PassError::TooMany { count: 254 })
    ));
}

#[test]
fn lost_descriptors_are_an_error_and_their_bytes_are_not_lost() {
    let (one, other) = fd_pass::socketpair().unwrap();
    fd_pass::send(&one, b"bytes", &[one.as_fd()]).unwrap();
    let before = rlimit::get(rlimit::OPEN_FILES).unwrap();
    rlimit::set(rlimit::Limit { soft: 3, ..before }).unwrap();
    let mut passed = VecDeque::new();
    let mut bytes = [0; 10];
    let result = fd_pass::recv(&other, &mut bytes, &mut passed);
    rlimit::set(before).unwrap();
    assert!(
        matches!(result, Err(fd_pass::PassError::Truncated { bytes: 5 })),
        "{result:?}"
    );
    assert_eq!((&bytes[..5], passed.len()), (&b"bytes"[..], 0));
}

#[test]
fn bytes_move_from_pipe_to_file_and_are_copied_between_pipes() {
    let (from, copy) = (pipe::make().unwrap(), pipe::make().unwrap());
    let mut file = tempfile::tempfile().unwrap();
    assert_eq!(
        pipe::splice(&from.read, &file, 100).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    descriptor::write(&from.write, b"hello").unwrap();
    assert_eq!(pipe::available(&from.read).unwrap(), 5);
    assert_eq!(pipe::tee(&from.read, &copy.write, 100).unwrap(), 5);
    assert_eq!(pipe::splice(&from.read, &file, 100).unwrap(), 5);
    assert_eq!(
        (
            pipe::available(&from.read).unwrap(),
            pipe::available(&copy.read).unwrap()
        ),
        (0, 5)
    );
    drop(from.write);
    assert_eq!(pipe::splice(&from.read, &file, 100).unwrap(), 0);
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert_eq!(pipe::set_capacity(&copy.read, 1 << 17).unwrap(), 1 << 17);
    assert_eq!(pipe::capacity(&copy.write).unwrap(), 1 << 17);
}

#[test]
fn unix_sockets_at_paths_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let deep: PathBuf = (0..10).fold(folder.path().to_owned(), |path, _| {
        path.join("a folder with a long name")
    });
    fs::create_dir_all(&deep).unwrap();
    for path in [folder.path().join("short"), deep.join("socket")] {
        let listening = listener::unix(&path, 0o620).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        let client = listener::unix_connect(&path).unwrap();
        let who = peer::credentials(&client).unwrap();
        assert_eq!(who.pid, Some(Pid::own()));
        // Somebody answers: hands off.
        assert!(matches!(
            listener::unix(&path, 0o600),
            Err(ListenError::InUse { .. })
        ));
        drop(listening);
        // Nobody answers: taken over.
        assert_eq!(listener::unix_connect(&path).unwrap_err().errno, 111);
        let again = listener::unix(&path, 0o600).unwrap();
        listener::unix_connect(&path).unwrap();
        drop(again);
    }
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(matches!(
        listener::unix(&file, 0o600),
        Err(ListenError::NotASocket { .. })
    ));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let missing = listener::unix(Path::new("/no/such/folder/socket"), 0o600).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "failed to open directory `/no/such/folder`: No such file or directory (os error 2)"
    );
}

#[test]
fn internet_sockets_are_bound_or_say_why_not() {
    let socket = std::net::TcpListener::from(listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap());
    let address = socket.local_addr().unwrap();
    std::net::TcpStream::connect(address).unwrap();
    let error = listener::tcp(address).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("failed to bind `tcp:{address}`: Address already in use (os error 98)")
    );
    let socket = std::net::UdpSocket::from(listener::udp("[::1]:0".parse().unwrap()).unwrap());
    assert!(socket.local_addr().unwrap().port() > 0);
}

#[test]
fn a_lock_has_one_holder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let held = lock::exclusive(&path).unwrap();
    assert!(matches!(
        lock::exclusive(&path),
        Err(lock::LockError::Held { .. })
    ));
    drop(held);
    lock::exclusive(&path).unwrap();
    assert!(matches!(
        lock::exclusive(Path::new("/no/such/lock")),
        Err(lock::LockError::Call(_))
    ));
}

#[test]
fn memory_by_descriptor_keeps_its_bytes() {
    let memory = memfd::with_bytes("test", b"state").unwrap();
    assert_eq!(memfd::read_all(memory).unwrap(), b"state");
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    notify::send(Some(path.as_os_str()), "READY=1").unwrap();
    let mut bytes = [0; 100];
    let count = manager.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"READY=1");
    notify::send(None, "READY=1").unwrap();
}

#[test]
fn members_of_a_tree_are_found_wherever_they_went() {
    subreaper::become_subreaper().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut launch = shell(
        "sleep 1001 & echo $! >> pids; (setsid sh -c 'echo $$ >> pids; exec sleep 1002' &)
         echo $$ >> pids; sleep 1003 & echo $! >> pids; wait",
    );
    launch.cwd = folder.path().to_owned();
    launch.env.push(("MARK".into(), "tree 7".into()));
    let leader = spawn::spawn(&launch, None).unwrap();
    let read = || -> BTreeSet<Pid> {
        let text = fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
        text.lines()
            .filter_map(|line| Pid::new(line.parse().ok()?))
            .collect()
    };
    wait_until("all have started", || read().len() == 4);
    let all = read();
    let marker = Some(("MARK", &b"tree 7"[..]));
    let members = tree::members(Signs {
        leader: Some(leader),
        marker,
        cgroup: None,
    })
    .unwrap();
    assert_eq!(members, all);
    // The marker alone is enough; the session alone misses the one who left it.
    assert_eq!(
        tree::members(Signs {
            marker,
            ..Signs::default()
        })
        .unwrap(),
        all
    );
    let session = tree::members(Signs {
        leader: Some(leader),
        ..Signs::default()
    })
    .unwrap();
    assert_eq!(session.len(), 3);
    assert_eq!(process::descendants(leader).unwrap().len(), 2);
    assert_eq!(process::variable(leader, "MARK").unwrap().unwrap(), b"tree 7");
    for pid in &all {
        signal::send(*pid, number::KILL).unwrap();
    }
    // The orphan is ours to reap.
    let mut reaped = 0;
    wait_until("all are reaped", || {
        while wait::reap_any().unwrap().is_some() {
            reaped += 1;
        }
        reaped == all.len()
    });
    assert!(
        tree::members(Signs {
            leader: Some(leader),
            marker,
            cgroup: None
        })
        .unwrap()
        .is_empty()
    );
}

#[test]
fn a_reserve_is_given_up_only_when_needed() {
    let mut reserve = descriptor::Reserve::new(4);
    let before = rlimit::get(rlimit::OPEN_FILES).unwrap();
    let mut taken = Vec::new();
    rlimit::set(rlimit::Limit { soft: 40, ..before }).unwrap();
    while let Ok(fd) = descriptor::open_null() {
        taken.push(fd);
    }
    let made = reserve.retry(pipe::make, |error| error.errno);
    rlimit::set(before).unwrap();
    assert!(made.is_ok());
}

#[test]
fn adopting_what_is_not_open_is_an_error() {
    assert_eq!(descriptor::adopt(900).unwrap_err().errno, 9);
    assert_eq!(descriptor::adopt(1).unwrap_err().errno, 9);
    let _ = std::io::stdout().flush();
}

/// Who sent a message is the kernel's word, and a descriptor that comes with it is closed: that is what
/// `systemd-notify` waits for.
#[test]
fn a_notify_socket_tells_who_sent_what() {
    use std::os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    };
    use upkeep_sys::notify::NotifySocket;

    let name = format!("upkeep-test-notify-{}", std::process::id());
    let socket = NotifySocket::bind(&name).expect("a socket");
    assert_eq!(socket.receive().expect("nothing yet"), None);
    upkeep_sys::notify::send(Some(format!("@{name}").as_ref()), "READY=1\nSTATUS=fine").expect("sent");
    let message = socket.receive().expect("received").expect("a message");
    assert_eq!(message.sender, Some(std::process::id()));
    assert_eq!(message.text, "READY=1\nSTATUS=fine");
    assert!(NotifySocket::bind(&name).is_err(), "the name is taken");
    // Another process holds it while we are gone.
    let duplicate = socket.as_fd().try_clone_to_owned().expect("a duplicate");
    drop(socket);
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    UnixDatagram::unbound()
        .and_then(|sender| sender.send_to_addr(b"WATCHDOG=1", &address))
        .expect("sent");
    let socket = NotifySocket::adopt(duplicate).expect("adopted");
    assert_eq!(
        socket.receive().expect("received").map(|message| message.text),
        Some("WATCHDOG=1".to_owned())
    );
}

#[test]
fn a_process_is_within_its_tree_and_no_other() {
    use upkeep_sys::{pid::Pid, process::is_within};

    let own = Pid::from_unsigned(std::process::id()).expect("a pid");
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("a child");
    let pid = Pid::from_unsigned(child.id()).expect("a pid");
    assert!(is_within(pid, own));
    assert!(is_within(pid, pid));
    assert!(!is_within(own, pid), "a parent is not within its child");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(!is_within(pid, own), "it is gone");
}
