//! Descriptors by name: pipes of which both ends are kept, listeners, and whatever the daemon wants kept.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use upkeep_sys::{CallError, descriptor, listener, listener::ListenError, pipe};

use crate::protocol::ListenAddress;

/// Something kept.
#[derive(Debug)]
pub(crate) enum Kept {
    /// The reading end does not block, the writing end does.
    Pipe {
        read: OwnedFd,
        write: OwnedFd,
    },
    One(OwnedFd),
}

impl Kept {
    /// What the daemon gets.
    fn for_daemon(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pipe { read, .. } => read.as_fd(),
            Self::One(one) => one.as_fd(),
        }
    }

    /// What a child gets.
    fn for_child(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pipe { write, .. } => write.as_fd(),
            Self::One(one) => one.as_fd(),
        }
    }
}

/// Why there is no such descriptor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescriptorError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl DescriptorError {
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Self::Call(error) => error.errno,
            Self::Listen(error) => error.errno(),
        }
    }
}

/// The table of names.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    pub(crate) kept: BTreeMap<String, Kept>,
}

impl Descriptors {
    /// Makes a pipe unless the name is taken; a duplicate of its reading end (or of what has the name).
    pub(crate) fn make_pipe(&mut self, name: &str) -> Result<OwnedFd, DescriptorError> {
        if !self.kept.contains_key(name) {
            let pipe = pipe::make()?;
            descriptor::set_nonblocking(&pipe.read, true)?;
            let copy = descriptor::duplicate(&pipe.read)?;
            self.kept.insert(
                name.to_owned(),
                Kept::Pipe {
                    read: pipe.read,
                    write: pipe.write,
                },
            );
            return Ok(copy);
        }
        self.duplicate(name)
    }

    /// Listens unless the name is taken.
    pub(crate) fn listen(&mut self, name: &str, address: &ListenAddress) -> Result<OwnedFd, DescriptorError> {
        if !self.kept.contains_key(name) {
            let socket = match address {
                ListenAddress::Tcp(address) => listener::tcp(*address)?,
                ListenAddress::Udp(address) => listener::udp(*address)?,
                ListenAddress::Unix(path, mode) => listener::unix(path, *mode)?,
            };
            let copy = descriptor::duplicate(&socket)?;
            self.put(name, socket);
            return Ok(copy);
        }
        self.duplicate(name)
    }

    /// Keeps a descriptor; what had the name before is closed.
    pub(crate) fn put(&mut self, name: &str, descriptor: OwnedFd) {
        self.kept.insert(name.to_owned(), Kept::One(descriptor));
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.kept.contains_key(name)
    }

    /// For the daemon.
    pub(crate) fn duplicate(&self, name: &str) -> Result<OwnedFd, DescriptorError> {
        match self.kept.get(name) {
            Some(kept) => Ok(descriptor::duplicate(kept.for_daemon())?),
            None => Err(CallError {
                call: "duplicate descriptor",
                target: name.to_owned(),
                errno: 9,
            }
            .into()),
        }
    }

    /// For a child.
    pub(crate) fn for_child(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.kept.get(name).map(Kept::for_child)
    }

    /// Closes; whether there was something.
    pub(crate) fn close(&mut self, name: &str) -> bool {
        self.kept.remove(name).is_some()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.kept.keys().cloned().collect()
    }
}
