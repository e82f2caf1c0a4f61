//! One line that was read: its text, its time, its place; and what of it is shown.

use std::io;

use upkeep_api::body::{LogLine, Stream};
use upkeep_model::{id::AppName, logs::LogFormat};
use upkeep_sys::clock;

use super::{LogToRead, Wanted, segment::Place};
use crate::logs::{
    batch::{JsonLine, UNFINISHED},
    names::numbered,
};

/// A line with what a reader needs to go on behind it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) line: LogLine,
    /// Unix ms of the index: what sources are merged by.
    pub(super) at: u64,
    /// Where it begins, and where the next one does.
    pub(super) begins: Place,
    pub(super) after: Place,
    /// Whether that is inside a line, of which this was a piece.
    pub(super) inside: bool,
}

/// Never compared: time and source decide.
impl PartialEq for Item {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Item {}
impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Item {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// Whether a line belongs to the one before it: a stack trace, a wrapped text.
pub(super) fn continues(line: &str) -> bool {
    line.starts_with([' ', '\t', '}', ')', ']'])
        || ["at ", "Caused by", "... ", "Suppressed:"]
            .iter()
            .any(|start| line.starts_with(start))
}

/// Whether a line, or any of a record, is wanted.
pub(super) fn matches(wanted: &Wanted, lines: &[Item]) -> bool {
    wanted
        .grep
        .as_ref()
        .is_none_or(|grep| lines.iter().any(|item| grep.is_match(item.line.line.as_bytes())))
}

impl LogToRead {
    /// The source of a heartbeat: an empty notice, which is not shown.
    pub(super) fn nobody() -> Self {
        Self {
            app: AppName::parse("upkeep").unwrap_or_else(|_| unreachable!("the name is well-formed")),
            index: None,
            stream: Stream::Out,
            path: std::path::PathBuf::new(),
            format: LogFormat::Raw,
            dropped: None,
            lost: None,
        }
    }

    /// Something a reader must know, instead of a line.
    pub(super) fn notice(&self, text: &str) -> LogLine {
        LogLine {
            app: self.app.clone(),
            index: self.index,
            stream: self.stream,
            at: clock::unix_ms() as f64 / 1000.0,
            line: text.to_owned(),
            partial: false,
            notice: true,
        }
    }

    /// A notice, in place of the lines of a file that cannot be read: a rotated one, or the current one up to `end`.
    /// `at`: the time of the line before it.
    pub(super) fn unreadable(&self, at: u64, number: u64, end: Option<u64>, error: &io::Error) -> Item {
        let path = match end {
            Some(_) => self.path.clone(),
            None => numbered(&self.path, number),
        };
        let text = format!(
            "`{}` cannot be read, so lines are missing here: {error}",
            path.display()
        );
        let place = |number, offset| Place { number, offset };
        Item {
            line: self.notice(&text),
            at,
            begins: place(number, 0),
            after: end.map_or_else(|| place(number.saturating_add(1), 0), |end| place(number, end)),
            inside: false,
        }
    }

    /// Whether a line can be told to be unwanted before it is made into text.
    pub(super) fn passes(&self, wanted: &Wanted, bytes: &[u8]) -> bool {
        match &wanted.grep {
            Some(grep) if !wanted.records && self.format == LogFormat::Raw => grep.is_match(bytes),
            _ => true,
        }
    }

    /// A line as the program wrote it: what our forms have added becomes its time again.
    pub(super) fn line(&self, at_ms: u64, bytes: &[u8], partial: bool) -> LogLine {
        let text = String::from_utf8_lossy(bytes);
        let (at_ms, text, partial) = match self.format {
            LogFormat::Raw => (at_ms, text.into_owned(), partial),
            LogFormat::Timestamped => match without_time(&text) {
                Some((at, rest)) => match rest.strip_suffix(UNFINISHED) {
                    Some(piece) => (at, piece.to_owned(), true),
                    None => (at, rest.to_owned(), partial),
                },
                None => (at_ms, text.into_owned(), partial),
            },
            LogFormat::Json => match serde_json::from_str::<JsonLine<'_>>(&text) {
                Ok(line) => (
                    millis_of(&line.time).unwrap_or(at_ms),
                    line.message.into_owned(),
                    line.partial || partial,
                ),
                Err(_) => (at_ms, text.into_owned(), partial),
            },
        };
        LogLine {
            app: self.app.clone(),
            index: self.index,
            stream: self.stream,
            at: at_ms as f64 / 1000.0,
            line: text,
            partial,
            notice: false,
        }
    }
}

/// `2026-11-23T03:10:00.123Z text`, taken apart.
fn without_time(text: &str) -> Option<(u64, &str)> {
    let (time, rest) = text.split_once(' ').unwrap_or((text, ""));
    (time.len() >= 24 && time.ends_with('Z'))
        .then(|| millis_of(time))
        .flatten()
        .map(|at| (at, rest))
}

fn millis_of(time: &str) -> Option<u64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}
