//! How much harm an app could do.
//!
//! [`Facts`] are read from the process that runs (`/proc/PID/status`, `mountinfo`, `ns`, its cgroups); of an app that does
//! not run, they are what its cage would be. Each [`Property`] weighs one of them and says what to write in the app file
//! to close it; the score is the weighted share of what is open, from 0 to 10. Landlock shows nowhere in `/proc`: for it
//! the level that was asked for counts, if the process is filtered at all.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use upkeep_api::body::{Exposure, ExposureItem, LimitView};
use upkeep_model::{app::AppSpec, sandbox::Level};
use upkeep_sys::{Pid, cage::ability};

use super::{BROAD, force};
use crate::apps::launch::{self, CopyId, Own};

/// Capabilities that change the machine or reach into what is not the app's (capabilities(7)), by bit.
const DANGEROUS: [(u32, &str); 14] = [
    (2, "dac_read_search"),
    (12, "net_admin"),
    (13, "net_raw"),
    (16, "sys_module"),
    (17, "sys_rawio"),
    (19, "sys_ptrace"),
    (20, "sys_pacct"),
    (21, "sys_admin"),
    (22, "sys_boot"),
    (25, "sys_time"),
    (27, "mknod"),
    (31, "setfcap"),
    (34, "syslog"),
    (39, "bpf"),
];

/// What is known of one process.
#[derive(Clone, Debug, Default)]
struct Facts {
    root: bool,
    /// Whether its user and rights mean something in a namespace of its own only.
    user_namespace: bool,
    capabilities: u64,
    no_new_privs: bool,
    filters: u32,
    read_only: bool,
    /// What it can write on disks all the same.
    writable: Vec<String>,
    /// Passwords and homes of others that it can read.
    readable: Vec<String>,
    /// Its own home, if it can read that.
    own_home: Option<String>,
    own_tmp: bool,
    own_devices: bool,
    own_network: bool,
    /// Whether a socket of TCP that was handed over could call from the network outside.
    handed_calls: bool,
    own_proc: bool,
    own_ipc: bool,
    frozen_knobs: bool,
    file_size: bool,
    level: Level,
    scoped: bool,
    limits: Vec<LimitView>,
}

/// The exposure of an app. `pid`: of one of its instances that runs.
pub(crate) fn of(spec: &AppSpec, pid: Option<u32>) -> Exposure {
    let found = pid.and_then(|raw| Some((raw, running(spec, Pid::from_unsigned(raw)?)?)));
    let (pid, facts) = match found {
        Some((pid, facts)) => (Some(pid), facts),
        None => (None, planned(spec)),
    };
    let items: Vec<ExposureItem> = PROPERTIES.iter().map(|property| property.item(&facts)).collect();
    let all: u32 = items.iter().map(|item| item.weight).sum();
    let open: f64 = items.iter().map(|item| f64::from(item.weight) * item.open).sum();
    let score = (open * 100.0 / f64::from(all.max(1))).round() / 10.0;
    let verdict = match score {
        score if score < 1.5 => "tight",
        score if score < 4.0 => "good",
        score if score < 6.5 => "middling",
        score if score < 8.5 => "exposed",
        _ => "wide open",
    };
    Exposure {
        app: spec.name.clone(),
        level: spec.sandbox.level,
        score,
        verdict: verdict.to_owned(),
        pid,
        items,
    }
}

/// Passwords, and homes.
fn private_places() -> Vec<String> {
    let mut places: Vec<String> = fs::read_dir("/home")
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.path().display().to_string())
                .collect()
        })
        .unwrap_or_default();
    places.sort();
    places.truncate(8);
    places.extend(["/etc/shadow", "/root"].map(str::to_owned));
    places
}

/// The home of a user, if it is one of the usual places and there.
fn home_of(uid: u32) -> Option<String> {
    let home = upkeep_sys::user::user(&uid.to_string()).ok()?.home;
    let usual = home == "/root" || home.starts_with("/home/");
    (usual && Path::new(&home).is_dir()).then_some(home)
}

