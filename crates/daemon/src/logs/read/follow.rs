//! What comes after the history: looks for growth and for rotation.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use super::{
    Around, BLOCK, LINE_MAX, LogToRead, Sink, Wanted,
    forward::RECORD_MAX,
    line::{Item, continues, matches},
    marks::{Mark, Marks, key},
    segment::{OpenLog, Place, Segment, trim_newline},
};
use crate::logs::beside;

/// How often a follower looks for more.
const FOLLOW_STEP: Duration = Duration::from_millis(50);
/// How often a follower looks for new sources, in steps: an app that lives for a moment is heard all the same.
const LIST_EVERY: u32 = 2;
/// How often it asks whether somebody still listens, in steps.
const ASK_EVERY: u32 = 10;
/// So many sources may be named in an id before it is made short again, in steps at least.
const NAMED: usize = 8;
const SHORTEN_EVERY: u32 = 4;

/// What a follower holds of one log.
struct Tail {
    source: LogToRead,
    key: String,
    /// The file being read, current or rotated since.
    segment: Segment,
    offset: u64,
    buffer: Vec<u8>,
    /// A record that may go on.
    record: Vec<Item>,
    /// A piece of a line was given out, and its rest is to come.
    inside: bool,
    /// Nothing came in the last step.
    silent: bool,
    /// It was told that it cannot be read.
    failed: bool,
}

pub(super) fn follow(
    open: Vec<OpenLog>,
    around: &Around<'_>,
    cut: u64,
    wanted: &Wanted,
    sink: Sink<'_>,
) -> io::Result<()> {
    let mut tails: BTreeMap<PathBuf, Tail> = BTreeMap::new();
    for log in open {
        let tail = Tail::new(log.source, log.current, log.end);
        tails.insert(tail.source.path.clone(), tail);
    }
    let mut marks = settled(&tails, cut);
    let mut block = vec![0_u8; BLOCK];
    let mut round = 0_u32;
    loop {
        for tail in tails.values_mut() {
            if !tail.step(wanted, &mut block, &mut marks, sink) {
                return Ok(());
            }
        }
        std::thread::park_timeout(FOLLOW_STEP);
        round = round.wrapping_add(1);
        // Asks whether somebody still listens, even if nothing is said.
        if round.is_multiple_of(ASK_EVERY) && !sink(LogToRead::nobody().notice(""), None) {
            return Ok(());
        }
        if round.is_multiple_of(LIST_EVERY) {
            for source in (around.list)() {
                if !tails.contains_key(&source.path)
                    && let Ok(Some((segment, _))) = Segment::open_current(&source.path)
                {
                    let tail = Tail::new(source, segment, 0);
                    tails.insert(tail.source.path.clone(), tail);
                }
            }
        }
        if marks.named.len() > NAMED && round.is_multiple_of(SHORTEN_EVERY) {
            let cut = (around.cut)();
            // All that was written before the cut is given out now; what is not is named.
            for tail in tails.values_mut() {
                if !tail.step(wanted, &mut block, &mut marks, sink) {
                    return Ok(());
                }
            }
            marks = settled(&tails, cut);
        }
    }
}

/// Where a reader is that has read all tails at least up to a cut: named are those that may be elsewhere.
fn settled(tails: &BTreeMap<PathBuf, Tail>, cut: u64) -> Marks {
    let moved = tails.values().filter(|tail| !tail.is_at(cut));
    Marks {
        base: cut,
        named: moved.map(|tail| (tail.key.clone(), tail.mark())).collect(),
    }
}

impl Tail {
    fn new(source: LogToRead, segment: Segment, offset: u64) -> Self {
        Self {
            key: key(&source),
            source,
            segment,
            offset,
            buffer: Vec::new(),
            record: Vec::new(),
            inside: false,
            silent: false,
            failed: false,
        }
    }

    /// Where the first line begins that was not given out.
    fn mark(&self) -> Mark {
        let here = Place {
            number: self.segment.number,
            offset: self.offset - self.buffer.len() as u64,
        };
        Mark {
            place: self.record.first().map_or(here, |item| item.begins),
            inside: self.inside,
        }
    }

    /// Whether it stands where somebody who knows only the time of the cut would begin.
    fn is_at(&self, cut: u64) -> bool {
        // What came before the cut is given out, unless a line has no end yet; nothing came after it.
        self.offset >= self.segment.length
            && self.buffer.is_empty()
            && self.record.is_empty()
            && !self.inside
            && self.segment.times.until(cut.saturating_sub(1)).is_none()
            && fs::metadata(&self.source.path).is_ok_and(|metadata| metadata.ino() == self.segment.inode)
    }

