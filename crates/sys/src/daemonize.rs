//! Leaving the terminal: a process that outlives its session and belongs to nobody.

use std::{
    fs::OpenOptions,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use crate::{
    call::{CallError, Result},
    descriptor,
    pid::Pid,
    process, wait,
};

/// Which of the two processes goes on here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was called: it has done its work and returns to the shell.
    Caller,
    /// The new one, without terminal, in a session of its own, child of init (or the nearest subreaper).
    Detached,
}

/// Splits off a process that goes on without the terminal: standard input from `/dev/null`, output appended to
/// `log` (`/dev/null` without one). The working directory becomes `/`.
///
/// Only while this process has one thread (the others would not exist in the new one): EBUSY otherwise.
pub fn detach(log: Option<&Path>) -> Result<Side> {
    let own = Pid::own();
    if process::stat(own)?.threads != 1 {
        return Err(CallError::new(
            "fork",
            "a process with several threads",
            rustix::io::Errno::BUSY,
        ));
    }
    let null = descriptor::open_null()?;
    let output = match log {
        None => descriptor::duplicate(&null)?,
        Some(path) => open_log(path)?,
    };
    if let Some(first) = fork()? {
        // The first child only forks and ends; waiting for it leaves no zombie to the caller.
        wait::wait_for(first)?;
        return Ok(Side::Caller);
    }
    rustix::process::setsid().map_err(|errno| CallError::new("setsid", own, errno))?;
    if fork()?.is_some() {
        // JUSTIFICATION: the process between must end without running the destructors of its copy of our memory.
        // SAFETY: `_exit` only ends the process.
        unsafe { libc::_exit(0) }
    }
    rustix::process::chdir("/").map_err(|errno| CallError::new("chdir", "/", errno))?;
    let attach = |errno| CallError::new("dup2", "standard streams", errno);
    rustix::stdio::dup2_stdin(&null).map_err(attach)?;
    rustix::stdio::dup2_stdout(&output).map_err(attach)?;
    rustix::stdio::dup2_stderr(&output).map_err(attach)?;
    Ok(Side::Detached)
}

fn open_log(path: &Path) -> Result<OwnedFd> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(Into::into)
        .map_err(|error| CallError::from_io("open", path.display(), &error))
}

/// `None` in the child.
fn fork() -> Result<Option<Pid>> {
    // JUSTIFICATION: neither std nor rustix forks without exec.
    // SAFETY: `detach` has made sure that there is one thread, so the child's memory is whole.
    match unsafe { libc::fork() } {
        -1 => Err(CallError::last("fork", "")),
        pid => Ok(Pid::new(pid)),
    }
}
