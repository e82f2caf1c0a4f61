//! The processes that belong together: what was started once, with all it started.
//!
//! A cgroup answers exactly. Where there is none, four signs are put together, because each alone misses somebody:
//! the session (lost by `setsid`), descent (lost when a parent dies), and a marker in the environment (lost by a
//! program that clears it).

use std::{collections::BTreeSet, path::Path};

use crate::{call::Result, cgroup, pid::Pid, process};

/// How to recognise the members of a tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs<'a> {
    /// Its cgroup. If given, nothing else counts.
    pub cgroup: Option<&'a Path>,
    /// The process it began with; it may be gone already.
    pub leader: Option<Pid>,
    /// A variable and the value every member was born with.
    pub marker: Option<(&'a str, &'a [u8])>,
}

/// All living members, the leader included, zombies not. This process is never one of them.
pub fn members(signs: Signs<'_>) -> Result<BTreeSet<Pid>> {
    let mut found = match signs.cgroup {
        Some(group) => cgroup::processes(group)?.into_iter().collect(),
        None => without_cgroup(signs)?,
    };
    found.remove(&Pid::own());
    Ok(found)
}

fn without_cgroup(signs: Signs<'_>) -> Result<BTreeSet<Pid>> {
    let mut found = BTreeSet::new();
    let mut stats = process::list_stats()?;
    if let Some(leader) = signs.leader {
        found.extend(process::descendants_among(&stats, leader));
        let belongs = |stat: &&process::Stat| stat.session == leader.raw() || stat.pid == leader;
        found.extend(stats.iter().filter(belongs).map(|stat| stat.pid));
    }
    if let Some((name, value)) = signs.marker {
        let marked = |stat: &&process::Stat| has_marker(stat.pid, name, value);
        found.extend(stats.iter().filter(marked).map(|stat| stat.pid));
    }
    stats.retain(|stat| matches!(stat.state, 'Z' | 'X'));
    for zombie in stats {
        found.remove(&zombie.pid);
    }
    Ok(found)
}

fn has_marker(pid: Pid, name: &str, value: &[u8]) -> bool {
    process::variable(pid, name)
        .ok()
        .flatten()
        .is_some_and(|found| found == value)
}
