//! Starting, signalling and reaping; which processes belong to a key.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use upkeep_sys::{
    CallError, Pid,
    cgroup::{
        self,
        limit::{Controllers, Limits, Made, Resource, Version},
    },
    clock,
    descriptor::Reserve,
    pidfd, process,
    rlimit::{self, Limit},
    signal,
    spawn::{self, Launch, SpawnError},
    tree, user,
    wait::{Reaped, Status},
};

use crate::{
    descriptors::Descriptors,
    journal::Journal,
    protocol::{Ended, Scope, SpawnSpec, Usage},
    table::{Child, Remains, Table},
};

/// The variable every child is born with.
pub(crate) const MARKER: &str = "UPKEEP_KEEPER";
/// Rounds of SIGKILL to a tree that forks faster than it is read.
const KILL_ROUNDS: usize = 16;

/// Where cgroups of children are made.
#[derive(Debug)]
pub(crate) struct Groups {
    /// The keeper's own group of groups; none: no cgroups.
    pub(crate) base: Option<PathBuf>,
    /// Whether new ones are made; off once the kernel has refused to start a child in one.
    pub(crate) enabled: bool,
    /// As told to the daemon.
    pub(crate) tracking: String,
    /// Makes names unique.
    pub(crate) counter: u64,
    /// Where groups with limits are made.
    pub(crate) controllers: Controllers,
    /// Whether a group with limits may still be there that nobody needs.
    pub(crate) untidy: bool,
}

impl Groups {
    /// Makes (or finds) the base below our own group.
    pub(crate) fn detect(run_id: &str) -> Self {
        let counter = clock::unix_ms();
        let made = cgroup::own_group().and_then(|(level, own)| {
            let base = own.join(format!("upkeep-{run_id}"));
            match cgroup::create(&base) {
                Ok(()) => Ok((level, base)),
                Err(error) => Err(cgroup::Level::None {
                    why: error.to_string(),
                }),
            }
        });
        let (base, tracking) = match made {
            Ok((level, base)) => (Some(base), level.to_string()),
            Err(none) => (None, none.to_string()),
        };
        Self {
            enabled: base.is_some(),
            tracking,
            counter,
            controllers: Self::controllers(run_id, base.as_deref()),
            base,
            untidy: false,
        }
    }

    /// The controllers below the same groups.
    pub(crate) fn controllers(run_id: &str, base: Option<&Path>) -> Controllers {
        Controllers::detect(&format!("upkeep-{run_id}"), base)
    }

    fn name(&mut self, key: &str) -> String {
        self.counter += 1;
        format!("{}.{:x}", cgroup::escape(key), self.counter)
    }

    /// The directory of a group by the name kept in the table.
    pub(crate) fn path(&self, group: &str) -> PathBuf {
        self.base.as_deref().unwrap_or_else(|| Path::new("/")).join(group)
    }

    /// A new group, or none where there are no groups. Only a want of descriptors is an error: that may pass.
    fn create(&mut self, key: &str) -> Result<Option<(String, OwnedFd)>, CallError> {
        let name = self.name(key);
        let Some(base) = self.base.as_ref().filter(|_| self.enabled) else {
            return Ok(None);
        };
        let path = base.join(&name);
        if cgroup::create(&path).is_err() {
            return Ok(None);
        }
        cgroup::open(&path).map(|fd| Some((name, fd))).or_else(|error| {
            // Nothing is in it yet; at worst an empty directory stays for the next keeper to remove.
            let _ = cgroup::remove(&path);
            if error.is_out_of_descriptors() {
                Err(error)
            } else {
                Ok(None)
            }
        })
    }
}

/// All processes the keeper answers for.
#[derive(Debug)]
pub(crate) struct Children {
    pub(crate) table: Table,
    pub(crate) groups: Groups,
    pub(crate) journal: Journal,
    /// What marks the children of this run directory.
    pub(crate) run_id: String,
    /// The limit of open files the keeper was started with.
    pub(crate) open_files: Option<Limit>,
    /// The daemon, which is never a member of a tree.
    pub(crate) daemon: Option<Pid>,
}

