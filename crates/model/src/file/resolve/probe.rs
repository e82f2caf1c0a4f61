//! Readiness, liveness and startup: defaults and sanity.

use std::collections::BTreeMap;

use crate::{
    app::{Check, Probe},
    file::{
        At, Fault,
        split::{needs_shell, split_words},
        v1::{HttpCheck, HttpGet, HttpParts, OneOrMany, Readiness, TcpCheck},
    },
    size::Span,
};

const LOCALHOST: &str = "127.0.0.1";

/// Where an instance can be asked if a check does not say.
pub(super) struct Ports<'a> {
    /// Its variables.
    pub(super) env: &'a BTreeMap<String, String>,
    /// The first TCP port of `listen`.
    pub(super) listen: Option<u16>,
    /// Whether each instance has a port of its own.
    pub(super) own: bool,
}

pub(super) fn resolve(
    key: &str,
    written: Option<At<Readiness>>,
    ports: &Ports<'_>,
) -> Result<Option<Probe>, Fault> {
    let Some(At {
        value: probe,
        position,
    }) = written
    else {
        return Ok(None);
    };
    let fault = |message: String| Fault::new(position, message);
    let mut probe = probe;
    kubernetes(key, &mut probe).map_err(|(message, hint)| fault(message).hint(hint))?;
    let mut checks = Vec::new();
    if let Some(http) = probe.http {
        let own = || ports.env.get("PORT").and_then(|port| port.parse().ok());
        let port = http.0.port.or(probe.port).filter(|port| *port > 0);
        let port = match port.or_else(own).or(ports.listen) {
            _ if port.is_none() && ports.own => 0,
            Some(port) if port > 0 => port,
            _ => {
                return Err(fault(format!("`{key}.http` needs a port"))
                    .hint("write `port: 3000` beside it, or give the app `PORT` in `env`"));
            }
        };
        let path = http.0.path.unwrap_or_else(|| "/".to_owned());
        if !path.starts_with('/')
            || path.contains(|character: char| character.is_control() || character == ' ')
        {
            return Err(fault(format!(
                "the path of `{key}.http` starts with `/` and has no blanks"
            )));
        }
        let headers = http.0.headers.unwrap_or_default();
        for (name, value) in &headers {
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) || value.contains(|c: char| c.is_control()) {
                return Err(fault(format!(
                    "`{key}.http`: `{}` is no header",
                    name.escape_debug()
                )));
            }
        }
        checks.push(Check::Http {
            host: http.0.host.unwrap_or_else(|| LOCALHOST.to_owned()),
            port,
            path,
            headers,
        });
    }
    if let Some(tcp) = probe.tcp {
        checks.push(Check::Tcp {
            host: tcp.0.host.unwrap_or_else(|| LOCALHOST.to_owned()),
            port: tcp.0.port,
        });
    }
    if let Some(exec) = probe.exec {
        checks.push(Check::Exec {
            command: words(&format!("{key}.exec"), exec.0).map_err(fault)?,
        });
    }
    if let Some(pattern) = probe.log {
        if pattern.is_empty() {
            return Err(fault(format!("`{key}.log` is empty, so every line would match")));
        }
        checks.push(Check::Log { pattern });
    }
    if probe.notify == Some(true) {
        checks.push(Check::Notify);
    }
    if probe.message == Some(true) {
        checks.push(Check::Message);
    }
    let kinds = "`http`, `tcp`, `exec`, `log`, `notify` and `message`";
    if checks.len() > 1 {
        return Err(fault(format!("`{key}` has more than one of {kinds}")));
    }
    let Some(check) = checks.pop() else {
        return Err(fault(format!("`{key}` says nothing to check")).hint(format!("give it one of {kinds}")));
    };
    let period = probe.period.unwrap_or(Span::from_secs(10));
    let timeout = probe.timeout.unwrap_or(Span::from_secs(1));
    if period.as_millis() < 10 || timeout.as_millis() < 1 {
        return Err(fault(format!(
            "`{key}.period` is 10ms at least, and `{key}.timeout` 1ms"
        )));
    }
    let failure_threshold = probe.failure_threshold.unwrap_or(3);
    let success_threshold = probe.success_threshold.unwrap_or(1);
    if failure_threshold == 0 || success_threshold == 0 {
        return Err(fault(format!("the thresholds of `{key}` are 1 at least")));
    }
    if key != "readiness" {
        if success_threshold != 1 {
            return Err(fault(format!(
                "`{key}.success_threshold` is {success_threshold}; for anything but readiness it can only be 1"
            )));
        }
        if key == "liveness" && check == Check::Message {
            return Err(
                fault("`liveness` cannot be told by a message, which comes once".to_owned())
                    .hint("`liveness: {notify: true}` is a watchdog; `http`, `tcp` and `exec` ask"),
            );
        }
    }
    for (name, span) in [
        ("period", Some(period)),
        ("timeout", Some(timeout)),
        ("initial_delay", probe.initial_delay),
        ("jitter", probe.jitter),
        ("grace", probe.grace),
    ] {
        if let Some(span) = span.filter(|span| *span > LONGEST) {
            return Err(fault(format!(
                "`{key}.{name}` is {span}, which is longer than {LONGEST}"
            ))
            .hint("a number without a unit counts milliseconds"));
        }
    }
    Ok(Some(Probe {
        grace: probe.grace,
        check,
        period,
        timeout,
        initial_delay: probe.initial_delay.unwrap_or_default(),
        failure_threshold,
        success_threshold,
        jitter: probe
            .jitter
            .unwrap_or_else(|| Span::from_millis(period.as_millis() / 10)),
    }))
}

