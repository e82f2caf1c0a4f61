//! Reading logs back: the last lines, the lines since a time, and what comes next.
//!
//! Everything here blocks on files and belongs on a blocking thread. A source is read through the files on disk; the
//! pump may rotate meanwhile. The current file is opened first and the rotated ones are listed after it, so that a
//! rotation in between shows a file twice rather than never, and the double is recognised by its inode.

mod backward;
mod follow;
mod forward;
mod segment;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BinaryHeap, io, path::PathBuf};

use regex::Regex;
use upkeep_api::body::{LogLine, Stream};
use upkeep_model::id::AppName;

use self::{backward::Backward, follow::follow, forward::Forward, segment::OpenLog};

/// A line is cut into pieces of this length.
const LINE_MAX: usize = 1 << 20;
/// How much is read at a time.
const BLOCK: usize = 64 << 10;
/// One log to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogToRead {
    pub(crate) app: AppName,
    /// Absent where all instances share the file.
    pub(crate) index: Option<u32>,
    pub(crate) stream: Stream,
    pub(crate) path: PathBuf,
    /// What a reader who reaches the oldest line must know.
    pub(crate) dropped: Option<String>,
    /// What every reader must know.
    pub(crate) lost: Option<String>,
}

/// What is wanted of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) lines: Option<usize>,
    pub(crate) since_ms: Option<u64>,
    pub(crate) grep: Option<Regex>,
    pub(crate) follow: bool,
}

/// Takes lines; `false`: no more.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(LogLine) -> bool;

/// Reads what is there and, if wanted, goes on with what comes. `list` names the logs, again and again while following.
pub(crate) fn run(list: &dyn Fn() -> Vec<LogToRead>, wanted: &Wanted, sink: Sink<'_>) -> io::Result<()> {
    let sources = list();
    let mut open = Vec::with_capacity(sources.len());
    for source in sources {
        match OpenLog::open(source.clone(), wanted.follow) {
            Ok(Some(log)) => open.push(log),
            Ok(None) => {}
            // The others are read all the same.
            Err(error) => {
                let text = format!("failed to read `{}`: {error}", source.path.display());
                if !sink(source.notice(&text)) {
                    return Ok(());
                }
            }
        }
    }
    for log in &open {
        if let Some(lost) = &log.source.lost
            && !sink(log.notice(lost))
        {
            return Ok(());
        }
    }
    let go_on = match wanted.lines {
        Some(count) => last_lines(&open, wanted, count, sink)?,
        None => all_lines(&open, wanted, sink)?,
    };
    if go_on && wanted.follow {
        follow(open, list, wanted, sink)
    } else {
        Ok(())
    }
}

/// The newest `count` lines over all logs, oldest first.
fn last_lines(logs: &[OpenLog], wanted: &Wanted, count: usize, sink: Sink<'_>) -> io::Result<bool> {
    let mut readers: Vec<Backward<'_>> = logs.iter().map(Backward::new).collect();
    let mut heap = BinaryHeap::new();
    let mut exhausted = Vec::new();
    for (at, reader) in readers.iter_mut().enumerate() {
        match reader.next(wanted)? {
            Some(line) => heap.push((line.0, at, line.1)),
            None => exhausted.push(at),
        }
    }
    let mut lines = Vec::with_capacity(count.min(100_000));
    while lines.len() < count
        && let Some((_, at, line)) = heap.pop()
    {
        lines.push(line);
        match readers[at].next(wanted)? {
            Some(line) => heap.push((line.0, at, line.1)),
            None => exhausted.push(at),
        }
    }
    if lines.len() < count && wanted.since_ms.is_none() {
        for at in exhausted {
            if let Some(dropped) = &logs[at].source.dropped
                && !sink(logs[at].notice(dropped))
            {
                return Ok(false);
            }
        }
    }
    Ok(lines.into_iter().rev().all(|line| sink(line.0)))
}

/// Every line since `wanted.since_ms`, merged by time.
fn all_lines(logs: &[OpenLog], wanted: &Wanted, sink: Sink<'_>) -> io::Result<bool> {
    if wanted.since_ms.is_none() {
        for log in logs {
            if let Some(dropped) = &log.source.dropped
                && !sink(log.notice(dropped))
            {
                return Ok(false);
            }
        }
    }
    let mut readers = Vec::with_capacity(logs.len());
    for log in logs {
        readers.push(Forward::new(log, wanted.since_ms)?);
    }
    let mut heap = BinaryHeap::new();
    for (at, reader) in readers.iter_mut().enumerate() {
        if let Some(line) = reader.next(wanted)? {
            heap.push(Reverse((line.0, at, line.1)));
        }
    }
    while let Some(Reverse((_, at, line))) = heap.pop() {
        if !sink(line.0) {
            return Ok(false);
        }
        if let Some(line) = readers[at].next(wanted)? {
            heap.push(Reverse((line.0, at, line.1)));
        }
    }
    Ok(true)
}

/// A line in a heap: never compared, the time and the source decide.
#[derive(Debug)]
struct Line(LogLine);

impl PartialEq for Line {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Line {}
impl PartialOrd for Line {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Line {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

fn matches(wanted: &Wanted, line: &LogLine) -> bool {
    wanted.grep.as_ref().is_none_or(|grep| grep.is_match(&line.line))
}
