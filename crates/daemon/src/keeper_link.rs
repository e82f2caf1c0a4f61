//! The daemon's side of the keeper's socket, on the supervision runtime.
//!
//! Sending never waits: a request goes into the link's buffer and as much of the buffer into the socket as fits. One
//! task calls [`KeeperLink::next`]; it also writes what did not fit, matches answers with who asked, and returns
//! everything else. When the keeper is gone, so are we: the error ends the daemon (see the keeper's theory of
//! operation).

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{Notify, oneshot},
};
use upkeep_keeper::{
    client::{Link, LinkError},
    protocol::{Event, OLDEST, Refusal, Request, VERSION},
};

/// The keeper said no, or is gone.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It said no.
    #[error("{message}")]
    Refused {
        refusal: Refusal,
        /// The kernel's number, where it was the kernel.
        errno: i32,
        message: String,
    },
    /// It is gone, or answered something else than was asked.
    #[error("the keeper gave no answer")]
    NoAnswer,
}

/// An answer that is on its way.
#[derive(Debug)]
pub(crate) struct Answer(oneshot::Receiver<Event>);

impl Answer {
    /// Waits for it.
    pub(crate) async fn wait(self) -> Result<Event, AskError> {
        match self.0.await {
            Ok(Event::Refused {
                refusal,
                errno,
                message,
                ..
            }) => Err(AskError::Refused {
                refusal,
                errno,
                message,
            }),
            Ok(event) => Ok(event),
            Err(_) => Err(AskError::NoAnswer),
        }
    }
}

/// Who waits for an answer.
enum Asker {
    /// A call of [`KeeperLink::ask`].
    Waits(oneshot::Sender<Event>),
    /// The answer to a spawn goes to the instance with this key.
    Spawn(String),
    /// The pipe of this name goes to the app of the instance with this key.
    Pipe { key: String, pipe: String },
    /// The socket of this name goes to the app of the copy with this key.
    Listen { key: String, name: String },
    /// Nobody.
    Nobody,
}

/// What the keeper tells without being asked, and answers to spawns.
#[derive(Debug)]
pub(crate) enum News {
    /// A process was started.
    Spawned { key: String, pid: u32 },
    /// A process could not be started.
    SpawnRefused { key: String, why: String },
    /// A pipe was made, or could not be.
    Pipe {
        key: String,
        pipe: String,
        made: Result<OwnedFd, String>,
    },
    /// A socket was bound, or could not be.
    Listening {
        key: String,
        name: String,
        made: Result<OwnedFd, String>,
    },
    /// Anything else.
    Other(Event),
}

/// The link.
pub(crate) struct KeeperLink {
    link: RefCell<Link>,
    /// A duplicate of the link's socket, only to be told when it is ready.
    ready: UnixStream,
    next_id: Cell<u64>,
    /// The version of the protocol that was agreed upon.
    protocol: Cell<u16>,
    askers: RefCell<HashMap<u64, Asker>>,
    /// Set while the buffer holds bytes that the socket did not take.
    blocked: Cell<bool>,
    wake: Notify,
}

impl std::fmt::Debug for KeeperLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeeperLink").finish_non_exhaustive()
    }
}

impl KeeperLink {
    /// Wraps a link; must run inside the supervision runtime.
    pub(crate) fn new(link: Link) -> io::Result<Self> {
        let duplicate = std::os::unix::net::UnixStream::from(link.as_fd().try_clone_to_owned()?);
        Ok(Self {
            link: RefCell::new(link),
            ready: UnixStream::from_std(duplicate)?,
            next_id: Cell::new(1),
            protocol: Cell::new(OLDEST),
            askers: RefCell::new(HashMap::new()),
            blocked: Cell::new(false),
            wake: Notify::new(),
        })
    }

    /// Sends a request that has no answer.
    pub(crate) fn tell(&self, request: &Request) {
        let mut link = self.link.borrow_mut();
        if let Err(error) = link.queue(request) {
            // Over the protocol's limits, which the API's own limits keep out of reach.
            crate::main_loop::note(&format!("a request to the keeper was not sent: {error}"));
        }
        // An error here is an error of the next read too, and is reported there.
        let blocked = !link.flush().unwrap_or(true);
        self.blocked.set(blocked);
        if blocked {
            self.wake.notify_one();
        }
    }

