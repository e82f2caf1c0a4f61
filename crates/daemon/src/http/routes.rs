//! The handlers, and the router that is built from the API's own table.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{Path, RawQuery},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{self, MethodRouter},
};
use serde::{Serialize, de::DeserializeOwned};
use upkeep_api::{
    body::{
        Accepted, ActionOptions, AppList, AppView, Apply, AppsQuery, DaemonView, Event, EventList,
        EventQuery, LogQuery, LogSource, Rollback, Scale, ScheduleList, ScheduleQuery, Selection, Stream,
        Upgrade, What,
    },
    error::Code,
    routes::{OUTSIDE, ROUTES, Route},
};
use upkeep_model::{access::Verb as Right, app::AppSpec, id::AppName};

use super::{
    Shared, access, certificates, config, config_store, docs,
    error::ApiError,
    exporter, fields, figures,
    gate::{self, Caller, Locked},
    inspect, machine, replay, search, site, state, stream, written,
};
use crate::{
    apps::{directory::AppEntry, launch, schedule, selector, view},
    cage,
    command::{Command, Permit, Refusal, Verb},
    logs::{packed, read},
};

pub(super) type Answer = Result<Response, ApiError>;

/// The handler of each route of the table. A route without one does not compile into a router: see the test.
fn handler(route: &Route) -> Option<MethodRouter<Locked>> {
    Some(match (route.method, route.path) {
        ("GET", "/v1/alerts") => routing::get(machine::show_alerts),
        ("GET", "/v1/alerts/deliveries") => routing::get(machine::list_deliveries),
        ("PUT", "/v1/alerts/silences/{app}") => routing::put(machine::silence),
        ("DELETE", "/v1/alerts/silences/{app}") => routing::delete(machine::unsilence),
        ("POST", "/v1/alerts/test") => routing::post(machine::test_alerts),
        ("GET", "/v1/apps") => routing::get(list_apps),
        ("POST", "/v1/apps") => routing::post(apply),
        ("GET", "/v1/apps/{name}") => routing::get(show_app),
        ("DELETE", "/v1/apps/{name}") => routing::delete(delete_app),
        ("GET", "/v1/apps/{name}/crashes") => routing::get(machine::list_crashes),
        ("GET", "/v1/apps/{name}/crashes/{id}") => routing::get(machine::show_crash),
        ("GET", "/v1/apps/{name}/exposure") => routing::get(show_exposure),
        ("POST", "/v1/apps/{name}/heap") => routing::post(inspect::heap),
        ("POST", "/v1/apps/{name}/profile") => routing::post(inspect::profile),
        ("POST", "/v1/apps/{name}/reload") => routing::post(reload_app),
        ("POST", "/v1/apps/{name}/restart") => routing::post(restart_app),
        ("POST", "/v1/apps/{name}/rollback") => routing::post(rollback),
        ("POST", "/v1/apps/{name}/scale") => routing::post(scale),
        ("POST", "/v1/apps/{name}/start") => routing::post(start_app),
        ("POST", "/v1/apps/{name}/stop") => routing::post(stop_app),
        ("GET", "/v1/audit") => routing::get(access::audit),
        ("GET", "/v1/certificates") => routing::get(certificates::list),
        ("POST", "/v1/certificates") => routing::post(certificates::issue),
        ("PUT", "/v1/certificates/authority") => routing::put(certificates::init),
        ("POST", "/v1/certificates/renew") => routing::post(certificates::renew),
        ("DELETE", "/v1/certificates/{serial}") => routing::delete(certificates::revoke),
        ("PUT", "/v1/config/approvals") => routing::put(config::places::put_approvals),
        ("POST", "/v1/config/auth") => routing::post(config_store::enable_auth),
        ("POST", "/v1/config/changes") => routing::post(config::change),
        ("GET", "/v1/config/diff") => routing::get(config::diff),
        ("POST", "/v1/config/explain") => routing::post(config::exchange::explain),
        ("GET", "/v1/config/export") => routing::get(config::exchange::export),
        ("GET", "/v1/config/history") => routing::get(config::history),
        ("POST", "/v1/config/import") => routing::post(config::exchange::import),
        ("PUT", "/v1/config/keep") => routing::put(config::places::put_keep),
        ("POST", "/v1/config/leases/{lease}/keep-alive") => routing::post(config::exchange::keep_alive),
        ("GET", "/v1/config/proposals") => routing::get(config::places::proposals),
        ("POST", "/v1/config/proposals/{proposal}/approve") => routing::post(config::places::approve),
        ("POST", "/v1/config/proposals/{proposal}/refuse") => routing::post(config::places::refuse),
        ("GET", "/v1/config/machines") => routing::get(config_store::machines),
        ("POST", "/v1/config/machines") => routing::post(config_store::add_machine),
        ("DELETE", "/v1/config/machines/{name}") => routing::delete(config_store::remove_machine),
        ("POST", "/v1/config/migrate") => routing::post(config_store::migrate),
        ("POST", "/v1/config/reseal") => routing::post(config::reseal),
        ("POST", "/v1/config/rollback") => routing::post(config::rollback),
        ("GET", "/v1/config/rules") => routing::get(config::rules),
        ("PUT", "/v1/config/rules") => routing::put(config::put_rules),
        ("GET", "/v1/config/schemas") => routing::get(config::places::schemas),
        ("PUT", "/v1/config/schemas") => routing::put(config::places::put_schema),
        ("GET", "/v1/config/status") => routing::get(config_store::status),
        ("GET", "/v1/config/values") => routing::get(config::list),
        ("GET", "/v1/config/values/{path}") => routing::get(config::show),
        ("PUT", "/v1/config/values/{path}") => routing::put(config::put),
        ("DELETE", "/v1/config/values/{path}") => routing::delete(config::delete),
        ("GET", "/v1/config/watch") => routing::get(config::watch),
        ("GET", "/v1/daemon") => routing::get(show_daemon),
        ("POST", "/v1/daemon/kill") => routing::post(kill),
        ("POST", "/v1/daemon/shutdown") => routing::post(shutdown),
        ("POST", "/v1/daemon/upgrade") => routing::post(upgrade),
        ("GET", "/v1/events") => routing::get(events),
        ("GET", "/v1/logs") => routing::get(logs),
        ("GET", "/v1/metrics") => routing::get(figures::history),
        ("GET", "/v1/openapi.json") => routing::get(openapi),
        ("GET", "/v1/roles") => routing::get(access::list_roles),
        ("PUT", "/v1/roles/{role}") => routing::put(access::put_role),
        ("DELETE", "/v1/roles/{role}") => routing::delete(access::delete_role),
        ("PUT", "/v1/roles/{role}/members/{member}") => routing::put(access::put_member),
        ("DELETE", "/v1/roles/{role}/members/{member}") => routing::delete(access::delete_member),
        ("GET", "/v1/schedules") => routing::get(list_schedules),
        ("GET", "/v1/schedules/{name}") => routing::get(show_schedule),
        ("GET", "/v1/search") => routing::get(search::search),
        ("POST", "/v1/selections/delete") => routing::post(delete),
        ("POST", "/v1/selections/reload") => routing::post(reload),
        ("POST", "/v1/selections/restart") => routing::post(restart),
        ("POST", "/v1/selections/start") => routing::post(start),
        ("POST", "/v1/selections/stop") => routing::post(stop),
        ("GET", "/v1/settings") => routing::get(machine::show_settings),
        ("PUT", "/v1/settings") => routing::put(machine::put_settings),
        ("POST", "/v1/settings/explain") => routing::post(config::exchange::explain_settings),
        ("PUT", "/v1/snapshot") => routing::put(save),
        ("POST", "/v1/snapshot/restore") => routing::post(restore),
        ("GET", "/v1/tokens") => routing::get(access::list_tokens),
        ("POST", "/v1/tokens") => routing::post(access::create_token),
        ("DELETE", "/v1/tokens/{token}") => routing::delete(access::revoke_token),
        ("GET", "/v1/whoami") => routing::get(access::whoami),
        _ => return None,
    })
}

