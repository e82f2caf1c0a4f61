//! One try to deliver a message: by mail, by webhook, by command.
//!
//! Each try reads its secrets anew, takes no longer than its timeout, and ends with what was wrong in one line. Secrets
//! never stand in that line, nor in a process's arguments or environment.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::TokioIo;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use upkeep_api::alert::Message;
use upkeep_keeper::protocol::SpawnSpec;
use upkeep_model::{
    settings::{
        Channel,
        alerts::{Email, Hook, MailTls, Webhook},
    },
    size::Span,
};
use upkeep_sys::clock;

use super::message;
use crate::{
    apps::health::ask,
    settings::{read_file, read_secret},
};

/// How long a webhook may take unless said otherwise.
const WEBHOOK: Span = Span::from_secs(10);
/// How long a mail may take.
const MAIL: Duration = Duration::from_mins(1);
/// No file with certificates is longer.
const CERTIFICATES_MAX: u64 = 4 << 20;
/// How much of a text goes into the environment of a command, in characters; all of it is on its standard input.
const ENVIRONMENT_MAX: usize = 4000;
/// How long a command may take unless said otherwise.
const COMMAND: Span = Span::from_secs(30);

/// The kind of a channel, for people.
pub(super) const fn kind(channel: &Channel) -> &'static str {
    if channel.email.is_some() {
        "email"
    } else if channel.webhook.is_some() {
        "webhook"
    } else {
        "command"
    }
}

/// Why a try came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: String,
    /// The receiver has refused this message and will again: no further try is made.
    pub(super) is_final: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, is_final: false }
    }
}

/// One try.
pub(super) async fn deliver(channel: &Channel, message: &Message) -> Result<(), Failure> {
    if let Some(email) = &channel.email {
        return match tokio::time::timeout(MAIL, mail(email, message)).await {
            Ok(result) => result,
            Err(_) => Err(format!("`{}` did not take it within 60 s", email.host).into()),
        };
    }
    if let Some(webhook) = &channel.webhook {
        let timeout = webhook.timeout.unwrap_or(WEBHOOK);
        return match tokio::time::timeout(timeout.into(), post(webhook, message)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {timeout}").into()),
        };
    }
    match &channel.command {
        Some(hook) => command(hook, message).await.map_err(Failure::from),
        None => Err("the channel has no way to tell anybody".to_owned().into()),
    }
}

fn secret(path: &str) -> Result<String, String> {
    read_secret(Path::new(path)).map_err(|refusal| refusal.message)
}

// ---- mail

async fn mail(email: &Email, message: &Message) -> Result<(), Failure> {
    let mailbox = |text: &str| -> Result<Mailbox, String> {
        text.parse()
            .map_err(|error| format!("`{text}` is no address: {error}"))
    };
    let mut mail = lettre::Message::builder()
        .from(mailbox(&email.from)?)
        // The same at every try: whoever has it already can tell.
        .message_id(Some(format!("<{}@{}.upkeep>", message.id, message.host)))
        .subject(format!(
            "[{}] {}: {}",
            message.host,
            message.severity.as_str(),
            message.summary
        ))
        .header(ContentType::TEXT_PLAIN);
    for to in &email.to {
        mail = mail.to(mailbox(to)?);
    }
    let mail = mail.body(message::text(message)).map_err(|error| Failure {
        why: format!("the mail cannot be written: {error}"),
        is_final: true,
    })?;
    let tls = email.tls.unwrap_or_default();
    let parameters = || -> Result<TlsParameters, String> {
        let mut builder = TlsParameters::builder(email.host.clone());
        if let Some(path) = &email.ca_file {
            for certificate in certificates(path)? {
                let certificate = Certificate::from_der(certificate.to_vec())
                    .map_err(|error| format!("`{path}`: {error}"))?;
                builder = builder.add_root_certificate(certificate);
            }
        }
        builder.build_rustls().map_err(|error| chain(&error))
    };
    let (tls, port) = match tls {
        MailTls::Starttls => (Tls::Required(parameters()?), 587),
        MailTls::Always => (Tls::Wrapper(parameters()?), 465),
        MailTls::Never => (Tls::None, 25),
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&email.host)
        .port(email.port.unwrap_or(port))
        .tls(tls)
        .timeout(Some(Duration::from_secs(20)));
    if let (Some(user), Some(path)) = (&email.user, &email.password_file) {
        transport = transport.credentials(Credentials::new(user.clone(), secret(path)?));
    }
    transport
        .build()
        .send(mail)
        .await
        .map(drop)
        .map_err(|error| Failure {
            is_final: error.is_permanent(),
            why: chain(&error),
        })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
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

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read_file(Path::new(path), CERTIFICATES_MAX).map_err(|refusal| refusal.message)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes.0).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("there is no certificate in `{path}`")),
        Err(error) => Err(format!("failed to read `{path}`: {error}")),
    }
}