    fn id(&self, asker: Asker) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.askers.borrow_mut().insert(id, asker);
        id
    }

    /// Sends a request whose answer interests nobody.
    pub(crate) fn order(&self, request: impl FnOnce(u64) -> Request) {
        let id = self.id(Asker::Nobody);
        self.tell(&request(id));
    }

    /// Sends a request whose answer is returned by [`Self::next`].
    pub(crate) fn untracked(&self, request: impl FnOnce(u64) -> Request) {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.tell(&request(id));
    }

    /// Asks for a process; the answer comes as [`News`].
    pub(crate) fn spawn(&self, key: String, spec: upkeep_keeper::protocol::SpawnSpec) {
        let id = self.id(Asker::Spawn(key.clone()));
        self.tell(&Request::Spawn {
            id,
            key,
            spec: Box::new(spec),
        });
    }

    /// Asks for a pipe; the answer comes as [`News`], before that to a later [`Self::spawn`].
    pub(crate) fn make_pipe(&self, key: String, pipe: String) {
        let id = self.id(Asker::Pipe {
            key,
            pipe: pipe.clone(),
        });
        self.tell(&Request::MakePipe { id, name: pipe });
    }

    /// Asks for a listening socket; the answer comes as [`News`].
    pub(crate) fn listen(&self, key: String, name: String, address: upkeep_keeper::protocol::ListenAddress) {
        let id = self.id(Asker::Listen {
            key,
            name: name.clone(),
        });
        self.tell(&Request::Listen { id, name, address });
    }

    /// Sends a request and waits for its answer. The request is in the buffer when this returns its future, so that
    /// requests keep their order even if the futures are awaited later.
    pub(crate) fn ask(&self, request: impl FnOnce(u64) -> Request) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let id = self.id(Asker::Waits(sender));
        self.tell(&request(id));
        Answer(receiver)
    }

    /// The next thing that the keeper has to say. Not cancel-safe: one task calls it in a loop.
    pub(crate) async fn next(&self) -> Result<News, LinkError> {
        loop {
            while let Some(event) = self.receive()? {
                if let Some(news) = self.deliver(event) {
                    return Ok(news);
                }
            }
            tokio::select! {
                // Cancel-safe: readiness stays until a read finds nothing.
                ready = self.ready.readable() => {
                    ready.map_err(LinkError::Socket)?;
                    let received = self.ready.try_io(Interest::READABLE, || match self.receive() {
                        Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
                        received => Ok(received),
                    });
                    if let Ok(received) = received
                        && let Some(event) = received?
                        && let Some(news) = self.deliver(event)
                    {
                        return Ok(news);
                    }
                }
                // Cancel-safe for the same reason.
                ready = self.ready.writable(), if self.blocked.get() => {
                    ready.map_err(LinkError::Socket)?;
                    let flushed = self.ready.try_io(Interest::WRITABLE, || match self.link.borrow_mut().flush() {
                        Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
                        flushed => flushed,
                    });
                    self.blocked.set(matches!(&flushed, Err(error) if error.kind() == io::ErrorKind::WouldBlock));
                }
                // Cancel-safe: a permit that is not taken stays.
                () = self.wake.notified() => {}
            }
        }
    }

    /// The version of the protocol that was agreed upon.
    pub(crate) fn protocol(&self) -> u16 {
        self.protocol.get()
    }

    /// Says who we are and what we speak; again after the keeper has been replaced by another program.
    pub(crate) fn hello(&self, program_version: String) {
        self.tell(&Request::Hello {
            oldest: OLDEST,
            newest: VERSION,
            program_version,
        });
    }

    fn receive(&self) -> Result<Option<Event>, LinkError> {
        let event = self.link.borrow_mut().try_recv()?;
        if let Some(Event::Welcome { version, .. }) = &event {
            self.protocol.set(*version);
        }
        Ok(event)
    }

    /// Hands an answer to who asked; returns what nobody asked for.
    fn deliver(&self, event: Event) -> Option<News> {
        let id = match &event {
            Event::Refused { id, .. }
            | Event::Done { id, .. }
            | Event::Spawned { id, .. }
            | Event::Descriptor { id, .. }
            | Event::Listing { id, .. } => *id,
            _ => return Some(News::Other(event)),
        };
        match self.askers.borrow_mut().remove(&id) {
            Some(Asker::Waits(sender)) => {
                // Who gave up waiting does not want it.
                let _ = sender.send(event);
                None
            }
            Some(Asker::Spawn(key)) => Some(match event {
                Event::Spawned { pid, .. } => News::Spawned { key, pid },
                Event::Refused { message, .. } => News::SpawnRefused { key, why: message },
                other => News::Other(other),
            }),
            Some(Asker::Pipe { key, pipe }) => Some(News::Pipe {
                key,
                pipe,
                made: match event {
                    Event::Descriptor { descriptor, .. } => Ok(descriptor),
                    Event::Refused { message, .. } => Err(message),
                    other => Err(format!("the keeper answered `{other:?}`")),
                },
            }),
            Some(Asker::Listen { key, name }) => Some(News::Listening {
                key,
                name,
                made: match event {
                    Event::Descriptor { descriptor, .. } => Ok(descriptor),
                    Event::Refused { message, .. } => Err(message),
                    other => Err(format!("the keeper answered `{other:?}`")),
                },
            }),
            Some(Asker::Nobody) => None,
            None => Some(News::Other(event)),
        }
    }
}
