//! `pm2-dev`: apps of one file that restart whenever something changes, in a home of their own.

use std::{
    ffi::OsString,
    process::{Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, TryRecvError},
    time::{Duration, Instant},
};

use serde_json::Value;
use upkeep_pm2::{client::Published, home::Pm2Home};

use super::{BETWEEN_LOOKS, dev_home, file_of, leave, parse, running, signalled, signals, start, start_apps};
use super::{style_of_terminal, syntax, twin};
use crate::{
    args::Invocation,
    commands,
    context::{Context, Failure, out},
    logs::{Follow, Form, Target, stream, text},
};

const TIMESTAMP: &str = "YYYY-MM-DD-HH:mm:ss";
/// Before a restart after a crash: time to save the next mistake.
const RESTART_DELAY_MS: &str = "1000";

/// `pm2-dev …`.
pub(crate) fn dev(words: &[OsString]) -> ExitCode {
    let mut invocation = match parse(&syntax::DEV, words) {
        Ok(invocation) => invocation,
        Err(code) => return code,
    };
    let operands = file_of(&mut invocation);
    if operands.is_empty() {
        return commands::finish(out(syntax::DEV.help()));
    }
    leave(run(&invocation, operands))
}

fn home() -> Option<Pm2Home> {
    let place = dev_home()?;
    Pm2Home::find(&|name| match name {
        "PM2_HOME" => Some(place.clone().into_os_string()),
        // Files elsewhere belong to the other home.
        "HOME" => std::env::var_os("HOME"),
        _ => None,
    })
}

fn headline(context: &mut Context, ignored: &str) -> Result<(), Failure> {
    let processes = context.processes()?;
    let mut names: Vec<&str> = processes.iter().map(|process| text(process, "name")).collect();
    names.dedup();
    out(format_args!(
        "--- PM2 development mode ------------------------------------------------------\n\
         Apps started         : {}\nProcesses started    : {}\nWatch and Restart    : Enabled\n\
         Ignored folder       : {ignored}\n{}\n",
        names.join(", "),
        processes.len(),
        "=".repeat(79)
    ))
}

fn after_restart(invocation: &Invocation, published: &Published) -> Result<(), Failure> {
    if published.event != "process:event" || text(&published.payload, "event") != "restart" {
        return Ok(());
    }
    let name = published.payload.pointer("/process/name").and_then(Value::as_str);
    out(format_args!(
        "[rundev] App {} restarted\n",
        name.unwrap_or_default()
    ))?;
    let Some(command) = invocation.options.text("post-exec") else {
        return Ok(());
    };
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::null());
    if invocation.options.has("silent-exec") {
        shell.stdout(Stdio::null()).stderr(Stdio::null());
    }
    if let Err(error) = shell.status() {
        out(format_args!("[rundev] {command}: {error}\n"))?;
    }
    Ok(())
}

fn run(invocation: &Invocation, operands: Vec<String>) -> Result<(), Failure> {
    let signals = signals()?;
    let mut context = Context::new(invocation)?;
    context.home = home().ok_or_else(|| Failure::new("HOME is not set"))?;
    context.style = style_of_terminal(&context);
    context.silent = true;
    // What an earlier session left must not run here.
    if context.rpc_if_there().is_some() {
        commands::perform_words(&mut context, &["kill"])?;
        context.disconnect();
    }
    context.rpc()?;
    let ignored = invocation
        .options
        .text("ignore")
        .unwrap_or("node_modules")
        .to_owned();
    let mut options = invocation.options.clone();
    options.set("watch", None);
    options.set("restart-delay", Some(RESTART_DELAY_MS.to_owned()));
    if let Some(files) = invocation.options.text("ignore") {
        options.set("ignore-watch", Some(files.replace(',', " ")));
    }
    let timestamp = options.has("timestamp").then(|| TIMESTAMP.to_owned());
    let form = if options.has("raw") {
        Form::Raw
    } else {
        Form::Dev(timestamp)
    };
    let mut first = Some(start(operands, invocation, options));
    let mut heard = false;
    let mut started: Option<Receiver<Option<Failure>>> = None;
    let mut trouble = None;
    let mut look: Option<Instant> = None;
    let mut watcher = twin(&context, Some(invocation))?;
    let auto_exit = invocation.options.has("auto-exit");
    let home = context.home.clone();
    let mut until = || {
        if signalled(&signals) {
            out(">>>>> [PM2 DEV] Stopping current development session\n")?;
            return Ok(true);
        }
        if !std::mem::replace(&mut heard, true) {
            return Ok(false);
        }
        if let Some(invocation) = first.take() {
            started = Some(start_apps(invocation, home.clone(), Duration::ZERO));
        }
        match started.as_ref().map(Receiver::try_recv) {
            Some(Ok(None)) => {
                started = None;
                look = Some(Instant::now() + BETWEEN_LOOKS);
                headline(&mut watcher, &ignored)?;
            }
            Some(Ok(Some(failure))) => {
                trouble = Some(failure);
                return Ok(true);
            }
            Some(Err(TryRecvError::Disconnected)) => return Ok(true),
            Some(Err(TryRecvError::Empty)) | None => {}
        }
        if auto_exit && look.is_some_and(|at| Instant::now() >= at) {
            look = Some(Instant::now() + BETWEEN_LOOKS);
            if running(&mut watcher, &["online", "launching"]) == 0 {
                out("0 application online, exiting\n")?;
                trouble = Some(Failure::said(1));
                return Ok(true);
            }
        }
        Ok(false)
    };
    let outcome = stream(
        &context,
        &mut Follow {
            target: Target::Apps,
            form,
            only: None,
            highlight: None,
            events: false,
            hear: &mut |published| after_restart(invocation, published).map(|()| false),
            until: &mut until,
        },
    );
    if !invocation.options.has("test-mode") {
        context.disconnect();
        commands::perform_words(&mut context, &["kill"])?;
    }
    outcome?;
    trouble.map_or(Ok(()), Err)
}
