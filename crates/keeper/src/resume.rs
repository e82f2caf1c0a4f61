//! Becoming a newer keeper in place: everything is written into a memfd, the descriptors lose CLOEXEC, and the new
//! program reads it all back. Same process, so the children stay ours and no exit status can be lost: SIGCHLD stays
//! blocked and pending through the exec, and the new program reaps before it does anything else.

use std::{
    collections::VecDeque,
    ffi::OsString,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use upkeep_sys::{
    Pid,
    cgroup::limit::{Controllers, Place, Version},
    clock, descriptor,
    descriptor::Reserve,
    exec,
    lock::Lock,
    memfd,
    rlimit::Limit,
    subreaper,
};

use crate::{
    children::{Children, Groups},
    codec::{Malformed, Passed, Reader, Writer, read_exit, write_exit},
    daemon_link::{Alive, DaemonLink, HeldProgram, State, Upgrade},
    descriptors::{Descriptors, Kept},
    frames::{Inbox, Outbox},
    journal::Journal,
    log::Log,
    protocol::{Event, OLDEST},
    run::{Ending, Finished, Keeper, OwnUpgrade, signals},
    settings::{DaemonCommand, KeeperError, KeeperSettings, Times},
    table::{Child, Remains, Table},
};

/// The version of the state handed over. A program can take over from one that writes the same, or version 1, which
/// knew no limits.
pub const STATE_VERSION: u16 = 2;
/// The oldest version that is read.
const OLDEST_STATE: u16 = 1;
/// The first version with limits.
const LIMITS: u16 = 2;

/// Descriptors set aside, as in a fresh keeper.
const RESERVE: usize = 16;

/// Whether this program can take over from one that writes this version: the answer to `--can-resume`.
pub fn can_resume(version: u16) -> bool {
    (OLDEST_STATE..=STATE_VERSION).contains(&version)
}

/// Goes on where the program before stopped, from the memfd it left (`--resume`). `version`: of this program.
pub fn resume(state: i32, version: &str) -> Result<Finished, KeeperError> {
    let bytes = memfd::read_all(descriptor::adopt(state)?)?;
    let (mut keeper, done) = read_keeper(&bytes, version)?;
    subreaper::become_subreaper()?;
    keeper
        .log
        .line(&format!("keeper {version} goes on, pid {}", Pid::own()));
    if let Some(id) = done {
        keeper.answer(Event::Done { id, count: 0 });
    }
    keeper.reap();
    Ok(keeper.serve())
}

impl Keeper {
    /// Replaces this program. Returns only if that failed, with the reason; then nothing has changed.
    pub(crate) fn become_program(&mut self, upgrade: &OwnUpgrade) -> String {
        let mut state = Handover {
            out: Writer::default(),
            keep: Vec::new(),
        };
        write_keeper(&mut state, self, upgrade);
        let memory = match memfd::with_bytes("upkeep-keeper", &state.out.bytes) {
            Ok(memory) => memory,
            Err(error) => return error.to_string(),
        };
        state.keep.push(memory.as_fd());
        let argv = self.own_argv("--resume", &memory.as_raw_fd().to_string());
        let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        match exec::replace(&upgrade.program, &argv, &env, &state.keep) {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        }
    }
}

/// The state as it is written, and the descriptors it speaks of.
struct Handover<'a> {
    out: Writer,
    keep: Vec<BorrowedFd<'a>>,
}

impl<'a> Handover<'a> {
    fn descriptor(&mut self, fd: &'a OwnedFd) {
        self.out.i32(fd.as_raw_fd());
        self.keep.push(fd.as_fd());
    }

    fn optional(&mut self, fd: Option<&'a OwnedFd>) {
        self.out.bool(fd.is_some());
        if let Some(fd) = fd {
            self.descriptor(fd);
        }
    }

    fn pairs(&mut self, pairs: &[(OsString, OsString)]) {
        self.out.list(pairs, |out, (name, value)| {
            out.os(name);
            out.os(value);
        });
    }

