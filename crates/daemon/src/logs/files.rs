//! A log that is being written: the current file, its time index, its rotation.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::tz::TimeZone;
use upkeep_model::logs::Every;

use super::{
    batch::{Batch, Form},
    beside,
    ledger::Ledger,
    names::{index_path, numbered, rotated},
    period::next_boundary,
};

/// Length of a record of the time index: Unix ms and offset, both little endian.
pub(crate) const INDEX_RECORD: usize = 16;
/// Two records of the time index are at least this far apart.
const INDEX_STEP_MS: u64 = 100;
/// A line may make a file this much longer than its limit before it is cut at that point.
pub(crate) const OVERSHOOT: u64 = 1 << 20;

/// When a file is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// In bytes.
    pub(crate) max_size: u64,
    pub(crate) every: Option<Every>,
}

/// The current file, open for writing.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    index: Option<File>,
    indexed_at: u64,
    size: u64,
    /// Number that the current file gets when it is rotated.
    next_number: u64,
    limits: Limits,
    /// When its first byte came; 0: it is empty.
    begun_ms: u64,
    /// When it is to be rotated by the clock.
    due_ms: Option<u64>,
    /// See [`open_at_end`].
    guarded: bool,
    ledger: Arc<Ledger>,
    /// Where lines wait that are written in another form.
    batch: Option<Batch>,
}