/// A child that does not start.
#[derive(Debug)]
pub(crate) enum StartError {
    NoSuchName(String),
    Spawn(SpawnError),
}

impl Children {
    /// The value of [`MARKER`] for a key.
    pub(crate) fn marker(&self, key: &str) -> String {
        format!("{}:{key}", self.run_id)
    }

    /// Starts a child under a key that is free.
    pub(crate) fn start(
        &mut self,
        key: &str,
        spec: SpawnSpec,
        descriptors: &Descriptors,
        reserve: &mut Reserve,
    ) -> Result<&Child, StartError> {
        let marker = self.marker(key);
        let mut launch = Launch {
            new_session: true,
            ..Launch::default()
        };
        for (number, name) in &spec.descriptors {
            let fd = descriptors
                .for_child(name)
                .ok_or_else(|| StartError::NoSuchName(name.clone()))?;
            launch.descriptors.push((*number, fd));
        }
        launch.argv = spec.argv;
        launch.env = spec.env;
        launch.env.retain(|(name, _)| name != MARKER);
        launch.env.push((MARKER.into(), OsString::from(marker)));
        launch.cwd = spec.cwd;
        launch.uid = spec.uid;
        launch.gid = spec.gid;
        launch.groups = spec.groups;
        launch.umask = spec.umask;
        launch.no_new_privs = spec.no_new_privs;
        launch.oom_score_adj = spec.oom_score_adj;
        launch.cage = spec.cage.as_deref();
        launch.limits = spec
            .rlimits
            .iter()
            .map(|&(resource, soft, hard)| Limit { resource, soft, hard })
            .collect();
        if !launch
            .limits
            .iter()
            .any(|limit| limit.resource == rlimit::OPEN_FILES)
        {
            launch.limits.extend(self.open_files);
        }
        let groups = &mut self.groups;
        let limited = !spec.limits.is_empty() || spec.cage.is_some();
        let started = reserve.retry(
            || {
                let group = if spec.cgroup || limited {
                    groups.create(key)?
                } else {
                    None
                };
                if limited {
                    launch_limited(&launch, group, groups, key, &spec.limits)
                } else {
                    launch_in(&launch, group, groups, false).map(|(pid, group)| (pid, group, None))
                }
            },
            SpawnError::errno,
        );
        let (pid, group, limited) = started.map_err(StartError::Spawn)?;
        let start_ticks = reserve
            .retry(|| process::stat(pid), |error| error.errno)
            .map_or(0, |stat| stat.start_ticks);
        let child = Child {
            key: key.to_owned(),
            pid,
            start_ticks,
            started_unix_ms: clock::unix_ms(),
            started_mono_ms: clock::monotonic_ms(),
            group,
            limited,
            stray: None,
        };
        self.journal.started(&child);
        Ok(self.table.children.entry(key.to_owned()).or_insert(child))
    }

    /// Files the end of a child of ours. `false`: it is none.
    pub(crate) fn ended(&mut self, reaped: Reaped, reserve: &mut Reserve) -> bool {
        let Some(key) = self.table.key_of(reaped.pid).map(str::to_owned) else {
            return false;
        };
        let how = match reaped.status {
            Status::Code(code) => Ended::Code(code),
            Status::Signal { number, core } => Ended::Signal { number, core },
        };
        let usage = Usage {
            user_us: reaped.usage.user_us,
            system_us: reaped.usage.system_us,
            max_rss_kib: reaped.usage.max_rss_kib,
            major_faults: reaped.usage.major_faults,
        };
        self.file_end(&key, how, usage, reserve);
        true
    }

    /// Files the ends of strays, which only their pidfds tell.
    pub(crate) fn ended_strays(&mut self, reserve: &mut Reserve) {
        let gone = |child: &&Child| {
            child
                .stray
                .as_ref()
                .is_some_and(|fd| pidfd::has_exited(fd).unwrap_or(false))
        };
        let keys: Vec<String> = self
            .table
            .children
            .values()
            .filter(gone)
            .map(|child| child.key.clone())
            .collect();
        for key in keys {
            self.file_end(&key, Ended::Unknown, Usage::default(), reserve);
        }
    }

