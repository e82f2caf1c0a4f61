//! The web client, served where a browser asks for it: at `/`.
//!
//! Its files lie in the binary (`upkeep-assets`). They are open to everybody, as they tell nothing: who signs in is told
//! by `/v1`. Each has a route of its own, so that there is no path to play with. Names of files carry no version;
//! browsers keep them and ask each time whether they are still right (`no-cache`, `ETag`, 304).

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{self, MethodRouter},
};
use upkeep_api::error::Code;
use upkeep_assets::{ASSETS, Asset, INDEX};

use super::error::ApiError;
use crate::command::Refusal;

/// What the client may do in a browser: run its own modules and talk to the daemon that it came from. Nothing inline,
/// nothing from elsewhere, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every file carries besides.
const HEADERS: &[(header::HeaderName, &str)] = &[
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-cache"),
    (header::VARY, "accept-encoding"),
];

/// Where files are served, and `/`.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    ["/"].into_iter().chain(ASSETS.iter().map(|asset| asset.path))
}

/// What serves each of them.
pub(super) fn handler<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    // `HEAD` goes with `GET`.
    routing::get(serve)
}

async fn serve(request: Request<Body>) -> Response {
    let path = request.uri().path();
    let Some(asset) = upkeep_assets::find(path) else {
        // Only paths of the table are routed here.
        return ApiError(Refusal::new(Code::NotFound, format!("there is no `{path}`"))).into_response();
    };
    let mut response = answer(asset, request.method(), request.headers());
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    if asset.path == INDEX {
        let isolated = HeaderValue::from_static("same-origin");
        response
            .headers_mut()
            .insert("cross-origin-opener-policy", isolated);
    }
    response
}

fn answer(asset: &'static Asset, method: &Method, headers: &HeaderMap) -> Response {
    let tag = (header::ETAG, asset.tag);
    if is_known(headers, asset.tag) {
        return (StatusCode::NOT_MODIFIED, [tag]).into_response();
    }
    let kind = (header::CONTENT_TYPE, asset.media_type);
    if takes_gzip(headers) {
        let packed = (header::CONTENT_ENCODING, "gzip");
        return ([tag, kind, packed], asset.gzip).into_response();
    }
    if method == Method::HEAD {
        return [tag, kind].into_response();
    }
    match asset.plain() {
        Ok(bytes) => ([tag, kind], bytes).into_response(),
        Err(error) => {
            let text = format!("failed to unpack `{}`", asset.path);
            ApiError(Refusal::new(Code::Internal, text).because(&error)).into_response()
        }
    }
}

/// Whether the browser has this content already (RFC 9110, 13.1.2: compared weakly).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || weak(known) == weak(tag))
}

/// Whether `Accept-Encoding` allows gzip (RFC 9110, 12.5.3): by name or by `*`, and not with a weight of zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut by_star = false;
    for value in headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
    {
        for item in value.split(',') {
            let (name, weight) = item.split_once(';').unwrap_or((item, ""));
            let weight = weight
                .trim()
                .trim_start_matches(['q', 'Q'])
                .trim_start()
                .trim_start_matches('=');
            let wanted = weight.trim().parse::<f32>().map_or(true, |weight| weight > 0.0);
            match name.trim() {
                name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                    return wanted;
                }
                "*" => by_star = wanted,
                _ => {}
            }
        }
    }
    by_star
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn ask(path: &str, headers: &[(&str, &str)]) -> (Response, Vec<u8>) {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = serve(request.body(Body::empty()).expect("a request")).await;
        let body = std::mem::take(response.body_mut());
        let bytes = to_bytes(body, 1 << 20).await.expect("a body");
        (response, bytes.to_vec())
    }

    #[tokio::test]
    async fn the_index_is_sent_as_the_browser_takes_it() {
        let (plain, page) = ask("/", &[]).await;
        assert_eq!(plain.status(), 200);
        assert!(page.starts_with(b"<!doctype html>"));
        assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
        let (packed, bytes) = ask("/index.html", &[("accept-encoding", "br, gzip;q=0.5")]).await;
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(bytes.len() < page.len());
        for (response, name) in [(&plain, "plain"), (&packed, "packed")] {
            let of = |header: &str| response.headers()[header].to_str().expect("text").to_owned();
            assert_eq!(of("content-type"), "text/html; charset=utf-8", "{name}");
            assert!(
                of("content-security-policy").contains("frame-ancestors 'none'"),
                "{name}"
            );
            assert!(!of("content-security-policy").contains("unsafe"), "{name}");
            assert_eq!(of("x-content-type-options"), "nosniff", "{name}");
            assert_eq!(of("referrer-policy"), "no-referrer", "{name}");
            assert_eq!(of("cache-control"), "no-cache", "{name}");
            assert_eq!(of("vary"), "accept-encoding", "{name}");
        }
    }

    #[tokio::test]
    async fn what_the_browser_has_is_not_sent_again() {
        let (first, _) = ask("/src/main.js", &[]).await;
        let tag = first.headers()[header::ETAG].to_str().expect("text").to_owned();
        for known in [
            tag.clone(),
            format!("\"other\", {tag}"),
            tag.replace("W/", ""),
            "*".to_owned(),
        ] {
            let (again, body) = ask("/src/main.js", &[("if-none-match", &known)]).await;
            assert_eq!(again.status(), 304, "{known}");
            assert!(body.is_empty());
            assert_eq!(again.headers()[header::ETAG].to_str().ok(), Some(tag.as_str()));
            assert!(again.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        }
        let (other, _) = ask("/src/main.js", &[("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status(), 200);
    }

    #[test]
    fn gzip_is_sent_only_to_those_who_take_it() {
        let takes = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        assert!(!takes_gzip(&HeaderMap::new()));
        for yes in [
            "gzip",
            "br, GZIP",
            "*",
            "identity;q=0.2, gzip; q=1.0",
            "br;q=0, *;q=0.1",
        ] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip;q=0.0, *", "*;q=0", "identity"] {
            assert!(!takes(no), "{no}");
        }
    }
}
