//! What we ask of others over HTTP: webhooks of alerts, figures and logs that are pushed.
//!
//! One connection for each request, plain or with TLS (the machine's certificates, and those of a file beside them). No
//! redirection is followed. Neither errors nor what they say hold a header: headers may be secrets.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use upkeep_api::client::chain;
use upkeep_model::settings::Url;

use crate::settings::{read_file, read_secret};

/// More of an answer is not read.
const BODY_MAX: usize = 64 << 10;

/// Nor for longer: the status has been told.
const BODY_TIME: Duration = Duration::from_secs(2);

/// No file with certificates is longer.
const CERTIFICATES_MAX: u64 = 4 << 20;

/// What is trusted.
pub(crate) type Trust = Arc<rustls::ClientConfig>;

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// How long we are asked to wait (`Retry-After`).
    pub(crate) retry_after: Option<Duration>,
    /// Its body; empty where it is too long, too slow, or broke off.
    pub(crate) body: Bytes,
}

impl Answer {
    /// Why it is no success.
    pub(crate) fn refusal(&self) -> String {
        let status = self.status;
        if status.is_redirection() {
            format!("status {status}; redirections are not followed")
        } else {
            format!("status {status}")
        }
    }
}

/// Certificates of a file, PEM.
pub(crate) fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read_file(Path::new(path), CERTIFICATES_MAX).map_err(|refusal| refusal.message)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes.0).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("there is no certificate in `{path}`")),
        Err(error) => Err(format!("failed to read `{path}`: {error}")),
    }
}

/// Headers of a file with secrets: one on each line, `name: value`.
pub(crate) fn headers_of(path: &str) -> Result<Vec<(String, String)>, String> {
    let text = read_secret(Path::new(path)).map_err(|refusal| refusal.message)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("a line of `{path}` is no header"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// Trusts the machine's certificates and those of a file.
pub(crate) fn trust(ca_file: Option<&str>) -> Result<Trust, String> {
    let mut roots = rustls::RootCertStore::empty();
    // What cannot be read is said below, if nothing can.
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| format!("`{path}`: {error}"))?;
        }
    }
    if roots.is_empty() {
        return Err(
            "no certificates are trusted on this machine: install `ca-certificates`, or name a `ca_file`"
                .to_owned(),
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Posts a body to the host of `url`, at `path`; with TLS if there is `trust`, which `https` needs. Takes as long as it
/// takes: whoever asks sets a limit.
pub(crate) async fn post(
    url: &Url,
    path: &str,
    headers: &[(String, String)],
    body: Vec<u8>,
    trust: Option<Trust>,
) -> Result<Answer, String> {
    let (_, authority, _) = url.parts();
    let (host, port) = url.address()?;
    let target = match path {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.to_owned(),
    };
    let mut request = Request::builder()
        .method("POST")
        .uri(target)
        .header("host", authority)
        .header("user-agent", concat!("upkeep/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        // Its words could hold a secret of the headers.
        .map_err(|_| "the request cannot be made: is a line of `headers_file` no header?".to_owned())?;
    let name = host.to_owned();
    let addresses = tokio::task::spawn_blocking(move || upkeep_host::names::resolve(&name, port))
        .await
        .map_err(|_| "the daemon is ending".to_owned())?
        .map_err(|error| format!("failed to find `{authority}`: {error}"))?;
    let stream = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| format!("failed to connect to `{authority}`: {error}"))?;
    let stream: Box<dyn Wire> = match trust {
        Some(trust) => {
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| format!("`{host}` is no name of a host"))?;
            let connector = tokio_rustls::TlsConnector::from(trust);
            let stream = connector.connect(name, stream).await;
            Box::new(stream.map_err(|error| format!("no TLS with `{host}`: {error}"))?)
        }
        None => Box::new(stream),
    };
    let broken = |error: hyper::Error| format!("`{authority}` broke off: {}", chain(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_MAX).collect()).await;
        Ok(Answer {
            status: head.status,
            retry_after: head.headers.get(header::RETRY_AFTER).and_then(retry_after),
            body: body
                .ok()
                .and_then(Result::ok)
                .map(|body| body.to_bytes())
                .unwrap_or_default(),
        })
    };
    // The connection is driven as long as its answer is waited for, and then dropped.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer.map_err(broken),
        end = &mut connection => match end {
            Ok(()) => answer.await.map_err(broken),
            Err(error) => Err(broken(error)),
        },
    }
}

/// Seconds, or a date as HTTP writes it (RFC 9110, 10.2.3).
fn retry_after(value: &header::HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let left = at.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(text: &'static str) -> Option<Duration> {
        retry_after(&header::HeaderValue::from_static(text))
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        assert_eq!(waits("120"), Some(Duration::from_mins(2)));
        assert_eq!(waits("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let far = waits("Tue, 31 Dec 2199 23:59:59 GMT").expect("a date");
        assert!(far > Duration::from_hours(24));
        assert_eq!(waits("soon"), None);
    }
}
