//! What tests and benches share: a private home for a real `upkeep`, waiting on levels, processes, numbered lines.
//!
//! - [`Home`]: a temporary `UPKEEP_HOME`, verbs run in it, and nothing left behind when it goes.
//! - [`wait_until`]: the one way to wait. It looks at a level again and again, and says the last thing it saw when
//!   time is up. Nobody sleeps for "long enough".
//! - [`Numbered`], [`stamps`], [`tally`]: what `upkeep-child` (see `src/bin/child.rs`) wrote, and whether it all
//!   arrived.
//! - [`free_port`]: for programs that have to be told one.
//! - [`process`]: what `/proc` says of processes.
//! - [`node`]: real Nodes of several versions, and packages of npm.
//! - [`Screen`]: a real terminal for programs that draw.
//! - [`browser`]: a real browser, for pages.
//! - [`etcd`]: real etcds, alone and as clusters.
//! - [`zookeeper`]: the same of ZooKeeper.
//! - [`load`]: requests to a server, and what became of every one.
//!
//! Start reading at [`Home::new`]; a test is usually:
//!
//! ```no_run
//! # use upkeep_testkit::Home;
//! let home = Home::new();
//! home.ok(["start", "--name", "web", "--", "sleep", "1000"]);
//! let list = home.json(["ls"]);
//! assert_eq!(list["apps"][0]["instances"][0]["actual"], "running");
//! ```

pub mod browser;
pub mod etcd;
mod home;
mod lines;
pub mod load;
pub mod node;
mod port;
pub mod process;
pub mod prometheus;
pub mod python;
mod screen;
mod wait;
pub mod zookeeper;

pub use home::{Following, Home, Output, binary, whole_or_packed};
pub use lines::{Numbered, Stamp, stamps, tally};
pub use load::{Kind, Load, Tally};
pub use port::{free_address, free_port};
pub use process::{Signal, alive, kill};
pub use screen::Screen;
pub use wait::{pass, try_wait_until, wait_until};
