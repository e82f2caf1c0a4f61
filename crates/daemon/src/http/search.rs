//! `GET /v1/search`: one text in apps, instances, events, logs and the reference.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{extract::RawQuery, http::StatusCode};
use upkeep_api::{
    error::Code,
    search::{Hit, Kind, SearchAnswer, SearchQuery},
};
use upkeep_model::access::Verb;

use super::{
    gate::Caller,
    routes::{Answer, Reading, json, list_logs, query},
    stream::{self, millis},
};
use crate::{
    apps::view,
    command::{Permit, Refusal},
    events::now,
    logs::read,
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
        .find(|place| !["apps", "instances", "events", "logs", "docs"].contains(place))
    {
        return Err(Refusal::new(
            Code::Invalid,
            format!("there is no place `{}` to search", unknown.escape_debug()),
        )
        .hint("there are `apps`, `instances`, `events`, `logs` and `docs`")
        .into());
    }
    let wants = |place: &str| places.is_empty() || places.contains(&place);
    let wanted = Wanted {
        apps: wants("apps"),
        instances: wants("instances"),
        events: wants("events"),
        logs: wants("logs"),
        docs: wants("docs"),
        since: asked.since.unwrap_or_else(|| now() - BACK),
        needle: text.to_lowercase(),
        limit,
    };
    // Logs are read from disks, by as many as may read logs at once.
    let reader = wanted
        .logs
        .then(|| stream::reader(&caller.known, false))
        .transpose()?;
    let here = Here::default();
    let gone = Arc::clone(&here.0);
    let answer = tokio::task::spawn_blocking(move || {
        let _reader = reader;
        look(&caller, &wanted, &gone)
    })
    .await
    .map_err(|error| Refusal::new(Code::Internal, "failed to search").because(&error))??;
    json(StatusCode::OK, &answer)
}

/// As long as it is there, somebody waits for the answer.
#[derive(Default)]
struct Here(Arc<AtomicBool>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is looked for, and where.
struct Wanted {
    apps: bool,
    instances: bool,
    events: bool,
    logs: bool,
    docs: bool,
    since: f64,
    needle: String,
    limit: usize,
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// Whether the text is in a line, in any case.
fn holds(line: &str, needle: &str) -> bool {
    line.to_lowercase().contains(needle)
}

fn look(caller: &Caller, wanted: &Wanted, gone: &Arc<AtomicBool>) -> Result<SearchAnswer, Refusal> {
    let mut answer = SearchAnswer::default();
    let Wanted { needle, limit, .. } = wanted;
    if wanted.apps {
        answer
            .hits
            .extend(in_apps(caller, needle).into_iter().take(*limit));
    }
    if wanted.instances {
        let hits = in_instances(caller, needle);
        answer.hits.extend(hits.into_iter().take(*limit));
    }
    for (is_wanted, place, verb) in [
        (wanted.events, "events", Verb::EventsRead),
        (wanted.logs, "logs", Verb::AppsLogs),
    ] {
        if !is_wanted {
            continue;
        }
        let hits = match caller.known.permit(verb) {
            Ok(permit) if verb == Verb::EventsRead => in_events(caller, permit, wanted)?,
            Ok(permit) => in_logs(caller, &permit, wanted, gone)?,
            Err(_) => {
                answer.partial.push(format!("{place}: not held"));
                continue;
            }
        };
        answer.hits.extend(hits);
    }
    if wanted.docs {
        answer.hits.extend(in_docs(wanted)?);
    }
    Ok(answer)
}

fn in_docs(wanted: &Wanted) -> Result<Vec<Hit>, Refusal> {
    let reference = upkeep_docs::own::Searched::new().map_err(|troubles| {
        let why = troubles.first().map(ToString::to_string).unwrap_or_default();
        Refusal::new(Code::Internal, "failed to read the reference").because(&why)
    })?;
    let found = reference.find(&wanted.needle, wanted.limit);
    let hits = found.into_iter().map(|page| Hit {
        kind: Kind::Doc,
        target: page.title,
        text: shown(&page.excerpt),
        at: None,
        event: None,
        url: format!("/docs#{}", page.anchor),
    });
    Ok(hits.collect())
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

fn in_events(caller: &Caller, permit: Permit, wanted: &Wanted) -> Result<Vec<Hit>, Refusal> {
    let line = |event: &upkeep_api::body::Event| {
        format!(
            "{} {}: {} {} ({})",
            event.what, event.target, event.why, event.result, event.who
        )
    };
    let reading = Reading::with(caller, permit);
    let newest = caller.shared.events.tail(EVENTS, 0, &|event| {
        event.at >= wanted.since && reading.is_for(event) && holds(&line(event), &wanted.needle)
    })?;
    let hits = newest.iter().rev().take(wanted.limit).map(|event| Hit {
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
    wanted: &Wanted,
    gone: &Arc<AtomicBool>,
) -> Result<Vec<Hit>, Refusal> {
    let pattern = format!("(?i){}", regex::escape(&wanted.needle));
    let grep = regex::bytes::Regex::new(&pattern)
        .map_err(|error| Refusal::new(Code::Invalid, format!("failed to search for it: {error}")))?;
    let gone = Arc::clone(gone);
    let asked = read::Wanted {
        lines: Some(wanted.limit),
        since_ms: Some(millis(wanted.since)),
        until_ms: None,
        grep: Some(grep),
        records: false,
        follow: false,
        resume: None,
        gone: Some(read::Gone::new(move || gone.load(Ordering::Relaxed))),
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
    read::run(&around, &asked, &mut sink).map_err(|error| {
        Refusal::new(Code::Unavailable, format!("failed to read logs: {error}")).because(&error)
    })?;
    hits.reverse();
    Ok(hits)
}
