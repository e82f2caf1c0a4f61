//! A process id that cannot mean "every process" or "my own group" by accident.

use std::{fmt, num::NonZeroI32};

/// A process id: 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// `None` unless `raw` is at least 1.
    pub const fn new(raw: i32) -> Option<Self> {
        match NonZeroI32::new(raw) {
            Some(raw) if raw.get() > 0 => Some(Self(raw)),
            _ => None,
        }
    }

    /// This process.
    pub fn own() -> Self {
        Self(rustix::process::getpid().as_raw_nonzero())
    }

    /// As the kernel writes it.
    pub const fn raw(self) -> i32 {
        self.0.get()
    }

    /// As protocols write it.
    pub const fn unsigned(self) -> u32 {
        self.0.get().unsigned_abs()
    }

    /// From a protocol.
    pub fn from_unsigned(raw: u32) -> Option<Self> {
        i32::try_from(raw).ok().and_then(Self::new)
    }

    pub(crate) fn rustix(self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.raw())
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
