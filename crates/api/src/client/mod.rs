//! The client: one HTTP/1.1 connection to a daemon, by any of the [`transport`]s.

pub mod transport;

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, header::HeaderValue};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::process::Child;

use self::transport::{Program, Tcp, Wire};
use crate::error::ErrorBody;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("no daemon answers at `{place}`")]
    Unreachable {
        /// The socket, the host, or what leads there.
        place: String,
        /// The kernel's words, or those of what leads there.
        #[source]
        source: std::io::Error,
    },
    /// Somebody answers who is not believed, or does not believe us.
    #[error("no trust in `{place}`: {why}")]
    Untrusted {
        /// The host.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// The connection or the answer broke.
    #[error("the daemon's answer to `{call}` broke off: {why}")]
    Broken {
        /// Method and path.
        call: String,
        /// What happened.
        why: String,
    },
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    connection: tokio::task::JoinHandle<()>,
    /// The host that is asked for.
    host: String,
    /// `Authorization`.
    token: Option<HeaderValue>,
    /// What leads to the daemon; it ends with the connection.
    program: Option<Child>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
        if let Some(program) = &mut self.program {
            // It may have ended by itself.
            let _ = program.start_kill();
        }
    }
}

/// A path with a query.
pub fn with_query(path: &str, query: &impl Serialize) -> String {
    match serde_urlencoded::to_string(query) {
        Ok(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    }
}

/// An error with its causes: of a connection that broke, the last of them tells why.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl Client {
    /// Connects to the socket of this machine, within two seconds.
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = transport::unix(socket).await?;
        Self::over(
            Box::new(stream),
            socket.display().to_string(),
            "upkeep".to_owned(),
        )
        .await
    }

    /// Connects over TCP. `token`: what is sent as `Authorization: Bearer`.
    pub async fn connect_tcp(tcp: Tcp, token: Option<&str>) -> Result<Self, ClientError> {
        let host = tcp.authority.clone();
        let token = token.map(|token| {
            HeaderValue::try_from(format!("Bearer {token}")).map(|mut value| {
                value.set_sensitive(true);
                value
            })
        });
        let token = token.transpose().map_err(|_| ClientError::Untrusted {
            place: host.clone(),
            why: "our token has letters that no token has".to_owned(),
        })?;
        let stream = transport::tcp(tcp).await?;
        let mut client = Self::over(stream, host.clone(), host).await?;
        client.token = token;
        Ok(client)
    }

    /// Connects through a program, such as ssh.
    pub async fn connect_through(program: &Program) -> Result<Self, ClientError> {
        let (stream, child) = transport::program(program).await?;
        let mut client = Self::over(stream, program.place.clone(), "upkeep".to_owned()).await?;
        client.program = Some(child);
        Ok(client)
    }

    async fn over(stream: Box<dyn Wire>, place: String, host: String) -> Result<Self, ClientError> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ClientError::Unreachable {
                place,
                source: std::io::Error::other(error),
            })?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the driver of one connection, aborted with its client"
        )]
        let connection = tokio::spawn(async move {
            // Its errors reach the caller through the request that they break.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            connection,
            host,
            token: None,
            program: None,
        })
    }

    /// Sends one call and reads its answer.
    pub async fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, ClientError> {
        self.call_with(method, path, body, None).await
    }

    /// The same, only if what is changed is at this revision.
    pub async fn call_at<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        revision: u64,
    ) -> Result<T, ClientError> {
        let tag = format!("\"{revision}\"");
        self.call_with(method, path, body, Some(("if-match", &tag))).await
    }

    async fn call_with<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        more: Option<(&str, &str)>,
    ) -> Result<T, ClientError> {
        let response = self.send(method, path, body, "application/json", more).await?;
        let broken = |why: String| ClientError::Broken {
            call: format!("{method} {path}"),
            why,
        };
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(|error| broken(error.to_string()))?
            .to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))
    }

    /// `GET`s something.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.call(method_get(), path, None::<&()>).await
    }

    /// Sends one call whose answer is a file.
    pub async fn download(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Download, ClientError> {
        let response = self.send(method, path, body, "*/*", None).await?;
        Ok(Download {
            name: file_name(&response),
            body: response.into_body(),
            call: format!("{method} {path}"),
        })
    }

    /// `GET`s a stream of JSON lines (or of server-sent events, whose `data:` lines are returned).
    pub async fn lines(&mut self, path: &str, follow: bool) -> Result<Lines, ClientError> {
        self.lines_after(path, follow, None).await
    }

    /// The same, behind the event with the id `last` ([`Lines::last_id`]): it goes on where an earlier stream ended.
    pub async fn lines_after(
        &mut self,
        path: &str,
        follow: bool,
        last: Option<&str>,
    ) -> Result<Lines, ClientError> {
        let accept = if follow {
            "text/event-stream"
        } else {
            "application/x-ndjson"
        };
        let more = last.map(|last| ("last-event-id", last));
        let response = self.send(method_get(), path, None::<&()>, accept, more).await?;
        Ok(Lines {
            body: response.into_body(),
            buffer: Vec::new(),
            start: 0,
            call: format!("GET {path}"),
            follow,
            coming: None,
            last: None,
        })
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        accept: &str,
        more: Option<(&str, &str)>,
    ) -> Result<Response<Incoming>, ClientError> {
        let host = self.host.clone();
        let broken = |why: String| {
            // TLS 1.3 tells a client after its handshake that its certificate is not taken.
            if why.contains("received fatal alert") {
                return ClientError::Untrusted {
                    place: host.clone(),
                    why,
                };
            }
            ClientError::Broken {
                call: format!("{method} {path}"),
                why,
            }
        };
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| broken(chain(&error)))?,
            None => Vec::new(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("accept", accept);
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        if let Some((name, value)) = more {
            request = request.header(name, value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|error| broken(chain(&error)))?;
        self.sender.ready().await.map_err(|error| broken(chain(&error)))?;
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(|error| broken(chain(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(|error| broken(chain(&error)))?
            .to_bytes();
        Err(match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => ClientError::Refused(body),
            Err(_) => broken(format!("status {status} without a readable reason")),
        })
    }
}

const fn method_get() -> &'static str {
    "GET"
}

/// The name that an answer suggests for its file; never a path.
fn file_name(response: &Response<Incoming>) -> Option<String> {
    let header = response.headers().get("content-disposition")?.to_str().ok()?;
    let name = header.split("filename=\"").nth(1)?.strip_suffix('"')?;
    let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    is_plain.then(|| name.to_owned())
}

/// A file that is on its way.
#[derive(Debug)]
pub struct Download {
    /// What it may be called: a file name without folders.
    pub name: Option<String>,
    body: Incoming,
    call: String,
}

impl Download {
    /// The next piece; `None` at its end. An error means that the file is not whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Broken {
                        call: self.call.clone(),
                        why: error.to_string(),
                    });
                }
            }
        }
    }
}

