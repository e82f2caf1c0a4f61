//! `GET /v1/search`: one text in apps, instances, events and logs.

use std::sync::Arc;

use axum::{extract::RawQuery, http::StatusCode};
use upkeep_api::{
    error::Code,
    search::{Hit, Kind, SearchAnswer, SearchQuery},
};
use upkeep_model::access::Verb;

use super::{
    gate::Caller,
    routes::{Answer, is_for, json, list_logs, query},
    stream::millis,
};
use crate::{
    apps::view,
    command::{Permit, Refusal},
    events::now,
    logs::read::{self, Wanted},
};

/// So many of each place unless said otherwise.
const LIMIT: usize = 20;
/// And at most.
const LIMIT_MAX: usize = 200;
/// The longest text, in bytes.
const TEXT_MAX: usize = 200;
/// Events that are looked through, the newest.
const EVENTS: usize = 20_000;
/// Longer lines are cut for the answer, in characters.
const SHOWN: usize = 500;
/// How far back without `since`, seconds.
const BACK: f64 = 86_400.0;

pub(super) async fn search(caller: Caller, RawQuery(raw): RawQuery) -> Answer {
    let asked: SearchQuery = query(raw.as_deref())?;
    let text = asked.q.trim();
    if text.is_empty() || text.len() > TEXT_MAX {
        return Err(Refusal::new(
            Code::Invalid,
            format!("failed to search: `q` has to be 1 to {TEXT_MAX} bytes of text"),
        )
        .into());
    }
    let limit = asked.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refusal::new(
            Code::Invalid,
            format!("failed to search for {limit} hits: between 1 and {LIMIT_MAX} are possible"),
        )
        .into());
    }
    let places: Vec<&str> = asked
        .places
        .split(',')
        .map(str::trim)
        .filter(|place| !place.is_empty())
        .collect();
    if let Some(unknown) = places
        .iter()
        .find(|place| !["apps", "instances", "events", "logs"].contains(place))
    {
        return Err(Refusal::new(
            Code::Invalid,
            format!("there is no place `{}` to search", unknown.escape_debug()),
        )
        .hint("there are `apps`, `instances`, `events` and `logs`")
        .into());
    }
    let wants = |place: &str| places.is_empty() || places.contains(&place);
    let wanted = (wants("apps"), wants("instances"), wants("events"), wants("logs"));
    let since = asked.since.unwrap_or_else(|| now() - BACK);
    let needle = text.to_lowercase();
    // Logs are read from disks.
    let answer = tokio::task::spawn_blocking(move || look(&caller, &needle, limit, since, wanted))
        .await
        .map_err(|error| Refusal::new(Code::Internal, format!("failed to search: {error}")))??;
    json(StatusCode::OK, &answer)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// Whether the text is in a line, in any case.
fn holds(line: &str, needle: &str) -> bool {
    line.to_lowercase().contains(needle)
}

fn look(
    caller: &Caller,
    needle: &str,
    limit: usize,
    since: f64,
    (apps, instances, events, logs): (bool, bool, bool, bool),
) -> Result<SearchAnswer, Refusal> {
    let mut answer = SearchAnswer::default();
    if apps {
        answer
            .hits
            .extend(in_apps(caller, needle).into_iter().take(limit));
    }
    if instances {
        answer
            .hits
            .extend(in_instances(caller, needle).into_iter().take(limit));
    }
    let mut held = |place: &str, verb| {
        let permit = caller.known.permit(verb).ok();
        if permit.is_none() {
            answer.partial.push(format!("{place}: not held"));
        }
        permit
    };
    let for_events = if events {
        held("events", Verb::EventsRead)
    } else {
        None
    };
    let for_logs = if logs { held("logs", Verb::AppsLogs) } else { None };
    if let Some(permit) = for_events {
        answer
            .hits
            .extend(in_events(caller, &permit, needle, limit, since)?);
    }
    if let Some(permit) = for_logs {
        answer
            .hits
            .extend(in_logs(caller, &permit, needle, limit, since)?);
    }
    Ok(answer)
}

