//! The loop: what came, what is due, what is to be told.

use std::{
    ffi::OsString,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use upkeep_sys::{
    Pid, clock,
    descriptor::Reserve,
    lock::{self, Lock, LockError},
    poll::{self, Interest},
    rlimit,
    signal::{self, SignalFd, number},
    spawn::{self, Launch, Program},
    subreaper,
    wait::{self, Reaped, Status},
};

use crate::{
    children::{Children, Groups},
    codec,
    daemon_link::{DaemonLink, State},
    descriptors::Descriptors,
    frames::Filled,
    journal::{self, Journal},
    log::Log,
    protocol::{Event, Refusal},
    requests::Verdict,
    resume::STATE_VERSION,
    settings::{KeeperError, KeeperSettings},
    strays,
    table::Table,
};

/// While more than this waits to be read by the daemon, its requests wait.
const OUTBOX_LIMIT: usize = 4 << 20;
/// Descriptors set aside for starting processes when there are none left.
const RESERVE: usize = 16;
/// How long nothing has to happen until code is given back, ms.
const QUIET: u64 = 10_000;
/// How often trees that were left behind are looked at, ms.
const SWEEP_EVERY: u64 = 5_000;
/// The same while the keeper waits for them to end.
const SWEEP_OFTEN: u64 = 50;
/// After SIGKILL the keeper waits this long for what cannot be killed, ms.
const GIVE_UP: u64 = 5_000;

/// How a keeper came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The daemon said Leave, and the children are gone.
    Left,
    /// A signal asked for it, and the keeper stopped the children itself.
    Terminated {
        /// Its number.
        signal: i32,
    },
}

/// The way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    No,
    /// The daemon is asked to stop everything and leave.
    Asked {
        signal: i32,
        until_ms: u64,
    },
    /// The keeper stops everything itself: SIGTERM is sent.
    Stopping {
        signal: i32,
        kill_at_ms: u64,
    },
    /// SIGKILL is sent.
    Killing {
        signal: i32,
        give_up_at_ms: u64,
    },
}

/// A replacement of this program, while the new one is asked whether it can.
#[derive(Debug)]
pub(crate) struct OwnUpgrade {
    /// Who is waiting for the answer.
    pub(crate) id: Option<u64>,
    pub(crate) program: PathBuf,
    pub(crate) probe: Pid,
    pub(crate) until_ms: u64,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) settings: KeeperSettings,
    pub(crate) version: String,
    pub(crate) epoch: u64,
    pub(crate) lock: Lock,
    pub(crate) signals: SignalFd,
    pub(crate) reserve: Reserve,
    pub(crate) log: Log,
    pub(crate) children: Children,
    pub(crate) descriptors: Descriptors,
    pub(crate) daemon: DaemonLink,
    pub(crate) own_upgrade: Option<OwnUpgrade>,
    pub(crate) ending: Ending,
    pub(crate) sweep_at_ms: u64,
    /// When code that was needed for what has happened is given back, if nothing more happens.
    pub(crate) quiet_at_ms: Option<u64>,
}

/// Keeps everything alive until there is nothing left to keep.
///
/// Only in a process with one thread. Returns when the daemon has left and the children are gone, or when a signal
/// ended it all.
pub fn run(settings: KeeperSettings) -> Result<Finished, KeeperError> {
    Keeper::prepare(settings).map(Keeper::serve)
}

/// The signals the keeper reads.
pub(crate) fn signals() -> Result<SignalFd, KeeperError> {
    signal::ignore(number::PIPE)?;
    let set = [
        number::CHLD,
        number::TERM,
        number::INT,
        number::QUIT,
        number::HUP,
        number::USR2,
    ];
    Ok(SignalFd::new(&set)?)
}

/// What a run directory is called in markers and cgroups: the same for every keeper of it, of any version (FNV-1a).
fn run_id(run_dir: &Path) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = run_dir
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, step);
    format!("{hash:016x}")
}

