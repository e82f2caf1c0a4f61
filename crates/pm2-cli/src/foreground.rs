//! A daemon that lives as long as the command: `pm2-runtime`, `pm2-docker`, `pm2-dev` and `--no-daemon`.
//!
//! The daemon is the usual one. This command starts it, starts the apps, shows what they say, and when a signal comes or
//! nothing runs any more it ends the apps and the daemon.

mod dev;
mod syntax;

use std::{
    ffi::OsString,
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    time::{Duration, Instant},
};

use serde_json::Value;
use upkeep_pm2::home::PM2_VERSION;
use upkeep_sys::signal::{SignalFd, number};

use crate::{
    args::{self, Invocation, Options, Parsed, Syntax},
    commands,
    context::{Context, Failure, exit_code, out},
    logs::{Follow, Form, Target, stream},
    style::Style,
};

pub(crate) use dev::dev;

/// Apps get so long before anybody looks whether they run.
const FIRST_LOOK: Duration = Duration::from_secs(4);
/// And so long between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
/// So many looks without a running app end it.
const LOOKS: u32 = 4;
/// The status then.
const NOTHING_RUNS: u8 = 2;
/// States in which an app runs or is about to.
const ALIVE: [&str; 4] = ["online", "launching", "waiting restart", "stopping"];

/// How a foreground run behaves.
struct Plan {
    start: Invocation,
    form: Form,
    /// Leave when nothing runs any more.
    auto_exit: bool,
    delay: Duration,
}

fn parse(syntax: &Syntax, words: &[OsString]) -> Result<Invocation, ExitCode> {
    match args::parse(syntax, words) {
        Parsed::Run(invocation) => Ok(invocation),
        Parsed::Version => Err(commands::finish(out(format_args!("{PM2_VERSION}\n")))),
        Parsed::Help(text) => Err(commands::finish(out(text))),
        Parsed::Nothing(_) => Err(commands::finish(
            out(syntax.help()).and_then(|()| Err(Failure::said(1))),
        )),
        Parsed::UnknownCommand(word) => Err(commands::finish(Err(Failure::new(format!(
            "`{word}` is not understood"
        ))))),
        Parsed::Wrong(text) => Err(commands::finish(commands::wrong(&text))),
    }
}

/// Words of `pm2-runtime` and `pm2-dev`: `start` before the file is optional.
fn file_of(invocation: &mut Invocation) -> Vec<String> {
    let mut operands = std::mem::take(&mut invocation.operands);
    if operands.first().is_some_and(|word| word == "start") {
        operands.remove(0);
    }
    operands
}

/// `start` with these options.
fn start(operands: Vec<String>, invocation: &Invocation, options: Options) -> Invocation {
    Invocation {
        command: "start",
        operands,
        options,
        app_args: invocation.app_args.clone(),
        words: invocation.words.clone(),
    }
}

/// `pm2-runtime …`, `pm2-docker …`.
pub(crate) fn runtime(words: &[OsString]) -> ExitCode {
    let mut invocation = match parse(&syntax::RUNTIME, words) {
        Ok(invocation) => invocation,
        Err(code) => return code,
    };
    let operands = file_of(&mut invocation);
    let Some(file) = operands.first() else {
        return commands::finish(out(syntax::RUNTIME.help()).and_then(|()| Err(Failure::said(1))));
    };
    let mut options = invocation.options.clone();
    // Files are switched off for a script; a configuration says itself where its logs go.
    if !upkeep_pm2::config::is_config(file) {
        for name in ["output", "error"] {
            if !options.has(name) {
                options.set(name, Some("/dev/null".to_owned()));
            }
        }
    }
    let form = if options.has("json") {
        Form::Json
    } else if options.has("format") {
        Form::Pairs(None)
    } else if options.has("formatted") {
        Form::Labelled(None)
    } else {
        Form::Raw
    };
    let delay = options
        .text("delay")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let auto_exit = !options.has("no-auto-exit");
    if options.has("web") {
        note("the web interface is not part of PM2 7, and not of this tool");
    }
    let plan = Plan {
        start: start(operands, &invocation, options),
        form,
        auto_exit,
        delay: Duration::from_secs(delay),
    };
    leave(Context::new(&invocation).and_then(|context| run(context, plan)))
}

/// `pm2 start … --no-daemon`.
pub(crate) fn no_daemon(context: Context, invocation: &Invocation) -> Result<(), Failure> {
    let mut options = invocation.options.clone();
    options.remove("no-daemon");
    let plan = Plan {
        start: start(invocation.operands.clone(), invocation, options),
        form: Form::Labelled(None),
        auto_exit: false,
        delay: Duration::ZERO,
    };
    run(context, plan)
}

fn leave(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message {
                grumble(&message);
            }
            exit_code(failure.code)
        }
    }
}

fn stamp(at: Option<i64>) -> String {
    let at = at.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond());
    upkeep_pm2::date::format("YYYY-MM-DDTHH:mm:ss", at)
}

/// A line as the daemon's log has them.
fn note(text: &str) {
    // The reader of a container's log may have gone; that must not end the apps.
    let _ = out(format_args!("{}: PM2 log: {text}\n", stamp(None)));
}

fn grumble(text: &str) {
    // As above.
    let _ = writeln!(std::io::stderr().lock(), "{}: PM2 error: {text}", stamp(None));
}

/// The signals that end it. They are waited for from here on, in every thread.
fn signals() -> Result<SignalFd, Failure> {
    SignalFd::new(&[number::INT, number::TERM, number::QUIT, number::HUP]).map_err(Failure::new)
}

