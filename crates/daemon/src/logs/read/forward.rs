//! Lines of one log, oldest first: for "since", for all, and from a place on.

use std::{collections::VecDeque, io};

use super::{
    BLOCK, LINE_MAX, Wanted,
    line::{Item, continues, matches},
    segment::{OpenLog, Place, Segment, trim_newline},
};
use crate::logs::beside;

/// A record is given out when it has grown to so many lines.
pub(super) const RECORD_MAX: usize = 1000;

/// Where a reading begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Oldest,
    /// At the first line that begins at this time (Unix ms) or later.
    Since(u64),
    At(Place),
}

/// Lines of one log, oldest first.
pub(super) struct Forward<'a> {
    log: &'a OpenLog,
    since: Option<u64>,
    /// Index of the rotated file being read; their number for the current one.
    segment: usize,
    older: Option<Segment>,
    offset: u64,
    buffer: Vec<u8>,
    /// Of `buffer`: what has been given out.
    used: usize,
    /// A record that may go on.
    record: Vec<Item>,
    ready: VecDeque<Item>,
    /// A line came that is later than what is wanted.
    too_late: bool,
    done: bool,
    /// Time of the newest line.
    last_at: u64,
    blocks: u32,
}

impl<'a> Forward<'a> {
    pub(super) fn new(log: &'a OpenLog, start: Start) -> io::Result<Self> {
        let mut reader = Self {
            log,
            since: None,
            segment: 0,
            older: None,
            offset: 0,
            buffer: Vec::new(),
            used: 0,
            record: Vec::new(),
            ready: VecDeque::new(),
            too_late: false,
            done: false,
            last_at: 0,
            blocks: 0,
        };
        match start {
            Start::Oldest => reader.enter()?,
            Start::Since(since) => {
                reader.since = Some(since);
                let (mut offset, mut found) = log.current.times.since(since);
                reader.segment = log.rotated.len();
                while !found && reader.segment > 0 {
                    match Segment::open(&log.rotated[reader.segment - 1]) {
                        Ok(Some(segment)) => {
                            (offset, found) = segment.times.since(since);
                            reader.older = Some(segment);
                        }
                        Ok(None) => break,
                        Err(error) if beside::is_passing(&error) => return Err(error),
                        // Told when its turn comes.
                        Err(_) => (offset, reader.older) = (0, None),
                    }
                    reader.segment -= 1;
                }
                if reader.older.is_none() && reader.segment < log.rotated.len() {
                    reader.enter()?;
                } else {
                    let (segment, end) = reader.place();
                    match segment.line_start(offset, end) {
                        Ok(offset) => reader.offset = offset,
                        Err(error) => reader.skip(error)?,
                    }
                }
            }
            Start::At(place) => {
                reader.segment = log.rotated.partition_point(|file| file.number < place.number);
                reader.enter()?;
                let (segment, end) = reader.place();
                if segment.number == place.number && place.offset <= end {
                    reader.offset = place.offset;
                }
            }
        }
        Ok(reader)
    }

    /// The file being read and how far.
    fn place(&self) -> (&Segment, u64) {
        match &self.older {
            Some(segment) => (segment, segment.length),
            None => (&self.log.current, self.log.end),
        }
    }

    /// Opens the file of `self.segment`, or the next that is still there.
    fn enter(&mut self) -> io::Result<()> {
        self.offset = 0;
        self.older = None;
        while let Some(file) = self.log.rotated.get(self.segment) {
            match Segment::open(file) {
                Ok(Some(segment)) => {
                    self.older = Some(segment);
                    return Ok(());
                }
                Ok(None) => {}
                Err(error) if beside::is_passing(&error) => return Err(error),
                Err(error) => {
                    let item = self
                        .log
                        .source
                        .unreadable(self.last_at, file.number, None, &error);
                    self.ready.push_back(item);
                }
            }
            self.segment += 1;
        }
        Ok(())
    }

