//! The kernel, in safe types.
//!
//! **What this is for.** Everything Upkeep asks of Linux beyond what `std` offers, as owned, named values: starting
//! a process with all that belongs to it, learning how it ended, passing descriptors, finding the processes of a
//! tree. The keeper and the daemon rest on it.
//!
//! **What it refuses to do.** It holds no policy and does not know what an app is. It never retries, logs or waits
//! longer than it is told to.
//!
//! **How it works.** rustix where rustix has the call, libc where it has not. This is the only crate with
//! `unsafe`; each site says why there is no safe way (JUSTIFICATION) and why it is sound (SAFETY). Errors always say
//! the call, its target and the errno.
//!
//! **Kernel floor: 5.4.** It needs `pidfd_open` and `pidfd_send_signal` (5.3). Newer calls are used where they are
//! there: `close_range` with CLOEXEC (5.11; before it, only descriptors that were opened without CLOEXEC by
//! somebody else are inherited), `clone3` into a cgroup (5.7; before it, the child moves itself), `cgroup.kill`
//! (5.14; before it, SIGKILL in rounds until the group is empty). `/proc` must be mounted. A [`cage`] needs more, and
//! says what.
//!
//! Where to start reading: [`spawn`], then [`tree`].

#![warn(missing_docs)]

pub mod cage;
pub mod cgroup;
pub mod clock;
pub mod daemonize;
pub mod descriptor;
pub mod exec;
pub mod fd_pass;
pub mod figures;
pub mod interfaces;
pub mod listener;
pub mod lock;
pub mod memfd;
pub mod notify;
pub mod own_pages;
pub mod peer;
pub mod pid;
pub mod pidfd;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod raw_mode;
pub mod rlimit;
pub mod signal;
pub mod spawn;
pub mod subreaper;
pub mod syscalls;
pub mod terminal;
pub mod tree;
pub mod user;
pub mod wait;

mod call;

pub use call::CallError;
pub use pid::Pid;