    fn count(&mut self, count: usize) {
        self.out.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

type Read<T> = Result<T, Malformed>;

fn read_descriptor(from: &mut Reader<'_>) -> Read<OwnedFd> {
    let number = from.i32()?;
    descriptor::adopt(number).or_else(|_| from.fail("a descriptor that is not open"))
}

fn read_pid(from: &mut Reader<'_>) -> Read<Pid> {
    let raw = from.i32()?;
    Pid::new(raw).map_or_else(|| from.fail("a pid that is none"), Ok)
}

fn read_pairs(from: &mut Reader<'_>) -> Read<Vec<(OsString, OsString)>> {
    from.list(|from| Ok((from.os()?, from.os()?)))
}

fn write_keeper<'a>(state: &mut Handover<'a>, keeper: &'a Keeper, upgrade: &OwnUpgrade) {
    state.out.u16(STATE_VERSION);
    let settings = &keeper.settings;
    state.out.os(settings.run_dir.as_os_str());
    state.out.os(upgrade.program.as_os_str());
    state
        .out
        .list(&settings.own_argv, |out, argument| out.os(argument));
    let Times {
        backoff_min,
        backoff_max,
        stable,
        retire,
        trial,
        probe,
        terminate,
        tree_grace,
    } = settings.times;
    for time in [
        backoff_min,
        backoff_max,
        stable,
        retire,
        trial,
        probe,
        terminate,
        tree_grace,
    ] {
        state.out.u64(time);
    }
    state.out.u64(keeper.epoch);
    // The lock hides its file; its descriptor is all that is needed.
    state.out.i32(keeper.lock.as_fd().as_raw_fd());
    state.keep.push(keeper.lock.as_fd());
    state.out.option(upgrade.id, Writer::u64);
    match keeper.ending {
        Ending::No => state.out.u8(0),
        Ending::Asked { signal, until_ms } => write_ending(state, 1, signal, until_ms),
        Ending::Stopping { signal, kill_at_ms } => write_ending(state, 2, signal, kill_at_ms),
        Ending::Killing {
            signal,
            give_up_at_ms,
        } => write_ending(state, 3, signal, give_up_at_ms),
    }
    write_children(state, &keeper.children);
    write_descriptors(state, &keeper.descriptors);
    write_daemon(state, &keeper.daemon);
}

fn write_ending(state: &mut Handover<'_>, kind: u8, signal: i32, at: u64) {
    state.out.u8(kind);
    state.out.i32(signal);
    state.out.u64(at);
}

fn read_keeper(bytes: &[u8], version: &str) -> Result<(Keeper, Option<u64>), KeeperError> {
    // The signals first: from here on nothing is missed.
    let signals = signals()?;
    let mut from = Reader::new(bytes);
    let (keeper, done) = read_parts(&mut from, version, signals).map_err(KeeperError::State)?;
    from.end().map_err(KeeperError::State)?;
    Ok((keeper, done))
}

fn read_parts(
    from: &mut Reader<'_>,
    version: &str,
    signals: upkeep_sys::signal::SignalFd,
) -> Read<(Keeper, Option<u64>)> {
    let written = from.u16()?;
    if !can_resume(written) {
        return from.fail("a state of another version");
    }
    let run_dir = from.path()?;
    let own_program = from.path()?;
    let own_argv = from.list(Reader::os)?;
    let times = Times {
        backoff_min: from.u64()?,
        backoff_max: from.u64()?,
        stable: from.u64()?,
        retire: from.u64()?,
        trial: from.u64()?,
        probe: from.u64()?,
        terminate: from.u64()?,
        tree_grace: from.u64()?,
    };
    let epoch = from.u64()?;
    let lock = Lock::from_descriptor(read_descriptor(from)?);
    let done = from.option(Reader::u64)?;
    let ending = match from.u8()? {
        0 => Ending::No,
        1 => Ending::Asked {
            signal: from.i32()?,
            until_ms: from.u64()?,
        },
        2 => Ending::Stopping {
            signal: from.i32()?,
            kill_at_ms: from.u64()?,
        },
        3 => Ending::Killing {
            signal: from.i32()?,
            give_up_at_ms: from.u64()?,
        },
        _ => return from.fail("an unknown way to the end"),
    };
    let children = read_children(from, &run_dir, written)?;
    let descriptors = read_descriptors(from)?;
    let daemon = read_daemon(from, times, &run_dir, written)?;
    let settings = KeeperSettings {
        daemon: daemon.command.clone(),
        own_program,
        own_argv,
        version: version.to_owned(),
        times,
        run_dir,
    };
    let keeper = Keeper {
        log: Log::open(settings.run_dir.join("keeper.log")),
        settings,
        version: version.to_owned(),
        epoch,
        lock,
        signals,
        reserve: Reserve::new(RESERVE),
        children,
        descriptors,
        daemon,
        own_upgrade: None,
        ending,
        sweep_at_ms: clock::monotonic_ms(),
        quiet_at_ms: None,
    };
    Ok((keeper, done))
}

fn write_children<'a>(state: &mut Handover<'a>, children: &'a Children) {
    let base = children.groups.base.as_ref();
    state.out.option(base, |out, base| out.os(base.as_os_str()));
    state.out.bool(children.groups.enabled);
    state.out.text(&children.groups.tracking);
    state.out.u64(children.groups.counter);
    state.out.text(&children.run_id);
    write_controllers(&mut state.out, &children.groups.controllers);
    state.out.option(children.open_files, |out, limit| {
        out.u32(limit.resource);
        out.u64(limit.soft);
        out.u64(limit.hard);
    });
    let table = &children.table;
    state.count(table.children.len());
    for child in table.children.values() {
        state.out.text(&child.key);
        state.out.i32(child.pid.raw());
        state.out.u64(child.start_ticks);
        state.out.u64(child.started_unix_ms);
        state.out.u64(child.started_mono_ms);
        state.out.option(child.group.as_deref(), Writer::text);
        state.out.option(child.limited.as_deref(), Writer::text);
        state.optional(child.stray.as_ref());
    }
    state.out.list(&table.remains, |out, remains| {
        out.text(&remains.key);
        out.option(remains.leader, |out, leader| out.i32(leader.raw()));
        out.option(remains.group.as_deref(), Writer::text);
    });
    state.out.u64(table.last_seq);
    let exits: Vec<_> = table.exits_after(0).collect();
    state.out.list(&exits, |out, record| {
        write_exit(out, record);
        out.u32(record.oom_kills);
    });
    state.out.list(&table.notes(), |out, (key, bytes)| {
        out.text(key);
        out.bytes(bytes);
    });
}

