//! What limits are in force, and by what: read from the kernel for the process that runs.

use std::fs;

use upkeep_api::body::LimitView;
use upkeep_model::{app::AppSpec, size::ByteSize};
use upkeep_sys::{
    Pid,
    cgroup::limit::{Controllers, InForce, Limits, Resource, in_force, oom_kills, throttled},
};

/// What holds for each resource. `pid`: of a running instance.
pub(crate) fn limits(spec: &AppSpec, pid: Option<u32>) -> Vec<LimitView> {
    let asked = super::limits(spec);
    let pid = pid.and_then(Pid::from_unsigned);
    Resource::ALL
        .into_iter()
        .map(|resource| view(resource, &asked, pid))
        .collect()
}

fn view(resource: Resource, asked: &Limits, pid: Option<Pid>) -> LimitView {
    let wanted = asked.wants(resource);
    let none = |why: Option<String>| LimitView {
        resource: resource.to_string(),
        limit: None,
        by: "none".to_owned(),
        why,
        events: None,
    };
    if !wanted {
        return none(None);
    }
    let Some(pid) = pid else {
        return LimitView {
            limit: text(resource, asked),
            by: "not running".to_owned(),
            ..none(None)
        };
    };
    // A group that is not ours limits whoever else is in it, too.
    let ours = in_force(pid, resource).filter(|held| held.group.to_string_lossy().contains("/upkeep-"));
    if let Some(held) = ours
        && let Some(limit) = text(resource, &held.limits)
    {
        return LimitView {
            limit: Some(limit),
            by: held.version.to_string(),
            events: events(resource, pid, &held),
            ..none(None)
        };
    }
    let row = match resource {
        Resource::Memory => Some("Max data size"),
        Resource::Tasks => Some("Max processes"),
        Resource::Cpu | Resource::Io => None,
    };
    if let Some(value) = row.and_then(|row| rlimit(pid, row)) {
        let limit = match resource {
            Resource::Memory => ByteSize::from_bytes(value).to_string(),
            _ => value.to_string(),
        };
        return LimitView {
            limit: Some(limit),
            by: "rlimit".to_owned(),
            why: Some("each process by itself: there is no controller".to_owned()),
            ..none(None)
        };
    }
    none(Some(why_not(resource)))
}

/// Why a resource cannot be limited here.
fn why_not(resource: Resource) -> String {
    let found = Controllers::detect("upkeep", None);
    let index = Resource::ALL
        .iter()
        .position(|known| *known == resource)
        .unwrap_or_default();
    match found.places().get(index) {
        Some(Err(why)) => why.clone(),
        _ => "it was started before the limit was asked for".to_owned(),
    }
}

fn text(resource: Resource, limits: &Limits) -> Option<String> {
    let bytes = |value: u64| ByteSize::from_bytes(value).to_string();
    let two = |first: Option<String>, word: &str, second: Option<String>| match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}, {word} {second}")),
        (Some(first), None) => Some(first),
        (None, Some(second)) => Some(format!("{word} {second}")),
        (None, None) => None,
    };
    match resource {
        Resource::Memory => two(limits.memory.map(bytes), "high", limits.memory_high.map(bytes)),
        Resource::Cpu => limits
            .cpu_milli
            .map(|milli| format!("{} cores", milli as f64 / 1000.0)),
        Resource::Tasks => limits.tasks.map(|tasks| tasks.to_string()),
        Resource::Io => two(
            limits.io_read.map(|rate| format!("read {}/s", bytes(rate))),
            "write",
            limits.io_write.map(|rate| format!("{}/s", bytes(rate))),
        ),
    }
}

/// What the limit has led to so far.
fn events(resource: Resource, pid: Pid, held: &InForce) -> Option<String> {
    match resource {
        Resource::Memory => {
            let kills = oom_kills(held.version, &held.group);
            (kills > 0).then(|| format!("{kills} processes killed"))
        }
        Resource::Cpu => {
            let (times, us) = throttled(pid)?;
            (times > 0).then(|| format!("held up {times} times, {} ms", us / 1000))
        }
        _ => None,
    }
}

/// The soft limit in a row of `/proc/PID/limits`.
pub(super) fn rlimit(pid: Pid, row: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(row))?;
    line.split_whitespace().next()?.parse().ok()
}
