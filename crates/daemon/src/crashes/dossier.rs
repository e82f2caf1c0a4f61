//! Puts a dossier together.

use upkeep_api::{
    body::Event,
    crash::{Crash, CrashSummary},
    metrics::MetricsAnswer,
};
use upkeep_model::{exit::Exit, id::AppName};
use upkeep_supervise::words;

use super::{Sources, core, findings, lines};
use crate::{apps::exits, main_loop::note};

/// Figures of so many seconds before.
pub(super) const FIGURES_S: f64 = 300.0;
/// How many changes are told.
const CHANGES: usize = 12;

/// What is known of a crash at once.
pub(super) struct Facts<'a> {
    pub(super) app: &'a AppName,
    pub(super) index: u32,
    pub(super) event: &'a Event,
    pub(super) skipped: u32,
    pub(super) killed_on_machine: Option<u64>,
    pub(super) metrics: Option<MetricsAnswer>,
}

fn number(event: &Event, name: &str) -> u64 {
    event
        .details
        .get(name)
        .and_then(serde_json::Value::as_u64)
        .unwrap_or(0)
}

/// Everything that can be found out.
pub(super) fn make(sources: &Sources, mut facts: Facts<'_>) -> Crash {
    let (app, event) = (facts.app, facts.event);
    let entry = sources.directory.get(app);
    let spec = entry.as_ref().map(|entry| &entry.record.spec);
    let exit: Option<Exit> = event
        .details
        .get("exit")
        .and_then(|exit| serde_json::from_value(exit.clone()).ok());
    let unhealthy = event.details.get(exits::UNHEALTHY).and_then(|why| why.as_str());
    let uptime_ms = number(event, "uptime_ms");
    let cause = match (exit, unhealthy) {
        (None, _) => format!("it could not be started: {}", event.why),
        (Some(exit), Some(why)) => format!("not alive ({why}): ended, {}", words::ended(exit, uptime_ms)),
        (Some(exit), None) => words::ended(exit, uptime_ms),
    };
    let pid = u32::try_from(number(event, "pid")).unwrap_or(0);
    let logs = spec.map_or_else(Vec::new, |spec| {
        lines::last(spec, facts.index, &sources.logs, event.at, &lines::secrets(spec))
    });
    let dumped = match exit {
        Some(Exit::Signal { number, core: true }) => Some(number),
        _ => None,
    };
    let core = spec.zip(dumped).and_then(|(spec, signal)| {
        core::place(&core::Dumped {
            pid,
            signal,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "`as` saturates, and that is meant"
            )]
            at_s: event.at as u64,
            cwd: &spec.cwd,
            program: spec.command.first().map(String::as_str).unwrap_or_default(),
        })
    });
    let memory_limit_bytes = spec
        .and_then(|spec| spec.limits.memory)
        .map(|memory| memory.as_bytes());
    let mut crash = Crash {
        app: app.clone(),
        summary: CrashSummary {
            id: event.id,
            at: event.at,
            index: facts.index,
            exit,
            cause,
            uptime_ms,
            verdict: match event.what.as_str() {
                "exited" => event.result.clone(),
                _ => event.why.clone(),
            },
            then: super::then(event),
        },
        pid,
        skipped: facts.skipped,
        max_rss_bytes: number(event, "max_rss_bytes"),
        memory_limit_bytes,
        logs,
        metrics: facts.metrics.take(),
        changes: changes(sources, &facts),
        core,
        findings: Vec::new(),
    };
    crash.findings = findings::find(
        &crash,
        &findings::More {
            unhealthy,
            killed_on_machine: facts.killed_on_machine,
            sandboxed: spec.is_some_and(|spec| spec.sandbox.level != upkeep_model::sandbox::Level::None),
            leaks: leaks(sources, &facts, event.at - uptime_ms as f64 / 1000.0),
            counted: memory_limit_bytes.is_some(),
        },
    );
    crash
}

/// What this process was found to leak and did not cease to, in words; it was started at `begun`.
fn leaks(sources: &Sources, facts: &Facts<'_>, begun: f64) -> Vec<String> {
    let is_leak = |event: &Event| {
        matches!(event.what.as_str(), "leak" | "leak_ended")
            && event.target == facts.event.target
            && event.at >= begun
            // That its process has ended is told of a leak as well.
            && event.at < facts.event.at - 0.5
    };
    let Ok(events) = sources.events.tail(CHANGES, 0, &is_leak) else {
        return Vec::new();
    };
    let mut last: std::collections::BTreeMap<String, &Event> = std::collections::BTreeMap::new();
    for event in &events {
        let metric = event.details.get("metric").and_then(|metric| metric.as_str());
        last.insert(metric.unwrap_or_default().to_owned(), event);
    }
    let open = last.into_values().filter(|event| event.what == "leak");
    open.map(|event| {
        let ago = words::about(millis(facts.event.at - event.at));
        format!("it leaked: {ago} before, {}", event.why)
    })
    .collect()
}

/// Seconds as milliseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

/// What was done to the app, to what it depends on and to the machine before, newest first.
fn changes(sources: &Sources, facts: &Facts<'_>) -> Vec<Event> {
    let mut names = vec![facts.app.clone()];
    if let Some(entry) = sources.directory.get(facts.app) {
        names.extend(entry.record.spec.depends_on.keys().cloned());
    }
    let of = |target: &str, whose: &dyn Fn(&str) -> bool| {
        target
            .split(' ')
            .any(|one| whose(one.split(':').next().unwrap_or_default()))
    };
    let is_change = |event: &Event| {
        let known = |app: &str| names.iter().any(|name| name.as_str() == app);
        let other = |app: &str| app != facts.app.as_str() && known(app);
        event.id < facts.event.id
            && match event.what.as_str() {
                "apply" | "start" | "stop" | "restart" | "reload" | "scale" | "rollback" | "resurrect"
                | "replaced" | "refused" | "returned" | "broken" | "door" | "values_changed"
                | "values_returned" => of(&event.target, &known),
                "settings" | "upgrade_daemon" | "upgrade_keeper" => true,
                // What happened to those that it depends on.
                "exited" | "start_failed" | "unhealthy" | "unready" => of(&event.target, &other),
                _ => false,
            }
    };
    match sources.events.tail(CHANGES, 0, &is_change) {
        Ok(mut events) => {
            events.reverse();
            events
        }
        Err(error) => {
            note(&format!("what came before a crash could not be read: {error}"));
            Vec::new()
        }
    }
}
