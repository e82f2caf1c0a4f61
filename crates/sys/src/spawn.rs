//! Starting a process with everything that belongs to it.
//!
//! The caller describes the child in a [`Launch`]; everything that needs memory is prepared before the fork. Between
//! fork and exec the child makes kernel calls only, in this order: cgroups, session, descriptors, dispositions, limits,
//! file mask, `oom_score_adj`, namespaces and mounts, bounding set, groups, gid, uid, working directory, capabilities,
//! parent-death signal, no_new_privs, signal mask, landlock, seccomp, exec ([`crate::cage`] says why in this order).
//! What fails there comes back over a pipe that the exec closes: silence means success, anything else names the step
//! and the errno.
//!
//! The child is made by a plain `clone3` (no shared memory): what is forked is the small keeper, and a child that
//! shared its parent's memory could harm it.

use std::{
    cell::Cell,
    collections::BTreeSet,
    ffi::{CString, OsStr, OsString},
    fmt,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use crate::{
    cage::{self, Cage},
    call::CallError,
    descriptor,
    pid::Pid,
    pipe, poll,
    rlimit::Limit,
    signal, wait,
};

mod child;

/// A variable with this value gets the child's own process id, in decimal: `LISTEN_PID` of socket activation
/// (sd_listen_fds(3)) and `WATCHDOG_PID` can be known only after the fork. NUL-free, and nothing a user would write.
pub const OWN_PID: &str = "\u{1}pid\u{1}";
/// Room for a process id in decimal, and a NUL.
const PID_ROOM: usize = 12;
/// The highest descriptor number a child may be given.
pub const MAX_DESCRIPTOR: u32 = 1023;
/// How many descriptors a child may be given, standard streams included.
const MAX_DESCRIPTORS: usize = 256;
/// How long an exec may take (a hanging network file system) before it is given up.
const EXEC_DEADLINE_MS: u64 = 3000;
/// Where programs are looked for if the environment has no `PATH`, as execvp(3) does.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What to start.
#[derive(Clone, Copy, Debug, Default)]
pub enum Program<'fd> {
    /// The first argument: a path if it has a `/`, else looked up in the `PATH` of [`Launch::env`].
    #[default]
    FirstArgument,
    /// This path.
    Path(&'fd Path),
    /// This file, whatever its name is by now ([`descriptor::open_path`]). It must not be a script.
    File(BorrowedFd<'fd>),
}

/// A child to be.
#[derive(Debug, Default)]
pub struct Launch<'fd> {
    /// What to execute.
    pub program: Program<'fd>,
    /// Its arguments, its own name first.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory; empty: ours.
    pub cwd: PathBuf,
    /// Its user. Without `groups` it then has no supplementary ones.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// Its supplementary groups.
    pub groups: Option<Vec<u32>>,
    /// Its file mode creation mask.
    pub umask: Option<u32>,
    /// Its limits, where they differ from ours.
    pub limits: Vec<Limit>,
    /// Its descriptors: number in the child, what it is here. 0, 1 and 2 are `/dev/null` unless named.
    pub descriptors: Vec<(u32, BorrowedFd<'fd>)>,
    /// Whether it leads a session (and process group) of its own.
    pub new_session: bool,
    /// Whether set-user-id bits mean nothing to it and its descendants.
    pub no_new_privs: bool,
    /// The signal it gets when we die.
    pub parent_death_signal: Option<i32>,
    /// Its `oom_score_adj`; none: ours. A refusal by the kernel is no error.
    pub oom_score_adj: Option<i16>,
    /// `cgroup.procs` of further groups it joins.
    pub join: Vec<BorrowedFd<'fd>>,
    /// What it is locked into.
    pub cage: Option<&'fd Cage>,
}

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    /// `setsid`.
    Session,
    /// `dup2`: its descriptors.
    Descriptors,
    /// `prlimit`.
    Limits,
    /// Joining its cgroup.
    Cgroup,
    /// `setgroups`.
    Groups,
    /// `setresgid`.
    Group,
    /// `setresuid`.
    User,
    /// `chdir`.
    WorkingDirectory,
    /// `prctl` for the parent-death signal or no_new_privs.
    Flags,
    /// `execve`.
    Exec,
    /// `unshare`.
    Namespaces,
    /// Writing `/proc/self/uid_map` and its like.
    UserMap,
    /// `mount` and its like.
    Mounts,
    /// The loopback interface of its own network.
    Network,
    /// `capset` and its like.
    Capabilities,
    /// `landlock_restrict_self` and its like.
    Landlock,
    /// `prctl` for a filter of system calls.
    Filter,
}

impl Step {
    const ALL: [Self; 17] = [
        Self::Session,
        Self::Descriptors,
        Self::Limits,
        Self::Cgroup,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::WorkingDirectory,
        Self::Flags,
        Self::Exec,
        Self::Namespaces,
        Self::UserMap,
        Self::Mounts,
        Self::Network,
        Self::Capabilities,
        Self::Landlock,
        Self::Filter,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "start a session for",
            Self::Descriptors => "set up the descriptors of",
            Self::Limits => "set the resource limits of",
            Self::Cgroup => "join the cgroup of",
            Self::Groups => "set the supplementary groups of",
            Self::Group => "become the group of",
            Self::User => "become the user of",
            Self::WorkingDirectory => "change to the working directory",
            Self::Flags => "set the process flags of",
            Self::Exec => "execute",
            Self::Namespaces => "make the namespaces of",
            Self::UserMap => "map the user of",
            Self::Mounts => "change the mounts of",
            Self::Network => "raise the loopback interface of",
            Self::Capabilities => "drop the capabilities of",
            Self::Landlock => "apply landlock to",
            Self::Filter => "filter the system calls of",
        })
    }
}

