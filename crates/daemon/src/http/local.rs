//! The unix socket.
//!
//! The kernel tells who is at the other end. The owner of the daemon and root are served without bounds: nothing that
//! others do locks them out, and a pager that rests for an hour in the midst of a log is theirs to use. Other users are
//! let in as soon as one of them has a role; then any user of the machine can connect, and so they are held within the
//! same bounds as strangers over TCP: so many connections of one user and of all, so long for a request to arrive and
//! for an answer to be taken.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Request, header},
    response::{IntoResponse, Response},
};
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};
use upkeep_api::error::Code;

use super::{
    Shared,
    error::ApiError,
    gate::Peer,
    tcp::{
        Bounds, hold, in_time,
        limits::{Entry, Limits, Room},
        wire::Wire,
    },
};
use crate::{command::Refusal, tasks::Task};

/// After a connection that could not be taken.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// What the socket knows of its connections.
#[derive(Clone, Debug)]
struct Door {
    router: Router,
    limits: Arc<Limits<u32>>,
    stopped: watch::Receiver<bool>,
}

/// Serves until `stopped`, then waits for the last answers. Runs in a local set.
pub(super) async fn serve(
    listener: UnixListener,
    shared: Arc<Shared>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let door = Door {
        router,
        limits: Limits::new(),
        stopped: stopped.clone(),
    };
    loop {
        let accepted = tokio::select! {
            // Cancel-safe: a connection is taken only when it is returned.
            accepted = listener.accept() => accepted,
            // A dropped sender means the same.
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let Ok((stream, _)) = accepted else {
            // It went away already, or descriptors are short.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        let peer = Peer::Local { uid };
        match uid.filter(|uid| shared.access.is_owner(*uid)) {
            Some(_) => {
                let room = door.limits.welcome();
                Task::spawn_short("connection", own(stream, peer, door.clone(), room));
            }
            None => {
                // Whom the kernel cannot name shares the room of those without a name.
                let (room, full) = match door.limits.enter(uid.unwrap_or(u32::MAX), true) {
                    Entry::Room(room) => (room, None),
                    Entry::Full(room, why) => (room, Some(why)),
                    Entry::None => continue,
                };
                Task::spawn_short("connection", others(stream, peer, full, door.clone(), room));
            }
        }
    }
    drop(listener);
    door.limits.empty().await;
}

async fn ask(router: Router, peer: Peer, mut request: Request<Body>) -> Response {
    request.extensions_mut().insert(ConnectInfo(peer));
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A connection of the owner or of root.
async fn own(stream: UnixStream, peer: Peer, door: Door, room: Room<u32>) {
    let Door {
        router, mut stopped, ..
    } = door;
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = ask(router.clone(), peer.clone(), request.map(Body::new));
        async move { Ok::<_, Infallible>(asked.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // Whoever asked may have left, or sent garbage: nobody is left to tell.
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    // How long it may take is for whoever ends the thread to say.
    let _ = connection.await;
    drop(room);
}

/// A connection of anybody else.
async fn others(stream: UnixStream, peer: Peer, full: Option<&'static str>, door: Door, room: Room<u32>) {
    let Door {
        router, mut stopped, ..
    } = door;
    let answer = move |request: Request<Incoming>| {
        let (router, peer) = (router.clone(), peer.clone());
        async move {
            match full {
                Some(why) => no_room(why),
                None => in_time(request, async |request| ask(router, peer, request).await).await,
            }
        }
    };
    let bounds = Bounds {
        is_second: None,
        is_full: full.is_some(),
    };
    let ending = async {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    hold(Wire::new(stream), answer, bounds, std::future::pending(), ending).await;
    drop(room);
}

/// What is said to whom there is no room for.
pub(super) fn no_room(why: &str) -> Response {
    let mut refusal = Refusal::new(Code::Unavailable, why).hint("close some, or try again in a moment");
    refusal.retry_after_s = Some(5);
    let mut response = ApiError(refusal).into_response();
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
