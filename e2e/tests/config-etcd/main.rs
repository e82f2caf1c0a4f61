//! Shared configuration on a real etcd: all that `config` tests, and what only a store of many machines can show.

mod apps;
mod away;
mod care;
mod machines;
mod migrate;
mod sealed;
mod steps;

#[path = "../config/approvals.rs"]
mod approvals;
#[path = "../config/cli.rs"]
mod cli;
#[path = "../config/crash.rs"]
mod crash;
#[path = "../config/exchange.rs"]
mod exchange;
#[path = "../config/past.rs"]
mod past;
#[path = "../config/rights.rs"]
mod rights;
#[path = "../config/secrets.rs"]
mod secrets;
#[path = "../config/verbs.rs"]
mod verbs;
#[path = "../config/watch.rs"]
mod watch;
#[path = "../config/world.rs"]
mod world;

use self::world::{World, ask, home, listed, token};

/// Where the configuration of these tests is.
const ON_ETCD: bool = true;