fn write_controllers(out: &mut Writer, controllers: &Controllers) {
    for place in controllers.places() {
        match place {
            Ok(place) => {
                out.u8(if place.version == Version::V2 { 2 } else { 1 });
                out.os(place.base.as_os_str());
            }
            Err(why) => {
                out.u8(0);
                out.text(why);
            }
        }
    }
}

fn read_controllers(from: &mut Reader<'_>) -> Read<Controllers> {
    let mut place = || {
        let version = match from.u8()? {
            0 => return from.text().map(Err),
            1 => Version::V1,
            2 => Version::V2,
            _ => return from.fail("an unknown kind of cgroup"),
        };
        Ok(Ok(Place {
            version,
            base: from.path()?,
        }))
    };
    Ok(Controllers::from_places([place()?, place()?, place()?, place()?]))
}

fn read_children(from: &mut Reader<'_>, run_dir: &std::path::Path, written: u16) -> Read<Children> {
    let mut groups = Groups {
        base: from.option(Reader::path)?,
        enabled: from.bool()?,
        tracking: from.text()?,
        counter: from.u64()?,
        controllers: Controllers::none(""),
        untidy: written >= LIMITS,
    };
    let run_id = from.text()?;
    groups.controllers = if written >= LIMITS {
        read_controllers(from)?
    } else {
        Groups::controllers(&run_id, groups.base.as_deref())
    };
    let open_files = from.option(|from| {
        Ok(Limit {
            resource: from.u32()?,
            soft: from.u64()?,
            hard: from.u64()?,
        })
    })?;
    let mut table = Table::default();
    let children = from.list(|from| {
        Ok(Child {
            key: from.text()?,
            pid: read_pid(from)?,
            start_ticks: from.u64()?,
            started_unix_ms: from.u64()?,
            started_mono_ms: from.u64()?,
            group: from.option(Reader::text)?,
            limited: if written >= LIMITS {
                from.option(Reader::text)?
            } else {
                None
            },
            stray: from.option(read_descriptor)?,
        })
    })?;
    table
        .children
        .extend(children.into_iter().map(|child| (child.key.clone(), child)));
    table.remains = from.list(|from| {
        Ok(Remains {
            key: from.text()?,
            leader: from.option(read_pid)?,
            group: from.option(Reader::text)?,
        })
    })?;
    table.last_seq = from.u64()?;
    let exits = from.list(|from| {
        let mut record = read_exit(from)?;
        if written >= LIMITS {
            record.oom_kills = from.u32()?;
        }
        Ok(record)
    })?;
    for record in exits {
        table.restore_exit(record);
    }
    for (key, bytes) in from.list(|from| Ok((from.text()?, from.bytes()?.to_vec())))? {
        // It was within the limits when it was written.
        let _ = table.set_note(key, bytes);
    }
    Ok(Children {
        table,
        groups,
        journal: Journal::resumed(run_dir.join("children")),
        run_id,
        open_files,
        daemon: None,
    })
}

