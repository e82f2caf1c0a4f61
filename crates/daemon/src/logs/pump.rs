//! The pump: one thread that moves bytes from pipes to log files.
//!
//! It owns the [`LogFile`]s. Others reach it through [`Pump`], whose orders are queued and announced by an eventfd,
//! and read the accounting through a shared map. It never waits for an application, and an application waits for it
//! only as long as a pipe is full.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::epoll;
use upkeep_sys::{clock, pipe};

use super::files::{Accounting, LogFile, OVERSHOOT};

/// Bytes that one `splice` may move.
const CHUNK: usize = 1 << 20;
/// Bytes that one source may move before the others have their turn.
const TURN: u64 = 8 << 20;
/// Size that a pipe gets when its writer fills it.
const WIDE_PIPE: usize = 1 << 20;
/// How far `tee` looks for the end of a line.
const LOOK_AHEAD: usize = 64 << 10;
/// Pause between tries while a file cannot be written.
const TROUBLE_PAUSE: Duration = Duration::from_millis(50);
/// Pause after a round in which no writer was fast.
const NAP: rustix::thread::Timespec = rustix::thread::Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};
/// Data of the epoll entry of the eventfd.
const WAKE: u64 = u64::MAX;

/// Which log: the name of its pipe in the keeper's table.
pub(crate) type SourceName = String;

/// Where a source's bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The file; `None`: nowhere.
    pub(crate) path: Option<PathBuf>,
    pub(crate) max_size: u64,
    pub(crate) keep: u32,
    /// The path was given for an app that runs as somebody else: do not follow a link there.
    pub(crate) guarded: bool,
}

/// What the pump tells of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) accounting: Accounting,
    pub(crate) trouble: Option<String>,
}

/// Statuses of all sources by the name of their pipe.
pub(crate) type Statuses = Arc<Mutex<HashMap<SourceName, Status>>>;

enum Order {
    Add {
        name: SourceName,
        pipe: OwnedFd,
        target: Target,
    },
    Retarget {
        name: SourceName,
        target: Target,
    },
    /// Takes what is left in the pipe, then forgets the source and tells.
    Remove {
        name: SourceName,
        done: Box<dyn FnOnce() + Send>,
    },
    /// Takes what is in all pipes now, then tells.
    Drain {
        done: Box<dyn FnOnce() + Send>,
    },
    Stop,
}

/// Handle of the pump's thread.
#[derive(Debug)]
pub(crate) struct Pump {
    orders: mpsc::Sender<Order>,
    wake: OwnedFd,
    statuses: Statuses,
    thread: Option<JoinHandle<()>>,
}

/// Has all pipes emptied, from any thread.
#[derive(Debug)]
pub(crate) struct Drainer {
    orders: mpsc::Sender<Order>,
    wake: OwnedFd,
}

impl Drainer {
    /// Empties all pipes of what is in them now, and waits for it at most so long.
    pub(crate) fn drain(&self, patience: std::time::Duration) {
        let (sender, receiver) = mpsc::sync_channel(1);
        let done = Box::new(move || {
            // Whoever waited may have lost patience.
            let _ = sender.send(());
        });
        // Both fail only if the thread is gone, and then the process is on its way out.
        let _ = self.orders.send(Order::Drain { done });
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        let _ = receiver.recv_timeout(patience);
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Add { .. } => "Add",
            Self::Retarget { .. } => "Retarget",
            Self::Remove { .. } => "Remove",
            Self::Drain { .. } => "Drain",
            Self::Stop => "Stop",
        })
    }
}

