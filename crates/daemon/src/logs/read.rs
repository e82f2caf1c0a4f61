//! Reading logs back: the last lines, the lines since a time, and what comes next.
//!
//! Everything here blocks on files and belongs on a blocking thread. A source is read through the files on disk; the
//! pump may rotate meanwhile, and the janitor may compress and delete. A reader opens the current file, lists the
//! rotated ones, and looks whether the current one is still current: if not, it does so again. Thus it knows the
//! number of each file, and a number and an offset are a [`segment::Place`] that outlives rotation and compression.
//!
//! Files are opened only when their turn comes, and what lies before `--since` is not opened at all: the time indexes
//! tell, from the newest file backwards. Compressed files are entered at the frame that is wanted.

mod backward;
mod follow;
mod forward;
mod line;
pub(crate) mod marks;
pub(crate) mod more;
mod segment;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BinaryHeap, io, path::PathBuf, sync::Arc};

use regex::bytes::Regex;
use upkeep_api::body::{LogLine, Stream};
use upkeep_model::{id::AppName, logs::LogFormat};

use self::{
    backward::Backward,
    follow::follow,
    forward::{Forward, Start},
    line::Item,
    marks::{Mark, Marks},
    segment::OpenLog,
};

/// A line is cut into pieces of this length.
const LINE_MAX: usize = 1 << 20;
/// How much is read at a time.
const BLOCK: usize = 64 << 10;

/// After so many blocks it is asked whether somebody still wants them.
const ASK_EVERY: u32 = 16;

/// What was opened and read, for tests of what was not.
#[cfg(test)]
mod counted {
    use std::cell::Cell;

    thread_local! {
        pub(super) static OPENED: Cell<u32> = const { Cell::new(0) };
        pub(super) static READ: Cell<u64> = const { Cell::new(0) };
    }
}

/// One log to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogToRead {
    pub(crate) app: AppName,
    /// Absent where all instances share the file.
    pub(crate) index: Option<u32>,
    pub(crate) stream: Stream,
    pub(crate) path: PathBuf,
    /// The form of its lines now; older ones may have another.
    pub(crate) format: LogFormat,
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
    /// Nothing that arrived after this.
    pub(crate) until_ms: Option<u64>,
    pub(crate) grep: Option<Regex>,
    /// Lines that continue the one before belong to it: `grep` chooses whole records.
    pub(crate) records: bool,
    pub(crate) follow: bool,
    /// Go on where a reader before was: its id.
    pub(crate) resume: Option<Marks>,
    /// Asked now and then while much is read and little given out.
    pub(crate) gone: Option<Gone>,
}

/// Tells whether whoever wanted lines has left.
#[derive(Clone)]
pub(crate) struct Gone(Arc<dyn Fn() -> bool + Send + Sync>);

impl Gone {
    pub(crate) fn new(is_gone: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_gone))
    }
}

impl std::fmt::Debug for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gone")
    }
}

impl Wanted {
    /// Ends a reading whose client has left; called before each block.
    fn go_on(&self, blocks: &mut u32) -> io::Result<()> {
        *blocks = blocks.wrapping_add(1);
        if blocks.is_multiple_of(ASK_EVERY) && self.gone.as_ref().is_some_and(|gone| gone.0()) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "nobody reads any more",
            ));
        }
        Ok(())
    }
}

/// Something a reader must know, of no log in particular.
pub(crate) fn notice(text: &str) -> LogLine {
    LogToRead::nobody().notice(text)
}

/// What a reader needs of the rest of the daemon.
pub(crate) struct Around<'a> {
    /// Names the logs, again and again while following.
    pub(crate) list: &'a dyn Fn() -> Vec<LogToRead>,
    /// See [`crate::logs::pump::Cutter::cut`].
    pub(crate) cut: &'a dyn Fn() -> u64,
}

/// Takes lines, and where the reader is behind each (nothing with notices); `false`: no more.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(LogLine, Option<&Marks>) -> bool;

/// Reads what is there and, if wanted, goes on with what comes.
pub(crate) fn run(around: &Around<'_>, wanted: &Wanted, sink: Sink<'_>) -> io::Result<()> {
    // Before anything is opened: what comes later than this is told apart by its time.
    let cut = if wanted.follow { (around.cut)() } else { 0 };
    let sources = (around.list)();
    let mut open = Vec::with_capacity(sources.len());
    for source in sources {
        match OpenLog::open(source.clone(), wanted.follow) {
            Ok(Some(log)) => open.push(log),
            Ok(None) => {}
            // The others are read all the same.
            Err(error) => {
                let text = format!("failed to read `{}`: {error}", source.path.display());
                if !sink(source.notice(&text), None) {
                    return Ok(());
                }
            }
        }
    }
    let go_on = match (&wanted.resume, wanted.lines) {
        (Some(marks), _) => rest(&open, wanted, marks, sink)?,
        (None, lines) => {
            tell(&open, |source| source.lost.as_ref(), sink)
                && match lines {
                    Some(count) => last_lines(&open, wanted, count, sink)?,
                    None => all_lines(&open, wanted, sink)?,
                }
        }
    };
    if go_on && wanted.follow {
        follow(open, around, cut, wanted, sink)
    } else {
        Ok(())
    }
}

