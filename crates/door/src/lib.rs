//! The front door: a small proxy before programs that can only bind by themselves.
//!
//! # Theory of operation
//!
//! A program that cannot be handed a socket must end before its successor can have its port. Behind a front door each
//! copy binds a port of its own on the loopback, and the door holds the public address. The daemon tells the door
//! which copies there are and which of them may be given work ([`protocol`]); the door says when one that gets no more
//! work has finished what it had ([`protocol::FromDoor::Drained`]). So even a program that knows nothing of all this is
//! replaced without a refused or a broken request.
//!
//! **A process of its own.** `upkeep door` is a child of the keeper like any app: it lives on when the daemon is killed
//! or upgraded, with the copies it knew last. If it dies itself, its sockets are with the keeper, and connections wait
//! in their backlog until the next door takes them.
//!
//! **HTTP.** Each request goes to the ready copy with the least in hand ([`upstreams`]). If none is ready it waits for
//! one, up to ten seconds; then it is answered with 503. A copy that does not accept a connection is passed over:
//! nothing was sent yet, so this is safe for every method. Connections to copies are kept for requests that may be
//! repeated (GET, HEAD, OPTIONS without a body): a kept one that turns out to be closed is no harm to them. All others
//! get a connection of their own. A repeatable request whose new connection dies gets one more try. Upgrades
//! (WebSocket) become a tunnel. **TCP.** A connection is copied to the copy with the fewest.
//!
//! **What a copy is told.** `X-Forwarded-Proto` is ours, whatever a client says. `X-Forwarded-For` is what the client
//! says with its address appended: only the last entry is to be believed. Over a unix socket comes another proxy, whose
//! headers are passed on as they are.
//!
//! **Other settings** are taken while the door runs ([`protocol::ToDoor::Settings`]); a certificate is read again when
//! its files change. Only other public sockets need another door.
//!
//! **Its end.** At SIGTERM it accepts no more, finishes what it has in hand, up to fifteen seconds, and ends.
//!
//! Where to start reading: [`protocol`], then [`upstreams`], then [`http`].

#![forbid(unsafe_code)]

mod http;
mod listen;
pub mod protocol;
mod serve;
mod tls;
mod upstreams;

pub use self::serve::{DoorError, run};