/// What the child reports: the step, the errno, and of what there are several, which one (else -1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) errno: i32,
    pub(crate) detail: i32,
}

/// A failed call in the child.
pub(crate) fn check(step: Step, result: i64) -> Result<(), Failure> {
    if result < 0 {
        Err(Failure {
            step,
            errno: last_errno(),
            detail: -1,
        })
    } else {
        Ok(())
    }
}

pub(crate) fn last_errno() -> i32 {
    // JUSTIFICATION: std's way builds an `io::Error`; this one surely asks for no memory.
    // SAFETY: libc's errno is always there.
    unsafe { *libc::__errno_location() }
}

/// A child that did not come to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// It cannot be described to the kernel.
    #[error("failed to prepare `{target}`: {what}")]
    Invalid {
        /// The program.
        target: String,
        /// What is wrong.
        what: &'static str,
    },
    /// It failed before there was a child.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The child could not become the program.
    #[error("failed to {step} `{target}`: {}", std::io::Error::from_raw_os_error(*errno))]
    Child {
        /// What it was doing.
        step: Step,
        /// To what.
        target: String,
        /// What the kernel said.
        errno: i32,
    },
    /// The exec did not return in time; the child has been killed.
    #[error("failed to execute `{target}` within {EXEC_DEADLINE_MS} ms")]
    TimedOut {
        /// The program.
        target: String,
    },
}

impl SpawnError {
    /// What the kernel said.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Invalid { .. } => libc::EINVAL,
            Self::Call(error) => error.errno,
            Self::Child { errno, .. } => *errno,
            Self::TimedOut { .. } => libc::ETIMEDOUT,
        }
    }

    /// Whether a cgroup is to blame: the same child may well start without one.
    pub fn is_cgroup(&self) -> bool {
        match self {
            Self::Child {
                step: Step::Cgroup, ..
            } => true,
            // A want of memory or processes may pass, and says nothing about groups.
            Self::Call(error) => {
                error.call == CLONE_INTO_CGROUP && ![libc::EAGAIN, libc::ENOMEM].contains(&error.errno)
            }
            _ => false,
        }
    }
}