/// The router of the whole table.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let locked = Locked::new(shared);
    let answers = Arc::<replay::Answers>::default();
    let mut paths: BTreeMap<&str, MethodRouter<Locked>> = BTreeMap::new();
    for route in ROUTES {
        if let Some(handler) = handler(route) {
            let mut handler = handler;
            if route.method != "GET" {
                let answers = Arc::clone(&answers);
                handler = handler.layer(axum::middleware::from_fn_with_state(answers, replay::once));
            }
            // The outermost: what lies inside asks for the row of the table.
            let handler = handler.layer(Extension(route));
            let merged = paths.remove(route.path).unwrap_or_default().merge(handler);
            paths.insert(route.path, merged);
        }
    }
    for route in OUTSIDE {
        if let Some(handler) = exporter::handler(route.path) {
            let handler = handler.layer(Extension(route));
            paths.insert(route.path, handler);
        }
    }
    let mut router = Router::new();
    for (path, methods) in paths {
        // Paths of values have slashes of their own.
        let path = path.replace("{path}", "{*path}");
        router = router.route(&path, methods.fallback(method_not_allowed));
    }
    router = router
        .fallback(not_found)
        .layer(axum::middleware::from_fn(fields::only))
        .layer(axum::middleware::from_fn_with_state(
            locked.clone(),
            gate::authenticate,
        ));
    // Behind the gate lies what tells something of this machine. The client and the reference are open.
    for path in site::paths() {
        router = router.route(path, site::handler().fallback(method_not_allowed));
    }
    for path in docs::PATHS {
        router = router.route(path, docs::handler().fallback(method_not_allowed));
    }
    router.with_state(locked)
}

