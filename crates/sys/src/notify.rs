//! The sd_notify protocol, both ends: telling the service manager how we are, and being told by what we manage.
//!
//! A message is one datagram of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names (sd_notify(3)). The kernel
//! says beside it which process sent it; whether that process may speak is the reader's to judge.

use std::{
    ffi::OsStr,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::Path,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, sockopt,
};

use crate::call::{CallError, Result};

/// The longest message that is read; systemd's own bound.
const MESSAGE_MAX: usize = 4096;
/// How many descriptors may come with a message; they are closed, which is the answer to `BARRIER=1`.
const DESCRIPTORS_MAX: usize = 8;

/// A socket that messages of sd_notify come to.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it, as the kernel says; absent if it is not in our pid namespace.
    pub sender: Option<u32>,
    /// Its text, as far as it is text.
    pub text: String,
}

impl NotifySocket {
    /// Binds a socket in the abstract namespace: no file, reachable for every user of our network namespace.
    pub fn bind(name: &str) -> Result<Self> {
        let fail = |call| move |errno| CallError::new(call, format!("@{name}"), errno);
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(fail("socket"))?;
        sockopt::set_socket_passcred(&socket, true).map_err(fail("setsockopt"))?;
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(fail("bind"))?;
        rustix::net::bind(&socket, &address).map_err(fail("bind"))?;
        Ok(Self { socket })
    }

    /// Binds a socket at a path, writable for everybody who can get there: for a process that has another network
    /// namespace, which abstract names do not cross. What is there is removed first.
    pub fn bind_file(path: &Path) -> Result<Self> {
        let fail = |call| move |errno| CallError::new(call, path.display(), errno);
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(fail("socket"))?;
        sockopt::set_socket_passcred(&socket, true).map_err(fail("setsockopt"))?;
        match rustix::fs::unlink(path) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(fail("remove")(errno)),
        }
        let address = SocketAddrUnix::new(path).map_err(fail("bind"))?;
        rustix::net::bind(&socket, &address).map_err(fail("bind"))?;
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o666)).map_err(fail("chmod"))?;
        Ok(Self { socket })
    }

    /// Takes on a socket that [`Self::bind`] made, perhaps in another process.
    pub fn adopt(socket: OwnedFd) -> Result<Self> {
        sockopt::set_socket_passcred(&socket, true)
            .map_err(|errno| CallError::new("setsockopt", "notify socket", errno))?;
        crate::descriptor::set_nonblocking(&socket, true)?;
        Ok(Self { socket })
    }

    /// The next message; nothing if none is there. Descriptors that came with it are closed.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut bytes = [0_u8; MESSAGE_MAX];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(DESCRIPTORS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = match rustix::net::recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut beside,
            RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(received) => received,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(errno) => return Err(CallError::new("recvmsg", "notify socket", errno)),
        };
        let mut sender = None;
        for message in beside.drain() {
            match message {
                RecvAncillaryMessage::ScmCredentials(who) => {
                    sender = u32::try_from(who.pid.as_raw_nonzero().get()).ok();
                }
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.for_each(drop),
                _ => {}
            }
        }
        let text = String::from_utf8_lossy(bytes.get(..received.bytes).unwrap_or(&bytes)).into_owned();
        Ok(Some(Message { sender, text }))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for NotifySocket {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

/// Sends `state` (`READY=1`, `STOPPING=1`, `STATUS=…`, lines of it) to the socket that the service manager named in
/// `NOTIFY_SOCKET`. Does nothing without one.
pub fn send(notify_socket: Option<&OsStr>, state: &str) -> io::Result<()> {
    let Some(name) = notify_socket.filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