impl Keeper {
    fn prepare(mut settings: KeeperSettings) -> Result<Self, KeeperError> {
        settings.run_dir = prepare_run_dir(&settings.run_dir)?;
        let run_dir = settings.run_dir.clone();
        let pid_file = run_dir.join("keeper.pid");
        let lock = match lock::exclusive(&run_dir.join("keeper.lock")) {
            Ok(lock) => lock,
            Err(LockError::Held { .. }) => {
                let pid = fs::read_to_string(&pid_file)
                    .ok()
                    .and_then(|text| text.trim().parse().ok());
                return Err(KeeperError::AlreadyRunning { run_dir, pid });
            }
            Err(LockError::Call(error)) => return Err(error.into()),
        };
        let own = Pid::own();
        fs::write(&pid_file, format!("{own}\n")).map_err(|source| KeeperError::RunDir {
            path: pid_file,
            source,
        })?;
        let mut log = Log::open(run_dir.join("keeper.log"));
        let signals = signals()?;
        subreaper::become_subreaper()?;
        let open_files = rlimit::raise_open_files().ok();
        let run_id = run_id(&run_dir);
        let groups = Groups::detect(&run_id);
        log.line(&format!(
            "keeper {} begins, pid {own}; tracking: {}",
            settings.version, groups.tracking
        ));
        let journal_path = run_dir.join("children");
        let (old_base, entries) = journal::read(&journal_path);
        let mut children = Children {
            table: Table::default(),
            journal: Journal::none(journal_path),
            groups,
            run_id,
            open_files,
            daemon: None,
        };
        for find in strays::adopt(&mut children, old_base, entries) {
            log.line(&find);
        }
        // A keeper that was killed may have left groups with limits.
        children.groups.untidy = true;
        children.tidy();
        children
            .journal
            .rewrite(children.groups.base.as_deref(), &children.table.children);
        Ok(Self {
            version: settings.version.clone(),
            // 41 bits of ms and 22 bits of pid: no two keepers have the same.
            epoch: (clock::unix_ms() << 22) | u64::from(own.unsigned()),
            daemon: DaemonLink::new(settings.daemon.clone(), settings.times, &run_dir),
            settings,
            lock,
            signals,
            reserve: Reserve::new(RESERVE),
            log,
            children,
            descriptors: Descriptors::default(),
            own_upgrade: None,
            ending: Ending::No,
            sweep_at_ms: 0,
            quiet_at_ms: None,
        })
    }

    pub(crate) fn serve(mut self) -> Finished {
        loop {
            let now = clock::monotonic_ms();
            self.tick(now);
            if let Some(finished) = self.finished(now) {
                self.close();
                return finished;
            }
            self.read_requests();
            self.tell_exits(OUTBOX_LIMIT);
            self.flush();
            self.wait();
        }
    }

    /// Does what is due.
    fn tick(&mut self, now: u64) {
        self.daemon.tick(now, &mut self.reserve, &mut self.log);
        self.children.daemon = self.daemon.pid();
        if let Some(upgrade) = self.own_upgrade.take_if(|upgrade| upgrade.until_ms <= now) {
            // It is our child and not reaped; it may have ended already.
            let _ = signal::send(upgrade.probe, number::KILL);
            self.refuse_own_upgrade(upgrade.id, "the new program did not answer in time");
        }
        if self.has_leftovers() && self.sweep_at_ms <= now {
            self.children.sweep();
            let often = !matches!(self.ending, Ending::No);
            self.sweep_at_ms = now + if often { SWEEP_OFTEN } else { SWEEP_EVERY };
        }
        if self.quiet_at_ms.take_if(|at| *at <= now).is_some() {
            // If it stays mapped, nothing is worse than before.
            let _ = upkeep_sys::own_pages::give_back_code();
        }
        self.tick_ending(now);
    }

    /// Whether there is something that only looking again can show to be gone.
    fn has_leftovers(&self) -> bool {
        !self.children.table.remains.is_empty() || self.children.groups.untidy
    }

