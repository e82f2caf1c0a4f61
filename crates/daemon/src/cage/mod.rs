//! What a sandbox level means, and how exposed an app is.
//!
//! An app asks for a level ([`Level`]) and for what differs from it. [`dress`] turns that into the numbers and paths of a
//! [`Cage`], which the keeper carries out without knowing why. Each level includes those before it:
//!
//! | level | the app |
//! |---|---|
//! | `light` | gains no privileges; has a `/tmp` of its own; loses the capabilities that change the machine; cannot turn the kernel's knobs in `/proc` and `/sys` |
//! | `standard` | writes only to its directory and to `write:`; does not see the homes of others, `/run` and what is Upkeep's own; has a `/dev` of its own; sees in `/proc` only what it may trace; cannot make namespaces or call what [`filter`] refuses |
//! | `strict` | writes only to `write:`; sees no home; reads only what a list allows (landlock); has no capability and no network but sockets handed over by `listen`; makes only calls of a list; is limited in memory, tasks and the size of files |
//!
//! What the kernel cannot do for this user is an error before anything is started: a level that is asked for is had in
//! full or not at all. Landlock is asked for at `strict` only; at `standard` a domain of it (nobody outside can be traced)
//! and its scopes (signals, abstract sockets) are taken where they are there.
//!
//! [`exposure`] looks at what holds for the running process, not at what was asked for.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use upkeep_keeper::protocol::{CAGES, Cage, Kept, Landlock, Limits, Mounts, Request, SpawnSpec, Temporary};
use upkeep_model::{
    app::AppSpec,
    sandbox::{Level, Sandbox, leads_out, runs_outside},
};
use upkeep_sys::cage::{Ability, ability};

use crate::keeper_link::KeeperLink;

pub(crate) mod exposure;
mod filter;
pub(crate) mod force;

/// Why an app cannot be started as it asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CageError {
    /// The kernel, or the rights we have, lack something.
    #[error("failed to prepare sandbox `{level}`: {why}")]
    Unable { level: &'static str, why: String },
    /// A path that is to stay does not exist.
    #[error("failed to prepare sandbox `{level}`: `{}` of `sandbox.{key}` does not exist", path.display())]
    NoSuchPath {
        level: &'static str,
        key: &'static str,
        path: PathBuf,
    },
    /// A path leads, by a link the app may have made itself, to where nobody meant it to.
    #[error(
        "failed to prepare sandbox `{level}`: `{}` of `sandbox.{key}` leads to `{}`, out of what the app can write",
        path.display(),
        to.display()
    )]
    LeadsOut {
        level: &'static str,
        key: &'static str,
        path: PathBuf,
        to: PathBuf,
    },
    /// A command of the app would run beside the cage.
    #[error(
        "failed to prepare sandbox `{level}`: the command of `{key}` would run outside it, where the app may have replaced it"
    )]
    Outside { level: &'static str, key: &'static str },
    /// A socket is a way out of a network of its own.
    #[error(
        "failed to prepare sandbox `{level}`: by the socket `udp:{address}` of `listen` anybody can be called; say `network: true`, or leave it out"
    )]
    CallsOut {
        level: &'static str,
        address: std::net::SocketAddr,
    },
    /// The keeper is from before there were cages.
    #[error(
        "failed to limit or cage the app: the keeper that runs is older (protocol {found}); `upkeep upgrade` replaces it"
    )]
    OldKeeper { found: u16 },
}

/// What is ours and no app's business: home and run directory.
static OWN_PLACES: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Says once what belongs to Upkeep itself.
pub(crate) fn protect(places: Vec<PathBuf>) {
    // The first one counts: there is one daemon in a process.
    let _ = OWN_PLACES.set(places);
}

/// Where an app is given a notify socket as a file; `None`: an abstract name reaches it.
pub(crate) fn notify_file(sandbox: &Sandbox, key: &str) -> Option<PathBuf> {
    let own_network = !sandbox.network.unwrap_or(sandbox.level != Level::Strict);
    let reached = sandbox.level == Level::None || (sandbox.level == Level::Light && !own_network);
    (!reached).then(|| notify_path(key))
}

