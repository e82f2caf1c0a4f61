//! Resource limits, by the kernel's numbers.

use crate::call::{CallError, Result};

/// "No limit".
pub const UNLIMITED: u64 = u64::MAX;

/// A resource with its two limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// What holds; the process may raise it up to `hard`.
    pub soft: u64,
    /// What only root may raise.
    pub hard: u64,
}

/// `RLIMIT_NOFILE`: how many descriptors.
pub const OPEN_FILES: u32 = libc::RLIMIT_NOFILE;
/// `RLIMIT_CORE`: how large a core file.
pub const CORE: u32 = libc::RLIMIT_CORE;

/// The limit of this process.
pub fn get(resource: u32) -> Result<Limit> {
    let mut raw = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // JUSTIFICATION: rustix' `Resource` is an enum; limits come to us by number.
    // SAFETY: the kernel writes one rlimit64 to a live local.
    let result = unsafe { libc::prlimit64(0, resource, std::ptr::null(), &raw mut raw) };
    if result < 0 {
        return Err(CallError::last("prlimit", resource));
    }
    Ok(Limit {
        resource,
        soft: raw.rlim_cur,
        hard: raw.rlim_max,
    })
}

/// Sets a limit of this process.
pub fn set(limit: Limit) -> Result<()> {
    let raw = libc::rlimit64 {
        rlim_cur: limit.soft,
        rlim_max: limit.hard,
    };
    // JUSTIFICATION: as above. SAFETY: the kernel reads one rlimit64 from a live local.
    let result = unsafe { libc::prlimit64(0, limit.resource, &raw const raw, std::ptr::null_mut()) };
    if result < 0 {
        Err(CallError::last("prlimit", limit.resource))
    } else {
        Ok(())
    }
}

/// Raises the soft limit of open files to the hard one; returns what it was.
pub fn raise_open_files() -> Result<Limit> {
    let before = get(OPEN_FILES)?;
    if before.soft < before.hard {
        set(Limit {
            soft: before.hard,
            ..before
        })?;
    }
    Ok(before)
}
