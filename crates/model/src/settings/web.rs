//! Settings of the listener over TCP: where the API and the web client can be reached besides the unix socket.

use std::{fmt, net::SocketAddr, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::as_text;

/// Where the API and the web client can be reached over TCP. Default: nowhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map of `listen`, `names`, `origins`, `tls`, `cert_file`, `key_file` and `pm2_health`"
)]
pub struct Web {
    /// Addresses with ports, such as `127.0.0.1:9616`. Whatever is no loopback speaks TLS. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<Listen>,
    /// Names and addresses that this machine is called by, beside its own name and those it listens on: of the
    /// certificate, and the only ones that a request may ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<HostName>,
    /// Web pages of other places that may use the API, such as `https://panel.example.org`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// `true`: TLS on loopback as well. Default: TLS on all other addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// File with a certificate and its chain (PEM), instead of one of our own authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    /// File with its private key (PEM). Only its owner may be able to read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// Address and port of the JSON that PM2 tells on port 9615. On loopback nobody is asked who they are; elsewhere
    /// it takes TLS and a token. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pm2_health: Option<Listen>,
}

impl Web {
    /// Whether an address speaks TLS.
    pub fn is_encrypted(&self, listen: Listen) -> bool {
        self.tls.unwrap_or_else(|| !listen.is_loopback())
    }

    /// Whether any of them does.
    pub fn needs_certificate(&self) -> bool {
        self.listen
            .iter()
            .chain(&self.pm2_health)
            .any(|listen| self.is_encrypted(*listen))
    }
}

/// An address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listen(pub SocketAddr);

const WANTED_LISTEN: &str =
    "an address with a port, such as `127.0.0.1:9616`, `[::1]:9616` or `0.0.0.0:9616`";

impl Listen {
    /// Whether only this machine itself can reach it.
    pub fn is_loopback(self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("`{text}` is not {WANTED_LISTEN}"))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_text!(Listen, "Listen", WANTED_LISTEN);

/// A name of a host in lower case, or an address without a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

const WANTED_NAME: &str =
    "a name such as `web1.example.org`, or an address such as `192.0.2.7`, without a port";

impl HostName {
    /// As certificates and requests have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text is a name as DNS has them (RFC 1123).
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253
        && text.split('.').all(is_label)
        // Four numbers that are no address are no name either.
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            return Ok(Self(address.to_canonical().to_string()));
        }
        let name = text.to_ascii_lowercase();
        if is_name(&name) {
            Ok(Self(name))
        } else {
            Err(format!("`{}` is not {WANTED_NAME}", text.escape_debug()))
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(HostName, "HostName", WANTED_NAME);

/// Where a web page comes from, as browsers write it: scheme, host, and the port if it is not the usual one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

const WANTED_ORIGIN: &str =
    "where a page comes from, such as `https://panel.example.org` or `http://127.0.0.1:8080`";

impl Origin {
    /// As browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is not {WANTED_ORIGIN}", text.escape_debug());
        let text_of = text.strip_suffix('/').unwrap_or(text);
        let (scheme, authority) = text_of.split_once("://").ok_or_else(wrong)?;
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(wrong()),
        };
        let end = match authority.strip_prefix('[') {
            Some(rest) => rest.find(']').ok_or_else(wrong)? + 2,
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(end);
        let name: HostName = host.parse().map_err(|_| wrong())?;
        let name = if name.as_str().contains(':') {
            format!("[{name}]")
        } else {
            name.to_string()
        };
        let port: u16 = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| wrong())?,
            None if port.is_empty() => usual,
            None => return Err(wrong()),
        };
        if port == usual {
            Ok(Self(format!("{scheme}://{name}")))
        } else {
            Ok(Self(format!("{scheme}://{name}:{port}")))
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(Origin, "Origin", WANTED_ORIGIN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_plain() {
        let web = Web::default();
        for (text, encrypted) in [
            ("127.0.0.1:9616", false),
            ("127.8.9.1:0", false),
            ("[::1]:9616", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("0.0.0.0:9616", true),
            ("[::]:9616", true),
            ("192.0.2.1:80", true),
        ] {
            let listen: Listen = text.parse().expect("an address");
            assert_eq!(web.is_encrypted(listen), encrypted, "{text}");
        }
        assert!("9616".parse::<Listen>().is_err());
        assert!("localhost:9616".parse::<Listen>().is_err());
    }

    #[test]
    fn names_have_no_ports_and_no_schemes() {
        for (text, name) in [
            ("Web1.Example.org", "web1.example.org"),
            ("192.0.2.7", "192.0.2.7"),
            ("[::1]", "::1"),
            ("a", "a"),
        ] {
            assert_eq!(text.parse::<HostName>().expect(text).as_str(), name);
        }
        for text in ["", "a:80", "http://a", "a..b", "-a", "*.a", "a b", "1.2.3", "a/b"] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
    }

    #[test]
    fn origins_are_as_browsers_write_them() {
        for (text, origin) in [
            ("https://Panel.example.org/", "https://panel.example.org"),
            ("https://panel.example.org:443", "https://panel.example.org"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(text.parse::<Origin>().expect(text).as_str(), origin);
        }
        for text in [
            "null",
            "*",
            "https://*",
            "ftp://a",
            "https://a/b",
            "https://u@a",
            "https://a:x",
            "https://[::1",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
