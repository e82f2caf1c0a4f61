//! One table from names to what is done.

use std::{ffi::OsString, process::ExitCode};

use crate::{
    args::{self, Invocation, Parsed},
    context::{Context, Failure, complain, exit_code, out},
    style::Style,
};

mod act;
mod conf;
mod deploy;
mod describe;
mod dump;
mod files;
mod hosted;
mod launch;
mod list;
mod logs;
mod look;
mod misc;
pub(crate) mod modules;
mod monit;
mod ping;
mod serve;
mod signals;
mod start;
mod startup;

/// What a command is.
pub type Command = fn(&mut Context, &Invocation) -> Result<(), Failure>;

/// What is done, by the names of [`args::COMMANDS`]; aliases are resolved there.
const TABLE: &[(&str, Command)] = &[
    ("cleardump", dump::clear),
    ("deepUpdate", dump::deep_update),
    ("delete", act::delete),
    ("desc", describe::describe),
    ("describe", describe::describe),
    ("dump", dump::save),
    ("env", look::env),
    ("id", look::id),
    ("info", describe::describe),
    ("jlist", list::jlist),
    ("kill", dump::kill),
    ("l", list::list),
    ("list", list::list),
    ("monitor", look::monitor),
    ("pid", look::pid),
    ("prettylist", list::prettylist),
    ("ps", list::list),
    ("reload", act::reload),
    ("reset", act::reset),
    ("restart", act::restart),
    ("resurrect", dump::resurrect),
    ("scale", act::scale),
    ("show", describe::describe),
    ("start", start::start),
    ("startOrGracefulReload", act::start_or_reload),
    ("startOrReload", act::start_or_reload),
    ("startOrRestart", act::start_or_restart),
    ("status", list::list),
    ("stop", act::stop),
    ("unmonitor", look::unmonitor),
    ("update", dump::update),
    ("updatePM2", dump::update),
    ("attach", signals::attach),
    ("autoinstall", misc::autoinstall),
    ("backward", misc::backward),
    ("completion", misc::completion),
    ("conf", conf::conf),
    ("config", conf::config),
    ("create", misc::create),
    ("deploy", deploy::deploy),
    ("ecosystem", misc::init),
    ("examples", misc::examples),
    ("flush", logs::flush),
    ("forward", misc::forward),
    ("get", conf::get),
    ("inspect", signals::inspect),
    ("install", modules::install),
    ("install-otel", hosted::tracing),
    ("link", hosted::link),
    ("login", hosted::account),
    ("logout", hosted::logout),
    ("module:generate", modules::generate),
    ("module:update", modules::install),
    ("dashboard", monit::monit),
    ("imonit", monit::monit),
    ("monit", monit::monit),
    ("multiset", conf::multiset),
    ("open", hosted::account),
    ("package", modules::package),
    ("plus", hosted::account),
    ("profile:cpu", signals::profile_cpu),
    ("profile:mem", signals::profile_memory),
    ("publish", modules::publish),
    ("pull", misc::pull),
    ("report", misc::report),
    ("send", signals::send),
    ("sendSignal", signals::send_signal),
    ("serve", serve::serve),
    ("set", conf::set),
    ("slist", signals::system),
    ("trigger", signals::trigger),
    ("uninstall", modules::uninstall),
    ("uninstall-otel", hosted::tracing),
    ("unlink", hosted::unlink),
    ("unset", conf::unset),
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
    if let Some(invocation) = completion(words) {
        return finish(dispatch(&invocation));
    }
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

/// `completion` is no command that others list: what stands behind it are words of another command line.
fn completion(words: &[OsString]) -> Option<Invocation> {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if words.first().is_none_or(|word| word != "completion") {
        return None;
    }
    let end = words.iter().position(|word| word == "--");
    Some(Invocation {
        command: "completion",
        operands: words[1..end.unwrap_or(words.len())].to_vec(),
        app_args: end.map(|end| words[end + 1..].to_vec()),
        ..Invocation::default()
    })
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
    if invocation.command == "start" && invocation.options.has("container") {
        context.complain(hosted::CONTAINER);
        return Err(Failure::said(1));
    }
    if invocation.command == "start" && invocation.options.has("no-daemon") {
        return crate::foreground::no_daemon(context, invocation);
    }
    let outcome = perform(&mut context, invocation);
    if let Err(Failure {
        message: Some(message),
        ..
    }) = &outcome
    {
        context.complain(message);
    }
    outcome.map_err(|failure| Failure::said(failure.code))
}

/// Does what the words say; what went wrong is for the caller to say.
pub(crate) fn perform(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let Some((_, command)) = TABLE.iter().find(|(name, _)| *name == invocation.command) else {
        return Err(Failure::new(format!("`{}` is not supported", invocation.command)));
    };
    command(context, invocation)
}

/// As [`perform`], with the words of a user.
pub(crate) fn perform_words(context: &mut Context, words: &[&str]) -> Result<(), Failure> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    match args::parse(&args::PM2, &words) {
        Parsed::Run(invocation) => perform(context, &invocation),
        _ => Err(Failure::new("a command of our own is not understood")),
    }
}

/// A path without `.` and `..`, whether it exists or not.
fn normal(path: &std::path::Path) -> std::path::PathBuf {
    use std::path::Component;
    path.components()
        .fold(std::path::PathBuf::new(), |mut whole, part| {
            match part {
                Component::CurDir => {}
                Component::ParentDir => {
                    whole.pop();
                }
                other => whole.push(other),
            }
            whole
        })
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
