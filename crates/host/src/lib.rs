//! One machine, looked at or changed.
//!
//! # What this is for
//!
//! Facts, resources (Ansible's modules), services and init systems, the first five minutes of troubleshooting, and
//! the runner that does all of it on a remote machine. The same code runs on this machine and, as `upkeep remote`
//! over ssh, on any other; therefore the crate has no tokio and nothing of the daemon.
//!
//! # What it refuses to do
//!
//! It never decides *whether* something should change: a resource compares what is with what is wanted
//! (`probe → plan → apply → probe`), and applying twice changes nothing. It opens no listening socket.
//!
//! # What is here today
//!
//! [`home`]: where Upkeep keeps its state and sockets on a machine, told the same way to daemon, keeper and command
//! line. [`facts`]: the first facts, those that the app file needs. Resources, triage and the remote runner follow
//! with the issues that need them.

#![forbid(unsafe_code)]

pub mod facts;
pub mod home;
pub mod names;
pub mod sockets;
