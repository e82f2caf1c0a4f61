//! One table from names to what is done.

use std::{ffi::OsString, process::ExitCode};

use crate::{
    args::{self, Invocation, Parsed},
    context::{Context, Failure, complain, exit_code, out},
    style::Style,
};

mod logs;
mod ping;
mod startup;

/// What a command is.
pub type Command = fn(&mut Context, &Invocation) -> Result<(), Failure>;

/// What is done, by the names of [`args::COMMANDS`]; aliases are resolved there.
const TABLE: &[(&str, Command)] = &[
    ("flush", logs::flush),
    ("logrotate", logs::logrotate),
    ("logs", logs::logs),
    ("ping", ping::ping),
    ("reloadLogs", logs::reload_logs),
    ("startup", startup::startup),
    ("unstartup", startup::unstartup),
];

/// What is printed when nothing was asked for.
const USAGE: &str = "usage: pm2 [options] <command>

pm2 -h, --help             all available commands and options
pm2 examples               display pm2 usage examples
pm2 <command> -h           help on a specific command

Access pm2 files in ~/.pm2
";

/// `pm2 …`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    match args::parse(&args::PM2, words) {
        Parsed::Run(invocation) => finish(dispatch(&invocation)),
        Parsed::Version => finish(out(format_args!("{}\n", upkeep_pm2::home::PM2_VERSION))),
        Parsed::Help(text) => finish(out(text)),
        Parsed::Nothing(_) => finish(out(USAGE).and_then(|()| Err(Failure::said(1)))),
        Parsed::UnknownCommand(_) => {
            let style = default_style(words);
            complain(style, style.bold("Command not found"));
            finish(out(format_args!("{}\n{USAGE}", style.bold(""))).and_then(|()| Err(Failure::said(1))))
        }
        Parsed::Wrong(text) => finish(wrong(&text)),
    }
}

/// `pm2-runtime …`, `pm2-docker …`.
pub(crate) fn runtime(words: &[OsString]) -> ExitCode {
    run(words)
}

/// `pm2-dev …`.
pub(crate) fn dev(words: &[OsString]) -> ExitCode {
    run(words)
}

fn default_style(words: &[OsString]) -> Style {
    let plain = words.iter().any(|word| word == "--no-color");
    Style::new(!plain && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
}

/// A complaint about the words themselves.
pub(crate) fn wrong(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    // If nobody can be told, the status tells.
    let _ = write!(std::io::stderr().lock(), "{text}");
    Err(Failure::said(1))
}

fn dispatch(invocation: &Invocation) -> Result<(), Failure> {
    let mut context = Context::new(invocation)?;
    let Some((_, command)) = TABLE.iter().find(|(name, _)| *name == invocation.command) else {
        return Err(Failure::new(format!("`{}` is not supported", invocation.command)));
    };
    let outcome = command(&mut context, invocation);
    if let Err(Failure {
        message: Some(message),
        ..
    }) = &outcome
    {
        context.complain(message);
    }
    outcome.map_err(|failure| Failure::said(failure.code))
}

/// The outcome as a status. What is still to be said is said.
pub(crate) fn finish(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message {
                complain(Style::new(true), message);
            }
            exit_code(failure.code)
        }
    }
}
