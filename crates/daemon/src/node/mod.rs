//! Clusters of Node workers whose primary is this daemon, with no Node in the data path.
//!
//! # What this is for
//!
//! An unmodified Node app that is started as a worker of a cluster asks its primary for what it listens on. Here the
//! primary is the daemon: sockets belong to the *app*, are kept by the keeper, and outlive workers, reloads and
//! daemons. Both personalities use it: PM2's cluster mode and `mode: cluster` of our own apps.
//!
//! # Parts
//!
//! - [`channel`]: the codec of one worker's channel; knows lines, descriptors and acknowledgements.
//! - [`primary`]: the protocol of one app's cluster: queries, listeners, who uses what. Knows no process.
//! - [`balance`]: round robin, where an app asks for it: we accept and pass each connection on.
//! - [`bind`]: from the words of a query to a socket.
//! - `holder`: who has a port that an app cannot have.
//! - [`keep`]: what is needed of the keeper; tests do without one.
//! - [`workers`]: what the actor of one of our own apps uses: channels, leaving, recovery.
//! - [`preload`]: the file `drain.cjs`, and how a worker comes to load it.
//! - [`unwrap`]: which programs may be workers at all: `npm start` and the like hide the app from its channel.
//!
//! Nothing in here starts, signals or judges a process: owners do, by what they are told.

pub(crate) mod balance;
pub(crate) mod bind;
pub(crate) mod channel;
mod holder;
pub(crate) mod keep;
pub(crate) mod preload;
pub(crate) mod primary;
pub(crate) mod unwrap;
pub(crate) mod workers;
