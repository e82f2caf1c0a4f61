//! What comes after the history: looks for growth and for rotation.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    time::Duration,
};

use upkeep_api::body::{LogLine, Stream};
use upkeep_model::id::AppName;
use upkeep_sys::clock;

use super::{
    BLOCK, LINE_MAX, LogToRead, Sink, Wanted, matches,
    segment::{OpenLog, trim_newline},
};
use crate::logs::files::rotated;

/// How often a follower looks for more.
const FOLLOW_STEP: Duration = Duration::from_millis(50);
/// How often a follower looks for new sources, in steps.
const LIST_EVERY: u32 = 10;

/// What a follower holds of one log.
pub(super) struct Tail {
    source: LogToRead,
    file: File,
    inode: u64,
    offset: u64,
    buffer: Vec<u8>,
}

pub(super) fn follow(
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

impl Tail {
    /// Gives out all whole lines that are there; goes over to the next file after a rotation.
    pub(super) fn advance(&mut self, wanted: &Wanted, sink: Sink<'_>) -> io::Result<bool> {
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

    pub(super) fn read_to_end(&mut self, wanted: &Wanted, sink: Sink<'_>) -> io::Result<bool> {
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
