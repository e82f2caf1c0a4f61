//! Pipes, and moving what is in them without reading it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::pipe::{PipeFlags, SpliceFlags};

use crate::call::{CallError, Result};

/// Both ends of a pipe, CLOEXEC. Each end has flags of its own.
#[derive(Debug)]
pub struct Pipe {
    /// What comes out.
    pub read: OwnedFd,
    /// What goes in; blocking.
    pub write: OwnedFd,
}

/// A new pipe whose ends both block.
pub fn make() -> Result<Pipe> {
    let (read, write) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| CallError::new("pipe2", "", errno))?;
    Ok(Pipe { read, write })
}

/// How many bytes the pipe holds before its writer waits.
pub fn capacity(pipe: impl AsFd) -> Result<usize> {
    let raw = pipe.as_fd().as_raw_fd();
    rustix::pipe::fcntl_getpipe_size(pipe).map_err(|errno| CallError::new("fcntl F_GETPIPE_SZ", raw, errno))
}

/// Asks for room for `bytes`; returns how much there is now.
pub fn set_capacity(pipe: impl AsFd, bytes: usize) -> Result<usize> {
    let raw = pipe.as_fd().as_raw_fd();
    rustix::pipe::fcntl_setpipe_size(pipe, bytes)
        .map_err(|errno| CallError::new("fcntl F_SETPIPE_SZ", raw, errno))
}

/// How many bytes wait in the pipe (or socket).
pub fn available(pipe: impl AsFd) -> Result<u64> {
    let raw = pipe.as_fd().as_raw_fd();
    rustix::io::ioctl_fionread(pipe).map_err(|errno| CallError::new("ioctl FIONREAD", raw, errno))
}

/// Moves up to `length` bytes from a pipe to a file (at its position) or another pipe, inside the kernel. Never
/// waits for the pipe: `WouldBlock` if it is empty. 0 means that no writer is left.
///
/// A file opened with O_APPEND is refused by the kernel (EINVAL).
pub fn splice(from: impl AsFd, to: impl AsFd, length: usize) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| {
        rustix::pipe::splice(
            &from,
            None,
            &to,
            None,
            length,
            SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
        )
    })?)
}

/// Copies up to `length` bytes from one pipe to another and leaves them where they are. Never waits.
pub fn tee(from: impl AsFd, to: impl AsFd, length: usize) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| {
        rustix::pipe::tee(&from, &to, length, SpliceFlags::NONBLOCK)
    })?)
}
