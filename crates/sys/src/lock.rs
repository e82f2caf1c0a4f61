//! One holder at a time: flock on a file. The kernel lets go when the last descriptor of the open file is closed,
//! however the holder ends; an exec in place keeps it.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};

use crate::call::CallError;

/// A lock that is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("`{}` is locked by another process", path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be opened or locked.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// The lock, until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Creates the file if need be (mode 0600) and locks it, or says at once that somebody else has it.
pub fn exclusive(path: &Path) -> Result<Lock, LockError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| CallError::from_io("open", path.display(), &error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { file }),
        Err(Errno::WOULDBLOCK) => Err(LockError::Held {
            path: path.to_owned(),
        }),
        Err(errno) => Err(CallError::new("flock", path.display(), errno).into()),
    }
}

impl Lock {
    /// A lock taken by the program that this one replaced, by its inherited descriptor.
    pub fn from_descriptor(fd: OwnedFd) -> Self {
        Self { file: fd.into() }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
