//! Verbs that look.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Context;
use upkeep_api::{
    body::{AppList, AppView, LimitView},
    client::Client,
    crash::CrashList,
};

use upkeep_model::sandbox::Level;

use crate::{
    args::Ls,
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, Paint, health, schedule, table, time, values},
    settings::Settings,
};

/// Between two pictures of `ls --watch`.
const WATCH_STEP: std::time::Duration = std::time::Duration::from_secs(1);

/// The list.
pub(crate) async fn ls(ls: &Ls, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    // One for the whole loop: an interrupt between two rounds would go to nobody.
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let list: AppList = client.get("/v1/apps").await?;
        if ls.watch && !output.json {
            // Home, picture, clear what is below: no flicker.
            let picture = table::apps(&list.apps, output).replace('\n', "\x1b[K\n");
            output.text(&format!("\x1b[H{picture}\x1b[J"))?;
        } else if ls.watch {
            // One document a line: whoever reads a stream can tell where each ends.
            output.text(&serde_json::to_string(&list)?)?;
        } else if output.json {
            output.document(&list)?;
        } else if ls.quiet {
            let names: Vec<&str> = list.apps.iter().map(|app| app.name.as_str()).collect();
            output.text(&names.join("\n"))?;
        } else if list.apps.is_empty() {
            output.say("no apps; `upkeep start FILE` starts some");
        } else {
            output.text(&table::apps(&list.apps, output))?;
        }
        if !ls.watch {
            return Ok(Exit::Done);
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_STEP) => {}
            _ = &mut interrupt => return Ok(Exit::Interrupted),
        }
    }
}

/// The app that a word means: by name, or by the id of one of its instances.
pub(super) async fn find(client: &mut Client, word: &str) -> anyhow::Result<AppView> {
    if let Ok(id) = word.parse::<u32>() {
        let list: AppList = client.get("/v1/apps").await?;
        let found = list
            .apps
            .into_iter()
            .find(|app| app.instances.iter().any(|instance| instance.id == id));
        let name = found
            .map(|app| app.name)
            .ok_or_else(|| Advised::new(Exit::NotFound, format!("there is no instance with id {id}")))?;
        return Ok(client.get(&app_path(&name)).await?);
    }
    let name = word.split(':').next().unwrap_or(word);
    let name = upkeep_model::id::AppName::parse(name)
        .map_err(|error| Advised::new(Exit::NotFound, format!("there is no app `{word}`: {error}")))?;
    Ok(client.get(&app_path(&name)).await?)
}

/// Where an app is.
pub(super) fn app_path(name: &upkeep_model::id::AppName) -> String {
    format!("/v1/apps/{}", percent_encode(name.as_str()))
}

/// Names may hold letters of any script; paths may not.
pub(crate) fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'@' | b'+' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Everything about an app.
pub(crate) async fn show(word: &str, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let app = find(&mut client, word).await?;
    if output.json {
        output.document(&app)?;
        return Ok(Exit::Done);
    }
    let crashes: CrashList = client.get(&format!("{}/crashes", app_path(&app.name))).await?;
    output.text(&describe(&app, &crashes, output)?)?;
    Ok(Exit::Done)
}

