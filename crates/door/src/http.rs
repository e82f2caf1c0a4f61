//! Requests through the door, HTTP/1.1.

use std::{
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::SendRequest,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Notify, OwnedSemaphorePermit, watch},
    time::{Instant, Sleep},
};

use crate::upstreams::{Upstreams, Work};

/// How long a request waits for a copy that may be given work.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection to a copy may take.
const CONNECT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is not used again: programs close theirs after some seconds, and a request
/// must not meet that.
const IDLE: Duration = Duration::from_secs(1);
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(30);
/// How long a client that has just connected may take for its first request when the door ends.
const FIRST: Duration = Duration::from_secs(2);
/// How long a client may be silent in the middle of a body.
const SILENCE: Duration = Duration::from_mins(1);
/// The longest head of a request, in bytes; a longer one is answered with 431.
const HEAD_MAX: usize = 64 << 10;
/// The most headers of a request; more are answered with 431.
const HEADERS_MAX: usize = 100;
/// How many idle connections are kept to a copy.
const IDLE_MAX: usize = 64;
/// A connection that failed for want of descriptors or ports of our own is tried again after so long.
const BREATH: Duration = Duration::from_millis(50);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connection to a copy that nobody uses just now.
pub(crate) struct Idle {
    sender: SendRequest<Through>,
    since: Instant,
}

impl Idle {
    /// Whether it is of no use any more. What still carries an answer stays until it has.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        self.sender.is_closed() || (self.sender.is_ready() && now.duration_since(self.since) >= IDLE)
    }
}

/// Drops connections to copies that nobody used for a while, for as long as the door lives: a program that serves one
/// connection at a time would hear no other one.
pub(crate) async fn tidy(upstreams: Rc<Upstreams>) {
    loop {
        tokio::time::sleep(IDLE / 4).await;
        let now = Instant::now();
        for copy in upstreams.copies() {
            copy.idle.borrow_mut().retain(|idle| !idle.is_old(now));
        }
    }
}

/// A client: where it comes from, and that it is counted as connected for as long as this is there.
#[derive(Clone)]
pub(crate) struct Peer {
    /// None: a unix socket.
    pub(crate) from: Option<IpAddr>,
    /// Whether it speaks TLS.
    pub(crate) secure: bool,
    pub(crate) _room: Rc<OwnedSemaphorePermit>,
}

