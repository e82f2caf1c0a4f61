//! `sendSignal`, `send`, `attach`, `trigger`, `inspect`, `profile:mem`, `profile:cpu`: a word to one app, or to the daemon.

use std::{
    io::BufRead,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use upkeep_pm2::client::{Bus, CallError, Client};

use crate::{
    args::Invocation,
    context::{Context, Failure, out},
    logs::{Follow, Form, Target, stream, text},
};

/// How long the answers of apps to an action are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the daemon refuses, without PM2's prefix.
fn plain(error: CallError) -> Failure {
    match error {
        CallError::Refused { message } => {
            use std::io::Write as _;
            // The exit code tells as well.
            let _ = writeln!(std::io::stderr().lock(), "{message}");
            Failure::said(1)
        }
        other => other.into(),
    }
}

fn operand(invocation: &Invocation, index: usize) -> &str {
    invocation.operands.get(index).map_or("", String::as_str)
}

pub(super) fn send_signal(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let (signal, target) = (operand(invocation, 0), operand(invocation, 1));
    let (what, method, argument) = if target.parse::<u64>().is_ok() {
        (
            "id",
            "sendSignalToProcessId",
            json!({"signal": signal, "process_id": target}),
        )
    } else {
        (
            "name",
            "sendSignalToProcessName",
            json!({"signal": signal, "process_name": target}),
        )
    };
    context.rpc()?;
    context.say(format_args!("Sending signal to process {what} {target}"))?;
    context.rpc()?.call(method, argument).map_err(plain)?;
    context.print(format_args!(
        "successfully sent signal {signal} to process {what} {target}"
    ))?;
    super::list::show(context)
}

pub(super) fn send(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let line = format!("{}\n", operand(invocation, 1));
    let sent = context.rpc()?.call(
        "sendLineToStdin",
        json!({"pm_id": operand(invocation, 0), "line": line}),
    );
    match sent {
        Ok(_) => super::list::show(context),
        Err(CallError::Refused { message }) => Err(Failure::new(format!("Error: {message}"))),
        Err(other) => Err(other.into()),
    }
}

/// The terminal as the app's: lines go in, logs come out, until the separator or the end of the input.
pub(super) fn attach(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let Ok(id) = operand(invocation, 0).parse::<u64>() else {
        use std::io::Write as _;
        // The exit code tells as well.
        let _ = writeln!(
            std::io::stderr().lock(),
            "pm_id must be a process number (not a process name)"
        );
        return Err(Failure::said(1));
    };
    let separator = invocation.operands.get(1).cloned();
    let mut client = {
        context.rpc()?;
        Client::connect(&context.home.rpc)?
    };
    let is_there = context
        .processes()?
        .iter()
        .any(|process| process.get("pm_id").and_then(Value::as_u64) == Some(id));
    if !is_there {
        return Err(Failure::new(format!("Process with ID <{id}> unknown.")));
    }
    let (sender, ended) = std::sync::mpsc::sync_channel::<Option<String>>(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if separator.as_ref().is_some_and(|separator| *separator == line) {
                break;
            }
            let sent = client.call(
                "sendLineToStdin",
                json!({"pm_id": id, "line": format!("{line}\n")}),
            );
            if let Err(error) = sent {
                // Nobody waits any more if this cannot be sent.
                let _ = sender.send(Some(error.to_string()));
                return;
            }
        }
        let _ = sender.send(None);
    });
    let mut trouble = None;
    stream(
        context,
        &mut Follow {
            target: Target::Ids(vec![id]),
            form: Form::Raw,
            only: None,
            highlight: None,
            events: false,
            hear: &mut |_| Ok(false),
            until: &mut || match ended.try_recv() {
                Ok(why) => {
                    trouble = why;
                    Ok(true)
                }
                Err(_) => Ok(false),
            },
        },
    )?;
    trouble.map_or(Ok(()), |why| Err(Failure::new(why)))
}