/// Whether nothing keeps a socket that was handed over from calling (landlock before version 4).
fn handed_calls(spec: &AppSpec) -> bool {
    let handed = spec.listen.iter().any(|listen| listen.on.tcp_port().is_some());
    handed && ability().landlock < 4
}

/// Whether a place can be seen, by the mounts that lie over it: the last one counts.
fn is_seen(mounts: &[Mount<'_>], path: &str) -> bool {
    let over = mounts
        .iter()
        .rev()
        .find(|mount| Path::new(path).starts_with(mount.point));
    // An empty directory, or `/dev/null` over a file.
    over.is_none_or(|mount| !["tmpfs", "devtmpfs"].contains(&mount.kind))
}

/// Whether anybody may read it.
fn is_public(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// Looks at a process. `None`: it has gone.
fn running(spec: &AppSpec, pid: Pid) -> Option<Facts> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
    };
    let uid: u32 = value("Uid:")?.parse().ok()?;
    let mountinfo = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(Mount::parse).collect();
    let own = |kind: &str| {
        let link = |who: &str| fs::read_link(format!("/proc/{who}/ns/{kind}")).ok();
        let theirs = link(&pid.to_string());
        theirs.is_some() && theirs != link("self")
    };
    let own_mounts = own("mnt");
    let root = uid == 0;
    let home = home_of(uid);
    let at = |path: &str| mounts.iter().rev().find(|mount| mount.point == path);
    let filters = value("Seccomp_filters:").and_then(|text| text.parse().ok());
    let filtered = value("Seccomp:") == Some("2");
    Some(Facts {
        root,
        user_namespace: own("user"),
        capabilities: u64::from_str_radix(value("CapEff:")?, 16).ok()?,
        no_new_privs: value("NoNewPrivs:") == Some("1"),
        filters: filters.unwrap_or_else(|| u32::from(filtered)),
        read_only: at("/").is_some_and(|mount| mount.read_only),
        writable: mounts
            .iter()
            .filter(|mount| mount.is_disk() && !mount.read_only)
            .map(|mount| mount.point.to_owned())
            .collect(),
        readable: private_places()
            .into_iter()
            .filter(|path| !own_mounts || is_seen(&mounts, path))
            .filter(|path| root || is_public(path))
            .filter(|path| Some(path) != home.as_ref())
            .collect(),
        own_home: home.clone().filter(|path| !own_mounts || is_seen(&mounts, path)),
        own_tmp: own_mounts && at("/tmp").is_some_and(|mount| mount.kind == "tmpfs"),
        own_devices: own_mounts && at("/dev").is_some_and(|mount| mount.kind == "tmpfs"),
        own_network: own("net"),
        handed_calls: handed_calls(spec),
        own_proc: own_mounts && at("/proc").is_some_and(|mount| mount.options.contains("hidepid")),
        own_ipc: own("ipc"),
        frozen_knobs: at("/proc/sys").is_some_and(|mount| mount.read_only),
        file_size: force::rlimit(pid, "Max file size").is_some(),
        level: if filtered { spec.sandbox.level } else { Level::None },
        scoped: filtered && ability().landlock >= 6,
        limits: force::limits(spec, Some(pid.unsigned())),
    })
}

