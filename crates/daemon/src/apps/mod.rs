//! Apps: one actor each, a directory of them, and the director who carries out commands.
//!
//! ```text
//!  HTTP thread ──Command──▶ director ──Mail──▶ actor of each app ──requests──▶ keeper link
//!      ▲                        │                  │   ▲                            │
//!      └── directory: records, statuses ◀──────────┘   └──────────News──────────────┘
//! ```
//!
//! *Directory* ([`directory`]): which apps there are, their records (what is durable) and the statuses that their
//! actors publish. Readable from any thread; only the director adds and removes.
//!
//! *Director* ([`director`]): carries out one command at a time: works out what changes, makes it durable together with
//! its event, then tells the actors, then waits until they have come to rest. Once something is durable it happens,
//! whether or not the client still listens; and if the daemon is killed in between, its successor reads the record
//! and does it.
//!
//! *Actor* ([`actor`]): owns the state machines of an app's instances, feeds them, carries out their effects. It
//! contains no policy. While an instance is being replaced it has two *copies* ([`copies`], [`replace`]); all of them
//! share the app's [`sockets`].

pub(crate) mod actor;
mod check;
mod cluster;
pub(crate) mod copies;
pub(crate) mod dependencies;
pub(crate) mod director;
pub(crate) mod directory;
pub(crate) mod door;
pub(crate) mod exits;
pub(crate) mod health;
pub(crate) mod launch;
pub(crate) mod plan;
pub(crate) mod replace;
pub(crate) mod schedule;
pub(crate) mod selector;
pub(crate) mod sockets;
pub(crate) mod view;
