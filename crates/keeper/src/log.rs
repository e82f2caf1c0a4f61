//! `keeper.log`: one line per notable thing, bounded.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use upkeep_sys::clock;

/// When the log is this long it becomes `….1` and a new one begins.
const LONGEST: u64 = 1 << 20;

/// A log whose writer never fails: what cannot be written is lost.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl Log {
    pub(crate) fn open(path: PathBuf) -> Self {
        let mut log = Self {
            path,
            file: None,
            size: 0,
        };
        log.reopen();
        log
    }

    /// Writes a line with the time in front. A line break in the text becomes a space.
    pub(crate) fn line(&mut self, text: &str) {
        if self.size > LONGEST {
            rotate(&self.path);
            self.reopen();
        }
        let line = format!(
            "{} {}\n",
            clock::utc_text(clock::unix_ms()),
            text.replace('\n', " ")
        );
        if let Some(file) = &mut self.file
            && file.write_all(line.as_bytes()).is_ok()
        {
            self.size += line.len() as u64;
        }
    }

    fn reopen(&mut self) {
        self.file = open_append(&self.path).ok();
        self.size = self
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |meta| meta.len());
    }
}

/// A file for appending, private.
pub(crate) fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// Makes `path` `path.1`.
pub(crate) fn rotate(path: &Path) {
    let mut old = path.as_os_str().to_owned();
    old.push(".1");
    // A log that cannot be renamed grows on; that is no reason to stop.
    let _ = fs::rename(path, PathBuf::from(old));
}
