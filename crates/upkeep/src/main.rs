//! Chooses what this process is, before any runtime exists: keeper, daemon or command line.
//!
//! The keeper must stay single-threaded and small, so nothing is set up here that it does not need.

#![forbid(unsafe_code)]

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use upkeep_host::home::{self, Home};
use upkeep_pm2::home::Pm2Home;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(personality) = personality(&arguments) {
        return upkeep_pm2_cli::run(personality, arguments);
    }
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some("keeper") => keeper(&arguments[2..]),
        Some("daemon") => daemon(&arguments[2..]),
        Some("door") => match upkeep_door::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail_with(&error),
        },
        Some(upkeep_pm2_cli::serve::ROLE) => upkeep_pm2_cli::serve::run(),
        _ => match program() {
            Ok(path) => upkeep_cli::run(
                arguments,
                upkeep_cli::Program {
                    version: VERSION,
                    path,
                },
            ),
            Err(error) => fail(&format!("failed to find our own program: {error}")),
        },
    }
}

/// Under PM2's names it is PM2, except for the roles that such a program starts itself in.
fn personality(arguments: &[OsString]) -> Option<upkeep_pm2_cli::Personality> {
    let role = arguments.get(1).and_then(|word| word.to_str());
    if matches!(role, Some("keeper" | "daemon" | "door" | "pm2-serve")) {
        return None;
    }
    upkeep_pm2_cli::Personality::of(arguments.first()?)
}

/// The path that this program was started from, also if another file has taken its place since.
fn program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(path
        .to_str()
        .and_then(|text| text.strip_suffix(" (deleted)"))
        .map_or_else(|| path.clone(), PathBuf::from))
}

fn fail(message: &str) -> ExitCode {
    use std::io::Write;
    // If nobody can be told, the code tells.
    let _ = writeln!(std::io::stderr(), "error: {message}");
    ExitCode::FAILURE
}

/// Prints an error with its causes.
fn fail_with(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    fail(&text)
}

fn find_home() -> Result<Home, ExitCode> {
    Home::find(&|name| std::env::var_os(name), home::uid()).map_err(|error| fail_with(&error))
}

/// The state of a run in the foreground does not outlive it.
const EPHEMERAL: &str = "--ephemeral";
/// `PM2_HOME` is served.
const PM2: &str = "--pm2";
/// Its number on Linux.
const SIGUSR2: &str = "12";

fn daemon(arguments: &[OsString]) -> ExitCode {
    let has = |flag: &str| arguments.iter().any(|word| word == flag);
    let ephemeral = has(EPHEMERAL);
    let pm2 = if has(PM2) {
        let Some(home) = Pm2Home::from_env() else {
            return fail("failed to find a home of PM2: neither `PM2_HOME` nor `HOME` is set");
        };
        Some(home)
    } else {
        None
    };
    let home = match find_home() {
        Ok(home) => home,
        Err(code) => return code,
    };
    let store = if ephemeral {
        home.ephemeral_store()
    } else {
        home.store()
    };
    let version = VERSION.to_owned();
    match upkeep_daemon::run(upkeep_daemon::DaemonSettings {
        home,
        store,
        version,
        pm2,
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail_with(&error),
    }
}

/// `upkeep keeper [--detach | --ephemeral | --resume FD | --can-resume VERSION]`: not for people, who get it from any other verb.
fn keeper(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        [] => serve(None),
        [EPHEMERAL] => serve(Some(EPHEMERAL)),
        [PM2] => serve(Some(PM2)),
        ["--detach"] => match upkeep_keeper::detach(None) {
            Ok(upkeep_keeper::Side::Caller) => ExitCode::SUCCESS,
            Ok(upkeep_keeper::Side::Detached) => serve(None),
            Err(error) => fail_with(&error),
        },
        [PM2, "--detach"] => match upkeep_keeper::detach(None) {
            Ok(upkeep_keeper::Side::Caller) => ExitCode::SUCCESS,
            Ok(upkeep_keeper::Side::Detached) => titled(),
            Err(error) => fail_with(&error),
        },
        ["--resume", state] => match state.parse() {
            Ok(state) => finish(upkeep_keeper::resume(state, VERSION)),
            Err(_) => fail("`--resume` takes a descriptor"),
        },
        ["--can-resume", version] => {
            let fit = version.parse().is_ok_and(upkeep_keeper::can_resume);
            if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        _ => fail("usage: upkeep keeper [--detach]"),
    }
}

/// Starts this program again as the keeper of a `PM2_HOME`, under the name that PM2's users look for in `ps`.
fn titled() -> ExitCode {
    use std::os::unix::process::CommandExt as _;
    let (Some(home), Ok(program)) = (Pm2Home::from_env(), program()) else {
        return fail("failed to find a home of PM2, or our own program");
    };
    let error = std::process::Command::new(program)
        .arg0(home.daemon_title())
        .args(["keeper", PM2])
        .exec();
    fail(&format!("failed to start our own program: {error}"))
}

/// `mode`: what is passed on to the daemon.
fn serve(mode: Option<&'static str>) -> ExitCode {
    let home = match find_home() {
        Ok(home) => home,
        Err(code) => return code,
    };
    let program = match program() {
        Ok(program) => program,
        Err(error) => return fail(&format!("failed to find our own program: {error}")),
    };
    if let Err(error) = home.make() {
        return fail_with(&error);
    }
    let argv = |role: &str| vec![program.clone().into_os_string(), role.into()];
    finish(upkeep_keeper::run(upkeep_keeper::KeeperSettings {
        run_dir: home.run,
        daemon: upkeep_keeper::DaemonCommand {
            program: program.clone(),
            argv: argv("daemon")
                .into_iter()
                .chain(mode.map(OsString::from))
                .collect(),
            env: std::env::vars_os()
                // For a program that rotates logs, SIGUSR2 to `pm2.pid` means that they are to be opened anew.
                .chain((mode == Some(PM2)).then(|| (upkeep_keeper::PASS_ON.into(), SIGUSR2.into())))
                .collect(),
        },
        own_argv: argv("keeper"),
        own_program: program,
        version: VERSION.to_owned(),
        times: times(),
    }))
}

/// How long things may take. `UPKEEP_DAEMON_PAUSE_MAX_MS`: the longest pause before a daemon that died is started
/// again, for those who would rather have a busy machine than wait, and for tests that kill it two hundred times.
fn times() -> upkeep_keeper::Times {
    let times = upkeep_keeper::Times::default();
    let longest = std::env::var("UPKEEP_DAEMON_PAUSE_MAX_MS")
        .ok()
        .and_then(|text| text.parse().ok());
    let backoff_max = longest.unwrap_or(times.backoff_max);
    upkeep_keeper::Times {
        backoff_min: times.backoff_min.min(backoff_max),
        backoff_max,
        ..times
    }
}

fn finish(outcome: Result<upkeep_keeper::Finished, upkeep_keeper::KeeperError>) -> ExitCode {
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        // Two were started at once, and the other was first: what was wanted is there.
        Err(upkeep_keeper::KeeperError::AlreadyRunning { .. }) => ExitCode::SUCCESS,
        Err(error) => fail_with(&error),
    }
}