/// Lines of a streaming answer.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    start: usize,
    call: String,
    follow: bool,
    /// The id that the event has whose data comes next.
    coming: Option<String>,
    /// Of the last event that was given out and had one.
    last: Option<String>,
}

impl Lines {
    /// The id of the event that [`Self::next`] gave out last, or of one before if that had none.
    pub fn last_id(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// The next item; `None` at the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            while let Some(end) = self.buffer[self.start..].iter().position(|byte| *byte == b'\n') {
                let line = &self.buffer[self.start..self.start + end];
                let json = if self.follow {
                    if let Some(id) = line.strip_prefix(b"id:") {
                        self.coming = Some(String::from_utf8_lossy(id.trim_ascii()).into_owned());
                    }
                    line.strip_prefix(b"data:").unwrap_or(b"")
                } else {
                    line
                };
                let item = (!json.trim_ascii().is_empty()).then(|| serde_json::from_slice(json));
                self.start += end + 1;
                if let Some(item) = item {
                    if let Some(id) = self.coming.take() {
                        self.last = Some(id);
                    }
                    return item.map(Some).map_err(|error| ClientError::Broken {
                        call: self.call.clone(),
                        why: error.to_string(),
                    });
                }
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Broken {
                        call: self.call.clone(),
                        why: error.to_string(),
                    });
                }
            }
        }
    }
}
