//! The one shape of a failed kernel call.

use std::io;

/// A kernel call that failed: which, on what, why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to {call} `{target}`: {}", io::Error::from_raw_os_error(*errno))]
pub struct CallError {
    /// The call.
    pub call: &'static str,
    /// What it was asked to work on.
    pub target: String,
    /// What the kernel said.
    pub errno: i32,
}

impl CallError {
    /// From rustix' errno.
    pub(crate) fn new(call: &'static str, target: impl ToString, errno: rustix::io::Errno) -> Self {
        Self {
            call,
            target: target.to_string(),
            errno: errno.raw_os_error(),
        }
    }

    /// From an error of `std`.
    pub(crate) fn from_io(call: &'static str, target: impl ToString, error: &io::Error) -> Self {
        Self {
            call,
            target: target.to_string(),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    }

    /// From libc's `errno`, right after the call.
    pub(crate) fn last(call: &'static str, target: impl ToString) -> Self {
        Self::from_io(call, target, &io::Error::last_os_error())
    }

    /// Whether the process or the machine is out of descriptors.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self.errno, libc::EMFILE | libc::ENFILE)
    }
}

impl From<CallError> for io::Error {
    fn from(error: CallError) -> Self {
        io::Error::new(io::Error::from_raw_os_error(error.errno).kind(), error)
    }
}

/// Shorthand for the results of this crate.
pub(crate) type Result<T> = std::result::Result<T, CallError>;
