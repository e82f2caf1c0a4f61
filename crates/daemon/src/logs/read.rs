//! Reading logs back: the last lines, the lines since a time, and what comes next.
//!
//! Everything here blocks on files and belongs on a blocking thread. A source is read through the files on disk; the
//! pump may rotate meanwhile. The current file is opened first and the rotated ones are listed after it, so that a
//! rotation in between shows a file twice rather than never, and the double is recognised by its inode.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use regex::Regex;
use upkeep_api::body::{LogLine, Stream};
use upkeep_model::id::AppName;
use upkeep_sys::clock;

use super::files::{INDEX_RECORD, index_path, rotated};

/// A line is cut into pieces of this length.
const LINE_MAX: usize = 1 << 20;
/// How much is read at a time.
const BLOCK: usize = 64 << 10;
/// How often a follower looks for more.
const FOLLOW_STEP: Duration = Duration::from_millis(50);
/// How often a follower looks for new sources, in steps.
const LIST_EVERY: u32 = 10;

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
        if let Some(log) = OpenLog::open(source, wanted.follow)? {
            open.push(log);
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

/// A log as it stood when it was opened.
#[derive(Debug)]
struct OpenLog {
    source: LogToRead,
    /// Rotated files, oldest first.
    rotated: Vec<PathBuf>,
    current: Segment,
    /// Where a follower goes on: behind the last whole line.
    end: u64,
}

/// A file with the times of its bytes.
#[derive(Debug)]
struct Segment {
    file: File,
    times: Times,
    length: u64,
    inode: u64,
}

impl Segment {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let changed = u64::try_from(metadata.mtime()).unwrap_or(0) * 1000;
        let times = Times::load(&index_path(path), changed)?;
        Ok(Some(Self {
            file,
            times,
            length: metadata.size(),
            inode: metadata.ino(),
        }))
    }
}

/// The time index of a file.
#[derive(Debug)]
struct Times {
    records: Vec<(u64, u64)>,
    /// For bytes that no record covers.
    fallback_ms: u64,
}

impl Times {
    fn load(path: &Path, fallback_ms: u64) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes?,
        };
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let records = bytes
            .chunks_exact(INDEX_RECORD)
            .map(|record| (word(&record[8..]), word(&record[..8])))
            .collect();
        Ok(Self { records, fallback_ms })
    }

    /// When the byte at `offset` arrived.
    fn at(&self, offset: u64) -> u64 {
        match self.records.partition_point(|(start, _)| *start <= offset) {
            0 => self.records.first().map_or(self.fallback_ms, |(_, ms)| *ms),
            after => self.records[after - 1].1,
        }
    }

    /// Where the bytes begin that arrived at `since` or later, and whether earlier ones come before them here.
    fn since(&self, since: u64) -> (u64, bool) {
        let later = self
            .records
            .iter()
            .rev()
            .take_while(|(_, ms)| *ms >= since)
            .count();
        match self.records.len() - later {
            0 => (0, self.records.is_empty() && self.fallback_ms < since),
            before if later == 0 => (self.records[before - 1].0, true),
            before => (self.records[before].0, true),
        }
    }
}

impl OpenLog {
    fn open(source: LogToRead, whole_lines: bool) -> io::Result<Option<Self>> {
        let Some(current) = Segment::open(&source.path)? else {
            return Ok(None);
        };
        let mut older = Vec::new();
        for (_, path) in rotated(&source.path)? {
            // It was current a moment ago: that is the one we hold.
            if fs::metadata(&path).is_ok_and(|metadata| metadata.ino() == current.inode) {
                break;
            }
            older.push(path);
        }
        let mut end = current.length;
        if whole_lines {
            end = last_line_end(&current.file, current.length)?;
        }
        Ok(Some(Self {
            source,
            rotated: older,
            current,
            end,
        }))
    }

    fn line(&self, at_ms: u64, bytes: &[u8], partial: bool) -> LogLine {
        self.source.line(at_ms, bytes, partial)
    }

    fn notice(&self, text: &str) -> LogLine {
        LogLine {
            notice: true,
            ..self.source.line(clock::unix_ms(), text.as_bytes(), false)
        }
    }
}

impl LogToRead {
    fn line(&self, at_ms: u64, bytes: &[u8], partial: bool) -> LogLine {
        LogLine {
            app: self.app.clone(),
            index: self.index,
            stream: self.stream,
            at: at_ms as f64 / 1000.0,
            line: String::from_utf8_lossy(bytes).into_owned(),
            partial,
            notice: false,
        }
    }
}

