//! The contract: what is said over the wire, and the client that says it.
//!
//! # Rules
//!
//! Version first in the path, plural nouns for collections, verbs only for actions (always `POST`), JSON bodies,
//! status codes that carry the meaning, errors as `{"message", "code", "hint", "request_id"}` ([`error`]), times as
//! Unix seconds with a fraction to the millisecond, durations in whole milliseconds with the unit in the name, sizes
//! in bytes.
//!
//! The list of calls is one table, [`routes::ROUTES`]: the daemon may serve nothing that does not stand there and
//! must serve everything that does; a test in `daemon` walks it.
//!
//! Streams answer with server-sent events when they follow, and with JSON lines when they end.
//!
//! # What it refuses to do
//!
//! It does not know how anything is done: no store, no keeper, no file of the server is reachable from here. The
//! command line uses this client and nothing else, so that a script with a token can do what the command line can.
//!
//! Start reading at [`routes`], then [`body`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod access;
pub mod alert;
pub mod body;
pub mod certificate;
pub mod client;
pub mod config;
pub mod config_store;
pub mod crash;
pub mod error;
pub mod inspect;
pub mod metrics;
pub mod openapi;
pub mod pem;
pub mod reason;
pub mod routes;
pub mod search;
pub mod settings;
