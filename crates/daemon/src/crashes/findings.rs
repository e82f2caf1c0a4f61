//! What a crash looks like, in words: the numbers first, then a table of what programs say when they die.
//!
//! A finding quotes the line that it is read from. It is a suggestion, not a proof; there may be none.

use upkeep_api::{
    body::{Event, LogLine},
    crash::Crash,
};
use upkeep_model::{exit::Exit, size::ByteSize};
use upkeep_supervise::words;

use super::machine;

/// Longer quotes are cut.
const QUOTE: usize = 200;
/// More findings nobody reads.
const FINDINGS: usize = 6;
/// Signals.
const KILL: u8 = 9;
const PIPE: u8 = 13;
const SYS: u8 = 31;

/// What a program writes, in lower case, and what that means. The first of a row that is found counts; rows are in
/// order of how much they explain.
const TABLE: &[(&[&str], &str)] = &[
    (
        &[
            "eaddrinuse",
            "address already in use",
            "address in use",
            "os error 98",
        ],
        "address already in use",
    ),
    (
        &[
            "javascript heap out of memory",
            "java.lang.outofmemoryerror",
            "memoryerror",
            "runtime: out of memory",
            "cannot allocate memory",
            "std::bad_alloc",
            "allowed memory size of",
            "memory allocation of",
        ],
        "it ran out of memory by its own account",
    ),
    (
        &[
            "cannot find module",
            "cannot find package",
            "modulenotfounderror",
            "no module named",
            "cannot load such file",
            "could not find or load main class",
            "class not found",
        ],
        "module not found",
    ),
    (
        &["error while loading shared libraries", "version `glibc"],
        "a shared library is missing",
    ),
    (&["no space left on device", "enospc"], "no space left on a disk"),
    (
        &["too many open files", "emfile", "enfile"],
        "too many open files (`limits: {nofile: …}` in the app file, or it leaks them)",
    ),
    (
        &["permission denied", "eacces", "operation not permitted", "eperm"],
        "permission denied",
    ),
    (&["read-only file system", "erofs"], "a file system is read-only"),
    (
        &["econnrefused", "connection refused"],
        "connection refused: what it depends on does not answer",
    ),
    (
        &[
            "enotfound",
            "eai_again",
            "name or service not known",
            "temporary failure in name resolution",
            "no such host",
        ],
        "a host name could not be resolved",
    ),
    (
        &[
            "certificate has expired",
            "cert_has_expired",
            "certificate verify failed",
        ],
        "a certificate is not accepted",
    ),
    (
        &[
            "password authentication failed",
            "access denied for user",
            "authentication failed",
            "noauth",
        ],
        "a login was refused",
    ),
    (
        &["command not found", "exec format error", "bad interpreter"],
        "a program that it needs is not there, or is none",
    ),
    (
        &[
            "syntaxerror",
            "indentationerror",
            "parse error",
            "unexpected token",
        ],
        "its code or configuration does not parse",
    ),
    (
        &["filenotfounderror", "enoent", "no such file or directory"],
        "a file is missing",
    ),
    (
        &[
            "stack overflow",
            "maximum call stack size exceeded",
            "recursionerror",
        ],
        "its stack ran over",
    ),
    (
        &["assertion failed", "assertion `", "assertionerror"],
        "an assertion failed",
    ),
    (
        &[
            "unhandledpromiserejection",
            "unhandled promise rejection",
            "uncaught exception",
            "unhandled exception",
            "panicked at",
            "panic:",
            "traceback (most recent call last)",
            "fatal error:",
            "exception in thread",
        ],
        "an error that nothing in it handles",
    ),
];

/// What is known beside the dossier itself.
pub(super) struct More<'a> {
    pub(super) unhealthy: Option<&'a str>,
    /// Processes of this machine that the kernel has killed for want of memory in the last seconds; `None`: not known.
    pub(super) killed_on_machine: Option<u64>,
    /// Whether it has a sandbox.
    pub(super) sandboxed: bool,
    /// What it leaked, in the words of the event.
    pub(super) leaks: Vec<String>,
    /// Whether its memory is limited by a cgroup, whose kills are counted.
    pub(super) counted: bool,
}

/// The likeliest first.
pub(super) fn find(crash: &Crash, more: &More<'_>) -> Vec<String> {
    let mut found = Vec::new();
    of_numbers(crash, more, &mut found);
    found.extend(more.leaks.iter().cloned());
    // Only what this process said: the one before had its own crash.
    let begun = crash.summary.at - crash.summary.uptime_ms as f64 / 1000.0 - 0.05;
    let own: Vec<&LogLine> = crash.logs.iter().filter(|line| line.at >= begun).collect();
    of_lines(&own, &mut found);
    if let (Some(Exit::Code(code)), true) = (crash.summary.exit, found.is_empty()) {
        found.extend(of_code(code));
    }
    found.extend(of_changes(crash));
    found.truncate(FINDINGS);
    found
}

