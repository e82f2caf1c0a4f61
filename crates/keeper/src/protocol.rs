//! What keeper and daemon say to each other: version 2.
//!
//! Version 2 knows limits and cages (`Spawn` with more in it, `SetLimits`), tells kills for want of memory apart, and
//! lets a daemon say Hello again after the keeper has been replaced. What version 1 lacks has kinds of its own on the
//! wire, so that whatever version 1 knows is still said in its words.
//!
//! A frame is `u32` length (little endian, of what follows), `u8` kind, body. Integers are little endian, texts and
//! byte strings are a `u32` length and the bytes, lists a `u32` count and the items, options a `u8` 0 or 1 and the
//! item. A file descriptor travels as SCM_RIGHTS with the first byte of the frame that speaks of it. No frame is
//! longer than [`MAX_FRAME`].
//!
//! Every request with an `id` gets exactly one answer with that `id`: the one named beside it, or
//! [`Event::Refused`]. A refusal is a normal answer and changes nothing.

use std::{ffi::OsString, os::fd::OwnedFd, path::PathBuf};

pub use upkeep_sys::{
    cage::{Cage, Kept, Landlock, Mounts, Temporary},
    cgroup::limit::Limits,
};

/// The protocol's version. A keeper speaks this one and every older one down to [`OLDEST`].
pub const VERSION: u16 = 2;
/// The first version with limits and cages.
pub const CAGES: u16 = 2;
/// The oldest version still spoken.
pub const OLDEST: u16 = 1;
/// The longest frame, in bytes, the length field not counted.
pub const MAX_FRAME: usize = 16 << 20;

/// What the daemon asks of the keeper.
#[derive(Debug)]
pub enum Request {
    /// First message: which protocol versions the daemon speaks. Answer: [`Event::Welcome`] or a refusal, after
    /// which the keeper hangs up. It may be said again (since version 2): the keeper may be another program by now.
    Hello {
        oldest: u16,
        newest: u16,
        program_version: String,
    },
    /// The daemon serves: ends the trial of an upgrade and the daemon's back-off.
    Ready,
    /// Start a process under `key`. Refused if a child with that key lives. Answer: [`Event::Spawned`].
    Spawn {
        id: u64,
        key: String,
        spec: Box<SpawnSpec>,
    },
    /// Send a signal. Refused with [`Refusal::NoSuchKey`] if nothing of that key is alive. Answer: [`Event::Done`]
    /// with the number of processes reached. With [`Scope::Tree`] the key may have exited already: then whatever
    /// its tree left behind is meant.
    Signal {
        id: u64,
        key: String,
        signal: i32,
        scope: Scope,
    },
    /// The exit record `seq` is safe on disk: forget it. No answer.
    AckExit { seq: u64 },
    /// Make a pipe of that name, unless it is there. The keeper keeps both ends. Answer: [`Event::Descriptor`] with
    /// a duplicate of the read end.
    MakePipe { id: u64, name: String },
    /// Bind a listener of that name, unless it is there. Answer: [`Event::Descriptor`].
    Listen {
        id: u64,
        name: String,
        address: ListenAddress,
    },
    /// Keep the descriptor that comes with this message under a name. Answer: [`Event::Done`].
    PutDescriptor {
        id: u64,
        name: String,
        descriptor: OwnedFd,
    },
    /// Answer: [`Event::Descriptor`] with a duplicate (of a pipe: the read end).
    GetDescriptor { id: u64, name: String },
    /// Close what is kept under a name (of a pipe: both ends). Answer: [`Event::Done`].
    CloseDescriptor { id: u64, name: String },
    /// Remember these bytes for the next daemon, until the keeper ends. Empty bytes forget. No answer; a note over
    /// [`MAX_NOTE`] bytes is refused with id 0.
    SetNote { key: String, bytes: Vec<u8> },
    /// From now on the tree of `key` may use this much. Answer: [`Event::Done`] with the number of resources that
    /// have no controller. Refused with [`Refusal::NoSuchKey`] if it was started without limits. Since version 2.
    SetLimits { id: u64, key: String, limits: Limits },
    /// Answer: [`Event::Listing`], after every unacknowledged [`Event::Exited`]: what a list lacks has been told of.
    List { id: u64 },
    /// Replace the daemon by the program at this path. Answer: [`Event::Done`], then [`Event::Retire`]; the daemon
    /// leaves (exits) and the keeper starts the new one, or the old one again if the new one is not ready in time.
    UpgradeDaemon { id: u64, program: PathBuf },
    /// Replace the keeper's own program, in place, children and descriptors kept. Answer: [`Event::Done`] from the
    /// new program, or a refusal from the old one.
    UpgradeKeeper { id: u64, program: PathBuf },
    /// The daemon will exit and shall not be started again; the keeper ends after it, once its children are gone.
    /// Answer: [`Event::Done`].
    Leave { id: u64 },
}

/// The longest note, in bytes.
pub const MAX_NOTE: usize = 256 << 10;

