//! The command lines `pm2`, `pm2-runtime`, `pm2-docker` and `pm2-dev`.
//!
//! # What this is for
//!
//! Whoever types `pm2`, or has a script that does, gets what PM2 7 would do: the same words, texts, files and statuses.
//! Everything goes over `rpc.sock` and `pub.sock`, with the calls that the real command line makes; so it works with the
//! real daemon as well.
//!
//! # Theory of operation
//!
//! [`args`] reads the words, [`commands`] has one table from names to functions, [`context`] is what each of them gets.
//! What PM2's two ends share is in the crate `upkeep-pm2`.
//!
//! Start reading at [`commands`].

#![forbid(unsafe_code)]

use std::{ffi::OsString, path::Path, process::ExitCode};

pub mod args;
mod attributes;
pub mod commands;
pub mod context;
mod foreground;
mod logs;
mod runner;
pub mod serve;
pub mod style;
mod surroundings;
mod table;

/// What the program was called as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// `pm2`.
    Pm2,
    /// `pm2-runtime` and `pm2-docker`.
    Runtime,
    /// `pm2-dev`.
    Dev,
}

impl Personality {
    /// By the name of the file that was called.
    pub fn of(argv0: &OsString) -> Option<Self> {
        match Path::new(argv0).file_name()?.to_str()? {
            "pm2" => Some(Self::Pm2),
            "pm2-runtime" | "pm2-docker" => Some(Self::Runtime),
            "pm2-dev" => Some(Self::Dev),
            _ => None,
        }
    }
}

/// Does what the words say; `arguments` begin with the program's name.
pub fn run(personality: Personality, arguments: Vec<OsString>) -> ExitCode {
    let words = arguments.get(1..).unwrap_or_default();
    match personality {
        Personality::Pm2 => commands::run(words),
        Personality::Runtime => foreground::runtime(words),
        Personality::Dev => foreground::dev(words),
    }
}
