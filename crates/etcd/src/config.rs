//! How to reach a cluster.

use std::{path::PathBuf, time::Duration};

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use upkeep_store::kv::{KvError, Reason};

use super::LIMITS;

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://` or `https://`, host and port, of one member or better all.
    pub endpoints: Vec<String>,
    /// What every key of ours begins with at etcd; so a cluster can be shared with others.
    pub root: String,
    /// For `https://`.
    pub tls: Option<Tls>,
    /// User and password, where etcd asks for them. A client certificate can take their place.
    pub login: Option<Login>,
    /// How long a call may take in all.
    pub timeout: Duration,
    /// How long connecting to one member may take.
    pub connect_timeout: Duration,
    /// How long a watch may be quiet before it says that it is alive.
    pub heartbeat: Duration,
    /// Steps that every member takes in one transaction: its `--max-txn-ops`.
    pub max_txn_ops: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            root: "/upkeep/".to_owned(),
            tls: None,
            login: None,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            heartbeat: Duration::from_secs(10),
            max_txn_ops: LIMITS.ops,
        }
    }
}

/// A PEM file. Files are read anew for every connection, so renewed certificates are taken without a restart.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// Read from here.
    File(PathBuf),
    /// This text.
    Text(Vec<u8>),
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(text) => write!(f, "({} bytes)", text.len()),
        }
    }
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, Reason> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                std::fs::read(path).map_err(|error| Reason::Invalid(format!("`{}`: {error}", path.display())))
            }
        }
    }
}

/// TLS towards etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Who vouches for the members.
    pub authority: Pem,
    /// Certificate and key that we show; with `--client-cert-auth`, its common name is the user at etcd.
    pub identity: Option<(Pem, Pem)>,
    /// The name in the members' certificates, where it is not the host of the endpoint.
    pub server_name: Option<String>,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Password,
}

/// A password. A file is read anew for every login, so that a changed one is taken without a restart.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Read from here; blanks around it do not count.
    File(PathBuf),
    /// This one.
    Text(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(_) => f.write_str("(a password)"),
        }
    }
}

impl Password {
    pub(crate) fn read(&self) -> Result<String, Reason> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => std::fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|error| Reason::Unauthenticated(format!("`{}`: {error}", path.display()))),
        }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("password", &self.password)
            .finish()
    }
}

/// Bytes of a watch that may be on their way while nobody reads it. The rest stays at etcd.
const WATCH_WINDOW: u32 = 256 << 10;
/// And of all watches of a connection together, so that some slow readers hold up nobody.
const WATCHES_WINDOW: u32 = 128 << 20;
/// A connection that does not answer for this long is given up.
const PING: Duration = Duration::from_secs(3);

impl Config {
    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), KvError> {
        let fail = |why: String| Err(KvError::new("set up etcd", Reason::Invalid(why)));
        if self.endpoints.is_empty() {
            return fail("no endpoint is given; one is like `https://10.0.0.1:2379`".to_owned());
        }
        for url in &self.endpoints {
            let secure = url.starts_with("https://");
            if !secure && !url.starts_with("http://") {
                return fail(format!("`{url}` has to begin with http:// or https://"));
            }
            if secure && self.tls.is_none() {
                return fail(format!("`{url}` needs TLS; say which authority to trust"));
            }
        }
        let mut endpoints = self.endpoints.iter().map(|url| self.endpoint(url, false));
        let broken = endpoints.find_map(Result::err);
        broken.map_or(Ok(()), |reason| Err(KvError::new("set up etcd", reason)))
    }

    /// Whether this may be asked: members say themselves where they are to be found, and what is asked there comes with a
    /// token or a password. Where the settings want TLS, nothing goes out without; and where they do not, a password goes to
    /// no other machine than those that they name.
    fn is_trusted(&self, url: &str) -> bool {
        if url.starts_with("https://") || self.endpoints.iter().any(|known| known == url) {
            return true;
        }
        let wants_tls = self.endpoints.iter().any(|known| known.starts_with("https://"));
        !wants_tls && (self.login.is_none() || is_here(url))
    }

    /// How to connect to a member, with certificates as they are now.
    pub(crate) fn endpoint(&self, url: &str, for_watches: bool) -> Result<Endpoint, Reason> {
        if !self.is_trusted(url) {
            return Err(Reason::Invalid(format!(
                "`{url}`, which a member advertises (`--advertise-client-urls`), is not asked: the settings want https, or \
                 have a password for other endpoints"
            )));
        }
        let wrong = |error: tonic::transport::Error| Reason::Invalid(format!("`{url}`: {}", chain(&error)));
        let mut endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(wrong)?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        if for_watches {
            endpoint = endpoint
                .initial_stream_window_size(WATCH_WINDOW)
                .initial_connection_window_size(WATCHES_WINDOW);
        } else {
            endpoint = endpoint
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(8 << 20);
        }
        if let (true, Some(tls)) = (url.starts_with("https://"), &self.tls) {
            let mut config =
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(tls.authority.read()?));
            if let Some((certificate, key)) = &tls.identity {
                config = config.identity(Identity::from_pem(certificate.read()?, key.read()?));
            }
            if let Some(name) = &tls.server_name {
                config = config.domain_name(name.clone());
            }
            endpoint = endpoint.tls_config(config).map_err(wrong)?;
        }
        Ok(endpoint)
    }
}

/// Whether it is this machine itself.
fn is_here(url: &str) -> bool {
    let Ok(uri) = url.parse::<tonic::codegen::http::Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// An error with all that caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_words = cause.to_string();
        if !words.ends_with(&cause_words) {
            words.push_str(": ");
            words.push_str(&cause_words);
        }
        next = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_advertises_an_address_is_told_no_password_in_the_open() {
        let config = |endpoint: &str, login: bool| Config {
            endpoints: vec![endpoint.to_owned()],
            login: login.then(|| Login {
                user: "upkeep".to_owned(),
                password: Password::Text("secret".to_owned()),
            }),
            ..Config::default()
        };
        for (endpoint, login, advertised, expected) in [
            ("https://10.0.0.1:2379", true, "http://127.0.0.1:2379", false),
            ("https://10.0.0.1:2379", false, "http://10.0.0.1:2379", false),
            ("https://10.0.0.1:2379", true, "https://10.0.0.2:2379", true),
            ("http://127.0.0.1:2379", true, "http://127.0.0.1:2380", true),
            ("http://127.0.0.1:2379", true, "http://[::1]:2380", true),
            ("http://127.0.0.1:2379", true, "http://10.0.0.2:2379", false),
            (
                "http://127.0.0.1:2379",
                true,
                "http://127.0.0.1.example:2379",
                false,
            ),
            (
                "http://127.0.0.1:2379",
                true,
                "http://127.0.0.1@10.0.0.2:2379",
                false,
            ),
            ("http://10.0.0.1:2379", true, "http://10.0.0.1:2379", true),
            ("http://10.0.0.1:2379", false, "http://10.0.0.2:2379", true),
        ] {
            let config = config(endpoint, login);
            assert_eq!(
                config.is_trusted(advertised),
                expected,
                "{endpoint} {login} {advertised}"
            );
        }
    }
}