fn signalled(signals: &SignalFd) -> bool {
    // A descriptor that cannot be read any more would mean that nobody can stop us: so it stops.
    !matches!(signals.read(), Ok(None))
}

/// Starts the apps in a thread of its own, so that what they say is shown meanwhile.
fn start_apps(
    invocation: Invocation,
    home: upkeep_pm2::home::Pm2Home,
    delay: Duration,
) -> Receiver<Option<Failure>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        crate::context::pause(delay);
        let outcome = Context::new(&invocation).and_then(|mut context| {
            context.home = home;
            context.silent = true;
            commands::perform(&mut context, &invocation)
        });
        // Nobody waits for it if the run has ended.
        let _ = sender.send(outcome.err());
    });
    receiver
}

/// How many apps run; modules do not count.
fn running(context: &mut Context, states: &[&str]) -> usize {
    let processes = context.processes().unwrap_or_default();
    processes
        .iter()
        .filter(|process| {
            let record = process.get("pm2_env").unwrap_or(process);
            let status = record.get("status").and_then(Value::as_str).unwrap_or_default();
            record.get("pmx_module") != Some(&Value::Bool(true)) && states.contains(&status)
        })
        .count()
}

/// A second connection to the same daemon: one looks while the other shows.
fn twin(context: &Context, invocation: Option<&Invocation>) -> Result<Context, Failure> {
    let nothing = Invocation::default();
    let mut twin = Context::new(invocation.unwrap_or(&nothing))?;
    twin.home = context.home.clone();
    twin.silent = true;
    Ok(twin)
}

/// Ends apps and daemon in a thread of its own, so that the last words of the apps are shown.
fn stop(mut context: Context) -> Receiver<Option<Failure>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        context.silent = true;
        context.disconnect();
        let outcome = commands::perform_words(&mut context, &["kill"]);
        // Nobody waits for it if showing has failed.
        let _ = sender.send(outcome.err());
    });
    receiver
}

fn run(mut context: Context, plan: Plan) -> Result<(), Failure> {
    let signals = signals()?;
    note("Launching in no daemon mode");
    context.silent = true;
    context.rpc()?;
    let mut started: Option<Receiver<Option<Failure>>> = None;
    let mut invocation = Some(plan.start);
    let mut first = true;
    let mut look = None;
    let mut looks = LOOKS;
    let mut code = 0;
    let home = context.home.clone();
    let mut watcher = twin(&context, invocation.as_ref())?;
    let mut hear = |published: &upkeep_pm2::client::Published| {
        if published.event == "log:PM2" {
            let at = published.payload.get("at").and_then(Value::as_i64);
            let text = published
                .payload
                .get("data")
                .and_then(Value::as_str)
                .unwrap_or_default();
            for line in text.lines() {
                // The reader of a container's log may have gone; that must not end the apps.
                let _ = out(format_args!("{}: PM2 log: {line}\n", stamp(at)));
            }
        }
        Ok(false)
    };
    let mut stopping: Option<Receiver<Option<Failure>>> = None;
    let mut until = || {
        if let Some(stopped) = &stopping {
            return Ok(!matches!(stopped.try_recv(), Err(TryRecvError::Empty)));
        }
        if signalled(&signals) {
            stopping = Some(stop(twin(&watcher, None)?));
            return Ok(false);
        }
        // The second question comes when the bus is heard: from then on nothing is missed.
        if std::mem::take(&mut first) {
            return Ok(false);
        }
        if let Some(invocation) = invocation.take() {
            started = Some(start_apps(invocation, home.clone(), plan.delay));
        }
        match started.as_ref().map(Receiver::try_recv) {
            Some(Ok(None)) => {
                started = None;
                look = Some(Instant::now() + FIRST_LOOK);
            }
            Some(Ok(Some(failure))) => {
                // Said here, and no reason for another status: so the real one does.
                if let Some(message) = failure.message {
                    grumble(&message);
                }
                stopping = Some(stop(twin(&watcher, None)?));
                return Ok(false);
            }
            Some(Err(TryRecvError::Disconnected)) => {
                stopping = Some(stop(twin(&watcher, None)?));
                return Ok(false);
            }
            Some(Err(TryRecvError::Empty)) | None => {}
        }
        if plan.auto_exit && look.is_some_and(|at| Instant::now() >= at) {
            look = Some(Instant::now() + BETWEEN_LOOKS);
            if running(&mut watcher, &ALIVE) > 0 {
                looks = LOOKS;
            } else {
                looks -= 1;
                note(&format!("0 application online, retry = {looks}"));
                if looks == 0 {
                    code = NOTHING_RUNS;
                    stopping = Some(stop(twin(&watcher, None)?));
                }
            }
        }
        Ok(false)
    };
    let outcome = stream(
        &context,
        &mut Follow {
            // The daemon's own words are shown by `hear`, as its log has them.
            target: Target::Apps,
            form: plan.form,
            only: None,
            highlight: None,
            events: true,
            hear: &mut hear,
            until: &mut until,
        },
    );
    if outcome.is_err() {
        // Nobody reads us any more; the apps are ended all the same.
        let _ = stop(context).recv();
    }
    note("PM2 successfully stopped");
    outcome?;
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::said(code))
    }
}

/// Colours only for a terminal.
fn style_of_terminal(context: &Context) -> Style {
    use std::io::IsTerminal as _;
    Style::new(context.style.is_on() && std::io::stdout().is_terminal())
}

/// The home of `pm2-dev`.
fn dev_home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pm2-dev"))
}
