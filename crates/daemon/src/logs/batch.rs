//! Lines in another form than the program wrote them: with a time in front, or as JSON.
//!
//! Bytes that pass through memory are lost, or come twice, when the daemon is killed between taking them and writing
//! them. So they are never only in memory:
//!
//! 1. a **note** beside the log says how long the log is, and whose lines come;
//! 2. whole lines are spliced from the pipe to a small **batch** file, as raw ones are spliced to the log;
//! 3. they are written to the log in their form;
//! 4. the batch is emptied. That is the one step by which they count as written.
//!
//! A daemon that finds a batch with something in it cuts the log to the length that the note says, and does steps 3
//! and 4 again. Forms have a fixed length for the same text, so places in the log stay what they were. Nothing is
//! synced: what matters is what the kernel knows when a process dies.
//!
//! A line that does not end waits in its pipe: for a second, or until the pipe may hold up its writer. Then it is
//! written as far as it has come and marked; its rest becomes a line of its own.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use serde::{Deserialize, Serialize};
use upkeep_api::body::Stream;
use upkeep_model::logs::LogFormat;
use upkeep_sys::clock;

use super::{beside, names::with_suffix};

/// Length of the note: longer than any, so that a shorter one leaves nothing of a longer one.
const NOTE: usize = 1024;
/// How long a line may take to end, in ms.
pub(super) const PATIENCE_MS: u64 = 1000;
/// What stands at the end of a piece of a line.
pub(crate) const UNFINISHED: &str = " …";

/// The form of lines, and whose they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Form {
    pub(crate) format: LogFormat,
    pub(crate) app: String,
    /// Absent where all instances share the file and a pipe.
    pub(crate) index: Option<u32>,
    pub(crate) stream: Stream,
    pub(crate) host: String,
}

/// One line as JSON. `docs/guides/logs.md` names these keys: they are a promise.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JsonLine<'a> {
    #[serde(borrow)]
    pub(crate) time: std::borrow::Cow<'a, str>,
    pub(crate) app: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) instance: Option<u32>,
    pub(crate) host: std::borrow::Cow<'a, str>,
    pub(crate) stream: Stream,
    pub(crate) message: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) partial: bool,
}

impl Form {
    /// Puts lines into their form; a rest without newline is a piece of one.
    fn write(&self, bytes: &[u8], unix_ms: u64, out: &mut Vec<u8>) {
        let time = clock::utc_text(unix_ms);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n");
            let partial = text.is_none();
            let text = text.unwrap_or(line);
            if self.format == LogFormat::Json {
                let line = JsonLine {
                    time: time.as_str().into(),
                    app: self.app.as_str().into(),
                    instance: self.index,
                    host: self.host.as_str().into(),
                    stream: self.stream,
                    message: String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)),
                    partial,
                };
                // Writing into memory cannot fail, and every text can be encoded.
                let _ = serde_json::to_writer(&mut *out, &line);
            } else {
                out.extend_from_slice(time.as_bytes());
                out.push(b' ');
                out.extend_from_slice(text);
                if partial {
                    out.extend_from_slice(UNFINISHED.as_bytes());
                }
            }
            out.push(b'\n');
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Note {
    /// Of the log: another file than this one is not cut.
    inode: u64,
    size: u64,
    form: Form,
}

/// The batch of a log.
#[derive(Debug)]
pub(super) struct Batch {
    raw: File,
    note: File,
    out: Vec<u8>,
}

fn open(path: &Path, make: bool) -> io::Result<File> {
    beside::write(path, make, false)
}

impl Batch {
    /// Opens or makes it; `make`: or finds that there is none.
    pub(super) fn open(log: &Path, make: bool) -> io::Result<Option<Self>> {
        let raw = match open(&with_suffix(log, ".batch"), make) {
            // Something of somebody else: in the way only of lines in another form.
            Err(error) if !make && beside::is_none_of_ours(&error) => return Ok(None),
            file => file?,
        };
        Ok(Some(Self {
            raw,
            note: open(&with_suffix(log, ".note"), true)?,
            out: Vec::new(),
        }))
    }

    /// Whether lines wait for being written.
    pub(super) fn waits(&self) -> io::Result<bool> {
        Ok(self.raw.metadata()?.len() > 0)
    }

    /// Step 1: notes that lines of this form come behind `size` of the log.
    pub(super) fn begin(&self, log: &File, size: u64, form: &Form) -> io::Result<()> {
        let note = Note {
            inode: log.metadata()?.ino(),
            size,
            form: form.clone(),
        };
        let mut bytes = serde_json::to_vec(&note).map_err(io::Error::other)?;
        bytes.resize(bytes.len().max(NOTE), b' ');
        self.note.write_all_at(&bytes, 0)
    }