fn in_apps(caller: &Caller, needle: &str) -> Vec<Hit> {
    let apps = caller.permit.visible(&caller.shared.directory.read());
    let found = apps.iter().filter_map(|(name, entry)| {
        let spec = &entry.record.spec;
        let fields = [
            ("name", name.as_str().to_owned()),
            ("namespace", spec.namespace.clone()),
            ("command", spec.command.join(" ")),
            ("cwd", spec.cwd.display().to_string()),
        ];
        let (field, text) = fields
            .into_iter()
            .chain(spec.env.keys().map(|key| ("env", key.clone())))
            .find(|(_, text)| holds(text, needle))?;
        Some(Hit {
            kind: Kind::App,
            target: name.to_string(),
            text: shown(&format!("{field}: {text}")),
            at: None,
            event: None,
            url: format!("/v1/apps/{name}"),
        })
    });
    found.collect()
}

fn in_instances(caller: &Caller, needle: &str) -> Vec<Hit> {
    let apps = caller.permit.visible(&caller.shared.directory.read());
    let mut hits = Vec::new();
    for (name, entry) in &apps {
        for instance in view::app(name, entry, &caller.shared.usage).instances {
            let pid = instance.pid.map(|pid| pid.to_string()).unwrap_or_default();
            let of_pid = pid == needle;
            if of_pid || holds(&instance.why, needle) {
                hits.push(Hit {
                    kind: Kind::Instance,
                    target: format!("{name}:{}", instance.index),
                    text: shown(&if of_pid {
                        format!("pid {pid}")
                    } else {
                        instance.why
                    }),
                    at: Some(instance.changed_at),
                    event: None,
                    url: format!("/v1/apps/{name}"),
                });
            }
        }
    }
    hits
}

fn in_events(
    caller: &Caller,
    permit: &Permit,
    needle: &str,
    limit: usize,
    since: f64,
) -> Result<Vec<Hit>, Refusal> {
    let line = |event: &upkeep_api::body::Event| {
        format!(
            "{} {}: {} {} ({})",
            event.what, event.target, event.why, event.result, event.who
        )
    };
    let newest = caller.shared.events.tail(EVENTS, 0, &|event| {
        event.at >= since && is_for(&caller.shared, permit, event) && holds(&line(event), needle)
    })?;
    let hits = newest.iter().rev().take(limit).map(|event| Hit {
        kind: Kind::Event,
        target: event.target.clone(),
        text: shown(&line(event)),
        at: Some(event.at),
        event: Some(event.id),
        url: format!("/v1/events?after={}&limit=1", event.id.saturating_sub(1)),
    });
    Ok(hits.collect())
}

fn in_logs(
    caller: &Caller,
    permit: &Permit,
    needle: &str,
    limit: usize,
    since: f64,
) -> Result<Vec<Hit>, Refusal> {
    let pattern = format!("(?i){}", regex::escape(needle));
    let grep = regex::bytes::Regex::new(&pattern)
        .map_err(|error| Refusal::new(Code::Invalid, format!("failed to search for it: {error}")))?;
    let wanted = Wanted {
        lines: Some(limit),
        since_ms: Some(millis(since)),
        until_ms: None,
        grep: Some(grep),
        records: false,
        follow: false,
        resume: None,
        gone: None,
    };
    let selectors = ["all".to_owned()];
    let shared = Arc::clone(&caller.shared);
    let list = || list_logs(&shared, permit, &selectors, None).unwrap_or_default();
    let mut hits = Vec::new();
    let mut sink = |line: upkeep_api::body::LogLine, _: Option<&read::marks::Marks>| {
        if !line.notice {
            let target = match line.index {
                Some(index) => format!("{}:{index}", line.app),
                None => line.app.to_string(),
            };
            hits.push(Hit {
                kind: Kind::Log,
                url: format!("/v1/logs?apps={}&since={}&lines=100", line.app, line.at),
                target,
                text: shown(&line.line),
                at: Some(line.at),
                event: None,
            });
        }
        true
    };
    let around = read::Around {
        list: &list,
        cut: &|| caller.shared.cutter.cut(),
    };
    read::run(&around, &wanted, &mut sink)
        .map_err(|error| Refusal::new(Code::Unavailable, format!("failed to read logs: {error}")))?;
    hits.reverse();
    Ok(hits)
}