fn write_descriptors<'a>(state: &mut Handover<'a>, descriptors: &'a Descriptors) {
    state.count(descriptors.kept.len());
    for (name, kept) in &descriptors.kept {
        state.out.text(name);
        match kept {
            Kept::Pipe { read, write } => {
                state.out.bool(true);
                state.descriptor(read);
                state.descriptor(write);
            }
            Kept::One(one) => {
                state.out.bool(false);
                state.descriptor(one);
            }
        }
    }
}

fn read_descriptors(from: &mut Reader<'_>) -> Read<Descriptors> {
    let kept = from.list(|from| {
        let name = from.text()?;
        let kept = if from.bool()? {
            Kept::Pipe {
                read: read_descriptor(from)?,
                write: read_descriptor(from)?,
            }
        } else {
            Kept::One(read_descriptor(from)?)
        };
        Ok((name, kept))
    })?;
    Ok(Descriptors {
        kept: kept.into_iter().collect(),
    })
}

fn write_program<'a>(state: &mut Handover<'a>, program: &'a HeldProgram) {
    state.out.os(program.path.as_os_str());
    state.optional(program.file.as_ref());
}

fn read_program(from: &mut Reader<'_>) -> Read<HeldProgram> {
    Ok(HeldProgram {
        path: from.path()?,
        file: from.option(read_descriptor)?,
    })
}

fn write_daemon<'a>(state: &mut Handover<'a>, daemon: &'a DaemonLink) {
    state.out.os(daemon.command.program.as_os_str());
    state
        .out
        .list(&daemon.command.argv, |out, argument| out.os(argument));
    state.pairs(&daemon.command.env);
    write_program(state, &daemon.program);
    state.out.u64(daemon.backoff_ms);
    state.out.u32(daemon.unready_ends);
    state.out.option(daemon.outcome.as_deref(), Writer::text);
    match &daemon.upgrade {
        None => state.out.u8(0),
        Some(Upgrade::Retiring { new }) => {
            state.out.u8(1);
            state.out.os(new.as_os_str());
        }
        Some(Upgrade::Trial { old }) => {
            state.out.u8(2);
            write_program(state, old);
        }
    }
    match &daemon.state {
        State::Gone => state.out.u8(0),
        State::Absent { start_at_ms } => {
            state.out.u8(1);
            state.out.u64(*start_at_ms);
        }
        State::Alive(alive) => {
            state.out.u8(2);
            write_alive(state, alive);
        }
    }
}

