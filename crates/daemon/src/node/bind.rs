//! From the words of a worker's query to a socket.
//!
//! The rules are those of Node's own primary: no host is `[::]` for both protocols, else `0.0.0.0`; a worker has resolved names
//! before it asks. The daemon binds and listens, so that errors show at once, with the kernel's number.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use upkeep_sys::{
    descriptor,
    listener::{self, Options},
};

/// Numbers of Linux.
pub(super) const EBADF: i32 = 9;
const EINVAL: i32 = 22;
const EACCES: i32 = 13;
pub(super) const EMFILE: i32 = 24;
pub(super) const EMSGSIZE: i32 = 90;
const EAFNOSUPPORT: i32 = 97;
pub(super) const EADDRINUSE: i32 = 98;
const EADDRNOTAVAIL: i32 = 99;
pub(super) const ENOBUFS: i32 = 105;
/// What Node asks for where an app says nothing.
const BACKLOG: i32 = 511;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Tcp,
    Udp,
    Unix,
}

impl Kind {
    /// How Node calls a handle of it.
    pub(super) fn native(self) -> &'static str {
        match self {
            Self::Udp => "dgram.Native",
            Self::Tcp | Self::Unix => "net.Native",
        }
    }

    /// What a descriptor is.
    pub(super) fn of(socket: &OwnedFd) -> Option<Self> {
        let kind = rustix::net::sockopt::socket_type(socket).ok()?;
        let unix = matches!(
            rustix::net::sockopt::socket_domain(socket).ok()?,
            rustix::net::AddressFamily::UNIX
        );
        match (kind == rustix::net::SocketType::STREAM, unix) {
            (true, true) => Some(Self::Unix),
            (true, false) => Some(Self::Tcp),
            (false, true) => None,
            (false, false) => Some(Self::Udp),
        }
    }
}

/// What a worker wants to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) key: String,
    pub(super) address: Option<String>,
    pub(super) port: u16,
    pub(super) family: Family,
    /// A number that the app gave: a socket that it was started with.
    pub(super) fd: Option<u32>,
    flags: u64,
    backlog: Option<i32>,
    open_to_all: bool,
}

/// `addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
    Unix,
    Udp4,
    Udp6,
    /// Something newer than we are.
    Other,
}

impl Query {
    pub(super) fn read(message: &Value) -> Self {
        let text = |key: &str| message.get(key).map(Value::to_string).unwrap_or_default();
        let number = |key: &str| message.get(key).and_then(Value::as_u64);
        let flag = |key: &str| message.get(key).and_then(Value::as_bool) == Some(true);
        let family = match message.get("addressType") {
            Some(Value::Number(number)) => match number.as_i64() {
                Some(4) => Family::V4,
                Some(6) => Family::V6,
                Some(-1) => Family::Unix,
                _ => Family::Other,
            },
            Some(Value::String(kind)) if kind == "udp4" => Family::Udp4,
            Some(Value::String(kind)) if kind == "udp6" => Family::Udp6,
            _ => Family::Other,
        };
        let port = number("port")
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(0);
        let fd = number("fd").and_then(|fd| u32::try_from(fd).ok());
        // Without a port each call of `listen` is a listener of its own.
        let index = if port == 0 && family != Family::Unix {
            text("index")
        } else {
            String::new()
        };
        let address = message.get("address").and_then(Value::as_str).map(str::to_owned);
        let mut key = format!(
            "{}:{}:{}:{}:{index}",
            text("address"),
            text("port"),
            text("addressType"),
            text("fd")
        );
        if key.len() > 200 {
            // Names in the keeper's table are short; paths need not be.
            use std::hash::{DefaultHasher, Hash as _, Hasher as _};
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            let head: String = key.chars().take(60).collect();
            key = format!("{head}:{:016x}:{}", hasher.finish(), key.len());
        }
        Self {
            key,
            address,
            port,
            family,
            fd,
            flags: number("flags").unwrap_or(0),
            backlog: message
                .get("backlog")
                .and_then(Value::as_i64)
                .and_then(|backlog| i32::try_from(backlog).ok())
                .filter(|backlog| *backlog > 0),
            open_to_all: flag("readableAll") || flag("writableAll"),
        }
    }

    /// For a worker that is only tried: what it is told that it listens on (`null`: nothing is told of paths). `None`:
    /// it gets a socket, by [`Self::on_trial`].
    pub(super) fn name_on_trial(&self) -> Option<Value> {
        let (any, family) = match self.family {
            Family::Unix => return Some(Value::Null),
            Family::V4 if self.address.is_some() => ("0.0.0.0", "IPv4"),
            Family::V4 | Family::V6 => ("::", "IPv6"),
            Family::Udp4 | Family::Udp6 | Family::Other => return None,
        };
        let address = self.address.as_deref().unwrap_or(any);
        (self.port != 0).then(|| serde_json::json!({"address": address, "family": family, "port": self.port}))
    }

