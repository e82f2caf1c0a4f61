//! The blocking client of a daemon's two sockets.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::amp::{self, Argument, Decoder};

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens there.
    #[error("failed to reach the daemon at `{path}`")]
    Unreachable {
        /// The socket.
        path: String,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or what came was no answer.
    #[error("failed to call `{method}`")]
    Broken {
        /// The method.
        method: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The method says no.
    #[error("{message}")]
    Refused {
        /// The daemon's words.
        message: String,
    },
}

/// A connection to `rpc.sock`.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    calls: u64,
}

impl Client {
    /// Connects; does not start a daemon.
    pub fn connect(socket: &Path) -> Result<Self, CallError> {
        let stream = UnixStream::connect(socket).map_err(|source| CallError::Unreachable {
            path: socket.display().to_string(),
            source,
        })?;
        Ok(Self {
            stream,
            decoder: Decoder::default(),
            calls: 0,
        })
    }

    /// How long one call may take at most; `None` waits for ever (a reload may take minutes).
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    /// Calls a method with one argument and waits for the value it gives (`Null` for none).
    pub fn call(&mut self, method: &str, argument: Value) -> Result<Value, CallError> {
        self.call_with(method, vec![argument])
    }

    /// Calls a method with any number of arguments.
    pub fn call_with(&mut self, method: &str, arguments: Vec<Value>) -> Result<Value, CallError> {
        let broken = |source| CallError::Broken {
            method: method.to_owned(),
            source,
        };
        self.calls += 1;
        let id = format!("{}:{}", std::process::id(), self.calls);
        let request = [
            Argument::Json(json!({"type": "call", "method": method, "args": arguments})),
            Argument::Text(id.clone()),
        ];
        self.stream.write_all(&amp::encode(&request)).map_err(broken)?;
        loop {
            let message = self
                .decoder
                .read_from(&mut self.stream)
                .map_err(broken)?
                .ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))?;
            let mut arguments = message.into_iter();
            let body = arguments.next().and_then(Argument::into_json);
            // An answer to an earlier call that was given up.
            if arguments.next().as_ref().and_then(Argument::as_text) != Some(id.as_str()) {
                continue;
            }
            let mut body = body.unwrap_or(Value::Null);
            if let Some(message) = body.get("error").filter(|error| !error.is_null()) {
                let message = message
                    .as_str()
                    .map_or_else(|| message.to_string(), str::to_owned);
                return Err(CallError::Refused { message });
            }
            // `args` is what a callback of Node got: error first.
            let mut results = match body.get_mut("args").map(Value::take) {
                Some(Value::Array(results)) => results.into_iter(),
                _ => Vec::new().into_iter(),
            };
            return Ok(results.next().unwrap_or(Value::Null));
        }
    }
}

/// One thing that was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// `log:out`, `process:event`, …
    pub event: String,
    /// What it says.
    pub payload: Value,
}

/// A connection to `pub.sock`.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    decoder: Decoder,
}

impl Bus {
    /// Connects; everything published from now on is heard.
    pub fn connect(socket: &Path) -> Result<Self, CallError> {
        let stream = UnixStream::connect(socket).map_err(|source| CallError::Unreachable {
            path: socket.display().to_string(),
            source,
        })?;
        Ok(Self {
            stream,
            decoder: Decoder::default(),
        })
    }

    /// How long [`Bus::next_event`] may wait.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    /// Waits for the next event; `None` when the daemon has gone. Errors: `WouldBlock` when the time is over.
    pub fn next_event(&mut self) -> io::Result<Option<Published>> {
        loop {
            let Some(message) = self.decoder.read_from(&mut self.stream)? else {
                return Ok(None);
            };
            let mut arguments = message.into_iter().filter_map(Argument::into_json);
            if let (Some(Value::String(event)), Some(payload)) = (arguments.next(), arguments.next()) {
                return Ok(Some(Published { event, payload }));
            }
        }
    }
}
