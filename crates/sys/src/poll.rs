//! Waiting for several descriptors, with a deadline.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};

use crate::call::{CallError, Result};

/// What to wait for on one descriptor, and what came.
#[derive(Debug)]
pub struct Interest<'fd> {
    fd: BorrowedFd<'fd>,
    wanted: PollFlags,
    came: PollFlags,
}

impl<'fd> Interest<'fd> {
    /// Waits until there is something to read (or the other side is gone).
    pub fn readable(fd: &'fd impl AsFd) -> Self {
        Self::new(fd, PollFlags::IN)
    }

    /// Waits for the other side to be gone, and nothing else.
    pub fn hangup(fd: &'fd impl AsFd) -> Self {
        Self::new(fd, PollFlags::empty())
    }

    fn new(fd: &'fd impl AsFd, wanted: PollFlags) -> Self {
        Self {
            fd: fd.as_fd(),
            wanted,
            came: PollFlags::empty(),
        }
    }

    /// Also waits until there is room to write, if `wanted`.
    #[must_use]
    pub fn or_writable(mut self, wanted: bool) -> Self {
        self.wanted.set(PollFlags::OUT, wanted);
        self
    }

    /// Whether reading would not wait: data, end or error.
    pub fn is_readable(&self) -> bool {
        self.came
            .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
    }

    /// Whether there is room to write.
    pub fn is_writable(&self) -> bool {
        self.came.intersects(PollFlags::OUT | PollFlags::ERR)
    }
}

/// Waits until one of them is ready or `timeout_ms` have passed (`None`: for ever). Returns how many are ready; a
/// signal ends the wait with 0.
pub fn wait(interests: &mut [Interest<'_>], timeout_ms: Option<u64>) -> Result<usize> {
    let mut raw: Vec<PollFd<'_>> = interests
        .iter()
        .map(|interest| PollFd::from_borrowed_fd(interest.fd, interest.wanted))
        .collect();
    let timeout = timeout_ms.map(|ms| Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
    });
    let ready = match rustix::event::poll(&mut raw, timeout.as_ref()) {
        Err(Errno::INTR) => 0,
        Err(errno) => return Err(CallError::new("poll", interests.len(), errno)),
        Ok(ready) => ready,
    };
    for (interest, raw) in interests.iter_mut().zip(raw) {
        interest.came = raw.revents();
    }
    Ok(ready)
}

/// Whether `fd` is readable (or at its end) within `timeout_ms`.
pub fn readable_within(fd: impl AsFd, timeout_ms: u64) -> Result<bool> {
    let deadline = crate::clock::monotonic_ms().saturating_add(timeout_ms);
    loop {
        let now = crate::clock::monotonic_ms();
        let mut one = [Interest::readable(&fd)];
        if wait(&mut one, Some(deadline.saturating_sub(now)))? > 0 {
            return Ok(true);
        }
        if now >= deadline {
            return Ok(false);
        }
    }
}
