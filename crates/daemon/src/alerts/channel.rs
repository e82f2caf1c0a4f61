//! One try to deliver a message: by mail, by webhook, by command.
//!
//! Each try reads its secrets anew, takes no longer than its timeout, and ends with what was wrong in one line. Secrets
//! never stand in that line, nor in a process's arguments or environment.

use std::{path::Path, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use upkeep_api::{alert::Message, client::chain};
use upkeep_keeper::protocol::SpawnSpec;
use upkeep_model::{
    hex::hex,
    settings::{
        Channel, Url,
        alerts::{Email, Hook, MailTls, Webhook},
    },
    size::Span,
};
use upkeep_sys::clock;

use super::message;
use crate::{
    apps::health::ask,
    settings::read_secret,
    web::{self, certificates},
};

/// How long a webhook may take unless said otherwise.
const WEBHOOK: Span = Span::from_secs(10);
/// How long a mail may take.
const MAIL: Duration = Duration::from_mins(1);
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
    let port = email.port.unwrap_or(port);
    // The certificate is held against the name, above; the connection goes to its first address.
    let host = email.host.clone();
    let address = tokio::task::spawn_blocking(move || upkeep_host::names::resolve(&host, port))
        .await
        .map_err(|_| "the daemon is ending".to_owned())?
        .map_err(|error| format!("failed to find `{}`: {error}", email.host))?
        .first()
        .map(|address| address.ip().to_string())
        .ok_or_else(|| format!("failed to find `{}`: it has no address", email.host))?;
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address)
        .port(port)
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

// ---- webhook

async fn post(webhook: &Webhook, message: &Message) -> Result<(), Failure> {
    let url = match (&webhook.url, &webhook.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(path)) => secret(path)?
            .parse::<Url>()
            // Its words hold the text, which is a secret.
            .map_err(|_| format!("`{path}` holds no URL such as `https://example.org/path`"))?,
        (None, None) => return Err("the webhook has no URL".to_owned().into()),
    };
    let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("upkeep-delivery".to_owned(), message.id.clone()),
    ];
    if let Some(path) = &webhook.secret_file {
        let at = clock::unix_ms() / 1000;
        let signature = signature(secret(path)?.as_bytes(), at, &body);
        headers.push(("upkeep-signature".to_owned(), signature));
    }
    if let Some(path) = &webhook.headers_file {
        headers.extend(web::headers_of(path)?);
    }
    let (scheme, _, path) = url.parts();
    let trust = if scheme == "https" {
        Some(web::trust(webhook.ca_file.as_deref())?)
    } else {
        None
    };
    let answer = web::post(&url, path, &headers, body, trust).await?;
    match answer.status.as_u16() {
        200..=299 => Ok(()),
        code => Err(Failure {
            why: answer.refusal(),
            is_final: is_final(code),
        }),
    }
}

/// Whether a status says that the same request will never be taken (RFC 9110, section 15.5): but for 408 (timeout), 425
/// (too early) and 429 (too many).
const fn is_final(status: u16) -> bool {
    matches!(status, 400..=499) && !matches!(status, 408 | 425 | 429)
}

/// `t=UNIX,v1=HEX`: HMAC-SHA256 by the key over the time, a dot and the body.
fn signature(key: &[u8], at: u64, body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let mut context = ring::hmac::Context::with_key(&key);
    context.update(at.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    format!("t={at},v1={}", hex(context.sign().as_ref()))
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
}