    /// The same for a worker that is only tried: it must not take what is meant for others.
    pub(super) fn on_trial(mut self) -> Self {
        self.family = match self.family {
            Family::Udp4 | Family::Udp6 => Family::Udp4,
            Family::V4 | Family::V6 | Family::Unix => Family::V4,
            // What cannot be had cannot be tried.
            Family::Other => Family::Other,
        };
        self.address = Some(Ipv4Addr::LOCALHOST.to_string());
        self.port = 0;
        self
    }

    /// The address in words, for people.
    pub(super) fn shown(&self) -> String {
        let host = self.address.as_deref().unwrap_or("*");
        match (self.fd, self.family) {
            (Some(fd), _) => format!("descriptor {fd}"),
            (None, Family::Unix) => format!("unix:{}", host.replace('\0', "@")),
            (None, Family::Udp4 | Family::Udp6) => format!("udp:{host}:{}", self.port),
            (None, Family::V4 | Family::V6 | Family::Other) => format!("{host}:{}", self.port),
        }
    }
}

/// What a worker may have bound for it. It is bound by the daemon: an app must not get what it could not bind itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rights {
    /// Ports below 1024: not for an app that runs as another user than the daemon.
    pub(crate) low_ports: bool,
    /// Paths: not for such an app, nor for one that sees another file system.
    pub(crate) paths: bool,
    /// The network: not for one that is kept from it.
    pub(crate) network: bool,
}

impl Default for Rights {
    /// What the daemon itself may.
    fn default() -> Self {
        Self {
            low_ports: true,
            paths: true,
            network: true,
        }
    }
}

impl Rights {
    /// Errors: EACCES.
    pub(super) fn check(self, query: &Query) -> Result<(), i32> {
        let allowed = match query.family {
            _ if query.fd.is_some() => true,
            Family::Unix => self.paths,
            _ if !self.network => false,
            _ => self.low_ports || query.port == 0 || query.port >= 1024,
        };
        if allowed { Ok(()) } else { Err(EACCES) }
    }
}

/// A socket file: removed at the end, if it still is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    path: PathBuf,
    inode: u64,
}

impl Place {
    fn of(path: &Path) -> Option<Self> {
        Some(Self {
            path: path.to_owned(),
            inode: std::fs::symlink_metadata(path).ok()?.ino(),
        })
    }

    /// Removes the file.
    pub(super) fn remove(&self) {
        if Self::of(&self.path).as_ref() == Some(self) {
            // It may have gone meanwhile.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A socket that was bound.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: OwnedFd,
    pub(super) kind: Kind,
    pub(super) place: Option<Place>,
}

/// Binds and listens. Errors: the kernel's number.
///
/// The socket does not block: workers of one socket are woken together, and those who come too late must not wait in
/// `accept`. (libuv takes a handle that it is given as it is.)
pub(super) fn bind(query: &Query) -> Result<Bound, i32> {
    let bound = bind_blocking(query)?;
    make_nonblocking(&bound.socket)?;
    Ok(bound)
}

/// See [`bind`].
pub(super) fn make_nonblocking(socket: &OwnedFd) -> Result<(), i32> {
    descriptor::set_nonblocking(socket, true).map_err(|error| error.errno)
}

fn bind_blocking(query: &Query) -> Result<Bound, i32> {
    let options = Options {
        v6_only: Some(query.flags & 1 != 0),
        reuse_address: query.flags & 4 != 0,
        backlog: Some(query.backlog.unwrap_or(BACKLOG)),
    };
    let address = query.address.as_deref();
    match query.family {
        Family::Unix => unix(address.unwrap_or_default(), query.open_to_all, options.backlog),
        Family::Udp4 | Family::Udp6 => {
            let any = if query.family == Family::Udp6 {
                "::"
            } else {
                "0.0.0.0"
            };
            let address = parse(address.unwrap_or(any), query.port)?;
            let socket = listener::udp_with(address, options).map_err(|error| error.errno)?;
            Ok(Bound {
                socket,
                kind: Kind::Udp,
                place: None,
            })
        }
        Family::V4 | Family::V6 => {
            let socket = match address {
                Some(address) => tcp(parse(address, query.port)?, options),
                None => {
                    tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), query.port), options).or_else(|errno| {
                        // Only a machine without IPv6 tries the next.
                        if matches!(errno, EAFNOSUPPORT | EADDRNOTAVAIL | EINVAL) {
                            tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), query.port), options)
                        } else {
                            Err(errno)
                        }
                    })
                }
            }?;
            Ok(Bound {
                socket,
                kind: Kind::Tcp,
                place: None,
            })
        }
        Family::Other => Err(EAFNOSUPPORT),
    }
}

fn tcp(address: SocketAddr, options: Options) -> Result<OwnedFd, i32> {
    listener::tcp_with(address, options).map_err(|error| error.errno)
}

fn unix(path: &str, open_to_all: bool, backlog: Option<i32>) -> Result<Bound, i32> {
    if let Some(name) = path.strip_prefix('\0') {
        let socket = listener::unix_abstract(name.as_bytes(), backlog).map_err(|error| error.errno)?;
        return Ok(Bound {
            socket,
            kind: Kind::Unix,
            place: None,
        });
    }
    let path = Path::new(path);
    if !path.is_absolute() {
        // Workers make paths absolute; ours would lead elsewhere.
        return Err(EINVAL);
    }
    let mode = if open_to_all { 0o777 } else { 0o755 };
    let socket = listener::unix(path, mode).map_err(|error| error.errno())?;
    Ok(Bound {
        socket,
        kind: Kind::Unix,
        place: Place::of(path),
    })
}

