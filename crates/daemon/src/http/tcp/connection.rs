//! One connection over TCP, from the handshake to its end.

use std::{convert::Infallible, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Method, Request, header},
    response::{IntoResponse, Response},
};
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use upkeep_api::{error::Code, pem};

use super::{
    Role, Server,
    body::{Activity, Answering},
    front::{self, Way},
    health,
    limits::{Entry, Room},
    wire::Wire,
};
use crate::{
    command::Refusal,
    http::{
        error::ApiError,
        exporter,
        gate::{Peer, place},
    },
};

/// How long TLS may take to agree.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a request may take to say what it wants; and how long a connection of HTTP/1.1 may say nothing.
const HEADERS: Duration = Duration::from_secs(30);
/// How long a connection of HTTP/2 may be there for nothing.
const IDLE: Duration = Duration::from_mins(1);
/// How often HTTP/2 asks whether the other end is there, and how long it waits for an answer.
const ASKED: Duration = Duration::from_secs(30);
/// How long answers may take to end when they are asked to.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long an alert may take to arrive.
const LINGER: Duration = Duration::from_secs(1);
/// So many pieces are read meanwhile.
const LINGER_READS: u32 = 32;
/// How long somebody may take to hear that there is no room.
const TOLD: Duration = Duration::from_secs(5);
/// Longest head of a request.
const HEAD: usize = 64 << 10;
/// So many headers it may have.
const HEADER_COUNT: usize = 100;
/// Requests under way on one connection.
const STREAMS: u32 = 128;

/// What a listener knows of its connections.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) server: Rc<Server>,
    pub(super) role: Role,
    pub(super) encrypted: bool,
    /// Ends when the listener does.
    pub(super) open: watch::Receiver<()>,
}

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, from: SocketAddr, door: Door) {
    // The kernel finds out whether the other end is still there; a small answer is sent at once.
    keep_alive(&stream);
    let Ok(reached) = stream.local_addr() else {
        return;
    };
    let entry = door.server.limits.enter(place(from.ip()));
    let (room, full) = match entry {
        Entry::Room(room) => (room, None),
        Entry::Full(room, why) => (room, Some(why)),
        Entry::None => return,
    };
    let wire = Wire::new(stream);
    if !door.encrypted {
        let peer = Peer::Remote {
            address: from.ip(),
            certificate: None,
        };
        let way = Way {
            reached,
            encrypted: false,
        };
        let met = Met {
            peer,
            held: None,
            way,
            full,
            is_second: false,
        };
        return speak(wire, met, door, room).await;
    }
    let Some(acceptor) = door.server.shared.certificates.acceptor() else {
        return;
    };
    let mut changes = door.server.shared.certificates.changes();
    // What is so now is judged below.
    changes.mark_unchanged();
    let tls = match timeout(HANDSHAKE, acceptor.accept(wire).into_fallible()).await {
        Ok(Ok(tls)) => tls,
        // Garbage, an old version, a certificate that is none of ours: the other end was told by an alert.
        Ok(Err((_, wire))) => return linger(wire).await,
        Err(_) => return,
    };
    let (_, session) = tls.get_ref();
    let is_second = session.alpn_protocol() == Some(b"h2");
    let shown = session.peer_certificates().and_then(<[_]>::first);
    let fingerprint = shown.map(|certificate| pem::fingerprint(certificate));
    let certificate = match &fingerprint {
        None => None,
        // Revoked in this very moment.
        Some(fingerprint) => match door.server.shared.certificates.name_of(fingerprint) {
            None => return,
            name => name,
        },
    };
    let peer = Peer::Remote {
        address: from.ip(),
        certificate,
    };
    let way = Way {
        reached,
        encrypted: true,
    };
    let held = fingerprint.map(|fingerprint| (fingerprint, changes));
    let met = Met {
        peer,
        held,
        way,
        full,
        is_second,
    };
    speak(tls, met, door, room).await;
}

