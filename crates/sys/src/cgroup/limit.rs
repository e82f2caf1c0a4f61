//! Limits of memory, CPU, I/O and tasks: by the controllers of cgroup v2 where the machine has them there, by those
//! of v1 where only that has them.
//!
//! On many machines both are mounted and each controller is bound to one of them, so every [`Resource`] is looked up
//! by itself ([`Controllers::detect`]). Groups are made below the group this process lives in, never anywhere else:
//!
//! ```text
//! v1   <mount of the controller>/<our own group>/upkeep-ID/NAME
//! v2   <mount>/<our own group>/upkeep-ID/NAME          (the group that tracks the tree; controllers are switched on)
//! ```
//!
//! In v2 a group that hands controllers down may hold no processes. If we are the only process of our own group we
//! move aside, into `upkeep-ID.keeper`; if we are not (a login session), the controllers cannot be had, and that is
//! the reason that is given. A service of systemd needs `Delegate=yes`.
//!
//! A resource without a controller is left to the caller: [`Made::missing`] names it and says why.

use std::{
    fmt, fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use super::{create, remove};
use crate::{
    call::{CallError, Result},
    pid::Pid,
};

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Memory, the page cache of the group included.
    Memory,
    /// Time on processors.
    Cpu,
    /// Bytes from and to disks.
    Io,
    /// Processes and threads.
    Tasks,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Io, Self::Tasks];

    /// The controller of v1.
    const fn v1(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Io => "blkio",
            Self::Tasks => "pids",
        }
    }

    /// The controller of v2.
    const fn v2(self) -> &'static str {
        match self {
            Self::Io => "io",
            other => other.v1(),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Io => "io",
            Self::Tasks => "tasks",
        })
    }
}

/// Which cgroup it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "cgroup v1",
            Self::V2 => "cgroup v2",
        })
    }
}

/// What a group may use; `None`: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, swap included; beyond that the kernel kills.
    pub memory: Option<u64>,
    /// Bytes above which the group is slowed down and its memory taken back first (v1: the latter only).
    pub memory_high: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_milli: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Bytes a second from each disk.
    pub io_read: Option<u64>,
    /// Bytes a second to each disk (v1: only writes past the page cache).
    pub io_write: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this resource is.
    pub fn wants(&self, resource: Resource) -> bool {
        match resource {
            Resource::Memory => self.memory.is_some() || self.memory_high.is_some(),
            Resource::Cpu => self.cpu_milli.is_some(),
            Resource::Io => self.io_read.is_some() || self.io_write.is_some(),
            Resource::Tasks => self.tasks.is_some(),
        }
    }
}

/// Where groups with the controller of one resource are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of which kind they are.
    pub version: Version,
    /// The group that holds them.
    pub base: PathBuf,
}

/// For each resource in the order of [`Resource::ALL`] a place, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controllers {
    places: [std::result::Result<Place, String>; 4],
}

/// Groups for one tree.
#[derive(Debug, Default)]
pub struct Made {
    /// `cgroup.procs` of each, for a child to join by itself.
    pub join: Vec<OwnedFd>,
    /// What is to be limited and cannot be, with the reason.
    pub missing: Vec<(Resource, String)>,
}

impl Controllers {
    /// None, for the same reason everywhere.
    pub fn none(why: &str) -> Self {
        Self {
            places: std::array::from_fn(|_| Err(why.to_owned())),
        }
    }

    /// From what another program of ours found: the places in the order of [`Resource::ALL`].
    pub fn from_places(places: [std::result::Result<Place, String>; 4]) -> Self {
        Self { places }
    }

    /// The places in the order of [`Resource::ALL`].
    pub fn places(&self) -> &[std::result::Result<Place, String>; 4] {
        &self.places
    }

