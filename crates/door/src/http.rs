//! Requests through the door, HTTP/1.1.

use std::{net::IpAddr, pin::Pin, rc::Rc, time::Duration};

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
    time::Instant,
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
/// How many idle connections are kept to a copy.
const IDLE_MAX: usize = 64;

/// A connection to a copy that nobody uses just now.
pub(crate) struct Idle {
    sender: SendRequest<Through>,
    since: Instant,
}

/// Serves one connection of a client.
pub(crate) async fn serve(
    client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    upstreams: Rc<Upstreams>,
    from: Option<IpAddr>,
    secure: bool,
) {
    let service = hyper::service::service_fn(move |request| {
        let upstreams = Rc::clone(&upstreams);
        async move { Ok::<_, std::convert::Infallible>(pass(request, &upstreams, from, secure).await) }
    });
    // Its errors are the client's: it left, or spoke no HTTP.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades()
        .await;
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

async fn pass(
    request: Request<Incoming>,
    upstreams: &Rc<Upstreams>,
    from: Option<IpAddr>,
    secure: bool,
) -> Response<Through> {
    let deadline = Instant::now() + PATIENCE;
    let upgrade = upgrade_of(request.headers());
    let empty = request.body().is_end_stream();
    let repeatable = empty && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let (mut parts, body) = request.into_parts();
    prepare(&mut parts.headers, from, secure, upgrade.as_ref());
    // Absolute form is for proxies; a copy gets the origin form.
    if let Some(path) = parts.uri.path_and_query().cloned()
        && let Ok(uri) = hyper::Uri::builder().path_and_query(path).build()
    {
        parts.uri = uri;
    }
    parts.version = hyper::Version::HTTP_11;
    let on_client = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let mut body = Some(body);
    loop {
        let Some(work) = upstreams.take(deadline).await else {
            return refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "no instance is ready to answer; try again soon\n",
            );
        };
        let Ok((mut sender, reused)) = connection(&work).await else {
            work.refused();
            continue;
        };
        let next = if empty {
            Through::Text(None)
        } else {
            // Only what has no body comes here twice.
            body.take().map_or(Through::Text(None), Through::Pass)
        };
        let mut head = Request::new(next);
        *head.method_mut() = parts.method.clone();
        *head.uri_mut() = parts.uri.clone();
        *head.headers_mut() = parts.headers.clone();
        let answer = sender.send_request(head).await;
        let mut response = match answer {
            Ok(response) => response,
            // The copy had closed a kept connection: nothing of this request was looked at.
            Err(_) if reused && repeatable && Instant::now() < deadline => continue,
            Err(_) => {
                return refusal(
                    StatusCode::BAD_GATEWAY,
                    "the instance ended the connection without an answer\n",
                );
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(on_client) = on_client {
                tunnel(on_client, hyper::upgrade::on(&mut response), work);
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

/// A connection to the copy: a kept one that is surely free, or a new one.
async fn connection(work: &Work) -> std::io::Result<(SendRequest<Through>, bool)> {
    let now = Instant::now();
    {
        let mut idle = work.copy.idle.borrow_mut();
        idle.retain(|idle| !idle.sender.is_closed());
        let usable = |idle: &Idle| idle.sender.is_ready() && now.duration_since(idle.since) < IDLE;
        if let Some(at) = idle.iter().rposition(usable) {
            return Ok((idle.swap_remove(at).sender, true));
        }
        // What is too old and free can go; what still carries an answer stays until it has.
        idle.retain(|idle| !idle.sender.is_ready() || now.duration_since(idle.since) < IDLE);
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

fn prepare(headers: &mut HeaderMap, from: Option<IpAddr>, secure: bool, upgrade: Option<&HeaderValue>) {
    without_hops(headers, upgrade);
    if let Some(from) = from
        && let Ok(from) = HeaderValue::from_str(&from.to_string())
    {
        headers.append(HeaderName::from_static("x-forwarded-for"), from);
    }
    let protocol = if secure { "https" } else { "http" };
    headers
        .entry(HeaderName::from_static("x-forwarded-proto"))
        .or_insert(HeaderValue::from_static(protocol));
}

/// Bytes both ways, once both sides have changed their protocol.
fn tunnel(client: hyper::upgrade::OnUpgrade, copy: hyper::upgrade::OnUpgrade, work: Work) {
    tokio::task::spawn_local(async move {
        let _work = work;
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
    /// An answer; its end is the end of the copy's work.
    Guarded { body: Incoming, _work: Work },
}

impl Body for Through {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Text(text) => std::task::Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Pass(body) | Self::Guarded { body, .. } => Pin::new(body).poll_frame(cx),
        }
    }
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Pass(body) | Self::Guarded { body, .. } => body.is_end_stream(),
        }
    }
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Pass(body) | Self::Guarded { body, .. } => body.size_hint(),
        }
    }
}
