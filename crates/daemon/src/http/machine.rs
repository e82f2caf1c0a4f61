//! Handlers of settings, crashes and alerts.

use axum::{
    body::Bytes,
    extract::Path,
    http::{HeaderMap, StatusCode},
};
use upkeep_api::{alert::DeliveryList, crash::CrashList, error::Code, settings::SettingsPut};

use upkeep_model::access::Verb;

use super::{
    error::ApiError,
    gate::Caller,
    routes::{Answer, Reading, if_match, json, parse, parse_required, reaches as is_reached},
};
use crate::command::{Permit, Refusal};

pub(super) async fn show_settings(Caller { shared, .. }: Caller) -> Answer {
    json(StatusCode::OK, &shared.settings.view())
}

pub(super) async fn put_settings(
    Caller { shared, permit, .. }: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut put: SettingsPut = parse_required(&body)?;
    put.revision = if_match(&headers)?.or(put.revision);
    let result = shared.settings.put(put, permit.who()).await?;
    json(StatusCode::OK, &result)
}

/// Does what reads files on a thread that may wait for disks.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Refusal::new(Code::Internal, "failed to read")
            .because(&error)
            .into()
    })
}

pub(super) async fn list_crashes(caller: Caller, Path(name): Path<String>) -> Answer {
    let (app, _) = caller.app(&name)?;
    let Caller { shared, .. } = caller;
    let archive = shared.crashes.clone();
    let crashes = aside(move || archive.list(&app)).await?;
    json(StatusCode::OK, &CrashList { crashes })
}

pub(super) async fn show_crash(caller: Caller, Path((name, id)): Path<(String, String)>) -> Answer {
    let (app, entry) = caller.app(&name)?;
    let archive = caller.shared.crashes.clone();
    let wanted = id.clone();
    let crash = aside(move || match wanted.as_str() {
        "last" => archive.last(&app),
        id => archive.read(&app, id.parse().ok()?),
    })
    .await?;
    let crash = crash.map(|mut crash| {
        // A dossier quotes what other verbs guard.
        let namespace = &entry.record.spec.namespace;
        let covers = |permit: &Permit| permit.covers(&crash.app, namespace);
        if !caller
            .known
            .permit(Verb::AppsLogs)
            .is_ok_and(|permit| covers(&permit))
        {
            crash.logs.clear();
            crash.findings.clear();
        }
        match caller.known.permit(Verb::EventsRead) {
            Ok(permit) => {
                let reading = Reading::with(&caller, permit);
                crash.changes.retain(|event| reading.is_for(event));
                let changes = crash.changes.into_iter();
                crash.changes = changes.map(|event| reading.shown(event)).collect();
            }
            Err(_) => crash.changes.clear(),
        }
        crash
    });
    match crash {
        Some(crash) => json(StatusCode::OK, &crash),
        None => Err(Refusal::new(
            Code::NotFound,
            format!("there is no crash `{}` of `{name}`", id.escape_debug()),
        )
        .hint(format!("`upkeep why {name} --all` lists what there is"))
        .into()),
    }
}

/// Whether a caller may see what an alert is about: the machine, or an app that it sees.
fn sees(caller: &Caller, verb: Verb, subject: &str) -> bool {
    matches!(subject, "machine" | "all")
        || caller
            .known
            .permit(verb)
            .is_ok_and(|permit| is_reached(&caller.shared, &permit, subject))
}

/// Without what is about apps that the caller does not see.
pub(super) async fn show_alerts(caller: Caller) -> Answer {
    let mut view = caller.shared.alerts.view();
    view.firing
        .retain(|alert| sees(&caller, Verb::AppsRead, &alert.subject));
    view.silences
        .retain(|silence| sees(&caller, Verb::AppsRead, &silence.app));
    json(StatusCode::OK, &view)
}

/// Without messages that tell of apps that the caller does not see, and without lines of logs that it may not read.
pub(super) async fn list_deliveries(caller: Caller) -> Answer {
    let alerts = caller.shared.alerts.clone();
    let mut deliveries = aside(move || alerts.deliveries()).await??;
    deliveries.retain_mut(|delivery| {
        let alerts = &mut delivery.message.alerts;
        for alert in alerts.iter_mut() {
            if let Some(crash) = &mut alert.crash
                && !sees(&caller, Verb::AppsLogs, &alert.subject)
            {
                crash.lines.clear();
                crash.findings.clear();
            }
        }
        alerts
            .iter()
            .all(|alert| sees(&caller, Verb::AppsRead, &alert.subject))
    });
    json(StatusCode::OK, &DeliveryList { deliveries })
}

pub(super) async fn test_alerts(Caller { shared, permit, .. }: Caller, body: Bytes) -> Answer {
    permit.require_everywhere()?;
    let result = shared.alerts.test(parse(&body)?, permit.who().clone()).await?;
    json(StatusCode::OK, &result)
}

/// Whether the caller reaches what is to be silenced: an app, or more.
fn reaches(caller: &Caller, app: &str) -> Result<(), ApiError> {
    if caller.permit.is_everywhere() {
        return Ok(());
    }
    if matches!(app, "all" | "machine") {
        caller.permit.require_everywhere()?;
    }
    caller.app(app).map(drop)
}

pub(super) async fn silence(caller: Caller, Path(app): Path<String>, body: Bytes) -> Answer {
    reaches(&caller, &app)?;
    let Caller { shared, permit, .. } = caller;
    let put = parse_required(&body)?;
    let result = shared
        .alerts
        .silence(app, Some(put), permit.who().clone())
        .await?;
    json(StatusCode::OK, &result)
}

pub(super) async fn unsilence(caller: Caller, Path(app): Path<String>) -> Answer {
    reaches(&caller, &app)?;
    let Caller { shared, permit, .. } = caller;
    let result = shared.alerts.silence(app, None, permit.who().clone()).await?;
    json(StatusCode::OK, &result)
}
