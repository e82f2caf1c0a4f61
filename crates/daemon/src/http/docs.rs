//! `/docs`: the reference of the API, one page.
//!
//! Its pages lie in the binary as packed Markdown ([`upkeep_docs::own`]). The page is made of them when somebody asks for the
//! first time, on a thread that may block, and kept as gzip: until then it costs no memory, and then some dozens of
//! kilobytes. It is open to everybody, as it tells nothing of this machine.

use std::sync::OnceLock;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{self, MethodRouter},
};
use upkeep_api::error::Code;
use upkeep_docs::own::Packed;

use super::error::ApiError;
use crate::command::Refusal;

/// Where it is served.
pub(super) const PATHS: [&str; 2] = ["/docs", "/docs/"];

static PAGE: OnceLock<Result<Packed, String>> = OnceLock::new();

/// What serves it; `HEAD` goes with `GET`, whose body axum then leaves out.
pub(super) fn handler<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    routing::get(serve)
}

fn page() -> &'static Result<Packed, String> {
    PAGE.get_or_init(|| {
        let made =
            Packed::new().map_err(|troubles| troubles.first().map(ToString::to_string).unwrap_or_default());
        // Megabytes were used for a moment, and the allocator would keep them for this thread.
        upkeep_sys::own_pages::give_back_heap();
        made
    })
}

async fn serve(headers: HeaderMap) -> Response {
    let made = tokio::task::spawn_blocking(move || answer(page(), &headers)).await;
    made.unwrap_or_else(|_| failed("the page could not be made"))
}

fn failed(why: &str) -> Response {
    ApiError(Refusal::new(Code::Internal, "failed to make the reference").because(&why)).into_response()
}

fn answer(page: &Result<Packed, String>, headers: &HeaderMap) -> Response {
    let page = match page {
        Ok(page) => page,
        Err(why) => return failed(why),
    };
    let mut response = if is_known(headers, &page.tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if takes_gzip(headers) {
        ([(header::CONTENT_ENCODING, "gzip")], page.gzip.clone()).into_response()
    } else {
        match page.plain() {
            Ok(html) => html.into_response(),
            Err(error) => return failed(&error.to_string()),
        }
    };
    let tag = HeaderValue::from_str(&page.tag);
    let policy = HeaderValue::from_str(&page.policy);
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept-encoding"),
    ];
    let out = response.headers_mut();
    for (name, value) in fixed {
        out.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [(header::ETAG, tag), (header::CONTENT_SECURITY_POLICY, policy)] {
        match value {
            Ok(value) => drop(out.insert(name, value)),
            Err(error) => return failed(&error.to_string()),
        }
    }
    response
}

/// Whether the browser has this page already (RFC 9110, 13.1.2: compared weakly).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

/// Whether `Accept-Encoding` names gzip, and not with a weight of zero (RFC 9110, 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| {
            let (name, weight) = item.split_once(';').unwrap_or((item, ""));
            let weight = weight.split_once('=').map_or("1", |(_, weight)| weight).trim();
            name.trim().eq_ignore_ascii_case("gzip") && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
        })
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    fn headers(list: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    async fn body(response: Response) -> Vec<u8> {
        to_bytes(response.into_body(), 8 << 20)
            .await
            .expect("a body")
            .to_vec()
    }

    #[tokio::test]
    async fn the_reference_is_sent_packed_plain_or_not_at_all() {
        let plain = answer(page(), &HeaderMap::new());
        assert_eq!(plain.status(), StatusCode::OK);
        let policy = plain.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .expect("text")
            .to_owned();
        assert!(
            policy.starts_with("default-src 'none'") && policy.ends_with("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        let tag = plain.headers()[header::ETAG].clone();
        let html = String::from_utf8(body(plain).await).expect("text");
        assert!(html.starts_with("<!doctype html>"), "{}", &html[..80]);

        let packed = answer(page(), &headers(&[(header::ACCEPT_ENCODING, "br, gzip;q=0.5")]));
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(body(packed).await[..2], [0x1f, 0x8b]);
        let refused = answer(page(), &headers(&[(header::ACCEPT_ENCODING, "gzip;q=0")]));
        assert!(!refused.headers().contains_key(header::CONTENT_ENCODING));

        let mut known = HeaderMap::new();
        known.insert(header::IF_NONE_MATCH, tag);
        let same = answer(page(), &known);
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
        assert!(body(same).await.is_empty());
    }

    #[test]
    fn what_cannot_be_made_is_told() {
        let response = answer(&Err("broken".to_owned()), &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
