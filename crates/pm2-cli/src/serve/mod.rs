//! The static page server: the app that `pm2 serve` starts runs it (`upkeep pm2-serve`).

mod server;

use std::process::ExitCode;

/// What `argv[1]` is in a process that serves pages.
pub const ROLE: &str = "pm2-serve";

/// Serves what the environment says until a signal ends the process.
pub fn run() -> ExitCode {
    server::run()
}
