//! What other programs ask for outside `/v1`: `/metrics`, `/healthz` and `/readyz`.
//!
//! On the unix socket and over TCP they are there as everything is, for who may (`machine:read`, and of apps those that
//! the caller sees). Prometheus cannot ask a unix socket, so
//! a machine may have them on a port of loopback as well: those three and nothing else, without a password.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{self, MethodRouter},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use upkeep_model::{access::Verb, id::AppName};
use upkeep_sys::clock;

use super::{
    Shared,
    gate::{Caller, Locked},
};
use crate::{
    apps::directory::AppEntry,
    main_loop::note,
    metrics::openmetrics::{self, Format},
};

type Api = State<Arc<Shared>>;

/// Figures older than this mean that nobody looks any more, ms.
const STALE_MS: u64 = 15_000;
/// So many may ask at once.
const CONNECTIONS: usize = 16;
/// How long a question may take to arrive.
const READ: Duration = Duration::from_secs(5);
/// How long one may take with its answer.
const WHOLE: Duration = Duration::from_secs(30);
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two tries to take an address that is in use.
const AGAIN: Duration = Duration::from_secs(5);

/// Handlers of `api::routes::OUTSIDE`, for the unix socket.
pub(super) fn handler(path: &str) -> Option<MethodRouter<Locked>> {
    Some(match path {
        "/healthz" => routing::get(async |_: Caller| health()),
        "/metrics" => routing::get(async |caller: Caller, headers: HeaderMap| own_metrics(&caller, &headers)),
        "/readyz" => routing::get(async |caller: Caller| ready(&caller.shared)),
        _ => return None,
    })
}

pub(super) fn health() -> Response {
    (StatusCode::OK, "ok\n").into_response()
}

/// Whether apps can be managed and looked at.
fn ready(shared: &Shared) -> Response {
    let not = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response();
    if shared.commands.is_closed() {
        return not("the daemon is ending");
    }
    if shared.commands.capacity() == 0 {
        return not("too many commands wait");
    }
    let now = clock::monotonic_ms();
    // A daemon that has just begun has not looked yet.
    let begun = clock::unix_ms().saturating_sub(shared.started_ms);
    if begun > STALE_MS && shared.metrics.latest(|all| now > all.at_ms + STALE_MS) {
        return not("figures are old: the machine is overloaded");
    }
    (StatusCode::OK, "ready\n").into_response()
}

/// Without instances of apps that the caller does not see.
fn own_metrics(caller: &Caller, headers: &HeaderMap) -> Response {
    // The directory is let go of before figures are looked at: others take both in the other order.
    let apps = match caller.known.permit(Verb::AppsRead) {
        Ok(permit) => permit.visible(&caller.shared.directory.read()),
        Err(_) => BTreeMap::new(),
    };
    metrics(&caller.shared, &apps, headers)
}

fn metrics(shared: &Shared, apps: &BTreeMap<AppName, AppEntry>, headers: &HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::wanted(accept);
    let page = openmetrics::page(
        &shared.metrics,
        apps,
        &shared.version,
        shared.started_ms,
        format,
        (clock::monotonic_ms(), clock::unix_ms()),
    );
    (
        StatusCode::OK,
        [(header::CONTENT_TYPE, format.content_type())],
        page,
    )
        .into_response()
}

/// Serves the port for as long as it is asked for, and another as soon as that is; ends with the runtime.
pub(super) async fn serve(shared: Arc<Shared>, mut wanted: watch::Receiver<Option<SocketAddr>>) {
    loop {
        let address = *wanted.borrow_and_update();
        let changed = async {
            if wanted.changed().await.is_err() {
                // Nobody will ask for another.
                std::future::pending::<()>().await;
            }
        };
        match address {
            None => changed.await,
            Some(address) => {
                tokio::select! {
                    () = changed => {}
                    () = listen(address, &shared) => {}
                }
            }
        }
    }
}

async fn listen(address: SocketAddr, shared: &Arc<Shared>) {
    let mut said = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !said => {
                note(&format!(
                    "failed to listen on `{address}` for those who scrape figures, trying again: {error}"
                ));
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    };
    if let Ok(at) = listener.local_addr() {
        note(&format!("figures can be scraped on http://{at}/metrics"));
    }
    let router = Router::new()
        .route("/healthz", routing::get(async || health()))
        .route(
            "/metrics",
            routing::get(async |state: Api, headers: HeaderMap| {
                let apps = state.0.directory.read().clone();
                metrics(&state.0, &apps, &headers)
            }),
        )
        .route("/readyz", routing::get(async |state: Api| ready(&state.0)))
        .fallback(async || (StatusCode::NOT_FOUND, "there is /metrics, /healthz and /readyz\n"))
        .with_state(Arc::clone(shared));
    let service = TowerToHyperService::new(router);
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            // Cancel-safe: a connection is taken only when it is returned. Who finds no room waits in the backlog.
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => open.push(connection(stream, service.clone())),
                // It went away already, or descriptors are short.
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            // Cancel-safe: an answer that has ended is taken only when it is returned.
            Some(()) = open.next() => {}
        }
    }
}

/// One question and its answer.
async fn connection(stream: TcpStream, service: TowerToHyperService<Router>) {
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ)
        // It says `Connection: close`: there are not so many that one could be kept for a minute of silence.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever asked may have left, or reads too slowly.
    let _ = tokio::time::timeout(WHOLE, serving).await;
}
