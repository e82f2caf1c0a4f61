//! What a process said last, from its log files.

use std::path::Path;

use upkeep_api::body::LogLine;
use upkeep_model::app::AppSpec;

use crate::{
    apps::launch,
    logs::read::{self, LogToRead, Wanted},
    main_loop::note,
};

/// How many lines a dossier holds.
pub(super) const LINES: usize = 200;
/// Longer lines are cut.
const LINE_MAX: usize = 2000;
/// Lines that came so long after its end are still its own: they are dated when they are written down.
const LATE_S: f64 = 0.05;

/// The last lines of an instance that came until `until`, oldest first. `hide`: texts that may not be shown.
pub(super) fn last(spec: &AppSpec, index: u32, logs: &Path, until: f64, hide: &[&str]) -> Vec<LogLine> {
    let places = || {
        let mut list: Vec<LogToRead> = Vec::new();
        for place in launch::log_places(spec, index, logs) {
            if !list.iter().any(|known| known.path == place.path) {
                list.push(to_read(spec, place));
            }
        }
        list
    };
    let wanted = Wanted {
        lines: Some(LINES),
        // What came after it may be a great deal already.
        until_ms: Some(millis(until + LATE_S)),
        ..Wanted::default()
    };
    let mut lines = Vec::new();
    let mut sink = |line: LogLine, _: Option<&read::marks::Marks>| {
        if !line.notice {
            lines.push(line);
        }
        true
    };
    let around = read::Around {
        list: &places,
        cut: &upkeep_sys::clock::unix_ms,
    };
    if let Err(error) = read::run(&around, &wanted, &mut sink) {
        note(&format!(
            "the last lines of `{}` could not be read: {error}",
            spec.name
        ));
    }
    for line in &mut lines {
        for secret in hide {
            if line.line.contains(secret) {
                line.line = line.line.replace(secret, "(hidden)");
            }
        }
        if line.line.len() > LINE_MAX {
            let end = line.line.floor_char_boundary(LINE_MAX);
            line.line.truncate(end);
            line.line.push('…');
        }
    }
    lines
}

/// Unix seconds as milliseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

fn to_read(spec: &AppSpec, place: launch::LogPlace) -> LogToRead {
    LogToRead {
        app: spec.name.clone(),
        index: place.index,
        stream: place.stream,
        path: place.path,
        format: spec.logs.format,
        dropped: None,
        lost: None,
    }
}

/// Shorter values are words, and no secrets.
const SECRET_MIN: usize = 6;

/// Values of variables whose name says that they are secrets: no line of a dossier shows them.
pub(super) fn secrets(spec: &AppSpec) -> Vec<&str> {
    const WORDS: [&str; 9] = [
        "PASS",
        "SECRET",
        "TOKEN",
        "KEY",
        "CREDENTIAL",
        "AUTH",
        "DSN",
        "_URL",
        "_URI",
    ];
    let mut values: Vec<&str> = spec
        .env
        .iter()
        .chain(&spec.inherited_env)
        .filter(|(name, value)| {
            let name = name.to_uppercase();
            value.len() >= SECRET_MIN && WORDS.iter().any(|word| name.contains(word))
        })
        .map(|(_, value)| value.as_str())
        .collect();
    // Longest first: one may be the beginning of another.
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    values.dedup();
    values
}
