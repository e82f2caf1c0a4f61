//! Streaming answers: log lines and events, as JSON lines or as server-sent events.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::sync::{broadcast, mpsc};
use upkeep_api::{
    body::{EventQuery, LogLine, LogQuery, Stream, UnixTime},
    error::Code,
};

use super::{
    Shared,
    error::ApiError,
    routes::{is_for, list_logs},
};
use crate::{
    command::{Permit, Refusal},
    logs::read::{self, Wanted, marks::Marks},
};

/// A stream in which nothing happens for so long says so, in a comment.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(15);
/// How many chunks may wait for a slow client.
pub(super) const CHUNKS: usize = 16;
/// How many may read logs at once, each on a thread.
pub(super) const READERS: usize = 192;
/// How many of them may follow: the rest is for those who read and go.
const FOLLOWERS: usize = 128;
/// So many of the newest lines may be asked for.
const LINES_MAX: usize = 1_000_000;
/// Lines are gathered into chunks of about this size.
const CHUNK: usize = 32 << 10;

/// Unix seconds as milliseconds; what is out of range becomes the nearest that is not.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
pub(super) fn millis(seconds: UnixTime) -> u64 {
    (seconds * 1000.0) as u64
}

pub(super) fn answer(kind: &'static str, chunks: mpsc::Receiver<Bytes>) -> Response {
    let stream = stream::unfold(chunks, |mut chunks| async move {
        chunks
            .recv()
            .await
            .map(|chunk| (Ok::<_, Infallible>(chunk), chunks))
    });
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(stream)).into_response()
}

pub(super) const SSE: &str = "text/event-stream";
/// Keeps a connection open through proxies, and tells who listens that it is.
pub(super) const COMMENT: &[u8] = b": \n\n";
const JSON_LINES: &str = "application/x-ndjson";

/// `id`: absent where a client that resumes is to keep the one before.
pub(super) fn append(buffer: &mut Vec<u8>, sse: bool, id: Option<&str>, item: &impl serde::Serialize) {
    if sse {
        if let Some(id) = id {
            buffer.extend_from_slice(b"id: ");
            buffer.extend_from_slice(id.as_bytes());
            buffer.push(b'\n');
        }
        buffer.extend_from_slice(b"data: ");
    }
    // Writing into memory cannot fail, and every type here can be encoded.
    let _ = serde_json::to_writer(&mut *buffer, item);
    buffer.extend_from_slice(if sse { b"\n\n" } else { b"\n" });
}

