//! Output of PM2's apps: one thread that moves it from pipes into the files that PM2's users know.
//!
//! Unlike Upkeep's own logs these are plain files opened for append: several instances and other programs may write
//! and truncate them (`pm2-logrotate` copies and truncates). What is in a pipe is looked at (`tee`), written, and only
//! then taken out, so that a daemon that is killed loses nothing; at worst its successor writes the last piece again.
//!
//! Everything is also handed to the bus while somebody listens there. A bus that does not keep up misses pieces; the
//! files never do.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use rustix::event::epoll;
use serde_json::json;
use upkeep_api::body::Stream;
use upkeep_pm2::date;
use upkeep_sys::{clock, pipe};

/// Bytes that are looked at in one go.
const LOOK: usize = 256 << 10;
/// Bytes that one source may move before the others have their turn.
const TURN: usize = 4 << 20;
/// Pieces for the bus that may wait.
const PIECES: usize = 256;
/// Pause after a round in which no writer was fast: one move of forty lines costs what a move of one costs.
const NAP: rustix::thread::Timespec = rustix::thread::Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};
/// Data of the epoll entry of the eventfd.
const WAKE: u64 = u64::MAX;

/// Which pipe: process and stream.
pub(super) type Source = (u64, Stream);

/// How a piece is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As it comes.
    Plain,
    /// Each line after a date and `: `.
    Dated(String),
    /// One JSON object for each piece.
    Json(Option<String>),
}

/// Where the bytes of a source go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sinks {
    /// The file of the stream; `None`: nowhere.
    pub(super) file: Option<PathBuf>,
    /// The file of both streams.
    pub(super) combined: Option<PathBuf>,
    pub(super) format: Format,
    /// The app's name, for JSON lines.
    pub(super) name: String,
    /// Nothing is stored, and nothing published.
    pub(super) disabled: bool,
}

/// Bytes for the bus.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) source: Source,
    pub(super) at_ms: u64,
    pub(super) bytes: Vec<u8>,
}

enum Order {
    Attach {
        source: Source,
        pipe: OwnedFd,
        sinks: Sinks,
    },
    /// New sinks; files are opened anew in any case.
    Retarget {
        source: Source,
        sinks: Sinks,
    },
    /// Opens all files anew.
    Reopen,
    /// Takes what is in the pipes of a process now, then tells.
    Drain {
        id: u64,
        done: Box<dyn FnOnce() + Send>,
    },
    /// Takes what is left, then forgets the sources of a process.
    Detach {
        id: u64,
    },
    Stop,
}

/// Handle of the thread.
pub(super) struct Logs {
    orders: mpsc::Sender<Order>,
    wake: OwnedFd,
    /// How many listen to the bus.
    pub(super) listeners: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// Starts the thread; what it publishes comes out of the receiver.
    pub(super) fn start() -> io::Result<(Self, tokio::sync::mpsc::Receiver<Piece>)> {
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
        // Refused to users over their pipe quota; then it stays as it is, and we look at less at a time.
        let look = pipe::set_capacity(&scratch.write, LOOK).unwrap_or(64 << 10);
        let (orders, inbox) = mpsc::channel();
        let (pieces, outbox) = tokio::sync::mpsc::channel(PIECES);
        let listeners = Arc::new(AtomicUsize::new(0));
        let mut worker = Worker {
            epoll,
            wake: wake.try_clone()?,
            orders: inbox,
            sources: HashMap::new(),
            names: HashMap::new(),
            files: Files::default(),
            next: 0,
            scratch,
            look: vec![0; look],
            pieces,
            listeners: Arc::clone(&listeners),
        };
        let thread = std::thread::Builder::new()
            .name("pm2-logs".to_owned())
            .stack_size(256 << 10)
            .spawn(move || worker.run())?;
        Ok((
            Self {
                orders,
                wake,
                listeners,
                thread: Some(thread),
            },
            outbox,
        ))
    }

    fn order(&self, order: Order) {
        // Both fail only if the thread is gone, and then the process is on its way out.
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Takes on a pipe.
    pub(super) fn attach(&self, source: Source, pipe: OwnedFd, sinks: Sinks) {
        self.order(Order::Attach { source, pipe, sinks });
    }

    /// Gives a source new sinks, and opens them anew.
    pub(super) fn retarget(&self, source: Source, sinks: Sinks) {
        self.order(Order::Retarget { source, sinks });
    }

    /// Opens all files anew.
    pub(super) fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Takes what is in the pipes of a process now and calls `done`.
    pub(super) fn drain(&self, id: u64, done: Box<dyn FnOnce() + Send>) {
        self.order(Order::Drain { id, done });
    }

    /// Takes what is left of a process and forgets it.
    pub(super) fn detach(&self, id: u64) {
        self.order(Order::Detach { id });
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has aborted the process already.
            let _ = thread.join();
        }
    }
}