/// What an app that does not run would be.
fn planned(spec: &AppSpec) -> Facts {
    let copy = CopyId {
        index: 0,
        generation: 0,
    };
    let launched = launch::spawn_spec(spec, copy, &Own::default(), &[])
        .and_then(|launched| launch::caged(spec, launched))
        .unwrap_or_default();
    let cage = launched.cage.clone().unwrap_or_default();
    let root = launched.uid.unwrap_or_else(upkeep_host::home::uid) == 0;
    let home = home_of(launched.uid.unwrap_or_else(upkeep_host::home::uid));
    let hidden = |path: &str| {
        let path = Path::new(path);
        let below = |place: &PathBuf| path.starts_with(place);
        cage.mounts.hidden.iter().any(below) && !cage.mounts.kept.iter().any(|kept| below(&kept.path))
    };
    let writable = cage
        .mounts
        .kept
        .iter()
        .filter(|kept| kept.writable)
        .map(|kept| kept.path.display().to_string());
    Facts {
        root,
        user_namespace: cage.user,
        capabilities: if root {
            cage.capabilities.unwrap_or(u64::MAX >> 23)
        } else {
            0
        },
        no_new_privs: launched.no_new_privs,
        filters: u32::try_from(cage.filters.len()).unwrap_or(u32::MAX),
        read_only: cage.mounts.read_only,
        writable: writable.collect(),
        readable: private_places()
            .into_iter()
            .filter(|path| !hidden(path) && (root || is_public(path)))
            .filter(|path| Some(path) != home.as_ref())
            .collect(),
        own_home: home.clone().filter(|path| !hidden(path)),
        own_tmp: !cage.mounts.temporary.is_empty(),
        own_devices: cage.mounts.own_devices,
        own_network: cage.network,
        handed_calls: handed_calls(spec),
        own_proc: cage.mounts.own_proc,
        own_ipc: cage.ipc,
        frozen_knobs: !cage.mounts.frozen.is_empty(),
        file_size: launched
            .rlimits
            .iter()
            .any(|(resource, ..)| *resource == super::FILE_SIZE),
        level: spec.sandbox.level,
        scoped: cage.landlock.is_some(),
        limits: force::limits(spec, None),
    }
}

/// A line of `mountinfo` (proc(5)).
struct Mount<'a> {
    point: &'a str,
    read_only: bool,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(4);
        let (point, flags) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        Some(Self {
            point,
            read_only: flags.split(',').any(|flag| flag == "ro"),
            kind: right.next()?,
            options: right.nth(1).unwrap_or_default(),
        })
    }

    /// Whether what is written there stays.
    fn is_disk(&self) -> bool {
        !matches!(
            self.kind,
            "tmpfs"
                | "proc"
                | "sysfs"
                | "cgroup"
                | "cgroup2"
                | "devpts"
                | "devtmpfs"
                | "mqueue"
                | "securityfs"
                | "debugfs"
                | "tracefs"
                | "ramfs"
                | "bpf"
                | "pstore"
                | "hugetlbfs"
                | "configfs"
                | "binfmt_misc"
        )
    }
}

/// How open something is: 0 to 1, what was found, and what would close it.
struct Finding {
    open: f64,
    found: String,
    advice: &'static str,
}

struct Property {
    what: &'static str,
    weight: u32,
    look: fn(&Facts) -> Finding,
}

impl Property {
    fn item(&self, facts: &Facts) -> ExposureItem {
        let Finding { open, found, advice } = (self.look)(facts);
        ExposureItem {
            what: self.what.to_owned(),
            weight: self.weight,
            open,
            found,
            advice: (open > 0.0 && !advice.is_empty()).then(|| advice.to_owned()),
        }
    }
}

fn finding(open: f64, found: impl Into<String>, advice: &'static str) -> Finding {
    Finding {
        open,
        found: found.into(),
        advice,
    }
}

/// Closed if that holds.
fn either(closed: bool, good: &str, open: f64, bad: &str, advice: &'static str) -> Finding {
    if closed {
        finding(0.0, good, "")
    } else {
        finding(open, bad, advice)
    }
}

