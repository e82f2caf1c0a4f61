//! What stands before the router on TCP: which name was asked for, and which web page asks.
//!
//! A page of another place must not reach the API of this machine by way of its visitor's browser. Two things stop it.
//! The host that a request asks for must be one of ours ([`Rules::is_ours`]): a name that its owner has led to our address
//! (DNS rebinding) is none. And a request that names the page it comes from (`Origin`) must come from our own, or from
//! one that `web.origins` lists; only those are told so by CORS headers. There are no cookies: a browser sends nothing
//! by itself that would let it in.
//!
//! Who asks is told by the gate behind.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use hyper::body::Incoming;
use upkeep_api::error::Code;
use upkeep_model::settings::Web;

use super::body::{Timed, time_for};
use crate::{command::Refusal, http::error::ApiError};

/// What holds for requests; it changes with the settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Names and addresses of ours, in lower case.
    names: BTreeSet<String>,
    origins: BTreeSet<String>,
}

impl Rules {
    /// `host`: the name of this machine.
    pub(super) fn new(web: &Web, host: &str) -> Self {
        let names = web.names.iter().map(|name| name.as_str().to_owned());
        let own = [host.to_ascii_lowercase(), "localhost".to_owned()];
        Self {
            names: names.chain(own).filter(|name| !name.is_empty()).collect(),
            origins: web
                .origins
                .iter()
                .map(|origin| origin.as_str().to_owned())
                .collect(),
        }
    }

    /// Whether a host, as a request names it, is this machine. `reached`: the address that the request came in by.
    fn is_ours(&self, host: &str, reached: IpAddr) -> bool {
        let name = name_of(host);
        if let Ok(address) = name.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback()
                || address == reached.to_canonical()
                || self.names.contains(&address.to_string());
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.names.contains(&name) || name.ends_with(".localhost")
    }
}

/// A host without its port and brackets.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(name, _)| name);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// How a connection came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// Our end of it.
    pub(super) reached: SocketAddr,
    pub(super) encrypted: bool,
}

/// The host that a request asks for: one, and the same wherever it stands.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
    let wrong = |why: &str| Err(Refusal::new(Code::BadRequest, format!("refused: {why}")));
    let mut hosts = headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return wrong("the header `Host` is there twice");
    }
    let written = match first.map(|value| value.to_str()) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => return wrong("the header `Host` is no text"),
    };
    let asked = uri.authority().map(axum::http::uri::Authority::as_str);
    match (asked, written) {
        (Some(asked), _) if asked.contains('@') => wrong("the address has a user in it"),
        (Some(asked), Some(written)) if !asked.eq_ignore_ascii_case(written) => {
            wrong("the address and the header `Host` differ")
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => wrong("there is no header `Host`"),
    }
}

/// The page that a request comes from, if it may ask: `Ok(None)` where none is named.
fn origin<'a>(
    headers: &'a HeaderMap,
    host: &str,
    way: Way,
    rules: &Rules,
) -> Result<Option<&'a HeaderValue>, Refusal> {
    let Some(value) = headers.get(header::ORIGIN) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let scheme = if way.encrypted { "https" } else { "http" };
    let is_own = text
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix("://"))
        .is_some_and(|from| from.eq_ignore_ascii_case(host));
    let twice = headers.get_all(header::ORIGIN).iter().nth(1).is_some();
    if !twice && (is_own || rules.origins.contains(text)) {
        return Ok(Some(value));
    }
    Err(Refusal::new(
        Code::Forbidden,
        format!(
            "refused: the page `{}` may not use this machine",
            text.escape_debug()
        ),
    )
    .hint("`web.origins` in the settings lists the pages that may"))
}

/// Whether a browser asks what a page may do.
fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a page may send and read, told for ten minutes.
const ALLOWED: [(HeaderName, &str); 3] = [
    (
        header::ACCESS_CONTROL_ALLOW_METHODS,
        "GET, POST, PUT, PATCH, DELETE",
    ),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "authorization, content-type, accept, if-match, if-none-match, idempotency-key, last-event-id",
    ),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
];

/// The browser's leave for pages of the internet to reach a private network (WICG, Private Network Access).
const NETWORK_ASKED: HeaderName = HeaderName::from_static("access-control-request-private-network");
const NETWORK_ALLOWED: HeaderName = HeaderName::from_static("access-control-allow-private-network");

