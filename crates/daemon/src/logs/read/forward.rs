//! Lines of one log, oldest first: for "since", and for all.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use upkeep_api::body::LogLine;

use super::{
    BLOCK, LINE_MAX, Line, Wanted, matches,
    segment::{OpenLog, Segment, trim_newline},
};

/// Lines of one log, oldest first.
pub(super) struct Forward<'a> {
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
    pub(super) fn new(log: &'a OpenLog, since: Option<u64>) -> io::Result<Self> {
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
            reader.offset = reader.line_start(offset)?;
        } else {
            reader.enter()?;
        }
        Ok(reader)
    }

    /// The start of the first line that begins at `offset` or after it: batches may end inside a line.
    fn line_start(&self, offset: u64) -> io::Result<u64> {
        if offset == 0 {
            return Ok(0);
        }
        let (file, end) = self.place();
        let mut block = vec![0_u8; BLOCK];
        let mut at = offset - 1;
        while at < end {
            let read = file.read_at(&mut block, at)?;
            if read == 0 {
                break;
            }
            if let Some(newline) = memchr::memchr(b'\n', &block[..read]) {
                return Ok(at + newline as u64 + 1);
            }
            at += read as u64;
        }
        Ok(end)
    }

    /// The file being read and how far.
    fn place(&self) -> (&File, u64) {
        match &self.older {
            Some(segment) => (&segment.file, segment.length),
            None => (&self.log.current.file, self.log.end),
        }
    }

    /// Opens the file of `self.segment`, or the next that is still there.
    pub(super) fn enter(&mut self) -> io::Result<()> {
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

    pub(super) fn next(&mut self, wanted: &Wanted) -> io::Result<Option<(u64, Line)>> {
        while let Some((at, line)) = self.line()? {
            if wanted.since_ms.is_none_or(|since| at >= since) && matches(wanted, &line) {
                return Ok(Some((at, Line(line))));
            }
        }
        Ok(None)
    }

    pub(super) fn line(&mut self) -> io::Result<Option<(u64, LogLine)>> {
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

    pub(super) fn take(&mut self, length: usize, partial: bool) -> (u64, LogLine) {
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
    pub(super) fn read_block(&mut self) -> io::Result<bool> {
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
        self.buffer.resize(old + wanted, 0);
        let file = self
            .older
            .as_ref()
            .map_or(&self.log.current.file, |segment| &segment.file);
        let read = file.read_at(&mut self.buffer[old..], self.offset)?;
        self.buffer.truncate(old + read);
        self.offset += read as u64;
        Ok(read > 0)
    }
}
