//! Lines of one log, newest first: for "the last N lines".

use std::io;
use std::os::unix::fs::FileExt;

use upkeep_api::body::LogLine;

use super::{
    BLOCK, LINE_MAX, Line, Wanted, matches,
    segment::{OpenLog, Segment, trim_newline},
};

/// Lines of one log, newest first.
pub(super) struct Backward<'a> {
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
    pub(super) fn new(log: &'a OpenLog) -> Self {
        Self {
            log,
            left: log.rotated.len(),
            older: None,
            buffer: Vec::new(),
            start: log.end,
            done: false,
        }
    }

    pub(super) fn next(&mut self, wanted: &Wanted) -> io::Result<Option<(u64, Line)>> {
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

    pub(super) fn line(&mut self) -> io::Result<Option<(u64, LogLine)>> {
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

    pub(super) fn read_block(&mut self) -> io::Result<()> {
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

    pub(super) fn older_segment(&mut self) -> io::Result<bool> {
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