fn of_numbers(crash: &Crash, more: &More<'_>, found: &mut Vec<String>) {
    let limit = crash.memory_limit_bytes.filter(|limit| *limit > 0);
    if let Some(why) = more.unhealthy {
        found.push(format!("it was ended because its check failed: {why}"));
    }
    let peak = peak(crash);
    match crash.summary.exit {
        Some(Exit::OutOfMemory) => found.push(match limit {
            Some(limit) => format!(
                "the kernel killed it: its processes reached their memory limit of {}",
                ByteSize::from_bytes(limit)
            ),
            None => "the kernel killed it for want of memory".to_owned(),
        }),
        Some(Exit::Signal { number: KILL, .. }) if more.unhealthy.is_none() => {
            found.push(match more.killed_on_machine {
                Some(count) if count > 0 => format!(
                    "SIGKILL, probably of the kernel: in the last seconds it has killed {} of this machine for want of memory \
                     (`dmesg` names them)",
                    words::count(usize::try_from(count).unwrap_or(usize::MAX), "process")
                        .replace("processs", "processes")
                ),
                Some(_) => "SIGKILL came from outside: neither Upkeep sent it nor the kernel for want of memory".to_owned(),
                None if more.counted => {
                    "SIGKILL came from outside: neither Upkeep sent it nor the kernel at its memory limit".to_owned()
                }
                None => "SIGKILL came from outside: Upkeep did not send it; whether the kernel did for want of memory \
                         cannot be told here"
                    .to_owned(),
            });
        }
        Some(Exit::Signal { number: SYS, .. }) if more.sandboxed => found.push(
            "it made a system call that its sandbox forbids (`upkeep sandbox levels` names the groups)"
                .to_owned(),
        ),
        Some(Exit::Signal { number: PIPE, .. }) => {
            found.push("it wrote to a pipe or socket that nobody reads any more".to_owned());
        }
        _ => {}
    }
    if let Some(limit) = limit {
        let percent = peak.saturating_mul(100) / limit;
        if percent >= 90 && crash.summary.exit != Some(Exit::OutOfMemory) {
            found.push(format!(
                "memory was at {percent} % of its limit: {}",
                ByteSize::from_bytes(limit)
            ));
        }
    }
}

/// Highest memory that was seen: of one process as the kernel counted, or of all of them in the figures.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
fn peak(crash: &Crash) -> u64 {
    let of_figures = crash
        .metrics
        .iter()
        .flat_map(|metrics| &metrics.series)
        .filter(|series| series.metric == "memory")
        .flat_map(|series| series.highs.iter().flatten())
        .fold(0.0_f64, |highest, value| highest.max(*value));
    crash.max_rss_bytes.max(of_figures as u64)
}

fn of_lines(lines: &[&LogLine], found: &mut Vec<String>) {
    for (needles, meaning) in TABLE {
        // The last word counts.
        let line = lines.iter().rev().find(|line| {
            let lower = line.line.to_lowercase();
            needles.iter().any(|needle| lower.contains(needle))
        });
        let Some(line) = line else { continue };
        let mut text = (*meaning).to_owned();
        if *meaning == "address already in use"
            && let Some(port) =
                port(&line.line).or_else(|| lines.iter().rev().find_map(|line| port(&line.line)))
        {
            match machine::listener(port) {
                Some(other) => text.push_str(&format!(
                    " — process {} ({}) listens on {port}",
                    other.pid, other.name
                )),
                None => text.push_str(&format!(" — on port {port}, where nobody listens any more")),
            }
        }
        found.push(format!("{text}: “{}”", quote(&line.line)));
    }
}

fn quote(line: &str) -> &str {
    let line = line.trim();
    &line[..line.floor_char_boundary(QUOTE)]
}

/// The port in `listen EADDRINUSE: address already in use :::3000`, `('127.0.0.1', 3000)`, `port: 3000`.
fn port(line: &str) -> Option<u16> {
    let lower = line.to_lowercase();
    let after = |mark: &str| {
        let mut rest = lower.as_str();
        let mut last = None;
        while let Some(at) = rest.find(mark) {
            rest = &rest[at + mark.len()..];
            let digits: String = rest
                .trim_start()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            if digits.len() >= 2
                && let Ok(port) = digits.parse()
            {
                last = Some(port);
            }
        }
        last
    };
    after("port:")
        .or_else(|| after("port "))
        .or_else(|| after(":"))
        .or_else(|| after(","))
}

fn of_code(code: u8) -> Option<String> {
    // What a shell says of what it ran.
    match code {
        126 => Some("126 is what a shell says of a program that cannot be executed".to_owned()),
        127 => Some("127 is what a shell says of a program that is not there".to_owned()),
        129..=159 => Some(format!(
            "{code} is what a shell says of a program that {} ended",
            upkeep_model::exit::signal_name(i32::from(code) - 128)
        )),
        _ => None,
    }
}

