//! Settings of one machine: what holds for Upkeep itself, and not for one app.
//!
//! They are written in a file of their own (`settings.yaml`, `.toml` or `.json`; [`crate::file::settings`] reads it) and
//! kept in the store. One form serves as the written, the stored and the sent one: what is absent is not there, and
//! each type says what that means.
//!
//! There is no secret in them: a password or a key is named by the file that holds it.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::AppName,
    size::{ByteSize, Span},
};

pub mod alerts;
mod check;
pub mod config;
mod defaults;
pub mod web;

pub use self::{
    alerts::{Alerts, Channel, Rule, RuleKind, Severity},
    check::Invalid,
    config::{EtcdStore, FileStore, MachineName, SharedConfig},
    defaults::defaults,
    web::Web,
};

/// Settings of one machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map of `logs`, `metrics`, `otlp`, `alerts`, `web` and `config`"
)]
pub struct Settings {
    /// Where the schema of this file is found; for editors, not read.
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// About the logs of all apps together.
    #[serde(skip_serializing_if = "is_default")]
    pub logs: LogSettings,
    /// About figures.
    #[serde(skip_serializing_if = "is_default")]
    pub metrics: MetricSettings,
    /// Where figures and logs are pushed to. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
    /// Who is told of what.
    #[serde(skip_serializing_if = "is_default")]
    pub alerts: Alerts,
    /// Where the API and the web client can be reached over TCP.
    #[serde(skip_serializing_if = "is_default")]
    pub web: Web,
    /// Where the shared configuration is kept.
    #[serde(skip_serializing_if = "is_default")]
    pub config: SharedConfig,
}

impl Settings {
    /// Every path of a file in them, and whether that file holds a secret.
    pub fn files_mut(&mut self) -> Vec<(&mut String, bool)> {
        let mut files = Vec::new();
        if let Some(otlp) = &mut self.otlp {
            files.extend(otlp.headers_file.as_mut().map(|file| (file, true)));
            files.extend(otlp.ca_file.as_mut().map(|file| (file, false)));
        }
        files.extend(self.web.cert_file.as_mut().map(|file| (file, false)));
        files.extend(self.web.key_file.as_mut().map(|file| (file, true)));
        if let Some(etcd) = &mut self.config.etcd {
            files.extend(etcd.files_mut());
        }
        for channel in self.alerts.channels.values_mut() {
            if let Some(email) = &mut channel.email {
                files.extend(email.password_file.as_mut().map(|file| (file, true)));
                files.extend(email.ca_file.as_mut().map(|file| (file, false)));
            }
            if let Some(webhook) = &mut channel.webhook {
                files.extend(webhook.url_file.as_mut().map(|file| (file, true)));
                files.extend(webhook.secret_file.as_mut().map(|file| (file, true)));
                files.extend(webhook.headers_file.as_mut().map(|file| (file, true)));
                files.extend(webhook.ca_file.as_mut().map(|file| (file, false)));
            }
        }
        files
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// About the logs of all apps together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with `free_space`")]
pub struct LogSettings {
    /// Space of the disk that logs leave free, as a share (`5%`) or a size (`1G`); below it the oldest rotated files
    /// go first. Default: 1G, or 5% of a disk where that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_space: Option<FreeSpace>,
}

/// The floor where nobody has set one: this, or a twentieth of the disk if that is less.
const FLOOR: u64 = 1 << 30;

impl LogSettings {
    /// How many bytes of a disk of `total` bytes logs leave free.
    pub fn floor(&self, total: u64) -> u64 {
        match self.free_space {
            Some(space) => space.of(total),
            None => FLOOR.min(total / 20),
        }
    }
}

/// Space that is left free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeSpace {
    /// Of the whole disk, from 0 to 99.
    Percent(u8),
    /// A size.
    Bytes(ByteSize),
}

impl FreeSpace {
    /// In bytes, of a disk of `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Percent(percent) => total / 100 * u64::from(percent),
            Self::Bytes(bytes) => bytes.as_bytes(),
        }
    }
}

const WANTED_SPACE: &str = "a share from `0%` to `99%`, or a size such as `1G`";

impl FromStr for FreeSpace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not {WANTED_SPACE}");
        match text.trim().strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent) if percent < 100 => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => text.parse().map(Self::Bytes).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for FreeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

/// Types that are written as one text.
macro_rules! as_text {
    ($type:ty, $name:literal, $wanted:expr) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"description": $wanted, "type": ["string", "number"]})
            }
        }
    };
}
pub(crate) use as_text;

as_text!(FreeSpace, "FreeSpace", WANTED_SPACE);

/// About figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with `listen`")]
pub struct MetricSettings {
    /// Address and port on which `/metrics`, `/healthz` and `/readyz` answer over TCP, without any password: loopback
    /// only, such as `127.0.0.1:9464`. Default: on the unix socket only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Loopback>,
}

