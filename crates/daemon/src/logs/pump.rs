//! The pump: one thread that moves bytes from pipes to log files.
//!
//! It owns the [`LogFile`]s. Others reach it through [`Pump`], whose orders are queued and announced by an eventfd,
//! and read the accounting through a shared map. It never waits for an application, and an application waits for it
//! only as long as a pipe is full.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::epoll;
use upkeep_sys::{clock, pipe};

use self::source::{Source, Tools, describe};
use super::{
    batch::Form,
    files::{Limits, LogFile},
    janitor::{Bell, Janitor},
    ledger::{Accounting, Ledger, Ledgers, Policy, lock},
    rate::Rate,
};

mod source;

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
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
    /// The form of its lines; `None`: as they come.
    pub(crate) form: Option<Form>,
    /// The path was given for an app that runs as somebody else: do not follow a link there.
    pub(crate) guarded: bool,
}

/// What the pump tells of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    ledger: Option<Arc<Ledger>>,
    /// Lines and bytes lost while there was no file to count them for.
    lost: (u64, u64),
    pub(crate) trouble: Option<String>,
}

impl Status {
    /// What is gone, up to now.
    pub(crate) fn accounting(&self) -> Accounting {
        let mut accounting = self
            .ledger
            .as_ref()
            .map(|ledger| ledger.accounting())
            .unwrap_or_default();
        accounting.lost_lines += self.lost.0;
        accounting.lost_bytes += self.lost.1;
        accounting
    }

    /// How loud it is, as of the janitor's last look: at most five seconds ago.
    pub(crate) fn rate(&self) -> Rate {
        self.ledger
            .as_ref()
            .map(|ledger| *lock(&ledger.rate))
            .unwrap_or_default()
    }
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
    /// Tells a time: what was moved before is before it, what is moved after is not.
    Cut {
        done: mpsc::SyncSender<u64>,
    },
    Stop,
}

/// For readers: divides what is in the files from what will be.
#[derive(Debug)]
pub(crate) struct Cutter {
    orders: mpsc::Sender<Order>,
    wake: OwnedFd,
}

impl Cutter {
    /// A time in Unix ms: bytes that are in the files now have earlier ones in the index, bytes that come have this
    /// one or later ones. Waits for the pump, so not for the supervision runtime.
    pub(crate) fn cut(&self) -> u64 {
        let (done, answer) = mpsc::sync_channel(1);
        let sent = self.orders.send(Order::Cut { done });
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        // It answers unless the daemon ends, and then nobody resumes by this.
        sent.ok()
            .and_then(|()| answer.recv_timeout(Duration::from_secs(10)).ok())
            .unwrap_or_else(clock::unix_ms)
    }
}