fn read_daemon(
    from: &mut Reader<'_>,
    times: Times,
    run_dir: &std::path::Path,
    written: u16,
) -> Read<DaemonLink> {
    let command = DaemonCommand {
        program: from.path()?,
        argv: from.list(Reader::os)?,
        env: read_pairs(from)?,
    };
    let program = read_program(from)?;
    let backoff_ms = from.u64()?;
    let unready_ends = from.u32()?;
    let outcome = from.option(Reader::text)?;
    let upgrade = match from.u8()? {
        0 => None,
        1 => Some(Upgrade::Retiring {
            new: PathBuf::from(from.os()?),
        }),
        2 => Some(Upgrade::Trial {
            old: read_program(from)?,
        }),
        _ => return from.fail("an unknown state of an upgrade"),
    };
    let state = match from.u8()? {
        0 => State::Gone,
        1 => State::Absent {
            start_at_ms: from.u64()?,
        },
        2 => State::Alive(Box::new(read_alive(from, written)?)),
        _ => return from.fail("an unknown state of the daemon"),
    };
    let fresh = DaemonLink::new(command, times, run_dir);
    Ok(DaemonLink {
        program,
        state,
        backoff_ms,
        unready_ends,
        upgrade,
        outcome,
        ..fresh
    })
}

fn write_alive<'a>(state: &mut Handover<'a>, alive: &'a Alive) {
    state.out.i32(alive.pid.raw());
    state.optional(alive.socket.as_ref());
    for flag in [alive.greeted, alive.ready, alive.leaving] {
        state.out.bool(flag);
    }
    state.out.u16(alive.version);
    state.out.u64(alive.started_ms);
    state.out.option(alive.kill_at_ms, Writer::u64);
    state.out.u64(alive.told_seq);
    state.out.bytes(alive.inbox.unread());
    state.count(alive.inbox.passed.len());
    for passed in &alive.inbox.passed {
        state.optional(passed.as_ref());
    }
    let (bytes, descriptors) = alive.outbox.waiting();
    state.out.bytes(bytes);
    state.count(descriptors.len());
    for (at, descriptor) in descriptors {
        state.out.u64(u64::try_from(at).unwrap_or(u64::MAX));
        state.descriptor(descriptor);
    }
}

fn read_alive(from: &mut Reader<'_>, written: u16) -> Read<Alive> {
    let pid = read_pid(from)?;
    let socket = from.option(read_descriptor)?;
    let (greeted, ready, leaving) = (from.bool()?, from.bool()?, from.bool()?);
    let version = if written >= LIMITS { from.u16()? } else { OLDEST };
    let started_ms = from.u64()?;
    let kill_at_ms = from.option(Reader::u64)?;
    let told_seq = from.u64()?;
    let unread = from.bytes()?.to_vec();
    let passed: VecDeque<Passed> = from.list(|from| from.option(read_descriptor))?.into();
    let unsent = from.bytes()?.to_vec();
    let descriptors: VecDeque<(usize, OwnedFd)> = from
        .list(|from| {
            Ok((
                usize::try_from(from.u64()?).unwrap_or(usize::MAX),
                read_descriptor(from)?,
            ))
        })?
        .into();
    Ok(Alive {
        pid,
        socket,
        inbox: Inbox::resumed(unread, passed),
        outbox: Outbox::resumed(unsent, descriptors),
        greeted,
        version,
        ready,
        leaving,
        started_ms,
        kill_at_ms,
        told_seq,
    })
}