/// Makes the folder of a log and the file itself, so that it is there before the app is.
pub(super) fn make(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

struct Pipe {
    source: Source,
    end: OwnedFd,
    sinks: Sinks,
    /// Whether the next byte begins a line.
    fresh: bool,
    wide: bool,
    /// What the files said last.
    troubled: Arc<AtomicBool>,
}

/// Open files by path: instances that share one share it here too.
#[derive(Default)]
struct Files {
    open: HashMap<PathBuf, File>,
}

impl Files {
    fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if !self.open.contains_key(path) {
            let file = make(path)?;
            self.open.insert(path.to_owned(), file);
        }
        match self.open.get_mut(path) {
            Some(file) => file.write_all(bytes),
            None => Ok(()),
        }
    }
}

struct Worker {
    epoll: OwnedFd,
    wake: OwnedFd,
    orders: mpsc::Receiver<Order>,
    sources: HashMap<u64, Pipe>,
    names: HashMap<Source, u64>,
    files: Files,
    next: u64,
    scratch: pipe::Pipe,
    look: Vec<u8>,
    pieces: tokio::sync::mpsc::Sender<Piece>,
    listeners: Arc<AtomicUsize>,
}

impl Worker {
    fn run(&mut self) {
        let mut events = Vec::with_capacity(256);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // EBADF and EINVAL would be faults of ours: end and be restarted.
                Err(error) => panic!("the log thread cannot wait: {error}"),
            }
            let mut fast = false;
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        let mut count = [0_u8; 8];
                        // Only resets the counter.
                        let _ = rustix::io::read(&self.wake, &mut count);
                    }
                    id => fast |= self.serve(id, TURN) > 16 << 10,
                }
            }
            while let Ok(order) = self.orders.try_recv() {
                if !self.obey(order) {
                    return;
                }
            }
            if !events.is_empty() && !fast {
                let _ = rustix::thread::nanosleep(&NAP);
            }
        }
    }

    fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Attach { source, pipe, sinks } => self.attach(source, pipe, sinks),
            Order::Retarget { source, sinks } => {
                if let Some(id) = self.names.get(&source).copied() {
                    self.serve_what_is_there(id);
                    for path in [&sinks.file, &sinks.combined].into_iter().flatten() {
                        self.files.open.remove(path);
                    }
                    self.touch(&sinks);
                    if let Some(pipe) = self.sources.get_mut(&id) {
                        pipe.sinks = sinks;
                        pipe.troubled.store(false, Ordering::Relaxed);
                    }
                }
            }
            Order::Reopen => {
                self.files.open.clear();
                let all: Vec<Sinks> = self.sources.values().map(|pipe| pipe.sinks.clone()).collect();
                for sinks in all {
                    self.touch(&sinks);
                }
            }
            Order::Drain { id, done } => {
                for stream in [Stream::Out, Stream::Err] {
                    if let Some(source) = self.names.get(&(id, stream)).copied() {
                        self.serve_what_is_there(source);
                    }
                }
                done();
            }
            Order::Detach { id } => {
                for stream in [Stream::Out, Stream::Err] {
                    if let Some(source) = self.names.remove(&(id, stream)) {
                        self.serve_what_is_there(source);
                        if let Some(pipe) = self.sources.remove(&source) {
                            // It is closed right after.
                            let _ = epoll::delete(&self.epoll, &pipe.end);
                            for path in [pipe.sinks.file, pipe.sinks.combined].into_iter().flatten() {
                                let shared = self.sources.values().any(|other| {
                                    other.sinks.file.as_ref() == Some(&path)
                                        || other.sinks.combined.as_ref() == Some(&path)
                                });
                                if !shared {
                                    self.files.open.remove(&path);
                                }
                            }
                        }
                    }
                }
            }
            Order::Stop => return false,
        }
        true
    }

    fn attach(&mut self, source: Source, pipe: OwnedFd, sinks: Sinks) {
        if let Some(old) = self.names.remove(&source)
            && let Some(old) = self.sources.remove(&old)
        {
            // It is closed right after.
            let _ = epoll::delete(&self.epoll, &old.end);
        }
        if let Err(error) = upkeep_sys::descriptor::set_nonblocking(&pipe, true) {
            crate::main_loop::note(&format!("a log pipe was not taken on: {error}"));
            return;
        }
        let id = self.next;
        self.next += 1;
        if let Err(error) = epoll::add(
            &self.epoll,
            &pipe,
            epoll::EventData::new_u64(id),
            epoll::EventFlags::IN,
        ) {
            crate::main_loop::note(&format!("a log pipe cannot be watched: {error}"));
            return;
        }
        self.touch(&sinks);
        self.names.insert(source, id);
        self.sources.insert(
            id,
            Pipe {
                source,
                end: pipe,
                sinks,
                fresh: true,
                wide: false,
                troubled: Arc::default(),
            },
        );
    }

    /// Files are there from the start, empty or not.
    fn touch(&mut self, sinks: &Sinks) {
        for path in [&sinks.file, &sinks.combined].into_iter().flatten() {
            // What is wrong is said when there is something to write.
            let _ = self.files.append(path, b"");
        }
    }

    /// What is in the pipe at this moment: a writer that goes on does not hold us.
    fn serve_what_is_there(&mut self, id: u64) {
        let there = self
            .sources
            .get(&id)
            .and_then(|pipe| pipe::available(&pipe.end).ok())
            .unwrap_or(0);
        self.serve(id, usize::try_from(there).unwrap_or(usize::MAX));
    }

    /// Moves up to `most` bytes of a source; how many it were.
    fn serve(&mut self, id: u64, most: usize) -> usize {
        let mut moved = 0;
        while moved < most {
            let Some(pipe) = self.sources.get_mut(&id) else {
                break;
            };
            let Ok(seen) = peek(&pipe.end, &self.scratch, &mut self.look) else {
                break;
            };
            let now = clock::unix_ms();
            let bytes = &self.look[..seen];
            pipe.store(&mut self.files, bytes, now);
            if !pipe.sinks.disabled && self.listeners.load(Ordering::Relaxed) > 0 {
                // A bus that does not keep up misses this one.
                let _ = self.pieces.try_send(Piece {
                    source: pipe.source,
                    at_ms: now,
                    bytes: bytes.to_vec(),
                });
            }
            let mut left = seen;
            while left > 0 {
                match rustix::io::read(&pipe.end, &mut self.look[..left]) {
                    Ok(0) | Err(_) => break,
                    Ok(taken) => left -= taken,
                }
            }
            moved += seen;
            if !pipe.wide && seen >= 8 << 10 {
                // A fast writer: fewer, larger moves.
                pipe.wide = pipe::set_capacity(&pipe.end, LOOK).is_ok();
            }
        }
        moved
    }
}