impl Pump {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let wake = rustix::event::eventfd(
            0,
            rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
        )?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &wake,
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN,
        )?;
        let scratch = pipe::make()?;
        let (sender, receiver) = mpsc::channel();
        let statuses = Arc::new(Mutex::new(HashMap::new()));
        let mut worker = Worker {
            epoll,
            wake: wake.try_clone()?,
            orders: receiver,
            statuses: Arc::clone(&statuses),
            sources: BTreeMap::new(),
            names: HashMap::new(),
            next_id: 0,
            scratch,
            look: vec![0; LOOK_AHEAD],
        };
        let thread = std::thread::Builder::new()
            .name("log-pump".to_owned())
            .stack_size(256 << 10)
            .spawn(move || worker.run())?;
        Ok(Self {
            orders: sender,
            wake,
            statuses,
            thread: Some(thread),
        })
    }

    fn order(&self, order: Order) {
        // Both fail only if the thread is gone, and then the process is on its way out.
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Takes on a source. A name that is known already gets the new pipe.
    pub(crate) fn add(&self, name: SourceName, pipe: OwnedFd, target: Target) {
        self.order(Order::Add { name, pipe, target });
    }

    /// Changes where a source's bytes go.
    pub(crate) fn retarget(&self, name: SourceName, target: Target) {
        self.order(Order::Retarget { name, target });
    }

    /// Empties a source's pipe, forgets the source and calls `done`.
    pub(crate) fn remove(&self, name: SourceName, done: Box<dyn FnOnce() + Send>) {
        self.order(Order::Remove { name, done });
    }

    /// Empties all pipes of what is in them now and calls `done`.
    pub(crate) fn drain(&self, done: Box<dyn FnOnce() + Send>) {
        self.order(Order::Drain { done });
    }

    /// A way for other threads to have all pipes emptied.
    pub(crate) fn drainer(&self) -> io::Result<Drainer> {
        Ok(Drainer {
            orders: self.orders.clone(),
            wake: self.wake.try_clone()?,
        })
    }

    /// What there is to tell of all sources, for other threads.
    pub(crate) fn statuses(&self) -> Statuses {
        Arc::clone(&self.statuses)
    }

    /// What there is to tell of a source.
    #[cfg(test)]
    fn status(&self, name: &str) -> Option<Status> {
        self.statuses.lock().ok()?.get(name).cloned()
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has aborted the process already.
            let _ = thread.join();
        }
    }
}

struct Source {
    name: SourceName,
    pipe: OwnedFd,
    target: Target,
    /// Several sources may write one file: then they share it, position and all.
    log: Option<Arc<Mutex<LogFile>>>,
    trouble: Option<String>,
    /// Accounting of bytes lost while there was no log file to keep it.
    lost: (u64, u64),
    /// The file is over its limit and waits for the end of a line.
    closing: bool,
    wide: bool,
    /// Whether what was lost is not on disk yet.
    unsaved: bool,
}

struct Worker {
    epoll: OwnedFd,
    wake: OwnedFd,
    orders: mpsc::Receiver<Order>,
    statuses: Statuses,
    sources: BTreeMap<u64, Source>,
    names: HashMap<SourceName, u64>,
    next_id: u64,
    scratch: pipe::Pipe,
    look: Vec<u8>,
}

