//! Processes as `/proc` shows them.
//!
//! Everything here may meet a process that is ending: what can no longer be read counts as absent.

use std::{collections::HashMap, fs, io};

pub use rustix::process::Signal;

/// Sends a signal to one process.
pub fn kill(pid: i32, signal: Signal) -> io::Result<()> {
    // 1 is init; 0 and -1 are whole crowds.
    let pid = Some(pid)
        .filter(|&pid| pid > 1)
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// Whether the process exists and has not ended (a zombie has).
pub fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// A few fields of `/proc/PID/stat`.
#[derive(Clone, Debug)]
pub struct Stat {
    /// Name, at most 15 bytes.
    pub name: String,
    /// State letter.
    pub state: char,
    /// Parent.
    pub ppid: i32,
    /// User and system time so far, in clock ticks.
    pub ticks: u64,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

/// Reads `/proc/PID/stat`.
pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may hold brackets and blanks itself.
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let fields: Vec<&str> = text[close + 1..].split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        name: text[open + 1..close].to_owned(),
        state: fields.first()?.chars().next()?,
        ppid: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        start: number(19)?,
    })
}

/// Every process id there is.
pub fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The command line, arguments joined by blanks; empty for a zombie or a kernel thread.
pub fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim_end()
        .to_owned()
}

/// Living processes whose environment at exec held `NAME=VALUE`, ourselves not counted.
pub fn with_environment(entry: &str) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    all()
        .into_iter()
        .filter(|&pid| pid != own)
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| {
                bytes
                    .split(|&byte| byte == 0)
                    .any(|part| part == entry.as_bytes())
            })
        })
        .filter(|&pid| alive(pid))
        .collect()
}

/// Every process below `roots`, the roots not counted.
pub fn descendants(roots: &[i32]) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in all() {
        if let Some(stat) = stat(pid) {
            children.entry(stat.ppid).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = roots.to_vec();
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            next.push(child);
        }
    }
    found
}

/// Resident memory of one process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident set.
    pub rss: u64,
    /// Resident set with shared pages divided among those who share them.
    pub pss: u64,
    /// What belongs to no file: heap and stacks.
    pub anonymous: u64,
}

/// Reads `/proc/PID/smaps_rollup`.
pub fn memory(pid: i32) -> Option<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| {
            line.strip_prefix(name)?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
    };
    Some(Memory {
        rss: field("Rss:")?,
        pss: field("Pss:")?,
        anonymous: field("Anonymous:")?,
    })
}

/// Processor time of all threads so far, in nanoseconds: what the scheduler counted, not sampled ticks.
pub fn cpu_nanos(pid: i32) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_finds_itself() {
        let own = std::process::id().cast_signed();
        assert!(alive(own));
        let stat = stat(own).expect("we exist");
        assert_ne!(stat.ppid, 0);
        assert!(memory(own).expect("we have memory").rss > 100);
        assert!(descendants(&[stat.ppid]).contains(&own));
    }

    #[test]
    fn init_and_everybody_are_never_signalled() {
        assert!(kill(1, Signal::TERM).is_err());
        assert!(kill(0, Signal::TERM).is_err());
        assert!(kill(-1, Signal::TERM).is_err());
    }
}
