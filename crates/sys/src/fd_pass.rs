//! Descriptors over a stream socket, beside the bytes.
//!
//! The kernel hands descriptors over with the first byte they were sent with, never later and never reordered. So a
//! receiver that keeps the descriptors in a queue and takes one whenever a message speaks of one is always right.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};

use crate::call::{CallError, Result};

/// The most descriptors one message carries (the kernel's SCM_MAX_FD).
pub const MAX_DESCRIPTORS: usize = 253;

/// A message with descriptors that could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The kernel said no; `WouldBlock` is among the answers.
    #[error("failed to {call} on the socket")]
    Call {
        /// `sendmsg` or `recvmsg`.
        call: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The receiver had no room for the descriptors; they are lost, the bytes beside them are not.
    #[error("received {bytes} bytes whose descriptors were lost: out of descriptors")]
    Truncated {
        /// How many bytes were received.
        bytes: usize,
    },
    /// More than [`MAX_DESCRIPTORS`].
    #[error("failed to send {count} descriptors in one message")]
    TooMany {
        /// How many were to be sent.
        count: usize,
    },
}

impl PassError {
    /// Whether trying again later is the answer.
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Two connected stream sockets, CLOEXEC, the first one non-blocking for whoever keeps it.
pub fn socketpair() -> Result<(OwnedFd, OwnedFd)> {
    let (one, other) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| CallError::new("socketpair", "AF_UNIX", errno))?;
    crate::descriptor::set_nonblocking(&one, true)?;
    Ok((one, other))
}

/// Sends bytes, and the descriptors with the first of them. Returns how many bytes went; if any did, all
/// descriptors did.
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> std::result::Result<usize, PassError> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(PassError::TooMany {
            count: descriptors.len(),
        });
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let parts = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(&socket, &parts, &mut ancillary, SendFlags::NOSIGNAL))
        .map_err(|errno| PassError::Call {
            call: "sendmsg",
            source: errno.into(),
        })
}

/// Receives bytes into `into` and appends what descriptors came with them, CLOEXEC. 0 is the end of the stream.
pub fn recv(
    socket: impl AsFd,
    into: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
) -> std::result::Result<usize, PassError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(into)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(PassError::Call {
                    call: "recvmsg",
                    source: errno.into(),
                });
            }
            Ok(received) => break received,
        }
    };
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(PassError::Truncated {
            bytes: received.bytes,
        });
    }
    Ok(received.bytes)
}