/// Handle of the pump's thread.
#[derive(Debug)]
pub(crate) struct Pump {
    orders: mpsc::Sender<Order>,
    wake: OwnedFd,
    statuses: Statuses,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
    /// Ends after the thread: what it has rotated is known then.
    #[cfg_attr(not(test), expect(dead_code, reason = "held for its threads, which end with it"))]
    janitor: Janitor,
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
            Self::Cut { .. } => "Cut",
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
        let ledgers = Arc::new(Ledgers::default());
        let janitor = Janitor::start(Arc::clone(&ledgers))?;
        let mut worker = Worker {
            epoll,
            wake: wake.try_clone()?,
            orders: receiver,
            statuses: Arc::clone(&statuses),
            sources: BTreeMap::new(),
            names: HashMap::new(),
            next_id: 0,
            tools: Tools {
                scratch,
                look: vec![0; LOOK_AHEAD],
                bell: janitor.bell(),
                ledgers,
                not_before: 0,
            },
        };
        let thread = std::thread::Builder::new()
            .name("log-pump".to_owned())
            .stack_size(256 << 10)
            .spawn(move || worker.run())?;
        Ok(Self {
            orders: sender,
            wake,
            statuses,
            bell: janitor.bell(),
            thread: Some(thread),
            janitor,
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

    /// For readers that follow.
    pub(crate) fn cutter(&self) -> io::Result<Cutter> {
        Ok(Cutter {
            orders: self.orders.clone(),
            wake: self.wake.try_clone()?,
        })
    }

    /// Who deletes old logs.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Waits until the janitor has nothing left to do.
    #[cfg(test)]
    fn settle(&self) {
        self.janitor.settle();
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

struct Worker {
    epoll: OwnedFd,
    wake: OwnedFd,
    orders: mpsc::Receiver<Order>,
    statuses: Statuses,
    sources: BTreeMap<u64, Source>,
    names: HashMap<SourceName, u64>,
    next_id: u64,
    tools: Tools,
}

impl Worker {
    fn run(&mut self) {
        let mut events = Vec::with_capacity(256);
        loop {
            let troubled = self.sources.values().any(|source| source.trouble.is_some());
            let timeout = self.pause(troubled);
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
                for id in self.which(|source| source.trouble.is_some()) {
                    self.recover(id);
                }
            }
            let (unix_ms, monotonic_ms) = (clock::unix_ms(), clock::monotonic_ms());
            for id in self.which(|source| source.due_in(unix_ms, monotonic_ms) == Some(0)) {
                self.serve(id);
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

    fn which(&self, is_one: impl Fn(&Source) -> bool) -> Vec<u64> {
        let found = self.sources.iter().filter(|(_, source)| is_one(source));
        found.map(|(id, _)| *id).collect()
    }

    /// How long to wait if no pipe has anything: until a file is to be tried again, rotated by the clock, or a line
    /// has waited long enough for its end.
    fn pause(&self, troubled: bool) -> Option<rustix::event::Timespec> {
        let (unix_ms, monotonic_ms) = (clock::unix_ms(), clock::monotonic_ms());
        let due = self
            .sources
            .values()
            .filter_map(|source| source.due_in(unix_ms, monotonic_ms));
        // Somebody may set the clock: a rotation is looked for at least every minute.
        let due = due.min().map(|ms| ms.clamp(1, 60_000));
        let trouble = troubled.then(|| u64::try_from(TROUBLE_PAUSE.as_millis()).unwrap_or(50));
        let ms = due.into_iter().chain(trouble).min()?;
        Some(rustix::event::Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(60),
            tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
        })
    }

    fn cut(&mut self) -> u64 {
        let mut at = self.tools.not_before.max(clock::unix_ms());
        if at > clock::unix_ms() + 2000 {
            // Somebody has set the clock back.
            at = clock::unix_ms();
        }
        for log in self.sources.values().filter_map(|source| source.log.as_ref()) {
            at = at.max(lock(log).stamped().saturating_add(1).min(at + 2000));
        }
        for log in self.sources.values().filter_map(|source| source.log.as_ref()) {
            lock(log).cut();
        }
        self.tools.not_before = at;
        at
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
                let mut source = Source::new(name.clone(), pipe, target);
                let shared = self.shared(source.target.path.as_deref());
                source.open(shared, &self.tools);
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
            Order::Cut { done } => {
                let at = self.cut();
                // Whoever asked has left: then nobody needs it.
                let _ = done.try_send(at);
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
            source.open(shared, &self.tools);
        } else if let Some(log) = &source.log {
            let mut log = lock(log);
            log.set_limits(source.target.limits);
            log.ledger().set_policy(source.target.policy.clone());
            self.tools.bell.look_at(log.ledger());
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
        let status = Status {
            ledger: source.log.as_ref().map(|log| Arc::clone(lock(log).ledger())),
            lost: source.lost,
            trouble: source.trouble.clone(),
        };
        lock(&self.statuses).insert(source.name.clone(), status);
    }

    /// One turn of a source that has something. Whether its writer would soon have filled the pipe.
    fn serve(&mut self, id: u64) -> bool {
        let Some(source) = self.sources.get_mut(&id) else {
            return false;
        };
        if source.trouble.is_some() {
            return false;
        }
        let waiting = pipe::available(&source.pipe).unwrap_or(0);
        let fast = waiting
            >= if source.wide {
                WIDE_PIPE as u64 / 4
            } else {
                16 << 10
            };
        let outcome = source.turn(&mut self.tools);
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
        self.watch_as_needed(id);
        fast
    }

    /// A line that waits for its end would wake us without pause: then only new bytes do.
    fn watch_as_needed(&mut self, id: u64) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let edge = source.waits_since.is_some();
        if edge != source.edge {
            source.edge = edge;
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::ET, edge);
            // ENOENT: it is in trouble and not watched; when it is again, it is without ET.
            let _ = epoll::modify(&self.epoll, &source.pipe, epoll::EventData::new_u64(id), flags);
        }
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
            if let Some(source) = self.sources.get_mut(&id)
                && source.waits_since.is_some()
            {
                // Its end may never come: it is written as far as it has come.
                source.waits_since = Some(0);
                self.serve(id);
            }
            let Some(source) = self.sources.get_mut(&id) else {
                return;
            };
            if source.trouble.is_some() {
                source.lose_all(&mut self.tools.look);
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
        if source.try_again(shared, &self.tools) {
            match source.turn(&mut self.tools) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    source.trouble = Some(describe(&error, source.target.path.as_deref()));
                }
                _ => source.trouble = None,
            }
        }
        if source.trouble.is_none() {
            source.edge = false;
            self.watch(id);
        } else if source.is_nearly_full() {
            source.lose_all(&mut self.tools.look);
        }
        self.publish_id(id);
    }
}

#[cfg(test)]
mod tests;