impl Worker {
    fn run(&mut self) {
        let mut events = Vec::with_capacity(256);
        loop {
            let troubled = self.sources.values().any(|source| source.trouble.is_some());
            let timeout = troubled.then(|| rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: i64::try_from(TROUBLE_PAUSE.as_nanos()).unwrap_or(50_000_000),
            });
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // EBADF and EINVAL would be faults of ours: without a pump nothing works, so end and be restarted.
                Err(error) => panic!("the log pump cannot wait: {error}"),
            }
            let mut fast = false;
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        let mut count = [0_u8; 8];
                        // Only resets the counter.
                        let _ = rustix::io::read(&self.wake, &mut count);
                    }
                    id => fast |= self.serve(id),
                }
            }
            if troubled {
                let ids: Vec<u64> = self
                    .sources
                    .iter()
                    .filter(|(_, source)| source.trouble.is_some())
                    .map(|(id, _)| *id)
                    .collect();
                for id in ids {
                    self.recover(id);
                }
            }
            while let Ok(order) = self.orders.try_recv() {
                if !self.obey(order) {
                    return;
                }
            }
            if !events.is_empty() && !fast {
                // Let some more come together: one move of forty lines costs what a move of one costs. The pipes have
                // plenty of room, so nobody is held up, and what is in a pipe is safe.
                let _ = rustix::thread::nanosleep(&NAP);
            }
        }
    }

    fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Add { name, pipe, target } => {
                self.forget(&name);
                // The keeper has done so; a pipe that blocks would stop all logs.
                if let Err(error) = upkeep_sys::descriptor::set_nonblocking(&pipe, true) {
                    crate::main_loop::note(&format!("a log pipe was not taken on: {error}"));
                    return true;
                }
                let id = self.next_id;
                self.next_id += 1;
                let mut source = Source {
                    name: name.clone(),
                    pipe,
                    target,
                    log: None,
                    trouble: None,
                    lost: (0, 0),
                    closing: false,
                    wide: false,
                    unsaved: false,
                };
                let shared = self.shared(source.target.path.as_deref());
                source.open(shared);
                let troubled = source.trouble.is_some();
                self.names.insert(name, id);
                self.publish(&source);
                self.sources.insert(id, source);
                if !troubled {
                    self.watch(id);
                }
            }
            Order::Retarget { name, target } => {
                if let Some(id) = self.names.get(&name).copied() {
                    self.serve(id);
                    self.retarget(id, target);
                    self.publish_id(id);
                }
            }
            Order::Remove { name, done } => {
                if let Some(id) = self.names.get(&name).copied() {
                    self.empty(id);
                    self.forget(&name);
                }
                done();
            }
            Order::Drain { done } => {
                for id in self.sources.keys().copied().collect::<Vec<_>>() {
                    self.empty(id);
                }
                done();
            }
            Order::Stop => return false,
        }
        true
    }

    /// The file of a path, if another source writes it already.
    fn shared(&self, path: Option<&std::path::Path>) -> Option<Arc<Mutex<LogFile>>> {
        let path = path?;
        let mut others = self
            .sources
            .values()
            .filter(|source| source.target.path.as_deref() == Some(path));
        others.find_map(|source| source.log.clone())
    }

    fn retarget(&mut self, id: u64, target: Target) {
        let shared = self.shared(target.path.as_deref());
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let moved = source.target.path != target.path || source.target.guarded != target.guarded;
        source.target = target;
        if moved {
            source.log = None;
            source.closing = false;
            source.open(shared);
        } else if let Some(log) = &source.log {
            lock(log).set_limits(source.target.max_size, source.target.keep);
        }
        // What is in trouble is visited by the clock, what is not by epoll.
        if source.trouble.is_some() {
            self.unwatch(id);
        } else {
            self.watch(id);
        }
    }

    fn watch(&self, id: u64) {
        if let Some(source) = self.sources.get(&id)
            && let Err(error) = epoll::add(
                &self.epoll,
                &source.pipe,
                epoll::EventData::new_u64(id),
                epoll::EventFlags::IN,
            )
            && error != rustix::io::Errno::EXIST
        {
            panic!("the log pump cannot watch a pipe: {error}");
        }
    }

    fn unwatch(&self, id: u64) {
        if let Some(source) = self.sources.get(&id) {
            // ENOENT: it was not watched.
            let _ = epoll::delete(&self.epoll, &source.pipe);
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(id) = self.names.remove(name) {
            self.unwatch(id);
            self.sources.remove(&id);
            if let Ok(mut statuses) = self.statuses.lock() {
                statuses.remove(name);
            }
        }
    }

    fn publish_id(&self, id: u64) {
        if let Some(source) = self.sources.get(&id) {
            self.publish(source);
        }
    }

    fn publish(&self, source: &Source) {
        let mut accounting = source
            .log
            .as_ref()
            .map(|log| lock(log).accounting.clone())
            .unwrap_or_default();
        accounting.lost_lines += source.lost.0;
        accounting.lost_bytes += source.lost.1;
        if let Ok(mut statuses) = self.statuses.lock() {
            statuses.insert(
                source.name.clone(),
                Status {
                    accounting,
                    trouble: source.trouble.clone(),
                },
            );
        }
    }

    /// One turn of a source that has something. Whether its writer would soon have filled the pipe.
    fn serve(&mut self, id: u64) -> bool {
        let Some(source) = self.sources.get_mut(&id) else {
            return false;
        };
        if source.trouble.is_some() {
            return false;
        }
        let dropped_before = source.dropped();
        let waiting = pipe::available(&source.pipe).unwrap_or(0);
        let fast = waiting
            >= if source.wide {
                WIDE_PIPE as u64 / 4
            } else {
                16 << 10
            };
        let outcome = source.turn(&self.scratch, &mut self.look);
        let dropped = source.dropped() != dropped_before;
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                source.trouble = Some(describe(&error, source.target.path.as_deref()));
                self.unwatch(id);
                self.publish_id(id);
                return false;
            }
        }
        if dropped {
            self.publish_id(id);
        }
        fast
    }

    /// Takes all that is in the pipe now, whatever it takes.
    fn empty(&mut self, id: u64) {
        for _ in 0..1024 {
            let Some(source) = self.sources.get(&id) else {
                return;
            };
            if pipe::available(&source.pipe).unwrap_or(0) == 0 {
                return;
            }
            self.serve(id);
            let Some(source) = self.sources.get_mut(&id) else {
                return;
            };
            if source.trouble.is_some() {
                source.lose_all(&mut self.look);
                return;
            }
        }
    }

    /// A file could not be written: is it better now? Only bytes that have moved prove it. If not, is the pipe about
    /// to hold up its writer?
    fn recover(&mut self, id: u64) {
        let shared = self
            .sources
            .get(&id)
            .and_then(|source| self.shared(source.target.path.as_deref()));
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        if source.try_again(shared) {
            match source.turn(&self.scratch, &mut self.look) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    source.trouble = Some(describe(&error, source.target.path.as_deref()));
                }
                _ => source.trouble = None,
            }
        }
        if source.trouble.is_none() {
            self.watch(id);
        } else if source.is_nearly_full() {
            source.lose_all(&mut self.look);
        }
        self.publish_id(id);
    }
}