/// Ready when its own port accepts a connection.
pub(super) fn accepts() -> Probe {
    Probe {
        check: Check::Tcp {
            host: LOCALHOST.to_owned(),
            port: 0,
        },
        period: Span::from_secs(10),
        timeout: Span::from_secs(1),
        initial_delay: Span::default(),
        failure_threshold: 3,
        success_threshold: 1,
        jitter: Span::from_secs(1),
        grace: None,
    }
}

/// Longer than this is a mistake.
const LONGEST: Span = Span::from_secs(7 * 24 * 3600);

/// Kubernetes' spelling of a probe becomes ours. A key may be written in one of the two.
fn kubernetes(key: &str, probe: &mut Readiness) -> Result<(), (String, String)> {
    fn take<T>(
        key: &str,
        ours: &mut Option<T>,
        name: &str,
        theirs: Option<T>,
    ) -> Result<(), (String, String)> {
        match (&ours, theirs) {
            (_, None) => Ok(()),
            (None, theirs) => {
                *ours = theirs;
                Ok(())
            }
            (Some(_), Some(_)) => Err((
                format!("`{key}` has `{name}` twice, in both spellings"),
                "leave one of them out".to_owned(),
            )),
        }
    }
    let seconds = |seconds: Option<u32>| seconds.map(|seconds| Span::from_secs(seconds.into()));
    let http = match probe.http_get.take() {
        Some(HttpGet {
            path,
            port,
            host,
            scheme,
            headers,
        }) => {
            if let Some(scheme) = scheme.filter(|scheme| !scheme.eq_ignore_ascii_case("http")) {
                return Err((
                    format!("`{key}.httpGet`: the scheme `{scheme}` is not supported"),
                    "write `exec` with a client that checks certificates as you want it".to_owned(),
                ));
            }
            let headers = headers.map(|headers| {
                let pairs = headers.into_iter().map(|header| (header.name, header.value));
                pairs.collect()
            });
            Some(HttpCheck(HttpParts {
                host,
                port,
                path,
                headers,
            }))
        }
        None => None,
    };
    take(key, &mut probe.http, "http", http)?;
    let tcp = probe.tcp_socket.take().map(TcpCheck);
    take(key, &mut probe.tcp, "tcp", tcp)?;
    take(key, &mut probe.period, "period", seconds(probe.period_seconds))?;
    take(key, &mut probe.timeout, "timeout", seconds(probe.timeout_seconds))?;
    let delay = seconds(probe.initial_delay_seconds);
    take(key, &mut probe.initial_delay, "initial_delay", delay)?;
    let (failures, successes) = (
        probe.kubernetes_failure_threshold,
        probe.kubernetes_success_threshold,
    );
    take(key, &mut probe.failure_threshold, "failure_threshold", failures)?;
    take(key, &mut probe.success_threshold, "success_threshold", successes)?;
    let grace = seconds(probe.termination_grace_period_seconds);
    take(key, &mut probe.grace, "grace", grace)
}

/// A command from a list of words or a line.
pub(super) fn words(key: &str, written: OneOrMany) -> Result<Vec<String>, String> {
    let words = match written {
        OneOrMany::Many(words) => words,
        OneOrMany::One(line) if needs_shell(&line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line],
        OneOrMany::One(line) => split_words(&line).map_err(|error| format!("`{key}`: {error}"))?,
    };
    if words.first().is_none_or(String::is_empty) {
        return Err(format!("`{key}` is empty"));
    }
    Ok(words)
}
