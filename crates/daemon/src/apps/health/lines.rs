//! Lines of the log that a check waits for.
//!
//! The pump moves bytes from pipe to file inside the kernel and sees none of them. So the file is read: from where
//! it ended when the process was asked for, on through rotations. Reading happens on a thread of its own, where a
//! slow disk delays nobody. A line that a process before wrote, and that was still in the pipe at that moment, can be
//! taken for one of this process.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

/// How often the files are looked at.
pub(super) const STEP: Duration = Duration::from_millis(100);
/// How much is read of a file in one step.
const BLOCK: usize = 256 << 10;
/// The start of a longer line is looked at, its rest is not.
const LINE_MAX: usize = 64 << 10;

/// A place in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) path: PathBuf,
    inode: u64,
    offset: u64,
}

impl Mark {
    /// Where the file ends now; the start of a file that is not there yet.
    pub(crate) fn end_of(path: &Path) -> Self {
        let (inode, offset) = fs::metadata(path).map_or((0, 0), |metadata| (metadata.ino(), metadata.len()));
        Self {
            path: path.to_owned(),
            inode,
            offset,
        }
    }
}

/// A reader of one log.
pub(super) struct Lines {
    mark: Mark,
    file: Option<File>,
    /// The start of a line that has not ended.
    rest: Vec<u8>,
    /// Its start was too long: nothing until the next newline.
    skip: bool,
}

impl Lines {
    pub(super) fn new(mark: Mark) -> Self {
        Self {
            mark,
            file: None,
            rest: Vec::new(),
            skip: false,
        }
    }

    /// Reads what is new; tells which of the patterns some line of it matches.
    pub(super) fn look(&mut self, patterns: &[Regex], matched: &mut [bool]) -> io::Result<()> {
        let current = match fs::metadata(&self.mark.path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if self.file.is_none() {
            let Some(metadata) = current else { return Ok(()) };
            self.file = Some(File::open(&self.mark.path)?);
            if metadata.ino() != self.mark.inode {
                // It was rotated before we came, or has just been made.
                (self.mark.inode, self.mark.offset) = (metadata.ino(), 0);
            }
        }
        self.read(patterns, matched)?;
        let replaced = fs::metadata(&self.mark.path).is_ok_and(|metadata| metadata.ino() != self.mark.inode);
        if replaced {
            // What was written to the old one until then has been read once more by now.
            self.read(patterns, matched)?;
            let file = File::open(&self.mark.path)?;
            (self.mark.inode, self.mark.offset) = (file.metadata()?.ino(), 0);
            self.file = Some(file);
            self.read(patterns, matched)?;
        }
        Ok(())
    }

    fn read(&mut self, patterns: &[Regex], matched: &mut [bool]) -> io::Result<()> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        if file.metadata()?.len() < self.mark.offset {
            self.mark.offset = 0; // cut short by hand
        }
        let mut block = vec![0_u8; BLOCK];
        loop {
            let count = file.read_at(&mut block, self.mark.offset)?;
            if count == 0 {
                break;
            }
            self.mark.offset += count as u64;
            for piece in block[..count].split_inclusive(|byte| *byte == b'\n') {
                self.piece(piece, patterns, matched);
            }
        }
        self.file = Some(file);
        Ok(())
    }

    fn piece(&mut self, piece: &[u8], patterns: &[Regex], matched: &mut [bool]) {
        let ends = piece.ends_with(b"\n");
        if !self.skip {
            let room = LINE_MAX.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&piece[..piece.len().min(room)]);
            let full = self.rest.len() >= LINE_MAX;
            if ends || full {
                let line = self.rest.trim_ascii_end();
                for (pattern, matched) in patterns.iter().zip(matched.iter_mut()) {
                    *matched |= pattern.is_match(line);
                }
                self.rest.clear();
                self.skip = !ends;
            }
        } else if ends {
            self.skip = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::OpenOptions, io::Write};

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[test]
    fn lines_are_seen_once_from_the_mark_on_and_through_rotation() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("app.log");
        append(&path, "listening on 1\n");
        let patterns = [Regex::new("listening on [0-9]+").expect("a pattern")];
        let mut lines = Lines::new(Mark::end_of(&path));
        let look = |lines: &mut Lines| {
            let mut matched = [false];
            lines.look(&patterns, &mut matched).expect("read");
            matched[0]
        };
        assert!(!look(&mut lines), "that was before the mark");
        append(&path, "starting\nlistening ");
        assert!(!look(&mut lines), "half a line");
        append(&path, "on 2\n");
        assert!(look(&mut lines));
        assert!(!look(&mut lines), "once");
        append(&path, "last words\nlistening on 3\n");
        fs::rename(&path, folder.path().join("app.log.000001")).expect("rotated");
        append(&path, "new file\n");
        assert!(look(&mut lines), "in the rotated file");
        append(&path, "listening on 4\n");
        assert!(look(&mut lines), "in the new file");
        append(&path, &("x".repeat(LINE_MAX * 2) + "listening on 5\nend\n"));
        assert!(!look(&mut lines), "the end of an endless line is not looked at");
        append(&path, "listening on 6\n");
        assert!(look(&mut lines));
        let mut young = Lines::new(Mark::end_of(&folder.path().join("none.log")));
        assert!(!look(&mut young));
        append(&folder.path().join("none.log"), "listening on 8\n");
        assert!(look(&mut young));
    }
}
