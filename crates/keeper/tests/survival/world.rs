//! A keeper in a directory of its own, and the means to be its daemon.

pub(crate) mod keeper;
pub(crate) mod puppet;

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use upkeep_keeper::{
    client::{Link, LinkError},
    protocol::{Event, ExitRecord, Listing, Refusal, Request, Scope, SpawnSpec, VERSION},
};
use upkeep_sys::{Pid, clock, descriptor, fd_pass, listener, poll, process, signal, signal::number};

/// How long anything may take.
const DEADLINE_MS: u64 = 10_000;

/// Waits until `condition` holds; panics with `what` if it never does.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::monotonic_ms() + DEADLINE_MS;
    while !condition() {
        assert!(clock::monotonic_ms() < deadline, "waited in vain: {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "the one poll loop that all waits go through"
        )]
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Whether this process is there, zombies not.
pub(crate) fn is_alive(pid: u32) -> bool {
    Pid::from_unsigned(pid)
        .is_some_and(|pid| process::stat(pid).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X')))
}

pub(crate) fn pid(raw: u32) -> Pid {
    Pid::from_unsigned(raw).expect("a pid")
}

/// A keeper and what it needs. Everything is killed when it is dropped.
pub(crate) struct World {
    folder: tempfile::TempDir,
    control: OwnedFd,
    keeper: Option<Child>,
}

impl World {
    /// Starts a keeper with short times.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// The same with some times changed: `("trial", 200)`.
    pub(crate) fn with(times: &[(&str, u64)]) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let control = listener::unix(&folder.path().join("control"), 0o600).expect("a control socket");
        let program = std::env::current_exe().expect("own program");
        fs::hard_link(&program, folder.path().join("v1"))
            .or_else(|_| fs::copy(&program, folder.path().join("v1")).map(|_| ()))
            .expect("a program of its own");
        let lines: Vec<String> = times
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        fs::write(folder.path().join("times"), lines.join("\n")).expect("times");
        let mut world = Self {
            folder,
            control,
            keeper: None,
        };
        world.start_keeper();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// The command that starts a keeper here.
    pub(crate) fn keeper_command(&self) -> Command {
        let mut command = Command::new(self.path("v1"));
        command
            .arg("keeper")
            .env("WORLD", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn start_keeper(&mut self) {
        self.keeper = Some(self.keeper_command().spawn().expect("a keeper"));
    }

    pub(crate) fn keeper_pid(&self) -> u32 {
        self.keeper.as_ref().expect("a keeper").id()
    }

    pub(crate) fn signal_keeper(&self, signal: i32) {
        signal::send(pid(self.keeper_pid()), signal).expect("the keeper is there");
    }

    pub(crate) fn kill_keeper(&mut self) {
        self.signal_keeper(number::KILL);
        self.keeper_ended();
    }

    /// Waits for the keeper's end.
    pub(crate) fn keeper_ended(&mut self) -> ExitStatus {
        let mut keeper = self.keeper.take().expect("a keeper");
        let mut status = None;
        wait_until("the keeper ends", || {
            status = keeper.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("a status")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.run_dir().join("keeper.log")).unwrap_or_default()
    }

    /// The next daemon that the keeper starts, silent as yet.
    pub(crate) fn daemon(&self) -> Daemon {
        assert!(
            poll::readable_within(&self.control, DEADLINE_MS).expect("poll"),
            "no daemon came; the log says:\n{}",
            self.log()
        );
        Daemon::accept(&self.control)
    }

    /// The next daemon, after Hello and Welcome.
    pub(crate) fn greeted(&self) -> Daemon {
        let mut daemon = self.daemon();
        daemon.hello();
        daemon
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the keeper's log:\n{}", self.log());
        }
        if let Some(mut keeper) = self.keeper.take() {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
        // Whatever was born here says so in its environment.
        let here = self.folder.path().as_os_str().as_encoded_bytes();
        wait_until("everything is dead", || {
            let mut clean = true;
            for pid in process::list().expect("list") {
                if pid != Pid::own()
                    && process::variable(pid, "WORLD").ok().flatten().as_deref() == Some(here)
                {
                    let dead = process::stat(pid).is_ok_and(|stat| stat.state == 'Z');
                    clean &= dead;
                    let _ = signal::send(pid, number::KILL);
                }
            }
            clean
        });
        remove_cgroups(&self.folder.path().join("run"));
    }
}

/// The groups of keepers that were killed: named after their run directory, which is known from their journal.
fn remove_cgroups(run_dir: &Path) {
    let journal = fs::read_to_string(run_dir.join("children")).unwrap_or_default();
    let base = journal.lines().next().and_then(|line| line.split(' ').nth(2));
    if let Some(base) = base.filter(|base| base.contains("/upkeep-")) {
        wait_until("the cgroup is empty", || {
            upkeep_sys::cgroup::remove(Path::new(base)).is_ok()
        });
        let name = Path::new(base).file_name().and_then(|name| name.to_str());
        let limits = upkeep_sys::cgroup::limit::Controllers::detect(name.unwrap_or_default(), None);
        wait_until("the groups with limits are empty", || {
            limits.remove_others(&|_| false)
        });
    }
}

/// A daemon: the process, and the link it handed over.
pub(crate) struct Daemon {
    pub(crate) pid: u32,
    /// As what it was started.
    pub(crate) name: String,
    pub(crate) link: Link,
    control: OwnedFd,
    /// Events that nobody has waited for yet.
    kept: VecDeque<Event>,
    last_id: u64,
}

impl Daemon {
    fn accept(control: &OwnedFd) -> Self {
        let listener =
            std::os::unix::net::UnixListener::from(descriptor::duplicate(control).expect("duplicate"));
        let (stream, _) = listener.accept().expect("accept");
        let control = OwnedFd::from(stream);
        let mut passed = VecDeque::new();
        let mut bytes = [0; 4096];
        let count = fd_pass::recv(&control, &mut bytes, &mut passed).expect("the puppet's link");
        let text = String::from_utf8(bytes[..count].to_vec()).expect("text");
        let (pid, name) = text.split_once(' ').expect("pid and name");
        let link = Link::from_fd(passed.pop_front().expect("a link")).expect("a link");
        Self {
            pid: pid.parse().expect("a pid"),
            name: name.to_owned(),
            link,
            control,
            kept: VecDeque::new(),
            last_id: 0,
        }
    }

    /// Ends the process with SIGKILL, and with it the link.
    pub(crate) fn kill(self) {
        signal::send(pid(self.pid), number::KILL).expect("the daemon is there");
    }

    /// Lets the process exit.
    pub(crate) fn exit(self, code: u8) {
        descriptor::write(&self.control, &[code]).expect("the puppet listens");
        wait_until("the daemon exits", || !is_alive(self.pid));
    }

    /// Writes bytes that are no frame.
    pub(crate) fn write_raw(&self, bytes: &[u8]) {
        descriptor::write(&self.link, bytes).expect("the keeper reads");
    }

    pub(crate) fn send(&mut self, request: &Request) {
        self.link.queue(request).expect("a request that fits");
        wait_until("the keeper reads", || {
            self.link.flush().expect("the keeper is there")
        });
    }

    pub(crate) fn hello(&mut self) -> Event {
        self.hello_as(VERSION)
    }

    /// As a daemon of this version would.
    pub(crate) fn hello_as(&mut self, newest: u16) -> Event {
        self.send(&Request::Hello {
            oldest: 1,
            newest,
            program_version: "test".to_owned(),
        });
        self.event("Welcome", |event| matches!(event, Event::Welcome { .. }))
    }

    /// The next event that fits; others are kept for later.
    pub(crate) fn event(&mut self, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        if let Some(at) = self.kept.iter().position(&fits) {
            return self.kept.remove(at).expect("it is there");
        }
        let deadline = clock::monotonic_ms() + DEADLINE_MS;
        loop {
            match self.link.try_recv() {
                Ok(Some(event)) if fits(&event) => return event,
                Ok(Some(event)) => self.kept.push_back(event),
                Ok(None) => {
                    let left = deadline.saturating_sub(clock::monotonic_ms());
                    let came = poll::readable_within(self.link.as_fd(), left).expect("poll");
                    assert!(came, "waited in vain for {what}; came: {:?}", self.kept);
                }
                Err(error) => panic!("waiting for {what}: {error}"),
            }
        }
    }

    /// Waits until the keeper has hung up; what came before is lost.
    pub(crate) fn hung_up(&mut self) {
        let deadline = clock::monotonic_ms() + DEADLINE_MS;
        loop {
            match self.link.try_recv() {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let left = deadline.saturating_sub(clock::monotonic_ms());
                    assert!(
                        poll::readable_within(self.link.as_fd(), left).expect("poll"),
                        "still connected"
                    );
                }
                Err(LinkError::KeeperGone) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Asks and waits for the one answer.
    pub(crate) fn ask(&mut self, make: impl FnOnce(u64) -> Request) -> Event {
        let id = self.next_id();
        self.send(&make(id));
        self.event("an answer", |event| answers(event) == Some(id))
    }

    /// Asks for something that must be refused.
    pub(crate) fn refused(&mut self, make: impl FnOnce(u64) -> Request) -> (Refusal, i32, String) {
        match self.ask(make) {
            Event::Refused {
                refusal,
                errno,
                message,
                ..
            } => (refusal, errno, message),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Starts a child; its pid.
    pub(crate) fn spawn(&mut self, key: &str, spec: &SpawnSpec) -> u32 {
        match self.ask(|id| Request::Spawn {
            id,
            key: key.to_owned(),
            spec: Box::new(spec.clone()),
        }) {
            Event::Spawned {
                pid, key: spawned, ..
            } => {
                assert_eq!(spawned, key);
                pid
            }
            other => panic!("not spawned: {other:?}"),
        }
    }

    pub(crate) fn done(&mut self, make: impl FnOnce(u64) -> Request) -> u32 {
        match self.ask(make) {
            Event::Done { count, .. } => count,
            other => panic!("not done: {other:?}"),
        }
    }

    pub(crate) fn signal(&mut self, key: &str, signal: i32, scope: Scope) -> u32 {
        self.done(|id| Request::Signal {
            id,
            key: key.to_owned(),
            signal,
            scope,
        })
    }

    pub(crate) fn descriptor(&mut self, make: impl FnOnce(u64) -> Request) -> OwnedFd {
        match self.ask(make) {
            Event::Descriptor { descriptor, .. } => descriptor,
            other => panic!("no descriptor: {other:?}"),
        }
    }

    pub(crate) fn pipe(&mut self, name: &str) -> OwnedFd {
        self.descriptor(|id| Request::MakePipe {
            id,
            name: name.to_owned(),
        })
    }

    pub(crate) fn list(&mut self) -> Listing {
        match self.ask(|id| Request::List { id }) {
            Event::Listing { listing, .. } => *listing,
            other => panic!("no listing: {other:?}"),
        }
    }

    /// The next exit record.
    pub(crate) fn exit_of(&mut self, key: &str) -> ExitRecord {
        let fits = |event: &Event| matches!(event, Event::Exited(record) if record.key == key);
        match self.event(&format!("the end of {key}"), fits) {
            Event::Exited(record) => record,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ready(&mut self) {
        self.send(&Request::Ready);
    }

    /// After this the keeper has read everything that was sent before.
    pub(crate) fn settle(&mut self) {
        self.list();
    }
}

fn answers(event: &Event) -> Option<u64> {
    match event {
        Event::Refused { id, .. }
        | Event::Done { id, .. }
        | Event::Spawned { id, .. }
        | Event::Descriptor { id, .. }
        | Event::Listing { id, .. } => Some(*id),
        _ => None,
    }
}

/// A shell script as a child.
pub(crate) fn script(world: &World, text: &str) -> SpawnSpec {
    SpawnSpec {
        argv: ["/bin/sh", "-c", text].map(OsString::from).to_vec(),
        env: vec![
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("WORLD".into(), world.folder.path().into()),
        ],
        cwd: world.folder.path().to_owned(),
        ..SpawnSpec::default()
    }
}

/// A child that lives until it is killed.
pub(crate) fn sleeper(world: &World) -> SpawnSpec {
    script(world, "exec sleep 1000")
}

/// Everything that comes out of a non-blocking pipe until `enough`.
pub(crate) fn read_until(pipe: &OwnedFd, enough: impl Fn(&str) -> bool) -> String {
    let mut text = Vec::new();
    wait_until("output", || {
        let mut bytes = [0; 4096];
        if let Ok(count) = descriptor::read(pipe, &mut bytes) {
            text.extend_from_slice(&bytes[..count]);
        }
        enough(&String::from_utf8_lossy(&text))
    });
    String::from_utf8(text).expect("text")
}