    /// Looks for the controllers; groups will be made in a group `name` below our own group of each. `v2`: that
    /// group, if it is there in v2 already.
    pub fn detect(name: &str, v2: Option<&Path>) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let places = Resource::ALL.map(|resource| {
            match v2.map(|base| hand_down(base, resource.v2())) {
                Some(Ok(())) => {
                    return Ok(Place {
                        version: Version::V2,
                        base: v2.unwrap_or_else(|| Path::new("/")).to_owned(),
                    });
                }
                Some(Err(Some(why))) => return Err(why),
                Some(Err(None)) | None => {}
            }
            let group = v1_group(&mounts, &own, resource.v1())?;
            rustix::fs::access(&group, rustix::fs::Access::WRITE_OK)
                .map_err(|errno| CallError::new("make groups in", group.display(), errno).to_string())?;
            Ok(Place {
                version: Version::V1,
                base: group.join(name),
            })
        });
        Self { places }
    }

    fn place(&self, resource: Resource) -> &std::result::Result<Place, String> {
        match resource {
            Resource::Memory => &self.places[0],
            Resource::Cpu => &self.places[1],
            Resource::Io => &self.places[2],
            Resource::Tasks => &self.places[3],
        }
    }

    /// Makes the groups of that name, limited. The one of v2 is there already; those of v1 are made for every
    /// resource that has a controller there, also where it has no limit: a group of its own gets no more than its
    /// share of the processors.
    pub fn make(&self, name: &str, limits: &Limits) -> Result<Made> {
        let mut made = Made::default();
        for resource in Resource::ALL {
            let place = match self.place(resource) {
                Ok(place) => place,
                Err(why) => {
                    if limits.wants(resource) {
                        made.missing.push((resource, why.clone()));
                    }
                    continue;
                }
            };
            let group = place.base.join(name);
            if place.version == Version::V1 {
                create(&place.base)?;
                create(&group)?;
            }
            write_limits(place.version, resource, &group, limits)?;
            if place.version == Version::V1 {
                made.join.push(open_procs(&group)?);
            }
        }
        Ok(made)
    }

    /// Changes what the groups of that name may use, while they are in use. Gives back what has no controller.
    pub fn change(&self, name: &str, limits: &Limits) -> Result<Vec<(Resource, String)>> {
        let mut missing = Vec::new();
        for resource in Resource::ALL {
            match self.place(resource) {
                Ok(place) => write_limits(place.version, resource, &place.base.join(name), limits)?,
                Err(why) if limits.wants(resource) => missing.push((resource, why.clone())),
                Err(_) => {}
            }
        }
        Ok(missing)
    }

    /// How many processes of that group the kernel has killed for want of memory.
    pub fn oom_kills(&self, name: &str) -> u64 {
        let Ok(place) = self.place(Resource::Memory) else {
            return 0;
        };
        oom_kills(place.version, &place.base.join(name))
    }

    /// Removes the groups of that name in v1. `false`: something still lives in one of them.
    pub fn remove(&self, name: &str) -> bool {
        let mut gone = true;
        for place in self.v1_places() {
            gone &= remove(&place.base.join(name)).is_ok();
            // The last one: it is made again when it is needed. Others may still be in there.
            let _ = fs::remove_dir(&place.base);
        }
        gone
    }

    /// Removes all groups in v1 but those of these names. `false`: something still lives in one of them.
    pub fn remove_others(&self, keep: &dyn Fn(&str) -> bool) -> bool {
        let mut gone = true;
        for place in self.v1_places() {
            for group in super::children(&place.base) {
                let kept = group.file_name().and_then(|name| name.to_str()).is_some_and(keep);
                if !kept {
                    gone &= remove(&group).is_ok();
                }
            }
            // As above.
            let _ = fs::remove_dir(&place.base);
        }
        gone
    }

    /// Removes everything we made in v1, if nothing lives there.
    pub fn close(&self) {
        for place in self.v1_places() {
            // What still lives there is looked after by whoever comes next.
            let _ = remove(&place.base);
        }
    }

    fn v1_places(&self) -> impl Iterator<Item = &Place> {
        self.places
            .iter()
            .flatten()
            .filter(|place| place.version == Version::V1)
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, resource) in Resource::ALL.into_iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match self.place(resource) {
                Ok(place) => write!(f, "{resource}: {}", place.version)?,
                Err(why) => write!(f, "{resource}: none ({why})")?,
            }
        }
        Ok(())
    }
}

