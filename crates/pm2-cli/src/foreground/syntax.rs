//! The words that `pm2-runtime` and `pm2-dev` know.

use crate::args::{OptionSpec, Syntax};

const fn option(flags: &'static str, about: &'static str) -> OptionSpec {
    OptionSpec { flags, about }
}

/// Of `pm2-runtime` and `pm2-docker`.
pub(super) const RUNTIME: Syntax = Syntax {
    usage: "pm2-runtime app.js",
    options: &[
        option("-V, --version", "output the version number"),
        option("-i --instances <number>", "number of instances"),
        option("--secret [key]", "of the hosted dashboard (not used)"),
        option("--no-autostart", "do not start it now"),
        option("--no-autorestart", "do not start it again when it ends"),
        option(
            "--stop-exit-codes <exit_codes...>",
            "exit codes that end it for good",
        ),
        option(
            "--node-args <node_args>",
            "arguments of the interpreter, separated by blanks",
        ),
        option("-n --name <name>", "name of the app"),
        option(
            "--max-memory-restart <memory>",
            "restart above this much memory (100M)",
        ),
        option("-c --cron <cron_pattern>", "restart by a cron pattern"),
        option("--interpreter <interpreter>", "program that runs the script"),
        option("--public [key]", "of the hosted dashboard (not used)"),
        option("--machine-name [name]", "of the hosted dashboard (not used)"),
        option("--trace", "of the hosted dashboard (not used)"),
        option("--v8", "more figures of Node"),
        option("--format", "logs as key=val"),
        option("--raw", "logs as they are (default)"),
        option("--formatted", "logs as id|app| text"),
        option("--json", "logs as JSON"),
        option("--delay <seconds>", "wait before the start"),
        option("--web [port]", "not supported"),
        option("--only <application-name>", "only this app of the file"),
        option("--no-auto-exit", "stay when nothing runs any more"),
        option("--env [name]", "which env_NAME of the file applies"),
        option("--watch", "restart when files change"),
        option("--error <path>", "file for stderr (default: none)"),
        option("--output <path>", "file for stdout (default: none)"),
        option("--deep-monitoring", "more figures"),
        option("--no-color", "no colours"),
    ],
    commands: &[],
};

/// Of `pm2-dev`.
pub(super) const DEV: Syntax = Syntax {
    usage: "pm2-dev app.js",
    options: &[
        option("-V, --version", "output the version number"),
        option("--raw", "logs as they are"),
        option("--timestamp", "a date before each line"),
        option(
            "--node-args <node_args>",
            "arguments of the interpreter, separated by blanks",
        ),
        option(
            "--ignore [files]",
            "files that may change without a restart, separated by commas",
        ),
        option("--post-exec [cmd]", "run this after each restart"),
        option("--silent-exec", "do not show what that prints"),
        option("--test-mode", "leave the daemon running"),
        option("--interpreter <interpreter>", "program that runs the script"),
        option("--env [name]", "which env_NAME of the file applies"),
        option("--auto-exit", "leave when nothing runs any more"),
        option("--no-color", "no colours"),
    ],
    commands: &[],
};
