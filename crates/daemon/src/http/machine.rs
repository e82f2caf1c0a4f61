//! Handlers of what is the machine's: its settings.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use upkeep_api::{error::Code, settings::SettingsPut};

use super::{
    Authorized,
    error::ApiError,
    routes::{Answer, Api, json, parse_required},
};
use crate::command::Refusal;

pub(super) async fn show_settings(State(shared): Api, _: Authorized) -> Answer {
    json(StatusCode::OK, &shared.settings.view())
}

/// `If-Match: "7"`, if it is there.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let revision = value
        .to_str()
        .ok()
        .and_then(|text| text.trim_matches('"').parse().ok());
    revision.map(Some).ok_or_else(|| {
        Refusal::new(Code::BadRequest, "failed to read `If-Match`: expected a revision").into()
    })
}

pub(super) async fn put_settings(
    State(shared): Api,
    who: Authorized,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut put: SettingsPut = parse_required(&body)?;
    put.revision = if_match(&headers)?.or(put.revision);
    let result = shared.settings.put(put, &who.principal).await?;
    json(StatusCode::OK, &result)
}