/// The file of such a socket (FNV-1a of the key: a path of a socket is short).
pub(crate) fn notify_path(key: &str) -> PathBuf {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    let run = OWN_PLACES.get().and_then(|places| places.last().cloned());
    run.unwrap_or_default().join(format!("notify-{hash:016x}"))
}

/// A level's name, as it is written.
pub(crate) const fn name(level: Level) -> &'static str {
    match level {
        Level::None => "none",
        Level::Light => "light",
        Level::Standard => "standard",
        Level::Strict => "strict",
    }
}

/// Capabilities of Linux by number (capabilities(7)).
mod capability {
    pub(super) const CHOWN: u64 = 1;
    pub(super) const DAC_OVERRIDE: u64 = 1 << 1;
    pub(super) const FOWNER: u64 = 1 << 3;
    pub(super) const FSETID: u64 = 1 << 4;
    pub(super) const KILL: u64 = 1 << 5;
    pub(super) const SETGID: u64 = 1 << 6;
    pub(super) const SETUID: u64 = 1 << 7;
    pub(super) const NET_BIND_SERVICE: u64 = 1 << 10;
    pub(super) const IPC_LOCK: u64 = 1 << 14;
    pub(super) const SYS_CHROOT: u64 = 1 << 18;
    pub(super) const SYS_NICE: u64 = 1 << 23;
    pub(super) const SYS_RESOURCE: u64 = 1 << 24;
    /// What a server that begins as root and then becomes somebody else needs.
    pub(super) const SERVER: u64 =
        CHOWN | DAC_OVERRIDE | FOWNER | FSETID | KILL | SETGID | SETUID | NET_BIND_SERVICE;
    /// The same, and what harms nobody but oneself.
    pub(super) const HARMLESS: u64 = SERVER | IPC_LOCK | SYS_CHROOT | SYS_NICE | SYS_RESOURCE;
}

/// What may be kept of the capabilities at a level.
const fn capabilities(level: Level) -> Option<u64> {
    match level {
        Level::None => None,
        Level::Light => Some(capability::HARMLESS),
        Level::Standard => Some(capability::SERVER & !capability::KILL),
        Level::Strict => Some(0),
    }
}

/// Where the kernel's knobs are, and what else in there only root needs.
const KNOBS: [&str; 8] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
    "/proc/acpi",
    "/proc/scsi",
    "/sys",
];
/// What tells secrets of the kernel or of others.
const SECRETS: [&str; 7] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/latency_stats",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/firmware",
];
/// Passwords and keys of the machine, and directories of sockets that are doors to it.
const PRIVATE: [&str; 11] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/var/spool/cron",
    "/var/lib/docker",
    "/boot",
    "/run",
];
/// Of `/run`, what a resolver of names needs.
const RESOLVERS: [&str; 3] = ["/run/systemd/resolve", "/run/resolvconf", "/run/nscd"];
/// A working directory that is one of these says nothing about what the app wants to write.
const BROAD: [&str; 22] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/mnt",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
    "/var/tmp",
];
/// What `strict` may read: programs and libraries, configuration, what tells of the machine.
const READABLE: [&str; 11] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/proc", "/sys",
];

/// Where `strict` hides from root what not everybody may read, and how deep it looks; what lies deeper is hidden whole.
const KEYS: [&str; 2] = ["/etc", "/usr/local/etc"];
const KEYS_DEPTH: usize = 16;

/// `RLIMIT_FSIZE` and `RLIMIT_CORE` of Linux.
const FILE_SIZE: u32 = 1;
const CORE: u32 = 4;
/// Defaults of `strict`.
const STRICT_MEMORY: u64 = 512 << 20;
const STRICT_TASKS: u64 = 128;
const STRICT_FILE: u64 = 1 << 30;
const STRICT_TMP: u64 = 64 << 20;
/// Size of `/tmp` at the other levels.
const TMP: u64 = 256 << 20;