fn lock(log: &Mutex<LogFile>) -> std::sync::MutexGuard<'_, LogFile> {
    // A panic aborts the process: the lock cannot be poisoned. It is never contended: one thread takes it.
    log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn describe(error: &io::Error, path: Option<&std::path::Path>) -> String {
    let path = path.map(|path| path.display().to_string()).unwrap_or_default();
    format!("failed to write `{path}`: {error}")
}

impl Source {
    fn open(&mut self, shared: Option<Arc<Mutex<LogFile>>>) {
        self.trouble = None;
        if shared.is_some() {
            self.log = shared;
            return;
        }
        let Some(path) = self.target.path.clone() else {
            self.log = None;
            return;
        };
        match LogFile::open(&path, self.target.max_size, self.target.keep, self.target.guarded) {
            Ok(mut log) => {
                log.accounting.lost_lines += self.lost.0;
                log.accounting.lost_bytes += self.lost.1;
                // If not now, then with the next loss.
                self.unsaved = self.lost != (0, 0) && log.save_accounting().is_err();
                self.lost = (0, 0);
                self.log = Some(Arc::new(Mutex::new(log)));
            }
            Err(error) => self.trouble = Some(describe(&error, Some(&path))),
        }
    }

    fn dropped(&self) -> u64 {
        self.log
            .as_ref()
            .map_or(0, |log| lock(log).accounting.dropped_through)
    }