    /// Gives out what is new. What cannot be read is told once and passed over; the other logs are read all the same.
    fn step(&mut self, wanted: &Wanted, block: &mut [u8], marks: &mut Marks, sink: Sink<'_>) -> bool {
        let error = match self.advance(wanted, block, marks, sink) {
            Ok(go_on) => {
                self.failed = false;
                return go_on;
            }
            Err(error) => error,
        };
        let path = self.source.path.display();
        let text =
            format!("`{path}` or a rotated file of it cannot be read, so lines are missing here: {error}");
        if !std::mem::replace(&mut self.failed, true) && !sink(self.source.notice(&text), None) {
            return false;
        }
        if !beside::is_passing(&error) {
            self.skip();
        }
        true
    }

    /// Goes on with the next file that can be opened; without one, behind the end of the current one.
    fn skip(&mut self) {
        let Ok(Some((current, files))) = Segment::open_current(&self.source.path) else {
            return;
        };
        self.buffer.clear();
        self.inside = false;
        let number = self.segment.number;
        let mut later = files.into_iter().filter(|file| file.number > number);
        let next = later.find_map(|file| Segment::open(&file).ok().flatten());
        self.offset = if next.is_none() && current.number <= number {
            current.length
        } else {
            0
        };
        self.segment = next.unwrap_or(current);
    }

    /// Gives out all whole lines that are there; goes over to the next file after a rotation.
    fn advance(
        &mut self,
        wanted: &Wanted,
        block: &mut [u8],
        marks: &mut Marks,
        sink: Sink<'_>,
    ) -> io::Result<bool> {
        self.silent = true;
        loop {
            if !self.read_to_end(wanted, block, marks, sink)? {
                return Ok(false);
            }
            let Ok(metadata) = fs::metadata(&self.source.path) else {
                break;
            };
            if metadata.ino() == self.segment.inode {
                if metadata.size() < self.offset {
                    // Truncated: what is in it now is new.
                    self.offset = 0;
                    self.buffer.clear();
                    continue;
                }
                break;
            }
            // Rotated. What was written before the rename is read now; then comes the next file.
            if !self.read_to_end(wanted, block, marks, sink)? {
                return Ok(false);
            }
            let Some((current, files)) = Segment::open_current(&self.source.path)? else {
                break;
            };
            let later = files.into_iter().filter(|file| file.number > self.segment.number);
            let mut next = None;
            for file in later {
                // Deleted by retention since: the next one, then.
                next = Segment::open(&file)?;
                if next.is_some() {
                    break;
                }
            }
            self.segment = next.unwrap_or(current);
            self.offset = 0;
        }
        if self.silent && !self.record.is_empty() {
            return Ok(self.end_record(wanted, marks, sink));
        }
        Ok(true)
    }

    fn read_to_end(
        &mut self,
        wanted: &Wanted,
        block: &mut [u8],
        marks: &mut Marks,
        sink: Sink<'_>,
    ) -> io::Result<bool> {
        loop {
            let read = self.segment.read_at(block, self.offset)?;
            if read == 0 {
                return Ok(true);
            }
            self.silent = false;
            let mut start = self.offset - self.buffer.len() as u64;
            self.offset += read as u64;
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.extend_from_slice(&block[..read]);
            self.segment.times.refresh()?;
            let mut used = 0;
            while let Some(length) = piece(&buffer[used..]) {
                let bytes = &buffer[used..used + length];
                let inside = bytes.last() != Some(&b'\n');
                let text = trim_newline(bytes);
                let at = self.segment.times.at(start);
                let begins = Place {
                    number: self.segment.number,
                    offset: start,
                };
                used += length;
                start += length as u64;
                self.inside = inside;
                if !self.source.passes(wanted, text) {
                    continue;
                }
                let item = Item {
                    line: self.source.line(at, text, inside),
                    at,
                    begins,
                    after: Place {
                        offset: start,
                        ..begins
                    },
                    inside,
                };
                if !self.give(item, wanted, marks, sink) {
                    return Ok(false);
                }
            }
            buffer.drain(..used);
            self.buffer = buffer;
        }
    }

    fn give(&mut self, item: Item, wanted: &Wanted, marks: &mut Marks, sink: Sink<'_>) -> bool {
        if wanted.records
            && !self.record.is_empty()
            && (!continues(&item.line.line) || self.record.len() >= RECORD_MAX)
            && !self.end_record(wanted, marks, sink)
        {
            return false;
        }
        self.record.push(item);
        wanted.records || self.end_record(wanted, marks, sink)
    }

    fn end_record(&mut self, wanted: &Wanted, marks: &mut Marks, sink: Sink<'_>) -> bool {
        let record = std::mem::take(&mut self.record);
        if !matches(wanted, &record) {
            return true;
        }
        record.into_iter().all(|item| {
            marks.named.insert(
                self.key.clone(),
                Mark {
                    place: item.after,
                    inside: item.inside,
                },
            );
            sink(item.line, Some(marks))
        })
    }
}

/// The length of the first line, or of a piece of one that is too long.
fn piece(bytes: &[u8]) -> Option<usize> {
    match memchr::memchr(b'\n', bytes) {
        Some(at) => Some(at + 1),
        None => (bytes.len() >= LINE_MAX).then_some(LINE_MAX),
    }
}
