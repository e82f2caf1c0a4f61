//! One connection over TCP, from the handshake to its end.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Method, Request},
    response::Response,
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
use upkeep_api::pem;

use super::{
    Role, Server,
    body::{Activity, Answering},
    front::{self, Way},
    health,
    limits::{Entry, Room},
    wire::Wire,
};
use crate::http::{
    exporter,
    gate::{Peer, is_here, place},
    local::no_room,
    stream::Stalled,
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
    let entry = {
        // This machine itself is no single place: proxies and tunnels come from there.
        let is_one = !is_here(from.ip());
        door.server.limits.enter(place(from.ip()), is_one)
    };
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
        Some(fingerprint) => match door.server.shared.certificates.holder_of(fingerprint) {
            None => return,
            holder => holder,
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
    // Boxed: a connection without TLS would take as much memory as one with it.
    speak(Box::new(tls), met, door, room).await;
}

/// Ends a connection so that what was said last arrives: what the other end has sent meanwhile is read, as a socket
/// that is closed with unread bytes in it takes back what it has sent.
async fn linger(mut wire: Wire<TcpStream>) {
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
        if server.shared.certificates.holder_of(fingerprint).is_none() {
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

async fn speak(
    wire: impl AsyncRead + AsyncWrite + Unpin + 'static,
    met: Met,
    door: Door,
    room: Room<IpAddr>,
) {
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
    let behind = Behind {
        router: server.router.clone(),
        role,
        peer,
        full,
    };
    let rules = server.rules.clone();
    let shared = Arc::clone(&server.shared);
    let answer = move |request: Request<Incoming>| {
        let behind = behind.clone();
        let rules = rules.borrow().clone();
        let shared = Arc::clone(&shared);
        async move {
            let answer = async |request| behind.answer(&shared, request).await;
            front::pass(&rules, way, request, answer).await
        }
    };
    let bounds = Bounds {
        is_second: Some(is_second),
        is_full: full.is_some(),
    };
    // At once: what goes on was begun by somebody who may not.
    let cut = revoked(&server, &mut held);
    // The listener has gone: the daemon ends, or the settings say so.
    let ending = async {
        let _ = open.changed().await;
    };
    hold(wire, answer, bounds, cut, ending).await;
    drop(room);
}

/// What a connection is held to.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Bounds {
    /// Whether HTTP/2 was agreed on; `None`: the first bytes tell.
    pub(in crate::http) is_second: Option<bool>,
    /// There is no room for it: it is told so, and ended.
    pub(in crate::http) is_full: bool,
}

/// Serves one connection within bounds: until it ends or takes too long, until `cut`, or until it has ended after
/// `ending`.
pub(in crate::http) async fn hold<A>(
    wire: impl AsyncRead + AsyncWrite + Unpin + 'static,
    answer: impl Fn(Request<Incoming>) -> A,
    bounds: Bounds,
    cut: impl Future<Output = ()>,
    ending: impl Future<Output = ()>,
) where
    A: Future<Output = Response> + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let stalled = Stalled::default();
    let (for_requests, for_streams) = (Arc::clone(&activity), stalled.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let busy = for_requests.begin();
        request.extensions_mut().insert(for_streams.clone());
        // Boxed: hyper keeps the room of what answers for as long as the connection lasts.
        let answer = Box::pin(answer(request));
        async move { Ok::<_, Infallible>(answer.await.map(|body| Answering::new(body, busy))) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEAD)
        .max_headers(HEADER_COUNT)
        .keep_alive(!bounds.is_full);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ASKED)
        .keep_alive_timeout(ASKED)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX));
    let builder = match bounds.is_second {
        Some(true) => builder.http2_only(),
        Some(false) => builder.http1_only(),
        None => builder,
    };
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(wire), service));
    let told = async {
        if bounds.is_full {
            tokio::time::sleep(TOLD).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // Whoever asked may have left, been too slow, or sent garbage: nobody is left to tell.
        _ = connection.as_mut() => return,
        () = activity.idle(IDLE) => {}
        () = told => return,
        () = cut => return,
        () = ending => {}
        // Its streams stay within their windows for ever if nobody closes them.
        () = stalled.heard() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_WORDS, connection).await;
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
            return no_room(why);
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