    fn file_end(&mut self, key: &str, how: Ended, usage: Usage, reserve: &mut Reserve) {
        let Some(child) = self.table.children.remove(key) else {
            return;
        };
        self.journal
            .ended(&child, self.groups.base.as_deref(), &self.table.children);
        let remains = Remains {
            key: key.to_owned(),
            leader: Some(child.pid),
            group: child.group.clone(),
        };
        // Unknown counts as there: the next sweep asks again.
        let oom_kills = child
            .limited
            .as_ref()
            .map_or(0, |name| self.groups.controllers.oom_kills(name));
        let leftovers = reserve
            .retry(|| still_there(&remains, &self.groups), |error| error.errno)
            .unwrap_or(true);
        if leftovers {
            self.table.remains.push(remains);
        }
        let oom_kills = u32::try_from(oom_kills).unwrap_or(u32::MAX);
        self.table.file_exit(&child, how, usage, leftovers, oom_kills);
        if child.limited.is_some() {
            self.groups.untidy = true;
            self.tidy();
        }
    }

    /// Removes groups with limits that nobody lives in any more. The kernel may need a moment after the last member
    /// has been reaped; then the next round tries again.
    pub(crate) fn tidy(&mut self) {
        if !self.groups.untidy {
            return;
        }
        let used: BTreeSet<&str> = self
            .table
            .children
            .values()
            .filter_map(|child| child.limited.as_deref())
            .collect();
        let gone = self.groups.controllers.remove_others(&|name| used.contains(name));
        // What a tree left behind lives on in its group, and is looked at with the sweeps.
        self.groups.untidy = !gone;
    }

    /// Changes what the tree of a living child may use: how many resources have no controller. `None`: no such child,
    /// or it was started without limits.
    pub(crate) fn set_limits(&self, key: &str, limits: &Limits) -> Option<Result<usize, CallError>> {
        let name = self.table.children.get(key)?.limited.as_ref()?;
        let changed = self.groups.controllers.change(name, limits);
        Some(changed.map(|missing| missing.len()))
    }

    /// Forgets trees that have ended and removes their cgroups.
    pub(crate) fn sweep(&mut self) {
        let Self { table, groups, .. } = self;
        table
            .remains
            .retain(|remains| still_there(remains, groups).unwrap_or(true));
        self.tidy();
    }

    /// Sends a signal; how many processes it reached, `None` if nothing of that key is alive.
    pub(crate) fn signal(&mut self, key: &str, number: i32, scope: Scope) -> Result<Option<u32>, i32> {
        if scope == Scope::Leader {
            let Some(child) = self.table.children.get(key) else {
                return Ok(None);
            };
            let sent = match &child.stray {
                Some(fd) => pidfd::send_signal(fd, number),
                None => signal::send(child.pid, number),
            };
            return sent.map(|()| Some(1)).map_err(|error| error.errno);
        }
        let reached = self.signal_tree(key, number);
        if !self.table.children.contains_key(key) {
            self.sweep();
            if reached == 0 {
                self.table
                    .remains
                    .retain(|remains| remains.key != key || remains.group.is_some());
                return Ok(None);
            }
        }
        Ok(Some(u32::try_from(reached).unwrap_or(u32::MAX)))
    }

    fn signal_tree(&self, key: &str, number: i32) -> usize {
        let mut reached = BTreeSet::new();
        let rounds = if number == signal::number::KILL {
            KILL_ROUNDS
        } else {
            1
        };
        for group in self.group_paths(key) {
            if number == signal::number::KILL {
                // `cgroup.kill` leaves nobody out, also of those who fork at this moment.
                reached.extend(cgroup::processes(&group).unwrap_or_default());
                let _ = cgroup::kill(&group);
            }
        }
        for _ in 0..rounds {
            let members = self.members(key);
            let mut new = false;
            for pid in members {
                if signal::send(pid, number).is_ok() {
                    new |= reached.insert(pid);
                }
            }
            if !new {
                break;
            }
        }
        reached.len()
    }