/// An address of this machine itself, with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loopback(pub SocketAddr);

const WANTED_LOOPBACK: &str = "an address of loopback with a port, such as `127.0.0.1:9464` or `[::1]:9464`";

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("`{text}` is not {WANTED_LOOPBACK}"))?;
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            Err(format!(
                "`{text}` can be reached from elsewhere, and nobody is asked for a password: expected {WANTED_LOOPBACK}"
            ))
        }
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_text!(Loopback, "Loopback", WANTED_LOOPBACK);

/// Where figures and logs are pushed to, as OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map of `endpoint`, `headers_file`, `ca_file`, `interval` and `logs`"
)]
pub struct Otlp {
    /// Base URL of the collector, such as `http://127.0.0.1:4318`; `/v1/metrics` and `/v1/logs` are appended.
    pub endpoint: Url,
    /// File with a header on each line (`authorization: Bearer …`). Only its owner may be able to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<String>,
    /// File with certificates (PEM) to trust beside the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// How often figures are pushed, 1s to 1h. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// Whether logs are pushed as well. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<bool>,
}

/// `http` or `https`, with a host; nothing in it that is a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(String);

const WANTED_URL: &str = "a URL such as `https://example.org/path`";

impl Url {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Scheme, authority and path with query.
    pub fn parts(&self) -> (&str, &str, &str) {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("http", &self.0));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        (scheme, &rest[..end], &rest[end..])
    }

    /// Host and port to connect to: of `https://example.org`, `http://[::1]:80/x`.
    pub fn address(&self) -> Result<(&str, u16), String> {
        let (scheme, authority, _) = self.parts();
        let default = if scheme == "https" { 443 } else { 80 };
        let wrong = || format!("`{authority}` is no host with a port");
        let port = |text: &str| text.parse().map_err(|_| wrong());
        if let Some(rest) = authority.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            return match rest.strip_prefix(':') {
                Some(text) => Ok((host, port(text)?)),
                None if rest.is_empty() => Ok((host, default)),
                None => Err(wrong()),
            };
        }
        match authority.rsplit_once(':') {
            Some((host, text)) => Ok((host, port(text)?)),
            None => Ok((authority, default)),
        }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not {WANTED_URL}");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = &rest[..end];
        if authority.contains('@') {
            // Settings are shown: a password in them would be too.
            return Err("a URL here has no user and no password in it".to_owned());
        }
        let plain = |c: char| c.is_ascii_graphic();
        if !matches!(scheme, "http" | "https")
            || authority.is_empty()
            || authority.starts_with(':')
            || !text.chars().all(plain)
            || rest.contains('#')
        {
            return Err(wrong());
        }
        let url = Self(text.to_owned());
        url.address()?;
        Ok(url)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(Url, "Url", WANTED_URL);

/// A name that the user gives to a channel or rule: as an app's.
pub type Name = AppName;

/// By name, in order.
pub type Named<T> = BTreeMap<Name, T>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        for (text, space) in [
            ("5%", FreeSpace::Percent(5)),
            ("1G", FreeSpace::Bytes(ByteSize::from_mib(1024))),
        ] {
            assert_eq!(text.parse(), Ok(space));
            assert_eq!(space.to_string(), text);
        }
        assert_eq!(FreeSpace::Percent(5).of(1000), 50);
        for text in ["100%", "-1%", "x", "%", "5 percent"] {
            assert!(text.parse::<FreeSpace>().is_err(), "{text}");
        }
        assert!("127.0.0.1:9464".parse::<Loopback>().is_ok());
        assert!("[::1]:1".parse::<Loopback>().is_ok());
        for text in ["0.0.0.0:9464", "9464", "127.0.0.1"] {
            assert!(text.parse::<Loopback>().is_err(), "{text}");
        }
    }

    #[test]
    fn urls_tell_where_to_connect_to() {
        for (text, address) in [
            ("http://a.org", ("a.org", 80)),
            ("https://a.org/x:1", ("a.org", 443)),
            ("http://a.org:8080", ("a.org", 8080)),
            ("http://[::1]:1/", ("::1", 1)),
            ("https://[::1]", ("::1", 443)),
        ] {
            let url: Url = text.parse().expect("a URL");
            assert_eq!(url.address(), Ok(address), "{text}");
        }
        for text in ["http://a:b", "http://[::1", "http://a:99999", "http://[::1]x"] {
            let refused = text.parse::<Url>().expect_err(text);
            assert!(refused.ends_with("is no host with a port"), "{refused}");
        }
    }

    #[test]
    fn urls_have_no_secrets() {
        let url: Url = "https://example.org:8443/a/b?c=d".parse().expect("a URL");
        assert_eq!(url.parts(), ("https", "example.org:8443", "/a/b?c=d"));
        for text in [
            "ftp://example.org",
            "example.org",
            "http://",
            "http://u:p@example.org/",
            "http://a b/",
            "http://:80/",
            "http://a/#b",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
