//! Verbs that read what was written: logs and events.

use std::io::Write;

use upkeep_api::{
    body::{Event, EventList, EventQuery, LogLine, LogQuery, Stream},
    client::with_query,
};

use super::follow::{EventFollower, Follower};
use crate::{
    args::{Events, Logs},
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{
        Output,
        clean::clean,
        logs::{Look, Printer},
        time,
    },
    settings::Settings,
};

/// How many lines `logs` shows unless told otherwise.
const LINES: usize = 15;
/// How many events `events` shows unless told otherwise.
const EVENTS: usize = 30;

/// Log lines: history, then what comes.
pub(crate) async fn logs(logs: &Logs, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let since = logs.since.as_deref().map(moment).transpose()?;
    let until = logs.until.as_deref().map(moment).transpose()?;
    let query = LogQuery {
        apps: logs.selectors.join(","),
        lines: match logs.lines {
            None if since.is_none() && until.is_none() => Some(LINES),
            lines => lines,
        },
        stream: match (logs.out, logs.err) {
            (true, _) => Some(Stream::Out),
            (_, true) => Some(Stream::Err),
            _ => None,
        },
        since,
        until,
        grep: logs.grep.clone(),
        records: logs.records,
        follow: logs.follow,
    };
    let mut printer = Printer::new(output, Look::of(logs));
    let mut out = std::io::BufWriter::with_capacity(64 << 10, std::io::stdout());
    if logs.follow {
        let mut follower = Follower::open(settings, query).await?;
        // One for the whole loop: an interrupt between two rounds would go to nobody.
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let line = tokio::select! {
                line = follower.next() => line?,
                // Cancel-safe: nothing is read any more after it.
                _ = &mut interrupt => return Ok(Exit::Interrupted),
            };
            if let Some(line) = printer.line(&line) {
                writeln!(out, "{line}")?;
                out.flush()?;
            }
        }
    }
    let mut client = connect_or_start(settings).await?;
    let mut lines = client.lines(&with_query("/v1/logs", &query), false).await?;
    while let Some(line) = lines.next::<LogLine>().await? {
        if let Some(line) = printer.line(&line) {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// An event on one line, without anything that could move the cursor.
pub(crate) fn event_line(event: &Event, clock: &time::Clock) -> String {
    let mut line = format!("{}  {:<8} {}", clock.text(event.at), event.what, event.target);
    if !event.why.is_empty() {
        line.push_str(&format!(": {}", event.why));
    }
    if !event.result.is_empty() {
        line.push_str(&format!(" -> {}", event.result));
    }
    if event.who != "upkeep" {
        line.push_str(&format!("  ({})", event.who));
    }
    clean(&line)
}

/// A point in time, as it was written.
fn moment(text: &str) -> anyhow::Result<f64> {
    Ok(time::parse_since(text).ok_or_else(|| {
        Advised::new(Exit::Usage, format!("`{text}` is no time"))
            .hint("write a span (`2h`), a time of day (`10:30`) or a date (`2026-11-22T10:30`)")
    })?)
}

/// The event log.
pub(crate) async fn events(
    path: &'static str,
    events: &Events,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let since = events.since.as_deref().map(moment).transpose()?;
    let query = EventQuery {
        app: events.app.clone().or_else(|| events.app_flag.clone()),
        kind: events.kind.join(","),
        who: events.who.clone(),
        since,
        until: events.until.as_deref().map(moment).transpose()?,
        failed: events.failed,
        limit: Some(match events.lines {
            None if since.is_some() => usize::from(u16::MAX),
            lines => lines.unwrap_or(EVENTS),
        }),
        follow: events.follow,
        ..EventQuery::default()
    };
    let clock = time::Clock::local();
    if events.follow {
        let mut follower = EventFollower::open(settings, path, query).await?;
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let event = tokio::select! {
                // Cancel-safe: after an interrupt nothing is read any more.
                event = follower.next() => event?,
                _ = &mut interrupt => return Ok(Exit::Interrupted),
            };
            let line = if output.json {
                serde_json::to_string(&event)?
            } else {
                event_line(&event, &clock)
            };
            output.text(&line)?;
        }
    }
    let mut client = connect_or_start(settings).await?;
    let list: EventList = client.get(&with_query(path, &query)).await?;
    if output.json {
        output.document(&list)?;
    } else {
        let lines: Vec<String> = list
            .events
            .iter()
            .map(|event| event_line(event, &clock))
            .collect();
        output.text(&lines.join("\n"))?;
    }
    Ok(Exit::Done)
}
