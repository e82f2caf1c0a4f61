//! A log as it stood when it was opened: its files, and the times of their bytes.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use upkeep_api::body::LogLine;
use upkeep_sys::clock;

use super::{BLOCK, LINE_MAX, LogToRead};
use crate::logs::files::{INDEX_RECORD, index_path, rotated};

/// A log as it stood when it was opened.
#[derive(Debug)]
pub(super) struct OpenLog {
    pub(super) source: LogToRead,
    /// Rotated files, oldest first.
    pub(super) rotated: Vec<PathBuf>,
    pub(super) current: Segment,
    /// Where a follower goes on: behind the last whole line.
    pub(super) end: u64,
}

/// A file with the times of its bytes.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    pub(super) times: Times,
    pub(super) length: u64,
    pub(super) inode: u64,
}

impl Segment {
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        // A path that leads to a pipe must not hold up its reader.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let changed = u64::try_from(metadata.mtime()).unwrap_or(0) * 1000;
        let times = Times::open(&index_path(path), changed)?;
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
pub(super) struct Times {
    /// Stays the same file when the log is rotated.
    file: Option<File>,
    /// Offset and Unix ms.
    records: Vec<(u64, u64)>,
    /// For bytes that no record covers.
    fallback_ms: u64,
}

impl Times {
    fn open(path: &Path, fallback_ms: u64) -> io::Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => Some(file?),
        };
        let mut times = Self {
            file,
            records: Vec::new(),
            fallback_ms,
        };
        times.refresh()?;
        Ok(times)
    }

    /// Reads the records that have come since.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let known = (self.records.len() * INDEX_RECORD) as u64;
        let length = file.metadata()?.size();
        if length < known {
            // The log was truncated, and its index with it.
            self.records.clear();
            return self.refresh();
        }
        let mut bytes = vec![0_u8; usize::try_from(length - known).unwrap_or(0)];
        file.read_exact_at(&mut bytes, known)?;
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let records = bytes.chunks_exact(INDEX_RECORD);
        self.records
            .extend(records.map(|record| (word(&record[8..]), word(&record[..8]))));
        Ok(())
    }

    /// When the byte at `offset` arrived.
    pub(super) fn at(&self, offset: u64) -> u64 {
        match self.records.partition_point(|(start, _)| *start <= offset) {
            0 => self.records.first().map_or(self.fallback_ms, |(_, ms)| *ms),
            after => self.records[after - 1].1,
        }
    }

    /// Where the bytes begin that arrived at `since` or later, and whether earlier ones come before them here.
    pub(super) fn since(&self, since: u64) -> (u64, bool) {
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
    pub(super) fn open(source: LogToRead, whole_lines: bool) -> io::Result<Option<Self>> {
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

    pub(super) fn line(&self, at_ms: u64, bytes: &[u8], partial: bool) -> LogLine {
        self.source.line(at_ms, bytes, partial)
    }

    pub(super) fn notice(&self, text: &str) -> LogLine {
        self.source.notice(text)
    }
}

impl LogToRead {
    /// Something a reader must know, instead of a line.
    pub(super) fn notice(&self, text: &str) -> LogLine {
        LogLine {
            notice: true,
            ..self.line(clock::unix_ms(), text.as_bytes(), false)
        }
    }

    pub(super) fn line(&self, at_ms: u64, bytes: &[u8], partial: bool) -> LogLine {
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
pub(super) fn last_line_end(file: &File, length: u64) -> io::Result<u64> {
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

pub(super) fn trim_newline(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}
