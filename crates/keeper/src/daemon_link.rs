//! The daemon as a child: started, started again, replaced; and the socket to it.

use std::{
    ffi::OsString,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use upkeep_sys::{
    Pid, clock, descriptor,
    descriptor::Reserve,
    fd_pass, signal,
    spawn::{self, Launch, Program, SpawnError},
    wait::Status,
};

use crate::{
    children::MARKER,
    client::DESCRIPTOR_VARIABLE,
    codec,
    frames::{Inbox, Outbox},
    log::{Log, open_append, rotate},
    protocol::{CAGES, Event, ExitRecord, OLDEST, Refusal},
    settings::{DaemonCommand, Times},
};

/// The daemon's descriptor of the link.
const LINK_DESCRIPTOR: u32 = 3;
/// When the daemon's output is this long, the next start begins a new file.
const LONGEST_OUTPUT: u64 = 5 << 20;
/// Ends without Ready after which a program is looked up by its name again.
const UNREADY_LIMIT: u32 = 3;

/// A program: its name, and the very file that was started last under it.
#[derive(Debug)]
pub(crate) struct HeldProgram {
    pub(crate) path: PathBuf,
    pub(crate) file: Option<OwnedFd>,
}

impl HeldProgram {
    pub(crate) fn named(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Looks the name up again if nothing is held yet.
    fn hold(&mut self) {
        if self.file.is_none() {
            self.file = descriptor::open_path(&self.path).ok();
        }
    }

    /// By name as long as the name means the held file, else by the file itself.
    fn program(&self) -> Program<'_> {
        let Some(file) = &self.file else {
            return Program::Path(&self.path);
        };
        match descriptor::open_path(&self.path) {
            Ok(named) if descriptor::same_file(&named, file) => Program::Path(&self.path),
            _ => Program::File(file.as_fd()),
        }
    }
}

/// A daemon that has been started and not reaped.
#[derive(Debug)]
pub(crate) struct Alive {
    pub(crate) pid: Pid,
    /// `None` once it has hung up or is to be killed.
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    pub(crate) greeted: bool,
    /// The version of the protocol that was agreed upon.
    pub(crate) version: u16,
    pub(crate) ready: bool,
    pub(crate) leaving: bool,
    pub(crate) started_ms: u64,
    /// When it is killed (end of a trial or of the time to retire).
    pub(crate) kill_at_ms: Option<u64>,
    /// Exit records up to this one have been queued to it.
    pub(crate) told_seq: u64,
}

impl Alive {
    /// Queues an event. Too long for a frame: a refusal goes instead.
    pub(crate) fn send(&mut self, event: Event) {
        let event = match event {
            // It would not understand the kind of message that has a number there.
            Event::Exited(record) if self.version < CAGES => Event::Exited(ExitRecord {
                oom_kills: 0,
                ..record
            }),
            event => event,
        };
        let body = codec::encode_event(&event);
        let (id, descriptor) = match event {
            Event::Descriptor { id, descriptor, .. } => (id, Some(descriptor)),
            Event::Listing { id, .. } => (id, None),
            _ => (0, None),
        };
        if self.outbox.push(&body, descriptor).is_err() {
            let refusal = Event::Refused {
                id,
                refusal: Refusal::TooLarge,
                errno: 0,
                message: "the answer does not fit into a frame".to_owned(),
            };
            // A refusal of this size always fits.
            let _ = self.outbox.push(&codec::encode_event(&refusal), None);
        }
    }
}

/// Where the daemon is.
#[derive(Debug)]
pub(crate) enum State {
    /// Not there; to be started at that time.
    Absent {
        start_at_ms: u64,
    },
    Alive(Box<Alive>),
    /// It left, or the keeper ends: none is started again.
    Gone,
}

/// How far an upgrade is.
#[derive(Debug)]
pub(crate) enum Upgrade {
    /// The old daemon is told to go.
    Retiring { new: PathBuf },
    /// The new one has to prove itself.
    Trial { old: HeldProgram },
}

/// The link.
#[derive(Debug)]
pub(crate) struct DaemonLink {
    pub(crate) command: DaemonCommand,
    pub(crate) times: Times,
    pub(crate) program: HeldProgram,
    pub(crate) state: State,
    pub(crate) backoff_ms: u64,
    pub(crate) unready_ends: u32,
    pub(crate) upgrade: Option<Upgrade>,
    /// Told to the next daemons until one is ready.
    pub(crate) outcome: Option<String>,
    pub(crate) output: PathBuf,
}

impl DaemonLink {
    pub(crate) fn new(command: DaemonCommand, times: Times, run_dir: &Path) -> Self {
        let program = HeldProgram::named(command.program.clone());
        Self {
            command,
            times,
            program,
            state: State::Absent { start_at_ms: 0 },
            backoff_ms: times.backoff_min,
            unready_ends: 0,
            upgrade: None,
            outcome: None,
            output: run_dir.join("daemon.log"),
        }
    }

    pub(crate) fn alive(&mut self) -> Option<&mut Alive> {
        match &mut self.state {
            State::Alive(alive) => Some(alive),
            _ => None,
        }
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Alive(alive) => Some(alive.pid),
            _ => None,
        }
    }

    /// When something is to be done without a message.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match &self.state {
            State::Absent { start_at_ms } => Some(*start_at_ms),
            State::Alive(alive) => alive.kill_at_ms,
            State::Gone => None,
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: u64, reserve: &mut Reserve, log: &mut Log) {
        match &mut self.state {
            State::Absent { start_at_ms } if *start_at_ms <= now => self.start(now, reserve, log),
            State::Alive(alive) if alive.kill_at_ms.is_some_and(|at| at <= now) => {
                self.kill("it did not keep its deadline", log);
            }
            _ => {}
        }
    }

    /// Ends a daemon that is of no use; the next is started when it has been reaped.
    pub(crate) fn kill(&mut self, why: &str, log: &mut Log) {
        let Some(alive) = self.alive() else { return };
        log.line(&format!("killing the daemon, pid {}: {why}", alive.pid));
        alive.socket = None;
        alive.kill_at_ms = None;
        // It is our child and not reaped: the pid is its own. It may have ended already.
        let _ = signal::send(alive.pid, signal::number::KILL);
    }

    fn start(&mut self, now: u64, reserve: &mut Reserve, log: &mut Log) {
        self.program.hold();
        match reserve.retry(|| self.spawn(), SpawnError::errno) {
            Ok((pid, socket)) => {
                log.line(&format!(
                    "started the daemon, pid {pid}: `{}`",
                    self.program.path.display()
                ));
                let trial = matches!(self.upgrade, Some(Upgrade::Trial { .. }));
                self.state = State::Alive(Box::new(Alive {
                    pid,
                    socket: Some(socket),
                    inbox: Inbox::default(),
                    outbox: Outbox::default(),
                    greeted: false,
                    version: OLDEST,
                    ready: false,
                    leaving: false,
                    started_ms: now,
                    kill_at_ms: trial.then(|| now + self.times.trial),
                    told_seq: 0,
                }));
            }
            Err(error) => {
                log.line(&format!("the daemon does not start: {error}"));
                self.plan_next(now, false, &error.to_string(), log);
            }
        }
    }

    fn spawn(&self) -> Result<(Pid, OwnedFd), SpawnError> {
        let (ours, theirs) = fd_pass::socketpair()?;
        if self
            .output
            .metadata()
            .is_ok_and(|meta| meta.len() > LONGEST_OUTPUT)
        {
            rotate(&self.output);
        }
        // Without a log its output is lost; that is no reason not to start it.
        let output = open_append(&self.output).ok();
        let mut env = self.command.env.clone();
        // The keeper itself may have been started from a child of a keeper.
        env.retain(|(name, _)| name != DESCRIPTOR_VARIABLE && name != MARKER);
        env.push((
            DESCRIPTOR_VARIABLE.into(),
            OsString::from(LINK_DESCRIPTOR.to_string()),
        ));
        let mut descriptors = vec![(LINK_DESCRIPTOR, theirs.as_fd())];
        if let Some(output) = &output {
            descriptors.extend([(1, output.as_fd()), (2, output.as_fd())]);
        }
        let launch = Launch {
            program: self.program.program(),
            argv: self.command.argv.clone(),
            env,
            descriptors,
            new_session: true,
            ..Launch::default()
        };
        spawn::spawn(&launch, None).map(|pid| (pid, ours))
    }

    /// The daemon has been reaped.
    pub(crate) fn ended(&mut self, status: Status, log: &mut Log) {
        let State::Alive(alive) = &self.state else { return };
        let how = match status {
            Status::Code(code) => format!("exit code {code}"),
            Status::Signal { number, .. } => format!("signal {number}"),
        };
        log.line(&format!("the daemon, pid {}, ended: {how}", alive.pid));
        if alive.leaving {
            self.state = State::Gone;
            return;
        }
        let now = clock::monotonic_ms();
        let stable = alive.ready && now.saturating_sub(alive.started_ms) >= self.times.stable;
        if stable {
            self.backoff_ms = self.times.backoff_min;
        }
        self.unready_ends = if alive.ready {
            0
        } else {
            self.unready_ends.saturating_add(1)
        };
        let ready = alive.ready;
        self.plan_next(now, ready, &how, log);
    }

    /// Decides which program is started when. `how`: the end of the one before.
    fn plan_next(&mut self, now: u64, was_ready: bool, how: &str, log: &mut Log) {
        match self.upgrade.take() {
            Some(Upgrade::Retiring { new }) => {
                let old = std::mem::replace(&mut self.program, HeldProgram::named(new));
                self.use_name();
                self.upgrade = Some(Upgrade::Trial { old });
                self.state = State::Absent { start_at_ms: now };
            }
            Some(Upgrade::Trial { old }) if !was_ready => {
                let message = format!(
                    "`{}` was not ready within {} ms ({how}); `{}` is back",
                    self.program.path.display(),
                    self.times.trial,
                    old.path.display()
                );
                log.line(&format!("upgrade rolled back: {message}"));
                self.program = old;
                self.use_name();
                self.outcome = Some(message);
                self.state = State::Absent { start_at_ms: now };
            }
            _ => {
                if self.unready_ends >= UNREADY_LIMIT {
                    // It may have been repaired on disk.
                    self.program.file = None;
                    self.unready_ends = 0;
                }
                self.state = State::Absent {
                    start_at_ms: now + self.backoff_ms,
                };
                self.backoff_ms = (self.backoff_ms * 2).min(self.times.backoff_max);
            }
        }
    }

    fn use_name(&mut self) {
        if let Some(name) = self.command.argv.first_mut() {
            *name = self.program.path.clone().into_os_string();
        }
    }

    /// The daemon serves.
    pub(crate) fn became_ready(&mut self, log: &mut Log) {
        let trial = matches!(self.upgrade, Some(Upgrade::Trial { .. }));
        let message = format!("`{}` is ready", self.program.path.display());
        let Some(alive) = self.alive() else { return };
        alive.ready = true;
        if trial {
            alive.kill_at_ms = None;
            alive.send(Event::UpgradeOutcome {
                ok: true,
                message: message.clone(),
            });
            log.line(&format!("upgrade done: {message}"));
            self.upgrade = None;
        }
        self.outcome = None;
    }
}
