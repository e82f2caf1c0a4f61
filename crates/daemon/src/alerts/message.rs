//! What is told: from a notification to a message.

use upkeep_api::alert::{CrashBrief, Message, MessageAlert};
use upkeep_model::settings::Severity;
use upkeep_supervise::alert::{Entry, Notification, State};

use crate::crashes::{self, archive::Archive};

/// The state of an entry, as it is sent.
pub(super) const fn word(state: State) -> &'static str {
    match state {
        State::Firing => "firing",
        State::Repeated => "repeated",
        State::Resolved => "resolved",
    }
}

/// How many crashes of one message are told with their lines.
const CRASHES: usize = 5;

/// Makes the message of a notification. `when`: how a time of the engine is told.
pub(super) fn make(
    id: String,
    at: f64,
    notification: &Notification,
    archive: &Archive,
    when: &dyn Fn(u64) -> f64,
) -> Message {
    let rule = &notification.rule;
    let mut crashes = 0;
    let alerts: Vec<MessageAlert> = notification
        .entries
        .iter()
        .map(|entry| {
            let crash = brief(entry, archive).filter(|_| crashes < CRASHES);
            crashes += usize::from(crash.is_some());
            MessageAlert {
                subject: entry.subject.clone(),
                state: word(entry.state).to_owned(),
                since: when(entry.since_ms),
                count: entry.count,
                text: entry.text.clone(),
                crash,
            }
        })
        .collect();
    Message {
        id,
        host: host(),
        at,
        state: notification
            .entries
            .first()
            .map_or("firing", |entry| word(entry.state))
            .to_owned(),
        rule: rule.name.clone(),
        on: Some(rule.kind),
        severity: rule.severity,
        summary: summary(&rule.name, &alerts, notification.more),
        alerts,
        more: notification.more,
    }
}

/// A message that only tells that the way is good.
pub(super) fn test(id: String, at: f64) -> Message {
    Message {
        id,
        host: host(),
        at,
        state: "test".to_owned(),
        rule: "test".to_owned(),
        on: None,
        severity: Severity::Info,
        summary: "a test: nothing is wrong".to_owned(),
        alerts: Vec::new(),
        more: 0,
    }
}

fn brief(entry: &Entry, archive: &Archive) -> Option<CrashBrief> {
    let (app, _) = crashes::subject(&entry.subject)?;
    let crash = archive.read(&app, entry.event?)?;
    Some(CrashBrief::from(crash))
}

/// The line that all else is about: foreign text in it is one line without control characters.
fn summary(rule: &str, alerts: &[MessageAlert], more: u32) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    words(rule, alerts, more).chars().map(shown).collect()
}

/// `crash of shop:0: exit code 1 after 3s`, `crash of 7: shop:0, web:1, …`.
fn words(rule: &str, alerts: &[MessageAlert], more: u32) -> String {
    match alerts {
        [] => format!("{rule}: {more} times"),
        [one] if more == 0 => {
            let again = match one.count {
                0 | 1 => String::new(),
                count => format!(" ({count} times)"),
            };
            let text = one.crash.as_ref().map_or(&one.text, |crash| &crash.summary.cause);
            match one.state.as_str() {
                "resolved" => format!("{rule} of {} has ended", one.subject),
                "repeated" => format!("{rule} of {} goes on: {text}{again}", one.subject),
                _ => format!("{rule} of {}: {text}{again}", one.subject),
            }
        }
        many => {
            let names: Vec<&str> = many.iter().take(5).map(|alert| alert.subject.as_str()).collect();
            let all = many.len() + more as usize;
            let dots = if all > names.len() { ", …" } else { "" };
            format!("{rule} of {all}: {}{dots}", names.join(", "))
        }
    }
}

/// Name of the machine.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The whole message as text for people.
pub(super) fn text(message: &Message) -> String {
    let mut text = format!(
        "{}\n\nmachine:  {}\nrule:     {} ({})\ntime:     {}\n",
        message.summary,
        message.host,
        message.rule,
        message.severity.as_str(),
        time(message.at)
    );
    for alert in &message.alerts {
        text.push_str(&format!(
            "\n{}: {}, since {}{}\n  {}\n",
            alert.subject,
            alert.state,
            time(alert.since),
            match alert.count {
                0 | 1 => String::new(),
                count => format!(", {count} times"),
            },
            alert.text
        ));
        let Some(crash) = &alert.crash else { continue };
        text.push_str(&format!(
            "  cause:   {}\n  verdict: {}\n",
            crash.summary.cause, crash.summary.verdict
        ));
        for finding in &crash.findings {
            text.push_str(&format!("  finding: {finding}\n"));
        }
        if let Some(core) = &crash.core {
            text.push_str(&format!("  core:    {core}\n"));
        }
        if !crash.lines.is_empty() {
            text.push_str("  its last lines:\n");
        }
        for line in &crash.lines {
            text.push_str(&format!("    {line}\n"));
        }
        let app = alert.subject.split(':').next().unwrap_or_default();
        text.push_str(&format!(
            "  all of it: upkeep why {app} --id {}\n",
            crash.summary.id
        ));
    }
    if message.more > 0 {
        text.push_str(&format!("\nand {} more\n", message.more));
    }
    text
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
fn time(at: f64) -> String {
    upkeep_sys::clock::utc_text((at * 1000.0) as u64)
}
