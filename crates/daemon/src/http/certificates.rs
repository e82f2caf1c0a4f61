//! Handlers of certificates.

use axum::{body::Bytes, extract::Path, http::StatusCode};
use upkeep_api::{access::Change, certificate::CertificatePost};

use super::{
    gate::Caller,
    routes::{Answer, json, parse, parse_required},
};

pub(super) async fn list(Caller { shared, .. }: Caller) -> Answer {
    json(StatusCode::OK, &shared.certificates.list().await?)
}

pub(super) async fn issue(caller: Caller, body: Bytes) -> Answer {
    let post: CertificatePost = parse_required(&body)?;
    let shared = &caller.shared;
    let issued = shared
        .certificates
        .issue(post, &shared.access, &caller.known)
        .await?;
    let status = match issued.pem {
        Some(_) => StatusCode::CREATED,
        None => StatusCode::OK,
    };
    json(status, &issued)
}

pub(super) async fn revoke(caller: Caller, Path(which): Path<String>, body: Bytes) -> Answer {
    let change: Change = parse(&body)?;
    let shared = &caller.shared;
    let changed = shared
        .certificates
        .revoke(&which, change, &shared.access, &caller.known)
        .await?;
    json(StatusCode::OK, &changed)
}

pub(super) async fn init(Caller { shared, permit, .. }: Caller, body: Bytes) -> Answer {
    let change: Change = parse(&body)?;
    let changed = shared.certificates.init(change, permit.who()).await?;
    json(StatusCode::OK, &changed)
}

pub(super) async fn renew(Caller { shared, permit, .. }: Caller, body: Bytes) -> Answer {
    let change: Change = parse(&body)?;
    let web = shared.settings.current().web.clone();
    let list = shared.certificates.renew(&web, change, permit.who()).await?;
    json(StatusCode::OK, &list)
}
