//! Who is at the other end of a unix socket.

use std::os::fd::{AsFd, AsRawFd};

use crate::{
    call::{CallError, Result},
    pid::Pid,
};

/// The peer as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its process, unless it lives in a pid namespace we cannot see.
    pub pid: Option<Pid>,
}

/// SO_PEERCRED.
pub fn credentials(socket: impl AsFd) -> Result<Peer> {
    let raw = socket.as_fd().as_raw_fd();
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = u32::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // JUSTIFICATION: rustix' `UCred` cannot hold pid 0, which the kernel gives for a peer of another namespace.
    // SAFETY: the kernel writes at most `length` bytes to a live local of that size.
    let result = unsafe {
        libc::getsockopt(
            raw,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(CallError::last("getsockopt SO_PEERCRED", raw));
    }
    Ok(Peer {
        uid: peer.uid,
        gid: peer.gid,
        pid: Pid::new(peer.pid),
    })
}