/// Switches a controller of v2 on for the groups in `base`, which is a group in our own group. `Err(None)`: v2 does not
/// have this controller; `Err(Some)`: it has, and we cannot use it.
pub fn hand_down(base: &Path, controller: &str) -> std::result::Result<(), Option<String>> {
    let own = base.parent().ok_or(None)?;
    let listed = |path: PathBuf| {
        fs::read_to_string(path).is_ok_and(|text| text.split_whitespace().any(|word| word == controller))
    };
    if !listed(own.join("cgroup.controllers")) {
        return Err(None);
    }
    for group in [own, base] {
        let switch = group.join("cgroup.subtree_control");
        if listed(switch.clone()) {
            continue;
        }
        let word = format!("+{controller}");
        let switched = match fs::write(&switch, &word) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && group == own => {
                step_aside(base).map_err(Some)?;
                fs::write(&switch, &word)
            }
            other => other,
        };
        switched.map_err(|error| {
            Some(format!(
                "the controller cannot be switched on in `{}`: {error}",
                group.display()
            ))
        })?;
    }
    Ok(())
}

/// Leaves our own group of v2, if nobody else is in it, so that it can hand controllers down.
fn step_aside(base: &Path) -> std::result::Result<(), String> {
    let own = base.parent().unwrap_or(base);
    let members = fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default();
    let alone = members.lines().all(|line| line == Pid::own().to_string());
    if !alone {
        return Err(format!(
            "other processes live in our own group `{}`; a service with `Delegate=yes` has one of its own",
            own.display()
        ));
    }
    let leaf = base.with_extension("keeper");
    create(&leaf)
        .and_then(|()| {
            let path = leaf.join("cgroup.procs");
            fs::write(&path, "0").map_err(|error| CallError::from_io("join cgroup", path.display(), &error))
        })
        .map_err(|error| error.to_string())
}

/// The directory of our own group in the hierarchy of a controller of v1.
fn v1_group(mounts: &str, own: &str, controller: &str) -> std::result::Result<PathBuf, String> {
    let path = own
        .lines()
        .find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (names, path) = rest.split_once(':')?;
            names.split(',').any(|name| name == controller).then_some(path)
        })
        .ok_or_else(|| "no controller".to_owned())?;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next(), right.next(), right.next().unwrap_or_default());
        if kind != Some("cgroup") || !options.split(',').any(|option| option == controller) {
            continue;
        }
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next().unwrap_or("/"), left.next().unwrap_or("/"));
        // In a container the mount shows a part of the hierarchy only.
        let Ok(below) = Path::new(path).strip_prefix(root) else {
            continue;
        };
        return Ok(Path::new(point).join(below));
    }
    Err(format!(
        "the controller `{controller}` of cgroup v1 is not mounted"
    ))
}

fn open_procs(group: &Path) -> Result<OwnedFd> {
    let path = group.join("cgroup.procs");
    rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| CallError::new("open", path.display(), errno))
}

fn put(group: &Path, file: &str, value: &str) -> Result<()> {
    let path = group.join(file);
    fs::write(&path, value).map_err(|error| CallError::from_io("write", path.display(), &error))
}

/// The same, where the file is not on every machine.
fn put_if_there(group: &Path, file: &str, value: &str) -> Result<()> {
    if group.join(file).exists() {
        put(group, file, value)
    } else {
        Ok(())
    }
}

/// One period of the processor's account, in µs.
const PERIOD: u64 = 100_000;