fn preflight(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    for (name, value) in ALLOWED {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    if headers.contains_key(NETWORK_ASKED) {
        let allowed = HeaderValue::from_static("true");
        response.headers_mut().insert(NETWORK_ALLOWED, allowed);
    }
    response
}

/// What every answer over TCP says to browsers. What a handler has said already stands.
const ALWAYS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// What a page of another place may read of an answer.
const EXPOSED: &str = "etag, location, retry-after, link, content-disposition";

fn finish(response: &mut Response, origin: Option<&HeaderValue>) {
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let exposed = HeaderValue::from_static(EXPOSED);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// Lets a request through to `behind`, or refuses it.
pub(super) async fn pass(
    rules: &Rules,
    way: Way,
    request: Request<Incoming>,
    behind: impl AsyncFnOnce(Request<Body>) -> Response,
) -> Response {
    let headers = request.headers();
    let host = match host(request.uri(), headers) {
        Ok(host) if rules.is_ours(host, way.reached.ip()) => host.to_owned(),
        Ok(host) => {
            let why = format!("refused: this machine is not known as `{}`", host.escape_debug());
            let refusal = Refusal::new(Code::Forbidden, why)
                .hint("`web.names` in the settings lists the names of this machine");
            return refused(refusal);
        }
        Err(refusal) => return refused(refusal),
    };
    let origin = match origin(headers, &host, way, rules) {
        Ok(origin) => origin.cloned(),
        Err(refusal) => return refused(refusal),
    };
    if is_preflight(request.method(), headers) {
        let mut response = preflight(headers);
        finish(&mut response, origin.as_ref());
        return response;
    }
    let mut response = in_time(request, behind).await;
    finish(&mut response, origin.as_ref());
    response
}

/// Has a body arrive in time.
pub(in crate::http) async fn in_time(
    request: Request<Incoming>,
    behind: impl AsyncFnOnce(Request<Body>) -> Response,
) -> Response {
    let late = Arc::new(AtomicBool::new(false));
    let length = hyper::body::Body::size_hint(request.body()).exact();
    let time = time_for(length);
    let request = request.map(|body| Body::new(Timed::new(body, time, Arc::clone(&late))));
    let mut response = behind(request).await;
    if late.load(Ordering::Relaxed) {
        let why = format!(
            "refused: the body took longer than {} s to arrive",
            time.as_secs()
        );
        response = ApiError(Refusal::new(Code::BadRequest, why)).into_response();
        // The rest of it may still come.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn refused(refusal: Refusal) -> Response {
    let mut response = ApiError(refusal).into_response();
    finish(&mut response, None);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let web = Web {
            names: vec![
                "web1.example.org".parse().expect("a name"),
                "192.0.2.7".parse().expect("an address"),
            ],
            origins: vec!["https://panel.example.org".parse().expect("an origin")],
            ..Web::default()
        };
        Rules::new(&web, "Web1")
    }

    const WAY: Way = Way {
        reached: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)), 9616),
        encrypted: true,
    };

    #[test]
    fn only_our_own_names_are_ours() {
        for host in [
            "web1.example.org",
            "WEB1.example.org.:9616",
            "web1",
            "localhost:9616",
            "panel.localhost",
            "127.0.0.1",
            "127.8.8.8:1",
            "[::1]:9616",
            "10.0.0.5:9616",
            "[::ffff:10.0.0.5]",
            "192.0.2.7:443",
        ] {
            assert!(rules().is_ours(host, WAY.reached.ip()), "{host}");
        }
        for host in [
            "evil.example",
            "web1.example.org.evil.example",
            "10.0.0.6",
            "localhost.evil.example",
            "",
            ":9616",
            "[",
            "127.0.0.1.evil.example",
        ] {
            assert!(!rules().is_ours(host, WAY.reached.ip()), "{host}");
        }
    }

    fn headers(list: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_request_has_one_host() {
        let uri = |text: &str| text.parse::<Uri>().expect("an address");
        let one = headers(&[(header::HOST, "a")]);
        assert_eq!(host(&uri("/"), &one).expect("one"), "a");
        assert_eq!(host(&uri("http://a/"), &one).expect("the same"), "a");
        assert_eq!(host(&uri("https://a/"), &headers(&[])).expect("HTTP/2"), "a");
        for (at, list) in [
            ("/", headers(&[])),
            ("/", headers(&[(header::HOST, "a"), (header::HOST, "a")])),
            ("http://b/", one.clone()),
            ("http://u@a/", headers(&[])),
        ] {
            assert!(host(&uri(at), &list).is_err(), "{at} {list:?}");
        }
    }

    #[test]
    fn pages_of_other_places_are_refused() {
        let asks = |list: &[(HeaderName, &'static str)], encrypted| {
            let way = Way { encrypted, ..WAY };
            origin(&headers(list), "web1:9616", way, &rules()).map(|origin| origin.is_some())
        };
        assert_eq!(asks(&[], true), Ok(false));
        assert_eq!(asks(&[(header::ORIGIN, "https://web1:9616")], true), Ok(true));
        assert_eq!(
            asks(&[(header::ORIGIN, "https://panel.example.org")], true),
            Ok(true)
        );
        for page in [
            "https://evil.example",
            "null",
            "http://web1:9616",
            "https://web1",
            "https://web1:9616.evil.example",
            "https://panel.example.org.evil.example",
            "",
        ] {
            assert!(asks(&[(header::ORIGIN, page)], true).is_err(), "{page}");
        }
        assert_eq!(asks(&[(header::ORIGIN, "http://web1:9616")], false), Ok(true));
        let twice = [
            (header::ORIGIN, "https://web1:9616"),
            (header::ORIGIN, "https://evil.example"),
        ];
        assert!(asks(&twice, true).is_err());
    }
}