    /// Step 2: where the lines are spliced to.
    pub(super) fn raw(&self) -> &File {
        &self.raw
    }

    /// Steps 3 and 4. `log` is at its end, `size`. Returns by how much it has grown. If the log cannot be written, it
    /// is as it was before, and the lines wait.
    pub(super) fn write(&mut self, mut log: &File, size: u64, form: &Form, lines: &[u8]) -> io::Result<u64> {
        self.out.clear();
        form.write(lines, clock::unix_ms(), &mut self.out);
        let written = log.write_all(&self.out);
        let grown = self.out.len() as u64;
        if self.out.capacity() > 256 << 10 {
            self.out = Vec::new();
        }
        if let Err(error) = written {
            log.set_len(size)?;
            log.seek(SeekFrom::Start(size))?;
            return Err(error);
        }
        self.raw.set_len(0)?;
        (&self.raw).seek(SeekFrom::Start(0))?;
        Ok(grown)
    }

    /// Does again what a kill or a full disk has interrupted. `size` is the length of the log; returns the new one.
    pub(super) fn again(&mut self, mut log: &File, size: u64) -> io::Result<u64> {
        let mut text = vec![0; NOTE * 2];
        let read = self.note.read_at(&mut text, 0)?;
        let note: Option<Note> = serde_json::from_slice(&text[..read]).ok();
        let mut lines = Vec::new();
        (&self.raw).seek(SeekFrom::Start(0))?;
        (&self.raw).take(16 << 20).read_to_end(&mut lines)?;
        let Some(note) = note else {
            // Notes come first; without one these are no lines of ours.
            self.raw.set_len(0)?;
            return Ok(size);
        };
        let size = if note.inode == log.metadata()?.ino() && note.size <= size {
            log.set_len(note.size)?;
            note.size
        } else {
            size
        };
        log.seek(SeekFrom::Start(size))?;
        Ok(size + self.write(log, size, &note.form, &lines)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::*;

    fn form(format: LogFormat) -> Form {
        Form {
            format,
            app: "web".to_owned(),
            index: Some(1),
            stream: Stream::Err,
            host: "a".to_owned(),
        }
    }

    #[test]
    fn lines_get_their_form() {
        let mut out = Vec::new();
        form(LogFormat::Timestamped).write(b"one\n\ntw", 1_795_372_848_764, &mut out);
        let at = clock::utc_text(1_795_372_848_764);
        assert_eq!(
            String::from_utf8(out).expect("a text"),
            format!("{at} one\n{at} \n{at} tw …\n")
        );
        let mut out = Vec::new();
        form(LogFormat::Json).write(b"say \"hi\"\t\xff\r\nx", 1_795_372_848_764, &mut out);
        let text = String::from_utf8(out).expect("a text");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(
            lines[0],
            serde_json::json!({"time": at, "app": "web", "instance": 1, "host": "a", "stream": "err",
                "message": "say \"hi\"\t\u{fffd}"})
        );
        assert_eq!(
            (&lines[1]["message"], &lines[1]["partial"]),
            (&"x".into(), &true.into())
        );
    }

    /// At each step a kill may come: what follows is what an undisturbed writing leaves.
    #[test]
    fn a_kill_at_any_step_leaves_each_line_once() {
        for step in 0..4 {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("a.log");
            fs::write(&path, "old\n").expect("a log");
            let mut log = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .expect("the log");
            log.seek(SeekFrom::End(0)).expect("its end");
            let form = form(LogFormat::Timestamped);
            let batch = Batch::open(&path, true).expect("a batch").expect("it is made");
            batch.begin(&log, 4, &form).expect("a note");
            let mut taken: &[&str] = &[];
            if step >= 1 {
                batch.raw().write_all(b"new\nlast\n").expect("lines");
                taken = &["new", "last"];
            }
            if step >= 2 {
                // Half of what is to be written, or all of it.
                log.write_all(if step == 2 {
                    b"2026-11-23T0"
                } else {
                    b"2026 new\n2026 last\n"
                })
                .expect("a write");
            }
            drop((batch, log));
            let mut log = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .expect("the log");
            let size = log.seek(SeekFrom::End(0)).expect("its end");
            let mut batch = Batch::open(&path, false).expect("a batch").expect("it is there");
            if batch.waits().expect("a length") {
                batch.again(&log, size).expect("it is done again");
            }
            let text = fs::read_to_string(&path).expect("the log");
            let lines: Vec<&str> = text
                .lines()
                .skip(1)
                .map(|line| line.split_once(' ').expect("a time").1)
                .collect();
            assert_eq!(lines, taken, "step {step}");
            assert!(!batch.waits().expect("a length"));
        }
    }
}