    /// Tells that the rest of this file cannot be read, and goes on with the next.
    fn skip(&mut self, error: io::Error) -> io::Result<()> {
        if beside::is_passing(&error) {
            return Err(error);
        }
        let current = self.older.is_none();
        let number = self.place().0.number;
        let item = self
            .log
            .source
            .unreadable(self.last_at, number, current.then_some(self.log.end), &error);
        self.ready.push_back(item);
        self.buffer.clear();
        self.used = 0;
        if current {
            self.done = true;
            return Ok(());
        }
        self.segment += 1;
        self.enter()
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
            if !self.ready.is_empty() {
                // A file before the one of this line was passed over.
                let passed = std::mem::take(&mut self.ready);
                self.end_record(wanted);
                self.ready.extend(passed);
            }
            let Some(item) = item else {
                self.done = true;
                self.end_record(wanted);
                continue;
            };
            self.last_at = self.last_at.max(item.at);
            if self.since.is_none_or(|since| item.at >= since) {
                if !wanted.records || !continues(&item.line.line) || self.record.len() >= RECORD_MAX {
                    self.end_record(wanted);
                }
                self.record.push(item);
                if !wanted.records {
                    self.end_record(wanted);
                }
            }
        }
    }

    fn end_record(&mut self, wanted: &Wanted) {
        if matches(wanted, &self.record) {
            self.ready.extend(self.record.drain(..));
        }
        self.record.clear();
    }

    fn line(&mut self, wanted: &Wanted) -> io::Result<Option<Item>> {
        loop {
            if self.too_late {
                return Ok(None);
            }
            let rest = &self.buffer[self.used..];
            let newline = memchr::memchr(b'\n', rest);
            let length = match newline {
                Some(at) => Some(at + 1),
                None if rest.len() >= LINE_MAX => Some(LINE_MAX),
                None => None,
            };
            if let Some(length) = length {
                match self.take(length, newline.is_none(), wanted) {
                    Some(item) => return Ok(Some(item)),
                    None => continue,
                }
            }
            wanted.go_on(&mut self.blocks)?;
            if self.read_block()? {
                continue;
            }
            if self.used < self.buffer.len() {
                match self.take(self.buffer.len() - self.used, true, wanted) {
                    Some(item) => return Ok(Some(item)),
                    None => continue,
                }
            }
            if self.segment >= self.log.rotated.len() {
                return Ok(None);
            }
            self.segment += 1;
            self.enter()?;
        }
    }

    fn take(&mut self, length: usize, partial: bool, wanted: &Wanted) -> Option<Item> {
        let (segment, _) = self.place();
        let start = self.offset - (self.buffer.len() - self.used) as u64;
        let bytes = trim_newline(&self.buffer[self.used..self.used + length]);
        let at = segment.times.at(start);
        let too_late = wanted.until_ms.is_some_and(|until| at > until);
        let begins = Place {
            number: segment.number,
            offset: start,
        };
        let item = (!too_late && self.log.source.passes(wanted, bytes)).then(|| Item {
            line: self.log.source.line(at, bytes, partial),
            at,
            begins,
            after: Place {
                offset: start + length as u64,
                ..begins
            },
            inside: partial,
        });
        self.used += length;
        self.too_late = too_late;
        item
    }

    /// More bytes of this file; `false` at its end.
    fn read_block(&mut self) -> io::Result<bool> {
        let (_, end) = self.place();
        self.buffer.drain(..self.used);
        self.used = 0;
        let wanted = usize::try_from(end.saturating_sub(self.offset))
            .unwrap_or(BLOCK)
            .min(BLOCK);
        if wanted == 0 {
            return Ok(false);
        }
        let old = self.buffer.len();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(old + wanted, 0);
        let read = match self.place().0.read_at(&mut buffer[old..], self.offset) {
            Ok(read) => read,
            Err(error) => {
                // What was read before is whole all the same.
                buffer.truncate(old);
                self.buffer = buffer;
                return Err(error);
            }
        };
        buffer.truncate(old + read);
        self.buffer = buffer;
        self.offset += read as u64;
        Ok(read > 0)
    }
}
