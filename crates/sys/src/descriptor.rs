//! Descriptors themselves: adopting inherited ones, duplicating, CLOEXEC, plain reads and writes.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::FdFlags,
};

use crate::call::{CallError, Result};

/// Takes possession of a descriptor that was open when this program started, and marks it CLOEXEC.
///
/// Call it once per number, before anything else in the process could own it.
pub fn adopt(number: RawFd) -> Result<OwnedFd> {
    // JUSTIFICATION: an inherited descriptor is a bare number; only `from_raw_fd` makes a value of it.
    // SAFETY: F_GETFD has just shown that it is open, and the caller hands over the number (see above); standard
    // streams, which std also uses, are refused.
    let fd = unsafe {
        if number < 3 || libc::fcntl(number, libc::F_GETFD) < 0 {
            return Err(CallError::new(
                "adopt descriptor",
                number,
                rustix::io::Errno::BADF,
            ));
        }
        OwnedFd::from_raw_fd(number)
    };
    set_cloexec(&fd, true)?;
    Ok(fd)
}

/// A duplicate, CLOEXEC.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    let raw = fd.as_fd().as_raw_fd();
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|errno| CallError::new("duplicate descriptor", raw, errno))
}

/// Whether the descriptor is closed by an exec.
pub fn set_cloexec(fd: impl AsFd, on: bool) -> Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    let flags = if on { FdFlags::CLOEXEC } else { FdFlags::empty() };
    rustix::io::fcntl_setfd(fd, flags).map_err(|errno| CallError::new("fcntl F_SETFD", raw, errno))
}

/// O_NONBLOCK on the open file (shared by its duplicates).
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    let fail = |errno| CallError::new("fcntl F_SETFL", raw, errno);
    let mut flags = rustix::fs::fcntl_getfl(&fd).map_err(fail)?;
    flags.set(OFlags::NONBLOCK, on);
    rustix::fs::fcntl_setfl(&fd, flags).map_err(fail)
}

/// A descriptor that names a file without opening it: enough to start it later, whatever happens to its name.
pub fn open_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| CallError::new("open", path.display(), errno))
}

/// A directory, for `*at` calls and clone3.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| CallError::new("open directory", path.display(), errno))
}

/// `/dev/null`, for reading and writing.
pub fn open_null() -> Result<OwnedFd> {
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| CallError::new("open", "/dev/null", errno))
}

/// Whether two descriptors name the same file.
pub fn same_file(one: impl AsFd, other: impl AsFd) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Whether this process may execute the file.
pub fn is_executable(path: &Path) -> Result<()> {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK)
        .map_err(|errno| CallError::new("execute", path.display(), errno))
}

/// `read(2)`, with EINTR hidden.
pub fn read(fd: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut *into))?)
}

/// `write(2)`, with EINTR hidden.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::write(&fd, bytes))?)
}

/// Descriptors set aside for the moment when there are none left: what has to go on even then, goes on.
#[derive(Debug)]
pub struct Reserve {
    held: Vec<OwnedFd>,
    size: usize,
}

impl Reserve {
    /// Sets `size` descriptors aside, as many as there are.
    pub fn new(size: usize) -> Self {
        let mut reserve = Self {
            held: Vec::with_capacity(size),
            size,
        };
        reserve.refill();
        reserve
    }

    /// Does `work`; if it fails for want of descriptors (EMFILE, ENFILE), once more with the reserve given up.
    pub fn retry<T, E>(
        &mut self,
        mut work: impl FnMut() -> std::result::Result<T, E>,
        errno_of: impl Fn(&E) -> i32,
    ) -> std::result::Result<T, E> {
        match work() {
            Err(error) if matches!(errno_of(&error), libc::EMFILE | libc::ENFILE) => {
                self.held.clear();
                let result = work();
                self.refill();
                result
            }
            result => {
                self.refill();
                result
            }
        }
    }

    fn refill(&mut self) {
        while self.held.len() < self.size {
            let Ok(fd) = open_null() else { return };
            self.held.push(fd);
        }
    }
}