const PROPERTIES: [Property; 19] = [
    Property {
        what: "user",
        weight: 4,
        look: |facts| match (facts.root, facts.user_namespace, facts.capabilities) {
            (false, ..) => finding(0.0, "not root", ""),
            (_, true, _) => finding(0.2, "root in a user namespace of its own", "user: NAME"),
            (_, _, 0) => finding(
                0.5,
                "root without capabilities: owns the files of root",
                "user: NAME",
            ),
            _ => finding(1.0, "root", "user: NAME"),
        },
    },
    Property {
        what: "capabilities",
        weight: 4,
        look: |facts| {
            let held: Vec<&str> = DANGEROUS
                .iter()
                .filter(|(bit, _)| facts.capabilities >> bit & 1 == 1)
                .map(|(_, name)| *name)
                .collect();
            match (facts.capabilities, held.is_empty()) {
                (0, _) => finding(0.0, "none", ""),
                (_, true) => finding(
                    0.3,
                    format!("{} harmless ones", facts.capabilities.count_ones()),
                    "sandbox: strict",
                ),
                _ if facts.user_namespace => {
                    finding(0.5, "all, in a user namespace of its own", "sandbox: light")
                }
                _ => finding(1.0, held.join(" "), "sandbox: light"),
            }
        },
    },
    Property {
        what: "new privileges",
        weight: 2,
        look: |facts| {
            either(
                facts.no_new_privs,
                "cannot be gained",
                if facts.root { 0.5 } else { 1.0 },
                "can be gained through setuid programs",
                "no_new_privs: true",
            )
        },
    },
    Property {
        what: "system calls",
        weight: 4,
        look: |facts| match (facts.filters, facts.level) {
            (0, _) => finding(1.0, "all", "sandbox: standard"),
            (_, Level::Strict) => finding(0.0, "only what a list allows", ""),
            _ => finding(0.4, "all but dangerous ones", "sandbox: strict"),
        },
    },
    Property {
        what: "new namespaces",
        weight: 1,
        look: |facts| {
            either(
                facts.filters > 0,
                "cannot be made",
                1.0,
                "can be made",
                "sandbox: standard",
            )
        },
    },
    Property {
        what: "writable files",
        weight: 4,
        look: |facts| {
            let places = facts.writable.join(" ");
            let broad = facts.writable.iter().any(|path| BROAD.contains(&path.as_str()));
            match (facts.read_only && !broad, facts.root, facts.writable.is_empty()) {
                (true, _, true) => finding(0.0, "none that stay", ""),
                (true, ..) => finding(0.2, places, "sandbox: strict, and `write:` for what has to be"),
                (false, true, _) => finding(1.0, "the whole system", "sandbox: standard"),
                (false, false, _) => finding(0.5, "whatever its user may", "sandbox: standard"),
            }
        },
    },
    Property {
        what: "files of others",
        weight: 3,
        look: |facts| match (&facts.own_home, facts.readable.is_empty()) {
            (None, true) => finding(0.0, "passwords and homes cannot be read", ""),
            (Some(home), true) => finding(0.3, format!("only its own home, {home}"), "sandbox: strict"),
            _ => finding(1.0, facts.readable.join(" "), "sandbox: standard"),
        },
    },
    Property {
        what: "readable files",
        weight: 2,
        look: |facts| {
            either(
                facts.level == Level::Strict,
                "only what a list allows",
                1.0,
                "whatever its user may",
                "sandbox: strict",
            )
        },
    },
    Property {
        what: "/tmp",
        weight: 1,
        look: |facts| {
            either(
                facts.own_tmp,
                "its own",
                1.0,
                "shared with everybody",
                "sandbox: light",
            )
        },
    },
    Property {
        what: "devices",
        weight: 2,
        look: |facts| {
            either(
                facts.own_devices,
                "only harmless ones",
                if facts.root { 1.0 } else { 0.3 },
                "all that its user may",
                "sandbox: standard",
            )
        },
    },
    Property {
        what: "network",
        weight: 4,
        look: |facts| match (facts.own_network, facts.handed_calls) {
            (true, false) => finding(0.0, "none but sockets handed over", ""),
            (true, true) => finding(
                0.5,
                "sockets handed over, which could call out: landlock of Linux 6.7 would keep them",
                "",
            ),
            (false, _) => finding(1.0, "all of it", "sandbox: {level: standard, network: false}"),
        },
    },
    Property {
        what: "other processes",
        weight: 3,
        look: |facts| match (facts.own_proc, facts.scoped, facts.root) {
            (true, true, _) => finding(0.0, "can be neither seen nor signalled", ""),
            (true, false, false) => finding(0.2, "cannot be seen; those of its user can be signalled", ""),
            (true, false, true) => finding(
                0.5,
                "cannot be seen; those of root can be signalled",
                "user: NAME",
            ),
            (false, true, _) => finding(0.2, "can be seen, not signalled", ""),
            (false, false, false) => finding(
                0.5,
                "can be seen; those of its user can be signalled",
                "sandbox: standard",
            ),
            (false, false, true) => finding(1.0, "can be seen, signalled and traced", "sandbox: standard"),
        },
    },
    Property {
        what: "shared memory",
        weight: 1,
        look: |facts| {
            either(
                facts.own_ipc,
                "its own",
                0.5,
                "shared with everybody",
                "sandbox: standard",
            )
        },
    },
    Property {
        what: "kernel knobs",
        weight: 2,
        look: |facts| {
            either(
                facts.frozen_knobs || !facts.root,
                "read-only",
                1.0,
                "can be turned",
                "sandbox: light",
            )
        },
    },
    Property {
        what: "memory limit",
        weight: 2,
        look: |facts| limit(facts, "memory", "limits: {memory: 512M}"),
    },
    Property {
        what: "cpu limit",
        weight: 1,
        look: |facts| limit(facts, "cpu", "limits: {cpu: 1}"),
    },
    Property {
        what: "io limit",
        weight: 1,
        look: |facts| limit(facts, "io", "limits: {io_write: 50M}"),
    },
    Property {
        what: "tasks limit",
        weight: 2,
        look: |facts| limit(facts, "tasks", "limits: {tasks: 100}"),
    },
    Property {
        what: "file size",
        weight: 1,
        look: |facts| {
            either(
                facts.file_size,
                "limited",
                1.0,
                "not limited",
                "rlimits: {fsize: 1073741824}",
            )
        },
    },
];