/// Tells of each log what there is to tell.
fn tell(logs: &[OpenLog], what: impl Fn(&LogToRead) -> Option<&String>, sink: Sink<'_>) -> bool {
    let mut notices = logs.iter().filter_map(|log| Some((log, what(&log.source)?)));
    notices.all(|(log, text)| sink(log.source.notice(text), None))
}

/// The newest `count` lines over all logs, oldest first.
fn last_lines(logs: &[OpenLog], wanted: &Wanted, count: usize, sink: Sink<'_>) -> io::Result<bool> {
    let mut readers = Vec::with_capacity(logs.len());
    for log in logs {
        readers.push(Backward::new(log, wanted)?);
    }
    let mut heap = BinaryHeap::new();
    let mut exhausted = Vec::new();
    for (at, reader) in readers.iter_mut().enumerate() {
        match reader.next(wanted)? {
            Some(item) => heap.push((item.at, at, item)),
            None => exhausted.push(at),
        }
    }
    let mut lines = Vec::with_capacity(count.min(100_000));
    let mut notices = Vec::new();
    while lines.len() < count
        && let Some((_, at, item)) = heap.pop()
    {
        if item.line.notice {
            notices.push(item.line);
        } else {
            lines.push((at, item));
        }
        match readers[at].next(wanted)? {
            Some(item) => heap.push((item.at, at, item)),
            None => exhausted.push(at),
        }
    }
    if lines.len() < count && wanted.since_ms.is_none() {
        for at in exhausted {
            if let Some(dropped) = &logs[at].source.dropped
                && !sink(logs[at].source.notice(dropped), None)
            {
                return Ok(false);
            }
        }
    }
    let mut marks = Marks::default();
    if let Some((_, oldest)) = lines.last() {
        let base = oldest.at;
        marks.base = base;
        // Lines of the same time that were too many: a reader that resumes must not get them.
        let same = |item: &Item| item.at >= base && !item.line.notice;
        for (_, at, item) in heap.into_iter().filter(|(_, _, item)| same(item)) {
            marks.moved(&logs[at].source, &item);
        }
    }
    if !notices.into_iter().rev().all(|notice| sink(notice, None)) {
        return Ok(false);
    }
    Ok(lines.into_iter().rev().all(|(at, item)| {
        marks.passed(&logs[at].source, &item);
        sink(item.line, Some(&marks))
    }))
}

/// Every line since `wanted.since_ms`, merged by time.
fn all_lines(logs: &[OpenLog], wanted: &Wanted, sink: Sink<'_>) -> io::Result<bool> {
    let start = wanted.since_ms.map_or(Start::Oldest, Start::Since);
    if wanted.since_ms.is_none() && !tell(logs, |source| source.dropped.as_ref(), sink) {
        return Ok(false);
    }
    merged(logs, |_| start, Marks::default(), wanted, sink)
}

/// What a reader before has not given out.
fn rest(logs: &[OpenLog], wanted: &Wanted, marks: &Marks, sink: Sink<'_>) -> io::Result<bool> {
    let start = |log: &OpenLog| match marks.named.get(&marks::key(&log.source)) {
        // Of a log that was begun anew since: by the time.
        Some(Mark { place, .. }) if place.number <= log.current.number => Start::At(*place),
        _ => Start::Since(marks.base),
    };
    for log in logs {
        let oldest = log.rotated.first().map_or(log.current.number, |file| file.number);
        if let Start::At(place) = start(log)
            && place.number < oldest
            && !sink(
                log.source
                    .notice("lines were deleted by rotation before they were read here"),
                None,
            )
        {
            return Ok(false);
        }
    }
    merged(logs, start, marks.clone(), wanted, sink)
}

fn merged(
    logs: &[OpenLog],
    start: impl Fn(&OpenLog) -> Start,
    mut marks: Marks,
    wanted: &Wanted,
    sink: Sink<'_>,
) -> io::Result<bool> {
    let mut readers = Vec::with_capacity(logs.len());
    for log in logs {
        readers.push(Forward::new(log, start(log))?);
    }
    let mut heap: BinaryHeap<Reverse<(u64, usize, Item)>> = BinaryHeap::new();
    for (at, reader) in readers.iter_mut().enumerate() {
        if let Some(item) = reader.next(wanted)? {
            heap.push(Reverse((item.at, at, item)));
        }
    }
    while let Some(Reverse((_, at, item))) = heap.pop() {
        marks.passed(&logs[at].source, &item);
        let place = (!item.line.notice).then_some(&marks);
        if !sink(item.line, place) {
            return Ok(false);
        }
        if let Some(item) = readers[at].next(wanted)? {
            heap.push(Reverse((item.at, at, item)));
        }
    }
    Ok(true)
}