impl Pipe {
    fn store(&mut self, files: &mut Files, bytes: &[u8], now_ms: u64) {
        if self.sinks.disabled || (self.sinks.file.is_none() && self.sinks.combined.is_none()) {
            return;
        }
        let formatted = match &self.sinks.format {
            Format::Plain => None,
            Format::Dated(pattern) => Some(dated(bytes, &stamp(pattern, now_ms), &mut self.fresh)),
            Format::Json(pattern) => {
                let at = pattern
                    .as_ref()
                    .map_or_else(|| iso(now_ms), |pattern| stamp(pattern, now_ms));
                let line = json!({
                    "message": String::from_utf8_lossy(bytes),
                    "timestamp": at,
                    "type": if self.source.1 == Stream::Out { "out" } else { "err" },
                    "process_id": self.source.0,
                    "app_name": self.sinks.name,
                });
                Some(format!("{line}\n").into_bytes())
            }
        };
        let bytes = formatted.as_deref().unwrap_or(bytes);
        for path in [&self.sinks.file, &self.sinks.combined].into_iter().flatten() {
            match files.append(path, bytes) {
                Ok(()) => self.troubled.store(false, Ordering::Relaxed),
                // A full disk must not stop the app: what it says meanwhile is lost, and that is said once.
                Err(error) => {
                    files.open.remove(path);
                    if !self.troubled.swap(true, Ordering::Relaxed) {
                        crate::main_loop::note(&format!(
                            "output of `{}` is lost: `{}` cannot be written: {error}",
                            self.sinks.name,
                            path.display()
                        ));
                    }
                }
            }
        }
    }
}

fn stamp(pattern: &str, now_ms: u64) -> String {
    date::format(pattern, i64::try_from(now_ms).unwrap_or(i64::MAX))
}

/// As JavaScript's `toISOString`.
pub(super) fn iso(now_ms: u64) -> String {
    clock::utc_text(now_ms)
}

fn dated(bytes: &[u8], stamp: &str, fresh: &mut bool) -> Vec<u8> {
    let mut dated = Vec::with_capacity(bytes.len() + 64);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if *fresh {
            dated.extend_from_slice(stamp.as_bytes());
            dated.extend_from_slice(b": ");
        }
        dated.extend_from_slice(line);
        *fresh = line.ends_with(b"\n");
    }
    dated
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