pub(super) fn trigger(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let (target, action) = (operand(invocation, 0), operand(invocation, 1));
    context.rpc()?;
    // Answers must not come before somebody listens.
    let mut bus = Bus::connect(&context.home.publish)?;
    let mut message = json!({"msg": action});
    if let Some(parameter) = invocation.operands.get(2) {
        message["opts"] = json!(parameter);
    }
    if target.parse::<u64>().is_ok() {
        message["id"] = json!(target);
    } else {
        message["name"] = json!(target);
    }
    let answer = context.rpc()?.call("msgProcess", message).map_err(plain)?;
    let count = answer.get("process_count").and_then(Value::as_u64).unwrap_or(0);
    if count == 0 {
        use std::io::Write as _;
        // The exit code tells as well.
        let _ = writeln!(
            std::io::stderr().lock(),
            "Not any process has received a command (offline or unexistent)"
        );
        return Err(Failure::said(1));
    }
    context.print(
        context
            .style
            .bold(format_args!("{count} processes have received command {action}")),
    )?;
    let deadline = Instant::now() + PATIENCE;
    let mut answers = 0;
    while answers < count {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::new("not every process has answered"));
        }
        bus.set_timeout(Some(left))?;
        let Ok(Some(published)) = bus.next_event() else {
            continue;
        };
        let payload = &published.payload;
        let process = payload.get("process").cloned().unwrap_or_default();
        let id = process.get("pm_id").and_then(Value::as_u64);
        let (name, namespace) = (text(&process, "name"), text(&process, "namespace"));
        let is_ours =
            name == target || namespace == target || id.map(|id| id.to_string()).as_deref() == Some(target);
        if published.event != "axm:reply"
            || !is_ours
            || payload.pointer("/data/action_name") != Some(&json!(action))
        {
            continue;
        }
        answers += 1;
        let said = payload.pointer("/data/return").cloned().unwrap_or_default();
        context.print(format_args!(
            "[{name}:{}:{namespace}]={said}",
            id.unwrap_or_default()
        ))?;
    }
    Ok(())
}

pub(super) fn inspect(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let name = operand(invocation, 0);
    let answer = context
        .rpc()?
        .call("msgProcess", json!({"msg": "internal:inspect", "name": name}));
    let count = answer
        .as_ref()
        .ok()
        .and_then(|answer| answer.get("process_count"))
        .and_then(Value::as_u64)
        .unwrap_or(0);
    if count > 0 {
        return context.print(format_args!("Inspect mode activated on {name}"));
    }
    use std::io::Write as _;
    // The text on stdout tells as well.
    let _ = writeln!(
        std::io::stderr().lock(),
        "Not any process has received a command (offline or unexistent)"
    );
    context.print(format_args!("Unable to activate inspect mode on {name} !!!"))
}

/// A profile of the daemon, where that is a program of Node.
fn profile(context: &mut Context, invocation: &Invocation, kind: &str) -> Result<(), Failure> {
    let time = invocation.operands.first().map_or("10000", String::as_str);
    let (method, extension) = if kind == "CPU" {
        ("profileCPU", "cpuprofile")
    } else {
        ("profileMEM", "heapprofile")
    };
    context.rpc()?;
    let now = jiff::Zoned::now().timestamp().as_millisecond();
    let file = context.cwd.join(format!(
        "{}.{extension}",
        upkeep_pm2::date::format("dd-HH:mm:ss", now)
    ));
    context.print(format_args!("Starting {method} profiling for {time}ms..."))?;
    context.call(method, json!({"pwd": file, "timeout": time}))?;
    context.print(format_args!("Profile done in {}", file.display()))
}

pub(super) fn profile_memory(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    profile(context, invocation, "MEM")
}

pub(super) fn profile_cpu(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    profile(context, invocation, "CPU")
}

/// `slist`: what the daemon measures of the machine.
pub(super) fn system(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let data = context.call("getSystemData", json!({}))?;
    if !invocation.options.has("tree") {
        return context.print(upkeep_pm2::inspect::inspect(&data));
    }
    branches(&data, "")
}

/// A tree, drawn with lines.
fn branches(value: &Value, indent: &str) -> Result<(), Failure> {
    let fields: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    let last = fields.len().saturating_sub(1);
    for (index, (name, value)) in fields.into_iter().enumerate() {
        let (arm, below) = if index == last {
            ("\u{2514}\u{2500}", "   ")
        } else {
            ("\u{251c}\u{2500}", "\u{2502}  ")
        };
        if value.is_object() || value.is_array() {
            out(format_args!("{indent}{arm} {name}\n"))?;
            branches(value, &format!("{indent}{below}"))?;
        } else {
            let shown = upkeep_pm2::prepare::as_text(value);
            out(format_args!("{indent}{arm} {name}: {shown}\n"))?;
        }
    }
    Ok(())
}
