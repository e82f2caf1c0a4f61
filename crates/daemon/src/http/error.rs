//! Refusals as answers: the last step, where they become status and body.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::{
    http::{StatusCode, header},
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
        if matches!(code, Code::Internal | Code::Unavailable) {
            note(&format!("request {request_id} failed: {:?}", self.0));
        }
        let body = self.0.body(request_id);
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
    }
}
