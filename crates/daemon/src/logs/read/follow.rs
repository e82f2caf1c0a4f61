//! What comes after the history: looks for growth and for rotation.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use upkeep_api::body::Stream;
use upkeep_model::id::AppName;

use super::{
    BLOCK, LINE_MAX, LogToRead, Sink, Wanted, matches,
    segment::{OpenLog, Segment, trim_newline},
};
use crate::logs::files::rotated;

/// How often a follower looks for more.
const FOLLOW_STEP: Duration = Duration::from_millis(50);
/// How often a follower looks for new sources, in steps: an app that lives for a moment is heard all the same.
const LIST_EVERY: u32 = 2;
/// How often it asks whether somebody still listens, in steps.
const ASK_EVERY: u32 = 10;

/// What a follower holds of one log.
struct Tail {
    source: LogToRead,
    /// The file being read, current or rotated since.
    segment: Segment,
    offset: u64,
    buffer: Vec<u8>,
    /// The highest number of a rotated file that was there or that we have come from: what follows is higher.
    number: u64,
}

pub(super) fn follow(
    open: Vec<OpenLog>,
    list: &dyn Fn() -> Vec<LogToRead>,
    wanted: &Wanted,
    sink: Sink<'_>,
) -> io::Result<()> {
    let mut tails: HashMap<PathBuf, Tail> = HashMap::new();
    for log in open {
        let tail = Tail::new(log.source, log.current, log.end)?;
        tails.insert(tail.source.path.clone(), tail);
    }
    let mut block = vec![0_u8; BLOCK];
    let mut round = 0_u32;
    loop {
        for tail in tails.values_mut() {
            if !tail.advance(wanted, &mut block, sink)? {
                return Ok(());
            }
        }
        std::thread::park_timeout(FOLLOW_STEP);
        round = round.wrapping_add(1);
        // Asks whether somebody still listens, even if nothing is said.
        if round.is_multiple_of(ASK_EVERY) && !sink(LogToRead::nobody().notice("")) {
            return Ok(());
        }
        if round.is_multiple_of(LIST_EVERY) {
            for source in list() {
                if !tails.contains_key(&source.path)
                    && let Ok(Some(segment)) = Segment::open(&source.path)
                {
                    let tail = Tail::new(source, segment, 0)?;
                    tails.insert(tail.source.path.clone(), tail);
                }
            }
        }
    }
}

impl LogToRead {
    /// The source of a heartbeat: an empty notice, which is not shown.
    pub(super) fn nobody() -> Self {
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

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

impl Tail {
    fn new(source: LogToRead, segment: Segment, offset: u64) -> io::Result<Self> {
        // Rotated while it was opened: then it is among the rotated ones, and what follows is higher all the same.
        let files = rotated(&source.path)?;
        let number = files
            .iter()
            .rev()
            .find(|(_, path)| inode(path) != Some(segment.inode));
        Ok(Self {
            number: number.map_or(0, |(number, _)| *number),
            source,
            segment,
            offset,
            buffer: Vec::new(),
        })
    }

    /// Gives out all whole lines that are there; goes over to the next file after a rotation.
    fn advance(&mut self, wanted: &Wanted, block: &mut [u8], sink: Sink<'_>) -> io::Result<bool> {
        loop {
            if !self.read_to_end(wanted, block, sink)? {
                return Ok(false);
            }
            let Ok(metadata) = fs::metadata(&self.source.path) else {
                return Ok(true);
            };
            if metadata.ino() == self.segment.inode {
                if metadata.size() < self.offset {
                    // Truncated: what is in it now is new.
                    self.offset = 0;
                    self.buffer.clear();
                }
                return Ok(true);
            }
            // Rotated. What was written before the rename is read now; then comes the next file.
            if !self.read_to_end(wanted, block, sink)? {
                return Ok(false);
            }
            let files = rotated(&self.source.path)?;
            let ours = files
                .iter()
                .find(|(_, path)| inode(path) == Some(self.segment.inode));
            self.number = ours.map_or(self.number, |(number, _)| *number);
            let next = files.iter().find(|(number, _)| *number > self.number);
            let path = next.map_or(&self.source.path, |(_, path)| path);
            let Some(segment) = Segment::open(path)? else {
                return Ok(true);
            };
            self.number = next.map_or(self.number, |(number, _)| *number);
            self.segment = segment;
            self.offset = 0;
        }
    }

    fn read_to_end(&mut self, wanted: &Wanted, block: &mut [u8], sink: Sink<'_>) -> io::Result<bool> {
        loop {
            let read = self.segment.file.read_at(block, self.offset)?;
            if read == 0 {
                return Ok(true);
            }
            let start = self.offset - self.buffer.len() as u64;
            self.offset += read as u64;
            self.buffer.extend_from_slice(&block[..read]);
            self.segment.times.refresh()?;
            let mut used = 0;
            while let Some(at) = memchr::memchr(b'\n', &self.buffer[used..]) {
                let arrived = self.segment.times.at(start + used as u64);
                let text = trim_newline(&self.buffer[used..=used + at]);
                let line = self.source.line(arrived, text, false);
                used += at + 1;
                if matches(wanted, &line) && !sink(line) {
                    return Ok(false);
                }
            }
            self.buffer.drain(..used);
            if self.buffer.len() >= LINE_MAX {
                let arrived = self.segment.times.at(start + used as u64);
                let line = self.source.line(arrived, &self.buffer, true);
                self.buffer.clear();
                if matches(wanted, &line) && !sink(line) {
                    return Ok(false);
                }
            }
        }
    }
}