/// Ends a connection so that what was said last arrives: what the other end has sent meanwhile is read, as a socket
/// that is closed with unread bytes in it takes back what it has sent.
async fn linger(mut wire: Wire) {
    // It may be gone already.
    let _ = wire.shutdown().await;
    let rest = async {
        let mut buffer = [0; 4096];
        for _ in 0..LINGER_READS {
            if !matches!(wire.read(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
    };
    // Whoever goes on talking is not listened to.
    let _ = timeout(LINGER, rest).await;
}

/// A dead peer is found out within two minutes.
fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    // Where the kernel refuses, limits of time hold all the same.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_mins(1));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15));
    let _ = sockopt::set_tcp_keepcnt(stream, 4);
}

type Held = Option<(String, watch::Receiver<u64>)>;

/// Waits until the certificate that a connection was opened with is none of ours any more.
async fn revoked(server: &Server, held: &mut Held) {
    let Some((fingerprint, changes)) = held else {
        return std::future::pending().await;
    };
    // It may end by time as well.
    const LOOK: Duration = Duration::from_mins(1);
    loop {
        if server.shared.certificates.name_of(fingerprint).is_none() {
            return;
        }
        if let Ok(Err(_)) = timeout(LOOK, changes.changed()).await {
            return std::future::pending().await;
        }
    }
}

/// What a connection has told of itself before its first request.
struct Met {
    peer: Peer,
    held: Held,
    way: Way,
    /// Why there is no room for it.
    full: Option<&'static str>,
    /// HTTP/2 was agreed on.
    is_second: bool,
}

async fn speak(wire: impl AsyncRead + AsyncWrite + Unpin + 'static, met: Met, door: Door, room: Room) {
    let Met {
        peer,
        mut held,
        way,
        full,
        is_second,
    } = met;
    let Door {
        server,
        role,
        mut open,
        ..
    } = door;
    let activity = Arc::new(Activity::default());
    let behind = Behind {
        router: server.router.clone(),
        role,
        peer,
        full,
    };
    let rules = server.rules.clone();
    let for_requests = Arc::clone(&activity);
    let shared = Arc::clone(&server.shared);
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = for_requests.begin();
        let behind = behind.clone();
        let rules = rules.borrow().clone();
        let shared = Arc::clone(&shared);
        async move {
            let answer = async |request| behind.answer(&shared, request).await;
            let response = front::pass(&rules, way, request, answer).await;
            Ok::<_, Infallible>(response.map(|body| Answering::new(body, busy)))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEAD)
        .max_headers(HEADER_COUNT)
        .keep_alive(full.is_none());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ASKED)
        .keep_alive_timeout(ASKED)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX));
    let builder = if is_second {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    let connection = builder.serve_connection(TokioIo::new(wire), service);
    let mut connection = std::pin::pin!(connection);
    let told = async {
        match full {
            Some(_) => tokio::time::sleep(TOLD).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Whoever asked may have left, been too slow, or sent garbage: nobody is left to tell.
        _ = connection.as_mut() => return,
        () = activity.idle(IDLE) => {}
        () = told => return,
        // At once: what goes on was begun by somebody who may not.
        () = revoked(&server, &mut held) => return,
        // The listener has gone: the daemon ends, or the settings say so.
        _ = open.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_WORDS, connection).await;
    drop(room);
}

/// What stands behind the front.
#[derive(Clone, Debug)]
struct Behind {
    router: Router,
    role: Role,
    peer: Peer,
    full: Option<&'static str>,
}

impl Behind {
    async fn answer(self, shared: &Arc<crate::http::Shared>, mut request: Request<Body>) -> Response {
        if let Some(why) = self.full {
            let mut refusal =
                Refusal::new(Code::Unavailable, why).hint("close some, or try again in a moment");
            refusal.retry_after_s = Some(5);
            let mut response = ApiError(refusal).into_response();
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        // Load balancers ask who cannot have a token.
        if is_read && request.uri().path() == "/healthz" {
            return exporter::health();
        }
        if self.role == Role::Pm2Health {
            return health::answer(shared, &self.peer, request).await;
        }
        request.extensions_mut().insert(ConnectInfo(self.peer));
        match TowerToHyperService::new(self.router).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