async fn not_found(uri: Uri) -> ApiError {
    Refusal::new(Code::NotFound, format!("there is no `{}`", uri.path()))
        .hint("every path starts with `/v1/`; the reference lists them")
        .into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    Refusal::new(
        Code::MethodNotAllowed,
        format!("`{method}` is not possible on `{}`", uri.path()),
    )
    .into()
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(body)
        .map_err(|error| Refusal::new(Code::Internal, "failed to encode the answer").because(&error))?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// A body as JSON; an empty one means the default.
pub(super) fn parse<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    parse_required(body)
}

pub(super) fn parse_required<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        // A wrong value of a right shape is the user's to correct, like any rule that is broken.
        let code = if error.is_data() {
            Code::Invalid
        } else {
            Code::BadRequest
        };
        Refusal::new(code, format!("failed to read the body: {error}")).into()
    })
}

pub(super) fn query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, ApiError> {
    serde_urlencoded::from_str(query.unwrap_or_default())
        .map_err(|error| Refusal::new(Code::BadRequest, format!("failed to read the query: {error}")).into())
}

async fn list_apps(caller: Caller, RawQuery(raw): RawQuery) -> Answer {
    let asked: AppsQuery = query(raw.as_deref())?;
    if asked.follow {
        return Ok(state::follow(caller, asked)?);
    }
    let Caller { shared, permit, .. } = caller;
    let apps = permit.visible(&shared.directory.read());
    let mut chosen = apps.iter().filter(|(name, entry)| {
        asked.after.as_deref().is_none_or(|after| name.as_str() > after)
            && asked
                .namespace
                .as_deref()
                .is_none_or(|namespace| namespace == entry.record.spec.namespace)
    });
    let limit = asked.limit.unwrap_or(usize::MAX);
    if limit == 0 {
        return Err(Refusal::new(Code::Invalid, "failed to list 0 apps: `limit` is 1 or more").into());
    }
    let apps: Vec<AppView> = chosen
        .by_ref()
        .take(limit)
        .map(|(name, entry)| view::app(name, entry, &shared.usage))
        .collect();
    let next = chosen
        .next()
        .and_then(|_| apps.last().map(|app| app.name.clone()));
    json(StatusCode::OK, &AppList { apps, next })
}

