//! What `/proc` tells about processes and the machine.

use std::{collections::HashMap, fs, io, path::PathBuf};

use crate::{
    call::{CallError, Result},
    pid::Pid,
};

/// `/proc/PID/stat`, the fields we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub pid: Pid,
    /// Its name: 15 bytes at most.
    pub name: String,
    /// `R`, `S`, `D`, `Z`, `T`, …
    pub state: char,
    /// Its parent; 0 for none (or one in another pid namespace).
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// CPU time in user mode, ticks.
    pub user_ticks: u64,
    /// CPU time in the kernel, ticks.
    pub system_ticks: u64,
    /// How many threads.
    pub threads: u64,
    /// When it started, in ticks since boot: tells two processes of one pid apart.
    pub start_ticks: u64,
    /// Resident memory, pages.
    pub resident_pages: u64,
}

/// Reads `/proc/PID/stat`.
pub fn stat(pid: Pid) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = read_file(&path)?;
    parse_stat(pid, &text).ok_or_else(|| CallError::new("parse", path, rustix::io::Errno::PROTO))
}

fn parse_stat(pid: Pid, text: &[u8]) -> Option<Stat> {
    // The name may contain anything, parentheses and spaces included; the last `)` ends it.
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let name = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    // The first of them is field 3.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let signed = |number: usize| fields.get(number - 3)?.parse::<i32>().ok();
    let unsigned = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        name,
        state: fields.first()?.chars().next()?,
        parent: signed(4)?,
        group: signed(5)?,
        session: signed(6)?,
        user_ticks: unsigned(14)?,
        system_ticks: unsigned(15)?,
        threads: unsigned(20)?,
        start_ticks: unsigned(22)?,
        resident_pages: unsigned(24)?,
    })
}

/// Its arguments. Empty for a zombie or a kernel thread.
pub fn command_line(pid: Pid) -> Result<Vec<String>> {
    let bytes = read_file(&format!("/proc/{pid}/cmdline"))?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    Ok(bytes
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect())
}

/// One variable of the environment it was started with.
pub fn variable(pid: Pid, name: &str) -> Result<Option<Vec<u8>>> {
    let bytes = read_file(&format!("/proc/{pid}/environ"))?;
    Ok(find_variable(&bytes, name.as_bytes()).map(<[u8]>::to_vec))
}

fn find_variable<'a>(environ: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    environ
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")))
}

/// Every process we can see.
pub fn list() -> Result<Vec<Pid>> {
    let fail = |error: io::Error| CallError::from_io("list", "/proc", &error);
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(fail)? {
        let entry = entry.map_err(fail)?;
        pids.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
                .and_then(Pid::new),
        );
    }
    Ok(pids)
}

/// The stat of every process we can see; those that end meanwhile are left out.
pub fn list_stats() -> Result<Vec<Stat>> {
    Ok(list()?.into_iter().filter_map(|pid| stat(pid).ok()).collect())
}

/// All living descendants of a process, itself not among them. Processes whose parent has died are no descendants
/// any more.
pub fn descendants(of: Pid) -> Result<Vec<Pid>> {
    Ok(descendants_among(&list_stats()?, of))
}

pub(crate) fn descendants_among(stats: &[Stat], of: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<Pid>> = HashMap::new();
    for stat in stats {
        children.entry(stat.parent).or_default().push(stat.pid);
    }
    let mut found = Vec::new();
    let mut queue = vec![of];
    while let Some(pid) = queue.pop() {
        for child in children.remove(&pid.raw()).unwrap_or_default() {
            found.push(child);
            queue.push(child);
        }
    }
    found
}

/// Whether a process is `leader`, of its session, of its cgroup (if that is not ours too), or one of its descendants.
pub fn is_within(pid: Pid, leader: Pid) -> bool {
    if pid == leader {
        return true;
    }
    let Ok(mut at) = stat(pid) else { return false };
    if at.session == leader.raw() {
        return true;
    }
    let group = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    let own = group("self");
    let of_leader = group(&leader.raw().to_string());
    if of_leader.is_some() && of_leader != own && group(&pid.raw().to_string()) == of_leader {
        return true;
    }
    // A chain of parents is not longer than this unless somebody plays games.
    for _ in 0..256 {
        if at.parent == leader.raw() {
            return true;
        }
        match u32::try_from(at.parent).ok().and_then(Pid::from_unsigned) {
            Some(parent) if parent.raw() > 1 => match stat(parent) {
                Ok(stat) => at = stat,
                Err(_) => return false,
            },
            _ => return false,
        }
    }
    false
}

/// Memory that is its own plus its share of what is shared, KiB. Slower than the resident size; needs the right to
/// trace the process.
pub fn proportional_kib(pid: Pid) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = read_file(&path)?;
    field_kib(&text, "Pss:").ok_or_else(|| CallError::new("parse", path, rustix::io::Errno::PROTO))
}

/// The machine's memory, KiB.
pub fn total_memory_kib() -> Result<u64> {
    let text = read_file("/proc/meminfo")?;
    field_kib(&text, "MemTotal:")
        .ok_or_else(|| CallError::new("parse", "/proc/meminfo", rustix::io::Errno::PROTO))
}

fn field_kib(text: &[u8], name: &str) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// When the machine was started, Unix ms.
pub fn boot_unix_ms() -> u64 {
    crate::clock::unix_ms().saturating_sub(crate::clock::boottime_ms())
}

/// Differs between any two boots; empty where the kernel does not tell.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Ticks per second, the unit of CPU times and start times in `/proc`.
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

/// Bytes per page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// When a process started, Unix ms, from its start ticks.
pub fn started_unix_ms(start_ticks: u64) -> u64 {
    boot_unix_ms() + start_ticks.saturating_mul(1000) / ticks_per_second()
}

/// Whether that very process is there and not a zombie.
pub fn is_alive(pid: Pid, start_ticks: u64) -> bool {
    stat(pid).is_ok_and(|stat| stat.start_ticks == start_ticks && !matches!(stat.state, 'Z' | 'X'))
}

/// The program a process runs, for starting it again. `None` if it may not be seen.
pub fn executable(pid: Pid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

fn read_file(path: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| CallError::from_io("read", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read_whole() {
        let text = b"7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 3 0 12345 1000 222 1 1";
        let stat = parse_stat(Pid::new(7).unwrap(), text).unwrap();
        assert_eq!(stat.name, "a) b (c)");
        assert_eq!((stat.state, stat.parent, stat.session), ('S', 1, 7));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.threads), (50, 60, 3));
        assert_eq!((stat.start_ticks, stat.resident_pages), (12345, 222));
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        assert_eq!(find_variable(b"AB=1\0A=2\0", b"A"), Some(&b"2"[..]));
        assert_eq!(find_variable(b"AB=1\0", b"A"), None);
        assert_eq!(field_kib(b"Rss: 4 kB\nPss:    12 kB\n", "Pss:"), Some(12));
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let own = stat(Pid::own()).unwrap();
        assert!(list().unwrap().contains(&Pid::own()));
        assert!(is_alive(Pid::own(), own.start_ticks));
        assert!(started_unix_ms(own.start_ticks) <= crate::clock::unix_ms() + 1000);
        assert!(proportional_kib(Pid::own()).unwrap() > 0);
        assert!(total_memory_kib().unwrap() > 1024);
        assert!(command_line(Pid::own()).unwrap().len() > 1);
    }
}
