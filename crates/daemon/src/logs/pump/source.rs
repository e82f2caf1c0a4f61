//! One source of the pump: a pipe, and the file that its bytes go to.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex},
};

use upkeep_sys::{clock, pipe};

use super::{CHUNK, LOOK_AHEAD, SourceName, TURN, Target, WIDE_PIPE};
use crate::logs::{
    batch::{Form, PATIENCE_MS},
    files::{LogFile, OVERSHOOT},
    janitor::Bell,
    ledger::{Ledgers, lock},
};

/// What every source needs for its turn.
pub(super) struct Tools {
    pub(super) scratch: pipe::Pipe,
    pub(super) look: Vec<u8>,
    pub(super) bell: Bell,
    pub(super) ledgers: Arc<Ledgers>,
    /// No time of the index is before this one; see [`Tools::now`].
    pub(super) not_before: u64,
}

impl Tools {
    /// Unix ms for the index. Never before the newest cut, so that what comes after it is known by its time; unless
    /// somebody has set the clock back.
    pub(super) fn now(&self) -> u64 {
        let now = clock::unix_ms();
        if now < self.not_before && self.not_before - now < 2000 {
            self.not_before
        } else {
            now
        }
    }
}

pub(super) struct Source {
    pub(super) name: SourceName,
    pub(super) pipe: OwnedFd,
    pub(super) target: Target,
    /// Several sources may write one file: then they share it, position and all.
    pub(super) log: Option<Arc<Mutex<LogFile>>>,
    pub(super) trouble: Option<String>,
    /// Accounting of bytes lost while there was no log file to keep it.
    pub(super) lost: (u64, u64),
    /// The file is over its limit and waits for the end of a line.
    closing: bool,
    pub(super) wide: bool,
    /// Whether what was lost is not on disk yet.
    unsaved: bool,
    /// Since when (monotonic ms) a line waits in the pipe for its end, because it is to be written in another form.
    pub(super) waits_since: Option<u64>,
    /// Whether epoll tells of new bytes only, not of those that wait.
    pub(super) edge: bool,
}

pub(super) fn describe(error: &io::Error, path: Option<&Path>) -> String {
    let path = path.map(|path| path.display().to_string()).unwrap_or_default();
    format!("failed to write `{path}`: {error}")
}

impl Source {
    pub(super) fn new(name: SourceName, pipe: OwnedFd, target: Target) -> Self {
        Self {
            name,
            pipe,
            target,
            log: None,
            trouble: None,
            lost: (0, 0),
            closing: false,
            wide: false,
            unsaved: false,
            waits_since: None,
            edge: false,
        }
    }

    pub(super) fn open(&mut self, shared: Option<Arc<Mutex<LogFile>>>, tools: &Tools) {
        self.trouble = None;
        self.closing = false;
        self.log = shared;
        if self.log.is_none()
            && let Some(path) = self.target.path.clone()
        {
            let ledger = tools.ledgers.of(&path);
            match LogFile::open(&path, self.target.limits, self.target.guarded, ledger) {
                Ok(log) => {
                    // If not now, then with the next loss.
                    self.unsaved =
                        self.lost != (0, 0) && log.ledger().lose(self.lost.0, self.lost.1).is_err();
                    self.lost = (0, 0);
                    self.log = Some(Arc::new(Mutex::new(log)));
                }
                Err(error) => self.trouble = Some(describe(&error, Some(&path))),
            }
        }
        if let Some(log) = &self.log {
            let log = lock(log);
            log.ledger().set_policy(self.target.policy.clone());
            tools.bell.look_at(log.ledger());
        }
        self.finish_batch();
    }

    /// Writes the lines that a kill or a full disk has left, whether or not more come.
    pub(super) fn finish_batch(&mut self) {
        if let Some(log) = &self.log
            && let Err(error) = lock(log).finish_batch()
        {
            self.trouble = Some(describe(&error, self.target.path.as_deref()));
        }
    }

    /// Milliseconds until it is to be served without anything new in its pipe.
    pub(super) fn due_in(&self, unix_ms: u64, monotonic_ms: u64) -> Option<u64> {
        if self.trouble.is_some() {
            return None;
        }
        if let Some(since) = self.waits_since {
            return Some((since + PATIENCE_MS).saturating_sub(monotonic_ms));
        }
        if self.closing || self.target.limits.every.is_none() {
            return None;
        }
        let due = lock(self.log.as_ref()?).due()?;
        Some(due.saturating_sub(unix_ms))
    }