/// Serves one connection of a client; when the door ends, what is in hand is finished, and sent.
pub(crate) async fn serve(
    client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    upstreams: Rc<Upstreams>,
    peer: Peer,
    mut ends: watch::Receiver<bool>,
) {
    let asked = Rc::new(Notify::new());
    let asks = Rc::clone(&asked);
    let service = hyper::service::service_fn(move |request| {
        let (upstreams, peer) = (Rc::clone(&upstreams), peer.clone());
        asks.notify_one();
        async move { Ok::<_, std::convert::Infallible>(pass(request, &upstreams, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // Its errors are the client's: it left, or spoke no HTTP.
    tokio::select! {
        biased;
        // Cancel-safe: it is gone on with below.
        _ = connection.as_mut() => return,
        // Its sender lives longer than any connection.
        _ = ends.wait_for(|ends| *ends) => {}
    }
    // Who has connected just now has his first request on the way. The permit of `asked` stays from the first one on.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = asked.notified() => {}
        () = tokio::time::sleep(FIRST) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Through> {
    let mut response = Response::new(Through::Text(Some(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

async fn pass(request: Request<Incoming>, upstreams: &Rc<Upstreams>, peer: Peer) -> Response<Through> {
    let deadline = Instant::now() + PATIENCE;
    let upgrade = upgrade_of(request.headers());
    let empty = request.body().is_end_stream();
    let repeatable = empty && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let (mut parts, body) = request.into_parts();
    if let Err(why) = prepare(&mut parts, &peer, upgrade.as_ref()) {
        return refusal(StatusCode::BAD_REQUEST, why);
    }
    let on_client = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let mut body = Some(if empty {
        Through::Text(None)
    } else {
        Through::body_of_client(body)
    });
    // A request that may be repeated is given to one more copy if the first died of it, or with it.
    let mut second_chance = repeatable;
    loop {
        let Some(work) = upstreams.take(deadline).await else {
            return refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "no instance is ready to answer; try again soon\n",
            );
        };
        let (mut sender, reused) = match connection(&work, repeatable).await {
            Ok(connection) => connection,
            Err(error) if is_shortage(&error) => {
                // Ours, not the copy's.
                drop(work);
                if Instant::now() >= deadline {
                    return refusal(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "too many connections; try again soon\n",
                    );
                }
                tokio::time::sleep(BREATH).await;
                continue;
            }
            Err(_) => {
                work.refused();
                continue;
            }
        };
        // Only what was not sent, or has no body, comes here twice.
        let mut head = Request::new(body.take().unwrap_or(Through::Text(None)));
        *head.method_mut() = parts.method.clone();
        *head.uri_mut() = parts.uri.clone();
        *head.headers_mut() = parts.headers.clone();
        let mut response = match sender.try_send_request(head).await {
            Ok(response) => response,
            Err(mut error) => {
                let unsent = error.take_message();
                let again = if unsent.is_some() || (reused && repeatable) {
                    // Nothing of it was sent, or the copy had closed a kept connection.
                    true
                } else {
                    std::mem::take(&mut second_chance)
                };
                if !again || Instant::now() >= deadline {
                    return refusal(
                        StatusCode::BAD_GATEWAY,
                        "the instance ended the connection without an answer\n",
                    );
                }
                if !reused {
                    // Another one, if there is another one.
                    work.refused();
                }
                body = unsent.map(Request::into_body);
                continue;
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(on_client) = on_client {
                tunnel(on_client, hyper::upgrade::on(&mut response), work, peer);
            }
            return response.map(Through::Pass);
        }
        without_hops(response.headers_mut(), None);
        let mut idle = work.copy.idle.borrow_mut();
        if idle.len() < IDLE_MAX {
            idle.push(Idle {
                sender,
                since: Instant::now(),
            });
        }
        drop(idle);
        return response.map(|body| Through::Guarded { body, _work: work });
    }
}

/// Whether a connection failed for want of something that the door itself has too little of.
pub(crate) fn is_shortage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    // ENFILE and EMFILE have no kind of their own.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
        || matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory)
}

/// A connection to the copy: a kept one that is surely free, or a new one.
///
/// The copy may be closing a kept one at this very moment, and then nobody knows whether it has seen the request. So
/// what must not be repeated gets a new one. The oldest kept one goes for it: a program that serves one connection at
/// a time would not hear the new one otherwise.
async fn connection(work: &Work, repeatable: bool) -> std::io::Result<(SendRequest<Through>, bool)> {
    let now = Instant::now();
    {
        let mut idle = work.copy.idle.borrow_mut();
        idle.retain(|idle| !idle.is_old(now));
        let usable = |idle: &Idle| idle.sender.is_ready();
        if repeatable {
            if let Some(at) = idle.iter().rposition(usable) {
                return Ok((idle.remove(at).sender, true));
            }
        } else if let Some(at) = idle.iter().position(usable) {
            idle.remove(at);
        }
    }
    let connect = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, work.copy.port));
    let stream = tokio::time::timeout(CONNECT, connect)
        .await
        .map_err(|_| std::io::ErrorKind::TimedOut)??;
    // A delay for nothing, if it cannot be switched off.
    let _ = stream.set_nodelay(true);
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    tokio::task::spawn_local(async move {
        // Its error reaches us through the request that it breaks.
        let _ = connection.with_upgrades().await;
    });
    Ok((sender, false))
}

/// The protocol that the client wants to change to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
        });
    headers.get(header::UPGRADE).filter(|_| wants).cloned()
}

/// Headers for one connection only do not travel (RFC 9110, 7.6.1).
fn without_hops(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|word| word.trim().parse().ok())
        // What says whom a message is for and where it ends is not the sender's to take away.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade.clone());
    }
}

/// Makes the head of a client's request one for a copy: origin form, HTTP/1.1, with a `Host`, and with what the copy
/// cannot see itself. Both `Content-Length` and `Transfer-Encoding`: hyper has taken the length away by now, and closes
/// the connection after the answer (RFC 9112, 6.1).
fn prepare(
    parts: &mut hyper::http::request::Parts,
    peer: &Peer,
    upgrade: Option<&HeaderValue>,
) -> Result<(), &'static str> {
    if parts.method == Method::CONNECT {
        return Err("this is no proxy for other servers\n");
    }
    let headers = &mut parts.headers;
    without_hops(headers, upgrade);
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && parts.version >= hyper::Version::HTTP_11) {
        return Err("a request needs exactly one `Host` header\n");
    }
    // Absolute form is for proxies; a copy gets the origin form, and the host that it names (RFC 9112, 3.2.2).
    if let Some(authority) = parts.uri.authority() {
        let host = authority.as_str();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let host = HeaderValue::from_str(host).map_err(|_| "the host of the request is none\n")?;
        headers.insert(header::HOST, host);
    } else if hosts == 0 {
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    if let Some(path) = parts.uri.path_and_query().cloned()
        && let Ok(uri) = hyper::Uri::builder().path_and_query(path).build()
    {
        parts.uri = uri;
    }
    parts.version = hyper::Version::HTTP_11;
    let protocol = HeaderValue::from_static(if peer.secure { "https" } else { "http" });
    let name = HeaderName::from_static("x-forwarded-proto");
    match peer.from {
        Some(from) => {
            headers.insert(name, protocol);
            if let Ok(from) = HeaderValue::from_str(&from.to_string()) {
                headers.append(HeaderName::from_static("x-forwarded-for"), from);
            }
        }
        // Over a unix socket comes another proxy of this machine, which knows better.
        None => {
            headers.entry(name).or_insert(protocol);
        }
    }
    Ok(())
}

