//! AMP, the framing that PM2's sockets speak.
//!
//! A message is one byte, `0x10` (the version, shifted) or-ed with the number of arguments (at most 15), then each
//! argument as a big-endian `u32` length and that many bytes. Bytes that begin with `j:` are JSON, with `s:` text;
//! anything else is raw.

use std::io::{self, Read};

use serde_json::Value;

/// The longest argument that is accepted, in bytes: an app's record is some kilobytes, a list of a thousand is a few
/// megabytes.
pub const MAX_ARGUMENT: usize = 256 << 20;

/// One argument of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// `j:` and JSON.
    Json(Value),
    /// `s:` and UTF-8.
    Text(String),
    /// Neither.
    Raw(Vec<u8>),
}

impl Argument {
    /// The JSON value; of a text, the text as one.
    pub fn into_json(self) -> Option<Value> {
        match self {
            Self::Json(value) => Some(value),
            Self::Text(text) => Some(Value::String(text)),
            Self::Raw(_) => None,
        }
    }

    /// The text of a `s:` argument.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(_) | Self::Raw(_) => None,
        }
    }

    fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        match bytes.get(..2) {
            Some(b"j:") => Ok(Self::Json(serde_json::from_slice(&bytes[2..])?)),
            Some(b"s:") => Ok(Self::Text(String::from_utf8_lossy(&bytes[2..]).into_owned())),
            _ => Ok(Self::Raw(bytes)),
        }
    }
}

/// Bytes that are no message of this protocol.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The first byte.
    #[error("version {0} of the protocol instead of 1")]
    Version(u8),
    /// An argument that would not fit.
    #[error("an argument of {0} bytes")]
    TooLong(usize),
    /// JSON that is none.
    #[error("an argument is no JSON")]
    Json(#[from] serde_json::Error),
}

/// A message as bytes. The value of an argument is shared by all who get it, so it is passed by reference.
pub fn encode(arguments: &[Argument]) -> Vec<u8> {
    let mut bytes = vec![0x10 | u8::try_from(arguments.len() & 0x0f).unwrap_or(0)];
    for argument in arguments {
        let at = bytes.len();
        bytes.extend([0; 4]);
        match argument {
            Argument::Json(value) => {
                bytes.extend(b"j:");
                // Writing a tree of JSON to memory cannot fail.
                let _ = serde_json::to_writer(&mut bytes, value);
            }
            Argument::Text(text) => {
                bytes.extend(b"s:");
                bytes.extend(text.as_bytes());
            }
            Argument::Raw(raw) => bytes.extend(raw),
        }
        let length = u32::try_from(bytes.len() - at - 4).unwrap_or(u32::MAX);
        bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

/// Takes messages out of a stream of bytes that comes in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// More bytes have come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there. After an error the stream is of no use any more.
    pub fn next_message(&mut self) -> Result<Option<Vec<Argument>>, Malformed> {
        let Some(first) = self.bytes.first() else {
            return Ok(None);
        };
        if first >> 4 != 1 {
            return Err(Malformed::Version(first >> 4));
        }
        let count = usize::from(first & 0x0f);
        let mut ends = Vec::with_capacity(count);
        let mut at = 1;
        for _ in 0..count {
            let Some(length) = self.bytes.get(at..at + 4) else {
                return Ok(None);
            };
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if length > MAX_ARGUMENT {
                return Err(Malformed::TooLong(length));
            }
            ends.push((at + 4, at + 4 + length));
            at += 4 + length;
        }
        if self.bytes.len() < at {
            return Ok(None);
        }
        let rest = self.bytes.split_off(at);
        let message = std::mem::replace(&mut self.bytes, rest);
        ends.into_iter()
            .map(|(from, to)| Argument::parse(message[from..to].to_vec()))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Waits for the next message of a blocking stream. `None`: it has ended.
    pub fn read_from(&mut self, stream: &mut impl Read) -> io::Result<Option<Vec<Argument>>> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            if let Some(message) = self
                .next_message()
                .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?
            {
                return Ok(Some(message));
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => self.feed(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_any_cut() {
        let message = vec![
            Argument::Json(serde_json::json!({"type": "call", "args": [1, null]})),
            Argument::Text("x:0".to_owned()),
            Argument::Raw(vec![0, 255]),
        ];
        let bytes = encode(&message);
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes[..cut]);
            let early = decoder.next_message().expect("well formed");
            decoder.feed(&bytes[cut..]);
            let late = decoder.next_message().expect("well formed");
            assert_eq!(early.or(late).as_ref(), Some(&message), "cut at {cut}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x11\xff\xff\xff\xffj:"] {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            decoder.next_message().expect_err("no message");
        }
        let mut decoder = Decoder::default();
        decoder.feed(b"\x11\x00\x00\x00\x03j:{");
        decoder.next_message().expect_err("no JSON");
    }
}
