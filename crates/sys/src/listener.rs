//! Listening sockets, and unix sockets at any path.
//!
//! A unix socket's path has 107 bytes at most. Longer ones are reached through `/proc/self/fd/N/NAME`, where N is the
//! open directory.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::{
    call::{CallError, Result},
    descriptor,
};

/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;
/// The longest path that fits a socket address.
const LONGEST_PATH: usize = 107;

/// A listener that could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers at that path.
    #[error("failed to bind `unix:{}`: a process answers there", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something that is no socket is at that path.
    #[error("failed to bind `unix:{}`: there is a file that is no socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The kernel said no.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl ListenError {
    /// What the kernel said, or would have.
    pub fn errno(&self) -> i32 {
        match self {
            Self::InUse { .. } | Self::NotASocket { .. } => libc::EADDRINUSE,
            Self::Call(error) => error.errno,
        }
    }
}

/// What may be asked for beside a TCP or UDP address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// IPV6_V6ONLY: whether an IPv6 socket keeps away from IPv4. `None`: as the machine has it. Without effect on
    /// IPv4.
    pub v6_only: Option<bool>,
    /// SO_REUSEADDR for UDP: several sockets on one port, which get the same broadcasts. TCP always has it.
    pub reuse_address: bool,
    /// How many connections may wait; `None`: 1024. The machine's limit (`net.core.somaxconn`) holds too.
    pub backlog: Option<i32>,
}

/// Listens on a TCP address: SO_REUSEADDR, IPv6 addresses for IPv6 only if they are not the wildcard. Blocking.
pub fn tcp(address: SocketAddr) -> Result<OwnedFd> {
    tcp_with(address, Options::default())
}

/// As [`tcp`], with options.
pub fn tcp_with(address: SocketAddr, options: Options) -> Result<OwnedFd> {
    let socket = bound(address, SocketType::STREAM, "tcp", options)?;
    rustix::net::listen(&socket, options.backlog.unwrap_or(BACKLOG))
        .map_err(|errno| CallError::new("listen on", format!("tcp:{address}"), errno))?;
    Ok(socket)
}

/// Binds a UDP address. Blocking.
pub fn udp(address: SocketAddr) -> Result<OwnedFd> {
    udp_with(address, Options::default())
}

/// As [`udp`], with options.
pub fn udp_with(address: SocketAddr, options: Options) -> Result<OwnedFd> {
    bound(address, SocketType::DGRAM, "udp", options)
}

fn bound(address: SocketAddr, kind: SocketType, name: &str, options: Options) -> Result<OwnedFd> {
    let fail = |call| move |errno| CallError::new(call, format!("{name}:{address}"), errno);
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket =
        rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).map_err(fail("socket"))?;
    if kind == SocketType::STREAM || options.reuse_address {
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).map_err(fail("setsockopt SO_REUSEADDR"))?;
    }
    if let (Some(only), true) = (options.v6_only, address.is_ipv6()) {
        rustix::net::sockopt::set_ipv6_v6only(&socket, only).map_err(fail("setsockopt IPV6_V6ONLY"))?;
    }
    rustix::net::bind(&socket, &address).map_err(fail("bind"))?;
    Ok(socket)
}

/// The number of a network interface, for addresses with a scope (`fe80::1%eth0`).
pub fn interface(name: &str) -> Result<u32> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| CallError::new("socket", "AF_UNIX", errno))?;
    rustix::net::netdevice::name_to_index(&socket, name)
        .map_err(|errno| CallError::new("look up interface", name, errno))
}

/// Listens on a unix socket in the abstract namespace: no file, no mode. The name without the leading NUL. Blocking.
pub fn unix_abstract(name: &[u8], backlog: Option<i32>) -> Result<OwnedFd> {
    let shown = || format!("unix:@{}", String::from_utf8_lossy(name));
    let socket = unix_socket(Path::new("@"))?;
    let address = SocketAddrUnix::new_abstract_name(name)
        .map_err(|errno| CallError::new("name a socket", shown(), errno))?;
    rustix::net::bind(&socket, &address).map_err(|errno| CallError::new("bind", shown(), errno))?;
    rustix::net::listen(&socket, backlog.unwrap_or(BACKLOG))
        .map_err(|errno| CallError::new("listen on", shown(), errno))?;
    Ok(socket)
}

