//! Handlers of tokens, roles and the audit.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::{HeaderMap, StatusCode},
};
use upkeep_api::{
    access::{Change, RolePut, TokenPost},
    body::EventQuery,
};

use super::{
    gate::Caller,
    routes::{Answer, if_match, json, list_events, parse, parse_required, query},
};

pub(super) async fn whoami(caller: Caller) -> Answer {
    json(StatusCode::OK, &caller.known.view())
}

pub(super) async fn audit(caller: Caller, RawQuery(raw): RawQuery, headers: HeaderMap) -> Answer {
    let mut asked: EventQuery = query(raw.as_deref())?;
    asked.audit = true;
    list_events(&caller, asked, &headers)
}

pub(super) async fn list_tokens(caller: Caller) -> Answer {
    json(StatusCode::OK, &caller.shared.access.tokens())
}

pub(super) async fn create_token(caller: Caller, body: Bytes) -> Answer {
    let post: TokenPost = parse_required(&body)?;
    let created = caller.shared.access.create_token(post, &caller.known).await?;
    let status = match created.secret {
        Some(_) => StatusCode::CREATED,
        None => StatusCode::OK,
    };
    json(status, &created)
}

pub(super) async fn revoke_token(caller: Caller, Path(token): Path<String>, body: Bytes) -> Answer {
    let change: Change = parse(&body)?;
    let access = &caller.shared.access;
    json(
        StatusCode::OK,
        &access.revoke_token(&token, change, &caller.known).await?,
    )
}

pub(super) async fn list_roles(caller: Caller) -> Answer {
    json(StatusCode::OK, &caller.shared.access.roles())
}

pub(super) async fn put_role(
    caller: Caller,
    Path(role): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut put: RolePut = parse_required(&body)?;
    put.if_revision = if_match(&headers)?;
    let access = &caller.shared.access;
    json(StatusCode::OK, &access.put_role(&role, put, &caller.known).await?)
}

pub(super) async fn delete_role(caller: Caller, Path(role): Path<String>, body: Bytes) -> Answer {
    let change: Change = parse(&body)?;
    let access = &caller.shared.access;
    json(
        StatusCode::OK,
        &access.delete_role(&role, change, &caller.known).await?,
    )
}

pub(super) async fn put_member(caller: Caller, path: Path<(String, String)>, body: Bytes) -> Answer {
    member(&caller, path, true, &body).await
}

pub(super) async fn delete_member(caller: Caller, path: Path<(String, String)>, body: Bytes) -> Answer {
    member(&caller, path, false, &body).await
}

async fn member(
    caller: &Caller,
    Path((role, member)): Path<(String, String)>,
    wanted: bool,
    body: &Bytes,
) -> Answer {
    let change: Change = parse(body)?;
    let access = &caller.shared.access;
    let changed = access
        .put_member((&role, &member), wanted, change, &caller.known)
        .await?;
    json(StatusCode::OK, &changed)
}
