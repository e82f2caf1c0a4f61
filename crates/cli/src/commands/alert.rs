//! Alerts: what fires, who was told, and silences.

use std::fmt::Write;

use upkeep_api::alert::{
    AlertsView, Delivery, DeliveryList, DeliveryState, Silence, SilencePut, TestPost, TestResult,
};

use super::look::percent_encode;
use crate::{
    args::AlertVerb,
    connect::connect_or_start,
    exit::Exit,
    output::{Output, Paint, clean::clean, time},
    settings::Settings,
};

/// `alert …`.
pub(crate) async fn run(verb: AlertVerb, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    match verb {
        AlertVerb::Ls => list(settings, output).await,
        AlertVerb::Test { channel } => test(channel, settings, output).await,
        AlertVerb::History { lines } => history(lines, settings, output).await,
        AlertVerb::Silence { app, span } => {
            let put = SilencePut {
                for_ms: span.as_millis(),
                reason: settings.reason.clone(),
                dry_run: settings.dry_run,
            };
            silence("PUT", &app, Some(&put), settings, output).await
        }
        AlertVerb::Unsilence { app } => silence("DELETE", &app, None, settings, output).await,
    }
}

async fn list(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let view: AlertsView = client.get("/v1/alerts").await?;
    if output.json {
        output.document(&view)?;
        return Ok(Exit::Done);
    }
    if view.channels.is_empty() {
        output.say("nobody is told of anything: `alerts: {channels: …}` in the settings changes that");
        return Ok(Exit::Done);
    }
    let clock = time::Clock::local();
    let mut text = String::new();
    let title = |text: &mut String, words: &str| {
        let gap = if text.is_empty() { "" } else { "\n" };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{gap}{}", output.paint(Paint::Strong, words));
    };
    title(&mut text, "firing");
    for alert in &view.firing {
        let paint = if alert.told { Paint::Bad } else { Paint::Busy };
        let count = if alert.count > 1 {
            format!(", {} times", alert.count)
        } else {
            String::new()
        };
        let told = if alert.told { "" } else { " (not told yet)" };
        let _ = writeln!(
            text,
            "  {} {} {}: {} (since {}{count}){told}",
            alert.severity.as_str(),
            output.paint(paint, &alert.rule),
            alert.subject,
            clean(&alert.text),
            clock.text(alert.since),
        );
    }
    if view.firing.is_empty() {
        text.push_str("  nothing\n");
    }
    title(&mut text, "channels");
    for channel in &view.channels {
        let trouble = match &channel.trouble {
            Some(why) => format!("  {}", output.paint(Paint::Bad, &clean(why))),
            None => String::new(),
        };
        let _ = writeln!(
            text,
            "  {} ({}), {} pending{trouble}",
            channel.name, channel.kind, channel.pending
        );
    }
    title(&mut text, "rules");
    for rule in &view.rules {
        let held = match rule.for_ms {
            0 => String::new(),
            span => format!(" for {}", time::span(span)),
        };
        let origin = if rule.default { ", by default" } else { "" };
        let _ = writeln!(
            text,
            "  {}: {}{held} ({}{origin})",
            rule.name,
            rule.on.as_str(),
            rule.severity.as_str()
        );
    }
    if !view.silences.is_empty() {
        title(&mut text, "silences");
    }
    for silence in &view.silences {
        let _ = writeln!(text, "  {}", silence_line(silence, &clock));
    }
    if view.quiet {
        text.push_str("\nthese are quiet hours\n");
    }
    output.text(&text)?;
    Ok(Exit::Done)
}

fn silence_line(silence: &Silence, clock: &time::Clock) -> String {
    let why = match silence.why.as_str() {
        "" => String::new(),
        why => format!(": {why}"),
    };
    clean(&format!(
        "{} until {} ({}){why}",
        silence.app,
        clock.text(silence.until),
        silence.who
    ))
}

async fn test(channel: Option<String>, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let post = TestPost {
        channel,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let result: TestResult = client.call("POST", "/v1/alerts/test", Some(&post)).await?;
    let failed = result.channels.iter().any(|tested| tested.error.is_some());
    if output.json {
        output.document(&result)?;
    } else {
        let lines: Vec<String> = result
            .channels
            .iter()
            .map(|tested| match &tested.error {
                _ if post.dry_run => format!("{}: would be tried", tested.channel),
                None => format!(
                    "{}: {} in {} ms",
                    tested.channel,
                    output.paint(Paint::Good, "delivered"),
                    tested.took_ms
                ),
                Some(why) => format!(
                    "{}: {}: {}",
                    tested.channel,
                    output.paint(Paint::Bad, "failed"),
                    clean(why)
                ),
            })
            .collect();
        output.text(&lines.join("\n"))?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

async fn history(lines: usize, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let mut list: DeliveryList = client.get("/v1/alerts/deliveries").await?;
    list.deliveries.truncate(lines);
    if output.json {
        output.document(&list)?;
        return Ok(Exit::Done);
    }
    let clock = time::Clock::local();
    let text: Vec<String> = list
        .deliveries
        .iter()
        .rev()
        .map(|delivery| line(delivery, &clock, output))
        .collect();
    output.text(&text.join("\n"))?;
    Ok(Exit::Done)
}

fn line(delivery: &Delivery, clock: &time::Clock, output: Output) -> String {
    let state = match delivery.state {
        DeliveryState::Delivered => output.paint(Paint::Good, "delivered"),
        DeliveryState::Pending => output.paint(Paint::Busy, "pending"),
        DeliveryState::GaveUp => output.paint(Paint::Bad, "given up"),
    };
    let tries = match delivery.tries {
        1 => "1 try".to_owned(),
        tries => format!("{tries} tries"),
    };
    let last = delivery.attempts.last().and_then(|last| last.error.as_ref());
    let error = last.map_or_else(String::new, |error| format!("; last: {}", clean(error)));
    format!(
        "{}  {}: {state} after {tries}  {}{error}",
        clock.text(delivery.at),
        delivery.channel,
        clean(&delivery.message.summary)
    )
}

async fn silence(
    method: &str,
    app: &str,
    put: Option<&SilencePut>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let path = format!("/v1/alerts/silences/{}", percent_encode(app));
    let silence: Silence = client.call(method, &path, put).await?;
    if output.json {
        output.document(&silence)?;
    } else if put.is_some() {
        output.say(&format!(
            "silenced: {}",
            silence_line(&silence, &time::Clock::local())
        ));
    } else {
        output.say(&format!("no longer silenced: {}", silence.app));
    }
    Ok(Exit::Done)
}
