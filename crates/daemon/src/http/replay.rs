//! `Idempotency-Key`: a call that is sent twice is done once.
//!
//! A client that lost the answer sends the same call with the same key again and gets the first answer, with the header
//! `Idempotent-Replayed: true`. While the first is still at work the second waits for nothing: it is a conflict. The
//! same key with another call is an error. Keys belong to their principal. Answers are kept in memory for a day, the
//! newest of them; a daemon that was restarted has forgotten them, which is said in the reference.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use ring::digest;
use upkeep_api::{error::Code, routes::Route};
use upkeep_sys::clock;

use super::{BODY_MAX, error::ApiError};
use crate::{access::Known, command::Refusal};

/// The header of the request.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The longest key, in bytes.
const KEY_MAX: usize = 200;
/// How long answers are kept, ms.
const KEPT_MS: u64 = 24 * 3600 * 1000;
/// And how many; the oldest go first.
const ANSWERS: usize = 512;
/// And of one principal.
const OF_ONE: usize = 128;
/// Longer answers are not kept: the key then tells only that the call was done.
const ANSWER_MAX: usize = 256 << 10;

type Print = [u8; 32];

#[derive(Clone, Debug)]
enum Stage {
    /// At work.
    Begun,
    Done {
        status: StatusCode,
        kind: Option<HeaderValue>,
        body: Option<Bytes>,
    },
}

#[derive(Clone, Debug)]
struct Kept {
    at_ms: u64,
    call: Print,
    state: Stage,
}

/// Answers by principal and key.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: Mutex<HashMap<(String, String), Kept>>,
}

/// What a key says of a call.
enum Found {
    New,
    Same(Stage),
    Other,
    Full,
}

impl Answers {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Kept>> {
        self.kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn begin(&self, key: &(String, String), call: Print, now_ms: u64) -> Found {
        let mut kept = self.lock();
        kept.retain(|_, one| now_ms < one.at_ms + KEPT_MS);
        if let Some(known) = kept.get(key) {
            return if known.call == call {
                Found::Same(known.state.clone())
            } else {
                Found::Other
            };
        }
        // Nobody pushes out the answers of others.
        let own = kept.keys().filter(|(who, _)| *who == key.0).count();
        if kept.len() >= ANSWERS || own >= OF_ONE {
            let done = kept.iter().filter(|((who, _), one)| {
                matches!(one.state, Stage::Done { .. }) && (own < OF_ONE || *who == key.0)
            });
            let Some(oldest) = done.min_by_key(|(_, one)| one.at_ms).map(|(key, _)| key.clone()) else {
                return Found::Full;
            };
            kept.remove(&oldest);
        }
        kept.insert(
            key.clone(),
            Kept {
                at_ms: now_ms,
                call,
                state: Stage::Begun,
            },
        );
        Found::New
    }

    /// `None`: nothing was done, and the key is free again.
    fn end(&self, key: &(String, String), state: Option<Stage>) {
        let mut kept = self.lock();
        match state {
            Some(state) => {
                if let Some(one) = kept.get_mut(key) {
                    one.state = state;
                }
            }
            None => {
                kept.remove(key);
            }
        }
    }
}

/// Frees the key of a call that was broken off.
struct Begun {
    answers: Arc<Answers>,
    key: Option<(String, String)>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.answers.end(&key, None);
        }
    }
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(KEY) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= KEY_MAX => Ok(Some(text.to_owned())),
        _ => Err(Refusal::new(
            Code::BadRequest,
            format!("failed to read `Idempotency-Key`: expected 1 to {KEY_MAX} letters of ASCII"),
        )),
    }
}

/// The layer of a call that changes something; behind the one that tells who calls.
pub(super) async fn once(State(answers): State<Arc<Answers>>, request: Request, next: Next) -> Response {
    let key = match key_of(request.headers()) {
        Ok(Some(key)) => key,
        Ok(None) => return next.run(request).await,
        Err(refusal) => return ApiError(refusal).into_response(),
    };
    let extensions = request.extensions();
    let (Some(known), Some(route)) = (extensions.get::<Known>(), extensions.get::<&'static Route>()) else {
        return next.run(request).await;
    };
    // Nothing is read for somebody who may not do it.
    if let Err(refusal) = known.permit(route.verb) {
        return ApiError(refusal).into_response();
    }
    let who = known.who().name.clone();
    // What is shown once is not kept here either.
    let is_secret = matches!(route.path, "/v1/tokens" | "/v1/certificates");
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else {
        return ApiError(Refusal::new(
            Code::TooLarge,
            "the body is too large, or broke off",
        ))
        .into_response();
    };
    let mut print = digest::Context::new(&digest::SHA256);
    for part in [
        head.method.as_str().as_bytes(),
        head.uri.to_string().as_bytes(),
        &body,
    ] {
        print.update(&(part.len() as u64).to_be_bytes());
        print.update(part);
    }
    let mut call = Print::default();
    call.copy_from_slice(print.finish().as_ref());
    let key = (who, key);
    match answers.begin(&key, call, clock::unix_ms()) {
        Found::New => {}
        Found::Same(Stage::Done { status, kind, body }) => return again(status, kind, body),
        Found::Same(Stage::Begun) => {
            return ApiError(
                Refusal::new(
                    Code::Conflict,
                    "refused: the first call with this `Idempotency-Key` is still at work",
                )
                .hint("ask again in a moment"),
            )
            .into_response();
        }
        Found::Other => {
            return ApiError(
                Refusal::new(
                    Code::Invalid,
                    "refused: this `Idempotency-Key` was used for another call",
                )
                .hint("take a new key for each call that is meant to be done"),
            )
            .into_response();
        }
        Found::Full => {
            return ApiError(Refusal::new(
                Code::Unavailable,
                "refused: too many calls with keys are at work",
            ))
            .into_response();
        }
    }
    let begun = Begun {
        answers: Arc::clone(&answers),
        key: Some(key),
    };
    // In a task of its own: what was begun is done, and its answer is kept, also if the caller has gone meanwhile.
    let work = async move {
        let response = next.run(Request::from_parts(head, Body::from(body))).await;
        keep(begun, response, is_secret).await
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with its call, on the HTTP runtime, which owns nothing else"
    )]
    let work = tokio::spawn(work);
    work.await
        .unwrap_or_else(|_| ApiError(Refusal::new(Code::Internal, "the call was broken off")).into_response())
}

