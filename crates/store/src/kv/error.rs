//! Why a backend could not do it, and whether it may have done it all the same.

use super::{LeaseId, Revision};

/// What was attempted and why it failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to {attempt}: {reason}")]
pub struct KvError {
    /// "write `/a` and 3 more".
    pub attempt: String,
    /// Why not.
    #[source]
    pub reason: Reason,
}

/// Whether something may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was changed and nothing will be.
    Refused,
    /// It may have been carried out, now or in a moment. Read before writing again.
    Unknown,
}

/// Kinds of failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The question makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// More than a store takes.
    #[error("{what} has {size}, {limit} are allowed")]
    TooLarge {
        /// What.
        what: String,
        /// Its size: bytes, or a number of things.
        size: usize,
        /// How much is allowed.
        limit: usize,
    },
    /// A transaction would write a key twice.
    #[error("the transaction writes `{0}` more than once")]
    DuplicateKey(String),
    /// That revision is forgotten.
    #[error("that revision is compacted; the oldest that can be read is {oldest}")]
    Compacted {
        /// The oldest that can be read.
        oldest: Revision,
    },
    /// That revision is not there yet.
    #[error("the store is at revision {current}, there is no {asked} yet")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The newest.
        current: Revision,
    },
    /// There is no such lease, or no longer.
    #[error("there is no lease {0:x}; it may have expired")]
    NoLease(LeaseId),
    /// Too much is waiting already.
    #[error("{0}")]
    Busy(String),
    /// No room: the quota is reached or the disk is full.
    #[error("there is no room: {why} ({hint})")]
    NoSpace {
        /// The backend's words.
        why: String,
        /// What to do.
        hint: String,
        /// It may have been carried out all the same.
        maybe: bool,
    },
    /// Who asks may not.
    #[error("not permitted: {0}")]
    Denied(String),
    /// Who asks is not known: wrong password or certificate.
    #[error("not let in: {0}")]
    Unauthenticated(String),
    /// Nobody could be asked; nothing was done.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// It was asked, but no answer came.
    #[error("no answer came, so nobody knows whether it happened: {0}")]
    NoAnswer(String),
    /// The disk or the file failed.
    #[error("{0}")]
    Storage(String),
    /// The backend said what we do not understand.
    #[error("the store answered what makes no sense: {0}")]
    Protocol(String),
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

impl KvError {
    /// An error.
    pub fn new(attempt: impl Into<String>, reason: Reason) -> Self {
        Self {
            attempt: attempt.into(),
            reason,
        }
    }

    /// Whether the same call may succeed a moment later. If the outcome is unknown, look first.
    pub fn retryable(&self) -> bool {
        match &self.reason {
            Reason::Busy(_) | Reason::Unavailable(_) | Reason::NoAnswer(_) | Reason::Storage(_) => true,
            Reason::Invalid(_)
            | Reason::TooLarge { .. }
            | Reason::DuplicateKey(_)
            | Reason::Compacted { .. }
            | Reason::Future { .. }
            | Reason::NoLease(_)
            | Reason::NoSpace { .. }
            | Reason::Denied(_)
            | Reason::Unauthenticated(_)
            | Reason::Protocol(_)
            | Reason::Closed => false,
        }
    }

    /// Whether it may have happened all the same.
    pub fn outcome(&self) -> Outcome {
        match &self.reason {
            // Etcd carries out the write that crosses its quota, and says that there is no room.
            Reason::NoAnswer(_) | Reason::Protocol(_) | Reason::NoSpace { maybe: true, .. } => {
                Outcome::Unknown
            }
            _ => Outcome::Refused,
        }
    }
}
