//! Where an app listens, and who holds the sockets.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::size::Span;

/// How the instances of an app come to share what they listen on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each is a process of its own; sockets are shared by `listen`.
    #[default]
    Fork,
    /// Workers of a Node cluster: whatever they listen on is held by Upkeep and shared.
    Cluster,
}

/// Who gets a new connection of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Whichever worker accepts first: nothing stands in between.
    #[default]
    Shared,
    /// One after the other: even for long-lived connections, at twice the cost of a short one.
    #[serde(alias = "rr")]
    RoundRobin,
}

/// A socket that Upkeep binds and hands to every instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listen {
    /// Its name in `LISTEN_FDNAMES` and in `{fd:NAME}`: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Where.
    pub on: ListenOn,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListenOn {
    /// A TCP port on every address, IPv6 and IPv4 with one socket (IPv4 alone where there is no IPv6).
    Port(u16),
    /// A TCP address.
    Tcp(SocketAddr),
    /// A UDP address.
    Udp(SocketAddr),
    /// A path, absolute, and the mode of the file.
    Unix {
        /// Where the socket is made.
        path: PathBuf,
        /// Mode of the file, such as `0o660`.
        mode: u32,
    },
}

impl ListenOn {
    /// The TCP port, if it is one.
    pub fn tcp_port(&self) -> Option<u16> {
        match self {
            Self::Port(port) => Some(*port),
            Self::Tcp(address) => Some(address.port()),
            Self::Udp(_) | Self::Unix { .. } => None,
        }
    }
}

impl std::fmt::Display for ListenOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A front door: a small proxy of ours that holds the public address of programs that can only bind by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Door {
    /// Public addresses: TCP or unix.
    pub listen: Vec<Listen>,
    /// What passes through it.
    pub protocol: DoorProtocol,
    /// How long a replaced instance may take to end what it has in hand.
    pub drain: Span,
    /// Certificate and key in PEM: the door speaks TLS then.
    pub tls: Option<DoorTls>,
}

/// What passes through a front door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DoorProtocol {
    /// HTTP/1.1: requests go one by one to whichever instance is ready, kept connections survive a replacement.
    #[default]
    Http,
    /// Bytes: a connection stays with its instance.
    Tcp,
}

/// Files of a certificate, absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoorTls {
    /// Chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}