/// `LANDLOCK_ACCESS_FS_*`, in groups.
mod access {
    pub(super) const EXECUTE: u64 = 1;
    pub(super) const READ: u64 = 1 << 2 | 1 << 3;
    /// Files and directories of every harmless kind: made, changed, moved, removed, but no devices.
    pub(super) const WRITE: u64 =
        1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 14;
    /// Devices of blocks: what nobody in a cage can make anyway.
    pub(super) const MAKE_BLOCK: u64 = 1 << 11;
    /// Links and moves from one directory to another.
    pub(super) const REFER: u64 = 1 << 13;
    /// `ioctl` on devices.
    pub(super) const DEVICES: u64 = 1 << 15;
    /// All of what the newest version knows.
    pub(super) const ALL: u64 = (1 << 16) - 1;
}

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`.
const SCOPES: u64 = 3;

/// `LANDLOCK_ACCESS_NET_CONNECT_TCP`.
const CONNECT_TCP: u64 = 2;

/// What an instance may use: as it asked, and what `strict` limits by itself.
pub(crate) fn limits(spec: &AppSpec) -> Limits {
    let asked = &spec.limits;
    let strict = |value: u64| (spec.sandbox.level == Level::Strict).then_some(value);
    Limits {
        memory: asked
            .memory
            .map(|size| size.as_bytes())
            .or_else(|| strict(STRICT_MEMORY)),
        memory_high: asked.memory_high.map(|size| size.as_bytes()),
        cpu_milli: asked.cpu_milli.map(u64::from),
        tasks: asked.tasks.map(u64::from).or_else(|| strict(STRICT_TASKS)),
        io_read: asked.io_read.map(|size| size.as_bytes()),
        io_write: asked.io_write.map(|size| size.as_bytes()),
    }
}

/// Adds limits and cage to what the keeper is asked to start. `spec` is what was asked for; the user, the environment
/// and the directory are in `launched` already.
pub(crate) fn dress(spec: &AppSpec, launched: &mut SpawnSpec) -> Result<(), CageError> {
    launched.limits = limits(spec);
    launched.oom_score_adj = spec.limits.oom_score;
    let level = spec.sandbox.level;
    if level == Level::None {
        return Ok(());
    }
    if let Some(key) = runs_outside(spec) {
        return Err(CageError::Outside {
            level: name(level),
            key,
        });
    }
    if let Some(address) = leads_out(spec) {
        return Err(CageError::CallsOut {
            level: name(level),
            address,
        });
    }
    let mut tailor = Tailor::new(&spec.sandbox, launched)?;
    tailor.handed = spec.listen.iter().any(|listen| listen.on.tcp_port().is_some());
    tailor.mounts()?;
    let cage = tailor.finish()?;
    launched.no_new_privs = true;
    launched.cage = Some(Box::new(cage));
    let mut limit = |resource: u32, value: u64| {
        if !launched.rlimits.iter().any(|(known, ..)| *known == resource) {
            launched.rlimits.push((resource, value, value));
        }
    };
    if level >= Level::Standard {
        limit(CORE, 0);
    }
    if level == Level::Strict {
        limit(FILE_SIZE, STRICT_FILE);
    }
    Ok(())
}

/// Whether the keeper that runs can carry it out.
pub(crate) fn check_keeper(launched: &SpawnSpec, protocol: u16) -> Result<(), CageError> {
    if launched.is_plain() || protocol >= CAGES {
        Ok(())
    } else {
        Err(CageError::OldKeeper { found: protocol })
    }
}

/// Changes what a tree that runs may use.
pub(crate) fn change_limits(link: &KeeperLink, key: String, limits: Limits) {
    // An older keeper has no groups either.
    if link.protocol() >= CAGES {
        link.order(|id| Request::SetLimits { id, key, limits });
    }
}

/// One cage in the making.
struct Tailor<'a> {
    sandbox: &'a Sandbox,
    launched: &'a SpawnSpec,
    ability: &'a Ability,
    /// Whether everything is made inside a user namespace.
    user: bool,
    mounts: Mounts,
    /// What landlock allows besides [`READABLE`].
    rules: Vec<(PathBuf, u64)>,
    /// Whether it is handed sockets of TCP.
    handed: bool,
}

impl<'a> Tailor<'a> {
    fn new(sandbox: &'a Sandbox, launched: &'a SpawnSpec) -> Result<Self, CageError> {
        let ability = ability();
        let unable = |why: &str| CageError::Unable {
            level: name(sandbox.level),
            why: why.to_owned(),
        };
        if !ability.namespaces && !ability.user_namespaces {
            return Err(unable(&format!(
                "the kernel gives us no namespaces (errno {}); run Upkeep as root, or allow user namespaces \
                 (sysctl `user.max_user_namespaces`, `kernel.unprivileged_userns_clone`, \
                 `kernel.apparmor_restrict_unprivileged_userns`)",
                ability.errno
            )));
        }
        if !ability.read_only_trees {
            return Err(unable("the kernel cannot make trees read-only (Linux 5.12 can)"));
        }
        if sandbox.level >= Level::Standard && !ability.seccomp {
            return Err(unable("the kernel has no filter of system calls (seccomp)"));
        }
        if sandbox.level == Level::Strict && ability.landlock == 0 {
            return Err(unable(
                "the kernel has no landlock (Linux 5.13 has, where `lsm=` names it); `standard` needs none",
            ));
        }
        Ok(Self {
            sandbox,
            launched,
            ability,
            user: !ability.namespaces,
            mounts: Mounts::default(),
            rules: Vec::new(),
            handed: false,
        })
    }

    fn level(&self) -> Level {
        self.sandbox.level
    }

    fn strict(&self) -> bool {
        self.level() == Level::Strict
    }

    fn mounts(&mut self) -> Result<(), CageError> {
        let standard = self.level() >= Level::Standard;
        self.mounts.read_only = standard;
        self.mounts.own_devices = standard;
        self.mounts.own_proc = standard && !self.user && self.ability.own_proc;
        self.mounts.frozen = KNOBS.map(PathBuf::from).to_vec();
        self.mounts.hidden = SECRETS.map(PathBuf::from).to_vec();
        let usual = if self.strict() { STRICT_TMP } else { TMP };
        let size = self.sandbox.tmp.map_or(usual, |size| size.as_bytes());
        self.mounts.temporary = vec![Temporary {
            path: PathBuf::from("/tmp"),
            size,
            mode: 0o1777,
        }];
        // One and the same: the size holds for both together.
        if real(Path::new("/var/tmp")).is_some_and(|path| path == Path::new("/var/tmp")) {
            self.mounts.same = vec![("/tmp".into(), "/var/tmp".into())];
        }
        if standard {
            self.mounts.hidden.extend(PRIVATE.map(PathBuf::from));
            self.hide_homes();
            self.mounts
                .hidden
                .extend(OWN_PLACES.get().cloned().unwrap_or_default());
        }
        if self.strict() {
            self.hide_keys();
        }
        self.keep_what_is_needed();
        self.keep_what_is_asked_for()
    }

    /// Homes of people, those that come later too. The app's own stays; `strict` hides that as well.
    fn hide_homes(&mut self) {
        let own = self
            .launched
            .env
            .iter()
            .find(|(name, _)| name == "HOME")
            .map(|(_, home)| PathBuf::from(home))
            .and_then(|home| Some((real(&home)?, home)))
            .filter(|_| !self.strict());
        let root = Path::new("/root");
        if own.as_ref().is_none_or(|(own, _)| own != root) {
            self.mounts.hidden.push(root.to_owned());
        }
        let Some(homes) = real(Path::new("/home")) else {
            return;
        };
        if let Some((own, named)) = own
            && own != homes
            && own.starts_with(&homes)
            && own.is_dir()
            && !self.leads_out(&named, &own)
        {
            self.keep(own, false, 0);
        }
        self.mounts.hidden.push(homes);
    }

    /// What of the configuration of the machine not everybody may read: keys of ssh, of certificates, of tunnels. A
    /// program of root owns them, capabilities or not. `read:` gives one back.
    fn hide_keys(&mut self) {
        if self.launched.uid.unwrap_or_else(upkeep_host::home::uid) == 0 {
            for place in KEYS {
                private_below(Path::new(place), KEYS_DEPTH, &mut self.mounts.hidden);
            }
        }
    }

    /// What it cannot do without, where hiding would take it away: its directory, its program, names of hosts, and
    /// the socket it tells us its state by.
    fn keep_what_is_needed(&mut self) {
        if let Some(cwd) = real(&self.launched.cwd)
            && !BROAD.iter().any(|broad| cwd == Path::new(broad))
        {
            let writable = !self.strict();
            self.keep(cwd, writable, access::EXECUTE | access::READ);
        }
        if let Some(program) = self.program() {
            self.keep(program, false, access::EXECUTE | access::READ);
        }
        if self.level() >= Level::Standard {
            for path in RESOLVERS {
                if let Some(path) = real(Path::new(path)) {
                    self.keep(path, false, access::READ);
                }
            }
        }
        // What Upkeep wrote for the app to load (a preload of Node) is among its own things.
        for path in self.scripts_of_ours() {
            self.keep(path, false, access::READ);
        }
        let notify = self
            .launched
            .env
            .iter()
            .find(|(name, _)| name == "NOTIFY_SOCKET")
            .and_then(|(_, path)| real(Path::new(path)));
        if let Some(socket) = notify {
            self.keep(socket, true, 0);
        }
    }

    /// Scripts below our own places that the command line or a variable names.
    fn scripts_of_ours(&self) -> Vec<PathBuf> {
        let ours = OWN_PLACES.get().map(Vec::as_slice).unwrap_or_default();
        let values = self.launched.env.iter().map(|(_, value)| value);
        let texts = self.launched.argv.iter().chain(values);
        let words = texts.filter_map(|text| text.to_str()).flat_map(|text| {
            // A path with a space in it stands in quotes, or is a word by itself.
            let words = text.split([' ', '=']).chain(text.split('"')).chain([text]);
            words.map(|word| word.strip_prefix("file://").unwrap_or(word))
        });
        let mut found: Vec<PathBuf> = words
            .filter(|word| word.starts_with('/'))
            .map(Path::new)
            .filter(|path| {
                path.extension()
                    .is_some_and(|kind| ["cjs", "mjs", "js"].iter().any(|script| kind == *script))
            })
            .filter(|path| ours.iter().any(|place| path.starts_with(place)))
            .filter_map(real)
            .collect();
        found.dedup();
        found
    }

    fn keep_what_is_asked_for(&mut self) -> Result<(), CageError> {
        for (key, paths, writable, rights) in [
            ("read", &self.sandbox.read, false, access::EXECUTE | access::READ),
            ("write", &self.sandbox.write, true, access::READ | access::WRITE),
        ] {
            for path in paths {
                let Some(to) = real(path) else {
                    return Err(CageError::NoSuchPath {
                        level: name(self.level()),
                        key,
                        path: path.clone(),
                    });
                };
                if self.leads_out(path, &to) {
                    return Err(CageError::LeadsOut {
                        level: name(self.level()),
                        key,
                        path: path.clone(),
                        to,
                    });
                }
                self.keep(to, writable, rights);
            }
        }
        Ok(())
    }

    /// Whether a path begins where the app can write and ends somewhere else: the link may be the app's own work.
    fn leads_out(&self, path: &Path, to: &Path) -> bool {
        let cwd = (!self.strict()).then_some(&self.launched.cwd);
        let mut own = self.sandbox.write.iter().chain(cwd);
        own.any(|place| {
            path != place && path.starts_with(place) && real(place).is_none_or(|place| !to.starts_with(place))
        })
    }

    fn keep(&mut self, path: PathBuf, writable: bool, rights: u64) {
        if path == Path::new("/") {
            // It was asked for by name. Nothing can be put in its place; the rest of the level holds.
            self.mounts.read_only &= !writable;
            self.rules.push((path, rights));
            return;
        }
        if rights != 0 {
            self.rules.push((path.clone(), rights));
        }
        match self.mounts.kept.iter_mut().find(|kept| kept.path == path) {
            Some(kept) => kept.writable |= writable,
            None => self.mounts.kept.push(Kept { path, writable }),
        }
    }

    /// Where the program was installed: its directory, or the one above a `bin`, unless everybody sees that anyway.
    fn program(&self) -> Option<PathBuf> {
        let first = Path::new(self.launched.argv.first()?);
        let found = if first.components().count() > 1 {
            let named = self.launched.cwd.join(first);
            let found = real(&named)?;
            if self.leads_out(&named, &found) {
                // The program itself, and not what lies beside wherever the link leads.
                return Some(found);
            }
            found
        } else {
            let paths = self.launched.env.iter().find(|(name, _)| name == "PATH");
            std::env::split_paths(&paths?.1).find_map(|folder| real(&folder.join(first)))?
        };
        let folder = found.parent()?;
        let prefix = match folder.file_name() {
            Some(name) if name == "bin" => folder.parent()?,
            _ => folder,
        };
        let broad = BROAD.iter().any(|broad| prefix == Path::new(broad));
        // A home as a whole is more than a program; then only the program itself.
        let home = prefix.parent() == Some(Path::new("/home"));
        if broad || home {
            let seen = READABLE.iter().any(|path| found.starts_with(path));
            return (!seen).then_some(found);
        }
        Some(prefix.to_owned())
    }

    fn finish(self) -> Result<Cage, CageError> {
        let (level, strict) = (self.level(), self.strict());
        let standard = level >= Level::Standard;
        let own_network = !self.sandbox.network.unwrap_or(!strict);
        let filters = if standard {
            filter::programs(strict, own_network, &self.sandbox.allow).map_err(|why| CageError::Unable {
                level: name(level),
                why,
            })?
        } else {
            Vec::new()
        };
        let mut landlock = if strict {
            Some(self.landlock())
        } else {
            standard.then(|| self.fence()).flatten()
        };
        // What was handed over belongs to the network outside: a socket that stops listening could call from there.
        if own_network && self.handed && self.ability.landlock >= 4 {
            landlock.get_or_insert_default().network = CONNECT_TCP;
        }
        Ok(Cage {
            user: self.user,
            mount: true,
            network: own_network,
            ipc: standard,
            uts: standard,
            capabilities: capabilities(level),
            landlock,
            filters,
            mounts: self.mounts,
        })
    }

    /// For `standard`: a domain of landlock that forbids nothing by itself. Whoever is in one can trace nobody outside,
    /// nor go through `/proc/PID/root` of a process of its user, and cannot signal them where there are scopes.
    fn fence(&self) -> Option<Landlock> {
        match self.ability.landlock {
            0 => None,
            6.. => Some(Landlock {
                scoped: SCOPES,
                ..Landlock::default()
            }),
            // An empty set is refused, and whoever has one on files cannot mount.
            _ if self.sandbox.allow.iter().any(|group| group == "mount") => None,
            _ => Some(Landlock {
                handled: access::REFER | access::MAKE_BLOCK,
                rules: vec![("/".into(), access::REFER | access::MAKE_BLOCK)],
                ..Landlock::default()
            }),
        }
    }

    fn landlock(&self) -> Landlock {
        let mut rules: Vec<(PathBuf, u64)> = READABLE
            .iter()
            .map(|path| (PathBuf::from(path), access::EXECUTE | access::READ))
            .collect();
        for path in ["/tmp", "/var/tmp", "/dev/shm"] {
            rules.push((path.into(), access::READ | access::WRITE));
        }
        rules.push(("/dev".into(), access::READ | 1 << 1 | access::DEVICES));
        // Its own only: those of others are behind the landlock too.
        rules.push(("/proc".into(), access::READ | 1 << 1));
        rules.extend(self.rules.iter().cloned());
        Landlock {
            handled: access::ALL,
            network: 0,
            scoped: SCOPES,
            rules,
        }
    }
}

/// What lies below a directory and not everybody may read. A directory that not everybody may enter is one.
fn private_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        // Of the entry itself: what a link leads to is looked at where it is.
        let Ok(meta) = entry.metadata() else { continue };
        let mode = meta.permissions().mode();
        let (path, kind) = (entry.path(), meta.file_type());
        if kind.is_dir() {
            if mode & 0o001 == 0 || depth == 0 {
                found.push(path);
            } else {
                private_below(&path, depth - 1, found);
            }
        } else if !kind.is_symlink() && mode & 0o004 == 0 {
            found.push(path);
        }
    }
}

/// The one true path of what exists.
fn real(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

#[cfg(test)]
mod tests;
