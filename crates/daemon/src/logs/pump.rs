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

use self::{source::Tools, worker::Worker};
use super::{
    batch::Form,
    files::Limits,
    janitor::{Bell, Janitor},
    ledger::{Accounting, Ledger, Ledgers, Policy, lock},
    rate::Rate,
};

mod source;
mod worker;

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
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "held for its threads, which end with it")
    )]
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

#[cfg(test)]
mod tests;