    /// Moves what there is, up to [`TURN`]. `WouldBlock` when the pipe is empty.
    fn turn(&mut self, scratch: &pipe::Pipe, look: &mut [u8]) -> io::Result<()> {
        let Some(shared) = self.log.clone() else {
            self.discard(look);
            return Ok(());
        };
        // We hold a second one here.
        let alone = Arc::strong_count(&shared) == 2;
        let log = &mut *lock(&shared);
        let now = clock::unix_ms();
        let mut moved = 0;
        while moved < TURN {
            // Each time: what is written behind the end of a truncated file makes a hole, and then it looks long.
            log.check()?;
            if log.room() == 0 && !self.closing {
                self.closing = true;
            }
            if self.closing {
                match close_line(log, &self.pipe, scratch, look)? {
                    Closing::Ended(bytes) => {
                        moved += bytes;
                        log.rotate()?;
                        self.closing = false;
                    }
                    Closing::Longer(bytes) => moved += bytes,
                }
                continue;
            }
            log.stamp(now);
            let mut length = usize::try_from(log.room()).unwrap_or(CHUNK).min(CHUNK);
            if !alone {
                length = length.min(whole_lines(&self.pipe, scratch, look)?);
            }
            let bytes = pipe::splice(&self.pipe, log.file(), length)? as u64;
            if bytes == 0 {
                // No writer is left, which the keeper's own end rules out while it lives.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            log.grew(bytes);
            moved += bytes;
            if !self.wide && bytes >= 8 << 10 {
                // A fast writer: fewer, larger moves. Refused to users over their pipe quota; then it stays as it is.
                self.wide = pipe::set_capacity(&self.pipe, WIDE_PIPE).is_ok();
            }
        }
        Ok(())
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
    fn try_again(&mut self, shared: Option<Arc<Mutex<LogFile>>>) -> bool {
        let Some(log) = self.log.clone() else {
            self.open(shared);
            return self.trouble.is_none();
        };
        let log = &mut *lock(&log);
        if log.check().is_err() || (self.unsaved && log.save_accounting().is_err()) {
            return false;
        }
        self.unsaved = false;
        // The disk may have room for a byte and not for the next: the attempt itself is the only honest test, and
        // it is made by the next turn, which comes back here if it fails.
        free_space(log.file())
    }

    fn is_nearly_full(&self) -> bool {
        // A write that does not fit into the last page takes a new one: a pipe is full by pages, and with lines of
        // 2.1 KB only half of its bytes are used then.
        let capacity = pipe::capacity(&self.pipe).unwrap_or(64 << 10) as u64;
        pipe::available(&self.pipe).unwrap_or(capacity) * 5 >= capacity * 2
    }

    /// Empties the pipe into nothing and counts.
    fn lose_all(&mut self, buffer: &mut [u8]) {
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
            let log = &mut *lock(log);
            log.accounting.lost_lines += lines;
            log.accounting.lost_bytes += bytes;
            // Kept in memory as well; the disk that refuses the log may refuse this too, and then it is saved with the
            // end of the trouble.
            self.unsaved = log.save_accounting().is_err();
        } else {
            self.lost.0 += lines;
            self.lost.1 += bytes;
        }
    }
}

/// Whether the file system of `file` has a block to spare for us and is writable.
fn free_space(file: &std::fs::File) -> bool {
    rustix::fs::fstatvfs(file.as_fd())
        .is_ok_and(|stat| stat.f_bavail > 16 && !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// What is in the pipe, without taking it: how much of it is in `look` now.
fn peek(pipe: &OwnedFd, scratch: &pipe::Pipe, look: &mut [u8]) -> io::Result<usize> {
    let seen = pipe::tee(pipe, &scratch.write, look.len())?;
    if seen == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut read = 0;
    while read < seen {
        read += rustix::io::read(&scratch.read, &mut look[read..seen])?;
    }
    Ok(seen)
}

/// How many bytes end with the last newline in sight; all, if there is none. So sources that share a file do not cut
/// into each other's lines, as long as their programs write whole ones.
fn whole_lines(pipe: &OwnedFd, scratch: &pipe::Pipe, look: &mut [u8]) -> io::Result<usize> {
    let seen = peek(pipe, scratch, look)?;
    Ok(memchr::memrchr(b'\n', &look[..seen]).map_or(seen, |at| at + 1))
}

enum Closing {
    /// Moved up to and with the newline.
    Ended(u64),
    /// Moved, and no newline was among it.
    Longer(u64),
}

/// Moves the rest of the line with which the file exceeds its limit.
fn close_line(
    log: &mut LogFile,
    pipe: &OwnedFd,
    scratch: &pipe::Pipe,
    look: &mut [u8],
) -> io::Result<Closing> {
    if log.ends_a_line() || log.overshoot() >= OVERSHOOT {
        return Ok(Closing::Ended(0));
    }
    let seen = peek(pipe, scratch, look)?;
    let newline = memchr::memchr(b'\n', &look[..seen]);
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

#[cfg(test)]
mod tests;