fn describe(app: &AppView, crashes: &CrashList, output: Output) -> anyhow::Result<String> {
    let spec = app.spec.as_ref().context("the answer lacks the specification")?;
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{} {value}",
            output.paint(Paint::Strong, &format!("{key:<14}"))
        );
    };
    line("name", app.name.to_string());
    line("namespace", app.namespace.clone());
    line("crashes", super::why::count(&crashes.crashes));
    line("command", spec.command.join(" "));
    line("directory", spec.cwd.display().to_string());
    if let Some(user) = &spec.user {
        line("user", user.clone());
    }
    line("instances", spec.instances.to_string());
    for (name, condition) in &spec.depends_on {
        line(
            "depends on",
            format!("{name} ({})", format!("{condition:?}").to_lowercase()),
        );
    }
    line("restart", format!("on {:?}", spec.restart.on).to_lowercase());
    let signal = upkeep_model::exit::signal_name(spec.stop.signal);
    line(
        "stop",
        format!(
            "{signal}, then SIGKILL to the whole tree after {}",
            spec.stop.grace
        ),
    );
    line(
        "environment",
        format!("{} variables of its own: {}", spec.env.len(), names(&spec.env)),
    );
    for (key, value) in app.config.iter().flat_map(|view| values::lines(view)) {
        line(key, value);
    }
    if spec.sandbox.level != Level::None {
        line("sandbox", format!("{:?}", spec.sandbox.level).to_lowercase());
    }
    for limit in &app.limits {
        line("limit", limit_text(limit));
    }
    for log in &app.logs {
        let mut value = format!(
            "{} ({} in {} files{})",
            log.path,
            time::bytes(log.bytes),
            log.rotated + 1,
            if log.disk_bytes < log.bytes {
                format!(", {} on disk", time::bytes(log.disk_bytes))
            } else {
                String::new()
            }
        );
        if log.bytes_per_second > 0.0 {
            let _ = write!(
                value,
                "; {} lines/s, {}/s",
                time::thousands(log.lines_per_second),
                time::bytes_per_second(log.bytes_per_second)
            );
        }
        if log.dropped_lines > 0 {
            let _ = write!(value, "; {} older lines deleted by rotation", log.dropped_lines);
        }
        if log.lost_bytes > 0 {
            let _ = write!(
                value,
                "; {} lines LOST, the file could not be written",
                log.lost_lines
            );
        }
        if let Some(trouble) = &log.trouble {
            let _ = write!(value, "; NOW: {trouble}");
        }
        line("log", value);
    }
    for sink in &app.log_sinks {
        let mut value = format!("{}, {} lines sent", sink.sink, sink.sent);
        if sink.missed > 0 {
            let _ = write!(
                value,
                "; up to {} lines were deleted by rotation before it took them",
                sink.missed
            );
        }
        if let Some(trouble) = &sink.trouble {
            let _ = write!(value, "; NOW: {trouble}");
        }
        line("also to", value);
    }
    text.push('\n');
    text.push_str(&schedule::lines(app));
    text.push_str(&table::apps(std::slice::from_ref(app), output));
    for instance in &app.instances {
        let _ = writeln!(text, "{}:{}  {}", app.name, instance.index, instance.why);
        text.push_str(&health::lines(instance));
        for leak in table::leaks(instance) {
            let _ = writeln!(text, "  {leak}");
        }
    }
    Ok(text)
}

/// `memory 512M (cgroup v1)`, `cpu not limited: no controller`.
fn limit_text(limit: &LimitView) -> String {
    let mut text = match &limit.limit {
        Some(value) => format!("{} {value} ({})", limit.resource, limit.by),
        None => format!("{} not limited", limit.resource),
    };
    for more in [&limit.why, &limit.events].into_iter().flatten() {
        let _ = write!(text, ": {more}");
    }
    text
}

/// Values may be secrets; names are not.
fn names(env: &BTreeMap<String, String>) -> String {
    if env.is_empty() {
        "none".to_owned()
    } else {
        env.keys().cloned().collect::<Vec<_>>().join(" ")
    }
}

/// Apps with the processes below them. The processes are those of this machine, read from `/proc`.
pub(crate) async fn tree(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let list: AppList = client.get("/v1/apps").await?;
    let processes = upkeep_host::facts::processes();
    let mut children: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, process) in processes.iter().enumerate() {
        children.entry(process.parent).or_default().push(at);
    }
    if output.json {
        let apps: Vec<_> = list
            .apps
            .iter()
            .flat_map(|app| app.instances.iter().map(move |instance| (app, instance)))
            .map(|(app, instance)| {
                let mut below = Vec::new();
                walk(instance.pid, &processes, &children, 0, &mut |process, depth| {
                    below.push(serde_json::json!({
                        "pid": process.pid, "parent": process.parent, "depth": depth, "command": process.command,
                    }));
                });
                serde_json::json!({
                    "app": app.name, "index": instance.index, "actual": instance.actual, "processes": below,
                })
            })
            .collect();
        output.document(&serde_json::json!({ "instances": apps }))?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for app in &list.apps {
        for instance in &app.instances {
            let _ = writeln!(
                text,
                "{}:{}  {}",
                app.name,
                instance.index,
                table::state(app, instance, output)
            );
            walk(instance.pid, &processes, &children, 1, &mut |process, depth| {
                let _ = writeln!(
                    text,
                    "{:indent$}{} {}",
                    "",
                    process.pid,
                    process.command,
                    indent = depth * 2
                );
            });
        }
    }
    output.text(&text)?;
    Ok(Exit::Done)
}

fn walk(
    pid: Option<u32>,
    processes: &[upkeep_host::facts::Process],
    children: &BTreeMap<u32, Vec<usize>>,
    depth: usize,
    show: &mut dyn FnMut(&upkeep_host::facts::Process, usize),
) {
    let Some(process) = pid.and_then(|pid| processes.iter().find(|process| process.pid == pid)) else {
        return;
    };
    show(process, depth);
    // A circle cannot be, but /proc is read while it changes.
    if depth < 64 {
        for child in children.get(&process.pid).into_iter().flatten() {
            walk(Some(processes[*child].pid), processes, children, depth + 1, show);
        }
    }
}