impl LogFile {
    /// Opens or makes the log; goes on at its end.
    pub(crate) fn open(path: &Path, limits: Limits, guarded: bool, ledger: Arc<Ledger>) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let (file, size) = open_at_end(path, guarded)?;
        let newest = rotated(path)?.last().map_or(0, |file| file.number);
        let mut log = Self {
            path: path.to_owned(),
            file,
            index: None,
            indexed_at: 0,
            size,
            next_number: newest.max(ledger.accounting().dropped_through) + 1,
            limits,
            begun_ms: 0,
            due_ms: None,
            guarded,
            ledger,
            batch: Batch::open(path, false)?,
        };
        log.open_index();
        log.begun_ms = log.beginning();
        log.set_limits(limits);
        Ok(log)
    }

    /// Writes what a kill or a full disk has left in the batch.
    pub(crate) fn finish_batch(&mut self) -> io::Result<()> {
        if let Some(batch) = &mut self.batch
            && batch.waits()?
        {
            let before = self.size;
            self.size = batch.again(&self.file, self.size)?;
            self.ledger.wrote(self.size.saturating_sub(before));
        }
        Ok(())
    }

    /// Where lines of this form are to be spliced to, before [`Self::write_batch`].
    pub(crate) fn begin_batch(&mut self, form: &Form) -> io::Result<&File> {
        if self.batch.is_none() {
            self.batch = Batch::open(&self.path, true)?;
        }
        let batch = self.batch.as_ref().ok_or(io::ErrorKind::NotFound)?;
        batch.begin(&self.file, self.size, form)?;
        Ok(batch.raw())
    }

    /// Writes the lines that are in the batch in their form.
    pub(crate) fn write_batch(&mut self, form: &Form, lines: &[u8]) -> io::Result<()> {
        if let Some(batch) = &mut self.batch {
            let grown = batch.write(&self.file, self.size, form, lines)?;
            self.grew(grown);
        }
        Ok(())
    }

    /// What is known of it beside its bytes.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// When the first byte came that is in the file.
    fn beginning(&self) -> u64 {
        if self.size == 0 {
            return 0;
        }
        let mut record = [0_u8; INDEX_RECORD];
        let read =
            beside::read(&index_path(&self.path)).and_then(|index| index.read_exact_at(&mut record, 0));
        match (read, record[..8].try_into()) {
            (Ok(()), Ok(ms)) => u64::from_le_bytes(ms),
            // No index: it is at least as old as its last byte.
            _ => self
                .file
                .metadata()
                .map_or(0, |metadata| u64::try_from(metadata.mtime()).unwrap_or(0) * 1000),
        }
    }

    /// When it is to be rotated by the clock; never while it is empty.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due_ms.filter(|_| self.size > 0)
    }

    /// The next bytes get a record of their own in the index.
    pub(crate) fn cut(&mut self) {
        self.indexed_at = 0;
    }

    /// When the newest record of the index was made; 0: not by us.
    pub(crate) fn stamped(&self) -> u64 {
        self.indexed_at
    }

    /// The file to splice into; its position is its end.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes that fit before the limit.
    pub(crate) fn room(&self) -> u64 {
        self.limits.max_size.saturating_sub(self.size)
    }

    /// How far the file is over its limit.
    pub(crate) fn overshoot(&self) -> u64 {
        self.size.saturating_sub(self.limits.max_size)
    }

    /// New limits.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = Limits {
            max_size: limits.max_size.max(4096),
            ..limits
        };
        self.due_ms = match limits.every {
            Some(every) if self.begun_ms > 0 => next_boundary(every, self.begun_ms, &TimeZone::system()),
            _ => None,
        };
    }

    /// Notes that what comes next arrived now. Cheap: most calls do nothing.
    pub(crate) fn stamp(&mut self, unix_ms: u64) {
        if self.size != 0 && unix_ms.abs_diff(self.indexed_at) < INDEX_STEP_MS {
            return;
        }
        let mut record = [0_u8; INDEX_RECORD];
        record[..8].copy_from_slice(&unix_ms.to_le_bytes());
        record[8..].copy_from_slice(&self.size.to_le_bytes());
        if let Some(index) = &mut self.index {
            // A missing record only makes times coarser; the next one is tried as usual.
            let _ = index.write_all(&record);
        }
        self.indexed_at = unix_ms;
        if self.size == 0 {
            self.begun_ms = unix_ms;
            self.set_limits(self.limits);
        }
    }

    /// Notes that `bytes` were moved into the file.
    pub(crate) fn grew(&mut self, bytes: u64) {
        self.size += bytes;
        self.ledger.wrote(bytes);
    }

    /// Notices that somebody truncated or deleted the file.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        if metadata.nlink() == 0 {
            self.begin_anew()?;
        } else if metadata.size() < self.size {
            self.size = self.file.seek(SeekFrom::End(0))?;
            if let Some(index) = &self.index {
                index.set_len(0)?;
            }
            self.indexed_at = 0;
        }
        Ok(())
    }

    /// Whether the last byte ends a line (an empty file does).
    pub(crate) fn ends_a_line(&self) -> bool {
        let mut last = [0_u8];
        self.size == 0 || (self.file.read_exact_at(&mut last, self.size - 1).is_ok() && last[0] == b'\n')
    }

    /// Gives the current file its number and begins a new one. The janitor is to be told.
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        let target = numbered(&self.path, self.next_number);
        if !self.is_at_its_path()? {
            // Somebody moved it away: it has its new name already. Go on at the path.
            return self.begin_anew();
        }
        // The index first: after a kill between the two, the file without index shows coarse times, no wrong ones.
        match fs::rename(index_path(&self.path), index_path(&target)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&self.path, &target)?;
        if let Err(error) = self.begin_anew() {
            // No descriptor, no inode: back to where we were, to be tried again. If even that fails, the next try
            // finds the file away from its path and begins anew.
            let _ = fs::rename(&target, &self.path);
            let _ = fs::rename(index_path(&target), index_path(&self.path));
            return Err(error);
        }
        self.next_number += 1;
        Ok(())
    }

    /// Opens the path anew; what was written so far stays where it is.
    fn begin_anew(&mut self) -> io::Result<()> {
        let (file, size) = open_at_end(&self.path, self.guarded)?;
        self.file = file;
        self.size = size;
        self.open_index();
        self.begun_ms = self.beginning();
        self.set_limits(self.limits);
        Ok(())
    }

    /// Whether the path still leads to the file that is being written.
    fn is_at_its_path(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(found) => Ok((found.file_type().is_symlink() && !self.guarded)
                || (found.ino(), found.dev()) == (ours.ino(), ours.dev())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open_index(&mut self) {
        self.indexed_at = 0;
        // What somebody has put in its place stays as it is: times are coarse then.
        self.index = beside::write(&index_path(&self.path), true, true).ok();
        // A torn record (the disk was full) would shift all that follow.
        if let Some(index) = &self.index
            && let Ok(length) = index.metadata().map(|metadata| metadata.len())
            && length % INDEX_RECORD as u64 != 0
        {
            // If that fails too, times are off; lines are not.
            let _ = index.set_len(length - length % INDEX_RECORD as u64);
        }
    }
}

/// `guarded`: the file is written for somebody who may not write wherever we may, so a link is not followed and only
/// a regular file will do.
fn open_at_end(path: &Path, guarded: bool) -> io::Result<(File, u64)> {
    let flags = if guarded {
        rustix::fs::OFlags::NOFOLLOW
    } else {
        rustix::fs::OFlags::empty()
    };
    // No O_APPEND: splice refuses it.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)?;
    if guarded && !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let size = file.seek(SeekFrom::End(0))?;
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(log: &mut LogFile, text: &str) {
        log.stamp(1000);
        log.file().write_all(text.as_bytes()).expect("a write");
        log.grew(text.len() as u64);
    }

    fn open(path: &Path) -> LogFile {
        let limits = Limits {
            max_size: 4096,
            every: None,
        };
        LogFile::open(path, limits, false, Arc::new(Ledger::load(path))).expect("a log")
    }

    #[test]
    fn numbers_go_on_even_if_every_rotated_file_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut log = open(&path);
        for _ in 0..3 {
            write(&mut log, "x\n");
            log.rotate().expect("a rotation");
        }
        log.ledger().drop_file(3, 3, 6).expect("it is counted");
        for file in rotated(&path).expect("files") {
            fs::remove_file(file.path).expect("a deletion");
        }
        drop(log);
        assert_eq!(open(&path).next_number, 4);
    }

    #[test]
    fn a_file_is_due_at_the_boundary_after_its_first_byte_also_for_the_next_daemon() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let limits = Limits {
            max_size: 4096,
            every: Some("15m".parse().expect("a rhythm")),
        };
        let quarter = 900_000;
        let open = || LogFile::open(&path, limits, false, Arc::new(Ledger::load(&path))).expect("a log");
        let mut log = open();
        assert_eq!(log.due(), None);
        log.stamp(10 * quarter + 5);
        log.file().write_all(b"x\n").expect("a write");
        log.grew(2);
        log.stamp(11 * quarter + 5);
        assert_eq!(log.due(), Some(11 * quarter));
        drop(log);
        let mut log = open();
        assert_eq!(log.due(), Some(11 * quarter));
        log.rotate().expect("a rotation");
        assert_eq!(log.due(), None);
    }

    #[test]
    fn truncation_and_deletion_by_others_are_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut log = open(&path);
        write(&mut log, "hello\n");
        File::create(&path).expect("a truncation");
        log.check().expect("a check");
        assert_eq!(log.size, 0);
        fs::remove_file(&path).expect("a deletion");
        log.check().expect("a check");
        write(&mut log, "again\n");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "again\n");
    }
}
