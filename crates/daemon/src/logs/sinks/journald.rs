//! The journal of systemd, by its native protocol: one datagram for each line, `NAME=value` and a newline for each
//! field, or the name, a newline, the length in 64 bits (little-endian), the value and a newline where the value has
//! newlines itself. What is too large for a datagram goes into a sealed memfd that is sent instead.
//! Source: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    mem::MaybeUninit,
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::Path,
};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};
use upkeep_api::body::{LogLine, Stream};

use super::{PATIENCE, severity, time};

/// Where systemd's journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A journal that listens.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    pub(super) fn send(&mut self, line: &LogLine) -> io::Result<()> {
        let message = message(line);
        match self.0.send(&message) {
            Ok(_) => Ok(()),
            Err(error) if too_large(&error) => self.send_aside(&message),
            Err(error) => Err(error),
        }
    }

    /// In memory whose descriptor is sent. The journal takes it only if nobody can change it any more.
    fn send_aside(&self, message: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("upkeep-log", flags)?);
        file.write_all(message)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        // There is room for exactly one.
        beside.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&[])], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

fn too_large(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MSGSIZE | Errno::NOBUFS))
}

fn message(line: &LogLine) -> Vec<u8> {
    let mut message = Vec::with_capacity(line.line.len() + 256);
    let mut field = |name: &str, value: &str| {
        message.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            message.push(b'\n');
            message.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            message.push(b'=');
        }
        message.extend_from_slice(value.as_bytes());
        message.push(b'\n');
    };
    field("MESSAGE", &line.line);
    field("PRIORITY", &severity(line).to_string());
    field("SYSLOG_FACILITY", "3");
    field("SYSLOG_IDENTIFIER", line.app.as_str());
    field("UPKEEP_APP", line.app.as_str());
    if let Some(index) = line.index {
        field("UPKEEP_INSTANCE", &index.to_string());
    }
    field(
        "UPKEEP_STREAM",
        match line.stream {
            Stream::Out => "out",
            Stream::Err => "err",
        },
    );
    field("UPKEEP_TIME", &time(line));
    message
}
