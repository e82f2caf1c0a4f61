//! Refusals as answers: the last step, where they become status and body.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use upkeep_api::error::Code;

use crate::{command::Refusal, main_loop::note};

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) Refusal);

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

/// Refusals that the framework makes by itself (a body that is too large, a path that is no text), in our form.
pub(super) async fn in_our_form(response: Response) -> Response {
    let status = response.status();
    let is_ours = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        _ if status.is_server_error() => Code::Internal,
        _ => Code::BadRequest,
    };
    // What is possible instead (RFC 9110, 15.5.6).
    let allow = response.headers().get(header::ALLOW).cloned();
    let text = axum::body::to_bytes(response.into_body(), 4096)
        .await
        .unwrap_or_default();
    let message = match String::from_utf8_lossy(&text).into_owned() {
        text if text.is_empty() => format!("failed to read the request: {status}"),
        text => text,
    };
    let mut response = ApiError(Refusal::new(code, message)).into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// Counts requests of this daemon that went wrong.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let request_id = format!(
            "{:x}-{:x}",
            std::process::id(),
            REQUESTS.fetch_add(1, Ordering::Relaxed)
        );
        let code = self.0.code;
        // That there is no room is no fault of ours, and strangers must not fill the log with it.
        if code == Code::Internal || (code == Code::Unavailable && self.0.cause.is_some()) {
            let cause = self.0.cause.as_deref().unwrap_or("nothing else is known");
            note(&format!(
                "request {request_id} failed ({}): {}; cause: {cause}",
                code.status(),
                self.0.message
            ));
        }
        let retry_after = self.0.retry_after_s;
        let body = self.0.body(request_id);
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
