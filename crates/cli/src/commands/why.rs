//! Why an app is in its state, and why it died.

use std::fmt::Write;

use upkeep_api::{
    body::{AppView, EventList, EventQuery, LogLine, LogQuery},
    client::{Client, ClientError, with_query},
    crash::{Crash, CrashList, CrashSummary},
    error::Code,
};

use super::{
    look::{app_path, find},
    read::event_line,
};
use crate::{
    args::Why,
    connect::connect_or_start,
    exit::Exit,
    output::{
        Output, Paint,
        clean::clean,
        health,
        logs::{Look, Printer},
        schedule, table, time,
    },
    settings::Settings,
};

/// How many lines of a dossier are shown beside the state.
const SHORT: usize = 10;
/// How many changes before a crash are shown.
const CHANGES: usize = 6;

/// The state and the last crash; or a list of crashes, or one of them.
pub(crate) async fn why(why: &Why, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let app = find(&mut client, &why.app).await?;
    let path = format!("{}/crashes", app_path(&app.name));
    if why.all {
        let list: CrashList = client.get(&path).await?;
        return all(&app, &list, output);
    }
    if let Some(id) = why.id {
        let crash: Crash = client.get(&format!("{path}/{id}")).await?;
        if output.json {
            output.document(&crash)?;
        } else {
            output.text(&dossier(&crash, usize::MAX, output))?;
        }
        return Ok(Exit::Done);
    }
    state(&mut client, &app, &path, output).await
}

fn all(app: &AppView, list: &CrashList, output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(list)?;
        return Ok(Exit::Done);
    }
    if list.crashes.is_empty() {
        output.say(&format!("no crash of `{}` is kept", app.name));
    }
    let clock = time::Clock::local();
    let lines: Vec<String> = list
        .crashes
        .iter()
        .map(|crash| {
            format!(
                "{:>6}  {}  {}:{}  {}: {}",
                crash.id,
                clock.text(crash.at),
                app.name,
                crash.index,
                clean(&crash.cause),
                clean(&crash.verdict)
            )
        })
        .collect();
    output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

/// The verdict, what led to it, its last crash and its last words.
async fn state(client: &mut Client, app: &AppView, path: &str, output: Output) -> anyhow::Result<Exit> {
    let query = EventQuery {
        app: Some(app.name.to_string()),
        limit: Some(8),
        ..EventQuery::default()
    };
    let events: EventList = client.get(&with_query("/v1/events", &query)).await?;
    let crash: Option<Crash> = match client.get(&format!("{path}/last")).await {
        Ok(crash) => Some(crash),
        Err(ClientError::Refused(body)) if body.code == Code::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let query = LogQuery {
        apps: app.name.to_string(),
        lines: Some(10),
        ..LogQuery::default()
    };
    let mut lines = client.lines(&with_query("/v1/logs", &query), false).await?;
    let mut words: Vec<LogLine> = Vec::new();
    while let Some(line) = lines.next().await? {
        words.push(line);
    }
    if output.json {
        output.document(&serde_json::json!({
            "app": app.name,
            "instances": app.instances,
            "events": events.events,
            "crash": crash,
            "lines": words,
        }))?;
        return Ok(Exit::Done);
    }
    let mut text = schedule::lines(app);
    for instance in &app.instances {
        let state = table::state(app, instance, output);
        let why = clean(&instance.why);
        let _ = writeln!(text, "{}:{}  {state}: {why}", app.name, instance.index);
        text.push_str(&health::lines(instance));
        for leak in table::leaks(instance) {
            let _ = writeln!(text, "  {leak}");
        }
        if let Some(next) = instance.next_start_in_ms {
            let _ = writeln!(text, "  next start in {}", time::span(next));
        }
    }
    let clock = time::Clock::local();
    let _ = writeln!(text, "\n{}", output.paint(Paint::Strong, "what led to it"));
    for event in &events.events {
        let _ = writeln!(text, "  {}", event_line(event, &clock));
    }
    if let Some(crash) = &crash {
        let _ = writeln!(text, "\n{}", output.paint(Paint::Strong, "its last crash"));
        for line in dossier(crash, SHORT, output).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "\n{}", output.paint(Paint::Strong, "its last words"));
    let mut printer = Printer::new(output, Look::plain(false));
    for line in &words {
        if let Some(line) = printer.line(line) {
            let _ = writeln!(text, "  {line}");
        }
    }
    if words.is_empty() {
        text.push_str("  none\n");
    }
    output.text(&text)?;
    Ok(Exit::Done)
}

/// How many crashes there are, for `show`.
pub(super) fn count(crashes: &[CrashSummary]) -> String {
    match crashes.first() {
        None => "none".to_owned(),
        Some(last) => format!(
            "{} kept, the last {} ago: {}",
            crashes.len(),
            time::ago(last.at),
            clean(&last.cause)
        ),
    }
}

/// A crash on a page. `lines`: how many of its log lines.
fn dossier(crash: &Crash, lines: usize, output: Output) -> String {
    let mut text = String::new();
    let clock = time::Clock::local();
    let summary = &crash.summary;
    let mut line = |key: &str, value: &str| {
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{} {value}",
            output.paint(Paint::Strong, &format!("{key:<9}"))
        );
    };
    line(
        "when",
        &format!(
            "{} ({} ago), id {}",
            clock.text(summary.at),
            time::ago(summary.at),
            summary.id
        ),
    );
    let pid = match crash.pid {
        0 => String::new(),
        pid => format!(", process {pid}"),
    };
    line("who", &format!("{}:{}{pid}", crash.app, summary.index));
    line("cause", &output.paint(Paint::Bad, &clean(&summary.cause)));
    line("verdict", &clean(&summary.verdict));
    for finding in &crash.findings {
        line("finding", &clean(finding));
    }
    if crash.max_rss_bytes > 0 {
        let limit = crash
            .memory_limit_bytes
            .map_or_else(String::new, |limit| format!(" of {}", time::bytes(limit)));
        line(
            "memory",
            &format!(
                "{}{limit} at most, of its largest process",
                time::bytes(crash.max_rss_bytes)
            ),
        );
    }
    if let Some(metrics) = &crash.metrics {
        for series in &metrics.series {
            let highest = series.highs.iter().flatten().copied().fold(f64::NAN, f64::max);
            let last = series.values.iter().rev().flatten().next();
            if let (Some(last), false) = (last, highest.is_nan()) {
                line(
                    "figure",
                    &format!("{}: last {last:.1}, highest {highest:.1}", series.metric),
                );
            }
        }
    }
    if let Some(core) = &crash.core {
        line("core", &clean(core));
    }
    if crash.skipped > 0 {
        line(
            "more",
            &format!("{} crashes shortly before have no dossier", crash.skipped),
        );
    }
    for change in crash.changes.iter().take(CHANGES) {
        line("before", &event_line(change, &clock));
    }
    let words = &crash.logs[crash.logs.len().saturating_sub(lines)..];
    if !words.is_empty() {
        line(
            "lines",
            &format!("the last {} of {}", words.len(), crash.logs.len()),
        );
    }
    let mut printer = Printer::new(output, Look::plain(false));
    for word in words {
        if let Some(word) = printer.line(word) {
            let _ = writeln!(text, "  {word}");
        }
    }
    text
}
