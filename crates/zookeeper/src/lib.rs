//! A small client of ZooKeeper, so that nobody is locked in: trees are read from an ensemble, and written to one.
//!
//! ```text
//!  Client ── connect, ask ──▶ wire (jute, frames) ──▶ TCP
//!    │
//!    └─ tree: all nodes below one, of one moment
//! ```
//!
//! It blocks and has one connection. What it does not do: watches, ephemeral nodes, TLS, Kerberos. A connection that is lost
//! is an error, after which a new [`Client`] is made; a request whose answer did not come may have happened.
//!
//! The protocol is that of `zookeeper.jute` and `ZooDefs` of ZooKeeper 3.4 to 3.9.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod client;
mod error;
mod tree;
mod wire;

pub use self::{
    address::Address,
    client::{Client, Login, Op, Stat},
    error::{Refused, ZooKeeperError},
    tree::{Node, TREE_BYTES, TREE_NODES, Tree},
};
