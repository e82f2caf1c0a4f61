//! Where output goes besides its files.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where output goes besides its files, written as one text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogSink {
    /// `journald`, or `journald:PATH`: the journal of systemd, by its native protocol.
    Journald(Option<PathBuf>),
    /// `syslog`, or `syslog:PATH`: a socket of this machine; `/dev/log` if none is named.
    Syslog(Option<PathBuf>),
    /// `syslog:udp:HOST:PORT`: RFC 5424, a datagram for each message.
    SyslogUdp(String),
    /// `syslog:tcp:HOST:PORT`: RFC 5424, counted octets (RFC 6587).
    SyslogTcp(String),
    /// `stdout`: the standard output of the service, for containers.
    Stdout,
}

/// A text that names no sink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not `journald`, `journald:PATH`, `syslog`, `syslog:PATH`, `syslog:udp:HOST:PORT`, `syslog:tcp:HOST:PORT` or `stdout`"
)]
pub struct SinkError(String);

impl FromStr for LogSink {
    type Err = SinkError;

    fn from_str(text: &str) -> Result<Self, SinkError> {
        let text = text.trim();
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        let address = |rest: &str| {
            let (host, port) = rest.rsplit_once(':')?;
            let whole = !host.is_empty() && !host.contains(char::is_whitespace);
            let port = port.parse::<u16>().ok()?;
            (whole && port > 0).then(|| rest.to_owned())
        };
        let path = |rest: &str| rest.starts_with('/').then(|| PathBuf::from(rest));
        let sink = match (name, rest) {
            ("journald", None) => Some(Self::Journald(None)),
            ("journald", Some(rest)) => path(rest).map(|path| Self::Journald(Some(path))),
            ("stdout", None) => Some(Self::Stdout),
            ("syslog", None) => Some(Self::Syslog(None)),
            ("syslog", Some(rest)) => match rest.split_once(':') {
                Some(("udp", rest)) => address(rest).map(Self::SyslogUdp),
                Some(("tcp", rest)) => address(rest).map(Self::SyslogTcp),
                _ => path(rest).map(|path| Self::Syslog(Some(path))),
            },
            _ => None,
        };
        sink.ok_or_else(|| SinkError(text.to_owned()))
    }
}

impl fmt::Display for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journald(None) => f.write_str("journald"),
            Self::Journald(Some(path)) => write!(f, "journald:{}", path.display()),
            Self::Syslog(None) => f.write_str("syslog"),
            Self::Syslog(Some(path)) => write!(f, "syslog:{}", path.display()),
            Self::SyslogUdp(address) => write!(f, "syslog:udp:{address}"),
            Self::SyslogTcp(address) => write!(f, "syslog:tcp:{address}"),
            Self::Stdout => f.write_str("stdout"),
        }
    }
}

impl Serialize for LogSink {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogSink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for LogSink {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LogSink".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`journald`, `syslog`, `syslog:udp:HOST:PORT`, `syslog:tcp:HOST:PORT` or `stdout`; `journald:PATH` and `syslog:PATH` name another socket.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_read_as_it_is_written() {
        for text in [
            "journald",
            "journald:/run/systemd/journal.web/socket",
            "syslog",
            "syslog:/run/log",
            "syslog:udp:127.0.0.1:514",
            "syslog:tcp:[::1]:601",
            "syslog:tcp:logs.example.org:601",
            "stdout",
        ] {
            assert_eq!(text.parse::<LogSink>().expect("a sink").to_string(), text);
        }
        for text in [
            "",
            "journal",
            "journald:run",
            "syslog:udp",
            "syslog:udp:host",
            "syslog:udp::514",
            "syslog:tcp:host:0",
            "syslog:tcp:host:70000",
            "stdout:1",
        ] {
            let error = text.parse::<LogSink>().expect_err(text);
            assert!(error.to_string().contains("`syslog:udp:HOST:PORT`"), "{error}");
        }
    }
}