// ---- webhook

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

async fn post(webhook: &Webhook, message: &Message) -> Result<(), Failure> {
    let (scheme, authority, path) = webhook.url.parts();
    let (host, port) = split(authority, if scheme == "https" { 443 } else { 80 })?;
    let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
    let target = match path {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.to_owned(),
    };
    let mut request = Request::builder()
        .method("POST")
        .uri(target)
        .header("host", authority)
        .header("user-agent", concat!("upkeep/", env!("CARGO_PKG_VERSION")))
        .header("content-type", "application/json")
        .header("upkeep-delivery", &message.id);
    if let Some(path) = &webhook.secret_file {
        let at = clock::unix_ms() / 1000;
        request = request.header("upkeep-signature", signature(secret(path)?.as_bytes(), at, &body));
    }
    if let Some(path) = &webhook.headers_file {
        for line in secret(path)?.lines().filter(|line| !line.trim().is_empty()) {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("a line of `{path}` is no header"))?;
            request = request.header(name.trim(), value.trim());
        }
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        // Its words could hold a secret of the headers.
        .map_err(|_| "the request cannot be made: is a line of `headers_file` no header?".to_owned())?;
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| format!("failed to connect to `{authority}`: {error}"))?;
    let stream: Box<dyn Wire> = if scheme == "https" {
        Box::new(encrypt(webhook, host, stream).await?)
    } else {
        Box::new(stream)
    };
    let broken = |error: hyper::Error| format!("`{authority}` broke off: {}", chain(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let answer = async {
        let answer = sender.send_request(request).await;
        answer.map(|answer| answer.status())
    };
    // The connection is driven as long as its answer is waited for, and then dropped with the body.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let status = tokio::select! {
        biased;
        status = &mut answer => status.map_err(broken)?,
        end = &mut connection => match end {
            Ok(()) => answer.await.map_err(broken)?,
            Err(error) => return Err(broken(error).into()),
        },
    };
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(format!("status {status}; redirections are not followed").into()),
        code => Err(Failure {
            why: format!("status {status}"),
            is_final: is_final(code),
        }),
    }
}

/// Whether a status says that the same request will never be taken (RFC 9110, section 15.5): but for 408 (timeout), 425
/// (too early) and 429 (too many).
const fn is_final(status: u16) -> bool {
    matches!(status, 400..=499) && !matches!(status, 408 | 425 | 429)
}

/// Host and port of `example.org:8443`, `[::1]:80`, `example.org`.
fn split(authority: &str, default: u16) -> Result<(&str, u16), String> {
    let wrong = || format!("`{authority}` is no host with a port");
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, port.parse().map_err(|_| wrong())?)),
            None if rest.is_empty() => Ok((host, default)),
            None => Err(wrong()),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => Ok((host, port.parse().map_err(|_| wrong())?)),
        None => Ok((authority, default)),
    }
}

