//! Readiness as it is written.

use std::{collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use super::OneOrMany;
use crate::size::Span;

/// How it is found out how an instance is. Exactly one of `http`, `tcp`, `exec`, `log`, `notify` and `message`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map with one of `http`, `tcp`, `exec`, `log`, `notify` and `message`"
)]
pub struct Readiness {
    /// Ready when `GET` answers with a status from 200 to 399: a path, a URL, or `{host, port, path}`.
    pub http: Option<HttpCheck>,
    /// Ready when the port accepts a connection: a port, `host:port`, or `{host, port}`.
    pub tcp: Option<TcpCheck>,
    /// Ready when this command, run in `cwd`, ends with code 0: a list, a line, or `{command: […]}`.
    pub exec: Option<ExecCheck>,
    /// Ready when a line of its output matches this regular expression.
    pub log: Option<String>,
    /// Ready when it says so by `sd_notify(3)`: `READY=1`; as liveness: as long as it says `WATCHDOG=1` in time.
    pub notify: Option<bool>,
    /// Ready when it says so by `process.send('ready')`, as Node programs can.
    pub message: Option<bool>,
    /// Port for `http`, if that is only a path. Default: `PORT` of `env`, the first port of `listen`, or its own `port`.
    pub port: Option<u16>,
    /// Time between tries. Default: 10s.
    pub period: Option<Span>,
    /// Time one try may take. Default: 1s.
    pub timeout: Option<Span>,
    /// Wait before the first try. Default: none.
    pub initial_delay: Option<Span>,
    /// Failures in a row that make a ready instance unready. Default: 3.
    pub failure_threshold: Option<u32>,
    /// Successes in a row that make it ready. Default: 1.
    pub success_threshold: Option<u32>,
    /// Each pause is longer by up to so much, by chance. Default: a tenth of `period`.
    pub jitter: Option<Span>,
    /// As liveness or startup: how long it may take to end when it has failed. Default: `stop.grace`.
    pub grace: Option<Span>,
    /// `http` as Kubernetes writes it.
    #[serde(rename = "httpGet")]
    pub http_get: Option<HttpGet>,
    /// `tcp` as Kubernetes writes it.
    #[serde(rename = "tcpSocket")]
    pub tcp_socket: Option<TcpParts>,
    /// `period` as Kubernetes writes it.
    #[serde(rename = "periodSeconds")]
    pub period_seconds: Option<u32>,
    /// `timeout` as Kubernetes writes it.
    #[serde(rename = "timeoutSeconds")]
    pub timeout_seconds: Option<u32>,
    /// `initial_delay` as Kubernetes writes it.
    #[serde(rename = "initialDelaySeconds")]
    pub initial_delay_seconds: Option<u32>,
    /// `failure_threshold` as Kubernetes writes it.
    #[serde(rename = "failureThreshold")]
    pub kubernetes_failure_threshold: Option<u32>,
    /// `success_threshold` as Kubernetes writes it.
    #[serde(rename = "successThreshold")]
    pub kubernetes_success_threshold: Option<u32>,
    /// `grace` as Kubernetes writes it.
    #[serde(rename = "terminationGracePeriodSeconds")]
    pub termination_grace_period_seconds: Option<u32>,
}

/// An HTTP check as Kubernetes writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map of `path`, `port`, `host`, `scheme` and `httpHeaders`"
)]
pub struct HttpGet {
    /// Path with query. Default: `/`.
    pub path: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Host or address. Default: 127.0.0.1.
    pub host: Option<String>,
    /// `HTTP`; nothing else is supported.
    pub scheme: Option<String>,
    /// Headers of the request.
    #[serde(rename = "httpHeaders")]
    pub headers: Option<Vec<HttpHeader>>,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of `name` and `value`")]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A command: a list, a line, or `{command: […]}`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecCheck(pub OneOrMany);

impl<'de> Deserialize<'de> for ExecCheck {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExecVisitor;