    fn tick_ending(&mut self, now: u64) {
        match self.ending {
            Ending::Asked { signal, until_ms } => {
                let alone = matches!(self.daemon.state, State::Absent { .. });
                if alone || until_ms <= now {
                    self.stop_everything(signal, now);
                }
            }
            Ending::Stopping { signal, kill_at_ms } if kill_at_ms <= now => {
                self.log.line("killing what is left");
                self.children.signal_all(number::KILL);
                self.ending = Ending::Killing {
                    signal,
                    give_up_at_ms: now + GIVE_UP,
                };
            }
            _ => {}
        }
    }

    /// The keeper is on its own: the daemon is gone or of no use.
    fn stop_everything(&mut self, signal: i32, now: u64) {
        self.log.line("stopping everything without the daemon");
        self.daemon.kill("the keeper ends", &mut self.log);
        if matches!(self.daemon.state, State::Absent { .. }) {
            self.daemon.state = State::Gone;
        }
        self.children.signal_all(number::TERM);
        self.children.signal_all(number::CONT);
        self.ending = Ending::Stopping {
            signal,
            kill_at_ms: now + self.settings.times.tree_grace,
        };
        self.sweep_at_ms = now;
    }

    fn finished(&self, now: u64) -> Option<Finished> {
        if matches!(self.daemon.state, State::Alive(_)) {
            return None;
        }
        match self.ending {
            Ending::No | Ending::Asked { .. } => {
                let left = matches!(self.daemon.state, State::Gone) && self.children.none_of_ours();
                left.then_some(Finished::Left)
            }
            Ending::Stopping { signal, .. } => self
                .children
                .nothing_left()
                .then_some(Finished::Terminated { signal }),
            Ending::Killing {
                signal,
                give_up_at_ms,
            } => {
                let over = self.children.nothing_left() || give_up_at_ms <= now;
                over.then_some(Finished::Terminated { signal })
            }
        }
    }

    fn close(&mut self) {
        self.children.close();
        self.log.line("keeper ends");
        // The lock, not this file, says whether a keeper lives.
        let _ = fs::remove_file(self.settings.run_dir.join("keeper.pid"));
    }

    /// Carries out the requests that have come, as long as the daemon reads the answers.
    fn read_requests(&mut self) {
        loop {
            let Some(alive) = self.daemon.alive() else { return };
            if alive.socket.is_none() || alive.outbox.len() > OUTBOX_LIMIT {
                return;
            }
            let received = match alive.inbox.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    codec::decode_request(frame.body, frame.passed).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match received.map(|received| self.handle(received)) {
                Ok(Verdict::Go) => {}
                Ok(Verdict::Kill(why)) => self.daemon.kill(why, &mut self.log),
                Ok(Verdict::HangUp) => {
                    self.flush();
                    self.hang_up();
                }
                Err(why) => self.daemon.kill(&why, &mut self.log),
            }
        }
    }

    /// Tells the daemon of every end it has not been told of, while no more than `limit` waits to be read.
    pub(crate) fn tell_exits(&mut self, limit: usize) {
        let table = &self.children.table;
        let Some(alive) = self.daemon.alive() else { return };
        if !alive.greeted || alive.socket.is_none() {
            return;
        }
        for record in table.exits_after(alive.told_seq) {
            if alive.outbox.len() > limit {
                return;
            }
            alive.told_seq = record.seq;
            alive.send(Event::Exited(record.clone()));
        }
    }

    pub(crate) fn flush(&mut self) {
        let Some(alive) = self.daemon.alive() else { return };
        let Some(socket) = &alive.socket else { return };
        // A daemon that has hung up is noticed when its socket is read.
        let _ = alive.outbox.flush(socket);
    }

