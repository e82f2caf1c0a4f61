//! The daemon's side of the link: cheap, non-blocking, without a runtime of its own.
//!
//! The owner waits for the descriptor ([`AsFd`]) in whatever way it likes; readable means [`Link::try_recv`] until
//! `None`, writable means [`Link::flush`] while it says `false`. Nothing is lost if either is called too often.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use upkeep_sys::{CallError, descriptor};

use crate::{
    codec::{self, Malformed},
    frames::{BadLength, Filled, Inbox, Outbox},
    protocol::{Event, Request},
};

/// The variable that names the daemon's descriptor of the link.
pub const DESCRIPTOR_VARIABLE: &str = "UPKEEP_KEEPER_FD";

/// A link that does not work.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// This process was not started by a keeper.
    #[error("`{DESCRIPTOR_VARIABLE}` is not set to a descriptor: not started by a keeper")]
    NoKeeper,
    /// The descriptor is not usable.
    #[error("failed to take over the link to the keeper")]
    Adopt(#[source] CallError),
    /// The keeper has ended or hung up: so must we.
    #[error("the keeper is gone")]
    KeeperGone,
    /// The socket failed.
    #[error("failed to talk to the keeper")]
    Socket(#[source] io::Error),
    /// The keeper sent what this version cannot read.
    #[error("failed to read a message of the keeper")]
    Malformed(#[source] Malformed),
    /// A frame of impossible length.
    #[error("failed to exchange a message with the keeper")]
    Length(#[source] BadLength),
    /// A descriptor to be sent could not be duplicated.
    #[error("failed to send a descriptor to the keeper")]
    Duplicate(#[source] CallError),
}

/// The link to the keeper.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
}

impl Link {
    /// The link that the keeper left in our environment. Once per process.
    pub fn from_env() -> Result<Self, LinkError> {
        let number = std::env::var(DESCRIPTOR_VARIABLE)
            .ok()
            .and_then(|text| text.parse().ok());
        let number = number.ok_or(LinkError::NoKeeper)?;
        Self::from_fd(descriptor::adopt(number).map_err(LinkError::Adopt)?)
    }

    /// A link over this socket, which becomes non-blocking.
    pub fn from_fd(socket: OwnedFd) -> Result<Self, LinkError> {
        descriptor::set_nonblocking(&socket, true).map_err(LinkError::Adopt)?;
        Ok(Self {
            socket,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
        })
    }

    /// Queues a request; [`Link::flush`] sends it. A descriptor in it is duplicated.
    pub fn queue(&mut self, request: &Request) -> Result<(), LinkError> {
        let passed = match request {
            Request::PutDescriptor {
                descriptor: given, ..
            } => Some(descriptor::duplicate(given).map_err(LinkError::Duplicate)?),
            _ => None,
        };
        self.outbox
            .push(&codec::encode_request(request), passed)
            .map_err(LinkError::Length)
    }

    /// Sends as much as the socket takes. `true`: everything is sent.
    pub fn flush(&mut self) -> io::Result<bool> {
        self.outbox.flush(&self.socket)
    }

    /// The next event, if one has come. `None`: wait until the descriptor is readable. What came before the keeper
    /// went is still delivered before [`LinkError::KeeperGone`].
    pub fn try_recv(&mut self) -> Result<Option<Event>, LinkError> {
        loop {
            if let Some(frame) = self.inbox.next_frame().map_err(LinkError::Length)? {
                return codec::decode_event(frame.body, frame.passed)
                    .map(Some)
                    .map_err(LinkError::Malformed);
            }
            match self.inbox.fill(&self.socket) {
                Ok(Filled::Some) => {}
                Ok(Filled::WouldBlock) => return Ok(None),
                Ok(Filled::End) => return Err(LinkError::KeeperGone),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(LinkError::KeeperGone);
                }
                Err(error) => return Err(LinkError::Socket(error)),
            }
        }
    }

    /// How many bytes wait to be sent.
    pub fn unsent(&self) -> usize {
        self.outbox.len()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
