//! The survivor: the parent of every application, and the smallest program that must not die.
//!
//! # What it is for
//!
//! The keeper starts processes when the daemon asks, reaps them, and holds what must outlive the daemon: their exit
//! records, the pipes they write to, listening sockets, short notes. It starts the daemon again whenever that ends.
//!
//! # What it refuses to do
//!
//! It knows no configuration and no policy: it never restarts an application, never reads what one wrote, never
//! opens a port of its own. It decides one thing alone, how to end when nobody is left to ask.
//!
//! # How it works
//!
//! One thread, one `poll` loop ([`run`]): a signalfd, the socket to the daemon, a pidfd for every stray. Nothing in
//! it waits, except a spawn for its exec (bounded). Fork therefore happens in a single-threaded process, and exit
//! statuses have one owner.
//!
//! The daemon is a child with one end of a socketpair as descriptor 3, on which [`protocol`] is spoken; [`client`]
//! is its side. The machine of the daemon (`daemon_link`):
//!
//! ```text
//!              due                       Retire / trial late / garbage / end of stream
//!   Absent ───────────▶ Alive ───────────────────────────────────────────▶ Alive, to be killed
//!     ▲                   │ reaped                                             │ reaped
//!     └── back-off ───────┴────────────────────────────────────────────────────┤
//!                                                     it had said Leave ▶ Gone ◀┘
//! ```
//!
//! A new daemon is never started before the old one has been reaped. Upgrading it: Retire, wait, start the new
//! program on trial; if it dies or is not Ready in time, the old program is started again, from the very file it
//! ran from, even if the name means another file by now.
//!
//! # What survives what
//!
//! | ends | applications | exit records, pipes, listeners, notes |
//! |---|---|---|
//! | daemon, at any instant | run on | kept, told to the next daemon |
//! | keeper, by re-exec in place (upgrade, SIGUSR2) | run on | kept |
//! | keeper, by SIGKILL or a fault | run on as strays | lost; the next keeper finds the strays |
//! | keeper, by SIGTERM | the daemon stops them; without a daemon the keeper does | — |
//!
//! Groups with limits (cgroup) belong to the trees in them: they outlive daemon and keeper, and whichever keeper is there
//! removes them once they are empty.
//!
//! Strays are found by the journal (`children` in the run directory), by left-over cgroups, and by the variable
//! `UPKEEP_KEEPER=<run id>:<key>` that every child is born with. They can be watched and signalled; their exit
//! status goes to somebody else, so it is reported as unknown.
//!
//! # What is deliberately not handled
//!
//! - After a SIGKILL of the keeper nobody reads the strays' output: a stray that writes gets SIGPIPE.
//! - The journal is not synced: it is about processes, and those do not survive a power failure either.
//! - Processes the daemon itself starts (health checks) are orphans when it dies; the keeper reaps them, no more.
//! - A process in uninterruptible sleep cannot be killed; the keeper goes on without waiting for it, except for the
//!   daemon, of which there must never be two.
//! - Without cgroups, a program that leaves its session, loses its parent and clears its environment is not found.
//!
//! Where to start reading: [`protocol`], then `run.rs`.

#![forbid(unsafe_code)]

pub mod client;
pub mod codec;
pub mod frames;
pub mod protocol;

mod children;
mod daemon_link;
mod descriptors;
mod journal;
mod log;
mod requests;
mod resume;
mod run;
mod settings;
mod strays;
mod table;

pub use upkeep_sys::daemonize::{Side, detach};

pub use resume::{STATE_VERSION, can_resume, resume};
pub use run::{Finished, run};
pub use settings::{DaemonCommand, KeeperError, KeeperSettings, PASS_ON, Times};
