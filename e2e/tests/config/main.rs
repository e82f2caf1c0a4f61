//! Shared configuration on one machine: what the verbs do, who may do what, where secrets are not, and what a killed daemon
//! leaves. Most of it is run on etcd as well (`config-etcd`).

mod approvals;
mod cli;
mod crash;
mod dry;
mod exchange;
mod mirror;
mod past;
mod rights;
mod secrets;
mod verbs;
mod watch;
mod world;
mod zookeeper;

use self::world::{World, ask, home, listed, token};

/// Where the configuration of these tests is.
const ON_ETCD: bool = false;
