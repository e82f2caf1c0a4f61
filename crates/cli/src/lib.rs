//! The human edge: words to requests, answers to words.
//!
//! Three steps, never mixed: [`args`] is exactly what was typed; [`settings`] is what that means here (home, colours,
//! terminal); [`commands`] talk to `/v1` through [`upkeep_api::client`] and print through [`output`]. Data goes to
//! standard output, everything else to standard error; `--json` prints one document and nothing beside it. Exit codes
//! stand in one table, [`exit`].
//!
//! # What it refuses to do
//!
//! It reads no log file, no store and no process: what it can do, a script that speaks `/v1` can do. The one thing it
//! does besides is to start the keeper when nobody answers.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod connect;
mod exit;
mod hosts;
mod monit;
mod output;
mod settings;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

/// Who calls: what `main` knows of the program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its version.
    pub version: &'static str,
    /// Its own path, to start the keeper with.
    pub path: PathBuf,
}

/// Runs one command.
pub fn run(arguments: Vec<OsString>, program: Program) -> ExitCode {
    let parsed = match args::parse(arguments, program.version) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let output = output::Output::new(&parsed.global);
    let code = settings::Settings::resolve(parsed.global, &parsed.command, program).and_then(|settings| {
        if let Some(remote) = settings.host.as_ref().filter(|_| !output.json) {
            output.say(&format!("on {} ({})", remote.name, remote.way()));
        }
        commands::run(parsed.command, &settings, &output)
    });
    match code {
        Ok(code) => code.into(),
        Err(error) => exit::report(&error, &output).into(),
    }
}
