//! A log as it stood when it was opened: its files, and the times of their bytes.

use std::{
    cell::RefCell,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use super::{BLOCK, LINE_MAX, LogToRead};
use crate::logs::{
    beside,
    files::INDEX_RECORD,
    ledger::accounting_of,
    names::{Rotated, index_path, packed_path, rotated},
    packed::Packed,
};

/// How often a log is opened anew because it was rotated while it was opened.
const TRIES: u32 = 64;

/// So many bytes of a time index are read: the records of ten days in which something came every 100 ms.
const TIMES_MAX: u64 = 128 << 20;
/// So many are held while one follows.
const RECORDS_MAX: usize = 16 << 20;

/// A log as it stood when it was opened.
#[derive(Debug)]
pub(super) struct OpenLog {
    pub(super) source: LogToRead,
    /// Rotated files, oldest first.
    pub(super) rotated: Vec<Rotated>,
    pub(super) current: Segment,
    /// Where a follower goes on: behind the last whole line.
    pub(super) end: u64,
}

/// A place in a log that stays the same place when its file is rotated and compressed: the number that the file has or
/// will have, and the offset in what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) offset: u64,
}

/// A file with the times of its bytes.
#[derive(Debug)]
pub(super) struct Segment {
    data: Data,
    pub(super) times: Times,
    pub(super) length: u64,
    pub(super) inode: u64,
    pub(super) number: u64,
}

#[derive(Debug)]
enum Data {
    Plain(File),
    Packed(Box<RefCell<Packed>>),
}

fn open_if_there(path: &Path) -> io::Result<Option<(File, fs::Metadata)>> {
    match beside::read(path) {
        Ok(file) => {
            let metadata = file.metadata()?;
            Ok(Some((file, metadata)))
        }
        Err(error) if beside::is_none_of_ours(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Segment {
    fn new(data: Data, metadata: &fs::Metadata, path: &Path, number: u64) -> io::Result<Self> {
        let changed = u64::try_from(metadata.mtime()).unwrap_or(0) * 1000;
        let length = match &data {
            Data::Plain(_) => metadata.size(),
            Data::Packed(packed) => packed.borrow().length(),
        };
        #[cfg(test)]
        super::counted::OPENED.set(super::counted::OPENED.get() + 1);
        Ok(Self {
            data,
            times: Times::open(&index_path(path), changed)?,
            length,
            inode: metadata.ino(),
            number,
        })
    }

    /// Opens a rotated file in the form in which it is there.
    pub(super) fn open(file: &Rotated) -> io::Result<Option<Self>> {
        // It may be compressed between two looks, but not twice.
        for _ in 0..2 {
            if let Some((packed, metadata)) = open_if_there(&packed_path(&file.path))? {
                let packed = Data::Packed(Box::new(RefCell::new(Packed::open(packed)?)));
                return Self::new(packed, &metadata, &file.path, file.number).map(Some);
            }
            if let Some((plain, metadata)) = open_if_there(&file.path)? {
                return Self::new(Data::Plain(plain), &metadata, &file.path, file.number).map(Some);
            }
        }
        Ok(None)
    }

    /// Opens the current file and lists the rotated ones of that moment: they are all older than it.
    pub(super) fn open_current(path: &Path) -> io::Result<Option<(Self, Vec<Rotated>)>> {
        let mut tries = 0;
        loop {
            let Some((file, metadata)) = open_if_there(path)? else {
                return Ok(None);
            };
            let mut files = rotated(path)?;
            let dropped = accounting_of(path).dropped_through;
            // Counted as dropped, about to be deleted.
            files.retain(|file| file.number > dropped);
            let number = files.last().map_or(0, |file| file.number).max(dropped) + 1;
            let segment = Self::new(Data::Plain(file), &metadata, path, number)?;
            // Rotated meanwhile, or about to be: then number, list and index may be those of a later moment. Its inode is not used again
            // while we hold it.
            tries += 1;
            let dated = segment.length == 0 || segment.times.file.is_some();
            if tries >= TRIES || dated && fs::metadata(path).is_ok_and(|now| now.ino() == segment.inode) {
                return Ok(Some((segment, files)));
            }
        }
    }

    /// Reads some bytes; 0: there are none at `offset`.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = match &self.data {
            Data::Plain(file) => file.read_at(buffer, offset)?,
            Data::Packed(packed) => packed.borrow_mut().read_at(buffer, offset)?,
        };
        #[cfg(test)]
        super::counted::READ.set(super::counted::READ.get() + read as u64);
        Ok(read)
    }

    pub(super) fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }

    /// The start of the first line that begins at `offset` or after it: batches may end inside a line.
    pub(super) fn line_start(&self, offset: u64, end: u64) -> io::Result<u64> {
        if offset == 0 {
            return Ok(0);
        }
        let mut block = vec![0_u8; 4096];
        let mut at = offset - 1;
        while at < end {
            let read = self.read_at(&mut block, at)?;
            if read == 0 {
                break;
            }
            if let Some(newline) = memchr::memchr(b'\n', &block[..read]) {
                return Ok((at + newline as u64 + 1).min(end));
            }
            at += read as u64;
        }
        Ok(end)
    }

    /// The offset behind the last newline before `length`, at most [`LINE_MAX`] back.
    fn last_line_end(&self, length: u64) -> io::Result<u64> {
        let mut end = length;
        let mut block = vec![0_u8; BLOCK];
        while end > 0 && length - end < LINE_MAX as u64 {
            let start = end.saturating_sub(BLOCK as u64);
            let wanted = usize::try_from(end - start).unwrap_or(BLOCK);
            self.read_exact_at(&mut block[..wanted], start)?;
            if let Some(at) = memchr::memrchr(b'\n', &block[..wanted]) {
                return Ok(start + at as u64 + 1);
            }
            end = start;
        }
        Ok(if end == 0 { 0 } else { length })
    }
}

