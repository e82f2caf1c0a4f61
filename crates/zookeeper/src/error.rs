//! What goes wrong.

use std::fmt;

/// What the server says to a request that it does not carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such node.
    NoNode,
    /// The node is there already.
    Exists,
    /// The node has nodes below it.
    NotEmpty,
    /// The node was changed by somebody else.
    Version,
    /// The rights of the node do not allow it.
    Denied,
    /// User or password is wrong.
    Login,
    /// Nodes cannot be made below an ephemeral one.
    Ephemeral,
    /// Too many nodes or bytes there.
    Quota,
    /// Another code of `KeeperException`.
    Other(i32),
}

impl Refused {
    /// Of a code of `KeeperException`.
    pub(crate) fn of(code: i32) -> Self {
        match code {
            -101 => Self::NoNode,
            -110 => Self::Exists,
            -111 => Self::NotEmpty,
            -103 => Self::Version,
            -102 => Self::Denied,
            -115 => Self::Login,
            -108 => Self::Ephemeral,
            -125 => Self::Quota,
            other => Self::Other(other),
        }
    }
}

/// What a code says of the session and not of the request: the connection is of no use any more.
pub(crate) const fn session(code: i32) -> Option<&'static str> {
    match code {
        -4 => Some("it says that the connection is lost"),
        -112 => Some("it says that the session has expired"),
        -118 => Some("it says that the session has moved to another server"),
        _ => None,
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNode => "there is no such node",
            Self::Exists => "the node is there already",
            Self::NotEmpty => "the node has nodes below it",
            Self::Version => "the node was changed by somebody else",
            Self::Denied => "its rights do not allow it",
            Self::Login => "user or password is wrong",
            Self::Ephemeral => "nothing can be below an ephemeral node",
            Self::Quota => "its quota is used up",
            Self::Other(code) => return write!(f, "ZooKeeper says {code}"),
        })
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ZooKeeperError {
    /// An address that is none.
    #[error("`{text}` is no address of an ensemble: {why}")]
    Address {
        /// As it was written.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// Nobody answered at any address.
    #[error("failed to reach ZooKeeper at {0}")]
    Unreachable(String),
    /// The connection was lost. A change may have happened.
    #[error("the connection to ZooKeeper at {at} was lost: {why}")]
    Lost {
        /// Where.
        at: String,
        /// Why.
        why: String,
    },
    /// The server refuses.
    #[error("failed to {what} `{path}` in ZooKeeper: {why}")]
    Refused {
        /// `read`.
        what: &'static str,
        /// Which node.
        path: String,
        /// Why.
        why: Refused,
    },
    /// More than is taken at once.
    #[error("`{path}` has more than {limit} in ZooKeeper; that is more than is taken at once")]
    TooLarge {
        /// Which node.
        path: String,
        /// `100000 nodes`.
        limit: String,
    },
    /// An answer that is none.
    #[error("ZooKeeper at {at} answers what cannot be understood: {why}")]
    Protocol {
        /// Where.
        at: String,
        /// What.
        why: String,
    },
}