fn write_limits(version: Version, resource: Resource, group: &Path, limits: &Limits) -> Result<()> {
    let v2 = version == Version::V2;
    match resource {
        Resource::Memory if v2 => {
            let max = |value: Option<u64>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
            put(group, "memory.high", &max(limits.memory_high))?;
            put(group, "memory.max", &max(limits.memory))?;
            let swap = if limits.memory.is_some() { "0" } else { "max" };
            put_if_there(group, "memory.swap.max", swap)?;
            // One process of a tree that is killed alone leaves the rest in a state nobody has thought of.
            put_if_there(
                group,
                "memory.oom.group",
                if limits.memory.is_some() { "1" } else { "0" },
            )
        }
        Resource::Memory => {
            let value = |value: Option<u64>| value.map_or_else(|| "-1".to_owned(), |value| value.to_string());
            let (memory, soft) = (value(limits.memory), value(limits.memory_high));
            // The one must never be above the other, so which comes first depends on the direction.
            if put(group, "memory.limit_in_bytes", &memory).is_err() {
                put_if_there(group, "memory.memsw.limit_in_bytes", &memory)?;
                put(group, "memory.limit_in_bytes", &memory)?;
            }
            put_if_there(group, "memory.memsw.limit_in_bytes", &memory)?;
            put(group, "memory.soft_limit_in_bytes", &soft)
        }
        Resource::Cpu => {
            let quota = limits.cpu_milli.map(|milli| (milli * (PERIOD / 1000)).max(1000));
            if v2 {
                let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                return put(group, "cpu.max", &format!("{quota} {PERIOD}"));
            }
            // A kernel without the bandwidth controller has the group and not the file.
            let Some(quota) = quota else {
                return put_if_there(group, "cpu.cfs_quota_us", "-1");
            };
            put(group, "cpu.cfs_period_us", &PERIOD.to_string())?;
            put(group, "cpu.cfs_quota_us", &quota.to_string())
        }
        Resource::Tasks => {
            let max = limits
                .tasks
                .map_or_else(|| "max".to_owned(), |tasks| tasks.to_string());
            put(group, "pids.max", &max)
        }
        Resource::Io => {
            for disk in disks() {
                if v2 {
                    let max = |value: Option<u64>| {
                        value.map_or_else(|| "max".to_owned(), |value| value.to_string())
                    };
                    let line = format!(
                        "{disk} rbps={} wbps={}",
                        max(limits.io_read),
                        max(limits.io_write)
                    );
                    put(group, "io.max", &line)?;
                } else {
                    let line = |value: Option<u64>| format!("{disk} {}", value.unwrap_or(0));
                    put_if_there(group, "blkio.throttle.read_bps_device", &line(limits.io_read))?;
                    put_if_there(group, "blkio.throttle.write_bps_device", &line(limits.io_write))?;
                }
            }
            Ok(())
        }
    }
}

/// `MAJOR:MINOR` of every disk that holds something.
fn disks() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let read = |path: PathBuf| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    entries
        .flatten()
        .filter(|entry| read(entry.path().join("size")).is_some_and(|size| size != "0"))
        .filter_map(|entry| read(entry.path().join("dev")))
        .collect()
}

/// How many members of this group were killed for want of memory.
pub fn oom_kills(version: Version, group: &Path) -> u64 {
    let file = match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    let text = fs::read_to_string(group.join(file)).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// What holds for a resource of a running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Which cgroup holds it.
    pub version: Version,
    /// Its group.
    pub group: PathBuf,
    /// The limits of that group, as the kernel has them.
    pub limits: Limits,
}