    /// Moves what there is, up to [`TURN`]. `WouldBlock` when the pipe is empty.
    pub(super) fn turn(&mut self, tools: &mut Tools) -> io::Result<()> {
        let Some(shared) = self.log.clone() else {
            self.discard(&mut tools.look);
            return Ok(());
        };
        // We hold a second one here.
        let alone = Arc::strong_count(&shared) == 2;
        let log = &mut *lock(&shared);
        let now = tools.now();
        if let Some(form) = self.target.form.clone() {
            return self.turn_in_form(log, &form, now, tools);
        }
        log.finish_batch()?;
        let mut moved = 0;
        while moved < TURN {
            // Each time: what is written behind the end of a truncated file makes a hole, and then it looks long.
            log.check()?;
            if !self.closing && is_full(log, now) {
                self.closing = true;
            }
            if self.closing {
                match close_line(log, &self.pipe, tools)? {
                    Closing::Ended(bytes) => {
                        moved += bytes;
                        log.rotate()?;
                        tools.bell.look_at(log.ledger());
                        self.closing = false;
                    }
                    Closing::Longer(bytes) => moved += bytes,
                }
                continue;
            }
            log.stamp(now);
            let mut length = usize::try_from(log.room()).unwrap_or(CHUNK).min(CHUNK);
            if !alone {
                length = length.min(whole_lines(&self.pipe, tools)?);
            }
            let bytes = pipe::splice(&self.pipe, log.file(), length)? as u64;
            if bytes == 0 {
                // No writer is left, which the keeper's own end rules out while it lives.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            log.grew(bytes);
            moved += bytes;
            self.widen(bytes);
        }
        Ok(())
    }

    /// The same for lines that are written in another form; see [`crate::logs::batch`].
    fn turn_in_form(
        &mut self,
        log: &mut LogFile,
        form: &Form,
        now: u64,
        tools: &mut Tools,
    ) -> io::Result<()> {
        let mut moved = 0;
        while moved < TURN {
            log.check()?;
            log.finish_batch()?;
            // Its last line has no end where lines were written as they came until now.
            if is_full(log, now) || !log.ends_a_line() {
                log.rotate()?;
                tools.bell.look_at(log.ledger());
            }
            let waited = self.waits_since.take();
            let mut seen = peek(&self.pipe, tools, LOOK_AHEAD)?;
            let more = pipe::available(&self.pipe).unwrap_or(0) > seen as u64;
            if (more || seen >= LOOK_AHEAD) && memchr::memchr(b'\n', &tools.look[..seen]).is_none() {
                // A long line: as much of it as a pipe may hold.
                self.make_wide();
                seen = peek(&self.pipe, tools, WIDE_PIPE)?;
            }
            // Not much more than the file has room for, but whole lines.
            let fits = usize::try_from(log.room())
                .unwrap_or(seen)
                .clamp(4096.min(seen), seen);
            let newline = memchr::memrchr(b'\n', &tools.look[..fits])
                .or_else(|| memchr::memchr(b'\n', &tools.look[fits..seen]).map(|at| fits + at));
            let length = match newline {
                Some(at) => at + 1,
                None => {
                    let since = waited.unwrap_or_else(clock::monotonic_ms);
                    let patient = clock::monotonic_ms() < since + PATIENCE_MS;
                    if patient && self.is_nearly_full() {
                        self.make_wide();
                    }
                    if patient && !self.is_nearly_full() {
                        self.waits_since = Some(since);
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    whole_characters(&tools.look[..seen])
                }
            };
            log.stamp(now);
            let raw = log.begin_batch(form)?;
            let mut taken = 0;
            while taken < length {
                taken += pipe::splice(&self.pipe, raw, length - taken)?;
            }
            log.write_batch(form, &tools.look[..length])?;
            tools.look.truncate(LOOK_AHEAD);
            tools.look.shrink_to_fit();
            moved += length as u64;
            self.widen(length as u64);
        }
        Ok(())
    }

    fn widen(&mut self, bytes: u64) {
        if bytes >= 8 << 10 {
            self.make_wide();
        }
    }

    fn make_wide(&mut self) {
        if !self.wide {
            // A fast writer: fewer, larger moves. Refused to users over their pipe quota; then it stays as it is.
            self.wide = pipe::set_capacity(&self.pipe, WIDE_PIPE).is_ok();
        }
    }

    /// Reads and forgets, for apps whose logs are switched off.
    fn discard(&mut self, buffer: &mut [u8]) {
        for _ in 0..128 {
            match rustix::io::read(&self.pipe, &mut *buffer) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Whether the file can be written again.
    pub(super) fn try_again(&mut self, shared: Option<Arc<Mutex<LogFile>>>, tools: &Tools) -> bool {
        let Some(log) = self.log.clone() else {
            self.open(shared, tools);
            return self.trouble.is_none();
        };
        let log = &mut *lock(&log);
        if log.check().is_err() || (self.unsaved && log.ledger().save().is_err()) {
            return false;
        }
        self.unsaved = false;
        // The disk may have room for a byte and not for the next: the attempt itself is the only honest test, and
        // it is made by the next turn, which comes back here if it fails.
        free_space(log.file())
    }

    pub(super) fn is_nearly_full(&self) -> bool {
        // A write that does not fit into the last page takes a new one: a pipe is full by pages, and with lines of
        // 2.1 KB only half of its bytes are used then.
        let capacity = pipe::capacity(&self.pipe).unwrap_or(64 << 10) as u64;
        pipe::available(&self.pipe).unwrap_or(capacity) * 5 >= capacity * 2
    }

    /// Empties the pipe into nothing and counts.
    pub(super) fn lose_all(&mut self, buffer: &mut [u8]) {
        let (mut lines, mut bytes) = (0, 0);
        for _ in 0..256 {
            match rustix::io::read(&self.pipe, &mut *buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    lines += memchr::memchr_iter(b'\n', &buffer[..length]).count() as u64;
                    bytes += length as u64;
                }
            }
        }
        if let Some(log) = &self.log {
            // Kept in memory as well; the disk that refuses the log may refuse this too, and then it is saved with the
            // end of the trouble.
            self.unsaved = lock(log).ledger().lose(lines, bytes).is_err();
        } else {
            self.lost.0 += lines;
            self.lost.1 += bytes;
        }
    }
}

/// Whether a file is to be rotated, by its size or by the clock.
fn is_full(log: &LogFile, now: u64) -> bool {
    log.room() == 0 || log.due().is_some_and(|due| now >= due)
}

/// Whether the file system of `file` has a block to spare for us and is writable.
fn free_space(file: &std::fs::File) -> bool {
    rustix::fs::fstatvfs(file.as_fd())
        .is_ok_and(|stat| stat.f_bavail > 16 && !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// How many bytes end with a whole character: a piece of a line is not cut inside one.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes.get(bytes.len().saturating_sub(4)..).unwrap_or_default()) {
        // Only what is begun and not ended at the very end; all else is no text anyway.
        Err(_) => {
            let tail = bytes.iter().rev().take(4);
            let begins = tail.enumerate().find(|(_, byte)| **byte & 0xC0 != 0x80);
            match begins {
                Some((after, first)) if after < 3 && after + 1 < bytes.len() && *first >= 0xC0 => {
                    let wanted = match first {
                        0xC0..=0xDF => 2,
                        0xE0..=0xEF => 3,
                        _ => 4,
                    };
                    if after + 1 < wanted {
                        bytes.len() - after - 1
                    } else {
                        bytes.len()
                    }
                }
                _ => bytes.len(),
            }
        }
        Ok(_) => bytes.len(),
    }
}

/// What is in the pipe, without taking it: how much of it is in `look` now, at most `most` bytes.
fn peek(pipe: &OwnedFd, tools: &mut Tools, most: usize) -> io::Result<usize> {
    if most > LOOK_AHEAD {
        // Refused to users over their pipe quota; then less is seen.
        let _ = pipe::set_capacity(&tools.scratch.write, most);
    }
    let seen = pipe::tee(pipe, &tools.scratch.write, most)?;
    tools.look.resize(tools.look.len().max(seen), 0);
    if seen == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut read = 0;
    while read < seen {
        read += rustix::io::read(&tools.scratch.read, &mut tools.look[read..seen])?;
    }
    Ok(seen)
}

/// How many bytes end with the last newline in sight; all, if there is none. So sources that share a file do not cut
/// into each other's lines, as long as their programs write whole ones.
fn whole_lines(pipe: &OwnedFd, tools: &mut Tools) -> io::Result<usize> {
    let seen = peek(pipe, tools, LOOK_AHEAD)?;
    Ok(memchr::memrchr(b'\n', &tools.look[..seen]).map_or(seen, |at| at + 1))
}

enum Closing {
    /// Moved up to and with the newline.
    Ended(u64),
    /// Moved, and no newline was among it.
    Longer(u64),
}

/// Moves the rest of the line with which the file exceeds its limit.
fn close_line(log: &mut LogFile, pipe: &OwnedFd, tools: &mut Tools) -> io::Result<Closing> {
    if log.ends_a_line() || log.overshoot() >= OVERSHOOT {
        return Ok(Closing::Ended(0));
    }
    let seen = peek(pipe, tools, LOOK_AHEAD)?;
    let newline = memchr::memchr(b'\n', &tools.look[..seen]);
    let wanted = newline.map_or(seen, |at| at + 1);
    let mut moved = 0;
    while moved < wanted {
        let bytes = pipe::splice(pipe, log.file(), wanted - moved)?;
        moved += bytes;
        log.grew(bytes as u64);
    }
    Ok(if newline.is_some() {
        Closing::Ended(moved as u64)
    } else {
        Closing::Longer(moved as u64)
    })
}