fn limit(facts: &Facts, resource: &str, advice: &'static str) -> Finding {
    let Some(view) = facts.limits.iter().find(|view| view.resource == resource) else {
        return finding(1.0, "not limited", advice);
    };
    match (&view.limit, view.by.as_str()) {
        (Some(limit), "rlimit") => finding(0.5, format!("{limit} for each process"), ""),
        (Some(limit), by) => finding(0.0, format!("{limit} ({by})"), ""),
        (None, _) => match &view.why {
            Some(why) => finding(1.0, format!("not limited: {why}"), ""),
            None => finding(1.0, "not limited", advice),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read() {
        let line = "36 35 98:0 /mnt1 /mnt2 ro,noatime master:1 - ext4 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert!(mount.read_only && mount.is_disk());
        assert_eq!(
            (mount.point, mount.kind, mount.options),
            ("/mnt2", "ext4", "rw,errors=continue")
        );
        assert!(Mount::parse("garbage").is_none());
    }

    #[test]
    fn everything_open_is_ten_and_everything_closed_is_nothing() {
        let sum =
            |facts: &Facts| -> f64 { PROPERTIES.iter().map(|property| property.item(facts).open).sum() };
        let open = Facts {
            root: true,
            capabilities: u64::MAX >> 23,
            readable: vec!["/root".to_owned()],
            ..Facts::default()
        };
        assert!(sum(&open) > 17.0, "{}", sum(&open));
        let limited = |resource: &str| LimitView {
            resource: resource.to_owned(),
            limit: Some("1".to_owned()),
            by: "cgroup v1".to_owned(),
            why: None,
            events: None,
        };
        let closed = Facts {
            no_new_privs: true,
            filters: 4,
            read_only: true,
            own_tmp: true,
            own_devices: true,
            own_network: true,
            own_proc: true,
            own_ipc: true,
            frozen_knobs: true,
            file_size: true,
            scoped: true,
            level: Level::Strict,
            limits: ["memory", "cpu", "io", "tasks"].map(limited).to_vec(),
            ..Facts::default()
        };
        assert!(sum(&closed) < f64::EPSILON);
    }
}