/// What the kernel says of the group a process is in. `None`: there is no controller for this resource.
pub fn in_force(pid: Pid, resource: Resource) -> Option<InForce> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mut limits = Limits::default();
    if let Ok(group) = v1_group(&mounts, &own, resource.v1()) {
        let number = |file: &str| -> Option<u64> {
            // "No limit" is -1, `max`, or the largest number of whole pages there is.
            fs::read_to_string(group.join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
                .filter(|value| *value < 1 << 62)
        };
        match resource {
            Resource::Memory => {
                limits.memory = number("memory.limit_in_bytes");
                limits.memory_high = number("memory.soft_limit_in_bytes");
            }
            Resource::Cpu => {
                let period = number("cpu.cfs_period_us").unwrap_or(PERIOD).max(1);
                limits.cpu_milli = number("cpu.cfs_quota_us").map(|quota| quota * 1000 / period);
            }
            Resource::Tasks => limits.tasks = number("pids.max"),
            Resource::Io => {
                let first = |file: &str| {
                    let text = fs::read_to_string(group.join(file)).ok()?;
                    text.split_whitespace().nth(1)?.parse().ok()
                };
                limits.io_read = first("blkio.throttle.read_bps_device");
                limits.io_write = first("blkio.throttle.write_bps_device");
            }
        }
        return Some(InForce {
            version: Version::V1,
            group,
            limits,
        });
    }
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (_, root) = super::mounted().ok()?;
    let group = root.join(path.trim_start_matches('/'));
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    let number = |file: &str| -> Option<u64> { read(file)?.trim().parse().ok() };
    match resource {
        Resource::Memory => {
            read("memory.max")?;
            limits.memory = number("memory.max");
            limits.memory_high = number("memory.high");
        }
        Resource::Cpu => {
            let text = read("cpu.max")?;
            let mut words = text.split_whitespace().map(str::parse::<u64>);
            if let (Some(Ok(quota)), Some(Ok(period))) = (words.next(), words.next()) {
                limits.cpu_milli = Some(quota * 1000 / period.max(1));
            }
        }
        Resource::Tasks => {
            read("pids.max")?;
            limits.tasks = number("pids.max");
        }
        Resource::Io => {
            let text = read("io.max")?;
            let value = |name: &str| {
                text.split_whitespace()
                    .find_map(|word| word.strip_prefix(name)?.parse().ok())
            };
            limits.io_read = value("rbps=");
            limits.io_write = value("wbps=");
        }
    }
    Some(InForce {
        version: Version::V2,
        group,
        limits,
    })
}

/// How often and how long (µs) the group of a process was held up because it had used its share of the processors.
pub fn throttled(pid: Pid) -> Option<(u64, u64)> {
    let held = in_force(pid, Resource::Cpu)?;
    let text = fs::read_to_string(held.group.join("cpu.stat")).ok()?;
    let value = |name: &str| -> Option<u64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let time = value("throttled_usec ").or_else(|| value("throttled_time ").map(|ns| ns / 1000));
    Some((value("nr_throttled ")?, time?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn our_own_group_is_found_in_each_hierarchy_of_v1() {
        let own = "4:memory:/a/b\n1:cpu,cpuacct:/docker/abc/d\n8:pids:/\n0::/\n";
        assert_eq!(
            v1_group(MOUNTS, own, "memory"),
            Ok(PathBuf::from("/sys/fs/cgroup/memory/a/b"))
        );
        assert_eq!(
            v1_group(MOUNTS, own, "cpu"),
            Ok(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/d"))
        );
        assert_eq!(v1_group(MOUNTS, own, "blkio"), Err("no controller".to_owned()));
        let why = v1_group(MOUNTS, own, "pids").expect_err("it is not mounted");
        assert!(why.contains("not mounted"), "{why}");
    }

    #[test]
    fn a_limit_that_is_not_given_is_not_wanted() {
        let limits = Limits {
            memory_high: Some(1),
            io_write: Some(1),
            ..Limits::default()
        };
        let wanted: Vec<_> = Resource::ALL
            .into_iter()
            .filter(|resource| limits.wants(*resource))
            .collect();
        assert_eq!(wanted, [Resource::Memory, Resource::Io]);
        assert!(!limits.is_empty() && Limits::default().is_empty());
    }
}
