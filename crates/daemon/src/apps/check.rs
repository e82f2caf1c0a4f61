//! Test before touch: a command that has to succeed before what runs is replaced or restarted.
//!
//! The app's own `check`, or the one that the program is known for: `nginx -t` and its like read the configuration
//! that the next process would read, and say what is wrong with it. It runs as the app runs: as its user, in its
//! directory, with its environment, but not in its cage: so an app with a sandbox has none.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::io::AsyncReadExt as _;
use upkeep_api::error::Code;
use upkeep_keeper::protocol::SpawnSpec;
use upkeep_model::{app::AppSpec, sandbox::Level};

use super::launch::{self, CopyId};
use crate::{
    command::Refusal,
    supply::{NOT_SHOWN, Variables},
};

/// How long a check may take.
const TIMEOUT: Duration = Duration::from_mins(1);
/// How much of what it says is read, in bytes; the end of it is shown.
const OUTPUT_MAX: u64 = 64 << 10;
/// How many of its lines are shown.
const LINES_SHOWN: usize = 6;

/// Arguments of a program that a check takes over, with how many words follow each.
struct Checker {
    program: &'static str,
    /// What makes it a check.
    test: &'static [&'static str],
    /// Options that say which configuration it is.
    keeps: &'static [&'static str],
}

const CHECKERS: &[Checker] = &[
    Checker {
        program: "nginx",
        test: &["-t", "-q"],
        keeps: &["-c", "-p", "-g", "-e"],
    },
    Checker {
        program: "haproxy",
        test: &["-c", "-q"],
        keeps: &["-f", "-C", "-L"],
    },
    Checker {
        program: "sshd",
        test: &["-t"],
        keeps: &["-f", "-h", "-o"],
    },
    Checker {
        program: "httpd",
        test: &["-t"],
        keeps: &["-f", "-d", "-D", "-C", "-c"],
    },
    Checker {
        program: "apache2",
        test: &["-t"],
        keeps: &["-f", "-d", "-D", "-C", "-c"],
    },
    Checker {
        program: "php-fpm",
        test: &["-t"],
        keeps: &["-y", "-c", "-p", "-d"],
    },
];

/// The check of an app, if it has one.
fn command(spec: &AppSpec) -> Option<Vec<String>> {
    if let Some(check) = &spec.check {
        return Some(check.clone());
    }
    // It would run outside the cage what the app may have replaced, with the configuration the app may have written
    // (`load_module`).
    if spec.sandbox.level > Level::None {
        return None;
    }
    let (program, arguments) = spec.command.split_first()?;
    let name = Path::new(program).file_name()?.to_str()?;
    // `php-fpm8.2` is php-fpm.
    let bare = name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.');
    let checker = CHECKERS.iter().find(|checker| checker.program == bare)?;
    let mut words = vec![program.clone()];
    words.extend(checker.test.iter().map(|&word| word.to_owned()));
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if checker.keeps.contains(&argument.as_str()) {
            words.push(argument.clone());
            words.extend(arguments.next().cloned());
        } else if checker
            .keeps
            .iter()
            .any(|option| argument.starts_with(option) && !argument.starts_with("--"))
        {
            words.push(argument.clone());
        }
    }
    Some(words)
}

/// Runs the check of an app; an app without one passes.
pub(super) async fn run(spec: &AppSpec, variables: Variables) -> Result<(), Refusal> {
    let Some(words) = command(spec) else {
        return Ok(());
    };
    if spec.sandbox.level > Level::None {
        return Err(Refusal::new(
            Code::Invalid,
            format!(
                "app `{}` was not touched: its `check` would run outside its sandbox",
                spec.name
            ),
        )
        .hint("leave out `check` or `sandbox`"));
    }
    let refuse = |why: String| {
        Refusal::new(
            Code::Invalid,
            format!(
                "app `{}` was not touched: its check `{}` {why}",
                spec.name,
                words.join(" ")
            ),
        )
        .hint("what runs goes on; repair what the check names and try again")
    };
    let copy = CopyId {
        index: 0,
        generation: 0,
    };
    let is_secret = variables.secret;
    let own = launch::Own {
        variables,
        ..launch::Own::default()
    };
    let launch = launch::spawn_spec(spec, copy, &own, &[])
        .map_err(|error| refuse(format!("cannot be run: {error}")))?;
    match tokio::time::timeout(TIMEOUT, obey(&words, &launch, is_secret)).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(said))) => Err(refuse(said)),
        Ok(Err(error)) => Err(refuse(format!("cannot be run: {error}"))),
        Err(_) => Err(refuse(format!("has not ended within {} s", TIMEOUT.as_secs()))),
    }
}

async fn obey(words: &[String], launch: &SpawnSpec, is_secret: bool) -> std::io::Result<Result<(), String>> {
    let mut child = super::health::ask::child(words, launch)
        .ok_or(std::io::ErrorKind::InvalidInput)?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read_out = async {
        match stdout {
            Some(pipe) => pipe.take(OUTPUT_MAX).read_to_end(&mut out).await.map(drop),
            None => Ok(()),
        }
    };
    let read_err = async {
        match stderr {
            Some(pipe) => pipe.take(OUTPUT_MAX).read_to_end(&mut err).await.map(drop),
            None => Ok(()),
        }
    };
    let (first, second) = tokio::join!(read_out, read_err);
    first.and(second)?;
    let status = child.wait().await?;
    if status.success() {
        return Ok(Ok(()));
    }
    if is_secret && !(err.is_empty() && out.is_empty()) {
        return Ok(Err(format!("failed ({status}); {NOT_SHOWN}")));
    }
    let said = [err, out].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = lines
        .get(lines.len().saturating_sub(LINES_SHOWN)..)
        .unwrap_or_default();
    Ok(Err(if shown.is_empty() {
        format!("failed ({status})")
    } else {
        format!("failed ({status}):\n  {}", shown.join("\n  "))
    }))
}
