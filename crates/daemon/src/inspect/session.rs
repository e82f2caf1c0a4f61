//! The protocol of the inspector: requests with ids, answers, and events in between.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Bytes, Message, protocol::WebSocketConfig},
};

use super::Pieces;

/// A profile comes in one message: this is a day at one sample a millisecond.
const MESSAGE_MAX: usize = 256 << 20;
/// How long an answer that needs no work may take. A busy event loop answers late.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the program may stand still for a snapshot or to put a profile together.
const WORK: Duration = Duration::from_mins(15);
/// Longest answer of the small HTTP server that is read.
const ANSWER_MAX: usize = 64 << 10;
/// How long the caller may take to read a piece.
const READ: Duration = Duration::from_mins(1);
/// How long the first words may take.
const GREETING: Duration = Duration::from_secs(5);

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("it gave no answer to `{method}` within {} s", after.as_secs())]
    Mute { method: String, after: Duration },
    #[error("it refused `{method}`: {message}")]
    Refused { method: String, message: String },
    #[error("whoever asked for it has gone")]
    CallerGone,
}

impl From<tokio_tungstenite::tungstenite::Error> for SessionError {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// What comes: an answer, or an event.
#[derive(Debug, Deserialize)]
struct Incoming<'a> {
    id: Option<u64>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    message: String,
}

/// A piece of a snapshot.
#[derive(Debug, Deserialize)]
struct Chunk {
    chunk: String,
}

/// Answer of what ends a profile.
#[derive(Debug, Deserialize)]
struct Profile<'a> {
    #[serde(borrow)]
    profile: &'a RawValue,
}

/// A connection to one inspector.
#[derive(Debug)]
pub(super) struct Session {
    socket: WebSocketStream<TcpStream>,
    next: u64,
}

/// `GET PATH` of the small HTTP server of the inspector; its body. `None`: whoever listens there is no inspector.
pub(super) async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let fetch = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        // It answers with a length and does not hang up.
        let mut answer = Vec::new();
        loop {
            if let Some(body) = whole_body(&answer) {
                return Some(body);
            }
            if answer.len() > ANSWER_MAX || stream.read_buf(&mut answer).await.ok()? == 0 {
                return None;
            }
        }
    };
    tokio::time::timeout(GREETING, fetch).await.ok()?
}

/// The body of an answer of status 200, once all of it is there.
fn whole_body(answer: &[u8]) -> Option<String> {
    let (head, body) = std::str::from_utf8(answer).ok()?.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    if lines.next()?.split(' ').nth(1) != Some("200") {
        return None;
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    })?;
    body.get(..length).map(str::to_owned)
}

