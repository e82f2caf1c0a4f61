//! Streaming answers: log lines and events, as JSON lines or as server-sent events.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use tokio::sync::{Notify, broadcast, mpsc};
use upkeep_api::{
    body::{Event, EventQuery, LogLine, LogQuery, Stream, UnixTime},
    error::Code,
};

use super::{
    error::ApiError,
    gate::Caller,
    routes::{Reading, list_logs},
    share::{Pool, Share},
};
use crate::{
    access::Known,
    command::Refusal,
    logs::read::{self, Wanted, marks::Marks},
};

/// A stream in which nothing happens for so long says so, in a comment.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How many chunks may wait for a slow client.
pub(super) const CHUNKS: usize = 16;
/// How many may read logs at once, each on a thread.
pub(super) const READERS: usize = 192;
/// How many of them may follow: the rest is for those who read and go.
const FOLLOWERS: usize = 128;
/// How many may follow events.
const EVENT_FOLLOWERS: usize = 3000;
/// So long nothing of a stream may be taken; what there is to take comes with every [`HEARTBEAT`] at the latest.
const STALLED: Duration = Duration::from_mins(1);
/// Between two looks at that.
const LOOK: Duration = Duration::from_secs(15);
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

/// A stream that is under way, as its watch sees it ([`watch`](Tap::watch)). It lies in the extensions of its answer.
#[derive(Clone, Debug)]
pub(super) struct Tap(Arc<Pipe>);

#[derive(Debug)]
struct Pipe {
    chunks: Mutex<Chunks>,
    /// The client has gone, or has all of it.
    ended: Notify,
}

#[derive(Debug)]
struct Chunks {
    waiting: mpsc::Receiver<Bytes>,
    /// How often the connection had room for one.
    looks: u64,
    /// Whoever waits for one.
    reader: Option<Waker>,
    is_over: bool,
}

impl Pipe {
    fn chunks(&self) -> std::sync::MutexGuard<'_, Chunks> {
        self.chunks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Ends the stream at both ends, and lets go of what waits.
    fn close(&self) {
        let mut chunks = self.chunks();
        chunks.is_over = true;
        chunks.waiting.close();
        while chunks.waiting.try_recv().is_ok() {}
        if let Some(reader) = chunks.reader.take() {
            reader.wake();
        }
    }
}

impl Tap {
    /// Waits until nothing was taken for [`STALLED`] of what there was to take.
    async fn stalled(&self) {
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let chunks = self.0.chunks();
            // The end is something to take as well.
            let waits = !chunks.waiting.is_empty() || chunks.waiting.is_closed();
            seen = match seen {
                _ if !waits => None,
                Some((looks, since)) if looks == chunks.looks => {
                    if since.elapsed() >= STALLED {
                        return;
                    }
                    Some((looks, since))
                }
                _ => Some((chunks.looks, Instant::now())),
            };
        }
    }

    /// Ends the stream when `end` says so, or when its client takes nothing of it: then the connection hears of that,
    /// as a stream of HTTP/2 whose window is shut cannot be ended by what is sent in it. Without `connection` a client
    /// may take its time.
    pub(super) async fn watch(self, end: impl Future<Output = ()>, connection: Option<Stalled>) {
        let stalled = async {
            match &connection {
                Some(_) => self.stalled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel-safe: all of it only waits.
            () = self.0.ended.notified() => return,
            () = end => {}
            () = stalled => {
                if let Some(connection) = &connection {
                    connection.0.notify_one();
                }
            }
        }
        self.0.close();
    }
}

/// How a connection hears that one of its streams is not taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalled(Arc<Notify>);

impl Stalled {
    pub(super) async fn heard(&self) {
        self.0.notified().await;
    }
}

/// The body of a stream.
#[derive(Debug)]
struct Poured(Arc<Pipe>);

impl futures_util::Stream for Poured {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut chunks = self.0.chunks();
        if chunks.is_over {
            return Poll::Ready(None);
        }
        chunks.looks += 1;
        let chunk = chunks.waiting.poll_recv(cx);
        if chunk.is_pending() {
            chunks.reader = Some(cx.waker().clone());
        }
        chunk.map(|chunk| chunk.map(Ok))
    }
}

impl Drop for Poured {
    fn drop(&mut self) {
        self.0.close();
        self.0.ended.notify_one();
    }
}

pub(super) fn answer(kind: &'static str, chunks: mpsc::Receiver<Bytes>) -> Response {
    let pipe = Arc::new(Pipe {
        chunks: Mutex::new(Chunks {
            waiting: chunks,
            looks: 0,
            reader: None,
            is_over: false,
        }),
        ended: Notify::new(),
    });
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
    let mut response = (headers, Body::from_stream(Poured(Arc::clone(&pipe)))).into_response();
    response.extensions_mut().insert(Tap(pipe));
    response
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

/// How a user makes room for one more who reads logs.
const HINT: &str = "end some `upkeep logs`, and try again";
/// Those who read logs and go.
static READ: Pool = Pool::new("read logs", READERS - FOLLOWERS, HINT);
/// Those who read logs and stay.
static FOLLOW: Pool = Pool::new("follow logs", FOLLOWERS, HINT);
/// Those who follow events.
static EVENTS: Pool = Pool::new(
    "follow events",
    EVENT_FOLLOWERS,
    "end some `upkeep events --follow`",
);

/// A thread that reads logs for somebody. Refuses one more than there may be: without a thread it would wait in silence
/// until another reader ends.
pub(super) fn reader(caller: &Known, follow: bool) -> Result<Share, Refusal> {
    if follow {
        FOLLOW.enter(caller)
    } else {
        READ.enter(caller)
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
    caller: Caller,
    selectors: Vec<String>,
    only: Option<Stream>,
    mut wanted: Wanted,
) -> Result<Response, ApiError> {
    let reader = reader(&caller.known, wanted.follow)?;
    let Caller { shared, permit, .. } = caller;
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

/// Events: what is in the journal after `query.after`, then what comes. `gap`: is told first.
pub(super) fn events(caller: &Caller, query: EventQuery, gap: Option<Event>) -> Result<Response, ApiError> {
    let share = EVENTS.enter(&caller.known)?;
    let shared = &caller.shared;
    let reading = Reading::new(caller);
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
            event.is_asked_for(&query) && reading.is_for(event)
        })
        .map_err(Refusal::from)?;
    let mut last = query.after.unwrap_or(0);
    let follow = async move {
        let _share = share;
        // What is not for this caller must not keep it from hearing anything.
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut buffer = Vec::new();
        for event in gap.into_iter().chain(past) {
            last = event.id;
            append(
                &mut buffer,
                true,
                Some(&event.id.to_string()),
                &reading.shown(event),
            );
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
                            && reading.is_for(&event) =>
                    {
                        last = event.id;
                        append(&mut buffer, true, Some(&event.id.to_string()), &reading.shown(event));
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
