//! A log on disk: the current file, its rotated predecessors, its time index and its accounting.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Length of a record of the time index: Unix ms and offset, both little endian.
pub(crate) const INDEX_RECORD: usize = 16;
/// Two records of the time index are at least this far apart.
const INDEX_STEP_MS: u64 = 100;
/// A line may make a file this much longer than its limit before it is cut at that point.
pub(crate) const OVERSHOOT: u64 = 1 << 20;

/// What rotation has deleted and what could not be written, ever since the log was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accounting {
    /// Lines and bytes that retention deleted.
    pub(crate) dropped_lines: u64,
    pub(crate) dropped_bytes: u64,
    /// Rotated files up to this number are counted in them.
    pub(crate) dropped_through: u64,
    /// Lines and bytes that never reached a file.
    pub(crate) lost_lines: u64,
    pub(crate) lost_bytes: u64,
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
    max_size: u64,
    keep: u32,
    /// See [`open_at_end`].
    guarded: bool,
    pub(crate) accounting: Accounting,
}

impl LogFile {
    /// Opens or makes the log; goes on at its end.
    pub(crate) fn open(path: &Path, max_size: u64, keep: u32, guarded: bool) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let (file, size) = open_at_end(path, guarded)?;
        let accounting = fs::read(accounting_path(path))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Accounting>(&bytes).ok())
            .unwrap_or_default();
        let newest = rotated(path)?
            .last()
            .map_or(accounting.dropped_through, |(number, _)| *number);
        let mut log = Self {
            path: path.to_owned(),
            file,
            index: None,
            indexed_at: 0,
            size,
            next_number: newest + 1,
            max_size: max_size.max(4096),
            keep,
            guarded,
            accounting,
        };
        log.open_index();
        Ok(log)
    }

    /// The file to splice into; its position is its end.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes that fit before the limit.
    pub(crate) fn room(&self) -> u64 {
        self.max_size.saturating_sub(self.size)
    }

    /// How far the file is over its limit.
    pub(crate) fn overshoot(&self) -> u64 {
        self.size.saturating_sub(self.max_size)
    }

    /// New limits.
    pub(crate) fn set_limits(&mut self, max_size: u64, keep: u32) {
        self.max_size = max_size.max(4096);
        self.keep = keep;
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
    }

    /// Notes that `bytes` were moved into the file.
    pub(crate) fn grew(&mut self, bytes: u64) {
        self.size += bytes;
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

    /// Gives the current file its number, begins a new one, deletes what is too old.
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
        self.apply_retention()
    }

    /// Opens the path anew; what was written so far stays where it is.
    fn begin_anew(&mut self) -> io::Result<()> {
        let (file, size) = open_at_end(&self.path, self.guarded)?;
        self.file = file;
        self.size = size;
        self.open_index();
        Ok(())
    }

    /// Whether the path still leads to the file that is being written.
    fn is_at_its_path(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(found) => {
                Ok(found.file_type().is_symlink() || (found.ino(), found.dev()) == (ours.ino(), ours.dev()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn apply_retention(&mut self) -> io::Result<()> {
        let files = rotated(&self.path)?;
        let surplus = files.len().saturating_sub(self.keep as usize);
        for (number, path) in files.into_iter().take(surplus) {
            if number > self.accounting.dropped_through {
                let (lines, bytes) = count(&path)?;
                self.accounting.dropped_lines += lines;
                self.accounting.dropped_bytes += bytes;
                self.accounting.dropped_through = number;
                self.save_accounting()?;
            }
            fs::remove_file(&path)?;
            match fs::remove_file(index_path(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the accounting: whole or not at all.
    pub(crate) fn save_accounting(&self) -> io::Result<()> {
        let path = accounting_path(&self.path);
        let temporary = path.with_extension("tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(&self.accounting).map_err(io::Error::other)?)?;
        fs::rename(temporary, path)
    }

    fn open_index(&mut self) {
        self.indexed_at = 0;
        self.index = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(index_path(&self.path))
            .ok();
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

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

/// `shop-0.out.log` and 7 → `shop-0.out.log.000007`.
fn numbered(path: &Path, number: u64) -> PathBuf {
    with_suffix(path, &format!(".{number:06}"))
}

/// Path of the time index of a file.
pub(crate) fn index_path(path: &Path) -> PathBuf {
    with_suffix(path, ".idx")
}

/// Path of the accounting of a log.
pub(crate) fn accounting_path(path: &Path) -> PathBuf {
    with_suffix(path, ".account")
}

/// Rotated files of a log, oldest first, with their numbers.
pub(crate) fn rotated(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|other| other.strip_prefix(name)?.strip_prefix('.'))
            .filter(|digits| digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u64>().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Lines and bytes of a file.
fn count(path: &Path) -> io::Result<(u64, u64)> {
    use std::io::Read;
    let mut file = File::open(path)?;
    let mut buffer = vec![0_u8; 128 << 10];
    let (mut lines, mut bytes) = (0, 0);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok((lines, bytes));
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..length]).count() as u64;
        bytes += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(log: &mut LogFile, text: &str) {
        log.stamp(1000);
        log.file().write_all(text.as_bytes()).expect("a write");
        log.grew(text.len() as u64);
    }

    #[test]
    fn rotation_keeps_what_it_may_and_counts_what_it_deletes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut log = LogFile::open(&path, 4096, 2, false).expect("a log");
        for round in 0..5 {
            write(&mut log, &format!("line {round}\nmore\n"));
            log.rotate().expect("a rotation");
        }
        let numbers: Vec<u64> = rotated(&path)
            .expect("files")
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        assert_eq!(numbers, [4, 5]);
        assert_eq!(
            (log.accounting.dropped_lines, log.accounting.dropped_bytes),
            (6, 36)
        );
        drop(log);
        let again = LogFile::open(&path, 4096, 2, false).expect("a log");
        assert_eq!(again.accounting.dropped_lines, 6);
        assert_eq!(again.next_number, 6);
    }

    #[test]
    fn numbers_go_on_even_if_every_rotated_file_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut log = LogFile::open(&path, 4096, 0, false).expect("a log");
        write(&mut log, "x\n");
        log.rotate().expect("a rotation");
        drop(log);
        assert_eq!(
            LogFile::open(&path, 4096, 0, false).expect("a log").next_number,
            2
        );
    }

    #[test]
    fn truncation_and_deletion_by_others_are_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut log = LogFile::open(&path, 4096, 2, false).expect("a log");
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