impl Session {
    /// Connects to the program behind an inspector.
    pub(super) async fn connect(address: SocketAddr) -> Result<Self, SessionError> {
        let list = get(address, "/json/list")
            .await
            .ok_or_else(|| SessionError::Broken("it does not list what can be inspected".to_owned()))?;
        let list: Vec<Value> =
            serde_json::from_str(&list).map_err(|error| SessionError::Broken(error.to_string()))?;
        let id = list
            .first()
            .and_then(|target| target["id"].as_str())
            .ok_or_else(|| SessionError::Broken("it lists nothing that can be inspected".to_owned()))?;
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| SessionError::Broken(error.to_string()))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let url = format!("ws://{address}/{id}");
        let handshake = client_async_with_config(url, stream, Some(config));
        let (socket, _) =
            tokio::time::timeout(GREETING, handshake)
                .await
                .map_err(|_| SessionError::Mute {
                    method: "GET /json/list".to_owned(),
                    after: GREETING,
                })??;
        Ok(Self { socket, next: 1 })
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<u64, SessionError> {
        let id = self.next;
        self.next += 1;
        let text = json!({ "id": id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(text)).await?;
        Ok(id)
    }

    /// The next text.
    async fn text(&mut self) -> Result<String, SessionError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                // Pings are answered by the library.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(SessionError::Broken("the program hung up".to_owned())),
            }
        }
    }

    /// Asks, and waits for the answer; its text, whose `result` is there.
    async fn answer(
        &mut self,
        method: &str,
        params: Value,
        within: Duration,
    ) -> Result<String, SessionError> {
        let id = self.ask(method, params).await?;
        let wait = async {
            loop {
                let text = self.text().await?;
                if is_answer(&text, id, method)? {
                    return Ok(text);
                }
            }
        };
        tokio::time::timeout(within, wait)
            .await
            .map_err(|_| mute(method, within))?
    }

    /// Asks for something that is done at once.
    pub(super) async fn call(&mut self, method: &str, params: Value) -> Result<(), SessionError> {
        self.answer(method, params, ANSWER).await.map(drop)
    }

    /// Takes a snapshot of the heap; its pieces come as events before the answer.
    pub(super) async fn snapshot(&mut self, pieces: &Pieces) -> Result<u64, SessionError> {
        const METHOD: &str = "HeapProfiler.takeHeapSnapshot";
        let id = self.ask(METHOD, json!({ "reportProgress": false })).await?;
        let mut bytes = 0;
        loop {
            // Between two pieces the program may be at work for long.
            let text = tokio::time::timeout(WORK, self.text())
                .await
                .map_err(|_| mute(METHOD, WORK))??;
            if let Some(chunk) = chunk(&text)? {
                bytes += chunk.len() as u64;
                hand_over(pieces, chunk.into()).await?;
            } else if is_answer(&text, id, METHOD)? {
                return Ok(bytes);
            }
        }
    }

    /// Lets time go by while something is recorded.
    pub(super) async fn wait(&mut self, span: Duration, pieces: &Pieces) -> Result<(), SessionError> {
        let end = tokio::time::sleep(span);
        tokio::pin!(end);
        loop {
            // Cancel-safe: events of the recording are not of interest here.
            tokio::select! {
                () = &mut end => return Ok(()),
                () = pieces.closed() => return Err(SessionError::CallerGone),
                text = self.text() => drop(text?),
            }
        }
    }

    /// Ends a recording whose answer holds the file.
    pub(super) async fn profile(&mut self, method: &str, pieces: &Pieces) -> Result<u64, SessionError> {
        let text = self.answer(method, json!({}), WORK).await?;
        let broken = |error: serde_json::Error| SessionError::Broken(error.to_string());
        let incoming: Incoming<'_> = serde_json::from_str(&text).map_err(broken)?;
        let result = incoming.result.map_or("{}", RawValue::get);
        let profile: Profile<'_> = serde_json::from_str(result).map_err(broken)?;
        let file = profile.profile.get().to_owned();
        let bytes = file.len() as u64;
        hand_over(pieces, file.into()).await?;
        Ok(bytes)
    }

    /// Ends what was enabled in the program.
    async fn disable(&mut self) {
        for method in ["Profiler.disable", "HeapProfiler.disable"] {
            // A session that is broken ends with its connection.
            let _ = self.call(method, json!({})).await;
        }
    }

    /// Ends what was enabled, and hangs up: the inspector stays open.
    pub(super) async fn leave(&mut self) {
        self.disable().await;
        // It hangs up by itself otherwise.
        let _ = tokio::time::timeout(GREETING, self.socket.close(None)).await;
    }

    /// Has the program close its inspector, and hangs up: it ends with its last connection. Whether it understood.
    ///
    /// Node 20 dies of SIGSEGV now and then (4 times of 60) if its inspector is closed while a session has a profiler
    /// enabled: so all is disabled first, and the inspector is closed when we should have hung up.
    pub(super) async fn close_inspector(&mut self) -> bool {
        const EXPRESSION: &str = "setTimeout(() => process.getBuiltinModule \
            ? process.getBuiltinModule('inspector').close() : process._debugEnd(), 50)";
        self.disable().await;
        let told = self
            .call("Runtime.evaluate", json!({ "expression": EXPRESSION }))
            .await;
        // It hangs up by itself otherwise.
        let _ = tokio::time::timeout(GREETING, self.socket.close(None)).await;
        told.is_ok()
    }
}

fn mute(method: &str, after: Duration) -> SessionError {
    SessionError::Mute {
        method: method.to_owned(),
        after,
    }
}

fn is_answer(text: &str, id: u64, method: &str) -> Result<bool, SessionError> {
    let incoming: Incoming<'_> =
        serde_json::from_str(text).map_err(|error| SessionError::Broken(error.to_string()))?;
    if incoming.id != Some(id) {
        return Ok(false);
    }
    match incoming.error {
        Some(failure) => Err(SessionError::Refused {
            method: method.to_owned(),
            message: failure.message,
        }),
        None => Ok(true),
    }
}

fn chunk(text: &str) -> Result<Option<String>, SessionError> {
    let broken = |error: serde_json::Error| SessionError::Broken(error.to_string());
    let incoming: Incoming<'_> = serde_json::from_str(text).map_err(broken)?;
    if incoming.method.as_deref() != Some("HeapProfiler.addHeapSnapshotChunk") {
        return Ok(None);
    }
    let params = incoming.params.map_or("{}", RawValue::get);
    let chunk: Chunk = serde_json::from_str(params).map_err(broken)?;
    Ok(Some(chunk.chunk))
}

async fn hand_over(pieces: &Pieces, piece: Bytes) -> Result<(), SessionError> {
    // A caller who stops reading does not keep the inspector open.
    match tokio::time::timeout(READ, pieces.send(Ok(piece))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(SessionError::CallerGone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_by_its_length() {
        let answer = b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nbody and more";
        assert_eq!(whole_body(answer).as_deref(), Some("body"));
        assert_eq!(whole_body(&answer[..40]), None, "half of it");
        assert_eq!(
            whole_body(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            None
        );
        assert_eq!(whole_body(b"SSH-2.0-OpenSSH\r\n"), None);
    }

    #[test]
    fn answers_and_pieces_are_told_apart() {
        let event = r#"{"method":"HeapProfiler.addHeapSnapshotChunk","params":{"chunk":"{\"a\""}}"#;
        assert_eq!(chunk(event).expect("an event").as_deref(), Some("{\"a\""));
        assert!(!is_answer(event, 1, "x").expect("no error"));
        assert!(is_answer(r#"{"id":1,"result":{}}"#, 1, "x").expect("an answer"));
        let refused = is_answer(r#"{"id":1,"error":{"code":-1,"message":"no"}}"#, 1, "x");
        assert!(matches!(refused, Err(SessionError::Refused { .. })));
        assert!(is_answer("nonsense", 1, "x").is_err());
    }
}