/// What to start and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpawnSpec {
    /// Program and arguments. A program without `/` is looked up in the `PATH` of `env`.
    pub argv: Vec<OsString>,
    /// The whole environment; nothing is inherited. The keeper adds its marker (`UPKEEP_KEEPER`). A variable whose
    /// value is `upkeep_sys::spawn::OWN_PID` gets the child's own process id.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Numeric user, group and supplementary groups; none of them: the keeper's own.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Option<Vec<u32>>,
    pub umask: Option<u32>,
    /// Resource (`RLIMIT_*` number of Linux), soft, hard; `u64::MAX` is unlimited.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// Descriptor number in the child ← name in the keeper's table (of a pipe: its write end). 0 is `/dev/null`
    /// unless named here; 1 and 2 as well.
    pub descriptors: Vec<(u32, String)>,
    /// Put the child in a cgroup of its own where the machine has cgroup v2.
    pub cgroup: bool,
    pub no_new_privs: bool,
    /// What its tree may use. Where there is no controller, memory and (unless it is root) tasks are limited for each
    /// process by itself (`RLIMIT_DATA`, `RLIMIT_NPROC`); the rest is not. Since version 2.
    pub limits: Limits,
    /// What it is locked into. Since version 2.
    pub cage: Option<Box<Cage>>,
    /// Its `oom_score_adj`; none: the keeper's own. Since version 2.
    pub oom_score_adj: Option<i16>,
}

impl SpawnSpec {
    /// Whether a keeper of version 1 can carry it out.
    pub fn is_plain(&self) -> bool {
        self.limits.is_empty() && self.cage.is_none() && self.oom_score_adj.is_none()
    }
}

/// Whom a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The process that was started.
    Leader,
    /// Every process that descends from it: its cgroup, or its session and descendants.
    Tree,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `host:port`, numeric.
    Tcp(std::net::SocketAddr),
    Udp(std::net::SocketAddr),
    /// Path and file mode.
    Unix(PathBuf, u32),
}

/// What the keeper tells the daemon.
#[derive(Debug)]
pub enum Event {
    /// Answer to Hello.
    Welcome {
        version: u16,
        program_version: String,
        pid: u32,
        /// Differs between any two keepers, also across reboots; exit sequence numbers count within it.
        epoch: u64,
        /// How process trees are tracked, as text: `cgroup v2`, `cgroup v2 beside v1`, `none`, …
        tracking: String,
    },
    Refused {
        id: u64,
        refusal: Refusal,
        errno: i32,
        message: String,
    },
    Done {
        id: u64,
        count: u32,
    },
    Spawned {
        id: u64,
        key: String,
        pid: u32,
        start_ticks: u64,
        started_unix_ms: u64,
    },
    Descriptor {
        id: u64,
        name: String,
        descriptor: OwnedFd,
    },
    /// Sent when it happens, and again to every new daemon until acknowledged.
    Exited(ExitRecord),
    Listing {
        id: u64,
        listing: Box<Listing>,
    },
    /// Make room for another daemon: finish answers, close the store, exit with code 0. Applications are none of
    /// your concern.
    Retire,
    /// The keeper was told by this signal to end: stop the applications in order, then Leave.
    Terminate {
        signal: i32,
    },
    /// How the last [`Request::UpgradeDaemon`] went. `ok`: sent to the new daemon once it is ready. Otherwise: sent
    /// after Welcome to every daemon of the old program until one is ready, with the reason.
    UpgradeOutcome {
        ok: bool,
        message: String,
    },
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No version in common.
    Version,
    /// The frame cannot be read.
    Malformed,
    /// A child with that key lives.
    KeyInUse,
    /// Nothing alive has that key.
    NoSuchKey,
    /// No descriptor has that name.
    NoSuchName,
    /// The kernel said no; `errno` says why.
    Kernel,
    /// Over a limit of the protocol.
    TooLarge,
    /// The new program is not fit to take over.
    Unfit,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// Counts up within the keeper's epoch.
    pub seq: u64,
    pub key: String,
    pub pid: u32,
    pub how: Ended,
    pub started_unix_ms: u64,
    pub exited_unix_ms: u64,
    /// CLOCK_MONOTONIC at both moments, ms.
    pub started_mono_ms: u64,
    pub exited_mono_ms: u64,
    pub usage: Usage,
    /// Whether processes of its tree are still alive.
    pub leftovers: bool,
    /// How many processes of its group the kernel killed for want of memory; 0 without limits. Since version 2.
    pub oom_kills: u32,
}

/// The end itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(u8),
    Signal {
        number: u8,
        core: bool,
    },
    /// A stray of an earlier keeper: its status went to somebody else.
    Unknown,
}

/// What it used, with its waited-for children: getrusage(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub user_us: u64,
    pub system_us: u64,
    pub max_rss_kib: u64,
    pub major_faults: u64,
}

/// Everything the keeper holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub children: Vec<ChildEntry>,
    pub descriptors: Vec<String>,
    pub notes: Vec<(String, Vec<u8>)>,
}

/// A living child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildEntry {
    pub key: String,
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: tells two processes of one pid apart.
    pub start_ticks: u64,
    pub started_unix_ms: u64,
    pub started_mono_ms: u64,
    /// True if an earlier keeper, killed since, was its parent: it can be signalled and watched, its exit status
    /// will be unknown and its output goes nowhere.
    pub stray: bool,
}
