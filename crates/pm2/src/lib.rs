//! PM2's contract, seen from both of its ends.
//!
//! # What this is for
//!
//! A program called as `pm2` and a daemon that serves a `PM2_HOME` have to agree with each other, and each of them with
//! the real thing: the npm module `pm2` drives our daemon, and our command line drives the daemon of the npm
//! module. What both ends need is here: where a home's files are ([`home`]), how a message is framed ([`amp`]), how a
//! method is called ([`client`]), what a record of a process holds ([`record`]), how dates are written ([`date`]).
//!
//! # What it refuses to do
//!
//! It starts no process and keeps nothing alive: the daemon does that with the same keeper and the same machines as
//! for its own apps. It prints nothing.
//!
//! The behaviour was taken from observing PM2 7; no line of its code is in here.
//!
//! Start reading at [`amp`], then [`record`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod amp;
pub mod client;
pub mod config;
pub mod date;
pub mod home;
pub mod import;
pub mod inspect;
pub mod prepare;
pub mod record;
pub mod schema;
