//! Children of an earlier keeper that was killed: found by its journal, by its cgroups, by their marker.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use upkeep_sys::{
    Pid, cgroup, clock, pidfd,
    process::{self, Stat},
};

use crate::{
    children::{Children, MARKER},
    journal::{self, Entry},
    table::{Child, Remains},
};

/// Takes over what is still alive. Returns one line for each find, for the log.
pub(crate) fn adopt(children: &mut Children, old_base: Option<PathBuf>, entries: Vec<Entry>) -> Vec<String> {
    let mut finds = Vec::new();
    for entry in entries {
        finds.extend(adopt_entry(children, old_base.as_deref(), entry));
    }
    let mut marked = marked(&children.run_id);
    // What its own key already has is part of that tree.
    marked.retain(|key, _| !children.table.children.contains_key(key));
    for (key, stats) in marked {
        finds.extend(adopt_marked(children, key, &stats));
    }
    let bases: BTreeSet<PathBuf> = children.groups.base.clone().into_iter().chain(old_base).collect();
    for group in bases.iter().flat_map(|base| cgroup::children(base)) {
        finds.extend(adopt_group(children, &group));
    }
    finds
}

/// A child that the journal says was alive.
fn adopt_entry(children: &mut Children, old_base: Option<&Path>, entry: Entry) -> Option<String> {
    // The handle first, then the proof that it is a handle on the right process.
    let handle = pidfd::open(entry.pid).ok()?;
    if !process::is_alive(entry.pid, entry.start_ticks) {
        return None;
    }
    let group = entry.group.map(|group| match old_base {
        Some(base) if children.groups.base.as_deref() != Some(base) => {
            base.join(group).to_string_lossy().into_owned()
        }
        _ => group,
    });
    let find = format!("found stray `{}`, pid {}, by the journal", entry.key, entry.pid);
    let child = Child {
        key: entry.key.clone(),
        pid: entry.pid,
        start_ticks: entry.start_ticks,
        started_unix_ms: entry.started_unix_ms,
        started_mono_ms: entry.started_mono_ms,
        limited: limited(group.as_deref()),
        group,
        stray: Some(handle),
    };
    children.table.children.insert(entry.key, child);
    Some(find)
}

/// Groups with limits have the name of the group that tracks the tree.
fn limited(group: Option<&str>) -> Option<String> {
    let name = Path::new(group?).file_name()?;
    name.to_str().map(str::to_owned)
}

/// Living processes with our marker, by key.
fn marked(run_id: &str) -> BTreeMap<String, Vec<Stat>> {
    let mut found: BTreeMap<String, Vec<Stat>> = BTreeMap::new();
    for pid in process::list().unwrap_or_default() {
        if pid == Pid::own() {
            continue;
        }
        let Some(key) = marker_of(pid, run_id) else {
            continue;
        };
        match process::stat(pid) {
            Ok(stat) if !matches!(stat.state, 'Z' | 'X') => found.entry(key).or_default().push(stat),
            _ => {}
        }
    }
    found
}

fn marker_of(pid: Pid, run_id: &str) -> Option<String> {
    let value = process::variable(pid, MARKER).ok().flatten()?;
    let text = String::from_utf8(value).ok()?;
    text.strip_prefix(run_id)?.strip_prefix(':').map(str::to_owned)
}

/// Processes of a key the journal says nothing of (the keeper was killed between fork and writing, or the journal is
/// lost). The oldest session leader among them is what was started; without one they are only what it left.
fn adopt_marked(children: &mut Children, key: String, stats: &[Stat]) -> Option<String> {
    let leaders = stats.iter().filter(|stat| stat.session == stat.pid.raw());
    let leader = leaders.min_by_key(|stat| stat.start_ticks);
    let Some((leader, handle)) = leader.and_then(|leader| Some((leader, pidfd::open(leader.pid).ok()?)))
    else {
        let find = format!(
            "found {} left-over processes of `{key}` by their marker",
            stats.len()
        );
        children.table.remains.extend(stats.first().map(|first| {
            let leader = stats
                .iter()
                .find_map(|stat| Pid::new(stat.session))
                .unwrap_or(first.pid);
            Remains {
                key,
                leader: Some(leader),
                group: None,
            }
        }));
        return Some(find);
    };
    let group = cgroup_of(children, leader.pid);
    let find = format!("found stray `{key}`, pid {}, by its marker", leader.pid);
    let started_unix_ms = process::started_unix_ms(leader.start_ticks);
    let age = clock::unix_ms().saturating_sub(started_unix_ms);
    let child = Child {
        key: key.clone(),
        pid: leader.pid,
        start_ticks: leader.start_ticks,
        started_unix_ms,
        started_mono_ms: clock::monotonic_ms().saturating_sub(age),
        limited: limited(group.as_deref()),
        group,
        stray: Some(handle),
    };
    children.table.children.insert(key, child);
    Some(find)
}

/// The group below our base that holds the process.
fn cgroup_of(children: &Children, pid: Pid) -> Option<String> {
    let base = children.groups.base.as_ref()?;
    let group = cgroup::children(base)
        .into_iter()
        .find(|group| cgroup::processes(group).unwrap_or_default().contains(&pid))?;
    Some(group.file_name()?.to_str()?.to_owned())
}

/// A group of an earlier keeper: removed if empty, else kept as what a tree left, unless a stray owns it.
fn adopt_group(children: &mut Children, group: &Path) -> Option<String> {
    let owned = |child: &Child| {
        child
            .group
            .as_ref()
            .is_some_and(|name| children.groups.path(name) == group)
    };
    if children.table.children.values().any(owned) {
        return None;
    }
    let members = cgroup::processes(group).unwrap_or_default();
    if members.is_empty() {
        // Somebody may be about to enter it only if another keeper lived, and the lock says none does.
        let _ = cgroup::remove(group);
        return None;
    }
    let name = group.file_name()?.to_str()?;
    let by_marker = members.iter().find_map(|pid| marker_of(*pid, &children.run_id));
    let key = by_marker
        .unwrap_or_else(|| journal::unescape(name.rsplit_once('.').map_or(name, |(escaped, _)| escaped)));
    let find = format!(
        "found {} left-over processes of `{key}` in a cgroup",
        members.len()
    );
    let group = Some(group.to_string_lossy().into_owned());
    children.table.remains.push(Remains {
        key,
        leader: None,
        group,
    });
    Some(find)
}
