//! PM2's daemon, on Upkeep's engine.
//!
//! # What this is for
//!
//! A daemon that was started for a `PM2_HOME` serves `rpc.sock` and `pub.sock` ([`rpc`], [`bus`]) and keeps PM2's
//! processes: a flat list of records with ids ([`process`]). Each has one machine of `supervise`, whose effects are
//! carried out here ([`god`]); PM2's own verdict on exits ([`upkeep_supervise::pm2`]) is given to the machine as its policy at the
//! moment of each exit. Parent, pipes and channels are the keeper's, as for any app, so nothing here is lost when the
//! daemon is: [`recovery`] makes the list again from the keeper's notes and the store.
//!
//! # State of a process
//!
//! The record is what PM2's users see. `status` in it is computed from the machine after each step, never the other way
//! round. What is not in the record is in [`process::State`].
//!
//! Start reading at [`god`], then [`methods`].

mod bus;
mod cluster;
mod god;
mod launch;
mod logs;
mod methods;
mod process;
mod recovery;
mod rpc;
mod system;
mod watch;
mod worker;

pub(crate) use god::{God, Settings};
pub(crate) use recovery::Found;
