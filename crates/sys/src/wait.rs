//! How children ended and what they used.

use std::mem::MaybeUninit;

use crate::{
    call::{CallError, Result},
    pid::Pid,
};

/// A child that ended; it is gone from the process table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Which.
    pub pid: Pid,
    /// How.
    pub status: Status,
    /// What it and the children it waited for used.
    pub usage: Usage,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By `exit`, with this code.
    Code(u8),
    /// By this signal.
    Signal {
        /// Its number.
        number: u8,
        /// Whether a core was dumped.
        core: bool,
    },
}

/// getrusage(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode, µs.
    pub user_us: u64,
    /// CPU time in the kernel, µs.
    pub system_us: u64,
    /// The most memory it had at once, KiB.
    pub max_rss_kib: u64,
    /// Page faults that needed a disk.
    pub major_faults: u64,
}

/// Reaps one child that has ended, whichever. `None`: none has, or there are none. Never waits.
pub fn reap_any() -> Result<Option<Reaped>> {
    wait4(-1, libc::WNOHANG)
}

/// Reaps this child if it has ended. Never waits. `None` also if it is no child of ours.
pub fn reap(pid: Pid) -> Result<Option<Reaped>> {
    wait4(pid.raw(), libc::WNOHANG)
}

/// Waits for this child's end.
pub fn wait_for(pid: Pid) -> Result<Option<Reaped>> {
    wait4(pid.raw(), 0)
}

fn wait4(target: i32, options: i32) -> Result<Option<Reaped>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // JUSTIFICATION: rustix has no wait4, and only wait4 tells what the child used.
        // SAFETY: both pointers are to live locals; a zeroed rusage is a valid value.
        let (pid, usage) = unsafe {
            let pid = libc::wait4(target, &raw mut status, options, usage.as_mut_ptr());
            (pid, usage.assume_init_ref())
        };
        if let Some(pid) = Pid::new(pid) {
            if let Some(status) = decode(status) {
                return Ok(Some(Reaped {
                    pid,
                    status,
                    usage: read_usage(usage),
                }));
            }
            continue;
        }
        if pid == 0 {
            return Ok(None);
        }
        match CallError::last("wait4", target) {
            error if error.errno == libc::EINTR => {}
            error if error.errno == libc::ECHILD => return Ok(None),
            error => return Err(error),
        }
    }
}

fn decode(status: i32) -> Option<Status> {
    if libc::WIFEXITED(status) {
        return Some(Status::Code(
            u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX),
        ));
    }
    libc::WIFSIGNALED(status).then(|| Status::Signal {
        number: u8::try_from(libc::WTERMSIG(status)).unwrap_or(u8::MAX),
        core: libc::WCOREDUMP(status),
    })
}

fn read_usage(raw: &libc::rusage) -> Usage {
    let micros = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    Usage {
        user_us: micros(raw.ru_utime),
        system_us: micros(raw.ru_stime),
        max_rss_kib: u64::try_from(raw.ru_maxrss).unwrap_or(0),
        major_faults: u64::try_from(raw.ru_majflt).unwrap_or(0),
    }
}
