//! Figures over HTTP: the history, and what other programs scrape.

use std::time::Duration;

use axum::{
    extract::RawQuery,
    http::{HeaderMap, StatusCode},
};
use tokio::sync::mpsc;
use upkeep_api::{
    error::Code,
    metrics::{METRICS, MetricsQuery},
};
use upkeep_model::access::Verb;
use upkeep_sys::clock;

use super::{gate::Caller, routes, share::Pool, stream};
use crate::{
    apps::selector,
    command::Refusal,
    metrics::{POINTS, POINTS_MAX, Query},
};

/// `GET /v1/metrics`.
pub(super) async fn history(caller: Caller, RawQuery(raw): RawQuery, headers: HeaderMap) -> routes::Answer {
    let asked: MetricsQuery = routes::query(raw.as_deref())?;
    if asked.follow {
        return follow(caller, asked, &headers);
    }
    // Weeks of many apps take a while to read.
    let answer = tokio::task::spawn_blocking(move || answer(&caller, &asked))
        .await
        .map_err(|error| Refusal::new(Code::Internal, "failed to read figures").because(&error))??;
    routes::json(StatusCode::OK, &answer)
}

/// Those who follow figures: each asks the history once a second.
static FOLLOWERS: Pool = Pool::new("follow figures", 128, "close some pages that show them");
/// Between two answers.
const STEP: Duration = Duration::from_secs(1);

/// Each second what was measured since. The id of an event is the time up to which it tells.
fn follow(caller: Caller, mut asked: MetricsQuery, headers: &HeaderMap) -> routes::Answer {
    if asked.until.is_some() {
        return Err(Refusal::new(
            Code::Invalid,
            "`follow` and `until` exclude each other: what comes is later than any time that has passed",
        )
        .into());
    }
    let last = headers.get("last-event-id").map(|id| {
        let time = id.to_str().ok().and_then(|id| id.parse::<f64>().ok());
        time.ok_or_else(|| {
            Refusal::new(
                Code::Invalid,
                "`Last-Event-ID` is no id of an event of this stream",
            )
            .hint("leave it out to begin anew")
        })
    });
    let share = FOLLOWERS.enter(&caller.known)?;
    let begin = clock::unix_ms() as f64 / 1000.0;
    asked.since = Some(match last.transpose()? {
        Some(last) => last,
        None => asked.since.unwrap_or(begin - 1.0),
    });
    // Asked once now, so that a wrong name is an answer and not an empty stream.
    let tried = MetricsQuery {
        since: Some(begin - 1.0),
        ..asked.clone()
    };
    answer(&caller, &tried)?;
    let (sender, receiver) = mpsc::channel(stream::CHUNKS);
    let follow = async move {
        let _share = share;
        let mut caller = caller;
        loop {
            let until = clock::unix_ms() as f64 / 1000.0;
            let one = MetricsQuery {
                until: Some(until),
                ..asked.clone()
            };
            let asking = tokio::task::spawn_blocking(move || {
                let said = answer(&caller, &one);
                (caller, said)
            });
            let Ok((back, said)) = asking.await else {
                return;
            };
            caller = back;
            // Where the clock was set back there is nothing to tell now.
            if let Ok(said) = said {
                let mut buffer = Vec::new();
                stream::append(&mut buffer, true, Some(&until.to_string()), &said);
                if sender.send(buffer.into()).await.is_err() {
                    return;
                }
                asked.since = Some(until);
            }
            tokio::select! {
                // Cancel-safe: both only wait.
                () = tokio::time::sleep(STEP) => {}
                () = sender.closed() => return,
            }
        }
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with its client, on the HTTP runtime, which owns nothing else"
    )]
    drop(tokio::spawn(follow));
    Ok(stream::answer(stream::SSE, receiver))
}

fn answer(caller: &Caller, asked: &MetricsQuery) -> Result<upkeep_api::metrics::MetricsAnswer, Refusal> {
    let Caller {
        shared,
        permit,
        known,
    } = caller;
    if asked.host {
        known.permit(Verb::MachineRead)?;
    }
    let now_ms = clock::unix_ms();
    let now = now_ms as f64 / 1000.0;
    let metrics: Vec<&str> = names(&asked.metrics).collect();
    if let Some(unknown) = metrics
        .iter()
        .find(|name| !METRICS.iter().any(|metric| metric.name == **name))
    {
        let known = METRICS.iter().map(|metric| metric.name);
        let nearest = known.min_by_key(|name| strsim::damerau_levenshtein(unknown, name));
        let refusal = Refusal::new(
            Code::Invalid,
            format!("there is no figure `{}`", unknown.escape_debug()),
        );
        return Err(match nearest {
            Some(nearest) => refusal.hint(format!("did you mean `{nearest}`?")),
            None => refusal,
        });
    }
    let moment = |given: Option<f64>, default: f64| match given {
        Some(time) if time < 0.0 => now + time,
        Some(time) => time,
        None => default,
    };
    let since = moment(asked.since, now - 900.0);
    let until = moment(asked.until, now);
    let is_time = |time: f64| time.is_finite() && time.abs() < 1e12;
    if !is_time(since) || !is_time(until) || since >= until {
        return Err(Refusal::new(
            Code::Invalid,
            format!("failed to read figures from {since} until {until}: that is no span of time"),
        )
        .hint("`since` must be before `until`; both are Unix seconds, or seconds before now if negative"));
    }
    let points = asked.points.unwrap_or(POINTS);
    if !(1..=POINTS_MAX).contains(&points) {
        return Err(Refusal::new(
            Code::Invalid,
            format!("failed to answer with {points} points: between 1 and {POINTS_MAX} are possible"),
        ));
    }
    let selectors: Vec<String> = match names(&asked.apps).map(str::to_owned).collect::<Vec<_>>() {
        none if none.is_empty() && !asked.host => vec!["all".to_owned()],
        some => some,
    };
    let apps = selector::resolve(&selectors, &permit.visible(&shared.directory.read())).map_err(|error| {
        let refusal = Refusal::new(Code::NotFound, error.to_string());
        match error.nearest {
            Some(nearest) => refusal.hint(format!("did you mean `{nearest}`?")),
            None => refusal,
        }
    })?;
    let query = Query {
        apps,
        host: asked.host,
        metrics,
        since,
        until,
        points,
        per: asked.per,
    };
    Ok(shared.metrics.history.query(&query, now_ms / 1000))
}

/// The parts of a list with commas.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}