/// The description for programs, as it is published.
async fn openapi(_: Caller) -> Answer {
    let text = tokio::task::spawn_blocking(upkeep_docs::own::openapi)
        .await
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|error| Refusal::new(Code::Internal, "failed to unpack the description").because(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn show_app(caller: Caller, Path(name): Path<String>) -> Answer {
    let (name, entry) = caller.app(&name)?;
    let Caller { shared, .. } = caller;
    let mut view = view::app(&name, &entry, &shared.usage);
    let (reader, of) = (Arc::clone(&shared), entry.clone());
    // A disk may be slow.
    view.logs = tokio::task::spawn_blocking(move || log_sources(&reader, &of))
        .await
        .unwrap_or_default();
    view.log_sinks = shared.sinks.lock().map_or_else(
        |_| Vec::new(),
        |sinks| sinks.get(&name).cloned().unwrap_or_default(),
    );
    view.limits = cage::force::limits(&entry.record.spec, running(&entry));
    view.spec = Some(Box::new(masked(&entry.record.spec)));
    let tag = format!("\"{}\"", view.revision);
    let mut response = json(StatusCode::OK, &view)?;
    if let Ok(tag) = header::HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// `If-Match: "7"`, if it is there.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    let revision = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
        .parse();
    revision.map(Some).map_err(|_| {
        Refusal::new(Code::BadRequest, "failed to read `If-Match`: expected a revision")
            .hint("it is the `revision` of what is to be changed, in quotes, as `ETag` has it")
            .into()
    })
}

/// The process of the first instance that runs.
fn running(entry: &AppEntry) -> Option<u32> {
    let status = entry.status.borrow();
    status.instances.iter().find_map(|instance| instance.view.pid)
}

async fn show_exposure(caller: Caller, Path(name): Path<String>) -> Answer {
    let (_, entry) = caller.app(&name)?;
    let pid = running(&entry);
    json(StatusCode::OK, &cage::exposure::of(&entry.record.spec, pid))
}

/// A specification for eyes: the names of variables, not their values, which may be secrets.
fn masked(spec: &AppSpec) -> AppSpec {
    let hide =
        |env: &BTreeMap<String, String>| env.keys().map(|name| (name.clone(), HIDDEN.to_owned())).collect();
    AppSpec {
        env: hide(&spec.env),
        inherited_env: hide(&spec.inherited_env),
        ..spec.clone()
    }
}

/// Stands for a value that is not shown.
const HIDDEN: &str = "(hidden)";

pub(super) fn log_places(shared: &Shared, entry: &AppEntry) -> Vec<launch::LogPlace> {
    let spec = &entry.record.spec;
    let mut places: Vec<launch::LogPlace> = Vec::new();
    for index in 0..spec.instances {
        for place in launch::log_places(spec, index, &shared.home.logs()) {
            if !places.iter().any(|known| known.path == place.path) {
                places.push(place);
            }
        }
    }
    places
}

fn log_sources(shared: &Shared, entry: &AppEntry) -> Vec<LogSource> {
    // The pump wants the statuses too: nothing is read from a disk while they are held.
    let status_of = |pipe: &str| {
        let statuses = shared
            .statuses
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        statuses.get(pipe).cloned().unwrap_or_default()
    };
    log_places(shared, entry)
        .into_iter()
        .map(|place| {
            let status = status_of(&place.pipe);
            let usage = packed::usage(&place.path);
            let accounting = status.accounting();
            let rate = status.rate();
            LogSource {
                stream: place.stream,
                index: place.index,
                bytes: usage.bytes,
                disk_bytes: usage.disk_bytes,
                rotated: usage.rotated,
                dropped_lines: accounting.dropped_lines,
                dropped_bytes: accounting.dropped_bytes,
                lost_bytes: accounting.lost_bytes,
                lost_lines: accounting.lost_lines,
                lines_per_second: rate.lines_per_second,
                bytes_per_second: rate.bytes_per_second,
                lines: rate.lines,
                trouble: status.trouble,
                path: place.path.display().to_string(),
            }
        })
        .collect()
}

async fn apply(
    Caller {
        shared,
        permit,
        known,
        ..
    }: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut apply: Apply = parse_required(&body)?;
    apply.options.if_revision = if_match(&headers)?;
    let unresolved = std::mem::take(&mut apply.unresolved);
    let mut warnings = Vec::new();
    if !unresolved.is_empty() {
        // What lies outside the caller's reach is not told of.
        let reading = known.permit(Right::AppsRead).ok();
        let mut there = written::There::default();
        for (name, entry) in shared.directory.read().iter() {
            let namespace = &entry.record.spec.namespace;
            if reading
                .as_ref()
                .is_some_and(|permit| permit.covers(name, namespace))
            {
                there.names.insert(name.clone());
            }
            if permit.covers(name, namespace) {
                there.specs.insert(name.clone(), entry.record.spec.clone());
            }
        }
        let resolved = machine::aside(move || written::work_out(unresolved, &there)).await??;
        apply.apps.extend(resolved.apps);
        warnings = resolved.warnings;
    }
    if apply.options.if_revision.is_some() && apply.apps.len() != 1 {
        return Err(Refusal::new(
            Code::Invalid,
            "failed to apply: `If-Match` is of one app, and these are several",
        )
        .into());
    }
    let grants = super::grants::of(&shared, &known, &apply.apps).await?;
    let mut result = shared.execute(Command::Apply(apply, grants), permit).await?;
    result.warnings = warnings;
    let created = result.changes.iter().any(|change| change.what == What::Created) && result.event.is_some();
    json(
        if created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        &result,
    )
}

async fn act(shared: &Shared, permit: Permit, verb: Verb, selection: Selection) -> Answer {
    let result = shared.execute(Command::Act { verb, selection }, permit).await?;
    json(StatusCode::OK, &result)
}

async fn act_on_one(caller: &Caller, verb: Verb, name: &str, headers: &HeaderMap, body: &Bytes) -> Answer {
    let (name, _) = caller.app(name)?;
    let mut options: ActionOptions = parse(body)?;
    options.if_revision = if_match(headers)?;
    act(
        &caller.shared,
        caller.permit.clone(),
        verb,
        Selection {
            selectors: vec![name.to_string()],
            options,
            ..Selection::default()
        },
    )
    .await
}

macro_rules! actions {
    ($($all:ident, $one:ident: $verb:expr;)*) => {$(
        async fn $all(Caller { shared, permit, .. }: Caller, body: Bytes) -> Answer {
            act(&shared, permit, $verb, parse_required(&body)?).await
        }

        async fn $one(caller: Caller, Path(name): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
            act_on_one(&caller, $verb, &name, &headers, &body).await
        }
    )*};
}

actions! {
    start, start_app: Verb::Start;
    stop, stop_app: Verb::Stop;
    restart, restart_app: Verb::Restart;
    reload, reload_app: Verb::Reload;
    delete, delete_app: Verb::Delete;
}

async fn scale(caller: Caller, Path(name): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let (app, _) = caller.app(&name)?;
    let Caller { shared, permit, .. } = caller;
    let mut scale: Scale = parse_required(&body)?;
    scale.options.if_revision = if_match(&headers)?;
    let result = shared.execute(Command::Scale { app, scale }, permit).await?;
    json(StatusCode::OK, &result)
}

async fn rollback(caller: Caller, Path(name): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let (app, _) = caller.app(&name)?;
    let Caller { shared, permit, .. } = caller;
    let mut options: Rollback = parse(&body)?;
    options.options.if_revision = if_match(&headers)?;
    let result = shared.execute(Command::Rollback { app, options }, permit).await?;
    json(StatusCode::OK, &result)
}

async fn list_schedules(Caller { shared, permit, .. }: Caller) -> Answer {
    let schedules = permit
        .visible(&shared.directory.read())
        .values()
        .filter_map(view::schedule)
        .collect();
    json(StatusCode::OK, &ScheduleList { schedules })
}

async fn show_schedule(caller: Caller, Path(name): Path<String>, RawQuery(raw): RawQuery) -> Answer {
    let (name, entry) = caller.app(&name)?;
    let asked: ScheduleQuery = query(raw.as_deref())?;
    let Some(mut view) = view::schedule(&entry) else {
        return Err(
            Refusal::new(Code::NotFound, format!("`{name}` is not run by the clock"))
                .hint("`schedule:` in its file does that")
                .into(),
        );
    };
    let count = asked.times.unwrap_or(TIMES).min(TIMES_MAX);
    view.times = schedule::next_times(&entry.record.spec, count);
    json(StatusCode::OK, &view)
}

/// How many times of a schedule are told, unless said otherwise.
const TIMES: usize = 5;
/// And at most.
const TIMES_MAX: usize = 1000;

async fn show_daemon(Caller { shared, .. }: Caller) -> Answer {
    let view = DaemonView {
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        version: shared.version.clone(),
        daemon_pid: std::process::id(),
        keeper_pid: shared.greeting.pid,
        keeper_version: shared.greeting.version.clone(),
        keeper_protocol: shared.greeting.protocol,
        started_at: shared.started_ms as f64 / 1000.0,
        home: shared.home.root.display().to_string(),
        tracking: shared.greeting.tracking.clone(),
        apps: shared.directory.read().len(),
        upgrade_trouble: shared
            .trouble
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone(),
        listeners: shared.listeners.list(shared.certificates.trouble().as_deref()),
    };
    json(StatusCode::OK, &view)
}

async fn kill(Caller { shared, permit, .. }: Caller, body: Bytes) -> Answer {
    end(&shared, permit, true, &body).await
}

async fn shutdown(Caller { shared, permit, .. }: Caller, body: Bytes) -> Answer {
    end(&shared, permit, false, &body).await
}

async fn end(shared: &Shared, permit: Permit, forget: bool, body: &Bytes) -> Answer {
    let options: ActionOptions = parse(body)?;
    let result = shared.execute(Command::End { forget, options }, permit).await?;
    json(StatusCode::OK, &result)
}

async fn upgrade(Caller { shared, permit, .. }: Caller, body: Bytes) -> Answer {
    let upgrade: Upgrade = parse(&body)?;
    let keeper = upgrade.keeper;
    shared.execute(Command::Upgrade(upgrade), permit).await?;
    if keeper {
        return json(
            StatusCode::OK,
            &Accepted {
                message: "the keeper runs the new program".to_owned(),
            },
        );
    }
    json(
        StatusCode::ACCEPTED,
        &Accepted {
            message: "the daemon makes room for the new program".to_owned(),
        },
    )
}

async fn save(Caller { shared, permit, .. }: Caller, body: Bytes) -> Answer {
    let result = shared
        .execute(
            Command::Save {
                options: parse(&body)?,
            },
            permit,
        )
        .await?;
    json(StatusCode::OK, &result)
}

async fn restore(Caller { shared, permit, .. }: Caller, body: Bytes) -> Answer {
    let result = shared
        .execute(
            Command::Restore {
                options: parse(&body)?,
            },
            permit,
        )
        .await?;
    json(StatusCode::OK, &result)
}

/// What a caller may read of the event log: events of apps that it reaches, those of the machine if it reaches all; and
/// what tells of tokens, roles, certificates and settings only if it may see those.
#[derive(Debug)]
pub(super) struct Reading {
    shared: Arc<Shared>,
    permit: Permit,
    /// Of the verbs that guard some events, those that it holds. Streams end when that changes.
    held: Vec<Right>,
    /// Where it may read the history of the shared configuration.
    history: Option<Permit>,
}

impl Reading {
    /// By the verb of the call.
    pub(super) fn new(caller: &Caller) -> Self {
        Self::with(caller, caller.permit.clone())
    }

    /// By another verb.
    pub(super) fn with(caller: &Caller, permit: Permit) -> Self {
        Self {
            shared: Arc::clone(&caller.shared),
            permit,
            held: [Right::AccessRead, Right::SettingsRead]
                .into_iter()
                .filter(|verb| caller.known.permit(*verb).is_ok())
                .collect(),
            history: caller.known.permit(Right::ConfigHistory).ok(),
        }
    }

    /// Whether it may read this one.
    pub(super) fn is_for(&self, event: &Event) -> bool {
        if event.guard() == Some(Right::ConfigHistory) {
            return crate::config::may_read(event, self.history.as_ref());
        }
        if event.guard().is_some_and(|verb| !self.held.contains(&verb)) {
            return false;
        }
        if self.permit.is_everywhere() {
            return true;
        }
        let mut apps = event
            .target
            .split(' ')
            .filter(|target| !target.is_empty())
            .peekable();
        apps.peek().is_some() && apps.all(|target| reaches(&self.shared, &self.permit, target))
    }

    /// An event that is for this caller, with what of it is for this caller.
    pub(super) fn shown(&self, mut event: Event) -> Event {
        if event.is_of_values() {
            crate::config::mask(&mut event, self.history.as_ref());
        }
        event
    }
}

/// Whether a permit reaches what a target names: an app, or one instance of it.
pub(super) fn reaches(shared: &Shared, permit: &Permit, target: &str) -> bool {
    if permit.is_everywhere() {
        return true;
    }
    let name = target.split_once(':').map_or(target, |(name, _)| name);
    AppName::parse(name).is_ok_and(|name| {
        shared
            .directory
            .get(&name)
            .is_some_and(|entry| permit.covers(&name, &entry.record.spec.namespace))
    })
}

/// How many events are told at once: all that the journal keeps.
pub(super) const EVENTS_MAX: usize = 20_000;

async fn events(caller: Caller, RawQuery(raw): RawQuery, headers: HeaderMap) -> Answer {
    list_events(&caller, query(raw.as_deref())?, &headers)
}

/// What the event log has, or what comes.
pub(super) fn list_events(caller: &Caller, mut query: EventQuery, headers: &HeaderMap) -> Answer {
    if let Some(id) = headers.get("last-event-id") {
        let id = id.to_str().ok().and_then(|id| id.parse().ok());
        query.after = Some(id.ok_or_else(|| {
            Refusal::new(
                Code::Invalid,
                "`Last-Event-ID` is no id of an event of this stream",
            )
            .hint("leave it out to begin anew")
        })?);
    }
    let is_resumed = headers.contains_key("last-event-id");
    // Before anything is read: what happens meanwhile comes behind it.
    let gap = match query.after.filter(|_| query.follow || is_resumed) {
        Some(after) => caller.shared.events.gap(after).map_err(Refusal::from)?,
        None => None,
    };
    if let Some(gap) = &gap {
        query.after = Some(gap.id);
    }
    if query.follow {
        return stream::events(caller, query, gap);
    }
    let limit = query.limit.unwrap_or(100).min(EVENTS_MAX);
    let reading = Reading::new(caller);
    let mut events = caller
        .shared
        .events
        .tail(limit, query.after.unwrap_or(0), &|event| {
            event.is_asked_for(&query) && reading.is_for(event)
        })
        .map_err(Refusal::from)?;
    events = events.into_iter().map(|event| reading.shown(event)).collect();
    events.splice(..0, gap);
    json(StatusCode::OK, &EventList { events })
}

async fn logs(caller: Caller, headers: HeaderMap, RawQuery(raw): RawQuery) -> Answer {
    let query: LogQuery = query(raw.as_deref())?;
    let selectors: Vec<String> = match query.apps.as_str() {
        "" => vec!["all".to_owned()],
        apps => apps.split(',').map(str::to_owned).collect(),
    };
    let wanted = stream::wanted(&query, headers.get("last-event-id"))?;
    // Asked once now, so that a wrong name is an answer and not an empty stream.
    list_logs(&caller.shared, &caller.permit, &selectors, query.stream)?;
    stream::logs(caller, selectors, query.stream, wanted)
}

/// The logs that selectors mean.
pub(super) fn list_logs(
    shared: &Shared,
    permit: &Permit,
    selectors: &[String],
    only: Option<Stream>,
) -> Result<Vec<read::LogToRead>, Refusal> {
    let directory = permit.visible(&shared.directory.read());
    let selected = selector::resolve(selectors, &directory).map_err(|error| {
        Refusal::new(Code::NotFound, error.to_string()).hint("`upkeep ls` shows what there is")
    })?;
    let statuses = shared
        .statuses
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut logs = Vec::new();
    for (name, instances) in selected {
        let Some(entry) = directory.get(&name) else {
            continue;
        };
        for place in log_places(shared, entry) {
            let chosen = match (&instances, place.index) {
                (Some(chosen), Some(index)) => chosen.contains(&index),
                _ => true,
            };
            if !chosen || only.is_some_and(|stream| stream != place.stream) {
                continue;
            }
            let accounting = statuses
                .get(&place.pipe)
                .map(|status| status.accounting())
                .unwrap_or_default();
            logs.push(read::LogToRead {
                app: name.clone(),
                index: place.index,
                stream: place.stream,
                path: place.path,
                format: entry.record.spec.logs.format,
                dropped: (accounting.dropped_lines > 0).then(|| {
                    format!(
                        "{} older lines ({} bytes) were deleted by rotation",
                        accounting.dropped_lines, accounting.dropped_bytes
                    )
                }),
                lost: (accounting.lost_bytes > 0).then(|| {
                    format!(
                        "{} lines ({} bytes) are lost: the file could not be written",
                        accounting.lost_lines, accounting.lost_bytes
                    )
                }),
            });
        }
    }
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_table_is_served() {
        for route in ROUTES {
            assert!(
                handler(route).is_some(),
                "{} {} has no handler",
                route.method,
                route.path
            );
        }
    }
}