/// `t=UNIX,v1=HEX`: HMAC-SHA256 by the key over the time, a dot and the body.
fn signature(key: &[u8], at: u64, body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let mut context = ring::hmac::Context::with_key(&key);
    context.update(at.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    let mut text = format!("t={at},v1=");
    for byte in context.sign().as_ref() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

async fn encrypt(
    webhook: &Webhook,
    host: &str,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let mut roots = rustls::RootCertStore::empty();
    // What cannot be read is said below, if nothing can.
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = &webhook.ca_file {
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
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is no name of a host"))?;
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| format!("no TLS with `{host}`: {error}"))
}

// ---- command

/// What can stand in an environment: foreign text may hold a NUL, which cannot, and be longer than the kernel takes.
fn for_environment(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(shown).take(ENVIRONMENT_MAX).collect()
}

async fn command(hook: &Hook, message: &Message) -> Result<(), String> {
    let timeout = hook.timeout.unwrap_or(COMMAND);
    let input = serde_json::to_vec(message).map_err(|error| error.to_string())?;
    let subjects: Vec<&str> = message
        .alerts
        .iter()
        .map(|alert| alert.subject.as_str())
        .collect();
    let more = [
        ("UPKEEP_ALERT_ID", message.id.clone()),
        ("UPKEEP_ALERT_HOST", message.host.clone()),
        ("UPKEEP_ALERT_STATE", message.state.clone()),
        ("UPKEEP_ALERT_RULE", message.rule.clone()),
        ("UPKEEP_ALERT_SEVERITY", message.severity.as_str().to_owned()),
        ("UPKEEP_ALERT_SUMMARY", message.summary.clone()),
        ("UPKEEP_ALERT_SUBJECTS", subjects.join(" ")),
    ];
    let more = more.map(|(name, text)| (name, for_environment(&text)));
    // As ourselves, with what a program needs and none of our own settings.
    let inherited = ["PATH", "HOME", "LANG", "TZ", "USER"];
    let launch = SpawnSpec {
        cwd: "/".into(),
        env: std::env::vars_os()
            .filter(|(name, _)| inherited.iter().any(|known| name == known))
            .collect(),
        ..SpawnSpec::default()
    };
    let run = ask::run_with_input(&hook.run, &launch, &more, Some(input));
    match tokio::time::timeout(timeout.into(), run).await {
        Ok(result) => result,
        // Dropped: the program and its group are killed.
        Err(_) => Err(format!("it took longer than {timeout} and was killed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_hmac() {
        // Computed by `printf '1700000000.{}' | openssl dgst -sha256 -hmac key`.
        assert_eq!(
            signature(b"key", 1_700_000_000, b"{}"),
            "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
        );
    }

    #[test]
    fn what_is_asked_again_and_what_is_not() {
        let last: Vec<u16> = (200..600).filter(|status| is_final(*status)).collect();
        assert_eq!(
            (last.first(), last.last(), last.len()),
            (Some(&400), Some(&499), 97)
        );
        assert!(!is_final(408) && !is_final(425) && !is_final(429));
    }

    #[tokio::test]
    async fn a_command_is_told_of_foreign_text_and_reads_long_input() {
        let run = |script: &str| Hook {
            run: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
            timeout: Some(Span::from_secs(20)),
        };
        let mut message = message::test("1".to_owned(), 0.0);
        message.summary = "a\0b\x1b[2J\n".repeat(10_000);
        // It closes standard error, and reads all that it is given, which is more than a pipe holds.
        let script = "exec 2>&-; test ${#UPKEEP_ALERT_SUMMARY} -eq 4000 && test $(wc -c) -gt 100000";
        assert_eq!(command(&run(script), &message).await, Ok(()));
    }

    #[test]
    fn authorities_are_split() {
        assert_eq!(split("a.org", 80), Ok(("a.org", 80)));
        assert_eq!(split("a.org:8080", 80), Ok(("a.org", 8080)));
        assert_eq!(split("[::1]:1", 80), Ok(("::1", 1)));
        assert!(split("a:b", 80).is_err() && split("[::1", 80).is_err());
    }
}