/// A thread that reads logs for somebody.
pub(super) struct Reader(&'static AtomicUsize);

impl Reader {
    /// Readers at work; followers, who stay, among them.
    const fn counters() -> &'static [AtomicUsize; 2] {
        static AT_WORK: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
        &AT_WORK
    }

    /// Refuses one more than there may be: without a thread it would wait in silence until another reader ends.
    pub(super) fn begin(follow: bool) -> Result<Self, Refusal> {
        let counter = &Self::counters()[usize::from(follow)];
        let most = if follow { FOLLOWERS } else { READERS - FOLLOWERS };
        let taken = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < most).then_some(count + 1)
        });
        match taken {
            Ok(_) => Ok(Self(counter)),
            Err(_) => Err(Refusal::new(
                Code::Unavailable,
                format!("refused: {most} others read logs already, or do not read what they asked for"),
            )
            .hint("end some `upkeep logs`, and try again")),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is wanted of the logs; `last`: the id of the last event that a client has seen before.
pub(super) fn wanted(query: &LogQuery, last: Option<&HeaderValue>) -> Result<Wanted, Refusal> {
    if query.follow && query.until.is_some() {
        return Err(Refusal::new(
            Code::Invalid,
            "`follow` and `until` exclude each other: what comes is later than any time that has passed",
        ));
    }
    if query.lines.is_some_and(|lines| lines > LINES_MAX) {
        return Err(Refusal::new(
            Code::Invalid,
            format!("`lines` may be at most {LINES_MAX}: they are gathered before the first is sent"),
        )
        .hint("name a time instead (`--since`): that has no limit"));
    }
    let grep = match &query.grep {
        Some(pattern) => Some(regex::bytes::Regex::new(pattern).map_err(|error| {
            Refusal::new(
                Code::Invalid,
                format!("failed to read the pattern `{pattern}`: {error}"),
            )
        })?),
        None => None,
    };
    let resume = match last.filter(|_| query.follow) {
        Some(id) => Some(id.to_str().ok().and_then(Marks::parse).ok_or_else(|| {
            Refusal::new(
                Code::Invalid,
                "`Last-Event-ID` is no id of an event of this stream",
            )
            .hint("leave it out to begin anew")
        })?),
        None => None,
    };
    Ok(Wanted {
        lines: query.lines,
        since_ms: query.since.map(millis),
        until_ms: query.until.map(millis),
        grep,
        records: query.records,
        follow: query.follow,
        resume,
        gone: None,
    })
}

/// Log lines. Reads on a blocking thread; a client that is slow makes the reader wait, a client that is gone ends it.
pub(super) fn logs(
    shared: Arc<Shared>,
    permit: Permit,
    selectors: Vec<String>,
    only: Option<Stream>,
    mut wanted: Wanted,
) -> Result<Response, ApiError> {
    let reader = Reader::begin(wanted.follow)?;
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let sse = wanted.follow;
    let client = sender.clone();
    wanted.gone = Some(read::Gone::new(move || client.is_closed()));
    tokio::task::spawn_blocking(move || {
        let _reader = reader;
        let mut buffer = Vec::new();
        let list = || list_logs(&shared, &permit, &selectors, only).unwrap_or_default();
        let mut sink = |line: LogLine, marks: Option<&Marks>| {
            let heartbeat = line.notice && line.line.is_empty();
            if heartbeat {
                if buffer.is_empty() {
                    buffer.extend_from_slice(b": \n\n");
                }
            } else {
                let id = marks.filter(|_| sse).map(Marks::text);
                append(&mut buffer, sse, id.as_deref(), &line);
            }
            // A follower wants each line now; who reads history wants it fast.
            if (sse || buffer.len() >= CHUNK) && !buffer.is_empty() {
                return sender.blocking_send(std::mem::take(&mut buffer).into()).is_ok();
            }
            true
        };
        let around = read::Around {
            list: &list,
            cut: &|| shared.cutter.cut(),
        };
        let outcome = read::run(&around, &wanted, &mut sink);
        if let Err(error) = outcome
            && !sender.is_closed()
        {
            append(
                &mut buffer,
                sse,
                None,
                &read::notice(&format!("failed to read logs: {error}")),
            );
            crate::main_loop::note(&format!("failed to read logs: {error}"));
        }
        if !buffer.is_empty() {
            // The client is gone: so is its interest.
            let _ = sender.blocking_send(buffer.into());
        }
    });
    Ok(answer(if sse { SSE } else { JSON_LINES }, receiver))
}

/// Events: what is in the journal after `query.after`, then what comes.
pub(super) fn events(shared: &Arc<Shared>, permit: Permit, query: EventQuery) -> Result<Response, ApiError> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    // Subscribed before the journal is read: an event may come twice, which its id tells, but none is missed.
    let mut live = shared.events.subscribe();
    // Who resumes wants what it missed; who begins wants what comes.
    let missed = if query.after.is_some() {
        super::routes::EVENTS_MAX
    } else {
        0
    };
    let limit = query.limit.unwrap_or(missed);
    let past = shared
        .events
        .tail(limit, query.after.unwrap_or(0), &|event| {
            event.is_asked_for(&query) && is_for(shared, &permit, event)
        })
        .map_err(Refusal::from)?;
    let mut last = query.after.unwrap_or(0);
    let shared = Arc::clone(shared);
    let follow = async move {
        // What is not for this caller must not keep it from hearing anything.
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut buffer = Vec::new();
        for event in past {
            last = event.id;
            append(&mut buffer, true, Some(&event.id.to_string()), &event);
        }
        loop {
            if !buffer.is_empty() && sender.send(std::mem::take(&mut buffer).into()).await.is_err() {
                return;
            }
            tokio::select! {
                // Cancel-safe: a message is taken only when it is returned.
                event = live.recv() => match event {
                    Ok(event)
                        if event.id > last
                            && event.is_asked_for(&query)
                            && is_for(&shared, &permit, &event) =>
                    {
                        last = event.id;
                        append(&mut buffer, true, Some(&event.id.to_string()), &event);
                    }
                    Ok(_) => {}
                    // Too slow: hang up; the client resumes from its last id.
                    Err(broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed) => return,
                },
                // Cancel-safe: it only waits.
                _ = heartbeat.tick() => buffer.extend_from_slice(COMMENT),
                // Cancel-safe: nothing is lost by not waiting.
                () = sender.closed() => return,
            }
        }
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with its client, on the HTTP runtime, which owns nothing else"
    )]
    drop(tokio::spawn(follow));
    Ok(answer(SSE, receiver))
}