/// An IP literal, perhaps with a scope.
fn parse(text: &str, port: u16) -> Result<SocketAddr, i32> {
    let Some((address, scope)) = text.split_once('%') else {
        let address: IpAddr = text.parse().map_err(|_| EADDRNOTAVAIL)?;
        return Ok(SocketAddr::new(address, port));
    };
    let address: Ipv6Addr = address.parse().map_err(|_| EADDRNOTAVAIL)?;
    let scope = match scope.parse() {
        Ok(scope) => scope,
        Err(_) => listener::interface(scope).map_err(|error| error.errno)?,
    };
    Ok(SocketAddrV6::new(address, port, 0, scope).into())
}

/// `sockname` of an answer: where a TCP socket really is.
pub(super) fn name_of(socket: &OwnedFd) -> Option<Value> {
    let address = rustix::net::getsockname(socket).ok()?;
    let address = SocketAddr::try_from(address).ok()?;
    Some(serde_json::json!({
        "address": address.ip().to_string(),
        "family": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "port": address.port(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(message: Value) -> Query {
        Query::read(&message)
    }

    #[test]
    fn a_key_is_the_same_for_all_workers_and_counts_listeners_without_a_port() {
        let web =
            |index| query(json!({"address": null, "port": 80, "addressType": 4, "fd": null, "index": index}));
        assert_eq!(web(0).key, web(3).key);
        let any = |index| query(json!({"address": null, "port": 0, "addressType": 4, "index": index}));
        assert_ne!(any(0).key, any(1).key);
        let path = format!("/tmp/{}", "x".repeat(1000));
        let long = query(json!({"address": path, "port": -1, "addressType": -1}));
        assert!(long.key.len() < 300, "{}", long.key);
        assert_eq!(long.family, Family::Unix);
    }

    #[test]
    fn what_cannot_be_bound_is_an_errno() {
        let errno = |message| bind(&query(message)).map(|_| ()).expect_err("it cannot be bound");
        assert_eq!(
            errno(json!({"address": "x", "port": 1, "addressType": 4})),
            EADDRNOTAVAIL
        );
        assert_eq!(
            errno(json!({"address": "1", "port": 1, "addressType": "sctp"})),
            EAFNOSUPPORT
        );
        assert_eq!(errno(json!({"addressType": 99})), EAFNOSUPPORT);
        assert_eq!(
            errno(json!({"address": "rel/path", "port": -1, "addressType": -1})),
            EINVAL
        );
        assert_eq!(
            errno(json!({"address": "/proc/x", "port": -1, "addressType": -1})),
            2
        );
        assert_eq!(
            errno(json!({"address": "fe80::1%nosuch0", "port": 0, "addressType": 6})),
            19
        );
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("its address").port();
        assert_eq!(
            errno(json!({"address": "127.0.0.1", "port": port, "addressType": 4})),
            EADDRINUSE
        );
    }

    #[test]
    fn no_host_is_both_protocols_unless_told_otherwise() {
        let bound = bind(&query(json!({"address": null, "port": 0, "addressType": 4}))).expect("bound");
        let port = name_of(&bound.socket).expect("a name")["port"]
            .as_u64()
            .expect("a port");
        for host in ["127.0.0.1", "[::1]"] {
            std::net::TcpStream::connect(format!("{host}:{port}")).expect("it is connected");
        }
        let only = bind(&query(
            json!({"address": null, "port": 0, "addressType": 6, "flags": 1}),
        ))
        .expect("bound");
        let port = name_of(&only.socket).expect("a name")["port"]
            .as_u64()
            .expect("a port");
        std::net::TcpStream::connect(format!("[::1]:{port}")).expect("it is connected");
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).expect_err("IPv6 only");
    }

    #[test]
    fn a_socket_file_has_its_mode_and_goes_at_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        // A stale one is in the way.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let message = json!({"address": path, "port": -1, "addressType": -1, "readableAll": true});
        let bound = bind(&query(message)).expect("bound");
        let mode = std::fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o777);
        assert_eq!(Kind::of(&bound.socket), Some(Kind::Unix));
        bound.place.expect("a file").remove();
        assert!(!path.exists());
        // Another one in its place is not ours.
        let message = json!({"address": path, "port": -1, "addressType": -1});
        let bound = bind(&query(message)).expect("bound");
        std::fs::rename(&path, dir.path().join("kept")).expect("renamed");
        std::fs::write(&path, "not ours").expect("written");
        bound.place.expect("a file").remove();
        assert!(path.exists());
        let abstracted = bind(&query(
            json!({"address": format!("\0upkeep-test-{}", std::process::id()), "port": -1, "addressType": -1}),
        ));
        assert_eq!(abstracted.expect("bound").place, None);
    }
}