/// Bytes both ways, once both sides have changed their protocol.
fn tunnel(client: hyper::upgrade::OnUpgrade, copy: hyper::upgrade::OnUpgrade, work: Work, peer: Peer) {
    tokio::task::spawn_local(async move {
        let _held = (work, peer);
        if let (Ok(client), Ok(copy)) = tokio::join!(client, copy) {
            let (mut client, mut copy) = (TokioIo::new(client), TokioIo::new(copy));
            // Whoever ends it ends it for both.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut copy).await;
        }
    });
}

/// What is passed on.
enum Through {
    /// Nothing, or a few words of ours.
    Text(Option<Bytes>),
    /// What comes in.
    Pass(Incoming),
    /// What a client sends, which must not be silent for too long.
    Timed {
        body: Incoming,
        /// Runs while the copy waits for the client, not while the client waits for the copy.
        silence: Pin<Box<Sleep>>,
        waits: bool,
    },
    /// An answer; its end is the end of the copy's work.
    Guarded { body: Incoming, _work: Work },
}

impl Through {
    fn body_of_client(body: Incoming) -> Self {
        Self::Timed {
            body,
            silence: Box::pin(tokio::time::sleep(SILENCE)),
            waits: false,
        }
    }
}

impl Body for Through {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match self.get_mut() {
            Self::Text(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Timed { body, silence, waits } => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    *waits = false;
                    frame
                }
                Poll::Pending => {
                    if !std::mem::replace(waits, true) {
                        silence.as_mut().reset(Instant::now() + SILENCE);
                    }
                    ready!(silence.as_mut().poll(cx));
                    return Poll::Ready(Some(Err("the client was silent for too long".into())));
                }
            },
            Self::Pass(body) | Self::Guarded { body, .. } => ready!(Pin::new(body).poll_frame(cx)),
        };
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Pass(body) | Self::Timed { body, .. } | Self::Guarded { body, .. } => body.is_end_stream(),
        }
    }
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Pass(body) | Self::Timed { body, .. } | Self::Guarded { body, .. } => body.size_hint(),
        }
    }
}
