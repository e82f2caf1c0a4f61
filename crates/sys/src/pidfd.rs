//! A process by descriptor: it never means another process, however pids are reused.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::process::{PidfdFlags, Signal};

use crate::{
    call::{CallError, Result},
    pid::Pid,
};

/// Opens a handle on a living (or not yet reaped) process, CLOEXEC.
pub fn open(pid: Pid) -> Result<OwnedFd> {
    let fail = |errno| CallError::new("pidfd_open", pid, errno);
    let raw = pid.rustix().ok_or_else(|| fail(rustix::io::Errno::SRCH))?;
    rustix::process::pidfd_open(raw, PidfdFlags::empty()).map_err(fail)
}

/// Whether the process has ended (it may still wait to be reaped). Never waits.
pub fn has_exited(pidfd: impl AsFd) -> Result<bool> {
    crate::poll::readable_within(pidfd, 0)
}

/// Sends a signal by number.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let raw = pidfd.as_fd().as_raw_fd();
    let fail = |errno| CallError::new("pidfd_send_signal", raw, errno);
    let Some(signal) = Signal::from_named_raw(signal) else {
        return send_unnamed(raw, signal);
    };
    rustix::process::pidfd_send_signal(pidfd, signal).map_err(fail)
}

/// Real-time signals, which rustix does not name.
fn send_unnamed(pidfd: i32, signal: i32) -> Result<()> {
    // JUSTIFICATION: rustix' `Signal` has no safe constructor for real-time signals.
    // SAFETY: the call reads no memory of ours (the info pointer is null).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd,
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 {
        Err(CallError::last("pidfd_send_signal", pidfd))
    } else {
        Ok(())
    }
}