    fn group_paths(&self, key: &str) -> Vec<PathBuf> {
        let child = self
            .table
            .children
            .get(key)
            .and_then(|child| child.group.as_ref());
        let remains = self.table.remains.iter().filter(|remains| remains.key == key);
        child
            .into_iter()
            .chain(remains.filter_map(|remains| remains.group.as_ref()))
            .map(|group| self.groups.path(group))
            .collect()
    }

    /// Every living process of a key: its child's tree and what earlier ones left behind.
    fn members(&self, key: &str) -> BTreeSet<Pid> {
        let marker = self.marker(key);
        let child = self
            .table
            .children
            .get(key)
            .map(|child| (Some(child.pid), child.group.as_deref()));
        let remains = self.table.remains.iter().filter(|remains| remains.key == key);
        let mut found = BTreeSet::new();
        for (leader, group) in child
            .into_iter()
            .chain(remains.map(|r| (r.leader, r.group.as_deref())))
        {
            let path = group.map(|group| self.groups.path(group));
            let signs = tree::Signs {
                cgroup: path.as_deref(),
                leader,
                marker: Some((MARKER, marker.as_bytes())),
            };
            found.extend(tree::members(signs).unwrap_or_default());
        }
        if let Some(daemon) = self.daemon {
            found.remove(&daemon);
        }
        found
    }

    /// Signals everything; for a keeper that ends alone.
    pub(crate) fn signal_all(&self, number: i32) {
        let children = self.table.children.keys();
        let keys: BTreeSet<&String> = children
            .chain(self.table.remains.iter().map(|remains| &remains.key))
            .collect();
        for key in keys {
            self.signal_tree(key, number);
        }
    }

    /// Whether nothing is left that a keeper waits for before it ends: children of its own, not strays.
    pub(crate) fn none_of_ours(&self) -> bool {
        self.table.children.values().all(|child| child.stray.is_some())
    }

    /// Whether nothing at all is left.
    pub(crate) fn nothing_left(&self) -> bool {
        self.table.children.is_empty() && self.table.remains.is_empty()
    }

    /// At the very end: removes the cgroups, if they are empty.
    pub(crate) fn close(&mut self) {
        self.sweep();
        self.groups.controllers.close();
        if let Some(base) = self.groups.base.take() {
            // Strays may still be in there; the next keeper looks after them.
            let _ = cgroup::remove(&base);
        }
    }
}

/// Spawns in the cgroup, or without one if the cgroup is what fails; `held`: in it or not at all.
fn launch_in(
    launch: &Launch<'_>,
    group: Option<(String, OwnedFd)>,
    groups: &mut Groups,
    held: bool,
) -> Result<(Pid, Option<String>), SpawnError> {
    let Some((name, fd)) = group else {
        return spawn::spawn(launch, None).map(|pid| (pid, None));
    };
    match spawn::spawn(launch, Some(fd.as_fd())) {
        Ok(pid) => Ok((pid, Some(name))),
        Err(error) => {
            // Nothing came to be in it.
            let _ = cgroup::remove(&groups.path(&name));
            if held || !error.is_cgroup() {
                return Err(error);
            }
            let result = spawn::spawn(launch, None).map(|pid| (pid, None));
            if result.is_ok() {
                groups.enabled = false;
                groups.tracking = format!("none: {error}");
            }
            result
        }
    }
}

/// `RLIMIT_DATA` and `RLIMIT_NPROC` of Linux: this crate has no libc.
const DATA: u32 = 2;
const PROCESSES: u32 = 6;

