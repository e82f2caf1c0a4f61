//! Lines of one log, newest first: for "the last N lines".

use std::{collections::VecDeque, io};

use super::{
    BLOCK, LINE_MAX, Wanted,
    forward::RECORD_MAX,
    line::{Item, continues, matches},
    segment::{OpenLog, Place, Segment, trim_newline},
};
use crate::logs::beside;

/// Lines of one log, newest first.
pub(super) struct Backward<'a> {
    log: &'a OpenLog,
    /// Rotated files that are still to come.
    left: usize,
    older: Option<Segment>,
    /// Bytes from `start` on that have been read and not given out.
    buffer: Vec<u8>,
    start: u64,
    /// Newest first: lines that belong to one that has not come yet.
    record: Vec<Item>,
    ready: VecDeque<Item>,
    done: bool,
    /// Time of the oldest line so far.
    last_at: u64,
    blocks: u32,
}

impl<'a> Backward<'a> {
    pub(super) fn new(log: &'a OpenLog, wanted: &Wanted) -> io::Result<Self> {
        let mut reader = Self {
            log,
            left: log.rotated.len(),
            older: None,
            buffer: Vec::new(),
            start: log.end,
            record: Vec::new(),
            ready: VecDeque::new(),
            done: false,
            last_at: u64::MAX,
            blocks: 0,
        };
        match reader.end(wanted) {
            Ok(end) => reader.start = end,
            Err(error) => reader.skip(error)?,
        }
        Ok(reader)
    }

    fn segment(&self) -> &Segment {
        self.older.as_ref().unwrap_or(&self.log.current)
    }

    /// Where the file ends for this reader.
    fn end(&self, wanted: &Wanted) -> io::Result<u64> {
        let segment = self.segment();
        let end = if self.older.is_some() {
            segment.length
        } else {
            self.log.end
        };
        match wanted.until_ms.and_then(|until| segment.times.until(until)) {
            Some(offset) => segment.line_start(offset.min(end), end),
            None => Ok(end),
        }
    }

    pub(super) fn next(&mut self, wanted: &Wanted) -> io::Result<Option<Item>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            if self.done {
                return Ok(None);
            }
            let item = match self.line(wanted) {
                Ok(item) => item,
                Err(error) => {
                    self.end_record(wanted);
                    self.skip(error)?;
                    continue;
                }
            };
            let Some(item) = item else {
                self.done = true;
                self.end_record(wanted);
                continue;
            };
            if wanted.until_ms.is_some_and(|until| item.at > until) {
                continue;
            }
            self.last_at = self.last_at.min(item.at);
            let goes_on = wanted.records && continues(&item.line.line) && self.record.len() < RECORD_MAX;
            self.record.push(item);
            if !goes_on {
                self.end_record(wanted);
            }
        }
    }

    /// Tells that the rest of this file cannot be read; what comes next is older.
    fn skip(&mut self, error: io::Error) -> io::Result<()> {
        if beside::is_passing(&error) {
            return Err(error);
        }
        let current = self.older.is_none() && self.left == self.log.rotated.len();
        let number = if current {
            self.log.current.number
        } else {
            self.log
                .rotated
                .get(self.left)
                .map_or(self.log.current.number, |file| file.number)
        };
        let item = self
            .log
            .source
            .unreadable(self.last_at, number, current.then_some(self.log.end), &error);
        self.ready.push_back(item);
        self.buffer.clear();
        self.start = 0;
        Ok(())
    }

    fn end_record(&mut self, wanted: &Wanted) {
        if matches(wanted, &self.record) {
            self.ready.extend(self.record.drain(..));
        }
        self.record.clear();
    }

    fn line(&mut self, wanted: &Wanted) -> io::Result<Option<Item>> {
        loop {
            let ended = self.buffer.last() == Some(&b'\n');
            let body = self.buffer.len() - usize::from(ended);
            let newline = memchr::memrchr(b'\n', &self.buffer[..body]);
            let cut = match newline {
                Some(at) => at + 1,
                None if self.start > 0 && self.buffer.len() < LINE_MAX => {
                    wanted.go_on(&mut self.blocks)?;
                    self.read_block()?;
                    continue;
                }
                None if self.buffer.is_empty() => {
                    if !self.older_segment(wanted)? {
                        return Ok(None);
                    }
                    continue;
                }
                None => 0,
            };
            let bytes = trim_newline(&self.buffer[cut..]);
            let segment = self.segment();
            let at = segment.times.at(self.start + cut as u64);
            if wanted.since_ms.is_some_and(|since| at < since) {
                return Ok(None);
            }
            let item = self.log.source.passes(wanted, bytes).then(|| {
                let partial = !ended || (cut == 0 && self.start > 0);
                let begins = Place {
                    number: segment.number,
                    offset: self.start + cut as u64,
                };
                Item {
                    line: self.log.source.line(at, bytes, partial),
                    at,
                    begins,
                    after: Place {
                        offset: self.start + self.buffer.len() as u64,
                        ..begins
                    },
                    inside: !ended,
                }
            });
            self.buffer.truncate(cut);
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    fn read_block(&mut self) -> io::Result<()> {
        let start = self.start.saturating_sub(BLOCK as u64);
        let length = usize::try_from(self.start - start).unwrap_or(BLOCK);
        let mut block = vec![0_u8; length];
        match self.segment().read_exact_at(&mut block, start) {
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

    fn older_segment(&mut self, wanted: &Wanted) -> io::Result<bool> {
        while self.left > 0 {
            self.left -= 1;
            // Deleted by retention since: older ones are gone as well, and there may be none.
            if let Some(segment) = Segment::open(&self.log.rotated[self.left])? {
                self.older = Some(segment);
                self.start = self.end(wanted)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}