    fn hang_up(&mut self) {
        let at = clock::monotonic_ms() + self.settings.times.retire;
        if let Some(alive) = self.daemon.alive() {
            alive.socket = None;
            alive.kill_at_ms = Some(alive.kill_at_ms.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// Waits for something to come or to be due, and takes it in.
    fn wait(&mut self) {
        let now = clock::monotonic_ms();
        let timeout = self.deadline().map(|at| at.saturating_sub(now));
        let (mut signalled, mut readable, mut stray_ended) = (false, false, false);
        {
            let mut interests = vec![Interest::readable(&self.signals)];
            if let State::Alive(alive) = &self.daemon.state
                && let Some(socket) = &alive.socket
            {
                let listens = alive.outbox.len() <= OUTBOX_LIMIT;
                let interest = if listens {
                    Interest::readable(socket)
                } else {
                    Interest::hangup(socket)
                };
                interests.push(interest.or_writable(!alive.outbox.is_empty()));
            }
            let with_daemon = interests.len();
            interests.extend(
                self.children
                    .table
                    .children
                    .values()
                    .filter_map(|child| child.stray.as_ref())
                    .map(Interest::readable),
            );
            // It fails only for want of memory, and then the next round tries again.
            if poll::wait(&mut interests, timeout).is_ok() {
                let ready: Vec<bool> = interests.iter().map(Interest::is_readable).collect();
                signalled = ready.first().copied().unwrap_or(false);
                readable = with_daemon > 1 && ready.get(1).copied().unwrap_or(false);
                stray_ended = ready.iter().skip(with_daemon).any(|ready| *ready);
            }
        }
        if readable || signalled {
            self.quiet_at_ms = Some(clock::monotonic_ms() + QUIET);
        }
        if readable {
            self.fill();
        }
        if signalled {
            self.take_signals();
        }
        if stray_ended {
            self.children.ended_strays(&mut self.reserve);
        }
    }

    fn deadline(&self) -> Option<u64> {
        let ending = match self.ending {
            Ending::No => None,
            Ending::Asked { until_ms, .. } => Some(until_ms),
            Ending::Stopping { kill_at_ms, .. } => Some(kill_at_ms),
            Ending::Killing { give_up_at_ms, .. } => Some(give_up_at_ms),
        };
        let quiet = self.quiet_at_ms;
        let sweep = self.has_leftovers().then_some(self.sweep_at_ms);
        let probe = self.own_upgrade.as_ref().map(|upgrade| upgrade.until_ms);
        [self.daemon.deadline(), ending, sweep, quiet, probe]
            .into_iter()
            .flatten()
            .min()
    }

    fn fill(&mut self) {
        let expected = self.daemon.upgrade.is_some();
        let Some(alive) = self.daemon.alive() else { return };
        let Some(socket) = &alive.socket else { return };
        match alive.inbox.fill(socket) {
            Ok(Filled::Some | Filled::WouldBlock) => {}
            Ok(Filled::End) | Err(_) if alive.leaving || (expected && alive.kill_at_ms.is_some()) => {
                self.hang_up();
            }
            Ok(Filled::End) | Err(_) => self.daemon.kill("it hung up", &mut self.log),
        }
    }

    fn take_signals(&mut self) {
        // An error here has no cause that another try would not meet again: the next round reads on.
        while let Ok(Some(received)) = self.signals.read() {
            match received.signal {
                number::CHLD => self.reap(),
                signal if self.settings.daemon.wants(signal) => {
                    if let Some(pid) = self.daemon.pid() {
                        // One that is just ending needs no signal.
                        let _ = signal::send(pid, signal);
                    }
                }
                number::USR2 => {
                    let program = self.settings.own_program.clone();
                    if let Err(refusal) = self.begin_own_upgrade(None, program) {
                        self.log.line(&format!("SIGUSR2: {refusal:?}"));
                    }
                }
                number::HUP => {}
                signal => {
                    let sender = received
                        .sender
                        .map_or_else(|| "the kernel".to_owned(), |pid| format!("pid {pid}"));
                    self.log.line(&format!("signal {signal} from {sender}: ending"));
                    self.terminate(signal);
                }
            }
        }
    }

    fn terminate(&mut self, signal: i32) {
        if !matches!(self.ending, Ending::No | Ending::Asked { .. }) {
            return;
        }
        let now = clock::monotonic_ms();
        let Some(alive) = self.daemon.alive().filter(|alive| alive.socket.is_some()) else {
            return self.stop_everything(signal, now);
        };
        // One that has not said Hello yet is told after Welcome.
        if alive.greeted {
            alive.send(Event::Terminate { signal });
        }
        if self.ending == Ending::No {
            self.ending = Ending::Asked {
                signal,
                until_ms: now + self.settings.times.terminate,
            };
        }
    }

    /// Reaps everything that has ended.
    pub(crate) fn reap(&mut self) {
        let mut orphans = false;
        while let Ok(Some(reaped)) = wait::reap_any() {
            if self.children.ended(reaped, &mut self.reserve) {
                continue;
            }
            if self.daemon.pid() == Some(reaped.pid) {
                self.daemon_ended(reaped);
            } else if let Some(upgrade) = self.own_upgrade.take_if(|upgrade| upgrade.probe == reaped.pid) {
                self.probe_ended(upgrade, reaped.status);
            } else {
                orphans = true;
            }
        }
        if orphans && !self.children.table.remains.is_empty() {
            self.children.sweep();
        }
    }

    fn daemon_ended(&mut self, reaped: Reaped) {
        // What it asked for before it ended still holds.
        loop {
            self.read_requests();
            let Some(alive) = self.daemon.alive() else { return };
            let Some(socket) = &alive.socket else { break };
            // With a full outbox it does not matter what is left: nobody reads the answers.
            if alive.outbox.len() > OUTBOX_LIMIT || !matches!(alive.inbox.fill(socket), Ok(Filled::Some)) {
                break;
            }
        }
        self.daemon.ended(reaped.status, &mut self.log);
        self.children.daemon = None;
        if matches!(self.ending, Ending::Stopping { .. } | Ending::Killing { .. }) {
            self.daemon.state = State::Gone;
        }
    }

    /// Asks a program whether it can take over. The answer comes with its end.
    pub(crate) fn begin_own_upgrade(&mut self, id: Option<u64>, program: PathBuf) -> Result<(), Event> {
        let unfit = |errno, message: String| Event::Refused {
            id: id.unwrap_or(0),
            refusal: Refusal::Unfit,
            errno,
            message,
        };
        if self.own_upgrade.is_some() {
            return Err(unfit(0, "an upgrade is under way".to_owned()));
        }
        let launch = Launch {
            program: Program::Path(&program),
            argv: self.own_argv("--can-resume", &STATE_VERSION.to_string()),
            env: std::env::vars_os().collect(),
            new_session: true,
            ..Launch::default()
        };
        let started = self
            .reserve
            .retry(|| spawn::spawn(&launch, None), spawn::SpawnError::errno);
        let probe = started.map_err(|error| unfit(error.errno(), error.to_string()))?;
        let until_ms = clock::monotonic_ms() + self.settings.times.probe;
        self.own_upgrade = Some(OwnUpgrade {
            id,
            program,
            probe,
            until_ms,
        });
        Ok(())
    }

    pub(crate) fn own_argv(&self, option: &str, value: &str) -> Vec<OsString> {
        let mut argv = self.settings.own_argv.clone();
        argv.extend([option.into(), value.into()]);
        argv
    }

    fn probe_ended(&mut self, upgrade: OwnUpgrade, status: Status) {
        if status != Status::Code(0) {
            return self.refuse_own_upgrade(upgrade.id, "the new program cannot take over from this one");
        }
        self.log
            .line(&format!("becoming `{}`", upgrade.program.display()));
        self.flush();
        let failed = self.become_program(&upgrade);
        self.refuse_own_upgrade(upgrade.id, &failed);
    }

    fn refuse_own_upgrade(&mut self, id: Option<u64>, why: &str) {
        self.log.line(&format!("the keeper is not replaced: {why}"));
        if let Some(id) = id {
            self.answer(Event::Refused {
                id,
                refusal: Refusal::Unfit,
                errno: 0,
                message: why.to_owned(),
            });
        }
    }
}

/// Makes the directory, private, and returns its one true path.
fn prepare_run_dir(path: &Path) -> Result<PathBuf, KeeperError> {
    let fail = |source| KeeperError::RunDir {
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(fail)?;
    let path = path.canonicalize().map_err(fail)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(fail)?;
    Ok(path)
}
