//! The words of Upkeep: what a user can write and what we can report.
//!
//! A type lives here only if at least two of {file, wire, store, screen} speak it. No I/O, no clock, no
//! policy: parse, validate, display, compare.
//!
//! Two stages are never mixed. [`file`] holds what was *written* (`Option`s, positions, several formats);
//! [`app::AppSpec`] is what *holds*: every default filled in, the command line resolved, the environment
//! complete. The daemon, the store and the wire know only the second.
//!
//! Where to start reading: [`app`], then [`state`].

#![forbid(unsafe_code)]

pub mod access;
pub mod app;
pub mod exit;
pub mod file;
pub mod hex;
pub mod id;
pub mod limits;
pub mod listen;
pub mod logs;
pub mod place;
pub mod restart;
pub mod rollout;
pub mod sandbox;
pub mod schedule;
pub mod settings;
pub mod size;
pub mod state;
pub mod stop;
pub mod supply;