/// Keeps the answer of a call that was done. What was refused may be sent again as it is.
async fn keep(mut begun: Begun, response: Response, is_secret: bool) -> Response {
    let status = response.status();
    if !status.is_success() && status != StatusCode::UNPROCESSABLE_ENTITY {
        return response;
    }
    let kind = response.headers().get(header::CONTENT_TYPE).cloned();
    // A stream has no length.
    let length = response.body().size_hint().exact();
    let is_short = length.is_some_and(|length| length <= ANSWER_MAX as u64);
    let (response, kept) = if is_short && !is_secret {
        let (head, body) = response.into_parts();
        match axum::body::to_bytes(body, ANSWER_MAX).await {
            Ok(bytes) => (Response::from_parts(head, Body::from(bytes.clone())), Some(bytes)),
            Err(_) => {
                return ApiError(Refusal::new(Code::Internal, "failed to keep the answer")).into_response();
            }
        }
    } else {
        (response, None)
    };
    if let Some(key) = begun.key.take() {
        begun.answers.end(
            &key,
            Some(Stage::Done {
                status,
                kind,
                body: kept,
            }),
        );
    }
    response
}

fn again(status: StatusCode, kind: Option<HeaderValue>, body: Option<Bytes>) -> Response {
    let Some(body) = body else {
        return ApiError(
            Refusal::new(
                Code::Conflict,
                "this call was done before, and its answer was not kept: it was too long, or a secret",
            )
            .hint("look at what it was about: `GET` shows how it is now"),
        )
        .into_response();
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    match kind {
        Some(kind) => headers.insert(header::CONTENT_TYPE, kind),
        None => headers.remove(header::CONTENT_TYPE),
    };
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> (String, String) {
        ("uid:1".to_owned(), text.to_owned())
    }

    fn done() -> Option<Stage> {
        Some(Stage::Done {
            status: StatusCode::OK,
            kind: None,
            body: Some(Bytes::from_static(b"{}")),
        })
    }

    #[test]
    fn a_key_is_new_then_at_work_then_done_then_forgotten() {
        let answers = Answers::default();
        assert!(matches!(answers.begin(&key("a"), [1; 32], 0), Found::New));
        assert!(matches!(
            answers.begin(&key("a"), [1; 32], 1),
            Found::Same(Stage::Begun)
        ));
        answers.end(&key("a"), done());
        assert!(matches!(
            answers.begin(&key("a"), [1; 32], 2),
            Found::Same(Stage::Done { .. })
        ));
        assert!(matches!(answers.begin(&key("a"), [2; 32], 3), Found::Other));
        let other = ("token:ci".to_owned(), "a".to_owned());
        assert!(
            matches!(answers.begin(&other, [1; 32], 4), Found::New),
            "keys are one's own"
        );
        assert!(matches!(
            answers.begin(&key("a"), [2; 32], KEPT_MS + 1),
            Found::New
        ));
    }

    #[test]
    fn a_call_that_was_broken_off_frees_its_key() {
        let answers = Arc::new(Answers::default());
        assert!(matches!(answers.begin(&key("a"), [1; 32], 0), Found::New));
        drop(Begun {
            answers: Arc::clone(&answers),
            key: Some(key("a")),
        });
        assert!(matches!(answers.begin(&key("a"), [1; 32], 1), Found::New));
    }

    #[test]
    fn the_oldest_goes_and_what_is_at_work_stays() {
        let answers = Answers::default();
        for number in 0..OF_ONE {
            assert!(matches!(
                answers.begin(&key(&number.to_string()), [0; 32], number as u64),
                Found::New
            ));
        }
        assert!(matches!(answers.begin(&key("more"), [0; 32], 1000), Found::Full));
        answers.end(&key("7"), done());
        assert!(matches!(answers.begin(&key("more"), [0; 32], 1000), Found::New));
        assert!(
            matches!(answers.begin(&key("7"), [0; 32], 1000), Found::Full),
            "it went"
        );
    }
}