/// The time index of a file.
#[derive(Debug)]
pub(super) struct Times {
    /// Stays the same file when the log is rotated.
    file: Option<File>,
    /// Offset and Unix ms.
    records: Vec<(u64, u64)>,
    /// Bytes of the file before the first of them: of a long one the newest are enough.
    skipped: u64,
    /// For bytes that no record covers.
    fallback_ms: u64,
}

impl Times {
    fn open(path: &Path, fallback_ms: u64) -> io::Result<Self> {
        let file = match beside::read(path) {
            Err(error) if beside::is_none_of_ours(&error) => None,
            file => Some(file?),
        };
        let mut times = Self {
            file,
            records: Vec::new(),
            skipped: 0,
            fallback_ms,
        };
        times.refresh()?;
        Ok(times)
    }

    /// Reads the records that have come since.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut known = self.skipped + (self.records.len() * INDEX_RECORD) as u64;
        let length = file.metadata()?.size();
        if length < known {
            // The log was truncated, and its index with it.
            self.records.clear();
            self.skipped = 0;
            return self.refresh();
        }
        if length - known > TIMES_MAX {
            self.records.clear();
            known = (length - TIMES_MAX).next_multiple_of(INDEX_RECORD as u64);
            self.skipped = known;
        }
        let mut bytes = vec![0_u8; usize::try_from(length - known).unwrap_or(0)];
        file.read_exact_at(&mut bytes, known)?;
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let records = bytes.chunks_exact(INDEX_RECORD);
        self.records
            .extend(records.map(|record| (word(&record[8..]), word(&record[..8]))));
        let surplus = self.records.len().saturating_sub(RECORDS_MAX);
        self.records.drain(..surplus);
        self.skipped += (surplus * INDEX_RECORD) as u64;
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
        let later = self.later_than(|ms| ms >= since);
        match self.records.len() - later {
            0 => (0, self.records.is_empty() && self.fallback_ms < since),
            before if later == 0 => (self.records[before - 1].0, true),
            before => (self.records[before].0, true),
        }
    }

    /// Where the bytes begin from which on all arrived after `until`; `None`: there are none.
    pub(super) fn until(&self, until: u64) -> Option<u64> {
        if self.records.is_empty() {
            return (self.fallback_ms > until).then_some(0);
        }
        let later = self.later_than(|ms| ms > until);
        (later > 0).then(|| match self.records.len() - later {
            // What no record covers counts to the first.
            0 => 0,
            before => self.records[before].0,
        })
    }

    /// How many records at the end are all later.
    fn later_than(&self, is_later: impl Fn(u64) -> bool) -> usize {
        self.records
            .iter()
            .rev()
            .take_while(|(_, ms)| is_later(*ms))
            .count()
    }
}

impl OpenLog {
    pub(super) fn open(source: LogToRead, whole_lines: bool) -> io::Result<Option<Self>> {
        let Some((current, rotated)) = Segment::open_current(&source.path)? else {
            return Ok(None);
        };
        let mut end = current.length;
        if whole_lines {
            end = current.last_line_end(current.length)?;
        }
        Ok(Some(Self {
            source,
            rotated,
            current,
            end,
        }))
    }
}

pub(super) fn trim_newline(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}