/// Listens on a unix socket with this file mode, never more open than that for a moment. A socket file that nobody
/// answers on is removed first. Blocking.
pub fn unix(path: &Path, mode: u32) -> std::result::Result<OwnedFd, ListenError> {
    let place = Place::of(path)?;
    let socket = unix_socket(path)?;
    // The file gets the mode of the socket, less the umask.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode & 0o777))
        .map_err(|errno| CallError::new("fchmod", path.display(), errno))?;
    match rustix::net::bind(&socket, &place.address) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => {
            place.remove_stale()?;
            rustix::net::bind(&socket, &place.address)
                .map_err(|errno| CallError::new("bind", place.shown(), errno))?;
        }
        Err(errno) => return Err(CallError::new("bind", place.shown(), errno).into()),
    }
    // What the umask took is given back; the directory is ours, or the bind would have failed.
    rustix::fs::chmodat(
        &place.folder,
        &place.name,
        Mode::from_raw_mode(mode & 0o777),
        AtFlags::empty(),
    )
    .map_err(|errno| CallError::new("chmod", path.display(), errno))?;
    rustix::net::listen(&socket, BACKLOG)
        .map_err(|errno| CallError::new("listen on", place.shown(), errno))?;
    Ok(socket)
}

/// Connects to a unix stream socket, CLOEXEC, blocking.
pub fn unix_connect(path: &Path) -> Result<OwnedFd> {
    let place = Place::of(path)?;
    let socket = unix_socket(path)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &place.address))
        .map_err(|errno| CallError::new("connect to", place.shown(), errno))?;
    Ok(socket)
}

fn unix_socket(path: &Path) -> Result<OwnedFd> {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| CallError::new("socket", path.display(), errno))
}

/// Where a unix socket is, in a way that fits an address.
struct Place<'a> {
    path: &'a Path,
    folder: OwnedFd,
    name: PathBuf,
    address: SocketAddrUnix,
}

impl<'a> Place<'a> {
    fn of(path: &'a Path) -> Result<Self> {
        let fail = |call, errno| CallError::new(call, path.display(), errno);
        let name = PathBuf::from(
            path.file_name()
                .ok_or_else(|| fail("name a socket", Errno::INVAL))?,
        );
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(parent, flags, Mode::empty())
            .map_err(|errno| CallError::new("open directory", parent.display(), errno))?;
        let address = if path.as_os_str().len() <= LONGEST_PATH {
            SocketAddrUnix::new(path)
        } else {
            let through = PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd())).join(&name);
            SocketAddrUnix::new(through)
        };
        Ok(Self {
            path,
            folder,
            name,
            address: address.map_err(|errno| fail("name a socket", errno))?,
        })
    }

    fn shown(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// Removes a socket that nobody listens on.
    fn remove_stale(&self) -> std::result::Result<(), ListenError> {
        let fail = |call| move |errno| CallError::new(call, self.shown(), errno);
        let stat =
            rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail("stat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Err(ListenError::NotASocket {
                path: self.path.to_owned(),
            });
        }
        let probe = unix_socket(self.path)?;
        // Whoever is there but slow (a full backlog) must not make us wait.
        descriptor::set_nonblocking(&probe, true)?;
        match rustix::net::connect(&probe, &self.address) {
            Err(Errno::CONNREFUSED) => {}
            Err(Errno::NOENT) => return Ok(()),
            _ => {
                return Err(ListenError::InUse {
                    path: self.path.to_owned(),
                });
            }
        }
        match rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fail("remove")(errno).into()),
        }
    }
}