/// The call that [`SpawnError::is_cgroup`] recognises.
const CLONE_INTO_CGROUP: &str = "clone3 into the cgroup of";

/// Starts a process and returns once it has become its program. The caller reaps it ([`wait`]).
///
/// In a process with several threads this is sound too; a descriptor that another thread opens without CLOEXEC
/// during the call is closed in the child by `close_range`.
///
/// `cgroup`: the directory of the group it starts in.
pub fn spawn(launch: &Launch<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<Pid, SpawnError> {
    let target = launch
        .argv
        .first()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let prepared = Prepared::new(launch, &target)?;
    let report = pipe::make()?;
    let pid = prepared.start(launch, cgroup, &report.write, &target)?;
    drop(report.write);
    await_exec(pid, &report.read, launch, &prepared, target)
}

fn await_exec(
    pid: Pid,
    report: &OwnedFd,
    launch: &Launch<'_>,
    prepared: &Prepared,
    target: String,
) -> Result<Pid, SpawnError> {
    if !poll::readable_within(report, EXEC_DEADLINE_MS)? {
        // It may sit in an uninterruptible call: the signal is pending then, and whoever reaps sees the end.
        let _ = signal::send(pid, signal::number::KILL);
        return Err(SpawnError::TimedOut { target });
    }
    let mut record = [0_u8; child::RECORD];
    let count = descriptor::read(report, &mut record)
        .map_err(|error| CallError::from_io("read the report of", &target, &error))?;
    if count == 0 {
        return Ok(pid);
    }
    wait::wait_for(pid)?;
    let [step, errno, detail] = child::decode(record);
    let step = usize::try_from(step)
        .ok()
        .and_then(|index| Step::ALL.get(index))
        .unwrap_or(&Step::Exec);
    let target = match step {
        Step::WorkingDirectory => launch.cwd.display().to_string(),
        Step::Mounts => {
            let place = usize::try_from(detail)
                .ok()
                .and_then(|index| prepared.cage.as_ref()?.target(index));
            match place {
                Some(place) => format!("{target}` at `{place}"),
                None => target,
            }
        }
        _ => target,
    };
    Err(SpawnError::Child {
        step: *step,
        target,
        errno,
    })
}

/// A [`Launch`] in the shape the kernel takes, with no memory left to ask for.
struct Prepared {
    /// What to try, in order.
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Variables that tell the child its own pid: where the digits go, and the bytes with room for them.
    pids: Vec<(usize, Vec<Cell<u8>>)>,
    cwd: Option<CString>,
    groups: Option<Vec<u32>>,
    descriptors: Vec<(RawFd, RawFd)>,
    oom_score_adj: Option<String>,
    cage: Option<cage::Prepared>,
    /// Keeps what fills the standard streams open.
    _null: OwnedFd,
}

impl Prepared {
    fn new(launch: &Launch<'_>, target: &str) -> Result<Self, SpawnError> {
        let invalid = |what| SpawnError::Invalid {
            target: target.to_owned(),
            what,
        };
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| invalid("a text contains a NUL byte"));
        let program = launch
            .argv
            .first()
            .ok_or_else(|| invalid("no program is named"))?;
        let argv = launch
            .argv
            .iter()
            .map(|argument| text(argument.as_bytes().to_vec()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut env = Vec::with_capacity(launch.env.len());
        let mut pids = Vec::new();
        for (name, value) in &launch.env {
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(invalid("the name of a variable is empty or contains `=`"));
            }
            if value.as_bytes() == OWN_PID.as_bytes() {
                let start = [name.as_bytes(), b"="].concat();
                if start.contains(&0) {
                    return Err(invalid("a text contains a NUL byte"));
                }
                let room = start
                    .iter()
                    .copied()
                    .chain([0; PID_ROOM])
                    .map(Cell::new)
                    .collect();
                pids.push((start.len(), room));
                continue;
            }
            env.push(text([name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        let candidates = match launch.program {
            Program::File(file) => vec![text(format!("/proc/self/fd/{}", file.as_raw_fd()).into())?],
            Program::Path(path) => vec![text(path.as_os_str().as_bytes().to_vec())?],
            Program::FirstArgument => candidates(program, &launch.env)
                .into_iter()
                .map(|path| text(path.into_vec()))
                .collect::<Result<_, _>>()?,
        };
        let cwd = match launch.cwd.as_os_str() {
            empty if empty.is_empty() => None,
            path => Some(text(path.as_bytes().to_vec())?),
        };
        let null = descriptor::open_null()?;
        let descriptors = descriptor_map(launch, &null).map_err(invalid)?;
        let privileged = rustix::process::geteuid().is_root();
        let groups = launch
            .groups
            .clone()
            .or_else(|| (launch.uid.is_some() && privileged).then(Vec::new));
        let oom_score_adj = launch.oom_score_adj.map(|adj| adj.to_string());
        let uid = launch.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        let gid = launch.gid.unwrap_or_else(|| rustix::process::getegid().as_raw());
        let cage = launch
            .cage
            .map(|cage| cage::Prepared::new(cage, uid, gid))
            .transpose()
            .map_err(invalid)?;
        Ok(Self {
            candidates,
            argv,
            env,
            pids,
            cwd,
            groups,
            descriptors,
            oom_score_adj,
            cage,
            _null: null,
        })
    }

    /// Forks; the child goes its way.
    fn start(
        &self,
        launch: &Launch<'_>,
        cgroup: Option<BorrowedFd<'_>>,
        report: &OwnedFd,
        target: &str,
    ) -> Result<Pid, SpawnError> {
        let plan = child::Plan::new(self, launch, report);
        let blocked = signal::AllBlocked::new();
        let result = match plan.clone_into(cgroup) {
            Err(libc::ENOSYS | libc::EPERM | libc::E2BIG | libc::EINVAL) => plan.fork(cgroup),
            result => result,
        };
        drop(blocked);
        result.map_err(|errno| {
            let call = if cgroup.is_some() {
                CLONE_INTO_CGROUP
            } else {
                "fork for"
            };
            CallError {
                call,
                target: target.to_owned(),
                errno,
            }
            .into()
        })
    }
}

/// All the child's descriptors, standard streams included, as numbers.
fn descriptor_map(launch: &Launch<'_>, null: &OwnedFd) -> Result<Vec<(RawFd, RawFd)>, &'static str> {
    let mut seen = BTreeSet::new();
    let mut map = Vec::with_capacity(launch.descriptors.len() + 3);
    for (number, source) in &launch.descriptors {
        if *number > MAX_DESCRIPTOR {
            return Err("a descriptor number is too high");
        }
        if !seen.insert(*number) {
            return Err("a descriptor number is given twice");
        }
        map.push((number.cast_signed(), source.as_raw_fd()));
    }
    for standard in 0..3 {
        if !seen.contains(&standard) {
            map.push((standard.cast_signed(), null.as_fd().as_raw_fd()));
        }
    }
    if map.len() > MAX_DESCRIPTORS {
        return Err("too many descriptors");
    }
    Ok(map)
}

/// The paths execvp(3) would try.
fn candidates(program: &OsStr, env: &[(OsString, OsString)]) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = env
        .iter()
        .rev()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| value.as_os_str());
    path.unwrap_or_else(|| OsStr::new(DEFAULT_PATH))
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(|folder| {
            let folder = if folder.is_empty() { b"." } else { folder };
            OsString::from_vec([folder, b"/", program.as_bytes()].concat())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_up_in_the_childs_path() {
        let env = [(OsString::from("PATH"), OsString::from("/a::bin"))];
        assert_eq!(candidates(OsStr::new("x"), &env), ["/a/x", "./x", "bin/x"]);
        assert_eq!(candidates(OsStr::new("./x"), &env), ["./x"]);
        assert_eq!(candidates(OsStr::new("x"), &[]).len(), 3);
    }
}
