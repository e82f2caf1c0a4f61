//! Lines of the log that a check waits for.
//!
//! The pump moves bytes from pipe to file inside the kernel and sees none of them. So the log is read as any other
//! reader does ([`crate::logs::read`]): from where it ended when the process was asked for, on through rotations and
//! compression, each line as the program wrote it. Reading happens on a thread of its own, where a
//! slow disk delays nobody. A line that a process before wrote, and that was still in the pipe at that moment, can be
//! taken for one of this process.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use upkeep_api::body::{LogLine, Stream};
use upkeep_model::{id::AppName, logs::LogFormat};

use crate::logs::read::{
    LogToRead,
    marks::Marks,
    more::{marks_at, more},
};

/// How often the files are looked at.
pub(super) const STEP: Duration = Duration::from_millis(100);
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
    source: LogToRead,
    /// Where it is; absent: the log was not there yet.
    place: Option<Marks>,
    /// Inode and length of the current file when all of it was read.
    read: Option<(u64, u64)>,
    /// A piece of a line too long was looked at: nothing until its end.
    inside: bool,
}

impl Lines {
    /// From the mark on, of an app whose lines have that form.
    pub(super) fn new(mark: Mark, app: AppName, format: LogFormat) -> Self {
        Self {
            source: LogToRead {
                app,
                index: None,
                stream: Stream::Out,
                path: mark.path.clone(),
                format,
                dropped: None,
                lost: None,
            },
            mark,
            place: None,
            read: None,
            inside: false,
        }
    }

    /// Reads what is new; tells which of the patterns some line of it matches.
    pub(super) fn look(&mut self, patterns: &[Regex], matched: &mut [bool]) -> io::Result<()> {
        let now = match fs::metadata(&self.mark.path) {
            Ok(metadata) => (metadata.ino(), metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.read == Some(now) {
            return Ok(());
        }
        let mut place = match self.place.take() {
            Some(place) => place,
            None => match marks_at(&self.source, self.mark.inode, self.mark.offset)? {
                Some(place) => place,
                None => return Ok(()),
            },
        };
        let mut inside = self.inside;
        let done = more(
            std::slice::from_ref(&self.source),
            &mut place,
            &mut |line: &LogLine| {
                if line.notice {
                    return true;
                }
                if !inside {
                    let text = line.line.as_bytes();
                    let text = text[..text.len().min(LINE_MAX)].trim_ascii_end();
                    for (pattern, matched) in patterns.iter().zip(matched.iter_mut()) {
                        *matched |= pattern.is_match(text);
                    }
                }
                inside = line.partial;
                true
            },
        );
        self.inside = inside;
        self.place = Some(place);
        done?;
        self.read = Some(now);
        Ok(())
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

    fn reader(path: &Path, format: LogFormat) -> Lines {
        let app = AppName::parse("shop").expect("a name");
        Lines::new(Mark::end_of(path), app, format)
    }

    #[test]
    fn two_rotations_between_two_looks_hide_nothing_nor_does_the_form_of_lines() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("app.log");
        append(&path, "before\n");
        let patterns = [
            Regex::new("^ready 1$").expect("a pattern"),
            Regex::new("^ready \"2\"$").expect("a pattern"),
        ];
        let mut lines = reader(&path, LogFormat::Json);
        append(
            &path,
            "{\"time\":\"2026-11-23T03:10:00.123Z\",\"app\":\"shop\",\"instance\":0,\"host\":\"h\",\"stream\":\"out\",\"message\":\"ready 1\"}\n",
        );
        fs::rename(&path, folder.path().join("app.log.000001")).expect("rotated");
        append(
            &path,
            "{\"time\":\"2026-11-23T03:10:01.123Z\",\"app\":\"shop\",\"instance\":0,\"host\":\"h\",\"stream\":\"out\",\"message\":\"ready \\\"2\\\"\"}\n",
        );
        fs::rename(&path, folder.path().join("app.log.000002")).expect("rotated");
        append(&path, "the end\n");
        let mut matched = [false; 2];
        lines.look(&patterns, &mut matched).expect("read");
        assert_eq!(matched, [true; 2]);
    }

    #[test]
    fn lines_are_seen_once_from_the_mark_on_and_through_rotation() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("app.log");
        append(&path, "listening on 1\n");
        let patterns = [Regex::new("listening on [0-9]+").expect("a pattern")];
        let mut lines = reader(&path, LogFormat::Raw);
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
        let mut young = reader(&folder.path().join("none.log"), LogFormat::Raw);
        assert!(!look(&mut young));
        append(&folder.path().join("none.log"), "listening on 8\n");
        assert!(look(&mut young));
    }
}