/// Changes so short before the process was started, or while it ran, may be the cause.
const FRESH_S: f64 = 600.0;

fn of_changes(crash: &Crash) -> Option<String> {
    let begun = crash.summary.at - crash.summary.uptime_ms as f64 / 1000.0;
    let is_change = |event: &&Event| {
        matches!(
            event.what.as_str(),
            "apply" | "rollback" | "settings" | "upgrade_daemon" | "upgrade_keeper" | "scale"
        )
    };
    let change = crash.changes.iter().find(is_change)?;
    if crash.summary.at - change.at > FRESH_S + crash.summary.uptime_ms as f64 / 1000.0 {
        return None;
    }
    let (when, from) = if change.at <= begun {
        ("before it was started", begun)
    } else {
        ("before it died", crash.summary.at)
    };
    let ms = ((from - change.at).max(0.0) * 1000.0).min(1e12);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded above"
    )]
    let span = words::about(ms as u64);
    Some(format!("`{}` by {} came {span} {when}", change.what, change.who))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(exit: serde_json::Value, lines: &[&str]) -> Crash {
        let logs: Vec<serde_json::Value> = lines
            .iter()
            .map(
                |line| serde_json::json!({"app": "a", "index": 0, "stream": "err", "at": 99.9, "line": line}),
            )
            .collect();
        serde_json::from_value(serde_json::json!({
            "app": "a", "id": 1, "at": 100.0, "index": 0, "exit": exit, "cause": "", "uptime_ms": 1000,
            "verdict": "", "pid": 7, "max_rss_bytes": 0, "logs": logs, "metrics": null, "changes": [], "core": null,
            "findings": [],
        }))
        .expect("a dossier")
    }

    const NOTHING: More<'_> = More {
        unhealthy: None,
        killed_on_machine: Some(0),
        sandboxed: false,
        leaks: Vec::new(),
        counted: false,
    };

    #[test]
    fn last_words_are_understood() {
        for (line, wanted) in [
            (
                "Error: Cannot find module 'express'",
                "module not found: “Error: Cannot",
            ),
            ("ModuleNotFoundError: No module named 'flask'", "module not found"),
            ("open /etc/shadow: permission denied", "permission denied"),
            (
                "thread 'main' panicked at src/main.rs:1:1:",
                "an error that nothing in it handles",
            ),
            ("connect ECONNREFUSED 127.0.0.1:5432", "connection refused"),
        ] {
            let found = find(&crash(serde_json::json!({"code": 1}), &["hello", line]), &NOTHING);
            assert!(found[0].starts_with(wanted), "{line}: {found:?}");
        }
        assert_eq!(
            find(&crash(serde_json::json!({"code": 1}), &["all is well"]), &NOTHING),
            Vec::<String>::new()
        );
    }

    #[test]
    fn who_has_the_port_is_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = socket.local_addr().expect("bound").port();
        let line = format!("Error: listen EADDRINUSE: address already in use :::{port}");
        let found = find(&crash(serde_json::json!({"code": 1}), &[&line]), &NOTHING);
        let wanted = format!("process {} (", std::process::id());
        assert!(
            found[0].contains(&wanted) && found[0].contains(&line),
            "{found:?}"
        );
    }

    #[test]
    fn ports_are_read() {
        for (line, wanted) in [
            ("address already in use :::3000", Some(3000)),
            ("bind: 0.0.0.0:8080: Address already in use", Some(8080)),
            (
                "[Errno 98] error while attempting to bind on address ('127.0.0.1', 8000)",
                Some(8000),
            ),
            ("  port: 3001", Some(3001)),
            ("Address in use", None),
        ] {
            assert_eq!(port(line), wanted, "{line}");
        }
    }

    #[test]
    fn kills_are_told_apart() {
        let kill = serde_json::json!({"signal": {"number": 9, "core": false}});
        let outside = find(&crash(kill.clone(), &[]), &NOTHING);
        assert!(
            outside[0].starts_with("SIGKILL came from outside: neither"),
            "{outside:?}"
        );
        let machine = More {
            killed_on_machine: Some(1),
            ..NOTHING
        };
        let found = find(&crash(kill, &[]), &machine);
        assert!(found[0].contains("killed 1 process of this machine"), "{found:?}");
        let mut limited = crash(serde_json::json!("out_of_memory"), &[]);
        limited.memory_limit_bytes = Some(512 << 20);
        assert_eq!(
            find(&limited, &NOTHING),
            ["the kernel killed it: its processes reached their memory limit of 512M"]
        );
        limited.summary.exit = Some(Exit::Code(1));
        limited.max_rss_bytes = 500 << 20;
        assert_eq!(
            find(&limited, &NOTHING),
            ["memory was at 97 % of its limit: 512M"]
        );
    }
}
