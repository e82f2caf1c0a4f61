//! `logs`, `flush`, `reloadLogs`, `logrotate`.

use std::{fs::File, path::Path};

use serde_json::{Value, json};

use crate::{
    args::Invocation,
    context::{Context, Failure},
    logs::{Follow, Form, Output, Tail, Target, stream, tail, text},
};

/// Lines of each file, if nothing else is asked for.
const LINES: u64 = 15;
/// The date before lines, if no other is asked for.
const TIMESTAMP: &str = "YYYY-MM-DD-HH:mm:ss";

pub(super) fn logs(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let options = &invocation.options;
    let word = invocation
        .operands
        .first()
        .cloned()
        .unwrap_or_else(|| "all".to_owned());
    let lines = options
        .text("lines")
        .and_then(|text| text.parse().ok())
        .unwrap_or(LINES);
    let only = if options.has("out") {
        Some(Output::Out)
    } else if options.has("err") {
        Some(Output::Err)
    } else {
        None
    };
    let timestamp = options
        .has("timestamp")
        .then(|| options.text("timestamp").unwrap_or(TIMESTAMP).to_owned());
    let form = if options.has("json") {
        Form::Json
    } else if options.has("format") {
        Form::Pairs(None)
    } else if options.has("raw") {
        Form::Raw
    } else {
        Form::Labelled(timestamp)
    };
    let stays = !options.has("nostream");
    let target = Target::parse(&word);
    // The daemon is there before anybody listens to it.
    context.rpc()?;
    if lines > 0 && !(stays && matches!(form, Form::Json | Form::Pairs(_))) {
        let processes = context.processes()?;
        let what = Tail {
            target: target.clone(),
            word,
            lines,
            raw: options.has("raw"),
            only,
        };
        tail(context, &what, &processes)?;
    }
    if !stays {
        return Ok(());
    }
    stream(
        context,
        &mut Follow {
            target,
            form,
            only,
            highlight: options.text("highlight").map(str::to_owned),
            events: true,
            hear: &mut |_| Ok(false),
            until: &mut || Ok(false),
        },
    )
}

pub(super) fn flush(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let word = invocation.operands.first();
    let processes = context.processes()?;
    if word.is_none() {
        context.say(format_args!("Flushing {}", context.home.log.display()))?;
        truncate(&context.home.log)?;
    }
    let target = Target::parse(word.map_or("all", String::as_str));
    for process in &processes {
        let record = process.get("pm2_env").unwrap_or(process);
        let id = process.get("pm_id").and_then(Value::as_u64);
        if !target.takes(id, text(process, "name"), text(record, "namespace")) {
            continue;
        }
        context.say("Flushing:")?;
        for key in ["pm_log_path", "pm_out_log_path", "pm_err_log_path"] {
            let path = text(record, key);
            if path.is_empty() {
                continue;
            }
            context.say(path)?;
            if Path::new(path).is_file() {
                truncate(Path::new(path))?;
            }
        }
    }
    context.say("Logs flushed")
}

fn truncate(path: &Path) -> Result<(), Failure> {
    File::create(path)
        .map(drop)
        .map_err(|error| Failure::new(format!("failed to empty `{}`: {error}", path.display())))
}

pub(super) fn reload_logs(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    context.print("Reloading all logs...")?;
    context.call("reloadLogs", json!({}))?;
    context.print("All logs reloaded")
}

/// Where the system's logrotate looks.
const LOGROTATE: &str = "/etc/logrotate.d";

pub(super) fn logrotate(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let root = super::startup::Root::from_env();
    if !root.may_write() {
        super::startup::as_root(context, "logrotate", invocation)?;
        return Err(Failure::said(1));
    }
    let user = invocation.options.text("user").unwrap_or("root");
    let path = root.path(&format!("{LOGROTATE}/pm2-{user}"));
    let text = format!(
        "{} {}/*.log {{\n        rotate 12\n        weekly\n        missingok\n        notifempty\n        compress\n        \
         delaycompress\n        copytruncate\n        create 0640 {user} {user}\n}}\n",
        context.home.log.display(),
        context.home.logs.display()
    );
    std::fs::write(&path, text)
        .map_err(|error| Failure::new(format!("failed to write `{}`: {error}", path.display())))?;
    // The real one says `pm2` here whatever the file is called.
    context.say(format_args!(
        "Logrotate configuration added to {LOGROTATE}/pm2-{user}"
    ))
}
