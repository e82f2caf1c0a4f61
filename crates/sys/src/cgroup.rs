//! Groups of processes that no member can leave unseen: cgroup v2, for tracking. [`limit`] is about what they may use.
//!
//! A tracker makes one group below the group it lives in itself and, below that, one group for each tree it starts.
//! No controllers are switched on here, so the rule that groups with controllers must not hold processes and groups at
//! once does not bite.

use std::{
    fmt, fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use crate::{
    call::{CallError, Result},
    descriptor,
    pid::Pid,
    signal,
};

pub mod limit;

/// The magic number of cgroup2's file system.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// What the machine offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// Version 2 alone.
    V2,
    /// Version 2 beside version 1: good for tracking, not for limits.
    V2BesideV1,
    /// Nothing we can use.
    None {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V2 => f.write_str("cgroup v2"),
            Self::V2BesideV1 => f.write_str("cgroup v2 beside v1"),
            Self::None { why } => write!(f, "none: {why}"),
        }
    }
}

/// The directory of the group this process lives in, and what kind of machine it is.
pub fn own_group() -> std::result::Result<(Level, PathBuf), Level> {
    let none = |why: String| Level::None { why };
    let (level, root) = mounted()?;
    let text = fs::read_to_string("/proc/self/cgroup")
        .map_err(|error| none(format!("`/proc/self/cgroup` cannot be read: {error}")))?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or_else(|| none("this process is in no v2 group".to_owned()))?;
    // A group outside our cgroup namespace is shown as `/../…`: it cannot be reached.
    if path.starts_with("/..") {
        return Err(none("our group is outside our cgroup namespace".to_owned()));
    }
    Ok((level, root.join(path.trim_start_matches('/'))))
}

/// Where cgroup v2 is mounted.
pub fn mounted() -> std::result::Result<(Level, PathBuf), Level> {
    [
        (Level::V2, "/sys/fs/cgroup"),
        (Level::V2BesideV1, "/sys/fs/cgroup/unified"),
    ]
    .into_iter()
    .map(|(level, root)| (level, PathBuf::from(root)))
    .find(|(_, root)| is_cgroup2(root))
    .ok_or_else(|| Level::None {
        why: "cgroup v2 is not mounted".to_owned(),
    })
}

fn is_cgroup2(root: &Path) -> bool {
    rustix::fs::statfs(root).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(CGROUP2_MAGIC))
}

/// A name as one component of a path: letters, digits, `-`, `_` and `.` (not in front) as they are, every other byte
/// as `%XX`; cut at 180 bytes.
pub fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for (index, byte) in name.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (byte == b'.' && index > 0);
        if plain {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        if escaped.len() >= 180 {
            break;
        }
    }
    escaped
}

/// Makes a group; it may be there already.
pub fn create(group: &Path) -> Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CallError::from_io("create cgroup", group.display(), &error))
        }
        _ => Ok(()),
    }
}

/// The group as a directory, for [`crate::spawn::spawn`].
pub fn open(group: &Path) -> Result<OwnedFd> {
    descriptor::open_directory(group)
}

/// Removes a group and the (empty) groups below it. EBUSY if processes are left.
pub fn remove(group: &Path) -> Result<()> {
    for below in children(group) {
        remove(&below)?;
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CallError::from_io("remove cgroup", group.display(), &error))
        }
        _ => Ok(()),
    }
}

/// The groups right below.
pub fn children(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// All processes in the group and the groups below. A group that is gone has none.
pub fn processes(group: &Path) -> Result<Vec<Pid>> {
    let path = group.join("cgroup.procs");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(Vec::new()),
        // A threaded group below: its processes are listed by the group above it.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        other => other.map_err(|error| CallError::from_io("read", path.display(), &error))?,
    };
    let mut found: Vec<Pid> = text
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter_map(Pid::new)
        .collect();
    for below in children(group) {
        found.extend(processes(&below)?);
    }
    Ok(found)
}

/// Whether anything lives in the group or below. The kernel may take a moment to forget a process that has just been
/// reaped, so a group that counts as populated is asked for its processes.
pub fn is_populated(group: &Path) -> Result<bool> {
    let path = group.join("cgroup.events");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CallError::from_io("read", path.display(), &error)),
        Ok(text) if text.lines().any(|line| line == "populated 0") => Ok(false),
        Ok(_) => Ok(!processes(group)?.is_empty()),
    }
}

/// SIGKILL to everything in the group and below, forks in flight included. Returns how many processes were seen.
pub fn kill(group: &Path) -> Result<usize> {
    let seen = processes(group)?;
    if seen.is_empty() {
        return Ok(0);
    }
    if fs::write(group.join("cgroup.kill"), "1").is_ok() {
        return Ok(seen.len());
    }
    // Before 5.14: in rounds, because a member may fork between reading and killing.
    for _ in 0..64 {
        let members = processes(group)?;
        if members
            .iter()
            .all(|pid| signal::send(*pid, signal::number::KILL).is_err())
        {
            break;
        }
    }
    Ok(seen.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_harmless_component() {
        assert_eq!(escape("shop-1.web"), "shop-1.web");
        assert_eq!(escape("../a b/é"), "%2E.%2Fa%20b%2F%C3%A9");
        assert!(escape(&"é".repeat(256)).len() <= 190);
    }

    #[test]
    fn levels_read_as_text() {
        assert_eq!(Level::V2BesideV1.to_string(), "cgroup v2 beside v1");
        assert_eq!(
            Level::None {
                why: "not mounted".into()
            }
            .to_string(),
            "none: not mounted"
        );
    }
}
