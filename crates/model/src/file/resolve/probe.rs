//! Readiness: defaults and sanity.

use std::collections::BTreeMap;

use crate::{
    app::{Check, Probe},
    file::{
        At, Fault,
        split::{needs_shell, split_words},
        v1::{OneOrMany, Readiness},
    },
    size::Span,
};

const LOCALHOST: &str = "127.0.0.1";

pub(super) fn resolve(
    written: Option<At<Readiness>>,
    env: &BTreeMap<String, String>,
) -> Result<Option<Probe>, Fault> {
    let Some(At {
        value: readiness,
        position,
    }) = written
    else {
        return Ok(None);
    };
    let fault = |message: &str| Fault::new(position, message);
    let check = match (readiness.http, readiness.tcp, readiness.exec) {
        (Some(http), None, None) => {
            let port = http
                .0
                .port
                .or(readiness.port)
                .or_else(|| env.get("PORT").and_then(|port| port.parse().ok()));
            let port = port.filter(|port| *port > 0).ok_or_else(|| {
                fault("`readiness.http` needs a port")
                    .hint("write `port: 3000` beside it, or give the app `PORT` in `env`")
            })?;
            let path = http.0.path.unwrap_or_else(|| "/".to_owned());
            if !path.starts_with('/')
                || path.contains(|character: char| character.is_control() || character == ' ')
            {
                return Err(fault(
                    "the path of `readiness.http` starts with `/` and has no blanks",
                ));
            }
            Check::Http {
                host: http.0.host.unwrap_or_else(|| LOCALHOST.to_owned()),
                port,
                path,
            }
        }
        (None, Some(tcp), None) => Check::Tcp {
            host: tcp.0.host.unwrap_or_else(|| LOCALHOST.to_owned()),
            port: tcp.0.port,
        },
        (None, None, Some(exec)) => Check::Exec {
            command: command(exec).map_err(|message| fault(&message))?,
        },
        (None, None, None) => {
            return Err(
                fault("`readiness` says nothing to check").hint("give it one of `http`, `tcp` and `exec`")
            );
        }
        _ => return Err(fault("`readiness` has more than one of `http`, `tcp` and `exec`")),
    };
    let period = readiness.period.unwrap_or(Span::from_secs(10));
    let timeout = readiness.timeout.unwrap_or(Span::from_secs(1));
    if period.as_millis() < 10 || timeout.as_millis() < 1 {
        return Err(fault(
            "`readiness.period` is 10ms at least, and `readiness.timeout` 1ms",
        ));
    }
    let failure_threshold = readiness.failure_threshold.unwrap_or(3);
    let success_threshold = readiness.success_threshold.unwrap_or(1);
    if failure_threshold == 0 || success_threshold == 0 {
        return Err(fault("the thresholds of `readiness` are 1 at least"));
    }
    Ok(Some(Probe {
        check,
        period,
        timeout,
        initial_delay: readiness.initial_delay.unwrap_or_default(),
        failure_threshold,
        success_threshold,
    }))
}

fn command(exec: OneOrMany) -> Result<Vec<String>, String> {
    let words = match exec {
        OneOrMany::Many(words) => words,
        OneOrMany::One(line) if needs_shell(&line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line],
        OneOrMany::One(line) => split_words(&line).map_err(|error| format!("`readiness.exec`: {error}"))?,
    };
    if words.first().is_none_or(String::is_empty) {
        return Err("`readiness.exec` is empty".to_owned());
    }
    Ok(words)
}
