//! Figures over HTTP: the history, and what other programs scrape.

use axum::{extract::RawQuery, http::StatusCode};
use upkeep_api::{
    error::Code,
    metrics::{METRICS, MetricsQuery},
};
use upkeep_model::access::Verb;
use upkeep_sys::clock;

use super::{gate::Caller, routes};
use crate::{
    apps::selector,
    command::Refusal,
    metrics::{POINTS, POINTS_MAX, Query},
};

/// `GET /v1/metrics`.
pub(super) async fn history(caller: Caller, RawQuery(raw): RawQuery) -> routes::Answer {
    let asked: MetricsQuery = routes::query(raw.as_deref())?;
    // Weeks of many apps take a while to read.
    let answer = tokio::task::spawn_blocking(move || answer(&caller, &asked))
        .await
        .map_err(|error| Refusal::new(Code::Internal, format!("failed to read figures: {error}")))??;
    routes::json(StatusCode::OK, &answer)
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