/// Whom nothing would keep from forking without end, though its cage gives it no right at all: `RLIMIT_NPROC` does not
/// count for root.
fn unbounded(launch: &Launch<'_>, missing: &[(Resource, String)]) -> Option<SpawnError> {
    let powerless = launch.cage.is_some_and(|cage| cage.capabilities == Some(0));
    let root = launch.uid.unwrap_or_else(user::effective) == 0;
    let tasks = missing.iter().any(|(resource, _)| *resource == Resource::Tasks);
    (powerless && root && tasks).then(|| SpawnError::Invalid {
        target: launch
            .argv
            .first()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        what: "root's processes in a sandbox cannot be limited without the cgroup controller `pids`; \
               give the app a `user`",
    })
}

/// Spawns in groups with limits; what has no controller is limited for each process by itself, if it can be.
fn launch_limited(
    launch: &Launch<'_>,
    group: Option<(String, OwnedFd)>,
    groups: &mut Groups,
    key: &str,
    limits: &Limits,
) -> Result<(Pid, Option<String>, Option<String>), SpawnError> {
    let name = match &group {
        Some((name, _)) => name.clone(),
        None => groups.name(key),
    };
    let undo = |groups: &mut Groups| {
        // Nothing came to be in them; what cannot be removed now is removed later.
        groups.untidy |= !groups.controllers.remove(&name);
    };
    let made = match groups.controllers.make(&name, limits) {
        Ok(made) => made,
        Err(error) => {
            undo(groups);
            if let Some((tracking, _)) = &group {
                // As above.
                let _ = cgroup::remove(&groups.path(tracking));
            }
            return Err(error.into());
        }
    };
    let Made { join, missing } = &made;
    if let Some(why) = unbounded(launch, missing) {
        undo(groups);
        if let Some((tracking, _)) = &group {
            // As above.
            let _ = cgroup::remove(&groups.path(tracking));
        }
        return Err(why);
    }
    let mut more = launch.limits.clone();
    for (resource, _) in missing {
        let (number, value) = match resource {
            Resource::Memory => (DATA, limits.memory),
            Resource::Tasks => (PROCESSES, limits.tasks),
            Resource::Cpu | Resource::Io => continue,
        };
        let said = more.iter().any(|limit| limit.resource == number);
        more.extend(value.filter(|_| !said).map(|value| Limit {
            resource: number,
            soft: value,
            hard: value,
        }));
    }
    let launch = Launch {
        argv: launch.argv.clone(),
        env: launch.env.clone(),
        cwd: launch.cwd.clone(),
        groups: launch.groups.clone(),
        descriptors: launch.descriptors.clone(),
        limits: more,
        join: join.iter().map(AsFd::as_fd).collect(),
        ..*launch
    };
    // The groups of v2 with the limits are those that track the tree: without them there would be none.
    let places = groups.controllers.places().iter();
    let held = Resource::ALL.into_iter().zip(places).any(|(resource, place)| {
        limits.wants(resource) && place.as_ref().is_ok_and(|place| place.version == Version::V2)
    });
    match launch_in(&launch, group, groups, held) {
        Ok((pid, group)) => Ok((pid, group, Some(name))),
        Err(error) => {
            undo(groups);
            Err(error)
        }
    }
}

/// Whether a tree still has members; removes its cgroup if not. Cheap: the cgroup, or else only the process group.
fn still_there(remains: &Remains, groups: &Groups) -> Result<bool, CallError> {
    match (&remains.group, remains.leader) {
        (Some(group), _) => {
            let path = groups.path(group);
            if cgroup::is_populated(&path)? {
                return Ok(true);
            }
            // EBUSY right after a reap: the process is gone, the kernel has not tidied up. The directory then stays
            // until this keeper ends.
            let _ = cgroup::remove(&path);
            Ok(false)
        }
        (None, Some(leader)) => match signal::send_to_group(leader, 0) {
            Ok(()) => Ok(true),
            Err(error) => Ok(error.errno != NO_SUCH_PROCESS),
        },
        (None, None) => Ok(false),
    }
}

/// ESRCH of Linux: this crate has no libc.
const NO_SUCH_PROCESS: i32 = 3;