/// The offset behind the last newline before `length`, at most [`LINE_MAX`] back.
fn last_line_end(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut block = vec![0_u8; BLOCK];
    while end > 0 && length - end < LINE_MAX as u64 {
        let start = end.saturating_sub(BLOCK as u64);
        let wanted = usize::try_from(end - start).unwrap_or(BLOCK);
        file.read_exact_at(&mut block[..wanted], start)?;
        if let Some(at) = memchr::memrchr(b'\n', &block[..wanted]) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(if end == 0 { 0 } else { length })
}

fn trim_newline(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

fn matches(wanted: &Wanted, line: &LogLine) -> bool {
    wanted.grep.as_ref().is_none_or(|grep| grep.is_match(&line.line))
}

/// Lines of one log, newest first.
struct Backward<'a> {
    log: &'a OpenLog,
    /// Rotated files that are still to come.
    left: usize,
    older: Option<Segment>,
    /// Bytes from `start` on that have been read and not given out.
    buffer: Vec<u8>,
    start: u64,
    done: bool,
}

impl<'a> Backward<'a> {
    fn new(log: &'a OpenLog) -> Self {
        Self {
            log,
            left: log.rotated.len(),
            older: None,
            buffer: Vec::new(),
            start: log.end,
            done: false,
        }
    }

    fn next(&mut self, wanted: &Wanted) -> io::Result<Option<(u64, Line)>> {
        while !self.done {
            let Some((at, line)) = self.line()? else { break };
            if wanted.since_ms.is_some_and(|since| at < since) {
                break;
            }
            if matches(wanted, &line) {
                return Ok(Some((at, Line(line))));
            }
        }
        self.done = true;
        Ok(None)
    }

    fn line(&mut self) -> io::Result<Option<(u64, LogLine)>> {
        loop {
            let ended = self.buffer.last() == Some(&b'\n');
            let body = self.buffer.len() - usize::from(ended);
            let newline = memchr::memrchr(b'\n', &self.buffer[..body]);
            let cut = match newline {
                Some(at) => at + 1,
                None if self.start > 0 && self.buffer.len() < LINE_MAX => {
                    self.read_block()?;
                    continue;
                }
                None if self.buffer.is_empty() => {
                    if !self.older_segment()? {
                        return Ok(None);
                    }
                    continue;
                }
                None => 0,
            };
            let times = self
                .older
                .as_ref()
                .map_or(&self.log.current.times, |segment| &segment.times);
            let at = times.at(self.start + cut as u64);
            let partial = !ended || (cut == 0 && self.start > 0);
            let line = self.log.line(at, trim_newline(&self.buffer[cut..]), partial);
            self.buffer.truncate(cut);
            return Ok(Some((at, line)));
        }
    }

    fn read_block(&mut self) -> io::Result<()> {
        let file = self
            .older
            .as_ref()
            .map_or(&self.log.current.file, |segment| &segment.file);
        let start = self.start.saturating_sub(BLOCK as u64);
        let length = usize::try_from(self.start - start).unwrap_or(BLOCK);
        let mut block = vec![0_u8; length];
        match file.read_exact_at(&mut block, start) {
            Ok(()) => {}
            // Truncated by somebody since.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => block.clear(),
            Err(error) => return Err(error),
        }
        block.append(&mut self.buffer);
        self.buffer = block;
        self.start = start;
        Ok(())
    }

    fn older_segment(&mut self) -> io::Result<bool> {
        while self.left > 0 {
            self.left -= 1;
            // Deleted by retention since: older ones are gone as well, and there may be none.
            if let Some(segment) = Segment::open(&self.log.rotated[self.left])? {
                self.start = segment.length;
                self.older = Some(segment);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Lines of one log, oldest first.
struct Forward<'a> {
    log: &'a OpenLog,
    /// Index of the rotated file being read; their number for the current one.
    segment: usize,
    older: Option<Segment>,
    offset: u64,
    buffer: Vec<u8>,
    /// Of `buffer`: what has been given out.
    used: usize,
}

impl<'a> Forward<'a> {
    fn new(log: &'a OpenLog, since: Option<u64>) -> io::Result<Self> {
        let mut reader = Self {
            log,
            segment: 0,
            older: None,
            offset: 0,
            buffer: Vec::new(),
            used: 0,
        };
        if let Some(since) = since {
            let (mut offset, mut found) = log.current.times.since(since);
            reader.segment = log.rotated.len();
            while !found && reader.segment > 0 {
                let Some(segment) = Segment::open(&log.rotated[reader.segment - 1])? else {
                    break;
                };
                (offset, found) = segment.times.since(since);
                reader.segment -= 1;
                reader.older = Some(segment);
            }
            reader.offset = offset;
        } else {
            reader.enter()?;
        }
        Ok(reader)
    }

    /// Opens the file of `self.segment`, or the next that is still there.
    fn enter(&mut self) -> io::Result<()> {
        self.offset = 0;
        self.older = None;
        while let Some(path) = self.log.rotated.get(self.segment) {
            if let Some(segment) = Segment::open(path)? {
                self.older = Some(segment);
                return Ok(());
            }
            self.segment += 1;
        }
        Ok(())
    }

    fn next(&mut self, wanted: &Wanted) -> io::Result<Option<(u64, Line)>> {
        while let Some((at, line)) = self.line()? {
            if wanted.since_ms.is_none_or(|since| at >= since) && matches(wanted, &line) {
                return Ok(Some((at, Line(line))));
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> io::Result<Option<(u64, LogLine)>> {
        loop {
            let rest = &self.buffer[self.used..];
            let newline = memchr::memchr(b'\n', rest);
            let length = match newline {
                Some(at) => Some(at + 1),
                None if rest.len() >= LINE_MAX => Some(LINE_MAX),
                None => None,
            };
            if let Some(length) = length {
                return Ok(Some(self.take(length, newline.is_none())));
            }
            if self.read_block()? {
                continue;
            }
            if self.used < self.buffer.len() {
                return Ok(Some(self.take(self.buffer.len() - self.used, true)));
            }
            if self.segment >= self.log.rotated.len() {
                return Ok(None);
            }
            self.segment += 1;
            self.enter()?;
        }
    }

    fn take(&mut self, length: usize, partial: bool) -> (u64, LogLine) {
        let times = self
            .older
            .as_ref()
            .map_or(&self.log.current.times, |segment| &segment.times);
        let at = times.at(self.offset - (self.buffer.len() - self.used) as u64);
        let line = self.log.line(
            at,
            trim_newline(&self.buffer[self.used..self.used + length]),
            partial,
        );
        self.used += length;
        (at, line)
    }

    /// More bytes of this file; `false` at its end.
    fn read_block(&mut self) -> io::Result<bool> {
        let (file, end) = match &self.older {
            Some(segment) => (&segment.file, segment.length),
            None => (&self.log.current.file, self.log.end),
        };
        self.buffer.drain(..self.used);
        self.used = 0;
        let wanted = usize::try_from(end.saturating_sub(self.offset))
            .unwrap_or(BLOCK)
            .min(BLOCK);
        if wanted == 0 {
            return Ok(false);
        }
        let old = self.buffer.len();
        self.buffer.resize(old + wanted, 0);
        let read = file.read_at(&mut self.buffer[old..], self.offset)?;
        self.buffer.truncate(old + read);
        self.offset += read as u64;
        Ok(read > 0)
    }
}

/// What a follower holds of one log.
struct Tail {
    source: LogToRead,
    file: File,
    inode: u64,
    offset: u64,
    buffer: Vec<u8>,
}

fn follow(
    open: Vec<OpenLog>,
    list: &dyn Fn() -> Vec<LogToRead>,
    wanted: &Wanted,
    sink: Sink<'_>,
) -> io::Result<()> {
    let mut tails: HashMap<PathBuf, Tail> = open
        .into_iter()
        .map(|log| {
            let tail = Tail {
                source: log.source,
                inode: log.current.inode,
                file: log.current.file,
                offset: log.end,
                buffer: Vec::new(),
            };
            (tail.source.path.clone(), tail)
        })
        .collect();
    let mut round = 0_u32;
    loop {
        for tail in tails.values_mut() {
            if !tail.advance(wanted, sink)? {
                return Ok(());
            }
        }
        std::thread::park_timeout(FOLLOW_STEP);
        round = round.wrapping_add(1);
        if round.is_multiple_of(LIST_EVERY) {
            // Asks whether somebody still listens, even if nothing is said.
            let alive = LogLine {
                notice: true,
                ..LogToRead::nobody().line(clock::unix_ms(), b"", false)
            };
            if !sink(alive) {
                return Ok(());
            }
            for source in list() {
                if !tails.contains_key(&source.path)
                    && let Ok(file) = File::open(&source.path)
                {
                    let inode = file.metadata()?.ino();
                    let tail = Tail {
                        inode,
                        file,
                        offset: 0,
                        buffer: Vec::new(),
                        source,
                    };
                    tails.insert(tail.source.path.clone(), tail);
                }
            }
        }
    }
}

impl LogToRead {
    /// The source of a heartbeat: an empty notice, which is not shown.
    fn nobody() -> Self {
        Self {
            app: AppName::parse("upkeep").unwrap_or_else(|_| unreachable!("the name is well-formed")),
            index: None,
            stream: Stream::Out,
            path: PathBuf::new(),
            dropped: None,
            lost: None,
        }
    }
}

impl Tail {
    /// Gives out all whole lines that are there; goes over to the next file after a rotation.
    fn advance(&mut self, wanted: &Wanted, sink: Sink<'_>) -> io::Result<bool> {
        loop {
            if !self.read_to_end(wanted, sink)? {
                return Ok(false);
            }
            let Ok(metadata) = fs::metadata(&self.source.path) else {
                return Ok(true);
            };
            if metadata.ino() == self.inode {
                if metadata.size() < self.offset {
                    // Truncated: what is in it now is new.
                    self.offset = 0;
                    self.buffer.clear();
                }
                return Ok(true);
            }
            // Rotated. What was written before the rename is read now; then comes the next file.
            if !self.read_to_end(wanted, sink)? {
                return Ok(false);
            }
            let files = rotated(&self.source.path)?;
            let ours = files
                .iter()
                .position(|(_, path)| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == self.inode));
            let next = ours
                .and_then(|at| files.get(at + 1))
                .or_else(|| if ours.is_none() { files.first() } else { None })
                .map_or(&self.source.path, |(_, path)| path);
            let Ok(file) = File::open(next) else {
                return Ok(true);
            };
            self.inode = file.metadata()?.ino();
            self.file = file;
            self.offset = 0;
        }
    }

    fn read_to_end(&mut self, wanted: &Wanted, sink: Sink<'_>) -> io::Result<bool> {
        let mut block = vec![0_u8; BLOCK];
        loop {
            let read = self.file.read_at(&mut block, self.offset)?;
            if read == 0 {
                return Ok(true);
            }
            self.offset += read as u64;
            self.buffer.extend_from_slice(&block[..read]);
            let now = clock::unix_ms();
            let mut used = 0;
            while let Some(at) = memchr::memchr(b'\n', &self.buffer[used..]) {
                let line = self
                    .source
                    .line(now, trim_newline(&self.buffer[used..=used + at]), false);
                used += at + 1;
                if matches(wanted, &line) && !sink(line) {
                    return Ok(false);
                }
            }
            self.buffer.drain(..used);
            if self.buffer.len() >= LINE_MAX {
                let line = self.source.line(now, &self.buffer, true);
                self.buffer.clear();
                if matches(wanted, &line) && !sink(line) {
                    return Ok(false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::logs::files::LogFile;

    fn source(dir: &Path, name: &str) -> LogToRead {
        LogToRead {
            app: AppName::parse(name).expect("a name"),
            index: Some(0),
            stream: Stream::Out,
            path: dir.join(format!("{name}.log")),
            dropped: None,
            lost: None,
        }
    }

    /// Writes lines with times, rotating where the text is `---`.
    fn write(source: &LogToRead, lines: &[(u64, &str)]) {
        let mut log = LogFile::open(&source.path, 1 << 20, 10).expect("a log");
        for (at, text) in lines {
            if *text == "---" {
                log.rotate().expect("a rotation");
                continue;
            }
            log.stamp(*at);
            log.file().write_all(text.as_bytes()).expect("a write");
            log.grew(text.len() as u64);
        }
    }

    fn read(sources: &[LogToRead], wanted: &Wanted) -> Vec<String> {
        let mut lines = Vec::new();
        run(&|| sources.to_vec(), wanted, &mut |line| {
            lines.push(format!(
                "{}{} {}",
                line.app,
                if line.partial { "~" } else { "" },
                line.line
            ));
            true
        })
        .expect("a reading");
        lines
    }

    #[test]
    fn the_last_lines_of_several_logs_come_in_order_of_time_over_rotations() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (source(dir.path(), "a"), source(dir.path(), "b"));
        write(&a, &[(1000, "a1\n"), (3000, "a3\n"), (0, "---"), (5000, "a5\n")]);
        write(&b, &[(2000, "b2\n"), (0, "---"), (4000, "b4\n"), (6000, "b6")]);
        let wanted = |lines| Wanted {
            lines,
            ..Wanted::default()
        };
        let both = [a, b];
        assert_eq!(read(&both, &wanted(Some(4))), ["a a3", "b b4", "a a5", "b~ b6"]);
        let all = ["a a1", "b b2", "a a3", "b b4", "a a5", "b~ b6"];
        assert_eq!(read(&both, &wanted(Some(100))), all);
        assert_eq!(read(&both, &wanted(None)), all);
        assert_eq!(read(&both, &wanted(Some(0))), [""; 0]);
    }

    #[test]
    fn since_and_grep_narrow_both_ways_of_reading() {
        let dir = tempfile::tempdir().expect("a directory");
        let a = source(dir.path(), "a");
        write(
            &a,
            &[
                (1000, "one x\n"),
                (2000, "two\n"),
                (0, "---"),
                (3000, "three x\n"),
                (4000, "four x\n"),
            ],
        );
        let grep = Regex::new("x$").expect("a pattern");
        for lines in [None, Some(10)] {
            let wanted = Wanted {
                lines,
                since_ms: Some(2000),
                ..Wanted::default()
            };
            assert_eq!(
                read(std::slice::from_ref(&a), &wanted),
                ["a two", "a three x", "a four x"],
                "{lines:?}"
            );
            let wanted = Wanted {
                grep: Some(grep.clone()),
                ..wanted
            };
            assert_eq!(
                read(std::slice::from_ref(&a), &wanted),
                ["a three x", "a four x"],
                "{lines:?}"
            );
            let wanted = Wanted {
                lines,
                since_ms: Some(9000),
                ..Wanted::default()
            };
            assert_eq!(read(std::slice::from_ref(&a), &wanted), [""; 0], "{lines:?}");
        }
    }

    #[test]
    fn very_long_lines_come_in_pieces_and_lose_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let a = source(dir.path(), "a");
        let long = "y".repeat((5 << 20) / 2) + "\n";
        write(&a, &[(1000, "short\n"), (2000, &long), (3000, "end\n")]);
        for lines in [None, Some(100)] {
            let read = read(
                std::slice::from_ref(&a),
                &Wanted {
                    lines,
                    ..Wanted::default()
                },
            );
            assert_eq!(read.first().map(String::as_str), Some("a short"));
            assert_eq!(read.last().map(String::as_str), Some("a end"));
            assert_eq!(
                read.iter().map(|line| line.matches('y').count()).sum::<usize>(),
                (5 << 20) / 2
            );
        }
    }

    #[test]
    fn a_follower_crosses_rotations_and_misses_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let a = source(dir.path(), "a");
        write(&a, &[(1000, "line 0\n")]);
        let writer = {
            let a = a.clone();
            std::thread::spawn(move || {
                for batch in 0..20 {
                    let lines: Vec<String> = (0..50)
                        .map(|number| format!("line {}\n", batch * 50 + number + 1))
                        .collect();
                    let mut steps: Vec<(u64, &str)> =
                        lines.iter().map(|line| (2000, line.as_str())).collect();
                    steps.push((0, "---"));
                    write(&a, &steps);
                    std::thread::park_timeout(Duration::from_millis(7));
                }
            })
        };
        let mut lines = Vec::new();
        let wanted = Wanted {
            lines: Some(10),
            follow: true,
            ..Wanted::default()
        };
        let deadline = clock::monotonic_ms() + 20_000;
        run(&|| vec![a.clone()], &wanted, &mut |line| {
            if !line.notice {
                lines.push(line.line);
            }
            lines.last().is_none_or(|line| line != "line 1000") && clock::monotonic_ms() < deadline
        })
        .expect("a reading");
        writer.join().expect("the writer");
        // The first lines may already be there when the reader looks: then it starts later.
        let first: usize = lines[0].trim_start_matches("line ").parse().expect("a number");
        let expected: Vec<String> = (first..=1000).map(|number| format!("line {number}")).collect();
        if first > 0 {
            assert!(lines.len() >= 10);
        }
        assert_eq!(lines, expected[..lines.len()]);
        assert_eq!(lines.last().map(String::as_str), Some("line 1000"));
    }
}