        impl<'de> Visitor<'de> for ExecVisitor {
            type Value = ExecCheck;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a list of words, a line, or a map with `command`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ExecCheck, E> {
                OneOrMany::deserialize(text.into_deserializer()).map(ExecCheck)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<ExecCheck, A::Error> {
                OneOrMany::deserialize(SeqAccessDeserializer::new(items)).map(ExecCheck)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExecCheck, A::Error> {
                let parts = ExecParts::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ExecCheck(parts.command))
            }
        }

        // A scalar of any kind counts as the text that was written.
        deserializer.deserialize_str(ExecVisitor)
    }
}

/// The map.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `command`")]
struct ExecParts {
    /// Program and arguments.
    command: OneOrMany,
}

impl JsonSchema for ExecCheck {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ExecCheck".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (plain, parts) = (
            generator.subschema_for::<OneOrMany>(),
            generator.subschema_for::<ExecParts>(),
        );
        json_schema!({"description": "A command: a list of words, a line, or a map with `command`.", "anyOf": [plain, parts]})
    }
}

/// An HTTP check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map of `host`, `port`, `path` and `headers`"
)]
pub struct HttpParts {
    /// Host or address. Default: 127.0.0.1.
    pub host: Option<String>,
    /// Port. Default: `readiness.port`.
    pub port: Option<u16>,
    /// Path with query. Default: `/`.
    pub path: Option<String>,
    /// Headers of the request, by name.
    pub headers: Option<BTreeMap<String, String>>,
}

/// A TCP check.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of `host` and `port`")]
pub struct TcpParts {
    /// Host or address. Default: 127.0.0.1.
    pub host: Option<String>,
    /// Port.
    pub port: u16,
}

/// A path, a URL, or the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck(pub HttpParts);

/// A port, `host:port`, or the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpCheck(pub TcpParts);

/// `example.org:80`, `[::1]:80`: host and port.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bare {
        Some(bare) => bare,
        None if host.contains(':') => return None,
        None => host,
    };
    if host.is_empty()
        || host.contains(|character: char| character.is_whitespace() || "/?#@".contains(character))
    {
        return None;
    }
    Some((host.to_owned(), port.parse().ok().filter(|port| *port > 0)?))
}

fn http(text: &str) -> Option<HttpParts> {
    if text.starts_with('/') {
        return Some(HttpParts {
            host: None,
            port: None,
            path: Some(text.to_owned()),
            headers: None,
        });
    }
    let rest = text.strip_prefix("http://")?;
    let cut = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(cut);
    let (host, port) = match host_and_port(authority) {
        Some(parts) => parts,
        None => host_and_port(&format!("{authority}:80"))?,
    };
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Some(HttpParts {
        host: Some(host),
        port: Some(port),
        path: Some(path),
        headers: None,
    })
}

macro_rules! check {
    ($check:ident, $parts:ident, $wanted:literal, $schema_name:literal, $from_text:expr) => {
        impl<'de> Deserialize<'de> for $check {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct CheckVisitor;

                impl<'de> Visitor<'de> for CheckVisitor {
                    type Value = $check;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($wanted)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$check, E> {
                        let parts: Option<$parts> = $from_text(text);
                        parts
                            .map($check)
                            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$check, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$check, A::Error> {
                        $parts::deserialize(MapAccessDeserializer::new(map)).map($check)
                    }
                }

                deserializer.deserialize_any(CheckVisitor)
            }
        }

        impl JsonSchema for $check {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $schema_name.into()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let parts = generator.subschema_for::<$parts>();
                json_schema!({"description": $wanted, "anyOf": [{"type": ["string", "integer"]}, parts]})
            }
        }
    };
}

check!(
    HttpCheck,
    HttpParts,
    "a path such as `/healthz`, a URL such as `http://127.0.0.1:3000/healthz`, or `{host, port, path}`",
    "HttpCheck",
    http
);
check!(
    TcpCheck,
    TcpParts,
    "a port, `host:port`, or `{host, port}`",
    "TcpCheck",
    |text: &str| match text.parse::<u16>() {
        Ok(port) => Some(TcpParts { host: None, port }).filter(|_| port > 0),
        Err(_) => host_and_port(text).map(|(host, port)| TcpParts {
            host: Some(host),
            port
        }),
    }
);
